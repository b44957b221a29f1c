//! Tasks that nobody has submitted yet: which types an entity will bring within the horizon, and which of
//! its objects they will read.
//!
//! An entity's future is a tree of paths: after each type the [`chain`] says which may follow, [`arrival`]
//! when. Paths are followed to depth 8 and left at a probability below .04; a type (or an object) takes
//! the sum, over the paths on which it comes, of path probability × P(T ≤ H) at its first place on the path,
//! T gamma with the summed moments of the path's gaps. Measured on the staging workload this is calibrated
//! (forecast .05, .25, .45, .65, .85 came true in .04, .24, .48, .69, .84).
//!
//! What is learned comes from ended tasks in the order of the record ([`Lookahead::ended`]); a submitted
//! task that has not ended yet ([`Lookahead::arrived`]) only moves its entity on. A snapshot and the
//! outcomes since give the same state as having lived through both.
//!
//! [`arrival`]: super::arrival

pub mod chain;
mod parts;
mod record;
mod uses;

pub use record::BadSnapshot;

use self::chain::{Chain, Counts, ORDER, Past};
use self::parts::{Last, Part, Parts};
use self::uses::{FirstUses, Reads, Step, Visitor};
use super::arrival::{Arrivals, Gaps, within};
use crate::flow::{Expected, Map, ObjectName, TypeId};
use crate::time::{Span, Time};
use std::collections::VecDeque;
use std::sync::Arc;

/// A path that is less probable is left.
const PATH_P_MIN: f64 = 0.04;
/// A step that is less probable within the horizon is left.
const STEP_P_MIN: f64 = 0.01;
/// Gaps within entities whose median sets the horizon.
const GAPS_WATCHED: usize = 400;
/// The shortest horizon.
const HORIZON_MIN: Span = Span::from_ms(300);
/// What the median gap is taken to be before five were seen.
const MEDIAN_UNKNOWN: Span = Span::from_secs(1);
/// Types after which an entity's own counts and gaps are kept.
const OWN_MAX: usize = 16;
/// Tasks of one entity that have come and not ended; of more than that the oldest is taken as ended.
const PENDING_MAX: usize = 64;

/// How far to look.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Steps of an entity's chain, 1 or more.
    pub depth: u8,
    /// The horizon in median gaps within an entity: 3, or 1.5 where the cache holds less than a tenth of what is
    /// used.
    pub gaps: f64,
    /// No horizon is longer.
    pub horizon: Span,
    /// Entities that are remembered; a quarter of them, those silent for longest, goes when there are more.
    pub entities: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { depth: 8, gaps: 3.0, horizon: Span::from_secs(600), entities: 1 << 16 }
    }
}

/// What an entity did after tasks of one type.
#[derive(Clone, Debug, Default, PartialEq)]
struct Own {
    after: Option<TypeId>,
    next: Counts,
    gaps: Gaps,
}

/// One entity, as its ended tasks left it, and its tasks that have not ended.
#[derive(Clone, Debug, Default, PartialEq)]
struct Entity {
    past: Past,
    /// When the last ended task had been submitted.
    submitted: Time,
    own: Vec<Own>,
    last: Vec<Last>,
    pending: VecDeque<Pending>,
}

#[derive(Clone, Debug, PartialEq)]
struct Pending {
    task_type: TypeId,
    submitted: Time,
    reads: Vec<ObjectName>,
}

impl Entity {
    fn own(&self, after: Option<TypeId>) -> Option<&Own> {
        self.own.iter().find(|o| o.after == after)
    }

    fn own_mut(&mut self, after: Option<TypeId>) -> &mut Own {
        let at = self.own.iter().position(|o| o.after == after).unwrap_or_else(|| {
            if self.own.len() >= OWN_MAX {
                self.own.remove(0);
            }
            self.own.push(Own { after, ..Own::default() });
            self.own.len() - 1
        });
        &mut self.own[at]
    }

    /// Its latest types and moment of submit, tasks that have not ended included.
    fn now_at(&self) -> (Past, Time) {
        self.pending
            .iter()
            .fold((self.past, self.submitted), |(past, _), p| (moved_on(&past, p.task_type), p.submitted))
    }

    fn is_new(&self) -> bool {
        self.past[0].is_none()
    }
}

fn moved_on(past: &Past, next: TypeId) -> Past {
    let mut moved = [Some(next); ORDER];
    moved[1..].copy_from_slice(&past[..ORDER - 1]);
    moved
}

/// The look ahead over all entities. Memory: about 300 bytes an entity, 100 a context.
#[derive(Clone, Debug)]
pub struct Lookahead {
    settings: Settings,
    chain: Chain,
    arrivals: Arrivals,
    parts: Parts,
    entities: Map<Arc<str>, Entity>,
    /// The latest gaps within entities, microseconds, and their median.
    gaps_us: VecDeque<u64>,
    median_gap: Span,
    /// By type: when it came last, and the gaps between its submits over all entities.
    rhythm: Map<TypeId, (Time, Gaps)>,
}

