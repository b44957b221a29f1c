//! Lists out of the record, on a connection of their own.
//!
//! A reader sees what was committed; it neither waits for the writer nor holds it up. (A query that runs for
//! long keeps the log from beginning anew: lists are paged.) Rows are checked as they are read; a damaged one
//! is left out of lists and counted in [`Page::damaged`].

use super::Error;
use super::open::{BUSY_WAIT, Files};
use super::record::{Done, DoneCells, DoneState, Live, LiveState, Sealer, TaskRow, cell_time, time_cell};
use super::rows::{self, Names, Standing};
use crate::flow::TaskId;
use crate::time::Time;
use bytes::Bytes;
use rusqlite::{Connection, OpenFlags, params};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Pages cached by a reader, KiB.
const CACHE_KIB: u32 = 512;
/// A filtered list looks at no more rows than this a page, so that a rare match cannot cost a whole scan.
const SCAN_LIMIT: usize = 20_000;

/// A connection that only reads.
pub struct Reader {
    conn: Connection,
    path: PathBuf,
    sealer: Sealer,
    names: Names,
}

/// All that is on record of one task.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// What was submitted.
    pub task: TaskRow,
    /// Where it stands, while it is unfinished.
    pub live: Option<Live>,
    /// How it ended: the outcome that holds, first, and those from before it was reopened.
    pub done: Vec<Done>,
}

/// Which finished tasks a list holds.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only these ends; all if empty.
    pub states: Vec<DoneState>,
    /// Only this type.
    pub type_name: Option<Arc<str>>,
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Newest first.
    pub rows: Vec<Done>,
    /// Where the next page begins: pass it as `before`. `None` at the end. A page may hold fewer rows than
    /// asked for, even none, and still have a next one.
    pub next: Option<u64>,
    /// Rows that were left out because they are damaged.
    pub damaged: u64,
}

/// How many tasks are on record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Unfinished, by [`LiveState`] in its order.
    pub live: [u64; 4],
    /// Finished, by [`DoneState`] in its order.
    pub done: [u64; 3],
}

pub(super) fn connect(db: &Path) -> Result<Connection, Error> {
    // Not SQLITE_OPEN_READ_ONLY: a reader of a log takes its part in the shared index beside it.
    let open = || -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(db, flags)?;
        conn.busy_timeout(BUSY_WAIT)?;
        conn.set_prepared_statement_cache_capacity(32);
        conn.execute_batch(&format!(
            "PRAGMA query_only = ON; PRAGMA cache_size = -{CACHE_KIB}; PRAGMA temp_store = MEMORY;
             PRAGMA cell_size_check = ON; PRAGMA wal_autocheckpoint = 0;"
        ))?;
        Ok(conn)
    };
    open().map_err(Error::sql("open", db))
}

impl Reader {
    /// Opens the record in `dir`; it exists.
    ///
    /// # Errors
    /// SQLite's.
    pub fn open(dir: &Path) -> Result<Reader, Error> {
        let path = Files::new(dir).db;
        Ok(Reader { conn: connect(&path)?, path, sealer: Sealer::default(), names: Names::default() })
    }

    /// One task, with everything on record about it. `None` if it is unknown, or its row is damaged.
    ///
    /// # Errors
    /// SQLite's.
    pub fn task(&mut self, id: TaskId) -> Result<Option<Stored>, Error> {
        self.stored(id).map_err(Error::sql("read", &self.path))
    }

    fn stored(&mut self, id: TaskId) -> rusqlite::Result<Option<Stored>> {
        let (sealer, names) = (&mut self.sealer, &mut self.names);
        let key = id.0 as i64;
        let mut one = self.conn.prepare_cached(
            "SELECT t.type,t.priority,t.submitted,t.body,t.crc,
                    s.state,s.attempt,s.worker,s.started,s.not_before,s.note,s.seq,s.crc,
                    k.type,k.key,k.crc
             FROM task t JOIN state s ON s.id=t.id LEFT JOIN key k ON k.id=t.id WHERE t.id=?1",
        )?;
        let mut rows = one.query([key])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let Ok(mut task) = rows::read_task(row, key, 0, sealer, names)? else { return Ok(None) };
        let Ok(standing) = rows::read_state(row, key, 5, sealer, names)? else { return Ok(None) };
        if let (Some(of), Some(text)) =
            (row.get_ref(13)?.as_str_or_null()?, row.get_ref(14)?.as_str_or_null()?)
            && sealer.key(key, of, text) == row.get::<_, i64>(15)?
        {
            task.key = Some(text.into());
        }
        let seq: Option<i64> = row.get(11)?;
        drop(rows);
        drop(one);
        let live = match standing {
            Standing::Live(live) => Some(live),
            Standing::Finished { .. } => None,
        };
        Ok(Some(Stored { task, live, done: self.outcomes_of(key, seq)? }))
    }

