//! The map as an SVG picture: for files, browsers and, through [`super::png()`], for PNG.
//!
//! Cells keep their size; a narrow picture shows fewer columns, the newest. The picture says in words
//! (`<title>`, `<desc>`, a `<title>` in each row) what it shows in colour.

use super::axis::{self, Zone, ticks};
use super::model::{Area, Error, Heatmap};
use super::ramp::{LEVELS, Palette, Theme, level};
use std::fmt::Write as _;

/// How to draw a picture.
#[derive(Clone, Copy, Debug, Default)]
pub struct SvgStyle {
    /// Paper or ink.
    pub theme: Theme,
    /// The reader's time zone.
    pub zone: Zone,
    /// Widest picture, in px; older columns are left out to fit. None: all columns.
    pub max_width_px: Option<u32>,
}

/// Sans-serif faces, first the one inside the binary that PNG uses.
pub(super) const FONT: &str = "Ubuntu, 'Ubuntu Light', system-ui, 'DejaVu Sans', sans-serif";

const MARGIN: f64 = 20.0;
/// Width of a cell: the least, and the most when there are few columns.
const CELL: (f64, f64) = (11.0, 26.0);
/// What few columns are widened to fill: title, legend and summary need about this.
const BODY: f64 = 640.0;
/// Between cells.
const GUTTER: f64 = 1.0;
/// Between the last measured and the first forecast column.
const FORECAST_GAP: f64 = 5.0;
/// The longest label, in px; a longer one is cut.
const MAX_LABEL_PX: f64 = 260.0;
/// Figures at the right end of rows.
const FIGURE: f64 = 64.0;

/// Sizes of type, in px.
const TITLE: f64 = 17.0;
const TEXT: f64 = 13.0;
/// From line to line.
const LINE: f64 = 19.0;

/// The picture, a complete SVG document.
///
/// # Errors
/// What [`Heatmap::check`] says.
pub fn svg(map: &Heatmap, style: &SvgStyle) -> Result<String, Error> {
    map.check()?;
    let page = Page::new(map, style);
    let mut out = String::with_capacity(4_096 + 40 * map.rows.len() * page.map.columns.count);
    page.head(&mut out);
    for row in 0..page.map.rows.len() {
        page.row(row, &mut out);
    }
    page.areas(&mut out);
    page.axis(&mut out);
    page.legend(&mut out);
    out.push_str("</svg>\n");
    Ok(out)
}

struct Page<'a> {
    whole: &'a Heatmap,
    map: Heatmap,
    style: &'a SvgStyle,
    colours: Palette,
    /// Left edge of the cells.
    x: f64,
    /// Upper edge of the cells.
    y: f64,
    /// Distance from cell to cell.
    cell: f64,
    /// Distance from row to row.
    row: f64,
    /// The hottest and the coolest area in words: one line, two where one would be too wide.
    summary: Vec<String>,
    /// Of the whole picture.
    width: f64,
    height: f64,
}

