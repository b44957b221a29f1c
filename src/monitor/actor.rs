//! The actor that owns the monitor.
//!
//! - **Told by** workers ([`Began`]), the prefetcher ([`Transferred`]), dispatch ([`Learned`], [`Plan`]), the
//!   predictor ([`Foreseen`]), the pump of occupancy ([`Occupied`]), and by its own sampling rounds.
//! - **Tells** dispatch, predictor and prefetcher the [`Heat`], once a round.
//! - Sampling reads files: it runs on the blocking pool, and its cost is measured and limited.
//! - **After it stops**: the series on disk end with the last block that was kept.

use super::sample::{Sampler, thread_cpu};
use super::{
    Ahead, Capacity, GroupSample, HostSample, Monitor, Occupancy, Running, Saved, Transfer, WorkerInfo,
};
use crate::flow::{Heat, Map, Place, Plan, SourceId, TaskId};
use crate::message::{Attached, Began, Fact, Foreseen, Learned, RoundTrip, Transferred};
use crate::slow::Slow;
use crate::task::{Catalogue, Places, derived_inputs};
use crate::time::{Clock, Span, Time};
use actix::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Messages that may wait.
const MAILBOX: usize = 16_384;
/// How often changed series go to their keeper.
const KEEP_EVERY: Span = Span::from_secs(60);

/// Keeps series on disk: blocks that changed and names that expired; must not block.
pub type SeriesKeeper = Box<dyn FnMut(Vec<(String, Vec<u8>)>, Vec<String>)>;

/// A source was asked and answered after this long, or did not answer.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct Probed(pub SourceId, pub Option<Span>);

/// What waits for shards and moves out of them now (shards that are not named have nothing), and what staging
/// has saved so far.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct Occupied(pub Vec<(Place, Occupancy)>, pub Saved);

/// A question to the monitor, with the time of asking.
pub type Question = Box<dyn FnOnce(&Monitor, Time) + Send>;

/// Look at the monitor, for those who show it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Look(pub Question);

/// Hand all changed series to their keeper.
#[derive(Message)]
#[rtype(result = "()")]
pub struct KeepSeries;

/// What one round read.
pub struct Round {
    /// The host's counters.
    pub host: Result<HostSample, super::sample::Error>,
    /// What process groups have used, by their numbers.
    pub groups: BTreeMap<u32, GroupSample>,
    /// Processor time that it took.
    pub cost: Span,
}

/// Who reads counters: the kernel's, or in a rehearsal the world's.
pub trait Counters: Send {
    /// Reads the host's counters, and those of these process groups.
    fn read(&mut self, groups: &[u32]) -> Round;
}

impl Counters for Sampler {
    fn read(&mut self, groups: &[u32]) -> Round {
        let before = thread_cpu();
        let host = self.host();
        let groups = self.groups(groups);
        let cost = Span::from_us(thread_cpu().as_us().saturating_sub(before.as_us()));
        Round { host, groups, cost }
    }
}

/// The actor.
pub struct MonitorActor {
    core: Monitor,
    clock: Clock,
    /// With its round while there is one.
    counters: Option<Box<dyn Counters>>,
    slow: Slow,
    told: Vec<Recipient<Fact<Heat>>>,
    keeper: SeriesKeeper,
    catalogue: Arc<Catalogue>,
    objects: Arc<Places>,
    /// What the last round cost after its files were read: it counts in the next one.
    own: Span,
    groups: BTreeMap<TaskId, u32>,
    places: Map<TaskId, Option<Place>>,
    kept: Time,
    warned: bool,
}

impl MonitorActor {
    /// `told` hear the heat; series that were on disk are in the core already. Task types and places tell where
    /// the load of a forecast falls.
    pub fn new(
        core: Monitor,
        clock: Clock,
        counters: Box<dyn Counters>,
        told: Vec<Recipient<Fact<Heat>>>,
        keeper: SeriesKeeper,
        (catalogue, objects): (Arc<Catalogue>, Arc<Places>),
        slow: Slow,
    ) -> MonitorActor {
        MonitorActor {
            core,
            clock,
            counters: Some(counters),
            slow,
            told,
            keeper,
            catalogue,
            objects,
            own: Span::ZERO,
            groups: BTreeMap::new(),
            places: Map::default(),
            kept: clock.now(),
            warned: false,
        }
    }

    fn sample(&mut self, ctx: &mut Context<Self>) {
        let Some(mut counters) = self.counters.take() else { return };
        let groups: Vec<u32> = self.groups.values().copied().collect();
        let read = self.slow.run(move || {
            let round = counters.read(&groups);
            (counters, round)
        });
        ctx.spawn(read.into_actor(self).map(|read, actor, ctx| {
            let next = match read {
                Ok((counters, round)) => {
                    actor.counters = Some(counters);
                    actor.take(round)
                }
                Err(error) => {
                    tracing::error!(%error, "a sampling round panicked");
                    actor.counters = Some(Box::new(Sampler::default()));
                    actor.core.settings().interval
                }
            };
            ctx.run_later(next.to_std(), |actor, ctx| actor.sample(ctx));
        }));
    }

