//! Facts that reach dispatch: attempts that ended, time, heat, standings, what caches hold; and the starts that
//! follow from them.

use super::admit::Claim;
use super::core::{Dispatch, first_state};
use super::lease::Lease;
use super::place::{Choice, SCAN};
use super::step::{Action, Change, Step};
use crate::flow::{
    CacheId, Decided, Decision, Ending, Heat, ObjectName, Outcome, Standing, Standings, TaskId, Token,
    TypeId, WorkerId, Writing,
};
use crate::task::{State, Task, TaskType};
use crate::time::{Span, Time};
use std::sync::Arc;

/// A lost attempt is repeated even where the type allows one attempt only, up to this many: the task was
/// not to blame, but a task that takes its worker down again and again must not do so for ever.
pub const LOST_ATTEMPTS: u32 = 3;

impl Dispatch {
    // ---- facts ---------------------------------------------------------------------------------------------

    /// An attempt ended. `None` if the token is not the current one: a late completion, which changes nothing.
    pub fn ended(&mut self, now: Time, outcome: Arc<Outcome>) -> Option<Step> {
        let mut step = Step::default();
        self.end_attempt(now, outcome, &mut step)?;
        self.place_all(now, &mut step);
        Some(step)
    }

    /// As [`Dispatch::ended`], without starting what can be started now.
    pub(super) fn end_attempt(&mut self, now: Time, outcome: Arc<Outcome>, step: &mut Step) -> Option<()> {
        let id = outcome.task;
        let entry = self.tasks.get_mut(&id)?;
        let lease = entry.lease.take_if(|l| l.fits(outcome.token))?;
        self.admission.give_back(&lease.claim);
        self.held[usize::from(lease.worker.0)].remove(&id);
        self.groups.ended(entry.group);
        let attempts = entry.life.attempts_in_row();
        let task = entry.task.clone();
        let ending = if lease.cancelled && !outcome.ending.is_done() {
            Ending::Cancelled
        } else {
            outcome.ending.clone()
        };
        let spec = self.catalogue.get(task.task_type);
        let again = worth_another(&ending, attempts, spec);
        step.actions.push(Action::Decided(Decision {
            at: now,
            what: Decided::Ended { task: id, attempt: outcome.token.attempt, ending: ending.clone(), again },
        }));
        if !task.writes.is_empty() {
            let objects = task.writes.clone();
            let published = match ending {
                Ending::Done => task.outputs.iter().map(|(_, o)| o.clone()).collect(),
                _ => vec![],
            };
            step.actions.push(Action::Writing(Writing { task: id, objects, begins: false, published }));
        }
        let seq = (!again).then_some(self.next_seq); // What `finish` is about to use.
        step.actions.push(Action::Learn { outcome: outcome.clone(), seq });
        if again {
            let wait = if ending == Ending::Lost { Span::ZERO } else { spec.backoff.after(attempts) };
            self.again(now, id, now + wait, ending, step);
        } else {
            let state = match ending {
                Ending::Done => State::Done,
                Ending::Cancelled => State::Cancelled,
                _ => State::Failed,
            };
            self.finish(now, id, state, ending, Some(outcome), step);
        }
        Some(())
    }

    pub(super) fn again(&mut self, now: Time, id: TaskId, not_before: Time, ending: Ending, step: &mut Step) {
        let entry = self.tasks.get_mut(&id).expect("it was running a moment ago");
        let attempts = entry.life.attempts();
        let state = if not_before > now { State::Delayed } else { State::Queued };
        entry.not_before = Some(not_before);
        entry.life.go(state, now).expect("a running task can wait again");
        if let Some(until) = entry.task.deadline {
            // No attempt starts after it, also not another one.
            self.queue.limit(id, until);
        }
        step.changes.push(Change::Again { task: id, attempts, not_before, ending });
        self.enqueue(id);
    }

