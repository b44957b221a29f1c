//! What was found damaged, and where.

use super::record::Table;
use std::fmt;
use std::path::PathBuf;

/// Something on disk that is not as it was written.
///
/// Damage is reported, never guessed around: what could be read is used, what could not is set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub place: Place,
    /// What is wrong and what was done about it, in words.
    pub what: String,
}

/// Where damage was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One row of the record; the key is the task's id, for `done` the sequence number.
    Row {
        /// The table.
        table: Table,
        /// The row's key.
        key: i64,
    },
    /// Rows that cannot be reached: `after < key <= until`, to the table's end if `until` is `i64::MAX`.
    Rows {
        /// The table.
        table: Table,
        /// Last key that could be read before them.
        after: i64,
        /// Last key that could not be read.
        until: i64,
    },
    /// A frame of the write-ahead log, counted from 1; 0 is its header.
    Frame(u32),
    /// The file as a whole.
    File,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match self.place {
            Place::Row { table, key } => write!(f, "{file}, {} {key}: {}", table.name(), self.what),
            Place::Rows { table, after, until: i64::MAX } => {
                write!(f, "{file}, {} after {after}: {}", table.name(), self.what)
            }
            Place::Rows { table, after, until } => {
                write!(f, "{file}, {} {}..={until}: {}", table.name(), after + 1, self.what)
            }
            Place::Frame(frame) => write!(f, "{file}, frame {frame}: {}", self.what),
            Place::File => write!(f, "{file}: {}", self.what),
        }
    }
}
