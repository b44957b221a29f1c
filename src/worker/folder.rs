//! The work folder of one attempt: made, looked into for outputs, measured, removed. Blocking; not for an
//! actor's thread.
//!
//! `<work>/<task>.<attempt>` is where the child starts, and its own; in it `in/` holds the inputs (mode 0555
//! once they stand) and `out/` takes the outputs. Both are made only where the task needs them: a folder made
//! and removed costs about as much as a child.

use crate::flow::{TaskId, Token};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What went wrong with a work folder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be made, sealed, measured or removed.
    #[error("{verb} {path}: {source}", path = .path.display())]
    Folder {
        /// What was tried.
        verb: &'static str,
        /// With which folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The task did not leave a declared output.
    #[error("out/{name} is not there")]
    Missing {
        /// Its name in the declaration.
        name: String,
    },
    /// What it left is a link, leads out of `out/`, or is no regular file.
    #[error("out/{name} is not a regular file of its own in out/")]
    NotAFile {
        /// Its name in the declaration.
        name: String,
    },
    /// It could not be opened.
    #[error("open out/{name}: {source}")]
    Output {
        /// Its name in the declaration.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Folder { verb, path, source }
}

/// The folder of all work folders.
#[derive(Clone, Debug)]
pub struct WorkRoot {
    path: PathBuf,
    folder: Arc<OwnedFd>,
}

/// What a work folder shall have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// `in/`: the task has inputs.
    pub inputs: bool,
    /// `out/`: the type declares outputs, or its templates name the folder.
    pub outputs: bool,
    /// Who runs the task, if not the daemon's user: (uid, gid).
    pub owner: Option<(u32, u32)>,
}

impl WorkRoot {
    /// Opens the folder, and makes it if need be. The path must be absolute: children get it.
    pub fn open(path: &Path) -> Result<WorkRoot, Error> {
        assert!(path.is_absolute(), "work folder {} is made absolute with the configuration", path.display());
        fs::create_dir_all(path).map_err(failed("make", path))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed("open", path)(e.into()))?;
        Ok(WorkRoot { path: path.into(), folder: Arc::new(folder) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of an attempt's folder.
    pub fn name_of(task: TaskId, token: Token) -> String {
        format!("{task}.{}", token.attempt)
    }

    /// Makes a work folder. What an earlier life left under its name is removed first.
    pub fn make(&self, task: TaskId, token: Token, needs: Needs) -> Result<WorkFolder, Error> {
        let name = WorkRoot::name_of(task, token);
        let path = self.path.join(&name);
        match make(&path) {
            Err(Error::Folder { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                self.remove(&name)?;
                make(&path)?;
            }
            other => other?,
        }
        let folder = WorkFolder { root: self.clone(), name, path };
        if needs.inputs {
            make(&folder.inputs())?;
        }
        if needs.outputs {
            make(&folder.outputs())?;
        }
        if let Some((uid, gid)) = needs.owner {
            // Not `in/`: theirs to read, not to change.
            let theirs = [Some(folder.path.clone()), needs.outputs.then(|| folder.outputs())];
            for path in theirs.into_iter().flatten() {
                std::os::unix::fs::chown(&path, Some(uid), Some(gid)).map_err(failed("give away", &path))?;
            }
        }
        Ok(folder)
    }

    /// Names of the work folders that are there: after a restart, leftovers.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let failed = || failed("list", &self.path);
        let mut names = vec![];
        for entry in fs::read_dir(&self.path).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            names.extend(name.into_string());
        }
        names.sort();
        Ok(names)
    }

    /// Removes a work folder with all that is in it, links as links. One that is not there is no error.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        assert!(!name.is_empty() && !name.contains('/') && !name.starts_with('.'), "a name this module gave");
        let path = self.path.join(name);
        // Most are empty by now: three calls instead of a walk that opens every folder.
        for part in ["in", "out"] {
            // Not there, or not empty: what is left is found below.
            let _ = fs::remove_dir(path.join(part));
        }
        if fs::remove_dir(&path).is_ok() {
            return Ok(());
        }
        let mut removed = fs::remove_dir_all(&path);
        if matches!(&removed, Err(e) if e.kind() == io::ErrorKind::PermissionDenied) {
            // The task, or we ourselves, made folders that forbid changes.
            open_up(&path);
            removed = fs::remove_dir_all(&path);
        }
        match removed {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(failed("remove", &path)),
        }
    }