impl<'a> Page<'a> {
    fn new(whole: &'a Heatmap, style: &'a SvgStyle) -> Page<'a> {
        let label = whole.rows.iter().map(|r| measure(&r.label, TEXT)).fold(0.0, f64::max).min(MAX_LABEL_PX);
        let x = MARGIN + label + 10.0;
        let around = x + FORECAST_GAP + FIGURE + MARGIN;
        let shown = style.max_width_px.map_or(whole.columns.count, |px| {
            (((f64::from(px) - around) / CELL.0) as usize).clamp(1, whole.columns.count)
        });
        let map = whole.newest(shown);
        let body = style.max_width_px.map_or(BODY, |px| (f64::from(px) - around).min(BODY));
        let cell = (body / shown as f64).clamp(CELL.0, CELL.1);
        // Few rows stand tall; many are as low as their labels allow, never lower.
        let row = match map.rows.len() {
            ..=12 => 28.0,
            13..=40 => 21.0,
            _ => 17.0,
        };
        let y = MARGIN + 30.0 + if map.note.is_some() { 20.0 } else { 0.0 } + 10.0;
        let bottom = y + map.rows.len() as f64 * row;
        let width = around + shown as f64 * cell;
        let mut summary = whole.summary(style.zone);
        let one = summary.join("  ·  ");
        if measure(&one, TEXT) <= width - 2.0 * MARGIN {
            summary = vec![one];
        }
        let legend = 24.0 + 24.0 + 26.0 + LINE * (summary.len() - 1) as f64;
        Page {
            whole,
            map,
            style,
            colours: style.theme.palette(),
            x,
            y,
            cell,
            row,
            summary,
            width: width.ceil(),
            height: (bottom + legend + MARGIN).ceil(),
        }
    }

    /// Left edge of a column.
    fn column(&self, column: usize) -> f64 {
        let gap = if column >= self.map.measured() { FORECAST_GAP } else { 0.0 };
        self.x + column as f64 * self.cell + gap
    }

    fn head(&self, out: &mut String) {
        let Page { width, height, colours, .. } = self;
        let title = escape(&self.map.title);
        let summary = escape(&self.summary.join(". "));
        let scale = self.map.unit.format_whole(self.map.max);
        let rows = self.map.rows.len();
        let when = self.map.period(0, self.map.columns.count, self.style.zone);
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"t d\" \
             font-family=\"{FONT}\" font-size=\"{TEXT}\" fill=\"{ink}\">\n\
             <title id=\"t\">{title}</title>\n\
             <desc id=\"d\">{rows} rows, {when}, 0 to {scale}. {summary}.</desc>\n\
             <defs><pattern id=\"h\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><path d=\"M.8 0v5\" stroke=\"{ground}\" stroke-width=\"1.6\"/>\
             </pattern></defs>\n\
             <rect width=\"{width}\" height=\"{height}\" fill=\"{ground}\"/>\n",
            ink = colours.ink,
            ground = colours.ground,
        );
        let base = MARGIN + TITLE;
        let side = format!("{when}, {} a column", axis::width(self.map.columns.step));
        let room = width - 2.0 * MARGIN;
        let title = cut(&self.map.title, TITLE, room);
        self.write(out, (MARGIN, base), (TITLE, "start", colours.ink), &title);
        if measure(&title, TITLE) + 24.0 + measure(&side, TEXT) <= room {
            self.write(out, (width - MARGIN, base), (TEXT, "end", colours.soft), &side);
        }
        if let Some(note) = &self.map.note {
            let note = cut(note, TEXT, room);
            self.write(out, (MARGIN, base + 22.0), (TEXT, "start", colours.soft), &note);
        }
    }

    /// One row: its label, its cells (one path for each level), hatching over the forecast, its figure.
    fn row(&self, row: usize, out: &mut String) {
        let it = &self.map.rows[row];
        let top = self.y + row as f64 * self.row;
        let (w, h) = (round(self.cell - GUTTER), round(self.row - GUTTER - 1.0));
        let mut levels: [String; LEVELS] = Default::default();
        let (mut blank, mut hatch) = (String::new(), String::new());
        for (column, value) in it.values.iter().enumerate() {
            let x = round(self.column(column));
            match value {
                Some(v) => {
                    let _ = write!(levels[level(self.map.share(*v))], "M{x} {top}h{w}v{h}h-{w}z");
                    if column >= self.map.measured() {
                        let _ = write!(hatch, "M{x} {top}h{w}v{h}h-{w}z");
                    }
                }
                // Nothing was measured: a thin line, so that it is not taken for calm.
                None => {
                    let _ = write!(blank, "M{x} {}h{w}", top + h / 2.0);
                }
            }
        }
        let figure = self.whole.latest(row).map_or_else(|| "–".to_owned(), |v| self.map.unit.format(v));
        let _ = write!(out, "<g><title>{}: {figure} now</title>", escape(&it.label));
        for (level, path) in levels.iter().enumerate().filter(|(_, p)| !p.is_empty()) {
            let _ = write!(out, "<path fill=\"{}\" d=\"{path}\"/>", self.style.theme.colour(level));
        }
        if !hatch.is_empty() {
            let _ = write!(out, "<path fill=\"url(#h)\" d=\"{hatch}\"/>");
        }
        if !blank.is_empty() {
            let _ =
                write!(out, "<path stroke=\"{}\" stroke-opacity=\".5\" d=\"{blank}\"/>", self.colours.soft);
        }
        let base = top + h / 2.0 + TEXT * 0.36;
        let label = cut(&it.label, TEXT, MAX_LABEL_PX);
        self.write(out, (self.x - 10.0, base), (TEXT, "end", self.colours.soft), &label);
        let right = self.column(self.map.columns.count) + 8.0;
        self.write(out, (right, base), (TEXT, "start", self.colours.ink), &figure);
        out.push_str("</g>\n");
    }

    /// Frames around the hottest and the coolest area, as far as they are in sight.
    fn areas(&self, out: &mut String) {
        let dropped = self.whole.columns.count - self.map.columns.count;
        let areas = [(self.whole.hottest(), ""), (self.whole.coolest(), " stroke-dasharray=\"3 3\"")];
        for (area, dash) in areas {
            let Some(Area { row, from, to, .. }) = area.filter(|a| a.to > dropped) else { continue };
            let x = self.column(from.saturating_sub(dropped));
            let right = x + (to - dropped - from.saturating_sub(dropped)) as f64 * self.cell;
            let y = self.y + row as f64 * self.row;
            let _ = writeln!(
                out,
                "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"2\" fill=\"none\" stroke=\"{}\" \
                 stroke-width=\"1.5\"{dash}/>",
                round(x - 1.0),
                y - 1.0,
                round(right - x + 1.0),
                self.row,
                self.colours.ink,
            );
        }
    }

    fn axis(&self, out: &mut String) {
        let base = self.y + self.map.rows.len() as f64 * self.row + 14.0;
        let measured = self.map.measured();
        let mut columns = self.map.columns;
        columns.count = measured;
        let has_forecast = measured < self.map.columns.count;
        let soft = (TEXT, "start", self.colours.soft);
        // The measured columns end now only if a forecast follows.
        let end = self.column(measured) - FORECAST_GAP;
        let limit = if has_forecast { end - 36.0 } else { self.width };
        for tick in ticks(&columns, self.style.zone, (72.0 / self.cell).ceil() as usize) {
            let x = self.column(tick.column);
            if x + measure(&tick.label, TEXT) <= limit {
                self.write(out, (x, base), soft, &tick.label);
            }
        }
        if has_forecast {
            if measured as f64 * self.cell > 30.0 {
                self.write(out, (end - GUTTER, base), (TEXT, "end", self.colours.soft), "now");
            }
            self.write(out, (self.column(measured), base), soft, "forecast");
        }
    }

    /// The ramp with its ends, what hatching and lines mean, and the hottest and coolest area in words.
    fn legend(&self, out: &mut String) {
        let base = self.y + self.map.rows.len() as f64 * self.row + 24.0 + 24.0;
        let soft = (TEXT, "start", self.colours.soft);
        let mut x = MARGIN;
        let room = self.width - MARGIN;
        self.write(out, (x, base), soft, "0");
        x += 13.0;
        for level in 0..LEVELS {
            let colour = self.style.theme.colour(level);
            let _ = write!(
                out,
                "<rect x=\"{x}\" y=\"{}\" width=\"13\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>",
                base - 10.5
            );
            x += 15.0;
        }
        x += 4.0;
        let end = self.map.unit.format_whole(self.map.max);
        self.write(out, (x, base), soft, &end);
        x += measure(&end, TEXT) + 18.0;
        if self.map.measured() < self.map.columns.count && x + 90.0 <= room {
            let deep = self.style.theme.colour(LEVELS / 2);
            for fill in [deep.to_string(), "url(#h)".to_owned()] {
                let _ = write!(
                    out,
                    "<rect x=\"{}\" y=\"{}\" width=\"13\" height=\"12\" rx=\"2\" fill=\"{fill}\"/>",
                    round(x),
                    base - 10.5
                );
            }
            self.write(out, (x + 18.0, base), soft, "forecast");
            x += 18.0 + measure("forecast", TEXT) + 18.0;
        }
        let unknown = self.map.rows.iter().any(|r| r.values.iter().any(Option::is_none));
        if unknown && x + 120.0 <= room {
            let _ = write!(
                out,
                "<path d=\"M{} {}h13\" stroke=\"{}\" stroke-opacity=\".5\"/>",
                round(x),
                base - 4.5,
                self.colours.soft
            );
            self.write(out, (x + 18.0, base), soft, "not measured");
        }
        for (i, sentence) in self.summary.iter().enumerate() {
            let sentence = cut(sentence, TEXT, room - MARGIN);
            let y = base + 26.0 + LINE * i as f64;
            self.write(out, (MARGIN, y), (TEXT, "start", self.colours.ink), &sentence);
        }
    }

    fn write(
        &self,
        out: &mut String,
        (x, y): (f64, f64),
        (size, anchor, fill): (f64, &str, super::Rgb),
        text: &str,
    ) {
        let (x, y) = (round(x), round(y));
        let mut more = String::new();
        if size != TEXT {
            // The embedded face is a light one: the stroke makes the title stand out in PNG as well.
            let _ = write!(
                more,
                " font-size=\"{size}\" font-weight=\"600\" stroke=\"{fill}\" stroke-width=\".4\""
            );
        }
        if anchor != "start" {
            let _ = write!(more, " text-anchor=\"{anchor}\"");
        }
        let _ = write!(out, "<text x=\"{x}\" y=\"{y}\"{more} fill=\"{fill}\">{}</text>", escape(text));
    }
}

