//! The demonstration from start to end.

use super::client::Client;
use super::process::Daemon;
use super::report::{Explained, Report, Side};
use super::scratch::Scratch;
use super::server::{Link, Server};
use super::settings::{SLOTS, Settings, WORKERS};
use super::side::play;
use super::stream::Stream;
use crate::api::wire::{Savings, Task, Why};
use anyhow::{Context, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::Duration;

/// The pool holds this share of all volumes.
const CACHE_SHARE: f64 = 0.25;
/// How often a task is looked for whose decision tells a story, and among how many of the latest.
const STORIES_EVERY: Duration = Duration::from_millis(500);
const STORIES: usize = 8;
/// A task that waited less than this for its data did not wait, milliseconds.
const READY_MS: f64 = 1.0;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The same seed gives the same tasks at the same times.
    pub seed: u64,
    /// Tasks in the stream.
    pub tasks: usize,
    /// Where the heatmap is written; `forestage-demo-SEED.png` in the current folder if none.
    pub picture: Option<PathBuf>,
    /// The program that is the daemon and its tasks; this program if none.
    pub program: Option<PathBuf>,
    /// Whether progress is shown, where there is a terminal on standard error.
    pub progress: bool,
}

/// Runs the stream with staging off and on. Ctrl-C and SIGTERM end it and all that it started.
///
/// # Errors
/// What went wrong, with the end of the daemon's log if it was the daemon; or that it was interrupted.
pub fn run(options: Options) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        // What loses is dropped: daemon, object server and temporary folder go with it.
        tokio::select! {
            report = demonstrate(options) => report,
            _ = interrupt.recv() => bail!("interrupted"),
            _ = terminate.recv() => bail!("terminated"),
        }
    })
}

async fn demonstrate(options: Options) -> anyhow::Result<Report> {
    let picture = options.picture.unwrap_or_else(|| format!("forestage-demo-{}.png", options.seed).into());
    let folder = picture.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!("the picture cannot be written: {} is not a folder", folder.display());
    }
    let program = match options.program {
        Some(program) => program,
        None => std::env::current_exe().context("find this program")?,
    };
    let link = Link::DEMO;
    let (workers, slots) = (WORKERS.len(), SLOTS);
    let setting = format!(
        "{workers} workers × {slots} slots · object server {}, {:.0} MB/s a connection",
        link.latency,
        link.connection_bytes_per_s / 1e6
    );
    let show = Progress::new(options.progress, options.tasks, options.seed, &setting);
    let stream = Stream::generate(options.seed, options.tasks, workers * slots, &link);
    let scratch = Scratch::new("demo")?;
    let stage = Stage { program, scratch: &scratch, stream: &stream, link };

    let off = stage.side("off", show.bar("staging off"), None).await?;
    let on = stage.side("on", show.bar("staging on"), Some(&picture)).await?;
    drop(show);
    Ok(Report { seed: options.seed, setting, off: off.side, on: on.side, explained: on.explained, picture })
}

/// What both sides share.
struct Stage<'a> {
    program: PathBuf,
    scratch: &'a Scratch,
    stream: &'a Stream,
    link: Link,
}

struct Ran {
    side: Side,
    explained: Option<Explained>,
}

