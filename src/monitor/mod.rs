//! What is hot: samples, time series, heat by worker, cell and shard.
//!
//! `sample` reads the kernel's counters and is the only file here that does I/O. Everything else is pure:
//! `core` takes samples and the other rooms' facts, attributes what was used to workers, cells and shards
//! (`attempts`, `meter`), turns it into [`crate::flow::Heat`] (`utilisation`, `heat`), keeps it (`record`, `series`,
//! `track`, `block`) and draws
//! it (`heatmap`). `pace` slows sampling down when it costs too much.

pub mod actor;
mod attempts;
mod block;
mod core;
mod counters;
pub mod heat;
mod heatmap;
mod key;
mod latency;
mod load;
mod meter;
mod pace;
mod record;
mod report;
pub mod sample;
mod series;
mod settings;
mod track;
mod utilisation;

pub use attempts::{MAX_RUNNING, Running};
pub use block::{BlockError, Point};
pub use core::{MAX_WORKERS, Monitor, Occupancy, Transfer};
pub use counters::{GroupSample, HostRates, HostSample, Pressure};
pub use heatmap::{MapError, MapRequest, kept};
pub use key::{Grain, Key, Metric, NameError, Target};
pub use latency::LatencySummary;
pub use load::{Load, MAX_LOADS};
pub use meter::Smoothing;
pub use pace::{MAX_INTERVAL, Pace};
pub use report::{Report, SamplerReport, SourceReport, Totals};
pub use series::{Answer, BlockId, Error, Layout, Series, SeriesStats};
pub use series::{MAX_POINTS, MAX_RINGS};
pub use settings::{Capacity, CellInfo, Settings, SourceInfo, WorkerInfo};
pub use track::Ring;
