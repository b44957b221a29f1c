//! The values that cross folders, in the order in which a task meets them.
//!
//! The rooms of the house (`dispatch`, `worker`, `cache`, `monitor`, `predict`, `prefetch`, `store`) do not
//! know each other. What one tells another is a value of this file; who tells whom is decided in
//! `daemon/wiring.rs`, and again, with a virtual clock, in `replay/`.

use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A map with a fixed, unseeded hash: iteration still has no promised order, but runs repeat.
pub type Map<K, V> = std::collections::HashMap<K, V, xxhash_rust::xxh3::Xxh3DefaultBuilder>;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $int);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A task, numbered from 1 in the order in which tasks were acknowledged; never used twice.
    TaskId(u64)
}
id! {
    /// A task type: its index in [`crate::task::Catalogue`]. Stored records use the name instead.
    TypeId(u16)
}
id! {
    /// A worker: its index in the configuration; outside workers follow.
    WorkerId(u16)
}
id! {
    /// A cache pool: its index in the configuration.
    CacheId(u16)
}
id! {
    /// A source of objects: its index in the configuration.
    SourceId(u16)
}
id! {
    /// A cell: its index in the configuration.
    CellId(u16)
}

/// An object's full name, `source:path`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObjectName(Arc<str>);

impl ObjectName {
    /// From a text that was checked to be `source:path` (see `task::object`).
    pub fn new(name: impl Into<Arc<str>>) -> ObjectName {
        ObjectName(name.into())
    }
    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The source's name: what stands before the first colon.
    pub fn source(&self) -> &str {
        self.0.split_once(':').map_or("", |(s, _)| s)
    }
    /// The path inside the source: what stands after the first colon.
    pub fn path(&self) -> &str {
        self.0.split_once(':').map_or(&self.0, |(_, p)| p)
    }
}
impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an object lives: its failure domain and the partition of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The cell of the object's source.
    pub cell: CellId,
    /// A stable hash of the first capture of the source's `shard_by`, modulo its `shards`.
    pub shard: u16,
}

/// Fencing token of one attempt: a completion that shows another token than the current one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Token {
    /// Counts the daemon's starts; made durable at each start, before any task is handed out.
    pub epoch: u32,
    /// Counts this task's attempts from 1.
    pub attempt: u32,
}

// ---- the four resources -------------------------------------------------------------------------------

/// What can be hot. The order is that of every `[f64; 4]` about resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// Processor time.
    Cpu,
    /// Resident memory without page cache.
    Memory,
    /// Bytes read from and written to disks.
    Io,
    /// Bytes fetched from sources.
    Net,
}

impl Resource {
    /// All, in order.
    pub const ALL: [Resource; 4] = [Resource::Cpu, Resource::Memory, Resource::Io, Resource::Net];
}

/// One figure for each resource, in the order of [`Resource::ALL`]: a utilisation in [0, 1] or a demand that
/// sums to one.
pub type PerResource = [f64; 4];

/// What one attempt used, measured on its own process group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Wall time of the child, without the wait for its data.
    pub wall: Span,
    /// User and system time.
    pub cpu: Span,
    /// Largest resident set, bytes, page cache left out where the kernel tells.
    pub peak_memory_bytes: u64,
    /// Bytes read from disks.
    pub read_bytes: u64,
    /// Bytes written to disks.
    pub write_bytes: u64,
    /// Input bytes that had to be fetched from sources for this attempt.
    pub net_bytes: u64,
}

// ---- a task's way ---------------------------------------------------------------------------------------

/// How an attempt got one of its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// It was in the cache, whole.
    Cached,
    /// A transfer was under way; the attempt waited for the rest of it.
    Joined,
    /// It had to be fetched from its beginning.
    Fetched,
}

/// One input of an attempt: what it was and what it cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputUse {
    /// Which object.
    pub object: ObjectName,
    /// Its size.
    pub bytes: u64,
    /// Whether it was there.
    pub found: Found,
    /// Whether the copy that was used had been staged ahead of the demand.
    pub staged: bool,
    /// How long the attempt waited for it.
    pub wait: Span,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ending")]
