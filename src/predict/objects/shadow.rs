//! The shadow table: every candidate, staged or not, until it comes true or its time is up.
//!
//! Candidates that are not staged are followed as well: probabilities are learned without spending a byte.

use super::calibrate::{Evidence, KINDS, Standing};
use super::catalogue::Id;
use super::hash::mix;
use super::snapshot::{Bad, Reader, Writer};
use std::collections::VecDeque;

/// Candidates at most; beyond, the oldest counts as not come true.
const LIMIT: usize = 4096;
/// Records of past candidates; objects share them by hash.
const RECORDS: usize = 1 << 16;

/// A candidate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Which object.
    pub(super) id: Id,
    /// Inserts of the pool when it was first proposed, or staged.
    pub(super) born: u64,
    /// Its size, perhaps guessed.
    pub(super) bytes: u64,
    /// The calibration cells that are charged for it.
    pub(super) evidence: Evidence,
    /// What else is charged for it.
    pub(super) standing: Standing,
    /// How often it was proposed.
    pub(super) votes: u8,
    /// It was handed out to be staged.
    pub(super) issued: bool,
    /// It gained evidence and waits to be scored at the end of the event.
    pub(super) waits: bool,
}

/// All candidates and the outcomes of earlier ones.
pub(super) struct Shadow {
    candidates: Vec<Candidate>,
    free: Vec<u16>,
    /// (place, object, born): in order of birth. Entries whose candidate is gone or was born again are stale.
    expiry: VecDeque<(u16, Id, u64)>,
    /// The last outcomes of each object as a candidate: a leading 1, then up to three bits.
    records: Box<[u8]>,
}

