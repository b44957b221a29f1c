//! Why a task waits, or why it was placed where it runs.

use super::core::Dispatch;
use super::score::{age, fit};
use crate::flow::{Factors, TaskId, Token, TypeId, WorkerId};
use crate::task::{Priority, State, Task, WaitingFor};
use crate::time::{Span, Time};
use std::sync::Arc;

/// An unfinished task with everything that people ask about it.
#[derive(Clone, Debug)]
pub struct Why {
    /// The task.
    pub task: Arc<Task>,
    /// Its class now.
    pub priority: Priority,
    /// Its group; empty if it has none.
    pub group: Arc<str>,
    /// Where it stands.
    pub state: State,
    /// Since when.
    pub since: Time,
    /// Attempts so far.
    pub attempts: u32,
    /// When it may start at the earliest.
    pub not_before: Option<Time>,
    /// What it waits for, if it waits.
    pub waiting_for: Option<WaitingFor>,
    /// Who has it, if somebody has.
    pub held_by: Option<(WorkerId, Token, Factors)>,
    /// How each worker that may run it would score now, best first; empty for a running task.
    pub candidates: Vec<Candidate>,
}

/// One worker's score for a waiting task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Which worker.
    pub worker: WorkerId,
    /// The factors.
    pub factors: Factors,
    /// Affinity × (1 − heat) × locality × age: what the policy `affinity` compares.
    pub score: f64,
    /// Free slots.
    pub free_slots: u32,
}

impl Dispatch {
    /// Everything about one unfinished task. With `candidates`, each worker's score is worked out too.
    pub fn why(&self, now: Time, id: TaskId, candidates: bool) -> Option<Why> {
        let e = self.tasks.get(&id)?;
        let state = e.life.state();
        Some(Why {
            task: e.task.clone(),
            priority: e.priority,
            group: self.groups.name(e.group).clone(),
            state,
            since: e.life.since(),
            attempts: e.life.attempts(),
            not_before: e.not_before,
            waiting_for: self.waiting_for(now, id),
            held_by: e.lease.as_ref().map(|l| (l.worker, l.token, l.factors)),
            candidates: if candidates && Dispatch::waits(state) {
                self.candidates(now.since(e.life.since()), &e.task)
            } else {
                vec![]
            },
        })
    }

    fn candidates(&self, waited: Span, task: &Task) -> Vec<Candidate> {
        let mut all: Vec<Candidate> = self
            .workers
            .iter()
            .filter(|w| self.runs(w.id, task.task_type))
            .map(|w| {
                let factors = self.factors(w.id, task);
                let score = fit(&factors) * age(waited, self.settings.ageing);
                Candidate { worker: w.id, factors, score, free_slots: self.admission.free_slots(w.id) }
            })
            .collect();
        all.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.worker.cmp(&b.worker)));
        all
    }

    /// What a task waits for; `None` if it runs or is not there.
    pub fn waiting_for(&self, now: Time, id: TaskId) -> Option<WaitingFor> {
        let e = self.tasks.get(&id)?;
        match e.life.state() {
            State::Blocked => e.waiting_on.first().map(|task| WaitingFor::Dependency { task: *task }),
            State::Delayed => e.not_before.map(|until| WaitingFor::Time { until }),
            State::Queued => Some(self.reason(now, &e.task, e.lane())),
            _ => None,
        }
    }

    /// Ready tasks by type, most first, at most `limit` types, with what the first of each waits for.
    pub fn waiting_lines(&self, now: Time, limit: usize) -> Vec<(TypeId, usize, WaitingFor)> {
        let mut lines: Vec<_> = self.queue.by_type().collect();
        lines.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        lines.truncate(limit);
        let reason = |(t, count, (_, id))| {
            let e = self.tasks.get(&id)?;
            Some((t, count, self.reason(now, &e.task, e.lane())))
        };
        lines.into_iter().filter_map(reason).collect()
    }

    /// Unfinished tasks that `keep` accepts, newest first, at most `limit`.
    pub fn newest(&self, limit: usize, keep: impl Fn(&Task, State) -> bool) -> Vec<TaskId> {
        let mut ids: Vec<TaskId> =
            self.tasks.values().filter(|e| keep(&e.task, e.life.state())).map(|e| e.task.id).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.truncate(limit);
        ids
    }

    /// How many unfinished tasks stand in each state: queued, delayed, blocked, running.
    pub fn counts(&self) -> [(State, usize); 4] {
        let queued = self.queue.ready_len();
        let delayed = self.queue.delayed_len();
        let running = self.running();
        let blocked = self.tasks.len() - queued - delayed - running;
        [
            (State::Queued, queued),
            (State::Delayed, delayed),
            (State::Blocked, blocked),
            (State::Running, running),
        ]
    }

    /// How many tasks are unfinished, of one group or all.
    pub fn unfinished(&self, group: Option<&str>) -> usize {
        match group {
            None => self.tasks.len(),
            Some(name) => self.groups.find(name).map_or(0, |g| self.groups.unfinished(g) as usize),
        }
    }

    /// How many unfinished tasks do not run.
    pub fn waiting(&self) -> usize {
        self.tasks.len() - self.running()
    }

    /// The state of a task, finished ones within retention too.
    pub fn state(&self, id: TaskId) -> Option<State> {
        self.tasks.get(&id).map(|e| e.life.state()).or_else(|| self.ended.get(&id).copied())
    }

    /// What a worker runs now, and since when it has it.
    pub fn running_at(&self, worker: WorkerId) -> impl Iterator<Item = (Arc<Task>, Option<Time>)> {
        let held = self.held.get(usize::from(worker.0)).into_iter().flatten();
        held.filter_map(|id| {
            let entry = self.tasks.get(id)?;
            Some((entry.task.clone(), entry.lease.as_ref().map(|l| l.since)))
        })
    }
}