pub enum Ending {
    /// Exit code 0, outputs published, inputs unchanged.
    Done,
    /// The child exited with another code.
    Exited {
        /// The child's exit code, 1..=255.
        code: i32,
    },
    /// A signal ended the child.
    Signalled {
        /// The signal's number.
        signal: i32,
    },
    /// The type's time limit ran out and the process group was ended.
    TimedOut,
    /// Somebody cancelled it.
    Cancelled,
    /// An input could not be had.
    MissingInput {
        /// Which object.
        object: ObjectName,
        /// What its source said.
        error: String,
    },
    /// An input was changed by the task.
    InputModified {
        /// Which object.
        object: ObjectName,
    },
    /// A declared output was not left in `out/`, or could not be published.
    OutputFailed {
        /// Which output.
        object: ObjectName,
        /// What went wrong.
        error: String,
    },
    /// The child could not be started, or its work folder could not be made.
    SpawnFailed {
        /// What the system said.
        error: String,
    },
    /// The worker or the daemon died under it.
    Lost,
    /// Its worker gave it back undone.
    Released,
    /// A task that it waited for did not get done.
    DependencyFailed {
        /// Which task.
        task: TaskId,
    },
    /// Its deadline passed before it could start.
    TooLate,
    /// An occurrence of a recurring task was left out.
    Skipped {
        /// Why.
        reason: Skipped,
    },
}

/// Why an occurrence of a recurring task was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skipped {
    /// The one before was unfinished.
    Overlap,
    /// Its time passed while the daemon was down.
    Missed,
}

impl Ending {
    /// Whether the task did what it was asked to.
    pub fn is_done(&self) -> bool {
        matches!(self, Ending::Done)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Done => f.write_str("done"),
            Ending::Exited { code } => write!(f, "exit code {code}"),
            Ending::Signalled { signal } => write!(f, "ended by signal {signal}"),
            Ending::TimedOut => f.write_str("time limit ran out"),
            Ending::Cancelled => f.write_str("cancelled"),
            // Most errors of sources name their object themselves.
            Ending::MissingInput { object, error } if error.starts_with(object.as_str()) => {
                write!(f, "input {error}")
            }
            Ending::MissingInput { object, error } => write!(f, "input {object} could not be had: {error}"),
            Ending::InputModified { object } => write!(f, "the task changed its input {object}"),
            Ending::OutputFailed { object, error } => write!(f, "output {object} was not published: {error}"),
            Ending::SpawnFailed { error } => write!(f, "could not be started: {error}"),
            Ending::Lost => f.write_str("its worker was lost"),
            Ending::Released => f.write_str("its worker gave it back"),
            Ending::Skipped { reason: Skipped::Overlap } => {
                f.write_str("skipped: the one before is unfinished")
            }
            Ending::Skipped { reason: Skipped::Missed } => {
                f.write_str("skipped: its time passed while the daemon was down")
            }
            Ending::TooLate => f.write_str("its deadline passed before it could start"),
            Ending::DependencyFailed { task } => {
                write!(f, "task {task}, which it waited for, did not get done")
            }
        }
    }
}

/// The factors of the decision that placed an attempt. They are recorded with it, so that learning from
/// the record gives the same predictor state as learning live did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Factors {
    /// `s_w(t)`: expected speed relative to the host, times success probability.
    pub speed: f64,
    /// `h_w(t)`: heat of the worker weighted by what the type demands, in [0, .99].
    pub heat: f64,
    /// Share of the input bytes that the worker's cache held, mapped to (0, 1].
    pub locality: f64,
}

/// An attempt's end, as the worker reports it. It goes once to the record, then to those who learn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which task.
    pub task: TaskId,
    /// Which attempt of it.
    pub token: Token,
    /// Who ran it.
    pub worker: WorkerId,
    /// Its type.
    pub task_type: TypeId,
    /// What it was about: the thing whose history is followed.
    pub entity: Option<Arc<str>>,
    /// When it was submitted.
    pub submitted: Time,
    /// When the worker took it.
    pub started: Time,
    /// When the attempt ended.
    pub ended: Time,
    /// How it ended.
    pub ending: Ending,
    /// What it used.
    pub usage: Usage,
    /// How long its slot idled for data.
    pub data_wait: Span,
    /// Its inputs.
    pub inputs: Vec<InputUse>,
    /// Why it was placed where it ran.
    pub factors: Factors,
}

// ---- heat -----------------------------------------------------------------------------------------------

