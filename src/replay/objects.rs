//! Replays the object accesses of a trace through the pool and the object predictor of the daemon.
//!
//! Every trace is replayed demand-only and with staging, at one capacity. Transfers are instant for the miss
//! ratios, as in the literature and its simulators; what would have come too late under a round-trip time and a
//! bandwidth is reported beside them ([`Report::late`], [`Report::stall_s`]). Sizes are those of each object's
//! first access, and a share of capacity is of their sum.

use super::baseline::mithril::{Counts, Mithril};
use super::link::Link;
use super::reach::reachable;
use super::trace::Trace;
use crate::cache::{CacheCore, FastMap, Limits, Policy, Purpose, Victim};
use crate::flow::ObjectName;
use crate::predict::objects::{Access, Answer, ObjectPredictor, PoolFacts, Proposal, SourceSpeed};
use crate::time::{Span, Time};
use serde::Serialize;
use std::str::FromStr;

/// Names that the predictor's catalogue may hold.
const MAX_NAMES: usize = 1 << 18;

/// How large the pool is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Capacity {
    /// A share of the footprint, in (0, 1].
    Share(f64),
    /// Bytes.
    Bytes(u64),
}

/// A capacity that is neither a share nor a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("capacity is {0:?}, expected a share like 5% (over 0, up to 100) or a size like 64MiB")]
pub struct BadCapacity(String);

impl FromStr for Capacity {
    type Err = BadCapacity;
    fn from_str(text: &str) -> Result<Capacity, BadCapacity> {
        let bad = || BadCapacity(text.to_owned());
        if let Some(percent) = text.trim().strip_suffix('%') {
            let share = percent.trim().parse::<f64>().map_err(|_| bad())? / 100.0;
            return if share > 0.0 && share <= 1.0 { Ok(Capacity::Share(share)) } else { Err(bad()) };
        }
        let digits = text.trim().find(|c: char| !c.is_ascii_digit()).unwrap_or(text.trim().len());
        let (number, unit) = text.trim().split_at(digits);
        let shift = match unit.trim() {
            "" | "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "TiB" => 40,
            _ => return Err(bad()),
        };
        let bytes = number.parse::<u64>().map_err(|_| bad())?.checked_mul(1 << shift).ok_or_else(bad)?;
        Ok(Capacity::Bytes(bytes))
    }
}

/// What to replay.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How large the pool is.
    pub capacity: Capacity,
    /// Order of eviction. `Lfu` is compared with LFU-DA as libCacheSim computes it, and beats that by itself;
    /// see [`Report::miss_ratio_lfu_da`].
    pub policy: Policy,
    /// Whether to stage; without, the figures of staging equal the demand-only ones.
    pub staging: bool,
    /// Whether to replay MITHRIL as well.
    pub mithril: bool,
    /// Time to the first byte of a transfer.
    pub rtt: Span,
    /// Bytes a second, of all transfers together.
    pub bandwidth_per_s: f64,
}

impl Default for Options {
    /// 5 % of the footprint, LRU, staging on, 20 ms and 1 GB/s.
    fn default() -> Options {
        Options {
            capacity: Capacity::Share(0.05),
            policy: Policy::Lru,
            staging: true,
            mithril: false,
            rtt: Span::from_ms(20),
            bandwidth_per_s: 1e9,
        }
    }
}

