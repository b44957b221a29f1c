//! What followed each context, in fixed memory.
//!
//! A set-associative hash table, eight ways to a set, tags apart from nodes so that looking for an absent
//! context touches one cache line. A full set gives up the node with the fewest counts, of equals the one that
//! was passed over oftenest; those passed over age, so that a node that was once busy does not stay for ever.

use super::snapshot::{Reader, Writer};
use super::{Error, Symbol};

/// Symbols that one node can hold. Fifteen in twice the memory gained .0007 bit, twice the nodes .002.
pub(super) const SYMBOLS: usize = 10;
/// Four ways cost .0005 bit.
const WAYS: usize = 8;
/// The highest limit of a node's counts: one more must fit its byte.
pub(super) const LIMIT_MAX: u8 = u8::MAX - 1;
/// What one unit of age adds to [`Node::len_and_age`].
const AGE_STEP: u8 = 16;
/// A node passed over this often by insertions into its set has its counts halved.
const PASSED_OVER: u8 = 8;

/// Counts of what followed one context, the most frequent roughly first. Half a cache line.
#[repr(C, align(32))]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Node {
    /// How many symbols, and above them how often it was passed over.
    len_and_age: u8,
    total: u8,
    counts: [u8; SYMBOLS],
    symbols: [Symbol; SYMBOLS],
}

impl Node {
    /// How many observations it holds after forgetting.
    #[inline(always)]
    pub fn total(&self) -> u8 {
        self.total
    }
    /// How many different symbols.
    #[inline(always)]
    pub fn distinct(&self) -> usize {
        // The bound is stated for the optimiser: it removes the checks of the two arrays.
        (self.len_and_age as usize % AGE_STEP as usize).min(SYMBOLS)
    }
    /// How often it was passed over since it last learned or was halved.
    #[inline(always)]
    fn age(&self) -> u8 {
        self.len_and_age / AGE_STEP
    }
    /// The symbols, the most frequent roughly first.
    #[inline(always)]
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols[..self.distinct()]
    }
    /// The counts, in the order of [`Node::symbols`].
    #[inline(always)]
    pub fn counts(&self) -> &[u8] {
        &self.counts[..self.distinct()]
    }

    /// Counts one more `symbol`; true when it was not there. When full, the last in order makes room.
    #[inline(always)]
    fn learn(&mut self, symbol: Symbol, limit: u8) -> bool {
        let n = self.distinct();
        self.len_and_age %= AGE_STEP;
        let at = self.symbols[..n].iter().position(|&s| s == symbol);
        match at {
            Some(j) => {
                self.counts[j] += 1;
                self.total += 1;
                if j > 0 && self.counts[j] > self.counts[j - 1] {
                    self.symbols.swap(j, j - 1);
                    self.counts.swap(j, j - 1);
                }
            }
            None if n < SYMBOLS => {
                self.symbols[n] = symbol;
                self.counts[n] = 1;
                self.len_and_age += 1;
                self.total += 1;
            }
            None => {
                self.total -= self.counts[SYMBOLS - 1] - 1;
                self.symbols[SYMBOLS - 1] = symbol;
                self.counts[SYMBOLS - 1] = 1;
            }
        }
        if self.total > limit {
            self.halve();
        }
        at.is_none()
    }

    /// Half of every count, rounded up: what was seen stays known.
    fn halve(&mut self) {
        self.total = 0;
        let n = self.distinct();
        for c in &mut self.counts[..n] {
            *c = c.div_ceil(2);
            self.total += *c;
        }
    }
}

/// Where a context is, or would be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    tag: u32,
    set: u32,
    /// The node's index, if the context is known.
    pub node: Option<u32>,
}

/// The table.
#[derive(Clone, Debug)]
pub(super) struct Table {
    tags: Vec<u32>,
    nodes: Vec<Node>,
    limit: u8,
}

impl Table {
    /// 2^bits nodes of 36 bytes with their tags. Counts of a node are halved when their sum exceeds `limit`,
    /// at most [`LIMIT_MAX`].
    pub fn new(bits: u8, limit: u8) -> Table {
        assert!(limit <= LIMIT_MAX, "checked by the settings");
        let n = 1usize << bits.max(3);
        Table { tags: vec![0; n], nodes: vec![Node::default(); n], limit }
    }

    /// Memory, bytes.
    pub fn bytes(&self) -> usize {
        self.tags.len() * 4 + self.nodes.len() * size_of::<Node>()
    }

    /// Looks a context up by its hash.
    #[inline(always)]
    pub fn find(&self, key: u64) -> Place {
        let tag = (key >> 32) as u32 | 1;
        let set = key as usize & (self.tags.len() - 1) & !(WAYS - 1);
        let ways = &self.tags[set..set + WAYS];
        // All ways are compared at once: which one matches cannot be guessed by the processor.
        let matches = (0..WAYS).fold(0u32, |m, w| m | u32::from(ways[w] == tag) << w);
        let node = (matches != 0).then(|| set as u32 + matches.trailing_zeros());
        if let Some(n) = node {
            self.fetch(n);
        }
        Place { tag, set: set as u32, node }
    }

