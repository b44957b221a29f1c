//! One pool as the object predictor sees it in a running daemon.
//!
//! In a replay a pool answers at once and a staged object is there at once. Here sizes become known late,
//! transfers take time and may not happen at all; this is where the difference is made up for. A pure core: facts
//! and the time in, orders out.

use super::core::{Access, Answer, ObjectPredictor, PoolFacts, Proposal};
use super::snapshot::Bad;
use super::worth::SourceSpeed;
use crate::flow::{Map, ObjectName};
use crate::message::{Expect, PoolFill, Proposed, ProposedObject, Unforeseen};
use crate::time::{Span, Time};
use std::collections::VecDeque;

/// Names that one pool's catalogue may hold: some 12 MiB of names and sizes when it is full.
pub const MAX_NAMES: usize = 1 << 17;
/// Bounds of how long a proposal stands: it must be possible to carry it out, and it is not to lie about.
const STANDS: (Span, Span) = (Span::from_secs(2), Span::from_secs(600));
/// Weight of the newest in the mean time between two arrivals in the pool.
const SMOOTHING: f64 = 0.05;
/// What that time is taken to be at first.
const FIRST_GAP: Span = Span::from_secs(1);
/// Proposals that are followed at a time; the oldest is forgotten, and counts as carried out.
const FOLLOWED: usize = 4_096;

/// The object predictor of one pool, and what it has to be told that a replay knows anyway.
pub struct PoolHistory {
    predictor: Option<Box<ObjectPredictor>>,
    facts: PoolFacts,
    /// The pool counts its arrivals anew at each start; this many came before.
    inserts_before: u64,
    /// (time, arrivals) when a task last asked for something.
    last: Option<(Time, u64)>,
    gap_s: f64,
    /// Proposals on their way, by when they end.
    proposed: VecDeque<(Time, ObjectName)>,
    /// Objects of the pool, for a predictor that does not exist yet.
    present: Map<ObjectName, u64>,
    changed: bool,
    scratch: Vec<Proposal>,
}

