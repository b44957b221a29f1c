//! The flight table: which transfers run, for whom, and who goes first.
//!
//! One table for all transfers of the host, so that demand and staging see each other. It promises:
//!
//! - **Single flight.** One transfer for one object and pool, however many wait for it.
//! - **Demand strictly first.** Staging takes no connection and no bandwidth that demand wants: while demand
//!   waits at a source, nothing is staged from there; running staging transfers pause, and stand aside when
//!   demand lacks a connection. A staging transfer that demand joins goes on as demand, without a restart.
//! - **Limits.** No source sees more connections than it allows; staging as a whole keeps its budget.
//! - **Answers.** Every waiter is answered exactly once.
//!
//! A pure core: facts and the time go in, [`Action`]s come out.

mod failures;
mod rate;

pub use failures::Retry;

use crate::flow::{CacheId, Map, ObjectName, SourceId};
use crate::prefetch::source::Error;
use crate::time::{Span, Time};
use failures::Failures;
use rate::{Facts, Meter};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most staging transfers that wait: the agenda's own limit is lower, so this only bounds memory.
pub const WAITING_LIMIT: usize = 8192;
/// Most parallel ranges of one demand transfer; beyond four nothing was gained in the staging measurements.
const PARALLEL_LIMIT: u16 = 4;
/// Another range pays for each so many bytes.
const BYTES_PER_RANGE: u64 = 8 << 20;
/// So many failures in a row, and staging leaves a source alone for a while.
const DOWN_AFTER: u32 = 3;
/// How long that is at most; it starts at a second and doubles.
const DOWN_AT_MOST: Span = Span::from_secs(60);

/// Why an object is fetched. Demand orders before staging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// A task waits for it now.
    Demand,
    /// A task is expected to need it.
    Staging,
}

/// What is fetched to where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The pool it is fetched into.
    pub pool: CacheId,
    /// The object.
    pub object: ObjectName,
}

/// A transfer; numbered from 1, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightId(pub u64);

/// The caller's ticket for one answer; must be unique among those not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiter(pub u64);

/// Somebody wants an object in a pool.
#[derive(Clone, Debug)]
pub struct Want {
    /// Who is to be answered.
    pub waiter: Waiter,
    /// What and where.
    pub key: Key,
    /// The object's source, announced by [`Flights::set_source`].
    pub source: SourceId,
    /// Why.
    pub class: Class,
    /// When it will be needed: staging goes by nearest need. Demand goes by order of arrival.
    pub due: Time,
    /// Its length, if known.
    pub bytes: Option<u64>,
}

/// What a source allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceLimits {
    /// Most connections at once, 1 or more. With two or more, one is never given to staging.
    pub connections: u16,
    /// Configured bandwidth, bytes/s.
    pub bytes_per_s: Option<f64>,
    /// Retries.
    pub retry: Retry,
}

/// What staging as a whole may use; the caller lets it follow the heat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// Bytes/s; zero pauses staging, infinite sets no limit.
    pub bytes_per_s: f64,
    /// Connections over all sources.
    pub connections: u16,
}

/// What the table asks for, in the order in which it is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Start a transfer, and report its end by [`Flights::finished`].
    Start {
        /// Which.
        flight: FlightId,
        /// What and where.
        key: Key,
        /// From where.
        source: SourceId,
        /// Under which class its bytes are paced at first.
        class: Class,
        /// So many ranges at once at most.
        connections: u16,
        /// Whether an earlier try left its bytes and they are good.
        resume: bool,
    },
    /// A running transfer is of another class now: pace it as such.
    SetClass {
        /// Which.
        flight: FlightId,
        /// As what.
        class: Class,
    },
    /// End a transfer, keep its bytes, and report [`Ending::Stopped`] (or how it ended meanwhile).
    Stop {
        /// Which.
        flight: FlightId,
    },
    /// All staging transfers of a source together may take so many bytes/s from now on.
    Rate {
        /// Which source.
        source: SourceId,
        /// Zero is "pause", infinite "no limit".
        staging_bytes_per_s: f64,
    },
    /// Answer a waiter. It is forgotten.
    Answer {
        /// Who.
        waiter: Waiter,
        /// What it wanted.
        key: Key,
        /// How it ended for this waiter.
        answer: Answer,
    },
}

/// How a want ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The object has landed.
    Landed {
        /// Its length.
        bytes: u64,
        /// Whether the transfer was under way already when this waiter came.
        joined: bool,
        /// Whether it had been started for staging.
        staged: bool,
        /// How long this waiter waited.
        waited: Span,
    },
    /// It could not be had.
    Failed(Error),
    /// The waiter cancelled, or the object was invalidated.
    Cancelled,
    /// Not tried: it failed lately. Staging only.
    Refused {
        /// Until when it is not tried.
        until: Time,
        /// How it failed.
        error: Error,
    },
    /// Not tried: too many wait. Staging only.
    Full,
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// It is in the pool.
    Landed {
        /// The object's length.
        bytes: u64,
        /// From its (last) request to the first byte.
        ttfb: Span,
    },
    /// It failed.
    Failed {
        /// How.
        error: Error,
        /// Good bytes that it left.
        partial_bytes: u64,
    },
    /// It was stopped by [`Action::Stop`].
    Stopped {
        /// Good bytes that it left.
        partial_bytes: u64,
    },
}

