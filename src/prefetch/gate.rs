//! Is it worth it? Stage an object if `p · seconds saved > seconds it costs`.
//!
//! Saved is what a task would otherwise wait: the source's first byte plus the transfer. It costs what others
//! lose: the transfer's share of a link that is busy, what it evicts (as often as what staging evicted was then
//! needed lately), and a small fixed price for each object, so that what hardly saves anything is left alone.
//! The cache itself admits a forecast object only in place of farther needs. Both sides are kept with the
//! decision.

use crate::time::Span;
use serde::{Deserialize, Serialize};

/// Time to the first byte until a source was measured, seconds.
const UNMEASURED_FIRST_BYTE_S: f64 = 0.02;
/// Bytes per second until a source was measured.
const UNMEASURED_BYTES_PER_S: f64 = 50e6;
/// Weight of the newest transfer in a source's figures.
const SMOOTHING: f64 = 0.1;
/// What an object costs whatever its size, seconds: a request, a file, an entry.
const EACH_S: f64 = 0.000_5;
/// How much of a transfer's time others lose when the link is fully busy. Demand goes first in any case, so
/// what is lost is other staging.
const SHARE_LOST: f64 = 0.25;

/// How quick a source is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// To the first byte, seconds.
    pub first_byte_s: f64,
    /// Then, bytes per second of one connection.
    pub bytes_per_s: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { first_byte_s: UNMEASURED_FIRST_BYTE_S, bytes_per_s: UNMEASURED_BYTES_PER_S }
    }
}

impl Pace {
    /// A task waited so long for an object that had to be fetched from its beginning.
    pub fn learn(&mut self, bytes: u64, wait: Span) {
        let wait_s = wait.as_s().max(1e-6);
        // Small objects tell of the latency, large ones of the bandwidth.
        let expected_s = self.first_byte_s + bytes as f64 / self.bytes_per_s;
        let share = (self.first_byte_s / expected_s).clamp(0.05, 0.95);
        self.first_byte_s += SMOOTHING * share * (wait_s * share - self.first_byte_s);
        let rate = bytes as f64 / (wait_s * (1.0 - share)).max(1e-6);
        if bytes > 0 {
            self.bytes_per_s += SMOOTHING * (1.0 - share) * (rate - self.bytes_per_s);
        }
        self.bytes_per_s = self.bytes_per_s.max(1e3);
    }

    /// How long a fetch of so many bytes takes.
    pub fn fetch_s(&self, bytes: u64) -> f64 {
        self.first_byte_s + bytes as f64 / self.bytes_per_s
    }
}

/// Both sides of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worth {
    /// Probability that it is needed.
    pub p: f64,
    /// The probability from which it pays.
    pub break_even: f64,
    /// What a task would wait without it, seconds.
    pub saves_s: f64,
    /// What it costs others, seconds.
    pub costs_s: f64,
}

impl Worth {
    /// Weighs an object of so many bytes; `busy` in [0, 1] is the share of the staging connections that are
    /// taken, `harm` the share of staged objects whose victims were then needed lately, `least_p` the
    /// configured floor.
    pub fn weigh(p: f64, bytes: u64, pace: &Pace, busy: f64, harm: f64, least_p: f64) -> Worth {
        let saves_s = pace.fetch_s(bytes);
        // What is evicted and then needed has to be fetched again, and is about as large.
        let costs_s = EACH_S + SHARE_LOST * busy * bytes as f64 / pace.bytes_per_s + harm * saves_s;
        // With every connection taken, what is less likely only delays what is likelier.
        let floor = if busy >= 1.0 { 2.0 * least_p } else { least_p };
        Worth { p, break_even: (costs_s / saves_s).max(floor).min(1.0), saves_s, costs_s }
    }

    /// Whether to stage it.
    pub fn pays(&self) -> bool {
        self.p >= self.break_even
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_likely_slow_object_pays_and_an_unlikely_or_quick_one_does_not() {
        let slow = Pace { first_byte_s: 0.04, bytes_per_s: 20e6 };
        assert!(Worth::weigh(0.5, 1 << 20, &slow, 0.0, 0.0, 0.1).pays());
        assert!(!Worth::weigh(0.05, 1 << 20, &slow, 0.0, 0.0, 0.1).pays());
        assert!(!Worth::weigh(0.15, 1 << 20, &slow, 1.0, 0.0, 0.1).pays(), "all connections are taken");
        assert!(!Worth::weigh(0.25, 1 << 20, &slow, 0.0, 0.3, 0.1).pays(), "what it evicts is needed");
        let local = Pace { first_byte_s: 0.000_05, bytes_per_s: 2e9 };
        assert!(!Worth::weigh(0.9, 1000, &local, 0.0, 0.0, 0.1).pays(), "nothing to be saved");
    }

    #[test]
    fn a_source_is_measured_by_what_tasks_waited() {
        let mut pace = Pace::default();
        for i in 0..400 {
            let bytes = if i % 2 == 0 { 10_000 } else { 4_000_000 };
            pace.learn(bytes, Span::from_s(0.04 + bytes as f64 / 20e6));
        }
        let (small, large) = (pace.fetch_s(10_000), pace.fetch_s(4_000_000));
        assert!((0.02..0.08).contains(&small), "small: {small}");
        assert!((0.15..0.35).contains(&large), "large: {large}");
    }
}
