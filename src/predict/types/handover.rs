//! Who usually takes over: from an entity's state to the few workers who may have it next.

use super::Error;
use super::entities::Expected;
use super::history::History;
use super::maths::hash;
use super::snapshot::{Reader, Writer};
use super::table::Table;

/// Nodes, as a power of two.
const BITS: u8 = 12;
/// Counts of a state are halved above this: people change.
const FORGET_ABOVE: u8 = 60;
/// A worker is expected if it took at least one of this many.
const ONE_OF: u32 = 25;

/// Counts of who took an entity over, by its last type and last worker, and by its last type alone.
#[derive(Clone, Debug)]
pub(super) struct Handover {
    counts: Table,
}

impl Handover {
    pub fn new() -> Handover {
        Handover { counts: Table::new(BITS, FORGET_ABOVE) }
    }

    /// Memory, bytes.
    pub fn bytes(&self) -> usize {
        self.counts.bytes()
    }

    fn states(h: &History) -> [u64; 2] {
        [hash(&[h.lag(1), h.partner, 3]), hash(&[h.lag(1), 4])]
    }

    /// `worker` took the entity that was in this state.
    pub fn learn(&mut self, h: &History, worker: u16) {
        for state in Handover::states(h) {
            let place = self.counts.find(state);
            self.counts.learn(place, worker);
        }
    }

    /// Who is expected to take it next, most likely first.
    pub fn expect(&self, h: &History) -> Expected {
        let mut expected = Expected::default();
        for node in Handover::states(h).into_iter().filter_map(|s| self.counts.find(s).node) {
            let node = self.counts.node(node);
            for (&worker, &count) in node.symbols().iter().zip(node.counts()).take(4) {
                if u32::from(count) * ONE_OF >= node.total().into() {
                    expected.add(worker);
                }
            }
        }
        expected
    }

    pub fn save(&self, to: &mut Writer) {
        self.counts.save(to);
    }
    pub fn load(&mut self, from: &mut Reader<'_>, workers: usize) -> Result<(), Error> {
        self.counts.load(from, workers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    #[test]
    fn expects_who_took_that_state_before() {
        let mut handover = Handover::new();
        let mut h = History::new(1);
        h.push(3, 7, Time::ZERO);
        assert_eq!(handover.expect(&h).list(), [0u16; 0]);
        for worker in [5, 5, 6, 5] {
            handover.learn(&h, worker);
        }
        assert_eq!(handover.expect(&h).list(), [5, 6]);
        for _ in 0..40 {
            handover.learn(&h, 5);
        }
        assert_eq!(handover.expect(&h).list(), [5], "one in forty-four is not expected");
        let mut other = History::new(2);
        other.push(3, 8, Time::ZERO);
        assert_eq!(handover.expect(&other).list(), [5], "the type alone tells something, too");
    }
}
