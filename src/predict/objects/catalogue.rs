//! The catalogue: names as small numbers, names as shapes with numbers in them, sizes.
//!
//! It is not part of the model (a daemon knows its objects' names anyway) and is counted apart, but it is
//! bounded all the same: when it is full, a name that was neither used nor proposed for a round gives up its
//! place, and its number is marked as another generation, so that what the model still knows under the old
//! number is recognised as stale.

use super::hash::{KeyMap, key_of, mix};
use super::shape::{FIELDS, Fields, Parsed, Widths, digits, parse, spell};
use super::snapshot::{Bad, Reader, Writer};
use crate::flow::{Map, ObjectName};

/// Shapes at most; names of further shapes count as having no numbers.
const MAX_SHAPES: usize = 1 << 16;
const SLOT_BITS: u32 = 20;
/// Names that must fit, whatever is configured: more than there are candidates.
pub(super) const MIN_NAMES: usize = 1 << 13;
/// Names at most, whatever is configured.
pub(super) const MAX_NAMES: usize = (1 << SLOT_BITS) - 1;

/// An object: its place in the catalogue and the generation of that place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id(u32);

impl Id {
    /// No object.
    pub(super) const NONE: Id = Id(u32::MAX);

    /// From a place and its generation (12 bits; it wraps).
    pub(super) fn from_parts(slot: u32, generation: u16) -> Id {
        Id(slot | u32::from(generation & 0xFFF) << SLOT_BITS)
    }
    fn slot(self) -> usize {
        (self.0 & ((1 << SLOT_BITS) - 1)) as usize
    }
    /// As it is stored.
    pub(super) fn raw(self) -> u32 {
        self.0
    }
    /// As it was stored.
    pub(super) fn from_raw(raw: u32) -> Id {
        Id(raw)
    }
    /// Well mixed.
    pub(super) fn hash(self) -> u64 {
        mix(u64::from(self.0))
    }
}

/// A name's shape; `None` for names without numbers.
pub(super) type Shape = Option<u32>;

/// What every proposal asks of an object: small, because most of an access is waiting for these.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    /// Its size as last seen; zero before.
    pub(super) bytes: u64,
    /// Inserts of the pool when it was last protected, its low 32 bits; see [`Item::protect`].
    protected_at: u32,
    /// Index into the shadow table, or [`NO_CANDIDATE`].
    pub(super) candidate: u16,
    generation: u16,
}

/// Flags beside the twelve bits of a generation.
const GENERATION: u16 = 0xFFF;
const RESIDENT: u16 = 1 << 12;
const RECENT: u16 = 1 << 13;
const PROTECTED: u16 = 1 << 14;

impl Item {
    /// It is in the pool.
    pub(super) fn resident(&self) -> bool {
        self.generation & RESIDENT != 0
    }
    /// It came into the pool, or left it.
    pub(super) fn set_resident(&mut self, resident: bool) {
        self.set(RESIDENT, resident);
        self.set(PROTECTED, false);
    }
    /// It was used: where a prediction had moved it does not matter any more.
    pub(super) fn used(&mut self, bytes: u64) {
        if bytes > 0 {
            self.bytes = bytes;
        }
        self.set(PROTECTED, false);
    }
    /// It is to be protected now, at `inserts` of the pool. Says whether that moves it: not if it was moved
    /// fewer than `fresh` inserts ago.
    pub(super) fn protect(&mut self, inserts: u64, fresh: u32) -> bool {
        let now = inserts as u32;
        if self.generation & PROTECTED != 0 && now.wrapping_sub(self.protected_at) < fresh {
            return false;
        }
        self.set(PROTECTED, true);
        self.protected_at = now;
        true
    }
    fn recent(&self) -> bool {
        self.generation & RECENT != 0
    }
    fn set(&mut self, flag: u16, on: bool) {
        self.generation = if on { self.generation | flag } else { self.generation & !flag };
    }
    fn is_of(&self, id: Id) -> bool {
        u32::from(self.generation & GENERATION) == id.0 >> SLOT_BITS
    }
}

/// How an object is called.
#[derive(Clone, Debug)]
struct Called {
    /// The numbers in its name.
    fields: Fields,
    /// Its name, once somebody used it or it was proposed.
    name: Option<ObjectName>,
    /// Its shape, if there are numbers in its name.
    shape: Shape,
    /// Zero-filled width of each field; zero where there is no leading zero.
    widths: Widths,
}

