//! Outside workers, as dispatch sees them: programs of their own that come, ask for work, and go.
//!
//! An outside worker gets no more attempts than it has asked for and not more at once than it said it can hold.
//! What it did and what it asks for arrive together ([`Turn`]), so that both are one group of the record, and
//! what that step gives it is the reply. What it is given later comes as [`Give`].

use super::actor::{DispatchActor, WorkerPeer};
use super::core::Dispatch;
use super::step::{Action, Step};
use super::{NotPossible, WorkerSpec};
use crate::flow::{CacheId, Decided, Decision, Ending, Outcome, WorkerId};
use crate::message::{Assign, Give, Learned, Released, Stop, Turn};
use crate::time::Time;
use actix::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::oneshot;

/// An outside worker is there; or, with no slots, it is away.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Attach {
    /// The worker.
    pub spec: WorkerSpec,
    /// Its actor.
    pub peer: OutsidePeer,
}

/// The actor of an outside worker.
#[derive(Clone)]
pub struct OutsidePeer {
    /// Takes attempts.
    pub give: Recipient<Give>,
    /// Ends one.
    pub stop: Recipient<Stop>,
    /// Learns from its own.
    pub learned: Recipient<Learned>,
}

impl Dispatch {
    /// A worker came, came back with other limits, or went away (no slots: it then runs no type).
    pub fn attach(&mut self, mut spec: WorkerSpec) {
        if spec.slots == 0 {
            spec.types = Some(Vec::new());
        }
        let w = usize::from(spec.id.0);
        while self.workers.len() <= w {
            let id = WorkerId(self.workers.len() as u16);
            self.workers.push(away(id));
        }
        let n = self.workers.len();
        self.best_at.resize(n, Vec::new());
        self.best_speed.resize(n, 1.0);
        self.homes.changed(spec.id);
        self.standings.resize(n, Default::default());
        self.held.resize(n, BTreeSet::new());
        self.admission.attach(&spec);
        self.workers[w] = spec;
        self.plan_dirty = true;
    }

    /// All workers, outside ones and those that are away included.
    pub fn specs(&self) -> &[WorkerSpec] {
        &self.workers
    }

    /// What an outside worker did and asks for. Ends whose token is not the current one change nothing.
    pub fn turn(
        &mut self,
        now: Time,
        worker: WorkerId,
        ended: Vec<Arc<Outcome>>,
        released: Vec<Released>,
        asks: i64,
    ) -> Step {
        let mut step = Step::default();
        for outcome in ended {
            self.end_attempt(now, outcome, &mut step);
        }
        for r in released {
            // A lease that does not fit is somebody else's by now.
            let _ = self.release(now, r, &mut step);
        }
        self.admission.ask(worker, asks);
        self.place_all(now, &mut step);
        step
    }

    /// Takes an attempt back undone. It is no failure and does not count as a try.
    fn release(&mut self, now: Time, r: Released, step: &mut Step) -> Result<(), NotPossible> {
        let id = r.task;
        let entry = self.tasks.get_mut(&id).ok_or(NotPossible::Unknown { task: id })?;
        let lease = entry.lease.take_if(|l| l.fits(r.token)).ok_or(NotPossible::Unknown { task: id })?;
        let task = entry.task.clone();
        let (attempt, not_before) = (r.token.attempt, r.not_before);
        entry.life.forgive();
        self.admission.give_back(&lease.claim);
        self.held[usize::from(lease.worker.0)].remove(&id);
        self.groups.ended(entry.group);
        let ending = if lease.cancelled { Ending::Cancelled } else { Ending::Released };
        let again = !lease.cancelled;
        step.actions.push(Action::Decided(Decision {
            at: now,
            what: Decided::Ended { task: id, attempt, ending: ending.clone(), again },
        }));
        if !task.writes.is_empty() {
            let objects = task.writes.clone();
            let writing = crate::flow::Writing { task: id, objects, begins: false, published: vec![] };
            step.actions.push(Action::Writing(writing));
        }
        if again {
            self.again(now, id, not_before.max(now), ending, step);
        } else {
            self.finish(now, id, crate::task::State::Cancelled, ending, None, step);
        }
        Ok(())
    }
}

/// The place of a worker that is not there.
fn away(id: WorkerId) -> WorkerSpec {
    WorkerSpec {
        id,
        name: String::new(),
        slots: 0,
        outside: true,
        types: Some(Vec::new()),
        cache: CacheId(0),
        near: Vec::new(),
        memory_bytes: None,
    }
}

impl Handler<Attach> for DispatchActor {
    type Result = ();
    fn handle(&mut self, msg: Attach, _: &mut Context<Self>) {
        let w = usize::from(msg.spec.id.0);
        let workers = &mut self.peers.workers;
        workers.resize_with(workers.len().max(w + 1), || WorkerPeer::Away);
        workers[w] = WorkerPeer::Outside(msg.peer);
        self.core.attach(msg.spec);
    }
}

