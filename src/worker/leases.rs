//! What one outside worker holds: bookkeeping without a clock and without I/O.
//!
//! An attempt is *ready* until the worker fetches it, then *out* until it comes back, its type's time limit
//! runs out, or the worker is lost. A completion must show the token it was given.

use crate::flow::{Map, TaskId, Token};
use crate::message::Assign;
use crate::time::Time;
use std::collections::{BTreeSet, VecDeque};

/// An attempt, with what was made ready for it.
#[derive(Debug)]
pub struct Hold<D> {
    /// The attempt.
    pub assign: Assign,
    /// What was made ready.
    pub data: D,
    /// When the worker fetched it; `None` while it is ready.
    pub out: Option<Time>,
    due: Time,
    stop: bool,
}

/// All that one worker holds.
#[derive(Debug)]
pub struct Leases<D> {
    held: Map<TaskId, Hold<D>>,
    ready: VecDeque<TaskId>,
    /// When each attempt that is out must be back.
    dues: BTreeSet<(Time, TaskId)>,
    stops: BTreeSet<TaskId>,
}

impl<D> Default for Leases<D> {
    fn default() -> Self {
        Leases { held: Map::default(), ready: VecDeque::new(), dues: BTreeSet::new(), stops: BTreeSet::new() }
    }
}

impl<D> Leases<D> {
    /// An attempt can be fetched. What was held of the same task is given back: its lease is over.
    pub fn give(&mut self, assign: Assign, data: D) -> Option<Hold<D>> {
        let id = assign.task.id;
        let old = self.take(id);
        self.held.insert(id, Hold { assign, data, out: None, due: Time::MAX, stop: false });
        self.ready.push_back(id);
        old
    }

    /// How many can be fetched.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many are held, ready ones included.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The worker fetches the oldest one that is ready; it must be back when `due` says.
    pub fn fetch(&mut self, now: Time, due: impl FnOnce(&Assign) -> Time) -> Option<&Hold<D>> {
        let id = self.ready.pop_front()?;
        let hold = self.held.get_mut(&id).expect("what is ready is held");
        hold.out = Some(now);
        hold.due = due(&hold.assign);
        self.dues.insert((hold.due, id));
        Some(hold)
    }

    /// What was fetched did not reach the worker: it is ready again, before all others.
    pub fn unfetch(&mut self, id: TaskId) {
        let Some(hold) = self.held.get_mut(&id).filter(|h| h.out.is_some()) else { return };
        hold.out = None;
        self.dues.remove(&(hold.due, id));
        self.ready.push_front(id);
    }

    /// An attempt comes back; `None` if the worker does not hold it under this token.
    pub fn end(&mut self, id: TaskId, token: Token) -> Option<Hold<D>> {
        let hold = self.held.get(&id)?;
        // What the worker has not fetched it cannot have done.
        if hold.assign.token != token || hold.out.is_none() {
            return None;
        }
        self.take(id)
    }

    /// Asks for an attempt's end. If it was not fetched yet, it ends here.
    pub fn stop(&mut self, id: TaskId, token: Token) -> Option<Hold<D>> {
        let hold = self.held.get_mut(&id).filter(|h| h.assign.token == token)?;
        if hold.out.is_none() {
            return self.take(id);
        }
        hold.stop = true;
        self.stops.insert(id);
        None
    }

    /// Attempts that the worker should end.
    pub fn stops(&self) -> impl Iterator<Item = (TaskId, Token)> {
        self.stops.iter().map(|id| (*id, self.held[id].assign.token))
    }

    /// An attempt that is out and whose time is over.
    pub fn overdue(&mut self, now: Time) -> Option<Hold<D>> {
        let (_, id) = self.dues.first().copied().filter(|(due, _)| *due <= now)?;
        self.take(id)
    }

    /// Everything, oldest task first: the worker is lost.
    pub fn lose(&mut self) -> Vec<Hold<D>> {
        self.ready.clear();
        self.dues.clear();
        self.stops.clear();
        let mut all: Vec<Hold<D>> = std::mem::take(&mut self.held).into_values().collect();
        all.sort_by_key(|h| h.assign.task.id);
        all
    }