impl PoolHistory {
    /// Nothing was asked for yet. Memory is taken when something is.
    pub fn new() -> PoolHistory {
        PoolHistory {
            predictor: None,
            facts: PoolFacts { capacity_bytes: 0, entry_bytes: 0, entries: 0, inserts: 0 },
            inserts_before: 0,
            last: None,
            gap_s: FIRST_GAP.as_s(),
            proposed: VecDeque::new(),
            present: Map::default(),
            changed: false,
            scratch: vec![],
        }
    }
    /// Goes on from a snapshot ([`PoolHistory::to_bytes`]), with the objects that the pool holds now.
    ///
    /// # Errors
    /// [`Bad`] if the bytes are not such a snapshot.
    pub fn restore<'a>(
        bytes: &[u8],
        objects: impl Iterator<Item = &'a ObjectName>,
    ) -> Result<PoolHistory, Bad> {
        let mut predictor = ObjectPredictor::from_bytes(bytes, MAX_NAMES, SourceSpeed::default())?;
        predictor.reconcile(objects);
        let inserts_before = predictor.inserts();
        Ok(PoolHistory { predictor: Some(Box::new(predictor)), inserts_before, ..PoolHistory::new() })
    }
    /// What was learned since the last time, if anything was.
    pub fn to_bytes(&mut self) -> Option<Vec<u8>> {
        let changed = std::mem::take(&mut self.changed);
        self.predictor.as_ref().filter(|_| changed).map(|p| p.to_bytes())
    }
    /// How full the pool is.
    pub fn filled(&mut self, fill: PoolFill) {
        let PoolFill { capacity_bytes, entry_bytes, entries, inserts } = fill;
        self.facts =
            PoolFacts { capacity_bytes, entry_bytes, entries, inserts: inserts + self.inserts_before };
    }
    /// An object came into the pool or left it.
    pub fn cached(&mut self, object: &ObjectName, bytes: u64, there: bool) {
        match (&mut self.predictor, there) {
            (Some(p), true) => {
                p.arrived(object);
                p.measured(object, bytes);
            }
            (Some(p), false) => p.left(object),
            (None, true) => _ = self.present.insert(object.clone(), bytes),
            (None, false) => _ = self.present.remove(object),
        }
    }
    /// A proposal was not carried out.
    pub fn declined(&mut self, object: &ObjectName) {
        if let Some(p) = &mut self.predictor
            && !p.is_resident(object)
        {
            p.declined(object);
        }
    }
    /// A task has asked for objects: what the pool should keep or let go, and what should be staged.
    pub fn asked(&mut self, asked: &Unforeseen, now: Time) -> (Expect, Proposed) {
        self.changed = true;
        self.pace(now);
        self.give_up(now);
        if self.predictor.is_none() {
            self.begin();
        }
        let stands = Span::from_s(self.gap_s * self.facts.horizon() as f64).clamp(STANDS.0, STANDS.1);
        let until = now + stands;
        let accesses: Vec<Access<'_>> = asked.reads.iter().map(access).collect();
        let mut proposals = std::mem::take(&mut self.scratch);
        if let Some(p) = &mut self.predictor {
            p.observe(&accesses, self.facts, &mut proposals);
        }
        let mut expect = Expect::default();
        let mut out = Proposed {
            cache: asked.cache,
            worker: asked.worker,
            task_type: asked.task_type,
            objects: vec![],
            withdrawn: vec![],
        };
        for proposal in proposals.drain(..) {
            match proposal {
                Proposal::Protect(object) => expect.protect.push(object),
                Proposal::Release(object) => {
                    out.withdrawn.push(object.clone());
                    expect.release.push(object);
                }
                Proposal::Stage { object, bytes, p, break_even } => {
                    if self.proposed.len() == FOLLOWED {
                        self.proposed.pop_front();
                    }
                    self.proposed.push_back((until, object.clone()));
                    out.objects.push(ProposedObject { object, bytes, p, break_even, until });
                }
            }
        }
        self.scratch = proposals;
        (expect, out)
    }
    /// What the predictor takes, bytes: the model, and its catalogue of names and sizes.
    pub fn memory_bytes(&self) -> (usize, usize) {
        self.predictor.as_ref().map_or((0, 0), |p| (p.model_bytes(), p.catalogue_bytes()))
    }

    fn begin(&mut self) {
        let mut p = ObjectPredictor::new(MAX_NAMES, SourceSpeed::default());
        let mut present: Vec<_> = std::mem::take(&mut self.present).into_iter().collect();
        // A map has no order of its own, and the same history must give the same state.
        present.sort_unstable();
        for (object, bytes) in &present {
            p.arrived(object);
            p.measured(object, *bytes);
        }
        self.predictor = Some(Box::new(p));
    }
    /// Proposals whose time is up and that never came cost nothing.
    fn give_up(&mut self, now: Time) {
        while let Some((_, object)) = self.proposed.pop_front_if(|(until, _)| *until <= now) {
            self.declined(&object);
        }
    }
    fn pace(&mut self, now: Time) {
        let inserts = self.facts.inserts;
        if let Some((then, before)) = self.last
            && inserts > before
        {
            let gap_s = now.since(then).as_s() / (inserts - before) as f64;
            self.gap_s += SMOOTHING * (gap_s - self.gap_s);
        }
        if self.last.is_none_or(|(_, before)| inserts > before) {
            self.last = Some((now, inserts));
        }
    }
}

impl Default for PoolHistory {
    fn default() -> PoolHistory {
        PoolHistory::new()
    }
}

