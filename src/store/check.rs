//! A check of the whole record, beside its use.

use super::damage::{Damage, Place};
use super::open::Files;
use super::record::{Sealer, Table};
use super::rows::{Findings, Names, walk};
use super::{Error, reader, salvage};
use rusqlite::Connection;
use std::path::Path;

/// How many of SQLite's own findings are reported.
const SQLITE_FINDINGS: usize = 100;

/// Reads every row of the record in `dir`, checks its seal and what rows say of each other, and has SQLite
/// check the file's structure. About two seconds a million tasks. If anything is found, the next start
/// looks again, and salvages.
///
/// # Errors
/// What kept the check from being made; damage is no error.
pub fn check(dir: &Path) -> Result<Vec<Damage>, Error> {
    let files = Files::new(dir);
    let conn = reader::connect(&files.db)?;
    let mut found = Findings::default();
    // One transaction: all tables are seen at one moment.
    conn.execute_batch("BEGIN").map_err(Error::sql("check", &files.db))?;
    seals(&conn, &files, &mut found).map_err(Error::sql("check", &files.db))?;
    if !found.structure {
        relations(&conn, &files, &mut found);
    }
    structure(&conn, &files, &mut found);
    if !found.damage.is_empty() {
        std::fs::File::create(&files.suspect).map_err(Error::io("create", &files.suspect))?;
    }
    Ok(found.damage)
}

fn seals(conn: &Connection, files: &Files, found: &mut Findings) -> rusqlite::Result<()> {
    let (mut sealer, mut names) = (Sealer::default(), Names::default());
    for table in [Table::Task, Table::State, Table::Done, Table::Key, Table::Meta, Table::Kept] {
        walk(conn, &files.db, table, found, &mut |key, row| {
            salvage::verdict(table, key, row, &mut sealer, &mut names)
        })?;
    }
    Ok(())
}

/// What must hold between tables: every state has its task, every task its state, every end its outcome.
fn relations(conn: &Connection, files: &Files, found: &mut Findings) {
    let rules = [
        ("SELECT id FROM state WHERE id NOT IN (SELECT id FROM task)", Table::Task, "the row is missing"),
        ("SELECT id FROM task WHERE id NOT IN (SELECT id FROM state)", Table::State, "the row is missing"),
        (
            "SELECT seq FROM state WHERE state>=4 AND seq NOT IN (SELECT seq FROM done)",
            Table::Done,
            "the row is missing",
        ),
        ("SELECT id FROM key WHERE id NOT IN (SELECT id FROM task)", Table::Key, "its task is missing"),
    ];
    for (sql, table, what) in rules {
        let each = conn.prepare(sql).and_then(|mut s| {
            let keys = s.query_map([], |r| r.get::<_, i64>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(keys)
        });
        match each {
            Ok(keys) => keys.into_iter().for_each(|key| found.row(&files.db, table, key, what)),
            Err(e) => whole(files, found, e.to_string()),
        }
    }
}

fn structure(conn: &Connection, files: &Files, found: &mut Findings) {
    let said = conn
        .prepare(&format!("PRAGMA integrity_check({SQLITE_FINDINGS})"))
        .and_then(|mut s| s.query_map([], |r| r.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>());
    match said {
        Ok(lines) => lines.into_iter().filter(|l| l != "ok").for_each(|l| whole(files, found, l)),
        Err(e) => whole(files, found, e.to_string()),
    }
}

fn whole(files: &Files, found: &mut Findings, what: String) {
    found.push(Damage { file: files.db.clone(), place: Place::File, what });
}
