//! Who knows whom: the only place that sees all actors.
//!
//! Addresses come first: an actor's address is known before the actor is made, so every actor gets all of its
//! peers at once, and nothing is wired later. Arbiter 0 (the caller's) has dispatch and the socket; one
//! arbiter has monitor, predictor, prefetcher, caches, roster and diary; one has the workers.

use super::diary::Diary;
use super::keep::Keeper;
use super::record::{Found, Names};
use super::setup::Setup;
use crate::cache::actor::{CacheActor, IndexChange};
use crate::dispatch::actor::{DispatchActor, Peers as DispatchPeers, Recorder};
use crate::dispatch::{Dispatch, Step};
use crate::flow::{CacheId, WorkerId};
use crate::monitor::actor::MonitorActor;
use crate::monitor::sample::Sampler;
use crate::predict::actor::PredictActor;
use crate::prefetch::actor::{Peers as PrefetchPeers, PrefetchActor};
use crate::prefetch::carry::Network;
use crate::prefetch::core::Prefetch;
use crate::prefetch::flights::{Retry, SourceLimits};
use crate::slow::Slow;
use crate::store::{Record, state};
use crate::time::Clock;
use crate::worker::actor::WorkerActor;
use crate::worker::attempt::Shared;
use crate::worker::children::InFolders;
use crate::worker::roster_actor::RosterActor;
use crate::worker::run::Helper;
use actix::prelude::*;
use std::sync::Arc;
use std::sync::mpsc::channel;
use tokio::sync::watch;

/// All actors.
#[derive(Clone)]
pub struct House {
    /// The queue.
    pub dispatch: Addr<DispatchActor>,
    /// By worker index.
    pub workers: Vec<Addr<WorkerActor>>,
    /// By cache index.
    pub caches: Vec<Addr<CacheActor>>,
    /// The monitor.
    pub monitor: Addr<MonitorActor>,
    /// The predictor.
    pub predict: Addr<PredictActor>,
    /// Transfers and agenda.
    pub prefetch: Addr<PrefetchActor>,
    /// All profiles.
    pub roster: Addr<RosterActor>,
    /// Decisions.
    pub diary: Addr<Diary>,
}

/// What the wiring is given besides the set-up.
pub struct Given {
    /// The clock.
    pub clock: Clock,
    /// Names for rows.
    pub names: Names,
    /// The open record.
    pub record: Record,
    /// What it held.
    pub found: Found,
    /// How earlier tasks ended.
    pub ended: Vec<(crate::flow::TaskId, crate::task::State)>,
    /// This start's number, and the numbers of the next task and the next outcome.
    pub epoch: u32,
    /// Numbers of the next task and the next outcome.
    pub next: (u64, u64),
    /// Keeps what can be rebuilt.
    pub keeper: Keeper,
    /// The helper that is alive.
    pub helper: watch::Receiver<Helper>,
    /// Whether `in/` can be mounted read-only.
    pub can_mount: bool,
}

/// An actor whose parts arrive after its address is known.
fn promise<A, P>(
    arbiter: &ArbiterHandle,
    make: impl FnOnce(P) -> A + Send + 'static,
) -> (Addr<A>, impl FnOnce(P))
where
    A: Actor<Context = Context<A>>,
    P: Send + 'static,
{
    let (tx, rx) = channel::<P>();
    let addr = A::start_in_arbiter(arbiter, move |_| {
        make(rx.recv().expect("the wiring gives every actor its parts"))
    });
    (addr, move |parts| _ = tx.send(parts))
}

