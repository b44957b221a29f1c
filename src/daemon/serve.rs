//! `forestage serve`: start, run, stop.
//!
//! Start: lock the state folder, open the record (the epoch is durable then), open what can be rebuilt, start
//! the helper, wire the actors, listen, say that we are ready. Stop, by SIGTERM, SIGINT or `drain`: refuse new
//! work, let running attempts end until the deadline, snapshot and flush, end the helper, remove the socket
//! last.

use super::backend::Hub;
use super::crew::Roll;
use super::keep;
use super::lock::Lock;
use super::record::{Found, Names, state_of_done};
use super::setup::{catch_up, setup};
use super::wiring::{Given, House, wire};
use crate::api;
use crate::config::{self, Config};
use crate::dispatch::actor::Drain;
use crate::monitor::actor::KeepSeries;
use crate::predict::actor::Snapshot;
use crate::store::state::State;
use crate::store::{Options as RecordOptions, Record};
use crate::time::{Clock, Span, Time};
use crate::worker::run::Helper;
use anyhow::Context as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the command line sets over the configuration.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The socket's path.
    pub socket: Option<PathBuf>,
    /// The state folder.
    pub state_dir: Option<PathBuf>,
    /// Whether data is staged.
    pub staging: Option<config::StagingMode>,
    /// How to log.
    pub log: Option<config::Log>,
    /// What to log.
    pub log_level: Option<config::LogLevel>,
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// Whatever keeps it from starting; nothing is left behind then.
pub fn serve(mut config: Config, overrides: Overrides) -> anyhow::Result<()> {
    let d = &mut config.daemon;
    if let Some(socket) = overrides.socket {
        d.socket = socket;
    }
    if let Some(dir) = overrides.state_dir {
        d.state_dir = dir;
    }
    config.staging.mode = overrides.staging.unwrap_or(config.staging.mode);
    super::log::start(
        overrides.log.unwrap_or(config.daemon.log),
        overrides.log_level.unwrap_or(config.daemon.log_level),
    );
    let lock = Lock::take(&config.daemon.state_dir)?;
    let system = actix::System::new();
    system.block_on(run(Arc::new(config), lock))
}

async fn run(config: Arc<Config>, lock: Lock) -> anyhow::Result<()> {
    let started = Clock::start(Time::ZERO);
    let state_dir = config.daemon.state_dir.clone();
    let mut damage = Vec::new();

    let names = Names {
        catalogue: Arc::new(config.catalogue()),
        workers: Arc::new(Roll::new(config.workers.iter().map(|w| w.name.as_str()))),
    };
    let places = Arc::new(config.places());
    let (record, opened, found) = open_record(&config, &names, &places, &mut damage)?;
    let (state, broken) = State::open(&state_dir.join("state"))?;
    damage.extend(broken.map(|d| d.to_string()));

    // No earlier than anything on record, so that time does not go back over a restart.
    let clock = Clock::start(opened.last_time);
    let mut setup = setup(config.clone(), &names, places.clone(), &state, clock, &mut damage)?;
    let mut reader = record.reader()?;
    let learned = catch_up(&mut setup.predict, &names, &mut reader)?;
    let mut ended = Vec::new();
    reader.ends(|id, state| ended.push((id, state_of_done(state))))?;

    let helper = Helper::start(Path::new("/proc/self/exe"), Some(lock.fd()), clock)
        .context("start the spawn helper")?;
    let can_mount = rustix::process::geteuid().is_root() && helper.can_mount(&setup.private).await;
    let (helper_tx, helper_rx) = watch::channel(helper);
    let (keeper, keeper_thread) = keep::start(state)?;
    for d in &damage {
        tracing::error!(damage = %d, "found at the start and set aside");
    }
    for (id, why) in &found.set_aside {
        tracing::warn!(task_id = id.0, %why, "an unfinished task cannot be used now; it stays on record");
    }

    let stop = CancellationToken::new();
    let listener = listen(&config)?;
    let loopback = loopback(&config)?;
    let socket = listener.socket();
    let side = actix::Arbiter::new();
    let crew = actix::Arbiter::new();
    let given = Given {
        clock,
        names: names.clone(),
        record,
        found,
        ended,
        epoch: opened.epoch,
        next: (opened.last_id + 1, opened.last_seq + 1),
        keeper: keeper.clone(),
        helper: helper_rx,
        can_mount,
    };
    let (sources, logs) = (setup.sources.clone(), setup.logs.clone());
    let house = wire(setup, given, [&side.handle(), &crew.handle()]);
    let hub = Hub::new(
        config.clone(),
        names.clone(),
        places,
        house.clone(),
        state_dir.clone(),
        clock,
        opened.epoch,
        damage,
        stop.clone(),
    );
    let hub: Arc<dyn api::Backend> = Arc::new(hub);
    if let Some(port) = loopback {
        // Who looks on does not get in the way of those who submit.
        side.spawn(api::loopback::serve(port, hub.clone(), api::Settings::default(), stop.clone()));
    }
    let server = tokio::spawn(api::serve(listener, hub, api::Settings::default(), stop.clone()));
    super::upkeep::start(&config, &house, &names, sources, logs, clock, stop.clone());
    watch_helper(helper_tx.clone(), &lock, clock, stop.clone());
    ready(&config, started, learned, opened.live);

    wait_for_the_end(&stop).await?;
    // Nothing may keep the daemon from its orderly end but the deadline.
    notify(&[sd_notify::NotifyState::Stopping]);
    end(&config, &house, &keeper).await;
    stop.cancel();
    if let Err(error) = server.await {
        tracing::error!(%error, "the server of the socket panicked");
    }
    let helper = helper_tx.borrow().clone();
    helper.stop().await;
    drop(keeper);
    side.stop();
    crew.stop();
    socket.remove();
    // The keeper's thread ends with the actors that hold it; what it had was flushed above.
    drop(keeper_thread);
    tracing::info!("stopped");
    drop(lock);
    Ok(())
}

