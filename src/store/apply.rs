//! Changes into SQL: the statements of one transaction.
//!
//! The common way (submit, start, finish) needs no read: the new row follows from the change alone, and the
//! update's own condition checks that it fits what is on record. Everything rarer reads the row, checks its
//! seal and writes it whole.

use super::Error;
use super::record::{Change, Done, DoneCells, Kind, Live, LiveState, Sealer, StateCells, TaskRow, time_cell};
use super::statements::{Meta, Ready, Sql, execute, failed, ready};
use crate::flow::{TaskId, Token};
use crate::time::Time;
use rusqlite::{Connection, ToSql};
use std::path::Path;

/// Applies changes within a transaction that the caller began and ends.
pub(super) struct Applier<'c> {
    conn: &'c Connection,
    path: &'c Path,
    sealer: &'c mut Sealer,
    ready: Ready<'c>,
}

/// An unfinished or finished task's row of `state`, owned.
#[derive(Clone, Debug, Default)]
struct StateRow {
    state: i64,
    attempt: i64,
    worker: Option<String>,
    started: Option<i64>,
    not_before: Option<i64>,
    note: Option<String>,
    seq: Option<i64>,
}

impl StateRow {
    fn cells(&self) -> StateCells<'_> {
        StateCells {
            state: self.state,
            attempt: self.attempt,
            worker: self.worker.as_deref(),
            started: self.started,
            not_before: self.not_before,
            note: self.note.as_deref(),
            seq: self.seq,
        }
    }
    fn is_live(&self) -> bool {
        (0..4).contains(&self.state)
    }
}

