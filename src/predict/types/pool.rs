//! The log-linear pool: how the experts' opinions become one.
//!
//! `p(y) ∝ exp(r(y) + Σ_k w_k · row_k(y))`
//!
//! (Heskes 1998, "Selecting weighting factors in logarithmic opinion pools"; Mattern 2013, "Linear and
//! geometric mixtures", for the online step.) Rows are logarithms of ratios, each expert against the one it
//! backs off to, so that the weights do not fight. Each w_k is the sum of one weight from three *sets*; a set
//! holds a whole list of weights for each value of what selects it. r is a small residual regression.
//!
//! Step, AdaGrad: `g = row_k(came) − E_p[row_k]`, clipped to ±20; `G += g²; w += rate · g / √G`.

use super::Error;
use super::backoff::EVIDENCE;
use super::candidates::Candidates;
use super::maths::inverse_root;
use super::row::{LANES, Row, sum_of};
use super::snapshot::{Reader, Writer};

/// Most rows.
pub(super) const ROWS: usize = 40;
/// G before the first step.
const FIRST_SQUARE: f32 = 8.0;
/// Errors smaller than this are not worth a step.
const SMALL: f32 = 0.01;
/// Largest gradient.
const CLIP: f32 = 20.0;

/// What chooses among the weights of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Selector {
    /// For each row its own: the evidence of its context.
    Evidence,
    /// The longest context of past types that is known, and its strength.
    Match,
    /// The last type.
    LastType,
    /// How many tasks the entity has had.
    Position,
    /// Nothing.
    Always,
    /// Evidence of the echo after the bag, and of the bag.
    Bag,
    /// Who did the last task.
    Partner,
    /// The first, second or third selector that the caller gives.
    Extra(u8),
}

/// How many [`Selector`]s there are.
pub(super) const SELECTORS: usize = 10;
/// Values of the selectors that are taken modulo something.
pub(super) const MODULUS: usize = 1024;
/// Values of [`Selector::Position`]; the last stands for all longer histories.
pub(super) const POSITIONS: usize = 24;
/// Values of [`Selector::Match`]: longest match 0..=5 times strength 0..=6, in steps of eight.
pub(super) const MATCHES: usize = 64;

impl Selector {
    /// How many lists of weights a set has.
    fn values(self) -> usize {
        match self {
            Selector::Evidence => EVIDENCE,
            Selector::Match => MATCHES,
            Selector::LastType | Selector::Partner | Selector::Extra(_) => MODULUS,
            Selector::Position => POSITIONS,
            Selector::Always => 1,
            Selector::Bag => EVIDENCE * EVIDENCE,
        }
    }
    /// Where its value stands in [`Situation::selected`].
    fn index(self) -> usize {
        match self {
            Selector::Evidence => 0,
            Selector::Match => 1,
            Selector::LastType => 2,
            Selector::Position => 3,
            Selector::Always => 4,
            Selector::Bag => 5,
            Selector::Partner => 6,
            Selector::Extra(i) => 7 + i as usize,
        }
    }
}

/// What the pools are told about one forecast.
#[derive(Clone, Debug)]
pub(super) struct Situation {
    /// The experts' rows; those that are not live are meaningless.
    pub rows: [Row; ROWS],
    /// Which rows count this time.
    live: [u8; ROWS],
    live_len: usize,
    /// By row, the class of its evidence.
    pub evidence: [u8; ROWS],
    /// By selector (see [`Situation::select`]), its value.
    selected: [u16; SELECTORS],
}

impl Situation {
    pub fn new() -> Situation {
        Situation {
            rows: [Row::ZERO; ROWS],
            live: [0; ROWS],
            live_len: 0,
            evidence: [0; ROWS],
            selected: [0; SELECTORS],
        }
    }
    /// No row is live.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.live_len = 0;
    }
    /// A row that counts this time, to be filled in.
    #[inline(always)]
    pub fn say(&mut self, row: usize, evidence: usize) -> &mut Row {
        self.evidence[row] = evidence as u8;
        self.live[self.live_len] = row as u8;
        self.live_len += 1;
        &mut self.rows[row]
    }
    /// A row that does not.
    #[inline(always)]
    pub fn be_silent(&mut self, row: usize) {
        self.evidence[row] = 0;
    }
    /// Sets a selector's value, taken modulo the number of its values.
    #[inline(always)]
    pub fn select(&mut self, selector: Selector, value: usize) {
        self.selected[selector.index()] = (value % selector.values()) as u16;
    }
    /// A selector's value.
    #[inline(always)]
    pub fn selected(&self, selector: Selector) -> usize {
        self.selected[selector.index()] as usize
    }
    /// The rows that count.
    #[inline(always)]
    pub fn live(&self) -> &[u8] {
        &self.live[..self.live_len.min(ROWS)]
    }
}

/// Weights for each value of one selector, as differences to where they started.
#[derive(Clone, Debug)]
struct Set {
    selector: Selector,
    /// For each value met so far: `stride` weights, then as many sums of squared gradients.
    cells: Vec<f32>,
}

