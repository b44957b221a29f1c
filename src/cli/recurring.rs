//! `forestage recurring`.

use super::args;
use super::client::Target;
use super::exit::Exit;
use super::say;
use super::screen::Look;
use super::session::Session;
use super::table::Table;
use crate::api::wire::{CatchUp, Overlap, Recurring, RecurringTask, Submit};
use crate::time::Span;

/// Tasks that are submitted again and again, by a cron pattern in a time zone.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum What {
    /// List them, each with its next occurrence.
    List,
    /// Set one, or replace the one of that name.
    Set(Set),
    /// Remove one; the occurrence that waits is cancelled.
    Remove {
        /// Its name.
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct Set {
    /// Its name.
    #[arg(value_name = "NAME")]
    name: String,
    /// When: minute hour day month weekday, as '30 2 * * mon-fri'; with seconds before them if need be.
    #[arg(long, value_name = "PATTERN")]
    cron: String,
    /// The time zone of the pattern, as Europe/Berlin [default: UTC].
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// If one is due while the one before is unfinished: skip it, or allow both [default: skip].
    #[arg(long, value_enum)]
    overlap: Option<Overlap>,
    /// Of those missed while the daemon was down, run none, one or all (up to 100) [default: one].
    #[arg(long, value_enum)]
    catch_up: Option<CatchUp>,
    /// The task type.
    #[arg(value_name = "TYPE")]
    task_type: String,
    /// What the task is about.
    #[arg(long, short)]
    entity: Option<String>,
    /// A value of {arg.NAME}; may be repeated.
    #[arg(long = "arg", short = 'a', value_name = "NAME=VALUE", value_parser = args::pair)]
    args: Vec<(String, String)>,
    /// An object to read besides those that the type derives, as source:path; may be repeated.
    #[arg(long = "input", short, value_name = "OBJECT")]
    inputs: Vec<String>,
    /// Priority class, 0 to 9; higher goes first [default: the type's].
    #[arg(long, short, value_parser = clap::value_parser!(u8).range(0..=9))]
    priority: Option<u8>,
    /// The group that it belongs to.
    #[arg(long, short, value_name = "GROUP")]
    group: Option<String>,
    /// Fail an occurrence that has not started so long after it fired.
    #[arg(long, value_name = "TIME", value_parser = args::span)]
    deadline: Option<Span>,
}

pub(super) async fn run(args: Args, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let all: Vec<RecurringTask> = match args.what {
        What::List => s.client.get(&Target::of(&["recurring"])).await?,
        What::Remove { name } => s.client.delete(&Target::of(&["recurring", &name])).await?,
        What::Set(set) => {
            let recurring = Recurring {
                cron: set.cron,
                zone: set.zone,
                overlap: set.overlap,
                catch_up: set.catch_up,
                task: Submit {
                    task_type: set.task_type,
                    entity: set.entity,
                    args: set.args.into_iter().collect(),
                    inputs: set.inputs,
                    priority: set.priority,
                    group: set.group,
                    deadline_s: set.deadline.map(Span::as_s),
                    ..Submit::default()
                },
            };
            vec![s.client.put(&Target::of(&["recurring", &set.name]), &recurring).await?]
        }
    };
    s.show_list(&all, list)?;
    Ok(Exit::Ok)
}

fn list(all: &[RecurringTask], look: &Look) -> String {
    if all.is_empty() {
        return "no recurring tasks\n".to_owned();
    }
    let now = look.now_s();
    let mut table = Table::new(look, &["NAME", "CRON", "ZONE", "TYPE", "ENTITY", "NEXT", ">TASK", ">LAST"]);
    for r in all {
        let number = |id: Option<u64>| id.map_or_else(String::new, |id| id.to_string());
        table.row([
            r.name.clone(),
            r.recurring.cron.clone(),
            r.recurring.zone.clone().unwrap_or_default(),
            r.recurring.task.task_type.clone(),
            r.recurring.task.entity.clone().unwrap_or_default(),
            r.next_s.map_or_else(|| "never".to_owned(), |at| say::ago(now, at)),
            number(r.next_task),
            number(r.last_task),
        ]);
    }
    table.text()
}
