//! After a restart: the queue as the record has it.

use super::core::{Dispatch, first_state};
use super::facts::worth_another;
use super::step::{Action, Change, Step};
use crate::flow::{Decided, Decision, Ending, TaskId, TypeId};
use crate::task::{Priority, State, Task};
use crate::time::Time;
use std::collections::BTreeSet;
use std::sync::Arc;

/// An unfinished task, as it was on record.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The task.
    pub task: Arc<Task>,
    /// Where it stood.
    pub state: State,
    /// How many attempts it had.
    pub attempts: u32,
    /// Its class now.
    pub priority: Priority,
    /// When it may start.
    pub not_before: Option<Time>,
}

impl Dispatch {
    /// Takes over what the record holds: finished tasks (for `after` and keys) and unfinished ones.
    ///
    /// `next` is the number of the next task and of the next outcome. Attempts that ran when the daemon went away are lost: the caller has made sure that no process of
    /// theirs is alive. Call it once, on an empty queue, before anything else.
    pub fn recover(
        &mut self,
        now: Time,
        next: (u64, u64),
        ended: impl Iterator<Item = (TaskId, State)>,
        keys: impl Iterator<Item = (TypeId, Arc<str>, TaskId)>,
        live: Vec<Recovered>,
    ) -> Step {
        self.next_id = self.next_id.max(next.0);
        self.next_seq = self.next_seq.max(next.1);
        self.ended.extend(ended);
        self.tasks.reserve(live.len());
        let known: BTreeSet<TaskId> = live.iter().map(|r| r.task.id).collect();
        for (task_type, key, id) in keys {
            // Where a key was used again, the newest task has it.
            let place = self.key_of(task_type, &key);
            let newest = self.keys.entry(place).or_insert(id);
            *newest = id.max(*newest);
            if !known.contains(&id) {
                self.key_ended(now, id, task_type, &key);
            }
        }
        let mut step = Step::default();
        let mut broken = Vec::new();
        for r in live {
            self.recover_occurrence(&r.task, r.state);
            self.next_id = self.next_id.max(r.task.id.0 + 1);
            // What is neither live nor ended is past retention, and only ended tasks get there.
            let waiting_on: BTreeSet<TaskId> =
                r.task.after.iter().copied().filter(|t| known.contains(t)).collect();
            let failed = |t: &&TaskId| matches!(self.ended.get(t), Some(State::Failed | State::Cancelled));
            if let Some(task) = r.task.after.iter().find(failed) {
                broken.push((r.task.id, *task));
            }
            self.recover_one(now, r, waiting_on, &mut step);
        }
        for (id, task) in broken {
            if self.tasks.contains_key(&id) {
                self.finish(now, id, State::Failed, Ending::DependencyFailed { task }, None, &mut step);
            }
        }
        step
    }

    fn recover_one(&mut self, now: Time, r: Recovered, waiting_on: BTreeSet<TaskId>, step: &mut Step) {
        let id = r.task.id;
        let was_running = r.state == State::Running;
        let again = worth_another(&Ending::Lost, r.attempts, self.catalogue.get(r.task.task_type));
        let state = first_state(&waiting_on, r.not_before, now);
        // More groups than there may be were made by an older configuration: those beyond share the nameless one.
        let group = self.groups.find_or_add(r.task.group.as_deref().unwrap_or("")).unwrap_or_default();
        self.insert(r.task, group, state, r.attempts, now, waiting_on, Some((r.priority, r.not_before)));
        if !was_running {
            return;
        }
        step.actions.push(Action::Decided(Decision {
            at: now,
            what: Decided::Ended { task: id, attempt: r.attempts, ending: Ending::Lost, again },
        }));
        if again {
            let (attempts, ending) = (r.attempts, Ending::Lost);
            step.changes.push(Change::Again { task: id, attempts, not_before: now, ending });
        } else {
            self.finish(now, id, State::Failed, Ending::Lost, None, step);
        }
    }
}
