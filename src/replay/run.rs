//! Replays a whole trace: the daemon's own cores, a virtual clock, and a world that goes by the trace.
//!
//! Every decision that the daemon would make is made by the same code: dispatch, prediction, staging, eviction,
//! heat. The world is a model and says so: a child takes the trace's duration and one processor, a transfer
//! takes a round trip and its bytes over a shared link, sources never change, nothing fails. Idle stretches
//! cost nothing, so that a year passes in seconds.
//!
//! - [`script`] a trace as a script, [`world`] what is outside, `link` the way to the source;
//! - [`cores`] the cores, [`time`] ticks and turns, `arbiter` and `letter` who has mail;
//! - [`house`] the rooms and what they do: `queue`, `crew`, `pool`, `transfers`, `supply`;
//! - [`figures`] what is measured.

mod arbiter;
pub mod cores;
mod crew;
pub mod figures;
pub mod house;
mod letter;
mod link;
mod pool;
mod queue;
pub mod script;
mod supply;
pub mod time;
mod transfers;
pub mod world;

pub use cores::{Cores, Settings};
pub use figures::Figures;
pub use house::House;
pub use link::LinkSettings;
pub use script::Script;
pub use world::{Scripted, World};

use super::objects::Capacity;
use crate::cache::Policy;
use crate::flow::{Decided, Decision};
use crate::prefetch::agenda::Mode;
use crate::time::{Span, Time};
use serde::Serialize;
use std::sync::Arc;

/// How finely time is divided.
const GRAIN: Span = Span::from_us(1);

/// What is to be replayed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Workers of one slot each, at least 1.
    pub workers: u16,
    /// Pools, shared out among the workers in turn; at least 1.
    pub pools: u16,
    /// How large each pool is: a share of the trace's objects by first-seen size, or bytes.
    pub capacity: Capacity,
    /// What leaves first of what no forecast needs.
    pub policy: Policy,
    /// Most connections to the source, at least 1.
    pub connections: u16,
    /// The way to the source.
    pub link: LinkSettings,
}

impl Options {
    fn settings(&self, script: &Script, staging: bool) -> Settings {
        Settings {
            staging: if staging { Mode::On } else { Mode::Off },
            pools: self.pools,
            capacity_bytes: capacity_bytes(script, self),
            policy: self.policy,
            connections: self.connections,
            link: self.link,
        }
    }
}

/// What each pool may hold, bytes.
pub fn capacity_bytes(script: &Script, options: &Options) -> u64 {
    match options.capacity {
        Capacity::Share(s) => (script.footprint_bytes as f64 * s) as u64,
        Capacity::Bytes(b) => b,
    }
}

/// Replays a script once.
///
/// `heard` is told of every decision as it is made.
///
/// # Errors
/// What a core refuses; with checked options none does.
pub fn run(
    script: &Arc<Script>,
    options: &Options,
    staging: bool,
    heard: impl FnMut(&Decision),
) -> anyhow::Result<Figures> {
    let cores = Cores::new(script, &options.settings(script, staging))?;
    let world = Scripted::new(script.clone(), options.link);
    let mut house = House::new(cores, script.places.clone(), world, GRAIN, true);
    house.run(heard);
    Ok(house.figures(if staging { "on" } else { "off" }))
}

impl House<Scripted> {
    /// What was measured so far.
    pub fn figures(&self, staging: &'static str) -> Figures {
        let ledger = self.prefetch.agenda().ledger().total();
        self.tally.figures(staging, Time::ZERO + script::PROLOGUE, self.world.carried_bytes(), ledger)
    }

    /// All decisions, in the order in which they were made.
    pub fn decisions(&self) -> &[Decision] {
        &self.log
    }

    /// Submits that dispatch did not accept; none of a script that [`Script::new`] made.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

/// Whether a decision ends a task.
pub fn ends_a_task(decision: &Decision) -> bool {
    matches!(decision.what, Decided::Ended { again: false, .. })
}

/// What staging would have saved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Saved {
    /// Of all tasks' latency together, seconds; negative if it cost time.
    pub latency_s: f64,
    /// Of all tasks' wait for data.
    pub data_wait_s: f64,
    /// Bytes that were fetched beyond what was fetched without staging; negative if less was.
    pub extra_bytes: i64,
}

impl Saved {
    /// From the same trace without and with staging.
    pub fn between(off: &Figures, on: &Figures) -> Saved {
        Saved {
            latency_s: (off.latency_ms_mean - on.latency_ms_mean) / 1e3 * on.tasks as f64,
            data_wait_s: off.data_wait_s - on.data_wait_s,
            extra_bytes: i64::try_from(on.bytes_fetched)
                .unwrap_or(i64::MAX)
                .saturating_sub(i64::try_from(off.bytes_fetched).unwrap_or(i64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests;
