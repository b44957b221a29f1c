//! The daemon as the socket sees it: questions to actors, answers as wire types.

mod cache;
mod groups;
mod metrics;
mod moment;
mod outside;
mod recurring;
mod show;
mod tasks;
mod why;

use super::diary::{self, Follow, Naming};
use super::record::Names;
use super::wiring::House;
use crate::api::backend::{Backend, LogPart};
use crate::api::{Error, outside as attach, wire};
use crate::config::{Config, StagingMode};
use crate::dispatch::actor::{self, Pause};
use crate::draw::Heatmap;
use crate::flow::{CacheId, TaskId, WorkerId};
use crate::store::{Reader, reader::Stored};
use crate::task::Places;
use crate::time::{Clock, Time};
use actix::prelude::*;
use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Everything that answers requests.
pub struct Hub {
    config: Arc<Config>,
    names: Names,
    places: Arc<Places>,
    house: House,
    state_dir: PathBuf,
    clock: Clock,
    epoch: u32,
    damage: Vec<String>,
    ready: Time,
    paused: std::sync::atomic::AtomicBool,
    draining: std::sync::atomic::AtomicBool,
    stop: CancellationToken,
}

/// An actor that does not answer is about to be gone.
fn gone(_: MailboxError) -> Error {
    Error::Unavailable { message: "the daemon is stopping".into() }
}

fn not_found(what: impl Into<String>) -> Error {
    Error::NotFound { message: what.into() }
}

fn bad(code: &'static str, message: impl Into<String>) -> Error {
    Error::Bad { code, message: message.into() }
}

impl Hub {
    /// With the actors and what the start found.
    #[allow(clippy::too_many_arguments, reason = "called once, by the start that has all of them in hand")]
    pub fn new(
        config: Arc<Config>,
        names: Names,
        places: Arc<Places>,
        house: House,
        state_dir: PathBuf,
        clock: Clock,
        epoch: u32,
        damage: Vec<String>,
        stop: CancellationToken,
    ) -> Hub {
        let ready = clock.now();
        let (paused, draining) = Default::default();
        Hub { config, names, places, house, state_dir, clock, epoch, damage, ready, paused, draining, stop }
    }

    fn worker_id(&self, name: &str) -> Result<WorkerId, Error> {
        let known = || self.names.workers.all().join(", ");
        self.names.worker_id(name).ok_or_else(|| not_found(format!("no worker `{name}`; known: {}", known())))
    }

    fn cache_id(&self, name: &str) -> Result<CacheId, Error> {
        let known = || self.config.caches.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        let at = self.config.caches.iter().position(|c| c.name == name);
        at.map(|i| CacheId(i as u16))
            .ok_or_else(|| not_found(format!("no cache `{name}`; known: {}", known())))
    }

    fn worker_name(&self, id: WorkerId) -> String {
        self.names.workers.name(id).map_or_else(|| id.to_string(), |w| w.to_string())
    }

    fn cache_name(&self, id: CacheId) -> String {
        self.config.caches.get(usize::from(id.0)).map_or_else(|| id.to_string(), |c| c.name.clone())
    }

    /// Reads the record on the blocking pool, by a connection of its own.
    async fn read<R: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Reader) -> Result<R, crate::store::Error> + Send + 'static,
    ) -> Result<R, Error> {
        let dir = self.state_dir.join("record");
        let read = tokio::task::spawn_blocking(move || ask(&mut Reader::open(&dir)?));
        match read.await {
            Ok(Ok(r)) => Ok(r),
            Ok(Err(e)) => Err(Error::Internal { message: e.to_string() }),
            Err(e) => Err(Error::Internal { message: e.to_string() }),
        }
    }

    async fn stored(&self, id: u64) -> Result<Stored, Error> {
        let found = self.read(move |r| r.task(TaskId(id))).await?;
        found.ok_or_else(|| not_found(format!("task {id} does not exist or is past retention")))
    }
}

fn staging_name(mode: StagingMode) -> &'static str {
    match mode {
        StagingMode::On => "on",
        StagingMode::Observe => "observe",
        StagingMode::Off => "off",
    }
}

