//! What can go wrong between a source and a file in a pool, and whether it is worth another try.

use crate::flow::ObjectName;

/// Why an object could not be had, or could not be published. The text names the object and the reason; it
/// never holds a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The source has no object of that name.
    #[error("{object} does not exist in its source")]
    Missing {
        /// Which object.
        object: ObjectName,
    },
    /// The source does not let us read or write it, or a symbolic link leads out of its root.
    #[error("{object}: access denied: {reason}")]
    Denied {
        /// Which object.
        object: ObjectName,
        /// What the source said.
        reason: String,
    },
    /// No answer, a broken connection, or an answer that says "later" (408, 425, 429, 5xx).
    #[error("{object}: its source cannot be reached: {reason}")]
    Unreachable {
        /// Which object.
        object: ObjectName,
        /// What the network or the server said.
        reason: String,
    },
    /// The transfer ended before the announced length.
    #[error("{object} broke off after {got_bytes} of {expected_bytes} bytes: {reason}")]
    Truncated {
        /// Which object.
        object: ObjectName,
        /// The announced length.
        expected_bytes: u64,
        /// What had arrived.
        got_bytes: u64,
        /// What the network or the server said.
        reason: String,
    },
    /// It is longer than what was announced, or than the room that was set aside for it.
    #[error("{object} has {bytes} bytes or more, and only {limit_bytes} were expected")]
    TooLong {
        /// Which object.
        object: ObjectName,
        /// Its length, as far as it is known.
        bytes: u64,
        /// What was expected.
        limit_bytes: u64,
    },
    /// It is no longer the version that was asked for, or it changed while it was read.
    #[error("{object} changed while it was transferred")]
    Changed {
        /// Which object.
        object: ObjectName,
    },
    /// Its content has not the declared SHA-256.
    #[error("{object} has SHA-256 {found}, declared is {declared}")]
    Corrupt {
        /// Which object.
        object: ObjectName,
        /// The declared sum, hexadecimal.
        declared: String,
        /// The sum of what arrived, hexadecimal.
        found: String,
    },
    /// The file system of the pool, or of the source it was published to, is full or over quota.
    #[error("{object}: no space left at {path}")]
    DiskFull {
        /// Which object.
        object: ObjectName,
        /// The file that could not grow.
        path: String,
    },
    /// Another error of a local file.
    #[error("{object}: {path}: {reason}")]
    Disk {
        /// Which object.
        object: ObjectName,
        /// Which file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// A name that no source can hold.
    #[error("{object} is not a usable name: {reason}")]
    BadName {
        /// Which object.
        object: ObjectName,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The source is not declared `writable`.
    #[error("{object}: its source is not declared writable")]
    ReadOnly {
        /// Which object.
        object: ObjectName,
    },
    /// The server does not serve parts of objects, so neither resume nor parallel ranges are possible.
    #[error("{object}: its server ignores Range requests")]
    NoRanges {
        /// Which object.
        object: ObjectName,
    },
    /// The source answered with something that another try will not change.
    #[error("{object}: refused by its source: {reason}")]
    Refused {
        /// Which object.
        object: ObjectName,
        /// What the server said.
        reason: String,
    },
    /// The pool has no room for it now.
    #[error("{object}: no room in the cache: {reason}")]
    NoRoom {
        /// Which object.
        object: ObjectName,
        /// What the cache said.
        reason: String,
    },
    /// A setting of the source cannot be used.
    #[error("source {source_name}: {key}: {reason}")]
    Setting {
        /// The source's name.
        source_name: String,
        /// Which key.
        key: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
    /// The transfer was stopped on request.
    #[error("{object}: the transfer was stopped")]
    Stopped {
        /// Which object.
        object: ObjectName,
    },
}

impl Error {
    /// A short stable word, for counters and for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Missing { .. } => "missing",
            Error::Denied { .. } => "denied",
            Error::Unreachable { .. } => "unreachable",
            Error::Truncated { .. } => "truncated",
            Error::TooLong { .. } => "too_long",
            Error::Changed { .. } => "changed",
            Error::Corrupt { .. } => "corrupt",
            Error::DiskFull { .. } => "disk_full",
            Error::Disk { .. } => "disk",
            Error::BadName { .. } => "bad_name",
            Error::ReadOnly { .. } => "read_only",
            Error::NoRanges { .. } => "no_ranges",
            Error::Refused { .. } => "refused",
            Error::NoRoom { .. } => "no_room",
            Error::Setting { .. } => "setting",
            Error::Stopped { .. } => "stopped",
        }
    }

    /// Whether the same request may succeed a little later without anybody's help.
    pub fn is_worth_retry(&self) -> bool {
        matches!(
            self,
            Error::Unreachable { .. }
                | Error::Truncated { .. }
                | Error::Changed { .. }
                | Error::Corrupt { .. }
                | Error::NoRanges { .. }
        )
    }

    /// Whether the bytes that arrived before this error are good, so that the rest can be asked for.
    pub fn keeps_partial(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::Truncated { .. } | Error::Stopped { .. })
    }

    /// Whether the source itself seems to be down, not only this object.
    pub fn is_about_source(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::Truncated { .. })
    }

    /// From an error of a local file: full disks and quotas are told apart, because making room helps there.
    pub fn from_disk(object: &ObjectName, path: &std::path::Path, error: &std::io::Error) -> Error {
        let (object, path) = (object.clone(), path.display().to_string());
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Error::DiskFull { object, path }
            }
            _ => Error::Disk { object, path, reason: error.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disks_and_quotas_are_told_from_other_file_errors() {
        let object = ObjectName::new("s:a");
        for (code, expected) in [(28, "disk_full"), (122, "disk_full"), (13, "disk"), (5, "disk")] {
            let io = std::io::Error::from_raw_os_error(code);
            assert_eq!(Error::from_disk(&object, std::path::Path::new("/x"), &io).code(), expected, "{io}");
        }
    }

    #[test]
    fn texts_name_object_and_reason() {
        let e = Error::Truncated {
            object: ObjectName::new("vols:a/b"),
            expected_bytes: 10,
            got_bytes: 4,
            reason: "connection reset".into(),
        };
        assert_eq!(e.to_string(), "vols:a/b broke off after 4 of 10 bytes: connection reset");
        assert!(e.is_worth_retry() && e.keeps_partial());
    }
}
