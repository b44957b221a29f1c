//! The forecast in hand: everything between the question and the lesson. No part of a snapshot.

use crate::predict::types::Symbol;
use crate::predict::types::candidates::{Candidates, ROW, Row, max, sum};
use crate::predict::types::context::{Features, MOST};
use crate::predict::types::fading;
use crate::predict::types::maths::exp;
use crate::predict::types::pool::Situation;
use crate::predict::types::softmax::{Feature, Lanes};
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
    /// Each context's opinion, as probabilities and as log probabilities of one member.
    pub p: [Row; MOST],
    pub ln: [Row; MOST],
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
            p: [[0.0; ROW]; MOST],
            ln: [[0.0; ROW]; MOST],
            situation: Situation::new(),
            sparse_p: [0.0; ROW],
            mixed: [0.0; ROW],
            top: 0,
            out: [0.0; ROW],
        }
    }

    /// An opinion's row: its log probabilities against those of a context.
    #[inline(always)]
    pub fn against(&self, p: &Row, context: usize) -> Row {
        let mut row = self.candidates.ln_row(p);
        for (x, ln) in row.iter_mut().zip(&self.ln[context]) {
            *x -= ln;
        }
        self.candidates.trim(&mut row);
        row
    }
}

/// Scores of classes to probabilities of classes; a class without members gets none.
#[inline(always)]
pub(super) fn softmax(scores: &Row, candidates: &Candidates, p: &mut Row) {
    const NEVER: f32 = -60.0;
    let mut z = *scores;
    let m = candidates.len();
    if candidates.seen_members() <= 0.0 {
        z[m] = NEVER;
    }
    if candidates.new_members() <= 0.0 {
        z[m + 1] = NEVER;
    }
    for x in &mut z[m + 2..] {
        *x = NEVER;
    }
    let top = max(&z);
    for i in 0..ROW {
        p[i] = exp(z[i] - top);
    }
    candidates.trim(p);
    let inverse = 1.0 / sum(p);
    for x in p {
        *x *= inverse;
    }
}

/// The largest figure's place, the first of equals; 0 when there is none.
#[inline(always)]
pub(super) fn best(p: &[f32]) -> usize {
    (0..p.len()).fold(0, |b, i| if p[i] > p[b] { i } else { b })
}