    /// Bytes on disk of one work folder; files that are also elsewhere (inputs linked from the cache, which
    /// counts them) are left out.
    pub fn usage_bytes(&self, name: &str) -> Result<u64, Error> {
        let path = self.path.join(name);
        let mut seen = BTreeSet::new();
        let (mut bytes, mut open) = (0, vec![path.clone()]);
        while let Some(folder) = open.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                // What the task forbade to read, or removes while we look, does not count.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied || folder != path => continue,
                Err(e) => return Err(failed("measure", &folder)(e)),
            };
            for entry in entries.flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                let shared = meta.nlink() > 1 && meta.is_file();
                let linked_input = shared && folder == path.join("in");
                if !linked_input && (!shared || seen.insert((meta.dev(), meta.ino()))) {
                    bytes += meta.blocks() * 512;
                }
                if meta.is_dir() {
                    open.push(entry.path());
                }
            }
        }
        Ok(bytes)
    }
}

/// Gives every folder beneath `path` to its owner again.
fn open_up(path: &Path) {
    let mut open = vec![path.to_path_buf()];
    while let Some(folder) = open.pop() {
        // What cannot be opened up is reported by the removal that follows.
        let _ = fs::set_permissions(&folder, Permissions::from_mode(0o700));
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        open.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
}

fn make(path: &Path) -> Result<(), Error> {
    DirBuilder::new().mode(0o750).create(path).map_err(failed("make", path))
}

/// One attempt's folder. Dropping it leaves it on disk: [`WorkRoot::remove`] ends it.
#[derive(Clone, Debug)]
pub struct WorkFolder {
    root: WorkRoot,
    name: String,
    path: PathBuf,
}

/// An output that a task left.
#[derive(Debug)]
pub struct Output {
    /// Open for reading.
    pub file: File,
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Whether the file has other names too (a link to an input, say): it must be copied then, not adopted.
    pub shared: bool,
}

impl WorkFolder {
    /// Its name beneath the root, for [`WorkRoot::remove`].
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Where the child starts.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// `in/`.
    pub fn inputs(&self) -> PathBuf {
        self.path.join("in")
    }
    /// `out/`.
    pub fn outputs(&self) -> PathBuf {
        self.path.join("out")
    }

    /// All inputs stand: opens `in/` to whoever runs the task, and forbids changes of it.
    pub fn seal_inputs(&self) -> Result<(), Error> {
        self.set_mode_of_inputs(0o555)
    }

    /// Allows changes of `in/` again, so that the inputs can be taken away.
    pub fn unseal_inputs(&self) -> Result<(), Error> {
        self.set_mode_of_inputs(0o750)
    }

    fn set_mode_of_inputs(&self, mode: u32) -> Result<(), Error> {
        let path = self.inputs();
        fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(failed("change the mode of", &path))
    }

    /// Opens what the task left at `out/<name>`. The name may have folders in it; on the whole way no link is
    /// followed and nothing above `out/` is reached, whatever the task made of its folder.
    pub fn output(&self, name: &str) -> Result<Output, Error> {
        // NONBLOCK: the task may have left a pipe there, which would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let out = Path::new(&self.name).join("out");
        let folder_flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat2(&*self.root.folder, out, folder_flags, Mode::empty(), beneath)
            .and_then(|out| rustix::fs::openat2(out, name, flags, Mode::empty(), beneath));
        let name = name.to_string();
        let file = match opened {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Err(Error::Missing { name }),
            Err(Errno::LOOP | Errno::XDEV | Errno::NOTDIR | Errno::NXIO) => {
                return Err(Error::NotAFile { name });
            }
            Err(e) => return Err(Error::Output { name, source: e.into() }),
        };
        let meta = file.metadata().map_err(|source| Error::Output { name: name.clone(), source })?;
        if !meta.is_file() {
            return Err(Error::NotAFile { name });
        }
        Ok(Output { file, path: self.outputs().join(&name), bytes: meta.len(), shared: meta.nlink() > 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use tempfile::TempDir;

    const TOKEN: Token = Token { epoch: 1, attempt: 2 };
    const NEEDS: Needs = Needs { inputs: true, outputs: true, owner: None };

    fn scratch() -> (TempDir, WorkRoot, WorkFolder) {
        let dir = tempfile::tempdir().unwrap();
        let root = WorkRoot::open(&dir.path().join("work")).unwrap();
        let folder = root.make(TaskId(7), TOKEN, NEEDS).unwrap();
        (dir, root, folder)
    }

    #[test]
    fn a_folder_has_what_was_needed_and_nothing_else() {
        let (_dir, root, folder) = scratch();
        assert!(folder.path().ends_with("work/7.2") && folder.inputs().is_dir() && folder.outputs().is_dir());
        let bare = root.make(TaskId(8), TOKEN, Needs::default()).unwrap();
        assert_eq!(fs::read_dir(bare.path()).unwrap().count(), 0);
        assert_eq!(root.names().unwrap(), ["7.2", "8.2"]);
    }

    #[test]
    fn who_runs_the_task_owns_all_but_the_inputs() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (_dir, root, _) = scratch();
        let theirs = root.make(TaskId(9), TOKEN, Needs { owner: Some((65534, 65533)), ..NEEDS }).unwrap();
        theirs.seal_inputs().unwrap();
        let owner = |path: &Path| fs::metadata(path).map(|m| (m.uid(), m.gid(), m.mode() & 0o777)).unwrap();
        assert_eq!(owner(theirs.path()), (65534, 65533, 0o750));
        assert_eq!(owner(&theirs.outputs()), (65534, 65533, 0o750));
        assert_eq!(owner(&theirs.inputs()), (0, 0, 0o555));
    }

    #[test]
    fn leftovers_of_an_earlier_life_are_removed_first() {
        let (_dir, root, folder) = scratch();
        fs::write(folder.outputs().join("old"), "old").unwrap();
        folder.seal_inputs().unwrap();
        let again = root.make(TaskId(7), TOKEN, NEEDS).unwrap();
        assert!(matches!(again.output("old"), Err(Error::Missing { .. })));
    }

    #[test]
    fn outputs_are_regular_files_beneath_out_and_nothing_else() {
        let (dir, _root, folder) = scratch();
        let out = folder.outputs();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        fs::create_dir(out.join("sub")).unwrap();
        fs::write(out.join("sub/good"), "good").unwrap();
        symlink(dir.path().join("secret"), out.join("link")).unwrap();
        symlink("sub/good", out.join("inner-link")).unwrap();
        symlink(dir.path(), out.join("way")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, out.join("pipe"), rustix::fs::FileType::Fifo, Mode::RWXU, 0)
            .unwrap();
        let mut text = String::new();
        let mut good = folder.output("sub/good").unwrap();
        good.file.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), good.bytes, good.shared), ("good", 4, false));
        for name in [
            "link",
            "inner-link",
            "way/secret",
            "pipe",
            "sub",
            "../../../secret",
            "/etc/passwd",
            "sub/good/x",
        ] {
            assert!(
                matches!(folder.output(name), Err(Error::NotAFile { .. })),
                "{name}: {:?}",
                folder.output(name)
            );
        }
        assert_eq!(folder.output("none").unwrap_err().to_string(), "out/none is not there");
    }

    #[test]
    fn out_itself_may_have_been_replaced() {
        let (dir, _root, folder) = scratch();
        fs::write(dir.path().join("a"), "a").unwrap();
        fs::remove_dir(folder.outputs()).unwrap();
        symlink(dir.path(), folder.outputs()).unwrap();
        assert!(matches!(folder.output("a"), Err(Error::NotAFile { .. })));
    }

    #[test]
    fn an_output_with_another_name_is_told() {
        let (_dir, _root, folder) = scratch();
        fs::write(folder.path().join("a"), "a").unwrap();
        fs::hard_link(folder.path().join("a"), folder.outputs().join("a")).unwrap();
        assert!(folder.output("a").unwrap().shared);
    }

    #[test]
    fn removing_takes_all_of_it_and_nothing_else() {
        let (dir, root, folder) = scratch();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        symlink(&outside, folder.outputs().join("link")).unwrap();
        fs::create_dir(folder.outputs().join("closed")).unwrap();
        fs::write(folder.outputs().join("closed/file"), "x").unwrap();
        fs::set_permissions(folder.outputs().join("closed"), Permissions::from_mode(0o000)).unwrap();
        fs::hard_link(outside.join("kept"), folder.inputs().join("00-kept")).unwrap();
        folder.seal_inputs().unwrap();
        root.remove(folder.name()).unwrap();
        root.remove(folder.name()).unwrap();
        assert!(!folder.path().exists() && outside.join("kept").exists());
    }

    #[test]
    fn linked_inputs_are_not_counted_twice() {
        let (dir, root, folder) = scratch();
        let big = dir.path().join("big");
        fs::write(&big, vec![1; 1 << 20]).unwrap();
        fs::hard_link(&big, folder.inputs().join("00-big")).unwrap();
        let base = root.usage_bytes(folder.name()).unwrap();
        assert!(base < 100_000, "{base}");
        fs::copy(&big, folder.outputs().join("copy")).unwrap();
        fs::hard_link(folder.outputs().join("copy"), folder.outputs().join("again")).unwrap();
        let one = root.usage_bytes(folder.name()).unwrap() - base;
        assert!((1 << 20..1_100_000).contains(&one), "{one}");
    }
}
