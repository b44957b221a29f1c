//! `forestage groups` and `forestage group`.

use super::client::Target;
use super::exit::Exit;
use super::screen::Look;
use super::session::Session;
use super::table::Table;
use crate::api::wire::{Group, GroupEdit};

/// Change what is set of a group of tasks: pause it, weigh it, limit it.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub struct Set {
    /// Its name.
    #[arg(value_name = "GROUP")]
    pub name: String,
    /// Start none of its tasks, until --resume.
    #[arg(long, group = "change", conflicts_with = "resume")]
    pub pause: bool,
    /// Start its tasks again.
    #[arg(long, group = "change")]
    pub resume: bool,
    /// Its share of the slots when others want them too, relative to theirs; above 0 to 1000.
    #[arg(long, group = "change", value_name = "N")]
    pub weight: Option<f64>,
    /// Most of its tasks that run at once; 0 is no limit.
    #[arg(long, group = "change", value_name = "N")]
    pub max_running: Option<u32>,
    /// Most of its tasks that are unfinished; a submit beyond is refused. 0 is no limit.
    #[arg(long, group = "change", value_name = "N")]
    pub max_queued: Option<u32>,
}

pub(super) async fn list_all(s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let groups: Vec<Group> = s.client.get(&Target::of(&["groups"])).await?;
    s.show_list(&groups, list)?;
    Ok(Exit::Ok)
}

pub(super) async fn set(args: Set, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let edit = GroupEdit {
        paused: (args.pause || args.resume).then_some(args.pause),
        weight: args.weight,
        max_running: args.max_running,
        max_queued: args.max_queued,
    };
    let group: Group = s.client.patch(&Target::of(&["groups", &args.name]), &edit).await?;
    s.show(&group, |g, look| list(std::slice::from_ref(g), look))?;
    Ok(Exit::Ok)
}

fn list(groups: &[Group], look: &Look) -> String {
    if groups.is_empty() {
        return "no groups\n".to_owned();
    }
    let limit = |n: Option<u32>| n.map_or_else(|| "–".to_owned(), |n| n.to_string());
    let mut table =
        Table::new(look, &["GROUP", "STATE", ">WEIGHT", ">RUNNING", ">LIMIT", ">UNFINISHED", ">LIMIT"]);
    for g in groups {
        table.row([
            if g.name.is_empty() { "(none)".to_owned() } else { g.name.clone() },
            if g.paused { "paused" } else { "running" }.to_owned(),
            g.weight.to_string(),
            g.running.to_string(),
            limit(g.max_running),
            g.unfinished.to_string(),
            limit(g.max_queued),
        ]);
    }
    table.text()
}
