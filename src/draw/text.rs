//! The map in a terminal: one character for each column, blocks of colour or digits.
//!
//! A narrow terminal shows fewer columns, never smaller ones: the oldest go first, and the axis says so.

use super::axis::{self, Zone, ticks};
use super::model::{Error, Heatmap};
use super::ramp::{LEVELS, Rgb, Theme, level};
use std::fmt::Write as _;

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// 24 bits.
    True,
    /// xterm's 256.
    Ansi256,
    /// None: digits instead of blocks.
    None,
}

impl Colour {
    /// What to use, by the conventions `NO_COLOR` (any text but the empty one), `TERM` and `COLORTERM`.
    /// `env` looks a variable up. What is not a terminal gets digits.
    pub fn detect(is_terminal: bool, env: impl Fn(&str) -> Option<String>) -> Colour {
        let is = |name: &str, test: fn(&str) -> bool| env(name).is_some_and(|v| test(&v));
        if !is_terminal || is("NO_COLOR", |v| !v.is_empty()) || !is("TERM", |v| !v.is_empty() && v != "dumb")
        {
            return Colour::None;
        }
        if is("COLORTERM", |v| v == "truecolor" || v == "24bit") || is("TERM", |v| v.ends_with("-direct")) {
            return Colour::True;
        }
        // The Linux console and old serial terminals have 8 or 16 colours: too few for a ramp.
        let families = ["xterm", "screen", "tmux", "alacritty", "foot", "rxvt-unicode"];
        if env("TERM").is_some_and(|v| v.contains("256color") || families.iter().any(|f| v.starts_with(f))) {
            return Colour::Ansi256;
        }
        Colour::None
    }
}

/// How to draw for one terminal.
#[derive(Clone, Copy, Debug)]
pub struct TextStyle {
    /// Its width in characters; less than 40 is drawn as 40.
    pub width: usize,
    /// What it can show.
    pub colour: Colour,
    /// Whether its ground is light or dark.
    pub theme: Theme,
    /// The reader's time zone.
    pub zone: Zone,
}

/// Below this the legend does not fit.
const MIN_WIDTH: usize = 40;
/// A longer label is cut in the middle: its ends tell rows apart.
const MAX_LABEL: usize = 28;

/// The map as lines, each ended by `\n`, none wider than the terminal.
///
/// # Errors
/// What [`Heatmap::check`] says.
pub fn text(map: &Heatmap, style: &TextStyle) -> Result<String, Error> {
    map.check()?;
    let page = Page::new(map, style);
    let mut out = String::new();
    page.heading(&mut out);
    for row in 0..page.map.rows.len() {
        page.row(row, &mut out);
    }
    page.axis(&mut out);
    page.legend(&mut out);
    Ok(out)
}

/// The map cut to the terminal's width, and where things stand on a line.
struct Page<'a> {
    whole: &'a Heatmap,
    map: Heatmap,
    style: &'a TextStyle,
    width: usize,
    label: usize,
    figure: usize,
    /// Rows with the hottest and the coolest area.
    hottest: Option<usize>,
    coolest: Option<usize>,
}

