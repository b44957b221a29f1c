//! How many attempts of each type each worker has ended, and how long they took: only ever grows.

use crate::flow::{Outcome, TypeId, WorkerId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most pairs of worker and type that are counted apart: 500 workers × 130 types. Later ones are not counted.
pub const MAX_PAIRS: usize = 65_536;

/// Attempts of one type at one worker, since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Attempts that ended.
    pub attempts: u64,
    /// Those of them that did not do what they were asked to.
    pub failed: u64,
    /// Seconds in which their children ran.
    pub run_s: f64,
    /// Seconds in which their slots idled for data.
    pub data_wait_s: f64,
}

/// By worker and type; pairs that never ended an attempt are absent.
#[derive(Clone, Debug, Default)]
pub(super) struct Tallies(BTreeMap<(WorkerId, TypeId), Tally>);

impl Tallies {
    /// An attempt ended.
    pub fn count(&mut self, outcome: &Outcome) {
        let pair = (outcome.worker, outcome.task_type);
        if self.0.len() >= MAX_PAIRS && !self.0.contains_key(&pair) {
            return;
        }
        let tally = self.0.entry(pair).or_default();
        tally.attempts += 1;
        tally.failed += u64::from(!outcome.ending.is_done());
        tally.run_s += outcome.usage.wall.as_s();
        tally.data_wait_s += outcome.data_wait.as_s();
    }

    /// All pairs, in order.
    pub fn all(&self) -> impl Iterator<Item = (WorkerId, TypeId, Tally)> {
        self.0.iter().map(|(&(worker, task_type), tally)| (worker, task_type, *tally))
    }
}

#[cfg(test)]
mod tests {
    use super::super::attempts::tests::{outcome, usage};
    use super::*;
    use crate::flow::Ending;
    use crate::time::Span;

    #[test]
    fn pairs_that_were_seen_are_counted() {
        let mut tallies = Tallies::default();
        tallies.count(&outcome(1, 3, 9.0, usage(2.0, 1.0, 0, 0)));
        let failed = Outcome {
            ending: Ending::TimedOut,
            data_wait: Span::from_ms(250),
            ..outcome(2, 3, 9.0, usage(1.0, 1.0, 0, 0))
        };
        tallies.count(&failed);
        let wanted = Tally { attempts: 2, failed: 1, run_s: 3.0, data_wait_s: 0.25 };
        assert_eq!(tallies.all().collect::<Vec<_>>(), [(WorkerId(3), TypeId(0), wanted)]);
    }

    #[test]
    fn pairs_are_bounded() {
        let mut tallies = Tallies::default();
        for i in 0..MAX_PAIRS + 10 {
            let (worker, task_type) = (WorkerId((i / 256) as u16), TypeId((i % 256) as u16));
            tallies.count(&Outcome { worker, task_type, ..outcome(1, 0, 9.0, usage(1.0, 1.0, 0, 0)) });
        }
        assert_eq!(tallies.all().count(), MAX_PAIRS);
    }
}
