//! The core of dispatch: examples, then random operation lists with the invariants checked after each.

use super::*;
use crate::flow::{
    CacheId, Ending, Factors, ObjectName, Outcome, Standing, Standings, TaskId, Token, TypeId, Usage,
    WorkerId,
};
use crate::task::{
    Catalogue, CatchUp, Overlap, Recurring, State, Submit, WaitingFor, sample_places, sample_type,
};
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
    assert!(assigned(&d.tick(at(250))).is_empty(), "overdue by 150 ms: 75 ms more are still worth it");
    assert_eq!(assigned(&d.tick(at(2_000))), [(2, 0, 1)], "what is late for long is not waited for");
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

#[test]
fn the_next_occurrence_of_a_recurring_task_waits_in_the_queue_and_in_the_plan() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0)]);
    let every_minute = |overlap, catch_up| Recurring {
        cron: "* * * * *".into(),
        zone: "UTC".into(),
        overlap,
        catch_up,
        submit: submit("copy", "a"),
        deadline: None,
    };
    let s = |s: u64| Time::from_us(s * 1_000_000);
    let step = d.set_recurring(s(90), "night", every_minute(Overlap::Skip, CatchUp::One)).unwrap();
    assert!(matches!(
        step.changes[..],
        [Change::RecurringSet { .. }, Change::Submitted { state: State::Delayed, .. }]
    ));
    let plan = d.plan(s(90)).unwrap();
    assert_eq!(plan.later.iter().map(|p| (p.task.0, p.due)).collect::<Vec<_>>(), [(1, s(120))]);
    assert_eq!(plan.later[0].inputs.len(), 2, "staged before it fires");
    assert_eq!(assigned(&d.tick(s(120))), [(1, 0, 1)]);
    // The one before still runs: the next is left out, with that reason, and the one after it waits.
    let step = d.tick(s(180));
    let skipped = step.changes.iter().find_map(|c| match c {
        Change::Finished { task, ending, state, .. } => Some((task.0, ending.clone(), *state)),
        _ => None,
    });
    let reason = crate::flow::Skipped::Overlap;
    assert_eq!(skipped, Some((2, Ending::Skipped { reason }, State::Cancelled)));
    assert_eq!(d.recurring()[0].next, Some((TaskId(3), s(240))));
    // Somebody cancels the one that waits: the next one takes its place.
    d.cancel(s(200), TaskId(3)).unwrap();
    d.tick(s(201));
    assert_eq!(d.recurring()[0].next, Some((TaskId(4), s(300))));
    d.remove_recurring(s(202), "night").unwrap();
    assert_eq!(d.state(TaskId(4)), Some(State::Cancelled));
    assert_eq!(d.state(TaskId(1)), Some(State::Running));
    let error = d.set_recurring(
        s(203),
        "x",
        Recurring { zone: "Mars".into(), ..every_minute(Overlap::Skip, CatchUp::One) },
    );
    assert!(error.unwrap_err().to_string().contains("`Mars` is no time zone"));
}

#[test]
fn missed_occurrences_are_caught_up_with_as_it_was_said() {
    for (catch_up, run, skipped) in [(CatchUp::None, 0, 1), (CatchUp::One, 1, 0), (CatchUp::All, 6, 0)] {
        let mut d = dispatch(Policy::Affinity, vec![worker(0, 16, 0)]);
        let recurring = Recurring {
            cron: "* * * * *".into(),
            zone: "UTC".into(),
            overlap: Overlap::Allow,
            catch_up,
            submit: submit("copy", "a"),
            deadline: None,
        };
        let s = |s: u64| Time::from_us(s * 1_000_000);
        d.set_recurring(s(50), "r", recurring).unwrap();
        // The daemon sleeps from 0:50 to 6:10; the occurrence of 1:00 was on record.
        let mut step = d.tick(s(370));
        let more = d.tick(s(371));
        step.changes.extend(more.changes);
        let started = step.changes.iter().filter(|c| matches!(c, Change::Started { .. })).count();
        let left_out = step.changes.iter().filter(|c| matches!(c, Change::Finished { .. })).count();
        assert_eq!((started, left_out), (run, skipped), "{catch_up:?}");
        assert_eq!(d.recurring()[0].next.unwrap().1, s(420), "{catch_up:?}");
    }
}

