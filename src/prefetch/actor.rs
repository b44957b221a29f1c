//! The actor that owns transfers and the agenda.
//!
//! - **Told by** workers ([`Demand`], [`Publish`]), dispatch ([`Arrived`], [`Plan`], [`Writing`]), the predictor
//!   ([`Foreseen`]), caches ([`Cached`]), the monitor ([`Heat`]), those who learn ([`Learned`]), people
//!   ([`Stage`]).
//! - **Asks** caches for room ([`Reserve`](crate::message::Reserve), [`Commit`](crate::message::Commit)); everything that waits runs in futures of its own
//!   (`carry.rs`, `demand.rs`), so one slow source holds up nobody else.
//! - **Tells** caches what the forecast needs ([`Rank`]), the monitor what was transferred, the diary.
//! - **After it stops**: transfers end; their beginnings stay in the pools' `tmp/` and are gone on with.

use super::agenda::{self, Agenda};
use super::carry::{Carrier, Flown};
use super::demand::{self, Landing};
use super::flights::{self, Answer, Class, FlightId, Flights, Key, Waiter, Want};
use super::source::Source;
use super::transfer::{Handle, Lane};
use crate::flow::{Arrived, CacheId, Decision, Heat, Map, ObjectName, Plan, SourceId, WorkerId, Writing};
use crate::message::{
    Attached, Cached, Declined, Demand, Discard, Fact, Foreseen, Learned, NotReady, Publish, Rank, Ready,
    Transferred, Unforeseen, Unpin,
};
use crate::task::{Catalogue, Places};
use crate::time::{Clock, Span, Time};
use actix::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::oneshot;

/// How often the agenda looks at the time.
const TICK: Span = Span::from_ms(20);
/// Messages that may wait.
const MAILBOX: usize = 16_384;

/// A user wants an object in a pool now; answered when it is there, with its size.
#[derive(Message, Clone, Debug)]
#[rtype(result = "Result<u64, String>")]
pub struct Stage {
    /// The pool.
    pub cache: CacheId,
    /// The object.
    pub object: ObjectName,
}

/// A question to the agenda, with the time of asking.
pub type Question = Box<dyn FnOnce(&Agenda, &Flights, Time) + Send>;

/// Look at the agenda and the transfers, for those who show them.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Look(pub Question);

/// Whom and what the actor needs; wired once.
pub struct Peers {
    /// Sources, by index.
    pub sources: Vec<Arc<Source>>,
    /// Pools, by index.
    pub caches: Vec<super::carry::Pool>,
    /// Task types.
    pub catalogue: Arc<Catalogue>,
    /// From objects to sources, cells and shards.
    pub places: Arc<Places>,
    /// Each worker's pool, by worker index.
    pub worker_caches: Vec<CacheId>,
    /// Files that no pool has room for go here, until their task has them.
    pub private: PathBuf,
    /// Who watches the network.
    pub monitor: Recipient<Transferred>,
    /// The diary.
    pub decisions: Recipient<Fact<Decision>>,
    /// Who learns from what no template names.
    pub unforeseen: Recipient<Fact<Unforeseen>>,
    /// The same: its proposals that were not carried out.
    pub declined: Recipient<Fact<Declined>>,
}

/// The actor.
pub struct PrefetchActor {
    pub(super) peers: Arc<Peers>,
    pub(super) clock: Clock,
    pub(super) flights: Flights,
    pub(super) agenda: Agenda,
    lanes: Vec<Arc<Lane>>,
    handles: Map<FlightId, Handle>,
    waiting: Map<Waiter, oneshot::Sender<Landing>>,
    /// Staging wants of the agenda: who is told by the answer.
    staging: Map<Waiter, Key>,
    by_key: Map<Key, Waiter>,
    landed: Map<Key, Landing>,
    writers: Map<ObjectName, u32>,
    /// Where a task of each type would run.
    homes: Map<crate::flow::TypeId, (WorkerId, CacheId)>,
    /// Pools of workers that came later.
    attached: Map<WorkerId, CacheId>,
    next_waiter: u64,
}

