//! Sources of objects: a folder or NAS, an HTTP server, an S3 bucket, behind one face.
//!
//! A [`Source`] answers four questions: what is there ([`Source::stat`]), give it to me ([`Source::read`]), is
//! what I have still right ([`Source::revalidate`]), and, where it is declared writable, keep this
//! ([`Source::publish`]). It decides nothing about when and how many: that is `flights`' business. One request
//! is one attempt, but for the few quick retries of [`Settings::retries`] that happen inside it.

mod credentials;
mod error;
mod file;
mod http;
mod remote;

pub use credentials::{Credentials, Secret};
pub use error::Error;
pub(in crate::prefetch) use file::blocking;

use crate::flow::{CellId, ObjectName};
use crate::time::{Clock, Span, Time};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What kind of store a source is, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder: local, or a mounted NAS. Names are resolved beneath it and no symbolic link is followed.
    File {
        /// The folder; symbolic links in this path itself are fine.
        path: PathBuf,
    },
    /// Objects at `url` + path. The server must announce `Content-Length`; `ETag` and ranges are used where it
    /// has them. Publishing is a `PUT`.
    Http {
        /// `http://host[:port]/folder/` or `https://…`, without user, query and fragment.
        url: String,
    },
    /// Objects of a bucket.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// `http(s)://host[:port]`; absent means AWS.
        endpoint: Option<String>,
        /// The region's name; stores that know none accept `us-east-1`.
        region: String,
        /// Put before every path; may be empty.
        prefix: String,
    },
}

/// How long a staged copy may be used without asking the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// For ever: objects of this source never change under one name.
    Immutable,
    /// Not at all: a conditional request before a task's first use.
    Revalidate,
    /// So long since it was last fetched or confirmed.
    Ttl(Span),
}

/// The settings of one source, checked by the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its name: the part of an object's name before the colon.
    pub name: String,
    /// What and where it is.
    pub kind: Kind,
    /// The failure domain it lives in.
    pub cell: CellId,
    /// How long copies stay good.
    pub consistency: Consistency,
    /// Most requests at once, 1 or more.
    pub connections: u16,
    /// Most bytes per second over all its connections; absent means no limit.
    pub bytes_per_s: Option<u64>,
    /// How long connecting may take.
    pub connect_timeout: Span,
    /// How long the source may be silent: before the first byte, or between two pieces of a body.
    pub idle_timeout: Span,
    /// Quick retries inside one request (100 ms apart, then doubling to 1 s); 0 is none.
    pub retries: u8,
    /// Whether outputs may be published to it.
    pub writable: bool,
}

impl Settings {
    /// The defaults for everything but name, kind and cell: `revalidate`, 6 connections (more gained nothing in
    /// the staging measurements, fewer than 4 lost), no bandwidth limit, 5 s to connect, 30 s of silence, 2 quick
    /// retries, read-only.
    pub fn new(name: impl Into<String>, kind: Kind, cell: CellId) -> Settings {
        Settings {
            name: name.into(),
            kind,
            cell,
            consistency: Consistency::Revalidate,
            connections: 6,
            bytes_per_s: None,
            connect_timeout: Span::from_secs(5),
            idle_timeout: Span::from_secs(30),
            retries: 2,
            writable: false,
        }
    }
}

/// Which version of an object this is. Two equal values with an `etag` are the same content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Its length.
    pub bytes: u64,
    /// The source's mark of the version, with its quotes. For folders: size, modification time in ns, inode.
    pub etag: Option<Arc<str>>,
    /// When it was last modified, if the source says so.
    pub modified: Option<Time>,
}

impl Meta {
    /// Whether `other` may be taken for the same version: equal length and equal etag, or, where one of them has
    /// no etag, an equal modification time. Without either there is no telling, and the answer is no.
    pub fn is_same_version(&self, other: &Meta) -> bool {
        self.bytes == other.bytes
            && match (&self.etag, &other.etag) {
                (Some(a), Some(b)) => a == b,
                _ => self.modified.is_some() && self.modified == other.modified,
            }
    }

    /// The etag, if it promises equality byte for byte (RFC 9110 §8.8.1): only such a mark lets a broken
    /// transfer be resumed.
    pub fn strong_etag(&self) -> Option<&str> {
        self.etag.as_deref().filter(|e| !e.starts_with("W/"))
    }

    /// Whether the rest of an object can be asked for so that it certainly fits what is there.
    pub fn is_resumable(&self) -> bool {
        self.strong_etag().is_some() || (self.etag.is_none() && self.modified.is_some())
    }
}

/// The answer to "is what I have still right?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Yes.
    Unchanged,
    /// No: this is what is there now.
    Changed(Meta),
    /// No: nothing is there now.
    Gone,
}

/// A body on its way.
pub struct Reading {
    /// Of the whole object, also when only its rest was asked for.
    pub meta: Meta,
    /// The offset of the first byte of `body`.
    pub from: u64,
    /// From the request to the answer's head.
    pub ttfb: Span,
    /// The bytes from `from` on. It may end early without an error; whoever reads counts.
    pub body: BoxStream<'static, Result<Bytes, Error>>,
}

/// One source. Shared by all transfers; holds the connections that are kept alive.
pub struct Source {
    settings: Settings,
    clock: Clock,
    store: Store,
}

