//! The control group: a small share of objects, drawn by (object, hour), is predicted and not staged.
//!
//! Only the draw differs between the two groups, so the difference of their mean waits is what staging saves,
//! whatever else changes over the day. What is drawn is an object for an hour, so that is what is counted: the
//! mean wait of its expected demands in that hour is one observation, however many they were.
//!
//! People look at the figure again and again, so the interval must hold at every look. It is the sum of the two
//! groups' asymptotic confidence sequences at 97.5 % each (I. Waudby-Smith, D. Arbour, R. Sinha,
//! E. H. Kennedy and A. Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences",
//! Annals of Statistics 52, 2024, theorem 2.2): `mean ± σ·√(2(nρ²+1)/(n²ρ²) · ln(√(nρ²+1)/α))`, ρ such that
//! it is narrowest at n = 200. Groups below 30 observations are not judged.

use crate::flow::ObjectName;
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Error of one group's sequence; both together 5 %.
const ALPHA: f64 = 0.025;
/// Where the sequence is narrowest.
const NARROWEST: f64 = 200.0;
/// Fewest observations of each group that are judged.
const LEAST: f64 = 30.0;
/// Objects of the current hour that are followed; of more, those that come first.
const FOLLOWED: usize = 65_536;
const HOUR_US: u64 = 3_600_000_000;

fn hour(now: Time) -> u64 {
    now.as_us() / HOUR_US
}

/// Whether an object belongs to the control group in this hour.
pub fn is_control(object: &ObjectName, now: Time, share: f64, seed: u64) -> bool {
    let seed = seed ^ hour(now).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let draw = xxhash_rust::xxh3::xxh3_64_with_seed(object.as_str().as_bytes(), seed);
    ((draw >> 11) as f64 / (1u64 << 53) as f64) < share
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

    /// Half the width of its confidence sequence, seconds.
    fn half_s(&self) -> f64 {
        let (n, wanted) = (self.n, -2.0 * ALPHA.ln());
        // Eq. 24 there: the ρ that makes the sequence narrowest at one n.
        let rho2 = (wanted + wanted.ln() + 1.0) / NARROWEST;
        let variance = self.squares / (n - 1.0).max(1.0);
        let spread = n * rho2 + 1.0;
        (variance * 2.0 * spread / (n * n * rho2) * (spread.sqrt() / ALPHA).ln()).sqrt()
    }
}

/// Expected demands of one object in one hour.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Unit {
    control: bool,
    demands: u32,
    wait_s: f64,
}

/// Waits for objects that were expected: staged ones and controls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trial {
    staged: Group,
    control: Group,
    hour: u64,
    open: BTreeMap<ObjectName, Unit>,
}

/// What is known of the saving for each expected demand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Too little, or the interval holds zero.
    NotYetKnown {
        /// The interval so far, seconds, once both groups can be judged.
        interval_s: Option<[f64; 2]>,
        /// Observations of the smaller group.
        demands: u64,
    },
    /// The interval excludes zero.
    Known {
        /// Seconds saved for each expected demand; negative is harm.
        saved_s: f64,
        /// 95 % interval, seconds; it holds at every look.
        interval_s: [f64; 2],
    },
}

impl Trial {
    /// An object was worth staging: it is staged, or left out as a control. From now on until the hour is over
    /// all its demands count for its group, whatever becomes of the transfer, the cache or the forecast.
    pub fn assigned(&mut self, object: &ObjectName, control: bool, now: Time) {
        self.turn(now);
        if self.open.len() < FOLLOWED || self.open.contains_key(object) {
            self.open.entry(object.clone()).or_insert(Unit { control, demands: 0, wait_s: 0.0 });
        }
    }

    /// A task demanded an object, and waited so long for it.
    pub fn demanded(&mut self, object: &ObjectName, wait_s: f64, now: Time) {
        self.turn(now);
        if let Some(unit) = self.open.get_mut(object) {
            unit.demands += 1;
            unit.wait_s += wait_s;
        }
    }

    /// At the end of an hour its objects become observations.
    fn turn(&mut self, now: Time) {
        if hour(now) != self.hour {
            (self.staged, self.control) = self.groups();
            self.hour = hour(now);
            self.open.clear();
        }
    }

    /// Both groups, the current hour's objects included.
    fn groups(&self) -> (Group, Group) {
        let (mut staged, mut control) = (self.staged, self.control);
        for u in self.open.values().filter(|u| u.demands > 0) {
            let group = if u.control { &mut control } else { &mut staged };
            group.learn(u.wait_s / f64::from(u.demands));
        }
        (staged, control)
    }

