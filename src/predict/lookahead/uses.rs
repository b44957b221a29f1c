//! What is used along the paths of an entity's future: each thing at its first place on each path.

use super::parts::{Last, Part, Parts};
use crate::flow::{Expected, TypeId};
use crate::time::Time;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One place on a path into an entity's future.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) task_type: TypeId,
    /// Probability that the path is taken and reaches this place within the horizon.
    pub(super) p: f64,
    pub(super) due: Time,
    pub(super) depth: u8,
}

/// What is done at each place of the tree; `leave` undoes one `enter`.
pub(super) trait Visitor {
    fn enter(&mut self, step: &Step);
    fn leave(&mut self);
}

/// The sum over paths of first uses of one thing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    p: f64,
    /// Sum of p · due in microseconds.
    due_us: f64,
    /// The nearest place where it is used.
    depth: u8,
    /// The type that uses it there.
    pub(super) task_type: TypeId,
}

impl Use {
    pub(super) fn expected(&self, entity: Arc<str>, task_type: TypeId) -> Expected {
        let due = Time::from_us((self.due_us / self.p) as u64);
        Expected { entity, task_type, p: self.p.min(1.0), due, depth: self.depth }
    }
}

/// First uses by what is used, in a fixed order.
#[derive(Debug)]
pub(super) struct FirstUses<K> {
    path: Vec<K>,
    uses: BTreeMap<K, Use>,
}

impl<K> Default for FirstUses<K> {
    fn default() -> Self {
        FirstUses { path: Vec::new(), uses: BTreeMap::new() }
    }
}

impl<K: Ord + Copy> FirstUses<K> {
    /// Counts a use unless the path has used it already.
    fn count(&mut self, what: K, p: f64, step: &Step) {
        if !self.path.contains(&what) {
            let u = Use { p: 0.0, due_us: 0.0, depth: step.depth, task_type: step.task_type };
            let u = self.uses.entry(what).or_insert(u);
            u.p += p;
            u.due_us += p * step.due.as_us() as f64;
            if step.depth < u.depth {
                (u.depth, u.task_type) = (step.depth, step.task_type);
            }
        }
        self.path.push(what);
    }

    pub(super) fn into_uses(self) -> Vec<(K, Use)> {
        let mut uses: Vec<_> = self.uses.into_iter().collect();
        // Sorting is stable: equal times stay in the order of K.
        uses.sort_by(|a, b| (a.1.due_us / a.1.p).total_cmp(&(b.1.due_us / b.1.p)));
        uses
    }

    pub(super) fn into_expected(self, of: impl Fn(K) -> (Arc<str>, TypeId)) -> Vec<Expected> {
        let expected = |(k, u): (K, Use)| {
            let (entity, task_type) = of(k);
            u.expected(entity, task_type)
        };
        self.into_uses().into_iter().map(expected).collect()
    }
}

impl Visitor for FirstUses<TypeId> {
    fn enter(&mut self, step: &Step) {
        self.count(step.task_type, step.p, step);
    }
    fn leave(&mut self) {
        self.path.pop();
    }
}

/// Follows the numbered parts along each path.
pub(super) struct Reads<'a> {
    parts: &'a Parts,
    last: Vec<Vec<Last>>,
    /// How much of the path of first uses each step has added.
    marks: Vec<usize>,
    first: FirstUses<Part>,
}

impl<'a> Reads<'a> {
    /// From the numbers that the entity's tasks read last.
    pub(super) fn new(parts: &'a Parts, last: Vec<Last>) -> Reads<'a> {
        Reads { parts, last: vec![last], marks: Vec::new(), first: FirstUses::default() }
    }

    pub(super) fn into_uses(self) -> Vec<(Part, Use)> {
        self.first.into_uses()
    }
}

impl Visitor for Reads<'_> {
    fn enter(&mut self, step: &Step) {
        self.marks.push(self.first.path.len());
        let mut last = self.last.last().cloned().unwrap_or_default();
        let first = &mut self.first;
        self.parts.foretell(step.task_type, &mut last, |part, p| first.count(part, p * step.p, step));
        self.last.push(last);
    }
    fn leave(&mut self) {
        self.last.pop();
        self.first.path.truncate(self.marks.pop().unwrap_or(0));
    }
}
