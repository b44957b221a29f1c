//! From a checked configuration and what is on disk to the cores that the actors will own.

use super::record::Names;
use crate::cache::actor::Stored;
use crate::cache::files::Files;
use crate::cache::{self, CacheCore, FileId};
use crate::config::{self, Config};
use crate::flow::{Map, TypeId, WorkerId};
use crate::monitor::{self, Monitor};
use crate::predict::objects::PoolHistory;
use crate::predict::{self, Predict};
use crate::prefetch::agenda::{self, Agenda};
use crate::prefetch::flights::{Budget, Flights};
use crate::prefetch::source::{self, Credentials, Source};
use crate::store::state::{self, State};
use crate::task::Places;
use crate::time::{Clock, Span};
use crate::worker::folder::WorkRoot;
use crate::worker::host::Capacity;
use crate::worker::inputs::Links;
use crate::worker::profile::{Figures, Profile, Smoothing};
use crate::worker::roster::Roster;
use crate::worker::wire::Bounds;
use crate::{dispatch, store};
use anyhow::Context as _;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Folder inside the work folder (so that links reach it) for files that no pool has room for.
const PRIVATE: &str = ".private";

/// One pool, checked against its files.
pub struct Pool {
    /// The index.
    pub core: CacheCore,
    /// Checksums of its files.
    pub checksums: Map<FileId, u128>,
    /// The files.
    pub files: Arc<Files>,
}

/// Everything the wiring needs.
pub struct Setup {
    /// The configuration.
    pub config: Arc<Config>,
    /// Sources, cells, shards.
    pub places: Arc<Places>,
    /// By cache index.
    pub pools: Vec<Pool>,
    /// By source index.
    pub sources: Vec<Arc<Source>>,
    /// By worker index.
    pub profiles: Vec<Profile>,
    /// By worker index.
    pub bounds: Vec<Bounds>,
    /// By worker index.
    pub worker_specs: Vec<dispatch::WorkerSpec>,
    /// All profiles.
    pub roster: Roster,
    /// How profiles are smoothed.
    pub smoothing: Smoothing,
    /// The monitor with its series.
    pub monitor: Monitor,
    /// The predictor with its snapshot.
    pub predict: Predict,
    /// The object predictors with theirs, by cache index.
    pub histories: Vec<PoolHistory>,
    /// The agenda.
    pub agenda: Agenda,
    /// The table of transfers.
    pub flights: Flights,
    /// For dispatch.
    pub dispatch: dispatch::Settings,
    /// Work folders.
    pub work: Arc<WorkRoot>,
    /// Linked cache files.
    pub links: Arc<Links>,
    /// Logs.
    pub logs: PathBuf,
    /// Private files of attempts that no pool has room for.
    pub private: PathBuf,
}

/// Builds it all; problems that are survivable are logged and listed in `damage`.
///
/// # Errors
/// A folder that cannot be made or is not ours, a source that cannot be opened.
pub fn setup(
    config: Arc<Config>,
    names: &Names,
    places: Arc<Places>,
    state: &State,
    clock: Clock,
    damage: &mut Vec<String>,
) -> anyhow::Result<Setup> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let capacity = host_capacity(cores);
    let pools = pools(&config, state, damage)?;
    let profiles = profiles(&config, names, state)?;
    let types = |w: &config::Worker| -> Vec<TypeId> {
        w.types.clone().unwrap_or_else(|| names.catalogue.iter().map(|(t, _)| t).collect())
    };
    // Outside workers that are known from before run nothing until they attach.
    let runs = |i: usize| config.workers.get(i).map(types).unwrap_or_default();
    let members = profiles.iter().enumerate().map(|(i, p)| (p.clone(), runs(i), capacity)).collect();
    let state_dir = &config.daemon.state_dir;
    let logs = state_dir.join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
    let work = WorkRoot::open(&config.daemon.work_dir)?;
    // What an earlier daemon left: its processes are gone, nobody needs these any more.
    let private = config.daemon.work_dir.join(PRIVATE);
    for name in work.names()?.into_iter().filter(|n| n != PRIVATE) {
        work.remove(&name)?;
    }
    if private.exists() {
        std::fs::remove_dir_all(&private).with_context(|| format!("empty {}", private.display()))?;
    }
    std::fs::create_dir_all(&private).with_context(|| format!("make {}", private.display()))?;
    let p = &config.profile;
    Ok(Setup {
        histories: histories(&config, &pools, state, damage)?,
        pools,
        sources: sources(&config, clock)?,
        bounds: config.workers.iter().map(bounds).collect(),
        worker_specs: config.workers.iter().enumerate().map(|(i, w)| worker_spec(i, w)).collect(),
        roster: Roster::new(members),
        smoothing: Smoothing {
            time: p.time,
            success: p.success,
            cpu: p.cpu,
            memory: p.memory,
            io: p.io,
            net: p.net,
        },
        monitor: monitor(&config, state)?,
        predict: predict(&config, names, state, damage)?,
        agenda: Agenda::new(staging(&config.staging), places.clone(), names.catalogue.clone()),
        flights: Flights::new(Budget { bytes_per_s: f64::INFINITY, connections: config.staging.connections }),
        dispatch: dispatch_settings(&config.dispatch),
        work: Arc::new(work),
        links: Arc::new(Links::default()),
        profiles,
        places,
        config,
        logs,
        private,
    })
}

