//! What the spawn helper waits for: epoll(7), with a timeout on the kernel's monotonic clock.

use super::wire::monotonic;
use crate::time::Span;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// A system call's result, negative for an error.
pub(super) fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Descriptors to wait for, each with a number of the caller's.
pub(super) struct Events {
    epoll: OwnedFd,
}

impl Events {
    pub(super) fn new() -> io::Result<Events> {
        // SAFETY: the call takes no memory, and the descriptor it makes is ours alone.
        let epoll = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Events { epoll })
    }

    /// Watches for bytes to read; ends when the descriptor is closed.
    pub(super) fn watch(&self, token: u64, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, libc::EPOLLIN, token, fd)
    }

    /// Watches for room to write as well, or no longer.
    pub(super) fn watch_writable(&self, token: u64, fd: RawFd, writable: bool) -> io::Result<()> {
        let what = if writable { libc::EPOLLIN | libc::EPOLLOUT } else { libc::EPOLLIN };
        self.control(libc::EPOLL_CTL_MOD, what, token, fd)
    }

    fn control(&self, how: i32, what: i32, token: u64, fd: RawFd) -> io::Result<()> {
        let mut event = libc::epoll_event { events: what as u32, u64: token };
        // SAFETY: the event is valid and only read.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), how, fd, &raw mut event) }).map(drop)
    }

    /// Waits for events, until a moment at the latest.
    pub(super) fn wait(&self, until: Option<Span>) -> io::Result<Vec<u64>> {
        let timeout_ms = until.map_or(-1, |at| {
            let left_us = at.as_us().saturating_sub(monotonic().as_us());
            i32::try_from(left_us.div_ceil(1_000)).unwrap_or(i32::MAX)
        });
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        // SAFETY: the array is as long as the call is told.
        let n = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), 64, timeout_ms) };
        match check(n) {
            Ok(n) => Ok(events[..n as usize].iter().map(|e| e.u64).collect()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(vec![]),
            Err(e) => Err(e),
        }
    }
}
