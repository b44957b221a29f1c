//! What stands before a child on each worker, and the child itself.
//!
//! A worker's `argv_prefix` runs this program as `__placement-slot GROUP CPU DISK COMMAND…`: it joins the slot's
//! control group, tells the child how fast the worker's disk is, and becomes the command. The child computes
//! for a given processor time, or reads a given number of bytes at the disk's speed.

use super::quota::Quotas;
use crate::time::{Clock, Span, Time};
use anyhow::{Context, bail};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// First argument that makes this program stand before a child.
pub const SLOT: &str = "__placement-slot";
/// First argument that makes this program the child.
pub const WORK: &str = "__placement-work";
/// The two types: one needs the processor, one the disk.
pub const KINDS: [&str; 2] = ["compute", "scan"];

/// A worker of the measurement.
#[derive(Clone, Copy, Debug)]
pub struct Worker {
    /// Its name.
    pub name: &'static str,
    /// Share of one processor that each of its slots may use.
    pub cpu: f64,
    /// Bytes per second that each of its slots reads.
    pub disk_per_s: f64,
}

/// Half the processor and the whole disk, and the other way round.
pub const WORKERS: [Worker; 2] = [
    Worker { name: "weak", cpu: CPU / 2.0, disk_per_s: DISK_PER_S },
    Worker { name: "far", cpu: CPU, disk_per_s: DISK_PER_S / 2.0 },
];
/// Half a processor: four slots leave some of two processors for the daemon.
const CPU: f64 = 0.5;
/// Slow enough that reading takes its time and no processor.
const DISK_PER_S: f64 = 16e6;
/// The file that is read, again and again.
const DATA_BYTES: usize = 4 << 20;
/// Bytes read at once.
const PIECE_BYTES: usize = 64 << 10;

impl Worker {
    /// Its `argv_prefix`.
    pub fn prefix(&self, program: &str, quotas: &Quotas) -> Vec<String> {
        let group = quotas.of(self.name).unwrap_or_else(|| "-".to_owned());
        vec![program.to_owned(), SLOT.to_owned(), group, self.cpu.to_string(), self.disk_per_s.to_string()]
    }
}

/// Whether a worker is the right one for a type.
pub fn is_right(worker: &str, kind: &str) -> bool {
    (worker == "far") == (kind == KINDS[0])
}

/// Makes the file that `scan` reads.
///
/// # Errors
/// When it cannot be written.
pub fn make_data(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("data");
    std::fs::write(&path, vec![0x5a; DATA_BYTES]).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// Stands before a child.
pub fn slot_main(args: &[String]) -> ExitCode {
    let e = match enter(args) {
        Ok(mut command) => anyhow::Error::from(command.exec()),
        Err(e) => e,
    };
    eprintln!("{e:#}");
    ExitCode::FAILURE
}

fn enter(args: &[String]) -> anyhow::Result<Command> {
    let [group, cpu, disk, program, rest @ ..] = args else {
        bail!("usage: {SLOT} GROUP CPU DISK COMMAND…")
    };
    let mut command = Command::new(program);
    command.args(rest).env("BENCH_DISK_PER_S", disk);
    if group == "-" {
        command.env("BENCH_CPU", cpu);
    } else {
        let slot = std::env::var("FORESTAGE_SLOT").context("FORESTAGE_SLOT")?;
        let procs = PathBuf::from(format!("{group}-{slot}")).join("cgroup.procs");
        std::fs::write(&procs, "0").with_context(|| format!("join {}", procs.display()))?;
    }
    Ok(command)
}

/// The child: `KIND MS DATA`.
pub fn work_main(args: &[String]) -> ExitCode {
    match work(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn work(args: &[String]) -> anyhow::Result<()> {
    let [kind, ms, data] = args else { bail!("usage: {WORK} KIND MS DATA") };
    let s = ms.parse::<f64>().with_context(|| format!("`{ms}` is no time"))? / 1e3;
    let number = |name: &str| -> Option<f64> { std::env::var(name).ok()?.parse().ok() };
    if kind == KINDS[0] {
        compute(s * CPU, number("BENCH_CPU"));
        Ok(())
    } else {
        scan(Path::new(data), s * DISK_PER_S, number("BENCH_DISK_PER_S").context("BENCH_DISK_PER_S")?)
    }
}

/// Uses the processor for so many seconds; paced to a share of it if there is no control group that does so.
fn compute(cpu_s: f64, share: Option<f64>) {
    let clock = Clock::start(Time::ZERO);
    let (began, mut x) = (used_s(), 1u64);
    while used_s() - began < cpu_s {
        for _ in 0..2_000 {
            x = std::hint::black_box(x.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(9));
        }
        if let Some(share) = share {
            sleep_until(&clock, (used_s() - began) / share);
        }
    }
}

/// Processor time of this process so far, seconds.
fn used_s() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes one `timespec`, and `t` is one.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut t) };
    assert_eq!(failed, 0, "every Linux has this clock");
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

/// Reads so many bytes at the disk's speed.
fn scan(path: &Path, bytes: f64, per_s: f64) -> anyhow::Result<()> {
    let clock = Clock::start(Time::ZERO);
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut done = 0.0;
    while done < bytes {
        let want = (bytes - done).min(PIECE_BYTES as f64) as usize + 1;
        let n = file.read(&mut piece[..want.min(PIECE_BYTES)])?;
        if n == 0 {
            file.seek(SeekFrom::Start(0))?;
        }
        done += n as f64;
        sleep_until(&clock, done / per_s);
    }
    Ok(())
}

/// Sleeps until so many seconds after the clock's start.
fn sleep_until(clock: &Clock, s: f64) {
    let left = Span::from_s(s - clock.now().since(clock.start_of()).as_s());
    if left > Span::from_us(200) {
        std::thread::sleep(left.to_std());
    }
}
