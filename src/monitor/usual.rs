//! What a task of each type usually uses: means over the attempts that ended, the latest counting most.

use crate::flow::{Map, Outcome, TypeId, Usage};
use crate::time::Span;

/// Weight of the newest attempt, once there are enough for it: about the last twenty count.
const NEWEST: f64 = 0.1;

#[derive(Clone, Copy, Debug)]
struct Means {
    attempts: u32,
    /// Wall seconds, processor seconds, bytes of peak memory, read, written, fetched.
    means: [f64; 6],
}

/// By type.
#[derive(Clone, Debug, Default)]
pub(super) struct Usual {
    types: Map<TypeId, Means>,
}

impl Usual {
    /// An attempt ended. One whose child did not run teaches nothing.
    pub fn learn(&mut self, outcome: &Outcome) {
        if outcome.usage.wall > Span::ZERO {
            self.blend(outcome.task_type, &outcome.usage);
        }
    }

    fn blend(&mut self, task_type: TypeId, usage: &Usage) {
        let known = self.types.entry(task_type).or_insert(Means { attempts: 0, means: [0.0; 6] });
        known.attempts = known.attempts.saturating_add(1);
        let weight = NEWEST.max(1.0 / f64::from(known.attempts));
        for (mean, new) in known.means.iter_mut().zip(figures(usage)) {
            *mean += weight * (new - *mean);
        }
    }

    /// What a task of this type usually uses; `None` until one has ended.
    pub fn of(&self, task_type: TypeId) -> Option<Usage> {
        let [wall, cpu, memory, read, write, net] = self.types.get(&task_type)?.means;
        Some(Usage {
            wall: Span::from_s(wall),
            cpu: Span::from_s(cpu),
            peak_memory_bytes: memory as u64,
            read_bytes: read as u64,
            write_bytes: write as u64,
            net_bytes: net as u64,
        })
    }
}

fn figures(u: &Usage) -> [f64; 6] {
    [
        u.wall.as_s(),
        u.cpu.as_s(),
        u.peak_memory_bytes as f64,
        u.read_bytes as f64,
        u.write_bytes as f64,
        u.net_bytes as f64,
    ]
}

#[cfg(test)]
mod tests {
    use super::super::attempts::tests::{outcome, usage};
    use super::*;

    #[test]
    fn the_mean_follows_the_latest_attempts() {
        let mut usual = Usual::default();
        assert_eq!(usual.of(TypeId(0)), None);
        usual.learn(&outcome(1, 0, 9.0, usage(2.0, 1.0, 100, 40)));
        assert_eq!(usual.of(TypeId(0)), Some(usage(2.0, 1.0, 100, 40)));
        usual.learn(&outcome(2, 0, 9.0, usage(4.0, 3.0, 300, 80)));
        assert_eq!(usual.of(TypeId(0)), Some(usage(3.0, 2.0, 200, 60)), "two count alike");
        (3..60).for_each(|task| usual.learn(&outcome(task, 0, 9.0, usage(10.0, 0.0, 0, 0))));
        let now = usual.of(TypeId(0)).unwrap();
        assert!((now.wall.as_s() - 10.0).abs() < 0.1 && now.cpu.as_s() < 0.1, "{now:?}");
    }

    #[test]
    fn an_attempt_without_a_child_teaches_nothing() {
        let mut usual = Usual::default();
        usual.learn(&outcome(1, 0, 9.0, Usage::default()));
        assert_eq!(usual.of(TypeId(0)), None);
    }
}
