//! The host: a FIFO queue, slots, one pool, one source; every decision by the daemon's own cores.

use super::network::{self, Network};
use super::workload::{Job, Stream};
use crate::cache::{self, CacheCore, FileId, Limits, Policy};
use crate::flow::{
    Arrived, CacheId, CellId, Ending as TaskEnding, Factors, Found, InputUse, Map, ObjectName, Outcome, Plan,
    Planned, SourceId, TaskId, Token, Usage, WorkerId,
};
use crate::message::{Cached, Purpose};
use crate::predict::lookahead::{self, Lookahead};
use crate::prefetch::agenda::{self, Agenda, Derived};
use crate::prefetch::flights::{self, Answer, Budget, Class, Ending, FlightId, Flights, Key, Waiter, Want};
use crate::prefetch::ledger::Line;
use crate::prefetch::source::Error;
use crate::task::{Catalogue, Places, SourcePlace};
use crate::time::{Span, Time};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

const POOL: CacheId = CacheId(0);
const WORKER: WorkerId = WorkerId(0);
const SOURCE: SourceId = SourceId(0);
/// How often the agenda looks at the time.
const TICK: Span = Span::from_ms(20);
/// A task reads its inputs at this speed, bytes per second.
const READ_PER_S: f64 = 1.6e9;

/// What a run is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of the agenda.
    pub staging: agenda::Settings,
    /// Of the look ahead.
    pub lookahead: lookahead::Settings,
    /// The pool's size, bytes.
    pub capacity_bytes: u64,
    /// Slots.
    pub slots: usize,
    /// The network.
    pub line: network::Line,
}

/// What a run gave.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// From submit to end, by task, seconds.
    pub latency_s: Vec<f64>,
    /// Time that slots idled for data, by task, seconds.
    pub data_wait_s: Vec<f64>,
    /// Bytes over the network.
    pub fetched_bytes: f64,
    /// Inputs found whole, and all.
    pub found: (u64, u64),
    /// Staging transfers that landed, those used, and requests that the pool refused.
    pub staged: (u64, u64, u64),
    /// The ledger's sum.
    pub ledger: Line,
}

impl Report {
    /// Mean latency, seconds.
    pub fn mean_s(&self) -> f64 {
        self.latency_s.iter().sum::<f64>() / self.latency_s.len() as f64
    }
    /// Mean data wait, seconds.
    pub fn wait_s(&self) -> f64 {
        self.data_wait_s.iter().sum::<f64>() / self.data_wait_s.len() as f64
    }
    /// A quantile of latency, seconds.
    pub fn quantile_s(&self, q: f64) -> f64 {
        let mut sorted = self.latency_s.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * q) as usize]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrives(usize),
    Ends(usize),
    Ticks,
}

struct Running {
    started: Time,
    ready: Time,
    waiting: usize,
    inputs: Vec<InputUse>,
    pins: Vec<FileId>,
}

/// The whole of it.
pub struct Host<'a> {
    stream: &'a Stream,
    now: Time,
    seq: u64,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    queue: VecDeque<usize>,
    free_slots: usize,
    running: Map<usize, Running>,
    left: usize,
    cache: CacheCore,
    flights: Flights,
    network: Network,
    agenda: Agenda,
    lookahead: Lookahead,
    /// Room of each transfer; `None` is a private file.
    rooms: Map<FlightId, Option<FileId>>,
    waiters: Map<Waiter, (usize, usize)>,
    staging: Map<Waiter, Key>,
    by_key: Map<Key, Waiter>,
    next_waiter: u64,
    report: Report,
}

