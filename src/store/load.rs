//! What a start needs out of the record: states, the rows of unfinished tasks, keys, figures.
//!
//! `state` is read whole and in order; rows of `task` are looked up for those that are unfinished only, some
//! hundred at a time, so that history costs a start a few bytes a task and not its bodies.

use super::is_corrupt;
use super::open::{Loaded, Opened};
use super::record::{Kind, Live, Sealer, Table, TaskRow, cell_time};
use super::rows::{
    BAD_SEAL, Findings, Names, Standing, Verdict, columns, read_done, read_state, read_task, walk,
};
use super::statements::Meta;
use crate::flow::TaskId;
use crate::time::Time;
use bytes::Bytes;
use rusqlite::{Connection, Row};
use std::path::Path;
use std::sync::Arc;

/// A task's number, its type's name and its key.
type Key = (i64, Arc<str>, Arc<str>);

/// All sound keys, by task.
fn keys(
    conn: &Connection,
    file: &Path,
    found: &mut Findings,
    names: &mut Names,
) -> rusqlite::Result<Vec<Key>> {
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

/// What is kept beside the tasks. A kind that this version does not know is left alone: a later one wrote it.
fn kept(
    conn: &Connection,
    file: &Path,
    found: &mut Findings,
    each: &mut dyn FnMut(Loaded),
) -> rusqlite::Result<()> {
    let mut sealer = Sealer::default();
    walk(conn, file, Table::Kept, found, &mut |key, row| {
        let kind: i64 = row.get(1)?;
        let (name, body) = (row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_blob()?);
        if sealer.kept(key, kind, name, body) != row.get::<_, i64>(4)? {
            return Ok(Some(BAD_SEAL));
        }
        if let Some(kind) = u8::try_from(kind).ok().and_then(Kind::from_u8) {
            each(Loaded::Kept { kind, name: name.into(), body: Bytes::copy_from_slice(body) });
        }
        Ok(None)
    })
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
    kept(conn, file, found, each)?;
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
pub(super) fn figures(
    conn: &Connection,
    file: &Path,
    found: &mut Findings,
    opened: &mut Opened,
) -> rusqlite::Result<()> {
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
    keys: std::iter::Peekable<std::vec::IntoIter<Key>>,
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
        let sql =
            "SELECT id,type,priority,submitted,body,crc FROM task WHERE id BETWEEN ?1 AND ?2 ORDER BY id";
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
            self.missing.row(
                self.file,
                Table::Task,
                id,
                format!("{lost}; an unfinished task is lost with it"),
            );
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