/// What the host can give: the scale on which demands of types are compared.
fn host_capacity(cores: f64) -> Capacity {
    let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|t| {
        let kib: f64 = t.lines().next()?.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024.0)
    });
    Capacity {
        cpus: cores,
        memory_bytes: memory.unwrap_or(8e9),
        // Nobody declares the host's disk and network; what an ordinary SSD and a gigabit link give.
        io_bytes_per_s: 400e6,
        net_bytes_per_s: 125e6,
    }
}

fn pools(config: &Config, state: &State, damage: &mut Vec<String>) -> anyhow::Result<Vec<Pool>> {
    let mut pools = Vec::new();
    for c in &config.caches {
        std::fs::create_dir_all(&c.dir).with_context(|| format!("make the folder of cache `{}`", c.name))?;
        let (files, swept) =
            Files::open(&c.dir, &BTreeSet::new()).with_context(|| format!("cache `{}`", c.name))?;
        if swept.files > 0 {
            tracing::info!(
                cache = c.name,
                files = swept.files,
                bytes = swept.bytes,
                "removed unfinished files"
            );
        }
        let tree = state.tree(&state::cache_tree(&c.name))?;
        let mut stored: Vec<Stored> = Vec::new();
        let mut unreadable = 0;
        tree.scan::<Stored>(b"", |_, s| match s {
            Ok(s) => stored.push(s),
            Err(_) => unreadable += 1,
        })?;
        let claims: BTreeMap<_, u64> = stored.iter().map(|s| (s.entry.file, s.entry.bytes)).collect();
        let check = files.recheck(&claims)?;
        if unreadable > 0 {
            damage.push(format!("cache {}: {unreadable} entries could not be read and were dropped", c.name));
        }
        if !check.lost.is_empty() {
            // Ordinary after a crash: a file was evicted, and the index had not been flushed yet.
            tracing::info!(cache = c.name, entries = check.lost.len(), "dropped entries without their file");
        }
        let lost: BTreeSet<FileId> = check.lost.into_iter().collect();
        stored.retain(|s| !lost.contains(&s.entry.file));
        let limits = cache::Limits {
            capacity_bytes: c.capacity_bytes,
            min_free_bytes: c.min_free_bytes,
            policy: match c.policy {
                config::Eviction::Lru => cache::Policy::Lru,
                config::Eviction::Lfu => cache::Policy::Lfu,
            },
            rank_by_forecast: c.rank_by_forecast,
            learning: config.staging.mode == config::StagingMode::On,
        };
        let checksums = stored.iter().map(|s| (s.entry.file, s.checksum)).collect();
        let (core, refused) = CacheCore::restore(limits, stored.into_iter().map(|s| s.entry).collect());
        for entry in refused {
            files.unlink(entry.file)?;
        }
        pools.push(Pool { core, checksums, files: Arc::new(files) });
    }
    Ok(pools)
}

fn profiles(config: &Config, names: &Names, state: &State) -> anyhow::Result<Vec<Profile>> {
    let mut profiles: Vec<Profile> = config.workers.iter().map(|_| Profile::default()).collect();
    state.tree(state::PROFILES)?.scan::<Figures>(b"", |key, figures| {
        let Ok(figures) = figures else { return };
        let Some((worker, task_type)) = std::str::from_utf8(key).ok().and_then(|k| k.split_once('/')) else {
            return;
        };
        // Types that are configured no more keep theirs: they may come back. A worker that is not configured
        // is an outside one, and will be known when it attaches.
        let Some(t) = names.catalogue.find(task_type) else { return };
        if let Ok(WorkerId(w)) = names.workers.add(worker) {
            let w = usize::from(w);
            profiles.resize(profiles.len().max(w + 1), Profile::default());
            profiles[w].restore(t, figures);
        }
    })?;
    Ok(profiles)
}

