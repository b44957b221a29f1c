//! The messages that cross folders: values of `flow` and `task` on their way from one actor to another.
//!
//! Who may wait for whom: `dispatch → worker → prefetch → cache`. Requests (verbs) go down that line and are
//! awaited; facts (past tense, [`Fact`]) may travel any way and are never awaited.

use crate::flow::{
    CacheId, Expected, Factors, InputUse, ObjectName, Outcome, Place, SourceId, TaskId, Token, TypeId,
    WorkerId,
};
use crate::task::Task;
use crate::time::{Span, Time};
use actix::Message;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A fact in travel: any value of `flow` as an actor message.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct Fact<T>(pub T);

// ---- dispatch → worker --------------------------------------------------------------------------------------

/// Run an attempt; the reply is its outcome.
#[derive(Message, Clone, Debug)]
#[rtype(result = "Outcome")]
pub struct Assign {
    /// The task.
    pub task: Arc<Task>,
    /// Which attempt.
    pub token: Token,
    /// When it was given.
    pub at: Time,
    /// Why there.
    pub factors: Factors,
    /// Number of the worker's slot, from 0; the worker sets it.
    pub slot: u32,
}

/// Attempts for an outside worker; their ends come back as its turns.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct Give(pub Vec<Assign>);

/// An attempt that an outside worker gave back undone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Released {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    pub token: Token,
    /// The next attempt does not start before.
    pub not_before: Time,
}

/// What an outside worker did and asks for: the one request that goes up the line. Answered with what it is
/// given, when all of it is durable. Dispatch waits for no outside worker, so nobody waits in a circle.
#[derive(Message, Clone, Debug)]
#[rtype(result = "Vec<Assign>")]
pub struct Turn {
    /// Who.
    pub worker: WorkerId,
    /// Attempts that ended.
    pub ended: Vec<Arc<Outcome>>,
    /// Attempts that were given back.
    pub released: Vec<Released>,
    /// How many more attempts it asks for; negative: it does not want those any more.
    pub asks: i64,
}

/// End an attempt: its whole process group.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct Stop {
    /// Which task.
    pub task: TaskId,
    /// Which attempt.
    pub token: Token,
}

/// Attempts that ended, once they are on record, in its order. A fact: it goes to all who learn.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct Learned(pub Arc<Vec<Lesson>>);

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// The attempt.
    pub outcome: Arc<Outcome>,
    /// Its number in the record, if the task has ended with it; retries have none and teach no predictor.
    pub seq: Option<u64>,
}

// ---- worker → cache -----------------------------------------------------------------------------------------

/// A cached object that somebody holds: it is pinned and stays until [`Unpin`].
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// Which object.
    pub object: ObjectName,
    /// The pool's number of the file; what [`Unpin`] names.
    pub file: u64,
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Version, as its source named it.
    pub etag: Option<String>,
    /// When its source last confirmed it.
    pub checked: Time,
    /// Whether this is the first use of a staged object.
    pub staged: bool,
    /// Whether a prediction had kept it from the cold end since its last use.
    pub protected: bool,
}

/// Look into the cache for a task's inputs; what is there is pinned for it. One answer for each object.
#[derive(Message, Clone, Debug)]
#[rtype(result = "Vec<Option<Held>>")]
pub struct Pin(pub Vec<ObjectName>);

/// Let go of files that were pinned, one pin each.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct Unpin(pub Vec<u64>);

// ---- worker → prefetch --------------------------------------------------------------------------------------

/// Make the inputs of an attempt ready; what is in the cache already comes along, for a check with its source
/// where its consistency asks for one.
#[derive(Message, Clone, Debug)]
#[rtype(result = "Result<Vec<Ready>, NotReady>")]
pub struct Demand {
    /// Whose inputs.
    pub task: TaskId,
    /// Its type.
    pub task_type: TypeId,
    /// What it is about.
    pub entity: Option<Arc<str>>,
    /// The worker that waits.
    pub worker: WorkerId,
    /// The worker's cache.
    pub cache: CacheId,
    /// The inputs, with what the cache has of them.
    pub inputs: Vec<(ObjectName, Option<Held>)>,
    /// Ask the sources anew, whatever their consistency says.
    pub fresh: bool,
    /// Cancelled when the attempt is not wanted any more.
    pub stop: CancellationToken,
}

