//! The actor that owns one pool: its index and, through the blocking pool, its files.
//!
//! - **Told by** workers ([`Pin`], [`Unpin`]), the prefetcher ([`Reserve`], [`Commit`], [`Rank`],
//!   [`Discard`], …) and people ([`Keep`], [`Evict`], [`Verify`]).
//! - **Tells** dispatch and the prefetcher what came and went ([`Cached`]), and the keeper of the index.
//! - **Awaits nobody.** Files are linked, renamed and unlinked on the blocking pool; the answers come back into
//!   the actor, and a victim is unlinked before the room that it made is given away.
//! - **After it stops**: the index on disk names files that were whole; a start checks them again.

use super::files::{Files, Verdict};
use super::{CacheCore, Entry, FileId, Need, Victim};
use crate::flow::{CacheId, Map, ObjectName};
use crate::message::{
    Abandon, Adopt, Cached, Commit, Confirm, Discard, Expect, Held, Hold, Pin, PoolFill, Purpose, Raise,
    Rank, Reserve, Reserved, Unpin,
};
use crate::slow::Slow;
use crate::time::{Clock, Span, Time};
use actix::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::oneshot;

/// How often the file system is asked for its free bytes.
const FREE_SPACE_CHECK: Span = Span::from_secs(1);
/// Messages that may wait.
const MAILBOX: usize = 4_096;

/// What is persisted of an entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// The entry.
    pub entry: Entry,
    /// Checksum of its bytes, as [`Files`] computes it.
    pub checksum: u128,
}

/// A change to the persisted index.
#[derive(Clone, Debug)]
pub enum IndexChange {
    /// An entry is new or has changed.
    Put(Box<Stored>),
    /// An entry is gone.
    Gone(ObjectName),
}

/// Keeps the index on disk; must not block.
pub type Keeper = Box<dyn FnMut(IndexChange)>;

/// A user wants an object to stay, or does not any more; answers whether it is there.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct Keep(pub ObjectName, pub bool);

/// A user wants an object out; `Some(true)` if it is gone, `Some(false)` if it is in use or pinned, `None` if it
/// was not there.
#[derive(Message)]
#[rtype(result = "Option<bool>")]
pub struct Evict(pub ObjectName);

/// Read a file and compare it with what the index says; a damaged one is dropped.
#[derive(Message)]
#[rtype(result = "Option<Result<u64, String>>")]
pub struct Verify(pub ObjectName);

/// A question to the core.
pub type Question = Box<dyn FnOnce(&CacheCore) + Send>;

/// Look at the core, for those who show it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Look(pub Question);

/// Demands that found their object, and those that did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// Found whole.
    pub hits: u64,
    /// Not there.
    pub misses: u64,
}

/// Ask for [`Looked`].
#[derive(Message)]
#[rtype(result = "Looked")]
pub struct Count;

/// The actor.
pub struct CacheActor {
    id: CacheId,
    core: CacheCore,
    files: Arc<Files>,
    clock: Clock,
    checksums: Map<FileId, u128>,
    /// What transfers have room for.
    reserved: Map<FileId, ObjectName>,
    keeper: Keeper,
    told: Vec<Recipient<Cached>>,
    looked: Looked,
    missed_facts: u64,
    slow: Slow,
}

type Later<T> = ResponseActFuture<CacheActor, T>;

impl CacheActor {
    /// `core` and `checksums` as they were restored and checked against the files.
    #[allow(clippy::too_many_arguments, reason = "wired in one place, each of another type")]
    pub fn new(
        id: CacheId,
        core: CacheCore,
        checksums: Map<FileId, u128>,
        files: Arc<Files>,
        clock: Clock,
        keeper: Keeper,
        told: Vec<Recipient<Cached>>,
        slow: Slow,
    ) -> CacheActor {
        let (reserved, looked, missed_facts) = (Map::default(), Looked::default(), 0);
        CacheActor { id, core, files, clock, checksums, reserved, keeper, told, looked, missed_facts, slow }
    }

    fn held(&self, object: &ObjectName, file: FileId, staged: bool, protected: bool) -> Option<Held> {
        let e = self.core.get(object)?;
        Some(Held {
            object: object.clone(),
            file: file.0,
            path: self.files.path(file),
            bytes: e.bytes,
            etag: e.etag.clone(),
            checked: e.checked_at,
            staged,
            protected,
        })
    }

    fn persist(&mut self, object: &ObjectName) {
        if let Some(e) = self.core.get(object) {
            let checksum = self.checksums.get(&e.file).copied().unwrap_or(0);
            (self.keeper)(IndexChange::Put(Box::new(Stored { entry: e.clone(), checksum })));
        }
    }