    /// The chain of outcomes from `seq` back.
    fn outcomes_of(&mut self, id: i64, seq: Option<i64>) -> rusqlite::Result<Vec<Done>> {
        let mut done = Vec::new();
        let mut next = seq;
        let mut one = self
            .conn
            .prepare_cached("SELECT id,type,state,ended,attempts,prev,outcome,crc FROM done WHERE seq=?1")?;
        while let Some(seq) = next.take() {
            let mut rows = one.query([seq])?;
            if let Some(row) = rows.next()?
                && let Ok(cells) = rows::read_done(row, seq, 0, &mut self.sealer)?
                && cells.id == id
            {
                next = cells.prev.filter(|p| *p < seq);
                done.extend(owned(seq, &cells, &mut self.names));
            }
        }
        Ok(done)
    }

    /// The bodies of tasks, for a queue that does not keep them: those that are sound, in any order.
    ///
    /// # Errors
    /// SQLite's.
    pub fn bodies(&mut self, ids: &[TaskId]) -> Result<Vec<TaskRow>, Error> {
        let read = |me: &mut Reader| {
            let mut one =
                me.conn.prepare_cached("SELECT type,priority,submitted,body,crc FROM task WHERE id=?1")?;
            let mut found = Vec::with_capacity(ids.len());
            for id in ids {
                let id = id.0 as i64;
                let mut rows = one.query([id])?;
                if let Some(row) = rows.next()? {
                    found.extend(rows::read_task(row, id, 0, &mut me.sealer, &mut me.names)?);
                }
            }
            Ok(found)
        };
        read(self).map_err(Error::sql("read", &self.path))
    }

    /// Finished tasks, the last to end first: up to `limit` outcomes with numbers below `before`. Outcomes of
    /// tasks that were reopened since are left out.
    ///
    /// # Errors
    /// SQLite's.
    pub fn finished(&mut self, filter: &Filter, before: Option<u64>, limit: usize) -> Result<Page, Error> {
        let mut page = Page::default();
        let before = before.and_then(|b| i64::try_from(b).ok()).unwrap_or(i64::MAX);
        self.list(filter, before, limit, &mut page).map_err(Error::sql("read", &self.path))?;
        Ok(page)
    }

    fn list(&mut self, filter: &Filter, before: i64, limit: usize, page: &mut Page) -> rusqlite::Result<()> {
        let failed_of_type = filter.type_name.is_some() && filter.states == [DoneState::Failed];
        // The two forms differ in the index they run along; the second has the filter's own.
        let sql = if failed_of_type {
            "SELECT d.seq,d.id,d.type,d.state,d.ended,d.attempts,d.prev,d.outcome,d.crc,
                    (SELECT s.seq FROM state s WHERE s.id=d.id AND s.state>=4)
             FROM done d INDEXED BY failed WHERE d.state=5 AND d.type=?2 AND d.seq<?1 ORDER BY d.seq DESC"
        } else {
            "SELECT d.seq,d.id,d.type,d.state,d.ended,d.attempts,d.prev,d.outcome,d.crc,
                    (SELECT s.seq FROM state s WHERE s.id=d.id AND s.state>=4)
             FROM done d WHERE d.seq<?1 AND ?2 IS ?2 ORDER BY d.seq DESC"
        };
        let mut list = self.conn.prepare_cached(sql)?;
        let mut rows = list.query(params![before, filter.type_name.as_deref()])?;
        let mut looked_at = 0;
        let mut last = None;
        while let Some(row) = rows.next()? {
            if page.rows.len() == limit || looked_at == SCAN_LIMIT {
                page.next = last;
                break;
            }
            looked_at += 1;
            let seq: i64 = row.get(0)?;
            last = u64::try_from(seq).ok();
            let Ok(cells) = rows::read_done(row, seq, 1, &mut self.sealer)? else {
                page.damaged += 1;
                continue;
            };
            let holds = row.get::<_, Option<i64>>(9)? == Some(seq);
            let of_type = filter.type_name.as_deref().is_none_or(|t| t == cells.type_name);
            let in_state = filter.states.is_empty() || filter.states.iter().any(|s| *s as i64 == cells.state);
            if holds && of_type && in_state {
                page.rows.extend(owned(seq, &cells, &mut self.names));
            }
        }
        Ok(())
    }

    /// Every finished task and how it ended, without its outcome: quick also for a million of them.
    ///
    /// # Errors
    /// SQLite's; the rows before it were given.
    pub fn ends(&mut self, mut each: impl FnMut(TaskId, DoneState)) -> Result<(), Error> {
        let mut read = |me: &mut Reader| -> rusqlite::Result<()> {
            let mut all = me.conn.prepare_cached("SELECT id,state FROM state WHERE state>=?1")?;
            let mut rows = all.query([DoneState::Done as i64])?;
            while let Some(row) = rows.next()? {
                let (id, state): (i64, i64) = (row.get(0)?, row.get(1)?);
                if let Some(state) = u8::try_from(state).ok().and_then(DoneState::from_u8) {
                    each(TaskId(id as u64), state);
                }
            }
            Ok(())
        };
        read(self).map_err(Error::sql("read", &self.path))
    }

