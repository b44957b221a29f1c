//! Which tasks, not yet submitted, an entity is expected to bring, and when.
//!
//! From the entity's latest types the [`chain`] gives the next type's probabilities and
//! [`arrival`](super::arrival) the time until then; both are rolled out a few steps. Each type gets the sum
//! over paths of (its first use on the path) × P(it comes within the horizon), where the waiting times along a
//! path add up to a gamma distribution.
//!
//! Learned from final outcomes alone, so the record rebuilds it. A submit teaches nothing yet, but it moves the
//! entity on at once: what is submitted is not expected any more.

pub mod chain;
mod snapshot;

use super::arrival::{Arrivals, Gaps, within};
use crate::flow::{Expected, Map, TypeId};
use crate::time::{Span, Time};
use chain::{Chain, Counts, ORDER, Past};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use snapshot::BadSnapshot;

/// Paths less likely than this are not followed. Measured on the staging workload.
const LEAST_PATH: f64 = 0.04;
/// Types less likely than this within the horizon are not listed.
const LEAST_EXPECTED: f64 = 0.01;
/// The latest gaps, from which the median is taken.
const GAPS_KEPT: usize = 256;
/// Submitted tasks of one entity that are kept in mind until they end.
const PENDING_KEPT: usize = 16;

/// How far to look.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Steps of an entity's chain.
    pub depth: u8,
    /// The horizon in median gaps.
    pub gaps: f64,
    /// No horizon is longer.
    pub horizon: Span,
    /// Entities that are remembered; the longest silent goes first.
    pub entities: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { depth: 8, gaps: 3.0, horizon: Span::from_secs(600), entities: 1 << 16 }
    }
}

/// What is remembered of one entity.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Entity {
    /// Its latest types, of tasks that have ended.
    past: Past,
    /// When the last of them ended.
    since: Time,
    /// What followed each type here.
    own: BTreeMap<TypeId, Counts>,
    gaps: Gaps,
    /// Submitted and not ended.
    pending: Vec<TypeId>,
    /// Its place in the order of silence.
    turn: u64,
}

/// The look ahead.
#[derive(Debug)]
pub struct Lookahead {
    settings: Settings,
    chain: Chain,
    arrivals: Arrivals,
    entities: Map<Arc<str>, Entity>,
    order: BTreeSet<(u64, Arc<str>)>,
    turns: u64,
    recent_gaps: Vec<f64>,
    next_gap: usize,
    median_gap_s: f64,
    /// Mean time between two ends of tasks of one type, and the last of them.
    rhythm: BTreeMap<TypeId, (Gaps, Time)>,
}

impl Lookahead {
    /// Nothing is known yet.
    pub fn new(settings: Settings) -> Lookahead {
        Lookahead {
            settings,
            chain: Chain::default(),
            arrivals: Arrivals::default(),
            entities: Map::default(),
            order: BTreeSet::new(),
            turns: 0,
            recent_gaps: Vec::new(),
            next_gap: 0,
            median_gap_s: 1.0,
            rhythm: BTreeMap::new(),
        }
    }

    /// Whether a task about this entity has ended before.
    pub fn knows(&self, entity: &str) -> bool {
        self.entities.get(entity).is_some_and(|e| e.past[0].is_some())
    }

    /// A task was submitted.
    pub fn arrived(&mut self, _now: Time, entity: &str, task_type: TypeId) {
        let e = self.entity(entity);
        if e.pending.len() < PENDING_KEPT {
            e.pending.push(task_type);
        }
    }

    /// A task has ended that was submitted at `submitted`: the lesson.
    pub fn ended(&mut self, submitted: Time, now: Time, entity: &str, task_type: TypeId) {
        let e = self.entity(entity);
        if let Some(at) = e.pending.iter().position(|t| *t == task_type) {
            e.pending.remove(at);
        }
        let (past, since) = (e.past, e.since);
        if let Some(last) = past[0] {
            let gap = submitted.since(since);
            e.gaps.learn(gap);
            e.own.entry(last).or_default().learn(task_type);
            self.arrivals.closed(last, since, submitted.max(since));
            self.learn_gap(gap.as_s());
        }
        self.chain.learn(&past, task_type);
        let e = self.entity(entity);
        e.past.rotate_right(1);
        e.past[0] = Some(task_type);
        e.since = now;
        self.arrivals.opened(task_type, now);
        let (gaps, last) = self.rhythm.entry(task_type).or_insert((Gaps::default(), now));
        if *last < now {
            gaps.learn(now.since(*last));
        }
        *last = now;
    }

