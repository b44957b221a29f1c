//! What the routes ask of the daemon.
//!
//! The rooms do not know each other, so the routes do not know actors: `daemon/` implements this trait by
//! sending messages to them.

use super::error::Error;
use super::{outside, wire};
use crate::draw::Heatmap;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

/// A piece of a task's log, and whether more may come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogPart {
    /// The bytes from the asked offset on.
    pub bytes: Bytes,
    /// Where the next part begins.
    pub next: u64,
    /// Whether the attempt has ended and nothing more will come.
    pub ended: bool,
}

/// The daemon, as the socket sees it. Every method may be called at any time from any thread.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Accepts tasks; answered when what was accepted is durable. One answer for each submit, in order.
    async fn submit(&self, submits: Vec<wire::Submit>) -> Result<Vec<wire::Submitted>, Error>;
    /// Tasks, new to old.
    async fn tasks(&self, filter: wire::TaskFilter) -> Result<Vec<wire::Task>, Error>;
    /// One task.
    async fn task(&self, id: u64) -> Result<wire::Task, Error>;
    /// The log of the task's last attempt (or `attempt`), from a byte offset on; at most 1 MiB at once.
    async fn log(&self, id: u64, attempt: Option<u32>, offset: u64) -> Result<LogPart, Error>;
    /// Answers when the task has ended, or after `timeout_s` with the task as it is then.
    async fn wait(&self, id: u64, timeout_s: f64) -> Result<wire::Task, Error>;
    /// Cancels a task; answered when the cancellation is durable or, for a running task, on its way.
    async fn cancel(&self, id: u64) -> Result<wire::Task, Error>;
    /// Tries a failed or cancelled task again.
    async fn retry(&self, id: u64) -> Result<wire::Task, Error>;
    /// Changes priority or delay of a waiting task.
    async fn edit(&self, id: u64, edit: wire::Edit) -> Result<wire::Task, Error>;
    /// Recurring tasks, each with its next occurrence.
    async fn recurring(&self) -> Result<Vec<wire::RecurringTask>, Error>;
    /// Sets a recurring task, or replaces the one of that name; answered when it is durable.
    async fn set_recurring(&self, name: String, r: wire::Recurring) -> Result<wire::RecurringTask, Error>;
    /// Removes a recurring task.
    async fn remove_recurring(&self, name: String) -> Result<(), Error>;
    /// Groups that have unfinished tasks or settings.
    async fn groups(&self) -> Result<Vec<wire::Group>, Error>;
    /// Changes what is set of a group; answered when it is durable.
    async fn set_group(&self, name: String, edit: wire::GroupEdit) -> Result<wire::Group, Error>;
    /// Answers when no task (of a group) is unfinished, or after `timeout_s`.
    async fn wait_idle(&self, group: Option<String>, timeout_s: f64) -> Result<wire::Idle, Error>;
    /// Tries all failed tasks again that a filter names.
    async fn retry_all(&self, filter: wire::RetryFilter) -> Result<wire::Retried, Error>;
    /// Why a task waits or was run where it was.
    async fn why_task(&self, id: u64) -> Result<wire::Why, Error>;
    /// Why an object is or is not staged.
    async fn why_object(&self, object: String) -> Result<wire::Why, Error>;
    /// Why a worker gets what it gets.
    async fn why_worker(&self, worker: String) -> Result<wire::Why, Error>;
    /// All workers.
    async fn workers(&self) -> Result<Vec<wire::Worker>, Error>;
    /// Begins a session of an outside worker.
    async fn attach(&self, order: outside::Attach) -> Result<outside::Session, Error>;
    /// Takes back what an outside worker did and gives it more. Dropped when its connection closes.
    async fn next(&self, worker: String, order: outside::Next) -> Result<outside::NextAnswer, Error>;
    /// An outside worker lives.
    async fn heartbeat(&self, worker: String, beat: outside::Heartbeat) -> Result<outside::Beaten, Error>;
    /// Ends a session of an outside worker.
    async fn leave(&self, worker: String, session: u64) -> Result<(), Error>;
    /// One worker's profile.
    async fn profile(&self, worker: String) -> Result<Vec<wire::ProfileLine>, Error>;
    /// What comes next.
    async fn predict(&self, query: wire::PredictQuery) -> Result<wire::Prediction, Error>;
    /// All pools.
    async fn caches(&self) -> Result<Vec<wire::Cache>, Error>;
    /// Cached objects.
    async fn cached(&self, filter: wire::CacheFilter) -> Result<Vec<wire::CachedObject>, Error>;
    /// Stages objects.
    async fn cache_stage(&self, order: wire::CacheOrder) -> Result<Vec<wire::CacheAnswer>, Error>;
    /// Pins (or unpins) objects; what is absent is staged first.
    async fn cache_pin(&self, order: wire::CacheOrder, pin: bool) -> Result<Vec<wire::CacheAnswer>, Error>;
    /// Evicts objects.
    async fn cache_evict(&self, order: wire::CacheOrder) -> Result<Vec<wire::CacheAnswer>, Error>;
    /// Reads and checks the files of objects; all when none are named.
    async fn cache_verify(&self, order: wire::CacheOrder) -> Result<Vec<wire::CacheAnswer>, Error>;
    /// Heat over time.
    async fn heatmap(&self, query: wire::HeatmapQuery) -> Result<Heatmap, Error>;
    /// Figures over time: one series, or all of a grain.
    async fn series(&self, query: wire::SeriesQuery) -> Result<Vec<wire::Series>, Error>;
    /// Everything that a dashboard shows of this moment.
    async fn now(&self, query: wire::NowQuery) -> Result<wire::Now, Error>;
    /// All figures in OpenMetrics, rendered off the threads that answer others.
    async fn metrics(&self) -> Result<String, Error>;
    /// What staging has saved.
    async fn savings(&self) -> Result<wire::Savings, Error>;
    /// Starts nothing more, or starts again.
    async fn pause(&self, pause: bool) -> Result<(), Error>;
    /// Takes and starts nothing more, and stops the daemon when what runs has ended.
    async fn drain(&self) -> Result<(), Error>;
    /// How the daemon is.
    async fn health(&self) -> Result<wire::Health, Error>;
    /// The diary from a number on; with `follow` it does not end.
    async fn events(&self, from: Option<u64>, follow: bool)
    -> Result<BoxStream<'static, wire::Event>, Error>;
}
