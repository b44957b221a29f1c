//! Whose figure it is, and which: the key of a time series and its stable name.

use super::settings::Settings;
use crate::draw::Unit;
use crate::flow::{CellId, Place, SourceId, WorkerId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;
use utoipa::ToSchema;

/// How finely the host is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Grain {
    /// The host as one.
    Host,
    /// By worker.
    Worker,
    /// By cell.
    Cell,
    /// By cell and shard.
    Shard,
    /// By source.
    Source,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// The host.
    Host,
    /// A worker.
    Worker(WorkerId),
    /// A cell.
    Cell(CellId),
    /// A shard.
    Shard(Place),
    /// A source.
    Source(SourceId),
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Processor utilisation.
    Cpu,
    /// Memory utilisation.
    Memory,
    /// Disk utilisation.
    Io,
    /// Network utilisation.
    Net,
    /// Utilisation of the busiest of these four.
    Heat,
    /// Median latency over the last minutes.
    Latency,
    /// 99th percentile of latency.
    LatencyP99,
    /// Tasks that are queued for it.
    Queued,
    /// Transfers under way.
    Transfers,
    /// Share of time in which somebody waited for a processor.
    PressureCpu,
    /// Share of time in which somebody waited for memory.
    PressureMemory,
    /// Share of time in which somebody waited for a disk.
    PressureIo,
    /// Read from disks.
    DiskRead,
    /// Written to disks.
    DiskWrite,
    /// Received from the network.
    NetReceive,
    /// Sent to the network.
    NetSend,
    /// What sampling costs, as a share of one processor.
    Sampler,
    /// Seconds of data wait that staging has hidden so far, by the ledger.
    Saved,
    /// Mean saving of a demand by the control group, seconds.
    Saving,
    /// Lower end of its 95 % interval.
    SavingLow,
    /// Upper end.
    SavingHigh,
}

/// A series: who, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Who.
    pub target: Target,
    /// What.
    pub metric: Metric,
}

/// A word that names no grain or no metric.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no {what} `{found}`; accepted: {accepted}")]
pub struct NameError {
    what: &'static str,
    found: String,
    accepted: String,
}

const GRAINS: [(Grain, &str); 5] = [
    (Grain::Host, "host"),
    (Grain::Worker, "worker"),
    (Grain::Cell, "cell"),
    (Grain::Shard, "shard"),
    (Grain::Source, "source"),
];

const METRICS: [(Metric, &str); 21] = [
    (Metric::Cpu, "cpu"),
    (Metric::Memory, "memory"),
    (Metric::Io, "io"),
    (Metric::Net, "net"),
    (Metric::Heat, "heat"),
    (Metric::Latency, "latency"),
    (Metric::LatencyP99, "latency_p99"),
    (Metric::Queued, "queued"),
    (Metric::Transfers, "transfers"),
    (Metric::PressureCpu, "pressure_cpu"),
    (Metric::PressureMemory, "pressure_memory"),
    (Metric::PressureIo, "pressure_io"),
    (Metric::DiskRead, "disk_read"),
    (Metric::DiskWrite, "disk_write"),
    (Metric::NetReceive, "net_receive"),
    (Metric::NetSend, "net_send"),
    (Metric::Sampler, "sampler"),
    (Metric::Saved, "saved"),
    (Metric::Saving, "saving"),
    (Metric::SavingLow, "saving_low"),
    (Metric::SavingHigh, "saving_high"),
];

fn parse<T: Copy>(table: &[(T, &str)], what: &'static str, found: &str) -> Result<T, NameError> {
    table.iter().find(|(_, name)| *name == found).map(|(value, _)| *value).ok_or_else(|| NameError {
        what,
        found: found.chars().take(40).collect(),
        accepted: table.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", "),
    })
}

fn name<T: PartialEq>(table: &[(T, &'static str)], value: &T) -> &'static str {
    table.iter().find(|(v, _)| v == value).expect("every value is in its table").1
}

impl FromStr for Grain {
    type Err = NameError;
    fn from_str(word: &str) -> Result<Grain, NameError> {
        parse(&GRAINS, "grain", word)
    }
}
impl fmt::Display for Grain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(&GRAINS, self))
    }
}
impl FromStr for Metric {
    type Err = NameError;
    fn from_str(word: &str) -> Result<Metric, NameError> {
        parse(&METRICS, "metric", word)
    }
}
impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(&METRICS, self))
    }
}

