//! The two orders in which entries leave: least recently used, and least frequently used with ageing.
//!
//! A [`Queue`] orders slots; what it needs to know of an entry stands in that slot's [`Note`]. A slot is in
//! at most one queue at a time, so all queues of a pool share one table of notes and its links.
//!
//! The caller's duty: a slot is pushed only when it is not linked, and popped slots are either evicted or
//! pushed again. The queue's duty: `pop` gives the coldest first, in O(1) (LRU) or O(log n) (LFU).

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What orders the entries that no forecast needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// The least recently used entry leaves first.
    #[default]
    Lru,
    /// The least frequently used entry leaves first, with dynamic ageing: what was used often long ago does
    /// not stay for ever (LFU-DA: Arlitt, Cherkasova, Dilley, Friedrich, Jin: "Evaluating content management
    /// techniques for Web proxy caches", 1999).
    Lfu,
    /// LFU-DA as libCacheSim computes it: a use adds the cache's age to the rank instead of one. It misses more
    /// than [`Policy::Lfu`] on most traces (measured on arc_oltp at 1 %: .791, .603), and is here because
    /// published miss ratios are its: the baseline of a replay, not a choice for a pool.
    #[serde(skip)]
    LfuLibCacheSim,
}

impl Policy {
    /// The policy's name in configurations and reports.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Lru => "lru",
            Policy::Lfu => "lfu",
            Policy::LfuLibCacheSim => "lfu-libcachesim",
        }
    }
}

/// An entry's place in the tables of a pool.
pub(super) type Slot = u32;

const NIL: Slot = Slot::MAX;

/// Which part of the pool an entry stands in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Part {
    /// Learned objects that nobody has used yet.
    Staged,
    /// Learned objects that were used once.
    After,
    /// Objects of the main part that were used once.
    Once,
    /// Objects of the main part that were used more often; with segments off, all objects.
    #[default]
    Kept,
}

impl Part {
    /// How many there are.
    pub(super) const COUNT: usize = 4;
}

/// What the orders know of one entry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Note {
    /// Its size.
    pub(super) bytes: u64,
    /// Hash of its name: what ghosts and samples remember it by.
    pub(super) key: u64,
    /// The tick of its last use.
    pub(super) used: u64,
    /// Uses while resident; LFU only.
    pub(super) uses: u64,
    /// Uses plus the age of the cache at the last use; LFU only.
    pub(super) rank: u64,
    /// `used` when it was linked: breaks ties of rank.
    pub(super) tie: u64,
    /// Links of its queue; LRU only.
    pub(super) prev: Slot,
    /// The older neighbour.
    pub(super) next: Slot,
    /// Where it stands.
    pub(super) part: Part,
    /// How often it may yet be passed over at the cold end.
    pub(super) chances: u8,
    /// Whether its queue holds it. An entry that must stay is taken out when an eviction meets it.
    pub(super) linked: bool,
    /// It must stay: pinned, or ranked by a forecast.
    pub(super) spared: bool,
    /// A prediction moved it away from the cold end since its last use.
    pub(super) protected: bool,
}

/// The notes of all slots of one pool.
pub(super) type Notes = Vec<Note>;

/// An order over slots, coldest first.
pub(super) struct Queue {
    order: Order,
    len: usize,
}

enum Order {
    /// Linked through the notes: `head` is the newest.
    Recency { head: Slot, tail: Slot },
    /// (rank, tick, slot); `age` is the rank of the last victim.
    Frequency { by_rank: BTreeSet<(u64, u64, Slot)>, age: u64, adds_age: bool },
}

