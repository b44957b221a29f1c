//! Recurring tasks: the next occurrence of each always stands in the queue as a delayed task.
//!
//! So it is durable, it is listed, it can be cancelled (that one is left out then), and it is part of the plan:
//! its inputs are staged before it fires. When its time comes it is queued like any other, and the next one
//! takes its place.

use super::core::Dispatch;
use super::step::{Change, NotPossible, Step, SubmitError};
use crate::flow::{Ending, Map, Skipped, TaskId};
use crate::task::{CatchUp, Overlap, Recurring, State, Task};
use crate::time::{Span, Time};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most recurring tasks.
pub const RECURRING_LIMIT: usize = 1_000;
/// Most missed occurrences of one that are caught up with at once.
pub const CATCH_UP_LIMIT: usize = 100;
/// Later than this an occurrence counts as missed; a busy daemon is not down.
const GRACE: Span = Span::from_secs(60);
/// How soon an occurrence is tried again that the queue did not take in.
const AGAIN: Span = Span::from_secs(1);

/// A recurring task as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct RecurringView {
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub recurring: Recurring,
    /// The occurrence that waits for its time, and when that is.
    pub next: Option<(TaskId, Time)>,
    /// The last one that was queued.
    pub last: Option<TaskId>,
}

#[derive(Debug)]
struct Entry {
    recurring: Recurring,
    next: Option<(TaskId, Time)>,
    last: Option<TaskId>,
    /// The next occurrence fires after this; it is arranged no earlier than `not_before`.
    after: Time,
    not_before: Time,
}

/// All recurring tasks, by name.
#[derive(Debug, Default)]
pub struct Recurrings {
    all: BTreeMap<Arc<str>, Entry>,
    /// Which occurrence is whose, of those that wait.
    waiting: Map<TaskId, Arc<str>>,
}

impl Dispatch {
    /// Sets a recurring task, or replaces the one of that name.
    ///
    /// # Errors
    /// If its schedule is none, its submit would be refused, or there are too many.
    pub fn set_recurring(
        &mut self,
        now: Time,
        name: &str,
        recurring: Recurring,
    ) -> Result<Step, SubmitError> {
        if !self.recurrings.all.contains_key(name) && self.recurrings.all.len() >= RECURRING_LIMIT {
            return Err(SubmitError::TooManyRecurring { limit: RECURRING_LIMIT });
        }
        recurring.next(now)?;
        recurring.submit.clone().resolve(TaskId(self.next_id), now, &self.catalogue, &self.places)?;
        let mut step = Step::default();
        self.withdraw(now, name, &mut step);
        let name: Arc<str> = name.into();
        step.changes
            .push(Change::RecurringSet { name: name.clone(), recurring: Some(Box::new(recurring.clone())) });
        self.restore_recurring(&name, recurring, now);
        self.arrange(now, &name, &mut step);
        self.place_all(now, &mut step);
        Ok(step)
    }

