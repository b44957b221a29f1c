//! Facts that reach dispatch: attempts that ended, time, heat, standings, what caches hold; and the starts that
//! follow from them.

use super::admit::Claim;
use super::core::{Dispatch, first_state};
use super::lease::Lease;
use super::place::{Choice, better};
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
            self.ended.insert(id, state);
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
        while let Some(id) = self.queue.due(now) {
            let entry = self.tasks.get_mut(&id).expect("delayed tasks are unfinished");
            entry.life.go(State::Queued, now).expect("a delayed task can become ready");
            self.queue.push(&entry.task, entry.order());
            self.plan_dirty = true;
        }
        self.placed(now)
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

    /// How many tasks have not ended.
    pub fn unfinished(&self) -> usize {
        self.tasks.len()
    }

    /// The monitor's heat, replaced whole.
    pub fn heated(&mut self, heat: Heat) {
        self.heat = heat;
    }

    /// One worker's standings, replaced whole.
    pub fn stand(&mut self, standings: Standings) {
        let w = usize::from(standings.worker.0);
        if w < self.standings.len() {
            self.standings[w] = standings.types.into_iter().map(|s| (s.task_type, s)).collect();
        }
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

    /// Gives free slots to ready tasks until nothing fits any more.
    pub(super) fn place_all(&mut self, now: Time, step: &mut Step) {
        if self.paused || self.draining {
            return;
        }
        let all = (0..self.workers.len()).map(|w| WorkerId(w as u16));
        let mut best: Vec<Option<Choice>> = all.map(|w| self.choose(now, w)).collect();
        while let Some(c) = best.iter().flatten().copied().reduce(better) {
            self.start(now, &c, step);
            // Only those whose favourite is gone or does not fit any more, and the one whose room has changed,
            // need to choose again.
            for (w, favourite) in best.iter_mut().enumerate() {
                let worker = WorkerId(w as u16);
                let gone = |b: &Choice| b.order == c.order || worker == c.worker || !self.still_fits(b);
                if favourite.as_ref().is_some_and(gone) {
                    *favourite = self.choose(now, worker);
                }
            }
        }
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

    fn start(&mut self, now: Time, choice: &Choice, step: &mut Step) {
        let Choice { worker, order, factors, .. } = *choice;
        let id = order.1;
        let task = &self.tasks[&id].task;
        let claim = self.claim_of(worker, task);
        self.queue.remove(task, order);
        self.admission.take(&claim);
        let expected = self.standing(worker, claim.task_type).map_or(Span::from_secs(1), |s| s.expected);
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
        Ending::Done | Ending::Cancelled | Ending::InputModified { .. } | Ending::DependencyFailed { .. } => {
            false
        }
        Ending::Lost => attempts < spec.attempts.max(LOST_ATTEMPTS),
        Ending::Exited { code } => {
            attempts < spec.attempts
                && (spec.retry_exit_codes.is_empty() || spec.retry_exit_codes.contains(code))
        }
        _ => attempts < spec.attempts,
    }
}
