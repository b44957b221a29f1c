//! The wire types of `/v1`: what goes over the socket, as JSON.
//!
//! Rules for all of them: names instead of numbers for types, workers, caches and sources; times as seconds
//! since the Unix epoch (`_s`), spans with their unit in the name; optional fields are left out when empty;
//! unknown fields of requests are refused, so that a typing error is not taken for a default.

mod moment;

pub use moment::{Now, NowQuery, Played, QueueLine, Series, SeriesQuery, Transfers};

use crate::flow::{Factors, InputUse, Usage};
use crate::task::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A task to be run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Submit {
    /// Name of the task type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// What the task is about: the thing whose history is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Values of `{arg.NAME}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// Objects to read besides those that the type derives, as `source:path`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// Priority class, 0 to 9; higher goes first. The type's own when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Makes the submit idempotent: as long as a task of this type with this key is on record, it is returned
    /// instead of a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Tasks that must be done before this one starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<u64>,
    /// No attempt starts before this many seconds have passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_s: Option<f64>,
    /// The task must have started when this many seconds have passed, or it fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<f64>,
    /// The group that it belongs to: groups can be paused, and share the slots by weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Ask the sources anew for every input, whatever their consistency says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// Passed to the worker as it is, at most 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

/// The answer to one submit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    /// The task's number.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<u64>,
    /// Whether the key was known and this is the task that has it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub existing: bool,
    /// Why this one was refused; others of the same request may have been accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBody>,
}

/// Every error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// Stable word for programs.
    pub code: String,
    /// A sentence for people: the place, the value, what is accepted.
    pub message: String,
    /// More, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A task, as lists and `show` give it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Task {
    /// Its number.
    pub id: u64,
    /// Its type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Where it stands.
    #[schema(value_type = String, example = "queued")]
    pub state: State,
    /// What it waits for, in words: `slot`, `task 12`, `memory`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// Why it failed, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The child's exit code, if it got that far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Priority class.
    pub priority: u8,
    /// Its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// It must have started by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<f64>,
    /// Attempts so far.
    pub attempts: u32,
    /// Who runs or ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// When it was submitted.
    pub submitted_s: f64,
    /// When its (last) attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_s: Option<f64>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_s: Option<f64>,
    /// No attempt starts before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before_s: Option<f64>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<u64>,
    /// Arguments.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// Objects it reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// Objects it publishes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// Objects it changes at their source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<String>,
    /// How long its slot idled for data, in the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_wait_ms: Option<f64>,
    /// What the last attempt used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<TaskUsage>,
}

/// What an attempt used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskUsage {
    /// Execution time without the wait for data.
    pub wall_ms: f64,
    /// User and system time.
    pub cpu_ms: f64,
    /// Largest resident set.
    pub peak_memory_bytes: u64,
    /// Read from disks.
    pub read_bytes: u64,
    /// Written to disks.
    pub write_bytes: u64,
    /// Fetched from sources for it.
    pub net_bytes: u64,
}

impl From<Usage> for TaskUsage {
    fn from(u: Usage) -> TaskUsage {
        TaskUsage {
            wall_ms: u.wall.as_ms(),
            cpu_ms: u.cpu.as_ms(),
            peak_memory_bytes: u.peak_memory_bytes,
            read_bytes: u.read_bytes,
            write_bytes: u.write_bytes,
            net_bytes: u.net_bytes,
        }
    }
}

/// Which tasks to list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct TaskFilter {
    /// Only this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    #[param(value_type = Option<String>)]
    pub state: Option<State>,
    /// Only this type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub task_type: Option<String>,
    /// Only this entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Only this group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// At most this many, 1 to 1000; 100 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only tasks with a smaller number: where the page before ended. Lists go from new to old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

/// What can be changed of a waiting task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// Priority class, 0 to 9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// No attempt starts before this many seconds from now have passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_s: Option<f64>,
}

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

/// What is left of those that were waited for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Idle {
    /// Unfinished tasks.
    pub unfinished: u64,
}

/// Which failed tasks are to be tried again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryFilter {
    /// Only this type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub task_type: Option<String>,
    /// Only this entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Only this group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// At most this many, the newest, 1 to 100000; 10000 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// What became of a `retry` in bulk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Retried {
    /// How many are tried again.
    pub retried: u64,
    /// Those that could not be, at most 1000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refusal>,
}

/// A task that could not be tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Refusal {
    /// Its number.
    pub id: u64,
    /// Why.
    pub message: String,
}

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

/// Whose next task is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct PredictQuery {
    /// A worker's; the whole host's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// An entity's next task instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Whether to say what the probabilities are made of.
    #[serde(default)]
    pub explain: bool,
}

