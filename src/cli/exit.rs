//! Exit codes: one meaning each, the same for every command.

use std::process::ExitCode;

/// What a command's exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is well.
    Ok = 0,
    /// What was asked about is not well, or something went wrong here.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No daemon answers.
    Unreachable = 3,
    /// The daemon refused.
    Refused = 4,
    /// The daemon cannot do it now.
    NotNow = 5,
    /// The time given by `--timeout` ran out.
    TimedOut = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// For `--help`.
pub const HELP: &str = "\
Exit codes:
  0  all is well
  1  a task, an object or a configuration is not well, or something went wrong here
  2  the command line is wrong
  3  no daemon answers on the socket
  4  the daemon refused: its message says what is accepted
  5  the daemon cannot do it now: try again later
  6  the time given by --timeout ran out

The socket is --socket, else $FORESTAGE_SOCKET, else `daemon.socket` of the configuration
(--config, else $FORESTAGE_CONFIG, else /etc/forestage/forestage.toml, else built in).";
