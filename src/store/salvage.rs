//! A damaged record is copied row by row into a new one; the old file is set aside whole.
//!
//! The new file is complete and synced under the name `tasks.db.salvaged` before the old one is moved, so that
//! a crash at any point leaves either the old record or the new one to go on with: see [`finish`].

use super::damage::{Damage, Place};
use super::open::{Durability, Files, connect};
use super::record::{DoneState, LiveState, Sealer, StateCells, Table};
use super::rows::{self, Findings, Names, Verdict, columns, walk};
use super::statements::Meta;
use super::wal::{Mark, Synced};
use super::{Error, sync_dir};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use std::fs;
use std::path::{Path, PathBuf};

/// `file` with something behind its name.
pub(super) fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A free name for a damaged file, beside it.
pub(super) fn aside_name(db: &Path) -> PathBuf {
    let mut n = 1;
    loop {
        let name = with_suffix(db, &format!(".damaged-{n}"));
        if !name.exists() {
            return name;
        }
        n += 1;
    }
}

/// Finishes a salvage that a crash interrupted.
pub(super) fn finish(files: &Files) -> Result<(), Error> {
    let (half, whole) = names(&files.db);
    for name in [half.clone(), with_suffix(&half, "-wal"), with_suffix(&half, "-shm")] {
        remove(&name)?;
    }
    if whole.exists() { put_in_place(files, &whole).map(drop) } else { Ok(()) }
}

fn names(db: &Path) -> (PathBuf, PathBuf) {
    (with_suffix(db, ".salvaging"), with_suffix(db, ".salvaged"))
}

fn remove(file: &Path) -> Result<(), Error> {
    match fs::remove_file(file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", file)(e)),
        _ => Ok(()),
    }
}

/// Moves the old record aside and the salvaged one to its place; the old one's new name.
fn put_in_place(files: &Files, whole: &Path) -> Result<PathBuf, Error> {
    let aside = aside_name(&files.db);
    let rename = |from: &Path, to: &Path| match fs::rename(from, to) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("rename", from)(e)),
        _ => Ok(()),
    };
    // The log first: it must never stand beside a database that is not its own.
    rename(&files.wal, &with_suffix(&aside, "-wal"))?;
    remove(&with_suffix(&files.db, "-shm"))?;
    let (mark, _) = Mark::open(&files.mark)?;
    // Without frames it says no more than which log it was.
    mark.write_synced(Synced { each_synced: true, ..Synced::default() })
        .map_err(Error::io("write", &files.mark))?;
    sync_dir(&files.dir)?;
    rename(&files.db, &aside)?;
    rename(whole, &files.db)?;
    sync_dir(&files.dir)?;
    Ok(aside)
}

/// Rebuilds the record from what of it can be read; `conn` is closed. Ids of tasks whose state had to be
/// restored: those that ended go by their outcome, others are queued again, because a task that was
/// acknowledged is rather run twice than lost.
pub(super) fn salvage(
    files: &Files,
    conn: Connection,
    why: String,
    damage: &mut Vec<Damage>,
) -> Result<Vec<i64>, Error> {
    let (half, whole) = names(&files.db);
    let epoch_floor = modified_s(&files.db);
    let mut found = Findings::default();
    let new = connect(&half, Durability::Sync)?;
    let copied =
        copy(&conn, &new, files, &mut found, epoch_floor).map_err(Error::sql("salvage", &files.db))?;
    new.close().map_err(|(_, e)| Error::sql("close", &half)(e))?;
    fs::File::open(&half).and_then(|f| f.sync_all()).map_err(Error::io("sync", &half))?;
    fs::rename(&half, &whole).map_err(Error::io("rename", &half))?;
    sync_dir(&files.dir)?;
    // Evidence stays as it was found: no checkpoint into the old file.
    let _ = conn.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    drop(conn);
    let aside = put_in_place(files, &whole)?;
    for d in found.damage {
        if !damage.contains(&d) {
            damage.push(d);
        }
    }
    damage.push(Damage {
        file: files.db.clone(),
        place: Place::File,
        what: format!(
            "{why}; {} rows were copied to a new file, {} tasks had their state restored; the old file is {}",
            copied.rows,
            copied.restored.len(),
            aside.display()
        ),
    });
    Ok(copied.restored)
}

struct Copied {
    rows: u64,
    restored: Vec<i64>,
}

fn copy(
    old: &Connection,
    new: &Connection,
    files: &Files,
    found: &mut Findings,
    epoch_floor: i64,
) -> rusqlite::Result<Copied> {
    new.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN")?;
    let mut rows = 0;
    let mut sealer = Sealer::default();
    let mut names = Names::default();
    for table in [Table::Task, Table::State, Table::Done, Table::Key, Table::Meta, Table::Kept] {
        let n = columns(table).split(',').count();
        let marks = vec!["?"; n].join(",");
        let mut insert = new.prepare(&format!("INSERT INTO {} VALUES({marks})", table.name()))?;
        walk(old, &files.db, table, found, &mut |key, row| {
            if let Some(what) = verdict(table, key, row, &mut sealer, &mut names)? {
                return Ok(Some(what));
            }
            for i in 0..n {
                insert.raw_bind_parameter(i + 1, row.get_ref(i).map(Cell)?)?;
            }
            rows += 1;
            insert.raw_execute().map(|_| None)
        })?;
    }
    lone_states(new, files, found)?;
    let restored = restore_states(new, &mut sealer)?;
    epoch_at_least(new, &mut sealer, epoch_floor)?;
    new.execute_batch("COMMIT; PRAGMA journal_mode = WAL")?;
    Ok(Copied { rows, restored })
}

