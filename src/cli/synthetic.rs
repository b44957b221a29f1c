//! `forestage replay run --synthetic`: what a decision costs as the queue grows.

use super::screen::Look;
use super::table::Table;
use crate::replay::synthetic::{self, Level, Options};
use std::process::ExitCode;

/// Arguments of the synthetic load.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Instead of a trace: a synthetic load of growing size through the dispatch core. Prints what a decision
    /// costs, and the memory, at each length of the queue; 1000 workers unless said otherwise.
    #[arg(long, conflicts_with = "trace")]
    pub synthetic: bool,
    /// Task types, 1 to 60000.
    #[arg(long, default_value_t = 10_000, requires = "synthetic",
        value_parser = clap::value_parser!(u16).range(1..=60_000))]
    pub types: u16,
    /// The longest queue, 1000 to 20000000.
    #[arg(long, default_value_t = 1_000_000, requires = "synthetic",
        value_parser = clap::value_parser!(u32).range(1_000..=20_000_000))]
    pub queued: u32,
    /// Tasks that go through, 1000 and more.
    #[arg(long, default_value_t = 10_000_000, requires = "synthetic",
        value_parser = clap::value_parser!(u64).range(1_000..))]
    pub tasks: u64,
    /// The seed of the load.
    #[arg(long, default_value_t = 1, requires = "synthetic")]
    pub seed: u64,
}

/// Runs it and prints a line for each length of the queue.
#[allow(clippy::print_stdout, reason = "a command's output")]
pub fn run(args: &Args, workers: Option<u16>, json: bool) -> anyhow::Result<ExitCode> {
    let options = Options {
        workers: workers.unwrap_or(1_000),
        types: args.types,
        queued: args.queued as usize,
        tasks: usize::try_from(args.tasks)?,
        seed: args.seed,
    };
    let mut failed = None;
    let levels = synthetic::run(&options, |level| {
        if json {
            match serde_json::to_string(level) {
                Ok(text) => println!("{text}"),
                Err(e) => failed = Some(e),
            }
        }
    });
    if let Some(e) = failed {
        return Err(e.into());
    }
    if !json {
        print!("{}", table(&levels));
        println!(
            "{} workers, {} types, {} tasks through",
            options.workers,
            options.types,
            levels.last().map_or(0, |l| l.ended)
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn table(levels: &[Level]) -> String {
    let heads = [
        "queued",
        "decisions",
        "µs mean",
        "p50",
        "p99",
        "× first",
        "submit µs",
        "plan µs",
        "MiB",
        "B/task",
        "right",
    ];
    let mut table = Table::new(&Look::here(), &heads);
    let first = levels.first().map_or(1.0, |l| l.decision_us_mean);
    for l in levels {
        table.row([
            l.queued.to_string(),
            l.decisions.to_string(),
            format!("{:.2}", l.decision_us_mean),
            format!("{:.0}", l.decision_us_p50),
            format!("{:.0}", l.decision_us_p99),
            format!("{:.2}", l.decision_us_mean / first),
            format!("{:.2}", l.submit_us_mean),
            format!("{:.0}", l.plan_us_mean),
            format!("{:.0}", l.rss_bytes as f64 / f64::from(1 << 20)),
            l.bytes_per_task.map_or_else(|| "–".to_owned(), |b| format!("{b:.0}")),
            format!("{:.0} %", l.right_share * 100.0),
        ]);
    }
    table.text()
}
