//! Temporal streams: a log of would-be misses and an index into it.
//!
//! When the recent past repeats an older stretch of the log, what followed then is proposed now, the further
//! ahead the longer the repetition has held (Wenisch, Somogyi, Hardavellas, Kim, Ailamaki, Falsafi: "Temporal
//! streaming of shared memory", ISCA 2005; here over names instead of addresses).

use super::catalogue::Id;
use super::hash::mix;
use super::snapshot::{Bad, Reader, Writer};

/// Stretches that are followed at a time.
const FOLLOWERS: usize = 8;
/// The furthest proposal, in would-be misses.
const DEPTH: u64 = 16;
/// Entries of the old stretch that a match may skip.
const SKIP: u64 = 8;
/// Would-be misses without a match after which a stretch is given up.
const PATIENCE: u32 = 8;

/// What a stretch says should come, and how well it has held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proposed {
    /// Which object.
    pub(super) id: Id,
    /// Matches so far, in classes.
    pub(super) run_class: u16,
    /// Steps ahead, in classes.
    pub(super) step_class: u16,
}

#[derive(Clone, Copy, Debug)]
struct Follower {
    /// Log position expected next.
    next: u64,
    /// Log positions before this one have been proposed.
    ahead: u64,
    /// Matches so far.
    run: u32,
    /// Would-be misses since the last match.
    idle: u32,
}

/// The log, its index, and the stretches that are being followed.
pub(super) struct Stream {
    log: Box<[Id]>,
    /// By hash of (previous, this) and of (this): a check value and the low bits of the latest position.
    index: Box<[(u32, u32)]>,
    len: u64,
    previous: Id,
    followers: Vec<Follower>,
}

/// Classes of small counts, finer where they are small.
fn class(n: u64) -> u16 {
    match n {
        0..=1 => 0,
        2 => 1,
        3 => 2,
        4..=5 => 3,
        6..=8 => 4,
        9..=14 => 5,
        15..=30 => 6,
        _ => 7,
    }
}

