//! The core of dispatch: examples, then random operation lists with the invariants checked after each.

use super::*;
use crate::flow::{
    CacheId, Ending, Factors, ObjectName, Outcome, Standing, Standings, TaskId, Token, TypeId, Usage,
    WorkerId,
};
use crate::task::{Catalogue, State, Submit, WaitingFor, sample_places, sample_type};
use crate::time::{Span, Time};
use std::collections::BTreeMap;
use std::sync::Arc;

fn catalogue() -> Arc<Catalogue> {
    let mut copy = sample_type("copy");
    copy.attempts = 2;
    let mut verify = sample_type("verify");
    verify.writes.clear();
    verify.outputs.clear();
    verify.concurrency = Some(1);
    verify.attempts = 1;
    Arc::new(Catalogue::new(vec![copy, verify]))
}

fn worker(id: u16, slots: u32, cache: u16) -> WorkerSpec {
    WorkerSpec {
        id: WorkerId(id),
        name: format!("w{id}"),
        slots,
        outside: false,
        types: None,
        cache: CacheId(cache),
        near: vec![],
        memory_bytes: None,
    }
}

fn dispatch(policy: Policy, workers: Vec<WorkerSpec>) -> Dispatch {
    let settings = Settings { policy, ..Settings::default() };
    Dispatch::new(settings, catalogue(), Arc::new(sample_places()), workers, 1)
}

fn submit(task_type: &str, entity: &str) -> Submit {
    Submit { task_type: task_type.into(), entity: Some(entity.into()), ..Submit::default() }
}

fn at(ms: u64) -> Time {
    Time::from_us(1_000_000 + ms * 1_000)
}

fn assigned(step: &Step) -> Vec<(u64, u16, u32)> {
    step.actions
        .iter()
        .filter_map(|a| match a {
            Action::Assign { worker, task, token, .. } => Some((task.id.0, worker.0, token.attempt)),
            _ => None,
        })
        .collect()
}

fn outcome(task: u64, worker: u16, token: Token, ending: Ending, now: Time) -> Arc<Outcome> {
    Arc::new(Outcome {
        task: TaskId(task),
        token,
        worker: WorkerId(worker),
        task_type: TypeId(0),
        entity: None,
        submitted: now,
        started: now,
        ended: now,
        ending,
        usage: Usage::default(),
        data_wait: Span::ZERO,
        inputs: vec![],
        factors: Factors::default(),
    })
}

fn end(d: &mut Dispatch, ms: u64, task: u64, attempt: u32, worker: u16, ending: Ending) -> Step {
    let token = Token { epoch: 1, attempt };
    d.ended(at(ms), outcome(task, worker, token, ending, at(ms))).expect("the current token is accepted")
}

#[test]
fn a_submit_starts_at_once_where_a_slot_is_free_and_waits_otherwise() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0)]);
    let (answers, step) = d.submit(at(0), vec![submit("copy", "a"), submit("copy", "b")]);
    assert_eq!(answers.len(), 2);
    assert_eq!(assigned(&step), [(1, 0, 1)]);
    assert_eq!(d.waiting_for(at(1), TaskId(2)), Some(WaitingFor::Slot));
    let step = end(&mut d, 5, 1, 1, 0, Ending::Done);
    assert_eq!(assigned(&step), [(2, 0, 1)]);
    assert_eq!(d.state(TaskId(1)), Some(State::Done));
}

#[test]
fn the_start_is_among_the_changes_that_precede_the_assignment() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0)]);
    let (_, step) = d.submit(at(0), vec![submit("copy", "a")]);
    assert!(matches!(step.changes[..], [Change::Submitted { .. }, Change::Started { .. }]));
}

