//! The specification's product, made exact:
//!
//! `p_w(t) ∝ a_w(t)^α · (1 − h_w(t))^β · P(t | history)^γ`, normalised over t,
//!
//! where a is the worker's affinity score for the type, h its heat weighted by what the type demands, and P
//! the history's forecast. (1, 1, 1) is the cold start. The exponents are then learned online by descending
//! the log loss: the gradient for each is the expected logarithm of its factor minus that of the type that
//! came; the step is AdaGrad's. The sign of β differs between workloads (a hot worker may be hot because it
//! is just what comes next), which is why it is learned and shown rather than set.

use serde::{Deserialize, Serialize};

/// How the exponents are had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exponents {
    /// (1, 1, 1) for ever.
    Fixed,
    /// From (1, 1, 1), by log loss.
    #[default]
    Learned,
}

/// The factors of one type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factors {
    /// `a_w(t)`, in (0, 1]; sums to one over the types.
    pub affinity: f64,
    /// `h_w(t)`, in [0, .99].
    pub heat: f64,
    /// `P(t | history)`, in (0, 1].
    pub history: f64,
}

/// Smallest factor: keeps logarithms finite.
const LEAST: f64 = 1e-9;
/// Largest heat that is believed.
const HEAT_MAX: f64 = 0.99;
/// Step of the exponents.
const RATE: f64 = 0.03;
/// Largest gradient.
const CLIP: f64 = 5.0;
/// Exponents stay within ± this: beyond, one factor alone would decide.
const EXPONENT_MAX: f64 = 8.0;

impl Factors {
    /// The logarithms that the exponents multiply.
    fn logs(&self) -> [f64; 3] {
        let cool = 1.0 - self.heat.clamp(0.0, HEAT_MAX);
        [self.affinity.max(LEAST).ln(), cool.ln(), self.history.max(LEAST).ln()]
    }
}

/// The product with its exponents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Product {
    mode: Exponents,
    /// α, β, γ.
    exponents: [f64; 3],
    /// Sums of squared gradients.
    squares: [f64; 3],
}

impl Product {
    /// At the cold start.
    pub fn new(mode: Exponents) -> Product {
        Product { mode, exponents: [1.0; 3], squares: [1.0; 3] }
    }

    /// α, β, γ.
    pub fn exponents(&self) -> [f64; 3] {
        self.exponents
    }

    /// p over the types of `factors`, in their order.
    ///
    /// # Panics
    /// When the two lengths differ.
    pub fn predict(&self, factors: &[Factors], p: &mut [f64]) {
        assert_eq!(factors.len(), p.len(), "one probability for each type");
        let mut top = f64::MIN;
        for (x, f) in p.iter_mut().zip(factors) {
            *x = f.logs().iter().zip(self.exponents).map(|(l, e)| l * e).sum();
            top = top.max(*x);
        }
        let mut total = 0.0;
        for x in p.iter_mut() {
            *x = (*x - top).exp();
            total += *x;
        }
        p.iter_mut().for_each(|x| *x /= total);
    }

    /// The type at place `came` came. Cost: one pass over the types.
    pub fn learn(&mut self, factors: &[Factors], came: usize) {
        if self.mode == Exponents::Fixed || came >= factors.len() {
            return;
        }
        let score = |f: &Factors| -> f64 { f.logs().iter().zip(self.exponents).map(|(l, e)| l * e).sum() };
        let top = factors.iter().map(&score).fold(f64::MIN, f64::max);
        let (mut total, mut expected) = (0.0, [0.0; 3]);
        for f in factors {
            let weight = (score(f) - top).exp();
            total += weight;
            for (e, l) in expected.iter_mut().zip(f.logs()) {
                *e += weight * l;
            }
        }
        let seen = factors[came].logs();
        for i in 0..3 {
            let g = (seen[i] - expected[i] / total).clamp(-CLIP, CLIP);
            self.squares[i] += g * g;
            let moved = self.exponents[i] + RATE * g / self.squares[i].sqrt();
            self.exponents[i] = moved.clamp(-EXPONENT_MAX, EXPONENT_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three types: the first is what the worker is good at, the second what history expects.
    const TABLE: [Factors; 3] = [
        Factors { affinity: 0.5, heat: 0.8, history: 0.2 },
        Factors { affinity: 0.3, heat: 0.5, history: 0.7 },
        Factors { affinity: 0.2, heat: 0.0, history: 0.1 },
    ];

    #[test]
    fn fixed_exponents_give_the_hand_computed_product() {
        let mut product = Product::new(Exponents::Fixed);
        let mut p = [0.0; 3];
        product.predict(&TABLE, &mut p);
        // .5·.2·.2 = .020, .3·.5·.7 = .105, .2·1·.1 = .020: sum .145
        for (x, expected) in p.iter().zip([0.020 / 0.145, 0.105 / 0.145, 0.020 / 0.145]) {
            assert!((x - expected).abs() < 1e-12, "{p:?}");
        }
        product.learn(&TABLE, 0);
        assert_eq!(product.exponents(), [1.0; 3]);
    }

    #[test]
    fn heat_that_does_not_depend_on_the_type_cancels() {
        let product = Product::new(Exponents::Fixed);
        let even = TABLE.map(|f| Factors { heat: 0.6, ..f });
        let cold = TABLE.map(|f| Factors { heat: 0.0, ..f });
        let (mut p, mut q) = ([0.0; 3], [0.0; 3]);
        product.predict(&even, &mut p);
        product.predict(&cold, &mut q);
        assert!(p.iter().zip(q).all(|(a, b)| (a - b).abs() < 1e-12));
    }

    #[test]
    fn one_step_is_the_hand_computed_one() {
        let mut product = Product::new(Exponents::Learned);
        product.learn(&TABLE, 1);
        let p: [f64; 3] = [0.020 / 0.145, 0.105 / 0.145, 0.020 / 0.145];
        let expected: f64 = (0..3).map(|i| p[i] * TABLE[i].affinity.ln()).sum();
        let g = 0.3f64.ln() - expected;
        let alpha = 1.0 + 0.03 * g / (1.0 + g * g).sqrt();
        assert!((product.exponents()[0] - alpha).abs() < 1e-12);
    }

    #[test]
    fn learns_to_trust_what_is_right_and_to_doubt_what_is_not() {
        let mut product = Product::new(Exponents::Learned);
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..5000 {
            let good = 0.05 + 0.9 * rng.f64();
            let noise = 0.05 + 0.9 * rng.f64();
            let table = [
                Factors { affinity: noise, heat: rng.f64(), history: good },
                Factors { affinity: 1.0 - noise, heat: rng.f64(), history: 1.0 - good },
            ];
            product.learn(&table, usize::from(rng.f64() >= good));
        }
        let [alpha, beta, gamma] = product.exponents();
        assert!(alpha.abs() < 0.2 && beta.abs() < 0.2 && (gamma - 1.0).abs() < 0.2, "{alpha} {beta} {gamma}");
    }

    #[test]
    fn extreme_factors_stay_finite() {
        let mut product = Product::new(Exponents::Learned);
        let table = [
            Factors { affinity: 0.0, heat: 7.0, history: 0.0 },
            Factors { affinity: 1.0, heat: -3.0, history: 1.0 },
        ];
        let mut p = [0.0; 2];
        for i in 0..3000 {
            product.learn(&table, i % 2);
            product.predict(&table, &mut p);
            assert!(p.iter().all(|x| x.is_finite()) && (p[0] + p[1] - 1.0).abs() < 1e-9);
        }
    }
}
