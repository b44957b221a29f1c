//! What the record promises, tested on its files.

mod damage;
mod kill;
mod model;
mod promises;
mod state;

use super::*;
use crate::flow::Token;
use crate::time::Time;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc;

/// The files of a record that outlive the process.
const FILES: [&str; 3] = ["tasks.db", "tasks.db-wal", "tasks.mark"];

/// A scratch folder, in memory where there is one: these tests look at bytes, not at the disk.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Submits and waits for the answer.
fn put(record: &mut Record, changes: Vec<Change>) -> Result<(), Error> {
    let (send, recv) = mpsc::channel();
    record.submit(changes, Box::new(move |result| send.send(result).unwrap()));
    recv.recv().unwrap()
}

/// Everything that a record says of itself, by both ways of reading.
#[derive(Clone, Debug, Default, PartialEq)]
struct Contents {
    tasks: BTreeMap<u64, TaskRow>,
    live: BTreeMap<u64, Live>,
    done: BTreeMap<u64, Done>,
    finished_keys: BTreeSet<(u64, String)>,
    kept: BTreeMap<(Kind, String), Bytes>,
}

struct Open {
    record: Record,
    opened: Opened,
    contents: Contents,
    /// Ids that were given twice.
    twice: Vec<u64>,
}

fn open(dir: &Path, inline: bool) -> Result<Open, Error> {
    let mut c = Contents::default();
    let mut twice = Vec::new();
    let options = Options { inline, beside: !inline, ..Options::default() };
    let (record, opened) = Record::open(dir, options, |loaded| match loaded {
        Loaded::Task(task, live) => {
            let id = task.id.0;
            assert_eq!(live.id.0, id);
            c.tasks.insert(id, task);
            twice.extend(c.live.insert(id, live).map(|_| id));
        }
        Loaded::FinishedKey { id, key, .. } => {
            c.finished_keys.insert((id.0, key.to_string()));
        }
        Loaded::Kept { kind, name, body } => {
            c.kept.insert((kind, name.to_string()), body);
        }
    })?;
    Ok(Open { record, opened, contents: c, twice })
}

/// The outcomes on record, and the rows of the tasks they belong to.
fn add_finished(dir: &Path, c: &mut Contents) -> Result<u64, Error> {
    let mut reader = Reader::open(dir)?;
    let damaged = reader.outcomes_since(0, |d| {
        c.done.insert(d.seq, d);
    })?;
    let ids: BTreeSet<_> = c.done.values().map(|d| d.id).collect();
    for id in ids {
        if let Some(stored) = reader.task(id)? {
            c.tasks.insert(id.0, stored.task);
        }
    }
    Ok(damaged)
}

/// Up to `limit` bytes that follow from the seed.
fn noise(seed: u64, limit: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let len = rng.usize(..limit);
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

/// A task whose every field follows from its number.
fn task(id: u64) -> TaskRow {
    let mut rng = fastrand::Rng::with_seed(id);
    TaskRow {
        id: TaskId(id),
        type_name: ["copy", "verify", "delete"][rng.usize(..3)].into(),
        priority: rng.u8(..10),
        key: rng.bool().then(|| format!("key-{id}").into()),
        submitted: Time::from_us(1_000_000) + crate::time::Span::from_us(id),
        body: noise(id, 400).into(),
    }
}

fn submit(id: u64) -> Change {
    Change::Submit(task(id), Live::new(TaskId(id), LiveState::Queued))
}

fn start(id: u64, attempt: u32) -> Change {
    let token = Token { epoch: 1, attempt };
    Change::Started { id: TaskId(id), token, worker: "fast".into(), at: Time::from_us(2_000_000 + id) }
}

fn outcome(id: u64, seq: u64) -> Done {
    let mut rng = fastrand::Rng::with_seed(seq);
    Done {
        id: TaskId(id),
        seq,
        type_name: task(id).type_name,
        state: [DoneState::Done, DoneState::Failed, DoneState::Cancelled][rng.usize(..3)],
        ended: Time::from_us(3_000_000 + seq),
        attempts: 1,
        outcome: Bytes::from(format!("{{\"seq\":{seq}}}")),
    }
}
