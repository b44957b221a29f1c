//! `forestage replay`: a trace and a virtual clock drive the same cores as the daemon does.

use super::args::{self, Capacity};
use super::screen::Look;
use super::synthetic;
use super::table::Table;
use crate::predict;
use crate::replay::{self, baseline::Baseline};
use crate::time::Span;
use std::path::PathBuf;
use std::process::ExitCode;

/// Drive the prediction, the cache and the dispatch with a recorded trace and a virtual clock.
///
/// Traces are .csv or .csv.gz with the columns time_s,worker,task_type,entity,duration_s,bytes,objects.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What is replayed.
    #[command(subcommand)]
    pub what: What,
}

/// What is replayed.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum What {
    /// How well the next task type is foretold.
    Types(Types),
    /// How many cache misses staging removes.
    Objects(Objects),
    /// The whole dispatch: latency, data wait, what staging saves.
    Run(Run),
}

/// A simple model to compare with, measured in the same run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TypesBaseline {
    /// What followed the last type.
    Markov1,
    /// Interpolated Kneser-Ney over the last five types.
    Kn5,
    /// How often each type occurred.
    Frequency,
    /// The product of uniform affinity, coolness and first-order history.
    Product,
}

/// Arguments of `replay types`.
#[derive(Clone, Debug, clap::Args)]
pub struct Types {
    /// Traces; each is measured alone, then the mean is printed.
    #[arg(required = true, value_name = "TRACE")]
    pub traces: Vec<PathBuf>,
    /// Measure this simple model instead.
    #[arg(long, value_enum)]
    pub baseline: Option<TypesBaseline>,
    /// Condition on the worker that asks, too.
    #[arg(long, conflicts_with = "per_worker")]
    pub known_worker: bool,
    /// Foretell the next task of each worker, from what was known when its previous one ended.
    #[arg(long)]
    pub per_worker: bool,
    /// Size the models as `predict.memory` does for all four of them [default: what 12MiB gives].
    #[arg(long, value_name = "SIZE", value_parser = args::memory, conflicts_with = "baseline")]
    pub memory: Option<u64>,
    /// Do not tell the model which types there are.
    #[arg(long)]
    pub open_alphabet: bool,
    /// Print one JSON object a trace, and one for the mean.
    #[arg(long)]
    pub json: bool,
}

/// What is evicted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Policy {
    /// What was used least recently.
    Lru,
    /// What was used least often, with ageing.
    Lfu,
}

/// Whether staging is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// Another way to stage, to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ObjectsBaseline {
    /// MITHRIL (Yang et al., SoCC 2017), written anew from its paper.
    Mithril,
}

