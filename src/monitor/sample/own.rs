//! What this process itself uses, and where it is.

use crate::time::{Span, Time};

/// Processor time and largest resident set of this process.
pub(super) fn usage() -> (Span, u64) {
    // SAFETY: `rusage` is a plain struct of integers, for which all zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live `rusage` of ours, which the call fills and does not keep.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) } != 0 {
        return (Span::ZERO, 0);
    }
    let time = |t: libc::timeval| Span::from_s(t.tv_sec as f64) + Span::from_us(t.tv_usec.unsigned_abs());
    (time(usage.ru_utime) + time(usage.ru_stime), usage.ru_maxrss.unsigned_abs() * 1024)
}

/// Processor time of the calling thread: what a round of sampling costs is its growth over the round.
pub fn thread_cpu() -> Span {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live `timespec` of ours, which the call fills and does not keep.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0 {
        return Span::ZERO;
    }
    Span::from_s(time.tv_sec as f64) + Span::from_us(time.tv_nsec.unsigned_abs() / 1_000)
}

/// Seconds east of UTC of this machine's time zone at a moment, for `draw::Zone`.
pub fn utc_offset_s(at: Time) -> i32 {
    let seconds = (at.as_us() / 1_000_000) as libc::time_t;
    // SAFETY: `tm` is a plain struct; its pointer field may be null.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of ours; the call fills `local` and keeps neither.
    let filled = unsafe { libc::localtime_r(&raw const seconds, &raw mut local) };
    if filled.is_null() { 0 } else { i32::try_from(local.tm_gmtoff).unwrap_or(0) }
}
