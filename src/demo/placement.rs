//! `scripts/bench-placement`: two unlike pairs of slots and two types of tasks through the real daemon, under
//! every policy.
//!
//! Only one word of the configuration differs between policies: the workers, the types, the seeded stream of
//! tasks and their times are the same. The children are real processes of this program, started by the daemon
//! through each worker's `argv_prefix` (see [`slot`]). Each type takes twice as long on the wrong pair; the
//! daemon is not told so, it has to learn it, and what it loses until then is in the figures.

pub mod quota;
pub mod slot;

use super::process::Daemon;
use super::report::rounded;
use super::scratch::Scratch;
use super::settings::{list, literal, quoted};
use super::side::play;
use super::stream::Arrival;
use crate::api::wire::{Submit, Task};
use crate::time::Span;
use anyhow::{Context, ensure};
use clap::Parser;
use quota::Quotas;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

/// First argument that makes this program measure placement.
pub const ARGUMENT: &str = "__bench-placement";
/// The policies, as the configuration names them.
const POLICIES: [&str; 4] = ["affinity", "heat", "random", "fifo"];
/// Slots of each of the two workers.
const SLOTS: usize = 2;
/// Spread of the tasks' sizes: the standard deviation of the logarithm. Two thirds lie within a factor of 1.8.
const SPREAD: f64 = 0.6;
/// Tasks of the batch from which it is learned what fifo sustains.
const CAPACITY_TASKS: usize = 160;

/// Measure placement on two unlike pairs of slots.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench-placement")]
struct Args {
    /// Seeds of the stream.
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,4,5,6,7,8")]
    seeds: Vec<u64>,
    /// Tasks of the stream.
    #[arg(long, default_value_t = 400)]
    tasks: usize,
    /// Mean time of a task on the right pair, milliseconds.
    #[arg(long, default_value_t = 80.0)]
    mean_ms: f64,
    /// Load, as a share of what fifo sustains.
    #[arg(long, default_value_t = 0.85)]
    load: f64,
    /// Policies to measure.
    #[arg(long, value_delimiter = ',', value_parser = POLICIES, default_values = POLICIES)]
    policies: Vec<String>,
    /// One JSON object for each seed and policy, instead of the table.
    #[arg(long)]
    json: bool,
}

/// What was measured of one policy with one seed.
#[derive(Clone, Debug, Serialize)]
struct Row {
    seed: u64,
    policy: String,
    tasks: usize,
    /// From submit to end.
    latency_ms_mean: f64,
    latency_ms_p99: f64,
    /// Time that slots had nothing to run, from the first submit to the last end, all slots together.
    idle_slot_s: f64,
    /// Share of the tasks that ran on the pair that is right for them.
    right_share: f64,
    /// Mean execution time.
    run_ms_mean: f64,
    /// Tasks a second that arrived.
    rate_per_s: f64,
    failed: usize,
    /// How the quota was made: `cgroup` or `paced`.
    quota: &'static str,
}

/// Runs the measurement that the arguments after [`ARGUMENT`] name.
pub fn main(args: &[String]) -> ExitCode {
    super::program::run("bench-placement", args, async |args: &Args| measure(args).await)
}

#[allow(clippy::print_stdout, reason = "a program's output")]
async fn measure(args: &Args) -> anyhow::Result<()> {
    ensure!(args.mean_ms >= 5.0, "--mean-ms is {}; accepted: 5 and more", args.mean_ms);
    ensure!(args.load > 0.0 && args.load < 3.0, "--load is {}; accepted: above 0 to 3", args.load);
    let scratch = Scratch::new("placement")?;
    let bench = Bench {
        args,
        program: std::env::current_exe()?,
        data: slot::make_data(scratch.path())?,
        scratch: scratch.path(),
        quotas: Quotas::new(SLOTS),
    };
    let capacity_per_s = bench.capacity_per_s().await.context("measure what fifo sustains")?;
    let rate = args.load * capacity_per_s;
    if !args.json {
        println!(
            "fifo sustains {capacity_per_s:.1} tasks/s; {:.0} % of it arrive; quota: {}",
            args.load * 100.0,
            bench.quotas.how()
        );
        println!("{}", heading());
    }
    let mut rows: Vec<Row> = Vec::new();
    for &seed in &args.seeds {
        let arrivals = stream(seed, args.tasks, args.mean_ms, rate);
        for policy in &args.policies {
            let tasks = bench.run(&format!("{policy}-{seed}"), policy, &arrivals).await?;
            let row = bench.row(seed, policy, rate, &tasks)?;
            println!("{}", if args.json { serde_json::to_string(&row)? } else { line(&row) });
            rows.push(row);
        }
    }
    if !args.json {
        println!("\n{}", summary(&rows));
    }
    Ok(())
}