/// A tenth of a pixel is enough.
fn round(px: f64) -> f64 {
    (px * 10.0).round() / 10.0
}

/// How wide a text is, in px: a little wider than the faces of [`FONT`] draw it, so that nothing is cut.
fn measure(text: &str, size: f64) -> f64 {
    let em = |c: char| match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '!' | '·' => 0.3,
        'f' | 'r' | 't' | ' ' | '-' | '/' | '(' | ')' => 0.41,
        'm' | 'w' | 'M' | 'W' | '%' | '@' | '–' | '…' => 0.98,
        'A'..='Z' => 0.73,
        ' '..='~' | 'µ' => 0.63,
        _ => 1.05,
    };
    text.chars().map(em).sum::<f64>() * size
}

/// `text` cut at its end to `width` px.
fn cut(text: &str, size: f64, width: f64) -> String {
    if measure(text, size) <= width {
        return text.to_owned();
    }
    let mut out = String::new();
    for c in text.chars() {
        out.push(c);
        if measure(&out, size) + size > width {
            break;
        }
    }
    out.push('…');
    out
}

/// For text and attribute values. Control characters were refused by the model's check.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::model::example;
    use super::*;

    #[test]
    fn a_small_map_is_this_picture() {
        let mut map = example().newest(8);
        map.rows.truncate(2);
        map.rows[0].label = "a<b & \"c\"".to_owned();
        insta::assert_snapshot!(svg(&map, &SvgStyle::default()).unwrap(), @r##"
        <svg xmlns="http://www.w3.org/2000/svg" width="395" height="229" viewBox="0 0 395 229" role="img" aria-labelledby="t d" font-family="Ubuntu, 'Ubuntu Light', system-ui, 'DejaVu Sans', sans-serif" font-size="13" fill="#1d2327">
        <title id="t">heat by cell and shard</title>
        <desc id="d">2 rows, 14:31 to 14:35, 0 to 1.00 of capacity. hottest: nas-a · 1 at .29, 14:31:00 to 14:31:30. coolest: a&lt;b &amp; &quot;c&quot; at 0, 14:31:00 to 14:31:30.</desc>
        <defs><pattern id="h" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path d="M.8 0v5" stroke="#ffffff" stroke-width="1.6"/></pattern></defs>
        <rect width="395" height="229" fill="#ffffff"/>
        <text x="20" y="37" font-size="17" font-weight="600" stroke="#1d2327" stroke-width=".4" fill="#1d2327">heat by cell and shard</text><g><title>a&lt;b &amp; &quot;c&quot;: .08 now</title><path fill="#f1f0e8" d="M98 60h25v26h-25zM124 60h25v26h-25z"/><path fill="#dee2cd" d="M155 60h25v26h-25zM181 60h25v26h-25zM285 60h25v26h-25z"/><path fill="#c6d3b5" d="M207 60h25v26h-25zM233 60h25v26h-25zM259 60h25v26h-25z"/><path fill="url(#h)" d="M155 60h25v26h-25zM181 60h25v26h-25zM207 60h25v26h-25zM233 60h25v26h-25zM259 60h25v26h-25zM285 60h25v26h-25z"/><text x="88" y="77.7" text-anchor="end" fill="#4d575e">a&lt;b &amp; &quot;c&quot;</text><text x="319" y="77.7" fill="#1d2327">.08</text></g>
        <g><title>nas-a · 1: .18 now</title><path fill="#f1f0e8" d="M181 88h25v26h-25zM207 88h25v26h-25zM233 88h25v26h-25zM259 88h25v26h-25zM285 88h25v26h-25z"/><path fill="#dee2cd" d="M124 88h25v26h-25zM155 88h25v26h-25z"/><path fill="#c6d3b5" d="M98 88h25v26h-25z"/><path fill="url(#h)" d="M155 88h25v26h-25zM181 88h25v26h-25zM207 88h25v26h-25zM233 88h25v26h-25zM259 88h25v26h-25zM285 88h25v26h-25z"/><text x="88" y="105.7" text-anchor="end" fill="#4d575e">nas-a · 1</text><text x="319" y="105.7" fill="#1d2327">.18</text></g>
        <rect x="97" y="87" width="27" height="28" rx="2" fill="none" stroke="#1d2327" stroke-width="1.5"/>
        <rect x="97" y="59" width="27" height="28" rx="2" fill="none" stroke="#1d2327" stroke-width="1.5" stroke-dasharray="3 3"/>
        <text x="149" y="130" text-anchor="end" fill="#4d575e">now</text><text x="155" y="130" fill="#4d575e">forecast</text><text x="20" y="164" fill="#4d575e">0</text><rect x="33" y="153.5" width="13" height="12" rx="2" fill="#f1f0e8"/><rect x="48" y="153.5" width="13" height="12" rx="2" fill="#dee2cd"/><rect x="63" y="153.5" width="13" height="12" rx="2" fill="#c6d3b5"/><rect x="78" y="153.5" width="13" height="12" rx="2" fill="#a9c3a0"/><rect x="93" y="153.5" width="13" height="12" rx="2" fill="#80ae95"/><rect x="108" y="153.5" width="13" height="12" rx="2" fill="#58978b"/><rect x="123" y="153.5" width="13" height="12" rx="2" fill="#2f7f83"/><rect x="138" y="153.5" width="13" height="12" rx="2" fill="#1e6373"/><rect x="153" y="153.5" width="13" height="12" rx="2" fill="#124860"/><rect x="168" y="153.5" width="13" height="12" rx="2" fill="#0b2f4a"/><text x="187" y="164" fill="#4d575e">1.00 of capacity</text><text x="20" y="190" fill="#1d2327">hottest: nas-a · 1 at .29, 14:31:00 to 14:31:30</text><text x="20" y="209" fill="#1d2327">coolest: a&lt;b &amp; &quot;c&quot; at 0, 14:31:00 to 14:31:30</text></svg>
        "##);
    }

    #[test]
    fn it_says_in_words_what_it_shows() {
        let drawn = svg(&example(), &SvgStyle::default()).unwrap();
        for words in [
            "role=\"img\"",
            "<title id=\"t\">heat by cell and shard</title>",
            "<desc id=\"d\">9 rows, 14:08 to 14:35, 0 to 1.00 of capacity. hottest: nas-a · 2",
            "<title>s3-eu · 1: ",
            ">forecast</text>",
            ">not measured</text>",
        ] {
            assert!(drawn.contains(words), "{words}");
        }
    }

    #[test]
    fn narrow_pictures_lose_the_oldest_columns_and_keep_their_type() {
        let narrow = SvgStyle { max_width_px: Some(400), ..SvgStyle::default() };
        let page = Page::new(&example(), &narrow).map.columns.count;
        assert!((15..40).contains(&page), "{page}");
        let drawn = svg(&example(), &narrow).unwrap();
        assert!(drawn.contains("width=\"400\"") || drawn.contains("width=\"39"), "{}", &drawn[..200]);
        assert!(drawn.contains("font-size=\"13\""));
    }

    #[test]
    fn both_themes_draw_the_forecast_hatched() {
        for theme in [Theme::Light, Theme::Dark] {
            let drawn = svg(&example(), &SvgStyle { theme, ..SvgStyle::default() }).unwrap();
            // Nine rows and the legend.
            assert_eq!(drawn.matches("fill=\"url(#h)\"").count(), 10);
        }
    }

    #[test]
    fn a_bad_map_is_refused() {
        let mut map = example();
        map.max = f64::INFINITY;
        assert!(matches!(svg(&map, &SvgStyle::default()), Err(Error::Max { .. })));
    }
}
