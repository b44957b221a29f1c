//! Who commits, and when: group commit on one plain thread.
//!
//! There is no timer and no target size. The writer commits whatever has come; what comes in the meantime waits
//! and is the next group. Alone, a change is committed at once; under load the previous commit is the window in
//! which the next group gathers.

use super::damage::Damage;
use super::reader::Reader;
use super::record::Change;
use super::tasks::{Files, Loaded, Opened, Options, Tasks};
use super::{Error, check};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Told when the batch is on record, or why it is not. Runs on the writer's thread: send a message, no more.
pub type Completion = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// Unwritten changes beyond this are too many: no new work is to be taken until they are written.
pub const HIGH_WATER_BYTES: usize = 8 << 20;
/// With [`super::Durability::Interval`]: how long an acknowledged change may stay unsynced.
pub const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Quiet for so long means idle: time to tidy.
const IDLE: Duration = Duration::from_millis(500);
/// A group is not made larger than this; what is beyond it is the next one.
const GROUP_BYTES: usize = HIGH_WATER_BYTES;

/// How often an idle writer yields and looks again before it sleeps.
const SPIN: u32 = 100;

struct Batch {
    changes: Vec<Change>,
    bytes: usize,
    done: Completion,
}

/// The durable record of tasks: changes go in here.
///
/// Batches are committed in the order in which they are submitted. After [`Error::Fatal`] every further batch
/// gets the same error. Dropping it syncs and closes, as [`Self::close`] does, but cannot tell of errors.
pub struct Record {
    to: To,
    pending_bytes: Arc<AtomicUsize>,
    files: Files,
}

enum To {
    Thread { send: Option<Sender<Batch>>, thread: Option<JoinHandle<Result<(), Error>>> },
    Inline { tasks: Option<Box<Tasks>>, stopped: Option<Error> },
}

impl Record {
    /// Opens the record in `dir`, which exists, and streams what a start needs into `each`: 1,000,000 queued
    /// tasks take about a second. Damage is set aside and told in [`Opened::damage`].
    ///
    /// The caller sees to it that nobody else has the folder open.
    ///
    /// # Errors
    /// [`Error::Unreadable`] and [`Error::Newer`] if the file is none of ours; I/O errors.
    pub fn open(dir: &Path, options: Options, mut each: impl FnMut(Loaded)) -> Result<(Record, Opened), Error> {
        let (mut tasks, opened) = Tasks::open(dir, options.durability, &mut each)?;
        let files = tasks.files.clone();
        let pending_bytes = Arc::new(AtomicUsize::new(0));
        let to = if options.inline {
            To::Inline { tasks: Some(Box::new(tasks)), stopped: None }
        } else {
            tasks.preallocate_log()?;
            let (send, recv) = channel();
            let pending = pending_bytes.clone();
            let thread = std::thread::Builder::new()
                .name("record".into())
                .spawn(move || Writer { tasks, recv, pending, left: None }.run())
                .map_err(Error::io("start writer of", &files.db))?;
            To::Thread { send: Some(send), thread: Some(thread) }
        };
        Ok((Record { to, pending_bytes, files }, opened))
    }

    /// Puts changes on record, all or none; `done` is told when they are. Never blocks on a thread; inline, it
    /// returns after `done` was told.
    pub fn submit(&mut self, changes: Vec<Change>, done: Completion) {
        match &mut self.to {
            To::Thread { send, .. } => {
                let bytes = changes.iter().map(Change::weight_bytes).sum();
                self.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
                let refused = match send {
                    Some(send) => send.send(Batch { changes, bytes, done }).err().map(|e| e.0),
                    None => Some(Batch { changes, bytes, done }),
                };
                if let Some(batch) = refused {
                    self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
                    (batch.done)(Err(Error::Closed));
                }
            }
            To::Inline { tasks, stopped } => {
                let result = match (tasks, &stopped) {
                    (_, Some(error)) => Err(error.clone()),
                    (None, None) => Err(Error::Closed),
                    (Some(tasks), None) => commit_inline(tasks, &changes),
                };
                if let Err(e) = &result
                    && e.is_fatal()
                {
                    *stopped = Some(e.clone());
                }
                done(result);
            }
        }
    }

    /// Bytes of changes that were submitted and are not written yet.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes.load(Ordering::Relaxed)
    }

    /// Whether new work is to be turned away, or its answer held back, until the writer has caught up.
    pub fn is_congested(&self) -> bool {
        self.pending_bytes() > HIGH_WATER_BYTES
    }

    /// A connection of its own for lists; give it to the thread that asks.
    ///
    /// # Errors
    /// SQLite's, from opening the file.
    pub fn reader(&self) -> Result<Reader, Error> {
        Reader::open(&self.files.dir)
    }

    /// A check of the whole file, to be run on another thread while the record is in use.
    pub fn checker(&self) -> impl FnOnce() -> Result<Vec<Damage>, Error> + Send + 'static {
        let dir = self.files.dir.clone();
        move || check::check(&dir)
    }

    /// Writes and syncs what is pending, closes; the log is then empty and gone.
    ///
    /// # Errors
    /// The error that stopped the writer, if one did.
    pub fn close(mut self) -> Result<(), Error> {
        self.stop()
    }

    fn stop(&mut self) -> Result<(), Error> {
        match &mut self.to {
            To::Thread { send, thread } => {
                drop(send.take());
                match thread.take().map(JoinHandle::join) {
                    Some(Ok(result)) => result,
                    Some(Err(_)) => Err(Error::Closed),
                    None => Ok(()),
                }
            }
            To::Inline { tasks, stopped } => match (tasks.take(), stopped.take()) {
                (_, Some(error)) => Err(error),
                (Some(tasks), None) => tasks.close(),
                (None, None) => Ok(()),
            },
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "task record closed");
        }
    }
}