    fn take(&mut self, id: TaskId) -> Option<Hold<D>> {
        let hold = self.held.remove(&id)?;
        match hold.out {
            Some(_) => _ = self.dues.remove(&(hold.due, id)),
            None => self.ready.retain(|r| *r != id),
        }
        if hold.stop {
            self.stops.remove(&id);
        }
        Some(hold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Factors;
    use crate::task::{Catalogue, Submit, sample_places, sample_type};
    use crate::time::Span;
    use std::sync::Arc;

    fn at(ms: u64) -> Time {
        Time::from_us(ms * 1_000)
    }

    fn token(attempt: u32) -> Token {
        Token { epoch: 1, attempt }
    }

    fn assign(id: u64, attempt: u32) -> Assign {
        let catalogue = Catalogue::new(vec![sample_type("copy")]);
        let submit = Submit { task_type: "copy".into(), entity: Some("e".into()), ..Submit::default() };
        let task = submit.resolve(TaskId(id), at(0), &catalogue, &sample_places()).unwrap();
        let (token, factors) = (token(attempt), Factors::default());
        Assign { task: Arc::new(task), token, at: at(0), factors, slot: 0 }
    }

    fn fetched(leases: &mut Leases<()>, now: u64) -> Option<u64> {
        leases.fetch(at(now), |_| at(now) + Span::from_ms(100)).map(|h| h.assign.task.id.0)
    }

    #[test]
    fn a_completion_needs_the_token_that_was_fetched() {
        let mut l = Leases::default();
        l.give(assign(1, 2), ());
        assert!(l.end(TaskId(1), token(2)).is_none(), "it was not fetched");
        assert_eq!(fetched(&mut l, 0), Some(1));
        assert!(l.end(TaskId(1), token(1)).is_none(), "an earlier attempt's token");
        assert!(l.end(TaskId(1), token(2)).is_some());
        assert!(l.end(TaskId(1), token(2)).is_none(), "twice");
        assert!(l.is_empty() && l.overdue(Time::MAX).is_none());
    }

    #[test]
    fn what_did_not_reach_the_worker_is_fetched_again_first() {
        let mut l = Leases::default();
        l.give(assign(1, 1), ());
        l.give(assign(2, 1), ());
        assert_eq!(fetched(&mut l, 0), Some(1));
        l.unfetch(TaskId(1));
        assert_eq!([fetched(&mut l, 1), fetched(&mut l, 1), fetched(&mut l, 1)], [Some(1), Some(2), None]);
    }

    #[test]
    fn time_runs_from_when_it_was_fetched() {
        let mut l = Leases::default();
        l.give(assign(1, 1), ());
        assert!(l.overdue(at(1_000_000)).is_none(), "who waits for its worker is not late");
        fetched(&mut l, 50);
        assert!(l.overdue(at(149)).is_none());
        assert_eq!(l.overdue(at(150)).map(|h| h.assign.task.id), Some(TaskId(1)));
    }

    #[test]
    fn a_stop_reaches_what_is_out_and_ends_what_is_ready() {
        let mut l = Leases::default();
        l.give(assign(1, 1), ());
        l.give(assign(2, 1), ());
        fetched(&mut l, 0);
        assert!(l.stop(TaskId(1), token(1)).is_none());
        assert!(l.stop(TaskId(2), token(1)).is_some());
        assert_eq!(l.stops().collect::<Vec<_>>(), [(TaskId(1), token(1))]);
        l.end(TaskId(1), token(1));
        assert_eq!((l.stops().count(), l.ready(), l.len()), (0, 0, 0));
    }

    #[test]
    fn a_lost_worker_loses_all() {
        let mut l = Leases::default();
        for id in [3, 1, 2] {
            l.give(assign(id, 1), ());
        }
        fetched(&mut l, 0);
        let lost: Vec<u64> = l.lose().iter().map(|h| h.assign.task.id.0).collect();
        assert_eq!((lost, l.ready(), l.len()), (vec![1, 2, 3], 0, 0));
        assert_eq!(fetched(&mut l, 0), None);
    }
}
