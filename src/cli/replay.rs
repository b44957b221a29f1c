//! `forestage replay`: a trace and a virtual clock drive the same cores as the daemon does.

use super::args::{self, Capacity};
use super::screen::Look;
use super::synthetic;
use super::table::Table;
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
    /// How large the pool is: a share of the trace's bytes, or a size.
    #[arg(long, default_value = "5%", value_parser = args::capacity)]
    pub capacity: Capacity,
    /// What is evicted first.
    #[arg(long, value_enum, default_value_t = Policy::Lru)]
    pub policy: Policy,
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
    /// Print one JSON object a trace.
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
    /// Whether to stage.
    #[arg(long, value_enum, default_value_t = Switch::On)]
    pub staging: Switch,
    /// How large each worker's pool is: a share of the trace's bytes, or a size.
    #[arg(long, default_value = "20%", value_parser = args::capacity)]
    pub capacity: Capacity,
    /// What is evicted first.
    #[arg(long, value_enum, default_value_t = Policy::Lru)]
    pub policy: Policy,
    /// Time to the first byte of a transfer.
    #[arg(long, default_value = "20ms", value_parser = args::span)]
    pub rtt: Span,
    /// Bytes a second of all transfers together.
    #[arg(long, default_value = "1GB/s", value_parser = args::bytes_per_s)]
    pub bandwidth: u64,
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
        What::Run(_) => {
            anyhow::bail!("`replay run` is not there yet; `replay types` and `replay objects` are")
        }
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
        ..replay::types::Options::default()
    };
    let report = replay::types::measure(&a.traces, &options)?;
    for name in &report.left_out {
        eprintln!("{name}: left out, it has fewer than two workers");
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
    let options = replay::objects::Options {
        capacity: match a.capacity {
            Capacity::Share(s) => replay::objects::Capacity::Share(s),
            Capacity::Bytes(b) => replay::objects::Capacity::Bytes(b),
        },
        policy: match a.policy {
            Policy::Lru => crate::cache::Policy::Lru,
            Policy::Lfu => crate::cache::Policy::Lfu,
        },
        staging: a.staging == Switch::On,
        mithril: a.baseline == Some(ObjectsBaseline::Mithril),
        rtt: a.rtt,
        bandwidth_per_s: a.bandwidth as f64,
    };
    let mut table = Table::new(
        &Look::here(),
        &["trace", "accesses", "misses alone", "misses", "precision", "extra bytes", "µs", "MiB"],
    );
    for path in &a.traces {
        let trace = replay::trace::Trace::read(path)?;
        let report = replay::objects::replay(&replay::objects::Accesses::new(&trace), &options);
        if a.json {
            println!("{}", serde_json::to_string(&report)?);
            continue;
        }
        table.row([
            report.trace.clone(),
            report.accesses.to_string(),
            format!("{:.4}", report.miss_ratio_demand_only),
            format!("{:.4}", report.miss_ratio),
            report.precision.map_or_else(|| "–".into(), |p| format!("{p:.2}")),
            format!("{:.3}", report.extra_bytes_ratio),
            format!("{:.2}", report.us_per_access),
            format!("{:.2}", report.model_bytes as f64 / f64::from(1 << 20)),
        ]);
    }
    if !a.json {
        print!("{}", table.text());
    }
    Ok(ExitCode::SUCCESS)
}