impl Queue {
    /// An empty queue.
    pub(super) fn new(policy: Policy) -> Queue {
        let order = match policy {
            Policy::Lru => Order::Recency { head: NIL, tail: NIL },
            Policy::Lfu => Order::Frequency { by_rank: BTreeSet::new(), age: 0, adds_age: false },
            Policy::LfuLibCacheSim => Order::Frequency { by_rank: BTreeSet::new(), age: 0, adds_age: true },
        };
        Queue { order, len: 0 }
    }
    /// How many slots are linked.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.len
    }
    /// Whether it orders by recency.
    pub(super) fn is_recency(&self) -> bool {
        matches!(self.order, Order::Recency { .. })
    }
    /// Links a slot that came (back) in with `uses` uses so far, as the newest.
    pub(super) fn push(&mut self, notes: &mut Notes, slot: Slot, uses: u64) {
        if let Order::Frequency { age, .. } = self.order {
            let note = &mut notes[slot as usize];
            note.uses = uses;
            note.rank = age.saturating_add(uses);
        }
        self.link(notes, slot, true);
    }
    /// Links a slot at the cold end: it was the coldest when it was set aside. Under LFU its rank decides.
    pub(super) fn push_cold(&mut self, notes: &mut Notes, slot: Slot) {
        self.link(notes, slot, false);
    }
    /// A use: the slot becomes the newest, or gains rank.
    pub(super) fn touch(&mut self, notes: &mut Notes, slot: Slot) {
        self.unlink(notes, slot);
        if let Order::Frequency { age, adds_age, .. } = self.order {
            let note = &mut notes[slot as usize];
            note.uses += 1;
            note.rank = if adds_age { note.rank } else { note.uses }.saturating_add(age);
        }
        self.link(notes, slot, true);
        self.follow_minimum();
    }
    /// libCacheSim's age is the smallest rank that is present, once something has been evicted.
    fn follow_minimum(&mut self) {
        if let Order::Frequency { by_rank, age, adds_age: true } = &mut self.order
            && *age > 0
        {
            *age = (*age).max(by_rank.first().map_or(0, |f| f.0));
        }
    }
    /// Moves a slot to the hot end without counting a use. Under LFU nothing moves.
    pub(super) fn refresh(&mut self, notes: &mut Notes, slot: Slot) -> bool {
        if !self.is_recency() || !notes[slot as usize].linked {
            return false;
        }
        self.unlink(notes, slot);
        self.link(notes, slot, true);
        true
    }
    /// Takes the coldest slot out, without ageing the queue.
    pub(super) fn pop(&mut self, notes: &mut Notes) -> Option<Slot> {
        let slot = self.coldest()?;
        self.unlink(notes, slot);
        Some(slot)
    }
    /// The slot was evicted: under LFU the cache is now as old as its rank.
    pub(super) fn evicted(&mut self, notes: &Notes, slot: Slot) {
        if let Order::Frequency { age, .. } = &mut self.order {
            *age = (*age).max(notes[slot as usize].rank);
        }
        self.follow_minimum();
    }
    /// The slot that `pop` would take.
    pub(super) fn coldest(&self) -> Option<Slot> {
        match &self.order {
            Order::Recency { tail, .. } => (*tail != NIL).then_some(*tail),
            Order::Frequency { by_rank, .. } => by_rank.first().map(|f| f.2),
        }
    }
    /// Takes a slot out, if it is linked.
    pub(super) fn unlink(&mut self, notes: &mut Notes, slot: Slot) {
        let note = &mut notes[slot as usize];
        if !std::mem::take(&mut note.linked) {
            return;
        }
        self.len -= 1;
        let Note { prev, next, rank, tie, .. } = *note;
        match &mut self.order {
            Order::Recency { head, tail } => {
                match prev {
                    NIL => *head = next,
                    p => notes[p as usize].next = next,
                }
                match next {
                    NIL => *tail = prev,
                    n => notes[n as usize].prev = prev,
                }
            }
            Order::Frequency { by_rank, .. } => {
                let was_there = by_rank.remove(&(rank, tie, slot));
                assert!(was_there, "a linked slot stands in its queue under its rank");
            }
        }
    }
    fn link(&mut self, notes: &mut Notes, slot: Slot, hot: bool) {
        assert!(!notes[slot as usize].linked, "a slot is linked once");
        self.len += 1;
        let note = &mut notes[slot as usize];
        note.linked = true;
        match &mut self.order {
            Order::Recency { head, tail } if hot => {
                (note.prev, note.next) = (NIL, *head);
                match std::mem::replace(head, slot) {
                    NIL => *tail = slot,
                    h => notes[h as usize].prev = slot,
                }
            }
            Order::Recency { head, tail } => {
                (note.prev, note.next) = (*tail, NIL);
                match std::mem::replace(tail, slot) {
                    NIL => *head = slot,
                    t => notes[t as usize].next = slot,
                }
            }
            Order::Frequency { by_rank, .. } => {
                note.tie = note.used;
                by_rank.insert((note.rank, note.tie, slot));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &mut Queue, notes: &mut Notes) -> Vec<Slot> {
        std::iter::from_fn(|| {
            let slot = queue.pop(notes)?;
            queue.evicted(notes, slot);
            Some(slot)
        })
        .collect()
    }

    #[test]
    fn lru_gives_up_the_least_recently_used_first() {
        let (mut notes, mut queue) = (vec![Note::default(); 4], Queue::new(Policy::Lru));
        for slot in 0..4 {
            queue.push(&mut notes, slot, 1);
        }
        queue.touch(&mut notes, 0);
        queue.unlink(&mut notes, 2);
        queue.push_cold(&mut notes, 2);
        assert_eq!(drain(&mut queue, &mut notes), [2, 1, 3, 0]);
    }

    #[test]
    fn lfu_ages_so_that_old_fame_does_not_last() {
        let (mut notes, mut queue) = (vec![Note::default(); 20], Queue::new(Policy::Lfu));
        queue.push(&mut notes, 0, 5);
        let mut gone = vec![];
        for slot in 1..20 {
            queue.push(&mut notes, slot, 1);
            let victim = queue.pop(&mut notes).unwrap();
            queue.evicted(&notes, victim);
            gone.push(victim);
        }
        // Each newcomer starts one above the last victim, so the fifth outranks the five uses of slot 0.
        assert_eq!(gone[..4], [1, 2, 3, 4]);
        assert!(gone.contains(&0));
    }
}
