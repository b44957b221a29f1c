//! Making the inputs of one attempt ready: what the cache has, checked with its source where that is asked
//! for; the rest by transfers that may be under way already.

use super::actor::{Forsake, Peers, PrefetchActor};
pub(super) use super::carry::Landing;
use super::flights::{Key, Waiter};
use super::source::{Consistency, Freshness, Meta};
use crate::flow::{CacheId, Found, InputUse, ObjectName};
use crate::message::{Confirm, Demand, Discard, Held, NotReady, Ready, Unpin};
use crate::time::{Clock, Span, Time};
use actix::prelude::*;
use futures_util::future::join_all;
use std::sync::Arc;
use tokio::sync::oneshot;

/// One input on its way to be ready.
enum Wanted {
    /// In the cache, and good.
    Good(Held),
    /// In the cache; its source is asked whether it still is.
    Doubtful(Held),
    /// A transfer brings it.
    Flying(oneshot::Receiver<Landing>),
    /// A running task writes it: read at the source, past the pool.
    Past,
    /// Cannot be had.
    Failed(String),
}

struct Server {
    peers: Arc<Peers>,
    addr: Addr<PrefetchActor>,
    clock: Clock,
    cache: CacheId,
    began: Time,
}

type Answer = ResponseFuture<Result<Vec<Ready>, NotReady>>;

/// Starts what is needed for a demand and answers when all of it is ready.
pub(super) fn serve(actor: &mut PrefetchActor, msg: Demand, ctx: &mut Context<PrefetchActor>) -> Answer {
    let now = actor.clock.now();
    let mut tickets: Vec<Waiter> = Vec::new();
    let mut inputs = Vec::with_capacity(msg.inputs.len());
    for (object, held) in msg.inputs {
        let wanted = match held {
            _ if actor.core.is_written(&object) => Wanted::Past,
            Some(held) if !doubtful(actor, &held, msg.fresh, now) => Wanted::Good(held),
            Some(held) => Wanted::Doubtful(held),
            None => {
                let key = Key { pool: msg.cache, object: object.clone() };
                match actor.want(key, ctx) {
                    Ok((ticket, landing)) => {
                        tickets.push(ticket);
                        Wanted::Flying(landing)
                    }
                    Err(e) => Wanted::Failed(e),
                }
            }
        };
        inputs.push((object, wanted));
    }
    let server = Arc::new(Server {
        peers: actor.peers.clone(),
        addr: ctx.address(),
        clock: actor.clock,
        cache: msg.cache,
        began: now,
    });
    let stop = msg.stop;
    // Beside the actor: within its context every answer would poll all demands.
    Box::pin(async move {
        let all = join_all(inputs.into_iter().map(|(object, wanted)| {
            let server = server.clone();
            async move { (object.clone(), server.get(object, wanted).await) }
        }));
        let mut all = std::pin::pin!(all);
        let all = tokio::select! {
            all = &mut all => all,
            () = stop.cancelled() => {
                // Answers come at once then, and what has landed is given back below like any other.
                let _ = server.addr.send(Forsake(tickets)).await;
                all.await
            }
        };
        server.sum_up(all).await
    })
}

/// Whether the source has to be asked before a cached copy may be used.
fn doubtful(actor: &PrefetchActor, held: &Held, fresh: bool, now: Time) -> bool {
    let Some(source) = actor.peers.places.source(&held.object) else { return true };
    let source = &actor.peers.sources[usize::from(source.0)];
    fresh
        || match source.settings().consistency {
            Consistency::Immutable => false,
            Consistency::Revalidate => true,
            Consistency::Ttl(ttl) => now.since(held.checked) > ttl,
        }
}

impl Server {
    /// Waits until an input is ready.
    async fn get(&self, object: ObjectName, wanted: Wanted) -> Result<Ready, String> {
        match wanted {
            Wanted::Good(held) => Ok(self.ready(held, Found::Cached, false, Span::ZERO)),
            Wanted::Failed(e) => Err(e),
            Wanted::Past => self.read_past(&object).await,
            Wanted::Doubtful(held) => self.ask(held).await,
            Wanted::Flying(landing) => self.landed(object, landing).await,
        }
    }

    fn ready(&self, held: Held, found: Found, staged: bool, wait: Span) -> Ready {
        let staged = staged || held.staged;
        let input = InputUse { object: held.object, bytes: held.bytes, found, staged, wait };
        Ready { path: held.path, pinned: Some(held.file), input }
    }

