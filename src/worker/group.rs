//! One job inside the helper: its process group, its output, its deadlines, what it has used so far.
//!
//! Signals go to numbers, and numbers are used again; so a group is only signalled while a process of it that
//! the helper has not reaped (its leader, or an orphan it adopted) keeps the number taken.

use super::log::CappedLog;
use super::wire::{Cause, Ended, Job, JobId};
use crate::time::Span;
use std::fs::File;
use std::os::fd::OwnedFd;

/// A job whose processes have not all ended.
pub(super) struct Group {
    pub(super) id: JobId,
    /// Pid of the leader, number of the group.
    number: i32,
    leader: Leader,
    cause: Cause,
    /// When something is due: SIGTERM before a cause is known, SIGKILL after.
    due: Option<Span>,
    grace: Span,
    started: Span,
    used: Used,
    log: CappedLog,
    output: File,
    /// Held so that the pipe never reports its end: a job's end is told by its processes, and one event per
    /// job is saved.
    _input: OwnedFd,
}

#[derive(Clone, Copy)]
enum Leader {
    Alive,
    Ended { status: i32, at: Span },
}

/// Sums over the reaped processes of the group; the kernel adds to each those it waited for itself.
#[derive(Clone, Copy, Default)]
struct Used {
    cpu: Span,
    peak_memory_bytes: u64,
    read_bytes: u64,
    write_bytes: u64,
}

/// The unit of `ru_inblock` and `ru_oublock`.
const BLOCK_BYTES: u64 = 512;

impl Group {
    pub(super) fn new(
        id: JobId,
        job: Job,
        number: i32,
        started: Span,
        output: File,
        input: OwnedFd,
    ) -> Group {
        Group {
            id,
            number,
            leader: Leader::Alive,
            cause: Cause::Itself,
            due: job.time_limit.map(|limit| started + limit),
            grace: job.grace,
            started,
            used: Used::default(),
            log: CappedLog::new(job.log, job.log_cap_bytes),
            output,
            _input: input,
        }
    }

    pub(super) fn number(&self) -> i32 {
        self.number
    }

    pub(super) fn due(&self) -> Option<Span> {
        self.due
    }

    /// Whether leftovers are to be ended at once. Not while they have their grace: a leader may die of its
    /// SIGTERM before those it started have cleaned up.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.leader, Leader::Ended { .. }) && self.due.is_none()
    }

    /// Whether the leader ended, however its group does.
    pub(super) fn has_lost_leader(&self) -> bool {
        matches!(self.leader, Leader::Ended { .. })
    }

    /// What was due is: the time limit, or the end of the grace.
    pub(super) fn fire(&mut self, now: Span, kin: &[i32]) {
        self.due = None;
        if self.cause == Cause::Itself {
            self.cause = Cause::TimeLimit;
            self.terminate(now, self.grace);
        } else {
            self.kill(kin);
        }
    }

    /// Somebody wants it ended. A second request can shorten the first one's grace, not lengthen it.
    pub(super) fn ask_to_end(&mut self, now: Span, grace: Span) {
        match (self.cause, self.due) {
            (Cause::Itself, _) if !self.has_lost_leader() => {
                self.cause = Cause::Request;
                self.terminate(now, grace);
            }
            (Cause::TimeLimit | Cause::Request, Some(due)) => self.due = Some(due.min(now + grace)),
            // It is being killed already.
            _ => {}
        }
    }

    fn terminate(&mut self, now: Span, grace: Span) {
        self.signal_group(libc::SIGTERM);
        // A stopped process takes its SIGTERM when it is continued.
        self.signal_group(libc::SIGCONT);
        self.due = Some(now + grace);
    }

    /// Ends what is left of it. `kin` are unreaped children of the helper that belong to the job.
    pub(super) fn kill(&self, kin: &[i32]) {
        if !self.has_lost_leader() || kin.iter().any(|pid| group_of(*pid) == Some(self.number)) {
            self.signal_group(libc::SIGKILL);
        }
        for pid in kin {
            signal(*pid, libc::SIGKILL);
        }
    }

    fn signal_group(&self, signal_number: i32) {
        signal(-self.number, signal_number);
    }

    /// The leader is a zombie: its number is still its own. What it leaves behind goes with it, unless
    /// somebody else ended it and the grace runs.
    pub(super) fn leader_ends(&mut self) {
        if self.cause == Cause::Itself {
            self.due = None;
            self.signal_group(libc::SIGKILL);
        }
    }

    /// A process of the group was reaped.
    pub(super) fn reaped(&mut self, pid: i32, status: i32, usage: &libc::rusage, now: Span) {
        let time = |t: libc::timeval| Span::from_us(t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64);
        self.used.cpu += time(usage.ru_utime) + time(usage.ru_stime);
        self.used.peak_memory_bytes = self.used.peak_memory_bytes.max(usage.ru_maxrss as u64 * 1024);
        self.used.read_bytes += usage.ru_inblock as u64 * BLOCK_BYTES;
        self.used.write_bytes += usage.ru_oublock as u64 * BLOCK_BYTES;
        if pid == self.number && !self.has_lost_leader() {
            self.leader = Leader::Ended { status, at: now };
        }
    }

    /// Moves output on; returns whether there may be more.
    pub(super) fn pump(&mut self, buffer: &mut [u8]) -> bool {
        self.log.pump(&mut self.output, buffer)
    }

    /// No process of it is left: its last output, and the report.
    pub(super) fn finish(mut self, buffer: &mut [u8]) -> Ended {
        while self.pump(buffer) {}
        let Leader::Ended { status, at } = self.leader else {
            unreachable!("a group ends after its leader: the leader is one of its processes")
        };
        Ended {
            status,
            cause: self.cause,
            started: self.started,
            ended: at,
            cpu: self.used.cpu,
            peak_memory_bytes: self.used.peak_memory_bytes,
            read_bytes: self.used.read_bytes,
            write_bytes: self.used.write_bytes,
            log_bytes: self.log.kept_bytes(),
            log_dropped_bytes: self.log.dropped_bytes(),
        }
    }
}

/// Sends a signal. Who has gone, or belongs to another user, does not get it: nothing to be done about either.
pub(super) fn signal(pid: i32, number: i32) {
    // SAFETY: kill(2) takes no memory.
    unsafe { libc::kill(pid, number) };
}

/// The process group of a process, zombies included.
pub(super) fn group_of(pid: i32) -> Option<i32> {
    // SAFETY: getpgid(2) takes no memory.
    let group = unsafe { libc::getpgid(pid) };
    (group > 0).then_some(group)
}
