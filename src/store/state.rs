//! What can be rebuilt: profiles, predictor snapshots, cache indices, series. sled, at arm's length.
//!
//! sled 0.34.7 is quick and small; three habits of it are worked around here. Its `flush` orders pages with
//! `sync_file_range` and leaves the rest to chance: [`State::flush`] adds an `fdatasync`. A tree page that
//! outgrows 128 KiB goes to a file that is never synced: values are cut into pieces that keep pages below that
//! ([`PIECE_BYTES`]). One flipped bit can make it panic, at opening or at any read: every call runs under
//! `catch_unwind`, every value has a checksum, and a store that fails either is set aside and begun anew.
//!
//! Losing this store costs a warm-up, not a task. It must never keep the daemon from starting.
//!
//! Settings, and why: no flush thread (`flush_every_ms = None`: who writes decides when to flush), a page cache
//! of [`CACHE_BYTES`] (an idle daemon should be small, and the trees are read at start), segments of
//! 512 KiB (a smaller one lowers the limit for pages by as much), mode `LowSpace`.

mod value;

use super::damage::{Damage, Place};
use super::{Error, sync_dir};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use value::PIECE_BYTES;

/// sled's page cache.
pub const CACHE_BYTES: u64 = 4 << 20;
/// A key longer than this is refused: keys count against the page limit too.
pub const KEY_LIMIT_BYTES: usize = 255;
/// A value larger than this is refused. The largest, a predictor snapshot, is a few MiB.
pub const VALUE_LIMIT_BYTES: usize = 256 << 20;

/// The trees in use; caches have one each, see [`cache_tree`].
pub const PROFILES: &str = "profiles";
/// Predictor snapshots.
pub const SNAPSHOTS: &str = "snapshots";
/// Key in [`SNAPSHOTS`] of the history of one cache's objects.
pub fn history_key(cache: &str) -> Vec<u8> {
    format!("objects/{cache}").into_bytes()
}
/// Series of the monitor.
pub const SERIES: &str = "series";
/// The tree of one cache's index.
pub fn cache_tree(cache: &str) -> String {
    format!("caches/{cache}")
}

/// The store. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct State(Arc<Shared>);

struct Shared {
    db: sled::Db,
    dir: PathBuf,
    /// The file whose pages sled leaves to chance.
    file: File,
    broken: AtomicBool,
}

/// One tree of the store. Values are bytes, or anything serde takes, as JSON.
#[derive(Clone)]
pub struct Tree {
    state: State,
    heads: sled::Tree,
    pieces: sled::Tree,
}

