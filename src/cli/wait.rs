//! `forestage wait`.

use super::args;
use super::exit::Exit;
use super::session::{Session, deadline, exit_of, worse};
use super::{progress, say};
use crate::api::wire::Task;
use crate::time::Span;

/// Wait until tasks have ended; the exit code says whether all are done.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Their numbers.
    #[arg(required_unless_present_any = ["all", "group"], value_name = "TASK")]
    pub tasks: Vec<u64>,
    /// Wait until no task is unfinished, whatever became of them.
    #[arg(long, conflicts_with_all = ["tasks", "group"])]
    pub all: bool,
    /// Wait until no task of this group is unfinished, whatever became of them.
    #[arg(long, short, value_name = "GROUP", conflicts_with = "tasks")]
    pub group: Option<String>,
    /// Wait no longer than this, as 90s or 10min.
    #[arg(long, value_name = "TIME", value_parser = args::span)]
    pub timeout: Option<Span>,
}

pub(super) async fn run(args: Args, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let deadline = deadline(args.timeout);
    if !args.all && args.group.is_none() {
        return all(&args.tasks, deadline, s).await;
    }
    let idle = s.wait_idle(args.group.as_deref(), deadline).await?;
    s.show(&idle, |i, _| format!("{}\n", say::count(i.unfinished, "unfinished task", "unfinished tasks")))?;
    Ok(if idle.unfinished == 0 { Exit::Ok } else { Exit::TimedOut })
}

/// Waits for all, one after the other: the last one decides how long, whatever the order.
pub(super) async fn all(
    ids: &[u64],
    deadline: Option<tokio::time::Instant>,
    s: &mut Session<'_>,
) -> anyhow::Result<Exit> {
    let bar = progress::bar("wait", ids.len() as u64);
    let mut exit = Exit::Ok;
    for id in ids {
        let task = s.wait(*id, deadline).await?;
        bar.inc(1);
        bar.suspend(|| s.show(&task, |t, _| format!("{}\n", sentence(t))))?;
        exit = worse(exit, exit_of(&task));
    }
    bar.finish_and_clear();
    Ok(exit)
}

/// How a task stands, in one line.
pub(super) fn sentence(task: &Task) -> String {
    let took = match (task.started_s, task.ended_s) {
        (Some(from), Some(to)) => format!(" after {}", say::seconds(to - from)),
        _ => String::new(),
    };
    // "task 5 cancelled: cancelled" would say it twice.
    let why = task.reason.as_ref().filter(|r| *r != task.state.name());
    let why = why.map(|r| format!(": {r}")).unwrap_or_default();
    let waits = task.waiting_for.as_ref().map(|w| format!(", waiting for: {w}")).unwrap_or_default();
    format!("task {} {}{took}{why}{waits}", task.id, task.state.name())
}
