//! The configuration: TOML in, checked plain structs out, and an error with line and caret for each thing
//! that is wrong.
//!
//! [`Config::parse`] is pure: what depends on the host (folders, cores) is given to it as [`Surroundings`],
//! and what must be asked of the host (is the file system large enough?) is a second step, [`check_host`].
//! The first entry of a section has id 0, the next id 1, in the order of the file.

mod cache;
mod cell;
mod changes;
mod check;
mod daemon;
mod dispatch;
mod error;
#[cfg(test)]
mod golden;
mod host;
mod kind;
mod locate;
mod monitor;
mod nearest;
mod predict;
mod reader;
mod record;
mod source;
mod staging;
mod task_type;
pub mod unit;
mod worker;

pub use cache::{Cache, Eviction};
pub use cell::Cell;
pub use changes::Changes;
pub use daemon::{Daemon, Log, LogLevel, SOCKET_PATH_LIMIT_BYTES};
pub use dispatch::{Dispatch, Policy};
pub use error::{Error, Problem, Report, Severity};
pub use host::{CHILD_PATH, check_host};
pub use locate::{Located, NamedBy, SYSTEM_FILE, Surroundings, locate};
pub use monitor::{Monitor, Resolution};
pub use predict::{Exponents, Predict, Profile};
pub use record::{Durability, Record};
pub use source::{Consistency, Source, SourceKind};
pub use staging::{Mode as StagingMode, Staging};
pub use worker::Worker;

use crate::flow::{CacheId, CellId, SourceId, TypeId, WorkerId};
use crate::task::{Catalogue, Places, SourcePlace, TaskType, is_name};
use kind::Names;
use reader::{Noted, Notes, Section};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use toml::Spanned;
use toml::de::DeTable;

/// Longest file that is read, bytes. Ten thousand task types need about three MiB.
pub const FILE_LIMIT_BYTES: u64 = 16 << 20;

/// Up to this length all syntax errors of a text are shown, beyond it the first one: megabytes of what is no
/// TOML would give millions.
const RECOVERY_LIMIT_BYTES: usize = 256 << 10;

