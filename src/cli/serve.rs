//! `forestage serve`: the daemon itself.

use crate::config::{self, Config, Surroundings};
use crate::daemon::{self, Overrides};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Log {
    /// To the journal under systemd, for people in a terminal, JSON elsewhere.
    Auto,
    /// Lines for people, on standard error.
    Human,
    /// One JSON object a line, on standard error.
    Json,
    /// To the journal.
    Journald,
}

/// The least important level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
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

/// What staging does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Staging {
    /// Stages.
    On,
    /// Keeps the whole ledger without moving a byte.
    Observe,
    /// Fetches on demand only.
    Off,
}

/// Run the daemon: read the configuration, start every part, listen on the socket, until SIGTERM or SIGINT.
///
/// Without a configuration the built-in defaults hold: state under $XDG_STATE_HOME/forestage, the socket under
/// $XDG_RUNTIME_DIR/forestage. A second daemon on one state folder is refused.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The configuration [default: $FORESTAGE_CONFIG, else /etc/forestage/forestage.toml, else built in].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to listen, instead of `daemon.socket`.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Where the state is kept, instead of `daemon.state_dir`.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// What staging does, instead of `staging.mode`.
    #[arg(long, value_enum)]
    pub staging: Option<Staging>,
    /// How the log is written, instead of `daemon.log`.
    #[arg(long, value_enum)]
    pub log: Option<Log>,
    /// The least important level that is logged, instead of `daemon.log_level`.
    #[arg(long, value_enum)]
    pub log_level: Option<LogLevel>,
}

/// Runs the daemon until it is asked to stop.
///
/// # Errors
/// Why it did not start, or why it stopped early.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let located = config::locate(args.config, |v| std::env::var_os(v));
    let config = match Config::load(&located, &Surroundings::here()) {
        Ok(config) => config,
        Err(error) => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            eprintln!("{}", error.render(colour));
            return Ok(super::exit::Exit::Failed.into());
        }
    };
    let overrides = Overrides {
        socket: args.socket,
        state_dir: args.state_dir,
        staging: args.staging.map(|s| match s {
            Staging::On => config::StagingMode::On,
            Staging::Observe => config::StagingMode::Observe,
            Staging::Off => config::StagingMode::Off,
        }),
        log: args.log.map(|l| match l {
            Log::Auto => config::Log::Auto,
            Log::Human => config::Log::Human,
            Log::Json => config::Log::Json,
            Log::Journald => config::Log::Journald,
        }),
        log_level: args.log_level.map(|l| match l {
            LogLevel::Error => config::LogLevel::Error,
            LogLevel::Warn => config::LogLevel::Warn,
            LogLevel::Info => config::LogLevel::Info,
            LogLevel::Debug => config::LogLevel::Debug,
            LogLevel::Trace => config::LogLevel::Trace,
        }),
    };
    daemon::serve(config, overrides)?;
    Ok(ExitCode::SUCCESS)
}
