//! Figures by class, in registers of eight floats.
//!
//! A forecast is about few classes or about many, and all its rows are as wide: the loops below run over the
//! registers in use only, which halves the work where types are few. Sums and maxima take the lanes first and
//! then fold them in a fixed order, so that every machine gives the same bits.

use super::maths::larger;
use std::ops::{Deref, DerefMut};

/// Floats of one register.
pub(super) const LANES: usize = 8;
/// Figures of a row: four registers.
pub(super) const ROW: usize = 4 * LANES;

/// One figure for each class of a forecast. In the registers in use, what lies behind the last class is zero;
/// behind them it is meaningless.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Row([f32; ROW]);

impl Row {
    pub const ZERO: Row = Row([0.0; ROW]);

    /// One register.
    #[inline(always)]
    pub fn register(&self, c: usize) -> &[f32; LANES] {
        &self.0.as_chunks().0[c]
    }
    #[inline(always)]
    pub fn register_mut(&mut self, c: usize) -> &mut [f32; LANES] {
        &mut self.0.as_chunks_mut().0[c]
    }
}

impl Deref for Row {
    type Target = [f32; ROW];
    #[inline(always)]
    fn deref(&self) -> &[f32; ROW] {
        &self.0
    }
}

impl DerefMut for Row {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32; ROW] {
        &mut self.0
    }
}

/// How many registers of each row are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Width(usize);

impl Width {
    /// Enough for so many classes.
    #[inline(always)]
    pub fn of(classes: usize) -> Width {
        Width(classes.div_ceil(LANES).min(ROW / LANES))
    }

    /// The registers in use.
    #[inline(always)]
    pub fn registers(self) -> std::ops::Range<usize> {
        0..self.0.min(ROW / LANES)
    }

    /// `row[i] = f(i)` for every lane in use.
    #[inline(always)]
    pub fn fill(self, row: &mut Row, f: impl Fn(usize) -> f32) {
        for c in self.registers() {
            for (j, x) in row.register_mut(c).iter_mut().enumerate() {
                *x = f(c * LANES + j);
            }
        }
    }

    /// `row[i] = f(i, row[i])` for every lane in use.
    #[inline(always)]
    pub fn update(self, row: &mut Row, f: impl Fn(usize, f32) -> f32) {
        for c in self.registers() {
            let lanes = row.register_mut(c);
            for (j, x) in lanes.iter_mut().enumerate() {
                *x = f(c * LANES + j, *x);
            }
        }
    }

    /// Sum of `f(i)` over every lane in use.
    #[inline(always)]
    pub fn sum(self, f: impl Fn(usize) -> f32) -> f32 {
        let mut lanes = [0.0; LANES];
        for c in self.registers() {
            for (j, x) in lanes.iter_mut().enumerate() {
                *x += f(c * LANES + j);
            }
        }
        sum_of(lanes)
    }

    /// Largest `f(i)` of the lanes in use.
    #[inline(always)]
    pub fn max(self, f: impl Fn(usize) -> f32) -> f32 {
        let mut lanes = [f32::MIN; LANES];
        for c in self.registers() {
            for (j, x) in lanes.iter_mut().enumerate() {
                *x = larger(f(c * LANES + j), *x);
            }
        }
        fold(lanes, larger)
    }
}

/// Sum of the lanes.
#[inline(always)]
pub(super) fn sum_of(lanes: [f32; LANES]) -> f32 {
    fold(lanes, |a, b| a + b)
}

/// Halves the lanes three times.
#[inline(always)]
fn fold(l: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let four: [f32; 4] = std::array::from_fn(|i| f(l[i], l[i + 4]));
    f(f(four[0], four[2]), f(four[1], four[3]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_registers_in_use_count() {
        let mut row = Row([7.0; ROW]);
        let w = Width::of(9);
        w.fill(&mut row, |i| i as f32);
        assert_eq!((row[15], row[16]), (15.0, 7.0));
        assert_eq!((w.sum(|i| row[i]), w.max(|i| -row[i])), (120.0, 0.0));
        assert_eq!((Width::of(1), Width::of(1000)), (Width(1), Width(4)));
    }
}