    /// Outcomes with numbers above `seq`, oldest first: what a predictor snapshot has not learned yet. Those
    /// of reopened tasks are among them, because they were learned from when they came.
    ///
    /// # Errors
    /// SQLite's; the rows before it were given.
    pub fn outcomes_since(&mut self, seq: u64, mut each: impl FnMut(Done)) -> Result<u64, Error> {
        let after = i64::try_from(seq).unwrap_or(i64::MAX);
        let mut damaged = 0;
        let mut read = |me: &mut Reader| -> rusqlite::Result<()> {
            let mut all = me.conn.prepare_cached(
                "SELECT seq,id,type,state,ended,attempts,prev,outcome,crc FROM done WHERE seq>?1 ORDER BY seq",
            )?;
            let mut rows = all.query([after])?;
            while let Some(row) = rows.next()? {
                let seq: i64 = row.get(0)?;
                match rows::read_done(row, seq, 1, &mut me.sealer)? {
                    Ok(cells) => owned(seq, &cells, &mut me.names).into_iter().for_each(&mut each),
                    Err(_) => damaged += 1,
                }
            }
            Ok(())
        };
        read(self).map_err(Error::sql("read", &self.path))?;
        Ok(damaged)
    }

    /// Finished tasks that retention lets go, oldest first, at most `limit` (100 to 200 make a group that holds
    /// nobody up): ended before `before`, or the oldest while the record holds more than `max_bytes`; never an
    /// outcome numbered `below_seq` or above, which a snapshot has not learned yet.
    ///
    /// # Errors
    /// SQLite's.
    pub fn expired(
        &mut self,
        before: Time,
        max_bytes: Option<u64>,
        below_seq: u64,
        limit: usize,
    ) -> Result<Vec<TaskId>, Error> {
        let too_large = match max_bytes {
            Some(max) => self.used_bytes()? > max,
            None => false,
        };
        let below = i64::try_from(below_seq).unwrap_or(i64::MAX);
        let read = |me: &Reader| {
            let mut oldest = me.conn.prepare_cached(
                "SELECT d.id, d.ended FROM done d JOIN state s ON s.id=d.id AND s.seq=d.seq AND s.state>=4
                 WHERE d.seq<?1 ORDER BY d.seq LIMIT ?2",
            )?;
            let mut ids = Vec::new();
            let mut rows = oldest.query(params![below, limit as i64])?;
            while let Some(row) = rows.next()? {
                if !too_large && row.get::<_, i64>(1)? >= time_cell(before) {
                    break;
                }
                ids.push(TaskId(row.get::<_, i64>(0)? as u64));
            }
            Ok(ids)
        };
        read(self).map_err(Error::sql("read", &self.path))
    }

    /// Bytes that rows and indices take, free pages and log left out.
    ///
    /// # Errors
    /// SQLite's.
    pub fn used_bytes(&self) -> Result<u64, Error> {
        let figure = |name: &str| self.conn.query_row(&format!("PRAGMA {name}"), [], |r| r.get::<_, i64>(0));
        let used = || Ok((figure("page_count")? - figure("freelist_count")?) * figure("page_size")?);
        used().map(|b: i64| u64::try_from(b).unwrap_or(0)).map_err(Error::sql("read", &self.path))
    }

    /// How many tasks stand where. Reads the whole `state` table: about 100 ms a million.
    ///
    /// # Errors
    /// SQLite's.
    pub fn counts(&self) -> Result<Counts, Error> {
        let read = || {
            let mut counts = Counts::default();
            let mut by = self.conn.prepare_cached("SELECT state, count(*) FROM state GROUP BY state")?;
            let mut rows = by.query([])?;
            while let Some(row) = rows.next()? {
                let (state, n): (i64, i64) = (row.get(0)?, row.get(1)?);
                let n = u64::try_from(n).unwrap_or(0);
                let state = u8::try_from(state).unwrap_or(u8::MAX);
                if let Some(s) = LiveState::from_u8(state) {
                    counts.live[s as usize] = n;
                } else if let Some(s) = DoneState::from_u8(state) {
                    counts.done[s as usize - 4] = n;
                }
            }
            Ok(counts)
        };
        read().map_err(Error::sql("read", &self.path))
    }
}

/// The outcome as others see it; `None` for a state that does not exist.
fn owned(seq: i64, c: &DoneCells<'_>, names: &mut Names) -> Option<Done> {
    Some(Done {
        id: TaskId(c.id as u64),
        seq: seq as u64,
        type_name: names.share(c.type_name),
        state: DoneState::from_u8(u8::try_from(c.state).ok()?)?,
        ended: cell_time(c.ended),
        attempts: u32::try_from(c.attempts).unwrap_or(u32::MAX),
        outcome: Bytes::copy_from_slice(c.outcome),
    })
}
