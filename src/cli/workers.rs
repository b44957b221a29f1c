//! `forestage workers` and `forestage profile`.

use super::client::Target;
use super::exit::Exit;
use super::say;
use super::screen::Look;
use super::session::Session;
use super::table::Table;
use crate::api::wire::{Cache, ProfileLine, RunningTask, Worker};
use crate::draw::bar;

/// List workers: what they run, what is expected next, what they are best at.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

pub(super) async fn run(s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let workers: Vec<Worker> = s.client.get(&Target::of(&["workers"])).await?;
    // Only the table shows how full the pools are.
    let caches: Vec<Cache> =
        if s.screen.json { Vec::new() } else { s.client.get(&Target::of(&["cache"])).await? };
    s.show_list(&workers, |workers, look| table(workers, &caches, look))?;
    Ok(Exit::Ok)
}

/// Workers as a table.
pub(super) fn table(workers: &[Worker], caches: &[Cache], look: &Look) -> String {
    let columns = ["WORKER", ">SLOTS", "RUNNING", "NEXT (forecast)", "CACHE", "BEST AT"];
    let mut table = Table::new(look, &columns);
    for w in workers {
        let next = w.next.first().map(|n| format!("{} {} {}", n.task_type, say::share(n.p), bar(n.p)));
        let best = w.best_at.as_ref().map(|b| format!("{} {}", b.task_type, say::factor(b.speed)));
        let cache = caches.iter().find(|c| c.name == w.cache);
        let fill = cache.map(|c| format!("{} {}", c.name, say::part_of(c.used_bytes, c.capacity_bytes)));
        table.row([
            w.name.clone(),
            format!("{} / {}", w.running.len(), w.slots),
            running(&w.running),
            next.unwrap_or_default(),
            fill.unwrap_or_else(|| w.cache.clone()),
            best.unwrap_or_default(),
        ]);
    }
    table.text()
}

fn running(tasks: &[RunningTask]) -> String {
    let Some(first) = tasks.first() else { return String::new() };
    let more = if tasks.len() > 1 { format!(" +{}", tasks.len() - 1) } else { String::new() };
    format!("{}{more}", subject(first))
}

/// A task by its type and entity.
pub(super) fn subject(task: &RunningTask) -> String {
    match &task.entity {
        Some(entity) => format!("{} {entity}", task.task_type),
        None => task.task_type.clone(),
    }
}

/// Show how good a worker is at each task type, and what the tasks cost there.
#[derive(Clone, Debug, clap::Args)]
pub struct Profile {
    /// The worker.
    pub worker: String,
}

pub(super) async fn profile(args: Profile, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let lines: Vec<ProfileLine> = s.client.get(&Target::of(&["workers", &args.worker, "profile"])).await?;
    s.show_list(&lines, profile_table)?;
    Ok(Exit::Ok)
}

/// A profile as a table.
pub(super) fn profile_table(lines: &[ProfileLine], look: &Look) -> String {
    if lines.is_empty() {
        return "nothing was measured yet\n".to_owned();
    }
    let now = look.now_s();
    let columns = [
        "TYPE",
        ">AFFINITY",
        ">SPEED",
        ">SEEN",
        ">SUCCESS",
        ">TIME",
        ">CPU",
        ">MEMORY",
        ">DISK",
        ">NET",
        "LAST",
    ];
    let mut table = Table::new(look, &columns);
    for l in lines {
        table.row([
            l.task_type.clone(),
            say::share(l.affinity),
            say::factor(l.speed),
            format!("{:.0}", l.effective_count),
            say::share(l.success),
            say::millis(l.wall_ms),
            say::millis(l.cpu_ms),
            say::about_bytes(l.memory_bytes),
            say::about_bytes(l.io_bytes),
            say::about_bytes(l.net_bytes),
            l.last_s.map(|at| say::ago(now, at)).unwrap_or_default(),
        ]);
    }
    table.text()
}
