//! Where a candidate stands, whatever it is called: how recently and how often it came, in the entity and on
//! the host, and how likely the plain contexts make it.
//!
//! Every other expert learns about each type by itself. This one learns across types: "what came last on the
//! host and never in this entity", "what followed the same type earlier in this entity". It corrects the
//! scores of the pool by `Σ_f W[f(y)]`, one weight for each value of six features, learned by AdaGrad on the
//! pool's error.

use super::Error;
use super::Symbol;
use super::candidates::Candidates;
use super::history::{ECHOES, History, LAGS};
use super::maths::{class_of, inverse_root};
use super::row::{ROW, Row};
use super::snapshot::{Reader, Writer};

const RATE: f32 = 0.02;
/// G before the first step.
const FIRST_SQUARE: f32 = 1.0;
/// Errors smaller than this are not worth the trouble.
const SMALL: f32 = 1e-3;

/// Recently seen types of the host whose rank counts.
const HOST_RANKS: usize = 17;
/// How recently in the entity: last, up to three ago, earlier, never.
const OWN: usize = 4;
/// How recently on the host: last, up to three, up to eight, earlier.
const HOST: usize = 4;
/// How likely: classes of a log probability, and its scale.
const ROOT_CLASSES: usize = 13;
const LAST_CLASSES: usize = 7;
const LONGEST_CLASSES: usize = 21;
const POSITIONS: usize = 7;

/// Features of one candidate.
const FEATURES: usize = 6;
/// Where each feature's weights begin; the last two blocks belong to the rest classes.
const AT: [usize; FEATURES + 2] = {
    let sizes = [
        HOST_RANKS * OWN,
        3 * 6,
        (1 << ECHOES) * OWN,
        ROOT_CLASSES * OWN,
        POSITIONS * OWN * LAST_CLASSES,
        LONGEST_CLASSES * OWN * HOST,
        2 * POSITIONS,
    ];
    let mut at = [0; FEATURES + 2];
    let mut i = 0;
    while i < sizes.len() {
        at[i + 1] = at[i] + sizes[i];
        i += 1;
    }
    at
};
const WEIGHTS: usize = AT[FEATURES + 1];

/// What the plain contexts say of each class, as log probabilities of one member.
#[derive(Clone, Copy)]
pub(super) struct Likely<'a> {
    pub root: &'a Row,
    pub last: &'a Row,
    pub longest: &'a Row,
}

/// The weights, and the features of the forecast in hand.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    weights: Vec<f32>,
    /// G above its start.
    squares: Vec<f32>,
    features: [[u16; FEATURES]; ROW],
    candidates: usize,
    position: usize,
}

impl Standing {
    pub fn new() -> Standing {
        Standing {
            weights: vec![0.0; WEIGHTS],
            squares: vec![0.0; WEIGHTS],
            features: [[0; FEATURES]; ROW],
            candidates: 0,
            position: 0,
        }
    }

    /// Memory, bytes.
    pub fn bytes(&self) -> usize {
        self.weights.len() * 8
    }

    /// Adds to the score of every class; `recent` are the host's last types, latest last.
    #[inline(always)]
    pub fn correct(
        &mut self,
        h: &History,
        c: &Candidates,
        recent: &[Symbol],
        likely: Likely<'_>,
        scores: &mut Row,
    ) {
        let own = own_ranks(h, c);
        let again = followed_before(h, c);
        let mut host = [HOST_RANKS as u8 - 1; ROW];
        for (rank, &s) in recent.iter().rev().enumerate() {
            host[c.place(s)] = rank as u8;
        }
        (self.candidates, self.position) = (c.len(), (h.len as usize).min(POSITIONS - 1));
        for (y, &symbol) in c.list().iter().enumerate() {
            let o = match own[y] {
                1 => 0,
                2..=3 => 1,
                r if r <= LAGS as u8 + 1 => 2,
                _ => 3,
            };
            let g = match host[y] {
                0 => 0,
                1..=2 => 1,
                3..=7 => 2,
                _ => 3,
            };
            let echoed = (0..ECHOES).fold(0, |bits, e| bits | usize::from(h.echoes[e][0] == symbol + 1) << e);
            let class = |ln: f32, scale: f32, classes: usize| class_of(-ln * scale, classes);
            let features = [
                host[y] as usize * OWN + o,
                again[y] as usize * 6 + (own[y] as usize).min(5),
                echoed * OWN + o,
                class(likely.root[y], 1.0, ROOT_CLASSES) * OWN + o,
                (self.position * OWN + o) * LAST_CLASSES + class(likely.last[y], 1.5, LAST_CLASSES),
                (class(likely.longest[y], 2.0, LONGEST_CLASSES) * OWN + o) * HOST + g,
            ];
            for (i, f) in features.into_iter().enumerate() {
                let at = AT[i] + f;
                self.features[y][i] = at as u16;
                scores[y] += self.weights[at];
            }
        }
        for rest in 0..2 {
            scores[self.candidates + rest] += self.weights[self.at_rest(rest)];
        }
    }

