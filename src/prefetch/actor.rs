//! The actor that owns transfers and the agenda.
//!
//! - **Told by** workers ([`Demand`], [`Publish`]), dispatch ([`Arrived`], [`Plan`], [`Writing`]), the predictor
//!   ([`Foreseen`]), caches ([`Cached`]), the monitor ([`Heat`]), those who learn ([`Learned`]), people
//!   ([`Stage`]).
//! - **Asks** caches for room ([`Reserve`](crate::message::Reserve), [`Commit`](crate::message::Commit)); everything that waits runs in futures of its own
//!   (`carry.rs`, `demand.rs`), so one slow source holds up nobody else.
//! - **Tells** caches what the forecast needs ([`Rank`]), the monitor what was transferred, the diary.
//! - **After it stops**: transfers end; their beginnings stay in the pools' `tmp/` and are gone on with.

use super::agenda::Agenda;
use super::carry::{Carrier, Flown, Mover};
use super::core::{Action, Prefetch, Start};
use super::demand::{self, Landing};
use super::flights::{FlightId, Flights, Key, Waiter};
use super::source::Source;
use super::transfer::Handle;
use crate::flow::{Arrived, CacheId, Decision, Heat, Map, ObjectName, Plan, Writing};
use crate::message::{
    Attached, Cached, Declined, Demand, Discard, Fact, Foreseen, Learned, NotReady, Proposed, Publish, Rank,
    Ready, Transferred, Unforeseen, Unpin,
};
use crate::task::Places;
use crate::time::{Clock, Span, Time};
use actix::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::oneshot;

/// How often the agenda looks at the time.
pub const TICK: Span = Span::from_ms(20);
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
    /// Who moves bytes from them.
    pub mover: Arc<dyn Mover>,
    /// Pools, by index.
    pub caches: Vec<super::carry::Pool>,
    /// From objects to sources, cells and shards.
    pub places: Arc<Places>,
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
    pub(super) core: Prefetch,
    handles: Map<FlightId, Handle>,
    waiting: Map<Waiter, oneshot::Sender<Landing>>,
    /// Where the transfer that is being reported has left its object.
    landed: Option<Landing>,
}

impl PrefetchActor {
    /// With all sources announced to the core.
    pub fn new(peers: Peers, clock: Clock, core: Prefetch) -> PrefetchActor {
        let (handles, waiting) = (Map::default(), Map::default());
        PrefetchActor { peers: Arc::new(peers), clock, core, handles, waiting, landed: None }
    }

    /// A task wants an object in a pool. The receiver hears of its end.
    pub(super) fn want(
        &mut self,
        key: Key,
        ctx: &mut Context<Self>,
    ) -> Result<(Waiter, oneshot::Receiver<Landing>), String> {
        let mut out = Vec::new();
        let waiter = self.core.want(key, self.clock.now(), &mut out)?;
        let (tx, rx) = oneshot::channel();
        self.waiting.insert(waiter, tx);
        self.carry_out(out, ctx);
        Ok((waiter, rx))
    }

    fn carry_out(&mut self, actions: Vec<Action>, ctx: &mut Context<Self>) {
        for action in actions {
            match action {
                Action::Start(start) => self.start(start, ctx),
                Action::SetClass { flight, class } => {
                    if let Some(handle) = self.handles.get(&flight) {
                        handle.set_class(class);
                    }
                }
                Action::Stop { flight } => {
                    if let Some(handle) = self.handles.get(&flight) {
                        handle.stop();
                    }
                }
                Action::Rate { source, staging_bytes_per_s } => {
                    self.peers.mover.pace(source, staging_bytes_per_s);
                }
                Action::Landed { waiter, key, joined, staged } => self.answer(waiter, &key, joined, staged),
                Action::Failed { waiter, error } => {
                    if let Some(tell) = self.waiting.remove(&waiter) {
                        let _ = tell.send(Landing::Failed(error));
                    }
                }
                Action::Rank { cache, needs } => {
                    // Who has no room gets the next ranking.
                    let _ = self.pool(cache).rank.try_send(Rank(needs));
                }
                Action::Decided(decision) => _ = self.peers.decisions.try_send(Fact(decision)),
                Action::Declined(declined) => {
                    // One that is missed counts as staged in vain: a little too careful, for a while.
                    let _ = self.peers.declined.try_send(Fact(declined));
                }
            }
        }
    }

    /// Everything that waits runs in a future of its own and comes back as a message, so that what happens
    /// first is heard first.
    fn start(&mut self, start: Start, ctx: &mut Context<Self>) {
        let handle = Handle::new(start.class);
        self.handles.insert(start.flight, handle.clone());
        let carrier = Carrier { peers: self.peers.clone(), clock: self.clock, handle, start };
        let addr = ctx.address();
        actix_rt::spawn(async move {
            let (flight, key) = (carrier.start.flight, carrier.start.key.clone());
            // Steps that find no room are made good by the next.
            let told = addr.clone();
            let progress = move |done, total| _ = told.try_send(Progress { flight, done, total });
            let flown = carrier.fly(&progress).await;
            let _ = addr.send(Ended { flight, key, flown }).await;
        });
    }

    fn pool(&self, cache: CacheId) -> &super::carry::Pool {
        &self.peers.caches[usize::from(cache.0)]
    }

