//! What it takes to open a record: recovery, damage, loading.
//!
//! In this order, because each step relies on the one before: a salvage that was cut short is finished; the log
//! is scanned before SQLite recovers from it; a file that is under suspicion is checked whole; the rows are
//! loaded, and salvaged if some are damaged; the start is counted, on disk.

use super::damage::{Damage, Place};
use super::record::{Kind, Live, TaskRow};
use super::rows::Findings;
use super::tasks::Tasks;
use super::wal::{self, Mark, Synced};
use super::{Error, is_corrupt, load, log_file, salvage, sync_dir, upgrade};
use crate::time::Time;
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// When a change is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it is on disk: survives a power cut.
    #[default]
    Sync,
    /// When it is written, synced every [`super::writer::SYNC_EVERY`]: survives the death of the daemon, loses
    /// up to that long at a power cut. What is on disk is consistent either way.
    Interval,
}

/// How to open a record.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// When a change is acknowledged.
    pub durability: Durability,
    /// Commit within the call, on the caller's thread; for simulations and paused clocks. [`Durability::Interval`]
    /// then syncs with the first change that comes after the second is over, and at the close.
    pub inline: bool,
    /// Copy the log into the database on a thread of its own. Without it, and with `inline`, nothing happens but
    /// within a call.
    pub beside: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { durability: Durability::Sync, inline: false, beside: true }
    }
}

/// What the record holds when it is opened, piece by piece. Tasks and finished keys come in no common order.
#[derive(Clone, Debug)]
pub enum Loaded {
    /// An unfinished task. They come by rising id, but for those whose state had to be restored: those last.
    Task(TaskRow, Live),
    /// The key of a finished task that is still on record: it still answers for its type.
    FinishedKey {
        /// Which task.
        id: crate::flow::TaskId,
        /// Its type's name.
        type_name: Arc<str>,
        /// Its key.
        key: Arc<str>,
    },
    /// Something that is kept beside the tasks. These come before all others.
    Kept {
        /// What kind of thing.
        kind: Kind,
        /// Its name.
        name: Arc<str>,
        /// What is kept, opaque.
        body: bytes::Bytes,
    },
}

/// What was learned when the record was opened.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// How often this record was opened, this time included; on disk before [`super::Record::open`] returns.
    pub epoch: u32,
    /// The greatest task id ever used.
    pub last_id: u64,
    /// The greatest outcome number ever used.
    pub last_seq: u64,
    /// The latest moment on record: the clock must not start before it.
    pub last_time: Time,
    /// Unfinished tasks that were loaded.
    pub live: u64,
    /// Finished tasks on record.
    pub finished: u64,
    /// What was found damaged, and what became of it. Empty on a good day.
    pub damage: Vec<Damage>,
}

/// Page size. Starts and ends come in any order and touch a page each: measured in [`super::bench`], groups of
/// ten are a fifth faster than with 4 KiB, others the same. Incremental vacuum costs nothing that shows there.
pub(super) const PAGE_BYTES: u32 = 2048;
/// SQLite's page cache for the writer; it grows only as pages are touched.
const CACHE_KIB: u32 = 16 << 10;
/// How long a lock is waited for that somebody else holds: a backup made with SQLite's own tool, say.
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(10);

/// The files of a record.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub dir: PathBuf,
    pub db: PathBuf,
    pub wal: PathBuf,
    pub mark: PathBuf,
    /// Made when SQLite reported damage: the next start salvages before it does anything else.
    pub suspect: PathBuf,
}

impl Files {
    pub fn new(dir: &Path) -> Files {
        let at = |name: &str| dir.join(name);
        Files {
            dir: dir.to_owned(),
            db: at("tasks.db"),
            wal: at("tasks.db-wal"),
            mark: at("tasks.mark"),
            suspect: at("tasks.suspect"),
        }
    }
}

/// Opens the record in `dir`, which exists; makes it if there is none; sets aside what is damaged.
pub(super) fn open(
    dir: &Path,
    durability: Durability,
    each: &mut dyn FnMut(Loaded),
) -> Result<(Tasks, Opened), Error> {
    let files = Files::new(dir);
    salvage::finish(&files)?;
    let (mark, said) = Mark::open(&files.mark)?;
    let mut opened = Opened::default();
    check_log(&files, said, &mut opened.damage)?;
    // Until the log begins anew, it may hold what an earlier run wrote in its own way.
    let each_synced = durability == Durability::Sync && said.is_none_or(|m| m.each_synced);
    let says = Synced { each_synced, ..said.unwrap_or_default() };
    if said != Some(says) {
        mark.write_synced(says).map_err(Error::io("write", &files.mark))?;
        sync_dir(dir)?;
    }
    if files.suspect.exists() {
        clear_suspicion(&files, &mut opened.damage)?;
    }
    let conn = load_sound(&files, durability, each, &mut opened)?;
    opened.epoch = opened.epoch.checked_add(1).ok_or_else(|| Error::Unreadable {
        path: files.db.clone(),
        detail: "it was opened 2^32 times".into(),
    })?;
    let mut tasks = Tasks::new(conn, files, mark, says, durability)?;
    tasks.begin_epoch(opened.epoch)?;
    Ok((tasks, opened))
}

