//! Everything the monitor knows at one moment, for metrics and status pages.

use super::core::Occupancy;
use super::counters::HostRates;
use super::latency::LatencySummary;
use super::series::SeriesStats;
use crate::flow::{Heat, Place, SourceId, Usage};
use crate::time::Span;
use serde::{Deserialize, Serialize};

/// Used since the start by attempts that have ended, and by transfers: only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Processor seconds.
    pub cpu_s: f64,
    /// Bytes read and written on disks.
    pub io_bytes: u64,
    /// Bytes fetched from sources.
    pub net_bytes: u64,
}

impl Totals {
    pub(super) fn of(usage: &Usage) -> Totals {
        Totals {
            cpu_s: usage.cpu.as_s(),
            io_bytes: usage.read_bytes.saturating_add(usage.write_bytes),
            net_bytes: usage.net_bytes,
        }
    }
    pub(super) fn add(&mut self, more: &Totals) {
        self.cpu_s += more.cpu_s;
        self.io_bytes = self.io_bytes.saturating_add(more.io_bytes);
        self.net_bytes = self.net_bytes.saturating_add(more.net_bytes);
    }
}

/// How fast a source answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceReport {
    /// Which.
    pub source: SourceId,
    /// Probes and first bytes over the last minutes.
    pub latency: LatencySummary,
}

/// What sampling costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SamplerReport {
    /// The pause between rounds now.
    pub interval: Span,
    /// Share of one processor that it takes.
    pub share: f64,
    /// Share that it may take.
    pub budget: f64,
}

/// Everything at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How busy everything is.
    pub heat: Heat,
    /// The host between the last two samples; none before the second.
    pub host: Option<HostRates>,
    /// By worker.
    pub workers: Vec<Totals>,
    /// By cell.
    pub cells: Vec<Totals>,
    /// By source.
    pub sources: Vec<SourceReport>,
    /// Shards that anything was ever told of.
    pub occupancy: Vec<(Place, Occupancy)>,
    /// Attempts that run.
    pub running: usize,
    /// What looking costs.
    pub sampler: SamplerReport,
    /// What is kept.
    pub series: SeriesStats,
    /// Facts about workers, places and sources that are not configured.
    pub ignored: u64,
}
