//! What `top` shows, and what keys do to it.

use crate::api::wire::{Now, Why, Worker};
use crate::draw::{Colour, Heatmap, Zone};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// Rows of the heatmap, in the order in which `b` goes through them.
const ROWS: [&str; 4] = ["worker", "cell", "shard", "source"];
/// Metrics, in the order of `m`; sources have latency alone.
const METRICS: [&str; 5] = ["heat", "cpu", "memory", "io", "net"];

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing but a new drawing.
    Nothing,
    /// New figures.
    Look,
    /// Why a worker gets what it gets.
    Why(String),
    /// The end.
    Quit,
}

/// The parts of the screen that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    pub heat: bool,
    pub workers: bool,
    pub queue: bool,
}

/// Everything that is shown.
pub struct State {
    /// The latest answer.
    pub now: Option<Now>,
    /// The latest heatmap.
    pub map: Option<Heatmap>,
    /// What is shown.
    pub parts: Parts,
    /// Only workers whose names have this.
    pub filter: String,
    /// Whether keys go to the filter.
    pub editing: bool,
    /// Which of the workers shown is chosen.
    pub chosen: usize,
    /// What was asked about one of them.
    pub detail: Option<Why>,
    /// Whether the keys are explained.
    pub help: bool,
    /// Whether nothing new is asked for.
    pub frozen: bool,
    /// Why the daemon was not reached.
    pub trouble: Option<String>,
    /// What the terminal can show.
    pub colour: Colour,
    /// The reader's time zone.
    pub zone: Zone,
    row: usize,
    metric: usize,
}

impl State {
    /// Nothing is known yet; all parts are shown.
    pub fn new(colour: Colour, zone: Zone) -> State {
        State {
            now: None,
            map: None,
            parts: Parts { heat: true, workers: true, queue: true },
            filter: String::new(),
            editing: false,
            chosen: 0,
            detail: None,
            help: false,
            frozen: false,
            trouble: None,
            colour,
            zone,
            row: 0,
            metric: 0,
        }
    }

    /// New figures.
    pub fn take(&mut self, now: Now, map: Option<Heatmap>) {
        self.now = Some(now);
        self.map = map;
        self.chosen = self.chosen.min(self.workers().len().saturating_sub(1));
    }

    /// What to ask the daemon for: `top` shows no single attempts, so it asks for none.
    pub fn since(&self) -> u64 {
        self.now.as_ref().map_or(u64::MAX, |n| n.next)
    }

