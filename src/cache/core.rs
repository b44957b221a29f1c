//! The index of one pool: what is in it, who holds it, what leaves to make room.
//!
//! Owned by the cache actor and, with a virtual clock, by `replay`. It decides and counts; the files are
//! somebody else's work. What holds after every call:
//!
//! - entries + zombies + reservations ≤ capacity, to the byte;
//! - no pinned entry is ever among the victims;
//! - every victim is handed out exactly once; its file is to be unlinked *before* the first byte is written
//!   into the room that it made. Then the same bound holds on disk.
//!
//! Who leaves: entries that no forecast needs, in the order of [`Segments`]; then the forecast ones, the
//! farthest need first ([`Need`]), but only for a nearer one. A transfer reserves its bytes before it starts
//! ([`CacheCore::reserve`]) and turns them into an entry when its file is whole ([`CacheCore::commit`]).

use super::entry::{Entry, FileId, Fill, Hit, Limits, Purpose, Victim};
use super::keys::{FastMap, key_of};
use super::policy::Slot;
use super::rank::{ForecastRank, Need};
use super::segments::{Came, Segments};
use crate::flow::ObjectName;
use crate::time::Time;

/// An entry and who cares for it.
pub(super) struct Resident {
    pub(super) entry: Entry,
    pub(super) task_pins: u32,
    pub(super) need: Option<Need>,
}

/// A promise to a transfer in flight.
pub(super) struct Reserved {
    pub(super) object: ObjectName,
    pub(super) bytes: u64,
    pub(super) purpose: Purpose,
    pub(super) came: Came,
}

/// The index of one pool.
pub struct CacheCore {
    pub(super) limits: Limits,
    pub(super) limit_bytes: u64,
    pub(super) at: FastMap<ObjectName, Slot>,
    pub(super) slots: Vec<Option<Resident>>,
    pub(super) free_slots: Vec<Slot>,
    pub(super) by_file: FastMap<FileId, Slot>,
    pub(super) segments: Segments,
    pub(super) ranked: ForecastRank,
    pub(super) reserved: FastMap<FileId, Reserved>,
    /// Dropped files that running tasks still hold: bytes and number of holders.
    pub(super) zombies: FastMap<FileId, (u64, u32)>,
    pub(super) entry_bytes: u64,
    pub(super) zombie_bytes: u64,
    pub(super) reserved_bytes: u64,
    pub(super) reserved_learned_bytes: u64,
    pub(super) pinned_bytes: u64,
    pub(super) next_file: u64,
}

impl CacheCore {
    /// An empty pool.
    pub fn new(limits: Limits) -> CacheCore {
        CacheCore {
            limits,
            limit_bytes: limits.capacity_bytes,
            at: FastMap::default(),
            slots: vec![],
            free_slots: vec![],
            by_file: FastMap::default(),
            segments: Segments::new(limits.policy, limits.learning, limits.capacity_bytes),
            ranked: ForecastRank::new(),
            reserved: FastMap::default(),
            zombies: FastMap::default(),
            entry_bytes: 0,
            zombie_bytes: 0,
            reserved_bytes: 0,
            reserved_learned_bytes: 0,
            pinned_bytes: 0,
            next_file: 1,
        }
    }
    /// A pool with the entries that were persisted, in any order. Gives back what the pool does not take (the
    /// older of two copies of one object; beyond the capacity, the least recently used), whose files are to be
    /// unlinked. Of two records of one file the older is ignored.
    pub fn restore(limits: Limits, mut entries: Vec<Entry>) -> (CacheCore, Vec<Entry>) {
        let mut core = CacheCore::new(limits);
        let mut refused = vec![];
        entries.sort_by_key(|e| (e.user_pinned, e.last_used, e.file));
        let mut kept: Vec<Entry> = vec![];
        for entry in entries.into_iter().rev() {
            core.next_file = core.next_file.max(entry.file.0.saturating_add(1));
            let fits = entry.bytes <= limits.capacity_bytes - core.entry_bytes;
            if core.by_file.contains_key(&entry.file) {
                continue;
            }
            if core.at.contains_key(&entry.object) || !fits {
                refused.push(entry);
                continue;
            }
            core.entry_bytes += entry.bytes;
            core.at.insert(entry.object.clone(), 0);
            core.by_file.insert(entry.file, 0);
            kept.push(entry);
        }
        core.entry_bytes = 0;
        kept.sort_by_key(|e| (e.last_used, e.file));
        for entry in kept {
            core.place(entry, Came::Named);
        }
        (core, refused)
    }

