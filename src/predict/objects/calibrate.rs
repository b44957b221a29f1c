//! From evidence to probability: Beta cells, a mixer over the kinds of evidence, a last refinement.
//!
//! Every proposal falls into one cell per kind of evidence. It is *charged* as a failure at once, and turned
//! into a success when the object is needed: so an outcome that never comes costs no bookkeeping, and a cell is
//! never too confident about proposals that are still open. Where several kinds propose one object, their cells
//! are mixed in the logit domain, relative to the base rate, with weights for each set of kinds, learned online
//! from log loss. The result is refined by two contexts of the object itself, again with Beta cells, and the two
//! refinements are put together by a regression (`regress`).

use super::regress::{AGES, Features, Inputs, RECORDS, Regression, VOTES};
use super::snapshot::{Bad, Reader, Writer};

/// Kinds of evidence.
pub(super) const KINDS: usize = 5;
/// Evidence classes of a kind: 256 for each of four size classes.
const CELLS: usize = 1024;
/// Classes of [`Cell`] indices start at 1; 0 says that a kind has no evidence.
const CELLS_AND_NONE: usize = CELLS + 1;
/// Contexts of the refinement: the object's own record with the number of proposals; kinds with age.
const CONTEXTS: usize = RECORDS * VOTES + (1 << KINDS) * AGES;
/// Steps of mixed probability within a context.
const BUCKETS: usize = 16;
const BUCKET_WIDTH: f32 = 0.6;
const BUCKET_FIRST: f32 = -4.5;
/// A cell's prior is worth this many observations.
const PRIOR_WEIGHT: f32 = 4.0;
/// The same for a refinement.
const REFINE_PRIOR_WEIGHT: f32 = 6.0;
/// Observations after which a cell is halved, so that it follows change.
const LIMIT: f32 = 200.0;
/// Learning rate of the mixer.
const RATE: f32 = 0.02;
/// The weight each kind starts with where several agree: they are not independent.
const START: f32 = 0.6;
/// The base rate follows this much of each outcome, and is halved at 2,000.
const BASE: Cell = Cell { good: 1.0, bad: 9.0 };
const BASE_STEP: f32 = 0.2;
const BASE_LIMIT: f32 = 2000.0;

/// A Beta posterior.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cell {
    good: f32,
    bad: f32,
}

impl Cell {
    fn prior(p: f32, weight: f32) -> Cell {
        Cell { good: p * weight + 0.05, bad: (1.0 - p) * weight + 0.05 }
    }
    /// Its mean.
    pub(super) fn p(self) -> f32 {
        self.good / (self.good + self.bad)
    }
    /// Log odds of its mean, bounded at .002 and .998.
    fn logit(self) -> f32 {
        (std::f32::consts::LN_2 * log2(self.good / self.bad)).clamp(-LOGIT_MAX, LOGIT_MAX)
    }
    fn charge(&mut self) {
        self.bad += 1.0;
        if self.good + self.bad > LIMIT {
            self.good *= 0.5;
            self.bad *= 0.5;
        }
    }
    fn withdraw(&mut self) {
        self.bad = (self.bad - 1.0).max(0.05);
    }
    fn succeed(&mut self) {
        self.good += 1.0;
        self.withdraw();
    }
}