impl Lookahead {
    /// One that has seen nothing.
    pub fn new(settings: Settings) -> Lookahead {
        Lookahead {
            settings,
            chain: Chain::default(),
            arrivals: Arrivals::default(),
            parts: Parts::default(),
            entities: Map::default(),
            gaps_us: VecDeque::new(),
            median_gap: MEDIAN_UNKNOWN,
            rhythm: Map::default(),
        }
    }

    /// Whether a task about this entity has ended before.
    pub fn knows(&self, entity: &str) -> bool {
        self.entities.get(entity).is_some_and(|e| !e.is_new())
    }

    /// How far ahead is looked.
    pub fn horizon(&self) -> Span {
        self.median_gap.times(self.settings.gaps).max(HORIZON_MIN).min(self.settings.horizon)
    }

    /// Sets the horizon's multiple: 1.5 once a cache is known to hold less than a tenth of what is used.
    pub fn set_gaps(&mut self, gaps: f64) {
        self.settings.gaps = gaps;
    }

    /// A task of this entity was submitted.
    pub fn arrived(&mut self, now: Time, entity: &str, task_type: TypeId) {
        self.arrived_reading(now, entity, task_type, &[]);
    }

    /// The same, and what it will read is known: its numbered parts move on at once.
    pub fn arrived_reading(&mut self, now: Time, entity: &str, task_type: TypeId, reads: &[ObjectName]) {
        let e = self.entities.entry(entity.into()).or_default();
        if e.pending.len() >= PENDING_MAX {
            e.pending.pop_front();
        }
        e.pending.push_back(Pending { task_type, submitted: now, reads: reads.to_vec() });
        self.forget_the_silent(entity);
    }

    /// A task of this entity has ended, in the order of the record: the one lesson it teaches.
    pub fn ended(&mut self, submitted: Time, ended: Time, entity: &str, task_type: TypeId) {
        self.ended_reading(submitted, ended, entity, task_type, &[]);
    }

    /// The same, with what it read.
    pub fn ended_reading(
        &mut self,
        submitted: Time,
        _ended: Time,
        entity: &str,
        task_type: TypeId,
        reads: &[ObjectName],
    ) {
        let mut e = self.entities.remove(entity).unwrap_or_default();
        if let Some(at) = e.pending.iter().position(|p| p.task_type == task_type && p.submitted == submitted)
        {
            e.pending.remove(at);
        }
        if submitted < e.submitted {
            // It was overtaken by a later task of its entity: taken in this order, the chain would learn steps
            // that nobody has made. (Learning from it in its right place gained nothing.)
            self.entities.insert(entity.into(), e);
            return;
        }
        if let Some(before) = e.past[0] {
            let gap = submitted.since(e.submitted);
            self.arrivals.closed(before, e.submitted, submitted);
            self.watch(gap);
            self.chain.learn(&e.past, task_type);
            let own = e.own_mut(Some(before));
            own.next.learn(task_type);
            own.gaps.learn(gap);
        }
        self.arrivals.opened(task_type, submitted);
        self.parts.learn(entity, task_type, reads, &mut e.last);
        e.past = moved_on(&e.past, task_type);
        e.submitted = submitted;
        self.entities.insert(entity.into(), e);
        let rhythm = self.rhythm.entry(task_type).or_insert((submitted, Gaps::default()));
        if submitted > rhythm.0 {
            rhythm.1.learn(submitted.since(rhythm.0));
            rhythm.0 = submitted;
        }
        self.forget_the_silent(entity);
    }

    fn watch(&mut self, gap: Span) {
        if self.gaps_us.len() >= GAPS_WATCHED {
            self.gaps_us.pop_front();
        }
        self.gaps_us.push_back(gap.as_us());
        if self.gaps_us.len() >= 5 {
            let mut gaps: Vec<u64> = self.gaps_us.iter().copied().collect();
            let middle = gaps.len() / 2;
            self.median_gap = Span::from_us(*gaps.select_nth_unstable(middle).1);
        }
    }

    /// Keeps the store of entities within its limit; `spared` has just been touched.
    fn forget_the_silent(&mut self, spared: &str) {
        if self.entities.len() <= self.settings.entities.max(1) {
            return;
        }
        let mut by_silence: Vec<(Time, Arc<str>)> =
            self.entities.iter().map(|(name, e)| (e.now_at().1, name.clone())).collect();
        by_silence.sort_unstable();
        let surplus = self.entities.len() - self.settings.entities * 3 / 4;
        for (_, name) in by_silence.into_iter().filter(|(_, n)| &**n != spared).take(surplus) {
            let Some(e) = self.entities.remove(&name) else { continue };
            if let Some(last) = e.past[0] {
                self.arrivals.abandoned(last, e.submitted);
            }
        }
    }