impl PrefetchActor {
    /// With announced sources and an empty table of transfers.
    pub fn new(peers: Peers, clock: Clock, mut flights: Flights, agenda: Agenda) -> PrefetchActor {
        let lanes =
            peers.sources.iter().map(|s| Arc::new(Lane::new(s.settings().bytes_per_s, clock))).collect();
        let mut actions = Vec::new();
        for (i, s) in peers.sources.iter().enumerate() {
            let limits = flights::SourceLimits {
                connections: s.settings().connections,
                bytes_per_s: s.settings().bytes_per_s.map(|b| b as f64),
                retry: flights::Retry::default(),
            };
            flights.set_source(SourceId(i as u16), limits, clock.now(), &mut actions);
        }
        PrefetchActor {
            peers: Arc::new(peers),
            clock,
            flights,
            agenda,
            lanes,
            handles: Map::default(),
            waiting: Map::default(),
            staging: Map::default(),
            by_key: Map::default(),
            landed: Map::default(),
            writers: Map::default(),
            homes: Map::default(),
            attached: Map::default(),
            next_waiter: 1,
        }
    }

    /// A worker's pool.
    fn cache_of(&self, worker: WorkerId) -> CacheId {
        let configured = self.peers.worker_caches.get(usize::from(worker.0));
        configured.or_else(|| self.attached.get(&worker)).copied().unwrap_or(CacheId(0))
    }

    fn waiter(&mut self) -> Waiter {
        self.next_waiter += 1;
        Waiter(self.next_waiter)
    }

    /// Whether a task that has not ended writes the object.
    pub(super) fn is_written(&self, object: &ObjectName) -> bool {
        self.writers.contains_key(object)
    }

    /// A task wants an object in a pool: joins what flies or makes it fly. The receiver hears of its end.
    pub(super) fn want(
        &mut self,
        key: Key,
        due: Time,
        ctx: &mut Context<Self>,
    ) -> Result<(Waiter, oneshot::Receiver<Landing>), String> {
        let source = self
            .peers
            .places
            .source(&key.object)
            .ok_or_else(|| format!("{} has no known source", key.object))?;
        let waiter = self.waiter();
        let (tx, rx) = oneshot::channel();
        self.waiting.insert(waiter, tx);
        let bytes = self.agenda.sizes().known(&key.object);
        let want = Want { waiter, key, source, class: Class::Demand, due, bytes };
        let mut out = Vec::new();
        self.flights.want(want, self.clock.now(), &mut out);
        self.carry_out(out, ctx);
        Ok((waiter, rx))
    }

    fn cancel(&mut self, waiter: Waiter, ctx: &mut Context<Self>) {
        let mut out = Vec::new();
        self.flights.cancel(waiter, self.clock.now(), &mut out);
        self.carry_out(out, ctx);
    }

    fn carry_out(&mut self, actions: Vec<flights::Action>, ctx: &mut Context<Self>) {
        for action in actions {
            match action {
                flights::Action::Start { flight, key, source, class, connections, .. } => {
                    self.start(flight, key, source, class, connections, ctx);
                }
                flights::Action::SetClass { flight, class } => {
                    if let Some(handle) = self.handles.get(&flight) {
                        handle.set_class(class);
                    }
                }
                flights::Action::Stop { flight } => {
                    if let Some(handle) = self.handles.get(&flight) {
                        handle.stop();
                    }
                }
                flights::Action::Rate { source, staging_bytes_per_s } => {
                    self.lanes[usize::from(source.0)].set_staging(staging_bytes_per_s);
                }
                flights::Action::Answer { waiter, key, answer } => self.answer(waiter, &key, answer, ctx),
            }
        }
    }