/// Bound of log odds: those of .998.
const LOGIT_MAX: f32 = 6.212_606;
/// The probability of log odds.
pub(super) fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exp2(-x * std::f32::consts::LOG2_E))
}
/// Binary logarithm of a positive, normal number, to 1e-5: our own, because it is the cost of a score, and
/// because the same history must give the same bytes whatever the system's mathematics library.
fn log2(x: f32) -> f32 {
    let bits = x.to_bits();
    // Mantissa in [√½, √2), so that the series is short.
    let exponent = (bits.wrapping_sub(0x3F35_04F3) as i32) >> 23;
    let m = f32::from_bits(bits.wrapping_sub((exponent as u32) << 23)) - 1.0;
    // ln((1 + s) / (1 − s)) = 2 (s + s³/3 + s⁵/5 + …) with s = m / (m + 2), |s| < .172.
    let s = m / (m + 2.0);
    let s2 = s * s;
    let ln = 2.0 * s * (1.0 + s2 * (1.0 / 3.0 + s2 * (1.0 / 5.0 + s2 / 7.0)));
    exponent as f32 + ln * std::f32::consts::LOG2_E
}
/// Two to a power, to 1e-5 of its value.
fn exp2(x: f32) -> f32 {
    let x = x.clamp(-100.0, 100.0);
    let whole = x.round();
    let t = (x - whole) * std::f32::consts::LN_2;
    // e^t for |t| < .35.
    let e = 1.0 + t * (1.0 + t * (0.5 + t * (1.0 / 6.0 + t * (1.0 / 24.0 + t / 120.0))));
    e * f32::from_bits(((whole as i32 + 127) as u32) << 23)
}

/// For each kind the cell that a proposal is charged to; 0 where the kind has no evidence.
pub(super) type Evidence = [u16; KINDS];

/// Where a proposal stands: what is charged for it, and has to be taken back when it moves or comes true.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Standing {
    /// The refinement cells that are charged for it.
    places: [u32; 2],
    inputs: Inputs,
}

impl Standing {
    /// It was never scored.
    pub(super) const NONE: Standing = Standing { places: [u32::MAX; 2], inputs: Inputs::NONE };

    /// Writes it.
    pub(super) fn write(&self, to: &mut Writer) {
        self.places.iter().for_each(|&p| to.u32(p));
        self.inputs.write(to);
    }
    /// Reads what [`Standing::write`] wrote.
    pub(super) fn read(from: &mut Reader<'_>) -> Result<Standing, Bad> {
        Ok(Standing { places: [from.u32()?, from.u32()?], inputs: Inputs::read(from)? })
    }
}

/// All cells and weights.
pub(super) struct Calibration {
    cells: Vec<Cell>,
    /// A weight for each kind and a bias, for each set of kinds.
    weights: Vec<[f32; KINDS + 1]>,
    refine: Vec<Cell>,
    regression: Regression,
    /// How often any proposal comes true.
    base: Cell,
    /// Its log odds.
    base_logit: f32,
}