/// The object is not in the shadow table.
pub(super) const NO_CANDIDATE: u16 = u16::MAX;

#[derive(Clone, Debug, Default)]
struct ShapeText {
    text: String,
    /// Width of the last zero-filled number seen in each field.
    widths: Widths,
}

/// Names and numbers of all objects that the model may speak about.
pub(super) struct Catalogue {
    limit: usize,
    items: Vec<Item>,
    /// The names of `items`.
    called: Vec<Called>,
    by_name: KeyMap<u32>,
    by_parts: KeyMap<u32>,
    shapes: Vec<ShapeText>,
    by_shape: Map<String, u32>,
    hand: usize,
    scratch: String,
}

impl Catalogue {
    /// For at most `limit` names, no more than [`MAX_NAMES`].
    pub(super) fn new(limit: usize) -> Catalogue {
        Catalogue {
            limit: limit.clamp(MIN_NAMES, MAX_NAMES),
            items: vec![],
            called: vec![],
            by_name: KeyMap::default(),
            by_parts: KeyMap::default(),
            shapes: vec![],
            by_shape: Map::default(),
            hand: 0,
            scratch: String::new(),
        }
    }
    /// What is known of an object; nothing if its number is stale.
    pub(super) fn get(&self, id: Id) -> Option<&Item> {
        self.items.get(id.slot()).filter(|i| i.is_of(id))
    }
    /// The same, to change it.
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Item> {
        self.items.get_mut(id.slot()).filter(|i| i.is_of(id))
    }
    /// Shape and numbers of an object's name, if it has numbers and its number is not stale.
    pub(super) fn parts(&self, id: Id) -> Option<(u32, Fields)> {
        self.get(id)?;
        let called = &self.called[id.slot()];
        Some((called.shape?, called.fields))
    }
    fn id_at(&self, slot: u32) -> Id {
        Id::from_parts(slot, self.items[slot as usize].generation)
    }
    /// The number of a name that somebody used; a new one if need be.
    pub(super) fn id(&mut self, name: &ObjectName) -> Id {
        let key = key_of(name.as_str());
        if let Some(&slot) = self.by_name.get(&key) {
            self.items[slot as usize].set(RECENT, true);
            return self.id_at(slot);
        }
        let mut text = std::mem::take(&mut self.scratch);
        let parsed = parse(name.as_str(), &mut text);
        let shape = if parsed.count > 0 { self.shape(&text, &parsed) } else { None };
        self.scratch = text;
        let slot = match shape {
            Some(shape) => self.slot_of_parts(shape, parsed.fields, parsed.widths),
            None => self.add(None, [0; FIELDS], [0; FIELDS]),
        };
        self.called[slot as usize].name = Some(name.clone());
        self.items[slot as usize].set(RECENT, true);
        self.by_name.insert(key, slot);
        self.id_at(slot)
    }
    /// The number of a name if it is known.
    pub(super) fn find(&self, name: &ObjectName) -> Option<Id> {
        let key = key_of(name.as_str());
        self.by_name.get(&key).map(|&slot| self.id_at(slot))
    }
    /// The object of the same shape with other numbers; it may never have been seen.
    pub(super) fn sibling(&mut self, shape: u32, fields: Fields) -> Id {
        let mut widths = self.shapes[shape as usize].widths;
        for (width, &number) in widths.iter_mut().zip(&fields) {
            // Without a leading zero the width says nothing: `100` is `100` whether or not 007 was filled up.
            if digits(number) >= u32::from(*width) {
                *width = 0;
            }
        }
        let slot = self.slot_of_parts(shape, fields, widths);
        self.items[slot as usize].set(RECENT, true);
        self.id_at(slot)
    }
    /// An object's name, spelled out if it was only derived so far.
    pub(super) fn name(&mut self, id: Id) -> Option<ObjectName> {
        self.get(id)?;
        let called = &mut self.called[id.slot()];
        if let Some(name) = &called.name {
            return Some(name.clone());
        }
        let shape = &self.shapes[called.shape? as usize];
        let mut text = std::mem::take(&mut self.scratch);
        spell(&shape.text, &called.fields, &called.widths, &mut text);
        let key = key_of(&text);
        let name = ObjectName::new(text.as_str());
        self.scratch = text;
        self.by_name.insert(key, id.slot() as u32);
        called.name = Some(name.clone());
        Some(name)
    }
    fn shape(&mut self, text: &str, parsed: &Parsed) -> Shape {
        let shape = match self.by_shape.get(text) {
            Some(&shape) => shape,
            None if self.shapes.len() < MAX_SHAPES => {
                let shape = self.shapes.len() as u32;
                self.by_shape.insert(text.to_owned(), shape);
                self.shapes.push(ShapeText { text: text.to_owned(), widths: [0; FIELDS] });
                shape
            }
            None => return None,
        };
        for (width, &seen) in self.shapes[shape as usize].widths.iter_mut().zip(&parsed.widths) {
            *width = if seen > 0 { seen } else { *width };
        }
        Some(shape)
    }
    fn slot_of_parts(&mut self, shape: u32, fields: Fields, widths: Widths) -> u32 {
        let key = parts_key(shape, &fields, &widths);
        if let Some(&slot) = self.by_parts.get(&key) {
            let item = &self.called[slot as usize];
            if item.shape == Some(shape) && item.fields == fields && item.widths == widths {
                return slot;
            }
        }
        let slot = self.add(Some(shape), fields, widths);
        self.by_parts.insert(key, slot);
        slot
    }
    fn add(&mut self, shape: Shape, fields: Fields, widths: Widths) -> u32 {
        let item = Item { bytes: 0, protected_at: 0, candidate: NO_CANDIDATE, generation: RECENT };
        let called = Called { fields, name: None, shape, widths };
        if self.items.len() < self.limit {
            self.items.push(item);
            self.called.push(called);
            return self.items.len() as u32 - 1;
        }
        let slot = self.recycle();
        let generation = (self.items[slot as usize].generation + 1) & GENERATION;
        self.items[slot as usize] = Item { generation: generation | RECENT, ..item };
        self.called[slot as usize] = called;
        slot
    }
    /// Second-chance clock. Residents and candidates stay as long as there are others.
    fn recycle(&mut self) -> u32 {
        for round in 0..3 * self.items.len() {
            let slot = self.hand;
            self.hand = (self.hand + 1) % self.items.len();
            let item = &mut self.items[slot];
            let held = item.resident() || item.candidate != NO_CANDIDATE;
            let spare = item.recent() || held && round < 2 * self.limit;
            item.set(RECENT, false);
            if !spare && item.candidate == NO_CANDIDATE {
                self.forget(slot);
                return slot as u32;
            }
        }
        unreachable!("candidates are fewer than names: see the shadow table's limit")
    }
    fn forget(&mut self, slot: usize) {
        let item = &self.called[slot];
        if let Some(name) = &item.name {
            self.by_name.remove(&key_of(name.as_str()));
        }
        if let Some(shape) = item.shape {
            self.by_parts.remove(&parts_key(shape, &item.fields, &item.widths));
        }
    }
    /// Nothing is in the pool.
    pub(super) fn clear_residents(&mut self) {
        self.items.iter_mut().for_each(|i| i.set_resident(false));
    }
    /// How many objects are candidates.
    #[cfg(test)]
    pub(super) fn candidates(&self) -> usize {
        self.items.iter().filter(|i| i.candidate != NO_CANDIDATE).count()
    }
    /// Names known.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }
    /// Memory, bytes; names by their length.
    pub(super) fn memory_bytes(&self) -> usize {
        let names: usize =
            self.called.iter().filter_map(|i| i.name.as_ref()).map(|n| n.as_str().len() + 16).sum();
        let shapes: usize = self.shapes.iter().map(|s| 2 * s.text.len() + 80).sum();
        let maps = (self.by_name.capacity() + self.by_parts.capacity()) * 17;
        let rows = self.items.capacity() * size_of::<Item>() + self.called.capacity() * size_of::<Called>();
        rows + names + shapes + maps
    }
    /// Writes everything but what the pool's own index knows better: who is resident.
    pub(super) fn write(&self, to: &mut Writer) {
        to.u32(self.shapes.len() as u32);
        for shape in &self.shapes {
            to.text(&shape.text);
            to.bytes(&shape.widths);
        }
        to.u32(self.hand as u32);
        to.u32(self.items.len() as u32);
        for (item, called) in self.items.iter().zip(&self.called) {
            to.u32(u32::from(item.generation));
            to.u32(item.protected_at);
            to.u64(item.bytes);
            to.u32(called.shape.unwrap_or(u32::MAX));
            if called.shape.is_some() {
                called.fields.iter().for_each(|&f| to.u64(f));
                to.bytes(&called.widths);
            }
            to.text(called.name.as_ref().map_or("", |n| n.as_str()));
        }
    }
    /// Reads what [`Catalogue::write`] wrote.
    pub(super) fn read(&mut self, from: &mut Reader<'_>) -> Result<(), Bad> {
        for shape in 0..from.count(MAX_SHAPES)? {
            let (text, widths) = (from.text()?.to_owned(), from.array()?);
            self.by_shape.insert(text.clone(), shape as u32);
            self.shapes.push(ShapeText { text, widths });
        }
        self.hand = from.index(self.limit)?;
        for slot in 0..from.count(self.limit)? as u32 {
            let (item, called) = self.read_item(from)?;
            if let Some(name) = &called.name {
                self.by_name.insert(key_of(name.as_str()), slot);
            }
            if let Some(shape) = called.shape {
                self.by_parts.insert(parts_key(shape, &called.fields, &called.widths), slot);
            }
            self.items.push(item);
            self.called.push(called);
        }
        Ok(())
    }
    fn read_item(&self, from: &mut Reader<'_>) -> Result<(Item, Called), Bad> {
        let generation = from.count(usize::from(u16::MAX))? as u16;
        let (protected_at, bytes) = (from.u32()?, from.u64()?);
        let item = Item { bytes, protected_at, candidate: NO_CANDIDATE, generation };
        let shape = Some(from.u32()?).filter(|&s| s != u32::MAX);
        if shape.is_some_and(|s| s as usize >= self.shapes.len()) {
            return Err(Bad::Value);
        }
        let (mut fields, mut widths) = ([0; FIELDS], [0; FIELDS]);
        if shape.is_some() {
            for f in &mut fields {
                *f = from.u64()?;
            }
            widths = from.array()?;
        }
        let name = Some(from.text()?).filter(|n| !n.is_empty()).map(ObjectName::new);
        Ok((item, Called { fields, name, shape, widths }))
    }
}

