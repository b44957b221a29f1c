//! The contexts: what of a history is taken to matter, and which context backs off to which.
//!
//! Each context is a hash of a few facts of the history; counts of what followed it stand in the table. A
//! context opens its opinion with that of its parent, so the lattice reads from general to particular. In
//! the chain of past types a context counts only what is new to the next longer one (Kneser and Ney's
//! continuation counts); all others count always.

use super::history::{ECHOES, History};
use super::maths::{count_class, hash, mix, span_class};
use super::softmax::Feature;
use crate::time::Span;

/// Contexts that every model has; see [`CONTEXTS`].
pub(super) const BASE: usize = 22;
/// Contexts that a model may be given from outside for each forecast.
pub(super) const EXTRA: usize = 8;
/// The most contexts of a model.
pub(super) const MOST: usize = BASE + EXTRA;

/// Number of the root, which is no context of the table.
pub(super) const ROOT: usize = 0;
/// Number of the context of the last type alone.
pub(super) const LAST: usize = 1;
/// Number of the longest context of past types; the shorter ones stand before it.
pub(super) const LONGEST: usize = 5;
/// Number of the context of the bag.
pub(super) const BAG: usize = 9;
/// Number of the context of the echo after the bag.
pub(super) const BAG_ECHO: usize = 16;

/// One context.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    /// What people call it: in settings, and in explanations.
    pub name: &'static str,
    /// The context it backs off to.
    pub parent: usize,
    /// If set, it counts only what is new to this one.
    pub counts_new_to: Option<usize>,
}

const fn context(name: &'static str, parent: usize) -> Context {
    Context { name, parent, counts_new_to: None }
}
const fn shadowed(name: &'static str, parent: usize, by: usize) -> Context {
    Context { name, parent, counts_new_to: Some(by) }
}

/// The contexts of every model, by number. `last N`: the last N types, in order.
pub(super) const CONTEXTS: [Context; BASE] = [
    context("frequency", ROOT),
    context("last 1", ROOT),
    shadowed("last 2", 1, 3),
    shadowed("last 3", 2, 4),
    shadowed("last 5", 3, 5),
    context("last 8", 4),
    shadowed("last 1, partner", 1, 7),
    context("last 2, partner", 6),
    shadowed("last 1, types so far", 1, 9),
    context("last 1, counts so far", 8),
    context("entity", 1),
    context("second and third last", ROOT),
    context("last 1, first, age", 1),
    context("last 1, two partners", 6),
    context("last 1, partner, counts so far", 9),
    context("last 1, echo of partner", 1),
    context("last 1, echo of counts", 9),
    context("last 1, long echo of counts", 9),
    context("last 1, gap", 1),
    context("last 1, hour", 1),
    context("last 1, type before on the host", 1),
    context("last 1, position", 1),
];

/// The names of the contexts that may be switched off, with their numbers.
pub const NAMES: [(&str, usize); BASE - 1] = {
    let mut names = [("", 0); BASE - 1];
    let mut k = 1;
    while k < BASE {
        names[k - 1] = (CONTEXTS[k].name, k);
        k += 1;
    }
    names
};

/// Last types that the regression hears; more told it nothing on any of eight logs.
const REGRESSION_LAGS: usize = 8;
/// Most binary features of one forecast.
pub(super) const FEATURES: usize = 64;

/// A short list of features, without heap.
#[derive(Clone, Debug)]
pub(super) struct Features {
    list: [Feature; FEATURES],
    len: usize,
}

impl Features {
    pub fn new() -> Features {
        Features { list: [0; FEATURES], len: 0 }
    }
    #[inline(always)]
    pub fn list(&self) -> &[Feature] {
        &self.list[..self.len.min(FEATURES)]
    }
    #[inline(always)]
    fn clear(&mut self) {
        self.len = 0;
    }
    /// Adds a feature; one past the limit is dropped.
    #[inline(always)]
    fn add(&mut self, parts: &[u64]) {
        if self.len < FEATURES {
            self.list[self.len] = (hash(parts) >> 16) as Feature;
            self.len += 1;
        }
    }
}

/// Facts of a history that several contexts share.
struct Facts {
    gap: u64,
    hour: u64,
    age: u64,
}

impl Facts {
    #[inline(always)]
    fn of(h: &History) -> Facts {
        // Before the first task there is no time to speak of.
        let hour = if h.len == 0 { 24 } else { h.last.as_us() / Span::from_secs(3600).as_us() % 24 };
        Facts { gap: span_class(h.last.since(h.previous)), hour, age: span_class(h.last.since(h.first)) }
    }
}