#[test]
fn priority_goes_before_age_and_affinity_decides_between_workers() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0), worker(1, 1, 1)]);
    let standing = |speed| Standing {
        task_type: TypeId(0),
        speed,
        affinity: 0.5,
        effective_count: 20.0,
        expected: Span::from_secs(1),
        memory_bytes: 1 << 20,
        demand: [0.25; 4],
    };
    d.stand(Standings { worker: WorkerId(1), types: vec![standing(3.0)] });
    d.stand(Standings { worker: WorkerId(0), types: vec![standing(1.0)] });
    let (_, step) = d.submit(at(0), vec![submit("copy", "a")]);
    assert_eq!(assigned(&step), [(1, 1, 1)], "the faster worker gets it");
    d.pause();
    let urgent = Submit { priority: Some(9), ..submit("copy", "c") };
    d.submit(at(1), vec![submit("copy", "b"), urgent]);
    assert_eq!(assigned(&d.resume(at(2))), [(3, 0, 1)], "class 9 before the older class 5");
}

#[test]
fn data_in_a_cache_draws_its_readers_there() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0), worker(1, 1, 1)]);
    for name in ["volumes:b/manifest.json", "volumes:b/data.img"] {
        d.cached(CacheId(1), &ObjectName::new(name));
    }
    let (_, step) = d.submit(at(0), vec![submit("copy", "b")]);
    assert_eq!(assigned(&step), [(1, 1, 1)]);
}

#[test]
fn heat_moves_work_away() {
    let mut d = dispatch(Policy::Heat, vec![worker(0, 1, 0), worker(1, 1, 0)]);
    d.heated(crate::flow::Heat { workers: vec![[0.9; 4], [0.1; 4]], ..Default::default() });
    let (_, step) = d.submit(at(0), vec![submit("copy", "a")]);
    assert_eq!(assigned(&step), [(1, 1, 1)]);
}

#[test]
fn a_type_keeps_its_limit() {
    let mut d = dispatch(Policy::Fifo, vec![worker(0, 4, 0)]);
    let (_, step) = d.submit(at(0), vec![submit("verify", "a"), submit("verify", "b")]);
    assert_eq!(assigned(&step), [(1, 0, 1)]);
    assert_eq!(d.waiting_for(at(0), TaskId(2)), Some(WaitingFor::Limit { limit: 1 }));
}

#[test]
fn a_failed_attempt_backs_off_and_the_last_one_fails_the_task() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0)]);
    d.submit(at(0), vec![submit("copy", "a")]);
    end(&mut d, 10, 1, 1, 0, Ending::Exited { code: 1 });
    assert_eq!(d.state(TaskId(1)), Some(State::Delayed));
    assert_eq!(d.next_due(), Some(at(1010)));
    assert!(assigned(&d.tick(at(1009))).is_empty());
    assert_eq!(assigned(&d.tick(at(1010))), [(1, 0, 2)]);
    end(&mut d, 1020, 1, 2, 0, Ending::Exited { code: 1 });
    assert_eq!(d.state(TaskId(1)), Some(State::Failed));
}

#[test]
fn a_late_completion_changes_nothing() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0)]);
    d.submit(at(0), vec![submit("copy", "a")]);
    let old = Token { epoch: 0, attempt: 1 };
    assert!(d.ended(at(1), outcome(1, 0, old, Ending::Done, at(1))).is_none());
    assert_eq!(d.state(TaskId(1)), Some(State::Running));
    end(&mut d, 2, 1, 1, 0, Ending::Done);
    let twice = Token { epoch: 1, attempt: 1 };
    assert!(d.ended(at(3), outcome(1, 0, twice, Ending::Done, at(3))).is_none());
}

#[test]
fn a_lost_attempt_is_repeated_at_once_but_not_for_ever() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0)]);
    d.submit(at(0), vec![submit("verify", "a")]);
    for attempt in 1..LOST_ATTEMPTS {
        let step = end(&mut d, 1, 1, attempt, 0, Ending::Lost);
        assert_eq!(
            assigned(&step),
            [(1, 0, attempt + 1)],
            "the type allows one attempt, but it was not to blame"
        );
    }
    end(&mut d, 2, 1, LOST_ATTEMPTS, 0, Ending::Lost);
    assert_eq!(d.state(TaskId(1)), Some(State::Failed));
}

