//! Hashes and quick functions of one variable. Each gives the same bits on every machine: only additions,
//! multiplications and integer operations are used, so a snapshot continues on another host as it would have
//! continued on its own.

use crate::time::Span;

/// Folds one more number into a hash.
#[inline(always)]
pub(super) const fn mix(h: u64, x: u64) -> u64 {
    let z = (h ^ x.wrapping_add(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^ (z >> 29)
}

/// Hash of a list of numbers.
#[inline(always)]
pub(super) fn hash(parts: &[u64]) -> u64 {
    parts.iter().fold(99, |h, &x| mix(h, x))
}

/// The larger of two numbers, the second if either is none. One instruction, which `f32::max` is not.
#[inline(always)]
pub(super) fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The class of a number that is not negative: rounded down, or up when it is whole but for a hair; at most
/// `classes − 1`.
#[inline(always)]
pub(super) fn class_of(x: f32, classes: usize) -> usize {
    // Adding 2^23 rounds to the nearest integer, which then stands in the low bits of the mantissa.
    const ROUND: f32 = 8_388_608.0;
    let x = larger(x - 0.5, 0.0);
    let x = if x < classes as f32 - 1.0 { x } else { classes as f32 - 1.0 };
    ((x + ROUND).to_bits() & 0x7f_ffff) as usize
}

/// Natural logarithm of a positive, normal number; absolute error below 2e-5.
///
/// Exponent from the bits, mantissa by a polynomial of degree five fitted to log2(1 + m) on [0, 1).
#[inline(always)]
pub(super) fn ln(x: f32) -> f32 {
    let bits = x.to_bits();
    let exponent = ((bits >> 23) as i32 - 127) as f32;
    let m = f32::from_bits((bits & 0x7f_ffff) | 0x3f80_0000) - 1.0;
    let log2 =
        m * (1.441_917 + m * (-0.709_096_44 + m * (0.415_606_05 + m * (-0.193_575_68 + m * 0.045_149_04))));
    (exponent + log2) * std::f32::consts::LN_2
}

/// e to the power of a number that is not large; below −69 the result is 1e-30 or so. Relative error below 1e-4.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2^23 rounds to the nearest integer, which then stands in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    let x = larger(x * std::f32::consts::LOG2_E, -100.0);
    let rounded = x + ROUND;
    let whole = (rounded.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    // f lies in [−½, ½]: Taylor's series of 2^f.
    let f = x - (rounded - ROUND);
    let p = 1.0 + f * (std::f32::consts::LN_2 + f * (0.240_226_5 + f * (0.055_504_1 + f * 0.009_618_1)));
    f32::from_bits(((whole + 127) as u32) << 23) * p
}

/// 1 / √x of a positive, normal number; relative error below .002, which is enough for the length of a step.
///
/// A first guess by halving the exponent, and one step of Newton's (Lomont 2003, "Fast inverse square root"): a
/// fifth of the time of the exact root and quotient.
#[inline(always)]
pub(super) fn inverse_root(x: f32) -> f32 {
    let y = f32::from_bits(0x5f37_5a86 - (x.to_bits() >> 1));
    y * (1.5 - 0.5 * x * y * y)
}

/// ln(p / (1 − p)), with p kept away from 0 and 1 by 1e-6.
#[inline(always)]
pub(super) fn logit(p: f32) -> f32 {
    let p = p.clamp(1e-6, 1.0 - 1e-6);
    ln(p) - ln(1.0 - p)
}

/// Class of a length of time: 0 for none at all, then one class for each doubling, from a millisecond up.
#[inline(always)]
pub(super) fn span_class(span: Span) -> u64 {
    if span == Span::ZERO { 0 } else { u64::from((span.as_us() / 1000 + 1).ilog2()) + 1 }
}

/// Class of a count: 0, then one class for each doubling.
#[inline(always)]
pub(super) fn count_class(n: u32) -> u64 {
    u64::from(u32::BITS - n.leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_functions_are_close_to_the_exact_ones() {
        for i in 1..4000 {
            let x = i as f32 * 0.005;
            assert!(
                (ln(x) - x.ln()).abs() < 2e-5 * (1.0 + x.ln().abs()),
                "ln {x}: {} against {}",
                ln(x),
                x.ln()
            );
            let y = -x;
            assert!((exp(y) / y.exp() - 1.0).abs() < 1e-4, "exp {y}: {} against {}", exp(y), y.exp());
        }
        for x in [1.0f32, 2.0, 3.7, 8.0, 1e3, 4e9] {
            assert!((inverse_root(x) * x.sqrt() - 1.0).abs() < 2e-3, "1/√{x}: {}", inverse_root(x));
        }
        assert!(exp(-1e9) < 1e-29 && exp(0.0) == 1.0);
        assert!(logit(0.0).is_finite() && logit(1.0).is_finite() && logit(0.5).abs() < 1e-6);
    }

    #[test]
    fn classes_of_time_double() {
        let class = |us| span_class(Span::from_us(us));
        assert_eq!((class(0), class(1), class(1_000), class(2_999), class(3_000)), (0, 1, 2, 2, 3));
        assert_eq!(class(u64::MAX), 55);
    }
}
