//! The life cycle of a task.
//!
//! ```text
//!              ┌─────────┐ time comes            ┌──────┐
//!   submit ──▶ │ delayed │ ─────────┐        ┌──▶│ done │
//!     │        └─────────┘          ▼        │   └──────┘
//!     │           ▲  back-off   ┌────────┐ start ┌─────────┐   ┌────────┐
//!     ├───────────┼────────────▶│ queued │──────▶│ running │──▶│ failed │
//!     │           └─────────────┤        │◀──────┤         │   └────────┘
//!     │        ┌─────────┐      └────────┘ lost, └─────────┘   ┌───────────┐
//!     └──────▶ │ blocked │ ─────────▲       retry     └───────▶│ cancelled │
//!              └─────────┘ dependencies done                   └───────────┘
//! ```
//! Delayed, blocked and queued tasks can be cancelled too; a blocked task fails when what it waits for
//! fails. `retry` puts a failed or cancelled task back to the start with its full number of attempts.

use crate::flow::{ObjectName, TaskId, WorkerId};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Where a task stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Ready; waits for a worker.
    Queued,
    /// Waits for a moment.
    Delayed,
    /// Waits for other tasks.
    Blocked,
    /// A worker has it.
    Running,
    /// Ended well.
    Done,
    /// Ended badly, and no attempt is left.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

impl State {
    /// Whether nothing happens to it any more.
    pub fn is_final(self) -> bool {
        matches!(self, State::Done | State::Failed | State::Cancelled)
    }

    /// Whether a task may go from `self` to `next`.
    pub fn may_become(self, next: State) -> bool {
        use State::{Blocked, Cancelled, Delayed, Done, Failed, Queued, Running};
        match self {
            Queued => matches!(next, Running | Cancelled | Delayed | Failed),
            Delayed => matches!(next, Queued | Cancelled | Delayed | Failed),
            Blocked => matches!(next, Queued | Delayed | Cancelled | Failed),
            Running => matches!(next, Queued | Delayed | Done | Failed | Cancelled),
            Failed | Cancelled => matches!(next, Queued | Delayed | Blocked),
            Done => false,
        }
    }

    /// All states in the order in which a task may meet them.
    pub const ALL: [State; 7] = [
        State::Queued,
        State::Delayed,
        State::Blocked,
        State::Running,
        State::Done,
        State::Failed,
        State::Cancelled,
    ];

    /// The name, as people and programs read it.
    pub fn name(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Delayed => "delayed",
            State::Blocked => "blocked",
            State::Running => "running",
            State::Done => "done",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
        }
    }

    /// The state of a name.
    pub fn from_name(name: &str) -> Option<State> {
        State::ALL.into_iter().find(|s| s.name() == name)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What an unfinished task waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "waiting_for")]
pub enum WaitingFor {
    /// A free slot of a worker that may run its type.
    Slot,
    /// No configured worker runs its type.
    Worker,
    /// Others of its type have to end first.
    Limit {
        /// The type's concurrency limit.
        limit: u32,
    },
    /// Other tasks.
    Dependency {
        /// The first of them that is not done.
        task: TaskId,
    },
    /// A moment: its delay, or the back-off after a failed attempt.
    Time {
        /// When it comes.
        until: Time,
    },
    /// An input, at the worker that has it.
    Data {
        /// Which object.
        object: ObjectName,
    },
    /// Memory that running tasks are expected to need.
    Memory {
        /// What it is expected to need, bytes.
        needed_bytes: u64,
        /// What is not spoken for, bytes.
        free_bytes: u64,
    },
    /// Somebody paused the queue, or the daemon is draining.
    Paused,
    /// Somebody paused its group.
    PausedGroup {
        /// Which group.
        group: Arc<str>,
    },
    /// As many of its type have started as may in a time.
    Rate {
        /// When the next may.
        until: Time,
    },
    /// A clearly better worker that is about to be free.
    Better {
        /// Which worker.
        worker: WorkerId,
    },
}

