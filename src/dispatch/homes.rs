//! Where each type is at home: the workers that are expected to run it fastest.
//!
//! A free worker that is clearly slower at a type than its home does not take a task of it at once: the
//! task may wait until the home has a slot (late binding). How long is worth it is decided by
//! [`worth_waiting`]; this file keeps what it needs, so that the question costs O(1).

use crate::flow::{Map, TypeId, WorkerId};
use crate::time::Span;

/// Most workers that are a type's home together.
pub const HOME_WORKERS: usize = 4;
/// A worker belongs to the home if it is expected to take at most this much longer than the best.
const AS_GOOD: f64 = 1.15;
/// A worker is clearly slower than a home if it is expected to take this much longer.
const CLEARLY_SLOWER: f64 = 1.25;
/// A start elsewhere has to gain this share of the time at home: the slot that it takes will be missed there.
/// The optimum is flat: between 0 and 0.5 the mean latency of two unlike pairs at 57 to 85 % load differs
/// by less than 2 %.
const SPILL: f64 = 0.25;

/// The workers that are best at a type, best first, and what they take.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Home {
    /// Who.
    pub workers: Vec<WorkerId>,
    /// How long the best of them is expected to take.
    pub expected: Span,
}

impl Home {
    /// Of all workers with their expected times, in order of their index.
    pub fn of(expected: impl Iterator<Item = (WorkerId, Span)>) -> Home {
        let mut best: Vec<(Span, WorkerId)> = Vec::with_capacity(HOME_WORKERS + 1);
        for (w, span) in expected {
            let at = best.partition_point(|b| *b <= (span, w));
            if at < HOME_WORKERS {
                best.insert(at, (span, w));
                best.truncate(HOME_WORKERS);
            }
        }
        let Some((least, _)) = best.first().copied() else { return Home::default() };
        let close = best.iter().take_while(|(s, _)| s.as_us() as f64 <= least.as_us() as f64 * AS_GOOD);
        Home { workers: close.map(|(_, w)| *w).collect(), expected: least }
    }

    /// Whether a worker that is expected to take `here` is clearly slower.
    pub fn is_clearly_better_than(&self, here: Span) -> bool {
        !self.workers.is_empty() && here.as_us() as f64 > self.expected.as_us() as f64 * CLEARLY_SLOWER
    }
}

/// All homes, and how many ready tasks are at home at each worker.
#[derive(Debug, Default)]
pub struct Homes {
    of_type: Map<TypeId, Home>,
    stale: Map<TypeId, ()>,
    /// Ready tasks whose type has its best worker here.
    backlog: Map<WorkerId, u32>,
}

impl Homes {
    /// A type's home, if it is known and nothing has changed since.
    pub fn get(&self, task_type: TypeId) -> Option<&Home> {
        if self.stale.contains_key(&task_type) { None } else { self.of_type.get(&task_type) }
    }

    /// A type's home as it was last worked out.
    pub fn latest(&self, task_type: TypeId) -> Option<&Home> {
        self.of_type.get(&task_type)
    }

    /// Sets a type's home; `ready` of its tasks are ready.
    pub fn set(&mut self, task_type: TypeId, home: Home, ready: u32) {
        self.count(task_type, -i64::from(ready));
        self.of_type.insert(task_type, home);
        self.stale.remove(&task_type);
        self.count(task_type, i64::from(ready));
    }

    /// A worker's expectation of a type has changed to `expected`: whether the home may be another one now.
    pub fn moved(&mut self, worker: WorkerId, task_type: TypeId, expected: Span) {
        if let Some(home) = self.of_type.get(&task_type)
            && (home.workers.contains(&worker)
                || (expected.as_us() as f64) < home.expected.as_us() as f64 * AS_GOOD)
        {
            self.stale.insert(task_type, ());
        }
    }

    /// A worker came or went: the homes that it is part of are worked out anew. One that came is found when its
    /// standings come.
    pub fn changed(&mut self, worker: WorkerId) {
        for (task_type, home) in &self.of_type {
            if home.workers.contains(&worker) {
                self.stale.insert(*task_type, ());
            }
        }
    }

