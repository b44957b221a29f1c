//! Everything the monitor knows at one moment, for metrics and status pages.

use super::core::Monitor;
use super::counters::HostRates;
use super::latency::{Latency, LatencySummary};
use super::parts::Occupancy;
use super::series::SeriesStats;
use super::tally::Tally;
use crate::flow::{CellId, Heat, Place, SourceId, TypeId, Usage, WorkerId};
use crate::time::{Span, Time};
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
    /// Attempts so far, by worker and type: the pairs that ended at least once, in order.
    pub pairs: Vec<(WorkerId, TypeId, Tally)>,
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

impl Monitor {
    /// Everything at once, for metrics and status pages.
    pub fn report(&self, now: Time) -> Report {
        let source = |(i, latency): (usize, &Latency)| SourceReport {
            source: SourceId(i as u16),
            latency: Latency::summary(now, std::iter::once(latency)),
        };
        let occupied =
            self.cells.iter().enumerate().flat_map(|(c, cell)| {
                cell.shards.iter().enumerate().filter(|(_, s)| s.seen).map(move |(s, shard)| {
                    (Place { cell: CellId(c as u16), shard: s as u16 }, shard.occupancy)
                })
            });
        Report {
            heat: self.heat(now),
            host: self.rates.clone(),
            workers: self.workers.iter().map(|w| w.totals).collect(),
            cells: self.cells.iter().map(|c| c.totals).collect(),
            pairs: self.tallies.all().collect(),
            sources: self.sources.iter().enumerate().map(source).collect(),
            occupancy: occupied.collect(),
            running: self.attempts.len(),
            sampler: self.sampler(),
            series: self.series.stats(),
            ignored: self.ignored,
        }
    }

    /// What sampling costs now.
    pub fn sampler(&self) -> SamplerReport {
        SamplerReport { interval: self.pace.interval(), share: self.pace.share(), budget: self.pace.budget() }
    }
}
