//! The governor: staging that stops paying is switched off, for one task type and source, and on again when it
//! would pay.
//!
//! Each ended prediction gives a return in [−1, 1]: the share of the fetch that it hid, or less than nothing
//! if it was wasted or harmful. Against "it pays (the mean return is at least zero)" bets are laid: capital
//! grows by `1 − λ·return`, for several λ at once. Under the hypothesis capital is a supermartingale, so
//! that large capital is evidence however often one looks (I. Waudby-Smith and A. Ramdas, "Estimating means of
//! bounded random variables by betting", J. R. Stat. Soc. B 86, 2024, §4). The capital of each λ is never let
//! below one: the e-detector of type CUSUM of J. Shin, A. Ramdas and A. Rinaldo ("E-detectors: a
//! nonparametric framework for sequential change detection", 2022, §2), which finds a change after a long good
//! time as soon as after a short one. With the threshold 1/α there is on average at most one false switch in
//! 1/α outcomes. While off, predictions go on without moving a byte, and the same bets are laid with the
//! opposite sign.

use crate::flow::{Map, TypeId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Stakes; the wealth of the test is the mean over them. No stake reaches 1, so that no outcome ruins it.
const STAKES: [f64; 4] = [0.1, 0.25, 0.5, 0.9];
/// Evidence at which is switched: on average at most one false switch in so many outcomes.
const THRESHOLD: f64 = 1_000.0;
/// Pairs of type and source that are watched; further ones are never switched off.
const WATCHED_MAX: usize = 4_096;
/// What a wasted transfer costs, as a share of its time: it took a little from others, who go first. (A price
/// as high as that of saved seconds would cost half of what staging gains.)
pub const WASTED: f64 = -0.1;
/// What it costs in addition when it pushed out what was then needed: somebody waited a whole fetch.
pub const HARMFUL: f64 = -1.0;

/// What is switched: a task type and a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Branch {
    /// Type of the tasks for which is staged.
    pub task_type: TypeId,
    /// Source of the objects.
    pub source: Arc<str>,
}

/// The evidence of one switch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Capital of the bets against what was held until now.
    pub capital: f64,
    /// Outcomes since the last switch.
    pub outcomes: u64,
    /// Their mean return.
    pub mean_return: f64,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evidence { capital, outcomes, mean_return } = self;
        write!(f, "mean return {mean_return:+.2} over {outcomes} outcomes, {capital:.0} : 1 against chance")
    }
}

/// Staging was switched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Switch {
    /// Which.
    pub branch: Branch,
    /// Whether it is on now.
    pub on: bool,
    /// Why.
    pub evidence: Evidence,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Test {
    on: bool,
    capital: [f64; STAKES.len()],
    outcomes: u64,
    returns: f64,
}

impl Test {
    fn new(on: bool) -> Test {
        Test { on, capital: [1.0; STAKES.len()], outcomes: 0, returns: 0.0 }
    }

    fn learn(&mut self, gain: f64) {
        self.outcomes += 1;
        self.returns += gain;
        let against = if self.on { -gain } else { gain };
        for (capital, stake) in self.capital.iter_mut().zip(STAKES) {
            *capital = capital.max(1.0) * (1.0 + stake * against);
        }
    }

    fn evidence(&self) -> Evidence {
        Evidence {
            capital: self.capital.iter().sum::<f64>() / STAKES.len() as f64,
            outcomes: self.outcomes,
            mean_return: self.returns / self.outcomes.max(1) as f64,
        }
    }
}

/// All switches.
#[derive(Clone, Debug, Default)]
pub struct Governor {
    tests: Map<Branch, Test>,
}

impl Governor {
    /// Whether staging is on for this branch.
    pub fn is_on(&self, branch: &Branch) -> bool {
        self.tests.get(branch).is_none_or(|t| t.on)
    }

    /// A prediction has ended with this return, clamped to [−1, 1]; while off, with the return that it would
    /// have had. Says if that switches the branch.
    pub fn learn(&mut self, branch: &Branch, gain: f64) -> Option<Switch> {
        if !self.tests.contains_key(branch) && self.tests.len() >= WATCHED_MAX {
            return None;
        }
        let test = self.tests.entry(branch.clone()).or_insert_with(|| Test::new(true));
        test.learn(gain.clamp(-1.0, 1.0));
        let evidence = test.evidence();
        if evidence.capital < THRESHOLD {
            return None;
        }
        let on = !test.on;
        *test = Test::new(on);
        Some(Switch { branch: branch.clone(), on, evidence })
    }

    /// Branches that are off, in a fixed order.
    pub fn off(&self) -> Vec<&Branch> {
        let mut off: Vec<&Branch> = self.tests.iter().filter(|(_, t)| !t.on).map(|(b, _)| b).collect();
        off.sort_unstable();
        off
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch() -> Branch {
        Branch { task_type: TypeId(1), source: "volumes".into() }
    }

    fn switches(g: &mut Governor, gains: impl Iterator<Item = f64>) -> Vec<(usize, bool)> {
        gains.enumerate().filter_map(|(i, gain)| g.learn(&branch(), gain).map(|s| (i, s.on))).collect()
    }

    #[test]
    fn staging_that_is_only_wasted_goes_off_and_comes_on_again_when_it_would_pay() {
        let mut g = Governor::default();
        assert!(g.is_on(&branch()));
        let off = switches(&mut g, std::iter::repeat_n(WASTED, 200));
        assert_eq!(off.len(), 1);
        assert!(!off[0].1 && off[0].0 < 120, "{off:?}");
        assert_eq!(g.off(), [&branch()]);
        let on = switches(&mut g, std::iter::repeat_n(0.9, 100));
        assert_eq!(on.len(), 1, "{on:?}");
        assert!(on[0].1 && on[0].0 < 30 && g.is_on(&branch()));
    }

    #[test]
    fn a_change_after_a_long_good_time_is_found_as_soon_as_after_a_short_one() {
        let after = |good: usize| {
            let mut g = Governor::default();
            assert_eq!(switches(&mut g, std::iter::repeat_n(0.8, good)), []);
            switches(&mut g, std::iter::repeat_n(-0.5, 100))[0].0
        };
        assert_eq!(after(10), after(10_000));
        assert!(after(10) < 30);
    }

    #[test]
    fn staging_that_just_pays_is_left_on() {
        // One in eight useful: .125 · .9 − .875 · .1 > 0. At most one false switch in 1,000 outcomes is promised.
        let mut rng = fastrand::Rng::with_seed(17);
        let mut switched = 0;
        for _ in 0..50 {
            let mut g = Governor::default();
            let gains: Vec<f64> = (0..500).map(|_| if rng.f64() < 0.125 { 0.9 } else { WASTED }).collect();
            switched += switches(&mut g, gains.into_iter()).len();
        }
        assert!(switched <= 25, "{switched} switches in 25,000 outcomes");
    }

    #[test]
    fn harm_counts_as_much_as_what_is_hidden() {
        let mut g = Governor::default();
        let gains = (0..400).map(|i| if i % 2 == 0 { 0.4 } else { HARMFUL });
        assert!(!switches(&mut g, gains)[0].1);
    }
}
