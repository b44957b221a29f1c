//! One context's opinion: the hierarchical Pitman-Yor predictive with one table for each type, which is
//! interpolated Kneser-Ney (Teh 2006, "A hierarchical Bayesian language model based on Pitman-Yor
//! processes", eq. 7):
//!
//! `p(y) = (max(c(y) − d, 0) + (a + d·U) · p_parent(y)) / (T + a)`
//!
//! c: counts after the context, T: their sum, U: how many types have one, d: discount, a: concentration,
//! p_parent: the opinion of the context it backs off to. d and a are fixed: learning them, by level or by
//! evidence, gained nothing on any of eight logs.

use super::candidates::{Candidates, Row};
use super::table::Node;

/// d
pub(super) const DISCOUNT: f32 = 0.5;
/// a
pub(super) const CONCENTRATION: f32 = 0.2;
/// Classes of evidence: see [`evidence`].
pub(super) const EVIDENCE: usize = 14;

/// p, from the counts and the parent's p.
///
/// Types of the node that are no candidate (there was no room) count for the class *seen*.
#[inline(always)]
pub(super) fn interpolate(node: &Node, parent: &Row, candidates: &Candidates) -> Row {
    let total = f32::from(node.total());
    let scale = 1.0 / (total + CONCENTRATION);
    let back = (CONCENTRATION + DISCOUNT * node.distinct() as f32) * scale;
    let mut p = parent.map(|x| x * back);
    for (&symbol, &count) in node.symbols().iter().zip(node.counts()) {
        p[candidates.place(symbol)] += (f32::from(count) - DISCOUNT).max(0.0) * scale;
    }
    p
}

/// How much a context has seen, as a class: seven of the total, by doubling, times whether it always went the
/// same way.
#[inline(always)]
pub(super) fn evidence(node: &Node) -> usize {
    strength(node.total()) * 2 + usize::from(node.distinct() <= 1)
}

/// The class of the total alone, 0..=6.
#[inline(always)]
pub(super) fn strength(total: u16) -> usize {
    ((u32::from(total) + 1).ilog2() as usize).min(EVIDENCE / 2 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::types::candidates::{ROW, sum};
    use crate::predict::types::table::Table;

    #[test]
    fn gives_the_hand_computed_posterior() {
        let mut t = Table::new(4, 255);
        for s in [1, 1, 1, 2] {
            let place = t.find(77);
            t.learn(place, s);
        }
        let node = *t.node(t.find(77).node.unwrap());
        let mut c = Candidates::new();
        c.grow(4);
        [1, 2, 3].iter().for_each(|&s| c.nominate(s));
        c.close(3.0, 0.0);
        let mut parent = [0.0; ROW];
        parent[..3].copy_from_slice(&[0.5, 0.25, 0.25]);
        let p = interpolate(&node, &parent, &c);
        // T = 4, U = 2: (2.5 + 1.2 · .5) / 4.2, (.5 + 1.2 · .25) / 4.2, 1.2 · .25 / 4.2
        for (x, expected) in p.iter().zip([3.1 / 4.2, 0.8 / 4.2, 0.3 / 4.2]) {
            assert!((x - expected).abs() < 1e-6, "{p:?}");
        }
        assert!((sum(&p) - 1.0).abs() < 1e-6);
        assert_eq!(evidence(&node), 4);
    }
}
