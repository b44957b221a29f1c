//! Which types one forecast is about: a few candidates by name, and two classes for all the rest.
//!
//! A [`Row`] holds one figure for each class: the candidates first, then *seen* (known types that are no
//! candidate), then *new* (types never seen). Log probabilities of the last two are those of one member,
//! so that every class is on the same footing when rows are weighted; the number of members comes back in
//! when probabilities are made.

use super::Symbol;
use super::maths::{exp, larger, ln};
use super::row::{ROW, Row, Width};

/// Most candidates of one forecast: with the two rest classes, a whole row.
pub(super) const CANDIDATES: usize = ROW - 2;

/// Marks a type that is no candidate.
const NO_PLACE: u8 = u8::MAX;
/// Score of a class that does not exist.
const IMPOSSIBLE: f32 = -1e9;
/// Smallest probability of a candidate, and of a rest class, that is told apart from zero.
const LEAST: f32 = 1e-7;
const LEAST_REST: f32 = 1e-9;

/// The candidates and their places.
#[derive(Clone, Debug)]
pub(super) struct Candidates {
    list: [Symbol; CANDIDATES],
    len: usize,
    /// By type: its place, or [`NO_PLACE`].
    places: Vec<u8>,
    /// Members of the two rest classes.
    members: [f32; 2],
    width: Width,
    /// One for every class that has members, else zero.
    alive: Row,
    /// Zero for every class that has members, else a score that no class can have.
    shut: Row,
    /// The logarithm of how many members a class has: what all have over one.
    crowd: Row,
    /// The smallest probability of each class.
    least: Row,
}

impl Candidates {
    pub fn new() -> Candidates {
        Candidates {
            list: [0; CANDIDATES],
            len: 0,
            places: Vec::new(),
            members: [0.0; 2],
            width: Width::of(2),
            alive: Row::ZERO,
            shut: Row::ZERO,
            crowd: Row::ZERO,
            least: Row::ZERO,
        }
    }

    /// Makes room for types `0..n`.
    pub fn grow(&mut self, n: usize) {
        if n > self.places.len() {
            self.places.resize(n, NO_PLACE);
        }
    }

    /// Memory, bytes.
    pub fn bytes(&self) -> usize {
        self.places.len()
    }

    /// Forgets all candidates.
    #[inline(always)]
    pub fn clear(&mut self) {
        for &s in &self.list[..self.len] {
            self.places[s as usize] = NO_PLACE;
        }
        self.len = 0;
    }

    /// Adds a type, unless it is one already or there is no room.
    #[inline(always)]
    pub fn nominate(&mut self, symbol: Symbol) {
        if self.len < CANDIDATES && self.places[symbol as usize] == NO_PLACE {
            self.places[symbol as usize] = self.len as u8;
            self.list[self.len] = symbol;
            self.len += 1;
        }
    }

    /// Whether no further nomination could change anything, when `seen` types were seen so far.
    #[inline(always)]
    pub fn is_complete(&self, seen: f32) -> bool {
        self.len == CANDIDATES || self.len as f32 >= seen
    }

    /// Called after the last nomination: how many types were seen so far, and how many were not (1 if nobody
    /// knows, 0 if there is none).
    #[inline(always)]
    pub fn close(&mut self, seen: f32, unseen: f32) {
        self.members = [(seen - self.len as f32).max(0.0), unseen];
        self.width = Width::of(self.classes());
        let m = self.len();
        self.width.fill(&mut self.alive, |i| f32::from(u8::from(i < m)));
        self.width.fill(&mut self.shut, |i| if i < m { 0.0 } else { IMPOSSIBLE });
        self.width.fill(&mut self.crowd, |_| 0.0);
        self.width.fill(&mut self.least, |_| LEAST);
        for (class, n) in (m..).zip(self.members) {
            self.least[class] = LEAST_REST;
            if n > 0.0 {
                (self.alive[class], self.shut[class], self.crowd[class]) = (1.0, 0.0, ln(n.max(1.0)));
            }
        }
    }

    /// The registers that a row of this forecast uses.
    #[inline(always)]
    pub fn width(&self) -> Width {
        self.width
    }

