//! Inputs in a work folder: placed read-only, and compared afterwards. Blocking; not for an actor's thread.
//!
//! An input stands at `in/NN-basename`, mode 0444: a hard link to the cache file, a reflink or a copy. What the
//! task did to it is told by size, mtime and ctime. With hard links the ctime needs a ledger, [`Links`]: it
//! changes with every link that is made or removed, by any task that uses the same object, so the last value
//! that we caused ourselves is remembered for each linked file.

use crate::flow::Map;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How inputs are placed, as configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputMode {
    /// The cheapest way that protects the cache: see [`ways`].
    #[default]
    Auto,
    /// Hard links only: work folder and cache must share a file system.
    Link,
    /// Reflinks only: a file system that has them (btrfs, XFS) must hold both.
    Reflink,
    /// Copies.
    Copy,
}

impl From<crate::task::InputMode> for InputMode {
    fn from(mode: crate::task::InputMode) -> InputMode {
        match mode {
            crate::task::InputMode::Auto => InputMode::Auto,
            crate::task::InputMode::Link => InputMode::Link,
            crate::task::InputMode::Reflink => InputMode::Reflink,
            crate::task::InputMode::Copy => InputMode::Copy,
        }
    }
}

/// How an input was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// The cache file itself, by another name.
    Link,
    /// A file of its own that shares its blocks with the cache file until one of them changes.
    Reflink,
    /// A file of its own.
    Copy,
}

/// The ways to try, in order, and whether `in/` is to be mounted read-only for the child.
///
/// Mode 0444 stops accidents of tasks that do not run as root. Root overrides modes: for it a link is only
/// safe beneath a read-only mount, which takes a mount namespace (`can_mount`, see
/// [`Helper::can_mount`](super::run::Helper::can_mount)); without one it gets a file of its own.
pub fn ways(mode: InputMode, runs_as_root: bool, can_mount: bool) -> (&'static [Way], bool) {
    match (mode, runs_as_root) {
        (InputMode::Auto, false) => (&[Way::Link, Way::Reflink, Way::Copy], false),
        (InputMode::Auto, true) if can_mount => (&[Way::Link, Way::Reflink, Way::Copy], true),
        (InputMode::Auto, true) => (&[Way::Reflink, Way::Copy], false),
        (InputMode::Link, root) => (&[Way::Link], root && can_mount),
        (InputMode::Reflink, _) => (&[Way::Reflink], false),
        (InputMode::Copy, _) => (&[Way::Copy], false),
    }
}

/// An input could not be placed.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {from} to {to}: {error}", from = .from.display(), to = .to.display())]
pub struct Error {
    verb: &'static str,
    from: PathBuf,
    to: PathBuf,
    error: io::Error,
}

/// An input that stands in a work folder.
#[derive(Clone, Debug)]
pub struct Placed {
    /// `…/in/NN-basename`.
    pub path: PathBuf,
    /// How it got there.
    pub way: Way,
    /// Its size.
    pub bytes: u64,
    cache_file: PathBuf,
    stamp: Stamp,
}

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// It is as it was.
    Unchanged,
    /// Same size and mtime, but the inode was changed by something else than our own links: its mode, its
    /// times, or its bytes by somebody who put the mtime back. The cache's copy is not to be trusted.
    Touched,
    /// Its bytes were changed, or it was taken away or replaced.
    Modified,
}

/// What tells a file from another, and from itself after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, u64),
    ctime: (i64, u64),
}