    // ---- looking -------------------------------------------------------------------------------------------

    /// The entry of an object.
    pub fn get(&self, object: &ObjectName) -> Option<&Entry> {
        self.at.get(object).map(|&slot| &self.resident(slot).entry)
    }
    /// Whether the object is there, whole.
    pub fn contains(&self, object: &ObjectName) -> bool {
        self.at.contains_key(object)
    }
    /// All entries, in no promised order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flatten().map(|r| &r.entry)
    }
    /// How many running tasks hold an object's present copy.
    pub fn task_pins(&self, object: &ObjectName) -> u32 {
        self.at.get(object).map_or(0, |&slot| self.resident(slot).task_pins)
    }
    /// The need that a forecast sees for an entry.
    pub fn need(&self, object: &ObjectName) -> Option<Need> {
        self.at.get(object).and_then(|&slot| self.resident(slot).need)
    }
    /// How full the pool is.
    pub fn fill(&self) -> Fill {
        Fill {
            capacity_bytes: self.limits.capacity_bytes,
            limit_bytes: self.limit_bytes,
            entry_bytes: self.entry_bytes,
            zombie_bytes: self.zombie_bytes,
            reserved_bytes: self.reserved_bytes,
            pinned_bytes: self.pinned_bytes,
            staged_unused_bytes: self.segments.staged_bytes(),
            entries: self.at.len() as u64,
            inserts: self.segments.inserts(),
        }
    }
    /// Memory of ghosts and duel, bytes: not part of any model.
    pub fn ghost_memory_bytes(&self) -> usize {
        self.segments.memory_bytes()
    }
    pub(super) fn held_bytes(&self) -> u64 {
        self.entry_bytes + self.zombie_bytes + self.reserved_bytes
    }
    pub(super) fn resident(&self, slot: Slot) -> &Resident {
        self.slots[slot as usize].as_ref().expect("an indexed slot holds an entry")
    }
    pub(super) fn resident_mut(&mut self, slot: Slot) -> &mut Resident {
        self.slots[slot as usize].as_mut().expect("an indexed slot holds an entry")
    }

    // ---- demand --------------------------------------------------------------------------------------------

    /// A task asks for an object. On a hit the use is counted; a miss is counted by [`CacheCore::reserve`]
    /// with [`Purpose::Demand`].
    pub fn touch(&mut self, object: &ObjectName, now: Time) -> Option<Hit> {
        let &slot = self.at.get(object)?;
        let touched = self.segments.touch(slot);
        let Entry { file, bytes, staged, used, ref mut uses, ref mut last_used, .. } =
            self.resident_mut(slot).entry;
        *uses = uses.saturating_add(1);
        *last_used = now;
        self.resident_mut(slot).entry.used = true;
        Some(Hit { file, bytes, first_use_of_staged: staged && !used, protected: touched.protected })
    }
    /// A resident object is expected soon, without a time or a name for it: away from the cold end.
    pub fn protect(&mut self, object: &ObjectName) {
        if let Some(&slot) = self.at.get(object) {
            self.segments.protect(slot);
        }
    }
    /// The source confirmed the present copy, perhaps under a new name for its version.
    pub fn confirm(&mut self, object: &ObjectName, etag: Option<String>, now: Time) {
        if let Some(&slot) = self.at.get(object) {
            let entry = &mut self.resident_mut(slot).entry;
            entry.checked_at = now;
            if etag.is_some() {
                entry.etag = etag;
            }
        }
    }

    // ---- entries -------------------------------------------------------------------------------------------

    pub(super) fn place(&mut self, entry: Entry, came: Came) -> Slot {
        let (key, bytes, uses) = (key_of(entry.object.as_str()), entry.bytes, u64::from(entry.uses));
        let (object, file, pinned) = (entry.object.clone(), entry.file, entry.user_pinned);
        let resident = Resident { entry, task_pins: 0, need: None };
        let slot = match self.free_slots.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(resident);
                slot
            }
            None => {
                self.slots.push(Some(resident));
                Slot::try_from(self.slots.len() - 1).expect("fewer than 2^32 entries: each takes 100 bytes")
            }
        };
        self.at.insert(object, slot);
        self.by_file.insert(file, slot);
        self.entry_bytes += bytes;
        self.segments.insert(slot, key, bytes, uses, came);
        if pinned {
            self.pinned_bytes += bytes;
            self.segments.spare(slot, true);
        }
        slot
    }
    /// Removes an entry that no order holds any more from the index.
    pub(super) fn take_out(&mut self, slot: Slot) -> Victim {
        let resident = self.slots[slot as usize].take().expect("a victim was an entry");
        let Resident { entry, task_pins, need } = resident;
        self.at.remove(&entry.object);
        self.by_file.remove(&entry.file);
        self.free_slots.push(slot);
        self.entry_bytes -= entry.bytes;
        if task_pins > 0 || entry.user_pinned {
            self.pinned_bytes -= entry.bytes;
        }
        if task_pins > 0 {
            self.zombie_bytes += entry.bytes;
            self.zombies.insert(entry.file, (entry.bytes, task_pins));
        }
        Victim { entry, need, zombie: task_pins > 0 }
    }
    /// An object's copy is no longer the right data, or is bad: out at once, whoever holds it. Tasks that hold
    /// a link keep their copy; its bytes count as zombies until they let go.
    pub fn drop_object(&mut self, object: &ObjectName) -> Option<Victim> {
        let &slot = self.at.get(object)?;
        self.unrank(slot);
        self.segments.remove(slot);
        Some(self.take_out(slot))
    }
    /// A user wants an object out. `None` if it is not there, or somebody holds it.
    pub fn evict(&mut self, object: &ObjectName) -> Option<Victim> {
        let &slot = self.at.get(object)?;
        if self.is_pinned(slot) { None } else { self.drop_object(object) }
    }

    /// A learned object is expected no more: out with it, unless somebody has used it, holds it or needs it.
    pub fn release(&mut self, object: &ObjectName) -> Option<Victim> {
        let &slot = self.at.get(object)?;
        let r = self.resident(slot);
        let idle = r.entry.staged && !r.entry.used && r.need.is_none() && !self.is_pinned(slot);
        if idle { self.drop_object(object) } else { None }
    }

    // ---- who holds what ------------------------------------------------------------------------------------

    fn is_pinned(&self, slot: Slot) -> bool {
        let r = self.resident(slot);
        r.task_pins > 0 || r.entry.user_pinned
    }
    /// A task is about to link an object: it stays until [`CacheCore::unpin`] is called as often.
    pub fn pin(&mut self, object: &ObjectName) -> Option<FileId> {
        let &slot = self.at.get(object)?;
        let before = self.is_pinned(slot);
        let r = self.resident_mut(slot);
        r.task_pins += 1;
        let file = r.entry.file;
        self.after_pin_change(slot, before);
        Some(file)
    }
    /// A task let go of a file that it had pinned. If it was the last holder of a dropped file, that file is to be
    /// unlinked now: gives its bytes, which may be none.
    pub fn unpin(&mut self, file: FileId) -> Option<u64> {
        if let Some(&slot) = self.by_file.get(&file) {
            let before = self.is_pinned(slot);
            let r = self.resident_mut(slot);
            r.task_pins = r.task_pins.saturating_sub(1);
            self.after_pin_change(slot, before);
            return None;
        }
        let (bytes, holders) = self.zombies.get_mut(&file)?;
        *holders -= 1;
        if *holders > 0 {
            return None;
        }
        let freed = *bytes;
        self.zombies.remove(&file);
        self.zombie_bytes -= freed;
        Some(freed)
    }
    /// A user pins or unpins an object; says whether it is there.
    pub fn set_user_pin(&mut self, object: &ObjectName, pinned: bool) -> bool {
        let Some(&slot) = self.at.get(object) else { return false };
        let before = self.is_pinned(slot);
        self.resident_mut(slot).entry.user_pinned = pinned;
        self.after_pin_change(slot, before);
        true
    }
    fn after_pin_change(&mut self, slot: Slot, before: bool) {
        let after = self.is_pinned(slot);
        if before == after {
            return;
        }
        let Resident { need, ref entry, .. } = *self.resident(slot);
        let bytes = entry.bytes;
        let need = need.filter(|_| self.limits.rank_by_forecast);
        if after {
            self.pinned_bytes += bytes;
            if let Some(need) = need {
                self.ranked.remove(slot, need);
            }
        } else {
            self.pinned_bytes -= bytes;
            if let Some(need) = need {
                self.ranked.insert(slot, need);
            }
        }
        self.segments.spare(slot, after || need.is_some());
    }
    /// A forecast sees a need for an object, or none any more. Says whether the object is there.
    pub fn set_need(&mut self, object: &ObjectName, need: Option<Need>) -> bool {
        let Some(&slot) = self.at.get(object) else { return false };
        self.set_need_of(slot, need);
        true
    }
    pub(super) fn set_need_of(&mut self, slot: Slot, need: Option<Need>) {
        self.unrank(slot);
        self.resident_mut(slot).need = need;
        let pinned = self.is_pinned(slot);
        let ranked = need.filter(|_| self.limits.rank_by_forecast);
        if let (false, Some(need)) = (pinned, ranked) {
            self.ranked.insert(slot, need);
        }
        self.segments.spare(slot, pinned || ranked.is_some());
    }
    /// Takes an entry out of the forecast rank, if it stands there.
    pub(super) fn unrank(&mut self, slot: Slot) {
        let need = self.resident(slot).need;
        if let (true, false, Some(need)) = (self.limits.rank_by_forecast, self.is_pinned(slot), need) {
            self.ranked.remove(slot, need);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Refusal;
    use super::super::policy::Policy;
    use super::*;

    impl CacheCore {
        /// Panics if a bound is broken or a counter disagrees with a recount. O(entries).
        fn assert_invariants(&self) {
            assert!(self.held_bytes() <= self.limits.capacity_bytes, "more is held than the pool may hold");
            let (mut bytes, mut pinned, mut ranked) = (0, 0, 0);
            for (object, &slot) in &self.at {
                let r = self.resident(slot);
                assert_eq!((&r.entry.object, self.by_file[&r.entry.file]), (object, slot));
                bytes += r.entry.bytes;
                pinned += if self.is_pinned(slot) { r.entry.bytes } else { 0 };
                ranked +=
                    usize::from(self.limits.rank_by_forecast && r.need.is_some() && !self.is_pinned(slot));
            }
            assert_eq!(self.by_file.len(), self.at.len());
            assert_eq!((bytes, pinned, ranked), (self.entry_bytes, self.pinned_bytes, self.ranked.len()));
            assert_eq!(self.zombies.values().map(|z| z.0).sum::<u64>(), self.zombie_bytes);
            assert_eq!(self.reserved.values().map(|r| r.bytes).sum::<u64>(), self.reserved_bytes);
            let learned = self.reserved.values().filter(|r| r.came == Came::Learned);
            assert_eq!(learned.map(|r| r.bytes).sum::<u64>(), self.reserved_learned_bytes);
            self.segments.assert_invariants(self.at.values().copied());
        }
    }

    fn limits(capacity_bytes: u64) -> Limits {
        Limits {
            capacity_bytes,
            min_free_bytes: 0,
            policy: Policy::Lru,
            rank_by_forecast: true,
            learning: true,
        }
    }
    fn name(i: u64) -> ObjectName {
        ObjectName::new(format!("vol:{i}"))
    }
    fn at(s: f64) -> Time {
        Time::from_s(s)
    }
    fn need(due_s: f64, p: f64) -> Need {
        Need { due: at(due_s), p }
    }
    fn gone(victims: &[Victim]) -> Vec<&str> {
        victims.iter().map(|v| v.entry.object.path()).collect()
    }
    /// A pool of 100 bytes that holds objects 0..10 of 10 bytes, used in this order.
    fn full() -> CacheCore {
        let mut core = CacheCore::new(limits(100));
        for i in 0..10 {
            core.insert(&name(i), 10, Purpose::Demand, at(i as f64)).unwrap();
        }
        core
    }

    #[test]
    fn insert_evicts_the_least_recently_used() {
        let mut core = full();
        assert!(core.touch(&name(0), at(10.0)).is_some());
        let (_, victims) = core.insert(&name(10), 15, Purpose::Demand, at(11.0)).unwrap();
        assert_eq!(gone(&victims), ["1", "2"]);
        core.assert_invariants();
    }

    #[test]
    fn pinned_entry_is_never_evicted_and_insert_is_refused_instead() {
        let mut core = full();
        let files: Vec<FileId> = (0..9).map(|i| core.pin(&name(i)).unwrap()).collect();
        assert!(core.set_user_pin(&name(0), true));
        let refusal = core.insert(&name(10), 11, Purpose::Demand, at(11.0)).unwrap_err();
        assert_eq!(refusal, Refusal::Held { bytes: 11, evictable_bytes: 10 });
        files.iter().for_each(|&f| assert_eq!(core.unpin(f), None));
        let (_, victims) = core.insert(&name(10), 90, Purpose::Demand, at(11.0)).unwrap();
        assert_eq!(victims.len(), 9);
        assert!(core.contains(&name(0)), "the user's pin holds");
        assert!(core.evict(&name(0)).is_none());
        core.assert_invariants();
    }

    #[test]
    fn too_large_object_is_refused_and_nothing_leaves() {
        let mut core = full();
        let refusal = core.insert(&name(10), 101, Purpose::Demand, at(11.0)).unwrap_err();
        assert_eq!(refusal, Refusal::TooLarge { bytes: 101, limit_bytes: 100 });
        assert_eq!(core.fill().entries, 10);
    }

    #[test]
    fn dropped_entry_counts_until_the_last_task_lets_go() {
        let mut core = full();
        let file = core.pin(&name(3)).unwrap();
        core.pin(&name(3)).unwrap();
        let victim = core.drop_object(&name(3)).unwrap();
        assert!(victim.zombie);
        assert_eq!((core.fill().entry_bytes, core.fill().zombie_bytes), (90, 10));
        core.insert(&name(3), 10, Purpose::Demand, at(11.0)).unwrap();
        assert_eq!(core.fill().entry_bytes, 90, "the new copy had to make room beside the zombie");
        assert_eq!(core.unpin(file), None);
        assert_eq!(core.unpin(file), Some(10));
        assert_eq!(core.unpin(file), None);
        assert_eq!(core.fill().zombie_bytes, 0);
        core.assert_invariants();
    }

    #[test]
    fn empty_dropped_file_is_handed_out_too_when_the_last_task_lets_go() {
        let mut core = CacheCore::new(limits(100));
        core.insert(&name(0), 0, Purpose::Demand, at(0.0)).unwrap();
        let file = core.pin(&name(0)).unwrap();
        assert!(core.drop_object(&name(0)).unwrap().zombie);
        assert_eq!(core.unpin(file), Some(0));
        core.assert_invariants();
    }

    #[test]
    fn forecast_entries_outlive_all_others_and_the_farthest_gives_way_first() {
        let mut core = full();
        for (i, due, p) in [(0, 30.0, 1.0), (1, 20.0, 0.25), (2, 15.0, 1.0)] {
            assert!(core.set_need(&name(i), Some(need(due, p))));
        }
        let (_, victims) = core.insert(&name(10), 70, Purpose::Demand, at(11.0)).unwrap();
        assert_eq!(gone(&victims), ["3", "4", "5", "6", "7", "8", "9"]);
        core.pin(&name(10)).unwrap();
        // Distances at 11 s: object 0 is 19 s away, object 1 is 9 / .25 = 36 s, object 2 is 4 s.
        let farther = core.insert(&name(11), 5, Purpose::Forecast(need(41.0, 1.0)), at(11.0));
        assert!(matches!(farther, Err(Refusal::NeededSooner { .. })), "30 s is not under 80 % of 36 s");
        let (_, victims) = core.insert(&name(11), 10, Purpose::Forecast(need(12.0, 1.0)), at(11.0)).unwrap();
        assert_eq!(gone(&victims), ["1"]);
        let learned = core.insert(&name(12), 5, Purpose::Learned, at(11.0));
        assert!(matches!(learned, Err(Refusal::NeededSooner { .. })), "learned objects never push these out");
        let (_, victims) = core.insert(&name(13), 20, Purpose::Demand, at(11.0)).unwrap();
        assert_eq!(gone(&victims), ["0", "2"]);
        core.assert_invariants();
    }

    #[test]
    fn forecast_does_not_rank_where_it_is_switched_off() {
        let mut core = CacheCore::new(Limits { rank_by_forecast: false, ..limits(20) });
        core.insert(&name(0), 10, Purpose::Forecast(need(5.0, 1.0)), at(0.0)).unwrap();
        core.insert(&name(1), 10, Purpose::Demand, at(1.0)).unwrap();
        let (_, victims) = core.insert(&name(2), 10, Purpose::Demand, at(2.0)).unwrap();
        assert_eq!(gone(&victims), ["0"]);
        assert!(victims[0].need.is_some());
    }

    #[test]
    fn transfer_in_flight_holds_its_bytes() {
        let mut core = CacheCore::new(limits(100));
        let (file, _) = core.reserve(&name(0), 60, Purpose::Named, at(0.0)).unwrap();
        assert!(core.reserve(&name(1), 50, Purpose::Demand, at(0.0)).is_err());
        assert!(!core.contains(&name(0)), "it is not there before its file is whole");
        core.commit(file, 70, Some("v1".into()), at(1.0)).unwrap();
        assert_eq!(core.get(&name(0)).unwrap().etag.as_deref(), Some("v1"));
        assert_eq!((core.fill().entry_bytes, core.fill().reserved_bytes), (70, 0));
        assert_eq!(core.commit(file, 70, None, at(1.0)), Err(Refusal::NotReserved));
        core.assert_invariants();
    }

    #[test]
    fn raised_transfer_arrives_as_a_demand() {
        let mut core = CacheCore::new(limits(100));
        let (file, _) = core.reserve(&name(0), 10, Purpose::Learned, at(0.0)).unwrap();
        assert!(core.raise(file));
        core.commit(file, 10, None, at(1.0)).unwrap();
        assert!(!core.get(&name(0)).unwrap().staged);
        assert!(!core.touch(&name(0), at(2.0)).unwrap().first_use_of_staged);
    }

    #[test]
    fn first_use_of_a_staged_object_is_told_once() {
        let mut core = CacheCore::new(limits(100));
        core.insert(&name(0), 10, Purpose::Learned, at(0.0)).unwrap();
        let uses: Vec<bool> =
            (1..3).map(|s| core.touch(&name(0), at(s.into())).unwrap().first_use_of_staged).collect();
        assert_eq!(uses, [true, false]);
    }

    #[test]
    fn min_free_of_the_file_system_binds() {
        let mut core = full();
        core.limits.min_free_bytes = 50;
        let victims = core.set_free_bytes(20, 0, at(20.0));
        assert_eq!(gone(&victims), ["0", "1", "2"]);
        assert_eq!(core.fill().limit_bytes, 70);
        assert!(core.set_free_bytes(1000, 0, at(21.0)).is_empty());
        assert_eq!(core.fill().limit_bytes, 100);
    }

    #[test]
    fn restored_pool_evicts_in_the_old_order() {
        for policy in [Policy::Lru, Policy::Lfu] {
            let mut core = CacheCore::new(Limits { policy, learning: false, ..limits(100) });
            for i in 0..10 {
                core.insert(&name(i), 10, Purpose::Demand, at(i as f64)).unwrap();
            }
            core.touch(&name(0), at(20.0));
            core.set_user_pin(&name(1), true);
            let entries: Vec<Entry> = core.entries().cloned().collect();
            let json = serde_json::to_string(&entries).unwrap();
            let (mut back, refused) = CacheCore::restore(core.limits, serde_json::from_str(&json).unwrap());
            assert!(refused.is_empty());
            back.assert_invariants();
            let (file, a) = core.insert(&name(10), 60, Purpose::Demand, at(30.0)).unwrap();
            let (other, b) = back.insert(&name(10), 60, Purpose::Demand, at(30.0)).unwrap();
            assert_eq!((file, gone(&a)), (other, gone(&b)));
        }
    }

    #[test]
    fn restore_gives_back_what_does_not_fit() {
        let entries: Vec<Entry> = full().entries().cloned().collect();
        let (core, refused) = CacheCore::restore(limits(45), entries);
        assert_eq!(core.fill().entry_bytes, 40);
        assert_eq!(refused.len(), 6);
        assert!(core.contains(&name(9)) && !core.contains(&name(0)));
    }

    // ---- random operations ---------------------------------------------------------------------------------

    /// Drives a pool with random operations and remembers what a disk and its tasks would hold.
    struct Driver {
        core: CacheCore,
        rng: fastrand::Rng,
        now_us: u64,
        /// Files on the disk: those of entries, and dropped ones that a task still holds.
        files: std::collections::BTreeSet<FileId>,
        dropped: std::collections::BTreeSet<FileId>,
        flights: Vec<FileId>,
        links: Vec<FileId>,
    }

    impl Driver {
        fn new(seed: u64, limits: Limits) -> Driver {
            Driver {
                core: CacheCore::new(limits),
                rng: fastrand::Rng::with_seed(seed),
                now_us: 0,
                files: Default::default(),
                dropped: Default::default(),
                flights: vec![],
                links: vec![],
            }
        }
        fn object(&mut self) -> ObjectName {
            // Few popular names, many rare ones.
            let range = [10, 60, 400][self.rng.usize(0..3)];
            name(self.rng.u64(0..range))
        }
        fn purpose(&mut self) -> Purpose {
            let due = Time::from_us(self.now_us + self.rng.u64(0..2_000));
            match self.rng.u8(0..6) {
                0 | 1 => Purpose::Demand,
                2 | 3 => Purpose::Learned,
                4 => Purpose::Named,
                _ => Purpose::Forecast(Need { due, p: self.rng.f64() }),
            }
        }
        fn unlink(&mut self, victims: Vec<Victim>, exempt: bool) {
            for v in victims {
                let held = self.links.contains(&v.entry.file);
                assert_eq!(v.zombie, held, "a zombie is what a task still holds");
                assert!(exempt || !held && !v.entry.user_pinned, "a pinned entry left for room");
                assert!(self.files.remove(&v.entry.file), "a victim is handed out once");
                if v.zombie {
                    assert!(self.dropped.insert(v.entry.file), "a file is dropped once");
                }
            }
        }
        fn step(&mut self) {
            self.now_us += self.rng.u64(0..20);
            let now = Time::from_us(self.now_us);
            let object = self.object();
            match self.rng.u32(0..100) {
                0..35 => {
                    if self.core.touch(&object, now).is_none() {
                        self.reserve(object, Purpose::Demand, now);
                    }
                }
                35..55 => {
                    let purpose = self.purpose();
                    if !self.core.contains(&object) {
                        self.reserve(object, purpose, now);
                    }
                }
                55..72 => self.land(now),
                72..76 => self.abandon(now),
                76..84 => self.links.extend(self.core.pin(&object)),
                84..92 => self.let_go(),
                92..94 => {
                    let pinned = self.rng.bool();
                    self.core.set_user_pin(&object, pinned && self.core.fill().pinned_bytes < 500);
                }
                94..97 => {
                    let p = 0.01 + self.rng.f64() * 0.99;
                    let need = Need { due: Time::from_us(self.now_us + self.rng.u64(0..3_000)), p };
                    let need = self.rng.bool().then_some(need);
                    self.core.set_need(&object, need);
                    self.core.protect(&object);
                }
                97 => {
                    let victim = self.core.drop_object(&object);
                    self.unlink(victim.into_iter().collect(), true);
                }
                98 => {
                    let victim = self.core.evict(&object);
                    self.unlink(victim.into_iter().collect(), false);
                }
                _ => {
                    let free = self.rng.u64(0..2_000);
                    let victims = self.core.set_free_bytes(free, 0, now);
                    self.unlink(victims, false);
                    assert!(self.core.fill().limit_bytes <= self.core.fill().capacity_bytes);
                }
            }
        }
        fn reserve(&mut self, object: ObjectName, purpose: Purpose, now: Time) {
            let bytes = [0, 3, 20, 90, 600][self.rng.usize(0..5)];
            let before = self.core.fill();
            match self.core.reserve(&object, bytes, purpose, now) {
                Ok((file, victims)) => {
                    self.unlink(victims, false);
                    self.flights.push(file);
                }
                Err(_) => assert_eq!(self.core.fill(), before, "a refusal changes nothing"),
            }
        }
        fn land(&mut self, now: Time) {
            if self.flights.is_empty() {
                return;
            }
            let file = self.flights.swap_remove(self.rng.usize(0..self.flights.len()));
            let reserved = self.core.reserved[&file].bytes;
            let bytes = if self.rng.u8(0..5) == 0 { self.rng.u64(0..60) } else { reserved };
            match self.core.commit(file, bytes, None, now) {
                Ok(victims) => {
                    self.unlink(victims, true);
                    assert!(self.files.insert(file), "a file's number is used once");
                }
                Err(_) => assert!(bytes > reserved),
            }
        }
        fn abandon(&mut self, now: Time) {
            if self.flights.is_empty() {
                return;
            }
            let i = self.rng.usize(0..self.flights.len());
            if self.rng.bool() {
                assert!(self.core.raise(self.flights[i]));
            } else if self.rng.bool() {
                let bytes = self.rng.u64(0..100);
                let grown = self.core.resize(self.flights[i], bytes, now);
                self.unlink(grown.unwrap_or_default(), false);
            } else {
                self.core.cancel(self.flights.swap_remove(i));
            }
        }
        fn let_go(&mut self) {
            if self.links.is_empty() {
                return;
            }
            let file = self.links.swap_remove(self.rng.usize(0..self.links.len()));
            let freed = self.core.unpin(file);
            let last = !self.links.contains(&file);
            let gone = last && self.dropped.remove(&file);
            assert_eq!(freed.is_some(), gone, "a dropped file goes with its last holder, empty or not");
        }
        fn check(&self, deep: bool) {
            let fill = self.core.fill();
            let held = fill.entry_bytes + fill.zombie_bytes + fill.reserved_bytes;
            assert!(held <= fill.capacity_bytes, "{held} of {} bytes", fill.capacity_bytes);
            assert_eq!(fill.entries as usize, self.files.len(), "index and disk list the same files");
            if deep {
                self.core.assert_invariants();
                assert!(self.core.entries().all(|e| self.files.contains(&e.file)));
                let held = self.core.zombies.len();
                assert_eq!(held, self.dropped.len(), "no dropped file is forgotten on the disk");
            }
        }
    }

    /// `operations` under each of eight settings. Recounting everything is O(entries): it is done after every
    /// `recount`-th operation, the sums are compared after each.
    fn operate(operations: u64, recount: u64) {
        for setting in 0..8u64 {
            let limits = Limits {
                capacity_bytes: 1_000,
                min_free_bytes: 100,
                policy: if setting & 1 == 0 { Policy::Lru } else { Policy::Lfu },
                rank_by_forecast: setting & 2 == 0,
                learning: setting & 4 == 0,
            };
            let mut driver = Driver::new(setting, limits);
            for op in 0..operations {
                driver.step();
                driver.check(op % recount == 0);
            }
        }
    }

    #[test]
    fn random_operations_never_break_a_bound() {
        operate(12_500, 1);
    }

    #[test]
    #[ignore = "ten million operations: scripts/soak runs it"]
    fn ten_million_random_operations_never_break_a_bound() {
        operate(1_250_000, 1);
    }
}
