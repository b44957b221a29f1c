//! Learned objects: what tasks ask for beyond what their types name is told to those who learn from it, and what
//! they propose goes on the agenda like everything else that may be needed.

use super::agenda::{Learned, Mode};
use super::core::{Action, Prefetch};
use super::flights::Key;
use crate::flow::{CacheId, ObjectName, TypeId, WorkerId};
use crate::message::{Declined, Held, Proposed, Read, Unforeseen};
use crate::task::derived_inputs;
use crate::time::Time;
use std::collections::BTreeMap;

impl Prefetch {
    /// What a demand asks for that neither its type's template nor the look ahead names.
    pub fn unforeseen(
        &self,
        cache: CacheId,
        worker: WorkerId,
        (task_type, entity): (TypeId, Option<&str>),
        inputs: &[(ObjectName, Option<Held>)],
    ) -> Option<Unforeseen> {
        if self.agenda.mode() == Mode::Off {
            return None;
        }
        let spec = self.catalogue.get(task_type);
        let named = match entity {
            Some(entity) => derived_inputs(spec, entity, &self.places),
            None => vec![],
        };
        let unforeseen = |object: &ObjectName| {
            let key = Key { pool: cache, object: object.clone() };
            !named.contains(object) && !self.agenda.foresees(&key)
        };
        let reads: Vec<Read> = inputs
            .iter()
            .filter(|(object, _)| unforeseen(object) && !self.is_written(object))
            .map(|(object, held)| Read {
                object: object.clone(),
                bytes: held.as_ref().map(|h| h.bytes).or_else(|| self.agenda.sizes().known(object)),
                there: held.is_some(),
                staged: held.as_ref().is_some_and(|h| h.staged),
                protected: held.as_ref().is_some_and(|h| h.protected),
            })
            .collect();
        (!reads.is_empty()).then_some(Unforeseen { cache, worker, task_type, reads })
    }

    /// History proposes objects, and takes proposals back.
    pub fn proposed(&mut self, p: Proposed, now: Time, out: &mut Vec<Action>) {
        let Proposed { cache, worker, task_type, objects, withdrawn } = p;
        for object in withdrawn {
            self.agenda.withdrawn(&Key { pool: cache, object });
        }
        for o in objects {
            // A name that was only derived may be nobody's; its source is known by the name before the colon.
            if self.places.source(&o.object).is_none() {
                continue;
            }
            let (object, p, break_even, until) = (o.object, o.p, o.break_even, o.until);
            self.agenda.proposed(Learned { object, cache, worker, task_type, p, break_even, until });
        }
        self.attend(now, out);
    }

    /// Which learned objects are not staged, by pool.
    pub(super) fn declined(&mut self) -> impl Iterator<Item = Declined> + use<> {
        let mut declined: BTreeMap<CacheId, Vec<ObjectName>> = BTreeMap::new();
        for key in self.agenda.take_rejected() {
            declined.entry(key.pool).or_default().push(key.object);
        }
        declined.into_iter().map(|(cache, objects)| Declined { cache, objects })
    }
}
