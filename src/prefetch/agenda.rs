//! The agenda: what is to be staged where and by when, what is called off, and what came of it.
//!
//! A pure core. Facts come in as they happen; [`Agenda::attend`] says what follows from them. Nearest need
//! first; nothing is staged that a running task writes; in `observe` every decision is made and recorded, with
//! the time at which it would have been ready, and no byte is moved.

pub use super::candidate::{Derived, Knowledge, Learned};

use super::candidate::{Candidate, Candidates};
use super::control::{Trial, is_control};
use super::flights::{Answer, Class, Key};
use super::gate::{Pace, Worth};
use super::governor::{Branch, Governor, HARMFUL, Switch, WASTED};
use super::ledger::{Account, Ledger};
use super::sizes::Sizes;
use crate::flow::{
    Arrived, CacheId, CellId, Decided, Decision, Found, Heat, InputUse, Map, ObjectName, Outcome, Plan,
    TaskId, WorkerId,
};
use crate::message::{Cached, Purpose};
use crate::task::{Catalogue, Places};
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Staging transfers that are asked for and have not ended; the flight table starts as many as it may.
const ASKED: usize = 64;
/// What a pool had no room for is not tried again for this long. Needs come nearer and entries are used up all
/// the time: 2 s here cost .03 of the mean latency on the staging workload.
const DECLINED: Span = Span::from_ms(300);
/// Refusals and proposals that are kept in mind.
const DECLINED_MAX: usize = 16_384;
const REJECTED_MAX: usize = 4_096;
/// While a cell or a disk is hot but not too hot, staging keeps at least this share of its transfers: with less
/// it brings nothing in time, and demand goes first in any case.
const SHARE_MIN: f64 = 1.0 / 3.0;
/// Decisions that `why` can look back on.
const REMEMBERED: usize = 8_192;
/// Objects that left for a staged one and are watched for being needed.
const WATCHED: usize = 65_536;

/// Weight of the newest staged object in the share of harmful ones.
const HARM_SMOOTHING: f64 = 0.02;

/// Whether data is staged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Yes.
    #[default]
    On,
    /// Decisions are made and recorded, and not one byte is moved.
    Observe,
    /// No.
    Off,
}

/// What the agenda is told once.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whether data is staged.
    pub mode: Mode,
    /// Nothing less probable is staged.
    pub least_p: f64,
    /// At and above this heat of a cell or worker nothing is staged from or to it.
    pub heat_max: f64,
    /// Most staging connections.
    pub connections: u16,
    /// Most bytes per second of all staging.
    pub bytes_per_s: Option<f64>,
    /// Share of the control group.
    pub control_share: f64,
    /// Seed of its draw.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            mode: Mode::On,
            least_p: 0.1,
            heat_max: 0.9,
            connections: 6,
            bytes_per_s: None,
            control_share: 0.02,
            seed: 1,
        }
    }
}

/// Objects of one pool with their need: when and how likely, or none any more.
pub type Needs = Vec<(ObjectName, Option<(Time, f64)>)>;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Fetch an object into a pool before it is needed.
    Stage {
        /// What and where.
        key: Key,
        /// When it is needed.
        due: Time,
    },
    /// A transfer that was asked for is needed at another time now.
    Postpone {
        /// Which.
        key: Key,
        /// When it is needed.
        due: Time,
    },
    /// A transfer is not worth it any more.
    CallOff {
        /// Which.
        key: Key,
    },
    /// What a pool's objects are needed for now: when and how likely, or not at all.
    Rank {
        /// The pool.
        cache: CacheId,
        /// Changes since the last one.
        needs: Needs,
    },
    /// What staging as a whole may use now.
    Budget {
        /// Zero pauses it, infinite is no limit.
        bytes_per_s: f64,
        /// Most connections.
        connections: u16,
    },
    /// For the diary.
    Decided(Decision),
}

/// One decision, for `why`.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    /// When.
    pub at: Time,
    /// About what.
    pub key: Key,
    /// What was known.
    pub candidate: Candidate,
    /// Both sides.
    pub worth: Worth,
    /// What was decided.
    pub verdict: Verdict,
    /// When it was there, or would have been.
    pub ready: Option<Time>,
}

/// What was decided of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Staged.
    Staged,
    /// Would have been staged (`observe`).
    Observed,
    /// Left out by the draw of the control group.
    Control,
    /// The governor has switched this type and source off: predicted, and not staged.
    Governed,
    /// Not worth it.
    NotWorthIt,
}

/// A transfer that was asked for, or an object that lies there unused.
#[derive(Clone, Debug)]
struct Staged {
    account: Account,
    due: Time,
    landed: Option<Time>,
    bytes: u64,
}

