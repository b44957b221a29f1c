//! What followed a state the last times, in any entity: an indirect context.
//!
//! Counts say how often; an echo says in which order, lately. Used as part of a context it lets the mixture
//! learn rules such as "what came last time after this comes again" or "they take turns". (Known from data
//! compression as indirect context modelling: Mahoney 2005, "Adaptive weighing of context models".)

use super::history::Echo;
use super::snapshot::{Reader, Writer};
use super::{Error, Symbol};

/// A direct-mapped table; a newer state takes the place of an older one.
#[derive(Clone, Debug)]
pub(super) struct Echoes {
    tags: Vec<u32>,
    last: Vec<Echo>,
}

impl Echoes {
    /// 2^bits states of ten bytes.
    pub fn new(bits: u8) -> Echoes {
        Echoes { tags: vec![0; 1 << bits], last: vec![[0; 3]; 1 << bits] }
    }

    /// Memory, bytes.
    pub fn bytes(&self) -> usize {
        self.tags.len() * (4 + size_of::<Echo>())
    }

    #[inline(always)]
    fn at(&self, state: u64) -> (usize, u32) {
        (state as usize & (self.tags.len() - 1), (state >> 32) as u32 | 1)
    }

    /// The last types after a state, newest first; zeros if it is not known.
    #[inline(always)]
    pub fn get(&self, state: u64) -> Echo {
        let (at, tag) = self.at(state);
        if self.tags[at] == tag { self.last[at] } else { [0; 3] }
    }

    /// `symbol` followed `state`.
    #[inline(always)]
    pub fn learn(&mut self, state: u64, symbol: Symbol) {
        let [newest, second, _] = self.get(state);
        let (at, tag) = self.at(state);
        self.tags[at] = tag;
        self.last[at] = [symbol + 1, newest, second];
    }

    pub fn save(&self, to: &mut Writer) {
        to.u32s(&self.tags);
        for (echo, _) in self.last.iter().zip(&self.tags).filter(|(_, tag)| **tag != 0) {
            to.u16s_fixed(echo);
        }
    }

    pub fn load(&mut self, from: &mut Reader<'_>) -> Result<(), Error> {
        from.u32s_into(&mut self.tags)?;
        for (echo, &tag) in self.last.iter_mut().zip(&self.tags) {
            *echo = [0; 3];
            if tag != 0 {
                from.u16s_fixed(echo)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_three_newest_first() {
        let mut e = Echoes::new(4);
        assert_eq!(e.get(5 << 32), [0; 3]);
        for s in [7, 8, 9, 7] {
            e.learn(5 << 32, s);
        }
        assert_eq!(e.get(5 << 32), [8, 10, 9]);
        assert_eq!(e.get(6 << 32), [0; 3], "another state in the same place is not mistaken for it");
        e.learn(6 << 32, 1);
        assert_eq!((e.get(6 << 32), e.get(5 << 32)), ([2, 0, 0], [0; 3]));
    }
}
