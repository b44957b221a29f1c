//! `scripts/bench-staging`: a staging workload through the real daemon, with staging off and on.
//!
//! Both sides have the same pool, the same demand path and the same slots; they differ in one word of the
//! configuration. The child of a task is this program: it reads its inputs, hashes them and takes its time. Its
//! floor, the mean time of the child alone with all data local, is measured in the same run.

use super::process::Daemon;
use super::report::{Side, rounded};
use super::scratch::Scratch;
use super::settings::{SLOTS, Settings, list, literal};
use super::side::play;
use super::stream::Arrival;
use super::workload::Workload;
use crate::api::wire::{Savings, Task};
use crate::time::{Clock, Time};
use anyhow::{Context, ensure};
use clap::Parser;
use serde::Serialize;
use serde_json::json;
use std::fmt::Write;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// First argument that makes this program measure staging.
pub const ARGUMENT: &str = "__bench-staging";
/// Workers of the measurement. They are alike: what is measured is staging, not placement.
const WORKERS: [(&str, u32); 2] = [("one", 100), ("two", 100)];
/// Children that are run alone to learn their floor.
const FLOOR_TASKS: usize = 100;
/// A task counts as slower with staging on beyond this share and this time on top.
const SLOWER: (f64, f64) = (1.05, 0.020);

/// Measure staging on a generated workload.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench-staging")]
struct Args {
    /// Folder of gen.py and objserver.py.
    #[arg(long, value_name = "DIR")]
    workload: PathBuf,
    /// Seeds of the workload.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    seeds: Vec<u64>,
    /// Tasks of the workload.
    #[arg(long, default_value_t = 600)]
    tasks: usize,
    /// The pool's size: a share of the bytes that tasks read, or `none` for no limit.
    #[arg(long, value_parser = share, default_value = "20%")]
    cache: Share,
    /// How tasks arrive.
    #[arg(long, value_enum, default_value_t = Mode::Online)]
    mode: Mode,
    /// Only one side.
    #[arg(long, value_parser = ["off", "on", "observe"])]
    staging: Option<String>,
    /// Bandwidth of all connections together, MB/s.
    #[arg(long, default_value_t = 125.0)]
    agg_mbps: f64,
    /// Share of GET requests that the object server refuses.
    #[arg(long, default_value_t = 0.0)]
    errors: f64,
    /// One JSON object for each seed, mode and side, instead of the table.
    #[arg(long)]
    json: bool,
    /// Write the daemon's record of every task there, one JSON object a line, with seed, mode and side.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Keep the daemons' folders, and say where they are.
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// One by one, at 70 % load.
    Online,
    /// All at once.
    Batch,
    /// The one, then the other.
    Both,
}

/// Share of the workload's bytes; infinite is no limit.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Share(f64);

fn share(text: &str) -> Result<Share, String> {
    if text == "none" {
        return Ok(Share(f64::INFINITY));
    }
    match text.strip_suffix('%').map(str::parse::<f64>) {
        Some(Ok(p)) if p > 0.0 && p <= 1e4 => Ok(Share(p / 100.0)),
        _ => Err("accepted: a share of the workload's bytes as 20%, or none".to_owned()),
    }
}

/// What was measured of one side.
#[derive(Clone, Debug, Serialize)]
struct Row {
    seed: u64,
    mode: &'static str,
    staging: String,
    tasks: usize,
    makespan_s: f64,
    transfer_bound_s: f64,
    latency_ms_mean: f64,
    latency_ms_p50: f64,
    latency_ms_p99: f64,
    data_wait_ms_mean: f64,
    bytes_fetched: u64,
    cpu_ms_per_task: f64,
    floor_ms_mean: f64,
    failed: usize,
    /// Tasks that took longer than with staging off by more than 5 % and 20 ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    slower: Option<usize>,
    staged: u64,
    useful: u64,
    late: u64,
    wasted: u64,
}

/// Runs the measurement that the arguments after [`ARGUMENT`] name.
pub fn main(args: &[String]) -> ExitCode {
    super::program::run("bench-staging", args, async |args: &Args| measure(args).await)
}

#[allow(clippy::print_stdout, reason = "a program's output")]
async fn measure(args: &Args) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let scratch = Kept { scratch: Some(Scratch::new("bench")?), keep: args.keep };
    let mut rows: Vec<Row> = Vec::new();
    if !args.json {
        println!("{}", heading());
    }
    for &seed in &args.seeds {
        let folder = scratch.path().join(format!("workload-{seed}"));
        let flags = [
            format!("--tasks={}", args.tasks),
            format!("--slots={}", SLOTS * WORKERS.len()),
            format!("--agg-mbps={}", args.agg_mbps),
        ];
        let workload = Workload::generate(&args.workload, folder, seed, &flags)?;
        let floor_ms = floor_ms(&program, scratch.path(), &workload)?;
        for (mode, arrivals) in [("batch", workload.batch()), ("online", workload.online.clone())] {
            if args.mode != Mode::Both && (args.mode == Mode::Batch) != (mode == "batch") {
                continue;
            }
            let mut off: Option<Vec<Task>> = None;
            for staging in ["off", "observe", "on"] {
                let wanted = args.staging.as_deref().map_or(staging != "observe", |only| only == staging);
                if !wanted {
                    continue;
                }
                let bench = Bench { args, program: &program, scratch: scratch.path(), workload: &workload };
                let (mut row, tasks) = bench.side(seed, mode, staging, &arrivals).await?;
                row.floor_ms_mean = rounded(floor_ms);
                row.slower = off.as_ref().map(|off| slower(off, &tasks));
                if let Some(path) = &args.record {
                    append(path, &row, &tasks)?;
                }
                if staging == "off" {
                    off = Some(tasks);
                }
                println!("{}", if args.json { serde_json::to_string(&row)? } else { line(&row) });
                rows.push(row);
            }
        }
    }
    if !args.json {
        println!("\n{}", summary(&rows));
    }
    Ok(())
}

