//! What a worker has learned about each task type: one set of figures per (worker, type).
//!
//! A worker owns its [`Profile`] and nobody else does; the host's figures are merged from the workers'
//! (see [`super::host`]), never learned a second time. The figures are kept and restored type by type, under
//! the type's name, because a [`TypeId`] is an index into one configuration.

use super::moments::Moments;
use crate::flow::{Ending, Outcome, TypeId};
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How fast each figure forgets: the weight of the newest observation, in (0, 1]. 1 keeps only the newest;
/// a figure's effective count levels off at one over this.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Smoothing {
    /// Of the execution time.
    pub time: f64,
    /// Of the success rate. Slower than the time by default: failures are rare, so each says much.
    pub success: f64,
    /// Of the processor time.
    pub cpu: f64,
    /// Of the peak memory. Slower too: what matters is the upper end, which is seldom seen.
    pub memory: f64,
    /// Of the bytes read from and written to disks.
    pub io: f64,
    /// Of the input bytes fetched from sources.
    pub net: f64,
}

impl Default for Smoothing {
    fn default() -> Smoothing {
        Smoothing { time: 0.05, success: 0.02, cpu: 0.05, memory: 0.02, io: 0.05, net: 0.05 }
    }
}

impl Smoothing {
    /// The first field that is not in (0, 1], by its name in the configuration, with its value.
    pub fn fault(&self) -> Option<(&'static str, f64)> {
        let all = [
            ("time", self.time),
            ("success", self.success),
            ("cpu", self.cpu),
            ("memory", self.memory),
            ("io", self.io),
            ("net", self.net),
        ];
        all.into_iter().find(|(_, x)| !(*x > 0.0 && *x <= 1.0))
    }
}

/// What one worker knows of one task type. Mergeable: the sum of several workers' figures is the host's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Natural logarithm of the execution time in seconds, of attempts that were done.
    pub log_time: Moments,
    /// 1 for done, 0 for failed.
    pub success: Moments,
    /// Processor seconds.
    pub cpu_s: Moments,
    /// Natural logarithm of the peak memory in bytes.
    pub log_memory: Moments,
    /// Bytes read from and written to disks.
    pub io_bytes: Moments,
    /// Input bytes fetched from sources.
    pub net_bytes: Moments,
    /// Attempts learned from, never faded.
    pub attempts: u64,
    /// End of the first attempt learned from.
    pub first: Option<Time>,
    /// End of the latest attempt learned from.
    pub last: Option<Time>,
}

/// Shorter executions count as this: one microsecond, the grain of [`Span`].
const SHORTEST_S: f64 = 1e-6;

impl Figures {
    /// Learns from one attempt. `smoothing` must be without [`Smoothing::fault`].
    ///
    /// Time and demand come from attempts that were done: one that failed early would make its worker look
    /// fast and its type look small. What was not the worker's or the type's doing (a cancelled task, an input
    /// that its source did not have, a daemon that died) teaches nothing. Returns whether it taught anything.
    pub fn learn(&mut self, outcome: &Outcome, smoothing: &Smoothing) -> bool {
        let done = match &outcome.ending {
            Ending::Done => true,
            Ending::Exited { .. }
            | Ending::Signalled { .. }
            | Ending::TimedOut
            | Ending::InputModified { .. }
            | Ending::OutputFailed { .. }
            | Ending::SpawnFailed { .. } => false,
            Ending::Cancelled
            | Ending::MissingInput { .. }
            | Ending::Lost
            | Ending::Released
            | Ending::DependencyFailed { .. }
            | Ending::TooLate
            | Ending::Skipped { .. } => {
                return false;
            }
        };
        self.attempts += 1;
        self.first.get_or_insert(outcome.ended);
        self.last = self.last.max(Some(outcome.ended));
        self.success.learn(f64::from(u8::from(done)), smoothing.success);
        if done {
            let used = &outcome.usage;
            self.log_time.learn(used.wall.as_s().max(SHORTEST_S).ln(), smoothing.time);
            self.cpu_s.learn(used.cpu.as_s(), smoothing.cpu);
            self.log_memory.learn((used.peak_memory_bytes.max(1) as f64).ln(), smoothing.memory);
            self.io_bytes.learn(used.read_bytes as f64 + used.write_bytes as f64, smoothing.io);
            self.net_bytes.learn(used.net_bytes as f64, smoothing.net);
        }
        true
    }