/// An input that is ready: its file is whole, and pinned where the pool has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// Where it lies.
    pub path: PathBuf,
    /// The pool's file to unpin; `None` for a private file, which goes with the work folder.
    pub pinned: Option<u64>,
    /// How it was found, and what it cost.
    pub input: InputUse,
}

/// An input that cannot be had.
#[derive(Clone, Debug, PartialEq)]
pub struct NotReady {
    /// Which.
    pub object: ObjectName,
    /// What its source said.
    pub error: String,
    /// Whether everything that had been pinned for the attempt was let go.
    pub released: bool,
}

/// Publish a finished attempt's outputs at their sources, and keep them in the cache.
#[derive(Message, Clone, Debug)]
#[rtype(result = "Result<(), NotReady>")]
pub struct Publish {
    /// Whose outputs.
    pub task: TaskId,
    /// The worker's cache.
    pub cache: CacheId,
    /// What it made.
    pub outputs: Vec<Made>,
}

/// A file that a task made.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    /// Where it lies.
    pub path: PathBuf,
    /// The object that it becomes.
    pub object: ObjectName,
    /// Its size.
    pub bytes: u64,
    /// Whether it has other names too, so that it must be copied instead of adopted.
    pub shared: bool,
}

/// Pin an object for a reader that a transfer has just brought it for; not counted as a use.
#[derive(Message, Clone, Debug)]
#[rtype(result = "Option<Held>")]
pub struct Hold(pub ObjectName);

// ---- prefetch → cache ---------------------------------------------------------------------------------------

/// Why an object comes into a cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Purpose {
    /// A task waits for it.
    Demand,
    /// A forecast says it is needed then, with this probability.
    Forecast {
        /// When.
        due: Time,
        /// How likely, in (0, 1].
        p: f64,
    },
    /// It was learned that it comes next.
    Learned,
    /// A user asked for it, or a task made it.
    Named,
}

/// Make room for an object.
#[derive(Message, Clone, Debug)]
#[rtype(result = "Result<Reserved, String>")]
pub struct Reserve {
    /// Which object.
    pub object: ObjectName,
    /// Its size, or the best guess.
    pub bytes: u64,
    /// Why it comes.
    pub purpose: Purpose,
}

/// Room that was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Reserved {
    /// The file's number.
    pub file: u64,
    /// Where to write it until it is whole.
    pub temp: PathBuf,
}

/// A reserved file is whole.
#[derive(Message, Clone, Debug)]
#[rtype(result = "Result<Held, String>")]
pub struct Commit {
    /// The file's number.
    pub file: u64,
    /// Which object it is.
    pub object: ObjectName,
    /// Where it was written.
    pub temp: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Version, as its source named it.
    pub etag: Option<String>,
    /// Checksum of its bytes (xxh3, 128 bits).
    pub checksum: u128,
    /// Whether it is pinned for a task at once.
    pub pin: bool,
}

/// Take a task's output into the pool, by link where that is possible.
#[derive(Message, Clone, Debug)]
#[rtype(result = "Result<Held, String>")]
pub struct Adopt {
    /// The file.
    pub from: PathBuf,
    /// The object that it is.
    pub object: ObjectName,
    /// Its size.
    pub bytes: u64,
    /// Version, as the source named it when it was published.
    pub etag: Option<String>,
}

/// A reserved file will not come.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct Abandon(pub u64);

/// A reservation for staging has a task waiting for it now.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct Raise(pub u64);

/// What the forecast says about objects: when and how likely they are needed, or that they are not.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct Rank(pub Vec<(ObjectName, Option<(Time, f64)>)>);

/// The source says that a cached object is still current.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct Confirm {
    /// Which object.
    pub object: ObjectName,
    /// Version, as its source names it.
    pub etag: Option<String>,
}

/// An object must not be read any more: it is being written, has changed or is bad.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct Discard(pub Vec<ObjectName>);

// ---- predict → cache ---------------------------------------------------------------------------------------

/// What history says about objects of one pool that no template names; answered with how full the pool is.
#[derive(Message, Clone, Debug, Default)]
#[rtype(result = "PoolFill")]
pub struct Expect {
    /// Expected soon: away from the cold end with them.
    pub protect: Vec<ObjectName>,
    /// Staged, and expected no more: out, if nobody has used or wants them.
    pub release: Vec<ObjectName>,
}

