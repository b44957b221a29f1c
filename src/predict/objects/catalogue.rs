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

/// What is known of one object.
#[derive(Clone, Debug)]
pub(super) struct Item {
    generation: u16,
    /// Its shape, if there are numbers in its name.
    pub(super) shape: Shape,
    /// Zero-filled width of each field; zero where there is no leading zero.
    widths: Widths,
    /// The numbers in its name.
    pub(super) fields: Fields,
    /// Its size as last seen; zero before.
    pub(super) bytes: u64,
    /// Its name, once somebody used it or it was proposed.
    name: Option<ObjectName>,
    /// It is in the pool.
    pub(super) resident: bool,
    /// Index into the shadow table, or [`NO_CANDIDATE`].
    pub(super) candidate: u32,
    /// Used or proposed since the hand last passed.
    recent: bool,
}

/// The object is not in the shadow table.
pub(super) const NO_CANDIDATE: u32 = u32::MAX;

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
        self.items.get(id.slot()).filter(|i| i.generation == (id.0 >> SLOT_BITS) as u16)
    }
    /// The same, to change it.
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Item> {
        self.items.get_mut(id.slot()).filter(|i| i.generation == (id.0 >> SLOT_BITS) as u16)
    }
    fn id_at(&self, slot: u32) -> Id {
        Id::from_parts(slot, self.items[slot as usize].generation)
    }
    /// The number of a name that somebody used; a new one if need be.
    pub(super) fn id(&mut self, name: &ObjectName) -> Id {
        let key = key_of(name.as_str());
        if let Some(&slot) = self.by_name.get(&key) {
            self.items[slot as usize].recent = true;
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
        let item = &mut self.items[slot as usize];
        item.name = Some(name.clone());
        item.recent = true;
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
        self.items[slot as usize].recent = true;
        self.id_at(slot)
    }
    /// An object's name, spelled out if it was only derived so far.
    pub(super) fn name(&mut self, id: Id) -> Option<ObjectName> {
        let item = self.get(id)?;
        if let Some(name) = &item.name {
            return Some(name.clone());
        }
        let mut text = std::mem::take(&mut self.scratch);
        let item = &self.items[id.slot()];
        spell(&self.shapes[item.shape? as usize].text, &item.fields, &item.widths, &mut text);
        let key = key_of(&text);
        let name = ObjectName::new(text.as_str());
        self.scratch = text;
        self.by_name.insert(key, id.slot() as u32);
        self.get_mut(id)?.name = Some(name.clone());
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
            let item = &self.items[slot as usize];
            if item.shape == Some(shape) && item.fields == fields && item.widths == widths {
                return slot;
            }
        }
        let slot = self.add(Some(shape), fields, widths);
        self.by_parts.insert(key, slot);
        slot
    }
    fn add(&mut self, shape: Shape, fields: Fields, widths: Widths) -> u32 {
        let item = Item {
            generation: 0,
            shape,
            widths,
            fields,
            bytes: 0,
            name: None,
            resident: false,
            candidate: NO_CANDIDATE,
            recent: true,
        };
        if self.items.len() < self.limit {
            self.items.push(item);
            return self.items.len() as u32 - 1;
        }
        let slot = self.recycle();
        let generation = (self.items[slot as usize].generation + 1) & 0xFFF;
        self.items[slot as usize] = Item { generation, ..item };
        slot
    }
    /// Second-chance clock. Residents and candidates stay as long as there are others.
    fn recycle(&mut self) -> u32 {
        for round in 0..3 * self.items.len() {
            let slot = self.hand;
            self.hand = (self.hand + 1) % self.items.len();
            let item = &mut self.items[slot];
            let held = item.resident || item.candidate != NO_CANDIDATE;
            let spare = std::mem::take(&mut item.recent) || held && round < 2 * self.limit;
            if !spare && item.candidate == NO_CANDIDATE {
                self.forget(slot);
                return slot as u32;
            }
        }
        unreachable!("candidates are fewer than names: see the shadow table's limit")
    }
    fn forget(&mut self, slot: usize) {
        let item = &self.items[slot];
        if let Some(name) = &item.name {
            self.by_name.remove(&key_of(name.as_str()));
        }
        if let Some(shape) = item.shape {
            self.by_parts.remove(&parts_key(shape, &item.fields, &item.widths));
        }
    }
    /// Nothing is in the pool.
    pub(super) fn clear_residents(&mut self) {
        self.items.iter_mut().for_each(|i| i.resident = false);
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
            self.items.iter().filter_map(|i| i.name.as_ref()).map(|n| n.as_str().len() + 16).sum();
        let shapes: usize = self.shapes.iter().map(|s| 2 * s.text.len() + 80).sum();
        let maps = (self.by_name.capacity() + self.by_parts.capacity()) * 17;
        self.items.capacity() * size_of::<Item>() + names + shapes + maps
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
        for item in &self.items {
            to.u32(
                u32::from(item.generation) | u32::from(item.recent) << 16 | u32::from(item.resident) << 17,
            );
            to.u32(item.shape.unwrap_or(u32::MAX));
            to.u64(item.bytes);
            if item.shape.is_some() {
                item.fields.iter().for_each(|&f| to.u64(f));
                to.bytes(&item.widths);
            }
            to.text(item.name.as_ref().map_or("", |n| n.as_str()));
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
            let item = self.read_item(from)?;
            if let Some(name) = &item.name {
                self.by_name.insert(key_of(name.as_str()), slot);
            }
            if let Some(shape) = item.shape {
                self.by_parts.insert(parts_key(shape, &item.fields, &item.widths), slot);
            }
            self.items.push(item);
        }
        Ok(())
    }
    fn read_item(&self, from: &mut Reader<'_>) -> Result<Item, Bad> {
        let flags = from.u32()?;
        let shape = Some(from.u32()?).filter(|&s| s != u32::MAX);
        if shape.is_some_and(|s| s as usize >= self.shapes.len()) {
            return Err(Bad::Value);
        }
        let bytes = from.u64()?;
        let (mut fields, mut widths) = ([0; FIELDS], [0; FIELDS]);
        if shape.is_some() {
            for f in &mut fields {
                *f = from.u64()?;
            }
            widths = from.array()?;
        }
        let name = Some(from.text()?).filter(|n| !n.is_empty()).map(ObjectName::new);
        Ok(Item {
            generation: flags as u16 & 0xFFF,
            shape,
            widths,
            fields,
            bytes,
            name,
            resident: flags >> 17 & 1 == 1,
            candidate: NO_CANDIDATE,
            recent: flags >> 16 & 1 == 1,
        })
    }
}

