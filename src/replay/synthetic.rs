//! `replay run --synthetic`: the dispatch core under a large synthetic load and a virtual clock.
//!
//! A thousand workers of several kinds, thousands of types, up to a million queued tasks. The queue is filled
//! level by level; at each level tasks end, others come in their place, and the wall time of each decision is
//! measured: what an attempt's end costs the core until the slot has its next task. Workers have caches, caches
//! evict, heat changes, plans are made: everything that the daemon tells the core, it is told here.
//!
//! The profiles are warm and stay as they are: the worker's own cores are not driven. What a decision does with
//! them is the same.

use crate::dispatch::{Action, Dispatch, Limits, Settings, Step};
use crate::flow::{
    CacheId, CellId, Ending, Factors, Heat, ObjectName, Outcome, Standing, Standings, TaskId, Token, TypeId,
    Usage, WorkerId,
};
use crate::task::{
    Backoff, Catalogue, Fields, InputMode, Keys, Places, SourcePlace, Submit, Task, TaskType, Template,
    ValuePattern,
};
use crate::time::{Clock, Span, Time};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

/// Kinds of workers: a type runs twice as fast on one of them.
const KINDS: u16 = 16;
/// Caches of the host, each shared by many workers.
const CACHES: u16 = 16;
/// Objects that a cache holds.
const CACHE_OBJECTS: usize = 4_096;
/// Objects that tasks read, one each.
const OBJECTS: u64 = 100_000;
/// Mean time of a task on the right kind of worker.
const MEAN_S: f64 = 1.0;
/// How often heat and plans come, in virtual time.
const HEAT_EVERY: Span = Span::from_secs(1);
const PLAN_EVERY: Span = Span::from_ms(20);
/// Ended tasks that are remembered, as retention would have it.
const KEPT: usize = 100_000;
/// Submits of one request.
const BATCH: usize = 500;

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Workers of one slot, 1 to 10,000.
    pub workers: u16,
    /// Task types, 1 to 60,000.
    pub types: u16,
    /// Most tasks that are queued.
    pub queued: usize,
    /// Tasks that go through, all levels together.
    pub tasks: usize,
    /// Seed of everything that is drawn.
    pub seed: u64,
}

/// What was measured at one length of the queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Level {
    /// Tasks that were queued, before and after each decision.
    pub queued: usize,
    /// Attempts that were placed.
    pub decisions: usize,
    /// From an attempt's end to the next one's start, microseconds.
    pub decision_us_mean: f64,
    /// Half of them took less.
    pub decision_us_p50: f64,
    /// Of a hundred, the slowest but one.
    pub decision_us_p99: f64,
    /// One task taken in, microseconds.
    pub submit_us_mean: f64,
    /// One plan, microseconds.
    pub plan_us_mean: f64,
    /// Resident memory of the whole process, bytes.
    pub rss_bytes: u64,
    /// What one more queued task takes of it, against the level before.
    pub bytes_per_task: Option<f64>,
    /// Share of attempts that ran on the kind of worker that is right for them.
    pub right_share: f64,
    /// Tasks that have ended so far.
    pub ended: usize,
}

/// Runs all levels and hands each over when it is measured.
pub fn run(options: &Options, mut each: impl FnMut(&Level)) -> Vec<Level> {
    let mut levels: Vec<Level> = Vec::new();
    let lengths: Vec<usize> = [1_000, 10_000, 100_000]
        .into_iter()
        .filter(|n| *n < options.queued)
        .chain([options.queued])
        .collect();
    let mut world = World::new(options);
    let share = options.tasks / lengths.len();
    for queued in lengths {
        let filling = world.fill(queued);
        let before = world.ended;
        let mut level = world.play(share);
        level.queued = queued;
        level.submit_us_mean = (filling.0 + level.submit_us_mean * level.decisions as f64)
            / (filling.1 + level.decisions).max(1) as f64;
        level.ended = before + level.decisions;
        level.bytes_per_task = levels
            .last()
            .map(|l| (level.rss_bytes as f64 - l.rss_bytes as f64) / (queued - l.queued).max(1) as f64);
        each(&level);
        levels.push(level);
    }
    levels
}

/// A running attempt: when it ends, and what its worker will report.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Running {
    ends: Time,
    task: TaskId,
    worker: WorkerId,
    attempt: u32,
}

struct World {
    core: Dispatch,
    random: fastrand::Rng,
    wall: Clock,
    now: Time,
    types: u16,
    running: BinaryHeap<Reverse<Running>>,
    tasks: BTreeMap<TaskId, Arc<Task>>,
    caches: Vec<VecDeque<ObjectName>>,
    past: VecDeque<(TaskId, TypeId, Option<Arc<str>>)>,
    next_heat: Time,
    next_plan: Time,
    workers: u16,
    ended: usize,
    right: usize,
    started: usize,
}

