//! `forestage heatmap`.

use super::args;
use super::client::Target;
use super::exit::Exit;
use super::session::Session;
use crate::draw::{Heatmap, SvgStyle, TextStyle, Theme, png, svg, text};
use crate::time::Span;
use anyhow::Context as _;
use std::path::{Path, PathBuf};

/// Columns of a picture.
const PICTURE_COLUMNS: usize = 120;
/// Characters of a line that are not columns: the label and the latest value.
const LINE_OVERHEAD: usize = 40;
/// Pixels of a picture for each unit of its drawing.
const PNG_SCALE: f32 = 2.0;

/// Rows of a heatmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// One row for each worker.
    Worker,
    /// One row for each cell.
    Cell,
    /// One row for each shard of each cell.
    Shard,
    /// One row for each source.
    Source,
}

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Metric {
    /// Processor time.
    Cpu,
    /// Memory.
    Memory,
    /// Bytes read and written.
    Io,
    /// Bytes fetched.
    Net,
    /// Latency of sources.
    Latency,
    /// The busiest of them.
    Heat,
}

/// Whether the ground is light or dark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ground {
    /// Light.
    Light,
    /// Dark.
    Dark,
}

/// Show what is hot: rows against time, in the terminal or as a picture.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Rows.
    #[arg(long, value_enum, default_value_t = By::Worker)]
    pub by: By,
    /// What is shown.
    #[arg(long, value_enum, default_value_t = Metric::Heat)]
    pub metric: Metric,
    /// How far back, as 10min or 1d.
    #[arg(long, value_name = "TIME", default_value = "10min", value_parser = args::span)]
    pub last: Span,
    /// How many columns, 1 to 1000 [default: as many as fit].
    #[arg(long, short = 'n', value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub columns: Option<u16>,
    /// Write an SVG picture.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Write a PNG picture.
    #[arg(long, value_name = "FILE")]
    pub png: Option<PathBuf>,
    /// Light or dark ground [default: dark in a terminal, light on a picture].
    #[arg(long, value_enum)]
    pub theme: Option<Ground>,
    /// Draw anew every two seconds, until ^C.
    #[arg(long, short, conflicts_with_all = ["svg", "png"])]
    pub watch: bool,
    /// How long --watch pauses, as 500ms or 5s.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = args::span, requires = "watch")]
    pub every: Span,
}

pub(super) async fn run(args: Args, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let picture = args.svg.is_some() || args.png.is_some();
    let fit = s.screen.look.drawing_width().saturating_sub(LINE_OVERHEAD).clamp(10, PICTURE_COLUMNS);
    let columns = args.columns.map_or(if picture { PICTURE_COLUMNS } else { fit }, usize::from);
    let target = Target::of(&["heatmap"])
        .with("by", Some(word(args.by)))
        .with("metric", Some(word(args.metric)))
        .with("last_s", Some(args.last.as_s()))
        .with("columns", Some(columns));
    if !args.watch {
        let map: Heatmap = s.client.get(&target).await?;
        return if picture { pictures(&map, &args, s) } else { draw(&map, &args, s) };
    }
    loop {
        let map: Heatmap = s.client.get(&target).await?;
        if s.screen.look.terminal && !s.screen.json {
            // Over the old picture in one write, line by line: a screen that is cleared first flickers.
            let drawn = drawing(&map, &args, s)?.replace('\n', "\x1b[K\n");
            s.screen.text(format!("\x1b[H{drawn}\x1b[J"))?;
        } else {
            draw(&map, &args, s)?;
        }
        tokio::time::sleep(args.every.to_std()).await;
    }
}

fn word(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
}

fn theme(args: &Args, otherwise: Theme) -> Theme {
    match args.theme {
        Some(Ground::Light) => Theme::Light,
        Some(Ground::Dark) => Theme::Dark,
        None => otherwise,
    }
}

fn draw(map: &Heatmap, args: &Args, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let drawn = drawing(map, args, s)?;
    s.show(map, |_, _| drawn)?;
    Ok(Exit::Ok)
}

fn drawing(map: &Heatmap, args: &Args, s: &Session<'_>) -> anyhow::Result<String> {
    let look = s.screen.look;
    let style = TextStyle {
        width: look.drawing_width(),
        colour: look.colour,
        theme: theme(args, Theme::Dark),
        zone: look.zone,
    };
    text(map, &style).context("draw the heatmap")
}

fn pictures(map: &Heatmap, args: &Args, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let style = SvgStyle { theme: theme(args, Theme::Light), zone: s.screen.look.zone, max_width_px: None };
    if let Some(path) = &args.svg {
        write(path, svg(map, &style).context("draw the picture")?.as_bytes(), s)?;
    }
    if let Some(path) = &args.png {
        write(path, &png(map, &style, PNG_SCALE).context("draw the picture")?, s)?;
    }
    Ok(Exit::Ok)
}

fn write(path: &Path, bytes: &[u8], s: &mut Session<'_>) -> anyhow::Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("write {}", path.display()))?;
    let named = serde_json::json!({ "picture": path });
    s.show(&named, |_, _| format!("{}\n", path.display()))
}
