//! `[source.NAME]`: where objects come from.

use super::kind::{AbsolutePath, Flag, IntegerIn, Kind, Known, Names, OneOf, RateIn, SpanIn, Text};
use super::reader::{Section, Value};
use super::staging::RATES;
use crate::flow::CellId;
use crate::task::parse_object;
use crate::time::Span;
use regex::Regex;
use std::path::PathBuf;

/// A source of objects.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name: what stands before the colon in an object's name. Letters, digits, `_` and `-`.
    pub name: String,
    /// What and where it is.
    pub kind: SourceKind,
    /// The cell it stands in. Default the only one; without any, a cell `local`.
    pub cell: CellId,
    /// Its first capture on an object's path decides the shard. Default: the whole path does.
    pub shard_by: Option<Regex>,
    /// How many shards it has, 1 to 1,024. Default 1.
    pub shards: u16,
    /// How long a staged copy stays good. Default [`Consistency::Revalidate`].
    pub consistency: Consistency,
    /// Most requests at once, 1 to 256. Default 6.
    pub connections: u16,
    /// Most bytes per second over all its connections, 1 KiB to 1 TiB. Default no limit.
    pub bytes_per_s: Option<u64>,
    /// How long connecting may take, 10 ms to 10 min. Default 5 s.
    pub connect_timeout: Span,
    /// How long it may be silent, 10 ms to 1 h. Default 30 s.
    pub timeout: Span,
    /// Quick retries inside one request, 0 to 20. Default 2.
    pub retries: u8,
    /// Whether outputs may be published to it. Default false.
    pub writable: bool,
    /// Path of an object that is asked for to measure its latency. Default none: transfers alone measure it.
    pub probe: Option<String>,
}

/// What and where a source is. Credentials never stand in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A folder, local or mounted.
    File {
        /// The folder, absolute.
        path: PathBuf,
    },
    /// Objects at an address followed by their path.
    Http {
        /// `http://` or `https://`, host, folder; ends with `/`; without user, query and fragment.
        url: String,
    },
    /// Objects of a bucket.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// `http(s)://host[:port]`; `None` is AWS.
        endpoint: Option<String>,
        /// The region's name. Default `us-east-1`.
        region: String,
        /// Put before every path; empty or ending with `/`. Default empty.
        prefix: String,
    },
}

/// How long a staged copy may be used without asking its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// For ever: an object never changes under one name.
    Immutable,
    /// Not at all: a conditional request before a task's first use.
    Revalidate,
    /// So long since it was last fetched or confirmed, 1 ms to 10 years.
    Ttl(Span),
}

#[derive(Clone, Copy, PartialEq)]
enum Sort {
    File,
    Http,
    S3,
}

const SORTS: &[(&str, Sort)] = &[("file", Sort::File), ("http", Sort::Http), ("s3", Sort::S3)];

#[derive(Clone, Copy, PartialEq)]
enum Freshness {
    Immutable,
    Revalidate,
    Ttl,
}

const FRESHNESS: &[(&str, Freshness)] =
    &[("immutable", Freshness::Immutable), ("revalidate", Freshness::Revalidate), ("ttl", Freshness::Ttl)];

