//! Which type an entity's next task has: interpolated counts of orders 0 to 3 over all entities, and the
//! entity's own order 1 on top.
//!
//! Each level refines the one below it as in a hierarchical Pitman-Yor process with fixed discount and
//! concentration: `p = (max(c − d, 0) + (a + d·U) · p_below) / (T + a)`, c the type's count, U the number of
//! different types, T the total (Teh 2006, eq. 6, with one table a type).

use crate::flow::{Map, TypeId};

const DISCOUNT: f64 = 0.5;
const CONCENTRATION: f64 = 0.2;
/// Counts are halved above this total, so that old habits fade.
const TOTAL_KEPT: u32 = 255;
/// Longest context, in types.
pub const ORDER: usize = 3;
/// Contexts kept over all orders; above it all counts are halved and what is left with none is dropped.
const CONTEXTS_KEPT: usize = 1 << 15;

/// The last types of an entity, the latest first; `None` before its first task.
pub type Past = [Option<TypeId>; ORDER];

/// How often each type followed one context.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Types in the order in which they were first seen, each with its count.
    pub types: Vec<(TypeId, u32)>,
    /// Sum of the counts.
    pub total: u32,
}

impl Counts {
    /// One more.
    pub fn learn(&mut self, next: TypeId) {
        match self.types.iter_mut().find(|(t, _)| *t == next) {
            Some((_, count)) => *count += 1,
            None => self.types.push((next, 1)),
        }
        self.total += 1;
        if self.total > TOTAL_KEPT {
            self.halve();
        }
    }

    fn halve(&mut self) {
        for (_, count) in &mut self.types {
            *count /= 2;
        }
        self.types.retain(|(_, count)| *count > 0);
        self.total = self.types.iter().map(|(_, count)| count).sum();
    }

    /// Refines a probability that the level below gave to `next`.
    fn refine(&self, next: TypeId, below: f64) -> f64 {
        let count = self.types.iter().find(|(t, _)| *t == next).map_or(0.0, |(_, c)| f64::from(*c));
        let unseen = CONCENTRATION + DISCOUNT * self.types.len() as f64;
        ((count - DISCOUNT).max(0.0) + unseen * below) / (f64::from(self.total) + CONCENTRATION)
    }
}

/// A context: how many of the latest types it looks at, and which they are.
pub type Context = (u8, Past);

/// The counts that all entities share.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    counts: Map<Context, Counts>,
}

fn context(past: &Past, order: usize) -> Context {
    let mut kept = [None; ORDER];
    kept[..order].copy_from_slice(&past[..order]);
    (order as u8, kept)
}

impl Chain {
    /// `next` followed `past`.
    pub fn learn(&mut self, past: &Past, next: TypeId) {
        for order in 0..=ORDER {
            self.counts.entry(context(past, order)).or_default().learn(next);
        }
        if self.counts.len() > CONTEXTS_KEPT {
            for counts in self.counts.values_mut() {
                counts.halve();
            }
            self.counts.retain(|_, counts| counts.total > 0);
        }
    }

    /// Types that may follow `past`, each with its probability. What is missing to one belongs to types that
    /// no context above order 0 has seen here.
    pub fn next(&self, past: &Past, own: Option<&Counts>) -> Vec<(TypeId, f64)> {
        let levels: Vec<&Counts> =
            (0..=ORDER).filter_map(|order| self.counts.get(&context(past, order))).chain(own).collect();
        let Some(root) = levels.first() else { return Vec::new() };
        let uninformed = 1.0 / (root.types.len() + 1) as f64;
        // Order 0 proposes only where nothing longer was ever seen; elsewhere its types are below any
        // probability that matters, and there may be thousands of them.
        let mut proposed: Vec<TypeId> = Vec::new();
        for level in levels.iter().skip(usize::from(levels.len() > 1)) {
            for (t, _) in &level.types {
                if !proposed.contains(t) {
                    proposed.push(*t);
                }
            }
        }
        proposed.sort_unstable();
        proposed
            .into_iter()
            .map(|t| (t, levels.iter().fold(uninformed, |below, level| level.refine(t, below))))
            .collect()
    }

    /// Every context with its counts, in a fixed order: for a snapshot.
    pub fn contexts(&self) -> Vec<(&Context, &Counts)> {
        let mut all: Vec<_> = self.counts.iter().collect();
        all.sort_by_key(|(context, _)| **context);
        all
    }

    /// From a snapshot.
    pub fn from_contexts(contexts: impl IntoIterator<Item = (Context, Counts)>) -> Chain {
        Chain { counts: contexts.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TypeId = TypeId(0);
    const B: TypeId = TypeId(1);

    #[test]
    fn one_observation_gives_the_hand_computed_posterior() {
        let mut chain = Chain::default();
        chain.learn(&[Some(A), None, None], B);
        let next = chain.next(&[Some(A), None, None], None);
        // uninformed 1/2; each of four levels: (1 − .5 + (.2 + .5)·p)/(1 + .2)
        let want = (0..4).fold(0.5, |p, _| (0.5 + 0.7 * p) / 1.2);
        assert_eq!(next.len(), 1);
        assert!((next[0].1 - want).abs() < 1e-12, "{} is not {want}", next[0].1);
    }

    #[test]
    fn probabilities_never_exceed_one_and_follow_what_was_seen() {
        let mut chain = Chain::default();
        let mut rng = fastrand::Rng::with_seed(7);
        let mut past = [None; ORDER];
        for _ in 0..5_000 {
            let next = if past[0] == Some(A) { TypeId(rng.u16(1..4)) } else { A };
            chain.learn(&past, next);
            past = [Some(next), past[0], past[1]];
            let p = chain.next(&past, None);
            let sum: f64 = p.iter().map(|x| x.1).sum();
            assert!(sum <= 1.0 + 1e-9 && p.iter().all(|x| x.1 > 0.0), "{p:?}");
        }
        let after_b = chain.next(&[Some(B), Some(A), Some(B)], None);
        assert!(after_b.iter().find(|x| x.0 == A).unwrap().1 > 0.95);
    }

    #[test]
    fn an_entitys_own_habit_outweighs_the_others() {
        let mut chain = Chain::default();
        for _ in 0..50 {
            chain.learn(&[Some(A), None, None], B);
        }
        let mut own = Counts::default();
        for _ in 0..6 {
            own.learn(A);
        }
        let next = chain.next(&[Some(A), None, None], Some(&own));
        assert!(next.iter().find(|x| x.0 == A).unwrap().1 > 0.8);
    }

    #[test]
    fn contexts_are_bounded() {
        let mut chain = Chain::default();
        for i in 0..40_000u32 {
            let t = |k: u32| Some(TypeId((i.wrapping_mul(2_654_435_761) >> k) as u16));
            chain.learn(&[t(0), t(5), t(11)], A);
            assert!(chain.counts.len() <= CONTEXTS_KEPT + ORDER + 1);
        }
    }
}
