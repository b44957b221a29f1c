//! The entities in play: a bounded store of histories. The longest idle makes room.

use super::Error;
use super::history::History;
use super::names::{ById, id_of};
use super::snapshot::{Reader, Writer};

/// No slot.
const NONE: u32 = u32::MAX;

/// An entity in the store. Stale once the entity has been forgotten, even if its slot holds another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle {
    slot: u32,
    generation: u32,
}

impl Handle {
    /// Where it stands in the store.
    #[inline]
    pub fn slot(self) -> u32 {
        self.slot
    }
    pub fn save(self, to: &mut Writer) {
        to.u32(self.slot);
        to.u32(self.generation);
    }
    pub fn load(from: &mut Reader<'_>) -> Result<Handle, Error> {
        Ok(Handle { slot: from.u32()?, generation: from.u32()? })
    }
    #[cfg(test)]
    pub fn test(slot: u32) -> Handle {
        Handle { slot, generation: 0 }
    }
}

/// One entity.
#[derive(Clone, Debug)]
pub(super) struct Entity {
    pub name: Box<str>,
    pub history: History,
    /// The number of its last task among all of the host; unique.
    pub sequence: u64,
    /// The workers that expect it next.
    pub expected_by: Expected,
    generation: u32,
    newer: u32,
    older: u32,
}

/// Most workers that expect one entity.
pub(super) const EXPECTED_BY: usize = 4;

/// A short list of workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    list: [u16; EXPECTED_BY],
    len: u8,
}

impl Expected {
    /// Adds a worker, if there is room and it is not there.
    pub fn add(&mut self, worker: u16) {
        if (self.len as usize) < EXPECTED_BY && !self.list().contains(&worker) {
            self.list[self.len as usize] = worker;
            self.len += 1;
        }
    }
    /// The workers.
    pub fn list(&self) -> &[u16] {
        &self.list[..(self.len as usize).min(EXPECTED_BY)]
    }
}

/// The store.
#[derive(Clone, Debug)]
pub(super) struct Entities {
    slots: Vec<Entity>,
    by_id: ById<u32>,
    newest: u32,
    oldest: u32,
    max: usize,
}

impl Entities {
    pub fn new(max: usize) -> Entities {
        assert!(max > 0 && max < NONE as usize, "checked by the settings");
        Entities { slots: Vec::new(), by_id: ById::default(), newest: NONE, oldest: NONE, max }
    }

    /// An entity's stable identity. Two names that collide in 64 bits share a history; that costs accuracy,
    /// never safety, and does not happen.
    #[inline]
    pub fn id(name: &str) -> u64 {
        id_of(name)
    }

    /// Memory, bytes, roughly.
    pub fn bytes(&self) -> usize {
        self.slots.iter().map(|e| e.name.len() + size_of::<Entity>() + 24).sum()
    }

    /// Looks an entity up.
    #[inline]
    pub fn find(&self, id: u64) -> Option<Handle> {
        self.by_id.get(&id).map(|&slot| Handle { slot, generation: self.slots[slot as usize].generation })
    }

    /// An entity by its handle, unless it was forgotten.
    #[inline]
    pub fn get(&self, h: Handle) -> Option<&Entity> {
        self.slots.get(h.slot as usize).filter(|e| e.generation == h.generation)
    }

    /// An entity by its handle, to change it.
    #[inline]
    pub fn get_mut(&mut self, h: Handle) -> Option<&mut Entity> {
        self.slots.get_mut(h.slot as usize).filter(|e| e.generation == h.generation)
    }

    /// All entities, the one whose task was last first.
    pub fn latest(&self) -> impl Iterator<Item = &Entity> {
        let mut at = self.newest;
        std::iter::from_fn(move || {
            let e = self.slots.get(at as usize)?;
            at = e.older;
            Some(e)
        })
    }

    /// Adds an entity that is not there. If that made another forgotten, it is given back.
    pub fn add(&mut self, name: &str, history: History) -> (Handle, Option<Entity>) {
        let entity = Entity {
            name: name.into(),
            history,
            sequence: 0,
            expected_by: Expected::default(),
            generation: 0,
            newer: NONE,
            older: NONE,
        };
        self.put(entity)
    }

    fn put(&mut self, mut entity: Entity) -> (Handle, Option<Entity>) {
        let id = entity.history.id;
        let (slot, forgotten) = if self.slots.len() < self.max {
            self.slots.push(entity);
            ((self.slots.len() - 1) as u32, None)
        } else {
            let slot = self.oldest;
            self.unlink(slot);
            entity.generation = self.slots[slot as usize].generation.wrapping_add(1);
            let old = std::mem::replace(&mut self.slots[slot as usize], entity);
            self.by_id.remove(&old.history.id);
            (slot, Some(old))
        };
        self.by_id.insert(id, slot);
        self.link(slot);
        (Handle { slot, generation: self.slots[slot as usize].generation }, forgotten)
    }