/// The hash of every context of [`CONTEXTS`]; the root's is not used. Never zero: zero means absent.
#[inline(always)]
fn hashes(h: &History, f: &Facts) -> [u64; BASE] {
    let (x1, x2, x3, w) = (h.lag(1), h.lag(2), h.lag(3), h.partner);
    let chain = |from: usize, to: usize, z: u64| (from..=to).fold(z, |z, i| mix(z, h.lag(i)));
    let c2 = hash(&[x1, x2]);
    let c3 = mix(c2, x3);
    let c5 = chain(4, 5, c3);
    let c8 = chain(6, 8, c5);
    let c12 = chain(9, 12, c8);
    let [by_partner, by_bag, _] = h.echoes.map(|e| e.map(u64::from));
    let position = u64::from(h.len.min(20));
    [
        0,
        hash(&[x1]),
        c2,
        c5,
        c8,
        c12,
        hash(&[x1, w]),
        hash(&[x1, x2, w]),
        hash(&[x1, h.set]),
        hash(&[x1, h.bag]),
        hash(&[h.id]),
        hash(&[x2, x3]),
        hash(&[x1, u64::from(h.first_type), f.age]),
        hash(&[x1, w, h.partner_before]),
        hash(&[x1, w, h.bag]),
        hash(&[x1, by_partner[0], by_partner[1]]),
        hash(&[x1, by_bag[0], by_bag[1]]),
        hash(&[x1, by_bag[0], by_bag[1], by_bag[2]]),
        hash(&[x1, f.gap]),
        hash(&[x1, f.hour]),
        hash(&[x1, u64::from(h.before)]),
        hash(&[x1, position]),
    ]
}

/// Key of context number `k`: its hash, made different from every other context's.
#[inline(always)]
pub(super) fn key(k: usize, hash: u64) -> u64 {
    mix(hash, k as u64 * 0x123_4567 + 1)
}

/// Keys of all contexts (zero: absent) and the features of the sparse regression, for a history and what the
/// caller adds to it. `on`: a bit for each context that may speak.
#[inline(always)]
pub(super) fn keys(h: &History, extra: &[u64; EXTRA], on: u32, features: &mut Features) -> [u64; MOST] {
    let facts = Facts::of(h);
    let base = hashes(h, &facts);
    let mut keys = [0; MOST];
    for k in 1..MOST {
        let z = if k < BASE { base[k] } else { extra[k - BASE] };
        // An extra context that is absent stays so.
        let there = on >> k & 1 == 1 && (k < BASE || z != 0);
        keys[k] = if there { key(k, z) | 1 } else { 0 };
    }
    features.clear();
    regression_features(h, &facts, extra, features);
    keys
}

#[inline(always)]
fn regression_features(h: &History, facts: &Facts, extra: &[u64; EXTRA], f: &mut Features) {
    let (x1, w) = (h.lag(1), h.partner);
    f.add(&[0]);
    for i in 1..=REGRESSION_LAGS {
        f.add(&[10 + i as u64, h.lag(i)]);
    }
    f.add(&[31, x1, w]);
    f.add(&[32, w]);
    f.add(&[33, facts.gap]);
    f.add(&[35, facts.hour]);
    f.add(&[38, facts.age]);
    for s in h.seen() {
        f.add(&[42, u64::from(s.symbol), x1]);
        f.add(&[64, u64::from(s.symbol), u64::from(s.count.min(6))]);
    }
    for (i, &z) in extra.iter().enumerate() {
        if z != 0 {
            f.add(&[70 + i as u64, z]);
        }
    }
}

/// Features of the residual regression.
#[inline(always)]
pub(super) fn residual_features(h: &History) -> [Feature; 4] {
    [hash(&[1]), hash(&[2, h.lag(1)]), hash(&[3, h.lag(2)]), hash(&[4, h.partner])]
        .map(|z| (z >> 16) as Feature)
}

/// The states whose successors are echoed: (last type, partner), (last type, bag), (last type).
#[inline(always)]
pub(super) fn echo_states(h: &History) -> [u64; ECHOES] {
    [hash(&[h.lag(1), h.partner, 1]), hash(&[h.lag(1), h.bag, 2]), hash(&[h.lag(1), 3])]
}

/// The class of a list's length, for callers' own contexts.
pub(super) fn length_class(n: usize) -> u64 {
    count_class(u32::try_from(n).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    #[test]
    fn every_context_backs_off_to_one_before_it() {
        for (k, c) in CONTEXTS.iter().enumerate().skip(1) {
            assert!(c.parent < k, "{}", c.name);
            if let Some(by) = c.counts_new_to {
                assert_eq!(CONTEXTS[by].parent, k, "{} counts what is new to a child of its own", c.name);
            }
            assert_eq!(CONTEXTS.iter().filter(|d| d.name == c.name).count(), 1, "names are told apart");
        }
    }

    #[test]
    fn keys_differ_and_switched_off_contexts_are_absent() {
        let mut h = History::new(3);
        for i in 0..5 {
            h.push(i, 9, Time::from_us(u64::from(i) * 1_000_000));
        }
        let mut f = Features::new();
        let all = keys(&h, &[0; EXTRA], u32::MAX, &mut f);
        let mut told_apart: Vec<u64> = all[1..BASE].to_vec();
        told_apart.sort_unstable();
        told_apart.dedup();
        assert_eq!(told_apart.len(), BASE - 1);
        assert_eq!(all[BASE..], [0; EXTRA]);
        let some = keys(&h, &[0; EXTRA], !(1 << 6), &mut f);
        assert_eq!((some[6], some[7]), (0, all[7]));
    }

    #[test]
    fn nothing_about_time_is_known_before_the_first_task() {
        let mut f = Features::new();
        let mut h = History::new(3);
        let early = keys(&h, &[0; EXTRA], u32::MAX, &mut f);
        h.last = Time::from_us(7_200_000_000);
        h.previous = h.last;
        h.first = h.last;
        assert_eq!(keys(&h, &[0; EXTRA], u32::MAX, &mut f), early);
    }
}
