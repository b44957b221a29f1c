//! Reads the kernel's counters: the host's, those of running attempts, our own. The only folder here with I/O.
//!
//! Everything is read below a given `/proc` and `/sys`, so tests read a tree of their own. What this user may
//! not read, or this kernel does not have, is absent from the sample and no error; only what every Linux has
//! (`/proc/stat`, `/proc/meminfo`) is required.

mod cgroup;
mod host;
mod own;
mod processes;

pub use cgroup::is_gone;
pub use own::{thread_cpu, utc_offset_s};

use crate::time::Span;
use procfs::FromRead;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A counter that must be there and is not.
#[derive(Debug, Error)]
#[error("read {path}: {reason}")]
pub struct Error {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads counters.
#[derive(Debug)]
pub struct Sampler {
    proc: PathBuf,
    sys: PathBuf,
    /// By name: whether it is a disk of its own, or only a view of others (dm, md, loop, …).
    disks: BTreeMap<String, bool>,
}

impl Default for Sampler {
    /// Of this machine.
    fn default() -> Sampler {
        Sampler::at("/proc", "/sys")
    }
}

impl Sampler {
    /// Of the trees that are mounted there.
    pub fn at(proc: impl Into<PathBuf>, sys: impl Into<PathBuf>) -> Sampler {
        Sampler { proc: proc.into(), sys: sys.into(), disks: BTreeMap::new() }
    }
}

fn read<T: FromRead>(path: &Path) -> Result<T, Error> {
    T::from_file(path).map_err(|e| Error { path: path.to_owned(), reason: e.to_string() })
}

fn ticks(ticks: u64) -> Span {
    Span::from_us((u128::from(ticks) * 1_000_000 / u128::from(procfs::ticks_per_second())) as u64)
}

#[cfg(test)]
mod tests;
