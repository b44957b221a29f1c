//! Rows out of the record, as many as can be read.
//!
//! [`walk`] reads one table by rising key. A row whose seal does not fit is reported and left out; a page that
//! cannot be read costs the rows it held, and the walk goes on behind it.

use super::damage::{Damage, Place};
use super::is_corrupt;
use super::apply::Meta;
use super::record::{DoneCells, DoneState, Live, LiveState, Sealer, StateCells, Table, TaskRow, cell_time};
use super::tasks::{Loaded, Opened};
use crate::flow::TaskId;
use crate::time::Time;
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

/// All sound keys, by task.
pub(super) fn keys(
    conn: &Connection,
    file: &Path,
    found: &mut Findings,
    names: &mut Names,
) -> rusqlite::Result<Vec<(i64, Arc<str>, Arc<str>)>> {
    let mut sealer = Sealer::default();
    let mut keys = Vec::new();
    walk(conn, file, Table::Key, found, &mut |id, row| {
        let (type_name, key) = (row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
        if sealer.key(id, type_name, key) != row.get::<_, i64>(3)? {
            return Ok(Some(BAD_SEAL));
        }
        keys.push((id, names.share(type_name), key.into()));
        Ok(None)
    })?;
    Ok(keys)
}

/// How many unfinished tasks are looked up at once.
const CHUNK: usize = 512;

/// Reads the whole record as far as a start needs it: states, the rows of unfinished tasks, keys, figures.
pub(super) fn load(
    conn: &Connection,
    file: &Path,
    each: &mut dyn FnMut(Loaded),
    found: &mut Findings,
    opened: &mut Opened,
) -> rusqlite::Result<()> {
    figures(conn, file, found, opened)?;
    let mut names = Names::default();
    let keys = keys(conn, file, found, &mut names)?;
    let mut loader = Loader {
        conn,
        file,
        each,
        keys: keys.into_iter().peekable(),
        names,
        sealer: Sealer::default(),
        chunk: Vec::with_capacity(CHUNK),
        missing: Findings::default(),
        opened,
    };
    let mut sealer = Sealer::default();
    walk(conn, file, Table::State, found, &mut |id, row| loader.state(id, row, &mut sealer))?;
    loader.deliver()?;
    found.damage.append(&mut loader.missing.damage);
    found.structure |= loader.missing.structure;
    Ok(())
}

/// Reads the figures of `meta` and of the last outcome; `opened.epoch` is then the last start's.
pub(super) fn figures(conn: &Connection, file: &Path, found: &mut Findings, opened: &mut Opened) -> rusqlite::Result<()> {
    let mut sealer = Sealer::default();
    walk(conn, file, Table::Meta, found, &mut |what, row| {
        let value: i64 = row.get(1)?;
        if sealer.meta(what, value) != row.get::<_, i64>(2)? {
            return Ok(Some(BAD_SEAL));
        }
        let value = u64::try_from(value).unwrap_or(0);
        match what {
            w if w == Meta::Epoch as i64 || w == Meta::EpochAgain as i64 => {
                opened.epoch = opened.epoch.max(u32::try_from(value).unwrap_or(0));
            }
            w if w == Meta::LastId as i64 => opened.last_id = opened.last_id.max(value),
            w if w == Meta::LastSeq as i64 => opened.last_seq = opened.last_seq.max(value),
            _ => {}
        }
        Ok(None)
    })?;
    let sql = format!("SELECT {} FROM done ORDER BY seq DESC LIMIT 1", columns(Table::Done));
    let last = conn.query_row(&sql, [], |row| {
        let seq: i64 = row.get(0)?;
        Ok((seq, read_done(row, seq, 1, &mut sealer)?.map(|d| cell_time(d.ended))))
    });
    match last {
        Ok((seq, Ok(ended))) => {
            opened.last_seq = opened.last_seq.max(u64::try_from(seq).unwrap_or(0));
            opened.last_time = opened.last_time.max(ended);
        }
        Ok((seq, Err(what))) => found.row(file, Table::Done, seq, what),
        Err(rusqlite::Error::QueryReturnedNoRows) => {}
        Err(e) if is_corrupt(&e) => found.row(file, Table::Done, 0, format!("the last outcome: {e}")),
        Err(e) => return Err(e),
    }
    Ok(())
}

/// An unfinished task and its key, before its row is read.
struct Waiting {
    live: Live,
    key: Option<Arc<str>>,
}

impl Waiting {
    fn id(&self) -> i64 {
        self.live.id.0 as i64
    }
}

struct Loader<'a> {
    conn: &'a Connection,
    file: &'a Path,
    each: &'a mut dyn FnMut(Loaded),
    keys: std::iter::Peekable<std::vec::IntoIter<(i64, Arc<str>, Arc<str>)>>,
    names: Names,
    sealer: Sealer,
    /// Unfinished tasks whose rows are to be looked up.
    chunk: Vec<Waiting>,
    missing: Findings,
    opened: &'a mut Opened,
}

