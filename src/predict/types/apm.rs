//! Adaptive probability map: what a stated probability has turned out to mean, in a context.
//!
//! 33 knots over the logit of the stated probability, from −8 to 8; between two knots the answer is
//! interpolated, and both learn in proportion to their nearness. (Secondary estimation: Mahoney 2005,
//! "Adaptive weighing of context models".) It starts as the identity.

use super::Error;
use super::maths::exp;
use super::snapshot::{Reader, Writer};

const KNOTS: usize = 33;

/// One map for each context. Kept as differences to the identity, so a map that has learned nothing is zero, and
/// contexts never met take no room.
#[derive(Clone, Debug)]
pub(super) struct Apm {
    moved: Vec<f32>,
    contexts: usize,
    identity: [f32; KNOTS],
    rate: f32,
    /// The last answer: left knot, and how near it was to the right one.
    at: usize,
    fraction: f32,
}

impl Apm {
    pub fn new(contexts: usize, rate: f32) -> Apm {
        let identity = std::array::from_fn(|j| 1.0 / (1.0 + exp(-(j as f32 - 16.0) * 0.5)));
        Apm { moved: Vec::new(), contexts, identity, rate, at: 0, fraction: 0.0 }
    }

    /// Memory, bytes.
    pub fn bytes(&self) -> usize {
        self.moved.len() * 4
    }

    #[inline(always)]
    fn knot(&self, at: usize) -> f32 {
        self.identity[at % KNOTS] + self.moved.get(at).copied().unwrap_or_default()
    }

    /// What `logit` has meant in `context`, a probability.
    #[inline(always)]
    pub fn refine(&mut self, logit: f32, context: usize) -> f32 {
        let x = (logit * 2.0 + 16.0).clamp(0.0, 31.999);
        // x is not negative: cutting off is rounding down.
        let knot = x as usize;
        self.fraction = x - knot as f32;
        self.at = context * KNOTS + knot;
        self.knot(self.at) * (1.0 - self.fraction) + self.knot(self.at + 1) * self.fraction
    }

    /// Whether what was stated came true.
    #[inline(always)]
    pub fn learn(&mut self, hit: bool) {
        let target = f32::from(u8::from(hit));
        if self.at + 1 >= self.moved.len() {
            // Room for this context and for as many again.
            let contexts = ((self.at / KNOTS + 1) * 2).min(self.contexts);
            self.moved.resize(contexts * KNOTS, 0.0);
        }
        for (at, nearness) in [(self.at, 1.0 - self.fraction), (self.at + 1, self.fraction)] {
            let step = self.rate * nearness * (target - self.knot(at));
            self.moved[at] += step;
        }
    }

    pub fn save(&self, to: &mut Writer) {
        to.f32s(&self.moved);
    }

    pub fn load(&mut self, from: &mut Reader<'_>) -> Result<(), Error> {
        self.moved = from.f32s(self.contexts * KNOTS, "a map of probabilities")?;
        if !self.moved.len().is_multiple_of(KNOTS) {
            return Err(Error::Malformed { what: "a map of probabilities" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::types::maths::logit;

    #[test]
    fn starts_as_the_identity() {
        let mut a = Apm::new(2, 0.02);
        for p in [0.01, 0.2, 0.5, 0.9, 0.999] {
            assert!((a.refine(logit(p), 1) - p).abs() < 0.02, "{p}");
        }
    }

    #[test]
    fn corrects_an_overconfident_voice_in_its_own_context_only() {
        let mut a = Apm::new(2, 0.02);
        for i in 0..2000 {
            a.refine(logit(0.9), 1);
            a.learn(i % 10 < 6);
        }
        assert!((a.refine(logit(0.9), 1) - 0.6).abs() < 0.08);
        assert!((a.refine(logit(0.9), 0) - 0.9).abs() < 0.02);
    }
}
