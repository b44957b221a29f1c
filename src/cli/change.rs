//! `forestage cancel`, `forestage retry` and `forestage edit`.

use super::client::{Error, Target};
use super::exit::Exit;
use super::session::{Session, complain, worse};
use super::{args, say, wait};
use crate::api::wire::{Edit, Retried, RetryFilter, Task};
use crate::time::Span;

/// Cancel tasks, also running ones.
#[derive(Clone, Debug, clap::Args)]
pub struct Cancel {
    /// Their numbers.
    #[arg(required = true, value_name = "TASK")]
    pub tasks: Vec<u64>,
}

/// Try failed or cancelled tasks again: those named, or all failed ones that a filter names.
#[derive(Clone, Debug, clap::Args)]
pub struct Retry {
    /// Their numbers.
    #[arg(required_unless_present = "failed", conflicts_with = "failed", value_name = "TASK")]
    pub tasks: Vec<u64>,
    /// All failed tasks, or those that the other options name.
    #[arg(long)]
    pub failed: bool,
    /// Only failed tasks of this type.
    #[arg(long = "type", short, value_name = "TYPE", requires = "failed")]
    pub task_type: Option<String>,
    /// Only failed tasks about this entity.
    #[arg(long, short, requires = "failed")]
    pub entity: Option<String>,
    /// Only failed tasks of this group.
    #[arg(long, short, value_name = "GROUP", requires = "failed")]
    pub group: Option<String>,
    /// At most this many, the newest, 1 to 100000 [default: 10000].
    #[arg(long, short = 'n', requires = "failed", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: Option<u32>,
}

/// Change the priority or the delay of waiting tasks.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct EditArgs {
    /// Their numbers.
    #[arg(required = true, value_name = "TASK")]
    pub tasks: Vec<u64>,
    /// Priority class, 0 to 9; higher goes first.
    #[arg(long, short, group = "change", value_parser = clap::value_parser!(u8).range(0..=9))]
    pub priority: Option<u8>,
    /// Start no earlier than so long from now, as 90s or 10min; 0 is at once.
    #[arg(long, group = "change", value_name = "TIME", value_parser = args::span)]
    pub delay: Option<Span>,
}

pub(super) async fn cancel(args: Cancel, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    each(&args.tasks, Change::Post("cancel"), s).await
}

pub(super) async fn retry(args: Retry, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    if !args.failed {
        return each(&args.tasks, Change::Post("retry"), s).await;
    }
    let filter = RetryFilter {
        task_type: args.task_type,
        entity: args.entity,
        group: args.group,
        limit: args.limit.map(|n| n as usize),
    };
    let answer: Retried = s.client.post(&Target::of(&["retry"]), Some(&filter)).await?;
    s.show(&answer, |r, _| {
        let refused: String = r.refused.iter().map(|r| format!("task {}: {}\n", r.id, r.message)).collect();
        format!("{} tried again\n{refused}", say::count(r.retried, "task", "tasks"))
    })?;
    Ok(if answer.refused.is_empty() { Exit::Ok } else { Exit::Refused })
}

pub(super) async fn edit(args: EditArgs, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let edit = Edit { priority: args.priority, delay_s: args.delay.map(Span::as_s) };
    each(&args.tasks, Change::Edit(edit), s).await
}

enum Change {
    Post(&'static str),
    Edit(Edit),
}

/// Changes one after the other; one that is refused does not stop the others.
async fn each(ids: &[u64], change: Change, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let mut exit = Exit::Ok;
    for id in ids {
        let number = id.to_string();
        let answer: Result<Task, Error> = match &change {
            Change::Post(verb) => s.client.post(&Target::of(&["tasks", &number, verb]), None::<&()>).await,
            Change::Edit(edit) => s.client.patch(&Target::of(&["tasks", &number]), edit).await,
        };
        match answer {
            Ok(task) => s.show(&task, |t, _| format!("{}\n", wait::sentence(t)))?,
            Err(e) => match &e {
                Error::Refused { body, .. } if ids.len() > 1 => {
                    complain(&format!("task {id}"), body);
                    exit = worse(exit, e.exit());
                }
                _ => return Err(e.into()),
            },
        }
    }
    Ok(exit)
}