    /// Removes a recurring task; the occurrence that waits is cancelled, one that is queued or runs goes on.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn remove_recurring(&mut self, now: Time, name: &str) -> Result<Step, NotPossible> {
        if !self.recurrings.all.contains_key(name) {
            return Err(NotPossible::NoRecurring { name: name.to_owned() });
        }
        let mut step = Step::default();
        self.withdraw(now, name, &mut step);
        self.recurrings.all.remove(name);
        step.changes.push(Change::RecurringSet { name: name.into(), recurring: None });
        Ok(step)
    }

    /// A recurring task as the record has it; before [`Dispatch::recover`]. Occurrences are looked for `after`.
    pub fn restore_recurring(&mut self, name: &str, recurring: Recurring, after: Time) {
        let last = self.recurrings.all.get(name).and_then(|e| e.last);
        let entry = Entry { recurring, next: None, last, after, not_before: Time::ZERO };
        self.recurrings.all.insert(name.into(), entry);
    }

    /// All recurring tasks, by name.
    pub fn recurring(&self) -> Vec<RecurringView> {
        let view = |(name, e): (&Arc<str>, &Entry)| RecurringView {
            name: name.clone(),
            recurring: e.recurring.clone(),
            next: e.next,
            last: e.last,
        };
        self.recurrings.all.iter().map(view).collect()
    }

    /// An unfinished occurrence was on record.
    pub(super) fn recover_occurrence(&mut self, task: &Task, state: State) {
        let Some(entry) = task.recurring.as_ref().and_then(|n| self.recurrings.all.get_mut(n)) else {
            return;
        };
        match (state, task.not_before) {
            (State::Delayed, Some(at)) if entry.next.is_none() => {
                entry.next = Some((task.id, at));
                self.recurrings.waiting.insert(task.id, task.recurring.clone().expect("just looked up"));
            }
            _ => entry.last = entry.last.max(Some(task.id)),
        }
    }

    /// Cancels the occurrence that waits.
    fn withdraw(&mut self, now: Time, name: &str, step: &mut Step) {
        let Some((id, _)) = self.recurrings.all.get_mut(name).and_then(|e| e.next.take()) else { return };
        self.recurrings.waiting.remove(&id);
        if self.tasks.contains_key(&id) {
            self.finish(now, id, State::Cancelled, Ending::Cancelled, None, step);
        }
    }

    /// Arranges what has no next occurrence; called with each tick.
    pub(super) fn arrange_all(&mut self, now: Time, step: &mut Step) {
        let lacks = |(_, e): &(&Arc<str>, &Entry)| e.next.is_none() && e.not_before <= now;
        let names: Vec<Arc<str>> =
            self.recurrings.all.iter().filter(lacks).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.arrange(now, &name, step);
        }
    }

    /// Puts the next occurrence into the queue, and those that are due by now.
    fn arrange(&mut self, now: Time, name: &Arc<str>, step: &mut Step) {
        for caught_up in 0.. {
            let Some(entry) = self.recurrings.all.get_mut(name) else { return };
            if caught_up >= CATCH_UP_LIMIT {
                entry.after = entry.after.max(now);
            }
            let Ok(at) = entry.recurring.next(entry.after) else {
                // It was checked when it was set: it fires no more.
                entry.not_before = Time::MAX;
                return;
            };
            let mut submit = entry.recurring.submit.clone();
            submit.not_before = Some(at);
            submit.deadline = entry.recurring.deadline.map(|d| at + d);
            submit.recurring = Some(name.to_string());
            let id = match self.accept(now, submit, step) {
                Ok(submitted) => submitted.task,
                Err(error) => {
                    // The queue is full or the daemon drains: later, and without losing the occurrence.
                    tracing::debug!(recurring = &**name, %error, "an occurrence was not taken in");
                    let entry = self.recurrings.all.get_mut(name).expect("it was there a moment ago");
                    entry.not_before = now + AGAIN;
                    return;
                }
            };
            let entry = self.recurrings.all.get_mut(name).expect("it was there a moment ago");
            entry.next = Some((id, at));
            self.recurrings.waiting.insert(id, name.clone());
            if at > now {
                return;
            }
            self.fired(now, id, step);
        }
    }

    /// An occurrence's time has come and it is queued: it runs, or is left out; the next one is arranged later.
    pub(super) fn fired(&mut self, now: Time, id: TaskId, step: &mut Step) {
        let Some(name) = self.recurrings.waiting.remove(&id) else { return };
        let Some(entry) = self.recurrings.all.get_mut(&name) else { return };
        let at = entry.next.take().map_or(now, |(_, at)| at);
        let missed = now.since(at) > GRACE;
        entry.after = if entry.recurring.catch_up == CatchUp::All { at } else { at.max(now) };
        let overlaps = entry.recurring.overlap == Overlap::Skip
            && entry.last.is_some_and(|last| last != id && self.tasks.contains_key(&last));
        let skipped = match (missed && entry.recurring.catch_up == CatchUp::None, overlaps) {
            (true, _) => Some(Skipped::Missed),
            (_, true) => Some(Skipped::Overlap),
            _ => None,
        };
        match skipped {
            Some(reason) => self.finish(now, id, State::Cancelled, Ending::Skipped { reason }, None, step),
            None => entry.last = Some(id),
        }
    }

    /// A task ended: if it was an occurrence that waited, somebody left it out, and the next one is arranged.
    pub(super) fn occurrence_ended(&mut self, id: TaskId) {
        let Some(name) = self.recurrings.waiting.remove(&id) else { return };
        if let Some(entry) = self.recurrings.all.get_mut(&name)
            && let Some((_, at)) = entry.next.take_if(|(next, _)| *next == id)
        {
            entry.after = at;
        }
    }
}