    /// The tasks that this entity is expected to bring within the horizon, soonest first.
    pub fn expected(&self, entity: &str, now: Time) -> Vec<Expected> {
        let Some((name, e)) = self.entities.get_key_value(entity) else { return Vec::new() };
        let mut first = FirstUses::default();
        self.walk(e, now, &mut first);
        first.into_expected(|task_type| (name.clone(), task_type))
    }

    /// The same over all entities in play, likeliest first, at most `limit`. Cost: a roll out for each entity
    /// whose next task may come within the horizon.
    pub fn expected_all(&self, now: Time, limit: usize) -> Vec<Expected> {
        let mut all: Vec<Expected> = Vec::new();
        for (name, e) in &self.entities {
            let mut first = FirstUses::default();
            self.walk(e, now, &mut first);
            all.extend(first.into_expected(|task_type| (name.clone(), task_type)));
        }
        all.sort_by(|a, b| {
            b.p.total_cmp(&a.p)
                .then(a.due.cmp(&b.due))
                .then_with(|| (&a.entity, a.task_type).cmp(&(&b.entity, b.task_type)))
        });
        all.truncate(limit);
        all
    }

    /// The entity's own objects that its expected tasks will read, each with the expectation of its first
    /// use; soonest first. Learned from what its like have read, so it knows the numbered parts that no
    /// template can name.
    pub fn expected_objects(&self, entity: &str, now: Time) -> Vec<(ObjectName, Expected)> {
        let Some((name, e)) = self.entities.get_key_value(entity) else { return Vec::new() };
        let mut last = e.last.clone();
        for p in &e.pending {
            self.parts.advance(entity, p.task_type, &p.reads, &mut last);
        }
        let mut reads = Reads::new(&self.parts, last);
        self.walk(e, now, &mut reads);
        let object = |part: Part| self.parts.name(entity, part);
        reads
            .into_uses()
            .into_iter()
            .map(|(part, u)| (object(part), u.expected(name.clone(), u.task_type)))
            .collect()
    }

    /// Expected time until the next submit of this type by anybody: the mean gap between its submits, shrunk
    /// by nothing; `None` before its second.
    pub fn due_in(&self, task_type: TypeId, now: Time) -> Option<Span> {
        let (last, gaps) = self.rhythm.get(&task_type)?;
        let mean = Span::from_s((gaps.sum_s + now.since(*last).as_s()) / gaps.n);
        (gaps.n > 0.0).then_some(mean)
    }

    /// Follows every path that is probable enough.
    fn walk(&self, e: &Entity, now: Time, visitor: &mut impl Visitor) {
        let (past, since) = e.now_at();
        if past[0].is_none() {
            return;
        }
        let horizon_s = self.horizon().as_s();
        let waited = now.since(since);
        self.branch(
            &Branch { e, now, horizon_s, waited, past, p: 1.0, mean_s: 0.0, var_s2: 0.0, depth: 1 },
            visitor,
        );
    }

    fn branch(&self, b: &Branch<'_>, visitor: &mut impl Visitor) {
        let Some(before) = b.past[0] else { return };
        let own = b.e.own(Some(before));
        let gap_s = self.arrivals.mean_s(own.map_or(Gaps::default(), |o| o.gaps), b.waited, before, b.now);
        let (mean_s, var_s2) = (b.mean_s + gap_s, b.var_s2 + gap_s * gap_s);
        let in_time = within(mean_s, var_s2, b.horizon_s);
        for (task_type, p_next) in self.chain.next(&b.past, own.map(|o| &o.next)) {
            let p = b.p * p_next;
            if p < PATH_P_MIN || p * in_time < STEP_P_MIN {
                continue;
            }
            let due = b.now + Span::from_s(mean_s);
            visitor.enter(&Step { task_type, p: p * in_time, due, depth: b.depth });
            if b.depth < self.settings.depth {
                let past = moved_on(&b.past, task_type);
                let next = Branch { past, p, mean_s, var_s2, waited: Span::ZERO, depth: b.depth + 1, ..*b };
                self.branch(&next, visitor);
            }
            visitor.leave();
        }
    }

    /// Checks what must hold between calls.
    ///
    /// # Panics
    /// If it does not.
    pub fn assert_invariants(&self) {
        assert!(self.entities.len() <= self.settings.entities.max(1), "the store of entities overflows");
        assert!(self.gaps_us.len() <= GAPS_WATCHED);
        for e in self.entities.values() {
            assert!(
                e.own.len() <= OWN_MAX && e.last.len() <= parts::LAST_MAX && e.pending.len() <= PENDING_MAX
            );
            assert!(!e.is_new() || !e.pending.is_empty(), "an entity without any task");
        }
    }
}

/// Where a walk stands.
#[derive(Clone, Copy)]
struct Branch<'a> {
    e: &'a Entity,
    now: Time,
    horizon_s: f64,
    /// How long the entity has been silent; zero beyond the first step.
    waited: Span,
    past: Past,
    p: f64,
    mean_s: f64,
    var_s2: f64,
    depth: u8,
}

#[cfg(test)]
mod tests;
