//! What came lately: counts that fade, beside those that last.
//!
//! A count table says how often; when habits change in bursts (somebody works through a batch, a user asks
//! for one thing again and again) the last few tasks say more. Here every count fades by half with each
//! half-life, and what is left is weighed against the context's parent:
//!
//! `p(y) = (f(y) + k · p_parent(y)) / (Σ f + k)`, k = ½.
//!
//! A fact about when an *entity* last did something is no key here: that would tell the time of the task that
//! is foretold.

use super::candidates::Candidates;
use super::context::{LAST, ROOT};
use super::history::History;
use super::maths::{exp, hash};
use super::row::Row;
use super::snapshot::{Reader, Writer};
use super::{Error, Symbol};

/// k
const PRIOR_WEIGHT: f32 = 0.5;
/// Symbols of one node; the faintest makes room.
const SYMBOLS: usize = 8;
/// Classes of how much is left.
const EVIDENCE: usize = 14;

/// When counts fade.
#[derive(Clone, Copy, Debug)]
enum Fade {
    /// Half with so many tasks of the whole host.
    WithAll(f32),
    /// Half with so many of the context's own.
    WithOwn(f32),
}

/// One kind of fading context.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    /// What people call it.
    pub name: &'static str,
    /// The context it is weighed against.
    pub parent: usize,
    fade: Fade,
    /// Counts only types that differ from the one before.
    changes_only: bool,
}

/// Kinds of fading contexts.
pub(super) const KINDS: usize = 5;
/// The kinds, in the order of [`keys`].
pub(super) const FADING: [Kind; KINDS] = [
    Kind { name: "changes lately", parent: ROOT, fade: Fade::WithOwn(1.0), changes_only: true },
    Kind { name: "last 1, lately", parent: LAST, fade: Fade::WithAll(20.0), changes_only: false },
    Kind { name: "last 2, partner, lately", parent: LAST, fade: Fade::WithAll(20.0), changes_only: false },
    Kind { name: "partner, lately", parent: LAST, fade: Fade::WithAll(6.0), changes_only: false },
    Kind { name: "partner, last time", parent: LAST, fade: Fade::WithOwn(1.0), changes_only: false },
];

/// The key of each kind.
#[inline(always)]
pub(super) fn keys(h: &History) -> [u64; KINDS] {
    let (x1, w) = (h.lag(1), h.partner);
    [hash(&[70]), hash(&[x1, 71]), hash(&[x1, h.lag(2), w, 72]), hash(&[w, 73]), hash(&[w, 74])]
}

/// Faded counts of what followed one context. One cache line.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Default)]
struct Node {
    tag: u32,
    /// The number of the lesson at which the counts were right.
    at: u32,
    len: u8,
    symbols: [Symbol; SYMBOLS],
    counts: [f32; SYMBOLS],
}

impl Node {
    #[inline(always)]
    fn len(&self) -> usize {
        (self.len as usize).min(SYMBOLS)
    }

    /// What a count of this node is worth at lesson `now`.
    #[inline(always)]
    fn worth(&self, fade: Fade, now: u32) -> f32 {
        match fade {
            Fade::WithAll(half_life) => half_each(half_life, now.wrapping_sub(self.at)),
            Fade::WithOwn(_) => 1.0,
        }
    }

    fn learn(&mut self, symbol: Symbol, fade: Fade, now: u32) {
        let worth = match fade {
            Fade::WithAll(_) => self.worth(fade, now),
            Fade::WithOwn(half_life) => half_each(half_life, 1),
        };
        self.at = now;
        let n = self.len();
        self.counts[..n].iter_mut().for_each(|c| *c *= worth);
        let at = match self.symbols[..n].iter().position(|&s| s == symbol) {
            Some(at) => at,
            None if n < SYMBOLS => {
                self.len += 1;
                (self.symbols[n], self.counts[n]) = (symbol, 0.0);
                n
            }
            None => {
                let faintest =
                    (0..SYMBOLS).fold(0, |b, i| if self.counts[i] < self.counts[b] { i } else { b });
                (self.symbols[faintest], self.counts[faintest]) = (symbol, 0.0);
                faintest
            }
        };
        self.counts[at] += 1.0;
    }
}

/// ½ to the power of `lessons` per half-life.
#[inline(always)]
fn half_each(half_life: f32, lessons: u32) -> f32 {
    exp(-std::f32::consts::LN_2 * lessons as f32 / half_life)
}

/// A direct-mapped table of all kinds; a newer context takes the place of an older one.
#[derive(Clone, Debug)]
pub(super) struct Fading {
    nodes: Vec<Node>,
    /// The number of lessons so far.
    now: u32,
}

impl Fading {
    /// 2^bits contexts of 64 bytes.
    pub fn new(bits: u8) -> Fading {
        Fading { nodes: vec![Node::default(); 1 << bits], now: 0 }
    }

    /// Memory, bytes.
    pub fn bytes(&self) -> usize {
        self.nodes.len() * size_of::<Node>()
    }

    #[inline(always)]
    fn place(&self, key: u64) -> (usize, u32) {
        (key as usize & (self.nodes.len() - 1), (key >> 32) as u32 | 1)
    }

