//! Which task goes to which worker, when.
//!
//! `dispatch` owns the queue, the life cycle of every unfinished task, its leases and attempts. The core
//! ([`Dispatch`]) takes facts and returns [`Step`]s: changes that must be durable first, and actions that
//! may be carried out after that. It never waits for a worker or for the store.

pub mod actor;
mod admit;
mod core;
mod explore;
mod facts;
mod groups;
mod homes;
mod lanes;
mod lease;
pub mod outside;
mod place;
mod plan;
mod queue;
mod rate;
mod recover;
mod recurring;
mod score;
mod step;
#[cfg(test)]
mod tests;
mod why;

pub use self::core::Dispatch;
pub use facts::LOST_ATTEMPTS;
pub use groups::{GROUPS_LIMIT, GroupSettings, GroupView};
pub use lease::Lease;
pub use recover::Recovered;
pub use recurring::{CATCH_UP_LIMIT, RECURRING_LIMIT, RecurringView};
pub use step::{Action, Change, Edit, NotPossible, Step, SubmitError, Submitted};
pub use why::{Candidate, Why};

use crate::flow::{CacheId, CellId, TypeId, WorkerId};
use crate::time::Span;
use serde::{Deserialize, Serialize};

/// How tasks are placed. The last three are the baselines that prove the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// Affinity × (1 − heat) × locality, with ageing.
    #[default]
    Affinity,
    /// The coolest worker.
    Heat,
    /// Any free worker.
    Random,
    /// The oldest task, the first free worker.
    Fifo,
}

/// Limits that hold for the whole host.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Most unfinished tasks; a submit beyond is refused.
    pub queued: usize,
    /// Memory that running tasks may be expected to need together, bytes.
    pub memory_bytes: u64,
    /// Most running tasks that read from one cell.
    pub per_cell: Option<u32>,
    /// Most running tasks that read from one shard.
    pub per_shard: Option<u32>,
}

/// What dispatch is told once.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How tasks are placed.
    pub policy: Policy,
    /// After waiting for this long a task counts double.
    pub ageing: Span,
    /// Longest wait for a clearly better worker that is busy.
    pub late_binding: Span,
    /// Share of placements that may try a worker of which little is known lately, in [0, 0.5].
    pub exploration: f64,
    /// How many tasks for each slot the plan looks ahead.
    pub plan_depth: u32,
    /// Seed of the policy `random` and of exploration.
    pub seed: u64,
    /// Limits of the whole host.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            policy: Policy::Affinity,
            ageing: Span::from_secs(60),
            late_binding: Span::from_secs(10),
            exploration: 0.02,
            plan_depth: 4,
            seed: 1,
            limits: Limits { queued: 2_000_000, memory_bytes: u64::MAX, per_cell: None, per_shard: None },
        }
    }
}

/// A worker, as dispatch sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerSpec {
    /// Its index.
    pub id: WorkerId,
    /// Its name.
    pub name: String,
    /// How many attempts it runs at once; an outside one: holds at once, 0 while it is away.
    pub slots: u32,
    /// Whether it is a program of its own that asks for work, and gets no more than it asked for.
    pub outside: bool,
    /// Which types it runs; `None` is all.
    pub types: Option<Vec<TypeId>>,
    /// Its cache.
    pub cache: CacheId,
    /// Cells whose data it reaches best; empty means all alike.
    pub near: Vec<CellId>,
    /// Memory that its attempts may be expected to need together, bytes.
    pub memory_bytes: Option<u64>,
}
