//! Rows out of the record, checked, as many as can be read.
//!
//! [`walk`] reads one table by rising key. A row whose seal does not fit is reported and left out; a page that
//! cannot be read costs the rows it held, and the walk goes on behind it.

use super::damage::{Damage, Place};
use super::is_corrupt;
use super::record::{DoneCells, DoneState, Live, LiveState, Sealer, StateCells, Table, TaskRow, cell_time};
use crate::flow::TaskId;
use bytes::Bytes;
use rusqlite::{Connection, Row};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What a walk found wrong, and whether the file's structure is damaged, not just rows.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub damage: Vec<Damage>,
    pub structure: bool,
}

/// How many bad rows are reported one by one; a file with more is beyond reading lists.
const REPORT_LIMIT: usize = 1_000;

impl Findings {
    pub fn row(&mut self, file: &Path, table: Table, key: i64, what: impl Into<String>) {
        self.push(Damage { file: file.to_owned(), place: Place::Row { table, key }, what: what.into() });
    }
    pub fn push(&mut self, d: Damage) {
        if self.damage.len() < REPORT_LIMIT {
            self.damage.push(d);
        }
    }
}

/// What a row says is wrong with it; `None` if it is sound.
pub(super) type Verdict = rusqlite::Result<Option<&'static str>>;

pub(super) const BAD_SEAL: &str = "checksum does not fit its content";

/// Columns of each table in the order in which the readers below expect them, key first.
pub(super) fn columns(table: Table) -> &'static str {
    match table {
        Table::Task => "id,type,priority,submitted,body,crc",
        Table::State => "id,state,attempt,worker,started,not_before,note,seq,crc",
        Table::Done => "seq,id,type,state,ended,attempts,prev,outcome,crc",
        Table::Key => "id,type,key,crc",
        Table::Meta => "what,value,crc",
        Table::Kept => "key,kind,name,body,crc",
    }
}