    fn tell(&mut self, object: &ObjectName, bytes: u64, there: bool, unused: bool, for_staging: bool) {
        let fact = Cached { cache: self.id, object: object.clone(), bytes, there, unused, for_staging };
        for p in &self.told {
            if p.try_send(fact.clone()).is_err() {
                self.missed_facts += 1;
                tracing::debug!(missed = self.missed_facts, "a mailbox was full, a cache fact was missed");
            }
        }
    }

    /// Takes victims out of the books and gives their files to the blocking pool; done when they are unlinked.
    fn unlink(&mut self, victims: Vec<Victim>, for_staging: bool) -> impl Future<Output = ()> + 'static {
        let mut gone = Vec::with_capacity(victims.len());
        for v in victims {
            self.checksums.remove(&v.entry.file);
            // A task that was promised the file may not have linked it yet: it goes with the task's pin.
            if !v.zombie {
                gone.push(v.entry.file);
            }
            // A newer copy of the same object may have taken its place in the index already.
            if !self.core.contains(&v.entry.object) {
                (self.keeper)(IndexChange::Gone(v.entry.object.clone()));
                self.tell(
                    &v.entry.object,
                    v.entry.bytes,
                    false,
                    v.entry.staged && !v.entry.used,
                    for_staging,
                );
            }
        }
        self.unlink_files(gone)
    }

    fn unlink_files(&self, gone: Vec<FileId>) -> impl Future<Output = ()> + 'static {
        let (files, slow) = (self.files.clone(), self.slow);
        async move {
            if gone.is_empty() {
                return;
            }
            let unlinked = slow.run(move || {
                for file in gone {
                    if let Err(error) = files.unlink(file) {
                        tracing::warn!(file = file.0, %error, "could not unlink an evicted file");
                    }
                }
            });
            if unlinked.await.is_err() {
                tracing::error!("unlinking evicted files panicked");
            }
        }
    }

    /// Unlinks without anybody waiting for it.
    fn unlink_later(&mut self, victims: Vec<Victim>, ctx: &mut Context<Self>) {
        let done = self.unlink(victims, false);
        ctx.spawn(done.into_actor(self));
    }

    fn check_space(&mut self, ctx: &mut Context<Self>) {
        let files = self.files.clone();
        let free = self.slow.run(move || files.free_bytes());
        let checked = free.into_actor(self).map(|free, actor, ctx| {
            if let Ok(Ok(free)) = free {
                let victims = actor.core.set_free_bytes(free, 0, actor.clock.now());
                actor.unlink_later(victims, ctx);
            }
        });
        ctx.spawn(checked);
    }
}

impl Actor for CacheActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.check_space(ctx);
        ctx.run_interval(FREE_SPACE_CHECK.to_std(), |actor, ctx| actor.check_space(ctx));
        let there: Vec<_> = self.core.entries().map(|e| (e.object.clone(), e.bytes)).collect();
        for (object, bytes) in there {
            self.tell(&object, bytes, true, false, false);
        }
    }
}

impl Handler<Pin> for CacheActor {
    type Result = MessageResult<Pin>;
    fn handle(&mut self, msg: Pin, _: &mut Context<Self>) -> Self::Result {
        let now = self.clock.now();
        let mut answers = Vec::with_capacity(msg.0.len());
        for object in &msg.0 {
            let hit = self.core.touch(object, now);
            let held = hit.and_then(|hit| {
                let file = self.core.pin(object)?;
                self.held(object, file, hit.first_use_of_staged, hit.protected)
            });
            match held {
                Some(_) => self.looked.hits += 1,
                None => self.looked.misses += 1,
            }
            answers.push(held);
        }
        MessageResult(answers)
    }
}

impl Handler<Hold> for CacheActor {
    type Result = Option<Held>;
    fn handle(&mut self, msg: Hold, _: &mut Context<Self>) -> Option<Held> {
        let file = self.core.pin(&msg.0)?;
        self.held(&msg.0, file, false, false)
    }
}

impl Handler<Unpin> for CacheActor {
    type Result = ();
    fn handle(&mut self, msg: Unpin, ctx: &mut Context<Self>) {
        let released = |file: &FileId| self.core.unpin(*file).is_some();
        let gone: Vec<FileId> = msg.0.into_iter().map(FileId).filter(released).collect();
        let done = self.unlink_files(gone);
        ctx.spawn(done.into_actor(self));
    }
}

impl Handler<Reserve> for CacheActor {
    type Result = ResponseFuture<Result<Reserved, String>>;
    fn handle(&mut self, msg: Reserve, _: &mut Context<Self>) -> Self::Result {
        match self.core.reserve(&msg.object, msg.bytes, purpose(msg.purpose), self.clock.now()) {
            Err(refusal) => Box::pin(std::future::ready(Err(refusal.to_string()))),
            Ok((file, victims)) => {
                self.reserved.insert(file, msg.object.clone());
                let temp = self.files.tmp().join(file.0.to_string());
                let for_staging = matches!(msg.purpose, Purpose::Forecast { .. } | Purpose::Learned);
                let unlinked = self.unlink(victims, for_staging);
                Box::pin(async move {
                    unlinked.await;
                    Ok(Reserved { file: file.0, temp })
                })
            }
        }
    }
}

