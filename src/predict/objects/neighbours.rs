//! Neighbours: for each shape of name, the differences by which would-be misses tend to follow each other.

use super::per_shape::PerShape;
use super::snapshot::{Bad, Reader, Writer};

/// Differences that one shape remembers.
const SLOTS: usize = 8;
/// Earlier numbers that a new one is compared with.
const LOOK: usize = 4;
/// Differences beyond this are chance.
const FAR: i64 = 4096;
/// Differences that are proposed at a time.
const TOP: usize = 2;
/// Numbers after which counts are halved.
const HALVE_AT: u16 = 512;

#[derive(Clone, Copy, Debug)]
struct Offsets {
    recent: [i64; LOOK],
    at: u8,
    delta: [i64; SLOTS],
    count: [u16; SLOTS],
    seen: u16,
}

/// A usual difference, and its share of what was seen, in sixteenths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usual {
    /// The difference.
    pub(super) delta: i64,
    /// 0..=15.
    pub(super) share: u16,
}

/// The usual differences of all shapes.
pub(super) struct Neighbours {
    by_shape: PerShape<Offsets>,
}

impl Neighbours {
    /// None yet.
    pub(super) fn new() -> Neighbours {
        Neighbours { by_shape: PerShape::new() }
    }
    /// Learns from the number `x`; gives the strongest differences, best first.
    pub(super) fn see(&mut self, shape: u32, x: i64, now: u32) -> [Option<Usual>; TOP] {
        let offsets = self.by_shape.entry(shape, now, || {
            let (mut delta, mut count) = ([0; SLOTS], [0; SLOTS]);
            // The next number is worth a try before anything is known.
            (delta[0], count[0]) = (1, 1);
            Offsets { recent: [i64::MAX; LOOK], at: 0, delta, count, seen: 4 }
        });
        for v in offsets.recent {
            let d = x.wrapping_sub(v);
            if d != 0 && (-FAR..=FAR).contains(&d) {
                offsets.bump(d);
            }
        }
        offsets.recent[usize::from(offsets.at)] = x;
        offsets.at = (offsets.at + 1) % LOOK as u8;
        offsets.seen += 1;
        if offsets.seen > HALVE_AT {
            offsets.seen /= 2;
            offsets.count.iter_mut().for_each(|c| *c /= 2);
        }
        offsets.top()
    }
    /// Memory, bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.by_shape.memory_bytes()
    }
    /// Writes all of them.
    pub(super) fn write(&self, to: &mut Writer) {
        self.by_shape.write(to, |o, to| {
            o.recent.iter().chain(&o.delta).for_each(|&v| to.u64(v as u64));
            o.count.iter().for_each(|&c| to.u32(c.into()));
            to.u32(o.seen.into());
            to.u8(o.at);
        });
    }
    /// Reads what [`Neighbours::write`] wrote.
    pub(super) fn read(&mut self, from: &mut Reader<'_>) -> Result<(), Bad> {
        self.by_shape.read(from, |from| {
            let mut o = Offsets { recent: [0; LOOK], at: 0, delta: [0; SLOTS], count: [0; SLOTS], seen: 0 };
            for v in o.recent.iter_mut().chain(&mut o.delta) {
                *v = from.u64()? as i64;
            }
            for c in &mut o.count {
                *c = from.count(usize::from(u16::MAX))? as u16;
            }
            o.seen = from.count(usize::from(HALVE_AT))?.max(1) as u16;
            o.at = Some(from.u8()?).filter(|&a| usize::from(a) < LOOK).ok_or(Bad::Value)?;
            Ok(o)
        })
    }
}

impl Offsets {
    /// Space-Saving with wear: a new difference takes the weakest place once that has worn down.
    fn bump(&mut self, d: i64) {
        if let Some(i) = (0..SLOTS).find(|&i| self.delta[i] == d && self.count[i] > 0) {
            self.count[i] = self.count[i].saturating_add(1);
            return;
        }
        let weakest = (0..SLOTS).min_by_key(|&i| self.count[i]).expect("there are places");
        if self.count[weakest] <= 1 {
            (self.delta[weakest], self.count[weakest]) = (d, 1);
        } else {
            self.count[weakest] -= 1;
        }
    }
    fn top(&self) -> [Option<Usual>; TOP] {
        let mut top: [Option<usize>; TOP] = [None; TOP];
        for i in (0..SLOTS).filter(|&i| self.count[i] > 0) {
            let beats = |j: Option<usize>| j.is_none_or(|j| self.count[i] > self.count[j]);
            if beats(top[0]) {
                top = [Some(i), top[0]];
            } else if beats(top[1]) {
                top[1] = Some(i);
            }
        }
        top.map(|i| {
            let i = i?;
            let share = u32::from(self.count[i]) * 16 / u32::from(self.seen);
            Some(Usual { delta: self.delta[i], share: share.min(15) as u16 })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_differences_come_out_on_top() {
        let mut neighbours = Neighbours::new();
        let mut top = [None; TOP];
        for i in 0..200 {
            top = neighbours.see(7, i / 2 * 100 + i % 2 * 8, 0);
        }
        let deltas: Vec<i64> = top.iter().flatten().map(|u| u.delta).collect();
        assert!(deltas.contains(&100), "{deltas:?}");
        assert!(top[0].unwrap().share >= 8);
    }

    #[test]
    fn next_number_is_tried_before_anything_is_known() {
        assert_eq!(Neighbours::new().see(7, 5, 0)[0], Some(Usual { delta: 1, share: 3 }));
    }
}
