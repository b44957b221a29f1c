//! Cycles through the queue: submit, lease, complete, each acknowledged as the daemon's durability says.
//!
//! A client submits a batch, then asks for the next tasks and brings back those it had before: two requests and
//! two groups of the record for each batch of cycles. Payloads are 200 bytes unless asked otherwise.

use super::client::Client;
use super::daemon::{Daemon, Durability, QUEUE_TYPE};
use super::{now, quantiles};
use anyhow::Context;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Clients at once, each with a connection and a worker of its own.
    pub clients: usize,
    /// Tasks in a request.
    pub batch: usize,
    /// How long.
    pub time: Duration,
    /// Bytes of each payload.
    pub payload_bytes: usize,
    /// How many entities the tasks are about, in turn; 0: about none. With entities every arrival and every end
    /// brings a forecast.
    pub entities: u64,
    /// A daemon that runs already, and the type to use there.
    pub running: Option<(PathBuf, String)>,
    /// For a daemon of the measurement's own.
    pub durability: Durability,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Report {
    /// Clients at once.
    pub clients: usize,
    /// Tasks in a request.
    pub batch: usize,
    /// Tasks that went through all of it.
    pub cycles: u64,
    /// Of them, each second.
    pub cycles_per_s: f64,
    /// Median time of a submit request.
    pub submit_p50_us: f64,
    /// 99th percentile of it.
    pub submit_p99_us: f64,
    /// Median time of a request that completes and takes.
    pub next_p50_us: f64,
    /// 99th percentile of it.
    pub next_p99_us: f64,
}

/// Measures, with a daemon in `dir` unless one runs.
///
/// # Errors
/// When the daemon does not start or refuses something.
pub fn run(dir: &Path, settings: &Settings) -> anyhow::Result<Report> {
    match &settings.running {
        Some((socket, task_type)) => cycles(socket, task_type, settings),
        None => {
            let mut daemon = Daemon::start(dir, settings.durability)?;
            let report = cycles(&daemon.socket(), QUEUE_TYPE, settings)?;
            daemon.stop(false)?;
            Ok(report)
        }
    }
}

#[derive(Default)]
struct Times {
    cycles: u64,
    submit_us: Vec<f64>,
    next_us: Vec<f64>,
}

/// Measures a daemon that runs.
///
/// # Errors
/// When it refuses something.
pub fn cycles(socket: &Path, task_type: &str, settings: &Settings) -> anyhow::Result<Report> {
    let began = now();
    let one = |number: usize| move || client(socket, task_type, settings, number);
    let all: Vec<anyhow::Result<Times>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..settings.clients).map(|n| scope.spawn(one(n))).collect();
        handles.into_iter().map(|h| h.join().unwrap_or_else(|p| std::panic::resume_unwind(p))).collect()
    });
    let mut sum = Times::default();
    for times in all {
        let times = times?;
        sum.cycles += times.cycles;
        sum.submit_us.extend(times.submit_us);
        sum.next_us.extend(times.next_us);
    }
    let seconds = began.elapsed().as_secs_f64();
    let (submit_p50_us, submit_p99_us) = quantiles(sum.submit_us);
    let (next_p50_us, next_p99_us) = quantiles(sum.next_us);
    Ok(Report {
        clients: settings.clients,
        batch: settings.batch,
        cycles: sum.cycles,
        cycles_per_s: sum.cycles as f64 / seconds,
        submit_p50_us,
        submit_p99_us,
        next_p50_us,
        next_p99_us,
    })
}

fn client(socket: &Path, task_type: &str, settings: &Settings, number: usize) -> anyhow::Result<Times> {
    let mut client = Client::connect(socket)?;
    let name = format!("bench-{}-{number}", std::process::id());
    let session = client.attach(&name, task_type, 2 * settings.batch).context("attach a worker")?;
    let lines = lines(task_type, settings, number as u64);
    let mut times = Times::default();
    let mut done = Vec::new();
    let mut held = 0;
    let began = now();
    while began.elapsed() < settings.time {
        let at = now();
        client.submit(lines.as_bytes(), settings.batch)?;
        times.submit_us.push(at.elapsed().as_secs_f64() * 1e6);
        // Other clients may have taken some of this one's; then it takes theirs.
        let at = now();
        let given = client.next(&name, session, &mut done, settings.batch)?;
        times.next_us.push(at.elapsed().as_secs_f64() * 1e6);
        times.cycles += held;
        held = given as u64;
    }
    client.next(&name, session, &mut done, 0)?;
    times.cycles += held;
    Ok(times)
}

/// A batch of submits, one a line. Payloads are text that no file system can shorten much.
pub(super) fn lines(task_type: &str, settings: &Settings, seed: u64) -> String {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut text = String::new();
    for i in 0..settings.batch as u64 {
        let payload: String =
            std::iter::repeat_with(|| rng.alphanumeric()).take(settings.payload_bytes).collect();
        let entity = match settings.entities {
            0 => String::new(),
            n => format!("\"entity\":\"e{}\",", (i + seed * 7) % n),
        };
        let _ = writeln!(text, "{{\"type\":\"{task_type}\",{entity}\"payload\":\"{payload}\"}}");
    }
    text
}
