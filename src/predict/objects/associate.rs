//! Associations: for each object, those that were would-be misses soon after it.
//!
//! A fixed four-way table. A node holds six successors with count and lag; the weakest is worn down before it
//! is replaced, as in Space-Saving (Metwally, Agrawal, El Abbadi: "Efficient computation of frequent and top-k
//! elements in data streams", ICDT 2005). Counts are halved at 64 uses, so a node follows change.

use super::catalogue::Id;
use super::snapshot::{Bad, Reader, Writer};

/// Successors that a node remembers.
pub(super) const SUCCESSORS: usize = 6;
/// Uses at which counts are halved.
const HALVE_AT: u8 = 64;
const WAYS: usize = 4;
/// A strong node outlives a weak one by this many accesses for each count of its best successor (at most 8).
const STRENGTH_AGE: i64 = 20_000;

/// What followed one object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// Access number of the last use.
    pub(super) last: u32,
    /// The successors; meaningful where `count` is not zero.
    pub(super) successor: [Id; SUCCESSORS],
    /// How often each followed, at most `uses`.
    pub(super) count: [u8; SUCCESSORS],
    /// How many accesses later, smoothed.
    pub(super) lag: [u8; SUCCESSORS],
    /// How often the object itself was used.
    pub(super) uses: u8,
}

const EMPTY: Node = Node {
    last: 0,
    successor: [Id::NONE; SUCCESSORS],
    count: [0; SUCCESSORS],
    lag: [0; SUCCESSORS],
    uses: 0,
};

/// A bounded table of nodes.
pub(super) struct Associations {
    /// Whose the nodes are; by themselves, so that a search reads one cache line.
    keys: Box<[[Id; WAYS]]>,
    nodes: Box<[Node]>,
}

