//! Whose process is this? A mark that a job's processes cannot lose by accident.
//!
//! A process leaves its group by setsid(2) or setpgid(2), and may wipe its environment; so each job's leader
//! gets a value of its own as the limit `RLIMIT_RTTIME`, which every descendant inherits over fork and exec.
//! The values lie so high (decades of real-time processing without a sleep) that they limit nothing. Orphans
//! of a job are adopted by the nearest subreaper (the helper, else the daemon), which finds them among its
//! children and tells by the mark which job they belong to.

use super::wire::JobId;
use std::fs;
use std::io;

/// Marks are `base + job`; one daemon never numbers as many jobs as this.
const JOBS: u64 = 1 << 40;

/// The marks of one daemon's jobs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    base: u64,
}

impl Marks {
    /// The marks below this process's own limit: a daemon that runs as another daemon's task cannot raise what
    /// it inherited, and must not take its siblings for its own. Daemon and helper come to the same answer.
    pub(super) fn new() -> Marks {
        let own = limit_of(0).unwrap_or(libc::RLIM_INFINITY);
        Marks { base: own.min(1 << 62).saturating_sub(JOBS) }
    }

    /// The limit that marks the processes of a job.
    pub(super) fn mark(&self, job: JobId) -> u64 {
        self.base + job.0 % JOBS
    }

    /// Whose a process is, zombies included; None if it bears no mark or may not be asked.
    pub(super) fn job_of(&self, pid: i32) -> Option<JobId> {
        let number = limit_of(pid)?.checked_sub(self.base)?;
        (number > 0 && number < JOBS).then_some(JobId(number))
    }
}

/// The hard `RLIMIT_RTTIME` of a process, 0 for this one.
fn limit_of(pid: i32) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: nothing is set (null) and `limit` is a valid rlimit for the call to fill.
    let r = unsafe { libc::prlimit(pid, libc::RLIMIT_RTTIME, std::ptr::null(), &raw mut limit) };
    (r == 0).then_some(limit.rlim_max)
}

/// The children of this process, zombies and adopted ones included.
///
/// The kernel promises a complete list only while no child goes away: the callers reap none meanwhile, and a
/// child that is adopted later comes at the list's end.
pub(super) fn children() -> io::Result<Vec<i32>> {
    let mut all = vec![];
    for thread in fs::read_dir("/proc/self/task")? {
        // A thread may end while the folder is read.
        let Ok(list) = fs::read_to_string(thread?.path().join("children")) else { continue };
        all.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn children_are_listed_until_they_are_reaped() {
        let mut child = Command::new("sleep").arg("5").stdout(Stdio::null()).spawn().unwrap();
        let pid = child.id() as i32;
        assert!(children().unwrap().contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children().unwrap().contains(&pid));
    }

    #[test]
    fn an_unmarked_process_belongs_to_no_job() {
        assert_eq!(Marks::new().job_of(1), None);
        assert_eq!(Marks::new().job_of(std::process::id() as i32), None);
    }
}