/// Reads `table` by rising key and gives each row to `each`, which checks it.
///
/// # Errors
/// Only what is not damage (I/O, interruption).
pub(super) fn walk(
    conn: &Connection,
    file: &Path,
    table: Table,
    found: &mut Findings,
    each: &mut dyn FnMut(i64, &Row<'_>) -> Verdict,
) -> rusqlite::Result<()> {
    let key = columns(table).split(',').next().unwrap_or_default();
    let sql = format!("SELECT {} FROM {} WHERE {key} > ?1 ORDER BY {key}", columns(table), table.name());
    let mut statement = match conn.prepare(&sql) {
        Ok(s) => s,
        Err(e) if is_corrupt(&e) => {
            found.structure = true;
            let place = Place::Rows { table, after: i64::MIN, until: i64::MAX };
            found.push(Damage { file: file.to_owned(), place, what: e.to_string() });
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    let mut after = i64::MIN;
    loop {
        let stopped = {
            let mut rows = statement.query([after])?;
            stretch(&mut rows, file, table, found, &mut after, each)?
        };
        let Some(why) = stopped else { return Ok(()) };
        found.structure = true;
        let until = behind(&mut statement, after)?;
        found.push(Damage { file: file.to_owned(), place: Place::Rows { table, after, until }, what: why });
        if until == i64::MAX {
            return Ok(());
        }
        after = until;
    }
}

/// Reads rows until the table ends (`None`) or cannot be read on (why).
fn stretch(
    rows: &mut rusqlite::Rows<'_>,
    file: &Path,
    table: Table,
    found: &mut Findings,
    after: &mut i64,
    each: &mut dyn FnMut(i64, &Row<'_>) -> Verdict,
) -> rusqlite::Result<Option<String>> {
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(None),
            Err(e) if is_corrupt(&e) => return Ok(Some(e.to_string())),
            Err(e) => return Err(e),
        };
        let key: i64 = row.get(0)?;
        if key <= *after {
            return Ok(Some(format!("key {key} stands behind key {after}")));
        }
        *after = key;
        match each(key, row) {
            Ok(None) => {}
            Ok(Some(what)) => found.row(file, table, key, what),
            Err(e) if is_corrupt(&e) => found.row(file, table, key, e.to_string()),
            Err(e) => return Err(e),
        }
    }
}

/// The smallest key from which reading works again, given that it failed behind `after`.
fn behind(statement: &mut rusqlite::Statement<'_>, after: i64) -> rusqlite::Result<i64> {
    let mut readable = |from: i64| -> rusqlite::Result<bool> {
        match statement.query([from])?.next() {
            Ok(Some(row)) => Ok(row.get::<_, i64>(0)? > from),
            Ok(None) => Ok(true),
            Err(e) if is_corrupt(&e) => Ok(false),
            Err(e) => Err(e),
        }
    };
    let (mut bad, mut step) = (after, 1_i64);
    let mut good = loop {
        let Some(try_at) = bad.max(0).checked_add(step) else { return Ok(i64::MAX) };
        if readable(try_at)? {
            break try_at;
        }
        bad = try_at;
        step = step.saturating_mul(2);
    };
    while good - bad > 1 {
        let middle = bad + (good - bad) / 2;
        if readable(middle)? { good = middle } else { bad = middle }
    }
    Ok(good)
}

/// Shares one `Arc<str>` among rows that repeat a name.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<Arc<str>, ()>);

impl Names {
    pub fn share(&mut self, name: &str) -> Arc<str> {
        if let Some((shared, ())) = self.0.get_key_value(name) {
            return shared.clone();
        }
        let name: Arc<str> = name.into();
        // Bounded, because what is read from disk could be anything.
        if self.0.len() < 4_096 {
            self.0.insert(name.clone(), ());
        }
        name
    }
}

/// A row of `state`, checked: an unfinished task, or the number of a finished one's outcome.
pub(super) enum Standing {
    Live(Live),
    Finished { seq: i64 },
}

/// Reads columns `at..at + 8` as a row of `state`; `Err` in the inner result says what is wrong with it.
pub(super) fn read_state(
    row: &Row<'_>,
    id: i64,
    at: usize,
    sealer: &mut Sealer,
    names: &mut Names,
) -> rusqlite::Result<Result<Standing, &'static str>> {
    let cells = StateCells {
        state: row.get(at)?,
        attempt: row.get(at + 1)?,
        worker: row.get_ref(at + 2)?.as_str_or_null()?,
        started: row.get(at + 3)?,
        not_before: row.get(at + 4)?,
        note: row.get_ref(at + 5)?.as_str_or_null()?,
        seq: row.get(at + 6)?,
    };
    if sealer.state(id, &cells) != row.get::<_, i64>(at + 7)? {
        return Ok(Err(BAD_SEAL));
    }
    let state = u8::try_from(cells.state).unwrap_or(u8::MAX);
    Ok(match (LiveState::from_u8(state), DoneState::from_u8(state), cells.seq) {
        (Some(state), _, _) => Ok(Standing::Live(Live {
            id: TaskId(id as u64),
            state,
            attempt: u32::try_from(cells.attempt).unwrap_or(u32::MAX),
            worker: cells.worker.map(|w| names.share(w)),
            started: cells.started.map(cell_time),
            not_before: cells.not_before.map(cell_time),
            note: cells.note.map(Arc::from),
        })),
        (None, Some(_), Some(seq)) => Ok(Standing::Finished { seq }),
        _ => Err("it holds a state that does not exist"),
    })
}

/// Reads columns `at..at + 5` as a row of `task`, without its key.
pub(super) fn read_task(
    row: &Row<'_>,
    id: i64,
    at: usize,
    sealer: &mut Sealer,
    names: &mut Names,
) -> rusqlite::Result<Result<TaskRow, &'static str>> {
    let type_name = row.get_ref(at)?.as_str()?;
    let (priority, submitted): (i64, i64) = (row.get(at + 1)?, row.get(at + 2)?);
    let body = row.get_ref(at + 3)?.as_blob()?;
    if sealer.task(id, type_name, priority, submitted, body) != row.get::<_, i64>(at + 4)? {
        return Ok(Err(BAD_SEAL));
    }
    Ok(Ok(TaskRow {
        id: TaskId(id as u64),
        type_name: names.share(type_name),
        priority: u8::try_from(priority).unwrap_or(u8::MAX),
        key: None,
        submitted: cell_time(submitted),
        body: Bytes::copy_from_slice(body),
    }))
}

/// Reads columns `at..at + 8` as a row of `done`.
pub(super) fn read_done<'r>(
    row: &'r Row<'_>,
    seq: i64,
    at: usize,
    sealer: &mut Sealer,
) -> rusqlite::Result<Result<DoneCells<'r>, &'static str>> {
    let cells = DoneCells {
        id: row.get(at)?,
        type_name: row.get_ref(at + 1)?.as_str()?,
        state: row.get(at + 2)?,
        ended: row.get(at + 3)?,
        attempts: row.get(at + 4)?,
        prev: row.get(at + 5)?,
        outcome: row.get_ref(at + 6)?.as_blob()?,
    };
    let sound = sealer.done(seq, &cells) == row.get::<_, i64>(at + 7)?;
    Ok(if sound { Ok(cells) } else { Err(BAD_SEAL) })
}
