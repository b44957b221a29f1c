//! `forestage log`.

use super::client::Target;
use super::exit::Exit;
use super::session::Session;

/// Print the output of a task.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Its number.
    #[arg(value_name = "TASK")]
    pub task: u64,
    /// Go on until the task has ended, over all its attempts.
    #[arg(long, short)]
    pub follow: bool,
    /// Which attempt, from 1 [default: the last].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub attempt: Option<u32>,
}

pub(super) async fn run(args: Args, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let target = Target::of(&["tasks", &args.task.to_string(), "log"])
        .with("follow", args.follow.then_some(1))
        .with("attempt", args.attempt);
    let mut pieces = s.client.stream(&target, "*/*").await?;
    while let Some(piece) = pieces.next().await? {
        s.screen.raw(&piece)?;
    }
    Ok(Exit::Ok)
}
