//! `forestage pause`, `resume`, `drain` and `health`.

use super::client::Target;
use super::exit::Exit;
use super::say;
use super::screen::Look;
use super::session::Session;
use super::table::pairs;
use crate::api::wire::Health;
use crate::time::Span;

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Control {
    Pause,
    Resume,
    Drain,
}

pub(super) async fn run(control: Control, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let verb = match control {
        Control::Pause => "pause",
        Control::Resume => "resume",
        Control::Drain => "drain",
    };
    let health: Health = s.client.post(&Target::of(&[verb]), None::<&()>).await?;
    s.show(&health, |h, _| format!("{}: {}\n", h.status, tasks(h)))?;
    Ok(Exit::Ok)
}

pub(super) async fn health(s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let health: Health = s.client.get(&Target::of(&["health"])).await?;
    s.show(&health, text)?;
    Ok(if health.damage.is_empty() { Exit::Ok } else { Exit::Failed })
}

fn tasks(h: &Health) -> String {
    let counts: Vec<String> =
        h.tasks.iter().filter(|(_, n)| **n > 0).map(|(state, n)| format!("{n} {state}")).collect();
    if counts.is_empty() { "no unfinished tasks".to_owned() } else { counts.join(", ") }
}

/// Health as names and texts.
pub(super) fn text(h: &Health, _: &Look) -> String {
    pairs(&[
        ("status", Some(h.status.clone())),
        ("tasks", Some(tasks(h))),
        ("staging", Some(h.staging.clone())),
        ("up", Some(Span::from_s(h.up_s).to_string())),
        ("process", Some(format!("{}, {} on this state", h.pid, ordinal_start(h.epoch)))),
        ("version", Some(h.version.clone())),
        ("damage", (!h.damage.is_empty()).then(|| h.damage.join("\n"))),
    ])
}

fn ordinal_start(epoch: u32) -> String {
    say::count(epoch.into(), "start", "starts")
}
