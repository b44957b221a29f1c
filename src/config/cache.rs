//! `[cache.NAME]`: a pool of staged files on one file system.

use super::kind::{AbsolutePath, BytesIn, Flag, OneOf};
use super::locate::Surroundings;
use super::reader::Section;
use std::path::PathBuf;

/// A pool. A worker uses one; several may share it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    /// Its name.
    pub name: String,
    /// Its folder, absolute, of its own.
    pub dir: PathBuf,
    /// Most bytes, counted exactly, 1 MiB to 1 PiB. Default 10 GiB.
    pub capacity_bytes: u64,
    /// Free bytes of the file system that the pool leaves alone, 0 to 1 PiB. Default 1 GiB.
    pub min_free_bytes: u64,
    /// What is evicted first among the objects that no forecast needs. Default [`Eviction::Lru`].
    pub policy: Eviction,
    /// Whether the objects that a forecast needs come before all others. Default true.
    pub rank_by_forecast: bool,
}

/// What is evicted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// What was used least recently.
    Lru,
    /// What was used least often, with ageing.
    Lfu,
}

const POLICIES: &[(&str, Eviction)] = &[("lru", Eviction::Lru), ("lfu", Eviction::Lfu)];

impl Cache {
    pub(super) fn implicit(around: &Surroundings) -> Cache {
        Cache {
            name: "local".into(),
            dir: around.cache_dir.join("local"),
            capacity_bytes: 10 << 30,
            min_free_bytes: 1 << 30,
            policy: Eviction::Lru,
            rank_by_forecast: true,
        }
    }
}

pub(super) fn read(name: String, mut s: Section<'_>, around: &Surroundings) -> Cache {
    let usual = Cache::implicit(around);
    let cache = Cache {
        name,
        dir: s.require("dir", AbsolutePath).unwrap_or(usual.dir),
        capacity_bytes: s.read("capacity", BytesIn(1 << 20, 1 << 50)).unwrap_or(usual.capacity_bytes),
        min_free_bytes: s.read("min_free", BytesIn(0, 1 << 50)).unwrap_or(usual.min_free_bytes),
        policy: s.read("policy", OneOf(POLICIES)).unwrap_or(usual.policy),
        rank_by_forecast: s.read("rank_by_forecast", Flag).unwrap_or(usual.rank_by_forecast),
    };
    s.finish();
    cache
}
