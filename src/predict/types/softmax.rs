//! Sparse softmax regression, learned online by AdaGrad (Duchi, Hazan and Singer 2011, fig. 1, diagonal).
//!
//! `z(y) = Σ_f W[f, y]` over a few dozen binary features, hashed. Weights of eight neighbouring types share
//! a cache line with their sums of squared gradients; two features that meet in one line share weights.
//! Step: `G += e²; W += rate · e / √G`, e = 1[y] − p(y).

use super::candidates::{Candidates, ROW, Row};
use super::snapshot::{Reader, Writer};
use super::{Error, Symbol};

/// Types of one line.
const LANES: usize = 8;
/// The block of the two rest classes: above every block of types.
const REST_BLOCK: u32 = 0xFFFF;
/// Errors smaller than this are not worth a cache line.
const SMALL: f32 = 1e-3;

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
}

impl Lanes {
    pub fn new() -> Lanes {
        Lanes { blocks: [0; ROW], blocks_len: 0, lanes: [(0, 0); ROW], classes: 0 }
    }

    #[inline(always)]
    pub fn place(&mut self, candidates: &Candidates) {
        self.blocks_len = 0;
        self.classes = candidates.classes();
        for (i, &s) in candidates.list().iter().enumerate() {
            self.put(i, u32::from(s) / LANES as u32, s as usize % LANES);
        }
        self.put(candidates.len(), REST_BLOCK, 0);
        self.put(candidates.new_class(), REST_BLOCK, 1);
    }

    #[inline(always)]
    fn put(&mut self, class: usize, block: u32, lane: usize) {
        let known = self.blocks[..self.blocks_len].iter().position(|&b| b == block);
        let b = known.unwrap_or_else(|| {
            self.blocks[self.blocks_len] = block;
            self.blocks_len += 1;
            self.blocks_len - 1
        });
        self.lanes[class] = (b as u8, lane as u8);
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
    pub fn scores(&self, features: &[Feature], lanes: &Lanes) -> Row {
        let mut by_block = [[0.0f32; LANES]; ROW];
        for (z, &block) in by_block.iter_mut().zip(lanes.blocks()) {
            for &f in relevant(features, block) {
                let line = &self.lines[self.at(f, block)];
                for (z, w) in z.iter_mut().zip(&line.weights) {
                    *z += w;
                }
            }
        }
        let mut scores = [0.0; ROW];
        for (score, &(block, lane)) in scores.iter_mut().zip(&lanes.lanes[..lanes.classes]) {
            *score = by_block[block as usize % ROW][lane as usize % LANES];
        }
        scores
    }

    /// One step, given what was said (`p`) and the class that came.
    #[inline(always)]
    pub fn learn(&mut self, features: &[Feature], lanes: &Lanes, p: &Row, came: usize) {
        let mut errors = [[0.0f32; LANES]; ROW];
        let mut any = [false; ROW];
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
        for &f in features {
            let at = self.at(f, block);
            let line = &mut self.lines[at];
            for ((w, g), e) in line.weights.iter_mut().zip(&mut line.squares).zip(errors) {
                *g += e * e;
                *w += self.rate * e / (self.first_square + *g).sqrt();
            }
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

    #[test]
    fn one_step_is_the_hand_computed_one() {
        let mut c = Candidates::new();
        c.grow(3);
        c.nominate(0);
        c.nominate(1);
        c.close(2.0, 0.0);
        let mut lanes = Lanes::new();
        lanes.place(&c);
        let mut r = Regression::new(8, 0.25, 3.0);
        let mut p = [0.0; ROW];
        p[..2].copy_from_slice(&[0.5, 0.5]);
        r.learn(&[7], &lanes, &p, 0);
        let z = r.scores(&[7], &lanes);
        // .25 · .5 / √(3 + .25)
        let step = 0.125 / 3.25f32.sqrt();
        assert!((z[0] - step).abs() < 1e-6 && (z[1] + step).abs() < 1e-6, "{z:?}");
        assert_eq!(r.scores(&[8], &lanes)[0], 0.0);
    }

    #[test]
    fn learns_a_rule_that_needs_two_features() {
        let mut c = Candidates::new();
        c.grow(20);
        [3, 9, 17].iter().for_each(|&s| c.nominate(s));
        c.close(3.0, 0.0);
        let mut lanes = Lanes::new();
        lanes.place(&c);
        let mut r = Regression::new(10, 0.25, 3.0);
        let mut rng = fastrand::Rng::with_seed(2);
        for _ in 0..3000 {
            let (a, b) = (rng.u32(0..2), rng.u32(0..2));
            let features = [100 + a, 200 + b];
            let (mut p, mut l) = ([0.0; ROW], [0.0; ROW]);
            c.normalise(&r.scores(&features, &lanes), &mut p, &mut l);
            r.learn(&features, &lanes, &p, (a + b) as usize);
        }
        let z = r.scores(&[101, 201], &lanes);
        assert!(z[2] > z[1] && z[2] > z[0]);
    }
}