fn parts_key(shape: u32, fields: &Fields, widths: &Widths) -> u64 {
    // The products do not wait for each other; each field has an odd factor of its own.
    const FACTORS: Fields =
        [0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9, 0x27D4_EB2F_1656_67C5];
    let head = u64::from(shape) << 32 | u64::from(u32::from_le_bytes(*widths));
    let sum = fields.iter().zip(FACTORS).fold(0, |sum, (f, k)| sum ^ f.wrapping_mul(k).rotate_left(23));
    mix(head ^ sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::new(text)
    }

    #[test]
    fn sibling_is_spelled_with_its_leading_zeros() {
        let mut catalogue = Catalogue::new(1000);
        let id = catalogue.id(&name("s:img-0098.dat"));
        let (shape, fields) = catalogue.parts(id).unwrap();
        for (step, spelled) in [(1, "s:img-0099.dat"), (2, "s:img-0100.dat"), (9902, "s:img-10000.dat")] {
            let sibling = catalogue.sibling(shape, [fields[0] + step, 0, 0, 0]);
            assert_eq!(catalogue.name(sibling).unwrap().as_str(), spelled);
            assert_eq!(catalogue.id(&name(spelled)), sibling, "the name leads back to the same object");
        }
    }

    #[test]
    fn derived_object_and_used_name_are_one() {
        let mut catalogue = Catalogue::new(1000);
        let id = catalogue.id(&name("s:a/1"));
        let (shape, _) = catalogue.parts(id).unwrap();
        let derived = catalogue.sibling(shape, [2, 0, 0, 0]);
        assert_eq!(catalogue.id(&name("s:a/2")), derived);
        assert_eq!(catalogue.len(), 2);
    }

    #[test]
    fn full_catalogue_recycles_and_stale_numbers_are_recognised() {
        let mut catalogue = Catalogue::new(0);
        let first = catalogue.id(&name("first"));
        let resident = catalogue.id(&name("resident"));
        catalogue.get_mut(resident).unwrap().set_resident(true);
        for i in 0..3 * MIN_NAMES {
            catalogue.id(&name(&format!("n{i}")));
        }
        assert_eq!(catalogue.len(), MIN_NAMES);
        assert!(catalogue.get(first).is_none());
        assert!(catalogue.get(resident).is_some());
        assert_ne!(catalogue.id(&name("first")), first);
    }
}
