//! Who works: the names and numbers of all workers, and how an outside one gets its actor.

use super::keep::Keeper;
use crate::config::Config;
use crate::dispatch::WorkerSpec;
use crate::dispatch::actor::DispatchActor;
use crate::dispatch::outside::{Attach, OutsidePeer};
use crate::flow::{CacheId, TypeId, WorkerId};
use crate::message::{Attached, Fact};
use crate::monitor::actor::MonitorActor;
use crate::predict::actor::PredictActor;
use crate::prefetch::actor::PrefetchActor;
use crate::slow::Slow;
use crate::store::state;
use crate::task::{Catalogue, Places};
use crate::time::{Clock, Span};
use crate::worker::actor::ProfileKeeper;
use crate::worker::attempt::Shared;
use crate::worker::children::InFolders;
use crate::worker::folder::WorkRoot;
use crate::worker::inputs::Links;
use crate::worker::outside_actor::{Begin, OutsideActor, SessionId};
use crate::worker::profile::{Figures, Profile, Smoothing};
use crate::worker::roster_actor::RosterActor;
use crate::worker::run::Helper;
use crate::worker::wire::Bounds;
use actix::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// Most workers that may be known, configured and outside ones together: each keeps a profile.
pub const MOST: usize = 2_048;

/// Names by number, and numbers by name. It only grows: a number is never given to another name.
#[derive(Debug)]
pub struct Roll(RwLock<Vec<Arc<str>>>);

/// [`MOST`] workers are known.
#[derive(Debug)]
pub struct Full;

/// Why a worker cannot attach.
#[derive(Debug)]
pub enum Refused {
    /// [`MOST`] workers are known.
    Full,
    /// It attached with this pool before, where its attempts' data may still be.
    OtherPool(CacheId),
}

impl Roll {
    /// With the configured workers.
    pub fn new<'n>(configured: impl Iterator<Item = &'n str>) -> Roll {
        Roll(RwLock::new(configured.map(Arc::from).collect()))
    }

    /// A worker's name.
    pub fn name(&self, id: WorkerId) -> Option<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(usize::from(id.0)).cloned()
    }

    /// A worker's number.
    pub fn id(&self, name: &str) -> Option<WorkerId> {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names.iter().position(|w| **w == *name).map(|i| WorkerId(i as u16))
    }

    /// A worker's number; the next one if it was not known.
    ///
    /// # Errors
    /// [`Full`].
    pub fn add(&self, name: &str) -> Result<WorkerId, Full> {
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(i) = names.iter().position(|w| **w == *name) {
            return Ok(WorkerId(i as u16));
        }
        if names.len() >= MOST {
            return Err(Full);
        }
        names.push(name.into());
        Ok(WorkerId((names.len() - 1) as u16))
    }

    /// All names, by number.
    pub fn all(&self) -> Vec<Arc<str>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What every worker's actor is made of.
#[derive(Clone)]
pub struct Parts {
    /// The configuration.
    pub config: Arc<Config>,
    /// Task types.
    pub catalogue: Arc<Catalogue>,
    /// Cells and shards.
    pub places: Arc<Places>,
    /// The spawn helper that is alive.
    pub helper: watch::Receiver<Helper>,
    /// Work folders.
    pub work: Arc<WorkRoot>,
    /// Linked cache files.
    pub links: Arc<Links>,
    /// Logs.
    pub logs: PathBuf,
    /// Whether `in/` can be mounted read-only.
    pub can_mount: bool,
    /// The clock.
    pub clock: Clock,
    /// Pools, by index.
    pub caches: Vec<Addr<crate::cache::actor::CacheActor>>,
    /// Transfers.
    pub prefetch: Addr<PrefetchActor>,
    /// The monitor.
    pub monitor: Addr<MonitorActor>,
    /// All profiles.
    pub roster: Addr<RosterActor>,
    /// How profiles are smoothed.
    pub smoothing: Smoothing,
    /// Keeps profiles on disk.
    pub keeper: Keeper,
}