/// Starts all actors. `arbiters` are those of the monitor's side and of the workers.
pub fn wire(setup: Setup, given: Given, arbiters: [&ArbiterHandle; 2]) -> House {
    let [side, crew] = arbiters;
    let here = Arbiter::current();
    let Given { clock, names, record, found, ended, epoch, next, keeper, helper, can_mount } = given;

    let diary = Diary::start_in_arbiter(side, |_| Diary::default());
    let (dispatch, give_dispatch) =
        promise(&here, move |(core, record, peers, names): (Dispatch, Record, DispatchPeers, Names)| {
            DispatchActor::new(core, clock, recorder(record, names), peers, Box::new(fatal))
        });
    let (prefetch, give_prefetch) =
        promise(side, move |(peers, core)| PrefetchActor::new(peers, clock, core));
    let (monitor, give_monitor) = promise(side, {
        let keeper = keeper.clone();
        move |(core, told)| {
            MonitorActor::new(
                core,
                clock,
                Box::new(Sampler::default()),
                told,
                series_keeper(keeper),
                Slow::Beside,
            )
        }
    });
    let (predict, give_predict) = promise(side, {
        let keeper = keeper.clone();
        let every = setup.config.predict.snapshot_every;
        move |(core, told)| PredictActor::new(core, clock, told, snapshot_keeper(keeper), every)
    });

    let mut pools = setup.pools;
    let caches: Vec<Addr<CacheActor>> = pools
        .drain(..)
        .enumerate()
        .map(|(i, pool)| {
            let tree = state::cache_tree(&setup.config.caches[i].name);
            let keeper = keeper.clone();
            let told = vec![dispatch.clone().recipient(), prefetch.clone().recipient()];
            CacheActor::start_in_arbiter(side, move |_| {
                let id = CacheId(i as u16);
                CacheActor::new(
                    id,
                    pool.core,
                    pool.checksums,
                    pool.files,
                    clock,
                    index_keeper(keeper, tree),
                    told,
                    Slow::Beside,
                )
            })
        })
        .collect();

    let roster_told = vec![dispatch.clone().recipient(), predict.clone().recipient()];
    let roster_core = setup.roster;
    let roster = RosterActor::start_in_arbiter(side, move |_| RosterActor::new(roster_core, roster_told));

    let mut workers = Vec::new();
    for (i, (w, profile)) in setup.config.workers.iter().zip(setup.profiles).enumerate() {
        let cache = &caches[usize::from(w.cache.0)];
        let id = WorkerId(i as u16);
        let children = InFolders {
            id,
            name: w.name.clone(),
            cache_id: w.cache,
            argv_prefix: w.argv_prefix.clone(),
            bounds: setup.bounds[i].clone(),
            catalogue: names.catalogue.clone(),
            places: setup.places.clone(),
            helper: helper.clone(),
            work: setup.work.clone(),
            links: setup.links.clone(),
            as_root: rustix::process::geteuid().is_root(),
            can_mount,
            logs: setup.logs.clone(),
            log_cap_bytes: setup.config.record.log_cap_bytes,
            keep_failed_work: setup.config.record.keep_failed_work > crate::time::Span::ZERO,
            keep_done_work: setup.config.record.keep_work > crate::time::Span::ZERO,
            publish: prefetch.clone().recipient(),
            monitor: monitor.clone().recipient(),
        };
        let shared = Shared {
            id,
            cache_id: w.cache,
            clock,
            children: Arc::new(children),
            cache: (cache.clone().recipient(), cache.clone().recipient()),
            prefetch: prefetch.clone().recipient(),
            slow: Slow::Beside,
        };
        let (slots, smoothing) = (w.slots, setup.smoothing);
        let told = roster.clone().recipient();
        let (keeper, name, catalogue) = (keeper.clone(), w.name.clone(), names.catalogue.clone());
        workers.push(WorkerActor::start_in_arbiter(crew, move |_| {
            let keep = Box::new(move |t, figures: &crate::worker::profile::Figures| {
                let key = format!("{name}/{}", catalogue.name(t)).into_bytes();
                match serde_json::to_vec(figures) {
                    Ok(json) => keeper.put(state::PROFILES, key, Some(json)),
                    Err(error) => tracing::error!(%error, "a profile could not be written"),
                }
            });
            WorkerActor::new(shared, slots, profile, smoothing, told, keep)
        }));
    }

    give_monitor((
        setup.monitor,
        vec![dispatch.clone().recipient(), predict.clone().recipient(), prefetch.clone().recipient()],
    ));
    give_predict((setup.predict, vec![prefetch.clone().recipient()]));
    let limits = setup.sources.iter().map(|s| SourceLimits {
        connections: s.settings().connections,
        bytes_per_s: s.settings().bytes_per_s.map(|b| b as f64),
        retry: Retry::default(),
    });
    let core = Prefetch::new(
        setup.flights,
        setup.agenda,
        names.catalogue.clone(),
        setup.places.clone(),
        setup.config.workers.iter().map(|w| w.cache).collect(),
        limits,
        clock.now(),
    );
    let peers = PrefetchPeers {
        mover: Arc::new(Network::new(&setup.sources, clock)),
        sources: setup.sources,
        caches: caches.iter().map(pool_of).collect(),
        places: setup.places.clone(),
        private: setup.private,
        monitor: monitor.clone().recipient(),
        decisions: diary.clone().recipient(),
    };
    give_prefetch((peers, core));

    let mut core =
        Dispatch::new(setup.dispatch, names.catalogue.clone(), setup.places, setup.worker_specs, epoch);
    let recovered: Step =
        core.recover(clock.now(), next, ended.into_iter(), found.keys.into_iter(), found.live);
    let of = |w: &Addr<WorkerActor>| (w.clone().recipient(), w.clone().recipient(), w.clone().recipient());
    let dispatch_peers = DispatchPeers {
        workers: workers.iter().map(of).collect(),
        arrived: vec![predict.clone().recipient()],
        plan: vec![prefetch.clone().recipient()],
        writing: vec![prefetch.clone().recipient()],
        learned: vec![predict.clone().recipient(), prefetch.clone().recipient(), monitor.clone().recipient()],
        decisions: vec![diary.clone().recipient()],
    };
    give_dispatch((core, record, dispatch_peers, names));
    dispatch.clone().try_send(crate::dispatch::actor::Resume(recovered)).expect("a fresh mailbox has room");
    House { dispatch, workers, caches, monitor, predict, prefetch, roster, diary }
}

