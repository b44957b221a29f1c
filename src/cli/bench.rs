//! `forestage bench`: what the daemon costs, measured over its real socket.

use super::exit::Exit;
use super::screen::{Look, Screen};
use super::table::{Table, pairs};
use crate::bench::{fill, floor, queue, spawn};
use crate::demo::scratch::Scratch;
use crate::time::Span;
use std::io::Write;
use std::path::{Path, PathBuf};

pub use crate::bench::Durability;

/// Measure the daemon over its real socket, beside what the machine could do.
///
/// Unless a running daemon is named, each measurement starts one of its own, this same binary with everything on,
/// in a folder for temporary files (see --dir), and removes it afterwards.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    /// Print JSON for programs: one object a line.
    #[arg(long, global = true)]
    json: bool,
    /// Folder on the file system to measure [default: the system's folder for temporary files].
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Cycles of submit, lease and complete, each second.
    Queue {
        /// Clients at once.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
        clients: u32,
        /// Tasks in a request.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=5_000))]
        batch: u32,
        /// How long to measure, seconds.
        #[arg(long, default_value = "5", value_parser = super::args::span, value_name = "SECONDS")]
        secs: Span,
        /// Bytes of each task's payload.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(0..=65_536))]
        payload: u32,
        /// How many entities the tasks are about, in turn; 0: about none.
        #[arg(long, default_value_t = 0)]
        entities: u64,
        /// When the daemon acknowledges.
        #[arg(long, value_enum, default_value_t)]
        durability: Durability,
        /// Measure the daemon that listens here instead; give it a type that no configured worker runs.
        #[arg(long, value_name = "PATH", requires = "task_type")]
        socket: Option<PathBuf>,
        /// The type whose tasks are submitted there.
        #[arg(long = "type", value_name = "TYPE")]
        task_type: Option<String>,
    },
    /// Tasks that do nothing, finished each second at two slots; beside a bare posix_spawn and xargs -P2.
    Spawn {
        /// Tasks of each round.
        #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
        tasks: u32,
        /// Rounds, in turn with the others.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
        /// When the daemon acknowledges.
        #[arg(long, value_enum, default_value_t)]
        durability: Durability,
    },
    /// Memory and disk with many tasks queued, and how long a start takes then.
    Fill {
        /// How many.
        #[arg(default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
        tasks: u32,
        /// Bytes of each task's payload.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(0..=65_536))]
        payload: u32,
        /// When the daemon acknowledges.
        #[arg(long, value_enum, default_value_t)]
        durability: Durability,
    },
    /// A bare synced log of the same bytes in the same groups; the record alone and the whole daemon beside it.
    Floor {
        /// Sizes of the groups.
        #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000",
              value_parser = clap::value_parser!(u32).range(1..=5_000))]
        groups: Vec<u32>,
        /// Rounds, in turn.
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
        /// How long each turn takes, seconds.
        #[arg(long, default_value = "0.5", value_parser = super::args::span, value_name = "SECONDS")]
        turn: Span,
    },
}

/// Runs it.
///
/// # Errors
/// When a daemon does not start or refuses something.
pub fn run(args: Args, out: &mut dyn Write, look: Look) -> anyhow::Result<Exit> {
    let scratch = match &args.dir {
        Some(dir) => Scratch::within(dir, "bench")?,
        None => Scratch::new("bench")?,
    };
    let screen = &mut Screen::new(out, look, args.json);
    measure(args.what, scratch.path(), screen)?;
    Ok(Exit::Ok)
}

fn measure(what: What, dir: &Path, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let rate = |r: f64| Some(format!("{r:.0} /s"));
    let bytes = |b: u64| Some(format!("{:.1} MB", b as f64 / 1e6));
    match what {
        What::Queue { clients, batch, secs, payload, entities, durability, socket, task_type } => {
            let settings = queue::Settings {
                clients: clients as usize,
                batch: batch as usize,
                time: secs.to_std(),
                payload_bytes: payload as usize,
                entities,
                running: socket.zip(task_type),
                durability,
            };
            let r = queue::run(dir, &settings)?;
            let times = |p50: f64, p99: f64| Some(format!("{p50:.0} µs, 99 % within {p99:.0} µs"));
            let text = pairs(&[
                ("cycles", rate(r.cycles_per_s)),
                ("submit", times(r.submit_p50_us, r.submit_p99_us)),
                ("next", times(r.next_p50_us, r.next_p99_us)),
            ]);
            show(screen, &r, text)
        }
        What::Spawn { tasks, rounds, durability } => {
            let r = spawn::run(dir, tasks as usize, rounds as usize, durability)?;
            let text = pairs(&[
                ("forestage", rate(r.forestage_per_s)),
                ("xargs -P2", r.xargs_per_s.and_then(rate)),
                ("bare spawn", rate(r.floor_per_s)),
            ]);
            show(screen, &r, text)
        }
        What::Fill { tasks, payload, durability } => {
            let r = fill::run(dir, tasks as usize, payload as usize, durability)?;
            let text = pairs(&[
                ("submits", rate(r.submits_per_s)),
                ("memory", bytes(r.rss_bytes)),
                ("at most", bytes(r.peak_rss_bytes)),
                ("disk", bytes(r.disk_bytes)),
                (
                    "restart",
                    Some(format!("{:.2} s, after a kill {:.2} s", r.restart_s, r.restart_after_kill_s)),
                ),
            ]);
            show(screen, &r, text)
        }
        What::Floor { groups, rounds, turn } => {
            let groups: Vec<usize> = groups.iter().map(|g| *g as usize).collect();
            let lines = floor::run(dir, &groups, rounds as usize, turn.to_std())?;
            if screen.json {
                screen.objects(&lines)?;
                return Ok(());
            }
            let mut table = Table::new(
                &screen.look,
                &[">GROUP", ">FLOOR/S", ">RECORD/S", ">RATIO", ">DAEMON/S", ">RATIO"],
            );
            for l in &lines {
                table.row([
                    l.group.to_string(),
                    format!("{:.0}", l.floor_per_s),
                    format!("{:.0}", l.record_per_s),
                    format!("{:.2}", l.record_ratio),
                    format!("{:.0}", l.daemon_per_s),
                    format!("{:.3}", l.daemon_ratio),
                ]);
            }
            screen.text(table.text())?;
            Ok(())
        }
    }
}

fn show<T: serde::Serialize>(screen: &mut Screen<'_>, report: &T, text: String) -> anyhow::Result<()> {
    if screen.json {
        screen.object(report)?
    } else {
        screen.text(text)?
    }
    Ok(())
}
