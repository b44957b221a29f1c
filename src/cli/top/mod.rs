//! `forestage top`: the dashboard in a terminal.
//!
//! `state` holds what is shown and what keys do to it, `view` draws it, this file asks the daemon and reads the
//! keyboard. The terminal is put back however it ends.

mod state;
mod view;

use super::args;
use super::client::Target;
use super::exit::Exit;
use super::session::Session;
use crate::api::wire::{Now, Why};
use crate::draw::Heatmap;
use crate::time::Span;
use anyhow::{Context as _, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use state::{Asked, State};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the keyboard's thread waits before it looks whether anybody still listens.
const KEY_WAIT: Duration = Duration::from_millis(200);
/// Share of the width that columns of the heatmap cannot use.
const OVERHEAD: u16 = 30;

/// Show what happens now: heat, workers, queue, savings. `?` lists the keys.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// How often to look, as 500ms or 5s.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = args::span)]
    pub every: Span,
}

pub(super) async fn run(args: Args, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    if !s.screen.look.terminal {
        bail!("`top` needs a terminal; for programs there are `forestage workers --json` and `/v1/now`");
    }
    let mut state = State::new(s.screen.look.colour, s.screen.look.zone);
    // The first answer comes before the screen changes: an error is then read as usual.
    look(&mut state, s, 80).await?;
    let mut terminal = ratatui::try_init().context("prepare the terminal")?;
    let ended = follow(&mut state, s, &mut terminal, args.every).await;
    ratatui::restore();
    ended.map(|()| Exit::Ok)
}

async fn follow(
    state: &mut State,
    s: &mut Session<'_>,
    terminal: &mut DefaultTerminal,
    every: Span,
) -> anyhow::Result<()> {
    let mut keys = keyboard();
    let mut ticks = tokio::time::interval(every.to_std().max(Duration::from_millis(100)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        terminal.draw(|frame| view::draw(state, frame))?;
        tokio::select! {
            _ = ticks.tick() => {
                let width = terminal.size()?.width;
                if !state.frozen {
                    // A daemon that is being restarted is waited for, and it is said.
                    state.trouble = look(state, s, width).await.err().map(|e| e.to_string());
                }
            }
            event = keys.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => match state.key(key) {
                    Asked::Nothing => {}
                    Asked::Look => state.trouble = look(state, s, terminal.size()?.width).await.err().map(|e| e.to_string()),
                    Asked::Why(worker) => {
                        let why: Result<Why, _> =
                            s.client.get(&Target::of(&["why"]).with("worker", Some(worker))).await;
                        match why {
                            Ok(why) => state.detail = Some(why),
                            Err(error) => state.trouble = Some(error.to_string()),
                        }
                    }
                    Asked::Quit => return Ok(()),
                },
                // A new size is drawn at once.
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}

async fn look(state: &mut State, s: &mut Session<'_>, width: u16) -> anyhow::Result<()> {
    let now: Now = s.client.get(&Target::of(&["now"]).with("since", Some(state.since()))).await?;
    let columns = width.saturating_sub(OVERHEAD).clamp(10, 200);
    let heat = Target::of(&["heatmap"])
        .with("by", Some(state.by()))
        .with("metric", Some(state.metric()))
        .with("columns", Some(columns));
    // What is not configured or not measured yet has no map, and that is no trouble.
    let map: Option<Heatmap> = s.client.get(&heat).await.ok();
    state.take(now, map);
    Ok(())
}

/// The keyboard, read by a thread of its own because reading it blocks.
fn keyboard() -> mpsc::Receiver<Event> {
    let (tx, rx) = mpsc::channel(64);
    std::thread::spawn(move || {
        while !tx.is_closed() {
            let read = match event::poll(KEY_WAIT) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let Ok(event) = read else { return };
            if tx.blocking_send(event).is_err() {
                return;
            }
        }
    });
    rx
}