impl<'c> Applier<'c> {
    pub fn new(conn: &'c Connection, path: &'c Path, sealer: &'c mut Sealer) -> Applier<'c> {
        Applier { conn, path, sealer, ready: Ready::default() }
    }

    /// Applies one change.
    ///
    /// # Errors
    /// [`Error::Refused`] if it does not fit what is on record; others are SQLite's.
    pub fn apply(&mut self, change: &Change) -> Result<(), Error> {
        match change {
            Change::Submit(task, live) => self.submit(task, live),
            Change::Started { id, token, worker, at } => self.started(*id, *token, worker, *at),
            Change::Requeue { id, state, not_before, note } => {
                self.requeue(*id, *state, *not_before, note.as_deref())
            }
            Change::Finished(done) => self.finished(done),
            Change::Edit { id, priority, not_before } => self.edit(*id, *priority, *not_before),
            Change::Reopen { id, state, reset_attempts } => self.reopen(*id, *state, *reset_attempts),
            Change::Keep { kind, name, body } => self.keep(*kind, name, body.as_deref()),
            Change::Forget { ids } => {
                // The greatest numbers outlive the rows that bore them: neither is ever used twice.
                let mut greatest = (0, 0);
                for id in ids {
                    let (id, seq) = self.forget(*id)?;
                    greatest = (greatest.0.max(id), greatest.1.max(seq));
                }
                self.meta_at_least(Meta::LastId, greatest.0)?;
                self.meta_at_least(Meta::LastSeq, greatest.1)
            }
        }
    }

    /// Applies a batch, or leaves the transaction as it was.
    ///
    /// # Errors
    /// [`Error::Refused`]: undone, the transaction goes on. Others: the transaction is lost.
    pub fn apply_or_undo(&mut self, batch: &[Change]) -> Result<(), Error> {
        self.sql("SAVEPOINT batch")?;
        let result = batch.iter().try_for_each(|c| self.apply(c));
        match &result {
            Ok(()) => self.sql("RELEASE batch")?,
            Err(Error::Refused { .. }) => self.sql("ROLLBACK TO batch; RELEASE batch")?,
            Err(_) => {}
        }
        result
    }

    fn sql(&self, sql: &str) -> Result<(), Error> {
        self.conn.execute_batch(sql).map_err(|e| failed(self.path, e))
    }

    fn submit(&mut self, t: &TaskRow, l: &Live) -> Result<(), Error> {
        let id = key_of("submit", t.id)?;
        if t.id != l.id {
            return refused("submit", t.id, "its two rows name different tasks");
        }
        let (priority, submitted) = (i64::from(t.priority), time_cell(t.submitted));
        let crc = self.sealer.task(id, &t.type_name, priority, submitted, &t.body);
        self.add(Sql::AddTask, t.id, &[&id, &&*t.type_name, &priority, &submitted, &&*t.body, &crc])?;
        let s = StateCells::from(l);
        let crc = self.sealer.state(id, &s);
        self.add(
            Sql::AddState,
            t.id,
            &[&id, &s.state, &s.attempt, &s.worker, &s.started, &s.not_before, &s.note, &crc],
        )?;
        if let Some(key) = &t.key {
            let crc = self.sealer.key(id, &t.type_name, key);
            self.add(Sql::AddKey, t.id, &[&id, &&*t.type_name, &&**key, &crc])?;
        }
        Ok(())
    }

    fn started(&mut self, task: TaskId, token: Token, worker: &str, at: Time) -> Result<(), Error> {
        let id = key_of("start", task)?;
        let mut s = StateCells {
            state: LiveState::Running as i64,
            attempt: i64::from(token.attempt),
            worker: Some(worker),
            started: Some(time_cell(at)),
            ..StateCells::default()
        };
        let crc = self.sealer.state(id, &s);
        if self.run(Sql::Start, &[&id, &s.attempt, &s.worker, &s.started, &crc])? == 1 {
            return Ok(());
        }
        let old = self.live("start", task)?;
        if old.attempt >= s.attempt {
            return refused("start", task, "that attempt is already on record");
        }
        s.seq = old.seq;
        self.write_state(id, &s)
    }

    fn finished(&mut self, d: &Done) -> Result<(), Error> {
        let id = key_of("finish", d.id)?;
        let seq = key_of("finish", TaskId(d.seq))?;
        let s = StateCells {
            state: d.state as i64,
            attempt: i64::from(d.attempts),
            seq: Some(seq),
            ..StateCells::default()
        };
        let crc = self.sealer.state(id, &s);
        let mut prev = None;
        if self.run(Sql::Finish, &[&id, &s.state, &s.attempt, &seq, &crc])? != 1 {
            prev = self.live("finish", d.id)?.seq;
            self.write_state(id, &s)?;
        }
        let cells = DoneCells {
            id,
            type_name: &d.type_name,
            state: d.state as i64,
            ended: time_cell(d.ended),
            attempts: i64::from(d.attempts),
            prev,
            outcome: &d.outcome,
        };
        let crc = self.sealer.done(seq, &cells);
        self.add(
            Sql::AddDone,
            d.id,
            &[
                &seq,
                &id,
                &cells.type_name,
                &cells.state,
                &cells.ended,
                &cells.attempts,
                &prev,
                &cells.outcome,
                &crc,
            ],
        )
    }

    fn requeue(
        &mut self,
        task: TaskId,
        state: LiveState,
        not_before: Option<Time>,
        note: Option<&str>,
    ) -> Result<(), Error> {
        let id = key_of("requeue", task)?;
        if state == LiveState::Running {
            return refused("requeue", task, "a running attempt is started, not requeued");
        }
        let old = self.live("requeue", task)?;
        self.write_state(
            id,
            &StateCells {
                state: state as i64,
                attempt: old.attempt,
                not_before: not_before.map(time_cell),
                note,
                seq: old.seq,
                ..StateCells::default()
            },
        )
    }

    fn edit(
        &mut self,
        task: TaskId,
        priority: Option<u8>,
        not_before: Option<Option<Time>>,
    ) -> Result<(), Error> {
        let id = key_of("edit", task)?;
        let old = self.live("edit", task)?;
        if let Some(not_before) = not_before {
            self.write_state(id, &StateCells { not_before: not_before.map(time_cell), ..old.cells() })?;
        }
        if let Some(priority) = priority {
            self.write_priority(task, id, i64::from(priority))?;
        }
        Ok(())
    }

    fn write_priority(&mut self, task: TaskId, id: i64, priority: i64) -> Result<(), Error> {
        let (path, sealer) = (self.path, &mut *self.sealer);
        let seal = ready(&mut self.ready, self.conn, Sql::ReadTask)
            .and_then(|s| {
                s.query_row([id], |r| {
                    let (type_name, body) = (r.get_ref(0)?.as_str()?, r.get_ref(3)?.as_blob()?);
                    let submitted = r.get(2)?;
                    let sound =
                        sealer.task(id, type_name, r.get(1)?, submitted, body) == r.get::<_, i64>(4)?;
                    Ok(sound.then(|| sealer.task(id, type_name, priority, submitted, body)))
                })
            })
            .map_err(|e| failed(path, e))?;
        let Some(crc) = seal else { return refused("edit", task, "its row is damaged on disk") };
        self.run(Sql::WritePriority, &[&id, &priority, &crc]).map(drop)
    }

    fn reopen(&mut self, task: TaskId, state: LiveState, reset_attempts: bool) -> Result<(), Error> {
        let id = key_of("reopen", task)?;
        let Some(old) = self.read_state("reopen", task)?.filter(|s| !s.is_live()) else {
            return refused("reopen", task, "it is not a finished task on record");
        };
        let attempt = if reset_attempts { 0 } else { old.attempt };
        self.write_state(
            id,
            &StateCells { state: state as i64, attempt, seq: old.seq, ..StateCells::default() },
        )
    }

    /// Removes a finished task with all its outcomes; the older ones hang on the newest like a chain. Gives
    /// its number and its newest outcome's, zeros if it was left alone.
    fn forget(&mut self, task: TaskId) -> Result<(i64, i64), Error> {
        let id = key_of("forget", task)?;
        let Some(old) = self.read_state("forget", task)?.filter(|s| !s.is_live()) else { return Ok((0, 0)) };
        let mut next = old.seq;
        while let Some(seq) = next {
            let path = self.path;
            let prev: Option<i64> = ready(&mut self.ready, self.conn, Sql::PrevOutcome)
                .and_then(|s| match s.query_row([seq, id], |r| r.get(0)) {
                    Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
                    other => other,
                })
                .map_err(|e| failed(path, e))?;
            self.run(Sql::ForgetDone, &[&seq, &id])?;
            // A chain runs downwards; damage must not send it in circles.
            next = prev.filter(|p| *p < seq);
        }
        for sql in [Sql::ForgetTask, Sql::ForgetState, Sql::ForgetKey] {
            self.run(sql, &[&id])?;
        }
        Ok((id, old.seq.unwrap_or(0)))
    }

    fn keep(&mut self, kind: Kind, name: &str, body: Option<&[u8]>) -> Result<(), Error> {
        let key = kind.key_of(name);
        let Some(body) = body else { return self.run(Sql::ForgetKept, &[&key]).map(drop) };
        let crc = self.sealer.kept(key, kind as i64, name, body);
        self.run(Sql::WriteKept, &[&key, &(kind as i64), &name, &body, &crc]).map(drop)
    }

    fn meta_at_least(&mut self, what: Meta, value: i64) -> Result<(), Error> {
        let path = self.path;
        let old = ready(&mut self.ready, self.conn, Sql::ReadMeta)
            .and_then(|s| match s.query_row([what as i64], |r| r.get(0)) {
                Err(rusqlite::Error::QueryReturnedNoRows) => Ok(0),
                other => other,
            })
            .map_err(|e| failed(path, e))?;
        if value > old { self.meta(what, value) } else { Ok(()) }
    }

    /// Writes one figure about the whole record.
    pub fn meta(&mut self, what: Meta, value: i64) -> Result<(), Error> {
        let crc = self.sealer.meta(what as i64, value);
        self.run(Sql::WriteMeta, &[&(what as i64), &value, &crc]).map(drop)
    }

    /// The state of an unfinished task.
    fn live(&mut self, change: &'static str, task: TaskId) -> Result<StateRow, Error> {
        match self.read_state(change, task)? {
            Some(s) if s.is_live() => Ok(s),
            Some(_) => refused(change, task, "it has ended"),
            None => refused(change, task, "it is not on record"),
        }
    }

    fn read_state(&mut self, change: &'static str, task: TaskId) -> Result<Option<StateRow>, Error> {
        let id = key_of(change, task)?;
        let path = self.path;
        let row = ready(&mut self.ready, self.conn, Sql::ReadState).and_then(|s| {
            let read = s.query_row([id], |r| {
                let row = StateRow {
                    state: r.get(0)?,
                    attempt: r.get(1)?,
                    worker: r.get(2)?,
                    started: r.get(3)?,
                    not_before: r.get(4)?,
                    note: r.get(5)?,
                    seq: r.get(6)?,
                };
                Ok((row, r.get::<_, i64>(7)?))
            });
            match read {
                Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
                other => other.map(Some),
            }
        });
        match row.map_err(|e| failed(path, e))? {
            Some((row, crc)) if self.sealer.state(id, &row.cells()) == crc => Ok(Some(row)),
            Some(_) => refused(change, task, "its row is damaged on disk"),
            None => Ok(None),
        }
    }

    fn write_state(&mut self, id: i64, s: &StateCells<'_>) -> Result<(), Error> {
        let crc = self.sealer.state(id, s);
        let n = self.run(
            Sql::WriteState,
            &[&id, &s.state, &s.attempt, &s.worker, &s.started, &s.not_before, &s.note, &s.seq, &crc],
        )?;
        assert_eq!(n, 1, "the row was read in this transaction");
        Ok(())
    }

    fn run(&mut self, sql: Sql, cells: &[&dyn ToSql]) -> Result<usize, Error> {
        let path = self.path;
        execute(&mut self.ready, self.conn, sql, cells).map_err(|e| failed(path, e))
    }

    /// An insert; a key that exists is the caller's mistake.
    fn add(&mut self, sql: Sql, task: TaskId, cells: &[&dyn ToSql]) -> Result<(), Error> {
        match execute(&mut self.ready, self.conn, sql, cells) {
            Ok(_) => Ok(()),
            Err(e) if e.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) => match sql {
                Sql::AddDone => refused("finish", task, "its outcome's number is taken"),
                _ => refused("submit", task, "its number is taken"),
            },
            Err(e) => Err(failed(self.path, e)),
        }
    }
}

/// The key in SQLite, whose integers are signed.
fn key_of(change: &'static str, id: TaskId) -> Result<i64, Error> {
    match i64::try_from(id.0) {
        Ok(v) if v > 0 => Ok(v),
        _ => refused(change, id, "numbers run from 1 to 2^63 - 1"),
    }
}

fn refused<T>(change: &'static str, id: TaskId, why: &'static str) -> Result<T, Error> {
    Err(Error::Refused { change, id, why })
}
