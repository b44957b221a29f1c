//! `forestage events`.

use super::client::{Error, Target};
use super::exit::Exit;
use super::say;
use super::session::Session;
use crate::api::wire::Event;
use crate::draw::Zone;

/// Print the diary: every decision, with its time. With --json one object a line.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Go on as decisions are made, until ^C.
    #[arg(long, short)]
    pub follow: bool,
    /// From this number on; 0 is the oldest that is kept [default: the latest hundred].
    #[arg(long, value_name = "N")]
    pub from: Option<u64>,
}

pub(super) async fn run(args: Args, s: &mut Session<'_>) -> anyhow::Result<Exit> {
    let target = Target::of(&["events"]).with("from", args.from).with("follow", args.follow.then_some(1));
    let mut pieces = s.client.stream(&target, "application/x-ndjson").await?;
    let mut rest = Vec::new();
    while let Some(piece) = pieces.next().await? {
        rest.extend_from_slice(&piece);
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let event: Event = serde_json::from_slice(&line).map_err(|e| Error::Strange(e.to_string()))?;
            s.show(&event, |e, look| sentence(e, look.zone))?;
        }
    }
    Ok(Exit::Ok)
}

/// An event in one line.
pub(super) fn sentence(event: &Event, Zone(zone_s): Zone) -> String {
    format!("{}  {:<10}  {}\n", say::clock(event.at_s, zone_s), event.decided, event.text)
}
