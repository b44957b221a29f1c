//! Sixty-four points in a few hundred bytes: how old points of a series are kept, in memory and on disk alike.
//!
//! Layout: version (1 byte), then varints: step in µs, block number, count of points; the records; CRC32C of
//! all that (4 bytes, little endian). A record is a tag byte and what the tag announces: a gap (1 byte), a mean,
//! a minimum, a maximum (2 bytes each), a count (varint), a number of repetitions (1 byte). A mean or a count that
//! is not announced is the one before; a minimum or maximum that is not, is the mean. Figures keep 16 of their 32
//! bits (the bfloat16 format): within .4 %, finer than any picture of them.
//!
//! An idle series costs nothing, a busy one 3 to 7 bytes a point. Varints of differences in bits, as in "Gorilla: a
//! fast, scalable, in-memory time series database" (Pelkonen and others, 2015), were tried with 12 bits of mantissa:
//! 9 bytes a busy point, and no faster to read.

use crate::time::Span;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

/// Points of a block at most: its records' offsets.
pub(super) const BLOCK: u64 = 64;
/// First byte of every block. Another layout takes another number; this one stays readable.
const VERSION: u8 = 1;

const GAP: u8 = 1;
const MEAN: u8 = 2;
const MIN: u8 = 4;
const MAX: u8 = 8;
const COUNT: u8 = 16;
const REPEAT: u8 = 32;

/// What was seen in one stretch of a series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Point {
    /// The smallest.
    pub min: f32,
    /// The mean.
    pub mean: f32,
    /// The largest.
    pub max: f32,
    /// How many values there were.
    pub count: u32,
}

impl Point {
    /// Of one value.
    pub fn of(value: f64) -> Point {
        let value = value as f32;
        Point { min: value, mean: value, max: value, count: 1 }
    }

    /// Together with another.
    pub fn and(self, other: Point) -> Point {
        let mut sum = Sum::default();
        sum.add(self);
        sum.add(other);
        sum.point().expect("a point counts at least one value")
    }
}

/// Many points on their way to be one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    min: f32,
    max: f32,
    sum: f64,
    count: u32,
}

impl Sum {
    pub fn add(&mut self, point: Point) {
        let first = self.count == 0;
        self.min = if first { point.min } else { self.min.min(point.min) };
        self.max = if first { point.max } else { self.max.max(point.max) };
        self.sum += f64::from(point.mean) * f64::from(point.count);
        self.count = self.count.saturating_add(point.count);
    }

    /// None if there was none.
    pub fn point(&self) -> Option<Point> {
        let Sum { min, max, sum, count } = *self;
        // Rounding may carry a mean past its bounds.
        let mean = (sum / f64::from(count)) as f32;
        (count > 0).then(|| Point { min, mean: mean.clamp(min, max), max, count })
    }
}

/// Why bytes are no block.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BlockError {
    /// Another layout.
    #[error("block has version {found}; this program reads {VERSION}")]
    Version {
        /// Its first byte.
        found: u8,
    },
    /// Too short, too long or changed.
    #[error("block of {bytes} bytes is damaged: {what}")]
    Damaged {
        /// How long it is.
        bytes: usize,
        /// What does not fit.
        what: &'static str,
    },
}

/// A block read back: points by their offset in it, rising.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    pub step: Span,
    pub number: u64,
    pub points: Vec<(u8, Point)>,
}

/// What of a point is kept: mean, minimum and maximum as the upper halves of their bits, and the count.
#[derive(Clone, Copy, PartialEq)]
struct Kept {
    mean: u16,
    min: u16,
    max: u16,
    count: u32,
}

impl Kept {
    const NONE: Kept = Kept { mean: 0, min: 0, max: 0, count: 0 };

    fn of(point: &Point) -> Kept {
        // Rounded to the nearest; rising figures stay in order.
        let half = |v: f32| (v.to_bits().saturating_add(1 << 15) >> 16) as u16;
        Kept { mean: half(point.mean), min: half(point.min), max: half(point.max), count: point.count }
    }

    fn point(self) -> Point {
        let whole = |half: u16| f32::from_bits(u32::from(half) << 16);
        Point { min: whole(self.min), mean: whole(self.mean), max: whole(self.max), count: self.count }
    }
}

