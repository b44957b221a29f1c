//! The record beside its limit, in one alternating run.
//!
//! The same work for both: tasks of 200 bytes are submitted, started and finished, each step a commit of its own
//! for a group of tasks, with one client that waits for each. Starts and finishes come in another order than
//! submits, shuffled within 4,096, behind a backlog of 8,192, because that is what many workers make of a queue.
//! Three in ten tasks have a key, one in ten fails. The bare side writes the same fields to [`super::floor`].
//!
//! Rounds alternate, so that a neighbour's noise falls on both.

use super::record::{Change, Done, DoneState, Live, LiveState, TaskRow};
use super::{Durability, Error, Options, Record, floor::Floor};
use crate::flow::{TaskId, Token};
use crate::time::Time;
use bytes::Bytes;
use std::fmt;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// How the two are compared.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tasks in a group.
    pub groups: Vec<usize>,
    /// How often the two take turns at each group size.
    pub rounds: usize,
    /// How long one side's turn takes, about.
    pub turn: Duration,
    /// When the record acknowledges.
    pub durability: Durability,
    /// Whether the record commits on the caller's thread: the store alone, as the bare log is. Otherwise each
    /// commit wakes the record's thread and that one the caller, as in the daemon.
    pub inline: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            groups: vec![1, 10, 100, 1_000],
            rounds: 6,
            turn: Duration::from_millis(500),
            durability: Durability::Sync,
            inline: true,
        }
    }
}

/// One side at one group size.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Side {
    /// Tasks that went through all three steps, a second.
    pub tasks_per_s: f64,
    /// Median time of a commit.
    pub p50_us: f64,
    /// 99th percentile of it.
    pub p99_us: f64,
}

/// Both sides at one group size.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Line {
    /// Tasks in a group.
    pub group: usize,
    /// The bare log.
    pub floor: Side,
    /// The record.
    pub record: Side,
    /// The record's rate over the bare log's.
    pub ratio: f64,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line { group, floor, record, ratio } = self;
        write!(
            f,
            "groups of {group:>5}: floor {:>9.0} tasks/s ({:.0} / {:.0} µs), record {:>9.0} tasks/s ({:.0} / {:.0} µs), ratio {ratio:.2}",
            floor.tasks_per_s, floor.p50_us, floor.p99_us, record.tasks_per_s, record.p50_us, record.p99_us
        )
    }
}

const BACKLOG: u64 = 8_192;
const SHUFFLE: u64 = 4_096;

/// Runs the comparison in `dir`, which is empty and on the file system in question.
///
/// # Errors
/// Whatever either side says.
pub fn run(dir: &Path, settings: &Settings) -> Result<Vec<Line>, Error> {
    let floor_path = dir.join("floor");
    let mut floor = Floor::create(&floor_path, 64 << 20).map_err(Error::io("create", &floor_path))?;
    let options = Options { durability: settings.durability, inline: settings.inline, beside: true };
    let (mut record, _) = Record::open(dir, options, |_| ())?;
    let mut bare = |step: Vec<Change>| {
        floor
            .append(|buf| step.iter().for_each(|c| encode(c, buf)))
            .map_err(Error::io("append to", &floor_path))
    };
    let mut kept = |step| commit(&mut record, step);
    let mut work = [Work::default(), Work::default()];
    let mut lines = Vec::new();
    for &group in &settings.groups {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..settings.rounds {
            work[0].turn(group, settings.turn, &mut times[0], &mut bare)?;
            work[1].turn(group, settings.turn, &mut times[1], &mut kept)?;
        }
        let [floor, record] = times.map(|t| side(t, group));
        let ratio = record.tasks_per_s / floor.tasks_per_s;
        lines.push(Line { group, floor, record, ratio });
    }
    record.close()?;
    Ok(lines)
}

/// Submits and waits.
fn commit(record: &mut Record, changes: Vec<Change>) -> Result<(), Error> {
    let (send, recv) = channel();
    record.submit(
        changes,
        Box::new(move |result| {
            // Nobody waits any more only if the run is over.
            let _ = send.send(result);
        }),
    );
    recv.recv().unwrap_or(Err(Error::Closed))
}

fn side(mut commits_us: Vec<f64>, group: usize) -> Side {
    let total_s = commits_us.iter().sum::<f64>() / 1e6;
    let tasks = commits_us.len() as f64 / 3.0 * group as f64;
    commits_us.sort_by(f64::total_cmp);
    let at = |q: f64| commits_us.get((q * commits_us.len() as f64) as usize).copied().unwrap_or(0.0);
    Side { tasks_per_s: tasks / total_s, p50_us: at(0.5), p99_us: at(0.99) }
}

/// How far one side has come.
#[derive(Debug, Default)]
struct Work {
    submitted: u64,
    started: u64,
    finished: u64,
}