/// What the monitor says is hot: one value, replaced whole. Utilisations are in [0, 1].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Heat {
    /// When it was measured.
    pub at: Time,
    /// By worker, indexed by [`WorkerId`].
    pub workers: Vec<PerResource>,
    /// By cell, indexed by [`CellId`].
    pub cells: Vec<PerResource>,
    /// By shard of each cell, `[cell][shard]`.
    pub shards: Vec<Vec<PerResource>>,
    /// The host itself.
    pub host: PerResource,
}

impl Heat {
    /// `h_w(t) = Σ_r d_t[r]·u_w[r]`, clamped to [0, .99]: how hot worker `w` is for a type with demand `d_t`
    /// (the specification's heat, weighted by demand so that it does not cancel when the product over
    /// types is normalised). A worker that was not measured yet is cold.
    pub fn felt_by(&self, worker: WorkerId, demand: &PerResource) -> f64 {
        let Some(u) = self.workers.get(usize::from(worker.0)) else { return 0.0 };
        let h: f64 = demand.iter().zip(u).map(|(d, u)| d * u).sum();
        h.clamp(0.0, 0.99)
    }
}

/// The heat of a worker, a cell or a shard when no type is meant: its busiest resource, in [0, 1].
///
/// The largest and not a mean: what works there is held up by whatever is used up, however idle the rest is.
/// A cell whose disks are saturated must get no more transfers although its processors sleep; a mean of four
/// would call it a quarter warm. Where the type is known, [`Heat::felt_by`] weighs by what it needs.
pub fn busiest(utilisation: &PerResource) -> f64 {
    utilisation.iter().copied().fold(0.0, f64::max).clamp(0.0, 1.0)
}

// ---- what a worker is good at -----------------------------------------------------------------------------

/// What the profiles say about one worker and one type, shrunk towards the host by effective count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Which type.
    pub task_type: TypeId,
    /// `s_w(t)`: expected speed relative to the host, times success probability. Above 0; 1 is average.
    pub speed: f64,
    /// `a_w(t) = s_w(t) / Σ_t s_w(t)`: the affinity score, in [0, 1].
    pub affinity: f64,
    /// Observations behind it, after forgetting.
    pub effective_count: f64,
    /// Expected execution time.
    pub expected: Span,
    /// Peak memory that few attempts exceed, bytes.
    pub memory_bytes: u64,
    /// `d_t[r]`: what the type demands; sums to one.
    pub demand: PerResource,
}

/// All standings of one worker, replaced whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standings {
    /// Whose.
    pub worker: WorkerId,
    /// One for each type that the worker may run.
    pub types: Vec<Standing>,
}

// ---- the plan -----------------------------------------------------------------------------------------------

/// What dispatch means to start next: tentative, replaced whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// When it was made.
    pub at: Time,
    /// Tasks in the order in which they are meant to start.
    pub next: Vec<Planned>,
    /// Delayed and blocked tasks whose inputs are known already, soonest first.
    pub later: Vec<Planned>,
    /// Where a task of each type would run that nobody has submitted yet.
    pub homes: Vec<(TypeId, WorkerId, CacheId)>,
}

/// One task of a [`Plan`].
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Which task.
    pub task: TaskId,
    /// Its type.
    pub task_type: TypeId,
    /// Its entity.
    pub entity: Option<Arc<str>>,
    /// Where it would run.
    pub worker: WorkerId,
    /// That worker's cache.
    pub cache: CacheId,
    /// When it is expected to start.
    pub due: Time,
    /// What it reads.
    pub inputs: Vec<ObjectName>,
}

/// A task that just came in: what those who look ahead learn of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrived {
    /// Which task.
    pub task: TaskId,
    /// Its type.
    pub task_type: TypeId,
    /// Its entity.
    pub entity: Option<Arc<str>>,
    /// When.
    pub at: Time,
    /// What it reads.
    pub inputs: Vec<ObjectName>,
}

/// A task began or ended that changes objects at their source.
#[derive(Clone, Debug, PartialEq)]
pub struct Writing {
    /// Which task.
    pub task: TaskId,
    /// What it writes.
    pub objects: Vec<ObjectName>,
    /// Whether it begins (else it ended, in whatever way).
    pub begins: bool,
    /// Those of them that the task has published as its outputs: the caches hold the new version already.
    pub published: Vec<ObjectName>,
}

// ---- the diary ----------------------------------------------------------------------------------------------

