//! One resolution of one series: points that are being collected, and packed blocks behind them.

use super::block::{self, BLOCK, Point};
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// One resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring {
    /// Width of a point.
    pub step: Span,
    /// How far back it reaches.
    pub keep: Span,
    /// Whether it is given out to be stored. The finest is not by default: ten minutes of seconds are not
    /// worth a write a second for each worker.
    pub stored: bool,
}

/// A packed block.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    pub number: u64,
    pub bytes: Box<[u8]>,
}

/// One resolution of one series.
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    pub packed: VecDeque<Packed>,
    /// Number of the block that is being filled, and its points.
    pub number: u64,
    pub open: Vec<(u8, Point)>,
    /// Of all that.
    pub bytes: usize,
}

/// What a packed block costs besides its bytes.
pub(super) const PACKED_OVERHEAD: usize = size_of::<Packed>() + 16;
/// What a point costs that is not packed yet.
pub(super) const OPEN_POINT: usize = size_of::<(u8, Point)>();

impl Track {
    /// Packs the block that is being filled; false if nothing is in it.
    pub fn seal(&mut self, step: Span) -> bool {
        if self.open.is_empty() {
            return false;
        }
        let bytes = block::encode(step, self.number, &self.open).into_boxed_slice();
        self.bytes += bytes.len() + PACKED_OVERHEAD;
        self.packed.push_back(Packed { number: self.number, bytes });
        self.open.clear();
        true
    }

    /// Begins block `number`, or goes on with the newest packed one if that was restored half full (or, after
    /// the clock was set back, lies ahead: time never runs backwards in a series).
    pub fn begin(&mut self, number: u64) {
        self.bytes -= self.open.capacity() * OPEN_POINT;
        // Not kept at its full size: most series are sparse for most of the time.
        self.open = Vec::new();
        self.number = number;
        if self.packed.back().is_some_and(|b| b.number >= number) {
            let last = self.packed.pop_back().expect("there is a back");
            self.bytes -= last.bytes.len() + PACKED_OVERHEAD;
            self.number = last.number;
            self.open = block::decode(&last.bytes).expect("it was checked when it was restored").points;
            self.bytes += self.open.capacity() * OPEN_POINT;
        }
    }

    pub fn add(&mut self, number: u64, offset: u8, point: Point) {
        self.bytes -= self.open.capacity() * OPEN_POINT;
        match self.open.last_mut() {
            Some(last) if number < self.number || offset <= last.0 => last.1 = last.1.and(point),
            _ => self.open.push((offset, point)),
        }
        self.bytes += self.open.capacity() * OPEN_POINT;
    }

    /// Drops packed blocks that end before `oldest`.
    pub fn trim(&mut self, ring: &Ring, oldest: Time, mut gone: impl FnMut(u64)) {
        let first = oldest.as_us() / ring.step.as_us() / BLOCK;
        while self.packed.front().is_some_and(|b| b.number < first) {
            let old = self.packed.pop_front().expect("there is a front");
            self.bytes -= old.bytes.len() + PACKED_OVERHEAD;
            if ring.stored {
                gone(old.number);
            }
        }
    }

    /// Calls `with(bucket, point)` for every point whose bucket lies in `buckets`, rising.
    pub fn each(&self, buckets: &std::ops::Range<u64>, mut with: impl FnMut(u64, Point)) {
        let mut point = |number: u64, offset: u8, point: Point| {
            let bucket = number * BLOCK + u64::from(offset);
            if buckets.contains(&bucket) {
                with(bucket, point);
            }
        };
        let numbers = buckets.start / BLOCK..buckets.end.div_ceil(BLOCK);
        let first = self.packed.partition_point(|b| b.number < numbers.start);
        for packed in self.packed.range(first..).take_while(|b| b.number < numbers.end) {
            let visited = block::visit(&packed.bytes, |offset, p| point(packed.number, offset, p));
            visited.expect("blocks in memory were encoded or checked here");
        }
        self.open.iter().for_each(|(offset, p)| point(self.number, *offset, *p));
    }
}