    /// Ends a task, and those that wait for it if it did not get done.
    pub(super) fn finish(
        &mut self,
        now: Time,
        id: TaskId,
        state: State,
        ending: Ending,
        outcome: Option<Arc<Outcome>>,
        step: &mut Step,
    ) {
        let mut todo = vec![(id, state, ending, outcome)];
        while let Some((id, state, ending, outcome)) = todo.pop() {
            if !self.tasks.contains_key(&id) {
                continue; // It waited for two tasks that failed in this same step.
            }
            self.dequeue(id);
            let mut entry = self.tasks.remove(&id).expect("only unfinished tasks are finished");
            entry.life.go(state, now).expect("an unfinished task can end");
            let attempts = entry.life.attempts();
            self.groups.went(entry.group);
            if let Some(until) = entry.task.deadline {
                self.queue.unlimit(id, until);
            }
            self.ended.insert(id, state);
            self.occurrence_ended(id);
            if let Some(key) = &entry.task.key {
                self.key_ended(now, id, entry.task.task_type, key);
            }
            let seq = self.next_seq;
            self.next_seq += 1;
            let task_type = entry.task.task_type;
            step.changes.push(Change::Finished {
                task: id,
                task_type,
                seq,
                state,
                attempts,
                at: now,
                ending,
                outcome,
            });
            step.actions.push(Action::Settled { task: id, state });
            for waiter in self.queue.release(id) {
                if state != State::Done {
                    todo.push((waiter, State::Failed, Ending::DependencyFailed { task: id }, None));
                    continue;
                }
                let entry = self.tasks.get_mut(&waiter).expect("who waits is unfinished");
                entry.waiting_on.remove(&id);
                if entry.waiting_on.is_empty() {
                    let next = first_state(&entry.waiting_on, entry.not_before, now);
                    entry.life.go(next, now).expect("a blocked task can be freed");
                    self.enqueue(waiter);
                }
            }
        }
    }

    /// Time has passed: delayed tasks become ready, and what waited for a better worker is looked at again.
    pub fn tick(&mut self, now: Time) -> Step {
        let mut step = Step::default();
        while let Some(id) = self.queue.due(now) {
            let entry = self.tasks.get_mut(&id).expect("delayed tasks are unfinished");
            entry.life.go(State::Queued, now).expect("a delayed task can become ready");
            self.ready_in(id);
            self.plan_dirty = true;
            self.fired(now, id, &mut step);
        }
        self.expire_keys(now);
        self.arrange_all(now, &mut step);
        while let Some(id) = self.queue.too_late(now) {
            self.miss_deadline(now, id, &mut step);
        }
        self.place_all(now, &mut step);
        step
    }

    /// A waiting task that has not started by its deadline fails; one that runs goes on.
    fn miss_deadline(&mut self, now: Time, id: TaskId, step: &mut Step) {
        let entry = &self.tasks[&id];
        let until = entry.task.deadline.expect("it has a deadline");
        if entry.life.state() == State::Running {
            self.queue.unlimit(id, until);
        } else {
            self.finish(now, id, State::Failed, Ending::TooLate, None, step);
        }
    }

    /// When [`Dispatch::tick`] has something to do, apart from waits for better workers.
    pub fn next_due(&self) -> Option<Time> {
        self.queue.next_due()
    }

    /// Whether a ready task and a free slot wait for nothing but time: then a tick may start something.
    pub fn waits_for_time(&self) -> bool {
        let mut workers = (0..self.workers.len()).map(|w| WorkerId(w as u16));
        self.queue.ready_len() > 0 && workers.any(|w| self.admission.free_slots(w) > 0)
    }

    /// The monitor's heat, replaced whole.
    pub fn heated(&mut self, heat: Heat) {
        self.heat = heat;
    }