/// A connection as the writer needs it, at today's layout.
pub(super) fn connect(db: &Path, durability: Durability) -> Result<Connection, Error> {
    let mut conn = connect_any(db, durability).map_err(|e| match is_corrupt(&e) {
        true => Error::Unreadable { path: db.to_owned(), detail: e.to_string().into() },
        false => Error::Sql { doing: "open", path: db.to_owned(), error: Arc::new(e) },
    })?;
    upgrade::upgrade(&mut conn, db)?;
    Ok(conn)
}

/// A connection as the writer needs it, to a file of any layout.
pub(super) fn connect_any(db: &Path, durability: Durability) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    log_file::register()
        .map_err(|code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None))?;
    let vfs = match durability {
        Durability::Sync => log_file::SYNCED,
        Durability::Interval => log_file::LAZY,
    };
    let conn = Connection::open_with_flags_and_vfs(db, flags, vfs)?;
    conn.busy_timeout(BUSY_WAIT)?;
    conn.set_prepared_statement_cache_capacity(64);
    // Both hold from the first table on; later, SQLite would write the second anew at every start.
    if pragma(&conn, "PRAGMA page_count")? == 0 {
        conn.execute_batch(&format!("PRAGMA page_size = {PAGE_BYTES}; PRAGMA auto_vacuum = INCREMENTAL;"))?;
    }
    conn.execute_batch(&format!(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA checkpoint_fullfsync = ON; PRAGMA cache_size = -{CACHE_KIB}; PRAGMA temp_store = MEMORY;
         PRAGMA cell_size_check = ON;"
    ))?;
    Ok(conn)
}

/// Runs a pragma to its end; the first figure it gives.
pub(super) fn pragma(conn: &Connection, sql: &str) -> rusqlite::Result<i64> {
    let mut s = conn.prepare_cached(sql)?;
    let mut rows = s.query([])?;
    let mut first = None;
    while let Some(row) = rows.next()? {
        if first.is_none() && row.as_ref().column_count() > 0 {
            first = row.get(0).ok();
        }
    }
    Ok(first.unwrap_or(0))
}

/// Scans the log before SQLite opens it. Of a damaged one a copy is kept, with the database it belongs to.
fn check_log(files: &Files, said: Option<Synced>, damage: &mut Vec<Damage>) -> Result<(), Error> {
    let wal::Found::Damaged { frame, why } = wal::scan(&files.wal, said)? else { return Ok(()) };
    let aside = salvage::aside_name(&files.db);
    for (from, to) in [(&files.db, aside.clone()), (&files.wal, salvage::with_suffix(&aside, "-wal"))] {
        match std::fs::copy(from, &to) {
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("set aside", from)(e)),
        }
    }
    File::create(&files.suspect).map_err(Error::io("create", &files.suspect))?;
    damage.push(Damage {
        file: files.wal.clone(),
        place: Place::Frame(frame),
        what: format!("{why}; changes from there on are lost, a copy is kept as {}", aside.display()),
    });
    Ok(())
}

/// The last run, or the log, gave reason to doubt the file: looks at all of it, and salvages if need be.
fn clear_suspicion(files: &Files, damage: &mut Vec<Damage>) -> Result<(), Error> {
    let conn = connect(&files.db, Durability::Sync)?;
    // What of a damaged log lies behind the damage must not be taken for part of the log to come. If this
    // fails, the check says why.
    let _ = pragma(&conn, "PRAGMA wal_checkpoint(TRUNCATE)");
    match conn.query_row("PRAGMA integrity_check(1)", [], |r| r.get::<_, String>(0)) {
        Ok(said) if said == "ok" => {}
        Ok(said) => salvage::salvage(files, conn, said, damage).map(drop)?,
        Err(e) if is_corrupt(&e) => salvage::salvage(files, conn, e.to_string(), damage).map(drop)?,
        Err(e) => return Err(Error::sql("check", &files.db)(e)),
    }
    std::fs::remove_file(&files.suspect).map_err(Error::io("remove", &files.suspect))?;
    sync_dir(&files.dir)
}

/// Loads everything that is needed to go on; a record with damage is salvaged first, and then gone on with.
fn load_sound(
    files: &Files,
    durability: Durability,
    each: &mut dyn FnMut(Loaded),
    opened: &mut Opened,
) -> Result<Connection, Error> {
    let conn = connect(&files.db, durability)?;
    let mut found = Findings::default();
    load::load(&conn, &files.db, each, &mut found, opened).map_err(Error::sql("read", &files.db))?;
    if found.damage.is_empty() {
        return Ok(conn);
    }
    opened.damage.append(&mut found.damage);
    let restored = salvage::salvage(files, conn, "damaged rows".into(), &mut opened.damage)?;
    let conn = connect(&files.db, durability)?;
    load::figures(&conn, &files.db, &mut found, opened).map_err(Error::sql("read", &files.db))?;
    load::load_some(&conn, &files.db, &restored, each, opened).map_err(Error::sql("read", &files.db))?;
    Ok(conn)
}
