//! The control group: a small share of objects, drawn by (object, hour), is predicted and not staged.
//!
//! Only the draw differs between the two groups, so the difference of their mean waits is what staging saves,
//! whatever else changes over the day. The interval is Welch's (B. L. Welch, "The generalization of
//! 'Student's' problem when several different population variances are involved", Biometrika 34, 1947), with
//! the normal quantile: groups below 30 demands are not judged.

use crate::flow::ObjectName;
use crate::time::Time;
use serde::{Deserialize, Serialize};

/// Two-sided 95 %.
const Z: f64 = 1.96;
/// Fewest demands of each group that are judged.
const LEAST: f64 = 30.0;
const HOUR_US: u64 = 3_600_000_000;

/// Whether an object belongs to the control group in this hour.
pub fn is_control(object: &ObjectName, now: Time, share: f64, seed: u64) -> bool {
    let hour = now.as_us() / HOUR_US;
    let draw = xxhash_rust::xxh3::xxh3_64_with_seed(
        object.as_str().as_bytes(),
        seed ^ hour.wrapping_mul(0x9E37_79B9_7F4A_7C15),
    );
    (draw >> 11) as f64 / (1u64 << 53) as f64 <= share && share > 0.0
}

/// Mean and variance of the waits of one group (Welford 1962).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    n: f64,
    mean_s: f64,
    squares: f64,
}

impl Group {
    fn learn(&mut self, wait_s: f64) {
        self.n += 1.0;
        let off = wait_s - self.mean_s;
        self.mean_s += off / self.n;
        self.squares += off * (wait_s - self.mean_s);
    }
    fn variance_of_mean(&self) -> f64 {
        self.squares / (self.n - 1.0).max(1.0) / self.n.max(1.0)
    }
}

/// Waits for objects that were expected: staged ones and controls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    staged: Group,
    control: Group,
}

/// What is known of the saving for each expected demand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Too little, or the interval holds zero.
    NotYetKnown {
        /// The interval so far, seconds, once both groups can be judged.
        interval_s: Option<[f64; 2]>,
        /// Demands of the smaller group.
        demands: u64,
    },
    /// The interval excludes zero.
    Known {
        /// Seconds saved for each expected demand; negative is harm.
        saved_s: f64,
        /// 95 % interval, seconds.
        interval_s: [f64; 2],
    },
}

impl Trial {
    /// A task demanded an object that was expected, and waited so long for it.
    pub fn learn(&mut self, control: bool, wait_s: f64) {
        if control { self.control.learn(wait_s) } else { self.staged.learn(wait_s) }
    }

    /// The saving, as far as it is known.
    pub fn verdict(&self) -> Verdict {
        let (s, c) = (&self.staged, &self.control);
        let demands = s.n.min(c.n);
        if demands < LEAST {
            return Verdict::NotYetKnown { interval_s: None, demands: demands as u64 };
        }
        let saved_s = c.mean_s - s.mean_s;
        let half = Z * (s.variance_of_mean() + c.variance_of_mean()).sqrt();
        let interval_s = [saved_s - half, saved_s + half];
        if interval_s[0] <= 0.0 && interval_s[1] >= 0.0 {
            Verdict::NotYetKnown { interval_s: Some(interval_s), demands: demands as u64 }
        } else {
            Verdict::Known { saved_s, interval_s }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_draw_is_stable_and_of_the_asked_share() {
        let drawn = |h: u64| {
            let now = Time::from_us(h * HOUR_US);
            (0..10_000).filter(|i| is_control(&ObjectName::new(format!("v:{i}")), now, 0.02, 1)).count()
        };
        assert_eq!(drawn(5), drawn(5));
        assert!((140..260).contains(&drawn(5)), "{} of 10,000", drawn(5));
        let o = ObjectName::new("v:1");
        assert!(!is_control(&o, Time::ZERO, 0.0, 1), "a share of zero draws nobody");
    }

    #[test]
    fn nothing_is_claimed_before_the_interval_excludes_zero() {
        let mut t = Trial::default();
        assert!(matches!(t.verdict(), Verdict::NotYetKnown { interval_s: None, .. }));
        for i in 0..100 {
            let noise = f64::from(i % 10) / 100.0;
            t.learn(false, 0.05 + noise);
            t.learn(true, 0.05 + noise);
        }
        assert!(matches!(t.verdict(), Verdict::NotYetKnown { interval_s: Some(_), .. }));
        for i in 0..100 {
            let noise = f64::from(i % 10) / 100.0;
            t.learn(false, 0.01 + noise);
            t.learn(true, 0.15 + noise);
        }
        let Verdict::Known { saved_s, interval_s } = t.verdict() else { panic!("{:?}", t.verdict()) };
        assert!((saved_s - 0.07).abs() < 1e-9 && interval_s[0] > 0.0);
    }
}
