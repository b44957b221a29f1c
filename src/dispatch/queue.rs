//! The waiting tasks: ready by lane and priority, delayed by time, blocked by dependency, and an index from
//! objects to the ready tasks that read them.
//!
//! A [`Lane`] holds the ready tasks of one type in one group. Order inside it is priority class first, then
//! age (task ids grow with age), and the heads of all lanes stand in order too. Everything here costs
//! O(log n) of what waits, plus the number of objects of the task at hand; nothing ever walks the queue.

use super::lanes::{Lane, Lanes};
use crate::flow::{CacheId, Map, ObjectName, Place, TaskId, TypeId};
use crate::task::{Priority, Task};
use crate::time::Time;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Place in a queue: higher class first, then older first.
pub type Order = (Reverse<Priority>, TaskId);

/// A task's place.
pub fn order(task: &Task, priority: Priority) -> Order {
    (Reverse(priority), task.id)
}

/// Ready tasks with at least one input in one cache.
#[derive(Debug, Default)]
struct Local {
    lanes: Lanes,
    /// How many of a task's inputs are there.
    inputs: Map<TaskId, u32>,
}

impl Local {
    fn more(&mut self, lane: Lane, order: Order) {
        let count = self.inputs.entry(order.1).or_default();
        *count += 1;
        if *count == 1 {
            self.lanes.insert(lane, order);
        }
    }

    fn less(&mut self, lane: Lane, order: Order) {
        let count = self.inputs.get_mut(&order.1).expect("an object is counted once for each cache");
        *count -= 1;
        if *count == 0 {
            self.forget(lane, order);
        }
    }

    fn forget(&mut self, lane: Lane, order: Order) {
        if self.inputs.remove(&order.1).is_some() {
            self.lanes.remove(lane, order);
        }
    }
}

/// Ready tasks that read one object. Nearly always one, and then without a tree of its own: a million tasks
/// with two inputs each make two million of these.
#[derive(Debug)]
enum Readers {
    One(Order, Lane),
    Many(BTreeMap<Order, Lane>),
}

impl Readers {
    fn add(&mut self, order: Order, lane: Lane) {
        match self {
            Readers::One(o, l) => *self = Readers::Many(BTreeMap::from([(*o, *l), (order, lane)])),
            Readers::Many(all) => _ = all.insert(order, lane),
        }
    }

    fn len(&self) -> usize {
        match self {
            Readers::One(..) => 1,
            Readers::Many(all) => all.len(),
        }
    }

    /// Takes one out; whether nobody is left.
    fn take(&mut self, order: Order) -> bool {
        match self {
            Readers::One(o, _) => *o == order,
            Readers::Many(all) => {
                all.remove(&order);
                all.is_empty()
            }
        }
    }

    fn each(&self, mut f: impl FnMut(Order, Lane)) {
        match self {
            Readers::One(o, l) => f(*o, *l),
            Readers::Many(all) => all.iter().for_each(|(o, l)| f(*o, *l)),
        }
    }
}

/// What waits, without the tasks themselves.
#[derive(Debug, Default)]
pub struct Queue {
    ready: Lanes,
    local: BTreeMap<CacheId, Local>,
    readers: Map<ObjectName, Readers>,
    /// What each cache holds, as far as facts have arrived.
    present: BTreeMap<CacheId, BTreeSet<ObjectName>>,
    /// How many of each type are ready.
    of_type: Map<TypeId, u32>,
    delayed: BTreeSet<(Time, TaskId)>,
    /// Waiting tasks that must have started by a moment.
    deadlines: BTreeSet<(Time, TaskId)>,
    /// Who waits for a task.
    dependents: Map<TaskId, BTreeSet<TaskId>>,
    ready_count: usize,
    /// Ready tasks by the cell and shard of their first input.
    by_place: BTreeMap<Place, u32>,
}

