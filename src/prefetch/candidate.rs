//! What may be needed, and how that is known: one list from all kinds of knowledge.

use super::flights::Key;
use crate::flow::{CacheId, Expected, Map, ObjectName, Plan, Planned, TypeId, WorkerId};
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How it is known that an object will be needed, from the most certain on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Knowledge {
    /// A queued task reads it.
    Queued,
    /// A delayed or blocked task reads it.
    Scheduled,
    /// A task that is expected reads it, by its type's template.
    Derived,
}

impl Knowledge {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Knowledge::Queued => "queued",
            Knowledge::Scheduled => "scheduled",
            Knowledge::Derived => "derived",
        }
    }
}

/// An object that a task which nobody has submitted is expected to read.
#[derive(Clone, Debug, PartialEq)]
pub struct Derived {
    /// Which object.
    pub object: ObjectName,
    /// Where dispatch would run that task.
    pub worker: WorkerId,
    /// That worker's cache.
    pub cache: CacheId,
    /// The task.
    pub expected: Expected,
}

/// What is known of the need for one object in one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// How it is known; the most certain kind.
    pub knowledge: Knowledge,
    /// Probability that it is needed.
    pub p: f64,
    /// When it is needed first.
    pub due: Time,
    /// The type of the task that needs it first.
    pub task_type: TypeId,
    /// What that task is about.
    pub entity: Option<Arc<str>>,
    /// Who would run it.
    pub worker: WorkerId,
}

/// A queued task is as good as certain: it may still be cancelled, or run elsewhere.
const P_QUEUED: f64 = 0.99;
/// A forecast that did not come true is dropped after one and a half times its wait, but not before this. Kept
/// longer, it holds room that nearer needs lack.
const GRACE: Span = Span::from_ms(500);

/// All candidates, by key.
#[derive(Debug, Default)]
pub struct Candidates {
    planned: BTreeMap<Key, Candidate>,
    derived: BTreeMap<Key, BTreeMap<Arc<str>, Foreseen>>,
    by_entity: Map<Arc<str>, Vec<Key>>,
    expiry: BTreeSet<(Time, Arc<str>)>,
    expires: Map<Arc<str>, Time>,
}

#[derive(Clone, Debug)]
struct Foreseen {
    p: f64,
    due: Time,
    task_type: TypeId,
    worker: WorkerId,
}

impl Candidates {
    /// A new plan replaces the old one. Keys whose candidate may have changed are added to `dirty`.
    pub fn planned(&mut self, plan: &Plan, dirty: &mut BTreeSet<Key>) {
        dirty.extend(std::mem::take(&mut self.planned).into_keys());
        for (knowledge, tasks) in [(Knowledge::Queued, &plan.next), (Knowledge::Scheduled, &plan.later)] {
            for task in tasks {
                for object in &task.inputs {
                    self.plan_one(knowledge, task, object, dirty);
                }
            }
        }
    }

    fn plan_one(
        &mut self,
        knowledge: Knowledge,
        task: &Planned,
        object: &ObjectName,
        dirty: &mut BTreeSet<Key>,
    ) {
        let key = Key { pool: task.cache, object: object.clone() };
        let candidate = Candidate {
            knowledge,
            p: P_QUEUED,
            due: task.due,
            task_type: task.task_type,
            entity: task.entity.clone(),
            worker: task.worker,
        };
        dirty.insert(key.clone());
        let first = self.planned.entry(key).or_insert_with(|| candidate.clone());
        if candidate.due < first.due {
            *first = candidate;
        }
    }

    /// What an entity is expected to bring replaces what was expected of it before.
    pub fn foreseen(
        &mut self,
        entity: &Arc<str>,
        derived: Vec<Derived>,
        now: Time,
        dirty: &mut BTreeSet<Key>,
    ) {
        self.forget(entity, dirty);
        let Some(latest) = derived.iter().map(|d| d.expected.due).max() else { return };
        for d in derived {
            let key = Key { pool: d.cache, object: d.object };
            let new = Foreseen {
                p: d.expected.p,
                due: d.expected.due,
                task_type: d.expected.task_type,
                worker: d.worker,
            };
            let of_entity = self.derived.entry(key.clone()).or_default();
            match of_entity.get_mut(entity) {
                // Several steps of one chain read it: the likelier one contains the others' paths, or nearly.
                Some(old) => {
                    let due = old.due.min(new.due);
                    if new.p > old.p {
                        *old = new;
                    }
                    old.due = due;
                }
                None => {
                    of_entity.insert(entity.clone(), new);
                    self.by_entity.entry(entity.clone()).or_default().push(key.clone());
                }
            }
            dirty.insert(key);
        }
        let until = latest + latest.since(now).times(0.5) + GRACE;
        self.expiry.insert((until, entity.clone()));
        self.expires.insert(entity.clone(), until);
    }

    fn forget(&mut self, entity: &Arc<str>, dirty: &mut BTreeSet<Key>) {
        if let Some(until) = self.expires.remove(entity) {
            self.expiry.remove(&(until, entity.clone()));
        }
        for key in self.by_entity.remove(entity).into_iter().flatten() {
            if let Some(of_entity) = self.derived.get_mut(&key) {
                of_entity.remove(entity);
                if of_entity.is_empty() {
                    self.derived.remove(&key);
                }
            }
            dirty.insert(key);
        }
    }

    /// Drops what was expected and did not come.
    pub fn expire(&mut self, now: Time, dirty: &mut BTreeSet<Key>) {
        while let Some((until, entity)) = self.expiry.first().cloned().filter(|(until, _)| *until <= now) {
            self.expiry.remove(&(until, entity.clone()));
            self.forget(&entity, dirty);
        }
    }

    /// What is known of one key.
    pub fn get(&self, key: &Key) -> Option<Candidate> {
        if let Some(planned) = self.planned.get(key) {
            return Some(planned.clone());
        }
        let of_entity = self.derived.get(key)?;
        // Entities need it independently of each other.
        let not = of_entity.values().map(|f| 1.0 - f.p).product::<f64>();
        let (entity, first) = of_entity.iter().min_by_key(|(_, f)| f.due)?;
        Some(Candidate {
            knowledge: Knowledge::Derived,
            p: 1.0 - not,
            due: first.due,
            task_type: first.task_type,
            entity: Some(entity.clone()),
            worker: first.worker,
        })
    }

    /// How many keys have a candidate.
    pub fn len(&self) -> usize {
        self.planned.len() + self.derived.len()
    }

    /// Whether nothing is expected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