#[derive(Debug)]
struct Flight {
    key: Key,
    source: SourceId,
    /// Demand if any waiter is; else staging.
    class: Class,
    started_as: Class,
    rank: Rank,
    waiters: Vec<Waiting>,
    state: State,
    tries: u8,
    /// Good bytes that a try has left, and the length as far as it is known.
    done_bytes: u64,
    total_bytes: Option<u64>,
    /// The server serves whole objects only.
    whole: bool,
    /// Invalidated: holds its connection until it has ended, and belongs to nobody.
    detached: bool,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    waiter: Waiter,
    class: Class,
    due: Time,
    since: Time,
    joined: bool,
}

/// Order in a source's queue: demand by arrival (a count), then staging by need (a time in µs).
type Rank = (Class, u64, FlightId);

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Queued,
    Backoff { until: Time },
    Running { since: Time, connections: u16, stopping: bool },
}

#[derive(Debug)]
struct SourceState {
    limits: SourceLimits,
    queue: BTreeSet<Rank>,
    running: BTreeSet<FlightId>,
    meter: Meter,
    /// The last rate that was told.
    staging_bytes_per_s: f64,
    failures_in_a_row: u32,
    down_until: Time,
}

/// Figures for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Transfers that run for demand.
    pub running_demand: usize,
    /// Transfers that run for staging, paused ones included.
    pub running_staging: usize,
    /// Transfers that wait for a connection or for their next try.
    pub waiting: usize,
    /// Failures that staging heeds now.
    pub failures_remembered: usize,
}

/// The table. See the module's text.
#[derive(Debug)]
pub struct Flights {
    budget: Budget,
    sources: BTreeMap<SourceId, SourceState>,
    flights: Map<FlightId, Flight>,
    by_key: Map<Key, FlightId>,
    by_waiter: Map<Waiter, FlightId>,
    backoff: BTreeSet<(Time, FlightId)>,
    failures: Failures,
    last_id: u64,
}

impl Flights {
    /// An empty table.
    pub fn new(budget: Budget) -> Flights {
        Flights {
            budget,
            sources: BTreeMap::new(),
            flights: Map::default(),
            by_key: Map::default(),
            by_waiter: Map::default(),
            backoff: BTreeSet::new(),
            failures: Failures::default(),
            last_id: 0,
        }
    }

    /// Announces a source or changes its limits. Running transfers above a lowered limit run on.
    pub fn set_source(&mut self, id: SourceId, limits: SourceLimits, now: Time, out: &mut Vec<Action>) {
        assert!(limits.connections > 0, "a source without connections cannot be asked for anything");
        match self.sources.get_mut(&id) {
            Some(source) => source.limits = limits,
            None => {
                self.sources.insert(id, SourceState::new(limits));
            }
        }
        self.advance(now, out);
    }

    /// Sets what staging may use. A lower number of connections ends nothing that runs; a lower rate acts at
    /// once.
    pub fn set_budget(&mut self, budget: Budget, now: Time, out: &mut Vec<Action>) {
        self.budget = budget;
        self.advance(now, out);
    }

    /// Somebody wants an object: joins the flight that there is, or makes one.
    pub fn want(&mut self, want: Want, now: Time, out: &mut Vec<Action>) {
        assert!(self.sources.contains_key(&want.source), "want names a source that was announced");
        assert!(!self.by_waiter.contains_key(&want.waiter), "a waiter waits for one thing at a time");
        match self.by_key.get(&want.key) {
            Some(&id) => self.join(id, &want, out, now),
            None => self.make(want, now, out),
        }
        self.advance(now, out);
    }

    /// A waiter does not want it any more. A transfer that nobody waits for is stopped, unless more than half
    /// of it has arrived.
    pub fn cancel(&mut self, waiter: Waiter, now: Time, out: &mut Vec<Action>) {
        let Some(id) = self.by_waiter.remove(&waiter) else { return };
        let flight = self.flights.get_mut(&id).expect("a waiter's flight is in the table");
        flight.waiters.retain(|w| w.waiter != waiter);
        out.push(Action::Answer { waiter, key: flight.key.clone(), answer: Answer::Cancelled });
        let nobody = flight.waiters.is_empty();
        self.rerank(id, out);
        if nobody {
            self.abandon(id, out);
        }
        self.advance(now, out);
    }

    /// A staging waiter needs its object at another time than it said.
    pub fn postpone(&mut self, waiter: Waiter, due: Time, now: Time, out: &mut Vec<Action>) {
        let Some(&id) = self.by_waiter.get(&waiter) else { return };
        let flight = self.flights.get_mut(&id).expect("a waiter's flight is in the table");
        for w in flight.waiters.iter_mut().filter(|w| w.waiter == waiter) {
            w.due = due;
        }
        self.rerank(id, out);
        self.advance(now, out);
    }

