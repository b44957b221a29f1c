//! One context's opinion: the hierarchical Pitman-Yor predictive with one table for each type, which is
//! interpolated Kneser-Ney (Teh 2006, "A hierarchical Bayesian language model based on Pitman-Yor
//! processes", eq. 7):
//!
//! `p(y) = (max(c(y) − d, 0) + (a + d·U) · p_parent(y)) / (T + a)`
//!
//! c: counts after the context, T: their sum, U: how many types have one, d: discount, a: concentration,
//! p_parent: the opinion of the context it backs off to. d and a are fixed: learning them, by level or by
//! evidence, gained nothing on any of eight logs.

use super::candidates::Candidates;
use super::row::Row;
use super::table::Node;

/// d
pub(super) const DISCOUNT: f32 = 0.5;
/// a
pub(super) const CONCENTRATION: f32 = 0.2;
/// Classes of evidence: see [`evidence`].
pub(super) const EVIDENCE: usize = 14;

/// The counts' part of p, into `row`; gives back the parent's share, `(a + d·U) / (T + a)`.
///
/// Types of the node that are no candidate (there was no room) count for the class *seen*.
#[inline(always)]
pub(super) fn discount(node: &Node, candidates: &Candidates, row: &mut Row) -> f32 {
    let scale = 1.0 / (f32::from(node.total()) + CONCENTRATION);
    candidates.width().fill(row, |_| 0.0);
    for (&symbol, &count) in node.symbols().iter().zip(node.counts()) {
        row[candidates.place(symbol)] += (f32::from(count) - DISCOUNT) * scale;
    }
    (CONCENTRATION + DISCOUNT * node.distinct() as f32) * scale
}

/// How much a context has seen, as a class: seven of the total, by doubling, times whether it always went the
/// same way.
#[inline(always)]
pub(super) fn evidence(node: &Node) -> usize {
    strength(node.total()) * 2 + usize::from(node.distinct() <= 1)
}

/// The class of the total alone, 0..=6.
#[inline(always)]
pub(super) fn strength(total: u8) -> usize {
    ((u32::from(total) + 1).ilog2() as usize).min(EVIDENCE / 2 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::types::table::Table;

    #[test]
    fn gives_the_hand_computed_posterior() {
        let mut t = Table::new(4, 254);
        for s in [1, 1, 1, 2] {
            let place = t.find(77);
            t.learn(place, s);
        }
        let node = *t.node(t.find(77).node.unwrap());
        let mut c = Candidates::new();
        c.grow(4);
        [1, 2, 3].iter().for_each(|&s| c.nominate(s));
        c.close(3.0, 0.0);
        let (mut parent, mut p) = (Row::ZERO, Row::ZERO);
        parent[..3].copy_from_slice(&[0.5, 0.25, 0.25]);
        let back = discount(&node, &c, &mut p);
        c.width().update(&mut p, |i, x| x + back * parent[i]);
        // T = 4, U = 2: (2.5 + 1.2 · .5) / 4.2, (.5 + 1.2 · .25) / 4.2, 1.2 · .25 / 4.2
        for (x, expected) in p.iter().zip([3.1 / 4.2, 0.8 / 4.2, 0.3 / 4.2]) {
            assert!((x - expected).abs() < 1e-6, "{p:?}");
        }
        assert!((p[..5].iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(evidence(&node), 4);
    }
}
