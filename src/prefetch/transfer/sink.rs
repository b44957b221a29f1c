//! The disk end of a transfer: bytes are written and summed up on the blocking pool while the next ones arrive.

use crate::flow::ObjectName;
use crate::prefetch::source::{Error, Meta, blocking};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tokio::task::JoinHandle;
use xxhash_rust::xxh3::Xxh3;

/// Written in one go. Objects up to this size cost one hop to the blocking pool; a transfer holds at most twice
/// as much in memory.
const WRITE_BYTES: u64 = 1 << 20;
/// Objects from this size on leave a note of what they are beside the unfinished file, so that a restarted daemon
/// can go on. Below, fetching anew is as quick as finding out.
pub const NOTED_BYTES: u64 = 16 << 20;

/// An unfinished file.
pub(super) struct Sink {
    object: ObjectName,
    path: PathBuf,
    /// Taken in, written or not.
    taken: u64,
    pending: Vec<Bytes>,
    pending_bytes: u64,
    at: At,
}

/// Where the file is: at hand, or with a thread that writes.
enum At {
    Here(Box<Writer>),
    Writing(JoinHandle<Result<Box<Writer>, Error>>),
    /// A write failed; the error was returned.
    Lost,
}

/// The sums of a finished file.
pub(super) struct Sums {
    pub xxh3: u128,
    pub sha256: Option<[u8; 32]>,
}

/// Touches the disk; lives on the blocking pool while it does.
struct Writer {
    object: ObjectName,
    path: PathBuf,
    file: Option<File>,
    xxh3: Xxh3,
    sha256: Option<Sha256>,
}

impl Sink {
    /// A new, empty file; made with the first bytes. What stands there is overwritten.
    pub(super) fn new(object: &ObjectName, path: &Path, wants_sha256: bool) -> Sink {
        let writer = Writer {
            object: object.clone(),
            path: path.to_owned(),
            file: None,
            xxh3: Xxh3::new(),
            sha256: wants_sha256.then(Sha256::new),
        };
        Sink {
            object: object.clone(),
            path: path.to_owned(),
            taken: 0,
            pending: Vec::new(),
            pending_bytes: 0,
            at: At::Here(Box::new(writer)),
        }
    }

    /// Goes on with what stands there, if it is not longer than `limit_bytes`: reads it for the sums. Else as new.
    pub(super) async fn resume(
        object: &ObjectName,
        path: &Path,
        wants_sha256: bool,
        limit_bytes: u64,
    ) -> Result<Sink, Error> {
        let mut sink = Sink::new(object, path, wants_sha256);
        let At::Here(mut writer) = std::mem::replace(&mut sink.at, At::Lost) else {
            unreachable!("a new sink is here");
        };
        let (writer, bytes) = blocking(move || {
            let bytes = writer.reread(limit_bytes)?;
            Ok::<_, Error>((writer, bytes))
        })
        .await?;
        sink.taken = bytes;
        sink.at = At::Here(writer);
        Ok(sink)
    }

    /// Bytes taken in so far, from the object's start.
    pub(super) fn bytes(&self) -> u64 {
        self.taken
    }

    /// Sets the room for `total` bytes aside and, for a large object, notes what it is: so a full disk is found
    /// before anything is moved.
    pub(super) async fn announce(&mut self, meta: &Meta) -> Result<(), Error> {
        if meta.bytes <= WRITE_BYTES || self.taken > 0 {
            return Ok(());
        }
        let meta = meta.clone();
        self.write(move |w| {
            w.allocate(meta.bytes)?;
            if meta.bytes >= NOTED_BYTES && meta.is_resumable() { w.note(&meta) } else { Ok(()) }
        })
        .await
    }

    /// Takes in bytes. They are written when enough have come together.
    pub(super) async fn push(&mut self, piece: Bytes) -> Result<(), Error> {
        self.taken += piece.len() as u64;
        self.pending_bytes += piece.len() as u64;
        self.pending.push(piece);
        if self.pending_bytes >= WRITE_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Ends the file: everything is written (not synced) when this returns.
    pub(super) async fn finish(mut self) -> Result<Sums, Error> {
        self.settle().await?;
        match self.at {
            At::Here(writer) => {
                Ok(Sums { xxh3: writer.xxh3.digest128(), sha256: writer.sha256.map(|s| s.finalize().into()) })
            }
            At::Writing(_) | At::Lost => unreachable!("settled just now"),
        }
    }

    /// Writes what is pending, also for a transfer that broke off.
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        let pieces = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        self.write(move |w| w.append(&pieces)).await
    }

    /// Removes the file and its note.
    pub(super) async fn discard(mut self) {
        // The thread that still writes must be done first; whether it succeeded does not matter any more.
        if let At::Writing(thread) = std::mem::replace(&mut self.at, At::Lost) {
            let _ = thread.await;
        }
        let path = self.path;
        blocking(move || discard(&path)).await;
    }

    /// Hands the pending bytes to a thread, after the last ones are written.
    async fn flush(&mut self) -> Result<(), Error> {
        let mut writer = self.here().await?;
        let pieces = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        self.at = At::Writing(tokio::task::spawn_blocking(move || {
            writer.append(&pieces)?;
            Ok(writer)
        }));
        Ok(())
    }

    /// Does something with the writer on the blocking pool, now.
    async fn write(
        &mut self,
        f: impl FnOnce(&mut Writer) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let mut writer = self.here().await?;
        let writer = blocking(move || f(&mut writer).map(|()| writer)).await?;
        self.at = At::Here(writer);
        Ok(())
    }

