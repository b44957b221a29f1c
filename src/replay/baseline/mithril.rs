//! MITHRIL: mining sporadic associations, in front of LRU.
//!
//! Yang, Karimi, Sæmundsson, Wildani, Vigfusson: "MITHRIL: mining sporadic associations for cache prefetching",
//! SoCC 2017. Objects missed twice move from a recording table to a mining table, where up to eight times of
//! their misses are kept; more frequent objects are left to the cache. When the mining table is full, it is
//! sorted by first miss, and objects whose misses came close together each time are associated: a use of the
//! first then brings the second. A prefetched object that leaves without a use is put back once.
//!
//! Parameters and sizes of tables are those of the paper's own code in libCacheSim, whose miss ratios this is
//! checked against: look-ahead 20, support 2 to 8, confidence 1, two associations an object, recording at
//! misses, mining at 2,560 objects, tables within a tenth of the pool.

use crate::flow::Map;
use std::collections::BTreeMap;

/// Associated objects were missed within so many accesses of each other.
const LOOKAHEAD: i64 = 20;
/// Misses from which an object is mined, and up to which it counts as sporadic.
const MIN_SUPPORT: usize = 2;
const MAX_SUPPORT: usize = 8;
/// Misses that may lie farther apart, and the difference in number of misses.
const CONFIDENCE: usize = 1;
/// Associations of one object; the oldest gives way.
const LIST: usize = 2;
/// Objects that are mined at a time.
const MINING_ROWS: usize = 5120 / MIN_SUPPORT;
/// Share of the pool that recording, and all tables, may take; bytes of their rows.
const RECORDING_SHARE: f64 = 0.02;
const TABLES_SHARE: f64 = 0.1;
const RECORDING_ROW_BYTES: u64 = 14;
const MINING_ROW_BYTES: u64 = MAX_SUPPORT as u64 * 2 + 12;
const SHARD_ROWS: u64 = 2000;
const SHARD_BYTES: u64 = SHARD_ROWS * (LIST as u64 * 8 + 12);

/// What a replay counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accesses that were not served from the pool.
    pub misses: u64,
    /// Objects prefetched.
    pub issued: u64,
    /// Prefetched objects that were used.
    pub useful: u64,
}

/// The miner and its LRU pool, over objects as small numbers.
pub struct Mithril {
    /// Objects missed once, and when, oldest first.
    recording: BTreeMap<u64, u32>,
    recorded: Map<u32, u64>,
    recording_rows: usize,
    mining: Vec<(u32, Vec<i64>)>,
    mined: Map<u32, usize>,
    associations: Map<u32, Vec<u32>>,
    /// Sources of associations, oldest first.
    sources: std::collections::VecDeque<u32>,
    source_rows: usize,
    now: i64,
    /// Prefetched and not used yet: how often it was put into the pool.
    waiting: Map<u32, u8>,
    pool: Lru,
    counts: Counts,
}

impl Mithril {
    /// In front of a pool of `capacity_bytes`.
    pub fn new(capacity_bytes: u64) -> Mithril {
        let recording_rows = (capacity_bytes as f64 * RECORDING_SHARE) as u64 / RECORDING_ROW_BYTES;
        let fixed = MINING_ROW_BYTES * MINING_ROWS as u64 + recording_rows * 20 + SHARD_BYTES;
        let tables = (capacity_bytes as f64 * TABLES_SHARE) as u64;
        let shards = 1 + tables.saturating_sub(fixed) / SHARD_BYTES;
        Mithril {
            recording: BTreeMap::new(),
            recorded: Map::default(),
            recording_rows: recording_rows.max(1) as usize,
            mining: vec![],
            mined: Map::default(),
            associations: Map::default(),
            sources: Default::default(),
            source_rows: usize::try_from(shards * SHARD_ROWS).unwrap_or(usize::MAX),
            now: 0,
            waiting: Map::default(),
            pool: Lru::new(capacity_bytes),
            counts: Counts::default(),
        }
    }
    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
    /// One access; `bytes` are the sizes of all objects.
    pub fn access(&mut self, object: u32, bytes: &[u64]) {
        let hit = self.pool.touch(object);
        if self.waiting.remove(&object).is_some() {
            self.counts.useful += 1;
        }
        if !hit {
            self.counts.misses += 1;
            self.record(object);
            self.insert(object, bytes);
        }
        for next in self.associations.get(&object).cloned().unwrap_or_default() {
            if !self.pool.contains(next) {
                self.counts.issued += 1;
                self.insert(next, bytes);
                self.waiting.insert(next, 1);
            }
        }
        self.now += 1;
    }
    fn insert(&mut self, object: u32, bytes: &[u64]) {
        let mut coming = vec![object];
        while let Some(object) = coming.pop() {
            for victim in self.pool.insert(object, bytes[object as usize]) {
                match self.waiting.get_mut(&victim) {
                    Some(times) if *times < 2 => {
                        *times += 1;
                        coming.push(victim);
                    }
                    _ => {
                        self.waiting.remove(&victim);
                    }
                }
            }
        }
    }
    fn record(&mut self, object: u32) {
        if let Some(&row) = self.mined.get(&object) {
            if self.mining[row].1.len() < MAX_SUPPORT {
                self.mining[row].1.push(self.now);
                return;
            }
            // Too frequent to be sporadic.
            self.mined.remove(&object);
            self.mining.swap_remove(row);
            if let Some(&(moved, _)) = self.mining.get(row) {
                self.mined.insert(moved, row);
            }
        } else if let Some(first) = self.recorded.remove(&object) {
            self.recording.remove(&first);
            self.mined.insert(object, self.mining.len());
            self.mining.push((object, vec![first as i64, self.now]));
            if self.mining.len() >= MINING_ROWS {
                self.mine();
            }
        } else {
            self.recorded.insert(object, self.now as u64);
            self.recording.insert(self.now as u64, object);
            if self.recorded.len() > self.recording_rows {
                let (_, oldest) = self.recording.pop_first().expect("one was inserted");
                self.recorded.remove(&oldest);
            }
        }
    }
    fn mine(&mut self) {
        let mut rows = std::mem::take(&mut self.mining);
        self.mined.clear();
        rows.sort_by_key(|r| r.1[0]);
        for (i, (first, times)) in rows.iter().enumerate() {
            let mut closest = true;
            for (second, other) in rows[i + 1..].iter().take_while(|o| o.1[0] - times[0] <= LOOKAHEAD) {
                if times.len().abs_diff(other.len()) > CONFIDENCE {
                    continue;
                }
                // The first that follows needs no consecutive misses; further ones need one such pair.
                if associated(times, other, std::mem::take(&mut closest)) {
                    self.associate(*first, *second);
                }
            }
        }
    }
    fn associate(&mut self, first: u32, second: u32) {
        if let Some(list) = self.associations.get_mut(&first) {
            if !list.contains(&second) {
                if list.len() == LIST {
                    list.remove(0);
                }
                list.push(second);
            }
            return;
        }
        if self.sources.len() >= self.source_rows
            && let Some(oldest) = self.sources.pop_front()
        {
            self.associations.remove(&oldest);
        }
        self.sources.push_back(first);
        self.associations.insert(first, vec![second]);
    }
}

