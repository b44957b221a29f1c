//! A daemon of the measurement's own: this binary, everything on, in a folder that goes with it.

use super::client::Client;
use super::now;
use anyhow::{Context, bail};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a start may take.
const START: Duration = Duration::from_secs(120);
/// How long a stop may take.
const STOP: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(2);

/// The type whose tasks outside workers take.
pub const QUEUE_TYPE: &str = "bench-queue";
/// The type whose children do nothing.
pub const SPAWN_TYPE: &str = "bench-spawn";
/// Slots of the one configured worker.
pub const SLOTS: usize = 2;

/// When a change counts as acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// When it is on disk.
    #[default]
    Sync,
    /// At once; it is on disk within a second.
    Interval,
}

impl Durability {
    fn name(self) -> &'static str {
        match self {
            Durability::Sync => "sync",
            Durability::Interval => "interval",
        }
    }
}

/// A running daemon, and its folder.
pub struct Daemon {
    folder: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// Makes the folder `daemon` in `dir` and starts a daemon in it.
    ///
    /// # Errors
    /// When it does not start; with the end of its log.
    pub fn start(dir: &Path, durability: Durability) -> anyhow::Result<Daemon> {
        let folder = dir.join("daemon");
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let config = config(&folder, durability);
        std::fs::write(folder.join("forestage.toml"), config)?;
        let mut daemon = Daemon { folder, child: None };
        daemon.run()?;
        Ok(daemon)
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("s")
    }

    /// Starts it again; how long it took until it answered.
    ///
    /// # Errors
    /// When it does not.
    pub fn run(&mut self) -> anyhow::Result<Duration> {
        let log = File::options().create(true).append(true).open(self.folder.join("log"))?;
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(self.folder.join("forestage.toml"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Nobody but this process is to talk to it: not the service manager, and not Ctrl-C.
        command.env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS").env_remove("WATCHDOG_USEC");
        command.process_group(0);
        let began = now();
        self.child = Some(command.spawn().context("start a daemon")?);
        while began.elapsed() < START {
            if let Some(status) = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten()) {
                bail!("the daemon ended early ({status})\n{}", self.tail());
            }
            let answers = Client::connect(&self.socket())
                .and_then(|mut c| Ok(c.ask("GET", "/v1/health", "application/json", b"")?.0 == 200));
            if answers.unwrap_or(false) {
                return Ok(began.elapsed());
            }
            std::thread::sleep(LOOK);
        }
        bail!("the daemon did not answer within {} s\n{}", START.as_secs(), self.tail())
    }

    /// Memory that it has resident, bytes: now, and at most since it started.
    pub fn memory_bytes(&self) -> (u64, u64) {
        let pid = self.child.as_ref().map_or(0, Child::id);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let figure = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name));
            line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
        };
        (figure("VmRSS:"), figure("VmHWM:"))
    }

    /// What its record takes on disk, bytes.
    pub fn disk_bytes(&self) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let files = std::fs::read_dir(self.folder.join("state/record")).into_iter().flatten().flatten();
        files.filter_map(|f| f.metadata().ok()).map(|m| m.blocks() * 512).sum()
    }

    /// Stops it by SIGTERM, or as a crash does.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self, crash: bool) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if crash {
            child.kill()?;
            child.wait()?;
            return Ok(());
        }
        signal(&child);
        let began = now();
        while child.try_wait()?.is_none() {
            if began.elapsed() > STOP {
                child.kill()?;
                bail!("the daemon did not stop; it was killed\n{}", self.tail());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn tail(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // What it leaves is removed with the folder.
        let _ = self.stop(false);
    }
}

fn signal(child: &Child) {
    use rustix::process::{Pid, Signal, kill_process};
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
}

/// Everything on: staging, prediction, monitor, diary. The one worker here runs children; the type of the queue is
/// for outside workers.
fn config(folder: &Path, durability: Durability) -> String {
    let quoted = |name: &str| toml::Value::from(folder.join(name).display().to_string()).to_string();
    format!(
        "[daemon]\nstate_dir = {state}\nwork_dir = {work}\nsocket = {socket}\nlog = \"human\"\n\
         [record]\ndurability = \"{durability}\"\n\
         [cache.main]\ndir = {pool}\ncapacity = \"64MiB\"\nmin_free = \"1MiB\"\n\
         [worker.here]\nslots = {SLOTS}\ntypes = [\"{SPAWN_TYPE}\"]\n\
         [type.{SPAWN_TYPE}]\nargv = [\"true\"]\n\
         [type.{QUEUE_TYPE}]\nargv = [\"true\"]\n",
        state = quoted("state"),
        work = quoted("work"),
        socket = quoted("s"),
        pool = quoted("pool"),
        durability = durability.name(),
    )
}