impl Loader<'_> {
    /// One row of `state`.
    fn state(&mut self, id: i64, row: &Row<'_>, sealer: &mut Sealer) -> Verdict {
        self.opened.last_id = self.opened.last_id.max(u64::try_from(id).unwrap_or(0));
        match read_state(row, id, 1, sealer, &mut self.names)? {
            Err(what) => return Ok(Some(what)),
            Ok(Standing::Finished { seq }) => {
                self.opened.finished += 1;
                self.opened.last_seq = self.opened.last_seq.max(u64::try_from(seq).unwrap_or(0));
                if let Some((type_name, key)) = self.key_of(id) {
                    (self.each)(Loaded::FinishedKey { id: TaskId(id as u64), type_name, key });
                }
            }
            Ok(Standing::Live(live)) => {
                self.note_time(live.started);
                let key = self.key_of(id).map(|(_, key)| key);
                self.chunk.push(Waiting { live, key });
                if self.chunk.len() == CHUNK {
                    self.deliver()?;
                }
            }
        }
        Ok(None)
    }

    fn note_time(&mut self, t: Option<Time>) {
        self.opened.last_time = self.opened.last_time.max(t.unwrap_or(Time::ZERO));
    }

    fn key_of(&mut self, id: i64) -> Option<(Arc<str>, Arc<str>)> {
        while self.keys.next_if(|(of, ..)| *of < id).is_some() {}
        self.keys.next_if(|(of, ..)| *of == id).map(|(_, type_name, key)| (type_name, key))
    }

    /// Looks up the rows of the chunk's tasks and hands them on.
    fn deliver(&mut self) -> rusqlite::Result<()> {
        let chunk = std::mem::take(&mut self.chunk);
        let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { return Ok(()) };
        let (first, last) = (first.id(), last.id());
        let mut wanted = chunk.into_iter().peekable();
        // Where unfinished tasks lie close together, one range is read; where they are scattered among finished
        // ones, or the range cannot be read, one at a time.
        if (last - first) as usize <= 4 * CHUNK {
            self.range(first, last, &mut wanted)?;
        }
        self.singly(wanted)
    }

    fn range(
        &mut self,
        first: i64,
        last: i64,
        wanted: &mut std::iter::Peekable<std::vec::IntoIter<Waiting>>,
    ) -> rusqlite::Result<()> {
        let sql = "SELECT id,type,priority,submitted,body,crc FROM task WHERE id BETWEEN ?1 AND ?2 ORDER BY id";
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut rows = statement.query([first, last])?;
        loop {
            let row = match rows.next() {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(()),
                Err(e) if is_corrupt(&e) => return Ok(()),
                Err(e) => return Err(e),
            };
            let id: i64 = row.get(0)?;
            // A gap: the caller looks that one up by itself, and the rest with it.
            match wanted.peek() {
                Some(next) if next.id() == id => {}
                Some(next) if next.id() < id => return Ok(()),
                _ => continue,
            }
            match read_task(row, id, 1, &mut self.sealer, &mut self.names) {
                Ok(Ok(task)) => {
                    if let Some(next) = wanted.next() {
                        self.hand_on(task, next);
                    }
                }
                Ok(Err(_)) => return Ok(()),
                Err(e) if is_corrupt(&e) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
    }

    fn singly(&mut self, wanted: impl Iterator<Item = Waiting>) -> rusqlite::Result<()> {
        let sql = "SELECT type,priority,submitted,body,crc FROM task WHERE id=?1";
        let mut statement = self.conn.prepare_cached(sql)?;
        for next in wanted {
            let id = next.id();
            let (sealer, names) = (&mut self.sealer, &mut self.names);
            let lost = match statement.query_row([id], |r| read_task(r, id, 0, sealer, names)) {
                Ok(Ok(task)) => {
                    self.hand_on(task, next);
                    continue;
                }
                Ok(Err(what)) => what.to_owned(),
                Err(rusqlite::Error::QueryReturnedNoRows) => "the row is missing".to_owned(),
                Err(e) if is_corrupt(&e) => e.to_string(),
                Err(e) => return Err(e),
            };
            self.missing.row(self.file, Table::Task, id, format!("{lost}; an unfinished task is lost with it"));
        }
        Ok(())
    }

    fn hand_on(&mut self, mut task: TaskRow, Waiting { live, key }: Waiting) {
        task.key = key;
        self.note_time(Some(task.submitted));
        self.opened.live += 1;
        (self.each)(Loaded::Task(task, live));
    }
}

/// Loads single tasks, after their states were restored.
pub(super) fn load_some(
    conn: &Connection,
    file: &Path,
    ids: &[i64],
    each: &mut dyn FnMut(Loaded),
    opened: &mut Opened,
) -> rusqlite::Result<()> {
    let (mut sealer, mut names) = (Sealer::default(), Names::default());
    let mut found = Findings::default();
    let keys = keys(conn, file, &mut found, &mut names)?;
    let sql = format!("SELECT {} FROM state WHERE id=?1", columns(Table::State));
    let mut states = Vec::new();
    for id in ids {
        states.push(conn.query_row(&sql, [id], |r| read_state(r, *id, 1, &mut sealer, &mut names))?);
    }
    let mut loader = Loader {
        conn,
        file,
        each,
        keys: keys.into_iter().peekable(),
        names,
        sealer,
        chunk: Vec::new(),
        missing: found,
        opened,
    };
    for (id, state) in ids.iter().zip(states) {
        match state {
            Ok(Standing::Live(live)) => {
                let key = loader.key_of(*id).map(|(_, key)| key);
                loader.singly(std::iter::once(Waiting { live, key }))?;
            }
            Ok(Standing::Finished { .. }) => {
                loader.opened.finished += 1;
                if let Some((type_name, key)) = loader.key_of(*id) {
                    (loader.each)(Loaded::FinishedKey { id: TaskId(*id as u64), type_name, key });
                }
            }
            Err(_) => unreachable!("the row was written a moment ago"),
        }
    }
    Ok(())
}