enum Store {
    Folder(file::Folder),
    Remote(Box<remote::Remote>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Source {
    /// Makes a source; nothing is connected to yet, so a source that is down does not keep the daemon from
    /// starting.
    ///
    /// # Errors
    /// [`Error::Setting`] when a setting cannot be used.
    pub fn open(settings: Settings, credentials: Credentials, clock: Clock) -> Result<Source, Error> {
        let store = match &settings.kind {
            Kind::File { path } => Store::Folder(file::Folder::new(path.clone())),
            Kind::Http { .. } | Kind::S3 { .. } => {
                Store::Remote(Box::new(remote::Remote::new(&settings, &credentials)?))
            }
        };
        Ok(Source { settings, clock, store })
    }

    /// The settings it was made from.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The object's full name, `source:path`.
    pub fn object(&self, path: &str) -> ObjectName {
        ObjectName::new(format!("{}:{path}", self.settings.name))
    }

    /// Quick retries that happened inside requests since the start.
    pub fn quick_retries(&self) -> u64 {
        match &self.store {
            Store::Folder(_) => 0,
            Store::Remote(r) => r.quick_retries(),
        }
    }

    /// Asks for length and version. One request (HTTP `HEAD`; where that is refused, a `GET` whose body is
    /// dropped).
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Denied`], [`Error::Unreachable`], [`Error::BadName`], [`Error::Refused`].
    pub async fn stat(&self, path: &str) -> Result<Meta, Error> {
        let object = self.checked(path)?;
        match &self.store {
            Store::Folder(f) => f.stat(object).await,
            Store::Remote(r) => r.stat(&object).await,
        }
    }

    /// Opens the object at offset `from`, one `GET`. With `pin` only that version will do; without, `from`
    /// must be zero, and the version is told by the answer. `ranges_at_once` above 1 fetches a pinned object in
    /// that many parallel ranges of 8 MiB, if it is longer than two of them.
    ///
    /// # Errors
    /// As [`Source::stat`]; [`Error::Changed`] when it is another version than `pin`; [`Error::NoRanges`] when
    /// its rest cannot be had because the server serves whole objects only.
    pub async fn read(
        &self,
        path: &str,
        from: u64,
        pin: Option<&Meta>,
        ranges_at_once: u16,
    ) -> Result<Reading, Error> {
        assert!(from == 0 || pin.is_some(), "the rest of an object is asked for by version");
        let object = self.checked(path)?;
        let asked = self.clock.now();
        let (meta, body) = match &self.store {
            Store::Folder(f) => f.read(object, from, pin).await?,
            Store::Remote(r) => r.read(&object, from, pin, ranges_at_once).await?,
        };
        Ok(Reading { meta, from, ttfb: self.clock.now().since(asked), body })
    }

    /// Asks whether `known` is still the current version, by a conditional request where the source has etags.
    /// Without etag and modification time the answer is always [`Freshness::Changed`].
    ///
    /// # Errors
    /// As [`Source::stat`], but a missing object is an answer, not an error.
    pub async fn revalidate(&self, path: &str, known: &Meta) -> Result<Freshness, Error> {
        let object = self.checked(path)?;
        let now = match &self.store {
            Store::Folder(f) => f.stat(object).await,
            Store::Remote(r) => match r.stat_unless(&object, known).await {
                Ok(None) => return Ok(Freshness::Unchanged),
                Ok(Some(meta)) => Ok(meta),
                Err(e) => Err(e),
            },
        };
        match now {
            Ok(meta) if meta.is_same_version(known) => Ok(Freshness::Unchanged),
            Ok(meta) => Ok(Freshness::Changed(meta)),
            Err(Error::Missing { .. }) => Ok(Freshness::Gone),
            Err(e) => Err(e),
        }
    }

    /// Stores the content of `file` under `path`, replacing what is there at once or not at all, and returns
    /// the version that this made. In a folder it is on disk when this returns.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] unless the source is `writable`; [`Error::DiskFull`], [`Error::Disk`], and those of
    /// [`Source::stat`].
    pub async fn publish(&self, path: &str, file: &Path) -> Result<Meta, Error> {
        let object = self.checked(path)?;
        if !self.settings.writable {
            return Err(Error::ReadOnly { object });
        }
        match &self.store {
            Store::Folder(f) => f.publish(object, file.to_owned()).await,
            Store::Remote(r) => r.publish(&object, file).await,
        }
    }

    /// The full name, after a check that does not rely on the caller: no path leaves a source's root.
    fn checked(&self, path: &str) -> Result<ObjectName, Error> {
        let object = self.object(path);
        match name_fault(path) {
            Some(reason) => Err(Error::BadName { object, reason }),
            None => Ok(object),
        }
    }
}

/// Which rule a path breaks, if any.
fn name_fault(path: &str) -> Option<&'static str> {
    /// S3's limit for keys, the tightest of the three kinds.
    const PATH_LIMIT_BYTES: usize = 1024;
    if path.len() > PATH_LIMIT_BYTES {
        return Some("its path is longer than 1024 bytes");
    }
    if path.chars().any(char::is_control) {
        return Some("its path holds a control character");
    }
    // The client library trims names, so that such a name would mean another object there.
    if path.trim() != path {
        return Some("its path begins or ends with a space");
    }
    path.split('/').find_map(|part| match part {
        "" => Some("its path has an empty part"),
        "." | ".." => Some("its path has a part `.` or `..`"),
        p if p.starts_with(file::TEMP_PREFIX) => Some("its path has a part that names a temporary file"),
        _ => None,
    })
}

#[cfg(test)]
pub(in crate::prefetch) mod server;
#[cfg(test)]
mod tests;
