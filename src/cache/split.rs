//! The main part of a pool that learns: objects used once beside objects used more often.
//!
//! The shares of the two follow their ghosts, as in ARC (Megiddo, Modha: "ARC: a self-tuning, low overhead
//! replacement cache", FAST 2003, figure 4), counted in bytes. Objects used more often are kept in LRU order
//! with up to two second chances, or in LFU order with ageing. `plain` switches all of this off: then the
//! eviction follows recency alone, exactly as one LRU list would.

use super::ghosts::Ghosts;
use super::policy::{Note, Notes, Part, Policy, Queue, Slot};

/// How often a kept object that was used again is passed over at the cold end.
const CHANCES: u8 = 2;

/// Objects used once and objects kept.
pub(super) struct Split {
    once: Queue,
    kept: Queue,
    ghost_once: Ghosts,
    ghost_kept: Ghosts,
    /// Bytes that `once` may hold before it pays for the next insert.
    target_bytes: f64,
    capacity_bytes: u64,
    /// Evict by recency alone. Means something under LRU only.
    pub(super) plain: bool,
}

impl Split {
    /// Empty, for a pool of `capacity_bytes`.
    pub(super) fn new(policy: Policy, capacity_bytes: u64) -> Split {
        Split {
            once: Queue::new(Policy::Lru),
            kept: Queue::new(policy),
            ghost_once: Ghosts::new(),
            ghost_kept: Ghosts::new(),
            target_bytes: 0.0,
            capacity_bytes,
            plain: false,
        }
    }
    fn queue(&mut self, part: Part) -> &mut Queue {
        match part {
            Part::Once => &mut self.once,
            _ => &mut self.kept,
        }
    }
    /// Links a new entry. `keep`: it is known to be worth keeping (see [`Split::judge`]).
    pub(super) fn insert(&mut self, notes: &mut Notes, slot: Slot, keep: bool) {
        let note = &mut notes[slot as usize];
        note.chances = 0;
        note.part = if keep { Part::Kept } else { Part::Once };
        let part = note.part;
        self.queue(part).push(notes, slot, 1 + u64::from(keep));
    }
    /// A use: the second one moves an object to the kept ones, later ones earn second chances.
    pub(super) fn touch(&mut self, notes: &mut Notes, slot: Slot) {
        let note = &mut notes[slot as usize];
        if note.part == Part::Once {
            self.once.unlink(notes, slot);
            notes[slot as usize].part = Part::Kept;
            self.kept.push(notes, slot, 2);
        } else {
            note.chances = (note.chances + 1).min(CHANCES);
            self.kept.touch(notes, slot);
        }
    }
    /// Moves an entry away from the cold end, without counting a use; says whether it moved.
    pub(super) fn protect(&mut self, notes: &mut Notes, slot: Slot) -> bool {
        let part = notes[slot as usize].part;
        self.queue(part).refresh(notes, slot)
    }
    /// A demand miss: a ghost moves the target towards its side, by its size times the ratio of the lists.
    /// Says whether it was a ghost; then it is kept at once.
    pub(super) fn judge(&mut self, key: u64, bytes: u64) -> bool {
        let (once, kept) = (self.ghost_once.bytes() as f64, self.ghost_kept.bytes() as f64);
        let bytes = bytes as f64;
        if self.ghost_once.remove(key) {
            let step = bytes * (kept / once.max(1.0)).max(1.0);
            self.target_bytes = (self.target_bytes + step).min(self.capacity_bytes as f64);
            return true;
        }
        if self.ghost_kept.remove(key) {
            let step = bytes * (once / kept.max(1.0)).max(1.0);
            self.target_bytes = (self.target_bytes - step).max(0.0);
            return true;
        }
        false
    }
    /// The object came without a miss: its ghost says nothing about the shares.
    pub(super) fn forget_ghost(&mut self, key: u64) {
        self.ghost_once.remove(key);
        self.ghost_kept.remove(key);
    }
    /// Takes an entry out without leaving a ghost.
    pub(super) fn remove(&mut self, notes: &mut Notes, slot: Slot) {
        let part = notes[slot as usize].part;
        self.queue(part).unlink(notes, slot);
    }
    /// Links an entry that was set aside while it had to stay.
    pub(super) fn push_back(&mut self, notes: &mut Notes, slot: Slot) {
        let part = notes[slot as usize].part;
        self.queue(part).push_cold(notes, slot);
    }
    /// The next entry to leave, taken out of its queue; entries that must stay are set aside on the way.
    /// `held` is what the two parts hold, in bytes.
    pub(super) fn evict(&mut self, notes: &mut Notes, held: Held) -> Option<Slot> {
        let once_first = self.once_pays(notes, held);
        let slot = match once_first {
            true => self.pop(notes, Part::Once).or_else(|| self.pop(notes, Part::Kept)),
            false => self.pop(notes, Part::Kept).or_else(|| self.pop(notes, Part::Once)),
        }?;
        let Note { part, key, bytes, .. } = notes[slot as usize];
        self.leave_ghost(part, key, bytes, held.once_bytes);
        Some(slot)
    }
    fn leave_ghost(&mut self, part: Part, key: u64, bytes: u64, once_bytes: u64) {
        let once_bytes = once_bytes - if part == Part::Once { bytes } else { 0 };
        match part {
            Part::Once => self.ghost_once.push(key, bytes),
            _ => self.ghost_kept.push(key, bytes),
        }
        while self.ghost_once.bytes() + once_bytes > self.capacity_bytes && self.ghost_once.pop() {}
        while self.ghost_once.bytes() + self.ghost_kept.bytes() > self.capacity_bytes && self.ghost_kept.pop()
        {
        }
    }
    fn once_pays(&self, notes: &Notes, held: Held) -> bool {
        let Some(oldest) = self.once.coldest() else { return false };
        let Some(kept) = self.kept.coldest() else { return true };
        if self.plain && self.kept.is_recency() {
            return notes[oldest as usize].used < notes[kept as usize].used;
        }
        held.once_bytes as f64 > self.target_bytes
    }
    fn pop(&mut self, notes: &mut Notes, part: Part) -> Option<Slot> {
        let second_chances = part == Part::Kept && !self.plain && self.kept.is_recency();
        loop {
            let slot = self.queue(part).pop(notes)?;
            let note = &mut notes[slot as usize];
            if note.spared {
                continue;
            }
            if second_chances && note.chances > 0 {
                note.chances -= 1;
                self.kept.push(notes, slot, 0);
                continue;
            }
            self.queue(part).evicted(notes, slot);
            return Some(slot);
        }
    }
    /// Linked entries of a part.
    #[cfg(test)]
    pub(super) fn linked(&self, part: Part) -> usize {
        if part == Part::Once { self.once.len() } else { self.kept.len() }
    }
    /// Memory of the ghosts, bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.ghost_once.memory_bytes() + self.ghost_kept.memory_bytes()
    }
}

/// What the main part holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Bytes of the entries used once.
    pub(super) once_bytes: u64,
}