/// A probability for each type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Prediction {
    /// `host`, `worker NAME` or `entity NAME`.
    pub of: String,
    /// Sums to one together with `other`.
    pub types: Vec<PredictedType>,
    /// Probability of types that are not listed.
    pub other: f64,
    /// Which tasks, not yet submitted, are expected: most likely first.
    pub expected: Vec<ExpectedTask>,
    /// Which entity comes with which type as the very next task of the worker or the host, most likely first;
    /// nothing for an entity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<NextTask>,
    /// Tasks that are known already and come before them: queued for this worker.
    pub known: Vec<RunningTask>,
    /// What it is made of; with `explain` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explain: Option<Explain>,
}

/// One line of a [`Prediction`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PredictedType {
    /// The type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// Probability that the next task is of this type.
    pub p: f64,
    /// Affinity score `a_w(t)`.
    pub affinity: f64,
    /// Heat `h_w(t)`.
    pub heat: f64,
    /// `P(t | history)`.
    pub history: f64,
    /// Expected time until the next task of this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_in_s: Option<f64>,
}

/// A task that nobody has submitted yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExpectedTask {
    /// Its type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// What it will be about.
    pub entity: String,
    /// Probability that it comes within the horizon.
    pub p: f64,
    /// Expected time until then.
    pub due_in_s: f64,
}

/// An entity and a type that are expected together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NextTask {
    /// The type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// The entity.
    pub entity: String,
    /// Probability that the next task is of this type and about this entity.
    pub p: f64,
}

/// What a prediction is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explain {
    /// Exponents of affinity, coolness and history.
    pub exponents: [f64; 3],
    /// Whether they are learned or kept at 1.
    pub exponents_learned: bool,
    /// Which contexts spoke loudest about the likeliest type by history.
    pub contexts: Vec<ContextVoice>,
    /// Reliability of recent predictions, by bin of confidence.
    pub calibration: Vec<CalibrationBin>,
    /// Mean log loss of recent predictions, bits.
    pub log_loss_bits: f64,
}

/// What one context said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ContextVoice {
    /// What it looks at.
    pub context: String,
    /// What it added to the logarithm of that type's score: above zero speaks for it.
    pub weight: f64,
    /// The type it raises most.
    #[serde(rename = "type")]
    pub task_type: String,
    /// Tasks counted after it, after forgetting; nothing for what does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<f64>,
}

/// One bin of a reliability table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CalibrationBin {
    /// Lower end of the bin's confidence.
    pub from: f64,
    /// Upper end.
    pub to: f64,
    /// How many predictions fell into it.
    pub count: f64,
    /// Mean confidence of these.
    pub confidence: f64,
    /// Share of these that came true.
    pub came_true: f64,
}

/// One cache pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cache {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub dir: String,
    /// `lru` or `lfu`.
    pub policy: String,
    /// Most bytes.
    pub capacity_bytes: u64,
    /// Bytes of objects in it.
    pub used_bytes: u64,
    /// Bytes that pins hold.
    pub pinned_bytes: u64,
    /// Bytes of evicted files that running tasks still hold.
    pub zombie_bytes: u64,
    /// Objects in it.
    pub objects: u64,
    /// Demands that found their object whole.
    pub hits: u64,
    /// Demands that did not.
    pub misses: u64,
    /// Memory of what was learned of the order in which objects are asked for.
    #[serde(default)]
    pub model_bytes: u64,
    /// Memory of the names and sizes of those objects.
    #[serde(default)]
    pub catalogue_bytes: u64,
}

/// One cached object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CachedObject {
    /// Its name, `source:path`.
    pub object: String,
    /// The pool.
    pub cache: String,
    /// Its size.
    pub bytes: u64,
    /// Whether it was staged ahead and not used yet.
    pub staged: bool,
    /// Whether a user pinned it.
    pub pinned: bool,
    /// Tasks that use it now.
    pub in_use: u32,
    /// Version as the source names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// Which cached objects to list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct CacheFilter {
    /// Only this pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Only names that begin like this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// At most this many, 1 to 10000; 1000 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// What to do with cached objects.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheOrder {
    /// The pool; the only one, or all, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Objects, as `source:path`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
    /// Or the inputs that this task type derives …
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub task_type: Option<String>,
    /// … from this entity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Whether to answer only when all of it has ended.
    #[serde(default)]
    pub wait: bool,
}

/// What became of one object of a [`CacheOrder`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CacheAnswer {
    /// The object.
    pub object: String,
    /// The pool.
    pub cache: String,
    /// `staged`, `staging`, `present`, `pinned`, `unpinned`, `evicted`, `absent`, `whole`, `damaged`, `failed`, `in use`.
    pub result: String,
    /// Its size, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

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
