//! The tentative plan: which tasks are meant to start next, and where.
//!
//! It is published so that data can be on its way before a slot is free. It binds nobody: the real choice is
//! made when a slot is free, with what is known then.

use super::core::Dispatch;
use crate::flow::{Plan, Planned, WorkerId};
use crate::task::{State, Task};
use crate::time::{Span, Time};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Most tasks of a plan, and most of its delayed and blocked ones.
pub const PLAN_LIMIT: usize = 256;

/// When a worker's slots are expected to be free, soonest first.
type FreeAt = BinaryHeap<Reverse<Time>>;

impl Dispatch {
    /// A new plan, if something changed since the last.
    pub fn plan(&mut self, now: Time) -> Option<Plan> {
        if !std::mem::take(&mut self.plan_dirty) {
            return None;
        }
        let mut free_at = self.slots_free_at(now);
        let depth = self.depth(&free_at);
        let next = self
            .queue
            .in_order()
            .take(depth)
            .filter_map(|order| self.foresee(&self.tasks[&order.1].task, now, &mut free_at))
            .collect();
        let homes = self.catalogue.iter().filter_map(|(t, _)| {
            let w = self.would_run(t)?;
            Some((t, w, self.workers[usize::from(w.0)].cache))
        });
        let homes = homes.collect();
        Some(Plan { at: now, next, later: self.later(now), homes })
    }

    /// When each slot is expected to be free, soonest first, by worker.
    fn slots_free_at(&self, now: Time) -> Vec<(WorkerId, FreeAt)> {
        let of = |spec: &super::WorkerSpec| {
            let mut busy: Vec<_> = self.leases(spec.id).map(|l| Reverse(l.until.max(now))).collect();
            busy.resize((spec.slots as usize).max(busy.len()).min(PLAN_LIMIT), Reverse(now));
            (spec.id, FreeAt::from(busy))
        };
        self.workers.iter().map(of).collect()
    }

    /// How many tasks a plan for these slots holds at most.
    fn depth(&self, free_at: &[(WorkerId, FreeAt)]) -> usize {
        let slots: usize = free_at.iter().map(|(_, slots)| slots.len()).sum();
        slots.saturating_mul(self.settings.plan_depth as usize).min(PLAN_LIMIT)
    }

    /// Takes the slot in which the task is expected to end first. Of a worker's slots that is the one that is free
    /// first, so the cost does not grow with their number.
    fn foresee(&self, task: &Task, now: Time, free_at: &mut [(WorkerId, FreeAt)]) -> Option<Planned> {
        let (end, worker, at) = free_at
            .iter()
            .enumerate()
            .filter(|(_, (w, _))| self.runs(*w, task.task_type))
            .filter_map(|(i, (w, slots))| Some((slots.peek()?.0 + self.expected(*w, task), *w, i)))
            .min()?;
        let mut first = free_at[at].1.peek_mut()?;
        let due = first.0.max(now);
        first.0 = end;
        drop(first);
        Some(self.planned(task, worker, due))
    }

    /// How long a task is expected to hold a slot of a worker; missing data counts through locality.
    fn expected(&self, worker: WorkerId, task: &Task) -> Span {
        let run = self.standing(worker, task.task_type).map_or(Span::from_secs(1), |s| s.expected);
        run.times(1.0 / self.factors(worker, task).locality)
    }

    fn planned(&self, task: &Task, worker: WorkerId, due: Time) -> Planned {
        Planned {
            task: task.id,
            task_type: task.task_type,
            entity: task.entity.clone(),
            worker,
            cache: self.workers[usize::from(worker.0)].cache,
            due,
            inputs: task.inputs.clone(),
        }
    }

    /// Delayed and blocked tasks: their inputs are known, their time is known or estimated.
    fn later(&self, now: Time) -> Vec<Planned> {
        let delayed = self.queue.delayed().take(PLAN_LIMIT);
        // Whom the running tasks hold up: the end of the running one is the best estimate there is.
        let running = self.held.iter().flatten().filter_map(|id| self.tasks.get(id));
        let blocked = running.flat_map(|e| {
            let until = e.lease.as_ref().map(|l| l.until.max(now));
            until.into_iter().flat_map(|t| self.queue.dependents(e.task.id).map(move |id| (t, id)))
        });
        let mut later: Vec<_> = delayed.chain(blocked).collect();
        later.sort_unstable();
        later.dedup_by_key(|(_, id)| *id);
        later.truncate(PLAN_LIMIT);
        later.into_iter().filter_map(|(due, id)| self.foresee_later(&self.tasks[&id].task, due)).collect()
    }

    fn foresee_later(&self, task: &Task, due: Time) -> Option<Planned> {
        let worker = self
            .workers
            .iter()
            .filter(|w| self.runs(w.id, task.task_type))
            .map(|w| (self.preference(w.id, task), w.id))
            .min_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)))?
            .1;
        Some(self.planned(task, worker, due))
    }

    /// Affinity × (1 − heat) × locality, whoever is busy.
    fn preference(&self, worker: WorkerId, task: &Task) -> f64 {
        let f = self.factors(worker, task);
        f.speed * (1.0 - f.heat) * f.locality
    }

    /// Queued tasks that a plan made now would give to a worker, in order; asked only by people.
    pub fn planned_for(&self, worker: WorkerId, now: Time) -> Vec<std::sync::Arc<Task>> {
        let mut free_at = self.slots_free_at(now);
        let depth = self.depth(&free_at);
        let planned = self.queue.in_order().take(depth).filter_map(|order| {
            let task = &self.tasks[&order.1].task;
            (self.foresee(task, now, &mut free_at)?.worker == worker).then(|| task.clone())
        });
        planned.collect()
    }

    /// Where a task that nobody has submitted would run, judged by its type alone.
    pub fn would_run(&self, task_type: crate::flow::TypeId) -> Option<WorkerId> {
        self.workers
            .iter()
            .filter(|w| self.runs(w.id, task_type))
            .map(|w| {
                let standing = self.standing(w.id, task_type);
                let heat = self.heat.felt_by(w.id, &standing.map_or([0.25; 4], |s| s.demand));
                (standing.map_or(1.0, |s| s.speed) * (1.0 - heat), w.id)
            })
            .min_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)))
            .map(|(_, w)| w)
    }

    /// Attempts that a worker holds.
    pub(super) fn leases(&self, worker: WorkerId) -> impl Iterator<Item = &super::Lease> {
        self.held
            .get(usize::from(worker.0))
            .into_iter()
            .flatten()
            .filter_map(|id| self.tasks.get(id)?.lease.as_deref())
    }

    /// Whether a task is of those that are shown as waiting.
    pub(super) fn waits(state: State) -> bool {
        matches!(state, State::Queued | State::Delayed | State::Blocked)
    }
}