    fn take(&mut self, round: Round) -> Span {
        let before = thread_cpu();
        let now = self.clock.now();
        match round.host {
            Ok(sample) => self.core.host(now, sample),
            Err(error) if !self.warned => {
                self.warned = true;
                tracing::warn!(%error, "the host cannot be sampled; its figures stay empty");
            }
            Err(_) => {}
        }
        for (task, group) in &self.groups {
            if let Some(sample) = round.groups.get(group) {
                self.core.children(now, *task, *sample);
            }
        }
        let next = self.core.round(now, round.cost + self.own);
        let heat = self.core.heat(now);
        for p in &self.told {
            // Who has no room gets the next one, which replaces this one.
            let _ = p.try_send(Fact(heat.clone()));
        }
        if now.since(self.kept) >= KEEP_EVERY {
            self.keep();
        }
        self.own = Span::from_us(thread_cpu().as_us().saturating_sub(before.as_us()));
        next
    }

    fn keep(&mut self) {
        self.kept = self.clock.now();
        (self.keeper)(self.core.changed(), self.core.expired());
    }
}

impl Actor for MonitorActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.sample(ctx);
    }
}

impl Handler<Began> for MonitorActor {
    type Result = ();
    fn handle(&mut self, msg: Began, _: &mut Context<Self>) {
        if let Some(group) = msg.group.and_then(|g| u32::try_from(g).ok()) {
            self.groups.insert(msg.task, group);
        }
        self.places.insert(msg.task, msg.place);
        let expected = self.core.usual(msg.task_type);
        let (task, token, worker, place, started) = (msg.task, msg.token, msg.worker, msg.place, msg.started);
        self.core.running(Running { task, token, worker, place, started, expected });
    }
}

impl Handler<Learned> for MonitorActor {
    type Result = ();
    fn handle(&mut self, msg: Learned, _: &mut Context<Self>) {
        for lesson in msg.0.iter() {
            let outcome = &lesson.outcome;
            self.groups.remove(&outcome.task);
            let place = self.places.remove(&outcome.task).flatten();
            self.core.outcome(outcome, place);
        }
    }
}

impl Handler<Fact<Attached>> for MonitorActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Attached>, _: &mut Context<Self>) {
        let capacity = Capacity::default();
        let info = WorkerInfo { name: msg.0.name.to_string(), capacity, on_host: false, near: vec![] };
        self.core.attach(msg.0.worker, info);
    }
}

impl Handler<Fact<RoundTrip>> for MonitorActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<RoundTrip>, _: &mut Context<Self>) {
        let RoundTrip(worker, took) = msg.0;
        self.core.heartbeat(self.clock.now(), worker, took);
    }
}

impl Handler<Transferred> for MonitorActor {
    type Result = ();
    fn handle(&mut self, msg: Transferred, _: &mut Context<Self>) {
        let Transferred { source, place, bytes, started, ended, first_byte } = msg;
        let failed = first_byte.is_none();
        self.core.transfer(&Transfer { source, place, bytes, started, ended, first_byte, failed });
    }
}

impl Handler<Fact<Plan>> for MonitorActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Plan>, _: &mut Context<Self>) {
        let ahead = msg.0.next.iter().chain(&msg.0.later).map(|t| Ahead {
            task_type: t.task_type,
            worker: Some(t.worker),
            place: t.inputs.first().and_then(|o| self.objects.of(o)),
            due: t.due,
            p: 1.0,
        });
        let homes = msg.0.homes.iter().map(|(task_type, worker, _)| (*task_type, *worker)).collect();
        self.core.planned(ahead.collect(), homes);
    }
}

impl Handler<Fact<Foreseen>> for MonitorActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Foreseen>, _: &mut Context<Self>) {
        let place = |e: &crate::flow::Expected| {
            let inputs = derived_inputs(self.catalogue.get(e.task_type), &e.entity, &self.objects);
            inputs.first().and_then(|o| self.objects.of(o))
        };
        let ahead = |e: &crate::flow::Expected| Ahead {
            task_type: e.task_type,
            worker: None,
            place: place(e),
            due: e.due,
            p: e.p,
        };
        let ahead = msg.0.expected.iter().map(ahead).collect();
        self.core.foreseen(self.clock.now(), &msg.0.entity, ahead);
    }
}

impl Handler<Occupied> for MonitorActor {
    type Result = ();
    fn handle(&mut self, msg: Occupied, _: &mut Context<Self>) {
        self.core.occupied(&msg.0);
        self.core.saved(msg.1);
    }
}

impl Handler<Probed> for MonitorActor {
    type Result = ();
    fn handle(&mut self, msg: Probed, _: &mut Context<Self>) {
        self.core.probe(self.clock.now(), msg.0, msg.1);
    }
}

impl Handler<KeepSeries> for MonitorActor {
    type Result = ();
    fn handle(&mut self, _: KeepSeries, _: &mut Context<Self>) {
        self.keep();
    }
}

impl Handler<Look> for MonitorActor {
    type Result = ();
    fn handle(&mut self, msg: Look, _: &mut Context<Self>) {
        (msg.0)(&self.core, self.clock.now());
    }
}

/// Asks the monitor something, from elsewhere.
///
/// # Errors
/// If the actor is gone.
pub async fn look<R: Send + 'static>(
    monitor: &Addr<MonitorActor>,
    ask: impl FnOnce(&Monitor, Time) -> R + Send + 'static,
) -> Result<R, MailboxError> {
    let (tx, rx) = oneshot::channel();
    monitor.send(Look(Box::new(move |core, now| _ = tx.send(ask(core, now))))).await?;
    rx.await.map_err(|_| MailboxError::Closed)
}
