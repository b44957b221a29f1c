//! Workers and their attempts: what `worker/actor.rs` and `worker/attempt.rs` do, with the world's children.

use super::house::House;
use super::letter::{
    AttemptKey, Letter, ToAttempt, ToCache, ToDispatch, ToPrefetch, ToRoster, ToWorker, Unpinner,
};
use super::world::World;
use crate::flow::{Ending, Found, InputUse, Outcome, TypeId, Usage, WorkerId};
use crate::message::{Assign, NotReady, Ready};
use crate::time::{Span, Time};
use crate::worker::actor::{ProfileKeeper, learn};

/// One attempt on its way.
pub(super) struct Attempt {
    worker: WorkerId,
    assign: Assign,
    began: Time,
    data_wait: Span,
    ready: Vec<Ready>,
    pinned: Vec<u64>,
    /// Whether its child runs.
    runs: bool,
    ended: Option<(Ending, Usage)>,
}

impl Attempt {
    /// Its task's type and entity.
    pub(super) fn about(&self) -> (TypeId, Option<&str>) {
        (self.assign.task.task_type, self.assign.task.entity.as_deref())
    }

    /// As `worker/attempt.rs` puts it together.
    fn outcome(self, now: Time) -> Outcome {
        let (ending, mut usage) = self.ended.expect("it has ended");
        let inputs: Vec<InputUse> = self.ready.into_iter().map(|r| r.input).collect();
        usage.net_bytes = inputs.iter().filter(|i| i.found == Found::Fetched).map(|i| i.bytes).sum();
        let Assign { task, token, at, factors, .. } = self.assign;
        Outcome {
            task: task.id,
            token,
            worker: self.worker,
            task_type: task.task_type,
            entity: task.entity.clone(),
            submitted: task.submitted,
            started: at,
            ended: now,
            ending,
            usage,
            data_wait: self.data_wait,
            inputs,
            factors,
        }
    }
}

impl<W: World> House<W> {
    pub(super) fn at_worker(&mut self, worker: WorkerId, m: ToWorker) {
        match m {
            ToWorker::Assign(assign) => {
                let key = (assign.task.id, assign.token.attempt);
                let attempt = Attempt {
                    worker,
                    assign: assign.clone(),
                    began: self.now,
                    data_wait: Span::ZERO,
                    ready: vec![],
                    pinned: vec![],
                    runs: false,
                    ended: None,
                };
                self.attempts.insert(key, attempt);
                self.arbiter.post(Letter::Attempt(key, ToAttempt::Go));
            }
            ToWorker::Stop(task, token) => {
                self.arbiter.post(Letter::Attempt((task, token.attempt), ToAttempt::Stop));
            }
            ToWorker::Learned(lessons) => {
                let ours = lessons.iter().map(|l| &l.outcome).filter(|o| o.worker == worker);
                let mut nowhere: ProfileKeeper = Box::new(|_, _| {});
                let profile = &mut self.profiles[usize::from(worker.0)];
                for told in learn(profile, &self.smoothing, &mut nowhere, ours) {
                    self.arbiter.post(Letter::Roster(ToRoster::Profiled(told)));
                }
            }
            ToWorker::Freed(key) => self.arbiter.post(Letter::Attempt(key, ToAttempt::Freed)),
        }
    }

    pub(super) fn at_attempt(&mut self, key: AttemptKey, m: ToAttempt) {
        let Some(a) = self.attempts.get_mut(&key) else { return };
        let cache = self.worker_caches[usize::from(a.worker.0)];
        match m {
            ToAttempt::Go => {
                a.began = self.now;
                let inputs = a.assign.task.inputs.clone();
                if inputs.is_empty() {
                    return self.start_child(key);
                }
                self.post_cache(cache, ToCache::Pin(key, inputs));
            }
            ToAttempt::Pinned(held) => {
                a.pinned = held.iter().flatten().map(|h| h.file).collect();
                let inputs = a.assign.task.inputs.iter().cloned().zip(held).collect();
                self.arbiter.post(Letter::Prefetch(ToPrefetch::Demand {
                    attempt: key,
                    cache,
                    worker: a.worker,
                    inputs,
                }));
            }
            ToAttempt::Supplied(Ok(ready)) => {
                a.pinned = ready.iter().filter_map(|r| r.pinned).collect();
                a.ready = ready;
                self.start_child(key);
            }
            ToAttempt::Supplied(Err(NotReady { object, error, released })) => {
                if released {
                    a.pinned.clear();
                }
                a.data_wait = self.now.since(a.began);
                a.ended = Some((Ending::MissingInput { object, error }, Usage::default()));
                self.give_back(key);
            }
            ToAttempt::Exited(ending, usage) => {
                a.runs = false;
                a.ended = Some((ending, usage));
                self.give_back(key);
            }
            ToAttempt::Unpinned => self.arbiter.post(Letter::Worker(a.worker, ToWorker::Freed(key))),
            ToAttempt::Freed => {
                let a = self.attempts.remove(&key).expect("looked at just now");
                let outcome = a.outcome(self.now);
                self.arbiter.send_courier(Letter::Dispatch(ToDispatch::Ended(outcome)));
            }
            // One that waits for its data is ended with its child: nothing that drives a replay cancels tasks.
            ToAttempt::Stop if a.runs => {
                let (task, token) = (a.assign.task.id, a.assign.token);
                self.world.end_child(self.now, task, token);
            }
            ToAttempt::Stop => {}
        }
    }

    fn start_child(&mut self, key: AttemptKey) {
        let a = self.attempts.get_mut(&key).expect("the caller has it");
        a.data_wait = self.now.since(a.began);
        a.runs = true;
        self.world.child(self.now, &a.assign.task, a.assign.token);
    }

    /// Pins first, then the slot; the outcome comes last.
    fn give_back(&mut self, key: AttemptKey) {
        let a = self.attempts.get_mut(&key).expect("the caller has it");
        let (worker, pinned) = (a.worker, std::mem::take(&mut a.pinned));
        if pinned.is_empty() {
            self.arbiter.post(Letter::Worker(worker, ToWorker::Freed(key)));
        } else {
            let cache = self.worker_caches[usize::from(worker.0)];
            self.post_cache(cache, ToCache::Unpin(pinned, Unpinner::Attempt(key)));
        }
    }
}