    /// What the context `key` of a kind says, if it is known: the counts' part of p, into `row`. Gives back the
    /// parent's share, and the class of how much is left.
    #[inline(always)]
    pub fn opinion(
        &self,
        kind: &Kind,
        key: u64,
        candidates: &Candidates,
        row: &mut Row,
    ) -> Option<(f32, usize)> {
        let (at, tag) = self.place(key);
        let node = &self.nodes[at];
        if node.tag != tag {
            return None;
        }
        let n = node.len();
        let worth = node.worth(kind.fade, self.now);
        let left = worth * node.counts[..n].iter().sum::<f32>();
        let scale = 1.0 / (left + PRIOR_WEIGHT);
        candidates.width().fill(row, |_| 0.0);
        for (&symbol, &count) in node.symbols[..n].iter().zip(&node.counts[..n]) {
            row[candidates.place(symbol)] += count * worth * scale;
        }
        Some((PRIOR_WEIGHT * scale, ((left * 4.0) as usize).min(EVIDENCE - 1)))
    }

    /// `symbol` came after the contexts `keys`; `last` is the type before it.
    #[inline(always)]
    pub fn learn(&mut self, keys: &[u64; KINDS], symbol: Symbol, last: Option<Symbol>) {
        for (kind, &key) in FADING.iter().zip(keys) {
            if kind.changes_only && last == Some(symbol) {
                continue;
            }
            let (at, tag) = self.place(key);
            let node = &mut self.nodes[at];
            if node.tag != tag {
                *node = Node { tag, at: self.now, ..Node::default() };
            }
            node.learn(symbol, kind.fade, self.now);
        }
        self.now = self.now.wrapping_add(1);
    }

    pub fn save(&self, to: &mut Writer) {
        to.u32(self.now);
        let tags: Vec<u32> = self.nodes.iter().map(|n| n.tag).collect();
        to.u32s(&tags);
        for node in self.nodes.iter().filter(|n| n.tag != 0) {
            to.u32(node.at);
            to.u8(node.len);
            to.u16s_fixed(&node.symbols[..node.len()]);
            node.counts[..node.len()].iter().for_each(|&c| to.f32(c));
        }
    }

    /// `symbols`: how many there are.
    pub fn load(&mut self, from: &mut Reader<'_>, symbols: usize) -> Result<(), Error> {
        self.now = from.u32()?;
        let mut tags = vec![0; self.nodes.len()];
        from.u32s_into(&mut tags)?;
        for (node, tag) in self.nodes.iter_mut().zip(tags) {
            *node = Node { tag, ..Node::default() };
            if tag == 0 {
                continue;
            }
            (node.at, node.len) = (from.u32()?, from.u8()?);
            let n = node.len as usize;
            if n > SYMBOLS {
                return Err(Error::Malformed { what: "a fading context" });
            }
            from.u16s_fixed(&mut node.symbols[..n])?;
            for c in &mut node.counts[..n] {
                *c = from.f32()?;
            }
            let fine = node.symbols[..n].iter().all(|&s| (s as usize) < symbols)
                && node.counts[..n].iter().all(|&c| c >= 0.0);
            if !fine {
                return Err(Error::Malformed { what: "a fading context" });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates() -> Candidates {
        let mut c = Candidates::new();
        c.grow(10);
        [1, 2].iter().for_each(|&s| c.nominate(s));
        c.close(2.0, 0.0);
        c
    }

    /// p, against a parent to whom both candidates are alike.
    fn p(f: &Fading, kind: usize, key: u64, c: &Candidates) -> Option<[f32; 3]> {
        let mut row = Row::ZERO;
        let (back, evidence) = f.opinion(&FADING[kind], key, c, &mut row)?;
        assert!(evidence < EVIDENCE);
        Some([row[0] + 0.5 * back, row[1] + 0.5 * back, row[2]])
    }

    #[test]
    fn counts_fade_with_all_lessons_or_with_their_own() {
        let mut f = Fading::new(8);
        let mut other = keys(&History::new(1));
        f.learn(&other, 1, None);
        let known = other;
        // Twenty more lessons elsewhere: a half-life of the kind at place 1, none of the kind at place 4.
        other = [9, 10, 11, 12, 13].map(|x| hash(&[x]));
        for _ in 0..20 {
            f.learn(&other, 2, None);
        }
        let c = candidates();
        let after = |kind: usize| p(&f, kind, known[kind], &c).unwrap()[0];
        // One lesson counts for itself and is then followed by twenty: (½ + ½ · ½) / (½ + ½) at the first,
        // (1 + ½ · ½) / (1 + ½) at the other; the clock moved once before the twenty.
        let half = half_each(20.0, 21);
        assert!((after(1) - (half + 0.25) / (half + 0.5)).abs() < 1e-4, "{}", after(1));
        assert!((after(4) - 1.25 / 1.5).abs() < 1e-4, "{}", after(4));
    }

    #[test]
    fn changes_leave_repeats_out() {
        let mut f = Fading::new(8);
        let k = keys(&History::new(1));
        f.learn(&k, 1, None);
        f.learn(&k, 2, Some(2));
        let c = candidates();
        let p = p(&f, 0, k[0], &c).unwrap();
        assert!((p[1] - 0.25 / 1.5).abs() < 1e-4, "{p:?}");
    }

    #[test]
    fn opinions_are_distributions_whatever_came() {
        let mut f = Fading::new(4);
        let mut rng = fastrand::Rng::with_seed(9);
        let c = candidates();
        for _ in 0..5000 {
            let k = std::array::from_fn(|i| hash(&[i as u64, rng.u64(..6)]));
            f.learn(&k, rng.u16(..10), Some(rng.u16(..10)));
            for (kind, &key) in k.iter().enumerate() {
                if let Some(p) = p(&f, kind, key, &c) {
                    assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-3);
                }
            }
        }
    }
}