impl<'a> Page<'a> {
    fn new(whole: &'a Heatmap, style: &'a TextStyle) -> Page<'a> {
        let width = style.width.max(MIN_WIDTH);
        let longest = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
        let label = longest(&mut whole.rows.iter().map(|r| r.label.chars().count()));
        let label = label.min(MAX_LABEL).min(width / 3);
        let rows = 0..whole.rows.len();
        let figure = longest(&mut rows.map(|r| figure(whole, r).chars().count()));
        // Label, two spaces, cells, gap before the forecast, space, figure, space and `cool`.
        let room = width.saturating_sub(label + 2 + 1 + 1 + figure + 5).max(1);
        let (hottest, coolest) = (whole.hottest().map(|a| a.row), whole.coolest().map(|a| a.row));
        Page { whole, map: whole.newest(room), style, width, label, figure, hottest, coolest }
    }

    fn heading(&self, out: &mut String) {
        let (all, shown) = (self.whole.columns.count, self.map.columns.count);
        let mut side = format!("{} a column", axis::width(self.map.columns.step));
        if shown < all {
            side = format!("newest {shown} of {all} columns, {side}");
        }
        let taken = self.map.title.chars().count() + side.chars().count();
        if taken + 2 <= self.width {
            line(out, &format!("{}{:pad$}{side}", self.map.title, "", pad = self.width - taken));
        } else {
            line(out, &cut(&self.map.title, self.width));
            line(out, &cut(&side, self.width));
        }
        if let Some(note) = &self.map.note {
            line(out, &cut(note, self.width));
        }
    }

    fn row(&self, row: usize, out: &mut String) {
        let it = &self.map.rows[row];
        let mut cells = String::new();
        let mut ink = Ink::default();
        for (column, value) in it.values.iter().enumerate() {
            let forecast = column >= self.map.measured();
            if self.gap_before(column) {
                ink.reset(&mut cells);
                cells.push(if self.style.colour == Colour::None { '│' } else { ' ' });
            }
            self.cell(value.map(|v| level(self.map.share(v))), forecast, &mut ink, &mut cells);
        }
        ink.reset(&mut cells);
        let mark = match Some(row) {
            at if at == self.hottest => " hot",
            at if at == self.coolest => " cool",
            _ => "",
        };
        let (label, label_width) = (cut(&it.label, self.label), self.label);
        line(
            out,
            &format!(
                "{label:>label_width$}  {cells} {:>width$}{mark}",
                figure(self.whole, row),
                width = self.figure
            ),
        );
    }

    /// One character; a space where nothing was measured, a dot among digits.
    fn cell(&self, level: Option<usize>, forecast: bool, ink: &mut Ink, cells: &mut String) {
        let Some(level) = level else {
            ink.reset(cells);
            cells.push(if self.style.colour == Colour::None { '·' } else { ' ' });
            return;
        };
        let mark = if forecast { '╱' } else { ' ' };
        // The stroke is half the ramp away from its ground, so it shows on each level.
        let stroke = (level + LEVELS / 2) % LEVELS;
        match self.style.colour {
            Colour::None => cells.push(char::from_digit(level as u32, 10).expect("a level is one digit")),
            Colour::True => {
                let paint = |l: usize, what: u8| {
                    let Rgb(r, g, b) = self.style.theme.colour(l);
                    format!("{what};2;{r};{g};{b}")
                };
                ink.set(&paint(level, 48), forecast.then(|| paint(stroke, 38)), cells);
                cells.push(mark);
            }
            Colour::Ansi256 => {
                let paint = |l: usize, what: u8| format!("{what};5;{}", self.style.theme.colour_256(l).0);
                ink.set(&paint(level, 48), forecast.then(|| paint(stroke, 38)), cells);
                cells.push(mark);
            }
        }
    }

    fn gap_before(&self, column: usize) -> bool {
        column == self.map.measured() && column < self.map.columns.count
    }

    /// Clock times under the measured columns, then `forecast` if there is room for the word.
    fn axis(&self, out: &mut String) {
        let measured = self.map.measured();
        let mut text = vec![' '; self.width];
        let left = self.label + 2;
        let mut put = |at: usize, word: &str| {
            if at + word.chars().count() <= self.width {
                text.iter_mut().skip(at).zip(word.chars()).for_each(|(slot, c)| *slot = c);
            }
        };
        let mut columns = self.map.columns;
        columns.count = measured;
        let forecast = measured < self.map.columns.count;
        // The measured columns end now only if a forecast follows.
        let end = if forecast { measured.saturating_sub(4) } else { self.width - left };
        for tick in ticks(&columns, self.style.zone, 12) {
            if tick.column + tick.label.len() <= end {
                put(left + tick.column, &tick.label);
            }
        }
        if forecast {
            if measured >= 3 {
                put(left + measured - 3, "now");
            }
            put(left + measured + 1, "forecast");
        }
        line(out, &text.into_iter().collect::<String>());
    }

    fn legend(&self, out: &mut String) {
        let mut scale = String::new();
        let mut ink = Ink::default();
        for level in 0..LEVELS {
            self.cell(Some(level), false, &mut ink, &mut scale);
        }
        ink.reset(&mut scale);
        let end = self.map.unit.format_whole(self.map.max);
        let mut words = format!("0 {scale} {end}");
        let mut width = 2 + LEVELS + 1 + end.chars().count();
        let mut more = |text: &str| {
            if width + 2 + text.chars().count() <= self.width {
                words.push_str("  ");
                words.push_str(text);
                width += 2 + text.chars().count();
            }
        };
        if self.map.measured() < self.map.columns.count {
            more(if self.style.colour == Colour::None { "after │: forecast" } else { "hatched: forecast" });
        }
        if self.map.rows.iter().any(|r| r.values.iter().any(Option::is_none)) {
            more(if self.style.colour == Colour::None { "·: not measured" } else { "blank: not measured" });
        }
        line(out, &words);
        for sentence in self.whole.summary(self.style.zone) {
            line(out, &cut(&sentence, self.width));
        }
    }
}