    fn start(
        &mut self,
        flight: FlightId,
        key: Key,
        source: SourceId,
        class: Class,
        connections: u16,
        ctx: &mut Context<Self>,
    ) {
        let handle = Handle::new(class);
        self.handles.insert(flight, handle.clone());
        let purpose = self.agenda.purpose(&key, class);
        let carrier = Carrier {
            peers: self.peers.clone(),
            lane: self.lanes[usize::from(source.0)].clone(),
            clock: self.clock,
            handle,
            flight,
            source,
            bytes: self.agenda.sizes().known(&key.object),
            guess: self.agenda.sizes().guess(&key.object),
            purpose,
            class,
            connections,
            past_the_pool: self.is_written(&key.object),
            key: key.clone(),
        };
        let (told, mut hear) = tokio::sync::mpsc::channel(8);
        // A task of its own: within the actor's context every piece of every body would poll all of them.
        let flying = tokio::task::spawn_local(carrier.fly(told));
        let flown = flying.into_actor(self).map(move |flown, actor, ctx| {
            let flown = flown.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
            actor.flown(flight, &key, flown, ctx);
        });
        ctx.spawn(flown);
        let progress = futures_util::stream::poll_fn(move |cx| hear.poll_recv(cx));
        ctx.spawn(
            progress
                .into_actor(self)
                .map(move |(done, total), actor, ctx| {
                    let mut out = Vec::new();
                    actor.flights.progress(flight, done, total, actor.clock.now(), &mut out);
                    actor.carry_out(out, ctx);
                })
                .finish(),
        );
    }

    fn flown(&mut self, flight: FlightId, key: &Key, flown: Flown, ctx: &mut Context<Self>) {
        self.handles.remove(&flight);
        if let flights::Ending::Landed { bytes, .. } = &flown.ending {
            self.agenda.measured(&key.object, *bytes);
        }
        let pinned = match &flown.landing {
            Landing::Pool(held) => Some(held.file),
            _ => None,
        };
        let private = match &flown.landing {
            Landing::Private { path, .. } => Some(path.clone()),
            _ => None,
        };
        self.landed.insert(key.clone(), flown.landing);
        let mut out = Vec::new();
        self.flights.finished(flight, flown.ending, self.clock.now(), &mut out);
        self.carry_out(out, ctx);
        self.landed.remove(key);
        if let Some(path) = private {
            // Every reader has a name of its own for it by now.
            let _ = std::fs::remove_file(path);
        }
        if let Some(file) = pinned {
            // The transfer's own pin: every waiter has its own by now, or asks for it in this order.
            let unpin = self.pool(key.pool).unpin.send(Unpin(vec![file]));
            ctx.spawn(unpin.into_actor(self).map(|_, _, _| ()));
        }
    }

    fn pool(&self, cache: CacheId) -> &super::carry::Pool {
        &self.peers.caches[usize::from(cache.0)]
    }

    /// A want has ended for one who waits.
    fn answer(&mut self, waiter: Waiter, key: &Key, answer: Answer, ctx: &mut Context<Self>) {
        if self.staging.remove(&waiter).is_some() {
            self.by_key.remove(key);
            self.agenda.staged(key, &answer, self.clock.now());
            return;
        }
        let Some(tell) = self.waiting.remove(&waiter) else { return };
        let failed = match &answer {
            Answer::Landed { .. } => None,
            Answer::Failed(error) | Answer::Refused { error, .. } => Some(error.to_string()),
            Answer::Cancelled | Answer::Full => Some("cancelled".to_owned()),
        };
        if let Some(why) = failed {
            let _ = tell.send(Landing::Failed(why));
            return;
        }
        let Answer::Landed { joined, staged, .. } = answer else { return };
        match self.landed.get(key) {
            Some(Landing::Pool(held)) => {
                let hold = self.pool(key.pool).hold.send(crate::message::Hold(held.object.clone()));
                let held = held.clone();
                ctx.spawn(hold.into_actor(self).map(move |again, _, _| {
                    // It cannot have gone: the transfer's own pin is given back after this.
                    let held = again.ok().flatten().unwrap_or(held);
                    let _ = tell.send(Landing::Pool(held).joined(joined, staged));
                }));
            }
            Some(Landing::Private { path, bytes, .. }) => {
                // Each reader gets a name of its own, so that one that ends takes nothing from another.
                let own = path.with_extension(waiter.0.to_string());
                let landing = match std::fs::hard_link(path, &own) {
                    Ok(()) => Landing::Private { path: own, bytes: *bytes, joined },
                    Err(e) => Landing::Failed(e.to_string()),
                };
                let _ = tell.send(landing);
            }
            _ => _ = tell.send(Landing::Failed("it landed nowhere".into())),
        }
    }