type OpenedRecord = (Record, crate::store::Opened, Found);

fn open_record(
    config: &Config,
    names: &Names,
    places: &crate::task::Places,
    damage: &mut Vec<String>,
) -> anyhow::Result<OpenedRecord> {
    let dir = config.daemon.state_dir.join("record");
    std::fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    let durability = match config.record.durability {
        config::Durability::Sync => crate::store::Durability::Sync,
        config::Durability::Interval => crate::store::Durability::Interval,
    };
    let mut found = Found::default();
    let options = RecordOptions { durability, ..RecordOptions::default() };
    let (record, opened) = Record::open(&dir, options, |item| found.take(item, names, places))?;
    damage.extend(opened.damage.iter().map(ToString::to_string));
    Ok((record, opened, found))
}

fn listen(config: &Config) -> anyhow::Result<api::Listener> {
    if let Some(inherited) = api::Listener::inherited()? {
        return Ok(inherited);
    }
    let d = &config.daemon;
    let place = api::Place { path: d.socket.clone(), mode: d.socket_mode, group: d.socket_group.clone() };
    Ok(api::Listener::bind(&place)?)
}

/// The port of the dashboard, if one is configured.
fn loopback(config: &Config) -> anyhow::Result<Option<api::loopback::Loopback>> {
    let Some(address) = config.daemon.listen else { return Ok(None) };
    let path = config.daemon.state_dir.join("dashboard.token");
    let token = if config.daemon.listen_token { Some(api::loopback::token(&path)?) } else { None };
    let port = api::loopback::Loopback::bind(address, token)
        .with_context(|| format!("listen on {address} (`daemon.listen`)"))?;
    tracing::info!(address = %port.address(), token = %path.display(), "dashboard and metrics, read-only");
    Ok(Some(port))
}

/// Tells systemd, if it listens.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "nobody was notified");
    }
}

fn ready(config: &Config, started: Clock, learned: u64, live: u64) {
    notify(&[sd_notify::NotifyState::Ready]);
    let socket = config.daemon.socket.display().to_string();
    let took_ms = started.now().since(started.start_of()).as_ms();
    tracing::info!(socket, took_ms, unfinished = live, learned, "ready");
}

async fn wait_for_the_end(stop: &CancellationToken) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => tracing::info!("SIGTERM: stopping"),
        _ = int.recv() => tracing::info!("SIGINT: stopping"),
        () = stop.cancelled() => tracing::info!("drained: stopping"),
    }
    Ok(())
}

/// Ends in order: drain dispatch, snapshot what was learned, flush.
async fn end(config: &Config, house: &House, keeper: &keep::Keeper) {
    let deadline = config.daemon.drain_deadline;
    match house.dispatch.send(Drain { deadline }).await {
        Ok(0) | Err(_) => {}
        Ok(running) => {
            tracing::warn!(running, "attempts were still running at the deadline; they go back to the queue")
        }
    }
    let _ = house.predict.send(Snapshot).await;
    let _ = house.objects.send(Snapshot).await;
    let _ = house.monitor.send(KeepSeries).await;
    let keeper = keeper.clone();
    if tokio::task::spawn_blocking(move || keeper.flush()).await.is_err() {
        tracing::error!("the last flush panicked");
    }
}

/// A helper that died is replaced; its jobs were told as lost.
fn watch_helper(tx: watch::Sender<Helper>, lock: &Lock, clock: Clock, stop: CancellationToken) {
    let Ok(fd) = lock.fd().try_clone_to_owned() else { return };
    tokio::spawn(async move {
        let mut pause = Span::from_ms(50);
        loop {
            let helper = tx.borrow().clone();
            tokio::select! {
                () = stop.cancelled() => return,
                () = helper.gone() => {}
            }
            if stop.is_cancelled() {
                return;
            }
            tracing::error!(pause_ms = pause.as_ms(), "the spawn helper died and is started again");
            tokio::time::sleep(pause.to_std()).await;
            pause = pause.times(2.0).min(Span::from_secs(10));
            use std::os::fd::AsFd;
            match Helper::start(Path::new("/proc/self/exe"), Some(fd.as_fd()), clock) {
                Ok(new) => _ = tx.send_replace(new),
                Err(error) => tracing::error!(%error, "the spawn helper could not be started"),
            }
        }
    });
}