/// Arguments of `replay objects`.
#[derive(Clone, Debug, clap::Args)]
pub struct Objects {
    /// Traces; each is measured alone.
    #[arg(required = true, value_name = "TRACE")]
    pub traces: Vec<PathBuf>,
    /// How large the pool is: a share of the trace's bytes, or a size; several are replayed one after the other.
    #[arg(long, default_value = "5%", value_delimiter = ',', value_parser = args::capacity)]
    pub capacity: Vec<Capacity>,
    /// What is evicted first; several are replayed one after the other.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "lru")]
    pub policy: Vec<Policy>,
    /// Whether to stage.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub staging: Switch,
    /// Also measure another way to stage.
    #[arg(long, value_enum)]
    pub baseline: Option<ObjectsBaseline>,
    /// Time to the first byte of a transfer.
    #[arg(long, default_value = "20ms", value_parser = args::span)]
    pub rtt: Span,
    /// Bytes a second of all transfers together.
    #[arg(long, default_value = "1GB/s", value_parser = args::bytes_per_s)]
    pub bandwidth: u64,
    /// Print medians over all of it as well: with --json, one more object a policy.
    #[arg(long)]
    pub summary: bool,
    /// Print one JSON object a trace, policy and capacity.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `replay run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Run {
    /// The trace.
    #[arg(value_name = "TRACE", required_unless_present = "synthetic")]
    pub trace: Option<PathBuf>,
    /// How many workers of one slot there are, 1 to 10000 [default: 4].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub workers: Option<u16>,
    /// A synthetic load instead of a trace.
    #[command(flatten)]
    pub synthetic: synthetic::Args,
    /// With staging, or without; both, and what staging would have saved, if it is not given.
    #[arg(long, value_enum)]
    pub staging: Option<Switch>,
    /// How many pools there are, 1 to 10000; workers are dealt out to them in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub pools: u16,
    /// How large each pool is: a share of the bytes of all objects in the trace, or a size.
    #[arg(long, visible_alias = "cache", default_value = "20%", value_parser = args::capacity)]
    pub capacity: Capacity,
    /// What is evicted first of what no forecast needs.
    #[arg(long, value_enum, default_value_t = Policy::Lru)]
    pub policy: Policy,
    /// Time to the first byte of a transfer.
    #[arg(long, default_value = "20ms", value_parser = args::span)]
    pub rtt: Span,
    /// Bytes a second of all transfers together.
    #[arg(long, default_value = "1GB/s", value_parser = args::bytes_per_s)]
    pub bandwidth: u64,
    /// Bytes a second of one connection; as much as all together if it is not given.
    #[arg(long, value_parser = args::bytes_per_s)]
    pub connection_bandwidth: Option<u64>,
    /// How many connections to the source there may be, 1 to 1000.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub connections: u16,
    /// Write every decision to this file, one JSON object a line; needs --staging.
    #[arg(long, value_name = "FILE", requires = "staging")]
    pub decisions: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Replays what was asked for and prints the figures.
///
/// # Errors
/// A trace that cannot be read, with its line.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Types(a) => types(a),
        What::Objects(a) => objects(a),
        What::Run(a) if a.synthetic.synthetic => synthetic::run(&a.synthetic, a.workers, a.json),
        What::Run(a) => super::replay_run::run(&a),
    }
}

