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
use super::candidates::{Candidates, ROW, Row, dot};
use super::snapshot::{Reader, Writer};

/// Most rows.
pub(super) const ROWS: usize = 40;
/// G before the first step.
const FIRST_SQUARE: f32 = 8.0;
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
            rows: [[0.0; ROW]; ROWS],
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
    /// A row that counts this time.
    #[inline(always)]
    pub fn say(&mut self, row: usize, opinion: Row, evidence: usize) {
        self.rows[row] = opinion;
        self.evidence[row] = evidence as u8;
        self.live[self.live_len] = row as u8;
        self.live_len += 1;
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
    /// For each value: `stride` weights, then as many sums of squared gradients.
    cells: Vec<f32>,
}

/// One pool: three sets, and the opinion it last made.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    sets: [Set; 3],
    /// Where weights start, by row: the sum over the three sets.
    first: [f32; ROWS],
    /// Rows in use, rounded up to whole registers.
    stride: usize,
    rate: f32,
    p: Row,
    /// The last opinion, log probability of one member of each class.
    pub ln: Row,
}

impl Pool {
    /// For `rows` rows that start at `first`.
    pub fn new(selectors: [Selector; 3], rows: usize, first: [f32; ROWS], rate: f32) -> Pool {
        let stride = rows.next_multiple_of(8);
        assert!(stride <= ROWS, "a pool has at most {ROWS} rows");
        let sets = selectors.map(|s| Set { selector: s, cells: vec![0.0; s.values() * 2 * stride] });
        Pool { sets, first, stride, rate, p: [0.0; ROW], ln: [0.0; ROW] }
    }

    /// Memory, bytes.
    pub fn bytes(&self) -> usize {
        self.sets.iter().map(|s| s.cells.len() * 4).sum()
    }

    /// w by row.
    #[inline(always)]
    pub fn weights(&self, s: &Situation) -> [f32; ROWS] {
        let mut w = self.first;
        for set in &self.sets {
            if set.selector == Selector::Evidence {
                for (r, w) in w[..self.stride].iter_mut().enumerate() {
                    *w += set.cells[s.evidence[r] as usize * 2 * self.stride + r];
                }
            } else {
                let at = s.selected(set.selector) * 2 * self.stride;
                for (w, x) in w.iter_mut().zip(&set.cells[at..at + self.stride]) {
                    *w += x;
                }
            }
        }
        w
    }

    /// Makes the pool's opinion.
    #[inline(always)]
    pub fn mix(&mut self, s: &Situation, residual: &Row, candidates: &Candidates) {
        let w = self.weights(s);
        let mut scores = *residual;
        for &r in s.live() {
            let (w, row) = (w[r as usize], &s.rows[r as usize]);
            for i in 0..ROW {
                scores[i] += w * row[i];
            }
        }
        candidates.normalise(&scores, &mut self.p, &mut self.ln);
    }

    /// One step, given the class that came.
    #[inline(always)]
    pub fn learn(&mut self, s: &Situation, came: usize) {
        let mut g = [0.0f32; ROWS];
        for &r in s.live() {
            let row = &s.rows[r as usize];
            g[r as usize] = (row[came] - dot(&self.p, row)).clamp(-CLIP, CLIP);
        }
        let (rate, stride) = (self.rate, self.stride);
        for set in &mut self.sets {
            if set.selector == Selector::Evidence {
                for &r in s.live() {
                    let r = r as usize;
                    let at = s.evidence[r] as usize * 2 * stride + r;
                    let square = set.cells[at + stride] + g[r] * g[r];
                    set.cells[at + stride] = square;
                    set.cells[at] += rate * g[r] / (FIRST_SQUARE + square).sqrt();
                }
            } else {
                let at = s.selected(set.selector) * 2 * stride;
                let (weights, squares) = set.cells[at..at + 2 * stride].split_at_mut(stride);
                for ((w, q), &g) in weights.iter_mut().zip(squares).zip(&g) {
                    *q += g * g;
                    *w += rate * g / (FIRST_SQUARE + *q).sqrt();
                }
            }
        }
    }

    pub fn save(&self, to: &mut Writer) {
        for set in &self.sets {
            to.f32s(&set.cells);
        }
    }

    pub fn load(&mut self, from: &mut Reader<'_>) -> Result<(), Error> {
        let stride = self.stride;
        for set in &mut self.sets {
            from.f32s_into(&mut set.cells)?;
            if set.cells.chunks_exact(2 * stride).any(|c| c[stride..].iter().any(|&q| q < 0.0)) {
                return Err(Error::Malformed { what: "a squared gradient" });
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
        let mut row = [0.0; ROW];
        row[..2].copy_from_slice(&[a.ln(), (1.0 - a).ln()]);
        row
    }

    #[test]
    fn one_step_is_the_hand_computed_one() {
        let c = two_classes();
        let mut first = [0.0; ROWS];
        first[0] = 1.0;
        let mut pool = Pool::new([Selector::Evidence, Selector::LastType, Selector::Always], 1, first, 0.03);
        let mut s = Situation::new();
        s.say(0, opinion(0.8), 3);
        pool.mix(&s, &[0.0; ROW], &c);
        assert!((pool.p[0] - 0.8).abs() < 1e-4);
        pool.learn(&s, 0);
        // g = ln .8 − (.8 ln .8 + .2 ln .2) = .2 · ln 4; each of the three sets takes one step
        let g = 0.2 * 4f32.ln();
        let expected = 1.0 + 3.0 * 0.03 * g / (8.0 + g * g).sqrt();
        assert!((pool.weights(&s)[0] - expected).abs() < 1e-4);
    }

    #[test]
    fn trusts_the_expert_that_is_right() {
        let c = two_classes();
        let mut first = [0.0; ROWS];
        first[..2].copy_from_slice(&[0.5, 0.5]);
        let mut pool = Pool::new([Selector::Evidence, Selector::Position, Selector::Always], 2, first, 0.05);
        let mut rng = fastrand::Rng::with_seed(4);
        let mut s = Situation::new();
        for _ in 0..2000 {
            let good = rng.f32() * 0.98 + 0.01;
            s.clear();
            s.say(0, opinion(good), 5);
            s.say(1, opinion(rng.f32() * 0.98 + 0.01), 5);
            pool.mix(&s, &[0.0; ROW], &c);
            pool.learn(&s, usize::from(rng.f32() >= good));
        }
        let w = pool.weights(&s);
        assert!((w[0] - 1.0).abs() < 0.15 && w[1].abs() < 0.15, "{:?}", &w[..2]);
    }
}