    /// Asks the agenda what is to be done now, and does it.
    pub(super) fn attend(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let mut wanted = Vec::new();
        self.agenda.attend(now, &mut wanted);
        for action in wanted {
            match action {
                agenda::Action::Stage { key, due } => self.stage(key, due, now, ctx),
                agenda::Action::Postpone { key, due } => {
                    if let Some(waiter) = self.by_key.get(&key).copied() {
                        let mut out = Vec::new();
                        self.flights.postpone(waiter, due, now, &mut out);
                        self.carry_out(out, ctx);
                    }
                }
                agenda::Action::CallOff { key } => {
                    if let Some(waiter) = self.by_key.get(&key).copied() {
                        self.cancel(waiter, ctx);
                    }
                }
                agenda::Action::Rank { cache, needs } => {
                    // Who has no room gets the next ranking.
                    let _ = self.pool(cache).rank.try_send(Rank(needs));
                }
                agenda::Action::Budget { bytes_per_s, connections } => {
                    let mut out = Vec::new();
                    let budget = flights::Budget { bytes_per_s, connections };
                    self.flights.set_budget(budget, now, &mut out);
                    self.carry_out(out, ctx);
                }
                agenda::Action::Decided(decision) => {
                    let _ = self.peers.decisions.try_send(Fact(decision));
                }
            }
        }
        self.tell_declined();
    }

    fn stage(&mut self, key: Key, due: Time, now: Time, ctx: &mut Context<Self>) {
        let Some(source) = self.peers.places.source(&key.object) else { return };
        if self.by_key.contains_key(&key) || self.is_written(&key.object) {
            return;
        }
        let waiter = self.waiter();
        self.staging.insert(waiter, key.clone());
        self.by_key.insert(key.clone(), waiter);
        let bytes = self.agenda.sizes().known(&key.object);
        let want = Want { waiter, key, source, class: Class::Staging, due, bytes };
        let mut out = Vec::new();
        self.flights.want(want, now, &mut out);
        self.carry_out(out, ctx);
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        if self.flights.next_wake().is_some_and(|t| t <= now) {
            let mut out = Vec::new();
            self.flights.tick(now, &mut out);
            self.carry_out(out, ctx);
        }
        self.attend(ctx);
    }
}

impl Actor for PrefetchActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(TICK.to_std(), |actor, ctx| actor.tick(ctx));
    }
}

impl Handler<Demand> for PrefetchActor {
    type Result = ResponseFuture<Result<Vec<Ready>, NotReady>>;
    fn handle(&mut self, msg: Demand, ctx: &mut Context<Self>) -> Self::Result {
        self.tell_unforeseen(&msg);
        demand::serve(self, msg, ctx)
    }
}

impl Handler<Stage> for PrefetchActor {
    type Result = ResponseFuture<Result<u64, String>>;
    fn handle(&mut self, msg: Stage, ctx: &mut Context<Self>) -> Self::Result {
        let key = Key { pool: msg.cache, object: msg.object };
        let wanted = self.want(key.clone(), self.clock.now(), ctx);
        let unpin = self.pool(key.pool).unpin.clone();
        Box::pin(async move {
            match wanted?.1.await {
                Ok(Landing::Pool(held)) => {
                    let _ = unpin.send(Unpin(vec![held.file])).await;
                    Ok(held.bytes)
                }
                Ok(Landing::Joined { held, .. }) => {
                    let _ = unpin.send(Unpin(vec![held.file])).await;
                    Ok(held.bytes)
                }
                Ok(Landing::Private { path, .. }) => {
                    let _ = std::fs::remove_file(path);
                    Err("the cache has no room for it".into())
                }
                Ok(Landing::Failed(e)) => Err(e),
                Err(_) => Err("the daemon is stopping".into()),
            }
        })
    }
}

/// Waits that nobody is interested in any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Forsake(pub Vec<Waiter>);

impl Handler<Forsake> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Forsake, ctx: &mut Context<Self>) {
        for waiter in msg.0 {
            self.cancel(waiter, ctx);
        }
    }
}

impl Handler<Publish> for PrefetchActor {
    type Result = ResponseFuture<Result<(), NotReady>>;
    fn handle(&mut self, msg: Publish, _: &mut Context<Self>) -> Self::Result {
        Box::pin(super::publish::publish(self.peers.clone(), msg))
    }
}

