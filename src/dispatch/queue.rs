//! The waiting tasks: ready by type and priority, delayed by time, blocked by dependency, and an index from
//! objects to the ready tasks that read them.
//!
//! Order inside a type is priority class first, then age (task ids grow with age). Everything here costs
//! O(log n) of what waits, plus the number of objects of the task at hand; nothing ever walks the queue.

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

/// What waits, without the tasks themselves.
#[derive(Debug, Default)]
pub struct Queue {
    /// Ready tasks of each type.
    ready: BTreeMap<TypeId, BTreeSet<Order>>,
    /// Ready tasks with at least one input in a cache, and how many of them are there.
    local: BTreeMap<CacheId, BTreeMap<TypeId, BTreeMap<Order, u32>>>,
    /// Ready tasks that read an object.
    readers: Map<ObjectName, BTreeMap<Order, TypeId>>,
    /// What each cache holds, as far as facts have arrived.
    present: BTreeMap<CacheId, BTreeSet<ObjectName>>,
    delayed: BTreeSet<(Time, TaskId)>,
    /// Who waits for a task.
    dependents: Map<TaskId, BTreeSet<TaskId>>,
    ready_count: usize,
    /// Ready tasks by the cell and shard of their first input.
    by_place: BTreeMap<Place, u32>,
}

impl Queue {
    /// Adds a ready task.
    pub fn push(&mut self, task: &Task, order: Order) {
        let new = self.ready.entry(task.task_type).or_default().insert(order);
        assert!(new, "task {} is ready twice", task.id);
        self.ready_count += 1;
        if let Some(place) = task.place {
            *self.by_place.entry(place).or_default() += 1;
        }
        for object in distinct(task) {
            self.readers.entry(object.clone()).or_default().insert(order, task.task_type);
            for (cache, objects) in &self.present {
                if objects.contains(object) {
                    count_local(&mut self.local, *cache, task.task_type, order, 1);
                }
            }
        }
    }

    /// Takes a ready task out.
    pub fn remove(&mut self, task: &Task, order: Order) {
        let ready = self.ready.get_mut(&task.task_type);
        let was = ready.is_some_and(|r| r.remove(&order));
        assert!(was, "task {} was not ready", task.id);
        if self.ready[&task.task_type].is_empty() {
            self.ready.remove(&task.task_type);
        }
        self.ready_count -= 1;
        if let Some(place) = task.place {
            let count = self.by_place.get_mut(&place).expect("every ready task is counted at its place");
            *count -= 1;
            if *count == 0 {
                self.by_place.remove(&place);
            }
        }
        for object in distinct(task) {
            let readers = self.readers.get_mut(object).expect("every ready task is indexed by its inputs");
            readers.remove(&order);
            if readers.is_empty() {
                self.readers.remove(object);
            }
        }
        for types in self.local.values_mut() {
            if let Some(tasks) = types.get_mut(&task.task_type) {
                tasks.remove(&order);
                if tasks.is_empty() {
                    types.remove(&task.task_type);
                }
            }
        }
    }

    /// A cache has an object now.
    pub fn cached(&mut self, cache: CacheId, object: &ObjectName) {
        if !self.present.entry(cache).or_default().insert(object.clone()) {
            return;
        }
        for (order, task_type) in self.readers.get(object).into_iter().flatten() {
            count_local(&mut self.local, cache, *task_type, *order, 1);
        }
    }

    /// A cache does not have an object any more.
    pub fn evicted(&mut self, cache: CacheId, object: &ObjectName) {
        if !self.present.get_mut(&cache).is_some_and(|p| p.remove(object)) {
            return;
        }
        for (order, task_type) in self.readers.get(object).into_iter().flatten() {
            count_local(&mut self.local, cache, *task_type, *order, -1);
        }
    }

    /// Whether a cache has an object.
    pub fn is_cached(&self, cache: CacheId, object: &ObjectName) -> bool {
        self.present.get(&cache).is_some_and(|p| p.contains(object))
    }

    /// How many ready tasks read an object.
    pub fn waiters(&self, object: &ObjectName) -> usize {
        self.readers.get(object).map_or(0, BTreeMap::len)
    }

    /// The ready types.
    pub fn types(&self) -> impl Iterator<Item = TypeId> {
        self.ready.keys().copied()
    }

    /// The first ready task of a type.
    pub fn head(&self, task_type: TypeId) -> Option<Order> {
        self.ready.get(&task_type)?.first().copied()
    }

    /// The first ready task of a type with an input in a cache.
    pub fn local_head(&self, cache: CacheId, task_type: TypeId) -> Option<Order> {
        self.local.get(&cache)?.get(&task_type)?.keys().next().copied()
    }

    /// Ready tasks of all types in order, merged; costs O(types) for each step.
    pub fn in_order(&self) -> impl Iterator<Item = Order> {
        let mut heads: Vec<_> = self.ready.values().map(|s| s.iter().copied().peekable()).collect();
        std::iter::from_fn(move || {
            let at = (0..heads.len()).filter_map(|i| heads[i].peek().copied().map(|o| (o, i))).min()?.1;
            heads[at].next()
        })
    }

    /// How many are ready.
    pub fn ready_len(&self) -> usize {
        self.ready_count
    }

    /// How many are ready of each type, with the first of them.
    pub fn by_type(&self) -> impl Iterator<Item = (TypeId, usize, Order)> {
        self.ready.iter().filter_map(|(t, tasks)| Some((*t, tasks.len(), *tasks.first()?)))
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
    pub fn assert_invariants<'a>(&self, ready: impl Iterator<Item = (&'a Task, Order)>) {
        let mut count = 0;
        let mut placed = 0;
        for (task, order) in ready {
            count += 1;
            placed += u32::from(task.place.is_some());
            assert!(self.ready[&task.task_type].contains(&order));
            for (cache, objects) in &self.present {
                let there = distinct(task).filter(|o| objects.contains(*o)).count() as u32;
                let counted = self
                    .local
                    .get(cache)
                    .and_then(|t| t.get(&task.task_type)?.get(&order).copied())
                    .unwrap_or(0);
                assert_eq!(there, counted, "task {} at cache {cache}", task.id);
            }
        }
        assert_eq!(count, self.ready_count);
        assert_eq!(placed, self.by_place.values().sum::<u32>());
        assert_eq!(count, self.ready.values().map(BTreeSet::len).sum::<usize>());
    }
}

fn distinct(task: &Task) -> impl Iterator<Item = &ObjectName> {
    // A task may name an object twice; inputs are few, so looking back is cheaper than a set.
    task.inputs.iter().enumerate().filter(|(i, o)| !task.inputs[..*i].contains(o)).map(|(_, o)| o)
}

fn count_local(
    local: &mut BTreeMap<CacheId, BTreeMap<TypeId, BTreeMap<Order, u32>>>,
    cache: CacheId,
    task_type: TypeId,
    order: Order,
    by: i32,
) {
    let tasks = local.entry(cache).or_default().entry(task_type).or_default();
    let count = tasks.entry(order).or_default();
    *count = count.checked_add_signed(by).expect("an object is counted once for each cache that has it");
    if *count == 0 {
        tasks.remove(&order);
    }
    if tasks.is_empty() {
        local.get_mut(&cache).expect("just entered").remove(&task_type);
    }
}
