//! One daemon for one state folder.

use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How long a start waits for the helper of a daemon that has just died to end its children.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(20);

/// Holds the state folder. The spawn helper holds it too, until the last child is gone: who gets the lock
/// knows that no process of an earlier daemon is alive.
#[derive(Debug)]
pub struct Lock(File);

/// Why the state folder cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another daemon has it.
    #[error("state folder {} is in use by process {pid} ({command}); stop it first, or choose another `daemon.state_dir`", dir.display())]
    InUse {
        /// The folder.
        dir: PathBuf,
        /// Who has it.
        pid: String,
        /// What that process is.
        command: String,
    },
    /// The system refused.
    #[error("lock state folder {}: {error}", dir.display())]
    Io {
        /// The folder.
        dir: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

impl Lock {
    /// Takes the lock. If the process that had it is gone, waits for its helper up to ten seconds.
    ///
    /// # Errors
    /// Names the process that holds it.
    pub fn take(dir: &Path) -> Result<Lock, LockError> {
        let io = |error| LockError::Io { dir: dir.to_owned(), error };
        std::fs::create_dir_all(dir).map_err(io)?;
        let path = dir.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        let mut waited = std::time::Duration::ZERO;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(e) => return Err(io(e.into())),
            }
            let (pid, command) = holder(&mut file);
            if command.is_some() || waited >= PATIENCE {
                let command =
                    command.unwrap_or_else(|| "gone, but its helper is still ending children".into());
                return Err(LockError::InUse { dir: dir.to_owned(), pid, command });
            }
            std::thread::sleep(LOOK_AGAIN);
            waited += LOOK_AGAIN;
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(io)?;
        writeln!(file, "{}", std::process::id()).map_err(io)?;
        Ok(Lock(file))
    }

    /// For the helper, which shares it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The process that wrote its number into the lock, and its name if it is alive and one of ours.
fn holder(file: &mut File) -> (String, Option<String>) {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    let pid = if read.is_ok() { text.trim().to_owned() } else { String::new() };
    let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|c| c.trim().to_owned());
    // A dead daemon that nobody has reaped yet holds nothing.
    let zombie = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|s| s.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')));
    (if pid.is_empty() { "unknown".into() } else { pid }, command.filter(|_| !zombie))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_daemon_is_told_who_has_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let error = Lock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        Lock::take(dir.path()).unwrap();
    }
}
