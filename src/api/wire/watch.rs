//! What people look at: heatmaps, savings, reasons, health, the diary.

use crate::flow::{Factors, InputUse};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Which heatmap to draw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct HeatmapQuery {
    /// Rows: `worker`, `cell`, `shard` or `source`; `worker` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// `cpu`, `memory`, `io`, `net`, `latency` or `heat`; `heat` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<String>,
    /// How far back, seconds; 600 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_s: Option<f64>,
    /// How many columns, 1 to 1000; 60 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<usize>,
    /// `json` (default), `svg` or `png`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// `light` (default) or `dark`, for pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub theme: Option<String>,
    /// Time zone of the times on a picture, seconds east of UTC, −86400 to 86400; 0 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_s: Option<i32>,
}

/// What staging has saved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Savings {
    /// `on`, `observe` or `off`.
    pub staging: String,
    /// Seconds of data wait that staging has hidden, by the ledger.
    pub hidden_s: f64,
    /// Mean saving for each demand by the control group, seconds; left out while it is not yet known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_demand_s: Option<f64>,
    /// Its 95 % interval, or what is known of it so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_s: Option<[f64; 2]>,
    /// The verdict in words: `saves 31 ms a demand (95 %: 12 to 50 ms)` or `not yet known`.
    pub verdict: String,
    /// Demands seen.
    pub demands: u64,
    /// Demands that found their object whole.
    pub found: u64,
    /// Objects staged.
    pub staged: u64,
    /// … used before they were evicted.
    pub useful: u64,
    /// … demanded while still on their way.
    pub late: u64,
    /// … evicted unused.
    pub wasted: u64,
    /// … that evicted something which was then needed.
    pub harmful: u64,
    /// Bytes staged.
    pub staged_bytes: u64,
    /// Bytes staged and not used.
    pub wasted_bytes: u64,
    /// Submits whose type had been the likeliest for their entity just before.
    #[serde(default)]
    pub forecasts_right: u64,
    /// Submits about entities that were known, so that there was a forecast.
    #[serde(default)]
    pub forecasts: u64,
    /// By type, source and kind of knowledge.
    pub lines: Vec<SavingsLine>,
    /// Staging that the governor has turned off.
    pub off: Vec<String>,
}

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SavingsLine {
    /// Type of the task that used it, or was expected to.
    #[serde(rename = "type")]
    pub task_type: String,
    /// Source of the object.
    pub source: String,
    /// `queued`, `scheduled`, `derived` or `learned`.
    pub knowledge: String,
    /// Objects staged.
    pub staged: u64,
    /// Used in time.
    pub useful: u64,
    /// Demanded while on their way.
    pub late: u64,
    /// Evicted unused.
    pub wasted: u64,
    /// Seconds hidden.
    pub hidden_s: f64,
    /// Bytes staged.
    pub bytes: u64,
}

/// Why something was done: a title and lines of evidence, each a name and a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Why {
    /// What is explained, in one sentence.
    pub title: String,
    /// The evidence.
    pub lines: Vec<WhyLine>,
    /// Scores of the workers, for a task that waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<WhyCandidate>,
    /// How the inputs of an ended attempt were found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub inputs: Vec<InputUse>,
}

/// One line of evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WhyLine {
    /// What it is about: `forecast`, `staged`, `placed`, `waited for`, …
    pub name: String,
    /// The text.
    pub text: String,
}

/// How a worker scores for a waiting task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WhyCandidate {
    /// The worker.
    pub worker: String,
    /// speed × (1 − heat) × locality.
    #[schema(value_type = Object)]
    pub factors: Factors,
    /// The score.
    pub score: f64,
    /// Free slots.
    pub free_slots: u32,
}

/// How the daemon is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `running`, `paused` or `draining`.
    pub status: String,
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it was ready.
    pub up_s: f64,
    /// How many times it has started on this state.
    pub epoch: u32,
    /// `on`, `observe` or `off`.
    pub staging: String,
    /// Unfinished tasks by state.
    pub tasks: BTreeMap<String, usize>,
    /// What was found wrong at the start and set aside, in words; empty is good.
    pub damage: Vec<String>,
}

/// One decision of the diary. What it was about stands in fields of its own, where it was about that.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Number, rising by one.
    pub seq: u64,
    /// When.
    pub at_s: f64,
    /// What was decided: `accepted`, `placed`, `ended`, `staged`, `called_off`, `evicted`, `governed`.
    pub decided: String,
    /// A sentence for people.
    pub text: String,
    /// The task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u64>,
    /// The attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub task_type: Option<String>,
    /// The entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// The worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Probability that what is staged is used before it leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    /// The probability at which staging it begins to pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_even: Option<f64>,
}