#[test]
fn dependents_wait_start_and_fail_with_what_they_wait_for() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 2, 0)]);
    let after =
        |ids: &[u64]| Submit { after: ids.iter().map(|i| TaskId(*i)).collect(), ..submit("verify", "x") };
    d.submit(at(0), vec![submit("copy", "a"), submit("copy", "b")]);
    d.submit(at(0), vec![after(&[1]), after(&[1, 2]), after(&[2, 4])]);
    assert_eq!(d.waiting_for(at(0), TaskId(4)), Some(WaitingFor::Dependency { task: TaskId(1) }));
    assert_eq!(assigned(&end(&mut d, 1, 1, 1, 0, Ending::Done)), [(3, 0, 1)]);
    end(&mut d, 2, 2, 1, 0, Ending::InputModified { object: ObjectName::new("volumes:b/data.img") });
    for id in [2, 4, 5] {
        assert_eq!(d.state(TaskId(id)), Some(State::Failed), "task {id}");
    }
    let (answers, _) = d.submit(at(3), vec![after(&[4]), after(&[99])]);
    assert_eq!(d.state(answers[0].as_ref().unwrap().task), Some(State::Failed), "born broken");
    assert_eq!(answers[1], Err(SubmitError::UnknownDependency { task: TaskId(99) }));
}

#[test]
fn a_key_gives_the_same_task_until_it_is_forgotten() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0)]);
    let keyed = || Submit { key: Some("k".into()), ..submit("copy", "a") };
    let (a, _) = d.submit(at(0), vec![keyed(), keyed()]);
    assert_eq!(a[1], Ok(Submitted { task: TaskId(1), existing: true }));
    end(&mut d, 1, 1, 1, 0, Ending::Done);
    let (a, step) = d.submit(at(2), vec![keyed()]);
    assert_eq!((a[0].as_ref().unwrap().existing, step.changes.len()), (true, 0));
    d.forget(&[(TaskId(1), TypeId(0), Some("k".into()))]);
    let (a, _) = d.submit(at(3), vec![keyed()]);
    assert!(!a[0].as_ref().unwrap().existing);
}

#[test]
fn cancelling_a_running_task_ends_its_attempt_first() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0)]);
    d.submit(at(0), vec![submit("copy", "a"), submit("copy", "b")]);
    let step = d.cancel(at(1), TaskId(1)).unwrap();
    assert!(step.changes.is_empty() && matches!(step.actions[..], [Action::Stop { .. }]));
    assert_eq!(d.state(TaskId(1)), Some(State::Running));
    end(&mut d, 2, 1, 1, 0, Ending::Signalled { signal: 15 });
    assert_eq!(d.state(TaskId(1)), Some(State::Cancelled));
    assert!(d.cancel(at(3), TaskId(1)).unwrap_err().to_string().contains("is cancelled"));
}

#[test]
fn a_retry_keeps_its_tokens_unique() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0)]);
    d.submit(at(0), vec![submit("verify", "a")]);
    let task = d.why(at(0), TaskId(1), false).unwrap().task;
    end(&mut d, 1, 1, 1, 0, Ending::Exited { code: 3 });
    let step = d.retry(at(2), task.clone(), 1).unwrap();
    assert_eq!(assigned(&step), [(1, 0, 2)], "attempt 2, not attempt 1 again");
    assert!(d.retry(at(3), task, 1).unwrap_err().to_string().contains("is running"));
}

#[test]
fn a_full_queue_refuses_and_a_draining_daemon_too() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0)]);
    d.settings.limits.queued = 1;
    let (a, _) = d.submit(at(0), vec![submit("copy", "a"), submit("copy", "b")]);
    assert_eq!(a[1], Err(SubmitError::Full { limit: 1 }));
    d.drain();
    let (a, _) = d.submit(at(0), vec![submit("copy", "c")]);
    assert_eq!(a[0], Err(SubmitError::Draining));
}

