//! The files of one pool: names, checks, durability, removal. The index (`core.rs`) decides, this carries out.
//!
//! ```text
//! <dir>/forestage-pool   marks the folder as ours; locked while a daemon uses it
//! <dir>/tmp/             unfinished files
//! <dir>/00 … <dir>/ff/   finished files, mode 0444, named by the id that the index gave them
//! ```
//!
//! An id is never used twice, and a new version of an object gets a new id: so no name is ever written over,
//! and a task that holds a link keeps the bytes it started with.
//!
//! **What a crash leaves.** A file is written under a temporary name, then `fdatasync`, then renamed, so whatever
//! carries an id is whole. The folder is not synced: after a power cut a rename may be undone, and then the file
//! is missing or still in `tmp/`. Both cost one more transfer, nothing else, because a pool holds copies. A folder
//! sync would nearly double the price of a small file: no sync 0.12 ms, file 0.35 ms, folder too 0.65 ms; on a
//! disk that others kept busy 0.4, 6.5 and 13 ms (`cargo test measures_the_price -- --ignored --nocapture`: 1,000
//! files of 4 KiB, ext4 on a virtual disk). At start [`Files::open`] empties `tmp/` but for what is to be resumed,
//! and [`Files::recheck`] compares names and sizes with the index. Contents are compared by [`Files::verify`].
//!
//! All calls block: they belong on the blocking pool.

use super::FileId;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// The mark's name, and what is written into it. The number counts changes of the lay-out.
const MARK: (&str, &str) = ("forestage-pool", "forestage pool 1\n");
/// Folders that files are spread over: a folder of some ten thousand entries is still quick to list.
const FOLDERS: u64 = 256;
/// Bytes per read of a checksum.
const READ_BYTES: usize = 1 << 20;

/// Why a pool's files could not be handled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file system is full, or a quota is used up.
    #[error("no space left for {path}")]
    NoSpace {
        /// Which file.
        path: PathBuf,
    },
    /// Permissions, or a read-only file system.
    #[error("{action} {path}: access denied: {reason}")]
    Denied {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The folder holds other things and is not marked as a pool: nothing in it is touched.
    #[error("{dir} is neither empty nor a pool of forestage (it has no file `forestage-pool`)")]
    NotAPool {
        /// Which folder.
        dir: PathBuf,
    },
    /// Another daemon uses the pool.
    #[error("{dir} is in use by another forestage")]
    InUse {
        /// Which folder.
        dir: PathBuf,
    },
    /// The pool was laid out by another version of the program: nothing in it is touched.
    #[error("{dir} was laid out by another version of forestage; empty it, or name another folder")]
    OtherVersion {
        /// Which folder.
        dir: PathBuf,
    },
    /// The file has another length than it must have.
    #[error("{path} has {found_bytes} bytes, {expected_bytes} were expected")]
    WrongSize {
        /// Which file.
        path: PathBuf,
        /// What was expected.
        expected_bytes: u64,
        /// What it has.
        found_bytes: u64,
    },
    /// It is a folder, a link, a pipe or a device, or it was swapped while it was taken over.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// Which file.
        path: PathBuf,
    },
    /// Anything else.
    #[error("{action} {path}: {reason}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

impl Error {
    /// Whether making room may help.
    pub fn is_no_space(&self) -> bool {
        matches!(self, Error::NoSpace { .. })
    }

    fn new(action: &'static str, path: &Path, e: &io::Error) -> Error {
        let path = path.to_owned();
        match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Error::Denied { action, path, reason: e.to_string() }
            }
            _ => Error::Io { action, path, reason: e.to_string() },
        }
    }
}

/// The files of one pool. Cheap to share: it holds names and the lock.
#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
    /// Held open: the lock ends with it, also when the process dies.
    _lock: File,
}

