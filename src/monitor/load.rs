//! What is expected of the near future, as load on workers and cells.

use super::attempts::{Running, rates};
use super::key::Target;
use crate::flow::{Map, PerResource, Place, Usage, WorkerId};
use crate::time::{Span, Time};

/// A task that is expected, or queued, or running: when, where, how surely, and what it will use.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The worker that dispatch would choose, if it would choose one.
    pub worker: Option<WorkerId>,
    /// The cell and shard of its first input.
    pub place: Option<Place>,
    /// When it will begin.
    pub due: Time,
    /// Probability that it comes, in [0, 1].
    pub p: f64,
    /// What its type usually uses; `wall` says for how long.
    pub usage: Usage,
}

impl Load {
    /// The rest of a running attempt.
    pub(super) fn rest_of(running: &Running) -> Option<Load> {
        let Running { worker, place, started, expected, .. } = running;
        Some(Load { worker: Some(*worker), place: *place, due: *started, p: 1.0, usage: (*expected)? })
    }

    /// Who carries it.
    fn targets(&self) -> impl Iterator<Item = Target> {
        let place = self.place.into_iter().flat_map(|p| [Target::Cell(p.cell), Target::Shard(p)]);
        self.worker.map(Target::Worker).into_iter().chain(place)
    }
}

/// Expected rates of the four resources in `columns` stretches of `step` from `start` on, by who carries them:
/// the sum over loads of probability × rate × the part of the stretch in which the load runs.
pub(super) fn expected_rates<'a>(
    loads: impl Iterator<Item = &'a Load>,
    start: Time,
    step: Span,
    columns: usize,
) -> Map<Target, Vec<PerResource>> {
    let mut all: Map<Target, Vec<PerResource>> = Map::default();
    let width = step.as_us().max(1);
    let end = start + Span::from_us(width.saturating_mul(columns as u64));
    for load in loads {
        let Some(rates) = rates(&load.usage) else { continue };
        let (from, to) = (load.due.max(start), (load.due + load.usage.wall).min(end));
        if from >= to {
            continue;
        }
        let p = load.p.clamp(0.0, 1.0);
        let last = (to.since(start).as_us() - 1) / width;
        for column in from.since(start).as_us() / width..=last {
            let begin = start + Span::from_us(column * width);
            let inside = to.min(begin + Span::from_us(width)).since(from.max(begin));
            let part = p * inside.as_us() as f64 / width as f64;
            for target in load.targets() {
                let row = all.entry(target).or_insert_with(|| vec![[0.0; 4]; columns]);
                let sum = &mut row[column as usize];
                sum.iter_mut().zip(rates).for_each(|(sum, rate)| *sum += part * rate);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::attempts::tests::{at, running, usage};
    use super::*;
    use crate::flow::CellId;

    #[test]
    fn loads_are_spread_over_the_time_they_take() {
        let place = Place { cell: CellId(1), shard: 2 };
        let load = Load {
            worker: Some(WorkerId(0)),
            place: Some(place),
            due: at(15.0),
            p: 0.5,
            usage: usage(20.0, 40.0, 100, 0),
        };
        let all = expected_rates([&load, &load].into_iter(), at(0.0), Span::from_secs(10), 4);
        let cpu: Vec<f64> = all[&Target::Worker(WorkerId(0))].iter().map(|r| r[0]).collect();
        assert_eq!(cpu, [0.0, 1.0, 2.0, 1.0]);
        assert_eq!(all[&Target::Cell(CellId(1))], all[&Target::Shard(place)]);
        assert_eq!(all[&Target::Shard(place)][2][1], 100.0);
        // Twice a half of 40 processor seconds.
        assert_eq!(cpu.iter().sum::<f64>() * 10.0, 40.0);
    }

    #[test]
    fn what_runs_counts_for_the_rest_of_its_time() {
        let about = Running { expected: Some(usage(30.0, 30.0, 0, 0)), ..running(1, 3, 0, -25.0) };
        let load = Load::rest_of(&about).unwrap();
        let all = expected_rates([&load].into_iter(), at(0.0), Span::from_secs(10), 2);
        assert_eq!(all[&Target::Worker(WorkerId(3))], [[0.5, 0.0, 0.0, 0.0], [0.0; 4]]);
        assert_eq!(Load::rest_of(&running(1, 3, 0, 0.0)), None);
    }

    #[test]
    fn the_past_and_the_far_future_do_not_count() {
        for due in [-100.0, 500.0] {
            let load = Load {
                worker: Some(WorkerId(0)),
                place: None,
                due: at(due),
                p: 1.0,
                usage: usage(9.0, 9.0, 0, 0),
            };
            assert!(expected_rates([&load].into_iter(), at(0.0), Span::from_secs(10), 5).is_empty());
        }
    }
}