impl Metric {
    /// What its values are.
    pub fn unit(self) -> Unit {
        match self {
            Metric::Latency
            | Metric::LatencyP99
            | Metric::Saved
            | Metric::Saving
            | Metric::SavingLow
            | Metric::SavingHigh => Unit::Seconds,
            Metric::Queued | Metric::Transfers => Unit::Count,
            Metric::DiskRead | Metric::DiskWrite | Metric::NetReceive | Metric::NetSend => Unit::BytesPerS,
            _ => Unit::Share,
        }
    }
}

impl Target {
    /// How finely it divides the host.
    pub fn grain(self) -> Grain {
        match self {
            Target::Host => Grain::Host,
            Target::Worker(_) => Grain::Worker,
            Target::Cell(_) => Grain::Cell,
            Target::Shard(_) => Grain::Shard,
            Target::Source(_) => Grain::Source,
        }
    }

    /// What people call it: `fast`, `nas · 2`; none if it is not configured.
    pub fn label(self, settings: &Settings) -> Option<String> {
        let cell = |id: CellId| settings.cells.get(usize::from(id.0));
        match self {
            Target::Host => Some("host".to_owned()),
            Target::Worker(id) => settings.workers.get(usize::from(id.0)).map(|w| w.name.clone()),
            Target::Cell(id) => cell(id).map(|c| c.name.clone()),
            Target::Shard(place) => cell(place.cell)
                .filter(|c| place.shard < c.shards)
                .map(|c| format!("{} · {}", c.name, place.shard)),
            Target::Source(id) => settings.sources.get(usize::from(id.0)).map(|s| s.name.clone()),
        }
    }

    /// All of a grain, in the order of their ids.
    pub fn all(grain: Grain, settings: &Settings) -> Vec<Target> {
        let ids = |count: usize| 0..u16::try_from(count).unwrap_or(u16::MAX);
        let cells = || ids(settings.cells.len()).map(CellId);
        match grain {
            Grain::Host => vec![Target::Host],
            Grain::Worker => ids(settings.workers.len()).map(|i| Target::Worker(WorkerId(i))).collect(),
            Grain::Cell => cells().map(Target::Cell).collect(),
            Grain::Shard => cells()
                .flat_map(|cell| {
                    let shards = 0..settings.cells[usize::from(cell.0)].shards;
                    shards.map(move |shard| Target::Shard(Place { cell, shard }))
                })
                .collect(),
            Grain::Source => ids(settings.sources.len()).map(|i| Target::Source(SourceId(i))).collect(),
        }
    }
}

impl Key {
    /// Every series there can be.
    pub fn all(settings: &Settings) -> Vec<Key> {
        let targets = GRAINS.iter().flat_map(|(grain, _)| Target::all(*grain, settings));
        targets.flat_map(|target| METRICS.map(|(metric, _)| Key { target, metric })).collect()
    }

    /// Its name on disk, which survives a change in the order of the configuration: `worker/fast/cpu`,
    /// `shard/nas · 2/io`. None if its target is not configured.
    pub fn name(self, settings: &Settings) -> Option<String> {
        let label = self.target.label(settings)?.replace('%', "%25").replace('/', "%2f");
        Some(format!("{}/{label}/{}", self.target.grain(), self.metric))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_grains_and_metrics() {
        for (grain, word) in GRAINS {
            assert_eq!((word.parse(), grain.to_string()), (Ok(grain), word.to_owned()));
            assert_eq!(serde_json::to_string(&grain).unwrap(), format!("\"{word}\""));
        }
        for (metric, word) in METRICS {
            assert_eq!((word.parse(), metric.to_string()), (Ok(metric), word.to_owned()));
            assert_eq!(serde_json::to_string(&metric).unwrap(), format!("\"{word}\""));
        }
        assert_eq!(
            "rack".parse::<Grain>().unwrap_err().to_string(),
            "there is no grain `rack`; accepted: host, worker, cell, shard, source"
        );
    }
}
