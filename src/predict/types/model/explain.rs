//! What a forecast in hand is made of, for people.

use super::hand::best;
use super::{FIRST_FADING, GIVEN, Model, PLAIN, SPARSE};
use crate::predict::types::Symbol;
use crate::predict::types::context::{BASE, CONTEXTS};
use crate::predict::types::fading::FADING;

/// What one expert said.
#[derive(Clone, Copy, Debug)]
pub(in crate::predict::types) struct Loud {
    pub name: &'static str,
    /// Its weighted row at the best type.
    pub says: f32,
    /// The type it raises most.
    pub favours: Option<Symbol>,
    /// Counts behind it, if it is a context of the count table.
    pub seen: Option<u8>,
}

impl Model {
    /// What every expert said about the best type, loudest first. The vector is the caller's.
    pub fn loudest(&self, out: &mut Vec<Loud>) {
        out.clear();
        let hand = &self.hand;
        let weights = self.pools.weights(&hand.situation);
        for &r in hand.situation.live() {
            let r = r as usize;
            let w = weights.iter().map(|w| w[r]).sum::<f32>() / 3.0;
            let row = hand.situation.rows[r].map(|x| w * x);
            let list = hand.candidates.list();
            out.push(Loud {
                name: self.row_name(r),
                says: row[hand.top],
                favours: list.get(best(&row[..list.len()])).copied(),
                seen: (r < self.contexts)
                    .then(|| hand.places[r].node.map(|n| self.table.node(n).total()))
                    .flatten(),
            });
        }
        out.sort_by(|a, b| b.says.abs().total_cmp(&a.says.abs()));
    }

    fn row_name(&self, row: usize) -> &'static str {
        match row {
            r if r < BASE => CONTEXTS[r].name,
            r if r < self.contexts => self.layout.extra[r - BASE].name,
            r => match r - self.contexts {
                SPARSE => "regression",
                PLAIN => "plain frequency",
                GIVEN => "entities in play",
                other => FADING[other - FIRST_FADING].name,
            },
        }
    }
}
