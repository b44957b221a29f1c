//! Which objects will be would-be misses soon, with what probability, and whether to stage them.
//!
//! Learned from accesses alone, for what no template names. A *would-be miss* is a miss, the first use of a
//! staged object, or a hit on a protected one: what the pool would have missed, had nobody predicted anything.
//! Five kinds of evidence propose candidates (`propose`); [`Calibration`] turns evidence into a probability,
//! [`Account`] says which probability is worth its bytes, and the shadow table follows all candidates, staged
//! or not. A candidate that is in the pool already is protected instead: no byte is spent.
//!
//! One predictor learns for one pool. The caller tells what tasks asked for and how the pool answered
//! ([`ObjectPredictor::observe`]), what came and what left, and carries out the [`Proposal`]s. Cost: 4,000 to
//! 8,000 instructions an access (counted on orm_busy and cloudphysics_sample); memory: see
//! [`ObjectPredictor::model_bytes`], fixed but for 4,096 candidates and 512 shapes of names.

use super::associate::Associations;
use super::calibrate::Calibration;
use super::catalogue::{Catalogue, Id, NO_CANDIDATE};
use super::neighbours::Neighbours;
use super::propose::{prior, size_class};
use super::regress::{Features, HORIZONS};
use super::runs::Runs;
use super::shadow::Shadow;
use super::snapshot::{Bad, Reader, Writer};
use super::stream::{Proposed, Stream};
use super::worth::{Account, SourceSpeed};
use crate::flow::ObjectName;

/// Nodes of the two association tables.
const NEAR_NODES: usize = 1 << 16;
const CHAIN_NODES: usize = 1 << 15;
/// Would-be misses that the stream's log holds.
const LOG: usize = 1 << 17;
/// Last accesses, and last would-be misses, that learn what followed them.
const NEAR_LOOK: usize = 3;
const CHAIN_LOOK: usize = 4;
/// Bounds of a candidate's time, in inserts of the pool: as long as a resident object stays, within these.
const HORIZON: (u64, u64) = (32, 2048);
/// How the pool answered a task's demand for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was there, and nothing but the pool's own order had kept it.
    Hit,
    /// It was there, but a prediction had kept it from the cold end.
    ProtectedHit,
    /// It was there because it had been staged; this was its first use.
    StagedHit,
    /// It was not there.
    Miss,
}

/// One object that a task asked for.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// Which object.
    pub object: &'a ObjectName,
    /// Its size; zero if nobody knows it yet: [`ObjectPredictor::measured`] tells it later.
    pub bytes: u64,
    /// How the pool answered.
    pub answer: Answer,
}

/// What the predictor needs to know of the pool that it predicts for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PoolFacts {
    /// What it may hold.
    pub capacity_bytes: u64,
    /// What it holds.
    pub entry_bytes: u64,
    /// How many objects it holds.
    pub entries: u64,
    /// Arrivals in its main part so far.
    pub inserts: u64,
}

impl PoolFacts {
    pub(super) fn mean_bytes(&self) -> f64 {
        (self.entry_bytes as f64 / self.entries.max(1) as f64).max(1.0)
    }
    pub(super) fn horizon(&self) -> u64 {
        let objects = (self.capacity_bytes as f64 / self.mean_bytes()) as u64;
        objects.clamp(HORIZON.0, HORIZON.1)
    }
}

/// What the predictor asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Proposal {
    /// Stage this object. Tell [`ObjectPredictor::declined`] if that is not done.
    Stage {
        /// Which object.
        object: ObjectName,
        /// Its size; guessed from a sibling's if it was never seen.
        bytes: u64,
        /// Probability that it is needed before its time is up.
        p: f64,
        /// The probability from which it is worth it.
        break_even: f64,
    },
    /// Keep this resident object from the cold end.
    Protect(ObjectName),
    /// The time of this staged object is up: if nobody has used it, it may go.
    Release(ObjectName),
}

