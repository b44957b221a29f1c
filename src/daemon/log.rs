//! The log: for people in a terminal, to the journal under systemd, as JSON elsewhere.

use crate::config::{Log, LogLevel};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging. A second call in one process changes nothing.
pub fn start(how: Log, level: LogLevel) {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    // Libraries below `warn` would drown the diary.
    let filter = EnvFilter::try_from_env("FORESTAGE_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("warn,forestage={level}")));
    let registry = tracing_subscriber::registry().with(filter);
    let terminal = std::io::stderr().is_terminal();
    let how = match how {
        // systemd sets it to the device and inode of the journal's socket.
        Log::Auto if std::env::var_os("JOURNAL_STREAM").is_some() => Log::Journald,
        Log::Auto if terminal => Log::Human,
        Log::Auto => Log::Json,
        chosen => chosen,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let started = match how {
        Log::Journald => match tracing_journald::layer() {
            Ok(journal) => registry.with(journal).try_init(),
            Err(_) => registry.with(lines.with_ansi(false)).try_init(),
        },
        Log::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        _ => registry.with(lines.with_ansi(terminal).with_target(false)).try_init(),
    };
    // Already started: an embedded daemon, as in the demo, keeps its host's log.
    drop(started);
}