impl State {
    /// Opens the store in `dir`, and makes it if there is none. One that cannot be opened, or holds a value
    /// that cannot be read, is moved to `<dir>.damaged-N` and begun anew; the damage says so.
    ///
    /// # Errors
    /// If a fresh store cannot be made either.
    pub fn open(dir: &Path) -> Result<(State, Option<Damage>), Error> {
        let suspect = suspect(dir);
        let why = if suspect.exists() {
            "the last run found it broken".to_owned()
        } else {
            match State::open_sound(dir) {
                Ok(state) => return Ok((state, None)),
                Err(why) => why,
            }
        };
        let aside = set_aside(dir)?;
        let state = State::open_sound(dir)
            .map_err(|detail| Error::State { path: dir.to_owned(), detail: detail.into() })?;
        match std::fs::remove_file(&suspect) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &suspect)(e));
            }
            _ => {}
        }
        let what = format!("{why}; begun anew, the old store is {}", aside.display());
        Ok((state, Some(Damage { file: dir.to_owned(), place: Place::File, what })))
    }

    /// Opens and reads everything once, so that damage shows now and not in the middle of the day.
    fn open_sound(dir: &Path) -> Result<State, String> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .mode(sled::Mode::LowSpace);
        let db = unpanicked(|| config.open())?;
        let file = File::open(dir.join("db")).map_err(|e| e.to_string())?;
        let shared = Shared { db, dir: dir.to_owned(), file, broken: AtomicBool::new(false) };
        let state = State(Arc::new(shared));
        match state.verify() {
            Ok(()) => Ok(state),
            Err(e) => {
                // Dropping a damaged store flushes it, which may panic again.
                let dropped = catch_unwind(AssertUnwindSafe(|| drop(state)));
                if dropped.is_err() {
                    tracing::warn!("state store panicked again when it was closed");
                }
                Err(e.to_string())
            }
        }
    }

    /// Reads every value and checks it.
    fn verify(&self) -> Result<(), Error> {
        for name in self.guard(|db| Ok(db.tree_names()))? {
            let Ok(name) = std::str::from_utf8(&name) else { continue };
            if name.ends_with(value::PIECES) || name == "__sled__default" {
                continue;
            }
            let tree = self.tree(name)?;
            tree.scan_bytes(b"", |_, _| ())?;
            tree.drop_stray_pieces()?;
        }
        Ok(())
    }

    /// A tree by name; made if there is none.
    ///
    /// # Errors
    /// sled's.
    pub fn tree(&self, name: &str) -> Result<Tree, Error> {
        self.guard(|db| {
            let heads = db.open_tree(name)?;
            let pieces = db.open_tree(format!("{name}{}", value::PIECES))?;
            Ok(Tree { state: self.clone(), heads, pieces })
        })
    }

    /// Removes a tree with all its values: that of a cache that is configured no more.
    ///
    /// # Errors
    /// sled's.
    pub fn drop_tree(&self, name: &str) -> Result<(), Error> {
        self.guard(|db| {
            db.drop_tree(name)?;
            db.drop_tree(format!("{name}{}", value::PIECES))
        })
        .map(drop)
    }

    /// The names of all trees.
    ///
    /// # Errors
    /// sled's.
    pub fn trees(&self) -> Result<Vec<String>, Error> {
        let names = self.guard(|db| Ok(db.tree_names()))?;
        let names = names.iter().filter_map(|n| String::from_utf8(n.to_vec()).ok());
        Ok(names.filter(|n| !n.ends_with(value::PIECES) && n != "__sled__default").collect())
    }

    /// Makes everything that was put durable. Blocks for some milliseconds: not on an arbiter.
    ///
    /// # Errors
    /// sled's and the file system's.
    pub fn flush(&self) -> Result<(), Error> {
        self.guard(|db| db.flush())?;
        self.0.file.sync_data().map_err(Error::io("sync", &self.0.dir))
    }

    /// Bytes the store takes on disk.
    ///
    /// # Errors
    /// sled's.
    pub fn size_bytes(&self) -> Result<u64, Error> {
        self.guard(|db| db.size_on_disk())
    }

    /// Runs a call into sled. After a panic or an error the store is not asked again, and the next start sets
    /// it aside.
    fn guard<T>(&self, call: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, Error> {
        let error = |detail: String| Error::State { path: self.0.dir.clone(), detail: detail.into() };
        if self.0.broken.load(Ordering::Relaxed) {
            return Err(error("it failed before".into()));
        }
        unpanicked(|| call(&self.0.db)).map_err(|detail| {
            self.break_off();
            error(detail)
        })
    }

    fn break_off(&self) {
        self.0.broken.store(true, Ordering::Relaxed);
        // If this fails too, the next start finds the damage by itself, or has none.
        let _ = File::create(suspect(&self.0.dir));
    }

    fn damaged(&self, detail: String) -> Error {
        self.break_off();
        Error::State { path: self.0.dir.clone(), detail: detail.into() }
    }
}

impl Tree {
    /// Puts a value, as JSON.
    ///
    /// # Errors
    /// [`Error::State`], also if the value is no JSON (a map with keys that are no strings).
    pub fn put<T: Serialize>(&self, key: &[u8], value: &T) -> Result<(), Error> {
        let json = serde_json::to_vec(value).map_err(|e| self.refuse(&e))?;
        self.put_bytes(key, &json)
    }

    /// Gets a value that [`Self::put`] wrote; `None` if there is none. One of an older shape than `T` is an
    /// error of its own kind only to the reader: `Ok(Err(..))`, and the store stays in use.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn get<T: DeserializeOwned>(
        &self,
        key: &[u8],
    ) -> Result<Option<Result<T, serde_json::Error>>, Error> {
        Ok(self.get_bytes(key)?.map(|json| serde_json::from_slice(&json)))
    }

    /// Gives every value whose key begins with `prefix`, by rising key.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn scan<T: DeserializeOwned>(
        &self,
        prefix: &[u8],
        mut each: impl FnMut(&[u8], Result<T, serde_json::Error>),
    ) -> Result<(), Error> {
        self.scan_bytes(prefix, |key, json| each(key, serde_json::from_slice(json)))
    }

    fn refuse(&self, why: &dyn std::fmt::Display) -> Error {
        Error::State { path: self.state.0.dir.clone(), detail: why.to_string().into() }
    }
}

/// Runs a call into sled; a panic is an error like another.
fn unpanicked<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(panic) => Err(match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
            (Some(said), _) => format!("sled panicked: {said}"),
            (_, Some(said)) => format!("sled panicked: {said}"),
            _ => "sled panicked".into(),
        }),
    }
}

/// The file that says that the store in `dir` was found broken.
fn suspect(dir: &Path) -> PathBuf {
    super::salvage::with_suffix(dir, ".suspect")
}

/// Moves the store out of the way; its new name.
fn set_aside(dir: &Path) -> Result<PathBuf, Error> {
    let aside = super::salvage::aside_name(dir);
    match std::fs::rename(dir, &aside) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("set aside", dir)(e)),
        _ => {}
    }
    if let Some(parent) = dir.parent() {
        sync_dir(parent)?;
    }
    Ok(aside)
}
