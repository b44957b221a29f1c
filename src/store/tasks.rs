//! The durable record of tasks: the one SQLite connection that writes.
//!
//! `tasks.db` with its `-wal` and `-shm`, and `tasks.mark` (see [`super::wal`]) lie in the state folder.
//! `Tasks` is single-threaded and synchronous; [`super::Record`] puts it on a thread of its own, or calls it
//! in place where a test or a simulation needs every step in its hand.

use super::Error;
use super::apply::Applier;
use super::open::{BUSY_WAIT, Durability, Files, PAGE_BYTES, pragma};
use super::record::{Change, Sealer};
use super::statements::{Meta, failed, fatal};
use super::wal::{Mark, Synced};
use rusqlite::Connection;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A checkpoint is due when the log holds this many frames: 8 MiB.
pub(super) const CHECKPOINT_FRAMES: u32 = 4_000;
/// When idle, a free list longer than this is given back to the file system, some pages at a time.
const FREE_PAGES: i64 = 512;
/// Pages given back in one step: a few milliseconds.
const VACUUM_PAGES: u32 = 200;
/// The writing end of the record.
pub(super) struct Tasks {
    conn: Connection,
    pub files: Files,
    wal: File,
    mark: Mark,
    /// What the mark says, or will say after the next sync.
    synced: Synced,
    /// Frames in the log, told by SQLite at each commit.
    frames: Arc<AtomicU32>,
    /// Frames in the log at the last checkpoint.
    checkpointed: u32,
    durability: Durability,
    /// Whether the log holds commits that were not synced yet.
    unsynced: bool,
    /// Whether idle work is left: checkpoint or vacuum.
    untidy: bool,
    sealer: Sealer,
}