impl Stamp {
    /// Of a regular file; a symbolic link is not followed.
    fn of(path: &Path) -> io::Result<Stamp> {
        let s: Stat = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
        if s.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Stamp {
            device: s.st_dev,
            inode: s.st_ino,
            size: u64::try_from(s.st_size).unwrap_or(0),
            mtime: (s.st_mtime, s.st_mtime_nsec),
            ctime: (s.st_ctime, s.st_ctime_nsec),
        })
    }
    fn file(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// Longest basename kept; with the number and its dash it fits a name (255 bytes).
const LONGEST_BASENAME: usize = 200;

/// The name of the `index`th input of an object whose path ends in some basename: `NN-basename`. Of a very
/// long one the end is kept, where the extension is.
pub fn name_of(index: usize, object_path: &str) -> String {
    let base = object_path.rsplit('/').next().unwrap_or_default();
    let fits = |at: usize| base.len() - at <= LONGEST_BASENAME;
    let cut = base.char_indices().map(|(at, _)| at).find(|at| fits(*at)).unwrap_or(0);
    format!("{index:02}-{}", &base[cut..])
}

/// The ledger of cache files that are linked into work folders: one for the daemon.
#[derive(Debug, Default)]
pub struct Links {
    files: Mutex<Map<(u64, u64), Linked>>,
}

#[derive(Debug)]
struct Linked {
    places: u32,
    /// The ctime that our last link or unlink left; None if the cache had dropped the file by then.
    ctime: Option<(i64, u64)>,
    touched: bool,
}

impl Links {
    /// Places a cache file at `to` by the first of the `ways` that works here; a way that this pair of places
    /// cannot have (another file system, too many links, no reflinks) leads to the next.
    ///
    /// # Errors
    /// The last way's.
    pub fn place(&self, cache_file: &Path, to: &Path, ways: &[Way]) -> Result<Placed, Error> {
        let mut last = io::Error::new(io::ErrorKind::Unsupported, "no way to place it");
        let mut verb = "place";
        for &way in ways {
            let placed = match way {
                Way::Link => self.link(cache_file, to),
                Way::Reflink | Way::Copy => fill(cache_file, to, way),
            };
            match placed {
                Ok(stamp) => {
                    let (path, bytes, cache_file) = (to.into(), stamp.size, cache_file.into());
                    return Ok(Placed { path, way, bytes, cache_file, stamp });
                }
                Err(e) => (verb, last) = (name(way), e),
            }
            if !matches!(
                last.raw_os_error(),
                Some(
                    libc::EXDEV | libc::EMLINK | libc::EPERM | libc::EOPNOTSUPP | libc::EINVAL | libc::ENOTTY
                )
            ) {
                break;
            }
        }
        Err(Error { verb, from: cache_file.into(), to: to.into(), error: last })
    }

    fn link(&self, cache_file: &Path, to: &Path) -> io::Result<Stamp> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        // The mode is the file's, not the name's.
        if fs::symlink_metadata(cache_file)?.permissions().mode() & 0o222 != 0 {
            fs::set_permissions(cache_file, Permissions::from_mode(0o444))?;
        }
        let before = Stamp::of(cache_file)?;
        rustix::fs::linkat(CWD, cache_file, CWD, to, AtFlags::empty())?;
        let after = Stamp::of(to)?;
        if after.file() != before.file() {
            fs::remove_file(to)?;
            return Err(io::Error::new(io::ErrorKind::NotFound, "the cache replaced it meanwhile"));
        }
        let linked = files.entry(after.file()).or_insert(Linked {
            places: 0,
            ctime: Some(before.ctime),
            touched: false,
        });
        linked.touched |= linked.ctime.is_some_and(|ctime| ctime != before.ctime);
        linked.ctime = Some(after.ctime);
        linked.places += 1;
        Ok(after)
    }

    /// Compares an input with what was placed; after its task's processes are gone.
    pub fn check(&self, placed: &Placed) -> Check {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |path: &Path| Stamp::of(path).ok().filter(|s| s.file() == placed.stamp.file());
        let (now, linked) = match placed.way {
            // What counts is the cache file; the task may have removed its own name of it.
            Way::Link => {
                (is_it(&placed.path).or_else(|| is_it(&placed.cache_file)), files.get(&placed.stamp.file()))
            }
            Way::Reflink | Way::Copy => (is_it(&placed.path), None),
        };
        let Some(now) = now else { return Check::Modified };
        let same_ctime = match linked {
            Some(linked) if linked.ctime == Some(now.ctime) => !linked.touched,
            // The cache dropped the file meanwhile, and so took a link away: only its own copy needed the ctime.
            Some(linked) => !linked.touched && is_it(&placed.cache_file).is_none(),
            None => now.ctime == placed.stamp.ctime,
        };
        match (now.size, now.mtime) == (placed.stamp.size, placed.stamp.mtime) {
            false => Check::Modified,
            true if same_ctime => Check::Unchanged,
            true => Check::Touched,
        }
    }

    /// Takes an input away again: its blocks are the cache's, and free when the cache drops them. One that the
    /// task removed itself is no error.
    pub fn remove(&self, placed: &Placed) -> io::Result<()> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let before = Stamp::of(&placed.path).ok();
        let removed = match fs::remove_file(&placed.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        let file = placed.stamp.file();
        if placed.way == Way::Link
            && let Some(linked) = files.get_mut(&file)
        {
            linked.places -= 1;
            if linked.places == 0 {
                files.remove(&file);
            } else {
                let ours = before.is_some_and(|s| s.file() == file && Some(s.ctime) == linked.ctime);
                let now = Stamp::of(&placed.cache_file).ok().filter(|s| s.file() == file);
                linked.touched |= !ours && linked.ctime.is_some() && now.is_some();
                linked.ctime = now.map(|s| s.ctime);
            }
        }
        removed
    }
}