impl Handler<Fact<Writing>> for PrefetchActor {
    type Result = ResponseFuture<()>;
    fn handle(&mut self, msg: Fact<Writing>, ctx: &mut Context<Self>) -> Self::Result {
        let Writing { objects, begins, published, .. } = msg.0;
        let mut out = Vec::new();
        for object in &objects {
            let writers = self.writers.entry(object.clone()).or_default();
            *writers = if begins { *writers + 1 } else { writers.saturating_sub(1) };
            if *writers == 0 {
                self.writers.remove(object);
            }
            self.agenda.written(object, begins);
            if !published.contains(object) {
                self.flights.invalidate(object, self.clock.now(), &mut out);
            }
        }
        self.carry_out(out, ctx);
        // While it was being written nobody brought a copy into a pool, so a published one is the new version.
        let objects: Vec<ObjectName> = objects.into_iter().filter(|o| !published.contains(o)).collect();
        let discards: Vec<_> =
            self.peers.caches.iter().map(|c| c.discard.send(Discard(objects.clone()))).collect();
        Box::pin(async move {
            for d in discards {
                let _ = d.await;
            }
        })
    }
}

impl Handler<Fact<Plan>> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Plan>, ctx: &mut Context<Self>) {
        self.homes.extend(msg.0.homes.iter().map(|(t, w, c)| (*t, (*w, *c))));
        self.agenda.planned(&msg.0);
        self.attend(ctx);
    }
}

impl Handler<Fact<Vec<Arrived>>> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Vec<Arrived>>, _: &mut Context<Self>) {
        for arrived in &msg.0 {
            if let Some((worker, cache)) = self.homes.get(&arrived.task_type).copied() {
                self.agenda.arrived(arrived, worker, cache);
            }
        }
    }
}

impl Handler<Fact<Foreseen>> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Foreseen>, ctx: &mut Context<Self>) {
        let mut derived = Vec::new();
        for (object, expected) in msg.0.objects {
            let Some((worker, cache)) = self.homes.get(&expected.task_type).copied() else { continue };
            derived.push(agenda::Derived { object, worker, cache, expected });
        }
        for e in &msg.0.expected {
            let Some((worker, cache)) = self.homes.get(&e.task_type).copied() else { continue };
            let spec = self.peers.catalogue.get(e.task_type);
            for object in crate::task::derived_inputs(spec, &e.entity, &self.peers.places) {
                // What was learned of an object itself says more than what is known of the type.
                if derived.iter().any(|d: &agenda::Derived| d.object == object) {
                    continue;
                }
                derived.push(agenda::Derived { object, worker, cache, expected: e.clone() });
            }
        }
        self.agenda.foreseen(&msg.0.entity, derived, self.clock.now());
        self.attend(ctx);
    }
}

impl Handler<Cached> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Cached, _: &mut Context<Self>) {
        self.agenda.cached(&msg, self.clock.now());
    }
}

impl Handler<Learned> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Learned, _: &mut Context<Self>) {
        for lesson in msg.0.iter() {
            let cache = self.cache_of(lesson.outcome.worker);
            self.agenda.learned(&lesson.outcome, cache, self.clock.now());
        }
    }
}

impl Handler<Fact<Attached>> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Attached>, _: &mut Context<Self>) {
        self.attached.insert(msg.0.worker, msg.0.cache);
    }
}

impl Handler<Fact<Heat>> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Heat>, _: &mut Context<Self>) {
        self.agenda.heated(msg.0);
    }
}

impl Handler<Look> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Look, _: &mut Context<Self>) {
        (msg.0)(&self.agenda, &self.flights, self.clock.now());
    }
}

/// Asks the agenda something, from elsewhere.
///
/// # Errors
/// If the actor is gone.
pub async fn look<R: Send + 'static>(
    prefetch: &Addr<PrefetchActor>,
    ask: impl FnOnce(&Agenda, &Flights, Time) -> R + Send + 'static,
) -> Result<R, MailboxError> {
    let (tx, rx) = oneshot::channel();
    prefetch.send(Look(Box::new(move |a, f, now| _ = tx.send(ask(a, f, now))))).await?;
    rx.await.map_err(|_| MailboxError::Closed)
}
