//! Everything on disk but staged files.
//!
//! Two stores, because two kinds of things are kept:
//!
//! - [`Record`]: the **record of tasks**, which must not lose what was acknowledged: SQLite with a write-ahead
//!   log, one writer, group commit, a CRC32C in every row. Changes go in by [`Record`], lists come out by [`Reader`].
//! - [`state`]: what can be **rebuilt** (profiles, predictor snapshots, cache indices, series): sled. It is
//!   allowed to be lost; it is not allowed to stop the daemon.
//!
//! Nothing here knows what a task is or what a profile holds: bodies and values are opaque. In the order in
//! which a change meets them: `record` (rows), `writer` and `group` (who commits when), `apply` and `statements` (rows into SQL), `tasks`
//! (one connection), `wal` (what SQLite does not tell about its log), `rows`, `load` and `reader` (out again),
//! `open`, `check`, `salvage` and `upgrade` (when it is not as it should be).

mod apply;
pub mod bench;
pub mod check;
mod checkpoint;
pub mod damage;
pub mod floor;
mod group;
mod load;
mod log_file;
pub mod open;
pub mod reader;
pub mod record;
mod rows;
mod salvage;
pub mod state;
mod statements;
mod tasks;
#[cfg(test)]
mod tests;
pub mod upgrade;
pub mod wal;
pub mod writer;

pub use damage::{Damage, Place};
pub use open::{Durability, Loaded, Opened, Options};
pub use reader::{Counts, Filter, Page, Reader, Stored};
pub use record::{Change, Done, DoneState, Kind, Live, LiveState, TaskRow};
pub use writer::{Completion, Gauge, Record};

use crate::flow::TaskId;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What can go wrong on disk. Cheap to clone, because one failed commit is told to everybody who waited.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("{doing} {}: {error}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        error: Arc<std::io::Error>,
    },
    /// SQLite refused; nothing of the change is on record.
    #[error("{doing} {}: {error}", path.display())]
    Sql {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What SQLite said.
        error: Arc<rusqlite::Error>,
    },
    /// A commit failed in a way that leaves open what is on disk: stop, start again, read what is there.
    #[error("commit to {} failed: {detail}; what is on disk is known only after a restart", path.display())]
    Fatal {
        /// The record.
        path: PathBuf,
        /// What SQLite or the system said.
        detail: Arc<str>,
    },
    /// The file system is full; nothing of the change is on record, and later changes may succeed.
    #[error("no space left for {}", path.display())]
    Full {
        /// The record.
        path: PathBuf,
    },
    /// The change does not fit what is on record. A mistake of the caller; the record is as before.
    #[error("{change} of task {id} refused: {why}")]
    Refused {
        /// Which change.
        change: &'static str,
        /// Of which task.
        id: TaskId,
        /// Why.
        why: &'static str,
    },
    /// Not a forestage record, or damaged where nothing can be read without it.
    #[error("{} cannot be read as a task record: {detail}; restore a backup, or move it away to start afresh", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: Arc<str>,
    },
    /// Written by a later version of forestage.
    #[error("{} has layout {found}, this forestage knows up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Layout found.
        found: i64,
        /// Newest layout known.
        known: i64,
    },
    /// The writer has stopped.
    #[error("the task record is closed")]
    Closed,
    /// The state store failed or panicked; open it again to have it set aside and rebuilt.
    #[error("state store {}: {detail}", path.display())]
    State {
        /// Its folder.
        path: PathBuf,
        /// What was said.
        detail: Arc<str>,
    },
}

impl Error {
    /// Whether the record must not be used again before a restart.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Error::Fatal { .. })
    }

    fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        move |error| Error::Io { doing, path: path.to_owned(), error: Arc::new(error) }
    }
    fn sql(doing: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> Error {
        move |error| Error::Sql { doing, path: path.to_owned(), error: Arc::new(error) }
    }
}

/// Whether SQLite means that the file's structure is damaged.
fn is_corrupt(e: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(e.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
        // A value of another type than was written is damage too.
        || matches!(
            e,
            rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::Utf8Error(..)
        )
}

/// Makes a name in `dir` durable: created, renamed or removed.
fn sync_dir(dir: &Path) -> Result<(), Error> {
    std::fs::File::open(dir).and_then(|d| d.sync_all()).map_err(Error::io("sync folder", dir))
}
