//! Where histories begin and go on: everything about one stream of histories that is shared between them.

use super::context::echo_states;
use super::echo::Echoes;
use super::history::History;
use super::snapshot::{Reader, Writer};
use super::{Error, Symbol};
use crate::time::Time;

/// What followed each state the last times, and what ended last.
#[derive(Clone, Debug)]
pub(super) struct Chronicle {
    echoes: Echoes,
    /// Type + 1 of the last task of any history.
    pub last_type: u16,
}

impl Chronicle {
    /// With the echoes of 2^bits states.
    pub fn new(bits: u8) -> Chronicle {
        Chronicle { echoes: Echoes::new(bits), last_type: 0 }
    }

    /// Memory, bytes.
    pub fn bytes(&self) -> usize {
        self.echoes.bytes()
    }

    /// The history of something new: all that is known is how others began.
    pub fn begin(&self, id: u64) -> History {
        let mut h = History::new(id);
        h.echoes = echo_states(&h).map(|s| self.echoes.get(s));
        h.before = self.last_type;
        h
    }

    /// A task becomes part of a history.
    #[inline]
    pub fn advance(&mut self, h: &mut History, symbol: Symbol, partner: u64, at: Time) {
        for state in echo_states(h) {
            self.echoes.learn(state, symbol);
        }
        h.push(symbol, partner, at);
        h.before = self.last_type;
        self.last_type = symbol + 1;
        h.echoes = echo_states(h).map(|s| self.echoes.get(s));
    }

    pub fn save(&self, to: &mut Writer) {
        self.echoes.save(to);
        to.u16(self.last_type);
    }

    pub fn load(&mut self, from: &mut Reader<'_>) -> Result<(), Error> {
        self.echoes.load(from)?;
        self.last_type = from.u16()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_hears_what_followed_its_state_in_others() {
        let mut c = Chronicle::new(14);
        let mut a = c.begin(1);
        for (i, symbol) in [4, 5].into_iter().enumerate() {
            c.advance(&mut a, symbol, 9, Time::from_us(i as u64));
        }
        let mut b = c.begin(2);
        assert_eq!(b.echoes, [[5, 0, 0]; 3], "the other began with type 4");
        assert_eq!(b.before, 6);
        c.advance(&mut b, 4, 9, Time::from_us(7));
        assert_eq!(b.echoes, [[6, 0, 0]; 3], "and went on with type 5");
        assert_eq!((b.before, c.last_type), (6, 5));
    }
}