    /// The object has been, or is being, written: whatever is on its way is of no use. Staging waiters are
    /// cancelled; demand waiters get a new transfer that begins at zero.
    pub fn invalidate(&mut self, object: &ObjectName, now: Time, out: &mut Vec<Action>) {
        let pools: Vec<FlightId> = self.attached(object);
        for id in pools {
            let flight = self.flights.get_mut(&id).expect("listed just now");
            let (key, source, arrival) = (flight.key.clone(), flight.source, flight.rank.1);
            let waiters = std::mem::take(&mut flight.waiters);
            self.by_key.remove(&key);
            self.detach(id, out);
            let (demand, staging): (Vec<_>, Vec<_>) =
                waiters.into_iter().partition(|w| w.class == Class::Demand);
            for w in staging {
                self.by_waiter.remove(&w.waiter);
                out.push(Action::Answer { waiter: w.waiter, key: key.clone(), answer: Answer::Cancelled });
            }
            if !demand.is_empty() {
                // In its old place: the tasks that wait lose the transfer, not their turn.
                self.insert(key, source, (Class::Demand, arrival), None, demand);
            }
        }
        // What failed before may be there now.
        self.failures.forget_object(object);
        self.advance(now, out);
    }

    /// Bytes arrived; told in coarse steps. `done_bytes` counts from the object's start.
    pub fn progress(
        &mut self,
        flight: FlightId,
        done_bytes: u64,
        total_bytes: u64,
        now: Time,
        out: &mut Vec<Action>,
    ) {
        // A report may cross with the end of its flight.
        let Some(f) = self.flights.get_mut(&flight) else { return };
        let moved = done_bytes.saturating_sub(f.done_bytes);
        (f.done_bytes, f.total_bytes) = (done_bytes, Some(total_bytes));
        let source = self.sources.get_mut(&f.source).expect("announced");
        source.meter.moved(moved, now);
        self.set_rates(now, out);
    }

    /// A transfer ended.
    pub fn finished(&mut self, flight: FlightId, ending: Ending, now: Time, out: &mut Vec<Action>) {
        let f = self.flights.get(&flight).expect("only started flights end, and each ends once");
        let State::Running { .. } = f.state else { panic!("only running flights end") };
        self.measure(flight, &ending, now);
        let f = self.flights.get_mut(&flight).expect("looked at just now");
        let source = self.sources.get_mut(&f.source).expect("announced");
        source.running.remove(&flight);
        source.heed(&ending, now);
        if f.detached {
            self.flights.remove(&flight);
        } else {
            match ending {
                Ending::Landed { bytes, .. } => self.land(flight, bytes, now, out),
                Ending::Failed { error, partial_bytes } => self.fail(flight, error, partial_bytes, now, out),
                Ending::Stopped { partial_bytes } => self.stand_aside(flight, partial_bytes),
            }
        }
        self.advance(now, out);
    }

    /// Time has passed: see [`Flights::next_wake`].
    pub fn tick(&mut self, now: Time, out: &mut Vec<Action>) {
        self.advance(now, out);
    }

    /// When [`Flights::tick`] is due, if nothing happens before.
    pub fn next_wake(&self) -> Option<Time> {
        let retry = self.backoff.first().map(|(at, _)| *at);
        let up = self.sources.values().filter(|s| !s.queue.is_empty() && s.down_until > Time::ZERO);
        retry.into_iter().chain(up.map(|s| s.down_until)).min()
    }

    /// Whether a transfer of this object to this pool is queued or runs, and as what.
    pub fn class_of(&self, key: &Key) -> Option<Class> {
        self.by_key.get(key).map(|id| self.flights[id].class)
    }

    /// Whether what this transfer brings may be kept: false once its object was invalidated. To be asked in the
    /// same turn in which the cache takes the file in, also for transfers that nobody waits for any more.
    pub fn is_current(&self, flight: FlightId) -> bool {
        self.flights.get(&flight).is_some_and(|f| !f.detached)
    }

    /// Measured bandwidth of a source, bytes/s: all connections together, and one alone; zero if unknown.
    pub fn bandwidth(&self, source: SourceId, now: Time) -> (f64, f64) {
        self.sources.get(&source).map_or((0.0, 0.0), |s| (s.meter.capacity(now), s.meter.per_connection(now)))
    }

    /// What is being fetched or waits for a connection, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.by_key.keys()
    }

    /// Figures for metrics.
    pub fn counts(&self) -> Counts {
        let mut c = Counts { failures_remembered: self.failures.len(), ..Counts::default() };
        for f in self.flights.values() {
            match (f.state, f.class) {
                (State::Running { .. }, Class::Demand) => c.running_demand += 1,
                (State::Running { .. }, Class::Staging) => c.running_staging += 1,
                _ => c.waiting += 1,
            }
        }
        c
    }
}

mod order;
mod table;
#[cfg(test)]
mod tests;