/// A pool, as the prefetcher talks to it.
pub fn pool_of(cache: &Addr<CacheActor>) -> crate::prefetch::Pool {
    crate::prefetch::Pool {
        reserve: cache.clone().recipient(),
        commit: cache.clone().recipient(),
        abandon: cache.clone().recipient(),
        raise: cache.clone().recipient(),
        hold: cache.clone().recipient(),
        unpin: cache.clone().recipient(),
        discard: cache.clone().recipient(),
        confirm: cache.clone().recipient(),
        adopt: cache.clone().recipient(),
        rank: cache.clone().recipient(),
    }
}

fn recorder(mut record: Record, names: Names) -> Recorder {
    Box::new(move |changes, done| {
        let rows = changes.into_iter().map(|c| names.rows(c)).collect();
        record.submit(rows, Box::new(move |result| done(result.map_err(|e| e.to_string()))));
    })
}

/// What is on disk is known only after a restart: stop at once, and let the next start read it.
fn fatal(why: String) {
    tracing::error!(%why, "the task record failed; the daemon stops, start it again");
    std::process::exit(70);
}

fn index_keeper(keeper: Keeper, tree: String) -> crate::cache::actor::Keeper {
    Box::new(move |change| match change {
        IndexChange::Put(stored) => match serde_json::to_vec(&*stored) {
            Ok(json) => keeper.put(&tree, index_key(stored.entry.object.as_str()), Some(json)),
            Err(error) => tracing::error!(%error, "an index entry could not be written"),
        },
        IndexChange::Gone(object) => keeper.put(&tree, index_key(object.as_str()), None),
    })
}

/// Names may be longer than a key may be, so the key is a hash; the entry holds the name.
fn index_key(object: &str) -> Vec<u8> {
    xxhash_rust::xxh3::xxh3_128(object.as_bytes()).to_be_bytes().to_vec()
}

fn snapshot_keeper(keeper: Keeper) -> crate::predict::actor::SnapshotKeeper {
    Box::new(move |_, bytes| keeper.put(state::SNAPSHOTS, b"predictor".to_vec(), Some(bytes)))
}

fn series_keeper(keeper: Keeper) -> crate::monitor::actor::SeriesKeeper {
    Box::new(move |changed, expired| {
        for (name, bytes) in changed {
            keeper.put(state::SERIES, name.into_bytes(), Some(bytes));
        }
        for name in expired {
            keeper.put(state::SERIES, name.into_bytes(), None);
        }
    })
}
