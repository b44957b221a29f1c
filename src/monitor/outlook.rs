//! What is expected to come: tasks that are queued, and tasks that nobody has submitted yet.
//!
//! Dispatch's plan says when and where queued tasks are meant to start, the predictor which tasks an entity is
//! expected to bring, and the plan's homes where these would run. With what each type usually uses that is the
//! load of the near future: the last columns of the heatmap.

use super::core::Monitor;
use super::load::Load;
use super::usual::Usual;
use crate::flow::{Map, Place, TypeId, WorkerId};
use crate::time::{Span, Time};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most expected tasks that count, planned and foreseen each.
pub const MAX_AHEAD: usize = 16_384;
/// An expectation that is overdue by this is forgotten: the predictor says anew what it still expects.
const OVERDUE: Span = Span::from_secs(600);

/// One task that is expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ahead {
    /// Its type.
    pub task_type: TypeId,
    /// Where it is meant to run; `None`: where a task of its type would run now.
    pub worker: Option<WorkerId>,
    /// The cell and shard of its first input.
    pub place: Option<Place>,
    /// When it is expected to start.
    pub due: Time,
    /// Probability that it comes, in [0, 1].
    pub p: f64,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Outlook {
    planned: Vec<Ahead>,
    foreseen: BTreeMap<Arc<str>, Vec<Ahead>>,
    /// How many there are in `foreseen`.
    count: usize,
    homes: Map<TypeId, WorkerId>,
}

impl Outlook {
    fn plan(&mut self, mut planned: Vec<Ahead>, homes: Map<TypeId, WorkerId>) {
        planned.truncate(MAX_AHEAD);
        (self.planned, self.homes) = (planned, homes);
    }

    fn foresee(&mut self, now: Time, entity: &Arc<str>, ahead: Vec<Ahead>) {
        self.count -= self.foreseen.remove(entity).map_or(0, |old| old.len());
        if ahead.is_empty() {
            return;
        }
        if self.count + ahead.len() > MAX_AHEAD {
            self.forget_overdue(now);
        }
        if self.count + ahead.len() <= MAX_AHEAD {
            self.count += ahead.len();
            self.foreseen.insert(entity.clone(), ahead);
        }
    }

    /// Entities that have fallen silent are not expected for ever.
    pub fn forget_overdue(&mut self, now: Time) {
        self.foreseen.retain(|_, ahead| {
            ahead.retain(|a| a.due + OVERDUE > now);
            !ahead.is_empty()
        });
        self.count = self.foreseen.values().map(Vec::len).sum();
    }

    /// As loads. A queued task that is overdue starts now at the earliest; one of a type that has never ended
    /// has no load yet.
    pub fn loads(&self, now: Time, usual: &Usual) -> impl Iterator<Item = Load> {
        let planned = self.planned.iter().map(move |a| Ahead { due: a.due.max(now), ..*a });
        planned.chain(self.foreseen.values().flatten().copied()).filter_map(|a| {
            let worker = a.worker.or_else(|| self.homes.get(&a.task_type).copied());
            let Ahead { place, due, p, .. } = a;
            Some(Load { worker, place, due, p, usage: usual.of(a.task_type)? })
        })
    }
}

impl Monitor {
    /// Dispatch's plan: queued tasks, and where a task of each type would run. Replaces what was told before;
    /// the first [`MAX_AHEAD`] count.
    pub fn planned(&mut self, planned: Vec<Ahead>, homes: Map<TypeId, WorkerId>) {
        self.outlook.plan(planned, homes);
    }

    /// Which tasks an entity is expected to bring. Replaces what was told of it before; beyond [`MAX_AHEAD`]
    /// of all entities it does not count.
    pub fn foreseen(&mut self, now: Time, entity: &Arc<str>, ahead: Vec<Ahead>) {
        self.outlook.foresee(now, entity, ahead);
    }
}

#[cfg(test)]
mod tests {
    use super::super::attempts::tests::{at, outcome, usage};
    use super::*;

    fn ahead(task_type: u16, worker: Option<u16>, due: f64, p: f64) -> Ahead {
        Ahead { task_type: TypeId(task_type), worker: worker.map(WorkerId), place: None, due: at(due), p }
    }

    fn usual() -> Usual {
        let mut usual = Usual::default();
        usual.learn(&outcome(1, 0, 9.0, usage(2.0, 1.0, 100, 40)));
        usual
    }

    #[test]
    fn a_foreseen_task_runs_where_its_type_is_at_home() {
        let mut outlook = Outlook::default();
        outlook.plan(vec![ahead(0, Some(3), -5.0, 1.0)], Map::from_iter([(TypeId(0), WorkerId(2))]));
        outlook.foresee(at(0.0), &"vol-1".into(), vec![ahead(0, None, 4.0, 0.7), ahead(9, None, 4.0, 0.3)]);
        let loads: Vec<_> = outlook.loads(at(0.0), &usual()).map(|l| (l.worker, l.due, l.p)).collect();
        // The queued one is overdue and starts now; nobody knows what type 9 uses.
        assert_eq!(loads, [(Some(WorkerId(3)), at(0.0), 1.0), (Some(WorkerId(2)), at(4.0), 0.7)]);
    }

    #[test]
    fn what_is_said_of_an_entity_replaces_what_was_said_before() {
        let mut outlook = Outlook::default();
        let entity: Arc<str> = "vol-1".into();
        outlook.foresee(at(0.0), &entity, vec![ahead(0, None, 4.0, 0.7); 3]);
        outlook.foresee(at(1.0), &entity, vec![ahead(0, None, 5.0, 0.2)]);
        assert_eq!((outlook.count, outlook.loads(at(1.0), &usual()).count()), (1, 1));
        outlook.foresee(at(2.0), &entity, vec![]);
        assert_eq!((outlook.count, outlook.foreseen.len()), (0, 0));
    }

    #[test]
    fn expectations_are_bounded_and_silent_entities_make_room() {
        let mut outlook = Outlook::default();
        for i in 0..MAX_AHEAD / 4 {
            outlook.foresee(at(0.0), &format!("e{i}").into(), vec![ahead(0, None, 1.0, 0.5); 4]);
        }
        outlook.foresee(at(1.0), &"late".into(), vec![ahead(0, None, 2.0, 0.5)]);
        assert_eq!(outlook.count, MAX_AHEAD, "full: what comes more does not count");
        outlook.foresee(at(900.0), &"later".into(), vec![ahead(0, None, 901.0, 0.5)]);
        assert_eq!(outlook.count, 1);
    }
}