    /// The candidates in order of nomination.
    #[inline(always)]
    pub fn list(&self) -> &[Symbol] {
        &self.list[..self.len.min(CANDIDATES)]
    }
    /// How many; also the place of the class *seen*.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len.min(CANDIDATES)
    }
    /// The place of the class *new*.
    #[inline(always)]
    pub fn new_class(&self) -> usize {
        self.len() + 1
    }
    /// How many classes in all.
    #[inline(always)]
    pub fn classes(&self) -> usize {
        self.len() + 2
    }
    /// Members of the class *seen*.
    #[inline(always)]
    pub fn seen_members(&self) -> f32 {
        self.members[0]
    }
    /// Members of the class *new*.
    #[inline(always)]
    pub fn new_members(&self) -> f32 {
        self.members[1]
    }
    /// A type's class, given that it was seen before.
    #[inline(always)]
    pub fn place(&self, symbol: Symbol) -> usize {
        (self.places.get(symbol as usize).copied().unwrap_or(NO_PLACE) as usize).min(self.len())
    }

    /// Class probabilities to log probabilities of one member. Those of candidates below 1e-7 count as 1e-7.
    #[inline(always)]
    pub fn ln_row(&self, p: &Row, l: &mut Row) {
        let (least, crowd) = (&self.least, &self.crowd);
        self.width.fill(l, |i| ln(larger(p[i], least[i])) - crowd[i]);
    }

    /// Zero for every class without members, and behind the last.
    #[inline(always)]
    pub fn trim(&self, row: &mut Row) {
        self.width.update(row, |i, x| x * self.alive[i]);
    }

    /// Scores of one member each (any constant may be added to all) to probabilities of classes, and to log
    /// probabilities of one member each.
    #[inline(always)]
    pub fn normalise(&self, scores: &Row, p: &mut Row, l: &mut Row) {
        let (top, total) = self.weigh(|i| scores[i] + self.crowd[i], p);
        let shift = top + ln(total);
        self.width.fill(l, |i| (scores[i] - shift) * self.alive[i]);
    }

    /// The same, probabilities alone.
    #[inline(always)]
    pub fn probabilities(&self, scores: &Row, p: &mut Row) {
        self.weigh(|i| scores[i] + self.crowd[i], p);
    }

    /// Scores of whole classes to their probabilities.
    #[inline(always)]
    pub fn softmax(&self, scores: &Row, p: &mut Row) {
        self.weigh(|i| scores[i], p);
    }

    /// Fills in `exp(score)` over its sum; gives back the largest score, and the sum against it.
    #[inline(always)]
    fn weigh(&self, score: impl Fn(usize) -> f32, p: &mut Row) -> (f32, f32) {
        let w = self.width;
        let top = w.max(|i| score(i) + self.shut[i]);
        w.fill(p, |i| exp(score(i) + self.shut[i] - top) * self.alive[i]);
        let total = w.sum(|i| p[i]);
        let inverse = 1.0 / total;
        w.update(p, |_, x| x * inverse);
        (top, total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three(seen: f32, unseen: f32) -> Candidates {
        let mut c = Candidates::new();
        c.grow(10);
        [4, 2, 4, 9].iter().for_each(|&s| c.nominate(s));
        c.close(seen, unseen);
        c
    }

    #[test]
    fn each_type_has_one_class() {
        let mut c = three(7.0, 3.0);
        assert_eq!(c.list(), [4, 2, 9]);
        assert_eq!((c.place(4), c.place(9), c.place(0)), (0, 2, 3));
        assert_eq!((c.seen_members(), c.new_members()), (4.0, 3.0));
        c.clear();
        assert_eq!((c.place(4), c.len()), (0, 0));
    }

    #[test]
    fn equal_scores_give_each_member_the_same() {
        let c = three(7.0, 3.0);
        let (mut p, mut l, mut even) = (Row::ZERO, Row::ZERO, Row::ZERO);
        even.fill(0.5);
        c.normalise(&even, &mut p, &mut l);
        for (class, expected) in [0.1, 0.1, 0.1, 0.4, 0.3].into_iter().enumerate() {
            assert!((p[class] - expected).abs() < 1e-4, "{class}: {}", p[class]);
            assert!((l[class] - (0.1f32).ln()).abs() < 1e-3);
        }
        assert_eq!(p[5..8], [0.0; 3]);
        let mut back = Row::ZERO;
        c.ln_row(&p, &mut back);
        for class in 0..5 {
            assert!((back[class] - l[class]).abs() < 1e-3);
        }
    }

    #[test]
    fn classes_without_members_get_nothing() {
        let c = three(3.0, 0.0);
        let (mut p, mut l) = (Row::ZERO, Row::ZERO);
        c.normalise(&Row::ZERO, &mut p, &mut l);
        assert_eq!((p[3], p[4]), (0.0, 0.0));
        assert!((c.width().sum(|i| p[i]) - 1.0).abs() < 1e-5);
    }
}
