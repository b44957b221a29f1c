//! The part of a pool that no forecast ranks: which entry leaves next.
//!
//! Without learning it is one queue, LRU or LFU. With learning, objects that were staged because history says
//! so enter *staged* (at most a fifth of the pool); their first use moves them to *after* (a twentieth), the
//! second one to the main part ([`Split`]). What can be predicted is cheap to bring again, so it must not push
//! out what can not. Objects that a template or the queue names never enter these two segments.
//!
//! An entry that must stay (pinned, or ranked by a forecast) is *spared*: it keeps its part and its place, and
//! is set aside when an eviction meets it at the cold end. That costs O(1) and needs no second list.

use super::duel::Duel;
use super::policy::{Note, Notes, Part, Policy, Queue, Slot};
use super::split::{Held, Split};

/// Share of the pool that staged objects without a use may take.
const STAGED_SHARE: f64 = 0.20;
/// Share of the pool that staged objects with one use may take.
const AFTER_SHARE: f64 = 0.05;
/// Inserts after which the mean size is trusted enough to set up the duel.
const SETTLED: u64 = 32;

/// How an entry came into the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// A task asked for it; `keep` as [`Segments::missed`] said.
    Demand {
        /// It left not long ago and is wanted again: kept at once.
        keep: bool,
    },
    /// Staged because history says that it comes next.
    Learned,
    /// Staged by name, or left by a task as its output.
    Named,
}

/// What a use found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Touched {
    /// Since its last use a prediction had moved it away from the cold end: perhaps it would have been missed.
    pub(super) protected: bool,
}

/// The orders of all entries of one pool.
pub(super) struct Segments {
    notes: Notes,
    main: Main,
    staged: Queue,
    after: Queue,
    /// Bytes by [`Part`], spared entries included.
    part_bytes: [u64; Part::COUNT],
    /// Bytes of the entries that may leave.
    free_bytes: u64,
    staged_limit_bytes: u64,
    after_limit_bytes: u64,
    capacity_bytes: u64,
    len: usize,
    inserts: u64,
    tick: u64,
}

enum Main {
    Plain(Queue),
    Learning { split: Box<Split>, duel: Option<Box<Duel>>, policy: Policy },
}

impl Segments {
    /// For a pool of `capacity_bytes`; `learning` sets the segments up.
    pub(super) fn new(policy: Policy, learning: bool, capacity_bytes: u64) -> Segments {
        let main = match learning {
            false => Main::Plain(Queue::new(policy)),
            true => {
                Main::Learning { split: Box::new(Split::new(policy, capacity_bytes)), duel: None, policy }
            }
        };
        Segments {
            notes: vec![],
            main,
            staged: Queue::new(Policy::Lru),
            after: Queue::new(Policy::Lru),
            part_bytes: [0; Part::COUNT],
            free_bytes: 0,
            staged_limit_bytes: (capacity_bytes as f64 * STAGED_SHARE) as u64,
            after_limit_bytes: (capacity_bytes as f64 * AFTER_SHARE) as u64,
            capacity_bytes,
            len: 0,
            inserts: 0,
            tick: 0,
        }
    }
    /// Bytes of the entries that may leave.
    pub(super) fn free_bytes(&self) -> u64 {
        self.free_bytes
    }
    /// What staged objects without a use may take.
    pub(super) fn staged_limit_bytes(&self) -> u64 {
        self.staged_limit_bytes
    }
    /// What staged objects without a use take.
    pub(super) fn staged_bytes(&self) -> u64 {
        self.part_bytes[Part::Staged as usize]
    }
    /// Entries that came, or moved on from *staged*: the clock of a predictor's horizon.
    pub(super) fn inserts(&self) -> u64 {
        self.inserts
    }
    fn bytes(&self) -> u64 {
        self.part_bytes.iter().sum()
    }
    fn mean_bytes(&self) -> f64 {
        (self.bytes() as f64 / self.len.max(1) as f64).max(1.0)
    }

    // ---- entries come, are used, and go --------------------------------------------------------------------