/// How full a pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolFill {
    /// What it may hold.
    pub capacity_bytes: u64,
    /// What its entries hold.
    pub entry_bytes: u64,
    /// How many entries there are.
    pub entries: u64,
    /// Arrivals in its main part so far.
    pub inserts: u64,
}

// ---- facts --------------------------------------------------------------------------------------------------

/// A cache got an object, or lost it.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct Cached {
    /// Which cache.
    pub cache: CacheId,
    /// Which object.
    pub object: ObjectName,
    /// Its size.
    pub bytes: u64,
    /// Whether it is there now.
    pub there: bool,
    /// Whether it was staged and never used; said when it goes.
    pub unused: bool,
    /// Whether it had to leave for a staged one; said when it goes.
    pub for_staging: bool,
}

/// A child runs: what the monitor needs to sample it.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct Began {
    /// Its task.
    pub task: TaskId,
    /// Which attempt.
    pub token: Token,
    /// Its type.
    pub task_type: TypeId,
    /// Who runs it.
    pub worker: WorkerId,
    /// Cell and shard of its first input.
    pub place: Option<Place>,
    /// When it was given to the worker.
    pub started: Time,
    /// Number of its process group, once known.
    pub group: Option<i32>,
}

/// An outside worker is there, or has changed: those who keep something for each worker make room for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Attached {
    /// Which; follows the workers that are known.
    pub worker: WorkerId,
    /// Its name.
    pub name: Arc<str>,
    /// Which types it runs.
    pub types: Vec<TypeId>,
    /// Its cache.
    pub cache: CacheId,
}

/// An outside worker says how long its last heartbeat took there and back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundTrip(pub WorkerId, pub Span);

/// Which tasks an entity is expected to bring; replaces what was said of it before.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreseen {
    /// Which entity.
    pub entity: Arc<str>,
    /// The tasks, not yet submitted.
    pub expected: Vec<Expected>,
    /// Objects that they will read, as far as what was read before tells: each with its own expectation.
    pub objects: Vec<(ObjectName, Expected)>,
}

/// Bytes came over the network.
#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "()")]
pub struct Transferred {
    /// From which source.
    pub source: SourceId,
    /// On behalf of which cell and shard.
    pub place: Place,
    /// How many.
    pub bytes: u64,
    /// From when.
    pub started: Time,
    /// Until when.
    pub ended: Time,
    /// From the request to the first byte.
    pub first_byte: Option<Span>,
}

/// A task has asked for inputs that neither its type's template nor the look ahead names.
#[derive(Clone, Debug, PartialEq)]
pub struct Unforeseen {
    /// The cache that was asked.
    pub cache: CacheId,
    /// Who asked.
    pub worker: WorkerId,
    /// For a task of which type.
    pub task_type: TypeId,
    /// What for, in the task's order.
    pub reads: Vec<Read>,
}

/// One object that a task has asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// Which.
    pub object: ObjectName,
    /// Its size, if anybody knows it yet.
    pub bytes: Option<u64>,
    /// Whether it was in the cache.
    pub there: bool,
    /// Whether this was the first use of a staged copy.
    pub staged: bool,
    /// Whether a prediction had kept it from the cold end.
    pub protected: bool,
}

/// Objects that history says come next in one pool, and earlier proposals that stand no more.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposed {
    /// Which pool.
    pub cache: CacheId,
    /// The worker whose access said so.
    pub worker: WorkerId,
    /// The type of its task.
    pub task_type: TypeId,
    /// Worth staging.
    pub objects: Vec<ProposedObject>,
    /// Not worth it any more.
    pub withdrawn: Vec<ObjectName>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct ProposedObject {
    /// Which.
    pub object: ObjectName,
    /// Its size as last seen, or a sibling's.
    pub bytes: u64,
    /// Probability that it is used before it would be evicted, in (0, 1].
    pub p: f64,
    /// The probability from which it is worth it, in (0, 1].
    pub break_even: f64,
    /// Until when the proposal stands.
    pub until: Time,
}

/// Proposals that were not carried out: no bytes were spent on them.
#[derive(Clone, Debug, PartialEq)]
pub struct Declined {
    /// In which pool.
    pub cache: CacheId,
    /// Which objects.
    pub objects: Vec<ObjectName>,
}