impl Associations {
    /// `nodes` is a power of two, at least four.
    pub(super) fn new(nodes: usize) -> Associations {
        assert!(nodes.is_power_of_two() && nodes >= WAYS, "sets are found by masking");
        Associations {
            keys: vec![[Id::NONE; WAYS]; nodes / WAYS].into_boxed_slice(),
            nodes: vec![EMPTY; nodes].into_boxed_slice(),
        }
    }
    fn set_of(&self, key: Id) -> usize {
        key.hash() as usize & (self.keys.len() - 1)
    }
    fn find(&self, key: Id) -> Option<usize> {
        let set = self.set_of(key);
        let way = self.keys[set].iter().position(|&k| k == key)?;
        Some(set * WAYS + way)
    }
    /// What followed `key` so far.
    pub(super) fn get(&self, key: Id) -> Option<&Node> {
        self.find(key).map(|i| &self.nodes[i])
    }
    /// Counts one use of `key`, making room by age and strength.
    pub(super) fn used(&mut self, key: Id, now: u32) {
        let i = self.find(key).unwrap_or_else(|| self.replace(key, now));
        let node = &mut self.nodes[i];
        node.last = now;
        node.uses += 1;
        if node.uses >= HALVE_AT {
            node.uses /= 2;
            node.count.iter_mut().for_each(|c| *c /= 2);
        }
    }
    fn replace(&mut self, key: Id, now: u32) -> usize {
        let set = self.set_of(key);
        let worth = |way: usize| match self.keys[set][way] {
            Id::NONE => i64::MIN,
            _ => {
                let n = &self.nodes[set * WAYS + way];
                let best = n.count.iter().copied().max().unwrap_or(0).min(8);
                i64::from(best) * STRENGTH_AGE - i64::from(now.wrapping_sub(n.last))
            }
        };
        let way = (0..WAYS).min_by_key(|&way| worth(way)).expect("a set has four ways");
        self.keys[set][way] = key;
        self.nodes[set * WAYS + way] = Node { last: now, ..EMPTY };
        set * WAYS + way
    }
    /// `next` was a would-be miss `lag` steps after `key`.
    pub(super) fn learn(&mut self, key: Id, next: Id, lag: u8) {
        let Some(i) = self.find(key) else { return };
        let node = &mut self.nodes[i];
        let mut weakest = 0;
        for j in 0..SUCCESSORS {
            if node.count[j] > 0 && node.successor[j] == next {
                node.count[j] = (node.count[j] + 1).min(node.uses.max(1));
                node.lag[j] = ((u16::from(node.lag[j]) * 3 + u16::from(lag)) / 4) as u8;
                return;
            }
            if node.count[j] < node.count[weakest] {
                weakest = j;
            }
        }
        if node.count[weakest] == 0 || node.count[weakest] == 1 && node.uses >= 2 {
            node.successor[weakest] = next;
            node.count[weakest] = 1;
            node.lag[weakest] = lag;
        } else {
            node.count[weakest] -= 1;
        }
    }
    /// Memory, bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of_val::<[Node]>(&self.nodes) + self.nodes.len() * size_of::<Id>()
    }
    /// Writes the nodes in use.
    pub(super) fn write(&self, to: &mut Writer) {
        to.u32(self.nodes.len() as u32);
        let used = || self.keys.iter().flatten().enumerate().filter(|(_, key)| **key != Id::NONE);
        to.u32(used().count() as u32);
        for (i, &key) in used() {
            let n = &self.nodes[i];
            to.u32(i as u32);
            to.id(key);
            to.u32(n.last);
            n.successor.iter().for_each(|&s| to.id(s));
            to.bytes(&n.count);
            to.bytes(&n.lag);
            to.u8(n.uses);
        }
    }
    /// Reads what [`Associations::write`] wrote, for a table of the same size.
    pub(super) fn read(&mut self, from: &mut Reader<'_>) -> Result<(), Bad> {
        from.expect_u32(self.nodes.len() as u32)?;
        for _ in 0..from.count(self.nodes.len())? {
            let i = from.index(self.nodes.len())?;
            self.keys[i / WAYS][i % WAYS] = from.id()?;
            let mut node = Node { last: from.u32()?, ..EMPTY };
            for s in &mut node.successor {
                *s = from.id()?;
            }
            node.count = from.array()?;
            node.lag = from.array()?;
            node.uses = from.u8()?;
            self.nodes[i] = node;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(i: u32) -> Id {
        Id::from_parts(i, 0)
    }

    #[test]
    fn counts_what_followed_and_how_far_behind() {
        let mut table = Associations::new(16);
        for now in 0..4 {
            table.used(id(1), now);
            table.learn(id(1), id(2), 1);
            if now % 2 == 0 {
                table.learn(id(1), id(3), 5);
            }
        }
        let node = table.get(id(1)).unwrap();
        assert_eq!((&node.successor[..2], &node.count[..3]), (&[id(2), id(3)][..], &[4, 2, 0][..]));
        assert_eq!((node.lag[0], node.lag[1], node.uses), (1, 5, 4));
    }

    #[test]
    fn weakest_successor_is_worn_down_before_it_is_replaced() {
        let mut table = Associations::new(16);
        for now in 0..10 {
            table.used(id(1), now);
        }
        for _ in 0..3 {
            (10..16).for_each(|i| table.learn(id(1), id(i), 1));
        }
        let learned = |table: &Associations| table.get(id(1)).unwrap().successor.contains(&id(20));
        for _ in 0..2 {
            table.learn(id(1), id(20), 1);
            assert!(!learned(&table));
        }
        table.learn(id(1), id(20), 1);
        assert!(learned(&table));
    }

    #[test]
    fn full_set_gives_up_its_oldest_weak_node() {
        let mut table = Associations::new(4);
        for i in 0..5 {
            table.used(id(i), i);
        }
        assert!(table.get(id(0)).is_none() && (1..5).all(|i| table.get(id(i)).is_some()));
    }
}
