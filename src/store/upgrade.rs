//! The record's layout, its version, and the way from older ones.
//!
//! `PRAGMA user_version` holds the layout's number. Every step from one number to the next is a function in
//! `STEPS`, run in one transaction; a fixture of each old layout is kept with the tests.

use super::{Error, is_corrupt};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;

/// The layout this version writes.
pub const VERSION: i64 = 2;

/// `application_id` of a task record: "fstg".
const APPLICATION: i64 = 0x6673_7467;

/// Step `i` leads from layout `i` to `i + 1`; layout 0 is an empty file.
const STEPS: [fn(&Connection) -> rusqlite::Result<()>; VERSION as usize] = [create, keep];

/// Layout 1. Why it looks like this:
///
/// - `task` is written once and read at a restart; `state` is what changes, a few bytes a task, so that
///   starts and ends in any order touch few pages.
/// - `state` keeps a row for a finished task too, pointing at its outcome: an update costs what a delete
///   costs, and outcomes can then be keyed by sequence number, which makes them an append, makes retention
///   a matter of the first rows, and replays learning without an index.
/// - Keys are unique in memory, not by an index here; they have a table of their own, because a restart needs
///   those of finished tasks too, without reading their bodies.
/// - One partial index, on what is looked for among a million others: failures by type.
fn create(c: &Connection) -> rusqlite::Result<()> {
    c.execute_batch(&format!(
        "CREATE TABLE task(id INTEGER PRIMARY KEY, type TEXT, priority INTEGER, submitted INTEGER, body BLOB, crc INTEGER);
         CREATE TABLE state(id INTEGER PRIMARY KEY, state INTEGER, attempt INTEGER, worker TEXT, started INTEGER,
                            not_before INTEGER, note TEXT, seq INTEGER, crc INTEGER);
         CREATE TABLE done(seq INTEGER PRIMARY KEY, id INTEGER, type TEXT, state INTEGER, ended INTEGER,
                           attempts INTEGER, prev INTEGER, outcome BLOB, crc INTEGER);
         CREATE INDEX failed ON done(type, seq) WHERE state = 5;
         CREATE TABLE key(id INTEGER PRIMARY KEY, type TEXT, key TEXT, crc INTEGER);
         CREATE TABLE meta(what INTEGER PRIMARY KEY, value INTEGER, crc INTEGER);
         PRAGMA application_id = {APPLICATION};"
    ))
}

/// Layout 2: a table for what is kept beside the tasks, group settings and recurring tasks. They change
/// rarely and are read whole at a start; the tasks' own rows stay as they are.
fn keep(c: &Connection) -> rusqlite::Result<()> {
    c.execute_batch(
        "CREATE TABLE kept(key INTEGER PRIMARY KEY, kind INTEGER, name TEXT, body BLOB, crc INTEGER);",
    )
}

/// Brings the record at `path` to [`VERSION`].
///
/// # Errors
/// [`Error::Newer`] if a later version wrote it, [`Error::Unreadable`] if it is no record at all.
pub(super) fn upgrade(c: &mut Connection, path: &Path) -> Result<(), Error> {
    let unreadable = |e: rusqlite::Error| match is_corrupt(&e) {
        true => Error::Unreadable { path: path.to_owned(), detail: e.to_string().into() },
        false => Error::Sql { doing: "read layout of", path: path.to_owned(), error: Arc::new(e) },
    };
    let pragma =
        |c: &Connection, name: &str| c.query_row(&format!("PRAGMA {name}"), [], |r| r.get::<_, i64>(0));
    let found = pragma(c, "user_version").map_err(unreadable)?;
    let tables: i64 =
        c.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).map_err(unreadable)?;
    if found > VERSION {
        return Err(Error::Newer { path: path.to_owned(), found, known: VERSION });
    }
    let ours = pragma(c, "application_id").map_err(unreadable)? == APPLICATION;
    if found < 0 || (found == 0) != (tables == 0) || (tables > 0 && !ours) {
        let detail = "it is a database of something else, or its header is damaged".into();
        return Err(Error::Unreadable { path: path.to_owned(), detail });
    }
    for (before, step) in STEPS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        let t = c.transaction().map_err(Error::sql("upgrade", path))?;
        step(&t)
            .and_then(|()| t.execute_batch(&format!("PRAGMA user_version = {}", before + 1)))
            .and_then(|()| t.commit())
            .map_err(Error::sql("upgrade", path))?;
    }
    Ok(())
}
