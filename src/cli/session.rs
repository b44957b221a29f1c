//! What a command works with: the connection and the screen.

use super::args::Common;
use super::client::{Client, Target};
use super::exit::Exit;
use super::screen::{Look, Screen};
use crate::api::wire::{ErrorBody, Idle, Task};
use crate::config::{Config, Error, Surroundings, locate};
use crate::task::State;
use crate::time::Span;
use anyhow::anyhow;
use std::io::Write;
use std::path::PathBuf;

/// Longest wait of one request: short enough that a dead daemon is noticed.
const WAIT_STEP_S: f64 = 30.0;

/// A command's connection and screen.
pub struct Session<'a> {
    /// The daemon.
    pub client: Client,
    /// Where the answer goes.
    pub screen: Screen<'a>,
}

impl<'a> Session<'a> {
    /// Finds the socket and connects.
    ///
    /// # Errors
    /// When the configuration that names the socket is wrong, or nobody listens on it.
    pub async fn open(common: &Common, out: &'a mut dyn Write, look: Look) -> anyhow::Result<Session<'a>> {
        let client = Client::connect(&socket(common)?).await?;
        Ok(Session { client, screen: Screen::new(out, look, common.json) })
    }

    /// Waits until a task has ended, or until `deadline`; gives the task as it is then.
    pub(super) async fn wait(
        &mut self,
        id: u64,
        deadline: Option<tokio::time::Instant>,
    ) -> anyhow::Result<Task> {
        loop {
            let left = deadline.map(|d| d.saturating_duration_since(now()).as_secs_f64());
            let step = left.unwrap_or(WAIT_STEP_S).min(WAIT_STEP_S);
            let target = Target::of(&["tasks", &id.to_string(), "wait"]).with("timeout_s", Some(step));
            let task: Task = self.client.get(&target).await?;
            if task.state.is_final() || deadline.is_some_and(|d| now() >= d) {
                return Ok(task);
            }
        }
    }

    /// Waits until no task (of a group) is unfinished, or until the deadline.
    pub(super) async fn wait_idle(
        &mut self,
        group: Option<&str>,
        deadline: Option<tokio::time::Instant>,
    ) -> anyhow::Result<Idle> {
        loop {
            let left = deadline.map(|d| d.saturating_duration_since(now()).as_secs_f64());
            let step = left.unwrap_or(WAIT_STEP_S).min(WAIT_STEP_S);
            let target = Target::of(&["wait"]).with("group", group).with("timeout_s", Some(step));
            let idle: Idle = self.client.get(&target).await?;
            if idle.unfinished == 0 || deadline.is_some_and(|d| now() >= d) {
                return Ok(idle);
            }
        }
    }

    /// Prints a value: as an object for programs, else as `text` makes it.
    pub(super) fn show<T: serde::Serialize>(
        &mut self,
        value: &T,
        text: impl FnOnce(&T, &Look) -> String,
    ) -> anyhow::Result<()> {
        if self.screen.json {
            self.screen.object(value)?;
            // Whoever follows wants each at once.
            self.screen.raw(&[])?;
        } else {
            let text = text(value, &self.screen.look);
            self.screen.text(text)?;
        }
        Ok(())
    }

    /// Prints a list: one object a line for programs, else as `text` makes it.
    pub(super) fn show_list<T: serde::Serialize>(
        &mut self,
        list: &[T],
        text: impl FnOnce(&[T], &Look) -> String,
    ) -> anyhow::Result<()> {
        if self.screen.json {
            self.screen.objects(list)?;
        } else {
            let text = text(list, &self.screen.look);
            self.screen.text(text)?;
        }
        Ok(())
    }
}

/// `--timeout` as a moment.
#[allow(clippy::disallowed_methods, reason = "a command's own patience, not the daemon's time")]
pub fn deadline(timeout: Option<Span>) -> Option<tokio::time::Instant> {
    timeout.map(|t| tokio::time::Instant::now() + t.to_std())
}

#[allow(clippy::disallowed_methods, reason = "a command's own patience, not the daemon's time")]
fn now() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// The exit code that a task's end gives a command that waited for it.
pub(super) fn exit_of(task: &Task) -> Exit {
    match task.state {
        State::Done => Exit::Ok,
        s if s.is_final() => Exit::Failed,
        _ => Exit::TimedOut,
    }
}

/// The worse of two: what a command over many things ends with.
pub(super) fn worse(a: Exit, b: Exit) -> Exit {
    if a == Exit::Ok { b } else { a }
}

/// One line about something that went wrong, on standard error.
#[allow(clippy::print_stderr, reason = "this is where errors of single items go")]
pub(super) fn complain(place: &str, body: &ErrorBody) {
    eprintln!("error: {place}: {}", body.message);
}

fn socket(common: &Common) -> anyhow::Result<PathBuf> {
    if let Some(socket) = &common.socket {
        return Ok(socket.clone());
    }
    let located = locate(common.config.clone(), |name| std::env::var_os(name));
    match Config::load(&located, &Surroundings::here()) {
        Ok(config) => Ok(config.daemon.socket),
        Err(Error::Invalid(report)) => Err(anyhow!(
            "the configuration that names the socket is not accepted (--socket goes without it):\n{}",
            report.render(false)
        )),
        Err(e) => Err(anyhow!("{e}\nname the daemon's socket by --socket or $FORESTAGE_SOCKET")),
    }
}