impl Calibration {
    /// `prior(kind, class)` is the prior mean of a cell.
    pub(super) fn new(prior: impl Fn(usize, usize) -> f32) -> Calibration {
        let mut cells = Vec::with_capacity(KINDS * CELLS_AND_NONE);
        for kind in 0..KINDS {
            cells.push(Cell::prior(0.0, PRIOR_WEIGHT));
            cells.extend((0..CELLS).map(|class| Cell::prior(prior(kind, class % 256), PRIOR_WEIGHT)));
        }
        let weights = (0..1usize << KINDS).map(|set| {
            let mut w = [if set.count_ones() == 1 { 1.0 } else { START }; KINDS + 1];
            w[KINDS] = 0.0;
            w
        });
        let refine = (0..CONTEXTS * BUCKETS).map(|i| {
            let p = logistic((i % BUCKETS) as f32 * BUCKET_WIDTH + BUCKET_FIRST);
            Cell { good: p * REFINE_PRIOR_WEIGHT, bad: (1.0 - p) * REFINE_PRIOR_WEIGHT }
        });
        Calibration {
            cells,
            weights: weights.collect(),
            refine: refine.collect(),
            regression: Regression::new(),
            base: BASE,
            base_logit: BASE.logit(),
        }
    }
    fn at(kind: usize, cell: u16) -> usize {
        kind * CELLS_AND_NONE + usize::from(cell)
    }
    /// The cell of a kind's evidence class (0..=255) and a size class (0..=3).
    pub(super) fn cell_of(class: u16, size_class: u16) -> u16 {
        debug_assert!(class < 256 && size_class < 4);
        1 + class + 256 * size_class
    }
    /// Probability by one kind alone.
    pub(super) fn p(&self, kind: usize, cell: u16) -> f32 {
        self.cells[Self::at(kind, cell)].p()
    }
    /// An object is proposed by `kind` out of `cell`; of each kind the most promising cell counts.
    pub(super) fn charge(&mut self, evidence: &mut Evidence, kind: usize, cell: u16) {
        let old = evidence[kind];
        if old > 0 {
            if self.p(kind, cell) <= self.p(kind, old) {
                return;
            }
            self.cells[Self::at(kind, old)].withdraw();
        }
        evidence[kind] = cell;
        self.cells[Self::at(kind, cell)].charge();
    }
    /// Evidence in the logit domain relative to the base rate, and the set of kinds that have some.
    fn inputs(&self, evidence: &Evidence) -> ([f32; KINDS + 1], usize) {
        let mut x = [0.0; KINDS + 1];
        for kind in 0..KINDS {
            if evidence[kind] > 0 {
                x[kind] = self.cells[Self::at(kind, evidence[kind])].logit() - self.base_logit;
            }
        }
        x[KINDS] = 1.0;
        (x, kinds_of(evidence))
    }
    /// logit p = logit base + bias + Σ w · (logit p_kind − logit base).
    fn mixed_logit(&self, x: &[f32; KINDS + 1], set: usize) -> f32 {
        let w = &self.weights[set];
        let s: f32 = w.iter().zip(x).map(|(w, x)| w * x).sum();
        self.base_logit + s
    }
    /// Probability now. The charges of the proposal move to where it now falls.
    pub(super) fn score(&mut self, evidence: &Evidence, f: Features, standing: &mut Standing) -> f32 {
        let (x, set) = self.inputs(evidence);
        let mixed = (self.mixed_logit(&x, set) - BUCKET_FIRST) / BUCKET_WIDTH + 0.5;
        let bucket = mixed.clamp(0.0, BUCKETS as f32 - 1.0) as usize;
        let contexts = [f.record * VOTES + f.votes, RECORDS * VOTES + set * AGES + f.age];
        let mut logits = [0.0; 2];
        for (i, place) in standing.places.iter_mut().enumerate() {
            let at = contexts[i] * BUCKETS + bucket;
            if *place != at as u32 {
                if let Some(old) = self.refine.get_mut(*place as usize) {
                    old.withdraw();
                }
                self.refine[at].charge();
                *place = at as u32;
            }
            logits[i] = self.refine[at].logit();
        }
        self.regression.score(set, logits, f, &mut standing.inputs)
    }
    /// A proposal came true, or did not.
    pub(super) fn learn(&mut self, evidence: &Evidence, standing: &Standing, used: bool) {
        if kinds_of(evidence).count_ones() > 1 {
            let (x, set) = self.inputs(evidence);
            let error = f32::from(u8::from(used)) - logistic(self.mixed_logit(&x, set));
            for (w, x) in self.weights[set].iter_mut().zip(&x) {
                *w = (*w + RATE * error * x).clamp(-0.5, 1.5);
            }
        }
        if used {
            for (kind, &cell) in evidence.iter().enumerate().filter(|(_, c)| **c > 0) {
                self.cells[Self::at(kind, cell)].succeed();
            }
            for &place in &standing.places {
                if let Some(cell) = self.refine.get_mut(place as usize) {
                    cell.succeed();
                }
            }
            self.regression.succeed(&standing.inputs);
        }
        let side = if used { &mut self.base.good } else { &mut self.base.bad };
        *side += BASE_STEP;
        if self.base.good + self.base.bad > BASE_LIMIT {
            self.base.good *= 0.5;
            self.base.bad *= 0.5;
        }
        self.base_logit = self.base.logit();
    }
    /// Memory, bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        (self.cells.len() + self.refine.len()) * size_of::<Cell>()
            + self.weights.len() * size_of::<[f32; KINDS + 1]>()
            + self.regression.memory_bytes()
    }
    /// Writes all of it.
    pub(super) fn write(&self, to: &mut Writer) {
        for cell in self.cells.iter().chain(&self.refine).chain([&self.base]) {
            to.f32(cell.good);
            to.f32(cell.bad);
        }
        self.weights.iter().flatten().for_each(|&w| to.f32(w));
        self.regression.write(to);
    }
    /// Reads what [`Calibration::write`] wrote.
    pub(super) fn read(&mut self, from: &mut Reader<'_>) -> Result<(), Bad> {
        for cell in self.cells.iter_mut().chain(&mut self.refine).chain([&mut self.base]) {
            *cell = Cell { good: from.f32()?, bad: from.f32()? };
            if cell.good < 0.0 || cell.bad < 0.0 || cell.good + cell.bad <= 0.0 {
                return Err(Bad::Value);
            }
        }
        self.base_logit = self.base.logit();
        for w in self.weights.iter_mut().flatten() {
            *w = from.f32()?;
        }
        self.regression.read(from)
    }
}

