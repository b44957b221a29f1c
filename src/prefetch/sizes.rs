//! How long objects are: known from their last fetch, else guessed from objects of like names.
//!
//! Like names differ in their digits only (`vol007/c0012`, `vol031/c0003`). A guess decides how much room is set
//! aside before the source has told the length: one that is too small is found out when all bytes are there.

use crate::flow::{Map, ObjectName};

/// Objects whose length is kept in mind; beyond it all are forgotten, and soon learned again.
const KNOWN_MAX: usize = 1 << 20;
/// Shapes of names whose mean length is kept.
const SHAPES_MAX: usize = 1 << 14;
/// Lengths behind a mean; more count as so many, so that it follows.
const WEIGHT_MAX: f64 = 256.0;
/// What an object is taken to be long until its like was seen, bytes.
pub const UNKNOWN_BYTES: u64 = 1 << 20;

/// Lengths of objects.
#[derive(Debug, Default)]
pub struct Sizes {
    known: Map<ObjectName, u64>,
    alike: Map<u64, Mean>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    bytes: f64,
    weight: f64,
}

impl Sizes {
    /// An object was seen to be so long.
    pub fn learn(&mut self, object: &ObjectName, bytes: u64) {
        if self.known.get(object) == Some(&bytes) {
            return;
        }
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(object.clone(), bytes);
        if self.alike.len() >= SHAPES_MAX {
            self.alike.clear();
        }
        let mean = self.alike.entry(shape(object)).or_default();
        mean.weight = (mean.weight + 1.0).min(WEIGHT_MAX);
        mean.bytes += (bytes as f64 - mean.bytes) / mean.weight;
    }

    /// Its length, if it was seen.
    pub fn known(&self, object: &ObjectName) -> Option<u64> {
        self.known.get(object).copied()
    }

    /// Its length as far as anybody can say, bytes.
    pub fn guess(&self, object: &ObjectName) -> u64 {
        let alike = || self.alike.get(&shape(object)).map_or(UNKNOWN_BYTES, |m| m.bytes as u64);
        self.known(object).unwrap_or_else(alike)
    }

    /// How many lengths are kept.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// A hash of the name with each run of digits as one sign.
fn shape(object: &ObjectName) -> u64 {
    let mut text = String::with_capacity(object.as_str().len());
    let mut digits = false;
    for c in object.as_str().chars() {
        let digit = c.is_ascii_digit();
        if !digit {
            text.push(c);
        } else if !digits {
            text.push('#');
        }
        digits = digit;
    }
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_was_never_seen_is_as_long_as_its_like() {
        let mut sizes = Sizes::default();
        let name = |n: &str| ObjectName::new(n);
        assert_eq!(sizes.guess(&name("v:vol1/c1")), UNKNOWN_BYTES);
        for (i, bytes) in [1_000, 3_000].into_iter().enumerate() {
            sizes.learn(&name(&format!("v:vol{i}/c{i}")), bytes);
            sizes.learn(&name(&format!("v:vol{i}/c{i}")), bytes);
            sizes.learn(&name(&format!("v:vol{i}/index")), 10);
        }
        assert_eq!(sizes.guess(&name("v:vol77/c0123")), 2_000);
        assert_eq!(sizes.guess(&name("v:vol77/index")), 10);
        assert_eq!(sizes.guess(&name("v:vol0/c0")), 1_000);
        assert_eq!(sizes.known(&name("v:vol77/c0123")), None);
        sizes.learn(&name("v:vol0/c0"), 500);
        assert_eq!(sizes.guess(&name("v:vol0/c0")), 500);
        assert_eq!(sizes.len(), 4);
    }
}
