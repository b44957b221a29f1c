//! `[worker.NAME]`: a group of slots with a real difference.

use super::cell::cpus;
use super::kind::{self, BytesIn, IntegerIn, Known, KnownSet, ListOf, Text};
use super::locate::Surroundings;
use super::reader::Section;
use crate::flow::{CacheId, CellId, TypeId};

/// A worker on this host.
#[derive(Clone, Debug, PartialEq)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// How many attempts it runs at once, 1 to 1,024. Default 1.
    pub slots: u32,
    /// Processors that all its slots may use together, more than 0, up to 4,096. Default no limit.
    pub cpus: Option<f64>,
    /// Its share of processor time when there is too little, 1 to 10,000. Default 100.
    pub cpu_weight: u32,
    /// Memory that its attempts may be expected to need together, and its control group's limit where that is
    /// delegated, 1 MiB to 1 PiB. Default no limit.
    pub memory_max_bytes: Option<u64>,
    /// Its share of disk time when there is too little, 1 to 10,000. Default 100.
    pub io_weight: u32,
    /// Put before every command, as `["ionice", "-c3"]`; up to 64 words. Default none.
    pub argv_prefix: Vec<String>,
    /// Which types it runs. `None` is all.
    pub types: Option<Vec<TypeId>>,
    /// Cells whose data it reaches best; empty means all alike.
    pub near: Vec<CellId>,
    /// The pool it uses. Default the only one.
    pub cache: CacheId,
    /// Nice value of its children, −20 to 19. Below 0 needs a privilege. Default 0.
    pub nice: i8,
}

impl Worker {
    pub(super) fn implicit(around: &Surroundings) -> Worker {
        Worker {
            name: "local".into(),
            slots: around.cores.clamp(1, 1_024),
            cpus: None,
            cpu_weight: 100,
            memory_max_bytes: None,
            io_weight: 100,
            argv_prefix: Vec::new(),
            types: None,
            near: Vec::new(),
            cache: CacheId(0),
            nice: 0,
        }
    }
}

/// The names that a worker may refer to, in the order of their ids.
pub(super) struct Names {
    pub cells: kind::Names,
    pub caches: kind::Names,
    pub types: kind::Names,
}

pub(super) fn read<'n>(name: String, mut s: Section<'_>, names: &'n Names) -> Worker {
    let known = |what, names: &'n kind::Names| Known { what, names };
    let weight = || IntegerIn(1u32, 10_000, "");
    let pool = known("cache", &names.caches);
    let cache = if names.caches.is_single() { s.read("cache", pool) } else { s.require("cache", pool) };
    let ids = |indices: Vec<usize>| indices.into_iter().map(|i| i as u16);
    let types = s.read("types", KnownSet(known("type", &names.types)));
    if types.as_ref().is_some_and(Vec::is_empty) {
        s.wrong("takes no type", "accepted: `types` with at least one name, or left out for all types");
    }
    let worker = Worker {
        name,
        slots: s.read("slots", IntegerIn(1u32, 1_024, "slots")).unwrap_or(1),
        cpus: s.read("cpus", cpus()),
        cpu_weight: s.read("cpu_weight", weight()).unwrap_or(100),
        memory_max_bytes: s.read("memory_max", BytesIn(1 << 20, 1 << 50)),
        io_weight: s.read("io_weight", weight()).unwrap_or(100),
        argv_prefix: s.read("argv_prefix", ListOf(Text(4_096), 64)).unwrap_or_default(),
        types: types.map(|t| ids(t).map(TypeId).collect()),
        near: s
            .read("near", KnownSet(known("cell", &names.cells)))
            .map_or_else(Vec::new, |n| ids(n).map(CellId).collect()),
        cache: CacheId(cache.unwrap_or(0) as u16),
        nice: s.read("nice", IntegerIn(-20i8, 19, "")).unwrap_or(0),
    };
    s.finish();
    worker
}