    /// Asks the processor for a node that will be read soon: two dozen misses then overlap.
    #[inline(always)]
    fn fetch(&self, node: u32) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let at: *const Node = &self.nodes[node as usize];
            // SAFETY: a prefetch reads nothing and cannot fault; the address is that of a live node.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = node;
    }

    /// A known context's counts.
    #[inline(always)]
    pub fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    /// Counts `symbol` after the context of `place`, which was found since the last snapshot was loaded.
    /// True when this context had not been followed by that symbol before. If something inserted since has
    /// taken the context's node, nothing is counted.
    #[inline(always)]
    pub fn learn(&mut self, place: Place, symbol: Symbol) -> bool {
        let at = match place.node {
            Some(n) if self.tags[n as usize] == place.tag => n as usize,
            Some(_) => return false,
            None => self.insert(place),
        };
        self.nodes[at].learn(symbol, self.limit)
    }

    /// Takes the way with the smallest total, of equals the oldest, then the first.
    fn insert(&mut self, place: Place) -> usize {
        let set = place.set as usize;
        let worth = |t: &Table, w: usize| {
            let node = &t.nodes[w];
            if t.tags[w] == 0 { (0, 0) } else { (1 + u32::from(node.total), PASSED_OVER - node.age()) }
        };
        let taken = (set..set + WAYS).min_by_key(|&w| worth(self, w)).expect("a set has eight ways");
        if self.tags[taken] != 0 {
            for passed in (set..set + WAYS).filter(|&w| w != taken) {
                let node = &mut self.nodes[passed];
                node.len_and_age += AGE_STEP;
                if node.age() >= PASSED_OVER {
                    node.len_and_age %= AGE_STEP;
                    node.halve();
                }
            }
        }
        self.tags[taken] = place.tag;
        self.nodes[taken] = Node::default();
        taken
    }

    pub fn save(&self, to: &mut Writer) {
        to.u32s(&self.tags);
        for (node, &tag) in self.nodes.iter().zip(&self.tags) {
            if tag != 0 {
                to.u8(node.len_and_age);
                to.u16s_fixed(node.symbols());
                node.counts().iter().for_each(|&c| to.u8(c));
            }
        }
    }

    /// `symbols`: how many there are.
    pub fn load(&mut self, from: &mut Reader<'_>, symbols: usize) -> Result<(), Error> {
        from.u32s_into(&mut self.tags)?;
        for (node, &tag) in self.nodes.iter_mut().zip(&self.tags) {
            *node = Node::default();
            if tag == 0 {
                continue;
            }
            node.len_and_age = from.u8()?;
            let n = usize::from(node.len_and_age % AGE_STEP);
            if n > SYMBOLS || node.age() >= PASSED_OVER {
                return Err(Error::Malformed { what: "a node of the count table" });
            }
            from.u16s_fixed(&mut node.symbols[..n])?;
            for c in &mut node.counts[..n] {
                *c = from.u8()?;
            }
            let total: u32 = node.counts[..n].iter().map(|&c| u32::from(c)).sum();
            let known = node.symbols[..n].iter().all(|&s| (s as usize) < symbols);
            if total > u32::from(self.limit) || !known {
                return Err(Error::Malformed { what: "the counts of a node" });
            }
            node.total = total as u8;
        }
        Ok(())
    }

    #[cfg(test)]
    pub fn assert_invariants(&self) {
        for (node, &tag) in self.nodes.iter().zip(&self.tags) {
            let total: u32 = node.counts().iter().map(|&c| u32::from(c)).sum();
            assert_eq!(total, u32::from(node.total));
            assert!(node.total <= self.limit && node.age() < PASSED_OVER);
            assert!(node.counts().iter().all(|&c| c > 0));
            assert_eq!(tag != 0, node.distinct() > 0, "a node is tagged from its first count on");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::types::maths::hash;

    fn learn(t: &mut Table, context: u64, symbol: Symbol) -> bool {
        let place = t.find(hash(&[context]));
        t.learn(place, symbol)
    }

    fn counts(t: &Table, context: u64) -> Vec<(Symbol, u8)> {
        let Some(n) = t.find(hash(&[context])).node else { return vec![] };
        t.node(n).symbols().iter().copied().zip(t.node(n).counts().iter().copied()).collect()
    }

    #[test]
    fn counts_and_says_what_is_new() {
        let mut t = Table::new(4, LIMIT_MAX);
        assert!(learn(&mut t, 1, 7));
        assert!(learn(&mut t, 1, 8));
        assert!(!learn(&mut t, 1, 8));
        assert_eq!(counts(&t, 1), [(8, 2), (7, 1)], "the more frequent comes first");
    }

    #[test]
    fn halves_above_the_limit_and_forgets_nothing_wholly() {
        let mut t = Table::new(4, 10);
        learn(&mut t, 1, 1);
        for _ in 0..10 {
            learn(&mut t, 1, 2);
        }
        assert_eq!(counts(&t, 1), [(2, 5), (1, 1)]);
    }

    #[test]
    fn the_weakest_symbol_makes_room() {
        let mut t = Table::new(4, LIMIT_MAX);
        for s in 0..SYMBOLS as Symbol + 1 {
            learn(&mut t, 1, s);
        }
        let c = counts(&t, 1);
        assert_eq!(c.len(), SYMBOLS);
        assert_eq!(c[SYMBOLS - 1], (SYMBOLS as Symbol, 1));
    }

    #[test]
    fn random_contexts_never_break_the_table_and_busy_ones_outlive_idle_ones() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut t = Table::new(6, 50);
        for i in 0..20_000 {
            learn(&mut t, if i % 4 == 0 { 0 } else { rng.u64(..5000) }, rng.u16(..30));
            if i % 100 == 0 {
                t.assert_invariants();
            }
        }
        assert!(t.find(hash(&[0])).node.is_some());
    }
}
