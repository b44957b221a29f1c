//! One model: from a history to a distribution over the next type, and one lesson from what came.
//!
//! The order of thought: which contexts are known (`context.rs`, `table.rs`) → which types are candidates
//! (`candidates.rs`) → the root's opinion (`root.rs`) → each context's (`backoff.rs`), what came lately
//! (`fading.rs`), the regression's (`softmax.rs`), perhaps one given from outside (`spread.rs`) → three pools
//! of all (`pool.rs`), corrected by where each candidate stands (`standing.rs`) and averaged in the log domain
//! → what that has meant lately (`apm.rs`).
//!
//! Nothing is allocated on the way. [`Model::learn`] is the lesson of the forecast in hand: the one that
//! [`Model::predict`] made last.

mod explain;
mod hand;
mod layout;
mod lesson;
mod persist;

use self::hand::{Hand, best};
pub(super) use self::layout::{Extra, Layout};

use super::apm::Apm;
use super::backoff::{self, EVIDENCE};
use super::context::{self, BASE, CONTEXTS, LAST, LONGEST, ROOT};
use super::fading::{self, FADING, Fading};
use super::history::History;
use super::maths::{exp, logit};
use super::pool::{MODULUS, POSITIONS, Pools, ROWS, Selector};
use super::root::Root;
use super::row::Row;
use super::softmax::Regression;
use super::spread::Spread;
use super::standing::{Likely, Standing};
use super::table::{Place, Table};
use super::{Settings, Symbol};

/// Rows behind those of the contexts: the sparse regression, plain frequency, an expert from outside, and
/// the fading contexts.
const SPARSE: usize = 0;
const PLAIN: usize = 1;
const GIVEN: usize = 2;
const FIRST_FADING: usize = 3;
const OTHER_ROWS: usize = FIRST_FADING + fading::KINDS;

/// Share of the root mixed into every forecast, so that nothing is impossible.
const FLOOR: f32 = 2e-4;
/// Step of the two maps at the end.
const APM_RATE: f32 = 0.02;
/// Named types of a given distribution that become candidates.
const GIVEN_CANDIDATES: usize = 12;

/// The model.
#[derive(Clone, Debug)]
pub(super) struct Model {
    layout: &'static Layout,
    /// A bit for each context that may speak.
    on: u32,
    contexts: usize,
    root: Root,
    table: Table,
    fading: Fading,
    sparse: Regression,
    residual: Regression,
    standing: Standing,
    pools: Pools,
    by_last_type: Apm,
    by_position: Apm,
    hand: Hand,
}

impl Model {
    /// `alphabet`: how many types there will ever be, if that is known.
    pub fn new(layout: &'static Layout, settings: &Settings, alphabet: Option<usize>) -> Model {
        let contexts = BASE + layout.extra.len();
        let rows = contexts + OTHER_ROWS;
        let mut first = [0.0; ROWS];
        first[..BASE].fill(layout.first_weight);
        first[ROOT] = 0.8;
        first[LAST] = 0.75;
        first[contexts + PLAIN..contexts + OTHER_ROWS].fill(layout.first_weight);
        first[contexts + SPARSE] = 0.2;
        first[contexts + GIVEN] = 0.7;
        let mut model = Model {
            layout,
            on: settings.contexts_on(),
            contexts,
            root: Root::new(alphabet),
            table: Table::new(settings.table_bits, settings.forget_above),
            fading: Fading::new(settings.table_bits.saturating_sub(3)),
            sparse: Regression::new(settings.regression_bits, layout.regression_rate, 3.0),
            residual: Regression::new(settings.regression_bits - 3, 0.05, 1.0),
            standing: Standing::new(),
            pools: Pools::new(layout.pools, rows, first, layout.pool_rate),
            by_last_type: Apm::new(MODULUS, APM_RATE),
            by_position: Apm::new(POSITIONS, APM_RATE),
            hand: Hand::new(),
        };
        model.grow(alphabet.unwrap_or(0));
        model
    }

    /// Makes room for types `0..n`. To be called before a type is learned for the first time.
    pub fn grow(&mut self, n: usize) {
        self.root.grow(n);
        self.hand.candidates.grow(n);
        self.hand.lanes.grow(n);
    }

