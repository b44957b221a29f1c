//! Learned objects: what tasks ask for beyond what their types name is told to those who learn from it, and what
//! they propose goes on the agenda like everything else that may be needed.

use super::actor::PrefetchActor;
use super::agenda::{Learned, Mode};
use super::flights::Key;
use crate::flow::{CacheId, ObjectName};
use crate::message::{Declined, Demand, Fact, Proposed, Read, Unforeseen};
use crate::task::derived_inputs;
use actix::prelude::*;
use std::collections::BTreeMap;

impl PrefetchActor {
    /// Tells what a demand asks for that neither its type's template nor the look ahead names.
    pub(super) fn tell_unforeseen(&self, demand: &Demand) {
        if self.agenda.mode() == Mode::Off {
            return;
        }
        let spec = self.peers.catalogue.get(demand.task_type);
        let named = match &demand.entity {
            Some(entity) => derived_inputs(spec, entity, &self.peers.places),
            None => vec![],
        };
        let unforeseen = |object: &ObjectName| {
            let key = Key { pool: demand.cache, object: object.clone() };
            !named.contains(object) && !self.agenda.foresees(&key)
        };
        let reads: Vec<Read> = demand
            .inputs
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
        if reads.is_empty() {
            return;
        }
        let Demand { cache, worker, task_type, .. } = *demand;
        // One that is missed is a sequence learned a little later.
        let _ = self.peers.unforeseen.try_send(Fact(Unforeseen { cache, worker, task_type, reads }));
    }

    /// Tells who proposed them which learned objects are not staged.
    pub(super) fn tell_declined(&mut self) {
        let mut declined: BTreeMap<CacheId, Vec<ObjectName>> = BTreeMap::new();
        for key in self.agenda.take_rejected() {
            declined.entry(key.pool).or_default().push(key.object);
        }
        for (cache, objects) in declined {
            // One that is missed counts as staged in vain: a little too careful, for a while.
            let _ = self.peers.declined.try_send(Fact(Declined { cache, objects }));
        }
    }
}

impl Handler<Fact<Proposed>> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Proposed>, ctx: &mut Context<Self>) {
        let Proposed { cache, worker, task_type, objects, withdrawn } = msg.0;
        for object in withdrawn {
            self.agenda.withdrawn(&Key { pool: cache, object });
        }
        for o in objects {
            // A name that was only derived may be nobody's; its source is known by the name before the colon.
            if self.peers.places.source(&o.object).is_none() {
                continue;
            }
            let (object, p, break_even, until) = (o.object, o.p, o.break_even, o.until);
            self.agenda.proposed(Learned { object, cache, worker, task_type, p, break_even, until });
        }
        self.attend(ctx);
    }
}
