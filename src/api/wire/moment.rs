//! Figures over time, and everything that a dashboard shows of one moment.

use super::{Cache, CalibrationBin, Health, Savings, Worker};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which series is wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct SeriesQuery {
    /// `host`, `worker`, `cell`, `shard` or `source`; `host` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Whose: a name, for a shard `CELL · NUMBER`. All of the grain when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As of a heatmap, and for the host `pressure_cpu`, `disk_read`, `saved` and others; `heat` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// How far back, seconds; 600 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_s: Option<f64>,
    /// Width of a point, seconds: the finest that reaches that far when left out. At most 2,880 points come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_s: Option<f64>,
}

/// A series over time, in points of equal width.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Series {
    /// Whose.
    pub name: String,
    /// Which metric.
    pub metric: String,
    /// `share`, `seconds`, `bytes`, `bytes_per_s` or `count`.
    pub unit: String,
    /// When the first point begins.
    pub start_s: f64,
    /// Width of a point.
    pub step_s: f64,
    /// Least, mean and largest value of each point; null where nothing was recorded.
    pub points: Vec<Option<[f32; 3]>>,
}

/// Everything that a dashboard shows of this moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Now {
    /// When it was.
    pub at_s: f64,
    /// How the daemon is.
    pub health: Health,
    /// All workers.
    pub workers: Vec<Worker>,
    /// What waits, by type, most first; at most 20 lines.
    pub queue: Vec<QueueLine>,
    /// What moves.
    pub transfers: Transfers,
    /// All caches.
    pub caches: Vec<Cache>,
    /// What staging has saved.
    pub savings: Savings,
    /// Whether forecasts come true.
    pub calibration: Vec<CalibrationBin>,
    /// Attempts that ended from `since` on, oldest first; the latest 1,000 at most.
    pub played: Vec<Played>,
    /// What to ask for as `since` the next time.
    pub next: u64,
    /// What sampling costs, as a share of one processor, and what it may.
    pub sampler: [f64; 2],
}

/// Tasks of one type that wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QueueLine {
    /// Their type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// How many.
    pub count: usize,
    /// What the first of them waits for, in words.
    pub waiting_for: String,
}

/// Transfers under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Transfers {
    /// A task waits for it.
    pub demand: usize,
    /// Before anybody asks.
    pub staging: usize,
    /// For a connection, or for the next try.
    pub waiting: usize,
}

/// An attempt that has ended, for the stream of tasks: transfer, wait and run follow each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Played {
    /// The task's number.
    pub task: u64,
    /// Its type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// What it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Who ran it.
    pub worker: String,
    /// When the worker took it.
    pub started_s: f64,
    /// How long it fetched data that nobody had asked for before.
    pub transfer_s: f64,
    /// How long it waited for data that was on its way already.
    pub wait_s: f64,
    /// When it ended.
    pub ended_s: f64,
    /// Whether it did what it was asked to.
    pub done: bool,
    /// Inputs that had been staged ahead.
    pub staged: usize,
}

/// From where a [`Now`] goes on.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, utoipa::IntoParams,
)]
#[serde(deny_unknown_fields)]
pub struct NowQuery {
    /// The `next` of the answer before; attempts that are kept when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}
