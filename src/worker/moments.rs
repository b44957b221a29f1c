//! Exponentially weighted mean and variance that can be merged.
//!
//! Each new observation has weight 1 after every older one was scaled by `1 − smoothing`, so the total weight
//! is the effective number of observations: it grows like a count and levels off at `1 / smoothing`. Several
//! workers' moments of the same figure merge into the host's by the pairwise formula of Chan, Golub and
//! LeVeque ("Updating formulae and a pairwise algorithm for computing sample variances", 1979, eq. 2.1).

use serde::{Deserialize, Serialize};

/// Weight, mean and sum of squared deviations of one figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    weight: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Takes one observation in. `smoothing` in (0, 1] is the share by which everything older fades; what is
    /// not finite is left out, because one NaN would stay for ever.
    pub fn learn(&mut self, x: f64, smoothing: f64) {
        assert!(smoothing > 0.0 && smoothing <= 1.0, "smoothing lies in (0, 1]");
        if !x.is_finite() {
            return;
        }
        self.weight *= 1.0 - smoothing;
        self.squares *= 1.0 - smoothing;
        self.weight += 1.0;
        let off = x - self.mean;
        self.mean += off / self.weight;
        self.squares += off * (x - self.mean);
    }

    /// Takes in what somebody else observed, at its own weight.
    pub fn merge(&mut self, other: &Moments) {
        if other.weight == 0.0 {
            return;
        }
        let total = self.weight + other.weight;
        let off = other.mean - self.mean;
        self.mean += off * other.weight / total;
        self.squares += other.squares + off * off * self.weight * other.weight / total;
        self.weight = total;
    }

    /// Effective number of observations, ≥ 0.
    pub fn effective_count(&self) -> f64 {
        self.weight
    }

    /// The weighted mean; 0 before the first observation.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// The weighted variance around the mean, ≥ 0; 0 before the second observation.
    pub fn variance(&self) -> f64 {
        if self.weight > 0.0 { (self.squares / self.weight).max(0.0) } else { 0.0 }
    }

    /// The mean shrunk towards `prior`, which counts as `strength` observations (> 0).
    pub fn mean_towards(&self, prior: f64, strength: f64) -> f64 {
        (strength * prior + self.weight * self.mean) / (strength + self.weight)
    }

    /// The variance shrunk towards `prior`, which counts as `strength` observations (> 0).
    pub fn variance_towards(&self, prior: f64, strength: f64) -> f64 {
        (strength * prior + self.weight * self.variance()) / (strength + self.weight)
    }

    /// Whether the fields are what [`Moments::learn`] can make: a stored record may be damaged.
    pub fn is_sound(&self) -> bool {
        self.weight >= 0.0
            && self.squares >= 0.0
            && [self.weight, self.mean, self.squares].iter().all(|x| x.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(xs: &[f64], smoothing: f64) -> Moments {
        let mut m = Moments::default();
        for &x in xs {
            m.learn(x, smoothing);
        }
        m
    }

    /// What the definition says: weights (1 − smoothing)^age, written out.
    fn by_definition(xs: &[f64], smoothing: f64) -> (f64, f64, f64) {
        let w: Vec<f64> = (0..xs.len()).rev().map(|age| (1.0 - smoothing).powi(age as i32)).collect();
        let n: f64 = w.iter().sum();
        let mean = xs.iter().zip(&w).map(|(x, w)| x * w).sum::<f64>() / n;
        let var = xs.iter().zip(&w).map(|(x, w)| w * (x - mean) * (x - mean)).sum::<f64>() / n;
        (n, mean, var)
    }

    #[test]
    fn equals_the_weighted_sums_written_out() {
        let xs = [3.0, -1.0, 4.0, 1.5, 9.0, 2.6];
        for smoothing in [0.01, 0.2, 0.9, 1.0] {
            let (m, (n, mean, var)) = (of(&xs, smoothing), by_definition(&xs, smoothing));
            assert!((m.effective_count() - n).abs() < 1e-12);
            assert!((m.mean() - mean).abs() < 1e-12);
            assert!((m.variance() - var).abs() < 1e-9);
        }
    }

    #[test]
    fn two_smoothing_factors_give_two_curves_after_a_step() {
        // Fifty observations of 0, then k of 1: the mean is the weight of the new ones over all weight.
        for smoothing in [0.05, 0.5] {
            let fade: f64 = 1.0 - smoothing;
            let mut m = of(&[0.0; 50], smoothing);
            for k in 1..=30 {
                m.learn(1.0, smoothing);
                let expect = (1.0 - fade.powi(k)) / (1.0 - fade.powi(50 + k));
                assert!((m.mean() - expect).abs() < 1e-12, "smoothing {smoothing}, step {k}");
            }
        }
        // Half the way: after one observation with .5, after thirteen with .05 ((1 − .95^13)/(1 − .95^63) = .507).
        let half =
            |smoothing| (1..).find(|&k| of(&[vec![0.0; 50], vec![1.0; k]].concat(), smoothing).mean() > 0.49);
        assert_eq!(half(0.5), Some(1));
        assert_eq!(half(0.05), Some(13));
    }

    #[test]
    fn merging_in_any_order_equals_one_pooled_sample() {
        // Without fading the merge must equal plain statistics of the pooled sample.
        let (a, b) = ([1.0, 2.0, 4.0], [10.0, 11.0]);
        let tiny = 1e-15;
        let (mut ab, mut ba) = (of(&a, tiny), of(&b, tiny));
        ab.merge(&of(&b, tiny));
        ba.merge(&of(&a, tiny));
        assert!((ab.mean() - 5.6).abs() < 1e-9 && (ba.mean() - 5.6).abs() < 1e-9);
        assert!((ab.variance() - 17.04).abs() < 1e-9 && (ba.variance() - 17.04).abs() < 1e-9);
    }

    #[test]
    fn what_is_not_finite_is_left_out() {
        assert_eq!(of(&[1.0, f64::NAN, f64::INFINITY], 0.5), of(&[1.0], 0.5));
    }

    #[test]
    fn effective_count_levels_off_at_one_over_smoothing() {
        assert!((of(&[7.0; 500], 0.1).effective_count() - 10.0).abs() < 1e-9);
    }
}
