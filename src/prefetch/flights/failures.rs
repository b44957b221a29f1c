//! What failed lately, so that staging does not try it again and again; and when to try again.

use super::{FlightId, Key};
use crate::flow::{CacheId, Map, ObjectName};
use crate::prefetch::source::Error;
use crate::time::{Span, Time};
use std::collections::BTreeSet;

/// Most failures that are remembered; beyond it those that expire first are forgotten.
const LIMIT: usize = 4096;

/// Failures by key, each until it expires. Only staging heeds them: demand always asks the source.
#[derive(Debug, Default)]
pub(super) struct Failures {
    by_key: Map<Key, (Time, Error)>,
    by_expiry: BTreeSet<(Time, Key)>,
}

impl Failures {
    /// Remembers `error` until `until`.
    pub(super) fn note(&mut self, key: &Key, error: &Error, until: Time) {
        self.forget(key);
        if self.by_key.len() >= LIMIT
            && let Some((_, oldest)) = self.by_expiry.pop_first()
        {
            self.by_key.remove(&oldest);
        }
        self.by_key.insert(key.clone(), (until, error.clone()));
        self.by_expiry.insert((until, key.clone()));
    }

    /// What is remembered of `key`, and until when.
    pub(super) fn get(&mut self, key: &Key, now: Time) -> Option<(Time, Error)> {
        while let Some((until, _)) = self.by_expiry.first()
            && *until <= now
        {
            let (_, key) = self.by_expiry.pop_first().expect("it was looked at just now");
            self.by_key.remove(&key);
        }
        self.by_key.get(key).cloned()
    }

    /// It is there after all, or it has been written anew.
    pub(super) fn forget(&mut self, key: &Key) {
        if let Some((until, _)) = self.by_key.remove(key) {
            self.by_expiry.remove(&(until, key.clone()));
        }
    }

    /// The object has been written: whatever failed may be there now, in every pool.
    pub(super) fn forget_object(&mut self, object: &ObjectName) {
        let pools: Vec<CacheId> =
            self.by_key.keys().filter(|k| k.object == *object).map(|k| k.pool).collect();
        for pool in pools {
            self.forget(&Key { pool, object: object.clone() });
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    pub(super) fn assert_invariants(&self) {
        assert_eq!(self.by_key.len(), self.by_expiry.len());
        assert!(self.by_key.len() <= LIMIT);
    }
}

/// How often and how fast a transfer is tried again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Retry {
    /// Tries of a demand transfer, 1 or more, the first one included.
    pub demand_tries: u8,
    /// Tries of a staging transfer.
    pub staging_tries: u8,
    /// Before the second try; doubles with each.
    pub first_wait: Span,
    /// The longest wait.
    pub longest_wait: Span,
    /// How long staging leaves alone what another try will not change (missing, denied, refused).
    pub remember_permanent: Span,
    /// How long it leaves alone what may pass.
    pub remember_passing: Span,
}

impl Default for Retry {
    /// Four tries within about 1.4 s and the time that they take: a task waits for them.
    fn default() -> Retry {
        Retry {
            demand_tries: 4,
            staging_tries: 2,
            first_wait: Span::from_ms(200),
            longest_wait: Span::from_secs(10),
            remember_permanent: Span::from_secs(60),
            remember_passing: Span::from_secs(10),
        }
    }
}

impl Retry {
    /// The wait after `tries` failed tries: doubling, with half of it spread by flight, so that what failed
    /// together does not come back together.
    pub(super) fn wait(&self, flight: FlightId, tries: u8) -> Span {
        let doubled = self.first_wait.times(f64::from(1_u32 << u32::from(tries.saturating_sub(1)).min(20)));
        let mut spread = fastrand::Rng::with_seed(flight.0 ^ (u64::from(tries) << 56));
        doubled.min(self.longest_wait).times(0.5 + 0.5 * spread.f64())
    }
}
