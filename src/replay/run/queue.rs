//! The room of dispatch, and those that learn and foresee: what `dispatch/actor.rs`, `predict/actor.rs`,
//! `monitor/actor.rs` and `worker/roster_actor.rs` do.

use super::house::House;
use super::letter::{Letter, ToDispatch, ToMonitor, ToPredict, ToPrefetch, ToRoster, ToWorker};
use super::world::World;
use crate::dispatch::{Action, Step};
use crate::flow::Standings;
use crate::message::{Assign, Foreseen};
use crate::monitor::Transfer;
use crate::time::Span;
use std::sync::Arc;

impl<W: World> House<W> {
    pub(super) fn to_dispatch(&mut self, m: ToDispatch) {
        match m {
            ToDispatch::Submit(submits) => {
                let (answers, step) = self.dispatch.submit(self.now, submits);
                self.refused += answers.iter().filter(|a| a.is_err()).count() as u64;
                self.carry_out(step);
            }
            ToDispatch::Ended(outcome) => {
                let outcome = Arc::new(outcome);
                if let Some(step) = self.dispatch.ended(self.now, outcome) {
                    self.carry_out(step);
                }
            }
            ToDispatch::Cached(c) if c.there => self.dispatch.cached(c.cache, &c.object),
            ToDispatch::Cached(c) => self.dispatch.evicted(c.cache, &c.object),
            ToDispatch::Heated(heat) => self.dispatch.heated(heat),
            ToDispatch::Stand(standings) => self.dispatch.stand(standings),
            ToDispatch::Tick => {
                let step = self.dispatch.tick(self.now);
                let plan = self.dispatch.plan(self.now).map(|p| Letter::Prefetch(ToPrefetch::Plan(p)));
                // A plan is a fact and does not wait for the record, as a step with changes does.
                let plan_first = !step.changes.is_empty();
                match plan {
                    Some(plan) if plan_first => {
                        self.arbiter.post(plan);
                        self.carry_out(step);
                    }
                    plan => {
                        self.carry_out(step);
                        plan.into_iter().for_each(|p| self.arbiter.post(p));
                    }
                }
            }
        }
    }

    fn carry_out(&mut self, step: Step) {
        for action in step.actions {
            match action {
                Action::Assign { worker, task, token, factors } => {
                    let assign = Assign { task, token, at: self.now, factors, slot: 0 };
                    self.arbiter.post(Letter::Worker(worker, ToWorker::Assign(assign)));
                }
                Action::Stop { worker, task, token } => {
                    self.arbiter.post(Letter::Worker(worker, ToWorker::Stop(task, token)));
                }
                Action::Arrived(a) => self.arbiter.post(Letter::Predict(ToPredict::Arrived(a))),
                Action::Writing(w) => self.arbiter.post(Letter::Prefetch(ToPrefetch::Writing(w))),
                Action::Learn { outcome, seq } => {
                    if seq.is_some() {
                        self.tally.ended(&outcome);
                    }
                    let learned = ToWorker::Learned(outcome.clone());
                    self.arbiter.post(Letter::Worker(outcome.worker, learned));
                    self.arbiter.post(Letter::Predict(ToPredict::Learned(outcome.clone(), seq)));
                    self.arbiter.post(Letter::Prefetch(ToPrefetch::Learned(outcome.clone())));
                    self.arbiter.post(Letter::Monitor(ToMonitor::Learned(outcome)));
                }
                Action::Settled { .. } => {}
                Action::Decided(decision) => self.log.push(decision),
            }
        }
    }

    pub(super) fn to_predict(&mut self, m: ToPredict) {
        match m {
            ToPredict::Arrived(a) => {
                self.predict.arrived(&a);
                self.foresee(a.entity.as_ref());
            }
            ToPredict::Learned(outcome, Some(seq)) => {
                self.predict.learn(seq, &outcome);
                self.foresee(outcome.entity.as_ref());
            }
            ToPredict::Learned(_, None) => {}
            ToPredict::Heated(heat) => self.predict.heated(heat),
            ToPredict::Stand(standings) => self.predict.stand(standings),
        }
    }

    fn foresee(&mut self, entity: Option<&Arc<str>>) {
        let Some(entity) = entity else { return };
        let foreseen = Foreseen {
            entity: entity.clone(),
            expected: self.predict.expected(entity, self.now),
            objects: self.predict.expected_objects(entity, self.now),
        };
        self.arbiter.post(Letter::Prefetch(ToPrefetch::Foreseen(foreseen)));
    }

    pub(super) fn to_monitor(&mut self, m: ToMonitor) {
        match m {
            // The attempts of a replay are not sampled: what they used is known at their end.
            ToMonitor::Learned(outcome) => self.monitor.outcome(&outcome, None),
            ToMonitor::Transferred(t) => self.monitor.transfer(&Transfer {
                source: t.source,
                place: t.place,
                bytes: t.bytes,
                started: t.started,
                ended: t.ended,
                first_byte: t.first_byte,
                failed: t.first_byte.is_none(),
            }),
            ToMonitor::Tick => {
                let sample = self.world.sample(self.now);
                self.monitor.host(self.now, sample);
                self.monitor.round(self.now, Span::ZERO);
                let heat = self.monitor.heat(self.now);
                self.arbiter.post(Letter::Dispatch(ToDispatch::Heated(heat.clone())));
                self.arbiter.post(Letter::Predict(ToPredict::Heated(heat.clone())));
                self.arbiter.post(Letter::Prefetch(ToPrefetch::Heated(heat)));
            }
        }
    }

    pub(super) fn to_roster(&mut self, m: ToRoster) {
        match m {
            ToRoster::Profiled(p) => {
                self.roster_changed = true;
                if let Some(standings) = self.roster.profiled(p.worker, p.task_type, p.figures) {
                    self.tell_standings(standings);
                }
            }
            ToRoster::Tick => {
                if std::mem::take(&mut self.roster_changed) {
                    let all: Vec<Standings> = self.roster.all().collect();
                    all.into_iter().for_each(|s| self.tell_standings(s));
                }
            }
        }
    }

    fn tell_standings(&mut self, standings: Standings) {
        self.arbiter.post(Letter::Dispatch(ToDispatch::Stand(standings.clone())));
        self.arbiter.post(Letter::Predict(ToPredict::Stand(standings)));
    }
}