/// What [`Files::open`] removed from `tmp/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What [`Files::recheck`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recheck {
    /// What the index claims and is not there, or has another size (it is removed): in order of id.
    pub lost: Vec<FileId>,
    /// Files that the index does not know: removed.
    pub strays: Swept,
}

/// What [`Files::verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Length and checksum are as the index says.
    Good,
    /// There is no such file.
    Missing,
    /// Its length is another one.
    WrongSize {
        /// What it is.
        found_bytes: u64,
    },
    /// Its content is not what was stored.
    WrongChecksum {
        /// The checksum of what is there.
        found: u128,
    },
    /// It cannot be read.
    Unreadable(Error),
}

/// A file that was taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// Its length.
    pub bytes: u64,
    /// Its XXH3-128.
    pub checksum: u128,
    /// Whether it was moved; else it was copied, and the original is where it was.
    pub moved: bool,
}

/// A file that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlinked {
    /// Its length.
    pub bytes: u64,
    /// Whether a task still holds it through a link: its bytes are not free yet.
    pub still_linked: bool,
}

impl Files {
    /// Takes a folder as pool: makes what is missing of the lay-out, locks it, and removes from `tmp/` whatever
    /// is not named in `keep`.
    ///
    /// # Errors
    /// [`Error::NotAPool`], [`Error::InUse`], [`Error::OtherVersion`], [`Error::Denied`], [`Error::NoSpace`], [`Error::Io`].
    pub fn open(dir: &Path, keep: &BTreeSet<OsString>) -> Result<(Files, Swept), Error> {
        std::fs::create_dir_all(dir).map_err(|e| Error::new("make folder", dir, &e))?;
        let mark = dir.join(MARK.0);
        if !mark.exists() && list(dir)?.next().is_some() {
            return Err(Error::NotAPool { dir: dir.to_owned() });
        }
        let open = File::options().create(true).truncate(false).read(true).write(true).open(&mark);
        let lock = open.map_err(|e| Error::new("open", &mark, &e))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::InUse { dir: dir.to_owned() }),
            Err(e) => return Err(Error::new("lock", &mark, &e.into())),
        }
        let mut found = String::new();
        (&lock).read_to_string(&mut found).map_err(|e| Error::new("read", &mark, &e))?;
        match found.as_str() {
            "" => (&lock).write_all(MARK.1.as_bytes()).map_err(|e| Error::new("write", &mark, &e))?,
            m if m == MARK.1 => {}
            _ => return Err(Error::OtherVersion { dir: dir.to_owned() }),
        }
        let files = Files { dir: dir.to_owned(), _lock: lock };
        for folder in (0..FOLDERS).map(|n| files.folder(n)).chain([files.tmp()]) {
            match std::fs::create_dir(&folder) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::new("make folder", &folder, &e));
                }
                _ => {}
            }
        }
        let swept = remove_all(list(&files.tmp())?.filter(|(name, _)| !keep.contains(name)))?;
        Ok((files, swept))
    }

    /// The pool's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder of unfinished files.
    pub fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// Where the file of an id is, or would be.
    pub fn path(&self, id: FileId) -> PathBuf {
        self.folder(id.0 % FOLDERS).join(format!("{:016x}", id.0))
    }

    /// Takes in a finished download from `tmp/`: checks its length, makes it read-only and durable, and gives it
    /// its name. On error the temporary file is removed.
    ///
    /// # Errors
    /// [`Error::WrongSize`], [`Error::NotAFile`], [`Error::NoSpace`] (delayed allocation may only now find out),
    /// [`Error::Denied`], [`Error::Io`].
    pub fn admit(&self, temp: &Path, id: FileId, bytes: u64) -> Result<(), Error> {
        let admitted = self.try_admit(temp, id, bytes);
        if admitted.is_err() {
            // What is wrong is reported already.
            let _ = std::fs::remove_file(temp);
        }
        admitted
    }

    fn try_admit(&self, temp: &Path, id: FileId, bytes: u64) -> Result<(), Error> {
        let file = open_file(temp)?;
        let found_bytes = file.metadata().map_err(|e| Error::new("stat", temp, &e))?.len();
        if found_bytes != bytes {
            return Err(Error::WrongSize { path: temp.to_owned(), expected_bytes: bytes, found_bytes });
        }
        self.seal(&file, temp, id)
    }

    /// Read-only, durable, named.
    fn seal(&self, file: &File, from: &Path, id: FileId) -> Result<(), Error> {
        let read_only = std::fs::Permissions::from_mode(0o444);
        file.set_permissions(read_only).map_err(|e| Error::new("chmod", from, &e))?;
        file.sync_data().map_err(|e| Error::new("sync", from, &e))?;
        let to = self.path(id);
        std::fs::rename(from, &to).map_err(|e| Error::new("rename", &to, &e))
    }

    /// Takes over a file that a task left: moves it if that is safe, else copies it (by reflink where the file
    /// system can). Moving is safe on one file system, when the file is ours and has no other link: else somebody
    /// could change it later.
    ///
    /// # Errors
    /// As [`Files::admit`].
    pub fn adopt(&self, from: &Path, id: FileId) -> Result<Adopted, Error> {
        let source = open_file(from)?;
        let meta = source.metadata().map_err(|e| Error::new("stat", from, &e))?;
        let ours = meta.nlink() == 1 && meta.uid() == rustix::process::geteuid().as_raw();
        let moved = ours && {
            match self.seal(&source, from, id) {
                Ok(()) => true,
                Err(Error::Io { action: "rename", .. }) => false, // another file system
                Err(e) => return Err(e),
            }
        };
        if !moved {
            self.copy_in(&source, id)?;
        }
        let path = self.path(id);
        let taken = open_file(&path)?;
        let there = taken.metadata().map_err(|e| Error::new("stat", &path, &e))?;
        if moved && (there.dev(), there.ino()) != (meta.dev(), meta.ino()) {
            // Somebody put another file under the name between the look and the move.
            let _ = std::fs::remove_file(&path);
            return Err(Error::NotAFile { path: from.to_owned() });
        }
        let (bytes, checksum) = checksum(&taken).map_err(|e| Error::new("read", &path, &e))?;
        Ok(Adopted { bytes, checksum, moved })
    }

    fn copy_in(&self, mut source: &File, id: FileId) -> Result<(), Error> {
        let temp = self.tmp().join(format!("adopt-{:016x}", id.0));
        let mut copy = || {
            let mut to = File::options().write(true).create(true).truncate(true).open(&temp)?;
            if rustix::fs::ioctl_ficlone(&to, source).is_err() {
                io::copy(&mut source, &mut to)?;
            }
            Ok(to)
        };
        let copied =
            copy().map_err(|e| Error::new("copy to", &temp, &e)).and_then(|file| self.seal(&file, &temp, id));
        if copied.is_err() {
            let _ = std::fs::remove_file(&temp);
        }
        copied
    }

    /// Reads a file and compares it with what the index says: its length, and its XXH3-128 where that is known.
    pub fn verify(&self, id: FileId, bytes: u64, checksum_known: Option<u128>) -> Verdict {
        let path = self.path(id);
        let file = match open_file(&path) {
            Ok(file) => file,
            Err(Error::Io { .. }) if !path.exists() => return Verdict::Missing,
            Err(e) => return Verdict::Unreadable(e),
        };
        match checksum(&file) {
            Err(e) => Verdict::Unreadable(Error::new("read", &path, &e)),
            Ok((found_bytes, _)) if found_bytes != bytes => Verdict::WrongSize { found_bytes },
            Ok((_, found)) if checksum_known.is_some_and(|known| known != found) => {
                Verdict::WrongChecksum { found }
            }
            Ok(_) => Verdict::Good,
        }
    }

    /// Removes a file. One that is not there any more counts as removed, with zero bytes.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::Io`].
    pub fn unlink(&self, id: FileId) -> Result<Unlinked, Error> {
        let path = self.path(id);
        let gone = Unlinked { bytes: 0, still_linked: false };
        let meta = match std::fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(gone),
            Err(e) => return Err(Error::new("stat", &path, &e)),
        };
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(Unlinked { bytes: meta.len(), still_linked: meta.nlink() > 1 }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(gone),
            Err(e) => Err(Error::new("remove", &path, &e)),
        }
    }

    /// Compares the pool with what the index claims (id and length), and removes what the index does not know.
    /// Reads names and sizes only: one `stat` a file.
    ///
    /// # Errors
    /// When a folder cannot be read or a stray cannot be removed.
    pub fn recheck(&self, claims: &BTreeMap<FileId, u64>) -> Result<Recheck, Error> {
        let mut lost: BTreeSet<FileId> = claims.keys().copied().collect();
        let mut strays = Swept::default();
        for folder in (0..FOLDERS).map(|n| self.folder(n)) {
            let (known, unknown): (Vec<_>, Vec<_>) = list(&folder)?.partition(|(name, path)| {
                let id = name.to_str().and_then(|n| u64::from_str_radix(n, 16).ok()).map(FileId);
                let claim = id.filter(|id| self.path(*id) == *path).and_then(|id| claims.get(&id));
                let size = std::fs::symlink_metadata(path).ok().filter(|m| m.is_file()).map(|m| m.len());
                claim.is_some() && claim.copied() == size
            });
            for (name, _) in known {
                let id = name.to_str().and_then(|n| u64::from_str_radix(n, 16).ok());
                lost.remove(&FileId(id.expect("it was read as a number just now")));
            }
            let removed = remove_all(unknown.into_iter())?;
            strays.files += removed.files;
            strays.bytes += removed.bytes;
        }
        Ok(Recheck { lost: lost.into_iter().collect(), strays })
    }

    /// Bytes that the file system has left for us.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn free_bytes(&self) -> Result<u64, Error> {
        let fs = rustix::fs::statvfs(&self.dir).map_err(|e| Error::new("statvfs", &self.dir, &e.into()))?;
        Ok(fs.f_bavail.saturating_mul(fs.f_frsize))
    }

    fn folder(&self, n: u64) -> PathBuf {
        self.dir.join(format!("{n:02x}"))
    }
}

