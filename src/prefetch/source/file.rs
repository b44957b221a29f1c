//! A folder as a source: local, or a mounted NAS.
//!
//! Every name is resolved by `openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`, so that neither `..` nor a
//! symbolic link leaves the root, also when somebody swaps a folder for a link meanwhile. All calls that may
//! block run on the blocking pool.

use super::{Error, Meta};
use crate::flow::ObjectName;
use crate::time::Time;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Bytes per read: large enough that the hop to the blocking pool (about 10 µs) does not count.
const READ_BYTES: usize = 512 * 1024;
/// Begins the names of unfinished published files; no object may be called so.
pub(super) const TEMP_PREFIX: &str = ".forestage-";

/// A folder below which objects lie. It is opened anew for each request: a NAS may be mounted later.
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(super) fn new(root: PathBuf) -> Folder {
        Folder { root }
    }

    pub(super) async fn stat(&self, object: ObjectName) -> Result<Meta, Error> {
        let root = self.root.clone();
        blocking(move || meta_of(&object, &open_object(&root, &object)?)).await
    }

    pub(super) async fn read(
        &self,
        object: ObjectName,
        from: u64,
        pin: Option<&Meta>,
    ) -> Result<(Meta, BoxStream<'static, Result<Bytes, Error>>), Error> {
        let (root, pin) = (self.root.clone(), pin.cloned());
        let start = blocking(move || {
            let mut file = open_object(&root, &object)?;
            let meta = meta_of(&object, &file)?;
            if pin.is_some_and(|p| !p.is_same_version(&meta)) || from > meta.bytes {
                return Err(Error::Changed { object });
            }
            file.seek(SeekFrom::Start(from)).map_err(|e| unreadable(&object, &e))?;
            Ok(Open { object, file, left: meta.bytes - from, meta })
        })
        .await?;
        let meta = start.meta.clone();
        let body = stream::try_unfold(Some(start), |open| async {
            match open {
                Some(open) => blocking(move || open.next_piece()).await,
                None => Ok(None),
            }
        });
        Ok((meta, body.boxed()))
    }

    pub(super) async fn publish(&self, object: ObjectName, file: PathBuf) -> Result<Meta, Error> {
        let root = self.root.clone();
        blocking(move || publish(&root, &object, &file)).await
    }
}

/// A file that is being read.
struct Open {
    object: ObjectName,
    file: File,
    left: u64,
    meta: Meta,
}

impl Open {
    /// The next piece, and what is to be read after it. With the last piece the file must still be the version
    /// that it was at the start.
    fn next_piece(mut self) -> Result<Option<(Bytes, Option<Open>)>, Error> {
        let want = self.left.min(READ_BYTES as u64);
        let mut piece = Vec::with_capacity(usize::try_from(want).expect("no more than READ_BYTES"));
        (&self.file).take(want).read_to_end(&mut piece).map_err(|e| unreadable(&self.object, &e))?;
        self.left -= piece.len() as u64;
        let ended_early = (piece.len() as u64) < want;
        let finished = self.left == 0;
        if ended_early || (finished && meta_of(&self.object, &self.file)? != self.meta) {
            return Err(Error::Changed { object: self.object });
        }
        let empty = piece.is_empty();
        let next = (!finished).then_some(self);
        Ok((!empty).then_some((Bytes::from(piece), next)))
    }
}

/// Opens a regular file for reading. `NONBLOCK`: opening a pipe must not wait for its writer.
fn open_object(root: &Path, object: &ObjectName) -> Result<File, Error> {
    let folder = open_root(root, object)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(open_beneath(&folder, object.path(), flags).map_err(|e| refused(object, e))?))
}

fn open_root(root: &Path, object: &ObjectName) -> Result<OwnedFd, Error> {
    rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| {
        // A root that is not there is a source that is down, not an object that does not exist.
        Error::Unreachable {
            object: object.clone(),
            reason: format!("folder {}: {}", root.display(), text(e)),
        }
    })
}

fn open_beneath(folder: impl AsFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    /// The kernel answers EAGAIN when a rename raced with the walk.
    const RACES: usize = 16;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut last = Errno::AGAIN;
    for _ in 0..RACES {
        match rustix::fs::openat2(&folder, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => last = Errno::AGAIN,
            Err(Errno::INTR) => last = Errno::INTR,
            other => return other,
        }
    }
    Err(last)
}

/// Length and version of an open regular file.
///
/// The version is size, modification time and inode. Two writes of equal length into the same file within one
/// tick of the file system's clock cannot be told apart on kernels before 6.13 (later ones give finer stamps
/// once a stamp has been read); writers that rename a new file into place are always told apart.
fn meta_of(object: &ObjectName, file: &File) -> Result<Meta, Error> {
    let stat = rustix::fs::fstat(file).map_err(|e| unreadable(object, &e.into()))?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(Error::Refused { object: object.clone(), reason: "it is not a regular file".into() });
    }
    let bytes = u64::try_from(stat.st_size).expect("a regular file has no negative size");
    let modified_ns = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
    Ok(Meta {
        bytes,
        etag: Some(format!("\"{bytes:x}-{modified_ns:x}-{:x}\"", stat.st_ino).into()),
        modified: u64::try_from(modified_ns / 1_000).ok().map(Time::from_us),
    })
}