/// What came out. The field names are the keys of `replay objects --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the trace.
    pub trace: String,
    /// `lru` or `lfu`.
    pub policy: &'static str,
    /// Size of the pool.
    pub capacity_bytes: u64,
    /// Objects asked for.
    pub accesses: u64,
    /// Misses per access without staging: plain LRU, or LFU-DA as libCacheSim computes it.
    pub miss_ratio_demand_only: f64,
    /// The same for the paper's LFU-DA, which is what the daemon runs without staging; under `lfu` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub miss_ratio_lfu_da: Option<f64>,
    /// Misses per access with staging.
    pub miss_ratio: f64,
    /// Share of the demand-only misses that an online predictor could know of: the object was accessed before,
    /// or names at once and twice the same difference from it were.
    pub reachable_ratio: f64,
    /// Objects staged.
    pub issued: u64,
    /// Staged objects that were used.
    pub useful: u64,
    /// `useful / issued`; null if nothing was staged.
    pub precision: Option<f64>,
    /// Bytes fetched with staging, less those without, per byte accessed.
    pub extra_bytes_ratio: f64,
    /// Processor time that staging adds to an access, microseconds: that of the run with staging, less that of
    /// the same policy without.
    pub us_per_access: f64,
    /// Processor time of pool and predictor together, microseconds.
    pub us_per_access_whole: f64,
    /// Memory of the predictor's tables.
    pub model_bytes: u64,
    /// Memory of names and sizes, of the pool's ghosts and of its duel.
    pub catalogue_bytes: u64,
    /// Whether times are the trace's own, or accesses follow each other at once because it has none.
    pub clock: &'static str,
    /// Seconds that tasks wait for data without staging.
    pub stall_s_demand_only: f64,
    /// The same with staging.
    pub stall_s: f64,
    /// Useful staged objects that would still have been in flight when they were asked for.
    pub late: u64,
    /// MITHRIL in front of LRU, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mithril: Option<MithrilReport>,
}

/// MITHRIL on the same accesses.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MithrilReport {
    /// Misses per access.
    pub miss_ratio: f64,
    /// Objects staged.
    pub issued: u64,
    /// Staged objects that were used.
    pub useful: u64,
}

/// The accesses of a trace, ready to be replayed: names once, sizes as first seen.
pub struct Accesses {
    name: String,
    names: Vec<ObjectName>,
    bytes: Vec<u64>,
    /// (time, objects asked for together): indices into `order`.
    events: Vec<(Time, std::ops::Range<usize>)>,
    order: Vec<u32>,
    /// What the source knows: objects that exist, by name.
    index: FastMap<ObjectName, u32>,
    footprint_bytes: u64,
    timed: bool,
}

impl Accesses {
    /// From a trace. The objects of a task that runs (its row has a duration) are asked for together; a row
    /// without a duration is a request, whose objects are asked for one after the other.
    pub fn new(trace: &Trace) -> Accesses {
        let mut bytes = vec![0; trace.objects.len()];
        let (mut events, mut order) = (vec![], vec![]);
        for row in &trace.rows {
            let first = order.len();
            for read in trace.reads_of(row) {
                let size = &mut bytes[read.object as usize];
                *size = if *size == 0 { read.bytes.max(1) } else { *size };
                order.push(read.object);
            }
            if row.duration.is_some() {
                events.push((row.time, first..order.len()));
            } else {
                events.extend((first..order.len()).map(|i| (row.time, i..i + 1)));
            }
        }
        events.retain(|e| !e.1.is_empty());
        // A source without times is numbered by row.
        let timed =
            !trace.rows.iter().enumerate().all(|(i, r)| r.time == Time::from_us(i as u64 * 1_000_000));
        let footprint_bytes = bytes.iter().sum();
        let names: Vec<ObjectName> = trace.objects.iter().map(|n| ObjectName::new(n.as_str())).collect();
        let index = names.iter().cloned().zip(0..).collect();
        Accesses { name: trace.name.clone(), names, bytes, events, order, index, footprint_bytes, timed }
    }
    /// Capacity in bytes.
    pub fn capacity_bytes(&self, capacity: Capacity) -> u64 {
        match capacity {
            Capacity::Share(share) => (self.footprint_bytes as f64 * share) as u64,
            Capacity::Bytes(bytes) => bytes,
        }
    }
    fn object(&self, i: usize) -> (&ObjectName, u64) {
        let o = self.order[i] as usize;
        (&self.names[o], self.bytes[o])
    }
}

