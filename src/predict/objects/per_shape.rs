//! A bounded table by shape of name: when it is full, the shape seen longest ago gives way.

use super::snapshot::{Bad, Reader, Writer};

/// Shapes that are followed at a time.
const LIMIT: usize = 512;
const NONE: u16 = u16::MAX;

struct Entry<V> {
    shape: u32,
    seen: u32,
    value: V,
}

/// What is known for each shape.
pub(super) struct PerShape<V> {
    /// Index into `entries` by shape, or [`NONE`].
    at: Vec<u16>,
    entries: Vec<Entry<V>>,
}

impl<V> PerShape<V> {
    /// Empty.
    pub(super) fn new() -> PerShape<V> {
        PerShape { at: vec![], entries: vec![] }
    }
    /// What is known for a shape that is seen `now`.
    pub(super) fn entry(&mut self, shape: u32, now: u32, fresh: impl FnOnce() -> V) -> &mut V {
        let s = shape as usize;
        if s >= self.at.len() {
            self.at.resize(s + 1, NONE);
        }
        if self.at[s] == NONE {
            self.add(Entry { shape, seen: now, value: fresh() });
        }
        let entry = &mut self.entries[usize::from(self.at[s])];
        entry.seen = now;
        &mut entry.value
    }
    fn add(&mut self, entry: Entry<V>) {
        let s = entry.shape as usize;
        if self.entries.len() < LIMIT {
            self.at[s] = self.entries.len() as u16;
            self.entries.push(entry);
            return;
        }
        let age = |e: &Entry<V>| entry.seen.wrapping_sub(e.seen);
        let oldest = (0..LIMIT).max_by_key(|&i| age(&self.entries[i])).expect("the table is full");
        self.at[self.entries[oldest].shape as usize] = NONE;
        self.at[s] = oldest as u16;
        self.entries[oldest] = entry;
    }
    /// What is known, in table order.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().map(|e| &e.value)
    }
    /// Memory, bytes, without what the values point to.
    pub(super) fn memory_bytes(&self) -> usize {
        self.at.capacity() * 2 + self.entries.capacity() * size_of::<Entry<V>>()
    }
    /// Writes all, each value by `value`.
    pub(super) fn write(&self, to: &mut Writer, value: impl Fn(&V, &mut Writer)) {
        to.u32(self.entries.len() as u32);
        for e in &self.entries {
            to.u32(e.shape);
            to.u32(e.seen);
            value(&e.value, to);
        }
    }
    /// Reads what [`PerShape::write`] wrote.
    pub(super) fn read(
        &mut self,
        from: &mut Reader<'_>,
        value: impl Fn(&mut Reader<'_>) -> Result<V, Bad>,
    ) -> Result<(), Bad> {
        for _ in 0..from.count(LIMIT)? {
            let shape = from.index(1 << 20)? as u32;
            let entry = Entry { shape, seen: from.u32()?, value: value(from)? };
            let s = shape as usize;
            if s >= self.at.len() {
                self.at.resize(s + 1, NONE);
            }
            self.add(entry);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_seen_longest_ago_gives_way() {
        let mut table = PerShape::new();
        for shape in 0..LIMIT as u32 {
            *table.entry(shape, shape, || 0) = shape;
        }
        assert_eq!(*table.entry(0, 1000, || 77), 0, "seen again");
        table.entry(9999, 1001, || 1);
        assert_eq!(*table.entry(1, 1002, || 77), 77, "forgotten");
        assert_eq!(table.values().count(), LIMIT);
    }
}