/// The bytes of points with rising offsets below [`BLOCK`].
pub(super) fn encode(step: Span, number: u64, points: &[(u8, Point)]) -> Vec<u8> {
    let mut out = vec![VERSION];
    varint(step.as_us(), &mut out);
    varint(number, &mut out);
    varint(points.len() as u64, &mut out);
    let (mut next, mut before) = (0, Kept::NONE);
    let mut rest = points;
    while let Some((&(offset, point), others)) = rest.split_first() {
        debug_assert!(offset >= next && u64::from(offset) < BLOCK, "offsets rise below the block's size");
        let now = Kept::of(&point);
        let follows = (offset + 1..).zip(others).take_while(|(o, p)| p.0 == *o && Kept::of(&p.1) == now);
        let repeats = follows.count() as u8;
        record(now, before, offset - next, repeats, &mut out);
        next = offset + repeats + 1;
        before = now;
        rest = &others[usize::from(repeats)..];
    }
    let crc = crc32c::crc32c(&out);
    out.extend(crc.to_le_bytes());
    out
}

fn record(now: Kept, before: Kept, gap: u8, repeats: u8, out: &mut Vec<u8>) {
    let at = out.len();
    out.push(0);
    let mut tag = 0;
    let mut say = |said: bool, bit: u8, bytes: &[u8]| {
        if said {
            tag |= bit;
            out.extend(bytes);
        }
    };
    say(gap != 0, GAP, &[gap]);
    say(now.mean != before.mean, MEAN, &now.mean.to_le_bytes());
    say(now.min != now.mean, MIN, &now.min.to_le_bytes());
    say(now.max != now.mean, MAX, &now.max.to_le_bytes());
    if now.count != before.count {
        tag |= COUNT;
        varint(u64::from(now.count), out);
    }
    if repeats != 0 {
        tag |= REPEAT;
        out.push(repeats);
    }
    out[at] = tag;
}

/// The points in a block's bytes.
///
/// # Errors
/// Whatever was changed in them is found by the checksum; what is left is checked against the layout.
pub(super) fn decode(bytes: &[u8]) -> Result<Block, BlockError> {
    let mut points = Vec::new();
    let (step, number) = visit(bytes, |offset, point| points.push((offset, point)))?;
    Ok(Block { step, number, points })
}

/// The same without a copy: calls `with` for each point, in order, and returns step and number. Where it fails,
/// `with` may have been called already.
///
/// # Errors
/// As [`decode`].
pub(super) fn visit(bytes: &[u8], mut with: impl FnMut(u8, Point)) -> Result<(Span, u64), BlockError> {
    let damaged = |what| BlockError::Damaged { bytes: bytes.len(), what };
    let (&found, _) = bytes.split_first().ok_or(damaged("it is empty"))?;
    if found != VERSION {
        return Err(BlockError::Version { found });
    }
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(damaged("it has no checksum"))?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(damaged("its checksum differs"));
    }
    let mut rest = body.get(1..).ok_or(damaged("it has no head"))?;
    let mut head = || take(&mut rest).ok_or(damaged("it ends within a number"));
    let (step, number, count) = (Span::from_us(head()?), head()?, head()?);
    if count > BLOCK {
        return Err(damaged("it has too many points"));
    }
    if number.checked_add(1).and_then(|n| n.checked_mul(BLOCK)?.checked_mul(step.as_us())).is_none() {
        return Err(damaged("it lies beyond all time"));
    }
    let (mut next, mut before, mut seen) = (0_u64, Kept::NONE, 0);
    while seen < count {
        let (kept, gap, repeats) = read(&mut rest, before).ok_or(damaged("it ends within a record"))?;
        let (first, end) = (next + u64::from(gap), next + u64::from(gap) + 1 + u64::from(repeats));
        if end > BLOCK {
            return Err(damaged("it has a point beyond its end"));
        }
        let point = kept.point();
        if !(point.min <= point.mean && point.mean <= point.max && point.max.is_finite() && point.count > 0) {
            return Err(damaged("it has figures that are none"));
        }
        (first..end).for_each(|offset| with(offset as u8, point));
        (next, before, seen) = (end, kept, seen + end - first);
    }
    Ok((step, number))
}

