//! The actor that owns the object predictors, one for each pool.
//!
//! - **Told by** the prefetcher what tasks ask for that no template names ([`Unforeseen`]) and which proposals
//!   were not carried out ([`Declined`]), by caches what came and went ([`Cached`]).
//! - **Tells** the prefetcher what comes next ([`Proposed`]); asks caches to keep it or let it go ([`Expect`]),
//!   whose answer says how full they are.
//! - **After it stops**: its snapshots, and what the caches hold at the next start.

use super::pool::PoolHistory;
use crate::flow::CacheId;
use crate::message::{Cached, Declined, Expect, Fact, PoolFill, Proposed, Unforeseen};
use crate::predict::actor::Snapshot;
use crate::time::{Clock, Span};
use actix::prelude::*;

/// Messages that may wait.
const MAILBOX: usize = 16_384;

/// Snapshots are this far apart at least: one is several MiB, and what is lost with it is soon learned again.
const SNAPSHOTS_APART: Span = Span::from_secs(600);

/// Keeps the snapshot of a pool's history; must not block.
pub type HistoryKeeper = Box<dyn FnMut(CacheId, Vec<u8>)>;

/// Ask what the predictors take.
#[derive(Message)]
#[rtype(result = "Vec<Memory>")]
pub struct Weigh;

/// What one pool's predictor takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Tables, cells, candidates.
    pub model_bytes: usize,
    /// Names and sizes.
    pub catalogue_bytes: usize,
}

/// The actor.
pub struct ObjectsActor {
    /// By cache index.
    pools: Vec<PoolHistory>,
    /// By cache index.
    caches: Vec<Recipient<Expect>>,
    prefetch: Recipient<Fact<Proposed>>,
    clock: Clock,
    keeper: HistoryKeeper,
    every: Span,
}

impl ObjectsActor {
    /// With the histories that were kept; snapshots are made every `every`, but not more often than every ten
    /// minutes.
    pub fn new(
        pools: Vec<PoolHistory>,
        caches: Vec<Recipient<Expect>>,
        prefetch: Recipient<Fact<Proposed>>,
        clock: Clock,
        keeper: HistoryKeeper,
        every: Span,
    ) -> ObjectsActor {
        ObjectsActor { pools, caches, prefetch, clock, keeper, every: every.max(SNAPSHOTS_APART) }
    }

    fn pool(&mut self, cache: CacheId) -> Option<&mut PoolHistory> {
        self.pools.get_mut(usize::from(cache.0))
    }

    /// Tells a cache what is expected, and hears how full it is.
    fn expect(&mut self, cache: CacheId, expect: Expect, ctx: &mut Context<Self>) {
        let Some(to) = self.caches.get(usize::from(cache.0)) else { return };
        let (told, addr) = (to.send(expect), ctx.address());
        // The answer comes back as a message, behind what was told before it.
        actix_rt::spawn(async move {
            if let Ok(fill) = told.await {
                let _ = addr.send(Filled(cache, fill)).await;
            }
        });
    }

    fn snapshot(&mut self) {
        for (i, pool) in self.pools.iter_mut().enumerate() {
            if let Some(bytes) = pool.to_bytes() {
                (self.keeper)(CacheId(i as u16), bytes);
            }
        }
    }
}

impl Actor for ObjectsActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(self.every.to_std(), |actor, _| actor.snapshot());
        for i in 0..self.caches.len() {
            self.expect(CacheId(i as u16), Expect::default(), ctx);
        }
    }
}

impl Handler<Fact<Unforeseen>> for ObjectsActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Unforeseen>, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let Some(pool) = self.pool(msg.0.cache) else { return };
        let (expect, proposed) = pool.asked(&msg.0, now);
        self.expect(msg.0.cache, expect, ctx);
        if !proposed.objects.is_empty() || !proposed.withdrawn.is_empty() {
            // Who has no room stages nothing of it; the proposals end by themselves.
            let _ = self.prefetch.try_send(Fact(proposed));
        }
    }
}

/// How full a cache is.
#[derive(Message)]
#[rtype(result = "()")]
struct Filled(CacheId, PoolFill);

impl Handler<Filled> for ObjectsActor {
    type Result = ();
    fn handle(&mut self, msg: Filled, _: &mut Context<Self>) {
        if let Some(pool) = self.pool(msg.0) {
            pool.filled(msg.1);
        }
    }
}

impl Handler<Fact<Declined>> for ObjectsActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Declined>, _: &mut Context<Self>) {
        if let Some(pool) = self.pool(msg.0.cache) {
            msg.0.objects.iter().for_each(|object| pool.declined(object));
        }
    }
}

impl Handler<Cached> for ObjectsActor {
    type Result = ();
    fn handle(&mut self, msg: Cached, _: &mut Context<Self>) {
        if let Some(pool) = self.pool(msg.cache) {
            pool.cached(&msg.object, msg.bytes, msg.there);
        }
    }
}

impl Handler<Snapshot> for ObjectsActor {
    type Result = ();
    fn handle(&mut self, _: Snapshot, _: &mut Context<Self>) {
        self.snapshot();
    }
}

impl Handler<Weigh> for ObjectsActor {
    type Result = MessageResult<Weigh>;
    fn handle(&mut self, _: Weigh, _: &mut Context<Self>) -> Self::Result {
        let memory = |pool: &PoolHistory| {
            let (model_bytes, catalogue_bytes) = pool.memory_bytes();
            Memory { model_bytes, catalogue_bytes }
        };
        MessageResult(self.pools.iter().map(memory).collect())
    }
}
