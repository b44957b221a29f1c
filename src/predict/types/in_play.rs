//! The entities a worker may take next: at most 64, named by what it did last, by what was handed to it, and
//! by what happened last on the host.

use super::Error;
use super::entities::Handle;
use super::snapshot::{Reader, Writer};
use std::collections::VecDeque;

/// Entities kept of a worker's own past, and of the host's.
pub(super) const LATEST: usize = 16;
/// Entities that wait in one worker's inbox, at most; the oldest is dropped.
const INBOX: usize = 128;
/// Most candidates.
pub(super) const IN_PLAY: usize = 64;
/// Not in that list.
pub(super) const NOT: u8 = u8::MAX;

/// The last few different entities, latest last.
#[derive(Clone, Debug, Default)]
pub(super) struct Latest {
    list: Vec<Handle>,
}

impl Latest {
    /// An entity had its turn.
    pub fn push(&mut self, h: Handle) {
        self.list.retain(|&o| o != h);
        if self.list.len() == LATEST {
            self.list.remove(0);
        }
        self.list.push(h);
    }
    /// The i-th last, from 0.
    pub fn get(&self, i: usize) -> Option<Handle> {
        self.list.iter().rev().nth(i).copied()
    }
    /// Latest first.
    pub fn iter(&self) -> impl Iterator<Item = Handle> + '_ {
        self.list.iter().rev().copied()
    }
    pub fn save(&self, to: &mut Writer) {
        to.len(self.list.len());
        self.list.iter().for_each(|h| h.save(to));
    }
    pub fn load(from: &mut Reader<'_>) -> Result<Latest, Error> {
        let n = from.len(LATEST, "the latest entities")?;
        let list = (0..n).map(|_| Handle::load(from)).collect::<Result<_, _>>()?;
        Ok(Latest { list })
    }
}

/// Entities whose state is usually taken over by this worker, by the number of their last task.
#[derive(Clone, Debug, Default)]
pub(super) struct Inbox {
    waiting: VecDeque<(u64, Handle)>,
    /// The number that the entity had which this worker took last.
    cursor: u64,
}

impl Inbox {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }
    /// An entity whose last task had number `sequence`, the highest so far, waits here.
    pub fn put(&mut self, sequence: u64, h: Handle) {
        if self.waiting.len() == INBOX {
            self.waiting.pop_front();
        }
        self.waiting.push_back((sequence, h));
    }
    /// It waits no longer.
    pub fn remove(&mut self, sequence: u64) {
        if let Ok(at) = self.waiting.binary_search_by_key(&sequence, |w| w.0) {
            self.waiting.remove(at);
        }
    }
    /// This worker took the one whose last task had that number.
    pub fn took(&mut self, sequence: u64) {
        self.cursor = sequence;
    }
    pub fn save(&self, to: &mut Writer) {
        to.u64(self.cursor);
        to.len(self.waiting.len());
        for (sequence, h) in &self.waiting {
            to.u64(*sequence);
            h.save(to);
        }
    }
    pub fn load(from: &mut Reader<'_>) -> Result<Inbox, Error> {
        let cursor = from.u64()?;
        let n = from.len(INBOX, "an inbox")?;
        let waiting =
            (0..n).map(|_| Ok((from.u64()?, Handle::load(from)?))).collect::<Result<VecDeque<_>, Error>>()?;
        if !waiting.iter().is_sorted_by_key(|w| w.0) {
            return Err(Error::Malformed { what: "an inbox" });
        }
        Ok(Inbox { waiting, cursor })
    }
}

/// One candidate, and where it was found: its rank in each list, or [`NOT`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub entity: Handle,
    /// Among the worker's own last.
    pub own: u8,
    /// In the inbox around the one taken last: 0.. after it, 8.. before it.
    pub around: u8,
    /// Among the newest in the inbox.
    pub newest: u8,
    /// Among the oldest in the inbox.
    pub oldest: u8,
    /// Among the host's last.
    pub host: u8,
}

/// The candidates of one forecast.
#[derive(Clone, Debug)]
pub(super) struct InPlay {
    list: Vec<Candidate>,
    /// By hash of the slot, with linear probing: place in `list` + 1.
    marks: [u8; MARKS],
}

/// Four times the candidates, so that probes are short.
const MARKS: usize = 4 * IN_PLAY;

impl InPlay {
    pub fn new() -> InPlay {
        InPlay { list: Vec::with_capacity(IN_PLAY), marks: [0; MARKS] }
    }

    /// The candidates.
    pub fn list(&self) -> &[Candidate] {
        &self.list
    }

