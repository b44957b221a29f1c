//! What the engine remembers of one entity (or of one worker) once its last task has ended.
//!
//! Everything in it was known at that moment, so a forecast made from it cannot leak the time, the worker or
//! the state of the task that it foretells.

use super::Symbol;
use super::maths::mix;
use super::snapshot::{Reader, Writer};
use super::{Error, NOBODY};
use crate::time::Time;

/// Last types kept in order.
pub(super) const LAGS: usize = 12;
/// Different types kept with their counts; later ones are not counted.
pub(super) const BAG: usize = 12;
/// States whose echoes a history hears: see `context::echo_states`.
pub(super) const ECHOES: usize = 3;
/// The last types that followed a state, newest first: type + 1, 0 for none.
pub(super) type Echo = [u16; 3];

/// A type that occurred, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Seen {
    pub symbol: Symbol,
    pub count: u8,
}

/// The history of one entity: fixed size, no heap.
///
/// `partner` is who did the work: the worker in an entity's history, the entity in a worker's.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct History {
    /// Stable identity: the hash of the name.
    pub id: u64,
    lags: [Symbol; LAGS],
    /// Tasks so far.
    pub len: u32,
    pub last: Time,
    pub previous: Time,
    pub first: Time,
    pub partner: u64,
    pub partner_before: u64,
    /// Which types occurred, by number modulo 64.
    pub set: u64,
    /// Hash of which types occurred how often, whatever their order.
    pub bag: u64,
    /// What followed this state the last times: (last type, partner), (last type, bag), (last type).
    pub echoes: [Echo; ECHOES],
    /// Type + 1 of the task that ended anywhere on the host just before this one's last.
    pub before: u16,
    /// Type + 1 of the first task; 0 for none.
    pub first_type: u16,
    seen: [Seen; BAG],
    seen_len: u8,
}

impl History {
    /// Of something that has not had a task yet.
    pub fn new(id: u64) -> History {
        History {
            id,
            lags: [0; LAGS],
            len: 0,
            last: Time::ZERO,
            previous: Time::ZERO,
            first: Time::ZERO,
            partner: NOBODY,
            partner_before: NOBODY,
            set: 0,
            bag: 0,
            echoes: [[0; 3]; ECHOES],
            before: 0,
            first_type: 0,
            seen: [Seen::default(); BAG],
            seen_len: 0,
        }
    }

    /// The i-th last type (1 = the last) as a code: 1 for none, type + 2 otherwise.
    #[inline(always)]
    pub fn lag(&self, i: usize) -> u64 {
        if i <= LAGS && i <= self.len as usize { u64::from(self.lags[i - 1]) + 2 } else { 1 }
    }

    /// How many last types are known in order.
    #[inline(always)]
    pub fn lags(&self) -> usize {
        (self.len as usize).min(LAGS)
    }

    /// The i-th last type, i from 1 to [`History::lags`].
    #[inline(always)]
    pub fn lag_symbol(&self, i: usize) -> Symbol {
        self.lags[i - 1]
    }

    /// The last type, if any.
    #[inline(always)]
    pub fn last_type(&self) -> Option<Symbol> {
        (self.len > 0).then_some(self.lags[0])
    }

    /// The different types so far with their counts, in order of appearance, at most [`BAG`].
    #[inline(always)]
    pub fn seen(&self) -> &[Seen] {
        &self.seen[..(self.seen_len as usize).min(BAG)]
    }

