//! What the monitor keeps of each worker, cell and shard.

use super::latency::Latency;
use super::meter::{Meter, Smoothing};
use super::report::Totals;
use crate::flow::{PerResource, Resource};
use crate::time::Time;
use serde::{Deserialize, Serialize};

/// What waits for a shard and what moves out of it, now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupancy {
    /// Tasks queued.
    pub queued: u32,
    /// Transfers under way.
    pub transfers: u32,
}

/// What staging has saved since the daemon started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// Seconds of data wait that were hidden, by the ledger.
    pub hidden_s: f64,
    /// Mean saving of a demand, seconds, once the control group proves one.
    pub per_demand_s: Option<f64>,
    /// Its 95 % interval, as far as it is known.
    pub interval_s: Option<[f64; 2]>,
}

/// Rates of the four resources.
#[derive(Clone, Debug)]
pub(super) struct Meters([Meter; 4]);

impl Meters {
    pub(super) fn new(smoothing: Smoothing) -> Meters {
        Meters([(); 4].map(|()| Meter::new(smoothing)))
    }
    pub(super) fn charge(&mut self, resource: Resource, amount: f64, from: Time, to: Time) {
        self.0[resource as usize].charge(amount, from, to);
    }
    pub(super) fn rates(&self, now: Time) -> PerResource {
        [0, 1, 2, 3].map(|r| self.0[r].rate(now))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Shard {
    pub(super) meters: Meters,
    pub(super) occupancy: Occupancy,
    /// Whether anything was ever told of it. Idle shards are neither recorded nor reported.
    pub(super) seen: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Cell {
    pub(super) meters: Meters,
    pub(super) shards: Vec<Shard>,
    pub(super) totals: Totals,
}

#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) meters: Meters,
    pub(super) totals: Totals,
    pub(super) round_trip: Option<Latency>,
}
