//! How `top` looks: a line of answers, the heatmap, workers, queue and transfers, a line of keys.

use super::super::say;
use super::state::State;
use crate::api::wire::{Now, Worker};
use crate::draw::{Colour, Heatmap, Theme, bar, level};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Row, Table, TableState, Wrap};

/// Rows of the heatmap at most.
const HEAT_ROWS: usize = 12;
/// Characters of a row's label, and of its latest value.
const LABEL: usize = 14;
const VALUE: usize = 9;
const KEYS: &str =
    "q quit  / filter  ↑↓ ⏎ why  h heat  b rows  m metric  w workers  k queue  p pause  ? help";
const HELP: &str = "q, ^C     leave\n\
    /         filter workers by name; Enter keeps it, Esc clears it\n\
    ↑ ↓ Enter choose a worker and ask why it gets what it gets; Esc goes back\n\
    h w k     show or hide heatmap, workers, queue\n\
    b         rows of the heatmap: workers, cells, shards, sources\n\
    m         its metric: heat, cpu, memory, io, net\n\
    p         hold the picture still, and go on\n\
    \n\
    ╱ in the heatmap is forecast: the load of what is queued and predicted.";

/// Draws all of it, whatever the size.
pub fn draw(state: &State, frame: &mut Frame<'_>) {
    let heat_rows =
        state.map.as_ref().filter(|_| state.parts.heat).map_or(0, |m| m.rows.len().clamp(1, HEAT_ROWS));
    let heat = if heat_rows == 0 { 0 } else { (heat_rows as u16 + 2).min(frame.area().height / 2) };
    let queue_lines = state.now.as_ref().map_or(0, |n| n.queue.len().clamp(1, 5));
    let queue = if state.parts.queue { queue_lines as u16 + 2 } else { 0 };
    let [top, heat, workers, queue, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(heat),
        Constraint::Min(0),
        Constraint::Length(queue),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    head(state, frame, top);
    if let Some(map) = state.map.as_ref().filter(|_| state.parts.heat) {
        heatmap(state, map, frame, heat);
    }
    if state.parts.workers {
        table(state, frame, workers);
    }
    if let Some(now) = state.now.as_ref().filter(|_| state.parts.queue) {
        waiting(now, frame, queue);
    }
    let last = if state.editing { format!("/{}▏", state.filter) } else { KEYS.to_owned() };
    frame.render_widget(Paragraph::new(last).style(soft()), keys);
    over(state, frame);
}

fn soft() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn head(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let Some(now) = &state.now else { return };
    let s = &now.savings;
    let tasks = |name: &str| now.health.tasks.get(name).copied().unwrap_or(0);
    let waiting = tasks("queued") + tasks("delayed") + tasks("blocked");
    let mut first = vec![
        Span::styled("forestage", Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!(
            "  {} · staging {} · up {} · {}",
            now.health.status,
            s.staging,
            say::seconds(now.health.up_s),
            say::clock(now.at_s, state.zone.0)
        )),
    ];
    if state.frozen {
        first.push(Span::styled("  held still", Style::new().add_modifier(Modifier::REVERSED)));
    }
    if let Some(trouble) = &state.trouble {
        first.push(Span::styled(format!("  {trouble}"), Style::new().fg(Color::Red)));
    }
    let second = format!(
        "saved {} · {} · {waiting} waiting, {} running",
        say::seconds(s.hidden_s),
        s.verdict,
        tasks("running")
    );
    frame.render_widget(Paragraph::new(vec![Line::from(first), Line::from(second)]), area);
}

fn heatmap(state: &State, map: &Heatmap, frame: &mut Frame<'_>, area: Rect) {
    let block = Block::new().borders(Borders::TOP).title(map.title.clone());
    let inside = block.inner(area);
    frame.render_widget(block, area);
    let space = usize::from(inside.width).saturating_sub(LABEL + VALUE + 2);
    let map = map.newest(space.max(1));
    let measured = map.forecast_from.unwrap_or(map.columns.count);
    let lines = map.rows.iter().take(usize::from(inside.height)).map(|row| {
        let mut spans = vec![Span::styled(format!("{:>LABEL$} ", cut(&row.label, LABEL)), soft())];
        for (column, value) in row.values.iter().enumerate() {
            spans.push(cell(state.colour, value.map(|v| level(map.share(v))), column >= measured));
        }
        let latest = row.values[..measured].iter().rev().flatten().next();
        let latest = latest.map_or_else(|| "–".to_owned(), |v| map.unit.format(*v));
        spans.push(Span::raw(format!(" {}", cut(&latest, VALUE))));
        Line::from(spans)
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), inside);
}

/// One cell, with the same levels and hatching as every other drawing.
fn cell(colour: Colour, level: Option<usize>, forecast: bool) -> Span<'static> {
    let Some(level) = level else { return Span::styled("·", soft()) };
    let mark = if forecast { "╱" } else { " " };
    let style = |ground: Color| {
        let ink = if level >= 5 { Color::Black } else { Color::White };
        Style::new().bg(ground).fg(ink)
    };
    match colour {
        Colour::None if forecast => Span::styled(level.to_string(), soft()),
        Colour::None => Span::raw(level.to_string()),
        Colour::Ansi256 => Span::styled(mark, style(Color::Indexed(Theme::Dark.colour_256(level).0))),
        Colour::True => {
            let rgb = Theme::Dark.colour(level);
            Span::styled(mark, style(Color::Rgb(rgb.0, rgb.1, rgb.2)))
        }
    }
}