/// The folder of a measurement, which may be kept to look into.
struct Kept {
    scratch: Option<Scratch>,
    keep: bool,
}

impl Kept {
    fn path(&self) -> &Path {
        self.scratch.as_ref().expect("taken when dropped only").path()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("kept: {}", self.path().display());
            std::mem::forget(self.scratch.take());
        }
    }
}

struct Bench<'a> {
    args: &'a Args,
    program: &'a Path,
    scratch: &'a Path,
    workload: &'a Workload,
}

impl Bench<'_> {
    /// One side with a fresh daemon, a fresh pool and a fresh object server.
    async fn side(
        &self,
        seed: u64,
        mode: &'static str,
        staging: &str,
        arrivals: &[Arrival],
    ) -> anyhow::Result<(Row, Vec<Task>)> {
        let args = self.args;
        let flags = [
            format!("--agg-mbps={}", args.agg_mbps),
            format!("--errors={}", args.errors),
            format!("--seed={seed}"),
        ];
        let server = self.workload.serve(&args.workload, &flags)?;
        let folder = self.scratch.join(format!("{seed}-{mode}-{staging}"));
        std::fs::create_dir(&folder)?;
        let unique = self.workload.unique_bytes;
        let capacity_bytes =
            if args.cache.0.is_finite() { args.cache.0 * unique as f64 } else { 2.0 * unique as f64 };
        let url = server.url();
        let settings =
            Settings { folder: &folder, staging, capacity_bytes: capacity_bytes as u64, url: &url };
        let config = folder.join("bench.toml");
        std::fs::write(&config, self.configuration(&settings))?;
        let mut daemon = Daemon::start(self.program, &config, &settings.socket()).await?;
        let tasks = play(&mut daemon, arrivals, |_| ()).await?;
        let own_cpu_s = cpu_s(daemon.pid())?;
        let savings: Savings = daemon.client().get("/v1/savings").await?;
        let side = Side::of(&tasks)?;
        let stats = server.stats().await?;
        daemon.stop().await?;
        if let Some(failure) = &side.failure {
            eprintln!("seed {seed} {mode} {staging}: {failure}");
        }
        let row = Row {
            seed,
            mode,
            staging: staging.to_owned(),
            tasks: side.tasks,
            makespan_s: rounded(side.took_s),
            transfer_bound_s: rounded(unique as f64 / (args.agg_mbps * 1e6)),
            latency_ms_mean: rounded(side.mean_ms()),
            latency_ms_p50: rounded(side.percentile_ms(50.0)),
            latency_ms_p99: rounded(side.percentile_ms(99.0)),
            data_wait_ms_mean: rounded(side.data_wait_ms()),
            bytes_fetched: stats.bytes,
            cpu_ms_per_task: rounded(own_cpu_s * 1e3 / side.tasks.max(1) as f64),
            floor_ms_mean: 0.0,
            failed: side.failed,
            slower: None,
            staged: savings.staged,
            useful: savings.useful,
            late: savings.late,
            wasted: savings.wasted,
        };
        Ok((row, tasks))
    }

    fn configuration(&self, settings: &Settings<'_>) -> String {
        let mut text = settings.common(&WORKERS, SLOTS);
        let program = literal(&self.program.to_string_lossy());
        let argv = list([&program, super::work::ARGUMENT, "read", "{arg.ms}", "{inputs}"]);
        for name in &self.workload.types {
            let args = "args = { ms = '[0-9]+(\\.[0-9]+)?' }";
            _ = write!(text, "\n[type.{name}]\nargv = {argv}\n{args}\n");
        }
        text
    }
}

/// Processor time so far of the daemon and of its helper, without what the helper has reaped: the tasks.
fn cpu_s(daemon: u32) -> anyhow::Result<f64> {
    let daemon = i32::try_from(daemon)?;
    let mut ticks = 0;
    for process in procfs::process::all_processes()?.flatten() {
        let Ok(stat) = process.stat() else { continue };
        if stat.pid == daemon || stat.ppid == daemon {
            ticks += stat.utime + stat.stime;
        }
    }
    Ok(ticks as f64 / procfs::ticks_per_second() as f64)
}