#[test]
fn a_paused_group_waits_a_full_one_refuses_and_weights_share_the_slots() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0)]);
    let of = |group: &str, entity: &str| Submit { group: Some(group.into()), ..submit("copy", entity) };
    d.set_group(at(0), "a", |g| g.paused = true).unwrap();
    let (_, step) = d.submit(at(0), vec![of("a", "x")]);
    assert!(assigned(&step).is_empty());
    assert_eq!(d.waiting_for(at(1), TaskId(1)), Some(WaitingFor::PausedGroup { group: "a".into() }));
    d.set_group(at(1), "a", |g| g.max_queued = Some(1)).unwrap();
    let (answers, _) = d.submit(at(1), vec![of("a", "y"), of("b", "y")]);
    assert!(answers[0].as_ref().unwrap_err().to_string().contains("1 tasks of group a"));
    assert_eq!(d.unfinished(Some("a")), 1);
    let step = d.set_group(at(2), "a", |g| *g = GroupSettings { weight: 3.0, ..GroupSettings::default() });
    assert!(assigned(&step.unwrap()).is_empty(), "b runs");
    let all = (0..80).flat_map(|i| [of("a", &format!("a{i}")), of("b", &format!("b{i}"))]).collect();
    d.submit(at(3), all);
    let (mut running, mut starts) = (2, BTreeMap::new());
    for i in 0..40 {
        let attempt = Token { epoch: 1, attempt: 1 };
        let step = d.ended(at(10 + i), outcome(running, 0, attempt, Ending::Done, at(10 + i))).unwrap();
        running = assigned(&step)[0].0;
        let group = d.why(at(10 + i), TaskId(running), false).unwrap().group;
        *starts.entry(group.to_string()).or_insert(0) += 1;
    }
    assert!((29..=32).contains(&starts["a"]), "three times as often: {starts:?}");
}

#[test]
fn a_task_that_has_not_started_by_its_deadline_fails_and_one_that_runs_goes_on() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0)]);
    let by = |ms, entity| Submit { deadline: Some(at(ms)), ..submit("copy", entity) };
    let blocked = Submit { after: vec![TaskId(1)], ..by(60, "c") };
    d.submit(at(0), vec![by(50, "a"), by(50, "b"), blocked]);
    d.tick(at(50));
    assert_eq!(d.state(TaskId(2)), Some(State::Queued), "until then is in time");
    d.tick(at(70));
    assert_eq!(
        [1, 2, 3].map(|t| d.state(TaskId(t)).unwrap()),
        [State::Running, State::Failed, State::Failed]
    );
    end(&mut d, 80, 1, 1, 0, Ending::Done);
    assert_eq!(d.state(TaskId(1)), Some(State::Done));
}

#[test]
fn a_type_with_a_rate_limit_starts_no_faster() {
    let mut copy = sample_type("copy");
    copy.rate = Some(crate::task::Rate { starts: 2, per: Span::from_secs(1) });
    let catalogue = Arc::new(Catalogue::new(vec![copy]));
    let settings = Settings::default();
    let mut d = Dispatch::new(settings, catalogue, Arc::new(sample_places()), vec![worker(0, 9, 0)], 1);
    let (_, step) = d.submit(at(0), (0..5).map(|i| submit("copy", &format!("v{i}"))).collect());
    assert_eq!(assigned(&step).len(), 2);
    assert_eq!(d.waiting_for(at(0), TaskId(3)), Some(WaitingFor::Rate { until: at(500) }));
    assert!(assigned(&d.tick(at(499))).is_empty());
    assert_eq!(assigned(&d.tick(at(500))).len(), 1);
    assert_eq!(assigned(&d.tick(at(2_000))).len(), 2, "saved up to a full bucket");
}

