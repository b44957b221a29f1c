//! What may be needed, and how that is known: one list from all kinds of knowledge.

use super::flights::Key;
use crate::flow::{Arrived, CacheId, Expected, Map, ObjectName, Plan, Planned, TypeId, WorkerId};
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
    /// A task that is expected reads it, by its type's template or by what its like have read.
    Derived,
    /// History says that it comes next, whoever asks for it.
    Learned,
}

impl Knowledge {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Knowledge::Queued => "queued",
            Knowledge::Scheduled => "scheduled",
            Knowledge::Derived => "derived",
            Knowledge::Learned => "learned",
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

/// An object that history says comes next.
#[derive(Clone, Debug, PartialEq)]
pub struct Learned {
    /// Which object.
    pub object: ObjectName,
    /// The pool whose accesses said so.
    pub cache: CacheId,
    /// The worker, and the type of the task, whose access said so.
    pub worker: WorkerId,
    /// See `worker`.
    pub task_type: TypeId,
    /// Probability that it is used before it would be evicted.
    pub p: f64,
    /// The proposer's own break-even.
    pub break_even: f64,
    /// Until when the proposal stands.
    pub until: Time,
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
    /// A probability below which it does not pay, whatever the gate says; zero unless its proposer knows better.
    pub floor: f64,
}

/// Most learned proposals that stand at once; beyond it the one that ends first goes.
const LEARNED_MAX: usize = 4_096;
/// For so long a task that has come counts as about to start, unless a plan names it: by then it has started, or
/// waits too far back to be planned.
const ABOUT_TO_START: Span = Span::from_ms(250);
/// A queued task is as good as certain: it may still be cancelled, or run elsewhere.
const P_QUEUED: f64 = 0.99;
/// A forecast that did not come true is dropped after one and a half times its wait, but not before this. Kept
/// longer, it holds room that nearer needs lack.
const GRACE: Span = Span::from_ms(500);

/// All candidates, by key.
#[derive(Debug, Default)]
pub struct Candidates {
    planned: BTreeMap<Key, Candidate>,
    /// What tasks read that have come and that no plan has named yet.
    arrived: BTreeMap<Key, Candidate>,
    arrived_until: BTreeSet<(Time, Key)>,
    derived: BTreeMap<Key, BTreeMap<Arc<str>, Foreseen>>,
    by_entity: Map<Arc<str>, Vec<Key>>,
    learned: BTreeMap<Key, Learned>,
    learned_until: BTreeSet<(Time, Key)>,
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

    /// A task has come: it starts at once, or the next plan names it. Until then its objects count as needed now:
    /// the forecast that brought them has been fulfilled, and they must neither be called off nor give way.
    pub fn arrived(&mut self, a: &Arrived, worker: WorkerId, pool: CacheId, dirty: &mut BTreeSet<Key>) {
        for object in &a.inputs {
            let key = Key { pool, object: object.clone() };
            let candidate = Candidate {
                knowledge: Knowledge::Queued,
                p: P_QUEUED,
                due: a.at,
                task_type: a.task_type,
                entity: a.entity.clone(),
                worker,
                floor: 0.0,
            };
            if let Some(old) = self.arrived.insert(key.clone(), candidate) {
                self.arrived_until.remove(&(old.due + ABOUT_TO_START, key.clone()));
            }
            self.arrived_until.insert((a.at + ABOUT_TO_START, key.clone()));
            dirty.insert(key);
        }
    }

