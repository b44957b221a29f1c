//! The actor that owns the predictor.
//!
//! - **Told by** dispatch ([`Learned`], in the record's order; [`Arrived`]), the monitor ([`Heat`]), the
//!   roster ([`Standings`]).
//! - **Tells** the prefetcher which tasks an entity is expected to bring ([`Foreseen`]), after each of its
//!   arrivals and ends.
//! - **After it stops**, however it stops: the last snapshot on disk and the outcomes on record since give the
//!   same state.

use super::Predict;
use crate::flow::{Arrived, Heat, Standings};
use crate::message::{Attached, Fact, Foreseen, Learned, Lesson};
use crate::time::{Clock, Span, Time};
use actix::prelude::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;

/// Keeps a snapshot: the outcome's number that it reaches, the bytes, and where to note that number once they
/// are on disk; must not block.
pub type SnapshotKeeper = Box<dyn FnMut(u64, Vec<u8>, OnDisk)>;

/// The number of the last outcome whose snapshot is on disk.
pub type OnDisk = Arc<AtomicU64>;

/// A question to the predictor, with the time of asking.
pub type Question = Box<dyn FnOnce(&mut Predict, Time) + Send>;

/// Look at the predictor, for those who show it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Look(pub Question);

/// Make a snapshot now; answered when it was handed to its keeper.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Snapshot;

/// The actor.
pub struct PredictActor {
    core: Predict,
    clock: Clock,
    told: Vec<Recipient<Fact<Foreseen>>>,
    keeper: SnapshotKeeper,
    every: Span,
    /// The last outcome in a snapshot that was handed to the keeper.
    offered: u64,
    on_disk: OnDisk,
    /// The last outcome whose snapshot the core knows to be on disk.
    kept: u64,
}

impl PredictActor {
    /// With the state that was on record; a snapshot is made every `every`.
    pub fn new(
        core: Predict,
        clock: Clock,
        told: Vec<Recipient<Fact<Foreseen>>>,
        keeper: SnapshotKeeper,
        every: Span,
    ) -> PredictActor {
        let kept = core.seq();
        let on_disk = Arc::new(AtomicU64::new(kept));
        PredictActor { core, clock, told, keeper, every, offered: kept, on_disk, kept }
    }

    /// The core, told which of its snapshots is on disk by now.
    fn core(&mut self) -> &mut Predict {
        let on_disk = self.on_disk.load(Ordering::Acquire);
        if on_disk > self.kept {
            self.kept = on_disk;
            self.core.kept(on_disk);
        }
        &mut self.core
    }

    fn foresee(&mut self, entity: &Arc<str>) {
        let now = self.clock.now();
        let expected = self.core.expected(entity, now);
        let objects = self.core.expected_objects(entity, now);
        let foreseen = Foreseen { entity: entity.clone(), expected, objects };
        for p in &self.told {
            // Who has no room gets the next one of this entity, which replaces this one.
            let _ = p.try_send(Fact(foreseen.clone()));
        }
    }

    fn snapshot(&mut self) {
        if self.core.seq() > self.offered {
            self.offered = self.core.seq();
            let bytes = self.core().snapshot();
            (self.keeper)(self.offered, bytes, self.on_disk.clone());
        }
    }
}

impl Actor for PredictActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(16_384);
        ctx.run_interval(self.every.to_std(), |actor, _| actor.snapshot());
    }
}

impl Handler<Fact<Vec<Arrived>>> for PredictActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Vec<Arrived>>, _: &mut Context<Self>) {
        let mut moved = BTreeSet::new();
        for a in &msg.0 {
            self.core().arrived(a);
            moved.extend(a.entity.clone());
        }
        // What is foreseen for an entity is asked for once, after all that the step brought.
        moved.iter().for_each(|entity| self.foresee(entity));
    }
}

impl Handler<Learned> for PredictActor {
    type Result = ();
    fn handle(&mut self, msg: Learned, _: &mut Context<Self>) {
        let mut moved = BTreeSet::new();
        for Lesson { outcome, seq } in msg.0.iter() {
            let Some(seq) = seq else { continue };
            self.core().learn(*seq, outcome);
            moved.extend(outcome.entity.clone());
        }
        moved.iter().for_each(|entity| self.foresee(entity));
    }
}

impl Handler<Fact<Heat>> for PredictActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Heat>, _: &mut Context<Self>) {
        self.core().heated(msg.0);
    }
}

impl Handler<Fact<Standings>> for PredictActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Standings>, _: &mut Context<Self>) {
        self.core().stand(msg.0);
    }
}

impl Handler<Fact<Attached>> for PredictActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Attached>, _: &mut Context<Self>) {
        self.core.attach(msg.0.worker, msg.0.name);
    }
}

impl Handler<Look> for PredictActor {
    type Result = ();
    fn handle(&mut self, msg: Look, _: &mut Context<Self>) {
        let now = self.clock.now();
        (msg.0)(self.core(), now);
    }
}

impl Handler<Snapshot> for PredictActor {
    type Result = ();
    fn handle(&mut self, _: Snapshot, _: &mut Context<Self>) {
        self.snapshot();
    }
}

/// Asks the predictor something, from elsewhere.
///
/// # Errors
/// If the actor is gone.
pub async fn look<R: Send + 'static>(
    predict: &Addr<PredictActor>,
    ask: impl FnOnce(&mut Predict, Time) -> R + Send + 'static,
) -> Result<R, MailboxError> {
    let (tx, rx) = oneshot::channel();
    predict.send(Look(Box::new(move |core, now| _ = tx.send(ask(core, now))))).await?;
    rx.await.map_err(|_| MailboxError::Closed)
}