    async fn landed(&self, object: ObjectName, landing: oneshot::Receiver<Landing>) -> Result<Ready, String> {
        let landing = landing.await.unwrap_or_else(|_| Landing::Failed("the daemon is stopping".into()));
        let wait = self.clock.now().since(self.began);
        let found = |joined| if joined { Found::Joined } else { Found::Fetched };
        match landing {
            Landing::Pool(held) => Ok(self.ready(held, Found::Fetched, false, wait)),
            Landing::Joined { held, joined, staged } => Ok(self.ready(held, found(joined), staged, wait)),
            Landing::Private { path, bytes, joined } => {
                let input = InputUse { object, bytes, found: found(joined), staged: false, wait };
                Ok(Ready { path, pinned: None, input })
            }
            Landing::Failed(e) => Err(e),
        }
    }

    /// Asks the source whether a cached copy is still right; one that is not is dropped and fetched anew.
    async fn ask(&self, held: Held) -> Result<Ready, String> {
        let fresh = match self.peers.places.source(&held.object) {
            Some(s) => {
                let meta =
                    Meta { bytes: held.bytes, etag: held.etag.as_deref().map(Arc::from), modified: None };
                self.peers.sources[usize::from(s.0)].revalidate(held.object.path(), &meta).await
            }
            None => return Err("its source is not configured".into()),
        };
        let pool = &self.peers.caches[usize::from(self.cache.0)];
        match fresh {
            Ok(Freshness::Unchanged) => {
                let etag = held.etag.clone();
                let _ = pool.confirm.send(Confirm { object: held.object.clone(), etag }).await;
                let wait = self.clock.now().since(self.began);
                Ok(self.ready(held, Found::Cached, false, wait))
            }
            Ok(Freshness::Changed(_) | Freshness::Gone) => {
                let object = held.object.clone();
                let _ = pool.discard.send(Discard(vec![object.clone()])).await;
                let _ = pool.unpin.send(Unpin(vec![held.file])).await;
                self.fetch(object).await
            }
            Err(e) => {
                // Nobody can say that this copy is right, and a task must not read what may be stale.
                let _ = pool.unpin.send(Unpin(vec![held.file])).await;
                Err(e.to_string())
            }
        }
    }

    /// Fetches through the flight table, from beside the actor.
    async fn fetch(&self, object: ObjectName) -> Result<Ready, String> {
        let key = Key { pool: self.cache, object: object.clone() };
        let landing = self.addr.send(Fetch(key)).await.map_err(|e| e.to_string())??;
        self.landed(object, landing).await
    }

    /// Reads an object that is being written, past the pool: what comes is nobody else's.
    async fn read_past(&self, object: &ObjectName) -> Result<Ready, String> {
        let source = self.peers.places.source(object).ok_or("its source is not configured")?;
        let name = format!("past-{}-{}", self.began.as_us(), fastrand::u64(..));
        let order = super::transfer::Order {
            object: object.clone(),
            temp: self.peers.private.join(name),
            resume: None,
            expect: None,
            sha256: None,
            max_bytes: u64::MAX,
            connections: 1,
        };
        let handle = super::transfer::Handle::new(super::flights::Class::Demand);
        let landed = self.peers.mover.carry(source, order, &handle, &|_, _| {}).await;
        let landed = landed.map_err(|f| f.error.to_string())?;
        let (bytes, wait) = (landed.meta.bytes, self.clock.now().since(self.began));
        let input = InputUse { object: object.clone(), bytes, found: Found::Fetched, staged: false, wait };
        Ok(Ready { path: landed.temp, pinned: None, input })
    }

    /// All ready, or the first that is not; then whatever was pinned is let go.
    async fn sum_up(&self, all: Vec<(ObjectName, Result<Ready, String>)>) -> Result<Vec<Ready>, NotReady> {
        if all.iter().all(|(_, r)| r.is_ok()) {
            return Ok(all.into_iter().filter_map(|(_, r)| r.ok()).collect());
        }
        let mut released = Vec::new();
        let mut first = None;
        for (object, result) in all {
            match result {
                Ok(Ready { pinned: Some(file), .. }) => released.push(file),
                Ok(Ready { path, .. }) => drop(tokio::fs::remove_file(path).await),
                Err(error) => _ = first.get_or_insert((object, error)),
            }
        }
        if !released.is_empty() {
            let pool = &self.peers.caches[usize::from(self.cache.0)];
            let _ = pool.unpin.send(Unpin(released.clone())).await;
        }
        let (object, error) = first.expect("one of them is not ready");
        Err(NotReady { object, error, released: true })
    }
}

/// Fetch an object for a task that found its cached copy stale.
#[derive(Message)]
#[rtype(result = "Result<oneshot::Receiver<Landing>, String>")]
struct Fetch(Key);

impl Handler<Fetch> for PrefetchActor {
    type Result = Result<oneshot::Receiver<Landing>, String>;
    fn handle(&mut self, msg: Fetch, ctx: &mut Context<Self>) -> Self::Result {
        self.want(msg.0, ctx).map(|(_, landing)| landing)
    }
}
