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

mod hand;
mod layout;
mod lesson;
mod persist;

use self::hand::{Hand, best, softmax};
pub(super) use self::layout::{Extra, Layout};

use super::apm::Apm;
use super::backoff::{self, EVIDENCE};
use super::candidates::ROW;
use super::context::{self, BASE, CONTEXTS, LAST, LONGEST, ROOT};
use super::fading::{self, FADING, Fading};
use super::history::History;
use super::maths::{exp, logit};
use super::pool::{MODULUS, POSITIONS, Pool, ROWS, Selector};
use super::root::Root;
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
    pools: [Pool; 3],
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
            residual: Regression::new(10, 0.05, 1.0),
            standing: Standing::new(),
            pools: layout.pools.map(|s| Pool::new(s, rows, first, layout.pool_rate)),
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
    }

    /// Memory of what is learned and of the forecast in hand, bytes.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
            + self.fading.bytes()
            + self.sparse.bytes()
            + self.standing.bytes()
            + self.residual.bytes()
            + self.pools.iter().map(Pool::bytes).sum::<usize>()
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
        let (by_continuation, by_use) = self.root.rows(nu, &hand.candidates);
        hand.p[ROOT] = by_continuation;
        hand.ln[ROOT] = hand.candidates.ln_row(&by_continuation);
        hand.candidates.trim(&mut hand.ln[ROOT]);
        hand.situation.say(ROOT, hand.ln[ROOT], 0);
        let row = hand.against(&by_use, ROOT);
        hand.situation.say(self.contexts + PLAIN, row, 0);
    }

    #[inline(always)]
    fn contexts_say(&mut self) {
        let hand = &mut self.hand;
        for k in 1..self.contexts {
            let parent = parent(self.layout, k);
            let Some(node) = hand.places[k].node else {
                (hand.p[k], hand.ln[k]) = (hand.p[parent], hand.ln[parent]);
                hand.situation.be_silent(k);
                continue;
            };
            let node = self.table.node(node);
            let p = backoff::interpolate(node, &hand.p[parent], &hand.candidates);
            let ln = hand.candidates.ln_row(&p);
            let mut row = [0.0; ROW];
            for i in 0..ROW {
                row[i] = ln[i] - hand.ln[parent][i];
            }
            hand.candidates.trim(&mut row);
            (hand.p[k], hand.ln[k]) = (p, ln);
            hand.situation.say(k, row, backoff::evidence(node));
        }
    }

    #[inline(always)]
    fn fading_say(&mut self, h: &History) {
        let hand = &mut self.hand;
        hand.fading_keys = fading::keys(h);
        hand.last_type = h.last_type();
        for (i, kind) in FADING.iter().enumerate() {
            let parent = &hand.p[kind.parent];
            let Some(o) = self.fading.opinion(kind, hand.fading_keys[i], parent, &hand.candidates) else {
                hand.situation.be_silent(self.contexts + FIRST_FADING + i);
                continue;
            };
            let row = hand.against(&o.p, kind.parent);
            hand.situation.say(self.contexts + FIRST_FADING + i, row, o.evidence);
        }
    }

    #[inline(always)]
    fn regression_says(&mut self, h: &History) {
        let hand = &mut self.hand;
        hand.lanes.place(&hand.candidates);
        let scores = self.sparse.scores(hand.features.list(), &hand.lanes);
        softmax(&scores, &hand.candidates, &mut hand.sparse_p);
        let mut p = hand.sparse_p;
        for (x, root) in p.iter_mut().zip(&hand.p[ROOT]) {
            *x = *x * 0.995 + 0.005 * root;
        }
        let row = hand.against(&p, LAST);
        hand.situation.say(self.contexts + SPARSE, row, 0);
        hand.residual_features = context::residual_features(h);
    }

    #[inline(always)]
    fn given_says(&mut self, given: &Spread) {
        let hand = &mut self.hand;
        let m = hand.candidates.len();
        let mut p = [0.0; ROW];
        let mut left = given.named_total();
        for (i, &s) in hand.candidates.list().iter().enumerate() {
            p[i] = given.p(s);
            left -= p[i];
        }
        (p[m], p[m + 1]) = (left.max(0.0) + given.rest, given.new);
        for (x, last) in p.iter_mut().zip(&hand.p[LAST]) {
            *x = *x * 0.99 + 0.01 * last;
        }
        let row = hand.against(&p, LAST);
        let top = given.named().iter().fold(0.0f32, |a, &s| a.max(given.p(s)));
        let confidence = (logit(top.clamp(0.01, 0.999)) + 4.0) * 1.2;
        hand.situation.say(self.contexts + GIVEN, row, (confidence.max(0.0) as usize).min(EVIDENCE - 1));
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
        let mut residual = self.residual.scores(&hand.residual_features, &hand.lanes);
        let likely = Likely { root: &hand.ln[ROOT], last: &hand.ln[LAST], longest: &hand.ln[LONGEST] };
        self.standing.correct(h, &hand.candidates, self.root.recent(), likely, &mut residual);
        let mut scores = [0.0; ROW];
        for pool in &mut self.pools {
            pool.mix(&hand.situation, &residual, &hand.candidates);
            for (score, ln) in scores.iter_mut().zip(&pool.ln) {
                *score += ln * (1.0 / 3.0);
            }
        }
        let mut ln = [0.0; ROW];
        hand.candidates.normalise(&scores, &mut hand.mixed, &mut ln);
    }

    /// The best class's probability through two maps: half the pool's, half theirs, in the logit domain.
    #[inline(always)]
    fn refine(&mut self) {
        let hand = &mut self.hand;
        let m = hand.candidates.len();
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
            for x in &mut hand.out {
                *x *= scale;
            }
            hand.out[hand.top] = p;
            let inverse = 1.0 / super::candidates::sum(&hand.out);
            for x in &mut hand.out {
                *x *= inverse;
            }
        }
        for i in 0..ROW {
            hand.out[i] = hand.out[i] * (1.0 - FLOOR) + FLOOR * hand.p[ROOT][i];
        }
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

    /// Which experts spoke loudest for the best type: name, weighted row, evidence class; loudest first.
    pub fn loudest(&self, out: &mut Vec<(&'static str, f32)>) {
        out.clear();
        let hand = &self.hand;
        let weights = self.pools.each_ref().map(|p| p.weights(&hand.situation));
        for &r in hand.situation.live() {
            let r = r as usize;
            let w = weights.iter().map(|w| w[r]).sum::<f32>() / 3.0;
            out.push((self.row_name(r), w * hand.situation.rows[r][hand.top]));
        }
        out.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
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

    #[cfg(test)]
    pub fn assert_invariants(&self) {
        self.table.assert_invariants();
        let out = &self.hand.out;
        assert!(out.iter().all(|x| x.is_finite() && *x >= 0.0), "{out:?}");
    }
}

/// The context that number `k` backs off to.
#[inline(always)]
fn parent(layout: &Layout, k: usize) -> usize {
    if k < BASE { CONTEXTS[k].parent } else { layout.extra[k - BASE].parent }
}
