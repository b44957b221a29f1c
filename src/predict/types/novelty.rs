//! ν: how probable it is that the next task is of a type never seen before.
//!
//! A rate learned in classes of two things that tell: how many tasks have passed since the last new type, and
//! how often the entity's last type has been seen (a fresh type is often followed by another). Each class is
//! a Beta posterior with prior weight 4 at the overall rate of new types; counts are halved above 200, so the
//! rate follows when the novelty of a workload ends.

use super::Error;
use super::snapshot::{Reader, Writer};

/// Classes of tasks since the last new type, one for each doubling.
const SINCE: usize = 8;
/// Classes of the last type: seen once, up to three times, oftener, no last type.
const LAST: usize = 4;
const PRIOR_WEIGHT: f32 = 4.0;
const HALVE_ABOVE: f32 = 200.0;

/// The rates.
#[derive(Clone, Debug)]
pub(super) struct Novelty {
    since_new: u32,
    /// New types and tasks, by class.
    cells: [[f32; 2]; SINCE * LAST],
    /// The class of the forecast in hand.
    class: usize,
}

impl Novelty {
    pub fn new() -> Novelty {
        Novelty { since_new: 0, cells: [[0.0; 2]; SINCE * LAST], class: 0 }
    }

    /// ν for an entity whose last type was seen `last_uses` times, when `seen` types came in `events` tasks.
    #[inline(always)]
    pub fn p(&mut self, last_uses: Option<u32>, seen: f32, events: f32) -> f32 {
        let last = match last_uses {
            Some(0..=1) => 0,
            Some(2..=3) => 1,
            Some(_) => 2,
            None => 3,
        };
        let since = (self.since_new.saturating_add(1).ilog2() as usize).min(SINCE - 1);
        self.class = since * LAST + last;
        let prior = (seen + 0.5) / (events + 1.0);
        let [new, tasks] = self.cells[self.class];
        ((new + PRIOR_WEIGHT * prior) / (tasks + PRIOR_WEIGHT)).clamp(1e-6, 0.99)
    }

    /// Learns whether the type that came was new, in the class of the last [`Novelty::p`].
    #[inline(always)]
    pub fn learn(&mut self, new: bool) {
        let cell = &mut self.cells[self.class];
        cell[0] += f32::from(u8::from(new));
        cell[1] += 1.0;
        if cell[1] > HALVE_ABOVE {
            *cell = cell.map(|x| x * 0.5);
        }
        self.since_new = if new { 0 } else { self.since_new.saturating_add(1) };
    }

    pub fn save(&self, to: &mut Writer) {
        to.u32(self.since_new);
        to.f32s(self.cells.as_flattened());
    }

    pub fn load(from: &mut Reader<'_>) -> Result<Novelty, Error> {
        let mut n = Novelty::new();
        n.since_new = from.u32()?;
        from.f32s_into(n.cells.as_flattened_mut())?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_at_the_overall_rate_and_moves_to_what_it_sees() {
        let mut n = Novelty::new();
        // (3 + ½) / (9 + 1)
        assert!((n.p(None, 3.0, 9.0) - 0.35).abs() < 1e-6);
        n.learn(true);
        // The same class again: (1 + 4 · .35) / (1 + 4)
        assert!((n.p(None, 3.0, 9.0) - 0.48).abs() < 1e-6);
    }

    #[test]
    fn falls_as_long_as_nothing_new_comes_and_never_reaches_zero() {
        let mut n = Novelty::new();
        let mut last = 1.0;
        for i in 1..100_000 {
            let p = n.p(Some(50), 5.0, i as f32 + 5.0);
            n.learn(false);
            assert!(p >= 1e-6);
            last = p;
        }
        assert!(last < 1e-3, "{last}");
    }
}
