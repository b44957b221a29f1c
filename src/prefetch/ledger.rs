//! The savings ledger: what came of every staged object, by type, source and kind of knowledge.
//!
//! An object is *useful* if a task used it when it was there; *late* if the task had to wait for the rest of
//! it; *wasted* if it left the cache unused; *harmful* for each object that had to leave for a staged one and
//! was then needed. Seconds hidden are what the task would have waited for a fetch, less what it did wait.

use super::candidate::Knowledge;
use crate::flow::TypeId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A line's place: task type, source, kind of knowledge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Account {
    /// Type of the task that needed it, or was expected to.
    pub task_type: TypeId,
    /// Source of the object.
    pub source: Arc<str>,
    /// How it was known.
    pub knowledge: Knowledge,
}

/// A line of the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Objects staged.
    pub staged: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Used in time.
    pub useful: u64,
    /// Demanded on their way.
    pub late: u64,
    /// How long tasks waited for late ones, seconds.
    pub late_s: f64,
    /// Left unused.
    pub wasted: u64,
    /// Bytes of these.
    pub wasted_bytes: u64,
    /// Objects that left for a staged one and were then needed.
    pub harmful: u64,
    /// Seconds of waiting that staging has hidden.
    pub hidden_s: f64,
}

impl Line {
    /// Adds another line.
    pub fn add(&mut self, o: &Line) {
        self.staged += o.staged;
        self.bytes += o.bytes;
        self.useful += o.useful;
        self.late += o.late;
        self.late_s += o.late_s;
        self.wasted += o.wasted;
        self.wasted_bytes += o.wasted_bytes;
        self.harmful += o.harmful;
        self.hidden_s += o.hidden_s;
    }
}

/// The ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    lines: BTreeMap<Account, Line>,
    /// Inputs that tasks demanded.
    pub demands: u64,
    /// Those that were in the cache, whole.
    pub found: u64,
}

impl Ledger {
    /// An account's line.
    pub fn line(&mut self, account: &Account) -> &mut Line {
        // Looked up by reference first: most calls find the line there.
        if !self.lines.contains_key(account) {
            self.lines.insert(account.clone(), Line::default());
        }
        self.lines.get_mut(account).expect("just inserted")
    }

    /// All lines.
    pub fn lines(&self) -> impl Iterator<Item = (&Account, &Line)> {
        self.lines.iter()
    }

    /// Everything together.
    pub fn total(&self) -> Line {
        let mut total = Line::default();
        self.lines.values().for_each(|l| total.add(l));
        total
    }
}
