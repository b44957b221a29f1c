//! Tasks that do nothing, finished by real children at two slots; beside them a bare `posix_spawn` of the same
//! child by two threads, and `xargs -P2` where it is installed.

use super::client::Client;
use super::daemon::{Daemon, Durability, SLOTS, SPAWN_TYPE};
use super::{now, queue};
use anyhow::{Context, ensure};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// What came of it: finished a second.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Report {
    /// Tasks of each round.
    pub tasks: usize,
    /// By the daemon.
    pub forestage_per_s: f64,
    /// By two threads that spawn and wait, and do nothing else.
    pub floor_per_s: f64,
    /// By `xargs -P2`; none where there is no xargs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xargs_per_s: Option<f64>,
}

/// Measures with a daemon in `dir`; `rounds` times `tasks` tasks for each side, in turn.
///
/// # Errors
/// When the daemon does not start or a task fails.
pub fn run(dir: &Path, tasks: usize, rounds: usize, durability: Durability) -> anyhow::Result<Report> {
    let mut daemon = Daemon::start(dir, durability)?;
    let mut seconds = [0.0; 3];
    let mut xargs = true;
    for _ in 0..rounds {
        seconds[0] += by_daemon(&daemon, tasks)?;
        seconds[1] += bare(tasks)?;
        match by_xargs(tasks) {
            Ok(s) => seconds[2] += s,
            Err(_) => xargs = false,
        }
    }
    daemon.stop(false)?;
    let rate = |s: f64| (tasks * rounds) as f64 / s;
    Ok(Report {
        tasks,
        forestage_per_s: rate(seconds[0]),
        floor_per_s: rate(seconds[1]),
        xargs_per_s: xargs.then(|| rate(seconds[2])),
    })
}

/// Submits all of them and waits until all have ended.
fn by_daemon(daemon: &Daemon, tasks: usize) -> anyhow::Result<f64> {
    let mut client = Client::connect(&daemon.socket())?;
    let settings = queue::Settings {
        clients: 1,
        batch: tasks,
        time: Duration::ZERO,
        payload_bytes: 1,
        entities: 0,
        running: None,
        durability: Durability::Sync,
    };
    let lines = queue::lines(SPAWN_TYPE, &settings, 1);
    let began = now();
    client.submit(lines.as_bytes(), tasks)?;
    loop {
        std::thread::sleep(Duration::from_millis(10));
        let (_, body) = client.ask("GET", "/v1/health", "application/json", b"")?;
        let health: serde_json::Value = serde_json::from_slice(body)?;
        let left: u64 =
            health["tasks"].as_object().context("the counts")?.values().filter_map(|n| n.as_u64()).sum();
        if left == 0 {
            return Ok(began.elapsed().as_secs_f64());
        }
    }
}

/// The same child, spawned (`posix_spawn` underneath) and waited for by as many threads as there are slots.
pub(super) fn bare(tasks: usize) -> anyhow::Result<f64> {
    let one = |_| -> anyhow::Result<()> {
        for _ in 0..tasks / SLOTS {
            let mut child = Command::new("true").stdin(Stdio::null()).spawn().context("run true")?;
            ensure!(child.wait()?.success(), "true failed");
        }
        Ok(())
    };
    let began = now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SLOTS).map(|n| scope.spawn(move || one(n))).collect();
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p)))
    })?;
    Ok(began.elapsed().as_secs_f64())
}

fn by_xargs(tasks: usize) -> anyhow::Result<f64> {
    let began = now();
    let slots = SLOTS.to_string();
    let mut child =
        Command::new("xargs").args(["-P", &slots, "-n", "1", "true"]).stdin(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("its input")?;
    let words: String = (0..tasks).map(|i| format!("{i}\n")).collect();
    input.write_all(words.as_bytes())?;
    drop(input);
    ensure!(child.wait()?.success(), "xargs failed");
    Ok(began.elapsed().as_secs_f64())
}