impl Tasks {
    /// Around a connection to a record that was found sound; `synced` is what the mark says.
    pub fn new(
        mut conn: Connection,
        files: Files,
        mark: Mark,
        synced: Synced,
        durability: Durability,
    ) -> Result<Tasks, Error> {
        let frames = Arc::new(AtomicU32::new(0));
        let told = frames.clone();
        // Replaces SQLite's own checkpoints inside a commit: ours come when the waiters have their answers.
        conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            told.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))
        .map_err(Error::sql("open", &files.db))?;
        let wal =
            File::options().read(true).write(true).open(&files.wal).map_err(Error::io("open", &files.wal))?;
        Ok(Tasks {
            conn,
            wal,
            mark,
            // The frames there are were written by an earlier run.
            synced: Synced { frames: 0, ..synced },
            frames,
            checkpointed: 0,
            durability,
            unsynced: false,
            untidy: true,
            sealer: Sealer::default(),
            files,
        })
    }

    /// Counts the start, on disk.
    pub fn begin_epoch(&mut self, epoch: u32) -> Result<(), Error> {
        let epoch = i64::from(epoch);
        self.transaction(&mut |a| {
            a.meta(Meta::Epoch, epoch)?;
            a.meta(Meta::EpochAgain, epoch)
        })?;
        self.sync()
    }

    /// Commits batches as one transaction: all or none. In `Sync`, what returned `Ok` is on disk.
    ///
    /// # Errors
    /// [`Error::Refused`] or [`Error::Full`]: the record is as before. [`Error::Fatal`]: do not go on.
    pub fn commit<'a>(&mut self, batches: impl Iterator<Item = &'a [Change]>) -> Result<(), Error> {
        let mut changes = batches.flatten();
        self.transaction(&mut |a| changes.try_for_each(|c| a.apply(c)))
    }

    /// As [`Self::commit`], but a batch that is refused does not take the others with it.
    pub fn commit_each(&mut self, batches: &[&[Change]]) -> Result<Vec<Result<(), Error>>, Error> {
        let mut results = Vec::with_capacity(batches.len());
        self.transaction(&mut |a| {
            for batch in batches {
                results.push(match a.apply_or_undo(batch) {
                    Err(e) if !matches!(e, Error::Refused { .. }) => return Err(e),
                    result => result,
                });
            }
            Ok(())
        })?;
        Ok(results)
    }

    fn transaction(
        &mut self,
        work: &mut dyn FnMut(&mut Applier<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let run = |c: &Connection, sql: &str| c.prepare_cached(sql).and_then(|mut s| s.execute([])).map(drop);
        let path = &self.files.db;
        run(&self.conn, "BEGIN IMMEDIATE").map_err(|e| failed(path, e))?;
        let worked = work(&mut Applier::new(&self.conn, path, &mut self.sealer));
        let done = match worked {
            // Beyond this point only a full disk leaves no doubt about what is on it.
            Ok(()) => run(&self.conn, "COMMIT").map_err(|e| match failed(path, e) {
                full @ Error::Full { .. } => full,
                other => fatal(path, &other),
            }),
            Err(e) => Err(e),
        };
        if let Err(e) = done {
            if !self.conn.is_autocommit() {
                run(&self.conn, "ROLLBACK").map_err(|e| fatal(path, &e))?;
            }
            if e.is_fatal() {
                // If this fails too, the next start runs into the same error, loudly.
                let _ = File::create(&self.files.suspect);
            }
            return Err(e);
        }
        self.committed()
    }

    /// A commit returned.
    fn committed(&mut self) -> Result<(), Error> {
        self.untidy = true;
        match self.durability {
            Durability::Sync => self.note_synced(),
            Durability::Interval => {
                self.unsynced = true;
                Ok(())
            }
        }
    }

    /// Whether commits wait for [`Self::sync`].
    pub fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// Makes what was committed durable, with [`Durability::Interval`]; otherwise it is.
    pub fn sync(&mut self) -> Result<(), Error> {
        if self.unsynced {
            self.wal.sync_data().map_err(|e| fatal(&self.files.wal, &e))?;
            self.note_synced()?;
        }
        Ok(())
    }

    /// The log is synced up to its last frame: says so in the mark.
    fn note_synced(&mut self) -> Result<(), Error> {
        self.unsynced = false;
        let frames = self.frames.load(Ordering::Relaxed);
        // The log began anew, with new salts, if it did not grow.
        if frames <= self.synced.frames || self.synced.frames == 0 {
            let mut salt = [0; 8];
            self.wal.read_exact_at(&mut salt, 16).map_err(|e| fatal(&self.files.wal, &e))?;
            if salt != self.synced.salt {
                self.synced = Synced { salt, ..self.void() };
            }
        }
        self.synced.frames = frames;
        self.mark.write(self.synced).map_err(|e| fatal(&self.files.mark, &e))
    }

    /// What the mark says of a log that begins anew.
    fn void(&self) -> Synced {
        Synced { each_synced: self.durability == Durability::Sync, ..Synced::default() }
    }

    /// Whether a checkpoint is due, busy or not.
    pub fn is_checkpoint_due(&self) -> bool {
        let frames = self.frames.load(Ordering::Relaxed);
        // While a reader keeps the log from beginning anew, each further attempt waits for some more frames.
        let more = frames.checked_sub(self.checkpointed).unwrap_or(frames);
        frames >= CHECKPOINT_FRAMES && more >= CHECKPOINT_FRAMES / 10
    }

    /// Whether the log is so long that the writer had better wait.
    pub fn is_log_too_long(&self) -> bool {
        self.frames.load(Ordering::Relaxed) >= 3 * CHECKPOINT_FRAMES
    }

    /// Copies the log into the database, so that the next commit begins it anew. A reader in the middle of a
    /// long query can keep it from beginning anew; it then grows until the reader is done.
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        self.checkpointed = self.frames.load(Ordering::Relaxed);
        self.pragma("PRAGMA wal_checkpoint(PASSIVE)").map(drop)
    }

    /// Whether [`Self::tidy`] has something to do.
    pub fn is_untidy(&self) -> bool {
        self.untidy
    }

    /// One step of what is done while nobody waits: gives free pages back, then empties the log.
    pub fn tidy(&mut self) -> Result<(), Error> {
        if self.pragma("PRAGMA freelist_count")? > FREE_PAGES {
            self.pragma(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
            self.committed()?;
            self.sync()?;
            return if self.is_checkpoint_due() { self.checkpoint() } else { Ok(()) };
        }
        self.sync()?;
        self.untidy = !self.empty_log()?;
        self.preallocate_log()
    }

    /// Moves everything into the database and makes the log void, but keeps the file: its blocks are there,
    /// so the next commits change no file size, which would cost each of them a second journal write.
    ///
    /// A void header is written over the log's own. SQLite reads that header only at recovery, and writes it
    /// anew with the first frame after a completed `RESTART` checkpoint, which is what came before.
    fn empty_log(&mut self) -> Result<bool, Error> {
        // Whoever reads is not waited for: a change could come meanwhile.
        self.wait_at_most(Duration::ZERO)?;
        let busy = self.pragma("PRAGMA wal_checkpoint(RESTART)");
        self.wait_at_most(BUSY_WAIT)?;
        if busy? != 0 {
            return Ok(false);
        }
        // In this order: a mark that speaks of frames beside a void log would be taken for a lost log.
        self.synced = self.void();
        self.mark.write_synced(self.synced).map_err(|e| fatal(&self.files.mark, &e))?;
        self.wal.write_all_at(&[0; 32], 0).map_err(|e| fatal(&self.files.wal, &e))?;
        self.wal.sync_data().map_err(|e| fatal(&self.files.wal, &e))?;
        self.frames.store(0, Ordering::Relaxed);
        self.checkpointed = 0;
        Ok(true)
    }

    fn wait_at_most(&self, time: Duration) -> Result<(), Error> {
        self.conn.busy_timeout(time).map_err(|e| failed(&self.files.db, e))
    }

    /// Writes the log's blocks ahead, once for its life: a commit that makes the file longer costs more.
    fn preallocate_log(&mut self) -> Result<(), Error> {
        let want = 32 + u64::from(CHECKPOINT_FRAMES + CHECKPOINT_FRAMES / 4) * u64::from(PAGE_BYTES + 24);
        let have = self.wal.metadata().map_err(Error::io("stat", &self.files.wal))?.len();
        let zeros = vec![0; 1 << 20];
        let mut at = have;
        // Zeros are written, not reserved: a reserved block still costs a journal write when it is first used.
        while at < want {
            let n = (want - at).min(zeros.len() as u64) as usize;
            match self.wal.write_all_at(&zeros[..n], at) {
                Ok(()) => at += n as u64,
                // A full disk is for the commits to report.
                Err(e) if e.kind() == std::io::ErrorKind::StorageFull => break,
                Err(e) => return Err(fatal(&self.files.wal, &e)),
            }
        }
        if at > have {
            self.wal.sync_all().map_err(|e| fatal(&self.files.wal, &e))?;
        }
        Ok(())
    }

    /// Runs a pragma to its end; the first figure it gives.
    fn pragma(&self, sql: &str) -> Result<i64, Error> {
        pragma(&self.conn, sql).map_err(|e| failed(&self.files.db, e))
    }

    /// Syncs, checkpoints, closes; SQLite then removes its log.
    pub fn close(mut self) -> Result<(), Error> {
        self.sync()?;
        self.empty_log()?;
        let path = self.files.db;
        self.conn.close().map_err(|(_, e)| Error::sql("close", &path)(e))
    }
}
