//! Sparse softmax regression, learned online by AdaGrad (Duchi, Hazan and Singer 2011, fig. 1, diagonal).
//!
//! `z(y) = Σ_f W[f, y]` over a few dozen binary features, hashed. Weights of eight neighbouring types share
//! a cache line with their sums of squared gradients; two features that meet in one line share weights.
//! Step: `G += e²; W += rate · e / √G`, e = 1[y] − p(y).

use super::candidates::Candidates;
use super::maths::inverse_root;
use super::row::{LANES, ROW, Row, Width};
use super::snapshot::{Reader, Writer};
use super::{Error, Symbol};

/// The block of the two rest classes: above every block of types.
const REST_BLOCK: u32 = 0xFFFF;
/// Errors smaller than this are not worth a cache line.
const SMALL: f32 = 4e-3;

/// Figures by block and lane.
pub(super) type Blocks = [[f32; LANES]; ROW];

/// A hashed binary feature that is set.
pub(super) type Feature = u32;

#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    weights: [f32; LANES],
    /// G above its start.
    squares: [f32; LANES],
}

/// Where each class of a forecast lives: a block of eight types and a lane in it.
#[derive(Clone, Debug)]
pub(super) struct Lanes {
    blocks: [u32; ROW],
    blocks_len: usize,
    lanes: [(u8, u8); ROW],
    classes: usize,
    /// By block of types: its place in `blocks`, or [`NO_BLOCK`].
    places: Vec<u8>,
}

/// Marks a block that no candidate lives in.
const NO_BLOCK: u8 = u8::MAX;

impl Lanes {
    pub fn new() -> Lanes {
        Lanes { blocks: [0; ROW], blocks_len: 0, lanes: [(0, 0); ROW], classes: 0, places: Vec::new() }
    }

    /// Makes room for types `0..n`.
    pub fn grow(&mut self, n: usize) {
        if n.div_ceil(LANES) > self.places.len() {
            self.places.resize(n.div_ceil(LANES), NO_BLOCK);
        }
    }

    /// Finds the place of every class.
    #[inline(always)]
    pub fn place(&mut self, candidates: &Candidates) {
        for &block in &self.blocks[..self.blocks_len] {
            if let Some(place) = self.places.get_mut(block as usize) {
                *place = NO_BLOCK;
            }
        }
        self.blocks_len = 0;
        self.classes = candidates.classes();
        for (i, &s) in candidates.list().iter().enumerate() {
            let block = s as usize / LANES;
            if self.places[block] == NO_BLOCK {
                self.places[block] = self.open(block as u32);
            }
            self.lanes[i] = (self.places[block], (s as usize % LANES) as u8);
        }
        let rest = self.open(REST_BLOCK);
        self.lanes[candidates.len()] = (rest, 0);
        self.lanes[candidates.new_class()] = (rest, 1);
    }

    #[inline(always)]
    fn open(&mut self, block: u32) -> u8 {
        self.blocks[self.blocks_len] = block;
        self.blocks_len += 1;
        (self.blocks_len - 1) as u8
    }

    #[inline(always)]
    fn blocks(&self) -> &[u32] {
        &self.blocks[..self.blocks_len.min(ROW)]
    }
}

/// The rest classes hear the first two features only (nothing, and the last type): more told them nothing, and
/// cost a third of the time.
#[inline(always)]
fn relevant(features: &[Feature], block: u32) -> &[Feature] {
    if block == REST_BLOCK { &features[..features.len().min(2)] } else { features }
}

/// The weights.
#[derive(Clone, Debug)]
pub(super) struct Regression {
    lines: Vec<Line>,
    rate: f32,
    first_square: f32,
}

impl Regression {
    /// 2^bits lines of 64 bytes; `first_square` is G before the first step.
    pub fn new(bits: u8, rate: f32, first_square: f32) -> Regression {
        Regression { lines: vec![Line::default(); 1 << bits], rate, first_square }
    }