impl<'a> Host<'a> {
    /// A host with an empty pool before the first task.
    pub fn new(stream: &'a Stream, options: &Options) -> Host<'a> {
        let source = SourcePlace { name: "volumes".into(), cell: CellId(0), shard_by: None, shards: 1 };
        let places = Arc::new(Places::new(vec![source], vec!["nas".into()]));
        let on = options.staging.mode == agenda::Mode::On;
        let limits = Limits {
            capacity_bytes: options.capacity_bytes,
            min_free_bytes: 0,
            policy: Policy::Lru,
            rank_by_forecast: on,
            learning: false,
        };
        let mut flights =
            Flights::new(Budget { bytes_per_s: f64::INFINITY, connections: options.staging.connections });
        let source =
            flights::SourceLimits { connections: 16, bytes_per_s: None, retry: flights::Retry::default() };
        flights.set_source(SOURCE, source, Time::ZERO, &mut Vec::new());
        let n = stream.jobs.len();
        Host {
            stream,
            now: Time::ZERO,
            seq: 0,
            events: BinaryHeap::new(),
            queue: VecDeque::new(),
            free_slots: options.slots,
            running: Map::default(),
            left: n,
            cache: CacheCore::new(limits),
            flights,
            network: Network::new(options.line.clone()),
            agenda: Agenda::new(options.staging.clone(), places, Arc::new(Catalogue::new(vec![]))),
            lookahead: Lookahead::new(options.lookahead.clone()),
            rooms: Map::default(),
            waiters: Map::default(),
            staging: Map::default(),
            by_key: Map::default(),
            next_waiter: 0,
            report: Report { latency_s: vec![0.0; n], data_wait_s: vec![0.0; n], ..Report::default() },
        }
    }

    /// Runs the stream to its end.
    pub fn run(mut self) -> Report {
        for (i, job) in self.stream.jobs.iter().enumerate() {
            self.at(job.at, Event::Arrives(i));
        }
        self.at(Time::ZERO + TICK, Event::Ticks);
        while self.left > 0 {
            let next = self.events.peek().map_or(Time::MAX, |e| e.0.0);
            match self.network.next_event() {
                Some(at) if at <= next => self.pass(at),
                _ => {
                    let Some(Reverse((at, _, event))) = self.events.pop() else { break };
                    self.pass(at);
                    self.happens(event);
                }
            }
        }
        self.report.fetched_bytes = self.network.moved_bytes;
        self.report.ledger = self.agenda.ledger().total();
        self.report
    }

    fn at(&mut self, at: Time, event: Event) {
        self.seq += 1;
        self.events.push(Reverse((at, self.seq, event)));
    }

    /// Time passes; transfers end.
    fn pass(&mut self, to: Time) {
        self.now = self.now.max(to);
        for (id, transfer) in self.network.advance(self.now) {
            let ending = match transfer.bytes {
                None => {
                    if let Some(Some(file)) = self.rooms.remove(&id) {
                        self.cache.cancel(file);
                    }
                    Ending::Failed { error: Error::Missing { object: transfer.object }, partial_bytes: 0 }
                }
                Some(bytes) => self.landed(id, transfer.object, bytes),
            };
            let mut out = Vec::new();
            self.flights.finished(id, ending, self.now, &mut out);
            self.carry_out(out);
        }
    }

    fn landed(&mut self, id: FlightId, object: ObjectName, bytes: u64) -> Ending {
        self.agenda.measured(&object, bytes);
        let room = self.rooms.remove(&id).flatten();
        let Some(file) = room.filter(|_| self.flights.is_current(id)) else {
            return Ending::Landed { bytes, ttfb: Span::ZERO };
        };
        match self.cache.commit(file, bytes, None, self.now) {
            Ok(victims) => {
                self.gone(victims, false);
                self.cached(&object, bytes, true, false, false);
                Ending::Landed { bytes, ttfb: Span::ZERO }
            }
            // A task that waits has it all the same.
            Err(_) => Ending::Landed { bytes, ttfb: Span::ZERO },
        }
    }

    fn gone(&mut self, victims: Vec<cache::Victim>, for_staging: bool) {
        for v in victims {
            let unused = v.entry.staged && !v.entry.used;
            self.cached(&v.entry.object, v.entry.bytes, false, unused, for_staging);
        }
    }

    fn cached(&mut self, object: &ObjectName, bytes: u64, there: bool, unused: bool, for_staging: bool) {
        let fact = Cached { cache: POOL, object: object.clone(), bytes, there, unused, for_staging };
        self.agenda.cached(&fact, self.now);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Arrives(i) => self.arrives(i),
            Event::Ends(i) => self.ends(i),
            Event::Ticks => {
                let mut out = Vec::new();
                for (id, done, all) in self.network.progress() {
                    self.flights.progress(id, done, all, self.now, &mut out);
                }
                self.flights.tick(self.now, &mut out);
                self.carry_out(out);
                self.attend();
                self.at(self.now + TICK, Event::Ticks);
            }
        }
    }

    fn arrives(&mut self, i: usize) {
        let job = self.job(i);
        let arrived = Arrived {
            task: TaskId(i as u64 + 1),
            task_type: job.task_type,
            entity: Some(job.entity.clone()),
            at: self.now,
            inputs: job.inputs.clone(),
        };
        self.agenda.arrived(&arrived, WORKER, POOL);
        self.queue.push_back(i);
        self.lookahead_arrived(job);
        self.dispatch();
        self.foresee(&job.entity);
    }