/// A cell as it was read, to be written as it is.
struct Cell<'a>(ValueRef<'a>);

impl rusqlite::ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(rusqlite::types::ToSqlOutput::Borrowed(self.0))
    }
}

/// Checks a row of any table.
pub(super) fn verdict(
    table: Table,
    key: i64,
    row: &Row<'_>,
    sealer: &mut Sealer,
    names: &mut Names,
) -> Verdict {
    Ok(match table {
        Table::Task => rows::read_task(row, key, 1, sealer, names)?.err(),
        Table::State => rows::read_state(row, key, 1, sealer, names)?.err(),
        Table::Done => rows::read_done(row, key, 1, sealer)?.err(),
        Table::Key => {
            let (type_name, text) = (row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
            (sealer.key(key, type_name, text) != row.get::<_, i64>(3)?).then_some(rows::BAD_SEAL)
        }
        Table::Kept => {
            let (name, body) = (row.get_ref(2)?.as_str()?, row.get_ref(3)?.as_blob()?);
            (sealer.kept(key, row.get(1)?, name, body) != row.get::<_, i64>(4)?).then_some(rows::BAD_SEAL)
        }
        Table::Meta => (sealer.meta(key, row.get(1)?) != row.get::<_, i64>(2)?).then_some(rows::BAD_SEAL),
    })
}

/// Unfinished tasks without a row of their own cannot be run: their states go.
fn lone_states(new: &Connection, files: &Files, found: &mut Findings) -> rusqlite::Result<()> {
    let mut lone = new.prepare("SELECT id FROM state WHERE state<4 AND id NOT IN (SELECT id FROM task)")?;
    let ids = lone.query_map([], |r| r.get::<_, i64>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    for id in ids {
        new.execute("DELETE FROM state WHERE id=?1", [id])?;
        new.execute("DELETE FROM key WHERE id=?1", [id])?;
        found.row(&files.db, Table::Task, id, "the row is missing; an unfinished task is lost with it");
    }
    Ok(())
}

/// Gives every task that has no readable state one.
fn restore_states(new: &Connection, sealer: &mut Sealer) -> rusqlite::Result<Vec<i64>> {
    let mut bare = new.prepare("SELECT id FROM task WHERE id NOT IN (SELECT id FROM state) ORDER BY id")?;
    let ids = bare.query_map([], |r| r.get::<_, i64>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    if ids.is_empty() {
        return Ok(ids);
    }
    new.execute_batch(
        "CREATE TEMP TABLE outcome(id INTEGER PRIMARY KEY, seq INTEGER, state INTEGER, attempts INTEGER);
         INSERT OR REPLACE INTO outcome SELECT id,seq,state,attempts FROM done ORDER BY seq;",
    )?;
    for &id in &ids {
        let outcome = new
            .query_row("SELECT state,attempts,seq FROM outcome WHERE id=?1", [id], |r| {
                Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?, r.get::<_, i64>(2)?))
            })
            .ok()
            .filter(|(state, ..)| u8::try_from(*state).ok().and_then(DoneState::from_u8).is_some());
        let cells = match outcome {
            Some((state, attempt, seq)) => {
                StateCells { state, attempt, seq: Some(seq), ..StateCells::default() }
            }
            None => StateCells {
                state: LiveState::Queued as i64,
                note: Some("its state was damaged on disk and restored"),
                ..StateCells::default()
            },
        };
        new.execute(
            "INSERT INTO state VALUES(?1,?2,?3,NULL,NULL,NULL,?4,?5,?6)",
            rusqlite::params![
                id,
                cells.state,
                cells.attempt,
                cells.note,
                cells.seq,
                sealer.state(id, &cells)
            ],
        )?;
    }
    new.execute_batch("DROP TABLE outcome")?;
    Ok(ids)
}

/// An epoch must never be used twice. If neither copy of it could be read, the seconds at which the file was
/// last written stand in: they are greater than any number of starts.
fn epoch_at_least(new: &Connection, sealer: &mut Sealer, floor: i64) -> rusqlite::Result<()> {
    let (a, b) = (Meta::Epoch as i64, Meta::EpochAgain as i64);
    let copies: i64 =
        new.query_row("SELECT count(*) FROM meta WHERE what IN (?1,?2)", [a, b], |r| r.get(0))?;
    if copies == 0 {
        for what in [a, b] {
            new.execute("INSERT INTO meta VALUES(?1,?2,?3)", [what, floor, sealer.meta(what, floor)])?;
        }
    }
    Ok(())
}

/// When the file was last written, in seconds since the Unix epoch.
fn modified_s(file: &Path) -> i64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(file).map_or(0, |m| m.mtime())
}