/// Replays one trace at one capacity under one policy.
pub fn replay(accesses: &Accesses, options: &Options) -> Report {
    let capacity_bytes = accesses.capacity_bytes(options.capacity);
    let reference = if options.policy == Policy::Lfu { Policy::LfuLibCacheSim } else { options.policy };
    let demand = Run::new(accesses, options, reference, false).replay();
    let plain_lfu =
        (options.policy == Policy::Lfu).then(|| Run::new(accesses, options, Policy::Lfu, false).replay());
    let staged = if options.staging {
        Run::new(accesses, options, options.policy, true).replay()
    } else {
        demand.clone()
    };
    let n = accesses.order.len().max(1) as f64;
    let plain_us = plain_lfu.as_ref().unwrap_or(&demand).spent_us;
    let mithril = options.mithril.then(|| mithril(accesses, capacity_bytes));
    let fetched = (staged.miss_bytes + staged.issued_bytes) as f64 - demand.miss_bytes as f64;
    let accessed_bytes: u64 = accesses.order.iter().map(|&o| accesses.bytes[o as usize]).sum();
    Report {
        trace: accesses.name.clone(),
        policy: options.policy.name(),
        capacity_bytes,
        accesses: accesses.order.len() as u64,
        miss_ratio_demand_only: demand.missed.len() as f64 / n,
        miss_ratio_lfu_da: plain_lfu.map(|p| p.missed.len() as f64 / n),
        miss_ratio: staged.missed.len() as f64 / n,
        reachable_ratio: reachable(&accesses.names, &accesses.order, &demand.missed) as f64
            / demand.missed.len().max(1) as f64,
        issued: staged.issued,
        useful: staged.useful,
        precision: (staged.issued > 0).then(|| staged.useful as f64 / staged.issued as f64),
        extra_bytes_ratio: fetched / accessed_bytes.max(1) as f64,
        us_per_access: (staged.spent_us - plain_us).max(0.0) / n,
        us_per_access_whole: staged.spent_us / n,
        model_bytes: staged.model_bytes as u64,
        catalogue_bytes: staged.catalogue_bytes as u64,
        clock: if accesses.timed { "trace" } else { "back_to_back" },
        stall_s_demand_only: demand.stall.as_s(),
        stall_s: staged.stall.as_s(),
        late: staged.late,
        mithril,
    }
}

/// What one run counted.
#[derive(Clone, Debug, Default)]
struct Totals {
    /// Positions of the misses.
    missed: Vec<u32>,
    miss_bytes: u64,
    issued: u64,
    issued_bytes: u64,
    useful: u64,
    late: u64,
    stall: Span,
    spent_us: f64,
    model_bytes: usize,
    catalogue_bytes: usize,
}

/// A trace on its way through one pool.
struct Run<'a> {
    accesses: &'a Accesses,
    pool: CacheCore,
    predictor: Option<ObjectPredictor>,
    link: Link,
    /// When each object arrives that was staged last, by index.
    arrival: Vec<Time>,
    now: Time,
    totals: Totals,
}

