//! Which free slot gets which ready task.
//!
//! For each free worker the candidates are, of every type, the oldest task of the highest class and the
//! oldest with data in the worker's cache: O(types) of them, whatever waits behind. The best pair of all
//! free workers starts first.

use super::Policy;
use super::core::Dispatch;
use super::queue::Order;
use super::score::{locality, score};
use crate::flow::{Factors, TypeId, WorkerId};
use crate::task::{Task, WaitingFor};
use crate::time::{Span, Time};

/// A busy worker is clearly better if a task would end this much earlier there, wait included.
const CLEARLY_BETTER: f64 = 0.7;

/// A possible start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub worker: WorkerId,
    pub order: Order,
    pub factors: Factors,
    score: f64,
}

impl Dispatch {
    pub(super) fn still_fits(&self, c: &Choice) -> bool {
        let task = &self.tasks[&c.order.1].task;
        self.admission.check(&self.claim_of(c.worker, task), self.catalogue.get(task.task_type)).is_ok()
    }

    /// The best task for one worker.
    pub(super) fn choose(&mut self, now: Time, worker: WorkerId) -> Option<Choice> {
        if self.admission.free_slots(worker) == 0 || self.queue.ready_len() == 0 {
            return None;
        }
        let cache = self.workers[usize::from(worker.0)].cache;
        let types: Vec<TypeId> = self.queue.types().filter(|t| self.runs(worker, *t)).collect();
        let mut best: Option<Choice> = None;
        for t in types {
            if self.admission.check_type(t, self.catalogue.get(t)).is_err() {
                continue;
            }
            let head = self.queue.head(t);
            let local = match self.settings.policy {
                Policy::Affinity => self.queue.local_head(cache, t).filter(|l| Some(*l) != head),
                _ => None,
            };
            for order in [head, local].into_iter().flatten() {
                let Some(choice) = self.candidate(now, worker, order) else { continue };
                best = Some(best.map_or(choice, |b| better(b, choice)));
            }
        }
        best
    }

    fn candidate(&mut self, now: Time, worker: WorkerId, order: Order) -> Option<Choice> {
        let task = self.tasks[&order.1].task.clone();
        let spec = self.catalogue.get(task.task_type);
        self.admission.check(&self.claim_of(worker, &task), spec).ok()?;
        if self.better_worker(now, worker, &task).is_some() {
            return None;
        }
        let factors = self.factors(worker, &task);
        let draw = if self.settings.policy == Policy::Random { self.random.f64() } else { 0.0 };
        let score =
            score(self.settings.policy, &factors, now.since(task.submitted), self.settings.ageing, draw);
        Some(Choice { worker, order, factors, score })
    }

    /// Whether a worker runs a type.
    pub(super) fn runs(&self, worker: WorkerId, task_type: TypeId) -> bool {
        self.workers[usize::from(worker.0)].types.as_ref().is_none_or(|t| t.contains(&task_type))
    }

    /// The factors of a pair.
    pub(super) fn factors(&self, worker: WorkerId, task: &Task) -> Factors {
        let spec = &self.workers[usize::from(worker.0)];
        let standing = self.standing(worker, task.task_type);
        // A type that was never measured is taken to need all resources alike.
        let demand = standing.map_or([0.25; 4], |s| s.demand);
        let missing: f64 = task
            .inputs
            .iter()
            .filter(|o| !self.queue.is_cached(spec.cache, o))
            .map(|o| 1.0 / self.queue.waiters(o).max(1) as f64)
            .sum();
        let near = spec.near.is_empty() || task.place.is_none_or(|p| spec.near.contains(&p.cell));
        Factors {
            speed: standing.map_or(1.0, |s| s.speed),
            heat: self.heat.felt_by(worker, &demand),
            locality: locality(missing, task.inputs.len(), near),
        }
    }

    /// A busy worker for which the task should rather wait a moment (late binding).
    ///
    /// Compared are the times until the task would have ended: here at once, there after the first of the
    /// worker's attempts is expected to end. The wait is bounded by `late_binding` after the submit.
    pub(super) fn better_worker(&self, now: Time, here: WorkerId, task: &Task) -> Option<WorkerId> {
        let bound = self.settings.late_binding;
        if self.settings.policy != Policy::Affinity || now.since(task.submitted) >= bound {
            return None;
        }
        let time_here = self.standing(here, task.task_type)?.expected;
        (0..self.workers.len()).map(|w| WorkerId(w as u16)).find(|w| {
            let there = *w;
            if there == here || !self.runs(there, task.task_type) || self.admission.free_slots(there) > 0 {
                return false;
            }
            let Some(standing) = self.standing(there, task.task_type) else { return false };
            let Some(wait) = self.first_end(now, there) else { return false };
            wait <= bound && (wait + standing.expected).as_s() < CLEARLY_BETTER * time_here.as_s()
        })
    }

    /// How long until the first attempt of a worker is expected to end.
    fn first_end(&self, now: Time, worker: WorkerId) -> Option<Span> {
        self.leases(worker).map(|l| l.until.since(now)).min()
    }

    /// Why a ready task did not start; asked only by people, so it may look at all workers.
    pub(super) fn reason(&self, now: Time, task: &Task) -> WaitingFor {
        if self.paused || self.draining {
            return WaitingFor::Paused;
        }
        let spec = self.catalogue.get(task.task_type);
        let mut reason = WaitingFor::Worker;
        for w in (0..self.workers.len()).map(|w| WorkerId(w as u16)) {
            if !self.runs(w, task.task_type) {
                continue;
            }
            match self.admission.check(&self.claim_of(w, task), spec) {
                Ok(()) => match self.better_worker(now, w, task) {
                    Some(worker) => return WaitingFor::Better { worker },
                    None => return WaitingFor::Slot,
                },
                Err(e) => reason = e,
            }
        }
        reason
    }
}

/// The better of two choices: class first, then score, then age, then the worker's index.
pub(super) fn better(a: Choice, b: Choice) -> Choice {
    let class = |c: &Choice| c.order.0;
    let first = class(&a)
        .cmp(&class(&b))
        .then(b.score.total_cmp(&a.score))
        .then(a.order.1.cmp(&b.order.1))
        .then(a.worker.cmp(&b.worker));
    if first.is_le() { a } else { b }
}
