//! Who commits, and when: group commit on one plain thread.
//!
//! There is no timer and no target size. The writer commits whatever has come; what comes in the meantime waits
//! and is the next group. Alone, a change is committed at once; under load the previous commit is the window in
//! which the next group gathers.

use super::checkpoint::Helper;
use super::damage::Damage;
use super::group::Committer;
use super::open::{self, Files, Loaded, Opened, Options};
use super::reader::Reader;
use super::record::Change;
use super::{Error, check};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Told when the batch is on record, or why it is not. Runs on the writer's thread: send a message, no more.
pub type Completion = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// Unwritten changes beyond this are too many: no new work is to be taken until they are written.
pub const HIGH_WATER_BYTES: usize = 8 << 20;
/// With [`super::Durability::Interval`]: how long an acknowledged change may stay unsynced.
pub const SYNC_EVERY: Duration = Duration::from_secs(1);
/// A group is not made larger than this; what is beyond it is the next one.
const GROUP_BYTES: usize = HIGH_WATER_BYTES;

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

/// Tells, from any thread, how much is unwritten.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    /// Bytes of changes that were submitted and are not written yet.
    pub fn pending_bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether new work is to be turned away until the writer has caught up.
    pub fn is_congested(&self) -> bool {
        self.pending_bytes() > HIGH_WATER_BYTES
    }
}

enum To {
    Thread { send: Option<Sender<Batch>>, thread: Option<JoinHandle<Result<(), Error>>> },
    Inline(Option<Box<InPlace>>),
}

impl Record {
    /// Opens the record in `dir`, which exists, and streams what a start needs into `each`: 1,000,000 queued
    /// tasks take about a second. Damage is set aside and told in [`Opened::damage`].
    ///
    /// The caller sees to it that nobody else has the folder open.
    ///
    /// # Errors
    /// [`Error::Unreadable`] and [`Error::Newer`] if the file is none of ours; I/O errors.
    pub fn open(
        dir: &Path,
        options: Options,
        mut each: impl FnMut(Loaded),
    ) -> Result<(Record, Opened), Error> {
        let (tasks, opened) = open::open(dir, options.durability, &mut each)?;
        let files = tasks.files.clone();
        let pending_bytes = Arc::new(AtomicUsize::new(0));
        let helper = options.beside.then(|| Helper::start(&files.db)).transpose()?;
        let committer = Committer::new(tasks, helper);
        let to = if options.inline {
            To::Inline(Some(Box::new(InPlace { committer, stopped: None })))
        } else {
            let (send, recv) = channel();
            let pending = pending_bytes.clone();
            let thread = std::thread::Builder::new()
                .name("record".into())
                .spawn(move || Writer { committer, recv, pending, left: None }.run())
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
            To::Inline(Some(here)) => done(here.commit(&changes)),
            To::Inline(None) => done(Err(Error::Closed)),
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

    /// How much is unwritten, for those who take new work.
    pub fn gauge(&self) -> Gauge {
        Gauge(self.pending_bytes.clone())
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
            To::Inline(here) => match here.take() {
                Some(here) => {
                    let InPlace { committer, stopped } = *here;
                    match stopped {
                        Some(error) => Err(error),
                        None => committer.close(),
                    }
                }
                None => Ok(()),
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

/// The writer without a thread.
struct InPlace {
    committer: Committer,
    /// The fatal error after which nothing goes on.
    stopped: Option<Error>,
}

impl InPlace {
    fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        if let Some(error) = &self.stopped {
            return Err(error.clone());
        }
        let result = self.committer.commit(&[changes]).remove(0);
        self.stopped = match &result {
            Err(e) => Some(e.clone()).filter(Error::is_fatal),
            // What it says concerns the next: this one is on record.
            Ok(()) => self.committer.after().err(),
        };
        result
    }
}

struct Writer {
    committer: Committer,
    recv: Receiver<Batch>,
    pending: Arc<AtomicUsize>,
    /// A batch that did not fit the last group.
    left: Option<Batch>,
}

impl Writer {
    fn run(mut self) -> Result<(), Error> {
        match self.work() {
            Ok(()) => self.committer.close(),
            Err(error) => {
                self.turn_away(&error);
                Err(error)
            }
        }
    }

    /// Until the last sender is gone, or something fatal happens.
    fn work(&mut self) -> Result<(), Error> {
        while let Some(first) = self.next()? {
            let group = self.gather(first);
            self.commit(group)?;
            self.committer.after()?;
        }
        Ok(())
    }

    /// The next batch; tidies and syncs while there is none. `None` when there will be none.
    fn next(&mut self) -> Result<Option<Batch>, Error> {
        if let Some(batch) = self.left.take() {
            return Ok(Some(batch));
        }
        loop {
            let got = match self.committer.patience() {
                None => self.recv.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => self.recv.recv_timeout(wait),
            };
            match got {
                Ok(batch) => return Ok(Some(batch)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => self.committer.idle()?,
            }
        }
    }

    /// `first` and everything that came while the last group was committed.
    fn gather(&mut self, first: Batch) -> Vec<Batch> {
        let mut bytes = first.bytes;
        let mut group = vec![first];
        while let Ok(batch) = self.recv.try_recv() {
            bytes += batch.bytes;
            if bytes > GROUP_BYTES {
                self.left = Some(batch);
                break;
            }
            group.push(batch);
        }
        group
    }

    fn commit(&mut self, group: Vec<Batch>) -> Result<(), Error> {
        let changes: Vec<_> = group.iter().map(|b| &*b.changes).collect();
        let results = self.committer.commit(&changes);
        let mut fatal = Ok(());
        for (batch, result) in group.into_iter().zip(results) {
            if let Err(e) = &result
                && e.is_fatal()
            {
                fatal = Err(e.clone());
            }
            self.pending.fetch_sub(batch.bytes, Ordering::Relaxed);
            (batch.done)(result);
        }
        fatal
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