impl Shadow {
    /// Empty.
    pub(super) fn new() -> Shadow {
        Shadow {
            candidates: vec![],
            free: vec![],
            expiry: VecDeque::new(),
            records: vec![1; RECORDS].into_boxed_slice(),
        }
    }
    /// One task asked for so much at a time that no more candidates are taken in before the next.
    pub(super) fn is_full(&self) -> bool {
        self.candidates.len() >= 2 * LIMIT && self.free.is_empty()
    }
    /// A candidate by its place.
    pub(super) fn get(&self, at: u16) -> &Candidate {
        &self.candidates[at as usize]
    }
    /// The same, to change it.
    pub(super) fn get_mut(&mut self, at: u16) -> &mut Candidate {
        &mut self.candidates[at as usize]
    }
    /// A new candidate without evidence.
    pub(super) fn add(&mut self, id: Id, bytes: u64, born: u64) -> u16 {
        let candidate = Candidate {
            id,
            born,
            bytes,
            evidence: [0; KINDS],
            standing: Standing::NONE,
            votes: 0,
            issued: false,
            waits: false,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.candidates[at as usize] = candidate;
                at
            }
            None => {
                self.candidates.push(candidate);
                (self.candidates.len() - 1) as u16
            }
        };
        self.expiry.push_back((at, id, born));
        at
    }
    /// It is staged now: its time starts again.
    pub(super) fn issue(&mut self, at: u16, born: u64) {
        let c = &mut self.candidates[at as usize];
        (c.issued, c.born) = (true, born);
        self.expiry.push_back((at, c.id, born));
    }
    /// The next candidate whose time is up, if there is one: more than `horizon` inserts old, or one too many.
    pub(super) fn expired(&mut self, inserts: u64, horizon: u64) -> Option<u16> {
        while let Some(&(at, id, born)) = self.expiry.front() {
            if inserts.saturating_sub(born) <= horizon && self.expiry.len() <= LIMIT {
                return None;
            }
            self.expiry.pop_front();
            let c = &self.candidates[at as usize];
            if c.id == id && c.born == born {
                return Some(at);
            }
        }
        None
    }
    /// It came true or did not; it is a candidate no longer.
    pub(super) fn close(&mut self, at: u16, used: bool) -> Candidate {
        let c = self.candidates[at as usize];
        self.candidates[at as usize].id = Id::NONE;
        self.free.push(at);
        let record = &mut self.records[record_of(c.id)];
        *record = *record << 1 | u8::from(used);
        if *record >= 16 {
            *record = *record & 7 | 8;
        }
        c
    }
    /// The last outcomes of an object: 1..=15, 1 if there are none.
    pub(super) fn record(&self, id: Id) -> u8 {
        self.records[record_of(id)]
    }
    /// Open candidates.
    pub(super) fn open(&self) -> impl Iterator<Item = (u16, &Candidate)> {
        self.candidates.iter().enumerate().filter(|(_, c)| c.id != Id::NONE).map(|(at, c)| (at as u16, c))
    }
    /// Memory, bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.candidates.capacity() * size_of::<Candidate>()
            + self.free.capacity() * 2
            + self.expiry.capacity() * size_of::<(u16, Id, u64)>()
            + self.records.len()
    }
    /// Writes all of it.
    pub(super) fn write(&self, to: &mut Writer) {
        to.bytes(&self.records);
        to.u32(self.candidates.len() as u32);
        for c in &self.candidates {
            to.id(c.id);
            to.u64(c.born);
            to.u64(c.bytes);
            c.evidence.iter().for_each(|&e| to.u32(e.into()));
            c.standing.write(to);
            to.u8(c.votes);
            to.u8(c.issued.into());
        }
        to.u32(self.free.len() as u32);
        self.free.iter().for_each(|&f| to.u32(f.into()));
        to.u32(self.expiry.len() as u32);
        for &(at, id, born) in &self.expiry {
            to.u32(at.into());
            to.id(id);
            to.u64(born);
        }
    }
    /// Reads what [`Shadow::write`] wrote.
    pub(super) fn read(&mut self, from: &mut Reader<'_>) -> Result<(), Bad> {
        self.records.copy_from_slice(from.bytes(RECORDS)?);
        if self.records.iter().any(|r| !(1..16).contains(r)) {
            return Err(Bad::Value);
        }
        for _ in 0..from.count(2 * LIMIT)? {
            let (id, born, bytes) = (from.id()?, from.u64()?, from.u64()?);
            let mut evidence = [0; KINDS];
            for e in &mut evidence {
                *e = from.count(1024)? as u16;
            }
            let standing = Standing::read(from)?;
            let (votes, issued) = (from.u8()?, from.u8()? != 0);
            self.candidates.push(Candidate {
                id,
                born,
                bytes,
                evidence,
                standing,
                votes,
                issued,
                waits: false,
            });
        }
        let n = self.candidates.len();
        for _ in 0..from.count(n)? {
            let at = from.index(n)?;
            if self.candidates[at].id != Id::NONE {
                return Err(Bad::Value);
            }
            self.free.push(at as u16);
        }
        // Each candidate stands in it at most twice, and stale entries are fewer than those.
        for _ in 0..from.count(8 * LIMIT)? {
            self.expiry.push_back((from.index(n)? as u16, from.id()?, from.u64()?));
        }
        Ok(())
    }
}

fn record_of(id: Id) -> usize {
    mix(u64::from(id.raw()) + 1) as usize & (RECORDS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidate_expires_by_age_and_issuing_starts_its_time_again() {
        let mut shadow = Shadow::new();
        let a = shadow.add(Id::from_parts(1, 0), 1, 0);
        let b = shadow.add(Id::from_parts(2, 0), 1, 0);
        shadow.issue(a, 50);
        assert_eq!(shadow.expired(60, 32), Some(b));
        shadow.close(b, false);
        assert_eq!(shadow.expired(60, 32), None);
        assert_eq!(shadow.expired(83, 32), Some(a));
    }

    #[test]
    fn record_keeps_the_last_three_outcomes() {
        let mut shadow = Shadow::new();
        let id = Id::from_parts(1, 0);
        let mut seen = vec![];
        for used in [true, false, true, true, false] {
            let at = shadow.add(id, 1, 0);
            shadow.close(at, used);
            seen.push(shadow.record(id));
        }
        assert_eq!(seen, [0b11, 0b110, 0b1101, 0b1011, 0b1110]);
    }

    #[test]
    fn number_of_candidates_is_bounded() {
        let mut shadow = Shadow::new();
        for i in 0..20_000 {
            shadow.add(Id::from_parts(i, 0), 1, 0);
            while let Some(at) = shadow.expired(0, 32) {
                shadow.close(at, false);
            }
        }
        assert!(shadow.open().count() <= LIMIT);
        assert!(shadow.candidates.len() <= LIMIT + 1);
    }
}