    /// What a task waits for has landed.
    fn answer(&mut self, waiter: Waiter, key: &Key, joined: bool, staged: bool) {
        let Some(tell) = self.waiting.remove(&waiter) else { return };
        match &self.landed {
            Some(Landing::Pool(held)) => {
                let hold = self.pool(key.pool).hold.send(crate::message::Hold(held.object.clone()));
                let held = held.clone();
                actix_rt::spawn(async move {
                    // It cannot have gone: the transfer's own pin is given back after this.
                    let held = hold.await.ok().flatten().unwrap_or(held);
                    let _ = tell.send(Landing::Pool(held).joined(joined, staged));
                });
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
}

impl Actor for PrefetchActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(TICK.to_std(), |actor, ctx| {
            let mut out = Vec::new();
            actor.core.tick(actor.clock.now(), &mut out);
            actor.carry_out(out, ctx);
        });
    }
}

impl Handler<Demand> for PrefetchActor {
    type Result = ResponseFuture<Result<Vec<Ready>, NotReady>>;
    fn handle(&mut self, msg: Demand, ctx: &mut Context<Self>) -> Self::Result {
        let about = (msg.task_type, msg.entity.as_deref());
        if let Some(unforeseen) = self.core.unforeseen(msg.cache, msg.worker, about, &msg.inputs) {
            // One that is missed is a sequence learned a little later.
            let _ = self.peers.unforeseen.try_send(Fact(unforeseen));
        }
        demand::serve(self, msg, ctx)
    }
}

impl Handler<Stage> for PrefetchActor {
    type Result = ResponseFuture<Result<u64, String>>;
    fn handle(&mut self, msg: Stage, ctx: &mut Context<Self>) -> Self::Result {
        let key = Key { pool: msg.cache, object: msg.object };
        let wanted = self.want(key.clone(), ctx);
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

/// Bytes of a transfer arrived.
#[derive(Message)]
#[rtype(result = "()")]
struct Progress {
    flight: FlightId,
    done: u64,
    total: u64,
}

impl Handler<Progress> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Progress, ctx: &mut Context<Self>) {
        let mut out = Vec::new();
        self.core.progress(msg.flight, msg.done, msg.total, self.clock.now(), &mut out);
        self.carry_out(out, ctx);
    }
}

/// A transfer has ended.
#[derive(Message)]
#[rtype(result = "()")]
struct Ended {
    flight: FlightId,
    key: Key,
    flown: Flown,
}

impl Handler<Ended> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Ended, ctx: &mut Context<Self>) {
        let Ended { flight, key, flown } = msg;
        self.handles.remove(&flight);
        let mut out = Vec::new();
        self.core.flown(flight, &key.object, flown.ending, self.clock.now(), &mut out);
        self.landed = Some(flown.landing);
        self.carry_out(out, ctx);
        match self.landed.take() {
            // Every reader has a name of its own for it by now.
            Some(Landing::Private { path, .. }) => _ = std::fs::remove_file(path),
            Some(Landing::Pool(held)) => {
                // The transfer's own pin: every waiter has its own by now, or asks for it in this order.
                let unpin = self.pool(key.pool).unpin.send(Unpin(vec![held.file]));
                actix_rt::spawn(async move { _ = unpin.await });
            }
            _ => {}
        }
    }
}

/// Waits that nobody is interested in any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Forsake(pub Vec<Waiter>);

impl Handler<Forsake> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Forsake, ctx: &mut Context<Self>) {
        let mut out = Vec::new();
        for waiter in msg.0 {
            self.core.cancel(waiter, self.clock.now(), &mut out);
        }
        self.carry_out(out, ctx);
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
        let mut out = Vec::new();
        let stale = self.core.writing(msg.0, self.clock.now(), &mut out);
        self.carry_out(out, ctx);
        let discards: Vec<_> =
            self.peers.caches.iter().map(|c| c.discard.send(Discard(stale.clone()))).collect();
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
        let mut out = Vec::new();
        self.core.planned(&msg.0, self.clock.now(), &mut out);
        self.carry_out(out, ctx);
    }
}

impl Handler<Fact<Vec<Arrived>>> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Vec<Arrived>>, _: &mut Context<Self>) {
        self.core.arrived(&msg.0);
    }
}

impl Handler<Fact<Attached>> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Attached>, _: &mut Context<Self>) {
        self.core.attached(&msg.0);
    }
}

impl Handler<Fact<Proposed>> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Proposed>, ctx: &mut Context<Self>) {
        let mut out = Vec::new();
        self.core.proposed(msg.0, self.clock.now(), &mut out);
        self.carry_out(out, ctx);
    }
}

impl Handler<Fact<Foreseen>> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Foreseen>, ctx: &mut Context<Self>) {
        let mut out = Vec::new();
        self.core.foreseen(msg.0, self.clock.now(), &mut out);
        self.carry_out(out, ctx);
    }
}

impl Handler<Cached> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Cached, _: &mut Context<Self>) {
        self.core.cached(&msg, self.clock.now());
    }
}

impl Handler<Learned> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Learned, _: &mut Context<Self>) {
        for lesson in msg.0.iter() {
            self.core.learned(&lesson.outcome, self.clock.now());
        }
    }
}

impl Handler<Fact<Heat>> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Heat>, _: &mut Context<Self>) {
        self.core.heated(msg.0);
    }
}

impl Handler<Look> for PrefetchActor {
    type Result = ();
    fn handle(&mut self, msg: Look, _: &mut Context<Self>) {
        (msg.0)(self.core.agenda(), self.core.flights(), self.clock.now());
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
