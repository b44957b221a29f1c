//! `forestage predict`.

use super::client::Target;
use super::exit::Exit;
use super::say;
use super::screen::Look;
use super::session::Session;
use super::table::Table;
use super::workers::subject;
use crate::api::wire::{Explain, Prediction};
use crate::draw::bar;

/// Foretell the next task of a worker, of an entity, or of the whole host.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The worker [default: the whole host].
    #[arg(conflicts_with = "entity")]
    pub worker: Option<String>,
    /// An entity's next task instead.
    #[arg(long, short)]
    pub entity: Option<String>,
    /// Say what the probabilities are made of.
    #[arg(long, short = 'x')]
    pub explain: bool,
}

pub(super) async fn run(args: Args, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let target = Target::of(&["predict"])
        .with("worker", args.worker)
        .with("entity", args.entity)
        .with("explain", args.explain.then_some(true));
    let prediction: Prediction = s.client.get(&target).await?;
    s.show(&prediction, text)?;
    Ok(Exit::Ok)
}

/// A prediction as tables.
pub(super) fn text(prediction: &Prediction, look: &Look) -> String {
    let mut text = format!("next task of {}\n\n{}", prediction.of, types(prediction, look));
    if !prediction.next.is_empty() {
        let mut table = Table::new(look, &["THE VERY NEXT TASK", "ENTITY", ">P"]);
        for n in &prediction.next {
            let p = format!("{} {}", say::share(n.p), bar(n.p));
            table.row([n.task_type.clone(), n.entity.clone(), p]);
        }
        text.push('\n');
        text.push_str(&table.text());
    }
    if !prediction.known.is_empty() {
        text.push_str("\nknown already, and before it:\n");
        for task in &prediction.known {
            text.push_str(&format!("  task {}  {}\n", task.id, subject(task)));
        }
    }
    if !prediction.expected.is_empty() {
        let mut table = Table::new(look, &["EXPECTED", "ENTITY", ">P", ">DUE"]);
        for e in &prediction.expected {
            let due = format!("in {}", say::seconds(e.due_in_s));
            table.row([e.task_type.clone(), e.entity.clone(), say::share(e.p), due]);
        }
        text.push('\n');
        text.push_str(&table.text());
    }
    if let Some(explain) = &prediction.explain {
        text.push_str(&explained(explain, look));
    }
    text
}

fn types(prediction: &Prediction, look: &Look) -> String {
    let explain = prediction.explain.is_some();
    let due = |s: Option<f64>| s.map(|s| format!("in {}", say::seconds(s))).unwrap_or_default();
    let p = |p: f64| format!("{} {}", say::share(p), bar(p));
    let other = prediction.other > 0.0;
    if explain {
        let columns = ["TYPE", ">P", ">AFFINITY", ">HEAT", ">HISTORY", ">DUE"];
        let mut table = Table::new(look, &columns);
        for t in &prediction.types {
            let [a, h, y] = [t.affinity, t.heat, t.history].map(say::share);
            table.row([t.task_type.clone(), p(t.p), a, h, y, due(t.due_in_s)]);
        }
        if other {
            let none = String::new;
            table.row(["other types".to_owned(), p(prediction.other), none(), none(), none(), none()]);
        }
        return table.text();
    }
    let mut table = Table::new(look, &["TYPE", ">P", ">DUE"]);
    for t in &prediction.types {
        table.row([t.task_type.clone(), p(t.p), due(t.due_in_s)]);
    }
    if other {
        table.row(["other types".to_owned(), p(prediction.other), String::new()]);
    }
    table.text()
}

fn explained(e: &Explain, look: &Look) -> String {
    let [a, h, y] = e.exponents;
    let learned = if e.exponents_learned { "learned" } else { "fixed" };
    let mut text = format!(
        "\np ∝ affinity^{a:.2} × (1 − heat)^{h:.2} × history^{y:.2}, exponents {learned}; log loss lately {:.2} bits\n",
        e.log_loss_bits
    );
    if !e.contexts.is_empty() {
        let mut table = Table::new(look, &["CONTEXT", ">SAYS", "SPEAKS FOR", ">SEEN"]);
        for c in &e.contexts {
            let seen = c.count.map_or_else(String::new, |n| format!("{n:.0}"));
            table.row([c.context.clone(), format!("{:+.2}", c.weight), c.task_type.clone(), seen]);
        }
        text.push('\n');
        text.push_str(&table.text());
    }
    if !e.calibration.is_empty() {
        let mut table = Table::new(look, &["CONFIDENCE", ">FORECASTS", ">MEAN", ">CAME TRUE"]);
        for b in e.calibration.iter().filter(|b| b.count > 0.0) {
            let range = format!("{} to {}", say::share(b.from), say::share(b.to));
            let count = format!("{:.0}", b.count);
            table.row([range, count, say::share(b.confidence), say::share(b.came_true)]);
        }
        text.push('\n');
        text.push_str(&table.text());
    }
    text
}