    /// Ready tasks of a type came (or went, if negative).
    pub fn count(&mut self, task_type: TypeId, by: i64) {
        let Some(first) = self.of_type.get(&task_type).and_then(|h| h.workers.first()) else { return };
        let backlog = self.backlog.entry(*first).or_default();
        *backlog = u32::try_from(i64::from(*backlog) + by).expect("what goes was counted when it came");
    }

    /// Ready tasks at home at any of a home's workers.
    pub fn backlog(&self, home: &Home) -> u32 {
        home.workers.iter().filter_map(|w| self.backlog.get(w)).sum()
    }

    #[cfg(test)]
    pub fn assert_invariants(&self, ready_of: impl Fn(TypeId) -> u32) {
        let mut counted: std::collections::BTreeMap<WorkerId, u32> = std::collections::BTreeMap::new();
        for (t, home) in &self.of_type {
            if let Some(w) = home.workers.first() {
                *counted.entry(*w).or_default() += ready_of(*t);
            }
        }
        for (w, n) in &counted {
            assert_eq!(self.backlog.get(w).copied().unwrap_or(0), *n, "backlog of {w}");
        }
    }
}

/// Whether a task had better wait for its home than start here at once.
///
/// With `n` tasks waiting for `slots` slots of the home, each of which is expected to take `home`, the first
/// slot to be free in `wait`: starting one of them here saves it the wait and `home`, costs it `here`, and lets
/// each of the `n − 1` others start `home / slots` earlier. If that does not gain a share of `home`, it waits.
/// (The position of the one that starts here does not matter: what it waits less, the ones behind it gain less.)
pub fn worth_waiting(here: Span, home: Span, wait: Span, n: u32, slots: u32) -> bool {
    let (here, home, wait) = (here.as_s(), home.as_s(), wait.as_s());
    let others = f64::from(n.max(1) - 1) * home / f64::from(slots.max(1));
    wait + home - here + others <= SPILL * home
}

/// How long a slot is still busy, by what its attempt was expected to take.
///
/// One that is overdue is taken to need half as long again as it is late: an expectation that was wrong is
/// not right a moment later, and whoever waits for it gives up in the end.
pub fn still_busy(expected_end_in: Span, overdue: Span) -> Span {
    expected_end_in + overdue.times(0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Span {
        Span::from_ms(ms)
    }

    #[test]
    fn the_home_is_the_best_and_those_as_good() {
        let times = [100, 210, 90, 103, 104, 95, 92];
        let home = Home::of((0..).zip(times).map(|(w, t)| (WorkerId(w), ms(t))));
        assert_eq!(home.workers, [2, 6, 5, 0].map(WorkerId));
        assert_eq!(home.expected, ms(90));
        assert!(home.is_clearly_better_than(ms(210)) && !home.is_clearly_better_than(ms(104)));
        assert!(!Home::default().is_clearly_better_than(ms(1)));
    }

    #[test]
    fn a_short_queue_waits_and_a_long_one_spills() {
        let waits = |n, wait| worth_waiting(ms(200), ms(100), ms(wait), n, 2);
        assert!(waits(1, 50), "150 ms there, 200 ms here");
        assert!(!waits(1, 130), "230 ms there, 200 ms here");
        assert!(waits(2, 20) && !waits(4, 50), "those behind would gain more than it loses");
        assert!(!worth_waiting(ms(100), ms(100), ms(30), 1, 2), "no better there");
    }

    #[test]
    fn backlogs_follow_the_homes() {
        let mut homes = Homes::default();
        let at = |w| Home { workers: vec![WorkerId(w)], expected: ms(10) };
        homes.count(TypeId(0), 3);
        homes.set(TypeId(0), at(1), 3);
        homes.set(TypeId(1), at(1), 2);
        assert_eq!(homes.backlog(&at(1)), 5);
        homes.count(TypeId(1), -1);
        homes.moved(WorkerId(0), TypeId(0), ms(11));
        assert_eq!(homes.get(TypeId(0)), None, "somebody else is as good now");
        homes.set(TypeId(0), at(0), 3);
        assert_eq!((homes.backlog(&at(0)), homes.backlog(&at(1))), (3, 1));
        homes.moved(WorkerId(5), TypeId(0), ms(99));
        assert!(homes.get(TypeId(0)).is_some());
    }
}