/// The agenda.
pub struct Agenda {
    settings: Settings,
    places: Arc<Places>,
    catalogue: Arc<Catalogue>,
    candidates: Candidates,
    dirty: BTreeSet<Key>,
    present: BTreeMap<CacheId, Map<ObjectName, u64>>,
    /// Asked for and on its way.
    asked: Map<Key, Staged>,
    /// There, and not used yet.
    unused: Map<Key, Staged>,
    /// Predicted and left out: controls, or everything in `observe` (with when it would have been ready).
    left_out: Map<Key, (Staged, Verdict)>,
    declined: Map<Key, Time>,
    written: Map<ObjectName, u32>,
    /// What left the pool unused for a nearer need: fetched again only once a newer forecast or a plan names it,
    /// else two needs would take turns in the same room.
    gave_way: BTreeSet<Key>,
    /// When what was declined may be tried again.
    retry: BTreeSet<(Time, Key)>,
    /// Candidates for which there were too many transfers, by need: looked at again when one ends.
    held_back: BTreeSet<(Time, Key)>,
    /// What had to leave for something staged, and until when it is harm if it is needed.
    watched: Map<Key, (Account, Time)>,
    sizes: Sizes,
    paces: Map<Arc<str>, Pace>,
    heat: Heat,
    heat_changed: bool,
    remembered: VecDeque<Remembered>,
    ledger: Ledger,
    trial: Trial,
    /// Share of staged objects whose victims were then needed, lately.
    harm: f64,
    governor: Governor,
    switched: Vec<Switch>,
    /// Learned proposals that were not carried out.
    rejected: Vec<Key>,
    waits: VecDeque<(TaskId, Vec<InputUse>)>,
}

impl Agenda {
    /// Nothing is expected yet.
    pub fn new(settings: Settings, places: Arc<Places>, catalogue: Arc<Catalogue>) -> Agenda {
        Agenda {
            settings,
            places,
            catalogue,
            candidates: Candidates::default(),
            dirty: BTreeSet::new(),
            present: BTreeMap::new(),
            asked: Map::default(),
            unused: Map::default(),
            left_out: Map::default(),
            declined: Map::default(),
            gave_way: BTreeSet::new(),
            written: Map::default(),
            retry: BTreeSet::new(),
            held_back: BTreeSet::new(),
            watched: Map::default(),
            sizes: Sizes::default(),
            paces: Map::default(),
            heat: Heat::default(),
            heat_changed: true,
            remembered: VecDeque::new(),
            ledger: Ledger::default(),
            trial: Trial::default(),
            harm: 0.0,
            governor: Governor::default(),
            switched: Vec::new(),
            rejected: Vec::new(),
            waits: VecDeque::new(),
        }
    }

    /// How long objects are.
    pub fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Whether data is staged.
    pub fn mode(&self) -> Mode {
        self.settings.mode
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The governor: what is off.
    pub fn governor(&self) -> &Governor {
        &self.governor
    }

    /// What the control group says.
    pub fn trial(&self) -> &Trial {
        &self.trial
    }

    /// Decisions about an object, newest first.
    pub fn decisions(&self, object: &ObjectName) -> impl Iterator<Item = &Remembered> {
        self.remembered.iter().rev().filter(move |r| r.key.object == *object)
    }

    /// How the inputs of a task's latest attempt were found, if it ended lately.
    pub fn inputs_of(&self, task: TaskId) -> Option<&[InputUse]> {
        self.waits.iter().rev().find(|(t, _)| *t == task).map(|(_, inputs)| inputs.as_slice())
    }

    /// Whether a template or the look ahead names an object for a task that nobody has submitted.
    pub fn foresees(&self, key: &Key) -> bool {
        self.candidates.is_derived(key)
    }

    /// What is known of the need for an object now.
    pub fn candidate(&self, key: &Key) -> Option<Candidate> {
        self.candidates.get(key)
    }

    /// Checks what must hold between calls.
    ///
    /// # Panics
    /// If it does not.
    pub fn assert_invariants(&self) {
        self.candidates.assert_invariants();
        assert!(self.asked.len() <= ASKED, "too many transfers are asked for");
        assert!(self.settings.mode == Mode::On || self.asked.is_empty(), "only `on` moves bytes");
        assert!(self.asked.keys().all(|k| !self.left_out.contains_key(k)), "staged or left out, never both");
        assert!(self.written.values().all(|n| *n > 0));
        assert!(self.declined.len() <= DECLINED_MAX && self.gave_way.len() <= DECLINED_MAX);
        assert_eq!(self.retry.len(), self.declined.len(), "what is declined is tried again some time");
        assert!(self.remembered.len() <= REMEMBERED && self.waits.len() <= REMEMBERED);
        assert!(self.watched.len() <= WATCHED && self.rejected.len() <= REJECTED_MAX);
    }
}

mod decide;
mod facts;
#[cfg(test)]
mod tests;