impl Set {
    /// The weights, then the squared gradients, of a value; nothing if nothing was learned there.
    #[inline(always)]
    fn cells(&self, value: usize, stride: usize) -> Option<&[f32]> {
        self.cells.get(value * 2 * stride..(value + 1) * 2 * stride)
    }

    /// Makes room for a value, and for as many again.
    #[cold]
    fn grow(&mut self, value: usize, stride: usize) {
        let values = ((value + 1) * 2).min(self.selector.values());
        self.cells.resize(values * 2 * stride, 0.0);
    }
}

/// One pool: three sets, and the opinion it last made.
#[derive(Clone, Debug)]
struct Pool {
    sets: [Set; 3],
    p: Row,
    /// The last opinion, log probability of one member of each class.
    ln: Row,
}

impl Pool {
    /// Adds the weights of all sets to `w`, by row.
    #[inline(always)]
    fn add_weights(&self, s: &Situation, stride: usize, w: &mut [f32; ROWS]) {
        for set in &self.sets {
            if set.selector == Selector::Evidence {
                for &r in s.live() {
                    let r = r as usize;
                    w[r] += set.cells[s.evidence[r] as usize * 2 * stride + r];
                }
            } else if let Some(cells) = set.cells(s.selected(set.selector), stride) {
                for (w, x) in w.iter_mut().zip(&cells[..stride]) {
                    *w += x;
                }
            }
        }
    }

    /// One step along the gradient of each row.
    #[inline(always)]
    fn step(&mut self, s: &Situation, g: &[f32; ROWS], rate: f32, stride: usize) {
        for set in &mut self.sets {
            if set.selector == Selector::Evidence {
                for &r in s.live() {
                    let r = r as usize;
                    let at = s.evidence[r] as usize * 2 * stride + r;
                    let square = set.cells[at + stride] + g[r] * g[r];
                    set.cells[at + stride] = square;
                    set.cells[at] += rate * g[r] * inverse_root(FIRST_SQUARE + square);
                }
            } else {
                let value = s.selected(set.selector);
                if set.cells(value, stride).is_none() {
                    set.grow(value, stride);
                }
                let at = value * 2 * stride;
                let (weights, squares) = set.cells[at..at + 2 * stride].split_at_mut(stride);
                for ((w, q), &g) in weights.iter_mut().zip(squares).zip(g) {
                    *q += g * g;
                    *w += rate * g * inverse_root(FIRST_SQUARE + *q);
                }
            }
        }
    }
}

/// How many pools a model has; their opinions are averaged in the log domain.
pub(super) const POOLS: usize = 3;

/// The pools of a model. They hear the same rows and differ in what selects their weights.
#[derive(Clone, Debug)]
pub(super) struct Pools {
    pools: [Pool; POOLS],
    /// Where weights start, by row: the sum over the three sets.
    first: [f32; ROWS],
    /// Rows in use, rounded up to whole registers.
    stride: usize,
    rate: f32,
}

impl Pools {
    /// For `rows` rows that start at `first`.
    pub fn new(selectors: [[Selector; 3]; POOLS], rows: usize, first: [f32; ROWS], rate: f32) -> Pools {
        let stride = rows.next_multiple_of(LANES);
        assert!(stride <= ROWS, "a pool has at most {ROWS} rows");
        let set = |selector: Selector| {
            let mut set = Set { selector, cells: Vec::new() };
            if selector == Selector::Evidence {
                set.grow(EVIDENCE - 1, stride);
            }
            set
        };
        let pool = |s: [Selector; 3]| Pool { sets: s.map(set), p: Row::ZERO, ln: Row::ZERO };
        Pools { pools: selectors.map(pool), first, stride, rate }
    }

    /// Memory, bytes.
    pub fn bytes(&self) -> usize {
        self.pools.iter().flat_map(|p| &p.sets).map(|s| s.cells.capacity() * 4).sum()
    }

    /// w by pool and row.
    #[inline(always)]
    pub fn weights(&self, s: &Situation) -> [[f32; ROWS]; POOLS] {
        let mut w = [self.first; POOLS];
        for (pool, w) in self.pools.iter().zip(&mut w) {
            pool.add_weights(s, self.stride, w);
        }
        w
    }

    /// Makes the opinion of every pool; the mean of their log probabilities goes to `mean`.
    #[inline(always)]
    pub fn mix(&mut self, s: &Situation, residual: &Row, candidates: &Candidates, mean: &mut Row) {
        let w = self.weights(s);
        let width = candidates.width();
        let mut scores = [Row::ZERO; POOLS];
        for c in width.registers() {
            // Each register of a row is read once for all pools.
            let mut sums = [*residual.register(c); POOLS];
            for &r in s.live() {
                let row = s.rows[r as usize].register(c);
                for (sum, w) in sums.iter_mut().zip(&w) {
                    for (x, y) in sum.iter_mut().zip(row) {
                        *x += w[r as usize] * y;
                    }
                }
            }
            for (score, sum) in scores.iter_mut().zip(sums) {
                *score.register_mut(c) = sum;
            }
        }
        for (pool, score) in self.pools.iter_mut().zip(&scores) {
            candidates.normalise(score, &mut pool.p, &mut pool.ln);
        }
        let [a, b, c] = self.pools.each_ref().map(|p| &p.ln);
        width.fill(mean, |i| (a[i] + b[i] + c[i]) * (1.0 / POOLS as f32));
    }

