//! How long sources take to answer: percentiles over the last minutes.
//!
//! Six histograms take turns; the oldest is dropped when a new one begins, so an old outage is forgotten
//! after the window and the percentiles of the present are not drowned by yesterday.

use crate::time::{Span, Time};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Turns of a window.
const TURNS: u64 = 6;
/// Two significant figures: within 1 %.
const FIGURES: u8 = 2;
/// Longest latency told apart, µs; longer ones count as this.
const LONGEST_US: u64 = 600_000_000;

/// Percentiles of one source, one cell or one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencySummary {
    /// How many answers there were.
    pub count: u64,
    /// How many probes and transfers got none.
    pub failures: u64,
    /// Half were faster.
    pub p50: Span,
    /// Nine in ten were faster.
    pub p90: Span,
    /// 99 in 100 were faster.
    pub p99: Span,
    /// The slowest.
    pub max: Span,
}

#[derive(Clone, Debug)]
struct Turn {
    number: u64,
    histogram: Histogram<u32>,
    failures: u64,
}

/// Latencies of one source.
#[derive(Clone, Debug)]
pub(super) struct Latency {
    turn: Span,
    turns: VecDeque<Turn>,
}

impl Latency {
    /// Looks back over `window`, to a sixth of it.
    pub fn new(window: Span) -> Latency {
        let turn = Span::from_us((window.as_us() / TURNS).max(1));
        Latency { turn, turns: VecDeque::new() }
    }

    /// An answer came after `latency`.
    pub fn answered(&mut self, now: Time, latency: Span) {
        self.current(now).histogram.saturating_record(latency.as_us().max(1));
    }

    /// No answer came.
    pub fn failed(&mut self, now: Time) {
        self.current(now).failures += 1;
    }

    fn current(&mut self, now: Time) -> &mut Turn {
        let number = now.as_us() / self.turn.as_us();
        if self.turns.back().is_none_or(|t| t.number < number) {
            self.turns.retain(|t| t.number + TURNS > number);
            self.turns.push_back(Turn { number, histogram: histogram(), failures: 0 });
        }
        self.turns.back_mut().expect("a turn was just made if there was none")
    }

    /// Percentiles over the window that ends now, of several sources together.
    pub fn summary<'a>(now: Time, sources: impl Iterator<Item = &'a Latency>) -> LatencySummary {
        let mut all = histogram();
        let mut failures = 0;
        for source in sources {
            let number = now.as_us() / source.turn.as_us();
            for turn in source.turns.iter().filter(|t| t.number + TURNS > number) {
                all.add(&turn.histogram).expect("all histograms have the same bounds");
                failures += turn.failures;
            }
        }
        let at = |p: f64| Span::from_us(all.value_at_quantile(p));
        if all.is_empty() {
            return LatencySummary { failures, ..LatencySummary::default() };
        }
        LatencySummary {
            count: all.len(),
            failures,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: Span::from_us(all.max()),
        }
    }
}

fn histogram() -> Histogram<u32> {
    Histogram::new_with_bounds(1, LONGEST_US, FIGURES).expect("1 to 600 s at two figures are valid bounds")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Time {
        Time::from_us((1_000 + s) * 1_000_000)
    }

    #[test]
    fn percentiles_are_within_a_hundredth() {
        let mut latency = Latency::new(Span::from_secs(60));
        for ms in 1..=1_000 {
            latency.answered(at(0), Span::from_ms(ms));
        }
        let s = Latency::summary(at(1), std::iter::once(&latency));
        for (found, ms) in [(s.p50, 500.0), (s.p90, 900.0), (s.p99, 990.0), (s.max, 1_000.0)] {
            assert!((found.as_ms() / ms - 1.0).abs() < 0.011, "{found} is not {ms} ms");
        }
        assert_eq!((s.count, s.failures), (1_000, 0));
    }

    #[test]
    fn an_old_outage_is_forgotten_after_the_window() {
        let mut latency = Latency::new(Span::from_secs(60));
        (0..10).for_each(|_| latency.answered(at(0), Span::from_secs(9)));
        latency.failed(at(0));
        let one = |now, l: &Latency| Latency::summary(now, std::iter::once(l));
        assert_eq!(one(at(30), &latency).failures, 1);
        assert_eq!(one(at(75), &latency), LatencySummary::default());
        latency.answered(at(80), Span::from_ms(5));
        assert!(one(at(80), &latency).max < Span::from_ms(6));
        assert!(latency.turns.len() <= TURNS as usize);
    }

    #[test]
    fn sources_of_a_cell_are_seen_together() {
        let (mut a, mut b) = (Latency::new(Span::from_secs(60)), Latency::new(Span::from_secs(60)));
        a.answered(at(0), Span::from_ms(1));
        b.answered(at(0), Span::from_us(u64::MAX));
        b.failed(at(0));
        let s = Latency::summary(at(0), [&a, &b].into_iter());
        assert_eq!((s.count, s.failures), (2, 1));
        assert!(s.max >= Span::from_secs(600));
    }
}
