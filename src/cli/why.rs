//! `forestage why`.

use super::client::Target;
use super::exit::Exit;
use super::say;
use super::screen::Look;
use super::session::Session;
use super::table::{Table, pairs};
use crate::api::wire::Why;
use crate::flow::Found;

/// Explain a decision: why a task waits or ran where it did, why an object is or is not staged, why a worker
/// gets what it gets.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A task's number, an object as source:path, or a worker's name.
    #[arg(value_name = "TASK|OBJECT|WORKER")]
    pub what: String,
}

pub(super) async fn run(args: Args, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let target = Target::of(&["why"]).with(kind(&args.what), Some(&args.what));
    let why: Why = s.client.get(&target).await?;
    s.show(&why, text)?;
    Ok(Exit::Ok)
}

/// What a word names: a number a task, a colon an object, anything else a worker.
fn kind(what: &str) -> &'static str {
    if !what.is_empty() && what.bytes().all(|b| b.is_ascii_digit()) {
        "task"
    } else if what.contains(':') {
        "object"
    } else {
        "worker"
    }
}

/// The evidence, title first.
pub(super) fn text(why: &Why, look: &Look) -> String {
    let mut text = format!("{}\n", why.title);
    let lines: Vec<(&str, Option<String>)> =
        why.lines.iter().map(|l| (l.name.as_str(), Some(l.text.clone()))).collect();
    text.extend(pairs(&lines).lines().map(|l| format!("  {l}\n")));
    if !why.candidates.is_empty() {
        let columns = ["WORKER", ">SCORE", ">SPEED", ">HEAT", ">LOCALITY", ">FREE SLOTS"];
        let mut table = Table::new(look, &columns);
        for c in &why.candidates {
            table.row([
                c.worker.clone(),
                format!("{:.3}", c.score),
                say::factor(c.factors.speed),
                say::share(c.factors.heat),
                say::share(c.factors.locality),
                c.free_slots.to_string(),
            ]);
        }
        text.push('\n');
        text.push_str(&table.text());
    }
    if !why.inputs.is_empty() {
        let mut table = Table::new(look, &["INPUT", ">SIZE", "FOUND", ">DATA WAIT"]);
        for i in &why.inputs {
            let found = match (i.found, i.staged) {
                (Found::Cached, true) => "staged ahead",
                (Found::Cached, false) => "in the cache",
                (Found::Joined, true) => "being staged",
                (Found::Joined, false) => "on its way",
                (Found::Fetched, _) => "fetched",
            };
            table.row([i.object.to_string(), say::bytes(i.bytes), found.to_owned(), i.wait.to_string()]);
        }
        text.push('\n');
        text.push_str(&table.text());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn words_name_tasks_objects_or_workers() {
        assert_eq!(
            ["17", "a:b", "fast", "", "7up"].map(kind),
            ["task", "object", "worker", "worker", "worker"]
        );
    }
}
