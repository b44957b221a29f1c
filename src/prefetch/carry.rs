//! One transfer, from making room to the pool: reserve, fetch, commit.
//!
//! A demand that the pool has no room for goes to a private file instead, so that the task gets its data
//! whatever is pinned; a staging transfer that finds no room ends there.

use super::actor::Peers;
use super::core::Start;
use super::flights::{Class, Ending};
use super::source::{Error, Meta, Source};
use super::transfer::{self, Handle, Lane, Order};
use crate::flow::SourceId;
use crate::message::{
    Abandon, Adopt, Commit, Confirm, Discard, Held, Hold, Raise, Rank, Reserve, Transferred, Unpin,
};
use crate::time::{Clock, Span};
use actix::prelude::*;
use async_trait::async_trait;
use std::path::PathBuf;
use std::sync::Arc;

/// Told of bytes there and length.
pub type Progress<'a> = &'a dyn Fn(u64, u64);

/// Who moves the bytes: the network, or in a rehearsal what stands for it.
#[async_trait(?Send)]
pub trait Mover: Send + Sync {
    /// All staging from a source together may take so many bytes/s from now on: zero pauses it, infinite frees
    /// it.
    fn pace(&self, source: SourceId, staging_bytes_per_s: f64);

    /// Runs one transfer to its end: see [`transfer::run`].
    async fn carry(
        &self,
        source: SourceId,
        order: Order,
        handle: &Handle,
        progress: Progress<'_>,
    ) -> Result<transfer::Landed, transfer::Failed>;
}

/// The real one: each source over its lane.
pub struct Network {
    sources: Vec<(Arc<Source>, Lane)>,
    clock: Clock,
}

impl Network {
    /// Sources in the order of [`SourceId`].
    pub fn new(sources: &[Arc<Source>], clock: Clock) -> Network {
        let lane = |s: &Arc<Source>| (s.clone(), Lane::new(s.settings().bytes_per_s, clock));
        Network { sources: sources.iter().map(lane).collect(), clock }
    }
}

#[async_trait(?Send)]
impl Mover for Network {
    fn pace(&self, source: SourceId, staging_bytes_per_s: f64) {
        self.sources[usize::from(source.0)].1.set_staging(staging_bytes_per_s);
    }

    async fn carry(
        &self,
        source: SourceId,
        order: Order,
        handle: &Handle,
        progress: Progress<'_>,
    ) -> Result<transfer::Landed, transfer::Failed> {
        let (source, lane) = &self.sources[usize::from(source.0)];
        transfer::run(order, source, lane, handle, self.clock, progress).await
    }
}

/// One pool, as the prefetcher talks to it.
pub struct Pool {
    /// Make room.
    pub reserve: Recipient<Reserve>,
    /// A file is whole.
    pub commit: Recipient<Commit>,
    /// A file will not come.
    pub abandon: Recipient<Abandon>,
    /// A demand joined.
    pub raise: Recipient<Raise>,
    /// Pin for a reader.
    pub hold: Recipient<Hold>,
    /// Let go.
    pub unpin: Recipient<Unpin>,
    /// Drop what is stale.
    pub discard: Recipient<Discard>,
    /// It is current.
    pub confirm: Recipient<Confirm>,
    /// Take an output in.
    pub adopt: Recipient<Adopt>,
    /// What the forecast needs.
    pub rank: Recipient<Rank>,
}

/// Where a transfer has ended.
#[derive(Clone, Debug)]
pub(super) enum Landing {
    /// In the pool, pinned for whoever gets this.
    Pool(Held),
    /// In the pool, by a transfer that was under way, or that had been started for staging.
    Joined { held: Held, joined: bool, staged: bool },
    /// In a file of the reader's own.
    Private { path: PathBuf, bytes: u64, joined: bool },
    /// Nowhere.
    Failed(String),
}

impl Landing {
    pub(super) fn joined(self, joined: bool, staged: bool) -> Landing {
        match self {
            Landing::Pool(held) => Landing::Joined { held, joined, staged },
            other => other,
        }
    }
}

/// How a transfer went.
pub(super) struct Flown {
    pub(super) landing: Landing,
    pub(super) ending: Ending,
}

/// All that one transfer needs.
pub(super) struct Carrier {
    pub(super) peers: Arc<Peers>,
    pub(super) clock: Clock,
    pub(super) handle: Handle,
    pub(super) start: Start,
}

/// Where a transfer writes.
enum Room {
    Pool { file: u64, temp: PathBuf },
    Private { temp: PathBuf },
}

impl Room {
    fn temp(&self) -> &PathBuf {
        match self {
            Room::Pool { temp, .. } | Room::Private { temp } => temp,
        }
    }
}