    /// The heatmap's rows.
    pub fn by(&self) -> &'static str {
        ROWS[self.row]
    }

    /// The heatmap's metric.
    pub fn metric(&self) -> &'static str {
        if self.by() == "source" { "latency" } else { METRICS[self.metric] }
    }

    /// The workers that the filter lets through.
    pub fn workers(&self) -> Vec<&Worker> {
        let filter = self.filter.to_lowercase();
        let all = self.now.iter().flat_map(|n| &n.workers);
        all.filter(|w| w.name.to_lowercase().contains(&filter)).collect()
    }

    /// A key was pressed.
    pub fn key(&mut self, key: KeyEvent) -> Asked {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Asked::Quit;
        }
        if self.editing {
            self.edit(key.code);
            return Asked::Nothing;
        }
        match key.code {
            KeyCode::Char('q') => return Asked::Quit,
            KeyCode::Esc if self.detail.is_some() || self.help => {
                self.detail = None;
                self.help = false;
            }
            KeyCode::Esc if !self.filter.is_empty() => self.filter.clear(),
            KeyCode::Esc => return Asked::Quit,
            KeyCode::Char('?') => self.help = !self.help,
            KeyCode::Char('h') => self.parts.heat = !self.parts.heat,
            KeyCode::Char('w') => self.parts.workers = !self.parts.workers,
            KeyCode::Char('k') => self.parts.queue = !self.parts.queue,
            KeyCode::Char('p') => self.frozen = !self.frozen,
            KeyCode::Char('/') => self.editing = true,
            KeyCode::Char('b') => {
                self.row = (self.row + 1) % ROWS.len();
                return Asked::Look;
            }
            KeyCode::Char('m') => {
                self.metric = (self.metric + 1) % METRICS.len();
                return Asked::Look;
            }
            KeyCode::Up => self.chosen = self.chosen.saturating_sub(1),
            KeyCode::Down => self.chosen = (self.chosen + 1).min(self.workers().len().saturating_sub(1)),
            KeyCode::Enter => {
                if let Some(worker) = self.workers().get(self.chosen) {
                    return Asked::Why(worker.name.clone());
                }
            }
            _ => {}
        }
        Asked::Nothing
    }

    fn edit(&mut self, key: KeyCode) {
        match key {
            KeyCode::Enter => self.editing = false,
            KeyCode::Esc => {
                self.editing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => _ = self.filter.pop(),
            KeyCode::Char(c) => self.filter.push(c),
            _ => {}
        }
        self.chosen = 0;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::backend::Backend;
    use crate::api::testing::Memory;
    use crate::api::wire::{HeatmapQuery, NowQuery};

    pub(in super::super) fn press(state: &mut State, code: KeyCode) -> Asked {
        state.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    /// With the figures of the daemon in memory.
    pub(in super::super) fn filled(colour: Colour) -> State {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let daemon = Memory::new();
        let now = runtime.block_on(daemon.now(NowQuery::default())).unwrap();
        let query = HeatmapQuery {
            columns: Some(40),
            metric: Some("heat".into()),
            by: Some("worker".into()),
            ..HeatmapQuery::default()
        };
        let mut map = runtime.block_on(daemon.heatmap(query)).unwrap();
        map.forecast_from = Some(36);
        let mut state = State::new(colour, Zone::UTC);
        state.take(now, Some(map));
        state
    }

    #[test]
    fn keys_go_through_rows_and_metrics() {
        let mut state = State::new(Colour::None, Zone::UTC);
        assert_eq!((state.by(), state.metric()), ("worker", "heat"));
        assert_eq!(press(&mut state, KeyCode::Char('m')), Asked::Look);
        assert_eq!(state.metric(), "cpu");
        for by in ["cell", "shard", "source", "worker"] {
            press(&mut state, KeyCode::Char('b'));
            assert_eq!(state.by(), by);
            assert_eq!(state.metric(), if by == "source" { "latency" } else { "cpu" });
        }
    }

    #[test]
    fn the_filter_takes_keys_until_it_is_left() {
        let mut state = filled(Colour::None);
        let all = state.workers().len();
        press(&mut state, KeyCode::Char('/'));
        for c in "qzq".chars() {
            assert_eq!(press(&mut state, KeyCode::Char(c)), Asked::Nothing);
        }
        assert_eq!((state.filter.as_str(), state.workers().len()), ("qzq", 0));
        press(&mut state, KeyCode::Enter);
        assert_eq!(press(&mut state, KeyCode::Enter), Asked::Nothing, "there is nobody to ask about");
        press(&mut state, KeyCode::Esc);
        assert_eq!((state.filter.as_str(), state.workers().len()), ("", all));
        assert_eq!(press(&mut state, KeyCode::Esc), Asked::Quit);
    }

    #[test]
    fn enter_asks_about_the_chosen_worker_and_escape_goes_back() {
        let mut state = filled(Colour::None);
        press(&mut state, KeyCode::Down);
        press(&mut state, KeyCode::Up);
        let name = state.workers()[0].name.clone();
        assert_eq!(press(&mut state, KeyCode::Enter), Asked::Why(name));
        state.detail = Some(Why { title: "t".into(), lines: vec![], candidates: vec![], inputs: vec![] });
        assert_eq!(press(&mut state, KeyCode::Esc), Asked::Nothing);
        assert_eq!(state.detail, None);
        assert_eq!(press(&mut state, KeyCode::Char('q')), Asked::Quit);
    }
}
