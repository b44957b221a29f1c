//! Exploration: a worker that looked slow once, or was never tried, is tried again from time to time.
//!
//! The product of known speeds would never do that. A share of the placements (`exploration`) may therefore go
//! to a pair of worker and type that was not tried lately, although a better worker was worth waiting for.

use super::core::Dispatch;
use crate::flow::{Map, TypeId, WorkerId};
use crate::task::Task;
use std::collections::VecDeque;

/// A pair that is among the last so many that were tried is known well enough.
const LATELY: usize = 256;

/// Which pairs were tried lately, and whether the next placement may explore.
#[derive(Debug, Default)]
pub struct Explorer {
    order: VecDeque<(WorkerId, TypeId)>,
    tried: Map<(WorkerId, TypeId), u32>,
    may: bool,
}

impl Explorer {
    /// A task was placed; `draw` in [0, 1) against `share` decides about the next.
    ///
    /// It is drawn once for each placement and not for each look: a held task is looked at again and again.
    pub fn placed(&mut self, worker: WorkerId, task_type: TypeId, draw: f64, share: f64) {
        self.order.push_back((worker, task_type));
        *self.tried.entry((worker, task_type)).or_default() += 1;
        if self.order.len() > LATELY
            && let Some(old) = self.order.pop_front()
            && let Some(count) = self.tried.get_mut(&old)
        {
            *count -= 1;
            if *count == 0 {
                self.tried.remove(&old);
            }
        }
        self.may = draw < share;
    }

    /// Whether a pair may be tried now although it looks worse.
    pub fn wants(&self, worker: WorkerId, task_type: TypeId) -> bool {
        self.may && !self.tried.contains_key(&(worker, task_type))
    }
}

impl Dispatch {
    pub(super) fn explores(&self, worker: WorkerId, task: &Task) -> bool {
        self.explorer.wants(worker, task.task_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_tried_when_it_was_not_lately_and_the_draw_says_so() {
        let mut e = Explorer::default();
        let (w, t) = (WorkerId(0), TypeId(0));
        assert!(!e.wants(w, t), "not before something was placed");
        e.placed(w, t, 0.01, 0.02);
        assert!(!e.wants(w, t) && e.wants(WorkerId(1), t));
        e.placed(w, t, 0.5, 0.02);
        assert!(!e.wants(WorkerId(1), t));
        for _ in 0..LATELY {
            e.placed(WorkerId(2), t, 0.01, 0.02);
        }
        assert!(e.wants(w, t), "too long ago");
    }
}