impl Handler<Commit> for CacheActor {
    type Result = Later<Result<Held, String>>;
    fn handle(&mut self, msg: Commit, _: &mut Context<Self>) -> Self::Result {
        let (files, slow) = (self.files.clone(), self.slow);
        let file = FileId(msg.file);
        let temp = msg.temp.clone();
        let bytes = msg.bytes;
        let admitted = async move {
            let admit = move || files.admit(&temp, file, bytes);
            match slow.run(admit).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(e)) => Err(e.to_string()),
                Err(e) => Err(e.to_string()),
            }
        };
        Box::pin(admitted.into_actor(self).map(move |admitted, actor, ctx| {
            if let Err(e) = admitted {
                actor.reserved.remove(&file);
                actor.core.cancel(file);
                return Err(e);
            }
            actor.enter(file, &msg, ctx)
        }))
    }
}

impl CacheActor {
    /// A whole file enters the index.
    fn enter(&mut self, file: FileId, msg: &Commit, ctx: &mut Context<Self>) -> Result<Held, String> {
        let now = self.clock.now();
        self.reserved.remove(&file);
        match self.core.commit(file, msg.bytes, msg.etag.clone(), now) {
            Ok(victims) => {
                self.checksums.insert(file, msg.checksum);
                self.unlink_later(victims, ctx);
            }
            Err(refusal) => {
                let gone = self.unlink_files(vec![file]);
                ctx.spawn(gone.into_actor(self));
                return Err(refusal.to_string());
            }
        }
        let object = msg.object.clone();
        if msg.pin {
            self.core.pin(&object);
        }
        self.persist(&object);
        self.tell(&object, msg.bytes, true, false, false);
        self.held(&object, file, false, false).ok_or_else(|| "it was evicted at once".to_owned())
    }
}

impl Handler<Adopt> for CacheActor {
    type Result = Later<Result<Held, String>>;
    fn handle(&mut self, msg: Adopt, _: &mut Context<Self>) -> Self::Result {
        let bytes = msg.bytes;
        let (file, victims) =
            match self.core.reserve(&msg.object, bytes, super::Purpose::Named, self.clock.now()) {
                Ok(room) => room,
                Err(refusal) => return Box::pin(fut::ready(Err(refusal.to_string()))),
            };
        let unlinked = self.unlink(victims, false);
        let (files, slow) = (self.files.clone(), self.slow);
        let from = msg.from.clone();
        let adopted = async move {
            unlinked.await;
            match slow.run(move || files.adopt(&from, file)).await {
                Ok(Ok(a)) => Ok(a),
                Ok(Err(e)) => Err(e.to_string()),
                Err(e) => Err(e.to_string()),
            }
        };
        Box::pin(adopted.into_actor(self).map(move |adopted, actor, ctx| match adopted {
            Err(e) => {
                actor.core.cancel(file);
                Err(e)
            }
            Ok(adopted) => {
                let commit = Commit {
                    file: file.0,
                    object: msg.object,
                    temp: msg.from,
                    bytes: adopted.bytes,
                    etag: msg.etag,
                    checksum: adopted.checksum,
                    pin: false,
                };
                actor.enter(file, &commit, ctx)
            }
        }))
    }
}

impl Handler<Abandon> for CacheActor {
    type Result = ();
    fn handle(&mut self, msg: Abandon, _: &mut Context<Self>) {
        self.reserved.remove(&FileId(msg.0));
        self.core.cancel(FileId(msg.0));
    }
}

impl Handler<Raise> for CacheActor {
    type Result = ();
    fn handle(&mut self, msg: Raise, _: &mut Context<Self>) {
        self.core.raise(FileId(msg.0));
    }
}

impl Handler<Rank> for CacheActor {
    type Result = ();
    fn handle(&mut self, msg: Rank, _: &mut Context<Self>) {
        for (object, need) in msg.0 {
            self.core.set_need(&object, need.map(|(due, p)| Need { due, p }));
        }
    }
}

impl Handler<Expect> for CacheActor {
    type Result = MessageResult<Expect>;
    fn handle(&mut self, msg: Expect, ctx: &mut Context<Self>) -> Self::Result {
        msg.protect.iter().for_each(|object| self.core.protect(object));
        let victims: Vec<Victim> = msg.release.iter().filter_map(|o| self.core.release(o)).collect();
        if !victims.is_empty() {
            self.unlink_later(victims, ctx);
        }
        let fill = self.core.fill();
        MessageResult(PoolFill {
            capacity_bytes: fill.capacity_bytes,
            entry_bytes: fill.entry_bytes,
            entries: fill.entries,
            inserts: fill.inserts,
        })
    }
}