    /// Adds what another worker knows of the same type.
    pub fn merge(&mut self, other: &Figures) {
        self.log_time.merge(&other.log_time);
        self.success.merge(&other.success);
        self.cpu_s.merge(&other.cpu_s);
        self.log_memory.merge(&other.log_memory);
        self.io_bytes.merge(&other.io_bytes);
        self.net_bytes.merge(&other.net_bytes);
        self.attempts += other.attempts;
        self.first = match (self.first, other.first) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.last = self.last.max(other.last);
    }

    /// Median execution time: the exponential of the mean logarithm. None before the first done attempt.
    pub fn median_time(&self) -> Option<Span> {
        (self.log_time.effective_count() > 0.0).then(|| Span::from_s(self.log_time.mean().exp()))
    }

    /// Whether the figures are what [`Figures::learn`] can make; a restored record that is not is set aside.
    pub fn is_sound(&self) -> bool {
        let all =
            [&self.log_time, &self.success, &self.cpu_s, &self.log_memory, &self.io_bytes, &self.net_bytes];
        all.iter().all(|m| m.is_sound()) && (0.0..=1.0).contains(&self.success.mean())
    }
}

/// All that one worker has learned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    types: BTreeMap<TypeId, Figures>,
}

impl Profile {
    /// Learns from an attempt that ran on this worker: once for each final outcome, in the record's order.
    /// Returns whether anything changed, so that the caller writes [`Profile::get`] of that type back.
    pub fn learn(&mut self, outcome: &Outcome, smoothing: &Smoothing) -> bool {
        assert_eq!(smoothing.fault(), None, "smoothing is checked with the configuration");
        let figures = self.types.entry(outcome.task_type).or_default();
        let learned = figures.learn(outcome, smoothing);
        if figures.attempts == 0 {
            self.types.remove(&outcome.task_type);
        }
        learned
    }

    /// Puts back what was stored; refuses figures that nothing could have taught.
    pub fn restore(&mut self, task_type: TypeId, figures: Figures) -> bool {
        let sound = figures.is_sound() && figures.attempts > 0;
        if sound {
            self.types.insert(task_type, figures);
        }
        sound
    }

    /// What is known of one type, if anything.
    pub fn get(&self, task_type: TypeId) -> Option<&Figures> {
        self.types.get(&task_type)
    }