fn name(way: Way) -> &'static str {
    match way {
        Way::Link => "link",
        Way::Reflink => "reflink",
        Way::Copy => "copy",
    }
}

/// Makes a file of its own with the cache file's bytes.
fn fill(cache_file: &Path, to: &Path, way: Way) -> io::Result<Stamp> {
    let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK).bits() as i32;
    let mut from = File::options().read(true).custom_flags(flags).open(cache_file)?;
    if !from.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    let filled = match way {
        // The standard library copies inside the kernel where it can.
        Way::Copy => io::copy(&mut from, &mut file).map(drop),
        _ => rustix::fs::ioctl_ficlone(&file, &from).map_err(io::Error::from),
    };
    let sealed = filled.and_then(|()| Ok(rustix::fs::fchmod(&file, Mode::from_raw_mode(0o444))?));
    if let Err(error) = sealed {
        // Half of an input must not be taken for one; that it was made is the only news in another error.
        let _ = fs::remove_file(to);
        return Err(error);
    }
    drop(file);
    Stamp::of(to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use tempfile::TempDir;

    const ALL: &[Way] = &[Way::Link, Way::Reflink, Way::Copy];

    /// A folder with `cache` (mode 0644, "data") and places for it.
    fn scratch() -> (TempDir, PathBuf, Links) {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        fs::write(&cache, "data").unwrap();
        (dir, cache, Links::default())
    }

    /// Writes as a task would that overrides the mode (root, or its owner after a chmod).
    fn overwrite(path: &Path, text: &str) {
        fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        File::options().write(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn every_way_gives_the_same_bytes_read_only() {
        let (dir, cache, links) = scratch();
        for (n, way) in [Way::Link, Way::Copy].into_iter().enumerate() {
            let to = dir.path().join(n.to_string());
            let placed = links.place(&cache, &to, &[way]).unwrap();
            assert_eq!((placed.way, placed.bytes), (way, 4));
            assert_eq!(fs::read_to_string(&to).unwrap(), "data");
            assert_eq!(fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o444);
            assert_eq!(links.check(&placed), Check::Unchanged);
        }
    }

    #[test]
    fn a_reflink_is_a_file_of_its_own() {
        // Needs a file system that has them: TMPDIR on btrfs or XFS.
        let (dir, cache, links) = scratch();
        let to = dir.path().join("00-x");
        let Ok(placed) = links.place(&cache, &to, &[Way::Reflink]) else {
            assert!(!to.exists(), "nothing half-made is left");
            return;
        };
        assert_eq!(
            (fs::read_to_string(&to).unwrap().as_str(), links.check(&placed)),
            ("data", Check::Unchanged)
        );
        overwrite(&to, "DATA");
        assert_eq!(links.check(&placed), Check::Modified);
        assert_eq!(fs::read_to_string(&cache).unwrap(), "data");
        println!("reflinks were tried");
    }

    #[test]
    fn a_way_that_cannot_be_leads_to_the_next() {
        let (dir, cache, links) = scratch();
        // Another file system, so no link; then a reflink or a copy, as it has them.
        let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return };
        let placed = links.place(&cache, &other.path().join("a"), ALL).unwrap();
        assert_ne!(placed.way, Way::Link);
        assert!(links.place(&cache, &other.path().join("b"), &[Way::Link]).is_err());
        assert!(!other.path().join("b").exists());
        let error =
            links.place(&dir.path().join("none"), &dir.path().join("c"), ALL).unwrap_err().to_string();
        assert!(error.starts_with("link ") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn changed_bytes_are_told_whichever_way_it_was_placed() {
        for way in [Way::Link, Way::Copy] {
            let (dir, cache, links) = scratch();
            let to = dir.path().join("00-x");
            let placed = links.place(&cache, &to, &[way]).unwrap();
            overwrite(&to, "DATA");
            assert_eq!(links.check(&placed), Check::Modified, "{way:?}");
            assert_eq!(fs::read_to_string(&cache).unwrap() == "data", way == Way::Copy);
        }
    }

    #[test]
    fn bytes_changed_with_the_mtime_put_back_are_told_by_the_ctime() {
        for way in [Way::Link, Way::Copy] {
            let (dir, cache, links) = scratch();
            let to = dir.path().join("00-x");
            let placed = links.place(&cache, &to, &[way]).unwrap();
            let mtime = fs::metadata(&to).unwrap().modified().unwrap();
            overwrite(&to, "DATA");
            File::options().write(true).open(&to).unwrap().set_modified(mtime).unwrap();
            assert_eq!(links.check(&placed), Check::Touched, "{way:?}");
        }
    }

    #[test]
    fn links_of_other_tasks_come_and_go_unnoticed() {
        let (dir, cache, links) = scratch();
        let at = |n: u32| dir.path().join(format!("{n:02}-x"));
        let mut rng = fastrand::Rng::with_seed(3);
        let (mut standing, mut made) = (vec![], 0);
        for _ in 0..300 {
            if rng.bool() {
                standing.push(links.place(&cache, &at(made), ALL).unwrap());
                made += 1;
            } else if !standing.is_empty() {
                let done = standing.swap_remove(rng.usize(..standing.len()));
                links.remove(&done).unwrap();
            }
            for placed in &standing {
                assert_eq!(links.check(placed), Check::Unchanged);
            }
            let kept = links.files.lock().unwrap();
            assert_eq!(kept.values().map(|l| l.places as usize).sum::<usize>(), standing.len());
        }
    }

    #[test]
    fn a_file_that_the_cache_dropped_meanwhile_is_no_change() {
        let (dir, cache, links) = scratch();
        let [a, b] = ["a", "b"].map(|n| links.place(&cache, &dir.path().join(n), ALL).unwrap());
        fs::remove_file(&cache).unwrap();
        assert_eq!([links.check(&a), links.check(&b)], [Check::Unchanged; 2]);
        fs::write(&cache, "another version").unwrap();
        let c = links.place(&cache, &dir.path().join("c"), ALL).unwrap();
        links.remove(&a).unwrap();
        assert_eq!([links.check(&b), links.check(&c)], [Check::Unchanged; 2]);
        overwrite(&b.path, "DATA");
        assert_eq!(links.check(&b), Check::Modified);
        links.remove(&c).unwrap();
        links.remove(&b).unwrap();
        assert!(links.files.lock().unwrap().is_empty());
    }

    #[test]
    fn an_input_that_the_task_removed_or_replaced() {
        let (dir, cache, links) = scratch();
        let [link, copy] = [("a", Way::Link), ("b", Way::Copy)]
            .map(|(n, way)| links.place(&cache, &dir.path().join(n), &[way]).unwrap());
        for placed in [&link, &copy] {
            fs::remove_file(&placed.path).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", &placed.path).unwrap();
        }
        assert_eq!(links.check(&link), Check::Touched, "the cache file is there; only its links changed");
        assert_eq!(links.check(&copy), Check::Modified);
        links.remove(&link).unwrap();
        assert!(Path::new("/etc/passwd").exists());
    }

    #[test]
    fn a_symbolic_link_in_the_cache_is_not_followed() {
        let (dir, cache, links) = scratch();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&cache, &link).unwrap();
        for way in [Way::Link, Way::Copy] {
            assert!(links.place(&link, &dir.path().join("to"), &[way]).is_err());
            assert!(!dir.path().join("to").exists());
        }
    }

    #[test]
    fn names_keep_their_end_and_fit() {
        assert_eq!(name_of(0, "vol-7/data.img"), "00-data.img");
        assert_eq!(name_of(123, "plain"), "123-plain");
        let long = format!("{}.tar.gz", "ü".repeat(300));
        let name = name_of(7, &long);
        assert!(name.len() <= 255 && name.starts_with("07-ü") && name.ends_with("ü.tar.gz"));
    }

    #[test]
    fn root_is_never_given_a_bare_link_by_default() {
        assert_eq!(ways(InputMode::Auto, true, false).0, [Way::Reflink, Way::Copy]);
        assert_eq!(ways(InputMode::Auto, true, true), (ALL, true));
        assert_eq!(ways(InputMode::Auto, false, true), (ALL, false));
    }
}