impl Handler<Confirm> for CacheActor {
    type Result = ();
    fn handle(&mut self, msg: Confirm, _: &mut Context<Self>) {
        self.core.confirm(&msg.object, msg.etag, self.clock.now());
        self.persist(&msg.object);
    }
}

impl Handler<Discard> for CacheActor {
    type Result = ();
    fn handle(&mut self, msg: Discard, ctx: &mut Context<Self>) {
        // A transfer that began before brings what must not be read any more: its commit finds no room.
        let stale: Vec<FileId> =
            self.reserved.iter().filter(|(_, o)| msg.0.contains(o)).map(|(file, _)| *file).collect();
        for file in stale {
            self.reserved.remove(&file);
            self.core.cancel(file);
        }
        let victims: Vec<Victim> = msg.0.iter().filter_map(|o| self.core.drop_object(o)).collect();
        self.unlink_later(victims, ctx);
    }
}

impl Handler<Keep> for CacheActor {
    type Result = bool;
    fn handle(&mut self, msg: Keep, _: &mut Context<Self>) -> bool {
        let there = self.core.set_user_pin(&msg.0, msg.1);
        self.persist(&msg.0);
        there
    }
}

impl Handler<Evict> for CacheActor {
    type Result = Option<bool>;
    fn handle(&mut self, msg: Evict, ctx: &mut Context<Self>) -> Option<bool> {
        if !self.core.contains(&msg.0) {
            return None;
        }
        let victim = self.core.evict(&msg.0);
        let gone = victim.is_some();
        self.unlink_later(victim.into_iter().collect(), ctx);
        Some(gone)
    }
}

impl Handler<Verify> for CacheActor {
    type Result = Later<Option<Result<u64, String>>>;
    fn handle(&mut self, msg: Verify, _: &mut Context<Self>) -> Self::Result {
        let object = msg.0;
        let Some((file, bytes)) = self.core.get(&object).map(|e| (e.file, e.bytes)) else {
            return Box::pin(fut::ready(None));
        };
        let checksum = self.checksums.get(&file).copied();
        let files = self.files.clone();
        let read = self.slow.run(move || files.verify(file, bytes, checksum));
        Box::pin(read.into_actor(self).map(move |verdict, actor, ctx| {
            Some(match verdict {
                Ok(Verdict::Good) => Ok(bytes),
                Ok(bad) => {
                    // Dropped whoever uses it: a task that read it must not be followed by another.
                    let victim = actor.core.drop_object(&object);
                    actor.unlink_later(victim.into_iter().collect(), ctx);
                    Err(damage(&bad))
                }
                Err(e) => Err(e.to_string()),
            })
        }))
    }
}

impl Handler<Look> for CacheActor {
    type Result = ();
    fn handle(&mut self, msg: Look, _: &mut Context<Self>) {
        (msg.0)(&self.core);
    }
}

impl Handler<Count> for CacheActor {
    type Result = MessageResult<Count>;
    fn handle(&mut self, _: Count, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.looked)
    }
}

/// What is wrong with a file, in words.
fn damage(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Good => "nothing".into(),
        Verdict::Missing => "its file is gone".into(),
        Verdict::WrongSize { found_bytes } => format!("its file has {found_bytes} bytes"),
        Verdict::WrongChecksum { .. } => "its bytes have changed".into(),
        Verdict::Unreadable(e) => e.to_string(),
    }
}

fn purpose(p: Purpose) -> super::Purpose {
    match p {
        Purpose::Demand => super::Purpose::Demand,
        Purpose::Forecast { due, p } => super::Purpose::Forecast(Need { due, p }),
        Purpose::Learned => super::Purpose::Learned,
        Purpose::Named => super::Purpose::Named,
    }
}

/// Asks the core something, from elsewhere.
///
/// # Errors
/// If the actor is gone.
pub async fn look<R: Send + 'static>(
    cache: &Addr<CacheActor>,
    ask: impl FnOnce(&CacheCore) -> R + Send + 'static,
) -> Result<R, MailboxError> {
    let (tx, rx) = oneshot::channel();
    cache.send(Look(Box::new(move |core| _ = tx.send(ask(core))))).await?;
    rx.await.map_err(|_| MailboxError::Closed)
}

/// The newest moment that the index knows of, for a clock that must not go back.
pub fn latest(stored: &[Stored]) -> Time {
    stored.iter().map(|s| s.entry.last_used.max(s.entry.checked_at)).max().unwrap_or(Time::ZERO)
}