    /// One step of every pool, given the class that came.
    #[inline(always)]
    pub fn learn(&mut self, s: &Situation, candidates: &Candidates, came: usize) {
        if self.pools.iter().all(|pool| 1.0 - pool.p[came] < SMALL) {
            return;
        }
        let width = candidates.width();
        let mut g = [[0.0f32; ROWS]; POOLS];
        let p = self.pools.each_ref().map(|pool| pool.p);
        for &r in s.live() {
            let row = &s.rows[r as usize];
            let mut sums = [[0.0; LANES]; POOLS];
            for c in width.registers() {
                let y = *row.register(c);
                for (sum, p) in sums.iter_mut().zip(&p) {
                    let p = *p.register(c);
                    for i in 0..LANES {
                        sum[i] += p[i] * y[i];
                    }
                }
            }
            for (g, sum) in g.iter_mut().zip(sums) {
                g[r as usize] = (row[came] - sum_of(sum)).clamp(-CLIP, CLIP);
            }
        }
        for (pool, g) in self.pools.iter_mut().zip(&g) {
            pool.step(s, g, self.rate, self.stride);
        }
    }

    pub fn save(&self, to: &mut Writer) {
        for set in self.pools.iter().flat_map(|p| &p.sets) {
            to.f32s(&set.cells);
        }
    }

    pub fn load(&mut self, from: &mut Reader<'_>) -> Result<(), Error> {
        let stride = self.stride;
        for set in self.pools.iter_mut().flat_map(|p| &mut p.sets) {
            let most = set.selector.values() * 2 * stride;
            set.cells = from.f32s(most, "the weights of a pool")?;
            let whole = set.cells.len().is_multiple_of(2 * stride);
            let full = set.selector != Selector::Evidence || set.cells.len() == most;
            let squares = set.cells.chunks(2 * stride).all(|c| c.iter().skip(stride).all(|&q| q >= 0.0));
            if !(whole && full && squares) {
                return Err(Error::Malformed { what: "the weights of a pool" });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_classes() -> Candidates {
        let mut c = Candidates::new();
        c.grow(2);
        c.nominate(0);
        c.nominate(1);
        c.close(2.0, 0.0);
        c
    }

    fn opinion(a: f32) -> Row {
        let mut row = Row::ZERO;
        row[..2].copy_from_slice(&[a.ln(), (1.0 - a).ln()]);
        row
    }

    #[test]
    fn one_step_is_the_hand_computed_one() {
        let c = two_classes();
        let mut first = [0.0; ROWS];
        first[0] = 1.0;
        let sets = [Selector::Evidence, Selector::LastType, Selector::Always];
        let mut pools = Pools::new([sets; POOLS], 1, first, 0.03);
        let mut s = Situation::new();
        *s.say(0, 3) = opinion(0.8);
        let mut mean = Row::ZERO;
        pools.mix(&s, &Row::ZERO, &c, &mut mean);
        assert!((mean[0] - 0.8f32.ln()).abs() < 1e-4);
        pools.learn(&s, &c, 0);
        // g = ln .8 − (.8 ln .8 + .2 ln .2) = .2 · ln 4; each of the three sets takes one step
        let g = 0.2 * 4f32.ln();
        let expected = 1.0 + 3.0 * 0.03 * g / (8.0 + g * g).sqrt();
        assert!(pools.weights(&s).iter().all(|w| (w[0] - expected).abs() < 1e-4));
    }

    #[test]
    fn trusts_the_expert_that_is_right() {
        let c = two_classes();
        let mut first = [0.0; ROWS];
        first[..2].copy_from_slice(&[0.5, 0.5]);
        let sets = [Selector::Evidence, Selector::Position, Selector::Always];
        let mut pools = Pools::new([sets; POOLS], 2, first, 0.05);
        let mut rng = fastrand::Rng::with_seed(4);
        let mut s = Situation::new();
        for _ in 0..2000 {
            let good = rng.f32() * 0.98 + 0.01;
            s.clear();
            *s.say(0, 5) = opinion(good);
            *s.say(1, 5) = opinion(rng.f32() * 0.98 + 0.01);
            pools.mix(&s, &Row::ZERO, &c, &mut Row::ZERO.clone());
            pools.learn(&s, &c, usize::from(rng.f32() >= good));
        }
        let w = pools.weights(&s)[0];
        assert!((w[0] - 1.0).abs() < 0.15 && w[1].abs() < 0.15, "{:?}", &w[..2]);
    }
}