impl Stage<'_> {
    /// A fresh daemon, a fresh pool and a fresh object server for one side.
    async fn side(&self, staging: &str, bar: ProgressBar, picture: Option<&Path>) -> anyhow::Result<Ran> {
        let folder = self.scratch.folder(staging)?;
        let objects = self.stream.volumes.iter().flat_map(|v| v.files.clone());
        let server = Server::start(self.link, objects).await.context("start the object server")?;
        let settings = Settings {
            folder: &folder,
            staging,
            capacity_bytes: (self.stream.footprint_bytes() as f64 * CACHE_SHARE) as u64,
            url: &server.url(),
        };
        std::fs::create_dir(settings.copies())?;
        let config = folder.join("demo.toml");
        std::fs::write(&config, settings.demo(&self.program))?;
        let mut daemon = Daemon::start(&self.program, &config, &settings.socket()).await?;
        bar.reset_elapsed();
        bar.enable_steady_tick(Duration::from_millis(200));
        let (played, telling) = oneshot::channel();
        let wanted = if picture.is_some() { self.stream.arrivals.len() } else { usize::MAX };
        let telling = tokio::spawn(story(daemon.client().clone(), wanted as u64 / 2, telling));
        let tasks = play(&mut daemon, &self.stream.arrivals, |ended| bar.set_position(ended as u64)).await;
        drop(played);
        let (tasks, explained) = (tasks?, telling.await?);
        bar.finish();

        let client = daemon.client();
        let savings: Savings = client.get("/v1/savings").await?;
        let side = Side {
            demands: savings.demands,
            found: savings.found,
            fetched_bytes: server.counts().sent_bytes,
            forecasts: (staging == "on").then_some((savings.forecasts_right, savings.forecasts)),
            ..Side::of(&tasks)?
        };
        if let Some(picture) = picture {
            let last_s = side.took_s.ceil().max(10.0);
            let path = format!("/v1/heatmap?by=worker&metric=heat&format=png&last_s={last_s}&columns=60");
            let image = client.bytes(&path).await?;
            std::fs::write(picture, image).with_context(|| format!("write {}", picture.display()))?;
        }
        daemon.stop().await?;
        Ok(Ran { side, explained })
    }
}

/// A task that did not wait because its data had been staged on a forecast. Asked for while the stream runs,
/// soon after the task's end: later, the daemon's latest decisions about the same objects are others. Ends when
/// the sender of `played` is gone. Before task number `from` there is little to tell: the forecast is learning.
async fn story(client: Client, from: u64, mut played: oneshot::Receiver<()>) -> Option<Explained> {
    let mut best = None;
    let mut asked = from;
    let mut pause = tokio::time::interval(STORIES_EVERY);
    loop {
        tokio::select! {
            _ = &mut played => return best.map(|(_, explained)| explained),
            _ = pause.tick() => {}
        }
        let Ok(ended) = client.get::<Vec<Task>>(&format!("/v1/tasks?state=done&limit={STORIES}")).await
        else {
            continue;
        };
        let is_ready = |t: &&Task| t.id > asked && t.data_wait_ms.is_some_and(|ms| ms < READY_MS);
        for task in ended.iter().filter(is_ready).filter(|t| t.inputs.len() > 1) {
            let Ok(why) = client.get::<Why>(&format!("/v1/why?task={}", task.id)).await else { continue };
            let score = told_by(&why);
            if score > best.as_ref().map_or(0, |(score, _)| *score) {
                best = Some((score, Explained { task: task.clone(), why }));
            }
        }
        asked = ended.iter().map(|t| t.id).max().unwrap_or(0).max(asked);
    }
}

/// How many of a task's inputs had been staged on a forecast before anybody had submitted the task.
fn told_by(why: &Why) -> usize {
    let staged = why.lines.iter().filter(|line| line.name == "staged");
    staged.filter(|line| line.text.contains("derived") && line.text.contains("ahead")).count()
}

/// The bars; gone when dropped, for the report says it all again.
struct Progress {
    all: Option<MultiProgress>,
    tasks: u64,
}

impl Progress {
    fn new(shown: bool, tasks: usize, seed: u64, setting: &str) -> Progress {
        let all = shown.then(MultiProgress::new);
        if let Some(all) = &all {
            let style =
                ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            let head = all.add(ProgressBar::new(0).with_style(style));
            head.set_message(format!("forestage demo · seed {seed} · {setting}"));
        }
        Progress { all, tasks: tasks as u64 }
    }

    fn bar(&self, name: &'static str) -> ProgressBar {
        let Some(all) = &self.all else { return ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{prefix:13} {bar:24.blue}  {pos} / {len} {took:>6}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .with_key("took", |state: &ProgressState, out: &mut dyn Write| {
                _ = write!(out, "{:.0} s", state.elapsed().as_secs_f64());
            });
        all.add(ProgressBar::new(self.tasks).with_style(style).with_prefix(name))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(all) = &self.all {
            _ = all.clear();
        }
    }
}