/// One record: the figures, the gap before and the repetitions after.
fn read(rest: &mut &[u8], before: Kept) -> Option<(Kept, u8, u8)> {
    let (&tag, after) = rest.split_first()?;
    *rest = after;
    let gap = if tag & GAP != 0 { byte(rest)? } else { 0 };
    let mean = if tag & MEAN != 0 { half(rest)? } else { before.mean };
    let min = if tag & MIN != 0 { half(rest)? } else { mean };
    let max = if tag & MAX != 0 { half(rest)? } else { mean };
    let count = if tag & COUNT != 0 { u32::try_from(take(rest)?).ok()? } else { before.count };
    let repeats = if tag & REPEAT != 0 { byte(rest)? } else { 0 };
    Some((Kept { mean, min, max, count }, gap, repeats))
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    let (&byte, after) = rest.split_first()?;
    *rest = after;
    Some(byte)
}

fn half(rest: &mut &[u8]) -> Option<u16> {
    let (bytes, after) = rest.split_first_chunk::<2>()?;
    *rest = after;
    Some(u16::from_le_bytes(*bytes))
}

/// LEB128.
fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STEP: Span = Span::from_secs(10);

    fn near(a: f32, b: f32) -> bool {
        (a - b).abs() <= b.abs() * 0.004
    }

    fn points() -> impl Strategy<Value = Vec<(u8, Point)>> {
        let value = prop_oneof![Just(0.0_f64), 0.0..1.0, 1e-7..1e12];
        proptest::collection::vec((any::<bool>(), value.clone(), value, 1_u32..5), 0..64).prop_map(|all| {
            let all = all.into_iter().enumerate().filter(|(_, (kept, ..))| *kept);
            all.map(|(i, (_, a, b, count))| (i as u8, Point { count, ..Point::of(a).and(Point::of(b)) }))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(points in points(), number in 0..1_u64 << 30) {
            let block = decode(&encode(STEP, number, &points)).unwrap();
            prop_assert_eq!((block.step, block.number, block.points.len()), (STEP, number, points.len()));
            for ((o, p), (offset, point)) in block.points.iter().zip(&points) {
                prop_assert_eq!((o, p.count), (offset, point.count));
                prop_assert!(near(p.min, point.min) && near(p.mean, point.mean) && near(p.max, point.max));
                prop_assert!(p.min <= p.mean && p.mean <= p.max);
            }
        }

        #[test]
        fn a_flipped_bit_is_found(points in points(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut bytes = encode(STEP, 5, &points);
            let i = at.index(bytes.len());
            bytes[i] ^= 1_u8 << bit;
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn nonsense_with_a_right_checksum_is_refused_or_read_but_never_a_panic(mut body in proptest::collection::vec(any::<u8>(), 0..80)) {
            body.insert(0, VERSION);
            let crc = crc32c::crc32c(&body);
            body.extend(crc.to_le_bytes());
            if let Ok(block) = decode(&body) {
                prop_assert!(block.points.iter().all(|p| u64::from(p.0) < BLOCK));
            }
        }
    }

    #[test]
    fn an_idle_series_costs_nothing_and_a_steady_one_little() {
        let idle: Vec<_> = (0..64).map(|i| (i, Point { count: 60, ..Point::of(0.0) })).collect();
        assert!(encode(STEP, 178_000_000, &idle).len() < 24);
        let mut rng = fastrand::Rng::with_seed(1);
        let busy: Vec<_> = (0..64).map(|i| (i, Point::of(rng.f64()).and(Point::of(rng.f64())))).collect();
        let size = encode(STEP, 178_000_000, &busy).len();
        assert!(size < 64 * 7 + 24, "{size}");
    }

    #[test]
    fn a_block_beyond_all_time_is_refused() {
        let far = encode(STEP, u64::MAX / 64, &[(0, Point::of(1.0))]);
        assert!(decode(&far).unwrap_err().to_string().ends_with("it lies beyond all time"));
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = encode(STEP, 1, &[]);
        bytes[0] = 7;
        assert_eq!(decode(&bytes).unwrap_err().to_string(), "block has version 7; this program reads 1");
        assert_eq!(decode(&[]).unwrap_err().to_string(), "block of 0 bytes is damaged: it is empty");
    }
}