    fn learn_gap(&mut self, gap_s: f64) {
        if self.recent_gaps.len() < GAPS_KEPT {
            self.recent_gaps.push(gap_s);
        } else {
            self.recent_gaps[self.next_gap] = gap_s;
        }
        self.next_gap = (self.next_gap + 1) % GAPS_KEPT;
        // The median moves slowly: looking every few gaps is enough.
        if self.recent_gaps.len() < 16 || self.next_gap.is_multiple_of(8) {
            let mut sorted = self.recent_gaps.clone();
            sorted.sort_by(f64::total_cmp);
            self.median_gap_s = sorted[sorted.len() / 2];
        }
    }

    /// The entity's state, made if need be; the longest silent one makes room.
    fn entity(&mut self, name: &str) -> &mut Entity {
        self.turns += 1;
        let turn = self.turns;
        let name: Arc<str> = match self.entities.get_key_value(name) {
            Some((known, e)) => {
                self.order.remove(&(e.turn, known.clone()));
                known.clone()
            }
            None => {
                while self.entities.len() >= self.settings.entities {
                    let (_, silent) = self.order.pop_first().expect("every entity has its turn");
                    let gone = self.entities.remove(&silent).expect("the order names known entities");
                    if let Some(last) = gone.past[0] {
                        self.arrivals.abandoned(last, gone.since);
                    }
                }
                name.into()
            }
        };
        self.order.insert((turn, name.clone()));
        let e = self.entities.entry(name).or_default();
        e.turn = turn;
        e
    }

    /// The horizon of expectations now.
    pub fn horizon(&self) -> Span {
        Span::from_s(self.settings.gaps * self.median_gap_s.max(1e-3)).min(self.settings.horizon)
    }

    /// What this entity is expected to bring within the horizon, soonest first.
    pub fn expected(&self, entity: &str, now: Time) -> Vec<Expected> {
        let Some((name, e)) = self.entities.get_key_value(entity) else { return Vec::new() };
        let mut past = e.past;
        for t in &e.pending {
            past.rotate_right(1);
            past[0] = Some(*t);
        }
        if past[0].is_none() {
            return Vec::new();
        }
        // While a task of it waits or runs, the gap that counts has not begun.
        let since = if e.pending.is_empty() { e.since } else { now };
        let mut roll = Roll {
            ahead: self,
            e,
            now,
            since,
            horizon_s: self.horizon().as_s(),
            found: BTreeMap::new(),
            path: vec![],
        };
        roll.step(&past, 1.0, 0.0, 0.0, 1);
        let mut expected: Vec<Expected> = roll
            .found
            .into_iter()
            .filter(|(_, f)| f.p >= LEAST_EXPECTED)
            .map(|(task_type, f)| Expected {
                entity: name.clone(),
                task_type,
                p: f.p.min(1.0),
                due: now + Span::from_s(f.weighted_s / f.p),
                depth: f.depth,
            })
            .collect();
        expected.sort_by(|a, b| a.due.cmp(&b.due).then(a.task_type.cmp(&b.task_type)));
        expected
    }

    /// What the entities heard of last are expected to bring, likeliest first, at most `limit`.
    pub fn expected_all(&self, now: Time, limit: usize) -> Vec<Expected> {
        let latest = self.order.iter().rev().take(limit.saturating_mul(4));
        let mut all: Vec<Expected> = latest.flat_map(|(_, e)| self.expected(e, now)).collect();
        all.sort_by(|a, b| {
            b.p.total_cmp(&a.p).then(a.entity.cmp(&b.entity)).then(a.task_type.cmp(&b.task_type))
        });
        all.truncate(limit);
        all
    }

    /// Expected time until the next task of a type, over all entities.
    pub fn due_in(&self, task_type: TypeId, now: Time) -> Option<Span> {
        let (gaps, last) = self.rhythm.get(&task_type)?;
        if gaps.n < 1.0 {
            return None;
        }
        // The exponential has no memory, but a type that fell silent is slower than it was.
        Some(Span::from_s((gaps.sum_s + now.since(*last).as_s()) / gaps.n))
    }
}

/// What was found of one type while rolling out.
struct Found {
    p: f64,
    weighted_s: f64,
    depth: u8,
}

struct Roll<'a> {
    ahead: &'a Lookahead,
    e: &'a Entity,
    now: Time,
    since: Time,
    horizon_s: f64,
    found: BTreeMap<TypeId, Found>,
    path: Vec<TypeId>,
}

