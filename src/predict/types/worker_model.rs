//! The next type of a worker, and which entity it will be about.
//!
//! From the worker's own history, and from the entities in play: `M(t) = Σ_c P(c | w) · P(t | c, w)`. The
//! first is a model like that of entities; the second enters it as one more expert. P(c | w) is `takes.rs`,
//! the candidates `in_play.rs`; P(t | c, w) is the *pair model*, a model of entities that also knows who asks.
//! Joint: `P(c, t) = P(t) · (P(c)·P(t | c) + ε P(c)) / (M(t) + ε)`, ε = .001.
//!
//! The host as a whole is followed by the same code as a worker that does everything; its pair model is that
//! of entities.

mod layouts;
mod lesson;
mod persist;
mod worker;

use self::layouts::OWN;
pub(super) use self::layouts::pair_model;
pub(super) use self::worker::{Taking, Worker};

use super::asking::{self, Around, Asker};
use super::chronicle::Chronicle;
use super::context::{BASE, EXTRA, LAST};
use super::engine::{EntityRef, Joint};
use super::entities::{Entities, Handle};
use super::handover::Handover;
use super::history::History;
use super::in_play::{InPlay, Latest};
use super::maths::{hash, logit};
use super::model::{Extra, Model};
use super::spread::Spread;
use super::table::{LIMIT_MAX, Table};
use super::takes::{CHOICES, Takes};
use super::{Settings, Symbol};

/// Candidates whose forecast is made live; the others' is read off the counts.
const LIVE: usize = 6;
/// Least probability of a candidate whose forecast is made live.
const LIVE_P: f32 = 0.04;
/// Least probability of a type, given its candidate, that is kept as a pair.
const PAIR_P: f32 = 5e-4;
/// ε
const EPSILON: f32 = 1e-3;
/// Counts of types of lost entities.
const LOST_BITS: u8 = 10;

/// Everything outside a worker's model that it looks at.
#[derive(Clone, Copy)]
pub(super) struct World<'a> {
    pub entities: &'a Entities,
    /// The entities that had tasks last, whoever did them.
    pub latest: &'a Latest,
    /// Where an entity's history begins.
    pub chronicle: &'a Chronicle,
}

/// A candidate's place with a type and their probability. Places past the candidates: *new*, then *lost*.
#[derive(Clone, Copy, Debug)]
struct Pair {
    place: u8,
    symbol: Symbol,
    p: f32,
}

/// The model of all workers, or of the host.
#[derive(Clone, Debug)]
pub(super) struct WorkerModel {
    /// The host: one worker that does everything.
    host: bool,
    own: Model,
    takes: Takes,
    lost: Table,
    handover: Handover,
    chronicle: Chronicle,
    workers: Vec<Worker>,
    // the forecast in hand
    in_play: InPlay,
    order: Vec<u8>,
    pairs: Vec<Pair>,
    by_entities: Spread,
}

/// Stands for an entity that is not there.
static NO_HISTORY: std::sync::LazyLock<History> = std::sync::LazyLock::new(|| History::new(0));

impl WorkerModel {
    /// `host`: whether it follows the host as a whole; its tables are then smaller.
    pub fn new(settings: &Settings, alphabet: Option<usize>, host: bool) -> WorkerModel {
        let mut settings = settings.clone();
        if host {
            settings.table_bits = settings.table_bits.saturating_sub(2).max(8);
            settings.regression_bits = settings.regression_bits.saturating_sub(2).max(6);
        }
        let mut model = WorkerModel {
            host,
            own: Model::new(&OWN, &settings, alphabet),
            takes: Takes::new(),
            lost: Table::new(LOST_BITS, LIMIT_MAX),
            handover: Handover::new(),
            chronicle: Chronicle::new(settings.echo_bits()),
            workers: Vec::new(),
            in_play: InPlay::new(),
            order: Vec::with_capacity(CHOICES),
            pairs: Vec::with_capacity(CHOICES * 32),
            by_entities: Spread::default(),
        };
        model.grow(alphabet.unwrap_or(0));
        model
    }

    /// Makes room for types `0..n`.
    pub fn grow(&mut self, n: usize) {
        self.own.grow(n);
        self.by_entities.grow(n);
    }

    /// Makes room for workers `0..n`.
    pub fn grow_workers(&mut self, n: usize) {
        while self.workers.len() < n {
            let history = self.chronicle.begin(self.workers.len() as u64);
            self.workers.push(Worker::new(history));
        }
    }

    /// Memory, bytes.
    pub fn bytes(&self) -> usize {
        self.own.bytes()
            + self.takes.bytes()
            + self.lost.bytes()
            + self.handover.bytes()
            + self.chronicle.bytes()
            + self.by_entities.bytes()
            + self.workers.iter().map(Worker::bytes).sum::<usize>()
            + size_of::<WorkerModel>()
            + self.pairs.capacity() * size_of::<Pair>()
    }

    // ---- one forecast ---------------------------------------------------------------------------------

