//! Runs: for each shape of name up to 16 arithmetic sequences over the numbers in it.

use super::per_shape::PerShape;
use super::shape::{FIELDS, Fields};
use super::snapshot::{Bad, Reader, Writer};

/// Sequences that one shape may have at a time.
const RUNS: usize = 16;
/// The furthest proposal, in steps.
const DEPTH: u32 = 8;
/// A number is taken for the next of a young run if it lies within this distance of the run's last.
const NEAR: u64 = 4096;

/// Differences between two names' numbers.
pub(super) type Delta = [i64; FIELDS];

#[derive(Clone, Copy, Debug)]
struct Run {
    last: Fields,
    delta: Delta,
    /// One step after `last`, if there is a step and no number would be negative.
    next: Option<Fields>,
    /// Steps that held.
    len: u32,
    /// Steps ahead of `last` that have been proposed.
    ahead: u32,
    seen: u32,
}

/// What a run expects: the objects at `from..=to` steps after the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    /// One step.
    pub(super) delta: Delta,
    /// How many steps held so far.
    pub(super) len: u32,
    /// First step to propose.
    pub(super) from: u32,
    /// Last step to propose.
    pub(super) to: u32,
}

/// All runs.
pub(super) struct Runs {
    by_shape: PerShape<Vec<Run>>,
}

/// The numbers `n` steps on; nothing if one would be negative.
pub(super) fn after(fields: &Fields, delta: &Delta, n: u32) -> Option<Fields> {
    let mut next = *fields;
    for (f, &d) in next.iter_mut().zip(delta) {
        *f = f.checked_add_signed(d.checked_mul(i64::from(n))?)?;
    }
    Some(next)
}

impl Run {
    fn new(last: Fields, seen: u32) -> Run {
        Run { last, delta: [0; FIELDS], next: None, len: 0, ahead: 0, seen }
    }
    fn arrive(&mut self, at: Fields) {
        self.last = at;
        self.next = if self.delta == [0; FIELDS] { None } else { after(&at, &self.delta, 1) };
    }
}

impl Runs {
    /// None yet.
    pub(super) fn new() -> Runs {
        Runs { by_shape: PerShape::new() }
    }
    /// A name of `shape` was used. Says what should come next, if it continues a run.
    pub(super) fn see(&mut self, shape: u32, fields: Fields, now: u32) -> Option<Expected> {
        let runs = self.by_shape.entry(shape, now, Vec::new);
        let Some(run) = runs.iter_mut().find(|r| r.last == fields || r.next == Some(fields)) else {
            adopt(runs, fields, now);
            return None;
        };
        run.seen = now;
        if run.last == fields {
            return None;
        }
        run.len += 1;
        run.arrive(fields);
        run.ahead = run.ahead.saturating_sub(1);
        let (from, to) = (run.ahead + 1, (1u32 << run.len.min(7)).min(DEPTH));
        if to < from {
            return None;
        }
        run.ahead = to;
        Some(Expected { delta: run.delta, len: run.len, from, to })
    }
    /// Memory, bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.by_shape.memory_bytes()
            + self.by_shape.values().map(|r| r.capacity() * size_of::<Run>()).sum::<usize>()
    }
    /// Writes all of them.
    pub(super) fn write(&self, to: &mut Writer) {
        self.by_shape.write(to, |runs, to| {
            to.u32(runs.len() as u32);
            for r in runs {
                r.last.iter().for_each(|&f| to.u64(f));
                r.delta.iter().for_each(|&d| to.u64(d as u64));
                to.u32(r.len);
                to.u32(r.ahead);
                to.u32(r.seen);
            }
        });
    }
    /// Reads what [`Runs::write`] wrote.
    pub(super) fn read(&mut self, from: &mut Reader<'_>) -> Result<(), Bad> {
        self.by_shape.read(from, |from| {
            let mut runs = vec![];
            for _ in 0..from.count(RUNS)? {
                let mut run = Run::new([0; FIELDS], 0);
                let mut last = [0; FIELDS];
                for f in &mut last {
                    *f = from.u64()?;
                }
                for d in &mut run.delta {
                    *d = from.u64()? as i64;
                }
                run.arrive(last);
                (run.len, run.ahead, run.seen) = (from.u32()?, from.u32()?, from.u32()?);
                runs.push(run);
            }
            Ok(runs)
        })
    }
}

/// No run expected these numbers: bend the nearest young run, or begin another.
fn adopt(runs: &mut Vec<Run>, fields: Fields, now: u32) {
    let distance = |r: &Run| r.last.iter().zip(&fields).map(|(a, b)| a.abs_diff(*b)).sum::<u64>();
    let nearest = (0..runs.len()).min_by_key(|&i| distance(&runs[i])).filter(|&i| distance(&runs[i]) <= NEAR);
    let mut fresh = Run::new(fields, now);
    match nearest {
        Some(i) if runs[i].len < 2 || runs.len() >= RUNS => {
            fresh.delta = std::array::from_fn(|f| fields[f] as i64 - runs[i].last[f] as i64);
            fresh.arrive(fields);
            runs[i] = fresh;
        }
        _ if runs.len() < RUNS => runs.push(fresh),
        _ => {
            let oldest = (0..RUNS).min_by_key(|&i| runs[i].seen).expect("there are runs");
            runs[oldest] = fresh;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn see(runs: &mut Runs, n: u64, now: u32) -> Option<(u32, u32)> {
        runs.see(0, [n, 0, 0, 0], now).map(|e| (e.from, e.to))
    }

    #[test]
    fn run_reaches_further_as_it_holds_and_proposes_each_step_once() {
        let mut runs = Runs::new();
        let said: Vec<_> = (0..6u32).map(|i| see(&mut runs, 10 + 3 * u64::from(i), i)).collect();
        assert_eq!(said, [None, None, Some((1, 2)), Some((2, 4)), Some((4, 8)), Some((8, 8))]);
    }

    #[test]
    fn interleaved_runs_are_told_apart() {
        let mut runs = Runs::new();
        let mut said = 0;
        for i in 0..10 {
            said += u32::from(see(&mut runs, i, 0).is_some());
            said += u32::from(see(&mut runs, 1_000_000 - 2 * i, 0).is_some());
        }
        assert!(said >= 14, "{said}");
    }

    #[test]
    fn numbers_never_become_negative() {
        assert_eq!(after(&[5, 0, 0, 0], &[-3, 0, 0, 0], 2), None);
        assert_eq!(after(&[6, 9, 0, 0], &[-3, 1, 0, 0], 2), Some([0, 11, 0, 0]));
    }
}
