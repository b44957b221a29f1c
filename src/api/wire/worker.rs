//! Workers and their profiles.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// How many attempts it can run at once.
    pub slots: u32,
    /// Whether it is a program of its own that asks for work.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub outside: bool,
    /// What it runs now.
    pub running: Vec<RunningTask>,
    /// Its cache.
    pub cache: String,
    /// Types it runs; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Utilisation of cpu, memory, io and net, each in [0, 1].
    pub heat: [f64; 4],
    /// What it will most likely be asked next: type and probability, best first, at most three.
    pub next: Vec<TypeChance>,
    /// The type it is best at, and how much faster than the host it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_at: Option<BestAt>,
}

/// A task that a worker runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunningTask {
    /// Its number.
    pub id: u64,
    /// Its type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// When its worker took it; left out of what does not run yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_s: Option<f64>,
}

/// A type with its probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TypeChance {
    /// The type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// Its probability, in [0, 1].
    pub p: f64,
}

/// The type that a worker is best at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BestAt {
    /// The type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// Speed relative to the host; 1 is average.
    pub speed: f64,
}

/// One line of a worker's profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProfileLine {
    /// The type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// Affinity score; sums to one over the types.
    pub affinity: f64,
    /// Expected speed relative to the host, times success probability.
    pub speed: f64,
    /// Observations behind it, after forgetting.
    pub effective_count: f64,
    /// Probability that an attempt succeeds.
    pub success: f64,
    /// Expected execution time.
    pub wall_ms: f64,
    /// Smoothed processor time of an attempt.
    pub cpu_ms: f64,
    /// Smoothed peak memory of an attempt.
    pub memory_bytes: f64,
    /// Smoothed bytes read and written by an attempt.
    pub io_bytes: f64,
    /// Smoothed bytes fetched for an attempt.
    pub net_bytes: f64,
    /// First observation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_s: Option<f64>,
    /// Latest observation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_s: Option<f64>,
}