#[async_trait]
impl Backend for Hub {
    async fn submit(&self, submits: Vec<wire::Submit>) -> Result<Vec<wire::Submitted>, Error> {
        self.submit_tasks(submits).await
    }
    async fn tasks(&self, filter: wire::TaskFilter) -> Result<Vec<wire::Task>, Error> {
        self.list_tasks(filter).await
    }
    async fn task(&self, id: u64) -> Result<wire::Task, Error> {
        self.show_task(id).await
    }
    async fn log(&self, id: u64, attempt: Option<u32>, offset: u64) -> Result<LogPart, Error> {
        self.read_log(id, attempt, offset).await
    }
    async fn wait(&self, id: u64, timeout_s: f64) -> Result<wire::Task, Error> {
        let settled = self.house.dispatch.send(actor::Settled(TaskId(id)));
        let limit = crate::time::Span::from_s(timeout_s.min(86_400.0)).to_std();
        if let Ok(answer) = tokio::time::timeout(limit, settled).await {
            answer.map_err(gone)?;
        }
        self.show_task(id).await
    }
    async fn cancel(&self, id: u64) -> Result<wire::Task, Error> {
        self.house
            .dispatch
            .send(actor::Cancel(TaskId(id)))
            .await
            .map_err(gone)?
            .map_err(tasks::not_possible)?;
        self.show_task(id).await
    }
    async fn retry(&self, id: u64) -> Result<wire::Task, Error> {
        self.retry_task(id).await
    }
    async fn edit(&self, id: u64, edit: wire::Edit) -> Result<wire::Task, Error> {
        self.edit_task(id, edit).await
    }
    async fn recurring(&self) -> Result<Vec<wire::RecurringTask>, Error> {
        self.list_recurring().await
    }
    async fn set_recurring(&self, name: String, r: wire::Recurring) -> Result<wire::RecurringTask, Error> {
        self.put_recurring(name, r).await
    }
    async fn remove_recurring(&self, name: String) -> Result<(), Error> {
        self.delete_recurring(name).await
    }
    async fn groups(&self) -> Result<Vec<wire::Group>, Error> {
        self.list_groups().await
    }
    async fn set_group(&self, name: String, edit: wire::GroupEdit) -> Result<wire::Group, Error> {
        self.change_group(name, edit).await
    }
    async fn wait_idle(&self, group: Option<String>, timeout_s: f64) -> Result<wire::Idle, Error> {
        self.await_idle(group, timeout_s).await
    }
    async fn retry_all(&self, filter: wire::RetryFilter) -> Result<wire::Retried, Error> {
        self.retry_many(filter).await
    }
    async fn why_task(&self, id: u64) -> Result<wire::Why, Error> {
        self.explain_task(id).await
    }
    async fn why_object(&self, object: String) -> Result<wire::Why, Error> {
        self.explain_object(object).await
    }
    async fn why_worker(&self, worker: String) -> Result<wire::Why, Error> {
        self.explain_worker(worker).await
    }
    async fn workers(&self) -> Result<Vec<wire::Worker>, Error> {
        self.show_workers().await
    }
    async fn profile(&self, worker: String) -> Result<Vec<wire::ProfileLine>, Error> {
        self.show_profile(worker).await
    }
    async fn predict(&self, query: wire::PredictQuery) -> Result<wire::Prediction, Error> {
        self.show_prediction(query).await
    }
    async fn attach(&self, order: attach::Attach) -> Result<attach::Session, Error> {
        self.attach_worker(order).await
    }
    async fn next(&self, worker: String, order: attach::Next) -> Result<attach::NextAnswer, Error> {
        self.next_tasks(worker, order).await
    }
    async fn heartbeat(&self, worker: String, beat: attach::Heartbeat) -> Result<attach::Beaten, Error> {
        self.beat(worker, beat).await
    }
    async fn leave(&self, worker: String, session: u64) -> Result<(), Error> {
        self.end_session(worker, session).await
    }
    async fn caches(&self) -> Result<Vec<wire::Cache>, Error> {
        self.show_caches().await
    }
    async fn cached(&self, filter: wire::CacheFilter) -> Result<Vec<wire::CachedObject>, Error> {
        self.list_cached(filter).await
    }
    async fn cache_stage(&self, order: wire::CacheOrder) -> Result<Vec<wire::CacheAnswer>, Error> {
        self.stage_objects(order).await
    }
    async fn cache_pin(&self, order: wire::CacheOrder, pin: bool) -> Result<Vec<wire::CacheAnswer>, Error> {
        self.pin_objects(order, pin).await
    }
    async fn cache_evict(&self, order: wire::CacheOrder) -> Result<Vec<wire::CacheAnswer>, Error> {
        self.evict_objects(order).await
    }
    async fn cache_verify(&self, order: wire::CacheOrder) -> Result<Vec<wire::CacheAnswer>, Error> {
        self.verify_objects(order).await
    }
    async fn heatmap(&self, query: wire::HeatmapQuery) -> Result<Heatmap, Error> {
        self.draw_heatmap(query).await
    }
    async fn series(&self, query: wire::SeriesQuery) -> Result<Vec<wire::Series>, Error> {
        self.show_series(query).await
    }
    async fn now(&self, query: wire::NowQuery) -> Result<wire::Now, Error> {
        self.show_now(query).await
    }
    async fn metrics(&self) -> Result<String, Error> {
        self.render_metrics().await
    }
    async fn savings(&self) -> Result<wire::Savings, Error> {
        self.show_savings().await
    }
    async fn pause(&self, pause: bool) -> Result<(), Error> {
        self.house.dispatch.send(Pause(pause)).await.map_err(gone)?;
        self.paused.store(pause, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }
    async fn drain(&self) -> Result<(), Error> {
        self.draining.store(true, std::sync::atomic::Ordering::Relaxed);
        // The same way as a signal: the main loop drains, snapshots and stops.
        self.stop.cancel();
        Ok(())
    }
    async fn health(&self) -> Result<wire::Health, Error> {
        use std::sync::atomic::Ordering::Relaxed;
        let counts = actor::look(&self.house.dispatch, |d, _| d.counts()).await.map_err(gone)?;
        let status = match (self.draining.load(Relaxed), self.paused.load(Relaxed)) {
            (true, _) => "draining",
            (_, true) => "paused",
            _ => "running",
        };
        Ok(wire::Health {
            status: status.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            up_s: self.clock.now().since(self.ready).as_s(),
            epoch: self.epoch,
            staging: staging_name(self.config.staging.mode).into(),
            tasks: counts.iter().map(|(s, n)| (s.name().to_owned(), *n)).collect(),
            damage: self.damage.clone(),
        })
    }
    async fn events(
        &self,
        from: Option<u64>,
        follow: bool,
    ) -> Result<BoxStream<'static, wire::Event>, Error> {
        let (past, live) = self.house.diary.send(Follow { from }).await.map_err(gone)?;
        let (names, config) = (self.names.clone(), self.config.clone());
        let shown = move |e: diary::Entry| Naming { names: &names, config: &config }.event(&e);
        let past = stream::iter(past);
        if !follow {
            return Ok(past.map(shown).boxed());
        }
        let live = stream::unfold(live, |mut live| async move {
            loop {
                match live.recv().await {
                    Ok(entry) => return Some((entry, live)),
                    // A slow reader misses some; the numbers show which.
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        Ok(past.chain(live).map(shown).boxed())
    }
}