/// The colours that are set now, so that equal neighbours share one escape.
#[derive(Default)]
struct Ink(String);

impl Ink {
    fn set(&mut self, ground: &str, stroke: Option<String>, out: &mut String) {
        let code = stroke.map_or_else(|| ground.to_owned(), |s| format!("{ground};{s}"));
        if self.0 != code {
            let _ = write!(out, "\x1b[0;{code}m");
            self.0 = code;
        }
    }
    fn reset(&mut self, out: &mut String) {
        if !self.0.is_empty() {
            out.push_str("\x1b[0m");
            self.0.clear();
        }
    }
}

/// The last measured value of a row as text.
fn figure(map: &Heatmap, row: usize) -> String {
    map.latest(row).map_or_else(|| "–".to_owned(), |v| map.unit.format(v))
}

/// `text` in at most `width` characters: its middle gives way to `…`.
fn cut(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let keep = width.saturating_sub(1);
    let (head, tail) = (keep.div_ceil(2), keep / 2);
    let mut out: String = text.chars().take(head).collect();
    if width > 0 {
        out.push('…');
    }
    out.extend(text.chars().skip(length - tail));
    out
}

fn line(out: &mut String, text: &str) {
    out.push_str(text.trim_end_matches(' '));
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::model::example;
    use super::*;

    fn style(width: usize, colour: Colour) -> TextStyle {
        TextStyle { width, colour, theme: Theme::Dark, zone: Zone::UTC }
    }

    /// The text without its escapes.
    fn bare(text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('\x1b') {
            out.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        out + rest
    }

    #[test]
    fn digits_tell_it_without_colour() {
        insta::assert_snapshot!(text(&example(), &style(100, Colour::None)).unwrap(), @r#"
        heat by cell and shard                                                                 30 s a column
             nas-a · 0  333222100000111111122210000000112100000000000000│112221 .08
             nas-a · 1  433322333333454322100000000001111012321112122321│100000 .18
             nas-a · 2  456666665665665444545444434334468999999999999999│999999 .99 hot
             nas-a · 3  433344432110000000000000000100122101223222211000│000001   0
             s3-eu · 0  212110000000000000000000000101011111222100000000│000000   0
             s3-eu · 1  211221122122222100012211211122232334444432322221│000000 .19
             s3-eu · 2  3433323345····2211111112211011011000100000000000│000000   0
        s3-archive · 0  322100000000000000000000110000000010000000000001│110011 .11 cool
        s3-archive · 1  342332223445565656666787787778877789998898888999│998788 .94
                            14:10               14:20                now forecast
        0 0123456789 1.00 of capacity  after │: forecast  ·: not measured
        hottest: nas-a · 2 at .98, 14:24 to 14:32
        coolest: s3-archive · 0 at .04, 14:09 to 14:32
        "#);
    }

    #[test]
    fn narrow_terminals_lose_the_oldest_columns() {
        insta::assert_snapshot!(text(&example(), &style(60, Colour::None)).unwrap(), @r#"
        heat by cell and shard
        newest 34 of 54 columns, 30 s a column
             nas-a · 0  2210000000112100000000000000│112221 .08
             nas-a · 1  0000000001111012321112122321│100000 .18
             nas-a · 2  5444434334468999999999999999│999999 .99 hot
             nas-a · 3  0000000100122101223222211000│000001   0
             s3-eu · 0  0000000101011111222100000000│000000   0
             s3-eu · 1  2211211122232334444432322221│000000 .19
             s3-eu · 2  1112211011011000100000000000│000000   0
        s3-archive · 0  0000110000000010000000000001│110011 .11 cool
        s3-archive · 1  6787787778877789998898888999│998788 .94
                            14:20                now forecast
        0 0123456789 1.00 of capacity  after │: forecast
        hottest: nas-a · 2 at .98, 14:24 to 14:32
        coolest: s3-archive · 0 at .04, 14:09 to 14:32
        "#);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [0, 40, 41, 57, 80, 132, 250] {
            for colour in [Colour::None, Colour::Ansi256, Colour::True] {
                let mut map = example();
                map.note = Some("a note that is long enough to be cut on most terminals, ".repeat(3));
                map.rows[1].label = "a-cell-with-a-very-long-name-indeed · 1".into();
                let drawn = bare(&text(&map, &style(width, colour)).unwrap());
                for line in drawn.lines() {
                    assert!(line.chars().count() <= width.max(MIN_WIDTH), "{width} {colour:?}: {line}");
                }
                assert!(drawn.ends_with('\n') && !drawn.contains('\x1b'));
            }
        }
    }

    #[test]
    fn blocks_use_the_ramp_and_hatch_the_forecast() {
        let mut map = example().newest(8);
        map.rows.truncate(1);
        map.rows[0].values = [0.0, 0.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5].map(Some).to_vec();
        map.forecast_from = Some(6);
        let line = |colour| {
            let drawn = text(&map, &style(80, colour)).unwrap();
            drawn.lines().nth(1).unwrap().replace('\x1b', "^")
        };
        insta::assert_snapshot!(line(Colour::True), @r#"nas-a · 0  ^[0;48;2;32;40;44m  ^[0;48;2;240;226;138m ^[0;48;2;65;134;113m   ^[0m ^[0;48;2;65;134;113;38;2;32;40;44m╱╱^[0m .50 hot"#);
        insta::assert_snapshot!(line(Colour::Ansi256), @r#"nas-a · 0  ^[0;48;5;235m  ^[0;48;5;222m ^[0;48;5;30m   ^[0m ^[0;48;5;30;38;5;235m╱╱^[0m .50 hot"#);
        assert_eq!(line(Colour::None), "nas-a · 0  009555│55 .50 hot");
    }

    #[test]
    fn colours_follow_the_conventions() {
        let detect = |tty, vars: &[(&str, &str)]| {
            Colour::detect(tty, |name| vars.iter().find(|v| v.0 == name).map(|v| v.1.to_owned()))
        };
        let xterm = ("TERM", "xterm-256color");
        assert_eq!(detect(true, &[xterm]), Colour::Ansi256);
        assert_eq!(detect(true, &[xterm, ("COLORTERM", "truecolor")]), Colour::True);
        assert_eq!(detect(true, &[xterm, ("NO_COLOR", "1")]), Colour::None);
        assert_eq!(detect(true, &[xterm, ("NO_COLOR", "")]), Colour::Ansi256);
        assert_eq!(detect(false, &[xterm]), Colour::None);
        assert_eq!(detect(true, &[("TERM", "dumb"), ("COLORTERM", "truecolor")]), Colour::None);
        assert_eq!(detect(true, &[("TERM", "linux")]), Colour::None);
        assert_eq!(detect(true, &[]), Colour::None);
    }

    #[test]
    fn long_labels_keep_their_ends() {
        assert_eq!(
            cut("a-cell-with-a-long-name · 12", 12),
            "a-cell…e · 12".chars().take(6).collect::<String>() + "… · 12"
        );
        assert_eq!(cut("short", 12), "short");
        assert_eq!(cut("x", 0), "");
    }
}
