//! Rate limits: how many tasks of a type may start in a time.

use crate::task::Rate;
use crate::time::{Span, Time};

/// A token bucket in the form of the generic cell rate algorithm (ITU-T I.371, annex A): one moment says all.
///
/// A full bucket gives `starts` at once and then one every `per / starts`, so that no window of length `per`
/// sees more than twice `starts`, and in the long run `starts` for each `per`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// When the bucket would be full again.
    full_at: Time,
}

impl Bucket {
    /// When the next start is due; `None` if one may start now.
    pub fn next(&self, rate: &Rate, now: Time) -> Option<Time> {
        // A start takes one step; the bucket holds `per`, so it has room for one if it is full in `per − step`.
        let room = rate.per.as_us().saturating_sub(step(rate).as_us());
        let due = self.full_at - Span::from_us(room);
        (due > now).then_some(due)
    }

    /// One starts now.
    pub fn take(&mut self, rate: &Rate, now: Time) {
        self.full_at = self.full_at.max(now) + step(rate);
    }
}

/// The time of one start, rounded up, so that rounding never lets one more through.
fn step(rate: &Rate) -> Span {
    Span::from_us(rate.per.as_us().div_ceil(u64::from(rate.starts)).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(rate: &Rate, until: Time) -> Vec<u64> {
        let (mut bucket, mut now, mut at) = (Bucket::default(), Time::from_us(1 << 40), vec![]);
        let begin = now;
        while now.since(begin) < until.since(Time::ZERO) {
            if let Some(next) = bucket.next(rate, now) {
                assert!(next > now);
                now = next;
                continue;
            }
            bucket.take(rate, now);
            at.push(now.since(begin).as_us());
        }
        at
    }

    #[test]
    fn a_burst_then_a_steady_pace() {
        let rate = Rate { starts: 4, per: Span::from_secs(1) };
        let at = starts(&rate, Time::from_us(2_000_000));
        assert_eq!(at, [0, 0, 0, 0, 250_000, 500_000, 750_000, 1_000_000, 1_250_000, 1_500_000, 1_750_000]);
    }

    #[test]
    fn any_rate_holds_in_the_long_run() {
        let mut r = fastrand::Rng::with_seed(1);
        for _ in 0..50 {
            let rate = Rate { starts: r.u32(1..50), per: Span::from_ms(r.u64(1..5_000)) };
            let windows = 20;
            let n = starts(&rate, Time::from_us(windows * rate.per.as_us())).len() as u64;
            let allowed = (windows + 1) * u64::from(rate.starts);
            assert!(
                n <= allowed && n + u64::from(rate.starts) + windows >= allowed,
                "{rate:?}: {n} of {allowed}"
            );
        }
    }
}