/// Learns which objects follow which, for one pool.
pub struct ObjectPredictor {
    pub(super) catalogue: Catalogue,
    pub(super) near: Associations,
    pub(super) chain: Associations,
    pub(super) stream: Stream,
    pub(super) runs: Runs,
    pub(super) neighbours: Neighbours,
    pub(super) calibration: Calibration,
    pub(super) shadow: Shadow,
    pub(super) account: Account,
    pub(super) speed: SourceSpeed,
    /// The last accesses, and the last would-be misses, newest first.
    pub(super) recent: Recent<NEAR_LOOK>,
    pub(super) missed: Recent<CHAIN_LOOK>,
    /// Counts accesses; wraps.
    pub(super) now: u32,
    pub(super) facts: PoolFacts,
    /// Candidates that gained evidence in this event, each once.
    pub(super) changed: Vec<u16>,
    /// The objects of this event.
    asked: Vec<Id>,
    pub(super) proposed: Vec<Proposed>,
}

/// The last few objects, newest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recent<const N: usize>([Id; N]);

impl<const N: usize> Recent<N> {
    fn push(&mut self, id: Id) {
        self.0.rotate_right(1);
        self.0[0] = id;
    }
    fn iter(&self) -> impl Iterator<Item = (u8, Id)> {
        (1..).zip(self.0).filter(|(_, id)| *id != Id::NONE)
    }
}

impl ObjectPredictor {
    /// Knows nothing yet. `max_names` bounds the catalogue (8,192 to a million); `speed` is that of the objects' source.
    pub fn new(max_names: usize, speed: SourceSpeed) -> ObjectPredictor {
        ObjectPredictor {
            catalogue: Catalogue::new(max_names),
            near: Associations::new(NEAR_NODES),
            chain: Associations::new(CHAIN_NODES),
            stream: Stream::new(LOG),
            runs: Runs::new(),
            neighbours: Neighbours::new(),
            calibration: Calibration::new(prior),
            shadow: Shadow::new(),
            account: Account::new(),
            speed,
            recent: Recent([Id::NONE; NEAR_LOOK]),
            missed: Recent([Id::NONE; CHAIN_LOOK]),
            now: 0,
            facts: PoolFacts { capacity_bytes: 0, entry_bytes: 0, entries: 0, inserts: 0 },
            changed: vec![],
            asked: vec![],
            proposed: vec![],
        }
    }

    // ---- facts ---------------------------------------------------------------------------------------------

