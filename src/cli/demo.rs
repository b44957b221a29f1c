//! `forestage demo`: the whole product on a stream of real snapshot tasks, with staging off and on.

use crate::demo;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show what staging saves, in under two minutes and without set-up.
///
/// Starts a real daemon in a temporary folder and an object server with visible latency, runs one seeded
/// stream of snapshot tasks with staging off and once more with staging on, and prints what it measured.
/// Nothing is left behind but the picture it names.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The stream: the same seed gives the same tasks at the same times.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Tasks in the stream, 20 to 3000.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(20..=3000))]
    pub tasks: u32,
    /// Where the heatmap is written [default: forestage-demo-SEED.png in the current folder].
    #[arg(long, value_name = "FILE")]
    pub picture: Option<PathBuf>,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    pub json: bool,
}

/// Runs the demonstration.
///
/// # Errors
/// What went wrong, in words that say what to do.
#[allow(clippy::print_stdout, reason = "a command's output")]
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let report = demo::run(demo::Options {
        seed: args.seed,
        tasks: args.tasks as usize,
        picture: args.picture,
        program: None,
        progress: !args.json,
    })?;
    if args.json {
        println!("{}", report.to_json());
    } else {
        println!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}
