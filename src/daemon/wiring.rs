//! Who knows whom: the only place that sees all actors.
//!
//! Addresses come first: an actor's address is known before the actor is made, so every actor gets all of its
//! peers at once, and nothing is wired later. Arbiter 0 (the caller's) has dispatch and the socket; one
//! arbiter has monitor, predictor, prefetcher, caches, roster and diary; one has the workers.

use super::crew::{self, Crew, Parts};
use super::diary::Diary;
use super::keep::Keeper;
use super::played::Played;
use super::record::{Found, Names};
use super::setup::Setup;
use crate::cache::actor::{CacheActor, IndexChange};
use crate::dispatch::actor::{DispatchActor, Peers as DispatchPeers, Recorder, WorkerPeer};
use crate::dispatch::{Dispatch, Step};
use crate::flow::{CacheId, WorkerId};
use crate::monitor::actor::MonitorActor;
use crate::monitor::sample::Sampler;
use crate::predict::actor::PredictActor;
use crate::predict::objects::actor::ObjectsActor;
use crate::prefetch::actor::{Peers as PrefetchPeers, PrefetchActor};
use crate::prefetch::carry::Network;
use crate::prefetch::core::Prefetch;
use crate::prefetch::flights::{Retry, SourceLimits};
use crate::slow::Slow;
use crate::store::{Gauge, Record, state};
use crate::time::Clock;
use crate::worker::actor::WorkerActor;
use crate::worker::roster_actor::RosterActor;
use crate::worker::run::Helper;
use actix::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;
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
    /// What comes next that no template names.
    pub objects: Addr<ObjectsActor>,
    /// Transfers and agenda.
    pub prefetch: Addr<PrefetchActor>,
    /// All profiles.
    pub roster: Addr<RosterActor>,
    /// Decisions.
    pub diary: Addr<Diary>,
    /// Outside workers.
    pub crew: Arc<Crew>,
    /// The latest attempts.
    pub played: Addr<Played>,
    /// How much of the record is unwritten.
    pub unwritten: Gauge,
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
    let played = Played::start_in_arbiter(side, |_| Played::default());
    let (dispatch, give_dispatch) =
        promise(&here, move |(core, record, peers, names): (Dispatch, Record, DispatchPeers, Names)| {
            DispatchActor::new(core, clock, recorder(record, names), peers, Box::new(fatal))
        });
    let (prefetch, give_prefetch) =
        promise(side, move |(peers, core)| PrefetchActor::new(peers, clock, core));
    let (monitor, give_monitor) = promise(side, {
        let keeper = keeper.clone();
        let world = (names.catalogue.clone(), setup.places.clone());
        move |(core, told)| {
            let counters = Box::new(Sampler::default());
            MonitorActor::new(core, clock, counters, told, series_keeper(keeper), world, Slow::Beside)
        }
    });
    let (predict, give_predict) = promise(side, {
        let keeper = keeper.clone();
        let every = setup.config.predict.snapshot_every;
        move |(core, told)| PredictActor::new(core, clock, told, snapshot_keeper(keeper), every)
    });

    let (objects, give_objects) = promise(side, {
        let keeper = keeper.clone();
        let every = setup.config.predict.snapshot_every;
        let names: Vec<String> = setup.config.caches.iter().map(|c| c.name.clone()).collect();
        move |(pools, caches, prefetch)| {
            ObjectsActor::new(pools, caches, prefetch, clock, history_keeper(keeper, names), every)
        }
    });

    let mut pools = setup.pools;
    let caches: Vec<Addr<CacheActor>> = pools
        .drain(..)
        .enumerate()
        .map(|(i, pool)| {
            let tree = state::cache_tree(&setup.config.caches[i].name);
            let keeper = keeper.clone();
            let told =
                vec![dispatch.clone().recipient(), prefetch.clone().recipient(), objects.clone().recipient()];
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

    let parts = Parts {
        config: setup.config.clone(),
        catalogue: names.catalogue.clone(),
        places: setup.places.clone(),
        helper,
        work: setup.work,
        links: setup.links,
        logs: setup.logs,
        can_mount,
        clock,
        caches: caches.clone(),
        prefetch: prefetch.clone(),
        monitor: monitor.clone(),
        roster: roster.clone(),
        smoothing: setup.smoothing,
        keeper: keeper.clone(),
    };
    let mut workers = Vec::new();
    let mut profiles = setup.profiles.into_iter();
    for ((i, w), bounds) in setup.config.workers.iter().enumerate().zip(setup.bounds) {
        let id = WorkerId(i as u16);
        let shared = parts.shared(&parts.folders(id, &w.name, w.cache, w.argv_prefix.clone(), bounds));
        let (slots, smoothing) = (w.slots, setup.smoothing);
        let told = roster.clone().recipient();
        let (parts, name) = (parts.clone(), w.name.clone());
        let profile = profiles.next().unwrap_or_default();
        workers.push(WorkerActor::start_in_arbiter(crew, move |_| {
            WorkerActor::new(shared, slots, profile, smoothing, told, parts.profile_keeper(&name))
        }));
    }

    give_monitor((
        setup.monitor,
        vec![dispatch.clone().recipient(), predict.clone().recipient(), prefetch.clone().recipient()],
    ));
    give_predict((setup.predict, vec![prefetch.clone().recipient(), monitor.clone().recipient()]));
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
        unforeseen: objects.clone().recipient(),
        declined: objects.clone().recipient(),
    };
    let expecting = caches.iter().map(|c| c.clone().recipient()).collect();
    give_objects((setup.histories, expecting, prefetch.clone().recipient()));
    give_prefetch((peers, core));

    let mut core =
        Dispatch::new(setup.dispatch, names.catalogue.clone(), setup.places, setup.worker_specs, epoch);
    crew::away(&names.workers, workers.len()).for_each(|w| core.attach(w));
    for (name, settings) in found.groups {
        core.restore_group(&name, settings);
    }
    for (name, recurring) in found.recurring {
        core.restore_recurring(&name, recurring, clock.now());
    }
    let recovered: Step =
        core.recover(clock.now(), next, ended.into_iter(), found.keys.into_iter(), found.live);
    let here = |w: &Addr<WorkerActor>| WorkerPeer::Here {
        assign: w.clone().recipient(),
        stop: w.clone().recipient(),
        learned: w.clone().recipient(),
    };
    let mut worker_peers: Vec<WorkerPeer> = workers.iter().map(here).collect();
    worker_peers.resize_with(core.specs().len(), || WorkerPeer::Away);
    let learned = vec![
        predict.clone().recipient(),
        prefetch.clone().recipient(),
        monitor.clone().recipient(),
        played.clone().recipient(),
    ];
    let dispatch_peers = DispatchPeers {
        workers: worker_peers,
        // Who stages hears of a task first: then its forecast, which speaks of what comes after it.
        arrived: vec![prefetch.clone().recipient(), predict.clone().recipient()],
        plan: vec![prefetch.clone().recipient(), monitor.clone().recipient()],
        writing: vec![prefetch.clone().recipient()],
        learned,
        decisions: vec![diary.clone().recipient()],
    };
    let profiles = profiles.enumerate().map(|(i, p)| (WorkerId((workers.len() + i) as u16), p)).collect();
    let outside =
        Crew::new(parts, crew.clone(), names.workers.clone(), dispatch.clone(), predict.clone(), profiles);
    let unwritten = record.gauge();
    give_dispatch((core, record, dispatch_peers, names));
    dispatch.clone().try_send(crate::dispatch::actor::Resume(recovered)).expect("a fresh mailbox has room");
    let crew = Arc::new(outside);
    House {
        dispatch,
        workers,
        caches,
        monitor,
        predict,
        objects,
        prefetch,
        roster,
        diary,
        played,
        crew,
        unwritten,
    }
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
    Box::new(move |seq, bytes, on_disk| {
        let done = Box::new(move || _ = on_disk.fetch_max(seq, Ordering::Release));
        keeper.put_durable(state::SNAPSHOTS, super::setup::PREDICTOR.to_vec(), bytes, done);
    })
}

fn history_keeper(keeper: Keeper, names: Vec<String>) -> crate::predict::objects::actor::HistoryKeeper {
    Box::new(move |cache, bytes| {
        let name = &names[usize::from(cache.0)];
        keeper.put(state::SNAPSHOTS, state::history_key(name), Some(bytes));
    })
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