impl<'a> Run<'a> {
    fn new(accesses: &'a Accesses, options: &Options, policy: Policy, staging: bool) -> Run<'a> {
        let limits = Limits {
            capacity_bytes: accesses.capacity_bytes(options.capacity),
            min_free_bytes: 0,
            policy,
            rank_by_forecast: true,
            learning: staging,
        };
        let speed = SourceSpeed { latency_s: options.rtt.as_s(), bandwidth_per_s: options.bandwidth_per_s };
        Run {
            accesses,
            pool: CacheCore::new(limits),
            predictor: staging.then(|| ObjectPredictor::new(MAX_NAMES, speed)),
            link: Link::new(options.rtt, options.bandwidth_per_s),
            arrival: vec![Time::ZERO; accesses.names.len()],
            now: Time::ZERO,
            totals: Totals::default(),
        }
    }
    fn replay(mut self) -> Totals {
        let start_s = cpu_s();
        let (mut asked, mut proposals, mut stalled) = (vec![], vec![], Span::ZERO);
        for (at, objects) in &self.accesses.events {
            // Later events are put off by what earlier ones had to wait.
            self.now = if self.accesses.timed { (*at + stalled).max(self.now) } else { self.now };
            let before = self.now;
            asked.clear();
            for i in objects.clone() {
                let (object, bytes) = self.accesses.object(i);
                let answer = self.demand(i, object, bytes);
                asked.push(Access { object, bytes, answer });
            }
            stalled += self.now.since(before);
            let Some(predictor) = &mut self.predictor else { continue };
            predictor.observe(&asked, facts(&self.pool), &mut proposals);
            for proposal in proposals.drain(..) {
                self.carry_out(proposal);
            }
        }
        self.totals.stall = stalled;
        self.totals.spent_us = (cpu_s() - start_s) * 1e6;
        self.totals.model_bytes = self.predictor.as_ref().map_or(0, |p| p.model_bytes());
        self.totals.catalogue_bytes =
            self.predictor.as_ref().map_or(0, |p| p.catalogue_bytes()) + self.pool.ghost_memory_bytes();
        self.totals
    }
    fn demand(&mut self, i: usize, object: &ObjectName, bytes: u64) -> Answer {
        if let Some(hit) = self.pool.touch(object, self.now) {
            if hit.first_use_of_staged {
                self.totals.useful += 1;
                let arrival = self.arrival[self.accesses.order[i] as usize];
                self.totals.late += u64::from(arrival > self.now);
                self.now = self.link.join(self.now, arrival, bytes);
                return Answer::StagedHit;
            }
            return if hit.protected { Answer::ProtectedHit } else { Answer::Hit };
        }
        self.totals.missed.push(i as u32);
        self.totals.miss_bytes += bytes;
        self.now = self.link.demand(self.now, bytes);
        if let Ok((_, victims)) = self.pool.insert(object, bytes, Purpose::Demand, self.now) {
            self.evicted(&victims);
            if let Some(p) = &mut self.predictor {
                p.arrived(object);
            }
        }
        Answer::Miss
    }
    fn evicted(&mut self, victims: &[Victim]) {
        let Some(predictor) = &mut self.predictor else { return };
        victims.iter().for_each(|v| predictor.left(&v.entry.object));
    }
    fn carry_out(&mut self, proposal: Proposal) {
        match proposal {
            Proposal::Protect(object) => self.pool.protect(&object),
            Proposal::Release(object) => {
                let victim = self.pool.release(&object);
                self.evicted(victim.as_slice());
            }
            Proposal::Stage { object, bytes, .. } => self.stage(&object, bytes),
        }
    }
    fn stage(&mut self, object: &ObjectName, bytes: u64) {
        // The source knows the size of what exists; what does not exist is paid for as it was guessed.
        let index = self.accesses.index.get(object).map(|&i| i as usize);
        let bytes = index.map_or(bytes, |i| self.accesses.bytes[i]);
        if bytes > self.pool.fill().capacity_bytes / 2 {
            return;
        }
        let Ok((_, victims)) = self.pool.insert(object, bytes, Purpose::Learned, self.now) else {
            if let Some(p) = &mut self.predictor {
                p.declined(object);
            }
            return;
        };
        self.evicted(&victims);
        self.totals.issued += 1;
        self.totals.issued_bytes += bytes;
        let arrival = self.link.stage(self.now, bytes);
        if let Some(i) = index {
            self.arrival[i] = arrival;
        }
        if let Some(p) = &mut self.predictor {
            p.arrived(object);
        }
    }
}

/// Processor time of this thread, seconds: unlike wall time it does not depend on who else runs.
fn cpu_s() -> f64 {
    let mut spent = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `spent` is a valid, exclusively borrowed timespec for the length of the call.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut spent) };
    if failed != 0 { 0.0 } else { spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9 }
}

fn facts(pool: &CacheCore) -> PoolFacts {
    let fill = pool.fill();
    PoolFacts {
        capacity_bytes: fill.capacity_bytes,
        entry_bytes: fill.entry_bytes,
        entries: fill.entries,
        inserts: fill.inserts,
    }
}

