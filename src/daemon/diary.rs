//! The diary: the latest decisions, in memory, for `events` and for the log.

use crate::flow::{Decided, Decision};
use crate::message::Fact;
use actix::prelude::*;
use std::collections::VecDeque;
use tokio::sync::{broadcast, oneshot};

/// Decisions that are kept.
const KEPT: usize = 10_000;
/// Decisions that a slow follower may lag behind before it misses some.
const LAG: usize = 4_096;

/// A numbered decision.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Rises by one.
    pub seq: u64,
    /// The decision.
    pub decision: Decision,
}

/// The actor that keeps it.
pub struct Diary {
    kept: VecDeque<Entry>,
    next: u64,
    live: broadcast::Sender<Entry>,
}

impl Default for Diary {
    fn default() -> Self {
        Diary { kept: VecDeque::new(), next: 1, live: broadcast::channel(LAG).0 }
    }
}

impl Actor for Diary {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(LAG);
    }
}

impl Handler<Fact<Decision>> for Diary {
    type Result = ();
    fn handle(&mut self, msg: Fact<Decision>, _: &mut Context<Self>) {
        self.enter(msg.0);
    }
}

impl Handler<Fact<Vec<Decision>>> for Diary {
    type Result = ();
    fn handle(&mut self, msg: Fact<Vec<Decision>>, _: &mut Context<Self>) {
        msg.0.into_iter().for_each(|d| self.enter(d));
    }
}

impl Diary {
    fn enter(&mut self, decision: Decision) {
        let entry = Entry { seq: self.next, decision };
        self.next += 1;
        if let Decided::Governed { what, on, evidence } = &entry.decision.what {
            tracing::info!(%what, on, %evidence, "staging was turned {}", if *on { "on" } else { "off" });
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(entry.clone());
        // Nobody may be following.
        let _ = self.live.send(entry);
    }
}

/// Entries from a number on, and the live ones that follow them without a gap.
#[derive(Message)]
#[rtype(result = "(Vec<Entry>, broadcast::Receiver<Entry>)")]
pub struct Follow {
    /// First number; the last hundred when `None`.
    pub from: Option<u64>,
}

impl Handler<Follow> for Diary {
    type Result = MessageResult<Follow>;
    fn handle(&mut self, msg: Follow, _: &mut Context<Self>) -> Self::Result {
        let from = msg.from.unwrap_or(self.next.saturating_sub(100));
        let past = self.kept.iter().filter(|e| e.seq >= from).cloned().collect();
        MessageResult((past, self.live.subscribe()))
    }
}

/// The decisions that a test accepts.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Find(pub Box<dyn Fn(&Decision) -> bool + Send>, pub oneshot::Sender<Vec<Entry>>);

impl Handler<Find> for Diary {
    type Result = ();
    fn handle(&mut self, msg: Find, _: &mut Context<Self>) {
        let found = self.kept.iter().filter(|e| (msg.0)(&e.decision)).cloned().collect();
        // Who asked may be gone.
        let _ = msg.1.send(found);
    }
}

/// A decision as a sentence.
pub fn sentence(
    decided: &Decided,
    type_name: impl Fn(crate::flow::TypeId) -> String,
    worker: impl Fn(crate::flow::WorkerId) -> String,
    cache: impl Fn(crate::flow::CacheId) -> String,
) -> (&'static str, String) {
    match decided {
        Decided::Accepted { task, task_type, entity } => {
            ("accepted", format!("task {task} {} {}", type_name(*task_type), entity.as_deref().unwrap_or("")))
        }
        Decided::Placed { task, attempt, worker: w, factors } => (
            "placed",
            format!(
                "task {task} attempt {attempt} at {}: speed {:.2} × (1 − heat {:.2}) × locality {:.2}",
                worker(*w),
                factors.speed,
                factors.heat,
                factors.locality
            ),
        ),
        Decided::Ended { task, attempt, ending, again } => (
            "ended",
            format!(
                "task {task} attempt {attempt}: {ending}{}",
                if *again { "; will be tried again" } else { "" }
            ),
        ),
        Decided::Staged { object, cache: c, knowledge, p, break_even } => (
            "staged",
            format!("{object} at {}: {knowledge}, p {p:.2}, break-even {break_even:.2}", cache(*c)),
        ),
        Decided::CalledOff { object, cache: c, reason } => {
            ("called_off", format!("{object} at {}: {reason}", cache(*c)))
        }
        Decided::Evicted { object, cache: c } => ("evicted", format!("{object} from {}", cache(*c))),
        Decided::Governed { what, on, evidence } => {
            ("governed", format!("staging {} for {what}: {evidence}", if *on { "on" } else { "off" }))
        }
    }
}