    /// The weight of a rest class.
    #[inline(always)]
    fn at_rest(&self, rest: usize) -> usize {
        AT[FEATURES] + rest * POSITIONS + self.position
    }

    /// One step, given the pooled opinion and the class that came.
    #[inline(always)]
    pub fn learn(&mut self, p: &Row, came: usize) {
        for (class, p) in p.iter().enumerate().take(self.candidates + 2) {
            let e = f32::from(u8::from(class == came)) - p;
            if e.abs() < SMALL {
                continue;
            }
            if class < self.candidates {
                for i in 0..FEATURES {
                    self.step(self.features[class][i] as usize, e);
                }
            } else {
                self.step(self.at_rest(class - self.candidates), e);
            }
        }
    }

    #[inline(always)]
    fn step(&mut self, at: usize, e: f32) {
        self.squares[at] += e * e;
        self.weights[at] += RATE * e * inverse_root(FIRST_SQUARE + self.squares[at]);
    }

    pub fn save(&self, to: &mut Writer) {
        to.f32s(&self.weights);
        to.f32s(&self.squares);
    }

    pub fn load(&mut self, from: &mut Reader<'_>) -> Result<(), Error> {
        from.f32s_into(&mut self.weights)?;
        from.f32s_into(&mut self.squares)?;
        if self.squares.iter().any(|&g| g < 0.0) {
            return Err(Error::Malformed { what: "a squared gradient" });
        }
        Ok(())
    }
}

/// How long ago each candidate came in the entity, in its own tasks: 1 for the last; one above [`LAGS`]:
/// longer ago; two above: never, as far as is known.
#[inline(always)]
fn own_ranks(h: &History, c: &Candidates) -> [u8; ROW] {
    let mut ranks = [LAGS as u8 + 2; ROW];
    for s in h.seen() {
        ranks[c.place(s.symbol)] = LAGS as u8 + 1;
    }
    for i in (1..=h.lags()).rev() {
        ranks[c.place(h.lag_symbol(i))] = i as u8;
    }
    ranks
}

/// Whether each candidate followed the last type earlier in the entity: 0 no, 1 within the last five, 2 before.
#[inline(always)]
fn followed_before(h: &History, c: &Candidates) -> [u8; ROW] {
    let mut followed = [0; ROW];
    let x1 = h.lag(1);
    for i in (2..=h.lags()).rev() {
        if h.lag(i) == x1 {
            followed[c.place(h.lag_symbol(i - 1))] = if i < 6 { 1 } else { 2 };
        }
    }
    followed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    fn history(types: &[Symbol]) -> History {
        let mut h = History::new(1);
        types.iter().for_each(|&t| h.push(t, 0, Time::ZERO));
        h
    }

    fn candidates(list: &[Symbol]) -> Candidates {
        let mut c = Candidates::new();
        c.grow(20);
        list.iter().for_each(|&s| c.nominate(s));
        c.close(20.0, 0.0);
        c
    }

    #[test]
    fn knows_what_came_when_and_after_what() {
        let h = history(&[7, 3, 4, 3, 5, 3]);
        let c = candidates(&[3, 4, 5, 7, 9]);
        assert_eq!(own_ranks(&h, &c)[..5], [1, 4, 2, 6, 14]);
        assert_eq!(followed_before(&h, &c)[..5], [0, 1, 1, 0, 0]);
    }

    /// Types that were never met before are foretold by where they stand.
    #[test]
    fn learns_a_rule_across_types() {
        let mut s = Standing::new();
        let mut rng = fastrand::Rng::with_seed(12);
        let mut even = Row::ZERO;
        even.fill(-2.0);
        let likely = Likely { root: &even, last: &even, longest: &even };
        let mut p_right = 0.0;
        for i in 0..3000u16 {
            // What comes is always the host's last type.
            let (a, b) = (i % 5 * 2, i % 5 * 2 + 1);
            let recent = if rng.bool() { [a, b] } else { [b, a] };
            let c = candidates(&[a, b]);
            let (mut scores, mut p) = (Row::ZERO, Row::ZERO);
            s.correct(&history(&[19]), &c, &recent, likely, &mut scores);
            c.probabilities(&scores, &mut p);
            let came = c.place(recent[1]);
            p_right = p[came];
            s.learn(&p, came);
        }
        assert!(p_right > 0.75, "{p_right}");
    }
}
