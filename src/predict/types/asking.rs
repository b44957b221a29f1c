//! What matters about a worker and an entity together: contexts and features, all as hashes.

use super::context::{BASE, Context, EXTRA, length_class};
use super::history::History;
use super::in_play::{Candidate, NOT};
use super::maths::{count_class, hash, span_class};
use super::takes;
use super::worker_model::Worker;

/// The extra contexts of the pair model: the entity's state and who asks.
pub(super) const PAIR_CONTEXTS: [Context; EXTRA] = [
    extra("last 1, asker", 1),
    extra("last 2, asker", BASE),
    extra("last 1, partner, asker", BASE),
    extra("last 1, counts so far, asker", BASE),
    extra("last 1, last 1 of asker", 1),
    extra("last 1, how the asker took its last two", BASE),
    extra("asker, last 1 of asker", 0),
    extra("last 3, asker", BASE + 1),
];

/// The extra contexts of a worker's own model: the state of the entities it touched last.
pub(super) const OWN_CONTEXTS: [Context; EXTRA] = [
    extra("last entity's last 2", 1),
    extra("last entity's last 3, worker", BASE),
    extra("last entity's counts so far", BASE),
    extra("last 1, last type on the host", 1),
    extra("last 1, likeliest by entities", 1),
    extra("two likeliest by entities, worker", BASE + 4),
    extra("last 1, run, worker", 1),
    extra("last two entities' last 1, worker", BASE),
];

const fn extra(name: &'static str, parent: usize) -> Context {
    Context { name, parent, counts_new_to: None }
}

/// Contexts of the pair model for an entity, when worker number `w` asks. `is_last`: the worker's last task
/// was about this entity.
#[inline]
pub(super) fn pair_contexts(h: &History, w: u64, worker: &Worker, is_last: bool) -> [u64; EXTRA] {
    let (x1, x2) = (h.lag(1), h.lag(2));
    let mine = u64::from(h.partner == w);
    let xw = worker.history.lag(1);
    let (taking, before) = (worker.taking as u64, worker.taking_before as u64);
    [
        hash(&[x1, w, 41]),
        hash(&[x1, x2, w, 42]),
        hash(&[x1, h.partner, w, 43]),
        hash(&[x1, h.bag, w, 44]),
        hash(&[x1, xw, mine, 45]),
        hash(&[x1, u64::from(is_last), mine, taking, before, 46]),
        hash(&[w, xw, 47]),
        hash(&[x1, x2, h.lag(3), w, mine]),
    ]
}

/// What selects the pair model's weights: the asker, the entity's state and whose it was, the asker's state.
#[inline]
pub(super) fn pair_selectors(h: &History, w: u64, worker: &Worker) -> [usize; 3] {
    let mine = usize::from(h.partner == w);
    [w as usize, mine * 512 + h.lag(1) as usize, worker.history.lag(1) as usize]
}

/// What a worker's own model is told of the entities.
pub(super) struct Around<'a> {
    /// Histories of the last and the last but one entity the worker touched.
    pub last: &'a History,
    pub last_but_one: &'a History,
    /// Whether each was last touched by this worker.
    pub mine: [bool; 2],
    /// Type + 1 of the last task on the host.
    pub host_type: u16,
    /// Types + 1 that the entities in play make likeliest, and the class of the first one's probability.
    pub likeliest: [u64; 2],
    pub likeliest_class: u64,
}

/// Contexts of a worker's own model.
#[inline]
pub(super) fn own_contexts(w: u64, worker: &Worker, a: &Around<'_>) -> [u64; EXTRA] {
    let x1 = worker.history.lag(1);
    let [mine, mine_before] = a.mine.map(u64::from);
    let (e1, e2) = (a.last, a.last_but_one);
    let [t1, t2] = a.likeliest;
    [
        hash(&[e1.lag(1), e1.lag(2), mine, 51]),
        hash(&[e1.lag(1), e1.lag(2), e1.lag(3), w, 52]),
        hash(&[e1.lag(1), e1.bag, mine, 53]),
        hash(&[x1, u64::from(a.host_type), 54]),
        hash(&[t1, a.likeliest_class, x1, 55]),
        hash(&[t1, t2, w, 56]),
        hash(&[x1, u64::from(worker.run.min(4)), worker.taking as u64, w, 57]),
        hash(&[e1.lag(1), mine, e2.lag(1), mine_before, w, 58]),
    ]
}

