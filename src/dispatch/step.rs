//! What the core answers: changes that must be durable first, actions that may follow, and refusals.

use crate::flow::{Arrived, Decision, Ending, Factors, Outcome, TaskId, Token, TypeId, WorkerId, Writing};
use crate::task::{BadSchedule, Priority, Recurring, Refused, State, Task};
use crate::time::Time;
use std::sync::Arc;

/// What must be durable before the actions of the same [`Step`] are carried out.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A new task.
    Submitted {
        /// The task.
        task: Arc<Task>,
        /// Where it begins.
        state: State,
    },
    /// An attempt begins.
    Started {
        /// Which task.
        task: TaskId,
        /// Which attempt.
        token: Token,
        /// Who gets it.
        worker: WorkerId,
        /// When.
        at: Time,
    },
    /// An attempt ended and there will be another.
    Again {
        /// Which task.
        task: TaskId,
        /// How many attempts it had.
        attempts: u32,
        /// When the next may start.
        not_before: Time,
        /// How this one ended.
        ending: Ending,
    },
    /// The task has ended.
    Finished {
        /// Which task.
        task: TaskId,
        /// Its type.
        task_type: TypeId,
        /// The outcome's number: rises by one with each task that ends.
        seq: u64,
        /// Done, failed or cancelled.
        state: State,
        /// How many attempts it had.
        attempts: u32,
        /// When.
        at: Time,
        /// Why.
        ending: Ending,
        /// The last attempt, if one was started.
        outcome: Option<Arc<Outcome>>,
    },
    /// Its priority or delay was edited.
    Edited {
        /// Which task.
        task: TaskId,
        /// Its class now.
        priority: Priority,
        /// When it may start.
        not_before: Option<Time>,
    },
    /// A group was set; the default settings leave nothing on record.
    GroupSet {
        /// Which group.
        name: Arc<str>,
        /// What holds now.
        settings: super::GroupSettings,
    },
    /// A recurring task was set, or removed.
    RecurringSet {
        /// Its name.
        name: Arc<str>,
        /// What it is now.
        recurring: Option<Box<Recurring>>,
    },
    /// Finished tasks are past retention.
    Forgotten {
        /// Which tasks.
        tasks: Vec<TaskId>,
    },
    /// A failed or cancelled task is to be tried again.
    Reopened {
        /// Which task.
        task: TaskId,
        /// Where it begins again.
        state: State,
    },
}

/// What is to be done once the changes are durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Give an attempt to its worker.
    Assign {
        /// To whom.
        worker: WorkerId,
        /// What.
        task: Arc<Task>,
        /// Which attempt.
        token: Token,
        /// Why there.
        factors: Factors,
    },
    /// End an attempt: its whole process group.
    Stop {
        /// Whose.
        worker: WorkerId,
        /// Which task.
        task: TaskId,
        /// Which attempt.
        token: Token,
    },
    /// Tell those who look ahead.
    Arrived(Arrived),
    /// Tell who guards the caches.
    Writing(Writing),
    /// Tell those who learn.
    Learn {
        /// The attempt.
        outcome: Arc<Outcome>,
        /// The outcome's number if it was the task's last attempt: only those teach the predictor.
        seq: Option<u64>,
    },
    /// Tell who waits for it.
    Settled {
        /// Which task.
        task: TaskId,
        /// Where it ended.
        state: State,
    },
    /// Put into the diary.
    Decided(Decision),
}

/// Changes, then actions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// Durable first.
    pub changes: Vec<Change>,
    /// Carried out after that.
    pub actions: Vec<Action>,
}

/// The answer to a submit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The task.
    pub task: TaskId,
    /// Whether its key was known and this is the task that has it.
    pub existing: bool,
}

/// Why a submit was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// It is not what its type accepts.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The queue is full.
    #[error("{limit} tasks are waiting or running; try again when some have ended")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// Its group is full.
    #[error(
        "{limit} tasks of group {group} are waiting or running, which is its limit; try again when some have ended"
    )]
    GroupFull {
        /// Which group.
        group: String,
        /// Its limit.
        limit: u32,
    },
    /// It would make one more group.
    #[error(
        "{limit} groups have unfinished tasks or settings; use one of them, or try again when one is empty"
    )]
    TooManyGroups {
        /// The limit.
        limit: usize,
    },
    /// Its schedule is none.
    #[error(transparent)]
    Schedule(#[from] BadSchedule),
    /// There are too many recurring tasks.
    #[error("there are {limit} recurring tasks, which is the limit; remove one first")]
    TooManyRecurring {
        /// The limit.
        limit: usize,
    },
    /// The daemon is about to stop.
    #[error("the daemon is stopping and takes no new tasks")]
    Draining,
    /// It waits for a task that nobody knows.
    #[error("`after` names task {task}, which does not exist or is past retention")]
    UnknownDependency {
        /// Which.
        task: TaskId,
    },
}

/// Why something cannot be done to a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPossible {
    /// Nobody knows it.
    #[error("task {task} does not exist or is past retention")]
    Unknown {
        /// Which.
        task: TaskId,
    },
    /// There is no such recurring task.
    #[error("there is no recurring task `{name}`")]
    NoRecurring {
        /// The name.
        name: String,
    },
    /// There are too many groups.
    #[error("{limit} groups have unfinished tasks or settings; use one of them, or unset one first")]
    TooManyGroups {
        /// The limit.
        limit: usize,
    },
    /// It is in the wrong state.
    #[error("task {task} is {state}: {why}")]
    State {
        /// Which.
        task: TaskId,
        /// Where it stands.
        state: State,
        /// Which states would do.
        why: &'static str,
    },
}

/// What can be edited of a waiting task.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edit {
    /// Its class.
    pub priority: Option<Priority>,
    /// When it may start at the earliest.
    pub not_before: Option<Time>,
}
