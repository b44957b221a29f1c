//! Groups of tasks, and tasks that recur.

use super::Submit;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A group of tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Its name; empty for tasks that name none.
    pub name: String,
    /// Whether none of its tasks starts.
    pub paused: bool,
    /// Its share of the slots when others want them too, relative to theirs.
    pub weight: f64,
    /// Most of its tasks that run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// Most of its tasks that are unfinished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_queued: Option<u32>,
    /// How many run.
    pub running: u32,
    /// How many are unfinished, running ones included.
    pub unfinished: u32,
}

/// What can be changed of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupEdit {
    /// Start none of its tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Its share of the slots, above 0 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Most of its tasks that run at once; 0 is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// Most of its tasks that are unfinished; 0 is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_queued: Option<u32>,
}

/// A task that is submitted again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Recurring {
    /// When: minute hour day month weekday, or six fields with seconds first.
    pub cron: String,
    /// The IANA time zone of the pattern; UTC when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// If one is due while the one before is unfinished; `skip` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlap>,
    /// Of those missed while the daemon was down; `one` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up: Option<CatchUp>,
    /// What is submitted; `deadline_s` counts from when it fires.
    pub task: Submit,
}

/// What happens if one is due while the one before is unfinished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// It is cancelled, with that reason.
    #[default]
    Skip,
    /// It is queued like any other task.
    Allow,
}

/// Which of those missed while the daemon was down are run late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// None of them.
    None,
    /// One for all of them.
    #[default]
    One,
    /// Each of them, up to 100.
    All,
}

/// A recurring task as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RecurringTask {
    /// Its name.
    pub name: String,
    /// What it is.
    pub recurring: Recurring,
    /// When it fires next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_s: Option<f64>,
    /// The delayed task that waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_task: Option<u64>,
    /// The last one that was queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_task: Option<u64>,
}