impl World {
    fn new(options: &Options) -> World {
        let workers: Vec<_> = (0..options.workers).map(worker).collect();
        let limits = Limits { queued: 2 * options.queued + 10_000, ..Settings::default().limits };
        let settings = Settings { limits, seed: options.seed, ..Settings::default() };
        let source = SourcePlace { name: "objects".into(), cell: CellId(0), shard_by: None, shards: 64 };
        let places = Places::new(vec![source], vec!["cell".into()]);
        let mut core =
            Dispatch::new(settings, Arc::new(catalogue(options.types)), Arc::new(places), workers, 1);
        for w in 0..options.workers {
            core.stand(standings(w, options.types));
        }
        World {
            core,
            random: fastrand::Rng::with_seed(options.seed),
            wall: Clock::start(Time::ZERO),
            now: Time::from_us(1),
            types: options.types,
            running: BinaryHeap::new(),
            tasks: BTreeMap::new(),
            caches: vec![VecDeque::new(); usize::from(CACHES)],
            past: VecDeque::new(),
            next_heat: Time::ZERO,
            next_plan: Time::ZERO,
            workers: options.workers,
            ended: 0,
            right: 0,
            started: 0,
        }
    }

    /// Submits until so many are queued besides those that run; the time it took and how many came.
    fn fill(&mut self, queued: usize) -> (f64, usize) {
        let (mut us, mut n) = (0.0, 0);
        let have = self.core.waiting();
        let mut missing = (queued + usize::from(self.workers)).saturating_sub(have + self.running.len());
        while missing > 0 {
            let batch = missing.min(BATCH);
            us += self.submit(batch);
            n += batch;
            missing -= batch;
        }
        (us, n)
    }

    /// Submits tasks; the core's time in microseconds.
    fn submit(&mut self, n: usize) -> f64 {
        let submits = (0..n).map(|_| self.draw()).collect();
        let began = self.wall.now();
        let (answers, step) = self.core.submit(self.now, submits);
        let us = self.wall.now().since(began).as_us() as f64;
        assert!(answers.iter().all(Result::is_ok), "what is drawn is accepted");
        self.carry_out(step);
        us
    }

    fn draw(&mut self) -> Submit {
        let task_type = self.random.u16(0..self.types);
        // A square makes some objects much wanted and most of them seldom.
        let x = self.random.f64();
        let object = (x * x * OBJECTS as f64) as u64;
        Submit {
            task_type: format!("t{task_type}"),
            entity: Some(format!("e{}", self.random.u32(0..50_000))),
            inputs: vec![format!("objects:o{object}")],
            ..Submit::default()
        }
    }

    fn carry_out(&mut self, step: Step) {
        for action in step.actions {
            let Action::Assign { worker, task, token, .. } = action else { continue };
            let right = is_right(worker.0, task.task_type.0);
            self.started += 1;
            self.right += usize::from(right);
            let s = -(1.0 - self.random.f64()).ln() * MEAN_S * if right { 1.0 } else { 2.0 };
            let ends = self.now + Span::from_s(s.max(1e-3));
            self.hold(CacheId(worker.0 % CACHES), &task.inputs);
            self.running.push(Reverse(Running { ends, task: task.id, worker, attempt: token.attempt }));
            self.tasks.insert(task.id, task);
        }
    }

    /// What a task reads is in its worker's cache from now on, until others push it out.
    fn hold(&mut self, cache: CacheId, objects: &[ObjectName]) {
        let held = &mut self.caches[usize::from(cache.0)];
        for object in objects {
            self.core.cached(cache, object);
            held.push_back(object.clone());
            if held.len() > CACHE_OBJECTS
                && let Some(old) = held.pop_front()
                && !held.contains(&old)
            {
                self.core.evicted(cache, &old);
            }
        }
    }

    /// Lets `n` attempts end, a new task coming for each.
    fn play(&mut self, n: usize) -> Level {
        let mut decision = hdrhistogram::Histogram::<u64>::new(3).expect("three digits can be kept");
        let (mut total_us, mut submit_us, mut plan_us, mut plans) = (0.0, 0.0, 0.0, 0usize);
        let (started, right) = (self.started, self.right);
        for _ in 0..n {
            submit_us += self.submit(1);
            let Some(Reverse(done)) = self.running.pop() else { break };
            self.now = self.now.max(done.ends);
            plan_us += self.facts(&mut plans);
            let task = self.tasks.remove(&done.task).expect("running tasks are kept");
            let outcome = Arc::new(self.outcome(&done, &task));
            let clock = self.wall;
            let began = clock.now();
            let step = self.core.ended(self.now, outcome).expect("the token is the current one");
            let us = clock.now().since(began).as_us();
            decision.saturating_record(us);
            total_us += us as f64;
            self.carry_out(step);
            self.ended += 1;
            self.past.push_back((done.task, task.task_type, None));
            if self.past.len() > KEPT + BATCH {
                let old: Vec<_> = self.past.drain(..BATCH).collect();
                self.core.forget(&old);
            }
        }
        let n = n.max(1) as f64;
        Level {
            queued: 0,
            decisions: n as usize,
            decision_us_mean: total_us / n,
            decision_us_p50: decision.value_at_quantile(0.5) as f64,
            decision_us_p99: decision.value_at_quantile(0.99) as f64,
            submit_us_mean: submit_us / n,
            plan_us_mean: plan_us / plans.max(1) as f64,
            rss_bytes: rss_bytes(),
            bytes_per_task: None,
            right_share: (self.right - right) as f64 / (self.started - started).max(1) as f64,
            ended: 0,
        }
    }

