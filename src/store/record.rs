//! The rows of the durable record and the changes to them.
//!
//! The record knows nothing of what a task *is*: bodies and outcomes are opaque bytes, and a task's type is
//! its name. Every stored row ends with a CRC32C of its table, its key and its content, so that a row that
//! was damaged on disk, or that turns up under another's key, is found when it is read.
//!
//! Version rule: a row's layout is that of [`super::upgrade::VERSION`]. A field is only ever added behind the
//! last one, with a step in `upgrade.rs` that rewrites the old rows; the CRC covers all fields of the version
//! that wrote it.

use crate::flow::{TaskId, Token};
use crate::time::Time;
use bytes::Bytes;
use std::sync::Arc;

/// What was submitted. It never changes, but for its priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskRow {
    /// Which task; at least 1 and below 2^63.
    pub id: TaskId,
    /// Its type's name.
    pub type_name: Arc<str>,
    /// Its priority; what the figure means is the queue's business.
    pub priority: u8,
    /// Its idempotency key, unique among the tasks of its type that are on record.
    pub key: Option<Arc<str>>,
    /// When it was acknowledged.
    pub submitted: Time,
    /// The resolved task, opaque.
    pub body: Bytes,
}

/// Where an unfinished task stands. The figures are those on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LiveState {
    /// Could be handed out.
    Queued = 0,
    /// Waits for its time.
    Delayed = 1,
    /// Waits for other tasks.
    Blocked = 2,
    /// An attempt was handed out and its end is not on record.
    Running = 3,
}

/// How a task ended. The figures are those on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum DoneState {
    /// It did what it was asked to.
    Done = 4,
    /// It was given up.
    Failed = 5,
    /// Somebody cancelled it.
    Cancelled = 6,
}

impl LiveState {
    /// From the figure on disk.
    pub fn from_u8(v: u8) -> Option<LiveState> {
        [LiveState::Queued, LiveState::Delayed, LiveState::Blocked, LiveState::Running]
            .get(usize::from(v))
            .copied()
    }
}
impl DoneState {
    /// From the figure on disk.
    pub fn from_u8(v: u8) -> Option<DoneState> {
        [DoneState::Done, DoneState::Failed, DoneState::Cancelled]
            .get(usize::from(v.checked_sub(4)?))
            .copied()
    }
}

/// The state of an unfinished task: what changes while it waits and runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Which task.
    pub id: TaskId,
    /// Where it stands.
    pub state: LiveState,
    /// The last attempt's number; 0 before the first.
    pub attempt: u32,
    /// Who has the running attempt.
    pub worker: Option<Arc<str>>,
    /// When the running attempt was handed out.
    pub started: Option<Time>,
    /// Not to be started before.
    pub not_before: Option<Time>,
    /// Why it went back to the queue, in words for people.
    pub note: Option<Arc<str>>,
}

impl Live {
    /// A task that was just submitted.
    pub fn new(id: TaskId, state: LiveState) -> Live {
        Live { id, state, attempt: 0, worker: None, started: None, not_before: None, note: None }
    }
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Which task.
    pub id: TaskId,
    /// The outcome's number: greater than that of every earlier outcome, below 2^63. Learning follows it.
    pub seq: u64,
    /// Its type's name, again: finished tasks are listed by type.
    pub type_name: Arc<str>,
    /// How it ended.
    pub state: DoneState,
    /// When.
    pub ended: Time,
    /// How many attempts it took.
    pub attempts: u32,
    /// The outcome, opaque.
    pub outcome: Bytes,
}

