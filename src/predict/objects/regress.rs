//! The last step from evidence to probability: a small logistic regression, learned online from log loss.
//!
//! Its inputs are the log odds of the two refinements, weighted by the set of kinds that propose, and biases for
//! what the object and the pool look like. It begins as the mean of the two. A proposal is charged as a failure
//! when it is scored, and turned into a success when it comes true, as the cells of `calibrate` are: failures
//! are only known much later than successes, and would be learned too late.

use super::calibrate::{KINDS, logistic};
use super::snapshot::{Bad, Reader, Writer};

const SETS: usize = 1 << KINDS;
/// Values of the object's own record: its last three outcomes.
pub(super) const RECORDS: usize = 16;
/// Classes of the number of proposals.
pub(super) const VOTES: usize = 8;
/// Classes of the time since the last use.
pub(super) const AGES: usize = 8;
/// Size classes times horizon classes.
pub(super) const SIZES: usize = 4;
/// Classes of how long a resident object stays.
pub(super) const HORIZONS: usize = 8;
/// Learning rate.
const RATE: f32 = 0.005;

/// Inputs that weigh a refinement's log odds, then biases.
const SLOPES: usize = 2;
const BIASES: usize = 6;
/// First weight of each group of inputs.
const FIRST: [usize; SLOPES + BIASES + 1] = {
    let sizes = [SETS, SETS, SETS, RECORDS, VOTES * AGES, SIZES * HORIZONS, SETS * AGES, SETS * VOTES];
    let mut first = [0; SLOPES + BIASES + 1];
    let mut i = 0;
    while i < sizes.len() {
        first[i + 1] = first[i] + sizes[i];
        i += 1;
    }
    first
};
const WEIGHTS: usize = FIRST[SLOPES + BIASES];

/// What a probability depends on besides the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Features {
    /// The object's last three outcomes as a candidate, below [`RECORDS`].
    pub(super) record: usize,
    /// Class of the number of proposals, below [`VOTES`].
    pub(super) votes: usize,
    /// Class of the time since its last use, below [`AGES`].
    pub(super) age: usize,
    /// Its size relative to the mean, below [`SIZES`].
    pub(super) size: usize,
    /// Class of how long a resident object stays, below [`HORIZONS`].
    pub(super) horizon: usize,
}

/// The inputs of one scored proposal, kept until its outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Inputs {
    logits: [f32; SLOPES],
    rows: [u16; SLOPES + BIASES],
    /// The error that the weights were moved by when it was charged; zero if it is not charged.
    charged: f32,
}

/// The weights.
pub(super) struct Regression {
    weights: Box<[f32; WEIGHTS]>,
}

impl Regression {
    /// The mean of the two refinements.
    pub(super) fn new() -> Regression {
        let mut weights = Box::new([0.0; WEIGHTS]);
        weights[..FIRST[SLOPES]].fill(1.0 / SLOPES as f32);
        Regression { weights }
    }
    /// Probability of a proposal with this set of kinds and these log odds; it is charged as a failure.
    pub(super) fn score(
        &mut self,
        set: usize,
        logits: [f32; SLOPES],
        f: Features,
        inputs: &mut Inputs,
    ) -> f32 {
        self.step(inputs, -inputs.charged);
        let within = [
            set,
            set,
            set,
            f.record,
            f.votes * AGES + f.age,
            f.size * HORIZONS + f.horizon,
            set * AGES + f.age,
            set * VOTES + f.votes,
        ];
        let rows = std::array::from_fn(|i| (FIRST[i] + within[i]) as u16);
        *inputs = Inputs { logits, rows, charged: 0.0 };
        let p = self.p(inputs);
        inputs.charged = -p;
        self.step(inputs, inputs.charged);
        p
    }
    /// A scored proposal came true: the charge is taken back, and the weights move the other way.
    pub(super) fn succeed(&mut self, inputs: &Inputs) {
        self.step(inputs, -inputs.charged);
        if inputs.charged != 0.0 {
            self.step(inputs, 1.0 - self.p(inputs));
        }
    }
    fn p(&self, inputs: &Inputs) -> f32 {
        let weight = |i: usize| self.weights[usize::from(inputs.rows[i])];
        let slopes: f32 = (0..SLOPES).map(|i| weight(i) * inputs.logits[i]).sum();
        let biases: f32 = (SLOPES..SLOPES + BIASES).map(weight).sum();
        logistic(slopes + biases)
    }
    /// One step of gradient descent on log loss, whose gradient is error · input.
    fn step(&mut self, inputs: &Inputs, error: f32) {
        if error == 0.0 {
            return;
        }
        for (i, &row) in inputs.rows.iter().enumerate() {
            let x = inputs.logits.get(i).copied().unwrap_or(1.0);
            let w = &mut self.weights[usize::from(row)];
            *w = (*w + RATE * error * x).clamp(-8.0, 8.0);
        }
    }
    /// Memory, bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        WEIGHTS * size_of::<f32>()
    }
    /// Writes the weights.
    pub(super) fn write(&self, to: &mut Writer) {
        self.weights.iter().for_each(|&w| to.f32(w));
    }
    /// Reads what [`Regression::write`] wrote.
    pub(super) fn read(&mut self, from: &mut Reader<'_>) -> Result<(), Bad> {
        for w in self.weights.iter_mut() {
            *w = from.f32()?;
        }
        Ok(())
    }
}

impl Inputs {
    /// Never scored.
    pub(super) const NONE: Inputs =
        Inputs { logits: [0.0; SLOPES], rows: [0; SLOPES + BIASES], charged: 0.0 };

    /// Writes one proposal's inputs.
    pub(super) fn write(&self, to: &mut Writer) {
        self.logits.iter().for_each(|&l| to.f32(l));
        self.rows.iter().for_each(|&r| to.u32(r.into()));
        to.f32(self.charged);
    }
    /// Reads what [`Inputs::write`] wrote.
    pub(super) fn read(from: &mut Reader<'_>) -> Result<Inputs, Bad> {
        let mut inputs = Inputs::NONE;
        for l in &mut inputs.logits {
            *l = from.f32()?;
        }
        for r in &mut inputs.rows {
            *r = from.index(WEIGHTS)? as u16;
        }
        inputs.charged = from.f32()?;
        Ok(inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Features = Features { record: 1, votes: 0, age: 7, size: 1, horizon: 3 };

    #[test]
    fn begins_as_the_mean_of_the_refinements() {
        let mut r = Regression::new();
        let p = r.score(3, [1.0, 0.0], ANY, &mut { Inputs::NONE });
        assert!((p - logistic(0.5)).abs() < 0.01, "{p}");
    }

    #[test]
    fn learns_that_some_objects_keep_their_promise() {
        let mut r = Regression::new();
        let mut rng = fastrand::Rng::with_seed(8);
        let good = Features { record: 15, ..ANY };
        for _ in 0..40_000 {
            let (f, share) = if rng.bool() { (good, 0.9) } else { (ANY, 0.2) };
            let mut inputs = Inputs::NONE;
            r.score(3, [0.0, 0.0], f, &mut inputs);
            if rng.f64() < share {
                r.succeed(&inputs);
            }
        }
        let mut p = |f| r.score(3, [0.0, 0.0], f, &mut { Inputs::NONE });
        assert!((p(good) - 0.9).abs() < 0.05 && (p(ANY) - 0.2).abs() < 0.06, "{} {}", p(good), p(ANY));
    }
}