/// Mean time of a child with all its data local, milliseconds: run alone, without a daemon.
fn floor_ms(program: &Path, scratch: &Path, workload: &Workload) -> anyhow::Result<f64> {
    let clock = Clock::start(Time::ZERO);
    let folder = scratch.join("floor");
    std::fs::create_dir_all(&folder)?;
    let mut total_ms = 0.0;
    let some: Vec<&Arrival> = workload.online.iter().take(FLOOR_TASKS).collect();
    for arrival in &some {
        let mut command = Command::new(program);
        command.args([super::work::ARGUMENT, "read", &arrival.submit.args["ms"]]);
        for object in &arrival.submit.inputs {
            let path = folder.join(object.replace([':', '/'], "_"));
            if !path.exists() {
                let bytes = workload.sizes.get(object).copied().unwrap_or(0);
                std::fs::write(&path, vec![0x5a; bytes])?;
            }
            command.arg(path);
        }
        let began = clock.now();
        let status = command.status().context("run a child alone")?;
        ensure!(status.success(), "a child alone ended with {status}");
        total_ms += clock.now().since(began).as_ms();
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(total_ms / some.len().max(1) as f64)
}

/// Adds one side's tasks to a file.
fn append(path: &Path, row: &Row, tasks: &[Task]) -> anyhow::Result<()> {
    let mut text = String::new();
    for task in tasks {
        let line = json!({ "seed": row.seed, "mode": row.mode, "staging": row.staging, "task": task });
        _ = writeln!(text, "{line}");
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("write {}", path.display()))
}

fn slower(off: &[Task], on: &[Task]) -> usize {
    let latency_s = |t: &Task| t.ended_s.unwrap_or(f64::INFINITY) - t.submitted_s;
    let pairs = off.iter().zip(on);
    pairs.filter(|(off, on)| latency_s(on) > latency_s(off) * SLOWER.0 + SLOWER.1).count()
}

fn heading() -> String {
    format!(
        "{:>5} {:6} {:7} {:>6} {:>9} {:>7} {:>8} {:>6} {:>7} {:>9} {:>9} {:>7} {:>7} {:>6} {:>6}",
        "seed",
        "mode",
        "staging",
        "tasks",
        "makespan",
        "bound",
        "mean",
        "p50",
        "p99",
        "data wait",
        "fetched",
        "own cpu",
        "floor",
        "failed",
        "slower"
    )
}

fn line(r: &Row) -> String {
    format!(
        "{:>5} {:6} {:7} {:>6} {:>7.2} s {:>5.2} s {:>5.0} ms {:>6.0} {:>7.0} {:>6.0} ms {:>5} MiB {:>4.2} ms {:>4.0} ms {:>6} {:>6}",
        r.seed,
        r.mode,
        r.staging,
        r.tasks,
        r.makespan_s,
        r.transfer_bound_s,
        r.latency_ms_mean,
        r.latency_ms_p50,
        r.latency_ms_p99,
        r.data_wait_ms_mean,
        r.bytes_fetched >> 20,
        r.cpu_ms_per_task,
        r.floor_ms_mean,
        r.failed,
        r.slower.map_or_else(|| "–".to_owned(), |n| n.to_string()),
    )
}

/// What staging changed: medians over the seeds.
fn summary(rows: &[Row]) -> String {
    let mut out = String::new();
    for mode in ["online", "batch"] {
        let side =
            |staging: &'static str| rows.iter().filter(move |r| r.mode == mode && r.staging == staging);
        let pairs: Vec<(&Row, &Row)> = side("off").zip(side("on")).collect();
        if pairs.is_empty() {
            continue;
        }
        let of = |f: &dyn Fn(&Row, &Row) -> f64| median(pairs.iter().map(|(off, on)| f(off, on)).collect());
        let latency = of(&|off, on| on.latency_ms_mean / off.latency_ms_mean);
        let wait = of(&|off, on| 1.0 - on.data_wait_ms_mean / off.data_wait_ms_mean.max(1e-9));
        let bytes = of(&|off, on| on.bytes_fetched as f64 / off.bytes_fetched as f64);
        let bound = of(&|_, on| on.makespan_s / on.transfer_bound_s);
        _ = write!(
            out,
            "{mode}, median of {} seeds: mean latency on / off {latency:.2}, data wait removed {:.0} % of it, \
             bytes on / off {bytes:.2}",
            pairs.len(),
            100.0 * wait,
        );
        _ = writeln!(
            out,
            "{}",
            if mode == "batch" { format!(", makespan / bound {bound:.2}") } else { String::new() }
        );
    }
    out.trim_end().to_owned()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages() {
        assert_eq!(share("20%"), Ok(Share(0.2)));
        assert_eq!(share("none"), Ok(Share(f64::INFINITY)));
        for bad in ["20", "-1%", "0%", "x%"] {
            assert!(share(bad).unwrap_err().contains("accepted:"), "{bad}");
        }
    }

    #[test]
    fn medians_take_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 2.5);
    }
}