    /// Links a new entry; there is room for it.
    pub(super) fn insert(&mut self, slot: Slot, key: u64, bytes: u64, uses: u64, came: Came) {
        self.tick += 1;
        let i = slot as usize;
        if i >= self.notes.len() {
            self.notes.resize(i + 1, Note::default());
        }
        self.notes[i] = Note { key, bytes, used: self.tick, ..Note::default() };
        match &mut self.main {
            Main::Plain(queue) => queue.push(&mut self.notes, slot, uses.max(1)),
            Main::Learning { .. } if came == Came::Learned => {
                self.notes[i].part = Part::Staged;
                self.staged.push(&mut self.notes, slot, 0);
            }
            Main::Learning { split, .. } => {
                if came == Came::Named {
                    split.forget_ghost(key);
                }
                let keep = uses > 1 || came == Came::Demand { keep: true };
                split.insert(&mut self.notes, slot, keep);
            }
        }
        self.inserts += u64::from(came != Came::Learned);
        self.len += 1;
        self.part_bytes[self.notes[i].part as usize] += bytes;
        self.free_bytes += bytes;
    }
    /// A demand for what is not here. Says whether it is worth keeping at once.
    pub(super) fn missed(&mut self, key: u64, bytes: u64) -> bool {
        self.demand(key, bytes);
        match &mut self.main {
            Main::Plain(_) => false,
            Main::Learning { split, .. } => split.judge(key, bytes),
        }
    }
    /// A demand, hit or miss: the duel learns from it.
    fn demand(&mut self, key: u64, bytes: u64) {
        let (inserts, capacity) = (self.inserts, self.capacity_bytes);
        let objects = ((capacity as f64 / self.mean_bytes()) as u64).max(1);
        let Main::Learning { split, duel, policy: Policy::Lru } = &mut self.main else { return };
        match duel {
            Some(duel) => {
                duel.access(key, bytes);
                split.plain = duel.plain_wins();
            }
            None => {
                split.plain = true;
                if inserts >= SETTLED {
                    *duel = Some(Box::new(Duel::new(capacity, objects)));
                }
            }
        }
    }
    /// A use of an entry.
    pub(super) fn touch(&mut self, slot: Slot) -> Touched {
        let Note { key, bytes, part, .. } = self.notes[slot as usize];
        self.demand(key, bytes);
        self.tick += 1;
        let note = &mut self.notes[slot as usize];
        note.used = self.tick;
        let touched = Touched { protected: std::mem::take(&mut note.protected) };
        match (&mut self.main, part) {
            (Main::Plain(queue), _) => queue.touch(&mut self.notes, slot),
            (Main::Learning { .. }, Part::Staged) if bytes < self.after_limit_bytes => {
                self.staged.unlink(&mut self.notes, slot);
                self.notes[slot as usize].part = Part::After;
                self.after.push(&mut self.notes, slot, 0);
                self.inserts += 1;
            }
            (Main::Learning { split, .. }, Part::Staged | Part::After) => {
                let queue = if part == Part::Staged { &mut self.staged } else { &mut self.after };
                queue.unlink(&mut self.notes, slot);
                split.forget_ghost(key);
                split.insert(&mut self.notes, slot, false);
                self.inserts += 1;
            }
            (Main::Learning { split, .. }, _) => split.touch(&mut self.notes, slot),
        }
        self.part_bytes[part as usize] -= bytes;
        self.part_bytes[self.notes[slot as usize].part as usize] += bytes;
        touched
    }
    /// A resident entry is expected soon: away from the end of its queue.
    pub(super) fn protect(&mut self, slot: Slot) {
        let part = self.notes[slot as usize].part;
        let moved = match (&mut self.main, part) {
            (_, Part::Staged) => {
                self.staged.refresh(&mut self.notes, slot);
                return;
            }
            (_, Part::After) => self.after.refresh(&mut self.notes, slot),
            (Main::Plain(queue), _) => queue.refresh(&mut self.notes, slot),
            (Main::Learning { split, .. }, _) => split.protect(&mut self.notes, slot),
        };
        if moved {
            self.tick += 1;
            let note = &mut self.notes[slot as usize];
            note.protected = true;
            if matches!(part, Part::Once | Part::Kept) {
                note.used = self.tick;
            }
        }
    }
    /// From now on the entry must stay, or may leave again.
    pub(super) fn spare(&mut self, slot: Slot, spared: bool) {
        let note = &mut self.notes[slot as usize];
        if std::mem::replace(&mut note.spared, spared) == spared {
            return;
        }
        if spared {
            self.free_bytes -= note.bytes;
            return;
        }
        self.free_bytes += note.bytes;
        if !note.linked {
            match (&mut self.main, note.part) {
                (_, Part::Staged) => self.staged.push_cold(&mut self.notes, slot),
                (_, Part::After) => self.after.push_cold(&mut self.notes, slot),
                (Main::Plain(queue), _) => queue.push_cold(&mut self.notes, slot),
                (Main::Learning { split, .. }, _) => split.push_back(&mut self.notes, slot),
            }
        }
    }
    /// Takes an entry out that leaves for another reason than room.
    pub(super) fn remove(&mut self, slot: Slot) {
        match (&mut self.main, self.notes[slot as usize].part) {
            (_, Part::Staged) => self.staged.unlink(&mut self.notes, slot),
            (_, Part::After) => self.after.unlink(&mut self.notes, slot),
            (Main::Plain(queue), _) => queue.unlink(&mut self.notes, slot),
            (Main::Learning { split, .. }, _) => split.remove(&mut self.notes, slot),
        }
        self.forget(slot);
    }
    fn forget(&mut self, slot: Slot) {
        let Note { bytes, part, spared, .. } = self.notes[slot as usize];
        self.part_bytes[part as usize] -= bytes;
        self.free_bytes -= if spared { 0 } else { bytes };
        self.len -= 1;
    }

    // ---- who leaves ----------------------------------------------------------------------------------------

