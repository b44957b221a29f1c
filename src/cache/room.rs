//! Making room: reservations, and who gives way for them.

use super::core::{CacheCore, Reserved};
use super::entry::{Entry, FileId, Purpose, Refusal, Victim};
use super::keys::key_of;
use super::policy::Slot;
use super::segments::Came;
use crate::flow::ObjectName;
use crate::time::Time;

/// A forecast entry gives way only to a need nearer than this share of its own distance: without the margin
/// two objects of nearly equal distance would be fetched in turns.
const ADMIT_SHARE: f64 = 0.8;
/// The same once its bytes are there: the fetch is paid for, so the nearer need stays.
const KEEP_SHARE: f64 = 1.0;

/// Room that was found.
struct Plan {
    /// What the pool may hold before the newcomer is counted.
    hold_at_most: u64,
    /// Forecast entries that give way.
    ranked: Vec<Slot>,
}

impl CacheCore {
    /// Promises `bytes` to a transfer that has not begun. The victims' files are to be unlinked before its
    /// first byte is written to `tmp` under the returned id.
    ///
    /// # Errors
    /// [`Refusal`]: nothing has changed then, and a demand streams to a private file instead.
    pub fn reserve(
        &mut self,
        object: &ObjectName,
        bytes: u64,
        purpose: Purpose,
        now: Time,
    ) -> Result<(FileId, Vec<Victim>), Refusal> {
        let (file, came, victims) = self.find_room(object, bytes, purpose, now)?;
        self.reserved_bytes += bytes;
        self.reserved_learned_bytes += if came == Came::Learned { bytes } else { 0 };
        self.reserved.insert(file, Reserved { object: object.clone(), bytes, purpose, came });
        Ok((file, victims))
    }
    fn find_room(
        &mut self,
        object: &ObjectName,
        bytes: u64,
        purpose: Purpose,
        now: Time,
    ) -> Result<(FileId, Came, Vec<Victim>), Refusal> {
        let came = self.came(object, bytes, purpose);
        let plan = self.plan_room(bytes, purpose, ADMIT_SHARE, now)?;
        let mut victims = vec![];
        if came == Came::Learned && self.limits.learning {
            self.make_staged_room(bytes, &mut victims);
        }
        self.make_room(plan, &mut victims);
        let file = FileId(self.next_file);
        self.next_file += 1;
        Ok((file, came, victims))
    }
    fn came(&mut self, object: &ObjectName, bytes: u64, purpose: Purpose) -> Came {
        match purpose {
            Purpose::Demand => Came::Demand { keep: self.segments.missed(key_of(object.as_str()), bytes) },
            Purpose::Learned => Came::Learned,
            Purpose::Forecast(_) | Purpose::Named => Came::Named,
        }
    }
    /// The transfer turned out longer or shorter than promised. On a refusal the old promise stands.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn resize(&mut self, file: FileId, bytes: u64, now: Time) -> Result<Vec<Victim>, Refusal> {
        self.resize_within(file, bytes, ADMIT_SHARE, now)
    }
    fn resize_within(
        &mut self,
        file: FileId,
        bytes: u64,
        share: f64,
        now: Time,
    ) -> Result<Vec<Victim>, Refusal> {
        let Some(r) = self.reserved.get(&file) else { return Err(Refusal::NotReserved) };
        let (old, purpose, learned) = (r.bytes, r.purpose, r.came == Came::Learned);
        let mut victims = vec![];
        if bytes > old {
            let plan = self.plan_room(bytes - old, purpose, share, now)?;
            self.make_room(plan, &mut victims);
        }
        self.reserved_bytes = self.reserved_bytes - old + bytes;
        if learned {
            self.reserved_learned_bytes = self.reserved_learned_bytes - old + bytes;
        }
        if let Some(r) = self.reserved.get_mut(&file) {
            r.bytes = bytes;
        }
        Ok(victims)
    }
    /// A task now waits for a transfer that was staging. Says whether there is such a reservation.
    pub fn raise(&mut self, file: FileId) -> bool {
        let Some(r) = self.reserved.get(&file) else { return false };
        if r.purpose == Purpose::Demand {
            return true;
        }
        let (key, bytes, learned) = (key_of(r.object.as_str()), r.bytes, r.came == Came::Learned);
        let keep = self.segments.missed(key, bytes);
        if learned {
            self.reserved_learned_bytes -= bytes;
        }
        if let Some(r) = self.reserved.get_mut(&file) {
            r.purpose = Purpose::Demand;
            r.came = Came::Demand { keep };
        }
        true
    }
    /// The transfer failed or was cancelled; its file is gone.
    pub fn cancel(&mut self, file: FileId) {
        self.take_reservation(file);
    }
    fn take_reservation(&mut self, file: FileId) -> Option<Reserved> {
        let r = self.reserved.remove(&file)?;
        self.reserved_bytes -= r.bytes;
        self.reserved_learned_bytes -= if r.came == Came::Learned { r.bytes } else { 0 };
        Some(r)
    }
    /// The transfer's file is whole and checked: it becomes the object's entry. An older copy of the object is
    /// among the victims (a zombie while tasks hold it), and so is what had to leave because the file is
    /// longer than was promised.
    ///
    /// # Errors
    /// [`Refusal`]: the reservation is gone, and the file is to be unlinked.
    pub fn commit(
        &mut self,
        file: FileId,
        bytes: u64,
        etag: Option<String>,
        now: Time,
    ) -> Result<Vec<Victim>, Refusal> {
        let resized = self.resize_within(file, bytes, KEEP_SHARE, now);
        let Some(r) = self.take_reservation(file) else { return Err(Refusal::NotReserved) };
        let mut victims = resized?;
        victims.extend(self.land(r, file, bytes, etag, now));
        Ok(victims)
    }
    /// The object's entry comes, an older one goes.
    fn land(
        &mut self,
        r: Reserved,
        file: FileId,
        bytes: u64,
        etag: Option<String>,
        now: Time,
    ) -> Option<Victim> {
        let older = self.drop_object(&r.object);
        let demand = r.purpose == Purpose::Demand;
        let need = if let Purpose::Forecast(need) = r.purpose { Some(need) } else { None };
        let entry = Entry {
            object: r.object,
            bytes,
            etag,
            checked_at: now,
            staged: !demand,
            used: demand,
            file,
            uses: u32::from(demand),
            last_used: now,
            user_pinned: false,
        };
        let slot = self.place(entry, r.came);
        if need.is_some() {
            self.set_need_of(slot, need);
        }
        older
    }
    /// Reserves and commits in one step: for a replay, and for files that are already in place.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn insert(
        &mut self,
        object: &ObjectName,
        bytes: u64,
        purpose: Purpose,
        now: Time,
    ) -> Result<(FileId, Vec<Victim>), Refusal> {
        let (file, came, mut victims) = self.find_room(object, bytes, purpose, now)?;
        let r = Reserved { object: object.clone(), bytes, purpose, came };
        victims.extend(self.land(r, file, bytes, None, now));
        Ok((file, victims))
    }
    /// What the file system has free right now; `partial_bytes` of the reservations are already written. What
    /// has to leave so that `min_free` holds again is handed out; pinned entries stay even then.
    pub fn set_free_bytes(&mut self, free_bytes: u64, partial_bytes: u64, now: Time) -> Vec<Victim> {
        let on_disk = self.entry_bytes + self.zombie_bytes + partial_bytes.min(self.reserved_bytes);
        let may_hold = on_disk.saturating_add(free_bytes).saturating_sub(self.limits.min_free_bytes);
        self.limit_bytes = self.limits.capacity_bytes.min(may_hold);
        let mut victims = vec![];
        while self.held_bytes() > self.limit_bytes && self.evict_next(now, &mut victims) {}
        victims
    }

    fn make_staged_room(&mut self, bytes: u64, victims: &mut Vec<Victim>) {
        let limit = self.segments.staged_limit_bytes();
        while self.segments.staged_bytes() + self.reserved_learned_bytes + bytes > limit {
            let Some(slot) = self.segments.evict_staged() else { break };
            victims.push(self.take_out(slot));
        }
    }
    /// Who has to leave so that `bytes` more fit. Nobody has left yet; the chosen forecast entries are out of
    /// the rank already.
    fn plan_room(&mut self, bytes: u64, purpose: Purpose, share: f64, now: Time) -> Result<Plan, Refusal> {
        if bytes > self.limit_bytes {
            return Err(Refusal::TooLarge { bytes, limit_bytes: self.limit_bytes });
        }
        let hold_at_most = self.limit_bytes - bytes;
        let wanted = self.held_bytes().saturating_sub(hold_at_most);
        let unranked = self.segments.free_bytes();
        let ranked = match wanted > unranked {
            true => self.choose_ranked(wanted - unranked, bytes, purpose, share, now)?,
            false => vec![],
        };
        Ok(Plan { hold_at_most, ranked })
    }
    fn make_room(&mut self, plan: Plan, victims: &mut Vec<Victim>) {
        for slot in plan.ranked {
            self.segments.remove(slot);
            victims.push(self.take_out(slot));
        }
        while self.held_bytes() > plan.hold_at_most {
            let slot = self.segments.evict().expect("the plan counted enough bytes that may leave");
            victims.push(self.take_out(slot));
        }
    }
    /// The farthest forecast entries, until `bytes` of them are found; taken out of the rank. All stay where
    /// they are if one of them is needed too soon.
    fn choose_ranked(
        &mut self,
        wanted: u64,
        bytes: u64,
        purpose: Purpose,
        share: f64,
        now: Time,
    ) -> Result<Vec<Slot>, Refusal> {
        let distance_s = match purpose {
            Purpose::Demand => 0.0,
            Purpose::Forecast(need) if self.limits.rank_by_forecast => need.distance(now),
            Purpose::Forecast(_) | Purpose::Learned | Purpose::Named => f64::INFINITY,
        };
        let mut chosen = vec![];
        let mut found = 0;
        let refusal = loop {
            if found >= wanted {
                return Ok(chosen.into_iter().map(|(slot, _)| slot).collect());
            }
            let Some((victim_distance_s, slot)) = self.ranked.farthest(now) else {
                let evictable_bytes =
                    (self.limit_bytes + self.segments.free_bytes() + found).saturating_sub(self.held_bytes());
                break Refusal::Held { bytes, evictable_bytes };
            };
            if purpose != Purpose::Demand && victim_distance_s * share <= distance_s {
                break Refusal::NeededSooner { victim_distance_s, distance_s };
            }
            let r = self.resident(slot);
            let need = r.need.expect("a ranked entry has a need");
            found += r.entry.bytes;
            self.ranked.remove(slot, need);
            chosen.push((slot, need));
        };
        for (slot, need) in chosen {
            self.ranked.insert(slot, need);
        }
        Err(refusal)
    }
    /// Evicts whatever comes first; says whether something did.
    fn evict_next(&mut self, now: Time, victims: &mut Vec<Victim>) -> bool {
        let slot = match self.segments.evict() {
            Some(slot) => slot,
            None => {
                let Some((_, slot)) = self.ranked.farthest(now) else { return false };
                self.unrank(slot);
                self.segments.remove(slot);
                slot
            }
        };
        victims.push(self.take_out(slot));
        true
    }
}