impl Queue {
    /// Adds a ready task.
    pub fn push(&mut self, task: &Task, lane: Lane, order: Order) {
        let new = self.ready.insert(lane, order);
        assert!(new, "task {} is ready twice", task.id);
        self.ready_count += 1;
        *self.of_type.entry(lane.task_type).or_default() += 1;
        if let Some(place) = task.place {
            *self.by_place.entry(place).or_default() += 1;
        }
        for object in distinct(task) {
            match self.readers.get_mut(object) {
                Some(readers) => readers.add(order, lane),
                None => _ = self.readers.insert(object.clone(), Readers::One(order, lane)),
            }
            for (cache, objects) in &self.present {
                if objects.contains(object) {
                    self.local.entry(*cache).or_default().more(lane, order);
                }
            }
        }
    }

    /// Takes a ready task out.
    pub fn remove(&mut self, task: &Task, lane: Lane, order: Order) {
        let was = self.ready.remove(lane, order);
        assert!(was, "task {} was not ready", task.id);
        self.ready_count -= 1;
        let left = self.of_type.get_mut(&lane.task_type).expect("counted when it came");
        *left -= 1;
        if *left == 0 {
            self.of_type.remove(&lane.task_type);
        }
        if let Some(place) = task.place {
            let count = self.by_place.get_mut(&place).expect("every ready task is counted at its place");
            *count -= 1;
            if *count == 0 {
                self.by_place.remove(&place);
            }
        }
        for object in distinct(task) {
            let readers = self.readers.get_mut(object).expect("every ready task is indexed by its inputs");
            if readers.take(order) {
                self.readers.remove(object);
            }
        }
        for local in self.local.values_mut() {
            local.forget(lane, order);
        }
    }

    /// A cache has an object now.
    pub fn cached(&mut self, cache: CacheId, object: &ObjectName) {
        if !self.present.entry(cache).or_default().insert(object.clone()) {
            return;
        }
        if let Some(readers) = self.readers.get(object) {
            let local = self.local.entry(cache).or_default();
            readers.each(|order, lane| local.more(lane, order));
        }
    }

    /// A cache does not have an object any more.
    pub fn evicted(&mut self, cache: CacheId, object: &ObjectName) {
        if !self.present.get_mut(&cache).is_some_and(|p| p.remove(object)) {
            return;
        }
        if let (Some(readers), Some(local)) = (self.readers.get(object), self.local.get_mut(&cache)) {
            readers.each(|order, lane| local.less(lane, order));
        }
    }

    /// Whether a cache has an object.
    pub fn is_cached(&self, cache: CacheId, object: &ObjectName) -> bool {
        self.present.get(&cache).is_some_and(|p| p.contains(object))
    }

    /// How many ready tasks read an object.
    pub fn waiters(&self, object: &ObjectName) -> usize {
        self.readers.get(object).map_or(0, Readers::len)
    }

    /// The ready tasks.
    pub fn ready(&self) -> &Lanes {
        &self.ready
    }

    /// Those of them with an input in a cache.
    pub fn local(&self, cache: CacheId) -> Option<&Lanes> {
        self.local.get(&cache).map(|l| &l.lanes)
    }

    /// How many of a type are ready.
    pub fn ready_of(&self, task_type: TypeId) -> u32 {
        self.of_type.get(&task_type).copied().unwrap_or(0)
    }

    /// How many are ready.
    pub fn ready_len(&self) -> usize {
        self.ready_count
    }

    /// How many are ready of each type, with the first of them.
    pub fn by_type(&self) -> impl Iterator<Item = (TypeId, usize, Order)> {
        let mut first: BTreeMap<TypeId, Order> = BTreeMap::new();
        for (order, lane) in self.ready.all_heads() {
            first.entry(lane.task_type).and_modify(|o| *o = order.min(*o)).or_insert(order);
        }
        first.into_iter().map(|(t, order)| (t, self.ready_of(t) as usize, order))
    }

    /// How many ready tasks have their first input at each cell and shard; none where there are none.
    pub fn by_place(&self) -> impl Iterator<Item = (Place, u32)> {
        self.by_place.iter().map(|(place, count)| (*place, *count))
    }

    /// Adds a delayed task.
    pub fn delay(&mut self, task: TaskId, until: Time) {
        self.delayed.insert((until, task));
    }