    /// One worker's standings, replaced whole.
    pub fn stand(&mut self, standings: Standings) {
        let w = usize::from(standings.worker.0);
        if w >= self.standings.len() {
            return;
        }
        for s in &standings.types {
            self.homes.moved(standings.worker, s.task_type, s.expected);
        }
        let mut best: Vec<(f64, TypeId)> = standings.types.iter().map(|s| (s.speed, s.task_type)).collect();
        best.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        // A type that is not listed counts as average.
        self.best_speed[w] = best.first().map_or(1.0, |b| b.0.max(1.0));
        best.truncate(SCAN);
        self.best_at[w] = best.into_iter().map(|(_, t)| t).collect();
        self.standings[w] = standings.types.into_iter().map(|s| (s.task_type, s)).collect();
    }

    /// A cache has an object now.
    pub fn cached(&mut self, cache: CacheId, object: &ObjectName) {
        self.queue.cached(cache, object);
    }

    /// A cache does not have it any more.
    pub fn evicted(&mut self, cache: CacheId, object: &ObjectName) {
        self.queue.evicted(cache, object);
    }

    // ---- starting ------------------------------------------------------------------------------------------

    pub(super) fn placed(&mut self, now: Time) -> Step {
        let mut step = Step::default();
        self.place_all(now, &mut step);
        step
    }

    /// What a task would take at a worker.
    pub(super) fn claim_of(&self, worker: WorkerId, task: &Task) -> Claim {
        let spec = self.catalogue.get(task.task_type);
        let memory_bytes = match self.standing(worker, task.task_type) {
            Some(s) if s.effective_count >= 1.0 => s.memory_bytes,
            _ => spec.memory_bytes,
        };
        Claim { worker, task_type: task.task_type, place: task.place, memory_bytes }
    }

    pub(super) fn standing(&self, worker: WorkerId, task_type: TypeId) -> Option<&Standing> {
        self.standings.get(usize::from(worker.0))?.get(&task_type)
    }

    pub(super) fn start(&mut self, now: Time, choice: &Choice, step: &mut Step) {
        let Choice { worker, order, factors, lane, .. } = *choice;
        let id = order.1;
        let claim = self.claim_of(worker, &self.tasks[&id].task);
        self.ready_out(id);
        self.admission.take(&claim, self.catalogue.get(claim.task_type));
        let expected = self.standing(worker, claim.task_type).map_or(Span::from_secs(1), |s| s.expected);
        self.groups.started(lane.group, expected);
        self.explorer.placed(worker, lane.task_type, self.random.f64(), self.settings.exploration);
        let entry = self.tasks.get_mut(&id).expect("chosen tasks are unfinished");
        entry.life.go(State::Running, now).expect("a ready task can start");
        let token = Token { epoch: self.epoch, attempt: entry.life.attempts() };
        entry.lease = Some(Box::new(Lease {
            worker,
            token,
            since: now,
            until: now + expected,
            factors,
            cancelled: false,
            claim,
        }));
        let task = entry.task.clone();
        self.held[usize::from(worker.0)].insert(id);
        self.plan_dirty = true;
        step.changes.push(Change::Started { task: id, token, worker, at: now });
        step.actions.push(Action::Decided(Decision {
            at: now,
            what: Decided::Placed { task: id, attempt: token.attempt, worker, factors },
        }));
        if !task.writes.is_empty() {
            let objects = task.writes.clone();
            step.actions.push(Action::Writing(Writing {
                task: id,
                objects,
                begins: true,
                published: vec![],
            }));
        }
        step.actions.push(Action::Assign { worker, task, token, factors });
    }
}

/// Whether an attempt that ended this way is followed by another.
pub(super) fn worth_another(ending: &Ending, attempts: u32, spec: &TaskType) -> bool {
    match ending {
        // A task that changed its input would do so again; the other three ended as they were meant to.
        Ending::Done
        | Ending::Cancelled
        | Ending::InputModified { .. }
        | Ending::DependencyFailed { .. }
        | Ending::TooLate
        | Ending::Skipped { .. } => false,
        Ending::Lost => attempts < spec.attempts.max(LOST_ATTEMPTS),
        Ending::Exited { code } => {
            attempts < spec.attempts
                && (spec.retry_exit_codes.is_empty() || spec.retry_exit_codes.contains(code))
        }
        _ => attempts < spec.attempts,
    }
}