/// Most entries of `[cell]`, `[source]`, `[cache]` and `[worker]`. Outside workers come after those of the
/// file, and ids have 16 bits.
pub const NAMED_LIMIT: usize = 4_096;

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[daemon]`.
    pub daemon: Daemon,
    /// `[record]`.
    pub record: Record,
    /// `[dispatch]`.
    pub dispatch: Dispatch,
    /// `[predict]`.
    pub predict: Predict,
    /// `[profile]`.
    pub profile: Profile,
    /// `[staging]`.
    pub staging: Staging,
    /// `[monitor]`.
    pub monitor: Monitor,
    /// `[cell.NAME]`, indexed by [`CellId`]; at least one, `local` if none is declared.
    pub cells: Vec<Cell>,
    /// `[source.NAME]`, indexed by [`SourceId`].
    pub sources: Vec<Source>,
    /// `[cache.NAME]`, indexed by [`CacheId`]; at least one, `local` if none is declared.
    pub caches: Vec<Cache>,
    /// `[worker.NAME]`, indexed by [`WorkerId`]; at least one, `local` with as many slots as cores if none is
    /// declared.
    pub workers: Vec<Worker>,
    /// `[type.NAME]`, indexed by [`TypeId`].
    pub types: Vec<TaskType>,
    /// What is accepted, and probably not what was meant.
    pub warnings: Report,
    origin: Origin,
}

/// The text that a configuration was read from, for messages about it.
#[derive(Clone, Default)]
struct Origin {
    path: Option<PathBuf>,
    text: Arc<str>,
    spans: BTreeMap<String, Range<usize>>,
    secrets: Vec<Range<usize>>,
}

impl std::fmt::Debug for Origin {
    /// Without the text, which may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Config {
    /// Reads a text. `path` only names it in messages.
    ///
    /// # Errors
    /// [`Error::Invalid`] with all that is wrong, or [`Error::TooLarge`].
    pub fn parse(text: &str, path: Option<&Path>, around: &Surroundings) -> Result<Config, Error> {
        Config::parse_noting(text, path, around, &Notes::default())
    }

    /// The built-in defaults: no types, one worker, one pool.
    ///
    /// # Errors
    /// If a default is not acceptable: a home folder whose name makes the socket's path too long.
    pub fn defaults(around: &Surroundings) -> Result<Config, Error> {
        Config::parse("", None, around)
    }

    /// Reads what [`locate()`] found.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn load(located: &Located, around: &Surroundings) -> Result<Config, Error> {
        match located {
            Located::Defaults => Config::defaults(around),
            Located::File { path, .. } => Config::parse(&read_text(path)?, Some(path), around),
        }
    }

    fn parse_noting(
        text: &str,
        path: Option<&Path>,
        around: &Surroundings,
        notes: &Notes,
    ) -> Result<Config, Error> {
        let path = path.map(Path::to_owned);
        if text.len() as u64 > FILE_LIMIT_BYTES {
            return Err(Error::TooLarge { path: path.unwrap_or_default(), found_bytes: text.len() as u64 });
        }
        let (table, errors) = if text.len() <= RECOVERY_LIMIT_BYTES {
            DeTable::parse_recoverable(text)
        } else {
            DeTable::parse(text)
                .map_or_else(|e| (Spanned::new(0..0, DeTable::new()), vec![e]), |t| (t, vec![]))
        };
        if !errors.is_empty() {
            // What could be read around them is a guess: its problems would only be noise.
            let problems = errors.iter().map(syntax).collect();
            return Err(Error::Invalid(Report::new(path, text.into(), problems, &[])));
        }
        let mut config = read_all(Section::root(table.get_ref(), notes), around);
        check::check(&config, notes);
        let Noted { problems, spans, secrets } = notes.take();
        let text: Arc<str> = text.into();
        let report = Report::new(path.clone(), text.clone(), problems, &secrets);
        if report.has_errors() {
            return Err(Error::Invalid(report));
        }
        config.warnings = report;
        config.origin = Origin { path, text, spans, secrets };
        Ok(config)
    }

    /// The task types, for `task`.
    pub fn catalogue(&self) -> Catalogue {
        Catalogue::new(self.types.clone())
    }

    /// Sources and cells, for `task`.
    pub fn places(&self) -> Places {
        let place = |s: &Source| SourcePlace {
            name: s.name.clone(),
            cell: s.cell,
            shard_by: s.shard_by.clone(),
            shards: s.shards,
        };
        Places::new(
            self.sources.iter().map(place).collect(),
            self.cells.iter().map(|c| c.name.clone()).collect(),
        )
    }

    /// Every worker with its id.
    pub fn workers(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.workers.iter().enumerate().map(|(i, w)| (WorkerId(i as u16), w))
    }

    /// Every pool with its id.
    pub fn caches(&self) -> impl Iterator<Item = (CacheId, &Cache)> {
        self.caches.iter().enumerate().map(|(i, c)| (CacheId(i as u16), c))
    }

    /// Every source with its id.
    pub fn sources(&self) -> impl Iterator<Item = (SourceId, &Source)> {
        self.sources.iter().enumerate().map(|(i, s)| (SourceId(i as u16), s))
    }

    /// Every cell with its id and the largest number of shards that a source in it has.
    pub fn cells(&self) -> impl Iterator<Item = (CellId, &Cell, u16)> {
        self.cells.iter().enumerate().map(|(i, c)| {
            let id = CellId(i as u16);
            let shards = self.sources.iter().filter(|s| s.cell == id).map(|s| s.shards).max();
            (id, c, shards.unwrap_or(1))
        })
    }

    /// Every task type with its id.
    pub fn types(&self) -> impl Iterator<Item = (TypeId, &TaskType)> {
        self.types.iter().enumerate().map(|(i, t)| (TypeId(i as u16), t))
    }

    /// The file it was read from; `None` for the built-in defaults.
    pub fn path(&self) -> Option<&Path> {
        self.origin.path.as_deref()
    }
}

fn read_all(mut root: Section<'_>, around: &Surroundings) -> Config {
    let daemon = daemon::read(root.table("daemon"), around);
    let record = record::read(root.table("record"));
    let dispatch = dispatch::read(root.table("dispatch"));
    let predict = predict::read(root.table("predict"));
    let profile = predict::read_profile(root.table("profile"));
    let staging = staging::read(root.table("staging"));
    let monitor = monitor::read(root.table("monitor"));

    let mut cells = named(&mut root, "cell", NAMED_LIMIT, cell::read);
    if cells.is_empty() {
        cells.push(Cell::implicit());
    }
    let cell_names = Names::of(&cells, |c| &c.name);
    let sources = named(&mut root, "source", NAMED_LIMIT, |name, s| source::read(name, s, &cell_names));
    let mut caches = named(&mut root, "cache", NAMED_LIMIT, |name, s| cache::read(name, s, around));
    if caches.is_empty() {
        caches.push(Cache::implicit(around));
    }
    let by_name: BTreeMap<&str, &Source> = sources.iter().map(|s| (s.name.as_str(), s)).collect();
    let types = named(&mut root, "type", Catalogue::LIMIT, |name, s| task_type::read(name, s, &by_name));
    let names = worker::Names {
        cells: cell_names,
        caches: Names::of(&caches, |c| &c.name),
        types: Names::of(&types, |t| &t.name),
    };
    let mut workers = named(&mut root, "worker", NAMED_LIMIT, |name, s| worker::read(name, s, &names));
    if workers.is_empty() {
        workers.push(Worker::implicit(around));
    }
    root.finish();
    let (warnings, origin) = (Report::default(), Origin::default());
    Config {
        daemon,
        record,
        dispatch,
        predict,
        profile,
        staging,
        monitor,
        cells,
        sources,
        caches,
        workers,
        types,
        warnings,
        origin,
    }
}

/// The named tables of a section. One with a bad name is read on, so that what refers to it is not blamed.
fn named<T>(
    root: &mut Section<'_>,
    section: &'static str,
    limit: usize,
    mut read: impl FnMut(String, Section<'_>) -> T,
) -> Vec<T> {
    let tables = root.named(section);
    if tables.len() > limit {
        root.wrong_at(section, &format!("has {} entries", tables.len()), format!("accepted: up to {limit}"));
        return Vec::new();
    }
    let one = |(name, table): (String, Section<'_>)| {
        // A source's name ends at the first colon of an object's name and begins a variable's: no dots.
        if !is_name(&name) || (section == "source" && name.contains('.')) {
            let marks = if section == "source" { "`_` and `-`" } else { "`_`, `-` and `.`" };
            let label =
                format!("accepted: letters, digits, {marks}, beginning with a letter or digit, up to 64");
            table.wrong("has a name that is not accepted", label);
        }
        read(name, table)
    };
    tables.into_iter().map(one).collect()
}

fn syntax(error: &toml::de::Error) -> Problem {
    Problem {
        severity: Severity::Error,
        key: String::new(),
        title: format!("this is no TOML: {}", error.message()),
        found: String::new(),
        label: "here".into(),
        help: None,
        line: None,
        span: Some(error.span().unwrap_or(0..0)),
    }
}

fn read_text(path: &Path) -> Result<String, Error> {
    use std::io::Read;
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    // Not by the length the system tells: a pipe or /proc has none.
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_LIMIT_BYTES {
        let found_bytes = std::fs::metadata(path).map_or(0, |m| m.len()).max(bytes.len() as u64);
        return Err(Error::TooLarge { path: path.to_owned(), found_bytes });
    }
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|b| **b == b'\n').count();
        Error::NotText { path: path.to_owned(), line }
    })
}