impl Stream {
    /// A log of `len` entries, a power of two.
    pub(super) fn new(len: usize) -> Stream {
        assert!(len.is_power_of_two(), "positions are found by masking");
        Stream {
            log: vec![Id::NONE; len].into_boxed_slice(),
            index: vec![(0, 0); len].into_boxed_slice(),
            len: 0,
            previous: Id::NONE,
            followers: vec![],
        }
    }
    fn at(&self, pos: u64) -> Option<Id> {
        let n = self.log.len() as u64;
        (pos < self.len && pos + n >= self.len).then(|| self.log[(pos & (n - 1)) as usize])
    }
    fn place(&self, key: u64) -> usize {
        key as usize & (self.index.len() - 1)
    }
    fn check(key: u64) -> u32 {
        // Never 0, which marks a free place.
        (key >> 32) as u32 | 1
    }
    fn find(&self, key: u64, id: Id) -> Option<u64> {
        let (check, low) = self.index[self.place(key)];
        if check != Self::check(key) {
            return None;
        }
        let back = (self.len as u32).wrapping_sub(low);
        let pos = self.len.checked_sub(u64::from(back))?;
        (self.at(pos) == Some(id)).then_some(pos)
    }
    fn note(&mut self, key: u64, pos: u64) {
        let i = self.place(key);
        self.index[i] = (Self::check(key), pos as u32);
    }
    /// One would-be miss. Appends what should come next.
    pub(super) fn step(&mut self, id: Id, out: &mut Vec<Proposed>) {
        let pair = mix(u64::from(self.previous.raw()) << 32 | u64::from(id.raw()));
        let single = mix(u64::from(u32::MAX) << 32 | u64::from(id.raw()));
        if !self.advance(id) {
            let found = self.find(pair, id).map(|p| (p, 2)).or_else(|| self.find(single, id).map(|p| (p, 1)));
            if let Some((pos, run)) = found {
                self.follow(pos, run);
            }
        }
        let pos = self.len;
        self.log[(pos & (self.log.len() as u64 - 1)) as usize] = id;
        self.len += 1;
        self.note(pair, pos);
        self.note(single, pos);
        self.previous = id;
        self.propose(out);
    }
    /// Moves the followers that expected `id`; ages the others. Says whether one did.
    fn advance(&mut self, id: Id) -> bool {
        let mut matched = false;
        let mut i = 0;
        while i < self.followers.len() {
            let next = self.followers[i].next;
            let hit = (next..next + SKIP).find(|&p| self.at(p) == Some(id));
            let f = &mut self.followers[i];
            match hit {
                Some(p) => {
                    *f = Follower { next: p + 1, run: f.run + 1, idle: 0, ..*f };
                    matched = true;
                }
                None => f.idle += 1,
            }
            if f.idle > PATIENCE {
                self.followers.swap_remove(i);
            } else {
                i += 1;
            }
        }
        matched
    }
    fn follow(&mut self, pos: u64, run: u32) {
        if self.followers.len() >= FOLLOWERS {
            let idlest = (0..FOLLOWERS).max_by_key(|&i| self.followers[i].idle).expect("there are followers");
            self.followers.swap_remove(idlest);
        }
        self.followers.push(Follower { next: pos + 1, ahead: pos + 1, run, idle: 0 });
    }
    fn propose(&mut self, out: &mut Vec<Proposed>) {
        for i in 0..self.followers.len() {
            let f = self.followers[i];
            if f.idle > 0 {
                continue;
            }
            let to = f.next + (2 * u64::from(f.run)).min(DEPTH);
            for p in f.ahead.max(f.next)..to {
                let Some(id) = self.at(p) else { break };
                let (run_class, step_class) = (class(f.run.into()), class(p - f.next + 1));
                out.push(Proposed { id, run_class, step_class });
            }
            self.followers[i].ahead = to.max(f.ahead);
        }
    }
    /// Memory, bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.log.len() * 4 + self.index.len() * 8
    }
    /// Writes all of it.
    pub(super) fn write(&self, to: &mut Writer) {
        to.u32(self.log.len() as u32);
        to.u64(self.len);
        to.id(self.previous);
        let used = self.log.len().min(usize::try_from(self.len).unwrap_or(usize::MAX));
        self.log[..used].iter().for_each(|&id| to.id(id));
        to.u32(self.index.iter().filter(|e| e.0 != 0).count() as u32);
        for (i, e) in self.index.iter().enumerate().filter(|(_, e)| e.0 != 0) {
            to.u32(i as u32);
            to.u32(e.0);
            to.u32(e.1);
        }
        to.u32(self.followers.len() as u32);
        for f in &self.followers {
            to.u64(f.next);
            to.u64(f.ahead);
            to.u32(f.run);
            to.u32(f.idle);
        }
    }
    /// Reads what [`Stream::write`] wrote, for a log of the same size.
    pub(super) fn read(&mut self, from: &mut Reader<'_>) -> Result<(), Bad> {
        from.expect_u32(self.log.len() as u32)?;
        self.len = from.u64()?;
        self.previous = from.id()?;
        let used = self.log.len().min(usize::try_from(self.len).unwrap_or(usize::MAX));
        for id in &mut self.log[..used] {
            *id = from.id()?;
        }
        for _ in 0..from.count(self.index.len())? {
            let i = from.index(self.index.len())?;
            self.index[i] = (from.u32()?, from.u32()?);
        }
        for _ in 0..from.count(FOLLOWERS)? {
            let f = Follower { next: from.u64()?, ahead: from.u64()?, run: from.u32()?, idle: from.u32()? };
            if f.next > self.len || f.ahead > self.len + 2 * DEPTH {
                return Err(Bad::Value);
            }
            self.followers.push(f);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(i: u32) -> Id {
        Id::from_parts(i, 0)
    }
    fn ids(out: &[Proposed]) -> Vec<u32> {
        out.iter().map(|p| p.id.raw()).collect()
    }

    #[test]
    fn repetition_proposes_what_followed_last_time_and_reaches_further_as_it_holds() {
        let (mut stream, mut out) = (Stream::new(1 << 12), vec![]);
        (0..20).for_each(|i| stream.step(id(i), &mut out));
        assert!(out.is_empty(), "nothing repeats yet");
        stream.step(id(3), &mut out);
        assert_eq!(ids(&out), [4, 5], "one match: two ahead");
        out.clear();
        stream.step(id(4), &mut out);
        assert_eq!(ids(&out), [6, 7, 8], "two matches: four ahead, of which one is proposed already");
    }

    #[test]
    fn what_the_log_has_overwritten_is_not_followed() {
        let (mut stream, mut out) = (Stream::new(8), vec![]);
        (0..12).for_each(|i| stream.step(id(i), &mut out));
        stream.step(id(1), &mut out);
        assert!(out.is_empty());
    }
}