impl Roll<'_> {
    /// One step further on a path of probability `p` whose waiting times have this mean and variance.
    fn step(&mut self, past: &Past, p: f64, mean_s: f64, variance_s2: f64, depth: u8) {
        let Some(last) = past[0] else { return };
        if depth > self.ahead.settings.depth {
            return;
        }
        let waited = if depth == 1 { self.now.since(self.since) } else { Span::ZERO };
        let gap_s = self.ahead.arrivals.mean_s(self.e.gaps, waited, last, self.now);
        let (mean_s, variance_s2) = (mean_s + gap_s, variance_s2 + gap_s * gap_s);
        let comes = within(mean_s, variance_s2, self.horizon_s);
        for (t, q) in self.ahead.chain.next(past, self.e.own.get(&last)) {
            let p = p * q;
            if p < LEAST_PATH || p * comes < LEAST_EXPECTED {
                continue;
            }
            if !self.path.contains(&t) {
                let f = self.found.entry(t).or_insert(Found { p: 0.0, weighted_s: 0.0, depth });
                f.p += p * comes;
                f.weighted_s += p * comes * mean_s;
                f.depth = f.depth.min(depth);
            }
            let mut next = *past;
            next.rotate_right(1);
            next[0] = Some(t);
            self.path.push(t);
            self.step(&next, p, mean_s, variance_s2, depth + 1);
            self.path.pop();
        }
    }
}

/// A type's place in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Rhythm(TypeId, Gaps, Time);

const _: () = assert!(ORDER >= 1, "the roll out looks at the last type");

#[cfg(test)]
mod tests {
    use super::*;

    const CREATE: TypeId = TypeId(0);
    const COPY: TypeId = TypeId(1);
    const DELETE: TypeId = TypeId(2);

    /// Entities that go create → copy → delete, two seconds apart.
    fn taught(n: u32) -> (Lookahead, Time) {
        let mut l = Lookahead::new(Settings::default());
        let mut now = Time::from_us(1_000_000);
        for i in 0..n {
            for t in [CREATE, COPY, DELETE] {
                let e = format!("v{i}");
                l.arrived(now, &e, t);
                l.ended(now, now, &e, t);
                now = now + Span::from_secs(2);
            }
        }
        (l, now)
    }

    #[test]
    fn a_new_entity_is_expected_to_do_as_others_did() {
        let (mut l, now) = taught(30);
        l.arrived(now, "new", CREATE);
        l.ended(now, now, "new", CREATE);
        let expected = l.expected("new", now);
        let copy = expected.iter().find(|e| e.task_type == COPY).expect("copy is expected");
        assert!(copy.p > 0.8 && copy.depth == 1, "{copy:?}");
        let wait = copy.due.since(now).as_s();
        assert!((1.5..3.0).contains(&wait), "due in {wait} s");
        let delete = expected.iter().find(|e| e.task_type == DELETE).expect("the whole chain is seen");
        assert!(delete.due > copy.due && delete.depth == 2 && delete.p < copy.p);
    }

    #[test]
    fn what_is_submitted_is_not_expected_any_more() {
        let (mut l, now) = taught(30);
        l.ended(now, now, "new", CREATE);
        l.arrived(now, "new", COPY);
        let expected = l.expected("new", now);
        assert!(expected.iter().all(|e| e.task_type != COPY || e.p < 0.2), "{expected:?}");
        assert!(expected.iter().any(|e| e.task_type == DELETE && e.depth == 1));
    }

    #[test]
    fn probabilities_stay_probabilities_and_unknown_entities_bring_nothing() {
        let (l, now) = taught(5);
        assert!(l.expected("never seen", now).is_empty());
        for e in l.expected_all(now, 100) {
            assert!(e.p > 0.0 && e.p <= 1.0 && e.due >= now);
        }
    }

    #[test]
    fn the_longest_silent_entity_is_forgotten_first() {
        let mut l = Lookahead::new(Settings { entities: 2, ..Settings::default() });
        for (i, e) in ["a", "b", "a", "c"].into_iter().enumerate() {
            let now = Time::from_us(i as u64 + 1);
            l.ended(now, now, e, CREATE);
        }
        assert!(l.knows("a") && l.knows("c") && !l.knows("b"));
    }

    #[test]
    fn a_snapshot_gives_the_same_expectations_bit_for_bit() {
        let (mut l, now) = taught(20);
        l.ended(now, now, "new", CREATE);
        let back = Lookahead::from_bytes(Settings::default(), &l.to_bytes()).unwrap();
        assert_eq!(back.expected("new", now), l.expected("new", now));
        assert_eq!(back.to_bytes(), l.to_bytes());
        let mut bad = l.to_bytes();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        assert!(Lookahead::from_bytes(Settings::default(), &bad).is_err());
    }
}
