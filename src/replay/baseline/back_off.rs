//! Counts over the last types, each order backing off to the next shorter one, the shortest to uniform.
//!
//! - Dirichlet: `p(y) = (c(y) + p_shorter(y)) / (T + 1)`, every order counts everything.
//! - Interpolated Kneser-Ney (Chen and Goodman 1999, eq. 11, without its separate treatment of the highest
//!   order's concentration): `p(y) = (max(c(y) − .7, 0) + .7 · U · p_shorter(y)) / T`, where an order learns
//!   only what was new to the next longer one.
//!
//! Before the first type of a history stand five starts.

use super::Follow;
use crate::flow::Map;

/// Discount of Kneser-Ney.
const DISCOUNT: f64 = 0.7;
/// Stands before the first type.
const START: u16 = u16::MAX;

#[derive(Default)]
struct Node {
    total: f64,
    counts: Vec<(u16, f64)>,
}

/// The model.
pub(super) struct BackOff {
    order: usize,
    kneser_ney: bool,
    nodes: Map<Vec<u16>, Node>,
}

impl BackOff {
    pub fn dirichlet(order: usize) -> BackOff {
        BackOff { order, kneser_ney: false, nodes: Map::default() }
    }
    pub fn kneser_ney(order: usize) -> BackOff {
        BackOff { order, kneser_ney: true, nodes: Map::default() }
    }

    /// The last `n` types, latest first, starts where there are none.
    fn context(history: &[u16], n: usize) -> Vec<u16> {
        history.iter().rev().copied().chain(std::iter::repeat(START)).take(n).collect()
    }
}

impl Follow for BackOff {
    fn predict(&mut self, history: &[u16], p: &mut [f64]) {
        p.fill(1.0 / p.len() as f64);
        for n in 0..=self.order {
            let Some(node) = self.nodes.get(&Self::context(history, n)) else { break };
            let (discount, concentration) =
                if self.kneser_ney { (DISCOUNT, DISCOUNT * node.counts.len() as f64) } else { (0.0, 1.0) };
            let scale = 1.0 / if self.kneser_ney { node.total } else { node.total + 1.0 };
            for x in p.iter_mut() {
                *x *= concentration * scale;
            }
            for &(y, c) in &node.counts {
                p[y as usize] += (c - discount).max(0.0) * scale;
            }
        }
    }

    fn learn(&mut self, history: &[u16], came: u16) {
        for n in (0..=self.order).rev() {
            let node = self.nodes.entry(Self::context(history, n)).or_default();
            node.total += 1.0;
            let known = node.counts.iter_mut().find(|c| c.0 == came);
            let new = known.is_none();
            match known {
                Some(c) => c.1 += 1.0,
                None => node.counts.push((came, 1.0)),
            }
            if self.kneser_ney && !new {
                break;
            }
        }
    }

    fn bytes(&self) -> usize {
        let node = |(k, n): (&Vec<u16>, &Node)| k.capacity() * 2 + n.counts.capacity() * 16 + 64;
        self.nodes.iter().map(node).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(mut model: BackOff, types: &[u16]) -> BackOff {
        for i in 0..types.len() {
            model.learn(&types[..i], types[i]);
        }
        model
    }

    #[test]
    fn dirichlet_gives_the_hand_computed_posterior() {
        let mut m = learned(BackOff::dirichlet(1), &[0, 1, 0, 1]);
        let mut p = [0.0; 3];
        m.predict(&[0], &mut p);
        // order 0: (2, 2, 0) of 4 with uniform thirds; after 0: 1 came twice
        let p0 = [(2.0 + 1.0 / 3.0) / 5.0, (2.0 + 1.0 / 3.0) / 5.0, (1.0 / 3.0) / 5.0];
        let expected = [p0[0] / 3.0, (2.0 + p0[1]) / 3.0, p0[2] / 3.0];
        assert!(p.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{p:?}");
    }

    #[test]
    fn kneser_ney_gives_the_hand_computed_posterior() {
        let mut m = learned(BackOff::kneser_ney(1), &[0, 1, 0, 1, 1]);
        let mut p = [0.0; 2];
        m.predict(&[1], &mut p);
        // After 1: 0 once, 1 once. Order 0 learned what was new to its child: 0 after the start, 1 after 0,
        // 0 after 1, 1 after 1.
        let p0 = (2.0 - 0.7 + 1.4 * 0.5) / 4.0;
        let expected = (0.3 + 1.4 * p0) / 2.0;
        assert!((p[0] - expected).abs() < 1e-12 && (p[1] - expected).abs() < 1e-12, "{p:?}");
    }
}
