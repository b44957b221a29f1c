//! What the rooms of a replayed house tell each other. Requests and replies are both letters.

use super::world::{Brought, TransferId};
use crate::flow::{
    Arrived, CacheId, Ending, Heat, ObjectName, Outcome, Plan, Standings, TaskId, Token, Usage, WorkerId,
    Writing,
};
use crate::message::{
    Assign, Cached, Declined, Expect, Foreseen, Held, Lesson, NotReady, PoolFill, Proposed, Purpose, Ready,
    Transferred, Unforeseen,
};
use crate::prefetch::agenda::Needs;
use crate::prefetch::flights::{FlightId, Key, Waiter};
use crate::prefetch::source::Error;
use crate::task::Submit;
use crate::worker::roster_actor::Profiled;
use std::sync::Arc;

/// An attempt: its task, and which one it is.
pub(super) type AttemptKey = (TaskId, u32);

/// Who has a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Seat {
    Dispatch,
    Worker(WorkerId),
    Attempt(AttemptKey),
    Cache(CacheId),
    Prefetch,
    Supply(u64),
    Carrier(FlightId),
    Predict,
    Objects,
    Monitor,
    Roster,
    Courier(u64),
}

/// A message to a seat.
pub(super) enum Letter {
    Dispatch(ToDispatch),
    Worker(WorkerId, ToWorker),
    Attempt(AttemptKey, ToAttempt),
    Cache(CacheId, ToCache),
    Prefetch(ToPrefetch),
    /// The future that gathers an attempt's inputs.
    Supply(u64, ToSupply),
    /// The future that carries one transfer.
    Carrier(FlightId, ToCarrier),
    Predict(ToPredict),
    Objects(ToObjects),
    Monitor(ToMonitor),
    Roster(ToRoster),
    /// A small future that does nothing but pass something on: first it only gets its place in the line.
    Courier(u64, Option<Box<Letter>>),
}

impl Letter {
    pub(super) fn seat(&self) -> Seat {
        match self {
            Letter::Dispatch(_) => Seat::Dispatch,
            Letter::Worker(w, _) => Seat::Worker(*w),
            Letter::Attempt(a, _) => Seat::Attempt(*a),
            Letter::Cache(c, _) => Seat::Cache(*c),
            Letter::Prefetch(_) => Seat::Prefetch,
            Letter::Supply(s, _) => Seat::Supply(*s),
            Letter::Carrier(f, _) => Seat::Carrier(*f),
            Letter::Predict(_) => Seat::Predict,
            Letter::Objects(_) => Seat::Objects,
            Letter::Monitor(_) => Seat::Monitor,
            Letter::Roster(_) => Seat::Roster,
            Letter::Courier(n, _) => Seat::Courier(*n),
        }
    }
}

pub(super) enum ToDispatch {
    Submit(Vec<Submit>),
    Ended(Outcome),
    Cached(Cached),
    Heated(Heat),
    Stand(Standings),
    Tick,
}

pub(super) enum ToWorker {
    Assign(Assign),
    Stop(TaskId, Token),
    Learned(Arc<Vec<Lesson>>),
    /// An attempt's slot is free again; the attempt is told.
    Freed(AttemptKey),
}

pub(super) enum ToAttempt {
    Go,
    Pinned(Vec<Option<Held>>),
    Supplied(Result<Vec<Ready>, NotReady>),
    Exited(Ending, Usage),
    Unpinned,
    Freed,
    Stop,
}

pub(super) enum ToCache {
    Pin(AttemptKey, Vec<ObjectName>),
    Hold { courier: u64, object: ObjectName, supply: u64, waiter: Waiter, joined: bool, staged: bool },
    Unpin(Vec<u64>, Unpinner),
    Reserve { flight: FlightId, object: ObjectName, bytes: u64, purpose: Purpose },
    Commit { flight: FlightId, file: u64, object: ObjectName, bytes: u64 },
    Abandon { flight: FlightId, file: u64 },
    Raise { flight: FlightId, file: u64 },
    Expect { courier: u64, expect: Expect },
    Rank(Needs),
    Discard(Vec<ObjectName>),
}

/// Who waits for pins to be given back.
pub(super) enum Unpinner {
    Attempt(AttemptKey),
    Supply(u64),
    Nobody,
}

pub(super) enum ToPrefetch {
    Demand { attempt: AttemptKey, cache: CacheId, worker: WorkerId, inputs: Vec<(ObjectName, Option<Held>)> },
    Ended { flight: FlightId, key: Key, landing: Landing, ending: crate::prefetch::flights::Ending },
    Writing(Writing),
    Plan(Plan),
    Arrived(Vec<Arrived>),
    Foreseen(Foreseen),
    Proposed(Proposed),
    Cached(Cached),
    Learned(Arc<Vec<Lesson>>),
    Heated(Heat),
    Tick,
}

/// Where a transfer has left its object.
#[derive(Clone)]
pub(super) enum Landing {
    Pool(Held),
    Private(u64),
    Nowhere,
}

/// What one input of a supply has come to.
pub(super) enum Landed {
    Pool { held: Held, joined: bool, staged: bool },
    Private { bytes: u64, joined: bool },
    Failed(String),
}

pub(super) enum ToSupply {
    Go,
    Landed(Waiter, Landed),
    /// An object that is being written was read past the pool.
    Past(TransferId, Result<Brought, Error>),
    Unpinned,
}

pub(super) enum ToCarrier {
    Go,
    Reserved(Result<u64, String>),
    Moved(Result<Brought, Error>),
    Committed(Result<Held, String>),
    Abandoned,
    Raised,
    /// It was stopped or raised while its bytes came.
    Steered,
}

pub(super) enum ToPredict {
    Arrived(Vec<Arrived>),
    Learned(Arc<Vec<Lesson>>),
    Heated(Heat),
    Stand(Standings),
}

pub(super) enum ToObjects {
    Unforeseen(Unforeseen),
    Declined(Declined),
    Cached(Cached),
    Filled(CacheId, PoolFill),
}

pub(super) enum ToMonitor {
    Learned(Arc<Vec<Lesson>>),
    Transferred(Transferred),
    Tick,
}

pub(super) enum ToRoster {
    Profiled(Profiled),
    Tick,
}