/// Inline, the tidying of the idle thread has no time of its own: a full log is emptied on the way.
fn commit_inline(tasks: &mut Tasks, changes: &[Change]) -> Result<(), Error> {
    tasks.commit(std::iter::once(changes))?;
    if tasks.is_checkpoint_due() { tasks.checkpoint() } else { Ok(()) }
}

struct Writer {
    tasks: Tasks,
    recv: Receiver<Batch>,
    pending: Arc<AtomicUsize>,
    /// A batch that did not fit the last group.
    left: Option<Batch>,
}

impl Writer {
    fn run(mut self) -> Result<(), Error> {
        match self.work() {
            Ok(()) => self.tasks.close(),
            Err(error) => {
                self.turn_away(&error);
                Err(error)
            }
        }
    }

    /// Until the last sender is gone, or something fatal happens.
    fn work(&mut self) -> Result<(), Error> {
        while let Some(first) = self.next()? {
            let (group, hung_up) = self.gather(first);
            self.commit(group)?;
            if self.tasks.is_checkpoint_due() {
                self.tasks.checkpoint()?;
            }
            if hung_up {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next batch; tidies and syncs while there is none. `None` when there will be none.
    fn next(&mut self) -> Result<Option<Batch>, Error> {
        if let Some(batch) = self.left.take() {
            return Ok(Some(batch));
        }
        loop {
            let wait = match (self.tasks.is_unsynced(), self.tasks.is_untidy()) {
                (true, _) => Some(SYNC_EVERY),
                (false, true) => Some(IDLE),
                (false, false) => None,
            };
            let got = match (self.spin(), wait) {
                (Some(got), _) => got,
                (None, None) => self.recv.recv().map_err(|_| RecvTimeoutError::Disconnected),
                (None, Some(wait)) => self.recv.recv_timeout(wait),
            };
            match got {
                Ok(batch) => return Ok(Some(batch)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) if self.tasks.is_unsynced() => self.tasks.sync()?,
                Err(RecvTimeoutError::Timeout) => self.tasks.tidy()?,
            }
        }
    }

    /// Looks out for the next batch a little longer than it takes to wake a sleeping thread.
    fn spin(&mut self) -> Option<Result<Batch, RecvTimeoutError>> {
        for _ in 0..SPIN {
            match self.recv.try_recv() {
                Ok(batch) => return Some(Ok(batch)),
                Err(TryRecvError::Disconnected) => return Some(Err(RecvTimeoutError::Disconnected)),
                Err(TryRecvError::Empty) => std::thread::yield_now(),
            }
        }
        None
    }

    /// `first` and everything that came while the last group was committed.
    fn gather(&mut self, first: Batch) -> (Vec<Batch>, bool) {
        let mut bytes = first.bytes;
        let mut group = vec![first];
        loop {
            match self.recv.try_recv() {
                Ok(batch) if bytes + batch.bytes > GROUP_BYTES => {
                    self.left = Some(batch);
                    return (group, false);
                }
                Ok(batch) => {
                    bytes += batch.bytes;
                    group.push(batch);
                }
                Err(TryRecvError::Empty) => return (group, false),
                Err(TryRecvError::Disconnected) => return (group, true),
            }
        }
    }

    fn commit(&mut self, group: Vec<Batch>) -> Result<(), Error> {
        let result = self.tasks.commit(group.iter().map(|b| &*b.changes));
        let results = match result {
            Err(Error::Refused { .. }) if group.len() > 1 => {
                let each: Vec<_> = group.iter().map(|b| &*b.changes).collect();
                self.tasks.commit_each(&each)
            }
            other => Ok(vec![other; group.len()]),
        };
        let fatal = match &results {
            Ok(results) => results.iter().filter_map(|r| r.clone().err()).find(Error::is_fatal),
            Err(e) => Some(e.clone()).filter(Error::is_fatal),
        };
        for (i, batch) in group.into_iter().enumerate() {
            self.pending.fetch_sub(batch.bytes, Ordering::Relaxed);
            (batch.done)(match &results {
                Ok(results) => results[i].clone(),
                Err(e) => Err(e.clone()),
            });
        }
        fatal.map_or(Ok(()), Err)
    }

    /// After a fatal error: everybody is told the same, until the record is dropped.
    fn turn_away(&mut self, error: &Error) {
        let left = self.left.take();
        for batch in left.into_iter().chain(self.recv.iter()) {
            self.pending.fetch_sub(batch.bytes, Ordering::Relaxed);
            (batch.done)(Err(error.clone()));
        }
    }
}