#[test]
fn a_task_waits_briefly_for_the_clearly_better_worker() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0), worker(1, 1, 0)]);
    let standing = |speed, ms| Standing {
        task_type: TypeId(0),
        speed,
        affinity: 1.0,
        effective_count: 20.0,
        expected: Span::from_ms(ms),
        memory_bytes: 0,
        demand: [0.25; 4],
    };
    d.stand(Standings { worker: WorkerId(0), types: vec![standing(0.2, 1000)] });
    d.stand(Standings { worker: WorkerId(1), types: vec![standing(2.0, 100)] });
    let (_, step) = d.submit(at(0), vec![submit("copy", "a"), submit("copy", "b")]);
    assert_eq!(assigned(&step), [(1, 1, 1)], "the second waits for the fast one");
    assert_eq!(d.waiting_for(at(1), TaskId(2)), Some(WaitingFor::Better { worker: WorkerId(1) }));
    assert_eq!(assigned(&d.tick(at(250))), [(2, 0, 1)], "but not for ever");
}

#[test]
fn the_plan_names_what_comes_next_and_where() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0)]);
    let later = Submit { not_before: Some(at(60_000)), ..submit("copy", "late") };
    let blocked = Submit { after: vec![TaskId(1)], ..submit("verify", "a") };
    d.submit(at(0), vec![submit("copy", "a"), submit("copy", "b"), later, blocked]);
    let plan = d.plan(at(0)).expect("something changed");
    assert_eq!(plan.next.iter().map(|p| p.task.0).collect::<Vec<_>>(), [2]);
    assert_eq!(plan.later.iter().map(|p| p.task.0).collect::<Vec<_>>(), [4, 3], "soonest first");
    assert_eq!(plan.next[0].inputs.len(), 2);
    assert!(d.plan(at(0)).is_none(), "nothing changed since");
}

#[test]
fn recovery_puts_everything_back_and_repeats_what_was_lost() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0)]);
    d.submit(at(0), vec![submit("copy", "a"), submit("copy", "b")]);
    let task = |id| d.why(at(0), TaskId(id), false).unwrap().task;
    let recovered =
        |id, state, attempts| Recovered { task: task(id), state, attempts, priority: 5, not_before: None };
    let live = vec![recovered(1, State::Running, 1), recovered(2, State::Queued, 0)];
    let mut e = dispatch(Policy::Affinity, vec![worker(0, 1, 0)]);
    e.epoch = 2;
    let step = e.recover(at(9), (3, 1), std::iter::empty(), std::iter::empty(), live);
    assert!(matches!(
        step.changes[..],
        [Change::Again { task: TaskId(1), attempts: 1, ending: Ending::Lost, .. }]
    ));
    assert_eq!(assigned(&e.tick(at(9))), [(1, 0, 2)]);
    let (a, _) = e.submit(at(10), vec![submit("copy", "c")]);
    assert_eq!(a[0].as_ref().unwrap().task, TaskId(3), "numbers go on");
}

/// A little world around the core: what a correct daemon would know, kept in the plainest way.
struct World {
    d: Dispatch,
    now: u64,
    running: BTreeMap<u64, (u16, u32)>,
    finished: BTreeMap<u64, State>,
    accepted: u64,
}

impl World {
    fn carry_out(&mut self, step: &Step) {
        for change in &step.changes {
            match change {
                Change::Submitted { .. } => self.accepted += 1,
                Change::Finished { task, state, .. } => {
                    let twice = self.finished.insert(task.0, *state);
                    assert_eq!(twice, None, "task {task} finished twice");
                    self.running.remove(&task.0);
                }
                Change::Again { task, .. } => {
                    self.running.remove(&task.0).expect("only a running task goes again");
                }
                Change::Started { task, token, worker, .. } => {
                    let twice = self.running.insert(task.0, (worker.0, token.attempt));
                    assert_eq!(twice, None, "task {task} was started twice");
                }
                Change::Reopened { task, .. } => {
                    self.finished.remove(&task.0).expect("only a finished task is reopened");
                }
                Change::Edited { .. } | Change::Forgotten { .. } => {}
            }
        }
    }