    /// Takes a delayed task out.
    pub fn undelay(&mut self, task: TaskId, until: Time) {
        self.delayed.remove(&(until, task));
    }

    /// The next delayed task whose time has come; it is taken out.
    pub fn due(&mut self, now: Time) -> Option<TaskId> {
        let first = self.delayed.first().copied().filter(|(until, _)| *until <= now)?;
        self.delayed.remove(&first);
        Some(first.1)
    }

    /// When the next delayed task is due.
    pub fn next_due(&self) -> Option<Time> {
        self.delayed.first().map(|(t, _)| *t)
    }

    /// How many are delayed.
    pub fn delayed_len(&self) -> usize {
        self.delayed.len()
    }

    /// Delayed tasks, soonest first.
    pub fn delayed(&self) -> impl Iterator<Item = (Time, TaskId)> {
        self.delayed.iter().copied()
    }

    /// A waiting task must have started by `until`.
    pub fn limit(&mut self, task: TaskId, until: Time) {
        self.deadlines.insert((until, task));
    }

    /// It has started, or ended.
    pub fn unlimit(&mut self, task: TaskId, until: Time) {
        self.deadlines.remove(&(until, task));
    }

    /// The next waiting task whose deadline has passed; it stays in until [`Queue::unlimit`].
    pub fn too_late(&self, now: Time) -> Option<TaskId> {
        self.deadlines.first().filter(|(until, _)| *until < now).map(|(_, task)| *task)
    }

    /// `waiter` waits for `task`.
    pub fn depend(&mut self, waiter: TaskId, task: TaskId) {
        self.dependents.entry(task).or_default().insert(waiter);
    }

    /// `waiter` does not wait for `task` any more.
    pub fn undepend(&mut self, waiter: TaskId, task: TaskId) {
        if let Some(d) = self.dependents.get_mut(&task) {
            d.remove(&waiter);
            if d.is_empty() {
                self.dependents.remove(&task);
            }
        }
    }

    /// Who waits for a task that ended; they are taken out.
    pub fn release(&mut self, task: TaskId) -> BTreeSet<TaskId> {
        self.dependents.remove(&task).unwrap_or_default()
    }

    /// Who waits for a task.
    pub fn dependents(&self, task: TaskId) -> impl Iterator<Item = TaskId> {
        self.dependents.get(&task).into_iter().flatten().copied()
    }

    /// Checks that the indices agree.
    ///
    /// # Panics
    /// If they do not.
    #[cfg(test)]
    pub fn assert_invariants<'a>(&self, ready: impl Iterator<Item = (&'a Task, Lane, Order)>) {
        let mut count = 0;
        let mut of_type: Map<TypeId, u32> = Map::default();
        let mut placed = 0;
        for (task, lane, order) in ready {
            count += 1;
            placed += u32::from(task.place.is_some());
            *of_type.entry(task.task_type).or_default() += 1;
            assert!(self.ready.contains(lane, order));
            for (cache, objects) in &self.present {
                let there = distinct(task).filter(|o| objects.contains(*o)).count() as u32;
                let local = self.local.get(cache);
                let counted = local.and_then(|l| l.inputs.get(&task.id).copied()).unwrap_or(0);
                assert_eq!(there, counted, "task {} at cache {cache}", task.id);
                assert_eq!(there > 0, local.is_some_and(|l| l.lanes.contains(lane, order)));
            }
        }
        assert_eq!(count, self.ready_count);
        assert_eq!(count, self.ready.len());
        assert_eq!(placed, self.by_place.values().sum::<u32>());
        assert_eq!(of_type, self.of_type);
        self.ready.assert_invariants();
        for l in self.local.values() {
            l.lanes.assert_invariants();
            assert_eq!(l.lanes.len(), l.inputs.len());
        }
    }
}

fn distinct(task: &Task) -> impl Iterator<Item = &ObjectName> {
    // A task may name an object twice; inputs are few, so looking back is cheaper than a set.
    task.inputs.iter().enumerate().filter(|(i, o)| !task.inputs[..*i].contains(o)).map(|(_, o)| o)
}
