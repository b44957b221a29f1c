//! The actor of one worker: it owns the worker's slots and its profile.
//!
//! - **Told by** dispatch ([`Assign`], answered with the outcome; [`Stop`]; [`Learned`]).
//! - **Asks** its cache, then the prefetcher, from the attempt's own future (see `attempt.rs`).
//! - **Tells** the roster what it learned ([`Profiled`]), the keeper of profiles what to persist.
//! - **After it stops**: attempts under way are ended by the helper; dispatch sees their replies closed.

use super::attempt::{self, Shared};
use super::profile::{Figures, Profile, Smoothing};
use super::roster_actor::Profiled;
use crate::flow::{Map, Outcome, TaskId, TypeId, WorkerId};
use crate::message::{Assign, Learned, Stop};
use actix::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Keeps a profile on disk; must not block.
pub type ProfileKeeper = Box<dyn FnMut(TypeId, &Figures)>;

/// The actor.
pub struct WorkerActor {
    shared: Arc<Shared>,
    profile: Profile,
    smoothing: Smoothing,
    roster: Recipient<Profiled>,
    keeper: ProfileKeeper,
    slots: Vec<bool>,
    running: Map<(TaskId, u32), (CancellationToken, u32)>,
}

impl WorkerActor {
    /// With the profile that was on disk.
    pub fn new(
        shared: Shared,
        slots: u32,
        profile: Profile,
        smoothing: Smoothing,
        roster: Recipient<Profiled>,
        keeper: ProfileKeeper,
    ) -> WorkerActor {
        WorkerActor {
            shared: Arc::new(shared),
            profile,
            smoothing,
            roster,
            keeper,
            slots: vec![false; slots as usize],
            running: Map::default(),
        }
    }

    /// Which worker this is.
    pub fn id(&self) -> WorkerId {
        self.shared.id
    }

    /// The lowest free slot's number.
    fn take_slot(&mut self) -> u32 {
        let at = self.slots.iter().position(|busy| !busy).unwrap_or_else(|| {
            // After a reload with fewer slots more may run for a while; numbers go on then.
            self.slots.push(false);
            self.slots.len() - 1
        });
        self.slots[at] = true;
        at as u32
    }
}

impl Actor for WorkerActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(4_096);
    }
}

impl Handler<Assign> for WorkerActor {
    type Result = ResponseFuture<Outcome>;
    fn handle(&mut self, mut msg: Assign, ctx: &mut Context<Self>) -> Self::Result {
        let key = (msg.task.id, msg.token.attempt);
        let stop = CancellationToken::new();
        msg.slot = self.take_slot();
        self.running.insert(key, (stop.clone(), msg.slot));
        let (shared, addr) = (self.shared.clone(), ctx.address());
        Box::pin(async move {
            let outcome = attempt::run(shared, msg, stop).await;
            // The slot is free before dispatch hears of the end and gives it away again.
            let _ = addr.send(Freed(key)).await;
            outcome
        })
    }
}

/// An attempt has ended.
#[derive(Message)]
#[rtype(result = "()")]
struct Freed((TaskId, u32));

impl Handler<Freed> for WorkerActor {
    type Result = ();
    fn handle(&mut self, msg: Freed, _: &mut Context<Self>) {
        if let Some((_, slot)) = self.running.remove(&msg.0) {
            self.slots[slot as usize] = false;
        }
    }
}

impl Handler<Stop> for WorkerActor {
    type Result = ();
    fn handle(&mut self, msg: Stop, _: &mut Context<Self>) {
        if let Some((stop, _)) = self.running.get(&(msg.task, msg.token.attempt)) {
            stop.cancel();
        }
    }
}

impl Handler<Learned> for WorkerActor {
    type Result = ();
    fn handle(&mut self, msg: Learned, _: &mut Context<Self>) {
        let ours = msg.0.iter().map(|l| &l.outcome).filter(|o| o.worker == self.shared.id);
        for told in learn(&mut self.profile, &self.smoothing, &mut self.keeper, ours) {
            // Missed facts are made good by the next one of the same type.
            let _ = self.roster.try_send(told);
        }
    }
}

/// Learns attempts of one worker; what is kept and told is one value for each type, however many ended.
pub fn learn<'o>(
    profile: &mut Profile,
    smoothing: &Smoothing,
    keeper: &mut ProfileKeeper,
    ours: impl Iterator<Item = &'o Arc<Outcome>>,
) -> Vec<Profiled> {
    let mut changed = BTreeMap::new();
    for o in ours {
        if profile.learn(o, smoothing) {
            changed.insert(o.task_type, o.worker);
        }
    }
    let mut told = Vec::with_capacity(changed.len());
    for (task_type, worker) in changed {
        let Some(figures) = profile.get(task_type) else { continue };
        keeper(task_type, figures);
        told.push(Profiled { worker, task_type, figures: figures.clone() });
    }
    told
}