    async fn here(&mut self) -> Result<Box<Writer>, Error> {
        match std::mem::replace(&mut self.at, At::Lost) {
            At::Here(writer) => Ok(writer),
            At::Writing(thread) => match thread.await {
                Ok(written) => written,
                Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
                Err(_) => Err(Error::Stopped { object: self.object.clone() }),
            },
            At::Lost => Err(Error::Stopped { object: self.object.clone() }),
        }
    }
}

impl Writer {
    fn failed(&self, e: &std::io::Error) -> Error {
        Error::from_disk(&self.object, &self.path, e)
    }

    fn make(&mut self) -> Result<(), Error> {
        if self.file.is_none() {
            let opened = File::options().write(true).create(true).truncate(true).open(&self.path);
            self.file = Some(opened.map_err(|e| self.failed(&e))?);
        }
        Ok(())
    }

    fn append(&mut self, pieces: &[Bytes]) -> Result<(), Error> {
        self.make()?;
        for piece in pieces {
            let mut file = self.file.as_ref().expect("made just now");
            file.write_all(piece).map_err(|e| self.failed(&e))?;
            self.xxh3.update(piece);
            if let Some(sha256) = &mut self.sha256 {
                sha256.update(piece);
            }
        }
        Ok(())
    }

    fn allocate(&mut self, bytes: u64) -> Result<(), Error> {
        self.make()?;
        let file = self.file.as_ref().expect("made just now");
        match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, bytes) {
            Err(e @ (rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT)) => Err(self.failed(&e.into())),
            // A file system that cannot set room aside finds out while writing.
            _ => Ok(()),
        }
    }

    fn reread(&mut self, limit_bytes: u64) -> Result<u64, Error> {
        let opened = File::options().read(true).write(true).open(&self.path);
        let mut file = match opened {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(e) => return Err(self.failed(&e)),
        };
        let mut buffer = vec![0; WRITE_BYTES as usize];
        let mut bytes = 0;
        loop {
            let n = file.read(&mut buffer).map_err(|e| self.failed(&e))?;
            self.xxh3.update(&buffer[..n]);
            if let Some(sha256) = &mut self.sha256 {
                sha256.update(&buffer[..n]);
            }
            bytes += n as u64;
            if n == 0 || bytes > limit_bytes {
                break;
            }
        }
        if bytes > limit_bytes {
            // It is something else.
            self.xxh3 = Xxh3::new();
            self.sha256 = self.sha256.as_ref().map(|_| Sha256::new());
            return Ok(0);
        }
        file.seek(SeekFrom::Start(bytes)).map_err(|e| self.failed(&e))?;
        self.file = Some(file);
        Ok(bytes)
    }

    fn note(&mut self, meta: &Meta) -> Result<(), Error> {
        let note = Note { boot: boot_id(), object: self.object.clone(), meta: meta.clone() };
        let text = serde_json::to_vec(&note).expect("names and numbers always serialise");
        std::fs::write(note_of(&self.path), text).map_err(|e| self.failed(&e))
    }
}

/// What an unfinished file is going to be.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// A file that was not synced is whole as long as the machine has not gone down.
    boot: String,
    object: ObjectName,
    meta: Meta,
}

fn note_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push(".note");
    path.with_file_name(name)
}

/// Removes the note of a file that is finished or of no use.
pub(super) fn forget_note(path: &Path) {
    // Most have none.
    let _ = std::fs::remove_file(note_of(path));
}

/// Removes an unfinished file and its note: what [`super::Failed::partial`] named and nobody goes on with. Blocks.
pub fn discard(temp: &Path) {
    // Neither need be there.
    let _ = std::fs::remove_file(note_of(temp));
    let _ = std::fs::remove_file(temp);
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// A transfer that an earlier run of the daemon did not finish, and that can be gone on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The unfinished file.
    pub temp: PathBuf,
    /// What it is a part of.
    pub object: ObjectName,
    /// Which version.
    pub meta: Meta,
    /// How much of it is there.
    pub bytes: u64,
}

impl Leftover {
    /// The names in `tmp/` that must stay for it.
    pub fn names(&self) -> [OsString; 2] {
        let name = |p: &Path| p.file_name().map(OsString::from).unwrap_or_default();
        [name(&self.temp), name(&note_of(&self.temp))]
    }
}

/// What can be gone on with in a pool's `tmp/`, by name: unfinished files with a readable note of this boot of
/// the machine (after a power cut a file may have holes, and those are fetched anew). Blocks.
pub fn leftovers(tmp: &Path) -> Vec<Leftover> {
    let boot = boot_id();
    let Ok(entries) = std::fs::read_dir(tmp) else { return Vec::new() };
    let mut found: Vec<Leftover> = entries
        .filter_map(Result::ok)
        .filter_map(|e| {
            let temp = e.path();
            let note: Note = serde_json::from_slice(&std::fs::read(note_of(&temp)).ok()?).ok()?;
            let bytes = e.metadata().ok().filter(|m| m.is_file())?.len();
            let good = !boot.is_empty() && note.boot == boot && bytes > 0 && bytes <= note.meta.bytes;
            good.then_some(Leftover { temp, object: note.object, meta: note.meta, bytes })
        })
        .collect();
    found.sort_by(|a, b| a.temp.cmp(&b.temp));
    found
}
