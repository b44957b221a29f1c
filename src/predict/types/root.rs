//! The root of the back-off: how probable a type is when nothing is known of the entity.
//!
//! Types seen so far share 1 − ν in proportion to their *continuation* counts: how many contexts of order
//! one a type has followed for the first time (Kneser and Ney 1995, "Improved backing-off for m-gram language
//! modeling"). Types never seen share ν (`novelty.rs`). The plain frequencies stand beside it as a row of
//! their own.

use super::candidates::Candidates;
use super::novelty::Novelty;
use super::row::Row;
use super::snapshot::{Reader, Writer};
use super::{Error, Symbol, TYPES_MAX};

/// Types nominated because they occurred last, whatever the context.
const RECENT: usize = 16;

/// Counts over all tasks.
#[derive(Clone, Debug)]
pub(super) struct Root {
    /// Whether the caller said how many types there will be.
    closed: bool,
    uses: Vec<u32>,
    continuations: Vec<f32>,
    continuations_total: f32,
    seen: f32,
    events: f32,
    /// The last types, latest last.
    recent: [Symbol; RECENT],
    recent_len: usize,
    pub novelty: Novelty,
}

impl Root {
    /// `alphabet`: how many types there will ever be, if that is known.
    pub fn new(alphabet: Option<usize>) -> Root {
        let mut root = Root {
            closed: alphabet.is_some(),
            uses: Vec::new(),
            continuations: Vec::new(),
            continuations_total: 0.0,
            seen: 0.0,
            events: 0.0,
            recent: [0; RECENT],
            recent_len: 0,
            novelty: Novelty::new(),
        };
        root.grow(alphabet.unwrap_or(0));
        root
    }

    /// Makes room for types `0..n`.
    pub fn grow(&mut self, n: usize) {
        if n > self.uses.len() {
            self.uses.resize(n, 0);
            self.continuations.resize(n, 0.0);
        }
    }

    /// Memory, bytes.
    pub fn bytes(&self) -> usize {
        self.uses.len() * 8 + size_of::<Root>()
    }

    /// How often a type occurred.
    #[inline(always)]
    pub fn uses(&self, symbol: Symbol) -> u32 {
        self.uses.get(symbol as usize).copied().unwrap_or(0)
    }
    /// How many types occurred.
    #[inline(always)]
    pub fn seen(&self) -> f32 {
        self.seen
    }
    /// How many types may still turn up: exact for a closed alphabet, otherwise 1, an unnamed one.
    #[inline(always)]
    pub fn unseen(&self) -> f32 {
        if self.closed { self.uses.len() as f32 - self.seen } else { 1.0 }
    }

    /// The last different types, latest last.
    #[inline(always)]
    pub fn recent(&self) -> &[Symbol] {
        &self.recent[..self.recent_len.min(RECENT)]
    }

    /// Nominates the last types, latest first.
    #[inline(always)]
    pub fn nominate(&self, candidates: &mut Candidates) {
        for &s in self.recent().iter().rev() {
            candidates.nominate(s);
        }
    }

    /// ν: the probability that the next type is one never seen, after an entity whose last type is `last`.
    #[inline(always)]
    pub fn novelty(&mut self, last: Option<Symbol>) -> f32 {
        if self.unseen() <= 0.0 {
            return 0.0;
        }
        let last_uses = last.map(|s| self.uses(s));
        self.novelty.p(last_uses, self.seen, self.events)
    }

    /// Class probabilities by continuation counts and by plain frequency.
    #[inline(always)]
    pub fn rows(&self, nu: f32, candidates: &Candidates, by_continuation: &mut Row, by_use: &mut Row) {
        let m = candidates.len();
        let per_continuation = (1.0 - nu) / self.continuations_total.max(1.0);
        let per_use = (1.0 - nu) / self.events.max(1.0);
        candidates.width().fill(by_continuation, |_| 0.0);
        candidates.width().fill(by_use, |_| 0.0);
        let (mut continuation_sum, mut use_sum) = (0.0, 0.0);
        for (i, &s) in candidates.list().iter().enumerate() {
            by_continuation[i] = self.continuations[s as usize] * per_continuation;
            by_use[i] = self.uses[s as usize] as f32 * per_use;
            continuation_sum += by_continuation[i];
            use_sum += by_use[i];
        }
        let others = candidates.seen_members() > 0.0;
        let rest = |sum: f32| if others { (1.0 - sum - nu).max(1e-9) } else { 0.0 };
        let new = if candidates.new_members() > 0.0 { nu.max(1e-9) } else { 0.0 };
        (by_continuation[m], by_continuation[m + 1]) = (rest(continuation_sum), new);
        (by_use[m], by_use[m + 1]) = (rest(use_sum), new);
    }

