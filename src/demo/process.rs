//! The daemon's process: started, waited for, stopped; it never outlives its owner.

use super::client::Client;
use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use tokio::time::{Duration, Instant, sleep};

/// How long the daemon may take until it answers.
const START: Duration = Duration::from_secs(20);
/// How long it may take to stop after it was asked to drain, and again after SIGTERM.
const STOP: Duration = Duration::from_secs(10);
/// Pause between two looks at a process.
const LOOK: Duration = Duration::from_millis(5);
/// Last lines of the log that are shown when the daemon dies.
const TAIL_LINES: usize = 20;

/// A running daemon.
pub struct Daemon {
    child: Child,
    log: PathBuf,
    client: Client,
}

impl Daemon {
    /// Runs `program serve --config CONFIG` and waits until its socket answers. Its log goes to a file beside
    /// the configuration.
    ///
    /// # Errors
    /// When it cannot be run, ends, or does not answer; with the end of its log.
    pub async fn start(program: &Path, config: &Path, socket: &Path) -> anyhow::Result<Daemon> {
        let log = config.with_extension("log");
        let output = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(config);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // Nobody but this process is to talk to it: not the service manager, and not Ctrl-C.
        command.env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS").env_remove("WATCHDOG_USEC");
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("run {} serve", program.display()))?;
        let mut daemon = Daemon { child, log, client: Client::new(socket.to_owned()) };
        let deadline = Instant::now() + START;
        while daemon.client.health().await.is_err() {
            daemon.check_alive()?;
            if Instant::now() >= deadline {
                bail!("the daemon does not answer at {}\n{}", socket.display(), daemon.tail());
            }
            sleep(LOOK).await;
        }
        Ok(daemon)
    }

    /// Its socket.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails if it has ended, with the end of its log.
    ///
    /// # Errors
    /// That it has ended.
    pub fn check_alive(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the daemon ended early ({status})\n{}", self.tail()),
        }
    }

    /// The last lines of its log.
    pub fn tail(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Drains it and waits for its end; one that does not end is ended.
    ///
    /// # Errors
    /// When it did not end by itself, or not well.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let asked = self.client.drain().await;
        let mut status = match asked {
            Ok(()) => self.end_within(STOP).await?,
            Err(_) => None,
        };
        if status.is_none() {
            self.signal(Signal::TERM);
            status = self.end_within(STOP).await?;
        }
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("the daemon ended with {status}\n{}", self.tail()),
            None => bail!("the daemon did not stop; it was killed\n{}", self.tail()),
        }
    }

    async fn end_within(&mut self, limit: Duration) -> anyhow::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.child.try_wait()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            sleep(LOOK).await;
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Daemon {
    /// Ends it when its owner fails or is interrupted: by SIGTERM first, so that it ends its tasks.
    fn drop(&mut self) {
        const PATIENCE: u32 = 400;
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        self.signal(Signal::TERM);
        for _ in 0..PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK);
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