fn table(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let workers = state.workers();
    let rows = workers.iter().map(|w| row(w));
    let widths = [
        Constraint::Max(16),
        Constraint::Length(7),
        Constraint::Length(5),
        Constraint::Fill(3),
        Constraint::Fill(2),
    ];
    let head = Row::new(["WORKER", "SLOTS", "HEAT", "RUNNING", "NEXT (forecast)"]).style(soft());
    let of = state.now.as_ref().map_or(0, |n| n.workers.len());
    let title = if state.filter.is_empty() {
        format!("workers {of}")
    } else {
        format!("workers {} of {of} with `{}`", workers.len(), state.filter)
    };
    let table = Table::new(rows, widths)
        .header(head)
        .block(Block::new().borders(Borders::TOP).title(title))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut chosen = TableState::default().with_selected((!workers.is_empty()).then_some(state.chosen));
    frame.render_stateful_widget(table, area, &mut chosen);
}

fn row(w: &Worker) -> Row<'static> {
    let heat = w.heat.iter().copied().fold(0.0, f64::max);
    let running = w.running.iter().map(|t| match &t.entity {
        Some(entity) => format!("{} {entity}", t.task_type),
        None => t.task_type.clone(),
    });
    let next = w.next.first().map(|n| format!("{} {} {}", n.task_type, say::share(n.p), bar(n.p)));
    Row::new([
        w.name.clone(),
        format!("{} / {}", w.running.len(), w.slots),
        say::share(heat),
        running.collect::<Vec<_>>().join(", "),
        next.unwrap_or_default(),
    ])
}

fn waiting(now: &Now, frame: &mut Frame<'_>, area: Rect) {
    let t = &now.transfers;
    let title =
        format!("queue · transfers: {} demanded, {} staging, {} waiting", t.demand, t.staging, t.waiting);
    let mut lines: Vec<Line<'_>> = now
        .queue
        .iter()
        .map(|q| {
            Line::from(format!(
                "{:>6}  {:<22} waiting for: {}",
                q.count,
                cut(&q.task_type, 22),
                q.waiting_for
            ))
        })
        .collect();
    if lines.is_empty() {
        lines.push(Line::styled("nothing is ready and waiting", soft()));
    }
    frame.render_widget(Paragraph::new(lines).block(Block::new().borders(Borders::TOP).title(title)), area);
}

/// What lies over the rest: an explanation, or help.
fn over(state: &State, frame: &mut Frame<'_>) {
    let (title, text) = match (&state.detail, state.help) {
        (Some(why), _) => {
            let lines = why.lines.iter().map(|l| format!("{:<12} {}\n", l.name, l.text));
            (why.title.clone(), lines.collect::<String>())
        }
        (None, true) => ("keys".to_owned(), HELP.to_owned()),
        (None, false) => return,
    };
    let area = frame.area();
    let [_, middle, _] =
        Layout::vertical([Constraint::Fill(1), Constraint::Percentage(70), Constraint::Fill(1)]).areas(area);
    let [_, middle, _] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Percentage(90), Constraint::Fill(1)])
            .areas(middle);
    frame.render_widget(Clear, middle);
    let block = Block::new().borders(Borders::ALL).title(title);
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }).block(block), middle);
}

/// A text of at most `width` characters.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::{filled, press};
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyCode;

    fn screen(state: &State, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(state, frame)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..height).map(line).collect()
    }

    fn has(screen: &[String], text: &str) -> bool {
        screen.iter().any(|l| l.contains(text))
    }

    #[test]
    fn eighty_by_twenty_four_has_everything() {
        let shown = screen(&filled(Colour::None), 80, 24);
        assert!(shown[0].starts_with("forestage  running · staging on · up "), "{}", shown[0]);
        assert!(
            shown[1].starts_with("saved 19.8 s · saves 31 ms a demand (95 %: 12 to 50 ms)"),
            "{}",
            shown[1]
        );
        for text in [
            "heat by worker",
            "0011",
            "WORKER",
            "fast",
            "waiting for: slot",
            "1 demanded, 2 staging",
            "q quit",
        ] {
            assert!(has(&shown, text), "{text} is not on\n{}", shown.join("\n"));
        }
    }

    #[test]
    fn parts_are_switched_by_single_keys() {
        let mut state = filled(Colour::None);
        for (key, text) in [('h', "heat by worker"), ('w', "WORKER"), ('k', "waiting for: slot")] {
            press(&mut state, KeyCode::Char(key));
            assert!(!has(&screen(&state, 80, 24), text), "{text} is hidden");
            press(&mut state, KeyCode::Char(key));
            assert!(has(&screen(&state, 80, 24), text), "{text} is back");
        }
        press(&mut state, KeyCode::Char('?'));
        assert!(has(&screen(&state, 80, 24), "hold the picture still"));
    }

    #[test]
    fn the_forecast_is_hatched() {
        let shown = screen(&filled(Colour::True), 80, 24);
        let row = shown.iter().find(|l| l.contains('╱')).expect("there is a forecast");
        assert_eq!(row.matches('╱').count(), 4);
    }

    #[test]
    fn every_size_is_drawn() {
        let mut state = filled(Colour::Ansi256);
        state.help = true;
        for (width, height) in [(1, 1), (3, 2), (10, 5), (40, 12), (80, 24), (300, 100), (500, 3), (2, 200)] {
            screen(&state, width, height);
        }
    }
}
