//! `forestage tasks` and `forestage show`.

use super::client::Target;
use super::exit::Exit;
use super::say;
use super::screen::Look;
use super::session::Session;
use super::table::{Table, pairs};
use crate::api::wire::Task;
use crate::task::State;

/// List tasks, new to old.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only tasks in this state.
    #[arg(long, short, value_parser = state)]
    pub state: Option<State>,
    /// Only tasks of this type.
    #[arg(long = "type", short, value_name = "TYPE")]
    pub task_type: Option<String>,
    /// Only tasks about this entity.
    #[arg(long, short)]
    pub entity: Option<String>,
    /// Only tasks of this group.
    #[arg(long, short, value_name = "GROUP")]
    pub group: Option<String>,
    /// At most this many, 1 to 1000.
    #[arg(long, short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub limit: u16,
    /// Only tasks with a smaller number: where the list before ended.
    #[arg(long, value_name = "TASK")]
    pub before: Option<u64>,
}

fn state(text: &str) -> Result<State, String> {
    let names = || State::ALL.map(State::name).join(", ");
    State::ALL.into_iter().find(|s| s.name() == text).ok_or_else(|| format!("accepted: {}", names()))
}

pub(super) async fn run(args: Args, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let target = Target::of(&["tasks"])
        .with("state", args.state.map(State::name))
        .with("type", args.task_type)
        .with("entity", args.entity)
        .with("group", args.group)
        .with("limit", Some(args.limit))
        .with("before", args.before);
    let tasks: Vec<Task> = s.client.get(&target).await?;
    s.show_list(&tasks, list)?;
    Ok(Exit::Ok)
}

/// Tasks as a table.
pub(super) fn list(tasks: &[Task], look: &Look) -> String {
    if tasks.is_empty() {
        return "no tasks\n".to_owned();
    }
    let now = look.now_s();
    let columns = [">TASK", "TYPE", "ENTITY", "STATE", "WORKER", "SUBMITTED", ">TIME", "NOTE"];
    let mut table = Table::new(look, &columns);
    for t in tasks {
        table.row([
            t.id.to_string(),
            t.task_type.clone(),
            t.entity.clone().unwrap_or_default(),
            t.state.name().to_owned(),
            t.worker.clone().unwrap_or_default(),
            say::ago(now, t.submitted_s),
            time(t, now),
            note(t, now),
        ]);
    }
    table.text()
}

/// How long the last attempt has run, or ran.
fn time(task: &Task, now: f64) -> String {
    match (task.started_s, task.ended_s) {
        (Some(from), Some(to)) => say::seconds(to - from),
        (Some(from), None) if task.state == State::Running => say::seconds((now - from).max(0.0)),
        _ => String::new(),
    }
}

fn note(task: &Task, now: f64) -> String {
    if let Some(reason) = &task.reason {
        return reason.clone();
    }
    match (&task.waiting_for, task.not_before_s) {
        (_, Some(at)) if task.state == State::Delayed => format!("starts {}", say::ago(now, at)),
        (Some(what), _) => format!("waiting for: {what}"),
        _ => String::new(),
    }
}

/// Show one task.
#[derive(Clone, Debug, clap::Args)]
pub struct Show {
    /// Its number.
    #[arg(value_name = "TASK")]
    pub task: u64,
}

pub(super) async fn show(args: Show, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let task: Task = s.client.get(&Target::of(&["tasks", &args.task.to_string()])).await?;
    s.show(&task, one)?;
    Ok(Exit::Ok)
}

/// A task with all that is known of it.
pub(super) fn one(t: &Task, look: &Look) -> String {
    let now = look.now_s();
    let ago = |at: Option<f64>| at.map(|at| say::ago(now, at));
    let list = |items: &[String]| (!items.is_empty()).then(|| items.join("\n"));
    let args: Vec<String> = t.args.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let after: Vec<String> = t.after.iter().map(u64::to_string).collect();
    let used = t.usage.map(|u| {
        format!(
            "{} of processor, {} of memory, {} read, {} written, {} fetched",
            say::millis(u.cpu_ms),
            say::bytes(u.peak_memory_bytes),
            say::bytes(u.read_bytes),
            say::bytes(u.write_bytes),
            say::bytes(u.net_bytes)
        )
    });
    pairs(&[
        ("task", Some(t.id.to_string())),
        ("type", Some(t.task_type.clone())),
        ("entity", t.entity.clone()),
        ("state", Some(t.state.name().to_owned())),
        ("waiting for", t.waiting_for.clone()),
        ("reason", t.reason.clone()),
        ("exit code", t.exit_code.map(|c| c.to_string())),
        ("priority", Some(t.priority.to_string())),
        ("attempts", Some(t.attempts.to_string())),
        ("worker", t.worker.clone()),
        ("submitted", ago(Some(t.submitted_s))),
        ("not before", ago(t.not_before_s)),
        ("started", ago(t.started_s)),
        ("ended", ago(t.ended_s)),
        ("took", Some(time(t, now)).filter(|t| !t.is_empty())),
        ("data wait", t.data_wait_ms.map(say::millis)),
        ("used", used),
        ("key", t.key.clone()),
        ("after", (!after.is_empty()).then(|| after.join(", "))),
        ("arguments", list(&args)),
        ("inputs", list(&t.inputs)),
        ("outputs", list(&t.outputs)),
        ("writes", list(&t.writes)),
    ])
}
