//! Many tasks queued: memory, disk, and how long a start takes then, after an orderly stop and after a kill.

use super::client::Client;
use super::daemon::{Daemon, Durability, QUEUE_TYPE};
use super::{now, queue};
use std::path::Path;
use std::time::Duration;

/// Tasks in a request.
const BATCH: usize = 10_000;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Report {
    /// Tasks queued.
    pub queued: usize,
    /// Submits a second, batches of ten thousand by one client.
    pub submits_per_s: f64,
    /// Resident memory with all of them queued.
    pub rss_bytes: u64,
    /// The most it was on the way.
    pub peak_rss_bytes: u64,
    /// What the record takes on disk.
    pub disk_bytes: u64,
    /// From start to ready after an orderly stop.
    pub restart_s: f64,
    /// From start to ready after a kill.
    pub restart_after_kill_s: f64,
    /// Resident memory after the last start.
    pub rss_after_restart_bytes: u64,
}

/// Measures with a daemon in `dir`.
///
/// # Errors
/// When the daemon does not start, or a task is lost.
pub fn run(dir: &Path, n: usize, payload_bytes: usize, durability: Durability) -> anyhow::Result<Report> {
    let mut daemon = Daemon::start(dir, durability)?;
    let mut client = Client::connect(&daemon.socket())?;
    let settings = queue::Settings {
        clients: 1,
        batch: BATCH.min(n),
        time: Duration::ZERO,
        payload_bytes,
        entities: 0,
        running: None,
        durability,
    };
    let began = now();
    let mut queued = 0;
    while queued < n {
        let batch = BATCH.min(n - queued);
        let lines = queue::lines(QUEUE_TYPE, &queue::Settings { batch, ..settings.clone() }, queued as u64);
        client.submit(lines.as_bytes(), batch)?;
        queued += batch;
    }
    let submits_per_s = n as f64 / began.elapsed().as_secs_f64();
    drop(client);
    // What was freed is given back within a moment.
    std::thread::sleep(Duration::from_secs(2));
    let (rss_bytes, peak_rss_bytes) = daemon.memory_bytes();
    let disk_bytes = daemon.disk_bytes();
    daemon.stop(false)?;
    let restart_s = daemon.run()?.as_secs_f64();
    daemon.stop(true)?;
    let restart_after_kill_s = daemon.run()?.as_secs_f64();
    let found = queued_of(&daemon)?;
    anyhow::ensure!(found == n as u64, "{found} of {n} tasks are queued after the restarts");
    std::thread::sleep(Duration::from_secs(2));
    let (rss_after_restart_bytes, _) = daemon.memory_bytes();
    daemon.stop(false)?;
    Ok(Report {
        queued: n,
        submits_per_s,
        rss_bytes,
        peak_rss_bytes,
        disk_bytes,
        restart_s,
        restart_after_kill_s,
        rss_after_restart_bytes,
    })
}

fn queued_of(daemon: &Daemon) -> anyhow::Result<u64> {
    let mut client = Client::connect(&daemon.socket())?;
    let (_, body) = client.ask("GET", "/v1/health", "application/json", b"")?;
    let health: serde_json::Value = serde_json::from_slice(body)?;
    Ok(health["tasks"]["queued"].as_u64().unwrap_or(0))
}