    fn check(&self) {
        let d = &self.d;
        assert_eq!(d.tasks.len() + d.ended.len(), self.accepted as usize, "no task is lost");
        assert_eq!(d.running(), self.running.len(), "leases are those that were started");
        for (id, state) in &self.finished {
            assert_eq!(d.ended.get(&TaskId(*id)), Some(state));
        }
        let ready = d.tasks.values().filter(|e| e.life.state() == State::Queued);
        d.queue.assert_invariants(ready.map(|e| (&*e.task, e.order())));
        for w in &d.workers {
            assert!(d.admission.running(w.id) <= w.slots, "worker {} runs more than its slots", w.name);
            assert_eq!(d.leases(w.id).count(), d.admission.running(w.id) as usize);
        }
        assert!(d.admission.running_of(TypeId(1)) <= 1, "the type's limit holds");
        for e in d.tasks.values().filter(|e| e.life.state() == State::Blocked) {
            assert!(e.waiting_on.iter().all(|t| d.tasks.contains_key(t)), "blocked by something unfinished");
            assert!(!e.waiting_on.is_empty());
        }
    }

    fn random_step(&mut self, r: &mut fastrand::Rng) {
        self.now += r.u64(0..400);
        let now = at(self.now);
        let entity = format!("v{}", r.u8(0..6));
        let task_type = if r.bool() { "copy" } else { "verify" };
        let id = r.u64(1..=self.accepted.max(1));
        let step = match r.u8(0..12) {
            0..=3 => {
                let after = if r.u8(0..4) == 0 && self.accepted > 0 { vec![TaskId(id)] } else { vec![] };
                let not_before = (r.u8(0..5) == 0).then(|| now + Span::from_ms(r.u64(0..2_000)));
                let priority = Some(r.u8(0..10));
                let s = Submit { after, not_before, priority, ..submit(task_type, &entity) };
                self.d.submit(now, vec![s]).1
            }
            4..=7 => self.end_one(r, now),
            8 => self.d.cancel(now, TaskId(id)).unwrap_or_default(),
            9 => {
                let edit = Edit {
                    priority: Some(r.u8(0..10)),
                    not_before: r.bool().then(|| now + Span::from_ms(50)),
                };
                self.d.edit(now, TaskId(id), &edit).unwrap_or_default()
            }
            10 => {
                let object = ObjectName::new(format!("volumes:{entity}/data.img"));
                let cache = CacheId(r.u16(0..2));
                if r.bool() {
                    self.d.cached(cache, &object)
                } else {
                    self.d.evicted(cache, &object)
                }
                Step::default()
            }
            _ => self.d.tick(now),
        };
        self.carry_out(&step);
        self.check();
        self.d.plan(now);
    }

    fn end_one(&mut self, r: &mut fastrand::Rng, now: Time) -> Step {
        let Some((&id, &(worker, attempt))) = self.running.iter().nth(r.usize(0..self.running.len().max(1)))
        else {
            return Step::default();
        };
        let ending = match r.u8(0..6) {
            0 => Ending::Exited { code: 2 },
            1 => Ending::Lost,
            2 => Ending::TimedOut,
            _ => Ending::Done,
        };
        let token = Token { epoch: 1, attempt };
        self.d.ended(now, outcome(id, worker, token, ending, now)).expect("the current token is accepted")
    }
}

#[test]
fn random_operations_lose_nothing_and_finish_nothing_twice() {
    for policy in [Policy::Affinity, Policy::Heat, Policy::Random, Policy::Fifo] {
        for seed in 0..25 {
            let mut r = fastrand::Rng::with_seed(seed);
            let d = dispatch(policy, vec![worker(0, 2, 0), worker(1, 1, 1)]);
            let mut w = World { d, now: 0, running: BTreeMap::new(), finished: BTreeMap::new(), accepted: 0 };
            for _ in 0..400 {
                w.random_step(&mut r);
            }
        }
    }
}
