//! One attempt, from its assignment to its outcome: its data, its child (`children.rs`), what it cost.
//!
//! Runs as a future of its own beside the worker's actor, so that a worker with many slots waits for none of
//! them. Whatever happens, it ends with an outcome and leaves no pin and no process behind.

use super::children::{Child, Children};
use crate::flow::{CacheId, Ending, InputUse, Outcome, Usage, WorkerId};
use crate::message::{Assign, Demand, Held, NotReady, Pin, Ready, Unpin};
use crate::slow::Slow;
use crate::time::{Clock, Span, Time};
use actix::prelude::*;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What all attempts of a worker share.
pub struct Shared {
    /// The worker.
    pub id: WorkerId,
    /// Its cache's index.
    pub cache_id: CacheId,
    /// The clock.
    pub clock: Clock,
    /// Who runs children.
    pub children: Arc<dyn Children>,
    /// The worker's cache.
    pub cache: (Recipient<Pin>, Recipient<Unpin>),
    /// Who makes inputs ready.
    pub prefetch: Recipient<Demand>,
    /// Where files are removed.
    pub slow: Slow,
}

/// Name of an attempt's log.
pub fn log_name(task: u64, attempt: u32) -> String {
    format!("{task}.{attempt}.log")
}

/// Inputs that are ready, and what must be given back.
#[derive(Default)]
pub(super) struct Data {
    pub(super) ready: Vec<Ready>,
    pinned: Vec<u64>,
}

impl Data {
    /// Gives back what the attempt held: private files go, pins are let go.
    pub(super) async fn let_go(&mut self, shared: &Shared) {
        let private = self.ready.iter().filter(|r| r.pinned.is_none());
        let private: Vec<_> = private.map(|r| r.path.clone()).collect();
        if !private.is_empty() {
            // Nobody else has these names of them.
            let _ = shared.slow.run(move || private.iter().for_each(|p| _ = std::fs::remove_file(p))).await;
        }
        if !self.pinned.is_empty() {
            // A pin that could not be given back would never be evicted; the cache's mailbox takes it.
            let _ = shared.cache.1.send(Unpin(std::mem::take(&mut self.pinned))).await;
        }
    }
}

pub(super) struct Attempt<'a> {
    pub(super) shared: &'a Shared,
    pub(super) assign: &'a Assign,
    pub(super) stop: CancellationToken,
}

/// Runs an attempt; `stop` ends it early.
pub async fn run(shared: Arc<Shared>, assign: Assign, stop: CancellationToken) -> Outcome {
    let attempt = Attempt { shared: &shared, assign: &assign, stop };
    let mut data = Data::default();
    let began = shared.clock.now();
    let gathered = attempt.gather(&mut data).await;
    let data_wait = shared.clock.now().since(began);
    let (ending, usage) = match gathered {
        Ok(()) => {
            let child = Child { assign: &assign, ready: &data.ready, stop: &attempt.stop };
            shared.children.run(child).await
        }
        Err(ending) => (ending, Usage::default()),
    };
    data.let_go(&shared).await;
    attempt.outcome(ending, usage, data_wait, data)
}

impl Attempt<'_> {
    /// Pins what the cache has and asks for the rest.
    pub(super) async fn gather(&self, data: &mut Data) -> Result<(), Ending> {
        let task = &self.assign.task;
        if task.inputs.is_empty() {
            return if self.stop.is_cancelled() { Err(Ending::Cancelled) } else { Ok(()) };
        }
        let held: Vec<Option<Held>> = match self.shared.cache.0.send(Pin(task.inputs.clone())).await {
            Ok(held) => held,
            // Without a cache the task still gets its data.
            Err(_) => vec![None; task.inputs.len()],
        };
        data.pinned.extend(held.iter().flatten().map(|h| h.file));
        let demand = Demand {
            task: task.id,
            task_type: task.task_type,
            entity: task.entity.clone(),
            worker: self.shared.id,
            cache: self.shared.cache_id,
            inputs: task.inputs.iter().cloned().zip(held).collect(),
            fresh: task.fresh,
            stop: self.stop.clone(),
        };
        match self.shared.prefetch.send(demand).await {
            Ok(Ok(made_ready)) => {
                // What was pinned above and found stale has been let go by the prefetcher, which says so by
                // naming another file, or none.
                data.pinned = made_ready.iter().filter_map(|r| r.pinned).collect();
                data.ready = made_ready;
                Ok(())
            }
            Ok(Err(_)) if self.stop.is_cancelled() => {
                data.pinned.clear();
                Err(Ending::Cancelled)
            }
            Ok(Err(NotReady { object, error, released })) => {
                if released {
                    data.pinned.clear();
                }
                Err(Ending::MissingInput { object, error })
            }
            Err(_) => Err(Ending::Lost),
        }
    }

    pub(super) fn outcome(&self, ending: Ending, mut usage: Usage, data_wait: Span, data: Data) -> Outcome {
        let inputs: Vec<InputUse> = data.ready.into_iter().map(|r| r.input).collect();
        usage.net_bytes =
            inputs.iter().filter(|i| i.found == crate::flow::Found::Fetched).map(|i| i.bytes).sum();
        let task = &self.assign.task;
        let ended: Time = self.shared.clock.now();
        Outcome {
            task: task.id,
            token: self.assign.token,
            worker: self.shared.id,
            task_type: task.task_type,
            entity: task.entity.clone(),
            submitted: task.submitted,
            started: self.assign.at,
            ended,
            ending,
            usage,
            data_wait,
            inputs,
            factors: self.assign.factors,
        }
    }
}