    /// Takes the next entry out that may leave for room.
    pub(super) fn evict(&mut self) -> Option<Slot> {
        let slot = self.next_victim()?;
        self.forget(slot);
        Some(slot)
    }
    /// Takes the oldest staged entry without a use out.
    pub(super) fn evict_staged(&mut self) -> Option<Slot> {
        let slot = pop_free(&mut self.staged, &mut self.notes)?;
        self.forget(slot);
        Some(slot)
    }
    fn next_victim(&mut self) -> Option<Slot> {
        let over = |part: Part, limit: u64| self.part_bytes[part as usize] > limit;
        let (staged_over, after_over) =
            (over(Part::Staged, self.staged_limit_bytes), over(Part::After, self.after_limit_bytes));
        let notes = &mut self.notes;
        if let Some(slot) = staged_over.then(|| pop_free(&mut self.staged, notes)).flatten() {
            return Some(slot);
        }
        if let Some(slot) = after_over.then(|| pop_free(&mut self.after, notes)).flatten() {
            return Some(slot);
        }
        let held = Held { once_bytes: self.part_bytes[Part::Once as usize] };
        let from_main = match &mut self.main {
            Main::Plain(queue) => pop_free(queue, notes),
            Main::Learning { split, .. } => split.evict(notes, held),
        };
        from_main.or_else(|| pop_free(&mut self.after, notes)).or_else(|| pop_free(&mut self.staged, notes))
    }
    /// Memory of ghosts and duel, bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        match &self.main {
            Main::Plain(_) => 0,
            Main::Learning { split, duel, .. } => {
                split.memory_bytes() + duel.as_ref().map_or(0, |d| d.memory_bytes())
            }
        }
    }
    /// Panics if sums and links disagree with the notes of `slots`, which are all entries.
    #[cfg(test)]
    pub(super) fn assert_invariants(&self, slots: impl Iterator<Item = Slot>) {
        let (mut part_bytes, mut free, mut len, mut linked) = ([0; Part::COUNT], 0, 0, [0; Part::COUNT]);
        for slot in slots {
            let note = &self.notes[slot as usize];
            part_bytes[note.part as usize] += note.bytes;
            free += if note.spared { 0 } else { note.bytes };
            len += 1;
            linked[note.part as usize] += usize::from(note.linked);
            assert!(note.linked || note.spared, "an entry that may leave can be found");
        }
        assert_eq!((part_bytes, free, len), (self.part_bytes, self.free_bytes, self.len));
        let (once, kept) = match &self.main {
            Main::Plain(queue) => (0, queue.len()),
            Main::Learning { split, .. } => (split.linked(Part::Once), split.linked(Part::Kept)),
        };
        assert_eq!(linked, [self.staged.len(), self.after.len(), once, kept], "links by part");
    }
}

/// The coldest entry of a queue that may leave; those that must stay are set aside on the way.
fn pop_free(queue: &mut Queue, notes: &mut Notes) -> Option<Slot> {
    loop {
        let slot = queue.pop(notes)?;
        if !notes[slot as usize].spared {
            queue.evicted(notes, slot);
            return Some(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(segments: &mut Segments, slots: std::ops::Range<Slot>, came: Came) {
        for slot in slots {
            segments.insert(slot, u64::from(slot), 1, 1, came);
        }
    }

    #[test]
    fn learned_objects_stay_in_their_fifth() {
        let mut segments = Segments::new(Policy::Lru, true, 100);
        fill(&mut segments, 0..70, Came::Demand { keep: false });
        fill(&mut segments, 70..100, Came::Learned);
        let gone: Vec<Slot> = (0..12).filter_map(|_| segments.evict()).collect();
        assert_eq!(gone[..10], [70, 71, 72, 73, 74, 75, 76, 77, 78, 79], "staged beyond 20 bytes go first");
        assert_eq!(gone[10..], [0, 1], "then the main part pays");
    }

    #[test]
    fn learned_object_needs_two_uses_to_reach_the_main_part() {
        let mut segments = Segments::new(Policy::Lru, true, 1000);
        fill(&mut segments, 0..1, Came::Learned);
        let parts: Vec<Part> = (0..3)
            .map(|_| {
                segments.touch(0);
                segments.notes[0].part
            })
            .collect();
        assert_eq!(parts, [Part::After, Part::Once, Part::Kept]);
        segments.assert_invariants(0..1);
    }

    #[test]
    fn spared_entry_keeps_its_place_at_the_cold_end() {
        let mut segments = Segments::new(Policy::Lru, false, 100);
        fill(&mut segments, 0..4, Came::Demand { keep: false });
        segments.spare(0, true);
        assert_eq!(segments.evict(), Some(1), "0 must stay");
        segments.spare(0, false);
        assert_eq!(segments.evict(), Some(0), "and is the coldest again");
        assert_eq!(segments.free_bytes(), 2);
    }

    #[test]
    fn protection_is_reported_once_at_the_next_use() {
        let mut segments = Segments::new(Policy::Lru, true, 100);
        fill(&mut segments, 0..3, Came::Demand { keep: false });
        segments.protect(0);
        assert_eq!(segments.evict(), Some(1));
        assert!(segments.touch(0).protected);
        assert!(!segments.touch(0).protected);
    }
}
