//! What the machine could do: the same bytes in the same groups as a bare log, in turns with the record alone and
//! with the whole daemon.
//!
//! The bare log is preallocated, written in sequence and synced once for each group; a cycle is three groups
//! (submitted, started, finished) for it as for the record alone. The daemon needs two requests for each batch of
//! cycles, because what comes back and what is given next is one group; it is compared with the same bare log.

use super::daemon::{Daemon, Durability, QUEUE_TYPE};
use super::queue;
use crate::store::bench as record;
use std::path::Path;
use std::time::Duration;

/// Both ratios at one group size.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Line {
    /// Tasks in a group, or in a request.
    pub group: usize,
    /// Cycles a second of the bare log, in the same turns as the record.
    pub floor_per_s: f64,
    /// Cycles a second of the record alone.
    pub record_per_s: f64,
    /// Its share of the bare log's.
    pub record_ratio: f64,
    /// Cycles a second through the whole daemon, one client.
    pub daemon_per_s: f64,
    /// Its share of the bare log's, from the same turns.
    pub daemon_ratio: f64,
}

/// Measures in `dir`.
///
/// # Errors
/// The file system's, and the daemon's.
pub fn run(dir: &Path, groups: &[usize], rounds: usize, turn: Duration) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for &group in groups {
        let alone = dir.join(format!("alone-{group}"));
        std::fs::create_dir_all(&alone)?;
        let settings =
            record::Settings { groups: vec![group], rounds: 1, turn, ..record::Settings::default() };
        let mut daemon = Daemon::start(&dir.join(format!("whole-{group}")), Durability::Sync)?;
        let cycles = queue::Settings {
            clients: 1,
            batch: group,
            time: turn,
            payload_bytes: 200,
            entities: 0,
            running: None,
            durability: Durability::Sync,
        };
        let (mut floor, mut kept, mut whole) = (vec![], vec![], vec![]);
        for round in 0..rounds {
            // A record of its own each round: it begins as empty as the last.
            let dir = alone.join(round.to_string());
            std::fs::create_dir_all(&dir)?;
            for line in record::run(&dir, &settings)? {
                floor.push(line.floor.tasks_per_s);
                kept.push(line.record.tasks_per_s);
            }
            std::fs::remove_dir_all(&dir)?;
            whole.push(queue::cycles(&daemon.socket(), QUEUE_TYPE, &cycles)?.cycles_per_s);
        }
        daemon.stop(false)?;
        let (floor_per_s, record_per_s, daemon_per_s) = (mean(&floor), mean(&kept), mean(&whole));
        lines.push(Line {
            group,
            floor_per_s,
            record_per_s,
            record_ratio: record_per_s / floor_per_s,
            daemon_per_s,
            daemon_ratio: daemon_per_s / floor_per_s,
        });
    }
    Ok(lines)
}

/// Of rates over turns of equal length.
fn mean(rates: &[f64]) -> f64 {
    rates.iter().sum::<f64>() / rates.len().max(1) as f64
}