/// A change to the record. Changes of one batch are applied in order, all or none.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new task.
    Submit(TaskRow, Live),
    /// An attempt is about to be handed out.
    Started {
        /// Which task; it must be unfinished, with fewer attempts on record.
        id: TaskId,
        /// The attempt.
        token: Token,
        /// Who gets it.
        worker: Arc<str>,
        /// When.
        at: Time,
    },
    /// The attempt ended without ending the task, or the task's waiting changed its kind.
    Requeue {
        /// Which task; it must be unfinished.
        id: TaskId,
        /// Where it stands now; not [`LiveState::Running`].
        state: LiveState,
        /// Not to be started before.
        not_before: Option<Time>,
        /// Why, in words for people.
        note: Option<Arc<str>>,
    },
    /// The task ended. It must be unfinished.
    Finished(Done),
    /// Somebody changed what may be changed of an unfinished task.
    Edit {
        /// Which task; it must be unfinished.
        id: TaskId,
        /// Its new priority, if that changes.
        priority: Option<u8>,
        /// Its new earliest start, if that changes; `Some(None)` lifts it.
        not_before: Option<Option<Time>>,
    },
    /// A finished task is to run again. Its outcome stays on record until the task is forgotten.
    Reopen {
        /// Which task; it must be finished.
        id: TaskId,
        /// Where it stands now.
        state: LiveState,
        /// Whether attempts count from 0 again. A token stays unique only if this is false or the daemon
        /// was started since.
        reset_attempts: bool,
    },
    /// Something that is kept beside the tasks is set, or removed.
    Keep {
        /// What kind of thing.
        kind: Kind,
        /// Its name, unique in its kind.
        name: Arc<str>,
        /// What is kept, opaque; `None` removes it.
        body: Option<Bytes>,
    },
    /// Finished tasks leave the record. Those that are unfinished or unknown are left alone.
    Forget {
        /// Which tasks; [`super::reader::Reader::expired`] names them.
        ids: Vec<TaskId>,
    },
}

impl Change {
    /// Roughly how many bytes the change is waiting with: what [`super::Record::pending_bytes`] adds up.
    pub fn weight_bytes(&self) -> usize {
        const ROW: usize = 64;
        ROW + match self {
            Change::Submit(t, l) => {
                t.body.len() + t.type_name.len() + t.key.as_ref().map_or(0, |k| k.len()) + text_len(&l.note)
            }
            Change::Started { worker, .. } => worker.len(),
            Change::Requeue { note, .. } => text_len(note),
            Change::Finished(d) => d.outcome.len() + d.type_name.len(),
            Change::Keep { name, body, .. } => name.len() + body.as_ref().map_or(0, Bytes::len),
            Change::Edit { .. } | Change::Reopen { .. } => 0,
            Change::Forget { ids } => ids.len() * ROW,
        }
    }
}

fn text_len(t: &Option<Arc<str>>) -> usize {
    t.as_ref().map_or(0, |t| t.len())
}

/// The tables of the record, for their place in a CRC and in a report of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Table {
    /// What was submitted, by task.
    Task = 1,
    /// Where each task stands, by task.
    State = 2,
    /// Outcomes, by sequence number.
    Done = 3,
    /// Idempotency keys, by task.
    Key = 4,
    /// Single figures about the whole record.
    Meta = 5,
    /// What is kept beside the tasks, by a hash of its kind and name.
    Kept = 6,
}

/// Kinds of what is kept beside the tasks. The figures are those on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Settings of a group.
    Group = 1,
    /// A recurring task.
    Recurring = 2,
}

impl Kind {
    /// From the figure on disk.
    pub fn from_u8(v: u8) -> Option<Kind> {
        [Kind::Group, Kind::Recurring].into_iter().find(|k| *k as u8 == v)
    }

    /// The key of a name in [`Table::Kept`]: 63 bits of a hash, so that rows can be walked like all others. Two
    /// names of the few thousand that there may be do not meet in it.
    pub(super) fn key_of(self, name: &str) -> i64 {
        (xxhash_rust::xxh3::xxh3_64_with_seed(name.as_bytes(), self as u64) >> 1) as i64
    }
}

impl Table {
    /// The table's name in SQLite.
    pub fn name(self) -> &'static str {
        match self {
            Table::Task => "task",
            Table::State => "state",
            Table::Done => "done",
            Table::Key => "key",
            Table::Meta => "meta",
            Table::Kept => "kept",
        }
    }
}

/// Computes row CRCs; keeps its buffer from row to row.
///
/// Every field goes in with its length or a mark of its absence, so that no two rows have the same bytes.
#[derive(Debug, Default)]
pub(super) struct Sealer(Vec<u8>);