struct Bench<'a> {
    args: &'a Args,
    program: std::path::PathBuf,
    data: std::path::PathBuf,
    scratch: &'a Path,
    quotas: Quotas,
}

impl Bench<'_> {
    /// Tasks a second that fifo finishes when there is always one waiting: of a batch, up to the last start.
    async fn capacity_per_s(&self) -> anyhow::Result<f64> {
        let mut arrivals = stream(0, CAPACITY_TASKS, self.args.mean_ms, 1.0);
        arrivals.iter_mut().for_each(|a| a.at = Span::ZERO);
        let tasks = self.run("capacity", "fifo", &arrivals).await?;
        let started = |t: &Task| t.started_s.unwrap_or(t.submitted_s);
        let first = tasks.iter().map(started).fold(f64::INFINITY, f64::min);
        let last = tasks.iter().map(started).fold(0.0, f64::max);
        let ended = tasks.iter().filter(|t| t.ended_s.is_some_and(|e| e <= last)).count();
        ensure!(last > first && ended > 0, "the batch ended at once");
        Ok(ended as f64 / (last - first))
    }

    /// Plays a stream through a fresh daemon.
    async fn run(&self, name: &str, policy: &str, arrivals: &[Arrival]) -> anyhow::Result<Vec<Task>> {
        let folder = self.scratch.join(name);
        std::fs::create_dir(&folder)?;
        let config = folder.join("bench.toml");
        std::fs::write(&config, self.configuration(&folder, policy))?;
        let mut daemon = Daemon::start(&self.program, &config, &folder.join("forestage.sock")).await?;
        let tasks = play(&mut daemon, arrivals, |_| ()).await?;
        daemon.stop().await?;
        Ok(tasks)
    }

    fn configuration(&self, folder: &Path, policy: &str) -> String {
        let path = |name: &str| quoted(&folder.join(name).to_string_lossy());
        let mut text = format!(
            "[daemon]\nstate_dir = {}\nwork_dir = {}\nsocket = {}\nlog = \"human\"\ndrain_deadline = \"2s\"\n\n\
             [dispatch]\npolicy = {}\n\n[staging]\nmode = \"off\"\n\n\
             [cache.local]\ndir = {}\ncapacity = \"16MiB\"\nmin_free = 0\n",
            path("state"),
            path("work"),
            path("forestage.sock"),
            quoted(policy),
            path("pool"),
        );
        let program = self.program.to_string_lossy();
        for worker in slot::WORKERS {
            let prefix = worker.prefix(&program, &self.quotas);
            let prefix = list(prefix.iter().map(String::as_str));
            _ = write!(text, "\n[worker.{}]\nslots = {SLOTS}\nargv_prefix = {prefix}\n", worker.name);
        }
        let data = literal(&self.data.to_string_lossy());
        for kind in slot::KINDS {
            let argv = list([&literal(&program), slot::WORK, kind, "{arg.ms}", &data]);
            _ = write!(
                text,
                "\n[type.{kind}]\nargv = {argv}\nargs = {{ ms = '[0-9]+(\\.[0-9]+)?' }}\nattempts = 1\n"
            );
        }
        text
    }

    fn row(&self, seed: u64, policy: &str, rate: f64, tasks: &[Task]) -> anyhow::Result<Row> {
        let n = tasks.len().max(1) as f64;
        let mut latencies: Vec<f64> =
            tasks.iter().map(|t| (t.ended_s.unwrap_or(t.submitted_s) - t.submitted_s) * 1e3).collect();
        latencies.sort_by(f64::total_cmp);
        let p99 = latencies.get((latencies.len() * 99 / 100).min(latencies.len().saturating_sub(1)));
        let runs = tasks.iter().filter_map(|t| Some(t.ended_s? - t.started_s?));
        let busy_s: f64 = runs.sum();
        let from = tasks.iter().map(|t| t.submitted_s).fold(f64::INFINITY, f64::min);
        let to = tasks.iter().filter_map(|t| t.ended_s).fold(0.0, f64::max);
        let slots = (slot::WORKERS.len() * SLOTS) as f64;
        let right = |t: &&Task| t.worker.as_deref().is_some_and(|w| slot::is_right(w, &t.task_type));
        let failed = tasks.iter().filter(|t| t.state != crate::task::State::Done);
        if let Some(t) = failed.clone().next() {
            eprintln!("seed {seed} {policy}: task {} {}: {:?}", t.id, t.state.name(), t.reason);
        }
        Ok(Row {
            seed,
            policy: policy.to_owned(),
            tasks: tasks.len(),
            latency_ms_mean: rounded(latencies.iter().sum::<f64>() / n),
            latency_ms_p99: rounded(*p99.context("no task was measured")?),
            idle_slot_s: rounded(slots * (to - from) - busy_s),
            right_share: rounded(tasks.iter().filter(right).count() as f64 / n),
            run_ms_mean: rounded(busy_s * 1e3 / n),
            rate_per_s: rounded(rate),
            failed: failed.count(),
            quota: self.quotas.how(),
        })
    }
}

