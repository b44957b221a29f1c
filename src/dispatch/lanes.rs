//! Ready tasks by lane, with the heads of all lanes in order.

use super::queue::Order;
use crate::flow::{Map, TypeId};
use std::collections::{BTreeMap, BTreeSet};

/// A group of tasks, by the order in which its name was first met; 0 is of those that name none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u16);

/// The tasks of one type in one group: within it only class and age decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The group.
    pub group: GroupId,
    /// The type.
    pub task_type: TypeId,
}

/// Tasks by lane. A head is the first of its lane; heads stand in order within each group.
#[derive(Debug, Default)]
pub struct Lanes {
    tasks: Map<Lane, BTreeSet<Order>>,
    heads: BTreeMap<GroupId, BTreeSet<(Order, Lane)>>,
}

impl Lanes {
    /// Adds a task; whether it was new.
    pub fn insert(&mut self, lane: Lane, order: Order) -> bool {
        let tasks = self.tasks.entry(lane).or_default();
        let before = tasks.first().copied();
        let new = tasks.insert(order);
        if new && before.is_none_or(|b| order < b) {
            let heads = self.heads.entry(lane.group).or_default();
            if let Some(before) = before {
                heads.remove(&(before, lane));
            }
            heads.insert((order, lane));
        }
        new
    }

    /// Takes a task out; whether it was there.
    pub fn remove(&mut self, lane: Lane, order: Order) -> bool {
        let Some(tasks) = self.tasks.get_mut(&lane) else { return false };
        let was_head = tasks.first() == Some(&order);
        if !tasks.remove(&order) {
            return false;
        }
        let next = tasks.first().copied();
        if next.is_none() {
            self.tasks.remove(&lane);
        }
        if was_head {
            let heads = self.heads.get_mut(&lane.group).expect("a lane with tasks has a head");
            heads.remove(&(order, lane));
            if let Some(next) = next {
                heads.insert((next, lane));
            }
            if heads.is_empty() {
                self.heads.remove(&lane.group);
            }
        }
        true
    }

    /// The groups that have tasks, each with its first.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, Order)> {
        self.heads.iter().filter_map(|(g, heads)| Some((*g, heads.first()?.0)))
    }

    /// The heads of a group's lanes in order, from a place in the order on.
    pub fn heads(&self, group: GroupId, from: Order) -> impl Iterator<Item = (Order, Lane)> {
        let least = Lane { group: GroupId(0), task_type: TypeId(0) };
        self.heads.get(&group).into_iter().flat_map(move |h| h.range((from, least)..).copied())
    }

    /// The heads of all lanes.
    pub fn all_heads(&self) -> impl Iterator<Item = (Order, Lane)> {
        self.heads.values().flatten().copied()
    }

    /// The first task of a lane.
    pub fn head(&self, lane: Lane) -> Option<Order> {
        self.tasks.get(&lane)?.first().copied()
    }

    /// The tasks of a lane, in order.
    pub fn of(&self, lane: Lane) -> impl Iterator<Item = Order> {
        self.tasks.get(&lane).into_iter().flatten().copied()
    }

    /// The first `limit` tasks in order, lanes merged: O(limit · log limit) for each group.
    pub fn in_order(&self, limit: usize) -> impl Iterator<Item = (Order, Lane)> {
        // A task among the first `limit` of all stands in a lane whose head is among the first `limit` heads.
        let mut next: BTreeSet<(Order, Lane)> =
            self.heads.values().flat_map(|heads| heads.iter().take(limit)).copied().collect();
        let merged = std::iter::from_fn(move || {
            let (order, lane) = next.pop_first()?;
            let after = (std::ops::Bound::Excluded(order), std::ops::Bound::Unbounded);
            if let Some(o) = self.tasks.get(&lane).and_then(|t| t.range(after).next()) {
                next.insert((*o, lane));
            }
            Some((order, lane))
        });
        merged.take(limit)
    }

    /// Whether a task is there.
    #[cfg(test)]
    pub fn contains(&self, lane: Lane, order: Order) -> bool {
        self.tasks.get(&lane).is_some_and(|t| t.contains(&order))
    }

    /// How many tasks there are; walks the lanes.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.tasks.values().map(BTreeSet::len).sum()
    }

    /// Checks that the heads are the first of their lanes and no lane is empty.
    ///
    /// # Panics
    /// If not.
    #[cfg(test)]
    pub fn assert_invariants(&self) {
        let heads: BTreeSet<(Order, Lane)> = self.heads.values().flatten().copied().collect();
        let first = |(l, t): (&Lane, &BTreeSet<Order>)| (*t.first().expect("no lane is empty"), *l);
        assert_eq!(heads, self.tasks.iter().map(first).collect());
        assert!(self.heads.iter().all(|(g, h)| h.iter().all(|(_, l)| l.group == *g)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::TaskId;
    use std::cmp::Reverse;

    #[test]
    fn any_sequence_of_changes_keeps_heads_and_order() {
        for seed in 0..50 {
            let mut r = fastrand::Rng::with_seed(seed);
            let mut lanes = Lanes::default();
            let mut plain: BTreeSet<(Order, Lane)> = BTreeSet::new();
            for id in 0..300 {
                if r.u8(0..3) > 0 || plain.is_empty() {
                    let lane = Lane { group: GroupId(r.u16(0..3)), task_type: TypeId(r.u16(0..4)) };
                    let order = (Reverse(r.u8(0..3)), TaskId(id));
                    assert!(lanes.insert(lane, order) && !lanes.insert(lane, order));
                    plain.insert((order, lane));
                } else {
                    let (order, lane) = *plain.iter().nth(r.usize(0..plain.len())).unwrap();
                    assert!(lanes.remove(lane, order) && !lanes.remove(lane, order));
                    plain.remove(&(order, lane));
                }
                lanes.assert_invariants();
            }
            for limit in [1, 7, 400] {
                assert!(lanes.in_order(limit).eq(plain.iter().copied().take(limit)), "seed {seed}");
            }
        }
    }
}
