//! The command line: one file per command, and the client of the socket.
//!
//! `serve`, `demo`, `bench` and `replay` do their work in this process and `check-config` reads a file; everything else
//! is one or a few requests over the socket. Answers go to standard output, as tables for people or with
//! `--json` as one object a line; errors and progress go to standard error.

pub mod args;
pub mod bench;
mod cache;
mod change;
mod check_config;
pub mod client;
mod control;
pub mod demo;
mod events;
pub mod exit;
mod groups;
mod heatmap;
mod log;
mod predict;
mod progress;
mod recurring;
pub mod replay;
mod replay_run;
mod savings;
mod say;
mod screen;
pub mod serve;
mod session;
mod submit;
mod synthetic;
mod table;
mod tasks;
#[cfg(test)]
mod tests;
mod top;
mod wait;
mod why;
mod workers;

use args::Common;
use clap::Parser;
use control::Control;
use exit::Exit;
use screen::Look;
use session::Session;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// A task daemon for one host that has the data staged at the worker before the task asks for it.
#[derive(Debug, Parser)]
#[command(name = "forestage", version, after_help = exit::HELP, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it, and it lives as long as the program")]
enum Command {
    Serve(serve::Args),
    CheckConfig(check_config::Args),
    Demo(demo::Args),
    Bench(bench::Args),
    Replay(replay::Args),
    #[command(flatten)]
    Ask(Ask),
}

/// The commands that ask the daemon.
#[derive(Debug, clap::Subcommand)]
enum Ask {
    Submit(With<submit::Args>),
    Tasks(With<tasks::Args>),
    Show(With<tasks::Show>),
    Log(With<log::Args>),
    Wait(With<wait::Args>),
    Cancel(With<change::Cancel>),
    Retry(With<change::Retry>),
    Edit(With<change::EditArgs>),
    Group(With<groups::Set>),
    Recurring(With<recurring::Args>),
    /// List the groups that have unfinished tasks or settings.
    Groups(Common),
    Workers(With<workers::Args>),
    Profile(With<workers::Profile>),
    Predict(With<predict::Args>),
    Cache(With<cache::Args>),
    Heatmap(With<heatmap::Args>),
    Savings(With<savings::Args>),
    Top(With<top::Args>),
    Why(With<why::Args>),
    /// Start nothing more, until resume. What runs goes on; tasks are still accepted.
    Pause(Common),
    /// Start tasks again.
    Resume(Common),
    /// Take and start nothing more, and stop the daemon when what runs has ended.
    Drain(Common),
    /// Say how the daemon is.
    Health(Common),
    Events(With<events::Args>),
}

/// A command's own arguments, and those of all that ask the daemon.
#[derive(Debug, clap::Args)]
struct With<A: clap::Args> {
    #[command(flatten)]
    own: A,
    #[command(flatten)]
    common: Common,
}

impl Ask {
    fn common(&self) -> &Common {
        match self {
            Ask::Submit(w) => &w.common,
            Ask::Tasks(w) => &w.common,
            Ask::Show(w) => &w.common,
            Ask::Log(w) => &w.common,
            Ask::Wait(w) => &w.common,
            Ask::Cancel(w) => &w.common,
            Ask::Retry(w) => &w.common,
            Ask::Edit(w) => &w.common,
            Ask::Group(w) => &w.common,
            Ask::Recurring(w) => &w.common,
            Ask::Workers(w) => &w.common,
            Ask::Profile(w) => &w.common,
            Ask::Predict(w) => &w.common,
            Ask::Cache(w) => &w.common,
            Ask::Heatmap(w) => &w.common,
            Ask::Savings(w) => &w.common,
            Ask::Top(w) => &w.common,
            Ask::Why(w) => &w.common,
            Ask::Events(w) => &w.common,
            Ask::Groups(c) | Ask::Pause(c) | Ask::Resume(c) | Ask::Drain(c) | Ask::Health(c) => c,
        }
    }

    async fn run(self, out: &mut dyn Write, look: Look) -> anyhow::Result<Exit> {
        let session = &mut Session::open(self.common(), out, look).await?;
        match self {
            Ask::Submit(w) => submit::run(w.own, session).await,
            Ask::Tasks(w) => tasks::run(w.own, session).await,
            Ask::Show(w) => tasks::show(w.own, session).await,
            Ask::Log(w) => log::run(w.own, session).await,
            Ask::Wait(w) => wait::run(w.own, session).await,
            Ask::Cancel(w) => change::cancel(w.own, session).await,
            Ask::Retry(w) => change::retry(w.own, session).await,
            Ask::Edit(w) => change::edit(w.own, session).await,
            Ask::Group(w) => groups::set(w.own, session).await,
            Ask::Recurring(w) => recurring::run(w.own, session).await,
            Ask::Groups(_) => groups::list_all(session).await,
            Ask::Workers(_) => workers::run(session).await,
            Ask::Profile(w) => workers::profile(w.own, session).await,
            Ask::Predict(w) => predict::run(w.own, session).await,
            Ask::Cache(w) => cache::run(w.own, session).await,
            Ask::Heatmap(w) => heatmap::run(w.own, session).await,
            Ask::Savings(_) => savings::run(session).await,
            Ask::Top(w) => top::run(w.own, session).await,
            Ask::Why(w) => why::run(w.own, session).await,
            Ask::Pause(_) => control::run(Control::Pause, session).await,
            Ask::Resume(_) => control::run(Control::Resume, session).await,
            Ask::Drain(_) => control::run(Control::Drain, session).await,
            Ask::Health(_) => control::health(session).await,
            Ask::Events(w) => events::run(w.own, session).await,
        }
    }
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    let look = Look::here();
    let mut out = io::BufWriter::new(io::stdout());
    let code = run(std::env::args_os(), &mut out, look);
    // Nobody reads any more: nobody misses the rest.
    let _ = out.flush();
    code
}

fn run(args: impl IntoIterator<Item = OsString>, out: &mut dyn Write, look: Look) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are no errors; clap knows where each goes.
            let _ = e.print();
            return if e.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let done = match cli.command {
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Bench(args) => bench::run(args, out, look).map(ExitCode::from),
        Command::Replay(args) => replay::run(args),
        Command::CheckConfig(args) => check_config::run(args, out, look).map(ExitCode::from),
        Command::Ask(ask) => asked(ask, out, look).map(ExitCode::from),
    };
    done.unwrap_or_else(|error| ended(&error).into())
}

fn asked(ask: Ask, out: &mut dyn Write, look: Look) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exit = runtime.block_on(ask.run(out, look))?;
    out.flush()?;
    Ok(exit)
}

/// An error and its causes, each once: some texts name their cause already.
fn told(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Says what went wrong, on standard error, and which exit code that is.
#[allow(clippy::print_stderr, reason = "this is where errors end")]
fn ended(error: &anyhow::Error) -> Exit {
    // `forestage tasks | head` is no error.
    let closed = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    if error.downcast_ref::<io::Error>().is_some_and(closed) {
        return Exit::Ok;
    }
    eprintln!("error: {}", told(error));
    error.downcast_ref::<client::Error>().map_or(Exit::Failed, client::Error::exit)
}
