//! The duel: would one plain LRU list miss less than the split main part?
//!
//! Both run side by side, demand only, on the objects whose key falls into a sample of about a thousand
//! resident ones (as set sampling in Qureshi, Lynch, Mutlu, Patt: "A case for MLP-aware cache replacement",
//! ISCA 2006). Unless the split wins by half a percent, the pool evicts as plain LRU does: that is what keeps
//! staging from ever being worse than none because of the split.

use super::keys::KeyMap;
use super::policy::{Note, Notes, Part, Policy, Queue, Slot};
use super::split::{Held, Split};

/// Resident objects that a sample should hold.
const SAMPLE: u64 = 1024;
/// Misses are forgotten by this share at each sampled access: a memory of 5,000 accesses.
const FORGET: f64 = 0.9998;
/// The split must miss less than this share of what LRU misses.
const MUST_WIN: f64 = 0.995;

/// Plain LRU against the split, on a sample.
pub(super) struct Duel {
    lru: Sampled,
    split: Sampled,
    /// Both hold at most this much.
    capacity_bytes: u64,
    /// An object is sampled when these bits of its key are zero.
    mask: u64,
    lru_misses: f64,
    split_misses: f64,
}

/// A little pool without files: keys, notes, and one of the two orders.
struct Sampled {
    at: KeyMap<Slot>,
    notes: Notes,
    free: Vec<Slot>,
    bytes: u64,
    once_bytes: u64,
    tick: u64,
    order: Order,
}

enum Order {
    Lru(Queue),
    Split(Box<Split>),
}

impl Duel {
    /// For a pool that holds about `objects` of its capacity.
    pub(super) fn new(capacity_bytes: u64, objects: u64) -> Duel {
        let ways = (objects / SAMPLE).max(1).next_power_of_two();
        let capacity_bytes = capacity_bytes / ways;
        Duel {
            lru: Sampled::new(Order::Lru(Queue::new(Policy::Lru))),
            split: Sampled::new(Order::Split(Box::new(Split::new(Policy::Lru, capacity_bytes)))),
            capacity_bytes,
            mask: ways - 1,
            lru_misses: 0.0,
            split_misses: 0.0,
        }
    }
    /// A demand access, hit or miss.
    pub(super) fn access(&mut self, key: u64, bytes: u64) {
        if key >> 20 & self.mask != 0 || bytes > self.capacity_bytes {
            return;
        }
        self.lru_misses =
            self.lru_misses * FORGET + f64::from(!self.lru.access(key, bytes, self.capacity_bytes));
        self.split_misses =
            self.split_misses * FORGET + f64::from(!self.split.access(key, bytes, self.capacity_bytes));
    }
    /// Whether the pool should evict by recency alone.
    pub(super) fn plain_wins(&self) -> bool {
        self.split_misses > self.lru_misses * MUST_WIN
    }
    /// Memory, bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.lru.memory_bytes() + self.split.memory_bytes()
    }
}

impl Sampled {
    fn new(order: Order) -> Sampled {
        Sampled {
            at: KeyMap::default(),
            notes: vec![],
            free: vec![],
            bytes: 0,
            once_bytes: 0,
            tick: 0,
            order,
        }
    }
    /// Says whether it was a hit.
    fn access(&mut self, key: u64, bytes: u64, capacity_bytes: u64) -> bool {
        self.tick += 1;
        if let Some(&slot) = self.at.get(&key) {
            self.touch(slot);
            return true;
        }
        let keep = match &mut self.order {
            Order::Lru(_) => true,
            Order::Split(split) => split.judge(key, bytes),
        };
        while self.bytes + bytes > capacity_bytes && self.evict() {}
        self.insert(key, bytes, keep);
        false
    }
    fn touch(&mut self, slot: Slot) {
        let note = &mut self.notes[slot as usize];
        note.used = self.tick;
        if note.part == Part::Once {
            self.once_bytes -= note.bytes;
        }
        match &mut self.order {
            Order::Lru(queue) => queue.touch(&mut self.notes, slot),
            Order::Split(split) => split.touch(&mut self.notes, slot),
        }
    }
    fn insert(&mut self, key: u64, bytes: u64, keep: bool) {
        let note = Note { bytes, key, used: self.tick, ..Note::default() };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.notes[slot as usize] = note;
                slot
            }
            None => {
                self.notes.push(note);
                self.notes.len() as Slot - 1
            }
        };
        self.at.insert(key, slot);
        self.bytes += bytes;
        match &mut self.order {
            Order::Lru(queue) => queue.push(&mut self.notes, slot, 1),
            Order::Split(split) => {
                split.insert(&mut self.notes, slot, keep);
                self.once_bytes += if keep { 0 } else { bytes };
            }
        }
    }
    fn evict(&mut self) -> bool {
        let held = Held { once_bytes: self.once_bytes };
        let victim = match &mut self.order {
            Order::Lru(queue) => queue.pop(&mut self.notes),
            Order::Split(split) => split.evict(&mut self.notes, held),
        };
        let Some(slot) = victim else { return false };
        let Note { key, bytes, part, .. } = self.notes[slot as usize];
        self.at.remove(&key);
        self.bytes -= bytes;
        if part == Part::Once {
            self.once_bytes -= bytes;
        }
        self.free.push(slot);
        true
    }
    fn memory_bytes(&self) -> usize {
        let ghosts = if let Order::Split(split) = &self.order { split.memory_bytes() } else { 0 };
        self.at.capacity() * 13
            + self.notes.capacity() * size_of::<Note>()
            + self.free.capacity() * 4
            + ghosts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small hot set beside an endless scan: the split keeps the hot set, LRU loses it.
    #[test]
    fn split_wins_where_a_scan_floods_a_hot_set() {
        let mut duel = Duel::new(100, 100);
        for i in 0..4000 {
            for _ in 0..2 {
                duel.access(i % 40, 1);
            }
            for j in 0..3 {
                duel.access(1_000 + i * 3 + j, 1);
            }
        }
        assert!(!duel.plain_wins());
    }

    #[test]
    fn plain_lru_wins_a_draw() {
        let mut duel = Duel::new(100, 100);
        for i in 0..4000 {
            duel.access(i, 1);
        }
        assert!(duel.plain_wins());
    }
}
