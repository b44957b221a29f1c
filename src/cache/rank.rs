//! Forecast rank: entries that somebody is expected to need, and how far away that need is.
//!
//! Distance of an entry = (expected need − now) / p; once overdue, (0.05 s + half the overdue time) / p.
//! The farthest leaves first. Distances of different p grow at different rates, so no single order holds
//! over time; within one p it does. Probabilities are therefore rounded to 64 levels (each 2^(1/8) apart:
//! 4.4 % at most), each level is kept in order of need, and the farthest entry of a level is always at one of
//! its two ends: the latest need, or the longest overdue. An operation costs O(log n), a search 64 looks.

use super::policy::Slot;
use crate::time::Time;
use std::collections::BTreeSet;

/// A need that a forecast sees coming.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Need {
    /// When it is expected.
    pub due: Time,
    /// Probability that it comes, in (0, 1].
    pub p: f64,
}

/// Levels of probability: from 1 down to 2^(−63/8) = .004.
const LEVELS: usize = 64;
const LEVELS_PER_OCTAVE: f64 = 8.0;
/// An overdue need may come at any moment: it counts as this far away, and as half its delay on top.
const OVERDUE_S: f64 = 0.05;

/// How far away a need is; what no forecast needs is infinitely far.
pub(super) type DistanceS = f64;

impl Need {
    fn level(&self) -> usize {
        let level = (-LEVELS_PER_OCTAVE * self.p.log2()).round();
        // `as` maps NaN and what is negative to zero.
        (level as usize).min(LEVELS - 1)
    }
    /// How far away it is at `now`, with p rounded to its level.
    pub(super) fn distance(&self, now: Time) -> DistanceS {
        distance(self.due, self.level(), now)
    }
}

fn distance(due: Time, level: usize, now: Time) -> DistanceS {
    let p = (-(level as f64) / LEVELS_PER_OCTAVE).exp2();
    let wait_s = if due >= now { due.since(now).as_s() } else { OVERDUE_S + now.since(due).as_s() / 2.0 };
    wait_s / p
}

/// The entries that a forecast ranks, by level and need.
#[derive(Debug)]
pub(super) struct ForecastRank {
    levels: Vec<BTreeSet<(Time, Slot)>>,
    len: usize,
}

impl ForecastRank {
    /// Nothing is expected.
    pub(super) fn new() -> ForecastRank {
        ForecastRank { levels: vec![BTreeSet::new(); LEVELS], len: 0 }
    }
    /// How many entries are ranked.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }
    /// Ranks an entry that is not ranked yet.
    pub(super) fn insert(&mut self, slot: Slot, need: Need) {
        let fresh = self.levels[need.level()].insert((need.due, slot));
        assert!(fresh, "an entry is ranked once");
        self.len += 1;
    }
    /// Takes an entry out that was ranked with `need`.
    pub(super) fn remove(&mut self, slot: Slot, need: Need) {
        let there = self.levels[need.level()].remove(&(need.due, slot));
        assert!(there, "a ranked entry stands under its need");
        self.len -= 1;
    }
    /// The entry whose need is farthest away at `now`.
    pub(super) fn farthest(&self, now: Time) -> Option<(DistanceS, Slot)> {
        let mut best: Option<(DistanceS, Slot)> = None;
        for (level, needs) in self.levels.iter().enumerate() {
            for &(due, slot) in needs.first().into_iter().chain(needs.last()) {
                let d = distance(due, level, now);
                if best.is_none_or(|b| d > b.0) {
                    best = Some((d, slot));
                }
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(due_s: f64, p: f64) -> Need {
        Need { due: Time::from_s(due_s), p }
    }

    #[test]
    fn distance_is_wait_over_probability_and_overdue_counts_half() {
        let now = Time::from_s(10.0);
        assert!((need(14.0, 1.0).distance(now) - 4.0).abs() < 1e-9);
        assert!((need(14.0, 0.5).distance(now) - 8.0).abs() < 1e-9);
        assert!((need(6.0, 1.0).distance(now) - 2.05).abs() < 1e-9);
        assert!((need(14.0, 0.77).distance(now) / (4.0 / 0.77) - 1.0).abs() < 0.045);
    }

    #[test]
    fn farthest_agrees_with_a_search_through_all() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut rank = ForecastRank::new();
        let mut all: Vec<Option<Need>> = vec![];
        for slot in 0..300 {
            let n = need(rng.f64() * 100.0, 0.001 + rng.f64());
            rank.insert(slot, n);
            all.push(Some(n));
        }
        while rank.len() > 0 {
            let now = Time::from_s(rng.f64() * 150.0);
            let (d, slot) = rank.farthest(now).unwrap();
            let brute = all.iter().flatten().map(|n| n.distance(now)).fold(f64::MIN, f64::max);
            assert!((d - brute).abs() < 1e-9, "farthest is {d} but another is {brute} away");
            rank.remove(slot, all[slot as usize].take().unwrap());
        }
    }
}
