//! `forestage replay run`: a whole trace through the daemon's own cores.

use super::args::Capacity;
use super::progress;
use super::replay::{Policy, Run, Switch};
use super::say;
use super::screen::Look;
use super::table::Table;
use crate::replay::objects;
use crate::replay::run::{self, Figures, LinkSettings, Options, Saved, Script};
use crate::replay::trace::Trace;
use anyhow::Context as _;
use serde::Serialize;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

/// Workers of a replay that does not say.
const WORKERS: u16 = 4;

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    trace: String,
    workers: u16,
    capacity_bytes: u64,
    off: Option<Figures>,
    on: Option<Figures>,
    saved: Option<Saved>,
}

/// Replays the trace with what was asked for.
///
/// # Errors
/// A trace that cannot be read, with its line; a file that cannot be written.
#[allow(clippy::print_stdout, reason = "a command's output")]
pub fn run(a: &Run) -> anyhow::Result<ExitCode> {
    let path = a.trace.as_deref().context("name a trace, or --synthetic")?;
    let workers = a.workers.unwrap_or(WORKERS);
    let trace = Trace::read(path)?;
    let script = Arc::new(Script::new(&trace, u32::from(workers)));
    let options = options(a);
    let mut decisions = match &a.decisions {
        Some(path) => {
            let file = std::fs::File::create(path).with_context(|| format!("make {}", path.display()))?;
            Some((path, std::io::BufWriter::new(file)))
        }
        None => None,
    };
    let mut side = |staging: bool| -> anyhow::Result<Option<Figures>> {
        let asked = a.staging.is_none_or(|s| (s == Switch::On) == staging);
        if !asked {
            return Ok(None);
        }
        let bar = progress::bar(if staging { "staging on" } else { "staging off" }, script.tasks as u64);
        let mut failed = None;
        let figures = run::run(&script, &options, staging, |decision| {
            if run::ends_a_task(decision) {
                bar.inc(1);
            }
            if let Some((_, out)) = &mut decisions
                && let Err(e) = line(out, decision)
            {
                failed.get_or_insert(e);
            }
        })?;
        bar.finish_and_clear();
        match (failed, &mut decisions) {
            (Some(e), Some((path, _))) => Err(e).with_context(|| format!("write {}", path.display())),
            (None, Some((path, out))) => {
                out.flush().with_context(|| format!("write {}", path.display()))?;
                Ok(Some(figures))
            }
            _ => Ok(Some(figures)),
        }
    };
    let (off, on) = (side(false)?, side(true)?);
    let saved = off.as_ref().zip(on.as_ref()).map(|(off, on)| Saved::between(off, on));
    let capacity_bytes = run::capacity_bytes(&script, &options);
    let report = Report { trace: trace.name.clone(), workers, capacity_bytes, off, on, saved };
    if a.json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    if script.timeless > 0 {
        eprintln!(
            "{} of {} tasks have no duration in the trace: they take no time here",
            script.timeless, script.tasks
        );
    }
    print!("{}", table(&report));
    Ok(ExitCode::SUCCESS)
}

fn line(out: &mut impl Write, decision: &crate::flow::Decision) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, decision)?;
    out.write_all(b"\n")
}

fn options(a: &Run) -> Options {
    let workers = a.workers.unwrap_or(WORKERS);
    let bytes_per_s = a.bandwidth as f64;
    Options {
        workers,
        pools: a.pools.min(workers),
        capacity: match a.capacity {
            Capacity::Share(s) => objects::Capacity::Share(s),
            Capacity::Bytes(b) => objects::Capacity::Bytes(b),
        },
        policy: match a.policy {
            Policy::Lru => crate::cache::Policy::Lru,
            Policy::Lfu => crate::cache::Policy::Lfu,
        },
        connections: a.connections,
        link: LinkSettings {
            rtt: a.rtt,
            bytes_per_s,
            connection_bytes_per_s: a.connection_bandwidth.map_or(bytes_per_s, |b| b as f64),
        },
    }
}

fn table(report: &Report) -> String {
    let mut table = Table::new(
        &Look::here(),
        &[
            "staging",
            ">tasks",
            ">latency",
            ">p50",
            ">p99",
            ">data wait",
            ">hits",
            ">fetched",
            ">staged",
            ">useful",
            ">late",
            ">wasted",
        ],
    );
    for f in report.off.iter().chain(&report.on) {
        table.row([
            f.staging.to_owned(),
            f.tasks.to_string(),
            say::millis(f.latency_ms_mean),
            say::millis(f.latency_ms_p50),
            say::millis(f.latency_ms_p99),
            say::millis(f.data_wait_ms_mean),
            f.hit_ratio.map_or_else(|| "–".into(), |r| format!("{:.1} %", 100.0 * r)),
            say::bytes(f.bytes_fetched),
            f.staged.to_string(),
            f.useful.to_string(),
            f.late.to_string(),
            f.wasted.to_string(),
        ]);
    }
    let mut text = table.text();
    if let Some(s) = report.saved {
        let more = if s.extra_bytes < 0 { "less" } else { "more" };
        text += &format!(
            "\nStaging would have saved {} of waiting for data and {} of latency, and fetched {} {more}.\n",
            say::seconds(s.data_wait_s),
            say::seconds(s.latency_s),
            say::bytes(s.extra_bytes.unsigned_abs()),
        );
    }
    text
}
