//! Who holds which attempt.

use super::admit::Claim;
use crate::flow::{Factors, Token, WorkerId};
use crate::time::Time;

/// An attempt that a worker holds. There is at most one for each task.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Who has it.
    pub worker: WorkerId,
    /// What a completion must show.
    pub token: Token,
    /// Since when.
    pub since: Time,
    /// When it is expected to end.
    pub until: Time,
    /// Why it was placed there.
    pub factors: Factors,
    /// Whether its end was asked for by `cancel`.
    pub cancelled: bool,
    pub(super) claim: Claim,
}

impl Lease {
    /// Whether a completion is this attempt's.
    pub fn fits(&self, token: Token) -> bool {
        self.token == token
    }
}