impl Carrier {
    /// Runs the transfer; `told` hears of its progress.
    pub(super) async fn fly(self, told: Progress<'_>) -> Flown {
        let room = match self.make_room().await {
            Ok(room) => room,
            Err(why) => return self.no_room(why),
        };
        let order = Order {
            object: self.start.key.object.clone(),
            temp: room.temp().clone(),
            resume: None,
            expect: None,
            sha256: None,
            // A source that has grown its object must not fill the disk: the cache's own limit is checked when
            // the file is committed, this one bounds what is written before.
            max_bytes: self.start.bytes.map_or(u64::MAX, |b| b.saturating_mul(4).max(64 << 20)),
            connections: self.start.connections,
        };
        let began = self.clock.now();
        let result = self.peers.mover.carry(self.start.source, order, &self.handle, told).await;
        let (fetched, first_byte) = match &result {
            Ok(l) => (l.fetched_bytes, Some(l.ttfb)),
            Err(f) => (f.fetched_bytes, None),
        };
        self.tell_monitor(began, fetched, first_byte);
        match result {
            Ok(landed) => self.land(room, landed.meta, landed.checksum, landed.ttfb).await,
            Err(failed) => self.give_up(room, failed).await,
        }
    }

    async fn make_room(&self) -> Result<Room, String> {
        let private = || Room::Private { temp: self.peers.private.join(self.start.flight.0.to_string()) };
        if self.start.past_the_pool {
            return Ok(private());
        }
        let pool = &self.peers.caches[usize::from(self.start.key.pool.0)];
        let bytes = self.start.bytes.unwrap_or(self.start.guess);
        let reserve = Reserve { object: self.start.key.object.clone(), bytes, purpose: self.start.purpose };
        match pool.reserve.send(reserve).await {
            Ok(Ok(reserved)) => Ok(Room::Pool { file: reserved.file, temp: reserved.temp }),
            Ok(Err(why)) if self.start.class == Class::Staging => Err(why),
            Ok(Err(_)) => Ok(private()),
            Err(e) => Err(e.to_string()),
        }
    }

    fn no_room(&self, why: String) -> Flown {
        let error = Error::NoRoom { object: self.start.key.object.clone(), reason: why.clone() };
        Flown { landing: Landing::Failed(why), ending: Ending::Failed { error, partial_bytes: 0 } }
    }

    async fn land(&self, room: Room, meta: Meta, checksum: u128, ttfb: Span) -> Flown {
        let bytes = meta.bytes;
        let ending = Ending::Landed { bytes, ttfb };
        let private = |path| Landing::Private { path, bytes, joined: false };
        let Room::Pool { file, temp } = room else {
            return Flown { landing: private(room.temp().clone()), ending };
        };
        let commit = Commit {
            file,
            object: self.start.key.object.clone(),
            temp,
            bytes,
            etag: meta.etag.as_deref().map(str::to_owned),
            checksum,
            pin: true,
        };
        let pool = &self.peers.caches[usize::from(self.start.key.pool.0)];
        if self.start.class == Class::Staging && self.handle.class() == Class::Demand {
            // A task waits for it by now: it gives way to no forecast.
            let _ = pool.raise.send(Raise(file)).await;
        }
        match pool.commit.send(commit).await {
            Ok(Ok(held)) => Flown { landing: Landing::Pool(held), ending },
            Ok(Err(why)) => self.no_room(why),
            Err(e) => self.no_room(e.to_string()),
        }
    }

    async fn give_up(&self, room: Room, failed: transfer::Failed) -> Flown {
        // What arrived is not kept: the reservation that allowed it ends here, and the next try may be given
        // another file. (A broken connection within one transfer is resumed by `transfer::run` itself.)
        let temp = room.temp().clone();
        if failed.partial.is_some() {
            // A removal that panics leaves a file that the next start finds.
            let _ = tokio::task::spawn_blocking(move || transfer::discard(&temp)).await;
        }
        if let Room::Pool { file, .. } = room {
            let pool = &self.peers.caches[usize::from(self.start.key.pool.0)];
            let _ = pool.abandon.send(Abandon(file)).await;
        }
        let ending = match &failed.error {
            Error::Stopped { .. } => Ending::Stopped { partial_bytes: 0 },
            error => Ending::Failed { error: error.clone(), partial_bytes: 0 },
        };
        Flown { landing: Landing::Failed(failed.error.to_string()), ending }
    }

    fn tell_monitor(&self, began: crate::time::Time, bytes: u64, first_byte: Option<Span>) {
        let Some(place) = self.peers.places.of(&self.start.key.object) else { return };
        let ended = self.clock.now();
        let fact = Transferred { source: self.start.source, place, bytes, started: began, ended, first_byte };
        // A monitor that has no room sees a little less traffic.
        let _ = self.peers.monitor.try_send(fact);
    }
}
