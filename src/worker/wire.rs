//! What the daemon and its spawn helper say to each other.
//!
//! A frame is a length (4 bytes, little-endian) and that many bytes of JSON. Both ends are the same binary, so
//! there is no version; a frame that does not parse means that one of them is broken, and ends the talk.

use crate::time::Span;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;

/// A child to run, numbered by the daemon; never used twice within one daemon process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

/// What to run, and within which bounds: plain data, complete; nothing is inherited from the daemon.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The program and its arguments, never through a shell. A program without a slash is looked for in the
    /// `PATH` of `env`, else in `/usr/local/bin:/usr/bin:/bin`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// The folder it starts in; must exist.
    pub cwd: PathBuf,
    /// Where its standard output and error go, in the order in which they were written. The file is made at
    /// the first byte: a child that says nothing leaves none.
    pub log: PathBuf,
    /// How many bytes of output are kept; what follows is dropped and a line says so.
    pub log_cap_bytes: u64,
    /// How long it may run before its group gets SIGTERM.
    pub time_limit: Option<Span>,
    /// How long after SIGTERM its group gets SIGKILL.
    pub grace: Span,
    /// What it may use.
    pub bounds: Bounds,
}

/// What a child may use; the default bounds nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bounds {
    /// Nice value to set, −20..=19.
    pub nice: Option<i8>,
    /// Level in the best-effort class of disk priorities, 0 (first) to 7.
    pub io_level: Option<u8>,
    /// Processors it may run on; empty means all.
    pub cpus: Vec<u16>,
    /// Resource limits, soft and hard alike.
    pub rlimits: Vec<(Rlimit, u64)>,
    /// A cgroup folder to join.
    pub cgroup: Option<PathBuf>,
    /// Whom to run as; needs root.
    pub user: Option<User>,
    /// Folders that look read-only to the child, by a private mount namespace; needs root.
    pub read_only: Vec<PathBuf>,
    /// If given, the only places beneath which the child can write (Landlock), besides `/dev/null`.
    pub writable: Option<Vec<PathBuf>>,
}

/// A resource limit by its usual name; the unit is bytes, seconds or a count, as for setrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rlimit {
    /// RLIMIT_AS.
    AddressSpace,
    /// RLIMIT_DATA.
    Data,
    /// RLIMIT_FSIZE.
    FileSize,
    /// RLIMIT_NOFILE.
    OpenFiles,
    /// RLIMIT_NPROC.
    Processes,
    /// RLIMIT_CORE.
    Core,
    /// RLIMIT_CPU.
    CpuSeconds,
}

/// A user to switch to, already looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// From the daemon to the helper.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Request {
    Spawn { id: JobId, job: Box<Job> },
    Kill { id: JobId, grace: Span },
}

/// From the helper to the daemon. Moments are on the kernel's monotonic clock, see [`monotonic`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Report {
    Started { id: JobId, pid: i32 },
    NotStarted { id: JobId, error: String },
    Ended { id: JobId, ended: Ended },
}

/// How a child that ran ended, and what its whole process group used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
    /// As wait(2) reports it.
    pub(super) status: i32,
    pub(super) cause: Cause,
    pub(super) started: Span,
    pub(super) ended: Span,
    pub(super) cpu: Span,
    pub(super) peak_memory_bytes: u64,
    pub(super) read_bytes: u64,
    pub(super) write_bytes: u64,
    pub(super) log_bytes: u64,
    pub(super) log_dropped_bytes: u64,
}

/// Who ended a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Cause {
    Itself,
    TimeLimit,
    Request,
}

/// The kernel's monotonic clock, which both processes share: the helper has no [`crate::time::Clock`], and its
/// moments are only ever compared with each other or shifted by the difference that the daemon measured.
pub(super) fn monotonic() -> Span {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec for the call to fill; this clock always exists on Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut t) };
    Span::from_us(t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1_000)
}

/// Longest frame. execve(2) takes about 2 MiB of arguments and environment; JSON may grow that sixfold.
const LONGEST_FRAME: usize = 16 << 20;

/// Appends one message to `out` as a frame; leaves `out` as it was if that cannot be done.
pub(super) fn append(out: &mut Vec<u8>, message: &impl Serialize) -> io::Result<()> {
    let start = out.len();
    out.extend([0; 4]);
    let written = serde_json::to_writer(&mut *out, message).map_err(io::Error::from);
    let len = out.len() - start - 4;
    let fits = if len <= LONGEST_FRAME { Ok(()) } else { Err(io::ErrorKind::ArgumentListTooLong.into()) };
    if let Err(e) = written.and(fits) {
        out.truncate(start);
        return Err(e);
    }
    out[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
    Ok(())
}

/// How much is read at once.
pub(super) const READ_BYTES: usize = 64 << 10;

/// Bytes received so far, given out as messages.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    read: usize,
}

impl Inbox {
    /// Where to append what arrives, with room for it.
    pub(super) fn space(&mut self) -> &mut Vec<u8> {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.reserve(READ_BYTES);
        &mut self.bytes
    }

    /// The next whole message, if there is one; an error means that the other end is broken.
    pub(super) fn next<M: DeserializeOwned>(&mut self) -> io::Result<Option<M>> {
        let rest = &self.bytes[self.read..];
        let Some((head, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*head) as usize;
        if len > LONGEST_FRAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("frame of {len} bytes")));
        }
        let Some(body) = rest.get(..len) else { return Ok(None) };
        self.read += 4 + len;
        serde_json::from_slice(body).map(Some).map_err(io::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job {
            argv: vec!["cp".into(), "a b\n\"".into(), String::new()],
            env: vec![("K".into(), "ü=1".into())],
            time_limit: Some(Span::from_secs(3)),
            bounds: Bounds { rlimits: vec![(Rlimit::OpenFiles, 64)], nice: Some(-3), ..Bounds::default() },
            ..Job::default()
        }
    }

    #[test]
    fn messages_arrive_whole_however_they_are_cut() {
        let sent = [
            Request::Spawn { id: JobId(1), job: Box::new(job()) },
            Request::Kill { id: JobId(1), grace: Span::ZERO },
        ];
        let mut bytes = vec![];
        sent.iter().for_each(|m| append(&mut bytes, m).unwrap());
        for piece in [1, 2, 3, 7, 64, bytes.len()] {
            let (mut inbox, mut got) = (Inbox::default(), vec![]);
            for part in bytes.chunks(piece) {
                inbox.space().extend(part);
                while let Some(m) = inbox.next::<Request>().unwrap() {
                    got.push(m);
                }
            }
            assert_eq!(got, sent);
        }
    }

    #[test]
    fn a_broken_peer_is_an_error_and_never_a_panic() {
        for bytes in [&[255, 255, 255, 255, 0][..], &[2, 0, 0, 0, b'{', b'x']] {
            let mut inbox = Inbox::default();
            inbox.space().extend(bytes);
            assert!(inbox.next::<Request>().is_err());
        }
    }

    #[test]
    fn a_message_that_cannot_be_sent_leaves_the_buffer_as_it_was() {
        let mut out = b"before".to_vec();
        let too_long = Job { argv: vec!["x".repeat(LONGEST_FRAME)], ..Job::default() };
        assert!(append(&mut out, &too_long).is_err());
        use std::os::unix::ffi::OsStringExt;
        let no_text = Job { cwd: std::ffi::OsString::from_vec(vec![255]).into(), ..Job::default() };
        assert!(append(&mut out, &no_text).is_err());
        assert_eq!(out, b"before");
    }
}
