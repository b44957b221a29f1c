//! The diary: the latest decisions, in memory, for `events` and for the log.

use super::record::Names;
use crate::api::wire::Event;
use crate::config::Config;
use crate::flow::{CacheId, Decided, Decision, TaskId, TypeId, WorkerId};
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

/// Names for the numbers of a decision.
pub struct Naming<'a> {
    /// Types and workers.
    pub names: &'a Names,
    /// Caches.
    pub config: &'a Config,
}

impl Naming<'_> {
    fn task_type(&self, id: TypeId) -> String {
        self.names.catalogue.name(id).to_owned()
    }

    fn worker(&self, id: WorkerId) -> String {
        self.names.workers.name(id).map_or_else(|| id.to_string(), |w| w.to_string())
    }

    fn cache(&self, id: CacheId) -> String {
        self.config.caches.get(usize::from(id.0)).map_or_else(|| id.to_string(), |c| c.name.clone())
    }

    /// An entry as the socket gives it: a sentence for people, fields for programs.
    pub fn event(&self, entry: &Entry) -> Event {
        let (decided, text) = self.sentence(&entry.decision.what);
        let event = Event {
            seq: entry.seq,
            at_s: entry.decision.at.as_s(),
            decided: decided.to_owned(),
            text,
            ..Event::default()
        };
        self.with_fields(event, &entry.decision.what)
    }

    fn with_fields(&self, event: Event, decided: &Decided) -> Event {
        let of_task = |task: &TaskId| Some(task.0);
        match decided {
            Decided::Accepted { task, task_type, entity } => Event {
                task: of_task(task),
                task_type: Some(self.task_type(*task_type)),
                entity: entity.as_deref().map(str::to_owned),
                ..event
            },
            Decided::Placed { task, attempt, worker, .. } => {
                let worker = Some(self.worker(*worker));
                Event { task: of_task(task), attempt: Some(*attempt), worker, ..event }
            }
            Decided::Ended { task, attempt, .. } => {
                Event { task: of_task(task), attempt: Some(*attempt), ..event }
            }
            Decided::Staged { object, cache, p, break_even, .. } => Event {
                object: Some(object.to_string()),
                cache: Some(self.cache(*cache)),
                p: Some(*p),
                break_even: Some(*break_even),
                ..event
            },
            Decided::CalledOff { object, cache, .. } | Decided::Evicted { object, cache } => {
                Event { object: Some(object.to_string()), cache: Some(self.cache(*cache)), ..event }
            }
            Decided::Governed { .. } => event,
        }
    }

    /// A decision in one word and one sentence.
    fn sentence(&self, decided: &Decided) -> (&'static str, String) {
        match decided {
            Decided::Accepted { task, task_type, entity } => {
                let about = entity.as_deref().map(|e| format!(" {e}")).unwrap_or_default();
                ("accepted", format!("task {task} {}{about}", self.task_type(*task_type)))
            }
            Decided::Placed { task, attempt, worker, factors } => {
                let again = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
                let text = format!(
                    "task {task}{again} → {}   speed {:.2} × (1 − heat {}) × locality {}",
                    self.worker(*worker),
                    factors.speed,
                    share(factors.heat),
                    share(factors.locality)
                );
                ("placed", text)
            }
            Decided::Ended { task, attempt, ending, again } => {
                let tries = if *attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
                let next = if *again { "; it will be tried again" } else { "" };
                ("ended", format!("task {task}{tries}: {ending}{next}"))
            }
            Decided::Staged { object, cache, knowledge, p, break_even } => {
                let odds = format!("p {}, break-even {}", share(*p), share(*break_even));
                ("staged", format!("{object} → {}   {odds}   {knowledge}", self.cache(*cache)))
            }
            Decided::CalledOff { object, cache, reason } => {
                ("called_off", format!("{object} → {}   {reason}", self.cache(*cache)))
            }
            Decided::Evicted { object, cache } => {
                ("evicted", format!("{object} from {}", self.cache(*cache)))
            }
            Decided::Governed { what, on, evidence } => {
                ("governed", format!("{what}: staging {}   {evidence}", if *on { "on" } else { "off" }))
            }
        }
    }
}

/// `.71`, `1.0`.
fn share(p: f64) -> String {
    let text = format!("{p:.2}");
    match text.strip_prefix('0') {
        Some(rest) => rest.to_owned(),
        None => text.strip_suffix('0').map(str::to_owned).unwrap_or(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Surroundings;
    use crate::flow::{Ending, Factors, ObjectName};
    use crate::time::Time;
    use std::sync::Arc;

    fn told(what: Decided) -> Event {
        let text = "[type.copy]\nargv = [\"/bin/cp\"]\n[cache.ssd]\ndir = \"/c/ssd\"\n[worker.fast]\n";
        let config = Config::parse(text, None, &Surroundings::from_env(|_| None, 2)).unwrap();
        let workers =
            Arc::new(crate::daemon::crew::Roll::new(config.workers.iter().map(|w| w.name.as_str())));
        let names = Names { catalogue: Arc::new(config.catalogue()), workers };
        let decision = Decision { at: Time::from_s(7.0), what };
        Naming { names: &names, config: &config }.event(&Entry { seq: 3, decision })
    }

    #[test]
    fn decisions_read_as_sentences() {
        let factors = Factors { speed: 1.4, heat: 0.25, locality: 1.0 };
        let object = ObjectName::new("volumes:vol-7/data.img");
        let (task, worker, cache) = (TaskId(9), WorkerId(0), CacheId(0));
        for (what, text) in [
            (
                Decided::Accepted { task, task_type: TypeId(0), entity: Some("vol-7".into()) },
                "task 9 copy vol-7",
            ),
            (
                Decided::Placed { task, attempt: 1, worker, factors },
                "task 9 → fast   speed 1.40 × (1 − heat .25) × locality 1.0",
            ),
            (
                Decided::Ended { task, attempt: 2, ending: Ending::TimedOut, again: true },
                "task 9, attempt 2: time limit ran out; it will be tried again",
            ),
            (
                Decided::Staged {
                    object: object.clone(),
                    cache,
                    knowledge: "derived (vol-7)".into(),
                    p: 0.71,
                    break_even: 0.18,
                },
                "volumes:vol-7/data.img → ssd   p .71, break-even .18   derived (vol-7)",
            ),
            (Decided::Evicted { object: object.clone(), cache }, "volumes:vol-7/data.img from ssd"),
        ] {
            assert_eq!(told(what).text, text);
        }
    }

    #[test]
    fn programs_get_fields() {
        let object = ObjectName::new("volumes:a");
        let event = told(Decided::Staged {
            object,
            cache: CacheId(0),
            knowledge: "queued".into(),
            p: 0.5,
            break_even: 0.25,
        });
        let json = serde_json::to_value(&event).unwrap();
        let wanted = serde_json::json!({
            "seq": 3, "at_s": 7.0, "decided": "staged", "text": event.text, "object": "volumes:a", "cache": "ssd",
            "p": 0.5, "break_even": 0.25
        });
        assert_eq!(json, wanted);
    }
}
