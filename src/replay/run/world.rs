//! What is outside of forestage: who submits, how long children run, how fast bytes come.
//!
//! A [`World`] is asked and told by a driver, and knows nothing of cores or actors. The same world stands
//! behind `replay run`, behind the rehearsal that drives the real actors, and, with faults, behind the
//! simulation.

use super::link::{Link, LinkSettings};
use super::script::Script;
use crate::flow::{Ending, Map, ObjectName, SourceId, TaskId, Token, Usage};
use crate::monitor::HostSample;
use crate::prefetch::flights::Class;
use crate::prefetch::source::Error;
use crate::task::{Submit, Task};
use crate::time::{Span, Time};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A transfer, numbered by the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub u64);

/// A transfer that brought its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brought {
    /// The object's length.
    pub bytes: u64,
    /// From the request to the first byte.
    pub first_byte: Span,
}

/// Something happens outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// Tasks are submitted, in one request.
    Submitted(Vec<Submit>),
    /// A child has ended.
    Exited {
        /// Whose it was.
        task: TaskId,
        /// Which attempt.
        token: Token,
        /// How.
        ending: Ending,
        /// What it used.
        usage: Usage,
    },
    /// A transfer has ended.
    Moved {
        /// Which.
        transfer: TransferId,
        /// What it brought.
        result: Result<Brought, Error>,
    },
}

/// What the driver needs of the outside. Nothing here acts by itself: the driver asks when the next thing is
/// due, and takes one thing at a time.
pub trait World {
    /// When something happens next, if nothing else is begun before.
    fn next(&self) -> Option<Time>;
    /// What happens now, if it is anything that anybody hears of.
    fn happen(&mut self, now: Time) -> Option<Happening>;
    /// A child starts.
    fn child(&mut self, now: Time, task: &Task, token: Token);
    /// A child is to end; [`Happening::Exited`] follows.
    fn end_child(&mut self, now: Time, task: TaskId, token: Token);
    /// A transfer begins.
    fn transfer(
        &mut self,
        now: Time,
        source: SourceId,
        object: &ObjectName,
        class: Class,
        connections: u16,
    ) -> TransferId;
    /// A transfer is of another class now.
    fn set_class(&mut self, now: Time, transfer: TransferId, class: Class);
    /// A transfer is broken off; nothing more is heard of it. Gives the bytes that had come.
    fn break_off(&mut self, now: Time, transfer: TransferId) -> u64;
    /// All staging from a source together may take so many bytes/s from now on.
    fn pace(&mut self, now: Time, source: SourceId, staging_bytes_per_s: f64);
    /// The host's counters.
    fn sample(&mut self, now: Time) -> HostSample;
    /// Whether everybody who submits has submitted.
    fn is_spent(&self) -> bool;
}

/// A world that goes by a script: a trace's tasks at the trace's times, children that take the trace's time and
/// one processor, and one link to one source.
pub struct Scripted {
    script: Arc<Script>,
    next_submit: usize,
    children: BTreeMap<(Time, u64), (TaskId, Token, Usage)>,
    places: Map<(TaskId, u32), (Time, u64)>,
    link: Link,
    order: u64,
    /// Processor time used until a moment.
    used: (Time, Span),
}

impl Scripted {
    /// Nothing has happened yet.
    pub fn new(script: Arc<Script>, link: LinkSettings) -> Scripted {
        Scripted {
            script,
            next_submit: 0,
            children: BTreeMap::new(),
            places: Map::default(),
            link: Link::new(link),
            order: 0,
            used: (Time::ZERO, Span::ZERO),
        }
    }

    /// Bytes that the link has carried.
    pub fn carried_bytes(&self) -> u64 {
        self.link.carried_bytes()
    }

    fn use_processors(&mut self, now: Time) {
        let (since, used) = self.used;
        let more = now.since(since).times(self.children.len() as f64);
        self.used = (now, used + more);
    }
}

impl World for Scripted {
    fn next(&self) -> Option<Time> {
        let submit = self.script.submits.get(self.next_submit).map(|s| s.0);
        let child = self.children.first_key_value().map(|((at, _), _)| *at);
        [submit, child, self.link.next()].into_iter().flatten().min()
    }

    fn happen(&mut self, now: Time) -> Option<Happening> {
        self.use_processors(now);
        let due = self.next().filter(|at| *at <= now)?;
        if self.script.submits.get(self.next_submit).is_some_and(|s| s.0 == due) {
            self.next_submit += 1;
            return Some(Happening::Submitted(self.script.submits[self.next_submit - 1].1.clone()));
        }
        if let Some(first) = self.children.first_entry().filter(|e| e.key().0 == due) {
            let (task, token, usage) = first.remove();
            self.places.remove(&(task, token.attempt));
            return Some(Happening::Exited { task, token, ending: Ending::Done, usage });
        }
        let (transfer, brought) = self.link.happen(now)?;
        Some(Happening::Moved { transfer, result: Ok(brought) })
    }

    fn child(&mut self, now: Time, task: &Task, token: Token) {
        self.use_processors(now);
        let wall = self.script.duration(task);
        let usage = Usage { wall, cpu: wall, ..Usage::default() };
        let at = (now + wall, self.order);
        self.order += 1;
        self.places.insert((task.id, token.attempt), at);
        self.children.insert(at, (task.id, token, usage));
    }

    fn end_child(&mut self, now: Time, task: TaskId, token: Token) {
        self.use_processors(now);
        if let Some(at) = self.places.remove(&(task, token.attempt)) {
            let child = self.children.remove(&at).expect("a child stands where it was put");
            self.places.insert((task, token.attempt), (now, at.1));
            self.children.insert((now, at.1), child);
        }
    }

    fn transfer(
        &mut self,
        now: Time,
        source: SourceId,
        object: &ObjectName,
        class: Class,
        connections: u16,
    ) -> TransferId {
        self.link.begin(now, source, self.script.bytes_of(object), class, connections)
    }

    fn set_class(&mut self, now: Time, transfer: TransferId, class: Class) {
        self.link.set_class(now, transfer, class);
    }

    fn break_off(&mut self, now: Time, transfer: TransferId) -> u64 {
        self.link.break_off(now, transfer)
    }

    fn pace(&mut self, now: Time, source: SourceId, staging_bytes_per_s: f64) {
        self.link.pace(now, source, staging_bytes_per_s);
    }

    fn sample(&mut self, now: Time) -> HostSample {
        self.use_processors(now);
        let cpus = self.script.workers;
        let whole = now.since(Time::ZERO).times(f64::from(cpus));
        let cpu_idle = Span::from_us(whole.as_us().saturating_sub(self.used.1.as_us()));
        HostSample { cpus, cpu_busy: self.used.1, cpu_idle, ..HostSample::default() }
    }

    fn is_spent(&self) -> bool {
        self.next_submit >= self.script.submits.len()
    }
}