fn access(read: &crate::message::Read) -> Access<'_> {
    let answer = match (read.there, read.staged, read.protected) {
        (false, ..) => Answer::Miss,
        (true, true, _) => Answer::StagedHit,
        (true, false, true) => Answer::ProtectedHit,
        (true, false, false) => Answer::Hit,
    };
    Access { object: &read.object, bytes: read.bytes.unwrap_or(0), answer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{CacheId, TypeId, WorkerId};
    use crate::message::Read;
    use std::collections::BTreeSet;

    fn name(i: u64) -> ObjectName {
        ObjectName::new(format!("s:{:x}q", i * 7_919 + 77_777))
    }

    /// A pool that holds everything; tasks read one object each.
    struct Daemon {
        history: PoolHistory,
        there: BTreeSet<ObjectName>,
        staged: BTreeSet<ObjectName>,
        now: Time,
        inserts: u64,
        /// Whether what is proposed is carried out.
        stages: bool,
        proposals: Vec<ObjectName>,
        hits: u64,
    }

    impl Daemon {
        fn new(stages: bool) -> Daemon {
            Daemon {
                history: PoolHistory::new(),
                there: BTreeSet::new(),
                staged: BTreeSet::new(),
                now: Time::ZERO,
                inserts: 0,
                stages,
                proposals: vec![],
                hits: 0,
            }
        }
        fn fill(&mut self) {
            let entries = self.there.len() as u64;
            self.history.filled(PoolFill {
                capacity_bytes: 1 << 20,
                entry_bytes: entries * 1_000,
                entries,
                inserts: self.inserts,
            });
        }
        /// A task asks; the size of what is fetched is known only afterwards. All leave in the end, so that
        /// there is something to stage.
        fn ask(&mut self, object: &ObjectName) {
            self.now = self.now + Span::from_ms(100);
            let there = self.there.contains(object);
            let staged = self.staged.remove(object);
            self.hits += u64::from(there);
            let bytes = there.then_some(1_000);
            let read = Read { object: object.clone(), bytes, there, staged, protected: false };
            let asked = Unforeseen {
                cache: CacheId(0),
                worker: WorkerId(0),
                task_type: TypeId(0),
                reads: vec![read],
            };
            self.fill();
            let (expect, out) = self.history.asked(&asked, self.now);
            if !there {
                self.inserts += 1;
                self.history.cached(object, 1_000, true);
            }
            self.there.remove(object);
            self.history.cached(object, 1_000, false);
            for gone in expect.release.iter().filter(|o| self.staged.remove(o)) {
                self.there.remove(gone);
                self.history.cached(gone, 1_000, false);
            }
            for p in out.objects {
                assert!(p.until > self.now && p.p >= p.break_even && p.bytes > 0);
                if self.stages {
                    self.there.insert(p.object.clone());
                    self.staged.insert(p.object.clone());
                    self.history.cached(&p.object, p.bytes, true);
                } else {
                    self.history.declined(&p.object);
                }
                self.proposals.push(p.object);
            }
        }
    }

    #[test]
    fn repeated_sequence_is_proposed_before_it_is_asked_for() {
        let mut daemon = Daemon::new(true);
        for _ in 0..5 {
            (0..50).for_each(|i| daemon.ask(&name(i)));
        }
        let before = daemon.hits;
        (0..50).for_each(|i| daemon.ask(&name(i)));
        assert!(daemon.hits - before >= 45, "{} of 50 were there", daemon.hits - before);
    }

    #[test]
    fn numbered_objects_are_proposed_before_they_were_ever_seen() {
        let mut daemon = Daemon::new(true);
        (0..100).for_each(|i| daemon.ask(&ObjectName::new(format!("s:part-{i:05}"))));
        assert!(daemon.hits >= 80, "{} of 100 were there", daemon.hits);
    }

    #[test]
    fn what_is_declined_wastes_nothing_and_is_proposed_again() {
        let mut daemon = Daemon::new(false);
        for _ in 0..8 {
            (0..50).for_each(|i| daemon.ask(&name(i)));
        }
        assert_eq!(daemon.hits, 0);
        let last = daemon.proposals.iter().rev().take(200).collect::<BTreeSet<_>>();
        assert!(last.len() > 30, "it goes on proposing: {}", last.len());
    }

    #[test]
    fn history_goes_on_after_a_restart_though_the_pool_counts_anew() {
        let mut daemon = Daemon::new(true);
        for _ in 0..5 {
            (0..50).for_each(|i| daemon.ask(&name(i)));
        }
        let bytes = daemon.history.to_bytes().unwrap();
        assert!(daemon.history.to_bytes().is_none(), "nothing has changed since");
        daemon.history = PoolHistory::restore(&bytes, daemon.there.iter()).unwrap();
        daemon.inserts = 0;
        let before = daemon.hits;
        (0..50).for_each(|i| daemon.ask(&name(i)));
        assert!(daemon.hits - before >= 40, "{} of 50 were there", daemon.hits - before);
        assert!(PoolHistory::restore(&bytes[1..], daemon.there.iter()).is_err());
    }

    #[test]
    fn memory_is_taken_when_something_is_asked_for() {
        let mut daemon = Daemon::new(true);
        daemon.history.cached(&name(1), 1_000, true);
        assert_eq!(daemon.history.memory_bytes(), (0, 0));
        daemon.ask(&name(2));
        let (model, catalogue) = daemon.history.memory_bytes();
        assert!(model > 1 << 20 && model <= 8 << 20 && catalogue > 0);
    }
}