/// The set of kinds that have evidence, one bit each.
fn kinds_of(evidence: &Evidence) -> usize {
    evidence.iter().enumerate().map(|(i, &c)| usize::from(c > 0) << i).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration() -> Calibration {
        Calibration::new(|_, _| 0.5)
    }

    #[test]
    fn own_mathematics_agree_with_the_library() {
        for i in 1..1000 {
            let x = i as f32 / 1000.0;
            assert!((log2(x) - x.log2()).abs() < 1e-5, "log2 {x}");
            let y = (x - 0.5) * 40.0;
            assert!((exp2(y) / y.exp2() - 1.0).abs() < 1e-5, "exp2 {y}");
            if (0.003..0.997).contains(&x) {
                let cell = Cell { good: x, bad: 1.0 - x };
                assert!((logistic(cell.logit()) - x).abs() < 1e-5, "{x}");
            }
        }
    }

    #[test]
    fn cell_learns_the_share_that_comes_true() {
        let mut c = calibration();
        for i in 0..2000 {
            let mut evidence = [0; KINDS];
            c.charge(&mut evidence, 1, 7);
            c.learn(&evidence, &Standing::NONE, i % 4 == 0);
        }
        assert!((c.p(1, 7) - 0.25).abs() < 0.03, "{}", c.p(1, 7));
        assert!((c.p(1, 8) - 0.5).abs() < 1e-6, "other cells stay at their prior");
    }

    #[test]
    fn open_proposals_count_as_failures_until_they_come_true() {
        let mut c = calibration();
        let before = c.p(0, 1);
        let mut evidence = [0; KINDS];
        c.charge(&mut evidence, 0, 1);
        assert!((c.p(0, 1) - 2.05 / 5.1).abs() < 1e-6, "prior 2.05 : 2.05, and one charge");
        c.learn(&evidence, &Standing::NONE, true);
        assert!(c.p(0, 1) > before);
    }

    #[test]
    fn mixed_and_refined_probability_is_calibrated() {
        let mut c = calibration();
        let mut rng = fastrand::Rng::with_seed(5);
        let f = Features { record: 1, votes: 1, age: 1, size: 1, horizon: 1 };
        let (mut said, mut came) = (0.0, 0.0);
        for i in 0..40_000 {
            let mut evidence = [0; KINDS];
            let (a, b) = (rng.bool(), rng.bool());
            c.charge(&mut evidence, 0, 1 + u16::from(a));
            c.charge(&mut evidence, 2, 1 + u16::from(b));
            let mut standing = Standing::NONE;
            let p = c.score(&evidence, f, &mut standing);
            let used = rng.f64() < if a && b { 0.9 } else { 0.1 };
            c.learn(&evidence, &standing, used);
            if i > 20_000 && a && b {
                said += f64::from(p);
                came += f64::from(u8::from(used));
            }
        }
        assert!((said / came - 1.0).abs() < 0.08, "said {said}, came {came}");
    }
}