    /// Makes a forecast for worker number `w`. It stays in hand until the next one.
    pub fn predict(&mut self, w: usize, world: World<'_>, pair: &mut Model) {
        if self.workers[w].history.len == 0 {
            self.workers[w].history = self.chronicle.begin(w as u64);
        }
        let worker = &self.workers[w];
        self.in_play.gather(&worker.latest, &worker.inbox, world.latest, |h| world.entities.get(h).is_some());
        self.choose(w, world);
        self.by_entities.clear();
        self.pairs.clear();
        self.ask_entities(w, world, pair);
        self.add_lost(w);
        for p in &self.pairs {
            self.by_entities.add(p.symbol, p.p);
        }
        self.by_entities.sort();
        self.ask_worker(w, world);
    }

    /// Whether worker `w` was the last to touch an entity.
    fn mine(&self, w: usize, h: &History) -> bool {
        h.len > 0 && (self.host || h.partner == w as u64)
    }

    /// The history of the worker's i-th last entity.
    fn touched<'a>(&self, w: usize, i: usize, world: World<'a>) -> &'a History {
        let entity = self.workers[w].latest.get(i).and_then(|h| world.entities.get(h));
        entity.map_or(&NO_HISTORY, |e| &e.history)
    }

    /// P(c | w).
    fn choose(&mut self, w: usize, world: World<'_>) {
        let last = self.touched(w, 0, world);
        let asker = Asker {
            w: w as u64,
            worker: &self.workers[w],
            candidates: self.in_play.list().len(),
            host_type: world.chronicle.last_type,
            last,
            last_mine: self.mine(w, last),
        };
        self.takes.clear();
        for c in self.in_play.list() {
            let h = world.entities.get(c.entity).map_or(&*NO_HISTORY, |e| &e.history);
            self.takes.add(asking::candidate_features(&asker, c, h, self.mine(w, h)));
        }
        for which in [100, 200] {
            self.takes.add(asking::other_features(&asker, which));
        }
        self.takes.close();
    }

    /// P(t | c, w) for every candidate and for a new entity: live for the likeliest, else from the counts.
    fn ask_entities(&mut self, w: usize, world: World<'_>, pair: &mut Model) {
        let n = self.in_play.list().len();
        let p = self.takes.p();
        self.order.clear();
        self.order.extend(0..n as u8 + 1);
        let live = LIVE.min(n + 1);
        let falling = |a: &u8, b: &u8| p[*b as usize].total_cmp(&p[*a as usize]).then(a.cmp(b));
        if live <= n {
            self.order.select_nth_unstable_by(live - 1, falling);
        }
        // The rest of a forecast must not depend on how the selection left its two halves.
        self.order[..live].sort_unstable_by(falling);
        self.order[live..].sort_unstable();
        let new = world.chronicle.begin(super::NOBODY);
        for i in 0..n + 1 {
            let place = self.order[i];
            let p = self.takes.p()[place as usize];
            let candidate = self.in_play.list().get(place as usize).map(|c| c.entity);
            let h = match candidate {
                Some(c) => world.entities.get(c).map_or(&*NO_HISTORY, |e| &e.history),
                None => &new,
            };
            if i < live && (p > LIVE_P || i == 0) {
                pair.predict(h, &self.asking(w, h, candidate));
                self.take_live(place, p, pair);
            } else {
                self.take_counts(place, p, w, h, pair);
            }
        }
    }

    /// What the pair model is told when worker `w` asks about an entity.
    pub fn asking(&self, w: usize, h: &History, entity: Option<Handle>) -> Extra<'static> {
        if self.host {
            return Extra::NONE;
        }
        let worker = &self.workers[w];
        let is_last = entity.is_some() && worker.latest.get(0) == entity;
        Extra {
            contexts: asking::pair_contexts(h, w as u64, worker, is_last),
            selectors: asking::pair_selectors(h, w as u64, worker),
            given: None,
        }
    }

    fn take_live(&mut self, place: u8, p: f32, pair: &Model) {
        for (symbol, x) in pair.named() {
            if x > PAIR_P {
                self.pairs.push(Pair { place, symbol, p: p * x });
            } else {
                self.by_entities.rest += p * x;
            }
        }
        let [rest, new] = pair.rests();
        self.by_entities.rest += p * rest;
        self.by_entities.new += p * new;
    }

    /// What followed the entity's last type when this worker asked, then what followed it at all.
    fn take_counts(&mut self, place: u8, p: f32, w: usize, h: &History, pair: &Model) {
        let mut left = p;
        let asked = hash(&[h.lag(1), w as u64, 41]);
        for (k, z) in [(BASE, asked), (LAST, hash(&[h.lag(1)]))] {
            if k == BASE && self.host {
                continue;
            }
            let Some(node) = pair.counts(k, z) else { continue };
            left = share(&mut self.pairs, place, left, node.symbols(), node.counts(), node.total());
            if k == BASE && node.total() > 3 {
                break;
            }
        }
        self.by_entities.rest += left;
    }

    /// What this worker did when it took an entity that was no candidate.
    fn add_lost(&mut self, w: usize) {
        let place = self.in_play.list().len() + 1;
        let mut left = self.takes.p()[place];
        for state in lost_states(w as u64, &self.workers[w]) {
            if let Some(node) = self.lost.find(state).node {
                let node = self.lost.node(node);
                left = share(&mut self.pairs, place as u8, left, node.symbols(), node.counts(), node.total());
            }
        }
        self.by_entities.rest += left;
    }

    /// The worker's own model, with what the entities said.
    fn ask_worker(&mut self, w: usize, world: World<'_>) {
        let (last, last_but_one) = (self.touched(w, 0, world), self.touched(w, 1, world));
        let named = self.by_entities.named();
        let likeliest = [0, 1].map(|i| named.get(i).map_or(0, |&s| u64::from(s) + 1));
        let likeliest_class = named.first().map_or(0, |&s| (self.by_entities.p(s) * 6.0) as u64);
        let around = Around {
            last,
            last_but_one,
            mine: [self.mine(w, last), self.mine(w, last_but_one)],
            host_type: world.chronicle.last_type,
            likeliest,
            likeliest_class,
        };
        let worker = &self.workers[w];
        let p = self.takes.p();
        let p_last = worker.latest.get(0).and_then(|h| self.in_play.position(h)).map_or(0.0, |at| p[at]);
        let p_new = p[self.in_play.list().len()];
        // Eleven classes of how likely it is to go on with the same entity.
        let on = ((logit(p_last.clamp(0.01, 0.99)) + 4.8) * 1.6) as usize;
        let new = ((p_new * 5.0) as usize).min(4);
        let selectors = [
            w,
            likeliest[0] as usize * 7 + likeliest_class as usize,
            on * 64 + worker.taking as usize * 8 + new,
        ];
        let contexts: [u64; EXTRA] = asking::own_contexts(w as u64, worker, &around);
        let extra = Extra { contexts, selectors, given: Some(&self.by_entities) };
        self.own.predict(&worker.history, &extra);
    }

    // ---- the forecast in hand ---------------------------------------------------------------------------

    /// P(t), as the model that has it in hand.
    pub fn forecast(&self) -> &Model {
        &self.own
    }

    /// The likeliest pairs of entity and type, likeliest first, at most `max`, into an empty list.
    pub fn joint(&self, max: usize, out: &mut Vec<Joint>) {
        for pair in &self.pairs {
            let Some(c) = self.in_play.list().get(pair.place as usize) else { continue };
            let (entity, task_type) = (EntityRef(c.entity), pair.symbol);
            let p = pair.p * self.own.p(pair.symbol) / (self.by_entities.p(pair.symbol) + EPSILON);
            if out.len() == max && out.last().is_some_and(|o| p <= o.p) {
                continue;
            }
            match out.iter_mut().find(|o| o.entity == entity && o.task_type == task_type) {
                Some(o) => o.p += p,
                None => {
                    if out.len() == max {
                        out.pop();
                    }
                    out.push(Joint { entity, task_type, p });
                }
            }
            out.sort_unstable_by(|a, b| b.p.total_cmp(&a.p));
        }
    }

    /// P(entity, type); for an entity that is no candidate, that of all such with this type.
    pub fn joint_p(&self, entity: Option<Handle>, symbol: Symbol, p_type: f32) -> f32 {
        let n = self.in_play.list().len();
        let known = self.by_entities.named().contains(&symbol);
        let m = if known { self.by_entities.p(symbol) } else { 0.0 };
        let given_type = |place: usize| {
            let same = |p: &&Pair| p.place as usize == place && p.symbol == symbol;
            let pair: f32 = self.pairs.iter().filter(same).map(|p| p.p).sum();
            (pair + EPSILON * self.takes.p()[place]) / (m + EPSILON)
        };
        let place = entity.and_then(|h| self.in_play.position(h));
        p_type * place.map_or_else(|| given_type(n) + given_type(n + 1), given_type)
    }

    #[cfg(test)]
    pub fn assert_invariants(&self) {
        self.own.assert_invariants();
        let m = self.by_entities.named_total() + self.by_entities.rest + self.by_entities.new;
        assert!(self.takes.p().is_empty() || (m - 1.0).abs() < 1e-2, "M sums to {m}");
    }
}

/// Shares `left` among the counts as `c / (T + 1)`; gives back what remains.
fn share(pairs: &mut Vec<Pair>, place: u8, left: f32, symbols: &[Symbol], counts: &[u8], total: u8) -> f32 {
    let scale = left / (f32::from(total) + 1.0);
    for (&symbol, &count) in symbols.iter().zip(counts) {
        pairs.push(Pair { place, symbol, p: scale * f32::from(count) });
    }
    scale
}

/// The states in which a worker took an entity that was no candidate, the most specific first.
fn lost_states(w: u64, worker: &Worker) -> [u64; 4] {
    let x1 = worker.history.lag(1);
    [hash(&[w, x1, worker.taking as u64, 5]), hash(&[w, x1, 6]), hash(&[w, 7]), hash(&[8])]
}