    /// Memory of what is learned and of the forecast in hand, bytes.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
            + self.fading.bytes()
            + self.sparse.bytes()
            + self.standing.bytes()
            + self.residual.bytes()
            + self.pools.bytes()
            + self.by_last_type.bytes()
            + self.by_position.bytes()
            + self.root.bytes()
            + self.hand.candidates.bytes()
            + size_of::<Model>()
    }

    // ---- one forecast ---------------------------------------------------------------------------------

    /// Makes a forecast for a history. It stays in hand until the next one.
    pub fn predict(&mut self, h: &History, extra: &Extra<'_>) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor was just asked. The same operations run in the same order in wider
            // registers, so the bits are the same.
            unsafe { self.predict_wide(h, extra) };
            return;
        }
        self.predict_any(h, extra);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn predict_wide(&mut self, h: &History, extra: &Extra<'_>) {
        self.predict_any(h, extra);
    }

    #[inline(always)]
    fn predict_any(&mut self, h: &History, extra: &Extra<'_>) {
        self.find_contexts(h, extra);
        self.find_candidates(extra);
        self.hand.situation.clear();
        self.root_says(h);
        self.contexts_say();
        self.fading_say(h);
        self.regression_says(h);
        if let Some(given) = extra.given {
            self.given_says(given);
        }
        self.select(h, extra);
        self.mix(h);
        self.refine();
    }

    #[inline(always)]
    fn find_contexts(&mut self, h: &History, extra: &Extra<'_>) {
        let hand = &mut self.hand;
        hand.keys = context::keys(h, &extra.contexts, self.on, &mut hand.features);
        for k in 1..self.contexts {
            let key = hand.keys[k];
            hand.places[k] = if key == 0 { Place::default() } else { self.table.find(key) };
        }
    }

    #[inline(always)]
    fn find_candidates(&mut self, extra: &Extra<'_>) {
        let hand = &mut self.hand;
        hand.candidates.clear();
        if let Some(given) = extra.given {
            for &s in given.named().iter().take(GIVEN_CANDIDATES) {
                hand.candidates.nominate(s);
            }
        }
        for &k in self.layout.order {
            if hand.candidates.is_complete(self.root.seen()) {
                break;
            }
            if let Some(node) = hand.places[k as usize].node {
                for &s in self.table.node(node).symbols() {
                    hand.candidates.nominate(s);
                }
            }
        }
        self.root.nominate(&mut hand.candidates);
        hand.candidates.close(self.root.seen(), self.root.unseen());
    }

    #[inline(always)]
    fn root_says(&mut self, h: &History) {
        let nu = self.root.novelty(h.last_type());
        let hand = &mut self.hand;
        let mut by_use = Row::ZERO;
        self.root.rows(nu, &hand.candidates, &mut hand.p[ROOT], &mut by_use);
        hand.candidates.ln_row(&hand.p[ROOT], &mut hand.ln[ROOT]);
        hand.candidates.trim(&mut hand.ln[ROOT]);
        let ln = &hand.ln[ROOT];
        hand.candidates.width().fill(hand.situation.say(ROOT, 0), |i| ln[i]);
        hand.say(self.contexts + PLAIN, 0, &by_use, ROOT);
    }

    /// First what the counts of every context say by themselves, then each on top of its parent: no context has
    /// to wait for another's counts.
    #[inline(always)]
    fn contexts_say(&mut self) {
        let hand = &mut self.hand;
        for k in 1..self.contexts {
            if let Some(node) = hand.places[k].node {
                hand.back[k] = backoff::discount(self.table.node(node), &hand.candidates, &mut hand.p[k]);
            }
        }
        let width = hand.candidates.width();
        for k in 1..self.contexts {
            let parent = hand.heard[parent(self.layout, k)] as usize;
            let Some(node) = hand.places[k].node else {
                hand.heard[k] = parent as u8;
                hand.situation.be_silent(k);
                continue;
            };
            hand.heard[k] = k as u8;
            let (before, from) = hand.p.split_at_mut(k);
            let (above, back) = (&before[parent], hand.back[k]);
            width.update(&mut from[0], |i, p| p + back * above[i]);
            let (before, ln) = hand.ln.split_at_mut(k);
            let (above, ln) = (&before[parent], &mut ln[0]);
            hand.candidates.ln_row(&from[0], ln);
            let row = hand.situation.say(k, backoff::evidence(self.table.node(node)));
            width.fill(row, |i| ln[i] - above[i]);
        }
    }

    #[inline(always)]
    fn fading_say(&mut self, h: &History) {
        let hand = &mut self.hand;
        hand.fading_keys = fading::keys(h);
        hand.last_type = h.last_type();
        let width = hand.candidates.width();
        for (i, kind) in FADING.iter().enumerate() {
            let mut p = Row::ZERO;
            let said = self.fading.opinion(kind, hand.fading_keys[i], &hand.candidates, &mut p);
            let Some((back, evidence)) = said else {
                hand.situation.be_silent(self.contexts + FIRST_FADING + i);
                continue;
            };
            let above = hand.opinion(kind.parent);
            width.update(&mut p, |i, x| x + back * above[i]);
            hand.say(self.contexts + FIRST_FADING + i, evidence, &p, kind.parent);
        }
    }

    #[inline(always)]
    fn regression_says(&mut self, h: &History) {
        let hand = &mut self.hand;
        hand.lanes.place(&hand.candidates);
        let (mut scores, mut p) = (Row::ZERO, Row::ZERO);
        self.sparse.scores(hand.features.list(), &hand.lanes, &mut hand.blocks, &mut scores);
        hand.candidates.softmax(&scores, &mut hand.sparse_p);
        let (sparse, root) = (&hand.sparse_p, &hand.p[ROOT]);
        hand.candidates.width().fill(&mut p, |i| sparse[i] * 0.995 + 0.005 * root[i]);
        hand.say(self.contexts + SPARSE, 0, &p, LAST);
        hand.residual_features = context::residual_features(h);
    }

    #[inline(always)]
    fn given_says(&mut self, given: &Spread) {
        let hand = &mut self.hand;
        let m = hand.candidates.len();
        let mut p = Row::ZERO;
        let mut left = given.named_total();
        for (i, &s) in hand.candidates.list().iter().enumerate() {
            p[i] = given.p(s);
            left -= p[i];
        }
        (p[m], p[m + 1]) = (left.max(0.0) + given.rest, given.new);
        let last = hand.opinion(LAST);
        hand.candidates.width().update(&mut p, |i, x| x * 0.99 + 0.01 * last[i]);
        let top = given.named().iter().fold(0.0f32, |a, &s| a.max(given.p(s)));
        let confidence = (logit(top.clamp(0.01, 0.999)) + 4.0) * 1.2;
        let evidence = (confidence.max(0.0) as usize).min(EVIDENCE - 1);
        hand.say(self.contexts + GIVEN, evidence, &p, LAST);
    }

    #[inline(always)]
    fn select(&mut self, h: &History, extra: &Extra<'_>) {
        let hand = &mut self.hand;
        let matched = (1..=LONGEST).rev().find(|&k| hand.places[k].node.is_some()).unwrap_or(0);
        let s = &mut hand.situation;
        let strength = if matched > 0 { s.evidence[matched] as usize / 2 } else { 0 };
        let bag = s.evidence[context::BAG_ECHO] as usize * EVIDENCE + s.evidence[context::BAG] as usize;
        s.select(Selector::Match, matched * 8 + strength);
        s.select(Selector::LastType, h.lag(1) as usize - 1);
        s.select(Selector::Position, (h.len as usize).min(POSITIONS - 1));
        s.select(Selector::Bag, bag);
        s.select(Selector::Partner, h.partner as usize);
        for (i, &value) in extra.selectors.iter().enumerate() {
            s.select(Selector::Extra(i as u8), value);
        }
    }

    #[inline(always)]
    fn mix(&mut self, h: &History) {
        let hand = &mut self.hand;
        let mut residual = Row::ZERO;
        self.residual.scores(&hand.residual_features, &hand.lanes, &mut hand.blocks, &mut residual);
        let longest = &hand.ln[hand.heard[LONGEST] as usize];
        let likely = Likely { root: &hand.ln[ROOT], last: &hand.ln[hand.heard[LAST] as usize], longest };
        self.standing.correct(h, &hand.candidates, self.root.recent(), likely, &mut residual);
        let mut mean = Row::ZERO;
        self.pools.mix(&hand.situation, &residual, &hand.candidates, &mut mean);
        hand.candidates.probabilities(&mean, &mut hand.mixed);
    }

    /// The best class's probability through two maps: half the pool's, half theirs, in the logit domain.
    #[inline(always)]
    fn refine(&mut self) {
        let hand = &mut self.hand;
        let (m, width) = (hand.candidates.len(), hand.candidates.width());
        hand.out = hand.mixed;
        hand.top = best(&hand.mixed[..m]);
        if m > 0 {
            let stated = hand.mixed[hand.top];
            let x = logit(stated.clamp(1e-5, 1.0 - 1e-5));
            let a = self.by_last_type.refine(x, hand.situation.selected(Selector::LastType));
            let b = self.by_position.refine(x, hand.situation.selected(Selector::Position));
            let z = 0.5 * x + 0.25 * (logit(a) + logit(b));
            let p = (1.0 / (1.0 + exp(-z))).clamp(1e-5, 1.0 - 1e-5);
            let scale = (1.0 - p) / (1.0 - stated).max(1e-6);
            width.update(&mut hand.out, |_, x| x * scale);
            hand.out[hand.top] = p;
            let inverse = 1.0 / width.sum(|i| hand.out[i]);
            width.update(&mut hand.out, |_, x| x * inverse);
        }
        let root = &hand.p[ROOT];
        width.update(&mut hand.out, |i, x| x * (1.0 - FLOOR) + FLOOR * root[i]);
    }

    // ---- the forecast in hand ---------------------------------------------------------------------------

    /// The types that have a probability of their own, with it, in no particular order.
    #[inline]
    pub fn named(&self) -> impl Iterator<Item = (Symbol, f32)> + '_ {
        self.hand.candidates.list().iter().copied().zip(self.hand.out.iter().copied())
    }
    /// Probability of all other types seen before, and of all never seen.
    #[inline]
    pub fn rests(&self) -> [f32; 2] {
        let m = self.hand.candidates.len();
        [self.hand.out[m], self.hand.out[m + 1]]
    }
    /// Probability of one type. Types that are no candidate share the rest of those seen by their
    /// continuation counts; one never seen gets an equal share of the novelty (all of it when the alphabet is
    /// open: who asks must know how many others it might have been).
    pub fn p(&self, symbol: Symbol) -> f32 {
        let c = &self.hand.candidates;
        if self.root.uses(symbol) == 0 {
            return self.rests()[1] / c.new_members().max(1.0);
        }
        let place = c.place(symbol);
        if place < c.len() {
            return self.hand.out[place];
        }
        self.rests()[0] * self.root.share_of_seen(symbol, c)
    }
    /// The most probable type with its probability; nothing before the first lesson.
    pub fn best(&self) -> Option<(Symbol, f32)> {
        let list = self.hand.candidates.list();
        let top = best(&self.hand.out[..list.len()]);
        list.get(top).map(|&s| (s, self.hand.out[top]))
    }
    /// How often a type was learned.
    pub fn uses(&self, symbol: Symbol) -> u32 {
        self.root.uses(symbol)
    }
    /// The counts after extra context or context number `k` with this hash, if it is known.
    #[inline]
    pub fn counts(&self, k: usize, hash: u64) -> Option<&super::table::Node> {
        self.table.find(context::key(k, hash) | 1).node.map(|n| self.table.node(n))
    }

    #[cfg(test)]
    pub fn assert_invariants(&self) {
        self.table.assert_invariants();
        let out = &self.hand.out[..self.hand.candidates.classes()];
        assert!(out.iter().all(|x| x.is_finite() && *x >= 0.0), "{out:?}");
    }
}

/// The context that number `k` backs off to.
#[inline(always)]
fn parent(layout: &Layout, k: usize) -> usize {
    if k < BASE { CONTEXTS[k].parent } else { layout.extra[k - BASE].parent }
}