    /// The saving, as far as it is known. Cost: one step for each object of the current hour.
    pub fn verdict(&self) -> Verdict {
        let (s, c) = self.groups();
        let least = s.n.min(c.n);
        if least < LEAST {
            return Verdict::NotYetKnown { interval_s: None, demands: least as u64 };
        }
        let saved_s = c.mean_s - s.mean_s;
        let half = s.half_s() + c.half_s();
        let interval_s = [saved_s - half, saved_s + half];
        if interval_s[0] <= 0.0 && interval_s[1] >= 0.0 {
            Verdict::NotYetKnown { interval_s: Some(interval_s), demands: least as u64 }
        } else {
            Verdict::Known { saved_s, interval_s }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(i: u32) -> ObjectName {
        ObjectName::new(format!("v:{i}"))
    }

    #[test]
    fn the_draw_is_stable_and_of_the_asked_share() {
        let drawn = |h: u64| {
            let now = Time::from_us(h * HOUR_US);
            (0..10_000).filter(|i| is_control(&object(*i), now, 0.02, 1)).collect::<Vec<_>>()
        };
        assert_eq!(drawn(5), drawn(5));
        assert_ne!(drawn(5), drawn(6));
        assert!((140..260).contains(&drawn(5).len()), "{} of 10,000", drawn(5).len());
        assert!(!is_control(&object(1), Time::ZERO, 0.0, 1), "a share of zero draws nobody");
    }

    fn learn(t: &mut Trial, object: &ObjectName, control: bool, wait_s: f64, now: Time) {
        t.assigned(object, control, now);
        t.demanded(object, wait_s, now);
    }

    #[test]
    fn nothing_is_claimed_before_the_interval_excludes_zero() {
        let mut t = Trial::default();
        assert!(matches!(t.verdict(), Verdict::NotYetKnown { interval_s: None, .. }));
        let both = |t: &mut Trial, from: u32, staged_s: f64, control_s: f64| {
            for i in from..from + 200 {
                let noise = f64::from(i % 10) / 100.0;
                learn(t, &object(2 * i), false, staged_s + noise, Time::ZERO);
                learn(t, &object(2 * i + 1), true, control_s + noise, Time::ZERO);
            }
        };
        both(&mut t, 0, 0.05, 0.05);
        assert!(matches!(t.verdict(), Verdict::NotYetKnown { interval_s: Some(_), .. }));
        both(&mut t, 1_000, 0.01, 0.15);
        let Verdict::Known { saved_s, interval_s } = t.verdict() else { panic!("{:?}", t.verdict()) };
        assert!((saved_s - 0.07).abs() < 1e-9 && interval_s[0] > 0.0);
    }

    #[test]
    fn one_object_in_one_hour_is_one_observation() {
        let mut t = Trial::default();
        for _ in 0..1_000 {
            learn(&mut t, &object(1), true, 1.0, Time::ZERO);
            learn(&mut t, &object(2), false, 0.0, Time::ZERO);
        }
        assert_eq!(t.verdict(), Verdict::NotYetKnown { interval_s: None, demands: 1 });
        learn(&mut t, &object(1), true, 1.0, Time::from_us(HOUR_US));
        assert_eq!(t.groups().1.n, 2.0);
    }

    #[test]
    fn demands_of_what_was_never_worth_staging_do_not_count() {
        let mut t = Trial::default();
        t.demanded(&object(1), 1.0, Time::ZERO);
        t.assigned(&object(2), true, Time::ZERO);
        assert_eq!(t.groups(), (Group::default(), Group::default()));
    }

    #[test]
    fn looking_all_the_time_seldom_claims_what_is_not_there() {
        let mut rng = fastrand::Rng::with_seed(23);
        let mut claimed = 0;
        for _ in 0..100 {
            let mut t = Trial::default();
            let wrong = (0..500u32).any(|i| {
                // Twelve to one, both from the same skewed distribution.
                learn(&mut t, &object(i), i % 13 == 0, -0.1 * (1.0 - rng.f64()).ln(), Time::ZERO);
                i % 3 == 0 && matches!(t.verdict(), Verdict::Known { .. })
            });
            claimed += u32::from(wrong);
        }
        assert!(claimed <= 5, "{claimed} of 100 false claims; 5 % are promised");
    }
}
