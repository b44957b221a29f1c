//! What the monitor is told once: who there is, what each can take, how often to look.

use super::layout::Layout;
use super::meter::Smoothing;
use crate::flow::CellId;
use crate::time::Span;
use serde::{Deserialize, Serialize};

/// What something can take of each resource. None: not declared, so the host's own figure is used where it
/// is known, and utilisation is 0 where it is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Capacity {
    /// Processors.
    pub cpus: Option<f64>,
    /// Memory.
    pub memory_bytes: Option<u64>,
    /// Bytes read and written per second.
    pub io_bytes_per_s: Option<f64>,
    /// Bytes fetched per second.
    pub net_bytes_per_s: Option<f64>,
}

impl Capacity {
    /// In the order of the four resources.
    pub fn amounts(&self) -> [Option<f64>; 4] {
        [self.cpus, self.memory_bytes.map(|b| b as f64), self.io_bytes_per_s, self.net_bytes_per_s]
    }
}

/// A worker, for the monitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerInfo {
    /// Its name.
    pub name: String,
    /// What it may use.
    pub capacity: Capacity,
    /// Whether its tasks run on this host, so that what the host has left limits it. False for outside
    /// workers.
    pub on_host: bool,
    /// The cells whose disks and network it lives on; empty: none more than others.
    pub near: Vec<CellId>,
}

/// A cell, for the monitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellInfo {
    /// Its name.
    pub name: String,
    /// What it can take.
    pub capacity: Capacity,
    /// How many shards it has: the most that one of its sources declares, at least 1.
    pub shards: u16,
}

/// A source, for the monitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// Its name.
    pub name: String,
    /// The cell it lies in.
    pub cell: CellId,
}

/// Everything the monitor is told at its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How often to sample. The monitor itself may ask for longer pauses, see [`super::Pace`].
    pub interval: Span,
    /// What sampling may cost, as a share of one processor. Default .01.
    pub budget: f64,
    /// How utilisation is smoothed. Default: half-life 5 s, so that heat follows what runs now and is not
    /// upset by one second.
    pub smoothing: Smoothing,
    /// How far back latency percentiles look. Default five minutes.
    pub latency_window: Span,
    /// What the host's disks and network can take, if declared; processors and memory are measured.
    pub host: Capacity,
    /// By worker id.
    pub workers: Vec<WorkerInfo>,
    /// By cell id.
    pub cells: Vec<CellInfo>,
    /// By source id.
    pub sources: Vec<SourceInfo>,
    /// The time series kept.
    pub series: Layout,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            interval: Span::from_secs(1),
            budget: 0.01,
            smoothing: Smoothing::HalfLife(Span::from_secs(5)),
            latency_window: Span::from_secs(300),
            host: Capacity::default(),
            workers: Vec::new(),
            cells: Vec::new(),
            sources: Vec::new(),
            series: Layout::default(),
        }
    }
}
