//! A measurement that this program starts itself for: its arguments, its runtime, its exit code.

use clap::Parser;
use std::process::ExitCode;

/// Parses the arguments that follow the measurement's own and runs it until its end or Ctrl-C.
pub fn run<A: Parser>(
    name: &str,
    args: &[String],
    measure: impl AsyncFnOnce(&A) -> anyhow::Result<()>,
) -> ExitCode {
    let args = match A::try_parse_from(std::iter::once(name.to_owned()).chain(args.iter().cloned())) {
        Ok(args) => args,
        Err(e) => e.exit(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            tokio::select! {
                done = measure(&args) => done,
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            }
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}
