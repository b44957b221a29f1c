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
    /// All turns together, so that reading, which happens in every round, is one pass.
    all: Option<Histogram<u32>>,
}

impl Latency {
    /// Looks back over `window`, to a sixth of it.
    pub fn new(window: Span) -> Latency {
        let turn = Span::from_us((window.as_us() / TURNS).max(1));
        Latency { turn, turns: VecDeque::new(), all: None }
    }

    /// An answer came after `latency`.
    pub fn answered(&mut self, now: Time, latency: Span) {
        let us = latency.as_us().max(1);
        self.current(now).histogram.saturating_record(us);
        self.all.get_or_insert_with(histogram).saturating_record(us);
    }

    /// No answer came.
    pub fn failed(&mut self, now: Time) {
        self.current(now).failures += 1;
    }

    fn current(&mut self, now: Time) -> &mut Turn {
        let number = now.as_us() / self.turn.as_us();
        if self.turns.back().is_none_or(|t| t.number < number) {
            self.turns.retain(|t| t.number + TURNS > number);
            self.all = self.turns.iter().map(|t| &t.histogram).fold(None, |all, turn| Some(sum(all, turn)));
            self.turns.push_back(Turn { number, histogram: histogram(), failures: 0 });
        }
        self.turns.back_mut().expect("a turn was just made if there was none")
    }

    /// The turns that lie in the window that ends now.
    fn within(&self, now: Time) -> impl Iterator<Item = &Turn> {
        let number = now.as_us() / self.turn.as_us();
        self.turns.iter().filter(move |t| t.number + TURNS > number)
    }

    /// Percentiles over the window that ends now, of several sources together.
    pub fn summary<'a>(now: Time, sources: impl Iterator<Item = &'a Latency>) -> LatencySummary {
        let sources: Vec<&Latency> = sources.filter(|s| s.within(now).next().is_some()).collect();
        let failures = sources.iter().flat_map(|s| s.within(now)).map(|t| t.failures).sum();
        // One source with nothing to forget, the common case, has its sum at hand.
        let at_hand = match sources[..] {
            [one] if one.within(now).count() == one.turns.len() => one.all.as_ref(),
            _ => None,
        };
        if let Some(all) = at_hand {
            return summary_of(all, failures);
        }
        let turns = sources.iter().flat_map(|s| s.within(now)).map(|t| &t.histogram);
        let all = turns.fold(None, |all, turn| Some(sum(all, turn)));
        all.map_or(LatencySummary::default(), |all| summary_of(&all, failures))
    }
}

fn summary_of(all: &Histogram<u32>, failures: u64) -> LatencySummary {
    if all.is_empty() {
        return LatencySummary { failures, ..LatencySummary::default() };
    }
    let at = |p: f64| Span::from_us(all.value_at_quantile(p));
    let (p50, p90, p99) = (at(0.5), at(0.9), at(0.99));
    LatencySummary { count: all.len(), failures, p50, p90, p99, max: Span::from_us(all.max()) }
}

fn sum(all: Option<Histogram<u32>>, turn: &Histogram<u32>) -> Histogram<u32> {
    let Some(mut all) = all else { return turn.clone() };
    all.add(turn).expect("all histograms have the same bounds");
    all
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
    fn the_sum_at_hand_is_the_sum_of_the_turns() {
        let mut latency = Latency::new(Span::from_secs(60));
        let mut rng = fastrand::Rng::with_seed(4);
        let mut now = 0;
        for _ in 0..2_000 {
            now += rng.u64(0..3) * rng.u64(0..12);
            latency.answered(at(now), Span::from_us(rng.u64(1..1_000_000)));
            let turns = latency.turns.iter().map(|t| &t.histogram).fold(None, |a, t| Some(sum(a, t)));
            assert_eq!(latency.all, turns);
            assert_eq!(latency.within(at(now)).count(), latency.turns.len());
        }
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
