//! A child's output: kept up to a cap, dropped beyond it.
//!
//! The child writes into a pipe and the helper moves the bytes on. A file of its own with RLIMIT_FSIZE would
//! be a little cheaper, but that limit is for every file the child writes, and SIGXFSZ would end it; a size
//! looked at now and then lets gigabytes through in between. The pipe makes the cap exact.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Most bytes moved per turn, so that one chatty child does not keep the helper from the others.
const TURN_BYTES: usize = 1 << 20;

/// The reading end of one child's output, and where it goes.
#[derive(Debug)]
pub(super) struct CappedLog {
    path: PathBuf,
    cap_bytes: u64,
    kept_bytes: u64,
    dropped_bytes: u64,
    file: Option<File>,
    /// The file could not be made or written: everything that follows counts as dropped.
    broken: bool,
}

impl CappedLog {
    pub(super) fn new(path: PathBuf, cap_bytes: u64) -> CappedLog {
        CappedLog { path, cap_bytes, kept_bytes: 0, dropped_bytes: 0, file: None, broken: false }
    }

    /// Bytes of output in the file, without the line that says that some were dropped.
    pub(super) fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Bytes of output that are not in the file.
    pub(super) fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// Moves what the pipe holds, one turn's worth at most. `pipe` must not block; `buffer` must not be empty.
    /// Returns whether there may be more.
    pub(super) fn pump(&mut self, pipe: &mut File, buffer: &mut [u8]) -> bool {
        let mut moved = 0;
        while moved < TURN_BYTES {
            match pipe.read(buffer) {
                Ok(0) => return false,
                Ok(n) => {
                    moved += n;
                    self.take(&buffer[..n]);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                // Nothing there for now; a pipe has no other error to read.
                Err(_) => return false,
            }
        }
        true
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = usize::try_from(self.cap_bytes - self.kept_bytes).unwrap_or(usize::MAX);
        let (keep, drop) = bytes.split_at(bytes.len().min(room));
        let kept = if keep.is_empty() || self.broken { 0 } else { self.write(keep) };
        self.kept_bytes += kept as u64;
        let dropped_before = self.dropped_bytes;
        self.dropped_bytes += (bytes.len() - kept) as u64;
        if dropped_before == 0 && !drop.is_empty() && !self.broken {
            let line = format!("\n[forestage: output beyond {} bytes was dropped]\n", self.cap_bytes);
            self.write(line.as_bytes());
        }
    }

    /// Writes all of it or breaks; returns how much was written.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let path = &self.path;
        let opened = match &mut self.file {
            Some(file) => Ok(file),
            none => open(path).map(|file| none.insert(file)),
        };
        let mut written = 0;
        let result = opened.and_then(|file| {
            while written < bytes.len() {
                match file.write(&bytes[written..]) {
                    Ok(n) => written += n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(())
        });
        if let Err(error) = result {
            // The helper has no log of its own: what it says on standard error lands in the daemon's.
            eprintln!("forestage: write log {}: {error}", path.display());
            self.broken = true;
        }
        written
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn keep(cap: u64, writes: &[&str]) -> (Option<String>, u64, u64) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = CappedLog::new(path.clone(), cap);
        writes.iter().for_each(|w| log.take(w.as_bytes()));
        (fs::read_to_string(path).ok(), log.kept_bytes(), log.dropped_bytes())
    }

    #[test]
    fn output_up_to_the_cap_is_kept_as_it_is() {
        assert_eq!(keep(6, &["abc", "def"]), (Some("abcdef".into()), 6, 0));
    }

    #[test]
    fn output_beyond_the_cap_is_dropped_and_a_line_says_so_once() {
        let (text, kept, dropped) = keep(4, &["abc", "def", "ghi"]);
        assert_eq!(text.unwrap(), "abcd\n[forestage: output beyond 4 bytes was dropped]\n");
        assert_eq!((kept, dropped), (4, 5));
    }

    #[test]
    fn silence_leaves_no_file() {
        assert_eq!(keep(4, &[]), (None, 0, 0));
    }

    #[test]
    fn a_log_that_cannot_be_written_drops_everything_and_goes_on() {
        let mut log = CappedLog::new("/nowhere/log".into(), 100);
        log.take(b"abc");
        log.take(b"def");
        assert_eq!((log.kept_bytes(), log.dropped_bytes()), (0, 6));
    }

    #[test]
    fn a_link_in_the_logs_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(dir.path().join("victim"), dir.path().join("log")).unwrap();
        let mut log = CappedLog::new(dir.path().join("log"), 100);
        log.take(b"abc");
        assert!(!dir.path().join("victim").exists());
        assert_eq!(log.dropped_bytes(), 3);
    }
}