    fn job(&self, i: usize) -> &'a Job {
        &self.stream.jobs[i]
    }

    fn lookahead_arrived(&mut self, job: &Job) {
        self.lookahead.arrived_reading(self.now, &job.entity, job.task_type, &job.inputs);
    }
    fn lookahead_ended(&mut self, job: &Job) {
        self.lookahead.ended_reading(job.at, self.now, &job.entity, job.task_type, &job.inputs);
    }

    /// What the entity is expected to bring, with the objects that the types' templates name.
    fn foresee(&mut self, entity: &Arc<str>) {
        let mut derived = Vec::new();
        for expected in self.lookahead.expected(entity, self.now) {
            let file = match expected.task_type.0 {
                0 => "manifest",
                2 => "bitmap",
                4 => "index",
                _ => continue,
            };
            let object = ObjectName::new(format!("volumes:{entity}/{file}"));
            derived.push(Derived { object, worker: WORKER, cache: POOL, expected });
        }
        for (object, expected) in self.lookahead.expected_objects(entity, self.now) {
            match derived.iter_mut().find(|d| d.object == object) {
                // Summed over the paths by object, not by type: the better of the two.
                Some(d) => d.expected = expected,
                None => derived.push(Derived { object, worker: WORKER, cache: POOL, expected }),
            }
        }
        self.agenda.foreseen(entity, derived, self.now);
        self.attend();
    }

    fn dispatch(&mut self) {
        while self.free_slots > 0 {
            let Some(i) = self.queue.pop_front() else { break };
            self.free_slots -= 1;
            self.assign(i);
        }
        let next = self.queue.iter().map(|i| self.planned(*i)).collect();
        self.agenda.planned(&Plan { at: self.now, next, ..Plan::default() });
        self.attend();
    }

    fn planned(&self, i: usize) -> Planned {
        let job = self.job(i);
        Planned {
            task: TaskId(i as u64 + 1),
            task_type: job.task_type,
            entity: Some(job.entity.clone()),
            worker: WORKER,
            cache: POOL,
            due: self.now,
            inputs: job.inputs.clone(),
        }
    }

    fn assign(&mut self, i: usize) {
        let job = self.job(i);
        let mut run =
            Running { started: self.now, ready: self.now, waiting: 0, inputs: Vec::new(), pins: Vec::new() };
        let mut missing = Vec::new();
        for (k, object) in job.inputs.iter().enumerate() {
            let hit = self.cache.touch(object, self.now);
            let found = if hit.is_some() { Found::Cached } else { Found::Fetched };
            let staged = hit.as_ref().is_some_and(|h| h.first_use_of_staged);
            let bytes = self.stream.sizes[object];
            run.inputs.push(InputUse { object: object.clone(), bytes, found, staged, wait: Span::ZERO });
            match hit.and_then(|_| self.cache.pin(object)) {
                Some(file) => run.pins.push(file),
                None => missing.push(k),
            }
            self.report.found.1 += 1;
            self.report.found.0 += u64::from(found == Found::Cached);
            self.report.staged.1 += u64::from(staged);
        }
        run.waiting = missing.len();
        self.running.insert(i, run);
        for k in missing {
            let key = Key { pool: POOL, object: job.inputs[k].clone() };
            let waiter = self.waiter();
            self.waiters.insert(waiter, (i, k));
            self.want(waiter, key, Class::Demand, self.now);
        }
        self.go_if_ready(i);
    }

    fn waiter(&mut self) -> Waiter {
        self.next_waiter += 1;
        Waiter(self.next_waiter)
    }

    fn want(&mut self, waiter: Waiter, key: Key, class: Class, due: Time) {
        let bytes = self.agenda.sizes().known(&key.object);
        let want = Want { waiter, key, source: SOURCE, class, due, bytes };
        let mut out = Vec::new();
        self.flights.want(want, self.now, &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, actions: Vec<flights::Action>) {
        for action in actions {
            match action {
                flights::Action::Start { flight, key, class, connections, .. } => {
                    self.start(flight, key, class, connections);
                }
                flights::Action::SetClass { flight, class } => {
                    self.network.set_class(flight, class);
                    if let Some(Some(file)) = self.rooms.get(&flight).filter(|_| class == Class::Demand) {
                        self.cache.raise(*file);
                    }
                }
                flights::Action::Stop { flight } => {
                    if self.network.stop(flight).is_some() {
                        if let Some(Some(file)) = self.rooms.remove(&flight) {
                            self.cache.cancel(file);
                        }
                        let mut out = Vec::new();
                        self.flights.finished(
                            flight,
                            Ending::Stopped { partial_bytes: 0 },
                            self.now,
                            &mut out,
                        );
                        self.carry_out(out);
                    }
                }
                flights::Action::Rate { staging_bytes_per_s, .. } => {
                    self.network.staging_per_s = staging_bytes_per_s
                }
                flights::Action::Answer { waiter, key, answer } => self.answer(waiter, &key, answer),
            }
        }
    }

    fn start(&mut self, flight: FlightId, key: Key, class: Class, connections: u16) {
        let guess = self.agenda.sizes().guess(&key.object);
        let purpose = match self.agenda.purpose(&key, class) {
            Purpose::Demand => cache::Purpose::Demand,
            Purpose::Forecast { due, p } => cache::Purpose::Forecast(cache::Need { due, p }),
            Purpose::Learned => cache::Purpose::Learned,
            Purpose::Named => cache::Purpose::Named,
        };
        match self.cache.reserve(&key.object, guess, purpose, self.now) {
            Ok((file, victims)) => {
                self.rooms.insert(flight, Some(file));
                self.gone(victims, class == Class::Staging);
            }
            Err(_) if class == Class::Demand => _ = self.rooms.insert(flight, None),
            Err(why) => {
                self.report.staged.2 += 1;
                let error = Error::NoRoom { object: key.object, reason: why.to_string() };
                let mut out = Vec::new();
                self.flights.finished(flight, Ending::Failed { error, partial_bytes: 0 }, self.now, &mut out);
                return self.carry_out(out);
            }
        }
        let bytes = self.stream.sizes.get(&key.object).copied();
        self.network.start(flight, key.object, bytes, class, connections);
    }

    fn answer(&mut self, waiter: Waiter, key: &Key, answer: Answer) {
        if self.staging.remove(&waiter).is_some() {
            self.by_key.remove(key);
            self.report.staged.0 += u64::from(matches!(answer, Answer::Landed { .. }));
            return self.agenda.staged(key, &answer, self.now);
        }
        let Some((i, k)) = self.waiters.remove(&waiter) else { return };
        let Answer::Landed { joined, staged, .. } = answer else {
            panic!("the source has every input: {answer:?}");
        };
        let pinned = self.cache.pin(&key.object);
        let run = self.running.get_mut(&i).expect("a waiter's task runs");
        run.pins.extend(pinned);
        run.waiting -= 1;
        run.ready = self.now;
        run.inputs[k].found = if joined { Found::Joined } else { Found::Fetched };
        run.inputs[k].staged = staged;
        run.inputs[k].wait = self.now.since(run.started);
        self.go_if_ready(i);
    }

    fn go_if_ready(&mut self, i: usize) {
        let run = &self.running[&i];
        if run.waiting == 0 {
            let bytes: u64 = run.inputs.iter().map(|x| x.bytes).sum();
            self.at(self.now + self.job(i).work + Span::from_s(bytes as f64 / READ_PER_S), Event::Ends(i));
        }
    }

    fn ends(&mut self, i: usize) {
        let job = self.job(i);
        let run = self.running.remove(&i).expect("it ran");
        for file in run.pins {
            self.cache.unpin(file);
        }
        self.report.latency_s[i] = self.now.since(job.at).as_s();
        self.report.data_wait_s[i] = run.ready.since(run.started).as_s();
        self.left -= 1;
        self.free_slots += 1;
        let outcome = Outcome {
            task: TaskId(i as u64 + 1),
            token: Token { epoch: 1, attempt: 1 },
            worker: WORKER,
            task_type: job.task_type,
            entity: Some(job.entity.clone()),
            submitted: job.at,
            started: run.started,
            ended: self.now,
            ending: TaskEnding::Done,
            usage: Usage::default(),
            data_wait: run.ready.since(run.started),
            inputs: run.inputs,
            factors: Factors::default(),
        };
        self.agenda.learned(&outcome, POOL, self.now);
        self.lookahead_ended(job);
        self.dispatch();
        self.foresee(&job.entity);
    }

    fn attend(&mut self) {
        let mut out = Vec::new();
        self.agenda.attend(self.now, &mut out);
        for action in out {
            match action {
                agenda::Action::Stage { key, due } => {
                    if !self.by_key.contains_key(&key) {
                        let waiter = self.waiter();
                        self.staging.insert(waiter, key.clone());
                        self.by_key.insert(key.clone(), waiter);
                        self.want(waiter, key, Class::Staging, due);
                    }
                }
                agenda::Action::Postpone { key, due } => {
                    if let Some(waiter) = self.by_key.get(&key).copied() {
                        let mut out = Vec::new();
                        self.flights.postpone(waiter, due, self.now, &mut out);
                        self.carry_out(out);
                    }
                }
                agenda::Action::CallOff { key } => {
                    if let Some(waiter) = self.by_key.get(&key).copied() {
                        let mut out = Vec::new();
                        self.flights.cancel(waiter, self.now, &mut out);
                        self.carry_out(out);
                    }
                }
                agenda::Action::Rank { needs, .. } => {
                    for (object, need) in needs {
                        self.cache.set_need(&object, need.map(|(due, p)| cache::Need { due, p }));
                    }
                }
                agenda::Action::Budget { bytes_per_s, connections } => {
                    let mut out = Vec::new();
                    self.flights.set_budget(Budget { bytes_per_s, connections }, self.now, &mut out);
                    self.carry_out(out);
                }
                agenda::Action::Decided(_) => {}
            }
        }
    }
}
