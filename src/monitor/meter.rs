//! Smoothed rates: how much of something is used per second, lately.
//!
//! Facts come late and cover a stretch of time: a sample covers the second since the last one, an outcome
//! what no sample saw. A meter takes `amount` used evenly over `from..to` and weighs each part of it by its
//! age, so it does not matter when or in how many pieces it is told, and a correction may be negative.

use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};

/// How quickly the past is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Smoothing {
    /// What happened `half_life` ago counts half. Zero is taken as one microsecond.
    HalfLife(Span),
    /// What happened within this span counts fully, what is older not at all (to a sixteenth of it).
    Window(Span),
}

/// Parts of a window: it is exact to a sixteenth.
const PARTS: usize = 16;

/// A smoothed rate per second.
#[derive(Clone, Debug)]
pub(super) enum Meter {
    /// `rate` as of `at`, which falls exponentially with time constant `tau_us`.
    Decay { rate: f64, at: Time, tau_us: f64 },
    /// Amounts by stretches of `width_us`; slot `i % PARTS` holds stretch `i`, `last` is the newest.
    Window { parts: Box<[f64; PARTS]>, last: u64, width_us: u64 },
}

impl Meter {
    pub fn new(smoothing: Smoothing) -> Meter {
        match smoothing {
            Smoothing::HalfLife(span) => {
                let tau_us = span.as_us().max(1) as f64 / std::f64::consts::LN_2;
                Meter::Decay { rate: 0.0, at: Time::ZERO, tau_us }
            }
            Smoothing::Window(span) => {
                let width_us = (span.as_us() / PARTS as u64).max(1);
                Meter::Window { parts: Box::new([0.0; PARTS]), last: 0, width_us }
            }
        }
    }

    /// `amount` was used evenly over `from..to`; all at once at `to` if that is no stretch.
    pub fn charge(&mut self, amount: f64, from: Time, to: Time) {
        match self {
            Meter::Decay { rate, at, tau_us } => {
                // The response of a first-order filter to a constant input of that length.
                let x = to.since(from).as_us() as f64 / *tau_us;
                let shape = if x > 1e-9 { -(-x).exp_m1() / x } else { 1.0 };
                let part = amount / (*tau_us / 1e6) * shape;
                if to >= *at {
                    *rate = *rate * decay(to.since(*at), *tau_us) + part;
                    *at = to;
                } else {
                    *rate += part * decay(at.since(to), *tau_us);
                }
            }
            Meter::Window { parts, last, width_us } => {
                let width = *width_us;
                roll(parts, last, to.as_us() / width);
                let (from, to) = (from.min(to).as_us(), to.as_us());
                let oldest = (*last + 1).saturating_sub(PARTS as u64);
                for i in (from / width).max(oldest)..=to / width {
                    let overlap = to.min((i + 1) * width).saturating_sub(from.max(i * width));
                    let share = if to > from { overlap as f64 / (to - from) as f64 } else { 1.0 };
                    parts[i as usize % PARTS] += amount * share;
                }
            }
        }
    }

    /// The rate per second at `now`, not below zero.
    pub fn rate(&self, now: Time) -> f64 {
        match self {
            Meter::Decay { rate, at, tau_us } => (rate * decay(now.since(*at), *tau_us)).max(0.0),
            Meter::Window { parts, last, width_us } => {
                let current = (now.as_us() / width_us).max(*last);
                let oldest = (current + 1).saturating_sub(PARTS as u64);
                let kept = (oldest..=*last).filter(|i| *last - i < PARTS as u64);
                let sum: f64 = kept.map(|i| parts[i as usize % PARTS]).sum();
                let begun = now.as_us().saturating_sub(current * width_us);
                let over_us = (PARTS as u64 - 1) * width_us + begun.max(1);
                (sum / (over_us as f64 / 1e6)).max(0.0)
            }
        }
    }
}

fn decay(span: Span, tau_us: f64) -> f64 {
    (-(span.as_us() as f64) / tau_us).exp()
}

/// Makes stretch `to` the newest, with zeros for those between.
fn roll(parts: &mut [f64; PARTS], last: &mut u64, to: u64) {
    if to <= *last {
        return;
    }
    for i in (*last + 1)..=to.min(*last + PARTS as u64) {
        parts[i as usize % PARTS] = 0.0;
    }
    if to > *last + PARTS as u64 {
        parts.fill(0.0);
    }
    *last = to;
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Smoothing; 2] =
        [Smoothing::HalfLife(Span::from_secs(5)), Smoothing::Window(Span::from_secs(16))];

    fn at(s: f64) -> Time {
        Time::from_s(1_000.0 + s)
    }

    fn close(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance * b.abs().max(1e-9), "{a} is not {b}");
    }

    #[test]
    fn a_steady_rate_is_found_and_forgotten() {
        for smoothing in BOTH {
            let mut meter = Meter::new(smoothing);
            for second in 0..120 {
                meter.charge(3.0, at(f64::from(second)), at(f64::from(second + 1)));
            }
            close(meter.rate(at(120.0)), 3.0, 0.01);
            assert!(meter.rate(at(200.0)) < 0.001, "{smoothing:?}");
        }
    }

    #[test]
    fn half_life_means_half() {
        let mut meter = Meter::new(BOTH[0]);
        meter.charge(1.0, at(0.0), at(0.0));
        let first = meter.rate(at(0.0));
        close(meter.rate(at(5.0)), first / 2.0, 1e-9);
        close(meter.rate(at(15.0)), first / 8.0, 1e-9);
    }

    #[test]
    fn late_news_in_one_piece_equals_live_news_in_many() {
        for smoothing in BOTH {
            let (mut live, mut late) = (Meter::new(smoothing), Meter::new(smoothing));
            for tick in 0..40 {
                live.charge(0.5, at(f64::from(tick) * 0.1), at(f64::from(tick + 1) * 0.1));
            }
            // Something else was told in between, at a later moment.
            late.charge(1.0, at(5.0), at(6.0));
            late.charge(20.0, at(0.0), at(4.0));
            live.charge(1.0, at(5.0), at(6.0));
            close(late.rate(at(6.5)), live.rate(at(6.5)), 1e-6);
        }
    }

    #[test]
    fn a_correction_takes_back_exactly_what_was_too_much() {
        for smoothing in BOTH {
            let (mut right, mut corrected) = (Meter::new(smoothing), Meter::new(smoothing));
            right.charge(2.0, at(0.0), at(4.0));
            corrected.charge(8.0, at(0.0), at(4.0));
            corrected.charge(-6.0, at(0.0), at(4.0));
            close(corrected.rate(at(5.0)), right.rate(at(5.0)), 1e-9);
            corrected.charge(-100.0, at(5.0), at(5.0));
            assert_eq!(corrected.rate(at(5.0)), 0.0);
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_dropped() {
        let mut meter = Meter::new(BOTH[1]);
        meter.charge(5.0, at(100.0), at(101.0));
        meter.charge(1e9, at(0.0), at(1.0));
        close(meter.rate(at(101.0)), 5.0 / 16.0, 0.07);
        meter.charge(1.0, at(900.0), at(901.0));
        close(meter.rate(at(901.0)), 1.0 / 16.0, 0.07);
    }
}