pub(super) fn read(name: String, mut s: Section<'_>, cells: &Names) -> Source {
    let known = || Known { what: "cell", names: cells };
    let cell = if cells.is_single() { s.read("cell", known()) } else { s.require("cell", known()) };
    // A source that cannot be told keeps its name, so that what refers to it is not blamed.
    let kind = kind(&mut s).unwrap_or(SourceKind::File { path: PathBuf::from("/") });
    let (low, high) = (Span::from_ms(10), Span::from_secs(3_600));
    let source = Source {
        name,
        kind,
        cell: CellId(cell.unwrap_or(0) as u16),
        shard_by: s.read("shard_by", Capture),
        shards: s.read("shards", IntegerIn(1u16, 1_024, "shards")).unwrap_or(1),
        consistency: consistency(&mut s),
        connections: s.read("connections", IntegerIn(1u16, 256, "requests at once")).unwrap_or(6),
        bytes_per_s: s.read("bandwidth", RateIn(RATES.0, RATES.1)),
        connect_timeout: s
            .read("connect_timeout", SpanIn(low, Span::from_secs(600)))
            .unwrap_or(Span::from_secs(5)),
        timeout: s.read("timeout", SpanIn(low, high)).unwrap_or(Span::from_secs(30)),
        retries: s.read("retries", IntegerIn(0u8, 20, "retries")).unwrap_or(2),
        writable: s.read("writable", Flag).unwrap_or(false),
        probe: s.read("probe", ObjectPath),
    };
    s.finish();
    source
}

fn kind(s: &mut Section<'_>) -> Option<SourceKind> {
    let sort = s.require("kind", OneOf(SORTS));
    // All keys of all kinds are asked for, so that one of another kind is not called unknown.
    let others = [
        ("path", Sort::File),
        ("url", Sort::Http),
        ("bucket", Sort::S3),
        ("endpoint", Sort::S3),
        ("region", Sort::S3),
        ("prefix", Sort::S3),
    ];
    for (key, of) in others {
        let value = s.value(key);
        if let (Some(value), Some(sort)) = (value, sort)
            && sort != of
        {
            let word = |sort| SORTS.iter().find(|(_, s)| *s == sort).map_or("", |(word, _)| *word);
            let label = format!("accepted: `{key}` with kind = \"{}\"; this is \"{}\"", word(of), word(sort));
            value.wrong("does not fit the kind", label);
        }
    }
    match sort? {
        Sort::File => Some(SourceKind::File { path: s.require("path", AbsolutePath)? }),
        Sort::Http => Some(SourceKind::Http { url: s.require("url", Url { folder: true })? }),
        Sort::S3 => {
            let bucket = s.require("bucket", Bucket);
            let endpoint = s.read("endpoint", Url { folder: false });
            let region = s.read("region", Text(64)).unwrap_or_else(|| "us-east-1".into());
            let prefix = s.read("prefix", Prefix).unwrap_or_default();
            Some(SourceKind::S3 { bucket: bucket?, endpoint, region, prefix })
        }
    }
}

fn consistency(s: &mut Section<'_>) -> Consistency {
    let word = s.read("consistency", OneOf(FRESHNESS)).unwrap_or(Freshness::Revalidate);
    let kind = SpanIn(Span::from_ms(1), Span::from_secs(3_650 * 86_400));
    if word == Freshness::Ttl {
        return s.require("ttl", kind).map_or(Consistency::Revalidate, Consistency::Ttl);
    }
    if let Some(value) = s.value("ttl") {
        value.wrong("has no effect", "accepted: `ttl` with consistency = \"ttl\"");
    }
    match word {
        Freshness::Immutable => Consistency::Immutable,
        _ => Consistency::Revalidate,
    }
}

/// A regular expression with at least one capture.
struct Capture;

impl Kind for Capture {
    type Out = Regex;
    fn accepted(&self) -> String {
        "a regular expression whose first capture decides the shard, as in '^([^/]+)/'".into()
    }
    fn read(&self, value: &Value<'_>) -> Option<Regex> {
        let Some(text) = value.text() else {
            value.mistyped(&self.accepted());
            return None;
        };
        let label = format!("accepted: {}", self.accepted());
        match regex::RegexBuilder::new(text).size_limit(1 << 20).build() {
            Ok(regex) if regex.captures_len() > 1 => return Some(regex),
            Ok(_) => value.wrong("captures nothing", label),
            Err(e) => value.wrong("is no regular expression", format!("{}; {label}", reason(&e))),
        }
        None
    }
}

/// What a regular expression's error says, in one line.
pub(super) fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// An HTTP address without user, query and fragment. A folder gets its last slash if it lacks it.
struct Url {
    folder: bool,
}

