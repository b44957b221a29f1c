//! The room of dispatch, and those that learn and foresee: what `dispatch/actor.rs`, `predict/actor.rs`,
//! `predict/objects/actor.rs`, `monitor/actor.rs` and `worker/roster_actor.rs` do.

use super::house::House;
use super::letter::{
    Letter, ToCache, ToDispatch, ToMonitor, ToObjects, ToPredict, ToPrefetch, ToRoster, ToWorker,
};
use super::world::World;
use crate::dispatch::{Action, Step};
use crate::flow::{CacheId, Standings, WorkerId};
use crate::message::{Assign, Expect, Foreseen, Lesson};
use crate::monitor::Transfer;
use crate::time::Span;
use std::collections::BTreeSet;
use std::sync::Arc;

impl<W: World> House<W> {
    pub(super) fn at_dispatch(&mut self, m: ToDispatch) {
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

    /// Orders go out as they come; what others only hear of goes out at the end, in one letter each.
    fn carry_out(&mut self, step: Step) {
        let (mut arrived, mut lessons, mut decisions) = (vec![], vec![], vec![]);
        for action in step.actions {
            match action {
                Action::Assign { worker, task, token, factors } => {
                    let assign = Assign { task, token, at: self.now, factors, slot: 0 };
                    self.arbiter.post(Letter::Worker(worker, ToWorker::Assign(assign)));
                }
                Action::Stop { worker, task, token } => {
                    self.arbiter.post(Letter::Worker(worker, ToWorker::Stop(task, token)));
                }
                Action::Arrived(a) => arrived.push(a),
                Action::Writing(w) => self.arbiter.post(Letter::Prefetch(ToPrefetch::Writing(w))),
                Action::Learn { outcome, seq } => {
                    if seq.is_some() {
                        self.tally.ended(&outcome);
                    }
                    lessons.push(Lesson { outcome, seq });
                }
                Action::Settled { .. } => {}
                Action::Decided(decision) => decisions.push(decision),
            }
        }
        if !arrived.is_empty() {
            self.arbiter.post(Letter::Prefetch(ToPrefetch::Arrived(arrived.clone())));
            self.arbiter.post(Letter::Predict(ToPredict::Arrived(arrived)));
        }
        if !lessons.is_empty() {
            let ran: BTreeSet<WorkerId> = lessons.iter().map(|l| l.outcome.worker).collect();
            let lessons = Arc::new(lessons);
            for worker in ran {
                self.arbiter.post(Letter::Worker(worker, ToWorker::Learned(lessons.clone())));
            }
            self.arbiter.post(Letter::Predict(ToPredict::Learned(lessons.clone())));
            self.arbiter.post(Letter::Prefetch(ToPrefetch::Learned(lessons.clone())));
            self.arbiter.post(Letter::Monitor(ToMonitor::Learned(lessons)));
        }
        self.log.extend(decisions);
    }

    pub(super) fn at_predict(&mut self, m: ToPredict) {
        let mut moved: BTreeSet<Arc<str>> = BTreeSet::new();
        match m {
            ToPredict::Arrived(arrived) => {
                for a in &arrived {
                    self.predict.arrived(a);
                    moved.extend(a.entity.clone());
                }
            }
            ToPredict::Learned(lessons) => {
                for Lesson { outcome, seq } in lessons.iter() {
                    let Some(seq) = seq else { continue };
                    self.predict.learn(*seq, outcome);
                    moved.extend(outcome.entity.clone());
                }
            }
            ToPredict::Heated(heat) => self.predict.heated(heat),
            ToPredict::Stand(standings) => self.predict.stand(standings),
        }
        moved.iter().for_each(|entity| self.foresee(entity));
    }

    fn foresee(&mut self, entity: &Arc<str>) {
        let foreseen = Foreseen {
            entity: entity.clone(),
            expected: self.predict.expected(entity, self.now),
            objects: self.predict.expected_objects(entity, self.now),
        };
        self.arbiter.post(Letter::Prefetch(ToPrefetch::Foreseen(foreseen)));
    }

    pub(super) fn at_objects(&mut self, m: ToObjects) {
        match m {
            ToObjects::Unforeseen(u) => {
                let (expect, proposed) = self.histories[usize::from(u.cache.0)].asked(&u, self.now);
                self.expect(u.cache, expect);
                if !proposed.objects.is_empty() || !proposed.withdrawn.is_empty() {
                    self.arbiter.post(Letter::Prefetch(ToPrefetch::Proposed(proposed)));
                }
            }
            ToObjects::Declined(d) => {
                let history = &mut self.histories[usize::from(d.cache.0)];
                d.objects.iter().for_each(|object| history.declined(object));
            }
            ToObjects::Cached(c) => {
                self.histories[usize::from(c.cache.0)].cached(&c.object, c.bytes, c.there);
            }
            ToObjects::Filled(cache, fill) => self.histories[usize::from(cache.0)].filled(fill),
        }
    }

    /// Tells a cache what is expected; its answer comes back behind what was told before it.
    pub(super) fn expect(&mut self, cache: CacheId, expect: Expect) {
        let courier = self.arbiter.hire_courier();
        self.post_cache(cache, ToCache::Expect { courier, expect });
        self.arbiter.courier_waits(courier);
    }

    pub(super) fn at_monitor(&mut self, m: ToMonitor) {
        match m {
            // The attempts of a replay are not sampled: what they used is known at their end.
            ToMonitor::Learned(lessons) => {
                lessons.iter().for_each(|l| self.monitor.outcome(&l.outcome, None));
            }
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

    pub(super) fn at_roster(&mut self, m: ToRoster) {
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