    /// Heat and plans, when their time has come; the plans' time in microseconds.
    fn facts(&mut self, plans: &mut usize) -> f64 {
        if self.now >= self.next_heat {
            self.next_heat = self.now + HEAT_EVERY;
            let mut draw = |_| [(); 4].map(|()| 0.8 * self.random.f64());
            let workers = (0..self.workers).map(&mut draw).collect();
            self.core.heated(Heat { at: self.now, workers, ..Heat::default() });
        }
        if self.now < self.next_plan {
            return 0.0;
        }
        self.next_plan = self.now + PLAN_EVERY;
        *plans += 1;
        let began = self.wall.now();
        let plan = self.core.plan(self.now);
        let us = self.wall.now().since(began).as_us() as f64;
        drop(plan);
        us
    }

    fn outcome(&self, done: &Running, task: &Task) -> Outcome {
        Outcome {
            task: done.task,
            token: Token { epoch: 1, attempt: done.attempt },
            worker: done.worker,
            task_type: task.task_type,
            entity: task.entity.clone(),
            submitted: task.submitted,
            started: self.now,
            ended: self.now,
            ending: Ending::Done,
            usage: Usage::default(),
            data_wait: Span::ZERO,
            inputs: vec![],
            factors: Factors::default(),
        }
    }
}

fn worker(id: u16) -> crate::dispatch::WorkerSpec {
    crate::dispatch::WorkerSpec {
        id: WorkerId(id),
        name: format!("w{id}"),
        slots: 1,
        outside: false,
        types: None,
        cache: CacheId(id % CACHES),
        near: vec![],
        memory_bytes: None,
    }
}

fn is_right(worker: u16, task_type: u16) -> bool {
    (worker / CACHES) % KINDS == task_type % KINDS
}

/// What a worker knows: the types of its kind, at twice the speed of others. Others were not measured.
fn standings(worker: u16, types: u16) -> Standings {
    let own = (0..types).filter(|t| is_right(worker, *t));
    let standing = |t: u16| {
        let mut demand = [0.2; 4];
        demand[usize::from(t % 4)] = 0.4;
        Standing {
            task_type: TypeId(t),
            speed: 2.0,
            affinity: 1.0 / f64::from(types),
            effective_count: 20.0,
            expected: Span::from_s(MEAN_S),
            memory_bytes: 1 << 20,
            demand,
        }
    };
    Standings { worker: WorkerId(worker), types: own.map(standing).collect() }
}

fn catalogue(types: u16) -> Catalogue {
    let argv = Template::parse("true", Fields::Command).expect("a word is a template");
    let entity_pattern = ValuePattern::default();
    let one = |i: u16| TaskType {
        name: format!("t{i}"),
        argv: vec![argv.clone()],
        env: BTreeMap::new(),
        inputs: vec![],
        outputs: vec![],
        writes: vec![],
        entity_pattern: entity_pattern.clone(),
        args: BTreeMap::new(),
        time_limit: Span::from_secs(60),
        kill_grace: Span::from_secs(1),
        attempts: 1,
        backoff: Backoff { first: Span::from_secs(1), factor: 2.0, limit: Span::from_secs(60) },
        retry_exit_codes: vec![],
        concurrency: None,
        rate: None,
        keys: Keys::default(),
        priority: 5,
        input_mode: InputMode::Auto,
        memory_bytes: 1 << 20,
    };
    Catalogue::new((0..types).map(one).collect())
}

/// Resident memory of this process; 0 where the kernel does not tell.
fn rss_bytes() -> u64 {
    let statm = procfs::process::Process::myself().and_then(|p| p.statm());
    statm.map_or(0, |s| s.resident * procfs::page_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_world_goes_through_and_finds_the_right_workers() {
        let options = Options { workers: 64, types: 100, queued: 2_000, tasks: 8_000, seed: 1 };
        let levels = run(&options, |_| ());
        assert_eq!(levels.iter().map(|l| l.queued).collect::<Vec<_>>(), [1_000, 2_000]);
        assert_eq!(levels[1].ended, 8_000);
        // By chance it would be a sixteenth; what waits too long goes elsewhere.
        assert!(levels[1].right_share > 0.25, "{}", levels[1].right_share);
    }
}