impl Parts {
    /// Where one worker's children run.
    pub fn folders(
        &self,
        id: WorkerId,
        name: &str,
        cache_id: CacheId,
        argv_prefix: Vec<String>,
        bounds: Bounds,
    ) -> Arc<InFolders> {
        let record = &self.config.record;
        Arc::new(InFolders {
            id,
            name: name.to_owned(),
            cache_id,
            argv_prefix,
            bounds,
            catalogue: self.catalogue.clone(),
            places: self.places.clone(),
            helper: self.helper.clone(),
            work: self.work.clone(),
            links: self.links.clone(),
            as_root: rustix::process::geteuid().is_root(),
            can_mount: self.can_mount,
            logs: self.logs.clone(),
            log_cap_bytes: record.log_cap_bytes,
            keep_failed_work: record.keep_failed_work > Span::ZERO,
            keep_done_work: record.keep_work > Span::ZERO,
            publish: self.prefetch.clone().recipient(),
            monitor: self.monitor.clone().recipient(),
        })
    }

    /// What the attempts of one worker share.
    pub fn shared(&self, folders: &Arc<InFolders>) -> Shared {
        let cache = &self.caches[usize::from(folders.cache_id.0)];
        Shared {
            id: folders.id,
            cache_id: folders.cache_id,
            clock: self.clock,
            children: folders.clone(),
            cache: (cache.clone().recipient(), cache.clone().recipient()),
            prefetch: self.prefetch.clone().recipient(),
            slow: Slow::Beside,
        }
    }

    /// Keeps a worker's profile under its name.
    pub fn profile_keeper(&self, name: &str) -> ProfileKeeper {
        let (keeper, name, catalogue) = (self.keeper.clone(), name.to_owned(), self.catalogue.clone());
        Box::new(move |t: TypeId, figures: &Figures| {
            let key = format!("{name}/{}", catalogue.name(t)).into_bytes();
            match serde_json::to_vec(figures) {
                Ok(json) => keeper.put(state::PROFILES, key, Some(json)),
                Err(error) => tracing::error!(%error, "a profile could not be written"),
            }
        })
    }
}

/// An outside worker that wants to work.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its name.
    pub name: String,
    /// How many attempts it holds at once.
    pub slots: u32,
    /// Which types it runs; `None` is all.
    pub types: Option<Vec<TypeId>>,
    /// Its cache.
    pub cache: CacheId,
    /// Cells whose data it reaches best.
    pub near: Vec<crate::flow::CellId>,
    /// How long it may be silent.
    pub lease: Span,
}

/// Outside workers.
pub struct Crew {
    parts: Parts,
    arbiter: ArbiterHandle,
    roll: Arc<Roll>,
    dispatch: Addr<DispatchActor>,
    predict: Addr<PredictActor>,
    /// Profiles from before of those that have no actor yet.
    profiles: BTreeMap<WorkerId, Profile>,
    actors: tokio::sync::Mutex<BTreeMap<WorkerId, (Addr<OutsideActor>, CacheId)>>,
    next_session: AtomicU64,
}

impl Crew {
    /// Nobody has attached yet.
    pub fn new(
        parts: Parts,
        arbiter: ArbiterHandle,
        roll: Arc<Roll>,
        dispatch: Addr<DispatchActor>,
        predict: Addr<PredictActor>,
        profiles: BTreeMap<WorkerId, Profile>,
    ) -> Crew {
        let actors = Default::default();
        Crew { parts, arbiter, roll, dispatch, predict, profiles, actors, next_session: AtomicU64::new(1) }
    }

    /// The actor of an outside worker that has attached since the start.
    pub async fn find(&self, name: &str) -> Option<(WorkerId, Addr<OutsideActor>)> {
        let id = self.roll.id(name)?;
        self.actors.lock().await.get(&id).map(|(actor, _)| (id, actor.clone()))
    }

