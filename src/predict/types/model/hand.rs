//! The forecast in hand: everything between the question and the lesson. No part of a snapshot.

use crate::predict::types::Symbol;
use crate::predict::types::candidates::Candidates;
use crate::predict::types::context::{Features, MOST};
use crate::predict::types::fading;
use crate::predict::types::pool::Situation;
use crate::predict::types::row::{LANES, ROW, Row};
use crate::predict::types::softmax::{Blocks, Feature, Lanes};
use crate::predict::types::table::Place;

/// The forecast in hand.
#[derive(Clone, Debug)]
pub(super) struct Hand {
    pub candidates: Candidates,
    pub keys: [u64; MOST],
    pub places: [Place; MOST],
    pub features: Features,
    pub residual_features: [Feature; 4],
    pub fading_keys: [u64; fading::KINDS],
    pub last_type: Option<Symbol>,
    pub lanes: Lanes,
    /// Room for figures by block and lane.
    pub blocks: Blocks,
    /// Each context's opinion, as probabilities and as log probabilities of one member.
    pub p: [Row; MOST],
    pub ln: [Row; MOST],
    /// The context whose opinion each one has: its own if it is known, else its parent's.
    pub heard: [u8; MOST],
    /// What each known context leaves to its parent.
    pub back: [f32; MOST],
    pub situation: Situation,
    pub sparse_p: Row,
    /// The pooled opinion before the maps.
    pub mixed: Row,
    /// The best class of `mixed`.
    pub top: usize,
    pub out: Row,
}

impl Hand {
    pub fn new() -> Hand {
        Hand {
            candidates: Candidates::new(),
            keys: [0; MOST],
            places: [Place::default(); MOST],
            features: Features::new(),
            residual_features: [0; 4],
            fading_keys: [0; fading::KINDS],
            last_type: None,
            lanes: Lanes::new(),
            blocks: [[0.0; LANES]; ROW],
            p: [Row::ZERO; MOST],
            ln: [Row::ZERO; MOST],
            heard: [0; MOST],
            back: [0.0; MOST],
            situation: Situation::new(),
            sparse_p: Row::ZERO,
            mixed: Row::ZERO,
            top: 0,
            out: Row::ZERO,
        }
    }

    /// Makes an opinion a row of the pools: its log probabilities against those of a context.
    #[inline(always)]
    pub fn say(&mut self, row: usize, evidence: usize, p: &Row, against: usize) {
        let mut ln = Row::ZERO;
        self.candidates.ln_row(p, &mut ln);
        let other = &self.ln[self.heard[against] as usize];
        self.candidates.width().fill(self.situation.say(row, evidence), |i| ln[i] - other[i]);
    }

    /// The opinion of a context, or of the one that it backs off to.
    #[inline(always)]
    pub fn opinion(&self, context: usize) -> &Row {
        &self.p[self.heard[context] as usize]
    }
}

/// The largest figure's place, the first of equals; 0 when there is none.
#[inline(always)]
pub(super) fn best(p: &[f32]) -> usize {
    (0..p.len()).fold(0, |b, i| if p[i] > p[b] { i } else { b })
}