/// XXH3-128 (seed 0) and length of what is left of a file: the checksum that the index keeps.
pub fn checksum(mut file: &File) -> io::Result<(u64, u128)> {
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((bytes, hash.digest128())),
            Ok(n) => {
                hash.update(&buffer[..n]);
                bytes += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Opens a regular file and nothing else, without following a link or waiting for a pipe.
fn open_file(path: &Path) -> Result<File, Error> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        Err(e) => return Err(Error::new("open", path, &e.into())),
    };
    match file.metadata() {
        Ok(meta) if meta.is_file() => Ok(file),
        Ok(_) => Err(Error::NotAFile { path: path.to_owned() }),
        Err(e) => Err(Error::new("stat", path, &e)),
    }
}

/// Names and paths in a folder.
fn list(dir: &Path) -> Result<impl Iterator<Item = (OsString, PathBuf)> + use<>, Error> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::new("list", dir, &e))?;
    Ok(entries.filter_map(Result::ok).map(|e| (e.file_name(), e.path())))
}

fn remove_all(entries: impl Iterator<Item = (OsString, PathBuf)>) -> Result<Swept, Error> {
    let mut swept = Swept::default();
    for (_, path) in entries {
        let meta = std::fs::symlink_metadata(&path).map_err(|e| Error::new("stat", &path, &e))?;
        let removed =
            if meta.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(|e| Error::new("remove", &path, &e))?;
        swept.files += 1;
        swept.bytes += meta.len();
    }
    Ok(swept)
}

#[cfg(test)]
mod tests;
