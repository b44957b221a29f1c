//! Copies that turned out bad (wrong size, wrong hash, changed by a task), remembered with an expiry, so that
//! nobody stages them again and again.

use crate::flow::{Map, ObjectName};
use crate::time::Time;
use serde::{Deserialize, Serialize};

/// Bad copies that are remembered at most; beyond, the one that expires first is forgotten.
const MAX_BAD: usize = 4096;

/// A copy that turned out bad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bad {
    /// What was wrong with it.
    pub reason: String,
    /// Until then nobody stages it again; a demand may.
    pub until: Time,
}

/// The bad copies of one pool. Dropping the entry itself is the pool's own step.
#[derive(Clone, Debug, Default)]
pub struct BadCopies(Map<ObjectName, Bad>);

impl BadCopies {
    /// Remembers one until `until`.
    pub fn mark(&mut self, object: &ObjectName, reason: String, until: Time) {
        if self.0.len() >= MAX_BAD && !self.0.contains_key(object) {
            let soonest = self.0.iter().map(|(o, b)| (b.until, o)).min().map(|(_, o)| o.clone());
            soonest.and_then(|o| self.0.remove(&o));
        }
        self.0.insert(object.clone(), Bad { reason, until });
    }
    /// What is remembered against an object at `now`.
    pub fn get(&self, object: &ObjectName, now: Time) -> Option<&Bad> {
        self.0.get(object).filter(|b| b.until > now)
    }
    /// Forgets what has expired.
    pub fn expire(&mut self, now: Time) {
        self.0.retain(|_, b| b.until > now);
    }
    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_copy_is_forgotten_when_it_expires() {
        let (mut bad, object) = (BadCopies::default(), ObjectName::new("a:b"));
        bad.mark(&object, "wrong size".into(), Time::from_s(5.0));
        assert_eq!(bad.get(&object, Time::from_s(4.0)).unwrap().reason, "wrong size");
        assert!(bad.get(&object, Time::from_s(5.0)).is_none());
        bad.expire(Time::from_s(5.0));
        assert!(bad.is_empty());
    }

    #[test]
    fn memory_of_bad_copies_is_bounded() {
        let mut bad = BadCopies::default();
        for i in 0..MAX_BAD as u64 + 5 {
            bad.mark(&ObjectName::new(format!("a:{i}")), String::new(), Time::from_us(1_000_000 - i));
        }
        assert_eq!(bad.len(), MAX_BAD);
        assert!(bad.get(&ObjectName::new("a:0"), Time::ZERO).is_some(), "it expires last");
    }
}