    /// A type's share of the class *seen*, by continuation counts.
    pub fn share_of_seen(&self, symbol: Symbol, candidates: &Candidates) -> f32 {
        let named: f32 = candidates.list().iter().map(|&s| self.continuations[s as usize]).sum();
        let c = self.continuations[symbol as usize];
        c / (self.continuations_total - named).max(c)
    }

    /// Learns one occurrence. `fresh`: the last type had not been followed by this one before.
    #[inline(always)]
    pub fn learn(&mut self, symbol: Symbol, fresh: bool) {
        let s = symbol as usize;
        let seen = self.uses[s] > 0;
        if self.unseen() > 0.0 {
            self.novelty.learn(!seen);
        }
        self.seen += f32::from(u8::from(!seen));
        self.uses[s] = self.uses[s].saturating_add(1);
        self.events += 1.0;
        if fresh || !seen {
            self.continuations[s] += 1.0;
            self.continuations_total += 1.0;
        }
        self.remember(symbol);
    }

    #[inline(always)]
    fn remember(&mut self, symbol: Symbol) {
        let known = self.recent[..self.recent_len].iter().position(|&s| s == symbol);
        let from = match known {
            Some(at) => at,
            None if self.recent_len < RECENT => {
                self.recent_len += 1;
                self.recent_len - 1
            }
            None => 0,
        };
        self.recent[from..self.recent_len].rotate_left(1);
        self.recent[self.recent_len - 1] = symbol;
    }

    pub fn save(&self, to: &mut Writer) {
        to.u8(u8::from(self.closed));
        to.len(self.uses.len());
        to.u32s(&self.uses);
        to.f32s(&self.continuations);
        to.f32(self.continuations_total);
        to.f32(self.events);
        to.u16s(&self.recent[..self.recent_len]);
        self.novelty.save(to);
    }

    pub fn load(from: &mut Reader<'_>) -> Result<Root, Error> {
        let closed = from.u8()? != 0;
        let n = from.len(TYPES_MAX, "the number of types")?;
        let mut root = Root::new(None);
        root.closed = closed;
        root.grow(n);
        from.u32s_into(&mut root.uses)?;
        from.f32s_into(&mut root.continuations)?;
        root.continuations_total = from.f32()?;
        root.events = from.f32()?;
        root.seen = root.uses.iter().filter(|&&u| u > 0).count() as f32;
        let recent = from.u16s(RECENT, "the recent types")?;
        if recent.iter().any(|&s| s as usize >= n) {
            return Err(Error::Malformed { what: "the recent types" });
        }
        root.recent[..recent.len()].copy_from_slice(&recent);
        root.recent_len = recent.len();
        root.novelty = Novelty::load(from)?;
        Ok(root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuations_and_frequencies_share_what_is_not_novel() {
        let mut root = Root::new(Some(4));
        // a a a b: a followed one state anew, b one.
        for (s, fresh) in [(0, true), (0, false), (0, false), (1, true)] {
            root.learn(s, fresh);
        }
        let mut c = Candidates::new();
        c.grow(4);
        root.nominate(&mut c);
        assert_eq!(c.list(), [1, 0], "latest first");
        c.close(root.seen(), root.unseen());
        let (mut by_continuation, mut by_use) = (Row::ZERO, Row::ZERO);
        root.rows(0.2, &c, &mut by_continuation, &mut by_use);
        for (row, expected) in [(by_continuation, [0.4, 0.4, 0.0, 0.2]), (by_use, [0.2, 0.6, 0.0, 0.2])] {
            for (i, x) in expected.into_iter().enumerate() {
                assert!((row[i] - x).abs() < 1e-6, "{:?}", &row[..4]);
            }
        }
    }

    #[test]
    fn a_closed_alphabet_that_was_seen_whole_has_no_novelty() {
        let mut root = Root::new(Some(1));
        assert!(root.novelty(None) > 0.0);
        root.learn(0, true);
        assert_eq!(root.novelty(Some(0)), 0.0);
        let mut open = Root::new(None);
        open.grow(1);
        open.learn(0, true);
        assert!(open.novelty(Some(0)) > 0.0);
    }

    #[test]
    fn recent_types_are_kept_once_each_latest_last() {
        let mut root = Root::new(Some(40));
        for s in (0..30).chain([20]) {
            root.learn(s, true);
        }
        let expected: Vec<Symbol> = (14..30).filter(|&s| s != 20).chain([20]).collect();
        assert_eq!(root.recent[..root.recent_len], expected[..]);
    }
}
