//! The cores of a house that a script drives: what `daemon/setup.rs` makes from a configuration, made from a
//! trace and a few figures.

use super::link::LinkSettings;
use super::script::{SOURCE, Script};
use crate::cache::{self, CacheCore};
use crate::dispatch::{self, Dispatch, WorkerSpec};
use crate::flow::{CacheId, CellId, WorkerId};
use crate::monitor::{self, Monitor};
use crate::predict::objects::PoolHistory;
use crate::predict::{self, Predict};
use crate::prefetch::agenda::{self, Agenda, Mode};
use crate::prefetch::core::Prefetch;
use crate::prefetch::flights::{Budget, Flights, Retry, SourceLimits};
use crate::time::{Span, Time};
use crate::worker::host::Capacity;
use crate::worker::profile::Profile;
use crate::worker::roster::Roster;
use std::sync::Arc;

/// How often the monitor looks.
pub const MONITOR_EVERY: Span = Span::from_secs(1);
/// Weight of the newest event in figures about forecasts: what the configuration has by default.
const SMOOTHING: f64 = 0.002;
/// This start's number.
const EPOCH: u32 = 1;

/// What is not in the trace.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Whether data is staged.
    pub staging: Mode,
    /// So many pools; workers are dealt out to them in turn. At least 1.
    pub pools: u16,
    /// What each pool may hold, bytes.
    pub capacity_bytes: u64,
    /// What leaves first of what no forecast needs.
    pub policy: cache::Policy,
    /// Most connections to the source at once, at least 1.
    pub connections: u16,
    /// The way to the source.
    pub link: LinkSettings,
}

/// All cores, before anything has happened.
pub struct Cores {
    /// Queue and life cycle.
    pub dispatch: Dispatch,
    /// Profiles, by worker.
    pub profiles: Vec<Profile>,
    /// Each worker's pool.
    pub worker_caches: Vec<CacheId>,
    /// All profiles together.
    pub roster: Roster,
    /// Pools.
    pub caches: Vec<CacheCore>,
    /// Samples and heat.
    pub monitor: Monitor,
    /// What comes next.
    pub predict: Predict,
    /// What comes next that no template names, by pool.
    pub histories: Vec<PoolHistory>,
    /// Transfers and agenda.
    pub prefetch: Prefetch,
}

impl Cores {
    /// For a script's workers.
    ///
    /// # Errors
    /// What a core refuses; with built-in settings none does.
    pub fn new(script: &Script, settings: &Settings) -> anyhow::Result<Cores> {
        let workers = script.workers as usize;
        let names: Vec<Arc<str>> = (1..=workers).map(|w| format!("worker-{w}").into()).collect();
        let cache_of = |w: usize| CacheId((w % usize::from(settings.pools)) as u16);
        let worker_caches: Vec<CacheId> = (0..workers).map(cache_of).collect();
        let specs = (0..workers).map(|w| WorkerSpec {
            id: WorkerId(w as u16),
            name: names[w].to_string(),
            slots: 1,
            outside: false,
            types: None,
            cache: cache_of(w),
            near: vec![],
            memory_bytes: None,
        });
        let types: Vec<_> = script.catalogue.iter().map(|(t, _)| t).collect();
        let capacity = Capacity {
            cpus: workers as f64,
            memory_bytes: 8e9,
            io_bytes_per_s: 400e6,
            net_bytes_per_s: settings.link.bytes_per_s,
        };
        let members = (0..workers).map(|_| (Profile::default(), types.clone(), capacity)).collect();
        let limits = cache::Limits {
            capacity_bytes: settings.capacity_bytes,
            min_free_bytes: 0,
            policy: settings.policy,
            rank_by_forecast: settings.staging == Mode::On,
            learning: settings.staging == Mode::On,
        };
        let agenda = agenda::Settings { mode: settings.staging, ..agenda::Settings::default() };
        let budget = Budget { bytes_per_s: f64::INFINITY, connections: agenda.connections };
        let source = SourceLimits {
            connections: settings.connections,
            bytes_per_s: Some(settings.link.bytes_per_s),
            retry: Retry::default(),
        };
        let predict = predict::Settings {
            types: predict::types::Settings::default(),
            smoothing: SMOOTHING,
            exponents: predict::product::Exponents::Learned,
            lookahead: predict::lookahead::Settings::default(),
        };
        let (catalogue, places) = (&script.catalogue, &script.places);
        Ok(Cores {
            dispatch: Dispatch::new(
                dispatch::Settings::default(),
                catalogue.clone(),
                places.clone(),
                specs.collect(),
                EPOCH,
            ),
            profiles: vec![Profile::default(); workers],
            roster: Roster::new(members),
            caches: (0..settings.pools).map(|_| CacheCore::new(limits)).collect(),
            monitor: monitor(&names, settings)?,
            predict: Predict::new(predict, catalogue.clone(), Arc::new(names))?,
            histories: (0..settings.pools).map(|_| PoolHistory::new()).collect(),
            prefetch: Prefetch::new(
                Flights::new(budget),
                Agenda::new(agenda, places.clone(), catalogue.clone()),
                catalogue.clone(),
                places.clone(),
                worker_caches.clone(),
                [source],
                Time::ZERO,
            ),
            worker_caches,
        })
    }
}

fn monitor(names: &[Arc<str>], settings: &Settings) -> anyhow::Result<Monitor> {
    let one_processor = monitor::Capacity { cpus: Some(1.0), ..monitor::Capacity::default() };
    let link = monitor::Capacity {
        net_bytes_per_s: Some(settings.link.bytes_per_s),
        ..monitor::Capacity::default()
    };
    let worker = |n: &Arc<str>| monitor::WorkerInfo {
        name: n.to_string(),
        capacity: one_processor,
        on_host: true,
        near: vec![],
    };
    let settings = monitor::Settings {
        interval: MONITOR_EVERY,
        workers: names.iter().map(worker).collect(),
        cells: vec![monitor::CellInfo { name: "cell".into(), capacity: link, shards: 1 }],
        sources: vec![monitor::SourceInfo { name: SOURCE.into(), cell: CellId(0) }],
        ..monitor::Settings::default()
    };
    Ok(Monitor::new(settings)?)
}