/// What is the same for all candidates of one forecast.
pub(super) struct Asker<'a> {
    pub w: u64,
    pub worker: &'a Worker,
    pub candidates: usize,
    /// Type + 1 of the last task on the host.
    pub host_type: u16,
    /// The last entity that the worker touched, and whether it is still the one who touched it last.
    pub last: &'a History,
    pub last_mine: bool,
}

/// A rank in a list, as a class: exact up to 3, then by doubling.
#[inline]
fn rank_class(rank: u8) -> u64 {
    match rank {
        NOT => 20,
        r if r < 4 => r.into(),
        r => 2 + count_class(r.into()),
    }
}

#[inline]
fn hashed(parts: [&[u64]; takes::FEATURES]) -> takes::Features {
    parts.map(|p| (hash(p) >> 20) as u16)
}

/// Features of one candidate. `mine`: this worker touched it last.
#[inline]
pub(super) fn candidate_features(a: &Asker<'_>, c: &Candidate, h: &History, mine: bool) -> takes::Features {
    let (w, worker) = (a.w, a.worker);
    let (xw, same, taking) = (worker.history.lag(1), u64::from(worker.run.min(5)), worker.taking as u64);
    let (mine, x1, x2) = (u64::from(mine), h.lag(1), h.lag(2));
    let (own, host) = (rank_class(c.own), rank_class(c.host));
    let [around, newest, oldest] = [c.around, c.newest, c.oldest].map(u64::from);
    let age = match () {
        () if worker.history.len == 0 => 99,
        () if h.last > worker.history.last => 60,
        () => span_class(worker.history.last.since(h.last)),
    };
    let pause = span_class(h.last.since(h.previous));
    let kind = own * 2 + mine;
    let none = u64::from(NOT);
    let inbox = match () {
        () if around < none => 1,
        () if newest < none => 2,
        () if oldest < none => 3,
        () => 0,
    };
    hashed([
        &[1, kind],
        &[3, around, w],
        &[6, host, mine, own.min(4)],
        &[7, x1, mine],
        &[8, x1, w, mine],
        &[9, x1, h.partner, w],
        &[10, age, mine, own.min(4)],
        &[11, x1, u64::from(h.len.min(12)), mine],
        &[12, xw, x1, own.min(2), mine],
        &[13, kind, same, taking],
        &[14, inbox, length_class(worker.inbox.len())],
        &[15, x1, x2, mine],
        &[19, host, w],
        &[21, own.min(2), mine, x1, same],
        &[22, x1, x2, w, mine],
        &[23, host, x1, h.partner, own.min(4)],
        &[28, x1, pause, mine],
    ])
}

/// Features of the choices that are no candidate: `which` tells *new* from *lost*.
#[inline]
pub(super) fn other_features(a: &Asker<'_>, which: u64) -> takes::Features {
    let (w, worker) = (a.w, a.worker);
    let (xw, same) = (worker.history.lag(1), u64::from(worker.run.min(5)));
    let (taking, before) = (worker.taking as u64, worker.taking_before as u64);
    let open = length_class(worker.inbox.len());
    let gap = span_class(worker.history.last.since(worker.history.previous));
    let (e1x, e1x2, e1mine, z) = (a.last.lag(1), a.last.lag(2), u64::from(a.last_mine), which);
    hashed([
        &[z, 1],
        &[z, 3, xw],
        &[z, 6, taking, before],
        &[z, 7, same, taking],
        &[z, 8, open],
        &[z, 9, open, w],
        &[z, 10, u64::from(a.host_type)],
        &[z, 11, worker.history.lag(2), xw],
        &[z, 12, a.candidates as u64 / 8],
        &[z, 13, u64::from(worker.same_taking.min(10)), w],
        &[z, 14, u64::from(worker.history.len.min(30))],
        &[z, 15, taking, before, w],
        &[z, 19, gap, w],
        &[z, 21, e1x, e1mine, w],
        &[z, 22, a.last.bag],
        &[z, 23, e1x, e1x2, e1mine],
        &[z, 28],
    ])
}
