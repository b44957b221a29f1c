//! What is hot: samples, time series, heat by worker, cell and shard.
//!
//! `sample` reads the kernel's counters and is the only file here that does I/O. Everything else is pure:
//! `core` takes samples and the other rooms' facts, attributes what was used to workers, cells and shards
//! (`attempts`, `meter`), turns it into [`crate::flow::Heat`] (`utilisation`), keeps it (`record`, `series`, `track`,
//! `block`, `stored`) and draws it (`heatmap`). `outlook` has what is expected to come and `usual` what each type
//! uses, which together are the heatmap's forecast. `pace` slows sampling down when it costs too much.

pub mod actor;
mod attempts;
mod block;
mod core;
mod counters;
mod heatmap;
mod key;
mod latency;
mod layout;
mod load;
mod meter;
mod outlook;
mod pace;
mod parts;
mod record;
mod report;
pub mod sample;
mod series;
mod settings;
mod stored;
mod tally;
#[cfg(test)]
mod tests;
mod track;
mod usual;
mod utilisation;

pub use attempts::{MAX_RUNNING, Running};
pub use block::{BlockError, Point};
pub use core::{MAX_WORKERS, Monitor, Transfer};
pub use counters::{GroupSample, HostRates, HostSample, Pressure};
pub use heatmap::{MapError, MapRequest, kept};
pub use key::{Grain, Key, Metric, NameError, Target};
pub use latency::LatencySummary;
pub use layout::{Error, Layout, MAX_RINGS};
pub use meter::Smoothing;
pub use outlook::{Ahead, MAX_AHEAD};
pub use pace::{MAX_INTERVAL, Pace};
pub use parts::{Occupancy, Saved};
pub use report::{Report, SamplerReport, SourceReport, Totals};
pub use series::{Answer, MAX_POINTS, Series, SeriesStats};
pub use settings::{Capacity, CellInfo, Settings, SourceInfo, WorkerInfo};
pub use stored::BlockId;
pub use tally::{MAX_PAIRS, Tally};
pub use track::Ring;