    /// The entity had a task just now.
    #[inline]
    pub fn touch(&mut self, h: Handle) {
        if self.newest != h.slot && self.get(h).is_some() {
            self.unlink(h.slot);
            self.link(h.slot);
        }
    }

    fn unlink(&mut self, slot: u32) {
        let (newer, older) = (self.slots[slot as usize].newer, self.slots[slot as usize].older);
        match self.slots.get_mut(newer as usize) {
            Some(e) => e.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(e) => e.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link(&mut self, slot: u32) {
        (self.slots[slot as usize].newer, self.slots[slot as usize].older) = (NONE, self.newest);
        match self.slots.get_mut(self.newest as usize) {
            Some(e) => e.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }

    /// Entities by slot, so that handles stay good, and their order.
    pub fn save(&self, to: &mut Writer) {
        to.len(self.slots.len());
        for e in &self.slots {
            to.text(&e.name);
            e.history.save(to);
            to.u64(e.sequence);
            to.u8(e.expected_by.len);
            to.u16s_fixed(e.expected_by.list());
            to.u32(e.generation);
            to.u32(e.newer);
            to.u32(e.older);
        }
        to.u32(self.newest);
        to.u32(self.oldest);
    }

    pub fn load(&mut self, from: &mut Reader<'_>) -> Result<(), Error> {
        let n = from.len(self.max, "the number of entities")?;
        *self = Entities::new(self.max);
        let link = |x: u32| {
            if x == NONE || (x as usize) < n { Ok(x) } else { Err(Error::Malformed { what: "an entity" }) }
        };
        for slot in 0..n {
            let name = from.text()?.into();
            let history = History::load(from)?;
            let sequence = from.u64()?;
            let mut expected_by = Expected { len: from.u8()?, ..Expected::default() };
            if expected_by.len as usize > EXPECTED_BY {
                return Err(Error::Malformed { what: "an entity" });
            }
            from.u16s_fixed(&mut expected_by.list[..expected_by.len as usize])?;
            let (generation, newer, older) = (from.u32()?, link(from.u32()?)?, link(from.u32()?)?);
            if self.by_id.insert(history.id, slot as u32).is_some() {
                return Err(Error::Malformed { what: "an entity that stands twice" });
            }
            self.slots.push(Entity { name, history, sequence, expected_by, generation, newer, older });
        }
        (self.newest, self.oldest) = (link(from.u32()?)?, link(from.u32()?)?);
        // A list that does not hold each slot once would send a later walk in circles.
        if self.latest().take(n + 1).count() != n {
            return Err(Error::Malformed { what: "the order of entities" });
        }
        Ok(())
    }

    #[cfg(test)]
    pub fn assert_invariants(&self) {
        assert!(self.slots.len() <= self.max);
        assert_eq!(self.by_id.len(), self.slots.len());
        assert_eq!(self.latest().count(), self.slots.len());
        for (slot, e) in self.slots.iter().enumerate() {
            assert_eq!(self.by_id[&e.history.id], slot as u32);
            let newer = self.slots.get(e.newer as usize);
            assert_eq!(newer.map_or(self.newest, |n| n.older), slot as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(s: &mut Entities, name: &str) -> (Handle, Option<Entity>) {
        s.add(name, History::new(Entities::id(name)))
    }

    #[test]
    fn the_longest_idle_makes_room_and_its_handle_goes_stale() {
        let mut s = Entities::new(2);
        let (a, _) = add(&mut s, "a");
        let (b, _) = add(&mut s, "b");
        s.touch(a);
        let (c, forgotten) = add(&mut s, "c");
        assert_eq!(&*forgotten.unwrap().name, "b");
        assert!(s.get(b).is_none() && s.get(a).is_some() && &*s.get(c).unwrap().name == "c");
        assert_eq!(s.find(Entities::id("b")), None);
        let order: Vec<&str> = s.latest().map(|e| &*e.name).collect();
        assert_eq!(order, ["c", "a"]);
    }

    #[test]
    fn random_use_keeps_the_order_and_survives_a_snapshot() {
        let mut rng = fastrand::Rng::with_seed(8);
        let mut s = Entities::new(20);
        for _ in 0..3000 {
            let name = rng.u32(..60).to_string();
            match s.find(Entities::id(&name)) {
                Some(h) => s.touch(h),
                None => drop(add(&mut s, &name)),
            }
            s.assert_invariants();
        }
        let mut w = Writer::new();
        s.save(&mut w);
        let bytes = w.finish();
        let mut back = Entities::new(20);
        back.load(&mut Reader::open(&bytes).unwrap()).unwrap();
        back.assert_invariants();
        assert!(back.latest().map(|e| &e.name).eq(s.latest().map(|e| &e.name)));
    }
}