impl Handler<Turn> for DispatchActor {
    type Result = ResponseFuture<Vec<Assign>>;
    fn handle(&mut self, msg: Turn, ctx: &mut Context<Self>) -> Self::Result {
        let now = self.clock.now();
        let mut step = self.core.turn(now, msg.worker, msg.ended, msg.released, msg.asks);
        let mut given = Vec::new();
        step.actions.retain_mut(|action| match action {
            Action::Assign { worker, task, token, factors } if *worker == msg.worker => {
                let (token, factors) = (*token, *factors);
                given.push(Assign { task: task.clone(), token, at: now, factors, slot: 0 });
                false
            }
            _ => true,
        });
        let (tx, rx) = oneshot::channel();
        self.step_for(step, Some(Box::new(move || _ = tx.send(given))), true, ctx);
        // The sender is dropped unused only when the record failed, and then the process ends.
        Box::pin(async move { rx.await.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::step::Change;
    use super::super::{Policy, Settings};
    use super::*;
    use crate::flow::{TaskId, Token};
    use crate::task::{Catalogue, Submit, sample_places, sample_type};
    use crate::time::Span;

    fn spec(slots: u32) -> WorkerSpec {
        WorkerSpec { name: "far".into(), slots, types: None, ..away(WorkerId(0)) }
    }

    fn dispatch(tasks: usize) -> Dispatch {
        let mut plain = sample_type("plain");
        (plain.inputs, plain.outputs, plain.writes, plain.attempts) = (vec![], vec![], vec![], 1);
        let catalogue = Arc::new(Catalogue::new(vec![plain]));
        let settings = Settings { policy: Policy::Fifo, ..Settings::default() };
        let mut d = Dispatch::new(settings, catalogue, Arc::new(sample_places()), vec![], 7);
        let one = Submit { task_type: "plain".into(), entity: Some("e".into()), ..Submit::default() };
        d.submit(at(0), vec![one; tasks]);
        d
    }

    fn at(ms: u64) -> Time {
        Time::from_us(1_000_000 + ms * 1_000)
    }

    fn given(step: &Step) -> Vec<(u64, u32)> {
        let of = |a: &Action| match a {
            Action::Assign { task, token, .. } => Some((task.id.0, token.attempt)),
            _ => None,
        };
        step.actions.iter().filter_map(of).collect()
    }

    #[test]
    fn an_outside_worker_gets_what_it_asked_for_and_no_more_than_it_holds() {
        let mut d = dispatch(10);
        d.attach(spec(3));
        assert_eq!(given(&d.tick(at(1))), [], "it has asked for nothing");
        assert_eq!(given(&d.turn(at(1), WorkerId(0), vec![], vec![], 2)), [(1, 1), (2, 1)]);
        assert_eq!(given(&d.tick(at(2))), [], "what it asked for it has");
        assert_eq!(given(&d.turn(at(2), WorkerId(0), vec![], vec![], 5)), [(3, 1)], "it holds three");
        d.turn(at(2), WorkerId(0), vec![], vec![], -4);
        let back = Released { task: TaskId(1), token: Token { epoch: 7, attempt: 1 }, not_before: at(3) };
        assert_eq!(given(&d.turn(at(2), WorkerId(0), vec![], vec![back], 0)), [], "it asks for none now");
    }

    #[test]
    fn a_released_task_comes_again_after_its_delay_and_has_lost_no_try() {
        let mut d = dispatch(1);
        d.attach(spec(1));
        for attempt in 1..=5 {
            let now = at(u64::from(attempt) * 100);
            assert_eq!(given(&d.turn(now, WorkerId(0), vec![], vec![], 1)), [(1, attempt)]);
            let token = Token { epoch: 7, attempt };
            let back = Released { task: TaskId(1), token, not_before: now + Span::from_ms(50) };
            let step = d.turn(now, WorkerId(0), vec![], vec![back], 0);
            assert!(matches!(&step.changes[..], [Change::Again { ending: Ending::Released, .. }]));
            let late = d.turn(now, WorkerId(0), vec![], vec![back], 0);
            assert_eq!(late, Step::default(), "a second release of one attempt changes nothing");
            d.tick(now + Span::from_ms(60));
        }
    }

    #[test]
    fn a_worker_that_is_away_runs_nothing() {
        let mut d = dispatch(1);
        d.attach(spec(1));
        d.attach(WorkerSpec { slots: 0, ..spec(0) });
        assert_eq!(given(&d.turn(at(1), WorkerId(0), vec![], vec![], 1)), []);
        let why = d.why(at(1), TaskId(1), false).unwrap();
        assert_eq!(why.waiting_for, Some(crate::task::WaitingFor::Worker));
    }
}
