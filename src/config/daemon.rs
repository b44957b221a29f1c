//! `[daemon]`: where the daemon keeps its things, where it listens, what it says.

use super::kind::{AbsolutePath, Flag, Kind, OneOf, SpanIn, Text};
use super::locate::Surroundings;
use super::reader::{Section, Value};
use crate::time::Span;
use std::net::SocketAddr;
use std::path::PathBuf;
use toml::de::DeValue;

/// Longest path of a Unix socket, bytes: `sun_path` has 108, the last one is a zero.
pub const SOCKET_PATH_LIMIT_BYTES: usize = 107;

/// The daemon's own settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Daemon {
    /// Folder of the task record, profiles, indices, series and logs. Absolute.
    /// Default `$XDG_STATE_HOME/forestage`, else `~/.local/state/forestage`.
    pub state_dir: PathBuf,
    /// Folder of the tasks' work folders. Absolute. Inputs are linked only from pools on the same mount.
    /// Default `work` in the cache folder (`$XDG_CACHE_HOME/forestage`, else `~/.cache/forestage`).
    pub work_dir: PathBuf,
    /// The Unix socket. Absolute, at most 107 bytes.
    /// Default `$XDG_RUNTIME_DIR/forestage/forestage.sock`, else `forestage.sock` in `state_dir`.
    pub socket: PathBuf,
    /// Permission bits of the socket, 0o600 to 0o777. Default 0o660.
    pub socket_mode: u32,
    /// Group of the socket; `None` leaves it at the daemon's group.
    pub socket_group: Option<String>,
    /// How the log is written. Default [`Log::Auto`].
    pub log: Log,
    /// The least important level that is logged. Default [`LogLevel::Info`].
    pub log_level: LogLevel,
    /// How long running tasks may go on after SIGTERM before they are ended and handed back, 0 s to 1 h.
    /// Default 30 s.
    pub drain_deadline: Span,
    /// A loopback TCP address for the dashboard and `/metrics`, read-only. Default none.
    pub listen: Option<SocketAddr>,
    /// Whether callers of that address must show the token in `dashboard.token` of the state folder. Default yes.
    pub listen_token: bool,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// To the journal under systemd, human in a terminal, JSON elsewhere.
    Auto,
    /// Lines for people, on standard error.
    Human,
    /// One JSON object a line, on standard error.
    Json,
    /// To the journal.
    Journald,
}

/// The least important level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Bugs and lost work.
    Error,
    /// And what is survivable.
    Warn,
    /// And a quiet diary.
    Info,
    /// And every decision.
    Debug,
    /// And every message.
    Trace,
}

impl LogLevel {
    /// As tracing's filters name it.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

const LOGS: &[(&str, Log)] =
    &[("auto", Log::Auto), ("human", Log::Human), ("json", Log::Json), ("journald", Log::Journald)];

const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

pub(super) fn read(mut s: Section<'_>, around: &Surroundings) -> Daemon {
    let state_dir = s.read("state_dir", AbsolutePath).unwrap_or_else(|| around.state_dir.clone());
    let socket = s.read("socket", SocketPath).unwrap_or_else(|| match &around.runtime_dir {
        Some(dir) => dir.join("forestage/forestage.sock"),
        None => state_dir.join("forestage.sock"),
    });
    let daemon = Daemon {
        work_dir: s.read("work_dir", AbsolutePath).unwrap_or_else(|| around.cache_dir.join("work")),
        state_dir,
        socket,
        socket_mode: s.read("socket_mode", Mode).unwrap_or(0o660),
        socket_group: s.read("socket_group", Text(32)),
        log: s.read("log", OneOf(LOGS)).unwrap_or(Log::Auto),
        log_level: s.read("log_level", OneOf(LEVELS)).unwrap_or(LogLevel::Info),
        drain_deadline: s
            .read("drain_deadline", SpanIn(Span::ZERO, Span::from_secs(3_600)))
            .unwrap_or(Span::from_secs(30)),
        listen: s.read("listen", Loopback),
        listen_token: s.read("listen_token", Flag).unwrap_or(true),
    };
    s.finish();
    daemon
}

struct SocketPath;

impl Kind for SocketPath {
    type Out = PathBuf;
    fn accepted(&self) -> String {
        format!("an absolute path of up to {SOCKET_PATH_LIMIT_BYTES} bytes")
    }
    fn read(&self, value: &Value<'_>) -> Option<PathBuf> {
        let path = AbsolutePath.read(value)?;
        let length = path.as_os_str().len();
        if length > SOCKET_PATH_LIMIT_BYTES {
            value.wrong(&format!("is {length} bytes long"), format!("accepted: {}", self.accepted()));
            return None;
        }
        Some(path)
    }
}

/// Permission bits: `"0660"`, or TOML's own octal `0o660`.
struct Mode;

impl Kind for Mode {
    type Out = u32;
    fn accepted(&self) -> String {
        "octal \"0600\" to \"0777\": read and write for the owner, at least".into()
    }
    fn read(&self, value: &Value<'_>) -> Option<u32> {
        let label = format!("accepted: {}", self.accepted());
        let mode = match value.node() {
            DeValue::String(text) => u32::from_str_radix(text, 8).ok(),
            DeValue::Integer(n) if n.radix() == 8 => u32::from_str_radix(n.as_str(), 8).ok(),
            DeValue::Integer(n) => {
                let help = format!("for octal write \"0{n}\" in quotes");
                value.wrong_so("is not octal", label, Some(help));
                return None;
            }
            _ => {
                value.mistyped(&self.accepted());
                return None;
            }
        };
        let mode = mode.filter(|m| (0o600..=0o777).contains(m) && m & 0o600 == 0o600);
        if mode.is_none() {
            value.wrong("is not a mode", label);
        }
        mode
    }
}

struct Loopback;

impl Kind for Loopback {
    type Out = SocketAddr;
    fn accepted(&self) -> String {
        "a loopback address and a port, as in \"127.0.0.1:7437\" or \"[::1]:7437\"".into()
    }
    fn read(&self, value: &Value<'_>) -> Option<SocketAddr> {
        let label = format!("accepted: {}", self.accepted());
        let Some(text) = value.text() else {
            value.mistyped(&self.accepted());
            return None;
        };
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => return Some(address),
            Ok(_) => value.wrong("is not a loopback address: others could reach it", label),
            Err(_) => value.wrong("is not an address", label),
        }
        None
    }
}