    /// A candidate's place.
    pub fn position(&self, h: Handle) -> Option<usize> {
        let (_, found) = self.probe(h);
        found
    }

    /// Gathers them anew: those that are `there`, not forgotten since they were listed.
    pub fn gather(&mut self, own: &Latest, inbox: &Inbox, host: &Latest, there: impl Fn(Handle) -> bool) {
        self.list.clear();
        self.marks = [0; MARKS];
        let there = &there;
        for (i, h) in own.iter().enumerate() {
            self.name(h, i, |c| &mut c.own, there);
        }
        let waiting = &inbox.waiting;
        let next = waiting.partition_point(|w| w.0 <= inbox.cursor);
        for (i, w) in waiting.range(next..).take(8).enumerate() {
            self.name(w.1, i, |c| &mut c.around, there);
        }
        for (i, w) in waiting.range(..next).rev().take(3).enumerate() {
            self.name(w.1, 8 + i, |c| &mut c.around, there);
        }
        for (i, w) in waiting.iter().rev().take(10).enumerate() {
            self.name(w.1, i, |c| &mut c.newest, there);
        }
        for (i, w) in waiting.iter().take(6).enumerate() {
            self.name(w.1, i, |c| &mut c.oldest, there);
        }
        for (i, h) in host.iter().enumerate() {
            self.name(h, i, |c| &mut c.host, there);
        }
    }

    fn name(
        &mut self,
        h: Handle,
        rank: usize,
        list: impl Fn(&mut Candidate) -> &mut u8,
        there: impl Fn(Handle) -> bool,
    ) {
        if !there(h) {
            return;
        }
        let (mark, found) = self.probe(h);
        let at = match found {
            Some(at) => at,
            None if self.list.len() < IN_PLAY => {
                self.list.push(Candidate {
                    entity: h,
                    own: NOT,
                    around: NOT,
                    newest: NOT,
                    oldest: NOT,
                    host: NOT,
                });
                self.marks[mark] = self.list.len() as u8;
                self.list.len() - 1
            }
            None => return,
        };
        *list(&mut self.list[at]) = rank as u8;
    }

    /// The mark of an entity, or the free one where it belongs; and its place.
    fn probe(&self, h: Handle) -> (usize, Option<usize>) {
        let mut mark = h.slot().wrapping_mul(0x9E37_79B1) as usize >> 16 & (MARKS - 1);
        loop {
            match self.marks[mark] {
                0 => return (mark, None),
                m if self.list[m as usize - 1].entity == h => return (mark, Some(m as usize - 1)),
                _ => mark = (mark + 1) & (MARKS - 1),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handles(slots: impl IntoIterator<Item = u32>) -> Vec<Handle> {
        slots.into_iter().map(Handle::test).collect()
    }

    #[test]
    fn each_entity_is_one_candidate_with_all_its_ranks() {
        let (mut own, mut host, mut inbox) = (Latest::default(), Latest::default(), Inbox::default());
        for h in handles([1, 2, 3]) {
            own.push(h);
        }
        for h in handles([9, 3]) {
            host.push(h);
        }
        for (i, h) in handles([5, 6, 2]).into_iter().enumerate() {
            inbox.put(10 + i as u64, h);
        }
        inbox.took(10);
        let mut play = InPlay::new();
        play.gather(&own, &inbox, &host, |_| true);
        let c = |slot: u32| play.list()[play.position(Handle::test(slot)).unwrap()];
        assert_eq!(play.list().len(), 6);
        assert_eq!((c(3).own, c(3).host, c(1).own), (0, 0, 2));
        assert_eq!((c(6).around, c(2).around, c(2).own, c(5).around), (0, 1, 1, 8));
        assert_eq!((c(5).oldest, c(5).newest, c(9).host, c(9).own), (0, 2, 1, NOT));
        assert_eq!(play.position(Handle::test(77)), None);
    }

    #[test]
    fn lists_stay_within_their_bounds() {
        let (mut own, mut inbox) = (Latest::default(), Inbox::default());
        let mut rng = fastrand::Rng::with_seed(3);
        let mut play = InPlay::new();
        for i in 0..5000 {
            own.push(Handle::test(rng.u32(..40)));
            inbox.put(i, Handle::test(rng.u32(..400)));
            if rng.bool() {
                inbox.took(rng.u64(..=i));
                inbox.remove(rng.u64(..=i));
            }
            play.gather(&own, &inbox, &own, |_| true);
            assert!(inbox.len() <= INBOX && play.list().len() <= IN_PLAY);
            for (at, c) in play.list().iter().enumerate() {
                assert_eq!(play.position(c.entity), Some(at));
            }
        }
        assert_eq!(own.iter().count(), LATEST);
    }
}