/// One decision, as the diary and `events` show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// When it was made.
    pub at: Time,
    /// What was decided.
    #[serde(flatten)]
    pub what: Decided,
}

/// What can be decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "decided")]
pub enum Decided {
    /// A task was accepted.
    Accepted {
        /// Which task.
        task: TaskId,
        /// Its type.
        task_type: TypeId,
        /// Its entity.
        entity: Option<Arc<str>>,
    },
    /// A task was given to a worker.
    Placed {
        /// Which task.
        task: TaskId,
        /// Which attempt.
        attempt: u32,
        /// To whom.
        worker: WorkerId,
        /// Why.
        factors: Factors,
    },
    /// An attempt ended.
    Ended {
        /// Which task.
        task: TaskId,
        /// Which attempt.
        attempt: u32,
        /// How.
        ending: Ending,
        /// Whether there will be another.
        again: bool,
    },
    /// An object is to be staged.
    Staged {
        /// Which object.
        object: ObjectName,
        /// At which cache.
        cache: CacheId,
        /// How it is known that it will be needed.
        knowledge: Arc<str>,
        /// Probability that it is used before it is evicted.
        p: f64,
        /// The probability at which it starts to pay.
        break_even: f64,
    },
    /// A staging transfer was called off.
    CalledOff {
        /// Which object.
        object: ObjectName,
        /// At which cache.
        cache: CacheId,
        /// Why.
        reason: Arc<str>,
    },
    /// An object was evicted.
    Evicted {
        /// Which object.
        object: ObjectName,
        /// From which cache.
        cache: CacheId,
    },
    /// The governor turned staging off or on.
    Governed {
        /// For which type and source.
        what: Arc<str>,
        /// Whether it is on now.
        on: bool,
        /// The evidence.
        evidence: Arc<str>,
    },
}

// ---- forecasts ------------------------------------------------------------------------------------------

/// A task that nobody has submitted yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// What it will be about.
    pub entity: Arc<str>,
    /// Its type.
    pub task_type: TypeId,
    /// Probability that it is submitted within the horizon, in (0, 1].
    pub p: f64,
    /// When it is expected, given that it comes.
    pub due: Time,
    /// How many steps ahead in the entity's chain, from 1.
    pub depth: u8,
}

/// A probability for each task type, for one worker, one entity or the whole host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// When it was computed.
    pub at: Time,
    /// Sums to one together with `other`; sorted by falling probability.
    pub types: Vec<TypeForecast>,
    /// Probability of a type that was not listed.
    pub other: f64,
}

/// One line of a [`Forecast`], with the factors that made it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TypeForecast {
    /// Which type.
    pub task_type: TypeId,
    /// Its probability.
    pub p: f64,
    /// `a_w(t)`: affinity score; sums to one over the types. Uniform when no worker is meant.
    pub affinity: f64,
    /// `h_w(t)`, in [0, .99]. Zero when no worker is meant.
    pub heat: f64,
    /// `P(t | history)`.
    pub history: f64,
    /// Expected time until the next task of this type, if it is known.
    pub due_in: Option<Span>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heat_is_utilisation_weighted_by_demand() {
        let heat = Heat { workers: vec![[0.8, 0.2, 0.4, 0.0], [1.0; 4]], ..Heat::default() };
        for (demand, felt) in [
            ([1.0, 0.0, 0.0, 0.0], 0.8),
            ([0.5, 0.0, 0.5, 0.0], 0.6),
            ([0.25; 4], 0.35),
            ([0.0, 0.0, 0.0, 1.0], 0.0),
        ] {
            assert!((heat.felt_by(WorkerId(0), &demand) - felt).abs() < 1e-12, "{demand:?}");
        }
        assert_eq!(heat.felt_by(WorkerId(1), &[0.25; 4]), 0.99, "something is always left");
        assert_eq!(heat.felt_by(WorkerId(9), &[0.25; 4]), 0.0, "who was not measured is cold");
    }

    #[test]
    fn a_place_is_as_hot_as_its_busiest_resource() {
        assert_eq!(busiest(&[0.1, 0.0, 0.93, 0.2]), 0.93);
        assert_eq!(busiest(&[0.0; 4]), 0.0);
        assert_eq!(busiest(&[3.0, 0.0, 0.0, 0.0]), 1.0);
    }
}