fn parts_key(shape: u32, fields: &Fields, widths: &Widths) -> u64 {
    let head = mix(u64::from(shape) << 32 | u64::from(u32::from_le_bytes(*widths)));
    fields.iter().fold(head, |h, &f| mix(h ^ f))
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
        let Item { shape, fields, .. } = catalogue.get(id).unwrap().clone();
        for (step, spelled) in [(1, "s:img-0099.dat"), (2, "s:img-0100.dat"), (9902, "s:img-10000.dat")] {
            let sibling = catalogue.sibling(shape.unwrap(), [fields[0] + step, 0, 0, 0]);
            assert_eq!(catalogue.name(sibling).unwrap().as_str(), spelled);
            assert_eq!(catalogue.id(&name(spelled)), sibling, "the name leads back to the same object");
        }
    }

    #[test]
    fn derived_object_and_used_name_are_one() {
        let mut catalogue = Catalogue::new(1000);
        let id = catalogue.id(&name("s:a/1"));
        let shape = catalogue.get(id).unwrap().shape.unwrap();
        let derived = catalogue.sibling(shape, [2, 0, 0, 0]);
        assert_eq!(catalogue.id(&name("s:a/2")), derived);
        assert_eq!(catalogue.len(), 2);
    }

    #[test]
    fn full_catalogue_recycles_and_stale_numbers_are_recognised() {
        let mut catalogue = Catalogue::new(0);
        let first = catalogue.id(&name("first"));
        let resident = catalogue.id(&name("resident"));
        catalogue.get_mut(resident).unwrap().resident = true;
        for i in 0..3 * MIN_NAMES {
            catalogue.id(&name(&format!("n{i}")));
        }
        assert_eq!(catalogue.len(), MIN_NAMES);
        assert!(catalogue.get(first).is_none());
        assert!(catalogue.get(resident).is_some());
        assert_ne!(catalogue.id(&name("first")), first);
    }
}
