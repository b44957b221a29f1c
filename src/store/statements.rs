//! The statements that change the record, and what their errors mean.

use super::{Error, is_corrupt};
use rusqlite::{CachedStatement, Connection, ToSql};
use std::path::Path;
use std::sync::Arc;

/// The statements, by what they do.
#[derive(Clone, Copy)]
pub(super) enum Sql {
    AddTask,
    AddState,
    AddKey,
    AddDone,
    Start,
    Finish,
    ReadState,
    WriteState,
    ReadTask,
    WritePriority,
    PrevOutcome,
    ForgetTask,
    ForgetState,
    ForgetKey,
    ForgetDone,
    WriteMeta,
    ReadMeta,
    WriteKept,
    ForgetKept,
}

const STATEMENTS: [&str; 19] = [
    "INSERT INTO task VALUES(?1,?2,?3,?4,?5,?6)",
    "INSERT INTO state VALUES(?1,?2,?3,?4,?5,?6,?7,NULL,?8)",
    "INSERT INTO key VALUES(?1,?2,?3,?4)",
    "INSERT INTO done VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9)",
    // `seq IS NULL`: not reopened. A reopened task keeps its old outcome's number, which the seal covers, so
    // its row has to be read first.
    "UPDATE state SET state=3,attempt=?2,worker=?3,started=?4,not_before=NULL,note=NULL,crc=?5
       WHERE id=?1 AND state<4 AND attempt<?2 AND seq IS NULL",
    "UPDATE state SET state=?2,attempt=?3,worker=NULL,started=NULL,not_before=NULL,note=NULL,seq=?4,crc=?5
       WHERE id=?1 AND state<4 AND seq IS NULL",
    "SELECT state,attempt,worker,started,not_before,note,seq,crc FROM state WHERE id=?1",
    "UPDATE state SET state=?2,attempt=?3,worker=?4,started=?5,not_before=?6,note=?7,seq=?8,crc=?9 WHERE id=?1",
    "SELECT type,priority,submitted,body,crc FROM task WHERE id=?1",
    "UPDATE task SET priority=?2,crc=?3 WHERE id=?1",
    "SELECT prev FROM done WHERE seq=?1 AND id=?2",
    "DELETE FROM task WHERE id=?1",
    "DELETE FROM state WHERE id=?1",
    "DELETE FROM key WHERE id=?1",
    "DELETE FROM done WHERE seq=?1 AND id=?2",
    "INSERT OR REPLACE INTO meta VALUES(?1,?2,?3)",
    "SELECT value FROM meta WHERE what=?1",
    "INSERT OR REPLACE INTO kept VALUES(?1,?2,?3,?4,?5)",
    "DELETE FROM kept WHERE key=?1",
];

/// Rows of `meta`.
#[derive(Clone, Copy, Debug)]
#[repr(i64)]
pub(super) enum Meta {
    /// How often the record was opened.
    Epoch = 1,
    /// The same again, so that one bad row does not lose it.
    EpochAgain = 2,
    /// No task has, or had, a greater id than this or than those in `state`.
    LastId = 3,
    /// No outcome has, or had, a greater number than this or than those in `done`.
    LastSeq = 4,
}

/// Statements that this transaction has used.
pub(super) type Ready<'c> = [Option<CachedStatement<'c>>; STATEMENTS.len()];

/// The statement, prepared at most once a transaction (and mostly taken from the connection's cache).
pub(super) fn ready<'a, 'c>(
    all: &'a mut Ready<'c>,
    conn: &'c Connection,
    sql: Sql,
) -> rusqlite::Result<&'a mut CachedStatement<'c>> {
    let slot = &mut all[sql as usize];
    Ok(match slot {
        Some(s) => s,
        None => slot.insert(conn.prepare_cached(STATEMENTS[sql as usize])?),
    })
}

/// Binds, runs; how many rows were changed.
pub(super) fn execute<'c>(
    all: &mut Ready<'c>,
    conn: &'c Connection,
    sql: Sql,
    cells: &[&dyn ToSql],
) -> rusqlite::Result<usize> {
    let s = ready(all, conn, sql)?;
    for (i, cell) in cells.iter().enumerate() {
        s.raw_bind_parameter(i + 1, cell)?;
    }
    s.raw_execute()
}

/// What an error inside a transaction means: a full disk is survivable, damage and I/O errors are not.
pub(super) fn failed(path: &Path, e: rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::Full { path: path.to_owned() },
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => fatal(path, &e),
        _ if is_corrupt(&e) => fatal(path, &e),
        _ => Error::Sql { doing: "write to", path: path.to_owned(), error: Arc::new(e) },
    }
}

pub(super) fn fatal(path: &Path, e: &dyn std::fmt::Display) -> Error {
    Error::Fatal { path: path.to_owned(), detail: e.to_string().into() }
}