impl Sealer {
    fn start(&mut self, table: Table, key: i64) -> &mut Sealer {
        self.0.clear();
        self.0.push(table as u8);
        self.int(key)
    }
    fn int(&mut self, v: i64) -> &mut Sealer {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
    fn opt_int(&mut self, v: Option<i64>) -> &mut Sealer {
        self.0.push(u8::from(v.is_some()));
        self.int(v.unwrap_or(0))
    }
    fn bytes(&mut self, b: &[u8]) -> &mut Sealer {
        self.int(b.len() as i64);
        self.0.extend_from_slice(b);
        self
    }
    fn opt_text(&mut self, t: Option<&str>) -> &mut Sealer {
        self.0.push(u8::from(t.is_some()));
        self.bytes(t.unwrap_or("").as_bytes())
    }
    /// Signed, because SQLite stores a 32-bit figure in four bytes only if it is in the signed range.
    fn end(&self) -> i64 {
        i64::from(crc32c::crc32c(&self.0) as i32)
    }

    pub fn task(&mut self, id: i64, type_name: &str, priority: i64, submitted: i64, body: &[u8]) -> i64 {
        self.start(Table::Task, id).bytes(type_name.as_bytes()).int(priority).int(submitted).bytes(body).end()
    }
    pub fn state(&mut self, id: i64, s: &StateCells<'_>) -> i64 {
        self.start(Table::State, id).int(s.state).int(s.attempt).opt_text(s.worker).opt_int(s.started);
        self.opt_int(s.not_before).opt_text(s.note).opt_int(s.seq).end()
    }
    pub fn done(&mut self, seq: i64, d: &DoneCells<'_>) -> i64 {
        self.start(Table::Done, seq).int(d.id).bytes(d.type_name.as_bytes()).int(d.state).int(d.ended);
        self.int(d.attempts).opt_int(d.prev).bytes(d.outcome).end()
    }
    pub fn key(&mut self, id: i64, type_name: &str, key: &str) -> i64 {
        self.start(Table::Key, id).bytes(type_name.as_bytes()).bytes(key.as_bytes()).end()
    }
    pub fn kept(&mut self, key: i64, kind: i64, name: &str, body: &[u8]) -> i64 {
        self.start(Table::Kept, key).int(kind).bytes(name.as_bytes()).bytes(body).end()
    }
    pub fn meta(&mut self, what: i64, value: i64) -> i64 {
        self.start(Table::Meta, what).int(value).end()
    }
}

/// A row of `state` as it lies in SQLite, without key and CRC. Finished tasks keep one, with `seq`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StateCells<'a> {
    pub state: i64,
    pub attempt: i64,
    pub worker: Option<&'a str>,
    pub started: Option<i64>,
    pub not_before: Option<i64>,
    pub note: Option<&'a str>,
    pub seq: Option<i64>,
}

impl<'a> From<&'a Live> for StateCells<'a> {
    fn from(l: &'a Live) -> StateCells<'a> {
        StateCells {
            state: l.state as i64,
            attempt: i64::from(l.attempt),
            worker: l.worker.as_deref(),
            started: l.started.map(time_cell),
            not_before: l.not_before.map(time_cell),
            note: l.note.as_deref(),
            seq: None,
        }
    }
}

/// A row of `done` as it lies in SQLite, without key and CRC.
#[derive(Clone, Copy, Debug)]
pub(super) struct DoneCells<'a> {
    pub id: i64,
    pub type_name: &'a str,
    pub state: i64,
    pub ended: i64,
    pub attempts: i64,
    /// The sequence number of the same task's outcome before it was reopened.
    pub prev: Option<i64>,
    pub outcome: &'a [u8],
}

/// SQLite's integers are signed; the bits survive the round trip, [`Time::MAX`] included.
pub(super) fn time_cell(t: Time) -> i64 {
    t.as_us() as i64
}
pub(super) fn cell_time(v: i64) -> Time {
    Time::from_us(v as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_differ_only_in_where_a_field_ends_have_different_seals() {
        let mut s = Sealer::default();
        assert_ne!(s.key(1, "ab", "c"), s.key(1, "a", "bc"));
        assert_ne!(s.key(1, "a", "b"), s.key(2, "a", "b"));
        let none = StateCells::default();
        let empty = StateCells { worker: Some(""), ..none };
        assert_ne!(s.state(1, &none), s.state(1, &empty));
        assert_ne!(s.state(1, &none), s.state(1, &StateCells { started: Some(0), ..none }));
        assert_ne!(
            s.state(1, &StateCells { note: Some("x"), ..none }),
            s.state(1, &StateCells { worker: Some("x"), ..none })
        );
    }

    #[test]
    fn states_survive_the_round_trip() {
        for v in 0..=255 {
            assert_eq!(LiveState::from_u8(v).map(|s| s as u8), (v < 4).then_some(v));
            assert_eq!(DoneState::from_u8(v).map(|s| s as u8), (4..7).contains(&v).then_some(v));
        }
        assert_eq!(cell_time(time_cell(Time::MAX)), Time::MAX);
    }
}