    /// Memory, bytes.
    pub fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }

    #[inline(always)]
    fn at(&self, feature: Feature, block: u32) -> usize {
        let q = feature.wrapping_add(block.wrapping_mul(0x9E37_79B1));
        (q ^ (q >> 15)) as usize & (self.lines.len() - 1)
    }

    /// z of every class.
    #[inline(always)]
    pub fn scores(&self, features: &[Feature], lanes: &Lanes, scratch: &mut Blocks, scores: &mut Row) {
        for (out, &block) in scratch.iter_mut().zip(lanes.blocks()) {
            let mut z = [0.0; LANES];
            for &f in relevant(features, block) {
                let line = &self.lines[self.at(f, block)];
                for (z, w) in z.iter_mut().zip(&line.weights) {
                    *z += w;
                }
            }
            *out = z;
        }
        Width::of(lanes.classes).fill(scores, |_| 0.0);
        for (score, &(block, lane)) in scores.iter_mut().zip(&lanes.lanes[..lanes.classes]) {
            *score = scratch[block as usize % ROW][lane as usize % LANES];
        }
    }

    /// One step, given what was said (`p`) and the class that came.
    #[inline(always)]
    pub fn learn(&mut self, features: &[Feature], lanes: &Lanes, p: &Row, came: usize, errors: &mut Blocks) {
        let mut any = [false; ROW];
        errors[..lanes.blocks().len()].fill([0.0; LANES]);
        for (class, &(block, lane)) in lanes.lanes[..lanes.classes].iter().enumerate() {
            let e = f32::from(u8::from(class == came)) - p[class];
            if e.abs() >= SMALL {
                errors[block as usize][lane as usize] = e;
                any[block as usize] = true;
            }
        }
        for (b, &block) in lanes.blocks().iter().enumerate() {
            if any[b] {
                self.step(relevant(features, block), block, &errors[b]);
            }
        }
    }

    /// One step towards a type that had no class of its own.
    #[inline(always)]
    pub fn learn_unnamed(&mut self, features: &[Feature], symbol: Symbol) {
        let mut e = [0.0; LANES];
        e[symbol as usize % LANES] = 1.0;
        self.step(features, u32::from(symbol) / LANES as u32, &e);
    }

    #[inline(always)]
    fn step(&mut self, features: &[Feature], block: u32, errors: &[f32; LANES]) {
        let (e, rate, first) = (*errors, self.rate, self.first_square);
        for &f in features {
            let at = self.at(f, block);
            // A copy, so that the optimiser sees that nothing else is touched: it then takes whole registers.
            let Line { mut weights, mut squares } = self.lines[at];
            for i in 0..LANES {
                squares[i] += e[i] * e[i];
                weights[i] += rate * e[i] * inverse_root(first + squares[i]);
            }
            self.lines[at] = Line { weights, squares };
        }
    }

    pub fn save(&self, to: &mut Writer) {
        let flat: Vec<f32> = self.lines.iter().flat_map(|l| l.weights.into_iter().chain(l.squares)).collect();
        to.f32s(&flat);
    }

    pub fn load(&mut self, from: &mut Reader<'_>) -> Result<(), Error> {
        let mut flat = vec![0.0; self.lines.len() * 2 * LANES];
        from.f32s_into(&mut flat)?;
        for (line, f) in self.lines.iter_mut().zip(flat.chunks_exact(2 * LANES)) {
            line.weights.copy_from_slice(&f[..LANES]);
            line.squares.copy_from_slice(&f[LANES..]);
            if line.squares.iter().any(|&g| g < 0.0) {
                return Err(Error::Malformed { what: "a squared gradient" });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(r: &Regression, features: &[Feature], lanes: &Lanes) -> Row {
        let mut row = Row::ZERO;
        r.scores(features, lanes, &mut [[0.0; LANES]; ROW], &mut row);
        row
    }

    fn learn(r: &mut Regression, features: &[Feature], lanes: &Lanes, p: &Row, came: usize) {
        r.learn(features, lanes, p, came, &mut [[0.0; LANES]; ROW]);
    }

    #[test]
    fn one_step_is_the_hand_computed_one() {
        let mut c = Candidates::new();
        c.grow(3);
        c.nominate(0);
        c.nominate(1);
        c.close(2.0, 0.0);
        let mut lanes = Lanes::new();
        lanes.grow(20);
        lanes.place(&c);
        let mut r = Regression::new(8, 0.25, 3.0);
        let mut p = Row::ZERO;
        p[..2].copy_from_slice(&[0.5, 0.5]);
        learn(&mut r, &[7], &lanes, &p, 0);
        let z = scores(&r, &[7], &lanes);
        // .25 · .5 / √(3 + .25)
        let step = 0.125 / 3.25f32.sqrt();
        assert!((z[0] - step).abs() < 2e-4 && (z[1] + step).abs() < 2e-4, "{z:?}");
        assert_eq!(scores(&r, &[8], &lanes)[0], 0.0);
    }

    #[test]
    fn learns_a_rule_that_needs_two_features() {
        let mut c = Candidates::new();
        c.grow(20);
        [3, 9, 17].iter().for_each(|&s| c.nominate(s));
        c.close(3.0, 0.0);
        let mut lanes = Lanes::new();
        lanes.grow(20);
        lanes.place(&c);
        let mut r = Regression::new(10, 0.25, 3.0);
        let mut rng = fastrand::Rng::with_seed(2);
        for _ in 0..3000 {
            let (a, b) = (rng.u32(0..2), rng.u32(0..2));
            let features = [100 + a, 200 + b];
            let mut p = Row::ZERO;
            c.probabilities(&scores(&r, &features, &lanes), &mut p);
            learn(&mut r, &features, &lanes, &p, (a + b) as usize);
        }
        let z = scores(&r, &[101, 201], &lanes);
        assert!(z[2] > z[1] && z[2] > z[0]);
    }
}