impl fmt::Display for WaitingFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitingFor::Slot => f.write_str("slot"),
            WaitingFor::Worker => f.write_str("worker that runs this type"),
            WaitingFor::Limit { limit } => write!(f, "limit of {limit} at once"),
            WaitingFor::Dependency { task } => write!(f, "task {task}"),
            WaitingFor::Time { .. } => f.write_str("time"),
            WaitingFor::Data { object } => write!(f, "data {object}"),
            WaitingFor::Memory { .. } => f.write_str("memory"),
            WaitingFor::Paused => f.write_str("resume"),
            WaitingFor::PausedGroup { group } => write!(f, "resume of group {group}"),
            WaitingFor::Rate { .. } => f.write_str("the rate limit of its type"),
            WaitingFor::Better { worker } => write!(f, "better worker {worker}"),
        }
    }
}

/// A move that the life cycle does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a task that is {from} cannot become {to}")]
pub struct IllegalMove {
    /// Where it stands.
    pub from: State,
    /// Where it was to go.
    pub to: State,
}

/// The changing part of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    state: State,
    attempts: u32,
    /// How many of them belong to an earlier life, before somebody asked for a retry.
    earlier: u32,
    since: Time,
}

impl Life {
    /// Of a new task.
    ///
    /// # Panics
    /// If a new task cannot be in `state`.
    pub fn new(state: State, now: Time) -> Life {
        assert!(
            matches!(state, State::Queued | State::Delayed | State::Blocked),
            "a new task is not {state}"
        );
        Life { state, attempts: 0, earlier: 0, since: now }
    }

    /// Of a task that was on record.
    pub fn recovered(state: State, attempts: u32, since: Time) -> Life {
        Life { state, attempts, earlier: 0, since }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// How many attempts were started, ever: it is part of the fencing token, so it never goes back.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How many attempts were started since the submit or the last `retry`: what the type's limit counts.
    pub fn attempts_in_row(&self) -> u32 {
        self.attempts - self.earlier
    }

    /// Gives a task that was read back for a `retry` its full number of attempts again.
    pub fn renew(&mut self) {
        self.earlier = self.attempts;
    }

    /// The attempt that was started last does not count: it was given back undone.
    pub fn forgive(&mut self) {
        self.earlier = (self.earlier + 1).min(self.attempts);
    }

    /// Since when it stands there.
    pub fn since(&self) -> Time {
        self.since
    }

    /// Moves on.
    ///
    /// # Errors
    /// If the life cycle has no such move; nothing changes then.
    pub fn go(&mut self, to: State, now: Time) -> Result<(), IllegalMove> {
        if !self.state.may_become(to) {
            return Err(IllegalMove { from: self.state, to });
        }
        if to == State::Running {
            self.attempts += 1;
        }
        if self.state.is_final() {
            self.renew();
        }
        self.state = to;
        self.since = now;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn done_is_the_end() {
        assert!(State::ALL.into_iter().all(|s| !State::Done.may_become(s)));
    }

    #[test]
    fn every_state_can_be_reached_and_left_for_an_end() {
        for s in State::ALL.into_iter().skip(1).filter(|s| *s != State::Blocked) {
            assert!(State::ALL.into_iter().any(|from| from.may_become(s)), "{s} is never reached");
        }
        for s in State::ALL.into_iter().filter(|s| !s.is_final()) {
            assert!(s.may_become(State::Cancelled), "{s} cannot be cancelled");
        }
    }

    #[test]
    fn an_illegal_move_changes_nothing() {
        let mut life = Life::new(State::Queued, Time::ZERO);
        life.go(State::Running, Time::from_us(1)).unwrap();
        life.go(State::Done, Time::from_us(2)).unwrap();
        let before = life.clone();
        let error = life.go(State::Running, Time::from_us(3)).unwrap_err();
        assert_eq!(error.to_string(), "a task that is done cannot become running");
        assert_eq!(life, before);
    }

    #[test]
    fn attempts_never_go_back_but_a_retry_begins_a_new_row() {
        let mut life = Life::new(State::Queued, Time::ZERO);
        for (to, attempts, in_row) in [
            (State::Running, 1, 1),
            (State::Queued, 1, 1),
            (State::Running, 2, 2),
            (State::Failed, 2, 2),
            (State::Queued, 2, 0),
            (State::Running, 3, 1),
        ] {
            life.go(to, Time::ZERO).unwrap();
            assert_eq!((life.attempts(), life.attempts_in_row()), (attempts, in_row), "after {to}");
        }
    }

    #[test]
    fn names_read_back() {
        for s in State::ALL {
            assert_eq!(State::from_name(s.name()), Some(s));
        }
    }
}