    /// Whether all that is known of a key is that a task that has just come reads it: it will ask itself.
    pub fn just_arrived(&self, key: &Key) -> bool {
        self.arrived.contains_key(key) && !self.planned.contains_key(key) && !self.derived.contains_key(key)
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
            floor: 0.0,
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

    /// History proposes an object; a newer proposal of the same one replaces it.
    pub fn proposed(&mut self, learned: Learned, dirty: &mut BTreeSet<Key>) {
        let key = Key { pool: learned.cache, object: learned.object.clone() };
        self.withdrawn(&key, dirty);
        if self.learned.len() >= LEARNED_MAX
            && let Some((_, first)) = self.learned_until.first().cloned()
        {
            self.withdrawn(&first, dirty);
        }
        self.learned_until.insert((learned.until, key.clone()));
        self.learned.insert(key.clone(), learned);
        dirty.insert(key);
    }

    /// A proposal does not stand any more: it was used, or taken back.
    pub fn withdrawn(&mut self, key: &Key, dirty: &mut BTreeSet<Key>) {
        if let Some(old) = self.learned.remove(key) {
            self.learned_until.remove(&(old.until, key.clone()));
            dirty.insert(key.clone());
        }
    }

    /// Drops what was expected and did not come.
    pub fn expire(&mut self, now: Time, dirty: &mut BTreeSet<Key>) {
        while let Some((until, key)) = self.arrived_until.first().cloned().filter(|(until, _)| *until <= now)
        {
            self.arrived_until.remove(&(until, key.clone()));
            self.arrived.remove(&key);
            dirty.insert(key);
        }
        while let Some((_, key)) = self.learned_until.first().cloned().filter(|(until, _)| *until <= now) {
            self.withdrawn(&key, dirty);
        }
        while let Some((until, entity)) = self.expiry.first().cloned().filter(|(until, _)| *until <= now) {
            self.expiry.remove(&(until, entity.clone()));
            self.forget(&entity, dirty);
        }
    }

    /// The keys under which a need of this object is known.
    pub fn keys_of(&self, object: &ObjectName) -> Vec<Key> {
        let certain = self.planned.keys().chain(self.arrived.keys());
        let maps = certain.chain(self.derived.keys()).chain(self.learned.keys());
        let mut keys: Vec<Key> = maps.filter(|k| k.object == *object).cloned().collect();
        keys.dedup();
        keys
    }

    /// Whether some entity is expected to need it.
    pub fn is_derived(&self, key: &Key) -> bool {
        self.derived.contains_key(key)
    }

    /// What is known of one key.
    pub fn get(&self, key: &Key) -> Option<Candidate> {
        if let Some(certain) = self.planned.get(key).or_else(|| self.arrived.get(key)) {
            return Some(certain.clone());
        }
        let Some(of_entity) = self.derived.get(key) else {
            return self.learned.get(key).map(|l| Candidate {
                knowledge: Knowledge::Learned,
                p: l.p,
                due: l.until,
                task_type: l.task_type,
                entity: None,
                worker: l.worker,
                floor: l.break_even,
            });
        };
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
            floor: 0.0,
        })
    }

    /// How many needs are known: one for each key and kind of knowledge.
    pub fn len(&self) -> usize {
        self.planned.len() + self.arrived.len() + self.derived.len() + self.learned.len()
    }

