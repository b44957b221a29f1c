//! Landlock: a child that can write only beneath the places its type names.
//!
//! Landlock is an allow-list, so only writing is ruled (reading and executing stay as they are): everything
//! that makes, changes or removes a file is refused except beneath the places given. `/dev/null` stays
//! writable, because half of all programs open it.

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

// From linux/landlock.h, which libc does not carry.
const WRITE_FILE: u64 = 1 << 1;
/// Remove and make entries of every kind: bits 4 to 12.
const CHANGE_FOLDER: u64 = 0x1ff0;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;

#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
}

#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// A ruleset that allows writing beneath `writable` only. Each place must exist.
///
/// # Errors
/// The place that could not be opened; or that the kernel has no Landlock, or one too old to rule truncation
/// (before Linux 6.2): a promise that is kept by half is refused.
pub(super) fn ruleset(writable: &[PathBuf]) -> io::Result<OwnedFd> {
    // SAFETY: with this flag the call takes no attribute, and returns the version.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttr>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    };
    if abi < 3 {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel's Landlock is too old (Linux 6.2 is needed)",
        ));
    }
    let handled = WRITE_FILE | CHANGE_FOLDER | REFER | TRUNCATE;
    let attr = RulesetAttr { handled_access_fs: handled };
    // SAFETY: `attr` is valid for the size given; only the first field of the kernel's struct is passed.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attr, size_of::<RulesetAttr>(), 0u32)
    })?;
    // SAFETY: the call above just made this descriptor, nobody else has it.
    let rules = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    for place in writable {
        allow(&rules, place, handled)?;
    }
    allow(&rules, Path::new("/dev/null"), handled)?;
    Ok(rules)
}

fn allow(rules: &OwnedFd, place: &Path, handled: u64) -> io::Result<()> {
    let at = |e: io::Error| io::Error::new(e.kind(), format!("writable {}: {e}", place.display()));
    let opened =
        rustix::fs::open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|e| at(e.into()))?;
    let kind = rustix::fs::fstat(&opened).map_err(|e| at(e.into()))?.st_mode & libc::S_IFMT;
    let allowed_access = if kind == libc::S_IFDIR { handled } else { WRITE_FILE | TRUNCATE };
    let attr = PathBeneathAttr { allowed_access, parent_fd: opened.as_raw_fd() };
    // SAFETY: `attr` is laid out as the kernel's packed struct and outlives the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            rules.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const attr,
            0u32,
        )
    })
    .map_err(at)?;
    Ok(())
}

fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