/// Whether two objects were missed close together each time, but for [`CONFIDENCE`] exceptions.
fn associated(a: &[i64], b: &[i64], closest: bool) -> bool {
    let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    // The last pair is left out, as in the original code: one list may be shorter than its last miss.
    let pairs: Vec<i64> = apart.take(a.len().min(b.len()) - 1).collect();
    let far = pairs.iter().filter(|&&d| d > LOOKAHEAD).count();
    far <= CONFIDENCE && (closest || pairs.contains(&1))
}

/// An LRU pool over small numbers.
struct Lru {
    capacity_bytes: u64,
    held_bytes: u64,
    tick: u64,
    at: Map<u32, (u64, u64)>,
    order: BTreeMap<u64, u32>,
}

impl Lru {
    fn new(capacity_bytes: u64) -> Lru {
        Lru { capacity_bytes, held_bytes: 0, tick: 0, at: Map::default(), order: BTreeMap::new() }
    }
    fn contains(&self, object: u32) -> bool {
        self.at.contains_key(&object)
    }
    fn touch(&mut self, object: u32) -> bool {
        self.tick += 1;
        let Some(entry) = self.at.get_mut(&object) else { return false };
        self.order.remove(&std::mem::replace(&mut entry.0, self.tick));
        self.order.insert(self.tick, object);
        true
    }
    /// Gives what had to leave.
    fn insert(&mut self, object: u32, bytes: u64) -> Vec<u32> {
        let mut victims = vec![];
        if bytes > self.capacity_bytes {
            return victims;
        }
        while self.held_bytes + bytes > self.capacity_bytes {
            let (_, victim) = self.order.pop_first().expect("what is held is in the order");
            let (_, freed) = self.at.remove(&victim).expect("what is ordered is held");
            self.held_bytes -= freed;
            victims.push(victim);
        }
        self.tick += 1;
        self.at.insert(object, (self.tick, bytes));
        self.order.insert(self.tick, object);
        self.held_bytes += bytes;
        victims
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_missed_together_twice_are_associated() {
        assert!(associated(&[10, 500, 900], &[11, 505, 903], false), "once in direct succession");
        assert!(!associated(&[10, 500, 900], &[13, 505, 903], false));
        assert!(associated(&[10, 500, 900], &[13, 505, 903], true), "the closest one is enough");
        assert!(!associated(&[10, 500, 900, 950], &[11, 600, 1000, 2000], true), "two are far apart");
    }

    #[test]
    fn sporadic_pairs_are_prefetched() {
        let bytes = vec![1_000u64; 200_000];
        let mut mithril = Mithril::new(25_000_000);
        // Pairs (2i, 2i + 1), each pair once in every round, with a scan in between that empties the pool.
        for round in 0..6u32 {
            for pair in 0..3_000 {
                mithril.access(2 * pair, &bytes);
                mithril.access(2 * pair + 1, &bytes);
            }
            (0..27_000).for_each(|i| mithril.access(10_000 + round * 27_000 + i, &bytes));
        }
        let counts = mithril.counts();
        assert!(counts.useful > 3_000, "{counts:?}");
    }
}