fn sources(config: &Config, clock: Clock) -> anyhow::Result<Vec<Arc<Source>>> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let mut sources = Vec::new();
    for s in &config.sources {
        let kind = match &s.kind {
            config::SourceKind::File { path } => source::Kind::File { path: path.clone() },
            config::SourceKind::Http { url } => source::Kind::Http { url: url.clone() },
            config::SourceKind::S3 { bucket, endpoint, region, prefix } => source::Kind::S3 {
                bucket: bucket.clone(),
                endpoint: endpoint.clone(),
                region: region.clone(),
                prefix: prefix.clone(),
            },
        };
        let settings = source::Settings {
            consistency: match s.consistency {
                config::Consistency::Immutable => source::Consistency::Immutable,
                config::Consistency::Revalidate => source::Consistency::Revalidate,
                config::Consistency::Ttl(t) => source::Consistency::Ttl(t),
            },
            connections: s.connections,
            bytes_per_s: s.bytes_per_s,
            connect_timeout: s.connect_timeout,
            idle_timeout: s.timeout,
            retries: s.retries,
            writable: s.writable,
            ..source::Settings::new(s.name.clone(), kind, s.cell)
        };
        let credentials = Credentials::find(&s.name, folder.as_deref(), |v| std::env::var(v).ok());
        let opened = Source::open(settings, credentials, clock);
        sources.push(Arc::new(opened.with_context(|| format!("open source `{}`", s.name))?));
    }
    Ok(sources)
}

fn bounds(w: &config::Worker) -> Bounds {
    Bounds { nice: (w.nice != 0).then_some(w.nice), ..Bounds::default() }
}

pub(super) fn worker_spec(i: usize, w: &config::Worker) -> dispatch::WorkerSpec {
    dispatch::WorkerSpec {
        id: WorkerId(i as u16),
        name: w.name.clone(),
        slots: w.slots,
        outside: false,
        types: w.types.clone(),
        cache: w.cache,
        near: w.near.clone(),
        memory_bytes: w.memory_max_bytes,
    }
}

pub(super) fn dispatch_settings(d: &config::Dispatch) -> dispatch::Settings {
    dispatch::Settings {
        policy: match d.policy {
            config::Policy::Affinity => dispatch::Policy::Affinity,
            config::Policy::Heat => dispatch::Policy::Heat,
            config::Policy::Random => dispatch::Policy::Random,
            config::Policy::Fifo => dispatch::Policy::Fifo,
        },
        ageing: d.ageing,
        late_binding: d.late_binding,
        exploration: d.exploration,
        plan_depth: d.plan_depth,
        seed: d.seed,
        limits: dispatch::Limits {
            queued: usize::try_from(d.max_queued).unwrap_or(usize::MAX),
            memory_bytes: d.memory_bytes.unwrap_or(u64::MAX),
            per_cell: d.per_cell,
            per_shard: d.per_shard,
        },
    }
}

pub(super) fn staging(s: &config::Staging) -> agenda::Settings {
    agenda::Settings {
        mode: match s.mode {
            config::StagingMode::On => agenda::Mode::On,
            config::StagingMode::Observe => agenda::Mode::Observe,
            config::StagingMode::Off => agenda::Mode::Off,
        },
        least_p: s.min_p,
        heat_max: s.heat_max,
        connections: s.connections,
        bytes_per_s: s.bytes_per_s.map(|b| b as f64),
        control_share: s.control_share,
        seed: s.seed,
    }
}

/// What the monitor is told.
pub(super) fn monitor_settings(config: &Config) -> monitor::Settings {
    let m = &config.monitor;
    let per_s = |b: Option<u64>| b.map(|b| b as f64);
    monitor::Settings {
        interval: m.interval,
        budget: m.budget,
        workers: config
            .workers
            .iter()
            .map(|w| monitor::WorkerInfo {
                name: w.name.clone(),
                capacity: monitor::Capacity {
                    cpus: w.cpus,
                    memory_bytes: w.memory_max_bytes,
                    ..monitor::Capacity::default()
                },
                on_host: true,
                near: w.near.clone(),
            })
            .collect(),
        cells: config
            .cells()
            .map(|(_, c, shards)| monitor::CellInfo {
                name: c.name.clone(),
                capacity: monitor::Capacity {
                    cpus: c.cpus,
                    memory_bytes: c.memory_bytes,
                    io_bytes_per_s: per_s(c.io_bytes_per_s),
                    net_bytes_per_s: per_s(c.net_bytes_per_s),
                },
                shards,
            })
            .collect(),
        sources: config
            .sources
            .iter()
            .map(|s| monitor::SourceInfo { name: s.name.clone(), cell: s.cell })
            .collect(),
        series: monitor::Layout {
            rings: m
                .resolutions
                .iter()
                .map(|r| monitor::Ring { step: r.step, keep: r.keep, stored: r.step > Span::from_secs(1) })
                .collect(),
            ..monitor::Layout::default()
        },
        ..monitor::Settings::default()
    }
}