impl Kind for Url {
    type Out = String;
    fn accepted(&self) -> String {
        match self.folder {
            true => "\"http://host[:port]/folder/\" or \"https://…\"".into(),
            false => "\"http://host[:port]\" or \"https://…\"".into(),
        }
    }
    fn read(&self, value: &Value<'_>) -> Option<String> {
        let text = Text(2_048).read(value)?;
        let label = format!("accepted: {}", self.accepted());
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        let Some(rest) = rest else {
            value.wrong("does not begin with http:// or https://", label);
            return None;
        };
        let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
        if rest.contains('@') {
            let help =
                "give them as `NAME.username` and `NAME.password` by LoadCredential= or in the environment";
            value.hide();
            value.wrong_so("holds credentials", label, Some(help.into()));
        } else if rest.contains(['?', '#', ' ', '\\']) {
            value.wrong("holds a query, fragment, space or backslash", label);
        } else if !is_host(host) {
            value.wrong("names no host", label);
        } else if !self.folder && path.is_some_and(|p| !p.is_empty()) {
            value.wrong("has a path", label);
        } else {
            return Some(match (self.folder, text.ends_with('/')) {
                (true, false) => text + "/",
                (false, true) => text[..text.len() - 1].to_owned(),
                _ => text,
            });
        }
        None
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        // A colon inside brackets belongs to the address.
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let name = name
        .strip_prefix('[')
        .and_then(|n| n.strip_suffix(']'))
        .map_or(name, |inner| if inner.parse::<std::net::Ipv6Addr>().is_ok() { "v6" } else { "" });
    let good = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    !name.is_empty() && good && port.is_none_or(|p| p.parse::<u16>().is_ok_and(|p| p > 0))
}

/// A bucket's name by the rules of S3.
struct Bucket;

impl Kind for Bucket {
    type Out = String;
    fn accepted(&self) -> String {
        "a bucket's name: 3 to 63 of a-z, 0-9, `.` and `-`".into()
    }
    fn read(&self, value: &Value<'_>) -> Option<String> {
        let text = Text(255).read(value)?;
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
        if (3..=63).contains(&text.len()) && text.bytes().all(good) {
            return Some(text);
        }
        value.wrong("is no bucket's name", format!("accepted: {}", self.accepted()));
        None
    }
}

/// A folder inside a bucket; gets its last slash if it lacks it.
struct Prefix;

impl Kind for Prefix {
    type Out = String;
    fn accepted(&self) -> String {
        "a relative path without `..`, as in \"snapshots/\"".into()
    }
    fn read(&self, value: &Value<'_>) -> Option<String> {
        if value.text() == Some("") {
            return Some(String::new());
        }
        let text = Text(512).read(value)?;
        let path = text.strip_suffix('/').unwrap_or(&text);
        if let Err(e) = parse_object(&format!("s:{path}")) {
            value.wrong("is no folder", format!("{}; accepted: {}", e.why, self.accepted()));
            return None;
        }
        Some(format!("{path}/"))
    }
}

/// An object's path inside its source.
struct ObjectPath;

impl Kind for ObjectPath {
    type Out = String;
    fn accepted(&self) -> String {
        "the path of an object: relative, without `..`".into()
    }
    fn read(&self, value: &Value<'_>) -> Option<String> {
        let text = Text(1_000).read(value)?;
        if let Err(e) = parse_object(&format!("s:{text}")) {
            value.wrong("is no object's path", format!("{}; accepted: {}", e.why, self.accepted()));
            return None;
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::is_host;

    #[test]
    fn tells_hosts_from_other_texts() {
        for good in ["a", "a.b-c:80", "127.0.0.1", "[::1]", "[::1]:8080", "nas_1:1"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", ":80", "a:", "a:0", "a:70000", "[::1", "[zz]", "a b", "a%", "[::1]x"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
