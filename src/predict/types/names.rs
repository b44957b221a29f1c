//! Names to small numbers, in order of appearance. Kept in the snapshot, so that it stands on its own.

use super::snapshot::{Reader, Writer};
use super::{Error, Symbol};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use xxhash_rust::xxh3::xxh3_64;

/// A name's identity: its hash. That two names of one engine collide in 64 bits does not happen.
#[inline]
pub(super) fn id_of(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

/// A map by identity, which needs no further hashing.
pub(super) type ById<V> = HashMap<u64, V, BuildHasherDefault<AsIs>>;

/// Passes an identity through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AsIs(u64);

impl Hasher for AsIs {
    #[inline]
    fn write_u64(&mut self, id: u64) {
        self.0 = id;
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole identities are keys");
    }
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// Stands for every name past the limit.
const OTHERS: &str = "(others)";

/// A bounded list of names.
#[derive(Clone, Debug)]
pub(super) struct Names {
    numbers: ById<Symbol>,
    list: Vec<Box<str>>,
    max: usize,
}

impl Names {
    /// At most `max` names; the last number then stands for all others.
    pub fn new(max: usize) -> Names {
        assert!((2..=usize::from(Symbol::MAX)).contains(&max), "numbers have 16 bits");
        Names { numbers: ById::default(), list: Vec::new(), max }
    }

    /// A name's number; a new one if it was not met before.
    #[inline]
    pub fn number(&mut self, name: &str) -> Symbol {
        if let Some(n) = self.find(name) {
            return n;
        }
        let last = self.max - 1;
        if self.list.len() == last {
            self.list.push(OTHERS.into());
        }
        let n = self.list.len().min(last);
        if n < last {
            self.list.push(name.into());
            self.numbers.insert(id_of(name), n as Symbol);
        }
        n as Symbol
    }

    /// The number that [`Names::number`] would give.
    #[inline]
    pub fn peek(&self, name: &str) -> Symbol {
        self.find(name).unwrap_or(self.list.len().min(self.max - 1) as Symbol)
    }

    /// A name's number, if it was met before.
    #[inline]
    pub fn find(&self, name: &str) -> Option<Symbol> {
        self.numbers.get(&id_of(name)).copied()
    }

    /// The name of a number that was given out.
    pub fn name(&self, n: Symbol) -> &str {
        &self.list[n as usize]
    }

    /// How many numbers were given out.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Memory, bytes, roughly.
    pub fn bytes(&self) -> usize {
        self.list.iter().map(|n| n.len() + 32).sum()
    }

    pub fn save(&self, to: &mut Writer) {
        to.len(self.list.len());
        self.list.iter().for_each(|n| to.text(n));
    }

    pub fn load(&mut self, from: &mut Reader<'_>) -> Result<(), Error> {
        let n = from.len(self.max, "the number of names")?;
        *self = Names::new(self.max);
        for i in 0..n {
            let name = from.text()?;
            // The last one stands for all others, whatever it is called.
            if i < self.max - 1 && self.numbers.insert(id_of(name), i as Symbol).is_some() {
                return Err(Error::Malformed { what: "a name that stands twice" });
            }
            self.list.push(name.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_once_and_the_last_stands_for_all_others() {
        let mut n = Names::new(3);
        let given = ["a", "b", "a", "c", "d", "b"].map(|name| n.number(name));
        assert_eq!(given, [0, 1, 0, 2, 2, 1]);
        assert_eq!(
            (n.len(), n.name(1), n.name(2), n.find("c"), n.find("b")),
            (3, "b", OTHERS, None, Some(1))
        );
        let mut w = Writer::new();
        n.save(&mut w);
        let bytes = w.finish();
        let mut back = Names::new(3);
        back.load(&mut Reader::open(&bytes).unwrap()).unwrap();
        assert_eq!(["a", "b", "a", "c", "d", "b"].map(|name| back.number(name)), given);
    }
}