/// Copies `file` beneath the root: unnamed temporary file, fsync, link, rename, fsync of the folder.
fn publish(root: &Path, object: &ObjectName, file: &Path) -> Result<Meta, Error> {
    let from = |e: std::io::Error| Error::from_disk(object, file, &e);
    let target = root.join(object.path());
    let to = |e: std::io::Error| Error::from_disk(object, &target, &e);
    let source = rustix::fs::open(file, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let mut source = File::from(source.map_err(|e| from(e.into()))?);

    let (parents, name) = object.path().rsplit_once('/').unwrap_or(("", object.path()));
    let folder = make_folders(open_root(root, object)?, parents).map_err(|e| refused(object, e))?;
    let mut temp = Temp::make(&folder).map_err(|e| to(e.into()))?;
    // In the kernel where it can be: the standard library uses copy_file_range between files.
    std::io::copy(&mut source, &mut temp.file).map_err(to)?;
    temp.file.sync_all().map_err(to)?;
    let meta = meta_of(object, &temp.file)?;
    temp.rename_to(&folder, name).map_err(|e| to(e.into()))?;
    rustix::fs::fsync(&folder).map_err(|e| to(e.into()))?;
    Ok(meta)
}

/// Opens the folder `path` beneath `root` and makes what is missing of it, durably.
fn make_folders(root: OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut folder = open_beneath(&root, ".", flags)?;
    for part in path.split('/').filter(|p| !p.is_empty()) {
        folder = match open_beneath(&folder, part, flags) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&folder, part, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(e),
                }
                rustix::fs::fsync(&folder)?;
                open_beneath(&folder, part, flags)?
            }
            other => other?,
        };
    }
    Ok(folder)
}

/// An unfinished file. Where the file system can, it has no name until it is complete, so that a crash leaves
/// nothing; else it has one, which is removed on drop.
struct Temp<'a> {
    file: File,
    folder: &'a OwnedFd,
    name: Option<String>,
}

impl<'a> Temp<'a> {
    fn make(folder: &'a OwnedFd) -> Result<Temp<'a>, Errno> {
        let mode = Mode::from_raw_mode(0o644);
        let unnamed = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
        match rustix::fs::openat(folder, ".", unnamed, mode) {
            Ok(fd) => Ok(Temp { file: fd.into(), folder, name: None }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                let name = temp_name();
                let named =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(folder, &name, named, mode)?;
                Ok(Temp { file: fd.into(), folder, name: Some(name) })
            }
            Err(e) => Err(e),
        }
    }

    fn rename_to(mut self, folder: &OwnedFd, target: &str) -> Result<(), Errno> {
        if self.name.is_none() {
            // A link cannot replace a file, a rename can: so the name is temporary first.
            let name = temp_name();
            let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            rustix::fs::linkat(CWD, open, self.folder, &name, AtFlags::SYMLINK_FOLLOW)?;
            self.name = Some(name);
        }
        let name = self.name.as_deref().expect("it was named just now");
        rustix::fs::renameat(self.folder, name, folder, target)?;
        self.name = None;
        Ok(())
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // The publication has failed already; that error is what is reported.
            let _ = rustix::fs::unlinkat(self.folder, name, AtFlags::empty());
        }
    }
}

/// Unique within this host: process id and a counter.
fn temp_name() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{TEMP_PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What it means that a name beneath the root cannot be opened.
fn refused(object: &ObjectName, e: Errno) -> Error {
    let object = object.clone();
    match e {
        Errno::NOENT | Errno::NOTDIR => Error::Missing { object },
        Errno::LOOP => Error::Denied { object, reason: "a symbolic link stands in its path".into() },
        Errno::XDEV => Error::Denied { object, reason: "its path leaves the source's folder".into() },
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Error::Denied { object, reason: text(e) },
        Errno::NAMETOOLONG => Error::BadName { object, reason: "the file system refuses a name so long" },
        Errno::ISDIR | Errno::NXIO => Error::Refused { object, reason: "it is not a regular file".into() },
        Errno::NOSYS => Error::Refused { object, reason: "this kernel has no openat2 (Linux 5.6)".into() },
        e => Error::Unreachable { object, reason: text(e) },
    }
}

fn unreadable(object: &ObjectName, e: &std::io::Error) -> Error {
    Error::Unreachable { object: object.clone(), reason: e.to_string() }
}

fn text(e: Errno) -> String {
    std::io::Error::from(e).to_string()
}

/// Runs `f` on the blocking pool. When the runtime is going down and `f` never ran, this never returns: the
/// caller is about to be dropped too.
pub(in crate::prefetch) async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(f).await {
        Ok(value) => value,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(_) => std::future::pending().await,
    }
}

/// The code of the error that an `openat2` failure becomes; root is refused nothing, so tests ask here.
#[cfg(test)]
pub(super) fn tests_refused(e: Errno) -> &'static str {
    refused(&ObjectName::new("s:a"), e).code()
}
