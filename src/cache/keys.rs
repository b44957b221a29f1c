//! Fast, unseeded hashes of names and numbers, and names as 64-bit keys where remembering whole names would
//! cost too much: ghosts and samples.
//!
//! Two names with one key would only blur a statistic; what is *in* the pool is found by its whole name.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A stable hash of an object's name.
pub(super) fn key_of(name: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name.as_bytes())
}

/// A map with this module's hash: several times faster on short keys than a streaming one.
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<OneShot>>;

/// A map by key.
pub(super) type KeyMap<V> = FastMap<u64, V>;

/// Hashes a name in one step; mixes a number by one multiplication.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OneShot(u64);

impl Hasher for OneShot {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.0);
    }
    /// The standard library ends every text with one such byte.
    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }
    fn write_u64(&mut self, number: u64) {
        // Multiply and fold, so that both ends of the result depend on all bits: the table uses both.
        let wide = u128::from(self.0 ^ number ^ 0x9E37_79B9_7F4A_7C15) * 0xA076_1D64_78BD_642F;
        self.0 = (wide >> 64) as u64 ^ wide as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::ObjectName;
    use std::hash::BuildHasher;

    #[test]
    fn names_and_numbers_spread() {
        let build = BuildHasherDefault::<OneShot>::default();
        let names: std::collections::BTreeSet<u64> =
            (0..10_000).map(|i| build.hash_one(ObjectName::new(format!("a:{i}"))) >> 40).collect();
        let numbers: std::collections::BTreeSet<u64> =
            (0..10_000u64).map(|i| build.hash_one(i) >> 40).collect();
        assert!(names.len() > 9_980 && numbers.len() > 9_980, "{} {}", names.len(), numbers.len());
    }
}
