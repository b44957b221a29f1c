//! `forestage savings`.

use super::client::Target;
use super::exit::Exit;
use super::say;
use super::screen::Look;
use super::session::Session;
use super::table::{Table, pairs};
use crate::api::wire::Savings;

/// Say what staging has saved, with its interval, and what it cost.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

pub(super) async fn run(s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let savings: Savings = s.client.get(&Target::of(&["savings"])).await?;
    s.show(&savings, text)?;
    Ok(Exit::Ok)
}

/// The ledger, the answer first.
pub(super) fn text(v: &Savings, look: &Look) -> String {
    let of = |part: u64, whole: u64, what: &str| {
        let share = if whole == 0 {
            String::new()
        } else {
            format!(" ({} of {what})", say::share(part as f64 / whole as f64))
        };
        Some(format!("{part}{share}"))
    };
    let mut text = format!("staging {}: {}\n\n", v.staging, v.verdict);
    text.push_str(&pairs(&[
        ("data wait hidden", Some(say::seconds(v.hidden_s))),
        ("found in cache", of(v.found, v.demands, "demands")),
        (
            "staged",
            Some(format!("{}, {}", say::count(v.staged, "object", "objects"), say::bytes(v.staged_bytes))),
        ),
        ("useful", of(v.useful, v.staged, "staged")),
        ("late", of(v.late, v.staged, "staged")),
        ("wasted", of(v.wasted, v.staged, "staged").map(|t| format!("{t}, {}", say::bytes(v.wasted_bytes)))),
        ("harmful", Some(v.harmful.to_string())),
        ("forecasts right", of(v.forecasts_right, v.forecasts, "forecasts").filter(|_| v.forecasts > 0)),
        ("turned off", (!v.off.is_empty()).then(|| v.off.join("\n"))),
    ]));
    if !v.lines.is_empty() {
        let columns =
            ["TYPE", "SOURCE", "KNOWLEDGE", ">STAGED", ">USEFUL", ">LATE", ">WASTED", ">HIDDEN", ">BYTES"];
        let mut table = Table::new(look, &columns);
        for l in &v.lines {
            table.row([
                l.task_type.clone(),
                l.source.clone(),
                l.knowledge.clone(),
                l.staged.to_string(),
                l.useful.to_string(),
                l.late.to_string(),
                l.wasted.to_string(),
                say::seconds(l.hidden_s),
                say::bytes(l.bytes),
            ]);
        }
        text.push('\n');
        text.push_str(&table.text());
    }
    text
}