    /// An object came into the pool, for whatever reason.
    pub fn arrived(&mut self, object: &ObjectName) {
        let id = self.catalogue.id(object);
        self.item_mut(id).set_resident(true);
    }
    /// The size of an object has become known after it was asked for.
    pub fn measured(&mut self, object: &ObjectName, bytes: u64) {
        if let Some(id) = self.catalogue.find(object) {
            self.item_mut(id).bytes = bytes;
        }
    }
    /// An object left the pool.
    pub fn left(&mut self, object: &ObjectName) {
        let Some(id) = self.catalogue.find(object) else { return };
        let at = self.item_mut(id).candidate;
        if at != NO_CANDIDATE && self.shadow.get(at).issued {
            self.close(at, false);
        }
        self.item_mut(id).set_resident(false);
    }
    /// Whether the pool has an object, as far as was told.
    pub fn is_resident(&self, object: &ObjectName) -> bool {
        self.catalogue.find(object).and_then(|id| self.catalogue.get(id)).is_some_and(|i| i.resident())
    }
    /// A proposal to stage was not carried out: it is followed, but its bytes were not spent.
    pub fn declined(&mut self, object: &ObjectName) {
        let Some(id) = self.catalogue.find(object) else { return };
        let at = self.item_mut(id).candidate;
        if at != NO_CANDIDATE {
            self.shadow.get_mut(at).issued = false;
        }
    }
    /// One task asked for these objects together; `facts` are those after the pool has answered. Appends what
    /// should be done now.
    pub fn observe(&mut self, accesses: &[Access<'_>], facts: PoolFacts, out: &mut Vec<Proposal>) {
        self.facts = facts;
        self.changed.clear();
        let mut asked = std::mem::take(&mut self.asked);
        asked.clear();
        for a in accesses {
            asked.push(self.settle_used(a));
        }
        self.settle_expired(out);
        for (a, &id) in accesses.iter().zip(&asked) {
            self.see(a, id, out);
        }
        self.asked = asked;
        self.account.settle(facts.mean_bytes(), self.now);
        self.gate(out);
    }
    fn settle_used(&mut self, a: &Access<'_>) -> Id {
        let id = self.catalogue.id(a.object);
        let item = self.item_mut(id);
        item.used(a.bytes);
        let at = item.candidate;
        if at != NO_CANDIDATE {
            // On a plain hit somebody else had brought it: the guess was neither right in time nor wrong.
            self.close(at, a.answer != Answer::Hit);
        }
        id
    }
    fn settle_expired(&mut self, out: &mut Vec<Proposal>) {
        let horizon = self.facts.horizon();
        while let Some(at) = self.shadow.expired(self.facts.inserts, horizon) {
            let c = self.close(at, false);
            if c.issued {
                out.extend(self.catalogue.name(c.id).map(Proposal::Release));
            }
        }
    }
    fn close(&mut self, at: u16, used: bool) -> super::shadow::Candidate {
        let c = self.shadow.close(at, used);
        let item = self.item_mut(c.id);
        item.candidate = NO_CANDIDATE;
        // What never came cost nothing.
        let came = item.resident();
        self.calibration.learn(&c.evidence, &c.standing, used);
        if !used && c.issued && came {
            self.account.wasted(c.bytes);
        }
        c
    }
    /// What is known of an object that the catalogue surely holds.
    pub(super) fn item_mut(&mut self, id: Id) -> &mut super::catalogue::Item {
        self.catalogue.get_mut(id).expect("numbers of used names and of candidates are not stale")
    }

    // ---- learning ------------------------------------------------------------------------------------------

    fn see(&mut self, a: &Access<'_>, id: Id, out: &mut Vec<Proposal>) {
        let missed = a.answer != Answer::Hit;
        self.now = self.now.wrapping_add(1);
        self.account.accessed(a.bytes);
        if missed {
            for (lag, past) in self.recent.iter().filter(|&(_, past)| past != id) {
                self.near.learn(past, id, lag);
            }
            for (lag, past) in self.missed.iter().filter(|&(_, past)| past != id) {
                self.chain.learn(past, id, lag);
            }
        }
        self.near.used(id, self.now);
        self.recent.push(id);
        if missed {
            self.chain.used(id, self.now);
            self.missed.push(id);
        }
        self.propose(id, missed, out);
    }

    // ---- the gate ------------------------------------------------------------------------------------------

    fn gate(&mut self, out: &mut Vec<Proposal>) {
        let changed = std::mem::take(&mut self.changed);
        for &at in &changed {
            let features = self.features(at);
            let c = self.shadow.get_mut(at);
            c.waits = false;
            let p = f64::from(self.calibration.score(&c.evidence, features, &mut c.standing));
            let (id, bytes) = (c.id, c.bytes);
            let break_even = self.account.break_even(bytes, self.speed);
            if p >= break_even {
                self.shadow.issue(at, self.facts.inserts);
                let object = self.catalogue.name(id);
                out.extend(object.map(|object| Proposal::Stage { object, bytes, p, break_even }));
            }
        }
        self.changed = changed;
    }
    fn features(&self, at: u16) -> Features {
        let c = self.shadow.get(at);
        let votes = match c.votes {
            0..=1 => 0,
            2 => 1,
            3..=4 => 2,
            5..=7 => 3,
            8..=12 => 4,
            13..=20 => 5,
            _ => 6,
        };
        let age = match self.near.get(c.id) {
            None => 7,
            Some(n) => ((self.now.wrapping_sub(n.last).saturating_add(1).ilog2() / 2) as usize).min(6),
        };
        // 32 to 2,048 in doublings.
        let horizon = (self.facts.horizon().ilog2() as usize).saturating_sub(5).min(HORIZONS - 1);
        let size = usize::from(size_class(c.bytes, self.facts.mean_bytes()));
        Features { record: usize::from(self.shadow.record(c.id)), votes, age, size, horizon }
    }

    // ---- size and snapshot ---------------------------------------------------------------------------------

    /// How many arrivals in the pool's main part it has been told of: its clock, which goes on after a restart.
    pub fn inserts(&self) -> u64 {
        self.facts.inserts
    }
    /// Memory of the model, bytes: tables, cells, candidates.
    pub fn model_bytes(&self) -> usize {
        self.near.memory_bytes()
            + self.chain.memory_bytes()
            + self.stream.memory_bytes()
            + self.runs.memory_bytes()
            + self.neighbours.memory_bytes()
            + self.calibration.memory_bytes()
            + self.shadow.memory_bytes()
    }
    /// Memory of the catalogue of names and sizes, bytes.
    pub fn catalogue_bytes(&self) -> usize {
        self.catalogue.memory_bytes()
    }
    /// Names in the catalogue.
    pub fn names(&self) -> usize {
        self.catalogue.len()
    }
    /// Everything that was learned, flat, versioned, with a checksum. The same history gives the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut to = Writer::new();
        to.u32(self.now);
        to.u64(self.facts.inserts);
        self.recent.0.iter().chain(&self.missed.0).for_each(|&id| to.id(id));
        self.account.write(&mut to);
        self.catalogue.write(&mut to);
        self.near.write(&mut to);
        self.chain.write(&mut to);
        self.stream.write(&mut to);
        self.runs.write(&mut to);
        self.neighbours.write(&mut to);
        self.calibration.write(&mut to);
        self.shadow.write(&mut to);
        to.finish()
    }
    /// Goes on where [`ObjectPredictor::to_bytes`] stopped. What the pool holds by now is told again by
    /// [`ObjectPredictor::reconcile`].
    ///
    /// # Errors
    /// [`Bad`] if the bytes are not such a snapshot.
    pub fn from_bytes(bytes: &[u8], max_names: usize, speed: SourceSpeed) -> Result<ObjectPredictor, Bad> {
        let mut from = Reader::new(bytes)?;
        let mut p = ObjectPredictor::new(max_names, speed);
        p.now = from.u32()?;
        p.facts.inserts = from.u64()?;
        for id in p.recent.0.iter_mut().chain(&mut p.missed.0) {
            *id = from.id()?;
        }
        p.account.read(&mut from)?;
        p.catalogue.read(&mut from)?;
        p.near.read(&mut from)?;
        p.chain.read(&mut from)?;
        p.stream.read(&mut from)?;
        p.runs.read(&mut from)?;
        p.neighbours.read(&mut from)?;
        p.calibration.read(&mut from)?;
        p.shadow.read(&mut from)?;
        from.finish()?;
        for (at, c) in p.shadow.open() {
            p.catalogue.get_mut(c.id).ok_or(Bad::Value)?.candidate = at;
        }
        Ok(p)
    }
    /// The pool holds exactly these objects: after a restart.
    pub fn reconcile<'a>(&mut self, objects: impl Iterator<Item = &'a ObjectName>) {
        self.catalogue.clear_residents();
        objects.for_each(|o| self.arrived(o));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet, VecDeque};

    /// A pool of `room` objects of one byte, FIFO, as far as the predictor can see one.
    struct Pool {
        predictor: ObjectPredictor,
        room: usize,
        queue: VecDeque<ObjectName>,
        staged: BTreeSet<ObjectName>,
        inserts: u64,
        misses: u64,
        issued: u64,
        useful: u64,
        log: Vec<Proposal>,
    }

    impl Pool {
        fn new(room: usize) -> Pool {
            Pool {
                predictor: ObjectPredictor::new(1 << 14, SourceSpeed::default()),
                room,
                queue: VecDeque::new(),
                staged: BTreeSet::new(),
                inserts: 0,
                misses: 0,
                issued: 0,
                useful: 0,
                log: vec![],
            }
        }
        fn facts(&self) -> PoolFacts {
            let n = self.queue.len() as u64;
            PoolFacts { capacity_bytes: self.room as u64, entry_bytes: n, entries: n, inserts: self.inserts }
        }
        fn put(&mut self, object: &ObjectName) {
            self.queue.push_back(object.clone());
            self.predictor.arrived(object);
            if self.queue.len() > self.room
                && let Some(gone) = self.queue.pop_front()
            {
                self.staged.remove(&gone);
                self.predictor.left(&gone);
            }
        }
        fn access(&mut self, name: &str) {
            let object = ObjectName::new(name);
            let answer = if self.staged.remove(&object) {
                self.useful += 1;
                Answer::StagedHit
            } else if self.queue.contains(&object) {
                Answer::Hit
            } else {
                self.misses += 1;
                self.inserts += 1;
                self.put(&object);
                Answer::Miss
            };
            let mut out = vec![];
            self.predictor.observe(&[Access { object: &object, bytes: 1, answer }], self.facts(), &mut out);
            for proposal in &out {
                match proposal {
                    Proposal::Stage { object, p, break_even, .. } => {
                        assert!(p >= break_even && *p <= 1.0 && *break_even > 0.0);
                        assert!(!self.queue.contains(object), "what is there is not staged");
                        self.issued += 1;
                        self.put(object);
                        self.staged.insert(object.clone());
                    }
                    Proposal::Release(object) => {
                        if self.staged.remove(object) {
                            self.queue.retain(|o| o != object);
                            self.predictor.left(object);
                        }
                    }
                    Proposal::Protect(object) => assert!(self.queue.contains(object)),
                }
            }
            self.log.append(&mut out);
        }
    }

    impl ObjectPredictor {
        /// Panics if the catalogue and the shadow table disagree about who is a candidate.
        fn assert_invariants(&self) {
            let open: BTreeMap<u16, Id> = self.shadow.open().map(|(at, c)| (at, c.id)).collect();
            for (&at, &id) in &open {
                assert_eq!(self.catalogue.get(id).expect("a candidate is not stale").candidate, at);
            }
            assert_eq!(self.catalogue.candidates(), open.len());
            assert!(self.model_bytes() <= 8 << 20, "{} bytes", self.model_bytes());
        }
    }

    #[test]
    fn loop_longer_than_the_pool_is_staged_after_two_rounds() {
        let mut pool = Pool::new(50);
        for round in 0..6 {
            let before = pool.misses;
            (0..200).for_each(|i| pool.access(&format!("s:{:x}q", i * 7919 + 77_777)));
            if round >= 2 {
                assert!(pool.misses - before < 20, "round {round}: {} misses", pool.misses - before);
            }
        }
        pool.predictor.assert_invariants();
    }

    #[test]
    fn numbered_objects_are_staged_before_they_were_ever_seen() {
        let mut pool = Pool::new(50);
        (0..500).for_each(|i| pool.access(&format!("s:part-{i:05}")));
        assert!(pool.misses < 30, "{} misses", pool.misses);
        assert!(pool.issued < 540, "{} issued", pool.issued);
    }

    #[test]
    fn chance_is_not_staged() {
        let mut pool = Pool::new(50);
        let mut rng = fastrand::Rng::with_seed(11);
        for _ in 0..20_000 {
            pool.access(&format!("s:{:x}z", 99_999 + rng.u32(0..5_000) * 65_537));
        }
        assert!(pool.issued < 200, "{} of {} were useful", pool.useful, pool.issued);
    }

    #[test]
    fn object_that_left_unused_counts_against_its_evidence() {
        let mut pool = Pool::new(4);
        for i in 0..2_000 {
            // Each a is followed by a b of its own, but 100 others come in between: never in time.
            pool.access(&format!("s:a{i}x{i}yyyyyyy"));
        }
        pool.predictor.assert_invariants();
        assert!(pool.issued < 100, "{}", pool.issued);
    }

    /// Loops, runs and noise, in an order that depends on the seed.
    fn story(seed: u64, n: usize) -> Vec<String> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut names = vec![];
        while names.len() < n {
            let from = rng.u32(0..300);
            match rng.u8(0..3) {
                0 => names.extend((from..from + 20).map(|i| format!("s:vol-{}/part-{i:04}", from % 7))),
                1 => names.extend((0..15).map(|i| format!("s:{:x}k", (from % 30 * 15 + i) * 7_919 + 77_777))),
                _ => names.push(format!("s:{:x}w", 1_000_000 + rng.u32(0..50_000) * 4_099)),
            }
        }
        names.truncate(n);
        names
    }

    #[test]
    fn snapshot_goes_on_exactly_where_it_stopped() {
        let (first, rest) = (story(1, 6_000), story(2, 3_000));
        let mut pool = Pool::new(100);
        first.iter().for_each(|n| pool.access(n));
        let bytes = pool.predictor.to_bytes();
        let back = ObjectPredictor::from_bytes(&bytes, 1 << 14, SourceSpeed::default()).unwrap();
        back.assert_invariants();
        assert!(back.to_bytes() == bytes, "read and written again, it is the same");
        let mut other = Pool {
            predictor: back,
            queue: pool.queue.clone(),
            staged: pool.staged.clone(),
            inserts: pool.inserts,
            log: vec![],
            ..Pool::new(100)
        };
        pool.log.clear();
        for name in &rest {
            pool.access(name);
            other.access(name);
        }
        assert!(!pool.log.is_empty());
        assert_eq!(pool.log, other.log);
        assert!(pool.predictor.to_bytes() == other.predictor.to_bytes());
    }

    #[test]
    fn same_history_gives_the_same_bytes() {
        let run = || {
            let mut pool = Pool::new(100);
            story(3, 4_000).iter().for_each(|n| pool.access(n));
            pool.predictor.to_bytes()
        };
        assert!(run() == run());
    }

    #[test]
    fn damaged_snapshot_is_refused() {
        let mut pool = Pool::new(20);
        story(4, 300).iter().for_each(|n| pool.access(n));
        let bytes = pool.predictor.to_bytes();
        let read = |b: &[u8]| ObjectPredictor::from_bytes(b, 1 << 14, SourceSpeed::default()).err();
        assert_eq!(read(&bytes[..3]), Some(Bad::Length));
        assert_eq!(read(&bytes[..bytes.len() - 1]), Some(Bad::Checksum));
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 4;
        assert_eq!(read(&flipped), Some(Bad::Checksum));
        flipped[0] = b'x';
        assert_eq!(read(&flipped), Some(Bad::Version));
    }

    #[test]
    fn random_facts_never_break_an_invariant() {
        let mut rng = fastrand::Rng::with_seed(9);
        let mut predictor = ObjectPredictor::new(64, SourceSpeed::default());
        let mut out = vec![];
        for op in 0..20_000u64 {
            let object = ObjectName::new(format!("s:dir{}/f{}", rng.u32(0..3), rng.u32(0..9_000)));
            match rng.u8(0..10) {
                0 => predictor.arrived(&object),
                1 => predictor.left(&object),
                2 => predictor.declined(&object),
                _ => {
                    let answer = [Answer::Hit, Answer::ProtectedHit, Answer::StagedHit, Answer::Miss];
                    let access = Access {
                        object: &object,
                        bytes: rng.u64(0..1 << 40),
                        answer: answer[rng.usize(0..4)],
                    };
                    let facts = PoolFacts {
                        capacity_bytes: rng.u64(0..1 << 50),
                        entry_bytes: rng.u64(0..1 << 50),
                        entries: rng.u64(0..1000),
                        inserts: op,
                    };
                    predictor.observe(&[access, access], facts, &mut out);
                    out.clear();
                }
            }
            if op % 50 == 0 {
                predictor.assert_invariants();
            }
        }
    }
}