    /// Begins a session of an outside worker, for whom everybody makes room first.
    ///
    /// # Errors
    /// [`Refused`], or an actor that is gone.
    pub async fn attach(&self, order: Order) -> Result<Result<SessionId, Refused>, MailboxError> {
        let Ok(id) = self.roll.add(&order.name) else { return Ok(Err(Refused::Full)) };
        // One at a time: what others are told of a worker comes in the order of its sessions.
        let mut actors = self.actors.lock().await;
        let (actor, cache) =
            actors.entry(id).or_insert_with(|| (self.start(id, &order), order.cache)).clone();
        if cache != order.cache {
            return Ok(Err(Refused::OtherPool(cache)));
        }
        let spec = WorkerSpec {
            id,
            name: order.name.clone(),
            slots: order.slots,
            outside: true,
            types: order.types.clone(),
            cache: order.cache,
            near: order.near.clone(),
            memory_bytes: None,
        };
        let peer = OutsidePeer {
            give: actor.clone().recipient(),
            stop: actor.clone().recipient(),
            learned: actor.clone().recipient(),
        };
        let session = SessionId(self.next_session.fetch_add(1, Ordering::Relaxed));
        let away = Attach { spec: WorkerSpec { slots: 0, ..spec.clone() }, peer: peer.clone() };
        let dispatch = self.dispatch.clone();
        let ended = Box::new(move || {
            // If there is no room, it is taken to be there until it attaches again, and gets nothing: it asks
            // for nothing.
            let _ = dispatch.try_send(away);
        });
        actor.send(Begin { session, lease: order.lease, ended }).await?;
        self.tell(Attached {
            worker: id,
            name: order.name.as_str().into(),
            types: order.types.unwrap_or_else(|| self.parts.catalogue.iter().map(|(t, _)| t).collect()),
            cache: order.cache,
        })
        .await?;
        self.dispatch.send(Attach { spec, peer }).await?;
        Ok(Ok(session))
    }

    async fn tell(&self, attached: Attached) -> Result<(), MailboxError> {
        self.parts.roster.send(Fact(attached.clone())).await?;
        self.parts.monitor.send(Fact(attached.clone())).await?;
        self.parts.prefetch.send(Fact(attached.clone())).await?;
        self.predict.send(Fact(attached)).await
    }

    /// A new actor on this arbiter, which is dispatch's: they have much to say to each other.
    /// A request is no actor, so the worker's actor is started on an arbiter and not where the request is served.
    fn start(&self, id: WorkerId, order: &Order) -> Addr<OutsideActor> {
        let parts = self.parts.clone();
        let profile = self.profiles.get(&id).cloned().unwrap_or_default();
        let (name, cache, dispatch) = (order.name.clone(), order.cache, self.dispatch.clone());
        OutsideActor::start_in_arbiter(&self.arbiter, move |_| {
            let folders = parts.folders(id, &name, cache, Vec::new(), Bounds::default());
            let shared = parts.shared(&folders);
            let (roster, keeper) = (parts.roster.clone().recipient(), parts.profile_keeper(&name));
            OutsideActor::new(shared, folders, dispatch.recipient(), profile, parts.smoothing, roster, keeper)
        })
    }
}

/// Workers that are known from before and away now, as dispatch sees them.
pub fn away(roll: &Roll, configured: usize) -> impl Iterator<Item = WorkerSpec> {
    let names = roll.all().into_iter().enumerate().skip(configured);
    names.map(|(i, name)| WorkerSpec {
        id: WorkerId(i as u16),
        name: name.to_string(),
        slots: 0,
        outside: true,
        types: None,
        cache: CacheId(0),
        near: Vec::new(),
        memory_bytes: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number_and_the_roll_is_bounded() {
        let roll = Roll::new(["fast", "slow"].into_iter());
        assert_eq!(roll.add("far").unwrap(), WorkerId(2));
        assert_eq!((roll.add("fast").unwrap(), roll.add("far").unwrap()), (WorkerId(0), WorkerId(2)));
        assert_eq!(roll.name(WorkerId(2)).as_deref(), Some("far"));
        (3..MOST).for_each(|i| _ = roll.add(&format!("w{i}")).unwrap());
        assert!(roll.add("one-too-many").is_err());
        assert!(roll.add("w7").is_ok());
    }
}
