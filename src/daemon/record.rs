//! Between dispatch and the record: what dispatch decided, as rows; what the record holds, as tasks.

use super::crew::Roll;
use super::kept::Kept;
use crate::dispatch::{self, Recovered};
use crate::flow::{Outcome, TaskId, TypeId, WorkerId};
use crate::store::{self, Done, DoneState, Live, LiveState, Loaded, TaskRow};
use crate::task::{Catalogue, Places, Recorded, Recurring, State, Task};
use bytes::Bytes;
use std::sync::Arc;

/// Names for rows.
#[derive(Clone)]
pub struct Names {
    /// Task types.
    pub catalogue: Arc<Catalogue>,
    /// Workers, by index.
    pub workers: Arc<Roll>,
}

impl Names {
    fn worker(&self, id: WorkerId) -> Arc<str> {
        self.workers.name(id).unwrap_or_else(|| id.to_string().into())
    }

    /// A worker's index by its name.
    pub fn worker_id(&self, name: &str) -> Option<WorkerId> {
        self.workers.id(name)
    }

    /// A change as rows.
    pub fn rows(&self, change: dispatch::Change) -> store::Change {
        use dispatch::Change;
        match change {
            Change::Submitted { task, state } => {
                let mut live = Live::new(task.id, live_state(state));
                live.not_before = task.not_before;
                store::Change::Submit(self.row(&task), live)
            }
            Change::Started { task, token, worker, at } => {
                store::Change::Started { id: task, token, worker: self.worker(worker), at }
            }
            Change::Again { task, not_before, ending, .. } => store::Change::Requeue {
                id: task,
                state: LiveState::Delayed,
                not_before: Some(not_before),
                note: Some(ending.to_string().into()),
            },
            Change::Finished { task, task_type, seq, state, attempts, at, ending, outcome } => {
                let kept = Kept::new(&ending, outcome.as_deref(), |w| self.worker(w).to_string());
                store::Change::Finished(Done {
                    id: task,
                    seq,
                    type_name: self.type_name(task_type),
                    state: done_state(state),
                    ended: at,
                    attempts,
                    outcome: Bytes::from(kept.to_bytes()),
                })
            }
            Change::Edited { task, priority, not_before } => {
                store::Change::Edit { id: task, priority: Some(priority), not_before: Some(not_before) }
            }
            Change::GroupSet { name, settings } => {
                let body = (settings != dispatch::GroupSettings::default())
                    .then(|| Bytes::from(serde_json::to_vec(&settings).expect("numbers become JSON")));
                store::Change::Keep { kind: store::Kind::Group, name, body }
            }
            Change::RecurringSet { name, recurring } => {
                let json = |r: Recurring| serde_json::to_vec(&r).expect("maps with text keys become JSON");
                let body = recurring.map(|r| Bytes::from(json(*r)));
                store::Change::Keep { kind: store::Kind::Recurring, name, body }
            }
            Change::Forgotten { tasks } => store::Change::Forget { ids: tasks },
            Change::Reopened { task, state } => {
                store::Change::Reopen { id: task, state: live_state(state), reset_attempts: false }
            }
        }
    }

    fn type_name(&self, id: TypeId) -> Arc<str> {
        self.catalogue.name(id).into()
    }

    fn row(&self, task: &Task) -> TaskRow {
        TaskRow {
            id: task.id,
            type_name: self.type_name(task.task_type),
            priority: task.priority,
            key: task.key.clone(),
            submitted: task.submitted,
            body: Bytes::from(task.to_body()),
        }
    }

    /// A task as the record has it; `Err` says why it cannot be used now.
    pub fn task(&self, row: &TaskRow, places: &Places) -> Result<Task, String> {
        let task_type = self
            .catalogue
            .find(&row.type_name)
            .ok_or_else(|| format!("its type `{}` is not configured any more", row.type_name))?;
        let recorded = Recorded {
            id: row.id,
            task_type,
            priority: row.priority,
            key: row.key.clone(),
            submitted: row.submitted,
        };
        Task::from_body(recorded, &row.body, places).map_err(|e| format!("its body cannot be read: {e}"))
    }

    /// A finished task's last attempt, for those who learn.
    pub fn outcome(&self, done: &Done) -> Option<Outcome> {
        let task_type = self.catalogue.find(&done.type_name)?;
        Kept::from_bytes(&done.outcome).ok()?.outcome(done.id, task_type, |w| self.worker_id(w))
    }
}

/// What a start found in the record.
#[derive(Default)]
pub struct Found {
    /// Unfinished tasks.
    pub live: Vec<Recovered>,
    /// Keys of finished tasks.
    pub keys: Vec<(TypeId, Arc<str>, TaskId)>,
    /// What was set of groups.
    pub groups: Vec<(Arc<str>, dispatch::GroupSettings)>,
    /// Recurring tasks.
    pub recurring: Vec<(Arc<str>, Recurring)>,
    /// Unfinished tasks that cannot be used now, with the reason; they stay on record untouched.
    pub set_aside: Vec<(TaskId, String)>,
}

impl Found {
    /// Takes one item in.
    pub fn take(&mut self, item: Loaded, names: &Names, places: &Places) {
        match item {
            Loaded::Task(row, live) => match names.task(&row, places) {
                Ok(task) => {
                    if let Some(key) = &task.key {
                        self.keys.push((task.task_type, key.clone(), task.id));
                    }
                    self.live.push(Recovered {
                        priority: row.priority,
                        task: Arc::new(task),
                        state: state_of_live(live.state),
                        attempts: live.attempt,
                        not_before: live.not_before,
                    });
                }
                Err(why) => self.set_aside.push((row.id, why)),
            },
            Loaded::Kept { kind: store::Kind::Group, name, body } => match serde_json::from_slice(&body) {
                Ok(settings) => self.groups.push((name, settings)),
                Err(error) => {
                    tracing::error!(group = &*name, %error, "the settings of a group cannot be read")
                }
            },
            Loaded::Kept { kind: store::Kind::Recurring, name, body } => {
                match serde_json::from_slice(&body) {
                    Ok(recurring) => self.recurring.push((name, recurring)),
                    Err(error) => {
                        tracing::error!(recurring = &*name, %error, "a recurring task cannot be read")
                    }
                }
            }
            Loaded::FinishedKey { id, type_name, key } => {
                if let Some(t) = names.catalogue.find(&type_name) {
                    self.keys.push((t, key, id));
                }
            }
        }
    }
}

fn live_state(state: State) -> LiveState {
    match state {
        State::Delayed => LiveState::Delayed,
        State::Blocked => LiveState::Blocked,
        State::Running => LiveState::Running,
        _ => LiveState::Queued,
    }
}

/// The life cycle's word for a row's state.
pub fn state_of_live(state: LiveState) -> State {
    match state {
        LiveState::Queued => State::Queued,
        LiveState::Delayed => State::Delayed,
        LiveState::Blocked => State::Blocked,
        LiveState::Running => State::Running,
    }
}

/// The life cycle's word for a row's end.
pub fn state_of_done(state: DoneState) -> State {
    match state {
        DoneState::Done => State::Done,
        DoneState::Failed => State::Failed,
        DoneState::Cancelled => State::Cancelled,
    }
}

fn done_state(state: State) -> DoneState {
    match state {
        State::Done => DoneState::Done,
        State::Cancelled => DoneState::Cancelled,
        _ => DoneState::Failed,
    }
}