    /// Whether nothing is expected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks what must hold between calls.
    ///
    /// # Panics
    /// If it does not.
    pub fn assert_invariants(&self) {
        assert_eq!(self.learned.len(), self.learned_until.len());
        assert!(self.learned.len() <= LEARNED_MAX);
        assert_eq!(self.arrived.len(), self.arrived_until.len());
        assert_eq!(self.expiry.len(), self.expires.len());
        assert_eq!(
            self.by_entity.len(),
            self.expires.len(),
            "who expects something expects it until some time"
        );
        let listed: usize = self.by_entity.values().map(Vec::len).sum();
        let held: usize = self.derived.values().map(BTreeMap::len).sum();
        assert_eq!(listed, held, "every need of an entity is listed once");
        assert!(self.derived.values().all(|of_entity| !of_entity.is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::TaskId;

    const COPY: TypeId = TypeId(1);
    const VERIFY: TypeId = TypeId(2);

    fn key(object: &str) -> Key {
        Key { pool: CacheId(0), object: ObjectName::new(object) }
    }

    fn derived(object: &str, entity: &str, task_type: TypeId, p: f64, due_s: f64) -> Derived {
        let expected = Expected { entity: entity.into(), task_type, p, due: Time::from_s(due_s), depth: 1 };
        Derived { object: ObjectName::new(object), worker: WorkerId(0), cache: CacheId(0), expected }
    }

    fn learned(object: &str, until_s: f64) -> Learned {
        Learned {
            object: ObjectName::new(object),
            cache: CacheId(0),
            worker: WorkerId(0),
            task_type: COPY,
            p: 0.6,
            break_even: 0.3,
            until: Time::from_s(until_s),
        }
    }

    fn plan(object: &str, due_s: f64) -> Plan {
        let task = Planned {
            task: TaskId(1),
            task_type: COPY,
            entity: None,
            worker: WorkerId(0),
            cache: CacheId(0),
            due: Time::from_s(due_s),
            inputs: vec![ObjectName::new(object)],
        };
        Plan { next: vec![task], ..Plan::default() }
    }

    #[test]
    fn the_most_certain_knowledge_speaks_for_an_object() {
        let (mut c, mut dirty) = (Candidates::default(), BTreeSet::new());
        let knows = |c: &Candidates| c.get(&key("v:a")).map(|x| x.knowledge);
        c.proposed(learned("v:a", 9.0), &mut dirty);
        assert_eq!(knows(&c), Some(Knowledge::Learned));
        c.foreseen(&"e".into(), vec![derived("v:a", "e", COPY, 0.5, 2.0)], Time::ZERO, &mut dirty);
        assert_eq!(knows(&c), Some(Knowledge::Derived));
        c.planned(&plan("v:a", 1.0), &mut dirty);
        assert_eq!(knows(&c), Some(Knowledge::Queued));
        c.planned(&Plan::default(), &mut dirty);
        assert_eq!(knows(&c), Some(Knowledge::Derived));
        c.foreseen(&"e".into(), vec![], Time::ZERO, &mut dirty);
        assert_eq!(knows(&c), Some(Knowledge::Learned));
        c.expire(Time::from_s(9.0), &mut dirty);
        assert_eq!(knows(&c), None);
        c.assert_invariants();
    }

    #[test]
    fn entities_need_an_object_independently_and_steps_of_one_chain_do_not() {
        let (mut c, mut dirty) = (Candidates::default(), BTreeSet::new());
        let steps = vec![derived("v:a", "e", COPY, 0.5, 3.0), derived("v:a", "e", VERIFY, 0.4, 2.0)];
        c.foreseen(&"e".into(), steps, Time::ZERO, &mut dirty);
        let one = c.get(&key("v:a")).unwrap();
        assert_eq!((one.p, one.due, one.task_type), (0.5, Time::from_s(2.0), COPY));
        c.foreseen(&"f".into(), vec![derived("v:a", "f", COPY, 0.5, 1.0)], Time::ZERO, &mut dirty);
        let both = c.get(&key("v:a")).unwrap();
        assert_eq!((both.p, both.due), (0.75, Time::from_s(1.0)));
        c.assert_invariants();
    }

    #[test]
    fn a_task_that_has_come_keeps_its_objects_until_it_starts_or_is_planned() {
        let (mut c, mut dirty) = (Candidates::default(), BTreeSet::new());
        c.foreseen(&"e".into(), vec![derived("v:a", "e", COPY, 0.5, 2.0)], Time::ZERO, &mut dirty);
        let inputs = vec![ObjectName::new("v:a")];
        let a = Arrived { task: TaskId(1), task_type: COPY, entity: None, at: Time::from_s(1.0), inputs };
        c.arrived(&a, WorkerId(0), CacheId(0), &mut dirty);
        c.foreseen(&"e".into(), vec![], Time::from_s(1.0), &mut dirty);
        let kept = c.get(&key("v:a")).unwrap();
        assert_eq!((kept.knowledge, kept.due), (Knowledge::Queued, Time::from_s(1.0)));
        assert!(c.just_arrived(&key("v:a")));
        c.expire(Time::from_s(1.2), &mut dirty);
        assert!(c.get(&key("v:a")).is_some());
        dirty.clear();
        c.expire(Time::from_s(1.3), &mut dirty);
        assert!(c.is_empty() && dirty.contains(&key("v:a")));
        c.assert_invariants();
    }

    #[test]
    fn what_did_not_come_is_dropped_after_one_and_a_half_times_its_wait() {
        let (mut c, mut dirty) = (Candidates::default(), BTreeSet::new());
        c.foreseen(&"e".into(), vec![derived("v:a", "e", COPY, 0.5, 10.0)], Time::ZERO, &mut dirty);
        dirty.clear();
        c.expire(Time::from_s(15.0), &mut dirty);
        assert!(c.get(&key("v:a")).is_some() && dirty.is_empty());
        c.expire(Time::from_s(16.0), &mut dirty);
        assert!(c.is_empty() && dirty.contains(&key("v:a")));
    }

    #[test]
    fn random_facts_keep_the_books_in_order() {
        let mut rng = fastrand::Rng::with_seed(2);
        let (mut c, mut dirty) = (Candidates::default(), BTreeSet::new());
        for i in 0..5_000u32 {
            let now = Time::from_s(f64::from(i) / 10.0);
            let object = format!("v:{}", rng.u8(..40));
            match rng.u8(..6) {
                5 => {
                    let inputs = vec![ObjectName::new(&*object)];
                    let task = TaskId(u64::from(i));
                    let a = Arrived { task, task_type: COPY, entity: None, at: now, inputs };
                    c.arrived(&a, WorkerId(0), CacheId(0), &mut dirty);
                }
                0 => c.planned(&plan(&object, now.as_s() + rng.f64()), &mut dirty),
                1 => c.proposed(learned(&object, now.as_s() + 5.0 * rng.f64()), &mut dirty),
                2 => c.withdrawn(&key(&object), &mut dirty),
                3 => c.expire(now, &mut dirty),
                _ => {
                    let entity: Arc<str> = format!("e{}", rng.u8(..6)).into();
                    let n = rng.usize(..4);
                    let some =
                        |_| derived(&format!("v:{}", rng.u8(..40)), &entity, COPY, 0.3, now.as_s() + 2.0);
                    let all = (0..n).map(some).collect();
                    c.foreseen(&entity, all, now, &mut dirty);
                }
            }
            c.assert_invariants();
            assert!(dirty.iter().filter_map(|k| c.get(k)).all(|x| x.p > 0.0 && x.p <= 1.0));
        }
    }
}