impl Work {
    /// One side's turn: cycles of three commits until the time is up.
    fn turn(
        &mut self,
        group: usize,
        turn: Duration,
        commits_us: &mut Vec<f64>,
        commit: &mut dyn FnMut(Vec<Change>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.fill(commit)?;
        let mut spent = Duration::ZERO;
        while spent < turn {
            for step in [self.submit(group), self.start(group), self.finish(group)] {
                let took = timed(|| commit(step))?;
                spent += took;
                commits_us.push(took.as_secs_f64() * 1e6);
            }
        }
        Ok(())
    }

    /// Makes the backlog, untimed.
    fn fill(&mut self, commit: &mut dyn FnMut(Vec<Change>) -> Result<(), Error>) -> Result<(), Error> {
        while self.submitted < 2 * BACKLOG {
            commit(self.submit(1_024))?;
        }
        while self.started < BACKLOG {
            commit(self.start(1_024))?;
        }
        Ok(())
    }

    fn submit(&mut self, n: usize) -> Vec<Change> {
        let from = self.submitted;
        self.submitted += n as u64;
        (from..self.submitted).map(|i| submit(i + 1)).collect()
    }
    fn start(&mut self, n: usize) -> Vec<Change> {
        let from = self.started;
        self.started += n as u64;
        let token = Token { epoch: 1, attempt: 1 };
        let start = |id| Change::Started { id, token, worker: "fast".into(), at: Time::from_us(1 << 50) };
        (from..self.started).map(|i| start(TaskId(shuffled(i) + 1))).collect()
    }
    fn finish(&mut self, n: usize) -> Vec<Change> {
        let from = self.finished;
        self.finished += n as u64;
        (from..self.finished).map(|i| finish(shuffled(i) + 1, i + 1)).collect()
    }
}

#[allow(clippy::disallowed_methods, reason = "a benchmark times the machine")]
fn timed(work: impl FnOnce() -> Result<(), Error>) -> Result<Duration, Error> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

/// A fixed shuffle within blocks of [`SHUFFLE`]; odd multipliers permute a power of two.
fn shuffled(i: u64) -> u64 {
    let (block, at) = (i / SHUFFLE, i % SHUFFLE);
    block * SHUFFLE + ((at.wrapping_mul(2_654_435_761) ^ (block * 7)) & (SHUFFLE - 1))
}

fn noise(n: u64) -> u64 {
    fastrand::Rng::with_seed(n).u64(..)
}

/// Bytes that no file system can shorten.
fn blob(seed: u64, len: usize) -> Bytes {
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

fn submit(id: u64) -> Change {
    let row = TaskRow {
        id: TaskId(id),
        type_name: "snapshot-copy".into(),
        priority: 5,
        key: (noise(id) % 10 < 3).then(|| format!("{:016x}", noise(id)).into()),
        submitted: Time::from_us(1 << 50),
        body: blob(id, 200),
    };
    Change::Submit(row, Live::new(TaskId(id), LiveState::Queued))
}

fn finish(id: u64, seq: u64) -> Change {
    let state = if noise(id) % 10 == 9 { DoneState::Failed } else { DoneState::Done };
    Change::Finished(Done {
        id: TaskId(id),
        seq,
        type_name: "snapshot-copy".into(),
        state,
        ended: Time::from_us(1 << 50),
        attempts: 1,
        outcome: blob(id, 60),
    })
}

/// The same fields for the bare log, as tight as they go without compression.
fn encode(change: &Change, to: &mut Vec<u8>) {
    let mut text = |t: &[u8]| {
        to.extend_from_slice(&(t.len() as u32).to_le_bytes());
        to.extend_from_slice(t);
    };
    let figures = match change {
        Change::Submit(t, l) => {
            text(t.type_name.as_bytes());
            text(t.key.as_deref().unwrap_or("").as_bytes());
            text(&t.body);
            [t.id.0, t.submitted.as_us(), u64::from(t.priority) << 8 | l.state as u64]
        }
        Change::Started { id, token, worker, at } => {
            text(worker.as_bytes());
            [id.0, at.as_us(), u64::from(token.attempt)]
        }
        Change::Finished(d) => {
            text(d.type_name.as_bytes());
            text(&d.outcome);
            [d.id.0, d.ended.as_us(), d.seq << 8 | d.state as u64]
        }
        _ => unreachable!("the work has three steps"),
    };
    figures.iter().for_each(|f| to.extend_from_slice(&f.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shuffle_gives_every_task_once() {
        let mut seen: Vec<_> = (0..3 * SHUFFLE).map(shuffled).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..3 * SHUFFLE));
    }

    #[test]
    fn both_sides_do_the_same_work() {
        let dir = tempfile::tempdir().unwrap();
        let settings =
            Settings { groups: vec![10], rounds: 1, turn: Duration::from_millis(10), ..Settings::default() };
        let lines = run(dir.path(), &settings).unwrap();
        assert!(lines[0].ratio > 0.0 && lines[0].record.p99_us >= lines[0].record.p50_us);
        let counts = crate::store::Reader::open(dir.path()).unwrap().counts().unwrap();
        assert!(counts.done[0] > 0 && counts.done[1] > 0 && counts.live[3] >= BACKLOG - 1_000, "{counts:?}");
    }
}
