//! What a pool is told and what it says: the values of its interface.

use super::policy::Policy;
use super::rank::Need;
use crate::flow::ObjectName;
use crate::time::Time;
use serde::{Deserialize, Serialize};

/// A file of the pool, and the reservation that it grows from. Never used twice within one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileId(pub u64);

/// What a pool may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries, zombies and reservations together stay within this, bytes.
    pub capacity_bytes: u64,
    /// What the pool leaves free on its file system, bytes.
    pub min_free_bytes: u64,
    /// Order of the entries that no forecast needs.
    pub policy: Policy,
    /// Whether forecast entries are ranked before all others; false gives the plain policy.
    pub rank_by_forecast: bool,
    /// Whether learned objects get segments of their own (staging is on), or all entries stand in one queue.
    pub learning: bool,
}

/// One object in the pool: what is persisted of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which object.
    pub object: ObjectName,
    /// Its size.
    pub bytes: u64,
    /// What its source called this version, if it did.
    pub etag: Option<String>,
    /// When its source last confirmed this version.
    pub checked_at: Time,
    /// It came ahead of any demand.
    pub staged: bool,
    /// A task has used it since it came.
    pub used: bool,
    /// Where it lies.
    pub file: FileId,
    /// Demand uses, the one that brought it included.
    pub uses: u32,
    /// Its last demand use, or its arrival.
    pub last_used: Time,
    /// A user wants it to stay.
    pub user_pinned: bool,
}

/// Why a transfer wants room.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Purpose {
    /// A task waits for it: whatever is not pinned gives way.
    Demand,
    /// Queued, scheduled or derived: it gives way to nearer needs, and farther ones give way to it.
    Forecast(Need),
    /// History says that it comes next: only what no forecast needs gives way.
    Learned,
    /// An output of a task, or staged by a user: only what no forecast needs gives way.
    Named,
}

/// An entry that has left the index. Its file is to be unlinked.
#[derive(Clone, Debug, PartialEq)]
pub struct Victim {
    /// What it was.
    pub entry: Entry,
    /// The need that a forecast saw for it.
    pub need: Option<Need>,
    /// Running tasks still hold links to it: its bytes count until they have ended.
    pub zombie: bool,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// It could never fit.
    #[error("{bytes} bytes exceed the pool's limit of {limit_bytes}")]
    TooLarge {
        /// What was asked for.
        bytes: u64,
        /// What the pool may hold now.
        limit_bytes: u64,
    },
    /// What could leave is too little: the rest is pinned, held by running tasks, or being written.
    #[error("{bytes} bytes needed, but only {evictable_bytes} are free or may leave")]
    Held {
        /// What was asked for.
        bytes: u64,
        /// Free bytes, and bytes that may leave for this purpose.
        evictable_bytes: u64,
    },
    /// What would have to leave is needed too soon.
    #[error("an entry needed in {victim_distance_s:.3} s (over its probability) would have to leave")]
    NeededSooner {
        /// Distance of the victim, seconds.
        victim_distance_s: f64,
        /// Distance of the candidate, seconds.
        distance_s: f64,
    },
    /// The reservation was cancelled, or never was.
    #[error("there is no such reservation")]
    NotReserved,
}

/// What a demand found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The copy that lies there.
    pub file: FileId,
    /// Its size.
    pub bytes: u64,
    /// It had been staged, and this is its first use.
    pub first_use_of_staged: bool,
    /// A prediction had kept it from the cold end since its last use: perhaps it would have been missed.
    pub protected: bool,
}

/// How full a pool is, bytes unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// What it may hold by configuration.
    pub capacity_bytes: u64,
    /// What it may hold now, by `min_free` too.
    pub limit_bytes: u64,
    /// What its entries hold.
    pub entry_bytes: u64,
    /// Dropped, but still held by running tasks.
    pub zombie_bytes: u64,
    /// Promised to transfers in flight.
    pub reserved_bytes: u64,
    /// Entries that tasks or users hold.
    pub pinned_bytes: u64,
    /// Learned objects that nobody has used yet.
    pub staged_unused_bytes: u64,
    /// Number of entries.
    pub entries: u64,
    /// Arrivals in the main part so far: the clock of a predictor's horizon.
    pub inserts: u64,
}