/// A seeded stream: Poisson arrivals, both types alike often, sizes log-normal around their mean.
fn stream(seed: u64, n: usize, mean_ms: f64, rate_per_s: f64) -> Vec<Arrival> {
    let mut r = fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
    let mut at_s = 0.0;
    let mut next = || {
        at_s -= (1.0 - r.f64()).ln() / rate_per_s;
        let kind = slot::KINDS[r.usize(0..slot::KINDS.len())];
        // Box and Muller: one normal draw from two uniform ones.
        let normal = (-2.0 * (1.0 - r.f64()).ln()).sqrt() * (std::f64::consts::TAU * r.f64()).cos();
        let ms = mean_ms * (SPREAD * normal - SPREAD * SPREAD / 2.0).exp();
        let args = BTreeMap::from([("ms".to_owned(), format!("{ms:.2}"))]);
        let submit = Submit { task_type: kind.to_owned(), args, ..Submit::default() };
        Arrival { at: Span::from_s(at_s), submit, follows: None }
    };
    (0..n).map(|_| next()).collect()
}

fn heading() -> String {
    format!(
        "{:>4} {:9} {:>9} {:>9} {:>10} {:>6} {:>9} {:>7}",
        "seed", "policy", "mean", "p99", "idle slots", "right", "run", "failed"
    )
}

fn line(r: &Row) -> String {
    format!(
        "{:>4} {:9} {:>6.1} ms {:>6.1} ms {:>8.1} s {:>5.0}% {:>6.1} ms {:>7}",
        r.seed,
        r.policy,
        r.latency_ms_mean,
        r.latency_ms_p99,
        r.idle_slot_s,
        r.right_share * 100.0,
        r.run_ms_mean,
        r.failed
    )
}

/// How much less latency `affinity` has than each other policy: the mean over the seeds, the least and the most.
fn summary(rows: &[Row]) -> String {
    let mut out = String::new();
    let of = |policy: &str, seed: u64| rows.iter().find(|r| r.policy == policy && r.seed == seed);
    for policy in POLICIES.iter().filter(|p| **p != "affinity") {
        let less: Vec<f64> = rows
            .iter()
            .filter(|r| r.policy == "affinity")
            .filter_map(|a| Some(1.0 - a.latency_ms_mean / of(policy, a.seed)?.latency_ms_mean))
            .map(|less| less * 100.0)
            .collect();
        if less.is_empty() {
            continue;
        }
        let mean = less.iter().sum::<f64>() / less.len() as f64;
        let least = less.iter().copied().fold(f64::INFINITY, f64::min);
        let most = less.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        _ = writeln!(
            out,
            "affinity against {policy:7}: mean latency {mean:.0} % less ({least:.0} to {most:.0} % over {} seeds)",
            less.len()
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_stream_and_the_mean_is_what_was_asked_for() {
        let a = stream(3, 4_000, 80.0, 20.0);
        let b = stream(3, 4_000, 80.0, 20.0);
        assert!(a.iter().zip(&b).all(|(a, b)| a.at == b.at && a.submit == b.submit));
        let ms: f64 = a.iter().map(|a| a.submit.args["ms"].parse::<f64>().unwrap()).sum();
        assert!((ms / 4_000.0 / 80.0 - 1.0).abs() < 0.05, "{ms}");
        assert!((a[3_999].at.as_s() / 200.0 - 1.0).abs() < 0.05);
        let scans = a.iter().filter(|a| a.submit.task_type == slot::KINDS[1]).count();
        assert!(scans.abs_diff(2_000) < 150);
    }

    #[test]
    fn the_daemon_accepts_the_configuration_of_every_policy() {
        use crate::config::{Config, Surroundings};
        let args = Args::parse_from(["bench-placement"]);
        let folder = Path::new("/tmp/a {b}");
        let program = "/opt/{x}/forestage".into();
        let bench = Bench {
            args: &args,
            program,
            data: "/tmp/data".into(),
            scratch: folder,
            quotas: Quotas::paced(),
        };
        for policy in POLICIES {
            let text = bench.configuration(folder, policy);
            let around =
                Surroundings { state_dir: "/s".into(), cache_dir: "/c".into(), runtime_dir: None, cores: 2 };
            let config =
                Config::parse(&text, None, &around).unwrap_or_else(|e| panic!("{}", e.render(false)));
            assert_eq!((config.workers.len(), config.types.len()), (2, 2));
        }
    }
}