fn mithril(accesses: &Accesses, capacity_bytes: u64) -> MithrilReport {
    let mut mithril = Mithril::new(capacity_bytes);
    accesses.order.iter().for_each(|&o| mithril.access(o, &accesses.bytes));
    let Counts { misses, issued, useful } = mithril.counts();
    MithrilReport { miss_ratio: misses as f64 / accesses.order.len().max(1) as f64, issued, useful }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const HEAD: &str = "time_s,worker,task_type,entity,duration_s,bytes,objects\n";

    fn accesses(rows: impl Iterator<Item = String>) -> Accesses {
        let text: String = std::iter::once(HEAD.to_owned()).chain(rows).collect();
        Accesses::new(&Trace::parse(text.as_bytes(), Path::new("story.csv")).unwrap())
    }
    fn row(i: usize, duration: &str, objects: &str) -> String {
        format!("{i},w0,read,e,{duration},,{objects}\n")
    }
    /// A loop over 100 objects of 10 bytes, in an order without numbers to count by.
    fn looping(rounds: usize) -> Accesses {
        let names = (0..rounds * 100).map(|i| format!("{:x}q:10", (i % 100 + 1_000) * 7_919_777));
        accesses(names.enumerate().map(|(i, n)| row(i, "", &n)))
    }
    fn share(share: f64) -> Options {
        Options { capacity: Capacity::Share(share), ..Options::default() }
    }

    #[test]
    fn capacity_is_a_share_or_a_size() {
        for (text, capacity) in [
            ("5%", Some(Capacity::Share(0.05))),
            ("0.5 %", Some(Capacity::Share(0.005))),
            ("4096", Some(Capacity::Bytes(4096))),
            ("64MiB", Some(Capacity::Bytes(64 << 20))),
            ("0%", None),
            ("101%", None),
            ("64M", None),
            ("-1", None),
            ("99999999999TiB", None),
        ] {
            assert_eq!(text.parse::<Capacity>().ok(), capacity, "{text}");
        }
    }

    #[test]
    fn loop_beyond_the_pool_is_lost_to_lru_and_won_by_staging() {
        let report = replay(&looping(20), &share(0.2));
        assert_eq!((report.accesses, report.capacity_bytes), (2_000, 200));
        assert_eq!(report.miss_ratio_demand_only, 1.0);
        assert!((report.reachable_ratio - 0.95).abs() < 1e-9, "all but the first round");
        assert!(report.miss_ratio < 0.2, "{}", report.miss_ratio);
        assert!(report.precision.unwrap() > 0.8);
        assert!(report.stall_s < report.stall_s_demand_only);
    }

    #[test]
    fn without_staging_both_sides_are_the_same() {
        let report = replay(&looping(5), &Options { staging: false, ..share(0.2) });
        assert_eq!(report.miss_ratio, report.miss_ratio_demand_only);
        assert_eq!((report.issued, report.precision, report.model_bytes), (0, None, 0));
        assert_eq!(report.extra_bytes_ratio, 0.0);
    }

    #[test]
    fn objects_of_a_running_task_are_asked_for_together() {
        let request = accesses([row(0, "", "a:1;b:1")].into_iter());
        let task = accesses([row(0, "2.5", "a:1;b:1")].into_iter());
        assert_eq!((request.events.len(), task.events.len()), (2, 1));
    }

    #[test]
    fn size_is_that_of_the_first_access() {
        let accesses = accesses([row(0, "", "a:10;b:20"), row(1, "", "a:99")].into_iter());
        assert_eq!(accesses.capacity_bytes(Capacity::Share(0.5)), 15);
    }

    #[test]
    fn staging_that_is_asked_for_too_late_is_counted_and_waited_for() {
        let slow = Options { rtt: Span::from_secs(10), ..share(0.2) };
        // Requests follow each other at once, so what is proposed a few accesses ahead is not there in 10 s. But
        // the whole batch comes while the first of it is waited for.
        let report = replay(&looping(20), &slow);
        assert_eq!(report.clock, "back_to_back");
        assert!((200..1_000).contains(&report.late), "{report:?}");
        assert!(report.stall_s < 0.5 * report.stall_s_demand_only);
        let fast = replay(&looping(20), &Options { rtt: Span::ZERO, bandwidth_per_s: 1e15, ..share(0.2) });
        assert_eq!(fast.late, 0);
        assert!(fast.stall_s < 1e-6);
    }

    #[test]
    fn same_replay_gives_the_same_report() {
        let run = || {
            let report = replay(&looping(10), &Options { mithril: true, ..share(0.1) });
            serde_json::to_value(Report { us_per_access: 0.0, us_per_access_whole: 0.0, ..report }).unwrap()
        };
        assert_eq!(run(), run());
    }
}