fn monitor(config: &Config, state: &State) -> anyhow::Result<Monitor> {
    let mut monitor = Monitor::new(monitor_settings(config))?;
    let mut blocks: Vec<(String, Vec<u8>)> = Vec::new();
    let tree = state.tree(state::SERIES)?;
    tree.scan_bytes(b"", |key, bytes| {
        blocks.push((String::from_utf8_lossy(key).into_owned(), bytes.to_vec()))
    })?;
    for (name, error) in monitor.restore(blocks.iter().map(|(n, b)| (n.as_str(), b.as_slice()))) {
        tracing::debug!(%name, %error, "a block of a series was dropped");
        tree.remove(name.as_bytes())?;
    }
    Ok(monitor)
}

/// The key of the predictor's snapshot.
pub(super) const PREDICTOR: &[u8] = b"predictor";
/// The key of one that could not be used.
const PREDICTOR_SET_ASIDE: &[u8] = b"predictor.set-aside";

fn predict(
    config: &Config,
    names: &Names,
    state: &State,
    damage: &mut Vec<String>,
) -> anyhow::Result<Predict> {
    let p = &config.predict;
    let settings = predict::Settings {
        types: predict::types::Settings {
            forget_above: p.forget_above,
            contexts_off: p.contexts_off.clone(),
            calibration_window: (1.0 / p.smoothing).round().min(1e6) as u32,
            ..predict::types::Settings::within(p.memory_bytes)
        },
        smoothing: p.smoothing,
        exponents: match p.exponents {
            config::Exponents::Learned => predict::product::Exponents::Learned,
            config::Exponents::Fixed => predict::product::Exponents::Fixed,
        },
        lookahead: predict::lookahead::Settings {
            depth: p.depth,
            horizon: p.horizon,
            ..predict::lookahead::Settings::default()
        },
    };
    let mut predict = Predict::new(settings, names.catalogue.clone(), Arc::new(names.workers.all()))?;
    let snapshots = state.tree(state::SNAPSHOTS)?;
    if let Some(bytes) = snapshots.get_bytes(PREDICTOR)?
        && let Err(error) = predict.restore(&bytes)
    {
        snapshots.put_bytes(PREDICTOR_SET_ASIDE, &bytes)?;
        snapshots.remove(PREDICTOR)?;
        damage.push(format!("{error}; it is set aside, and the predictor learns again from the record"));
    }
    Ok(predict)
}

fn histories(
    config: &Config,
    pools: &[Pool],
    state: &State,
    damage: &mut Vec<String>,
) -> anyhow::Result<Vec<PoolHistory>> {
    let tree = state.tree(state::SNAPSHOTS)?;
    let mut histories = Vec::new();
    for (c, pool) in config.caches.iter().zip(pools) {
        let objects = pool.core.entries().map(|e| &e.object);
        let history = match tree.get_bytes(&state::history_key(&c.name))? {
            Some(bytes) => PoolHistory::restore(&bytes, objects).unwrap_or_else(|error| {
                damage.push(format!("history of the objects of cache {}: {error}; it learns anew", c.name));
                PoolHistory::new()
            }),
            None => PoolHistory::new(),
        };
        histories.push(history);
    }
    Ok(histories)
}

/// Teaches the predictor what ended after its snapshot.
///
/// # Errors
/// The record's.
pub fn catch_up(
    predict: &mut Predict,
    names: &Names,
    reader: &mut store::Reader,
) -> Result<u64, store::Error> {
    let mut learned = 0;
    reader.outcomes_since(predict.seq(), |done| {
        if let Some(outcome) = names.outcome(&done) {
            predict.learn(done.seq, &outcome);
            learned += 1;
        }
    })?;
    Ok(learned)
}
