//! Which entity a worker takes next: a softmax over the candidates of `in_play.rs` and two more, *new* (an
//! entity never seen) and *lost* (one that is no candidate).
//!
//! `P(c | w) ∝ exp Σ_f W[f(c, w)]`, seventeen hashed binary features each, one weight for each feature,
//! learned online by AdaGrad.

use super::Error;
use super::in_play::IN_PLAY;
use super::maths::{exp, inverse_root};
use super::snapshot::{Reader, Writer};

/// Features of one candidate.
pub(super) const FEATURES: usize = 17;
/// Candidates and the two more.
pub(super) const CHOICES: usize = IN_PLAY + 2;
/// Hashed features of one candidate.
pub(super) type Features = [u16; FEATURES];

const RATE: f32 = 0.17;
/// G before the first step.
const FIRST_SQUARE: f32 = 1.0;
/// Errors smaller than this are not worth the trouble.
const SMALL: f32 = 2e-3;

/// The weights, and the forecast in hand.
#[derive(Clone, Debug)]
pub(super) struct Takes {
    weights: Vec<f32>,
    /// G above its start.
    squares: Vec<f32>,
    features: [Features; CHOICES],
    p: [f32; CHOICES],
    len: usize,
}

impl Takes {
    pub fn new() -> Takes {
        let n = 1 << 16;
        Takes {
            weights: vec![0.0; n],
            squares: vec![0.0; n],
            features: [[0; FEATURES]; CHOICES],
            p: [0.0; CHOICES],
            len: 0,
        }
    }

    /// Memory, bytes.
    pub fn bytes(&self) -> usize {
        self.weights.len() * 8 + size_of::<Takes>()
    }

    /// Begins a forecast.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// One more choice.
    #[inline]
    pub fn add(&mut self, features: Features) {
        assert!(self.len < CHOICES, "there are at most {CHOICES} choices");
        self.features[self.len] = features;
        self.p[self.len] = features.iter().map(|&f| self.weights[f as usize]).sum();
        self.len += 1;
    }

    /// Ends it: scores become probabilities.
    #[inline]
    pub fn close(&mut self) {
        let p = &mut self.p[..self.len];
        let top = p.iter().fold(f32::MIN, |a, &b| a.max(b));
        let mut total = 0.0;
        for x in p.iter_mut() {
            *x = exp(*x - top);
            total += *x;
        }
        p.iter_mut().for_each(|x| *x /= total);
    }

    /// Probability of each choice, in the order in which they were added.
    #[inline]
    pub fn p(&self) -> &[f32] {
        &self.p[..self.len]
    }

    /// The choice at place `came` came.
    pub fn learn(&mut self, came: usize) {
        for c in 0..self.len {
            let g = f32::from(u8::from(c == came)) - self.p[c];
            if g.abs() < SMALL {
                continue;
            }
            for &f in &self.features[c] {
                let f = f as usize;
                self.squares[f] += g * g;
                self.weights[f] += RATE * g * inverse_root(FIRST_SQUARE + self.squares[f]);
            }
        }
    }

    pub fn save(&self, to: &mut Writer) {
        to.f32s(&self.weights);
        to.f32s(&self.squares);
    }

    pub fn load(&mut self, from: &mut Reader<'_>) -> Result<(), Error> {
        from.f32s_into(&mut self.weights)?;
        from.f32s_into(&mut self.squares)?;
        if self.squares.iter().any(|&g| g < 0.0) {
            return Err(Error::Malformed { what: "a squared gradient" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(a: u16, b: u16) -> Features {
        std::array::from_fn(|i| if i == 0 { a } else { b.wrapping_mul(31).wrapping_add(i as u16) })
    }

    #[test]
    fn knows_nothing_at_first_and_learns_what_tells() {
        let mut t = Takes::new();
        let mut rng = fastrand::Rng::with_seed(6);
        let mut p_right = 0.0;
        for i in 0..2000 {
            let right = rng.usize(..3);
            t.clear();
            for c in 0..3 {
                t.add(choice(if c == right { 60_000 } else { 60_001 }, rng.u16(..50)));
            }
            t.close();
            assert!((t.p().iter().sum::<f32>() - 1.0).abs() < 1e-4);
            if i == 0 {
                assert!((t.p()[right] - 1.0 / 3.0).abs() < 1e-4);
            }
            p_right = t.p()[right];
            t.learn(right);
        }
        assert!(p_right > 0.95, "{p_right}");
    }
}
