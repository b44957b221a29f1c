//! The tentative plan: which tasks are meant to start next, and where.
//!
//! It is published so that data can be on its way before a slot is free. It binds nobody: the real choice is
//! made when a slot is free, with what is known then.

use super::core::Dispatch;
use crate::flow::{CacheId, Plan, Planned, TypeId, WorkerId};
use crate::task::{State, Task};
use crate::time::{Span, Time};
use std::collections::BTreeSet;

/// Most tasks of a plan, and most of its delayed and blocked ones.
pub const PLAN_LIMIT: usize = 256;
/// Slots that are looked at for one task of a plan.
const LOOK: usize = 32;
/// Types whose place is worked out anew for one plan.
const HOMES: usize = 64;

/// A slot: when it is expected to be free, whose it is, and its number there.
type Slot = (Time, WorkerId, usize);

impl Dispatch {
    /// A new plan, if something changed since the last. The cost grows with the slots, not with what waits.
    pub fn plan(&mut self, now: Time) -> Option<Plan> {
        if !std::mem::take(&mut self.plan_dirty) {
            return None;
        }
        let next = self.foresee_all(now, |_, planned| Some(planned));
        let homes = self.plan_homes();
        Some(Plan { at: now, next, later: self.later(now), homes })
    }

    /// The next ready tasks with where each would run, as far as `keep` keeps them.
    fn foresee_all<R>(
        &self,
        now: Time,
        keep: impl Fn(&std::sync::Arc<Task>, Planned) -> Option<R>,
    ) -> Vec<R> {
        let mut slots = self.slots_free_at(now);
        let depth = slots.len().saturating_mul(self.settings.plan_depth as usize).min(PLAN_LIMIT);
        let planned = self.queue.ready().in_order(depth).filter_map(|(order, lane)| {
            if !self.groups.may_start(lane.group) {
                return None;
            }
            let task = &self.tasks[&order.1].task;
            let planned = self.foresee(task, now, &mut slots)?;
            keep(task, planned)
        });
        planned.collect()
    }

    /// When each slot is expected to be free.
    fn slots_free_at(&self, now: Time) -> BTreeSet<Slot> {
        let mut slots = BTreeSet::new();
        for spec in &self.workers {
            let mut busy: Vec<Time> = self.leases(spec.id).map(|l| l.until.max(now)).collect();
            busy.resize((spec.slots as usize).max(busy.len()).min(PLAN_LIMIT), now);
            slots.extend((0..).zip(busy).map(|(i, t)| (t, spec.id, i)));
        }
        slots
    }

    /// Takes the slot in which the task is expected to end first: of those that are free soonest, and of the
    /// type's home.
    fn foresee(&self, task: &Task, now: Time, slots: &mut BTreeSet<Slot>) -> Option<Planned> {
        let runs = |s: &&Slot| self.runs(s.1, task.task_type);
        let soonest = slots.iter().filter(runs).take(LOOK);
        let home = self.homes.latest(task.task_type).map_or(&[][..], |h| &h.workers[..]);
        // The home's slots may lie behind hundreds of others that are free earlier.
        let at_home =
            slots.iter().filter(|s| home.contains(&s.1)).take(if slots.len() > LOOK { LOOK } else { 0 });
        let best = soonest.chain(at_home).map(|s| (s.0 + self.expected(s.1, task), s.1, *s)).min()?;
        let (end, worker, slot) = best;
        slots.remove(&slot);
        slots.insert((end, worker, slot.2));
        Some(self.planned(task, worker, slot.0.max(now)))
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
        self.foresee_all(now, |task, planned| (planned.worker == worker).then(|| task.clone()))
    }

    /// Where tasks of each type would run. Of many types only some are worked out anew for each plan, in turn:
    /// where they run changes slowly.
    fn plan_homes(&mut self) -> Vec<(TypeId, WorkerId, CacheId)> {
        let types = self.catalogue.len();
        self.plan_homes.resize(types, None);
        for _ in 0..types.min(HOMES) {
            let at = self.plan_homes_next % types;
            self.plan_homes_next = at + 1;
            self.plan_homes[at] = self.would_run(TypeId(at as u16));
        }
        let known = (0..).zip(&self.plan_homes).filter_map(|(t, w)| Some((TypeId(t), (*w)?)));
        known.map(|(t, w)| (t, w, self.workers[usize::from(w.0)].cache)).collect()
    }

    /// Where a task that nobody has submitted would run, judged by its type alone.
    pub fn would_run(&self, task_type: TypeId) -> Option<WorkerId> {
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