    /// One more task has ended.
    pub fn push(&mut self, symbol: Symbol, partner: u64, at: Time) {
        if self.len == 0 {
            (self.first, self.previous, self.first_type) = (at, at, symbol + 1);
        } else {
            self.previous = self.last;
        }
        self.last = at;
        self.partner_before = self.partner;
        self.partner = partner;
        self.lags.copy_within(0..LAGS - 1, 1);
        self.lags[0] = symbol;
        self.set |= 1 << (symbol % 64);
        self.bag = self.bag.wrapping_add(mix(5, u64::from(symbol)));
        let n = self.seen_len as usize;
        match self.seen[..n].iter_mut().find(|s| s.symbol == symbol) {
            Some(s) => s.count = s.count.saturating_add(1),
            None if n < BAG => {
                self.seen[n] = Seen { symbol, count: 1 };
                self.seen_len += 1;
            }
            None => {}
        }
        self.len = self.len.saturating_add(1);
    }

    pub fn save(&self, to: &mut Writer) {
        for x in [self.id, self.last.as_us(), self.previous.as_us(), self.first.as_us()] {
            to.u64(x);
        }
        for x in [self.partner, self.partner_before, self.set, self.bag] {
            to.u64(x);
        }
        to.u32(self.len);
        to.u16s_fixed(&self.lags);
        to.u16s_fixed(self.echoes.as_flattened());
        to.u16s_fixed(&[self.before, self.first_type]);
        to.u8(self.seen_len);
        for s in self.seen() {
            to.u16(s.symbol);
            to.u8(s.count);
        }
    }

    pub fn load(from: &mut Reader<'_>) -> Result<History, Error> {
        let mut h = History::new(from.u64()?);
        (h.last, h.previous, h.first) =
            (Time::from_us(from.u64()?), Time::from_us(from.u64()?), Time::from_us(from.u64()?));
        (h.partner, h.partner_before, h.set, h.bag) = (from.u64()?, from.u64()?, from.u64()?, from.u64()?);
        h.len = from.u32()?;
        from.u16s_fixed(&mut h.lags)?;
        from.u16s_fixed(h.echoes.as_flattened_mut())?;
        (h.before, h.first_type) = (from.u16()?, from.u16()?);
        h.seen_len = from.u8()?;
        if h.seen_len as usize > BAG {
            return Err(Error::Malformed { what: "a history" });
        }
        for s in &mut h.seen[..h.seen_len as usize] {
            *s = Seen { symbol: from.u16()?, count: from.u8()? };
        }
        Ok(h)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_order_counts_partners_and_times() {
        let mut h = History::new(7);
        assert_eq!((h.lag(1), h.last_type()), (1, None));
        for (symbol, partner, s) in [(3, 20, 1), (4, 21, 5), (3, 21, 9)] {
            h.push(symbol, partner, Time::from_us(s));
        }
        assert_eq!((h.lag(1), h.lag(2), h.lag(3), h.lag(4), h.lag(99)), (5, 6, 5, 1, 1));
        assert_eq!((h.first.as_us(), h.previous.as_us(), h.last.as_us()), (1, 5, 9));
        assert_eq!((h.partner, h.partner_before, h.first_type, h.set), (21, 21, 4, 0b11000));
        assert_eq!(h.seen(), [Seen { symbol: 3, count: 2 }, Seen { symbol: 4, count: 1 }]);
    }

    #[test]
    fn the_bag_does_not_depend_on_the_order() {
        let bag = |types: &[Symbol]| {
            let mut h = History::new(1);
            types.iter().for_each(|&t| h.push(t, 0, Time::ZERO));
            h.bag
        };
        assert_eq!(bag(&[1, 2, 2]), bag(&[2, 1, 2]));
        assert_ne!(bag(&[1, 2, 2]), bag(&[1, 1, 2]));
    }

    #[test]
    fn comes_back_from_bytes() {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut h = History::new(rng.u64(..));
        for i in 0..40 {
            h.push(rng.u16(..20), rng.u64(..), Time::from_us(i * 3));
            h.echoes[1][2] = rng.u16(..);
            let mut w = Writer::new();
            h.save(&mut w);
            let bytes = w.finish();
            let mut r = Reader::open(&bytes).unwrap();
            assert_eq!(History::load(&mut r).unwrap(), h);
            r.close().unwrap();
        }
    }
}