#[test]
fn a_task_of_a_hot_shard_is_passed_by_a_cooler_one_of_its_type() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 2, 0)]);
    let place = |entity: &str| {
        let t = submit("copy", entity).resolve(TaskId(9), at(0), &d.catalogue, &d.places).unwrap();
        t.place.unwrap()
    };
    let entities: Vec<String> = (0..40).map(|i| format!("v{i}")).collect();
    let hot = place(&entities[0]).shard;
    let same = entities.iter().skip(1).find(|e| place(e).shard == hot).unwrap().clone();
    let other = entities.iter().find(|e| place(e).shard != hot).unwrap().clone();
    let mut shards = vec![[0.0; 4]; 8];
    shards[usize::from(hot)] = [0.0, 0.0, 0.95, 0.0];
    d.heated(crate::flow::Heat { shards: vec![shards], ..Default::default() });
    let (_, step) =
        d.submit(at(0), vec![submit("copy", &entities[0]), submit("copy", &same), submit("copy", &other)]);
    assert_eq!(assigned(&step).iter().map(|a| a.0).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(assigned(&end(&mut d, 1, 3, 1, 0, Ending::Done)), [(2, 0, 1)], "idling would help nobody");
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
                Change::Edited { .. }
                | Change::Forgotten { .. }
                | Change::GroupSet { .. }
                | Change::RecurringSet { .. } => {}
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
        d.queue.assert_invariants(ready.map(|e| (&*e.task, e.lane(), e.order())));
        d.homes.assert_invariants(|t| d.queue.ready_of(t));
        for w in &d.workers {
            assert!(d.admission.running(w.id) <= w.slots, "worker {} runs more than its slots", w.name);
            assert_eq!(d.leases(w.id).count(), d.admission.running(w.id) as usize);
        }
        assert!(d.admission.running_of(TypeId(1)) <= 1, "the type's limit holds");
        for g in d.groups() {
            let of = |e: &&core::Entry| *d.groups.name(e.group) == g.name;
            let running = d.tasks.values().filter(of).filter(|e| e.lease.is_some()).count();
            let unfinished = d.tasks.values().filter(of).count();
            assert_eq!(
                (running, unfinished),
                (g.running as usize, g.unfinished as usize),
                "group {}",
                g.name
            );
        }
        let free: Vec<_> =
            d.workers.iter().filter(|w| d.admission.free_slots(w.id) > 0).map(|w| w.id).collect();
        assert!(d.admission.free_workers().eq(free), "the free workers are known");
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
        let step = match r.u8(0..14) {
            12 => {
                let group = if r.bool() { "a" } else { "b" };
                let (paused, limit) = (r.u8(0..4) == 0, r.u32(0..4));
                let set = self.d.set_group(now, group, |g| {
                    g.paused = paused;
                    g.max_running = Some(limit).filter(|l| *l > 0);
                    g.weight = 1.0 + f64::from(limit);
                });
                set.unwrap()
            }
            13 => {
                let workers = (0..2).map(|_| [0; 4].map(|_: u8| r.f64())).collect();
                self.d.heated(crate::flow::Heat { workers, ..Default::default() });
                let standing = |t, r: &mut fastrand::Rng| Standing {
                    task_type: TypeId(t),
                    speed: 0.2 + r.f64() * 3.0,
                    affinity: 0.5,
                    effective_count: 9.0,
                    expected: Span::from_ms(r.u64(1..900)),
                    memory_bytes: 1 << 20,
                    demand: [0.25; 4],
                };
                let types = vec![standing(0, r), standing(1, r)];
                self.d.stand(Standings { worker: WorkerId(r.u16(0..2)), types });
                Step::default()
            }
            0..=3 => {
                let after = if r.u8(0..4) == 0 && self.accepted > 0 { vec![TaskId(id)] } else { vec![] };
                let not_before = (r.u8(0..5) == 0).then(|| now + Span::from_ms(r.u64(0..2_000)));
                let priority = Some(r.u8(0..10));
                let group = [None, Some("a"), Some("b")][r.usize(0..3)].map(str::to_owned);
                let deadline = (r.u8(0..6) == 0).then(|| now + Span::from_ms(2_000 + r.u64(0..4_000)));
                let s = Submit { after, not_before, priority, group, deadline, ..submit(task_type, &entity) };
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
        // A start can make another one worth while, and so can a look that works out where a type is at home: what
        // waits for that home counts from then on. So until nothing starts for two ticks.
        let mut quiet = 0;
        while quiet < 2 {
            let step = self.d.tick(now);
            self.carry_out(&step);
            self.check();
            quiet = if assigned(&step).is_empty() { quiet + 1 } else { 0 };
        }
        for w in 0..2 {
            assert!(self.d.choose(now, WorkerId(w)).is_none(), "worker {w} idles though something may start");
        }
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

#[test]
fn with_few_types_a_worker_gets_the_best_of_all_heads() {
    for seed in 0..40 {
        let mut r = fastrand::Rng::with_seed(seed);
        let types: Vec<_> = (0..12).map(|i| sample_type(&format!("t{i}"))).collect();
        let settings = Settings { late_binding: Span::ZERO, ..Settings::default() };
        let catalogue = Arc::new(Catalogue::new(types));
        let mut d = Dispatch::new(settings, catalogue, Arc::new(sample_places()), vec![worker(0, 1, 0)], 1);
        d.pause();
        let standing = |t: u16, speed: f64| Standing {
            task_type: TypeId(t),
            speed,
            affinity: 0.1,
            effective_count: 9.0,
            expected: Span::from_ms(100),
            memory_bytes: 0,
            demand: [0.25; 4],
        };
        d.stand(Standings {
            worker: WorkerId(0),
            types: (0..12).map(|t| standing(t, 0.3 + r.f64())).collect(),
        });
        for ms in 0..60 {
            let entity = format!("v{}", r.u8(0..20));
            let s = Submit { priority: Some(r.u8(4..6)), ..submit(&format!("t{}", r.u8(0..12)), &entity) };
            d.submit(at(ms * 1_000), vec![s]);
            if r.bool() {
                d.cached(CacheId(0), &ObjectName::new(format!("volumes:{entity}/data.img")));
            }
        }
        let now = at(61_000);
        d.paused = false;
        let got = d.choose(now, WorkerId(0)).unwrap();
        // The plainest way: all ready tasks of the highest class that are the first of their type, or the first
        // of their type with data in the cache.
        let ready: Vec<_> = d.tasks.values().filter(|e| e.priority == 5).collect();
        let local = |e: &&&core::Entry| e.task.inputs.iter().any(|o| d.queue.is_cached(CacheId(0), o));
        let mut best = (0.0, TaskId(0));
        for t in 0..12 {
            let of = |e: &&&core::Entry| e.task.task_type == TypeId(t);
            let head = ready.iter().filter(of).min_by_key(|e| e.task.id);
            let near = ready.iter().filter(of).filter(local).min_by_key(|e| e.task.id);
            for e in head.into_iter().chain(near) {
                let score = score::fit(&d.factors(WorkerId(0), &e.task))
                    * score::age(now.since(e.life.since()), d.settings.ageing);
                best = if score > best.0 { (score, e.task.id) } else { best };
            }
        }
        assert_eq!(got.order.1, best.1, "seed {seed}");
    }
}

#[test]
fn a_worker_that_looked_slow_is_tried_again() {
    let mut d = dispatch(Policy::Affinity, vec![worker(0, 1, 0), worker(1, 1, 0)]);
    d.settings.exploration = 0.5;
    let standing = |ms| Standing {
        task_type: TypeId(0),
        speed: 100.0 / ms as f64,
        affinity: 1.0,
        effective_count: 20.0,
        expected: Span::from_ms(ms),
        memory_bytes: 0,
        demand: [0.25; 4],
    };
    d.stand(Standings { worker: WorkerId(0), types: vec![standing(1_000)] });
    d.stand(Standings { worker: WorkerId(1), types: vec![standing(100)] });
    d.submit(at(0), (0..2).map(|i| submit("copy", &format!("v{i}"))).collect());
    let (mut task, mut ms, mut slow) = (1, 0, 0);
    while slow == 0 && ms < 20_000 {
        ms += 100;
        let (_, came) = d.submit(at(ms), vec![submit("copy", &format!("w{ms}"))]);
        let step = end(&mut d, ms, task, 1, 1, Ending::Done);
        for (id, worker, _) in assigned(&came).into_iter().chain(assigned(&step)) {
            if worker == 0 {
                slow += 1;
            } else {
                task = id;
            }
        }
    }
    assert_eq!(slow, 1, "the slow worker was never tried in 200 placements");
}

#[test]
fn keys_answer_for_whom_and_as_long_as_their_type_says() {
    let mut short = sample_type("short");
    short.keys = crate::task::Keys { host_wide: false, lifetime: Some(Span::ZERO) };
    let mut wide = sample_type("wide");
    wide.keys = crate::task::Keys { host_wide: true, lifetime: Some(Span::from_secs(1)) };
    let mut also = sample_type("also");
    also.keys = wide.keys;
    let catalogue = Arc::new(Catalogue::new(vec![short, wide, also]));
    let workers = vec![worker(0, 9, 0)];
    let mut d = Dispatch::new(Settings::default(), catalogue, Arc::new(sample_places()), workers, 1);
    let put = |d: &mut Dispatch, ms: u64, task_type: &str| {
        let keyed = Submit { key: Some("k".into()), ..submit(task_type, "a") };
        d.submit(at(ms), vec![keyed]).0[0].as_ref().unwrap().task.0
    };
    assert_eq!([put(&mut d, 0, "short"), put(&mut d, 1, "short"), put(&mut d, 2, "wide")], [1, 1, 2]);
    assert_eq!(put(&mut d, 3, "also"), 2, "one space of keys for all that say so");
    end(&mut d, 10, 1, 1, 0, Ending::Done);
    assert_eq!(put(&mut d, 11, "short"), 3, "free again at its end");
    end(&mut d, 20, 2, 1, 0, Ending::Done);
    d.tick(at(1_019));
    assert_eq!(put(&mut d, 1_019, "wide"), 2);
    d.tick(at(1_020));
    assert_eq!(put(&mut d, 1_020, "wide"), 4);
}