#[allow(clippy::print_stdout, reason = "a command's output")]
fn types(a: Types) -> anyhow::Result<ExitCode> {
    let options = replay::types::Options {
        baseline: a.baseline.map(|b| match b {
            TypesBaseline::Markov1 => Baseline::Markov1,
            TypesBaseline::Kn5 => Baseline::Kn5,
            TypesBaseline::Frequency => Baseline::Frequency,
            TypesBaseline::Product => Baseline::Product,
        }),
        known_worker: a.known_worker,
        per_worker: a.per_worker,
        open_alphabet: a.open_alphabet,
        settings: a.memory.map_or_else(Default::default, predict::types::Settings::within),
    };
    let report = replay::types::measure(&a.traces, &options)?;
    let lacks = if a.per_worker { "fewer than two workers" } else { "no task, or no worker" };
    for name in &report.left_out {
        eprintln!("{name}: left out, it has {lacks}");
    }
    let lines = report.traces.iter().chain([&report.mean]);
    if a.json {
        for figures in lines {
            println!("{}", serde_json::to_string(figures)?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(
        &Look::here(),
        &[
            "trace",
            "events",
            "types",
            "top-1",
            "bits",
            "ece",
            "p ≥ .05",
            "set",
            "predict µs",
            "p99",
            "learn µs",
            "MiB",
        ],
    );
    for f in lines {
        table.row([
            f.trace.clone(),
            format!("{:.0}", f.events),
            format!("{:.0}", f.types),
            format!("{:.4}", f.top1),
            format!("{:.4}", f.log_loss_bits),
            format!("{:.4}", f.ece),
            format!("{:.3}", f.recall_p05),
            format!("{:.2}", f.set_size_p05),
            format!("{:.2}", f.predict_us_p50),
            format!("{:.2}", f.predict_us_p99),
            format!("{:.2}", f.learn_us_mean),
            format!("{:.2}", f.model_bytes / f64::from(1 << 20)),
        ]);
    }
    print!("{}", table.text());
    Ok(ExitCode::SUCCESS)
}

#[allow(clippy::print_stdout, reason = "a command's output")]
fn objects(a: Objects) -> anyhow::Result<ExitCode> {
    let mut table = Table::new(
        &Look::here(),
        &[
            "trace",
            "policy",
            ">capacity",
            ">accesses",
            ">misses alone",
            ">misses",
            ">precision",
            ">late",
            ">extra bytes",
            "µs",
            "MiB",
        ],
    );
    let mut reports = vec![];
    for path in &a.traces {
        let trace = replay::trace::Trace::read(path)?;
        let accesses = replay::objects::Accesses::new(&trace);
        for (policy, capacity) in a.policy.iter().flat_map(|p| a.capacity.iter().map(move |c| (p, c))) {
            let report = replay::objects::replay(&accesses, &options_of(&a, *policy, *capacity));
            if a.json {
                println!("{}", serde_json::to_string(&report)?);
            } else {
                table.row(row_of(&report));
            }
            reports.push(report);
        }
    }
    if !a.json {
        print!("{}", table.text());
    }
    if a.summary {
        print_summary(&reports, a.json)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn options_of(a: &Objects, policy: Policy, capacity: Capacity) -> replay::objects::Options {
    replay::objects::Options {
        capacity: match capacity {
            Capacity::Share(s) => replay::objects::Capacity::Share(s),
            Capacity::Bytes(b) => replay::objects::Capacity::Bytes(b),
        },
        policy: match policy {
            Policy::Lru => crate::cache::Policy::Lru,
            Policy::Lfu => crate::cache::Policy::Lfu,
        },
        staging: a.staging == Switch::On,
        mithril: a.baseline == Some(ObjectsBaseline::Mithril),
        rtt: a.rtt,
        bandwidth_per_s: a.bandwidth as f64,
    }
}

fn row_of(r: &replay::objects::Report) -> [String; 11] {
    [
        r.trace.clone(),
        r.policy.to_owned(),
        r.capacity_bytes.to_string(),
        r.accesses.to_string(),
        format!("{:.4}", r.miss_ratio_demand_only),
        format!("{:.4}", r.miss_ratio),
        share(r.precision, 2),
        r.late.to_string(),
        format!("{:.3}", r.extra_bytes_ratio),
        format!("{:.2}", r.us_per_access),
        mib(r.model_bytes),
    ]
}

fn share(of: Option<f64>, digits: usize) -> String {
    of.map_or_else(|| "–".into(), |p| format!("{p:.digits$}"))
}

fn mib(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / f64::from(1 << 20))
}

#[allow(clippy::print_stdout, reason = "a command's output")]
fn print_summary(reports: &[replay::objects::Report], json: bool) -> anyhow::Result<()> {
    let summaries = replay::summary::summaries(reports);
    if json {
        for s in &summaries {
            println!("{}", serde_json::to_string(s)?);
        }
        return Ok(());
    }
    for s in &summaries {
        println!("\n{}, cells: {}", s.policy, s.cells);
        let mut table = Table::new(&Look::here(), &["figure", "value"]);
        let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
        row("misses removed, median", share(Some(s.removed_median), 3));
        if s.removed_median_lfu_da.is_some() {
            row("the same against the pool's own LFU-DA", share(s.removed_median_lfu_da, 3));
        }
        row("share of the reachable ones, median", share(Some(s.reachable_removed_median), 3));
        if s.removed_median_mithril.is_some() {
            row("misses removed against MITHRIL, median", share(s.removed_median_mithril, 3));
        }
        row("precision, pooled", share(s.precision, 3));
        let worse = if s.worse.is_empty() { "none".to_owned() } else { s.worse.join(", ") };
        row("cells worse than no staging", worse);
        row("extra bytes, median", share(Some(s.extra_bytes_median), 3));
        row("extra bytes, most", share(Some(s.extra_bytes_max), 3));
        row("useful ones that come late", share(s.late_share, 3));
        row("µs an access, median", share(Some(s.us_per_access_median), 2));
        row("µs an access, most", share(Some(s.us_per_access_max), 2));
        row("model, MiB", mib(s.model_bytes_max));
        print!("{}", table.text());
    }
    Ok(())
}