    /// All types that anything is known of, in order.
    pub fn iter(&self) -> impl Iterator<Item = (TypeId, &Figures)> {
        self.types.iter().map(|(t, f)| (*t, f))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::flow::{Factors, ObjectName, TaskId, Token, Usage, WorkerId};

    /// An attempt of type `t` that ended as said after `wall_s`, with demand in proportion.
    pub(in crate::worker) fn outcome(t: u16, ending: Ending, wall_s: f64, ended_s: u64) -> Outcome {
        Outcome {
            task: TaskId(1),
            token: Token { epoch: 1, attempt: 1 },
            worker: WorkerId(0),
            task_type: TypeId(t),
            entity: None,
            submitted: Time::ZERO,
            started: Time::ZERO,
            ended: Time::from_us(ended_s * 1_000_000),
            ending,
            usage: Usage {
                wall: Span::from_s(wall_s),
                cpu: Span::from_s(wall_s / 2.0),
                peak_memory_bytes: 8 << 20,
                read_bytes: (wall_s * 1e6) as u64,
                write_bytes: (wall_s * 1e6) as u64,
                net_bytes: 0,
            },
            data_wait: Span::ZERO,
            inputs: vec![],
            factors: Factors::default(),
        }
    }

    #[test]
    fn each_figure_follows_its_own_smoothing_factor() {
        let smoothing = Smoothing { time: 0.5, cpu: 0.05, ..Smoothing::default() };
        let mut p = Profile::default();
        for _ in 0..60 {
            p.learn(&outcome(0, Ending::Done, 1.0, 1), &smoothing);
        }
        let mut curves = vec![];
        for _ in 0..4 {
            p.learn(&outcome(0, Ending::Done, std::f64::consts::E, 2), &smoothing);
            let f = p.get(TypeId(0)).unwrap();
            // Share of the way from the old level to the new one.
            curves.push((f.log_time.mean(), (f.cpu_s.mean() - 0.5) / (std::f64::consts::E / 2.0 - 0.5)));
        }
        let expect = |smoothing: f64, k: i32| {
            (1.0 - (1.0 - smoothing).powi(k)) / (1.0 - (1.0 - smoothing).powi(60 + k))
        };
        for (k, (fast, slow)) in (1..).zip(curves) {
            assert!((fast - expect(0.5, k)).abs() < 1e-5, "fast curve at {k}: {fast}");
            assert!((slow - expect(0.05, k)).abs() < 1e-5, "slow curve at {k}: {slow}");
        }
    }

    #[test]
    fn failures_lower_success_and_leave_time_and_demand_alone() {
        let (mut p, s) = (Profile::default(), Smoothing::default());
        p.learn(&outcome(3, Ending::Done, 2.0, 10), &s);
        let before = p.get(TypeId(3)).unwrap().clone();
        assert!(p.learn(&outcome(3, Ending::Exited { code: 1 }, 0.01, 20), &s));
        let after = p.get(TypeId(3)).unwrap();
        assert_eq!(after.log_time, before.log_time);
        assert_eq!(after.cpu_s, before.cpu_s);
        assert!(after.success.mean() < 0.51);
        assert_eq!(
            (after.first, after.last),
            (Some(Time::from_us(10_000_000)), Some(Time::from_us(20_000_000)))
        );
        assert_eq!(after.attempts, 2);
    }

    #[test]
    fn what_is_nobodys_doing_teaches_nothing() {
        let mut p = Profile::default();
        let missing = Ending::MissingInput { object: ObjectName::new("a:b"), error: "404".into() };
        for ending in [Ending::Cancelled, Ending::Lost, missing] {
            assert!(!p.learn(&outcome(0, ending, 1.0, 1), &Smoothing::default()));
        }
        assert_eq!(p, Profile::default());
    }

    #[test]
    fn figures_survive_the_store() {
        let mut p = Profile::default();
        for k in 1..20 {
            p.learn(&outcome(7, Ending::Done, 0.1 * f64::from(k), 1), &Smoothing::default());
        }
        let stored = serde_json::to_vec(p.get(TypeId(7)).unwrap()).unwrap();
        assert!(stored.len() < 7 << 10, "fits a small record");
        let mut back = Profile::default();
        assert!(back.restore(TypeId(7), serde_json::from_slice(&stored).unwrap()));
        // JSON keeps f64 exactly: Rust prints the shortest text that reads back as the same number.
        assert_eq!(back, p);
    }

    #[test]
    fn a_damaged_record_is_refused() {
        let mut p = Profile::default();
        let mut f = Figures { attempts: 1, ..Figures::default() };
        assert!(p.restore(TypeId(0), f.clone()));
        f.success.learn(3.0, 0.5);
        assert!(!p.restore(TypeId(1), f));
        assert!(!p.restore(TypeId(2), Figures::default()), "nothing learned, nothing to restore");
        assert_eq!(p.iter().count(), 1);
    }

    #[test]
    fn smoothing_names_the_field_at_fault() {
        assert_eq!(Smoothing::default().fault(), None);
        assert_eq!(Smoothing { io: 1.5, ..Smoothing::default() }.fault(), Some(("io", 1.5)));
        assert!(Smoothing { net: f64::NAN, ..Smoothing::default() }.fault().is_some());
    }
}
