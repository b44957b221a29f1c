//! Which types one forecast is about: a few candidates by name, and two classes for all the rest.
//!
//! A [`Row`] holds one figure for each class: the candidates first, then *seen* (known types that are no
//! candidate), then *new* (types never seen). Log probabilities of the last two are those of one member,
//! so that every class is on the same footing when rows are weighted; the number of members comes back in
//! when probabilities are made.

use super::Symbol;
use super::maths::{exp, ln};

/// Most candidates of one forecast: with the two rest classes, four registers of eight floats.
pub(super) const CANDIDATES: usize = 30;
/// Figures of a row.
pub(super) const ROW: usize = CANDIDATES + 2;
/// One figure for each class; what lies behind the last class is zero.
pub(super) type Row = [f32; ROW];

/// Marks a type that is no candidate.
const NO_PLACE: u8 = u8::MAX;
/// Score of a class that does not exist.
const IMPOSSIBLE: f32 = -1e9;

/// The candidates and their places.
#[derive(Clone, Debug)]
pub(super) struct Candidates {
    list: [Symbol; CANDIDATES],
    len: usize,
    /// By type: its place, or [`NO_PLACE`].
    places: Vec<u8>,
    /// Members of the two rest classes.
    members: [f32; 2],
    ln_members: [f32; 2],
}

impl Candidates {
    pub fn new() -> Candidates {
        Candidates {
            list: [0; CANDIDATES],
            len: 0,
            places: Vec::new(),
            members: [0.0; 2],
            ln_members: [0.0; 2],
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
        self.ln_members = self.members.map(|n| ln(n.max(1.0)));
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

    /// Class probabilities to log probabilities of one member. Probabilities below 1e-7 count as 1e-7.
    #[inline(always)]
    pub fn ln_row(&self, p: &Row) -> Row {
        let mut l = [0.0; ROW];
        for i in 0..ROW {
            l[i] = ln(p[i].max(1e-7));
        }
        let m = self.len();
        for j in 0..2 {
            l[m + j] = ln(p[m + j].max(1e-9)) - self.ln_members[j];
        }
        l
    }

    /// Zero behind the last class.
    #[inline(always)]
    pub fn trim(&self, row: &mut Row) {
        for x in &mut row[self.classes()..] {
            *x = 0.0;
        }
    }

    /// Scores of one member each (any constant may be added to all) to probabilities of classes, and to log
    /// probabilities of one member each.
    #[inline(always)]
    pub fn normalise(&self, scores: &Row, p: &mut Row, l: &mut Row) {
        let m = self.len();
        let mut o = *scores;
        for j in 0..2 {
            o[m + j] = if self.members[j] > 0.0 { o[m + j] + self.ln_members[j] } else { IMPOSSIBLE };
        }
        for x in &mut o[m + 2..] {
            *x = IMPOSSIBLE;
        }
        let top = max(&o);
        for i in 0..ROW {
            o[i] -= top;
            p[i] = exp(o[i]);
        }
        self.trim(p);
        let total = sum(p);
        let (inverse, ln_total) = (1.0 / total, ln(total));
        for i in 0..ROW {
            p[i] *= inverse;
            l[i] = o[i] - ln_total;
        }
        for j in 0..2 {
            if self.members[j] > 0.0 {
                l[m + j] -= self.ln_members[j];
            } else {
                (p[m + j], l[m + j]) = (0.0, 0.0);
            }
        }
        self.trim(l);
    }
}

/// Sum of a row, in an order that vector registers like.
#[inline(always)]
pub(super) fn sum(row: &Row) -> f32 {
    let mut lanes = [0.0f32; 8];
    for chunk in row.chunks_exact(8) {
        for i in 0..8 {
            lanes[i] += chunk[i];
        }
    }
    lanes.iter().sum()
}

/// Sum of the products of two rows.
#[inline(always)]
pub(super) fn dot(a: &Row, b: &Row) -> f32 {
    let mut lanes = [0.0f32; 8];
    for c in 0..ROW / 8 {
        for i in 0..8 {
            lanes[i] += a[c * 8 + i] * b[c * 8 + i];
        }
    }
    lanes.iter().sum()
}

/// Largest figure of a row.
#[inline(always)]
pub(super) fn max(row: &Row) -> f32 {
    let mut lanes = [f32::MIN; 8];
    for chunk in row.chunks_exact(8) {
        for i in 0..8 {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    lanes.iter().fold(f32::MIN, |a, &b| if b > a { b } else { a })
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
        let (mut p, mut l) = ([0.0; ROW], [0.0; ROW]);
        c.normalise(&[0.5; ROW], &mut p, &mut l);
        for (class, expected) in [0.1, 0.1, 0.1, 0.4, 0.3].into_iter().enumerate() {
            assert!((p[class] - expected).abs() < 1e-4, "{class}: {}", p[class]);
            assert!((l[class] - (0.1f32).ln()).abs() < 1e-3);
        }
        assert_eq!(p[5..], [0.0; ROW - 5]);
        let back = c.ln_row(&p);
        for class in 0..5 {
            assert!((back[class] - l[class]).abs() < 1e-3);
        }
    }

    #[test]
    fn classes_without_members_get_nothing() {
        let c = three(3.0, 0.0);
        let (mut p, mut l) = ([0.0; ROW], [0.0; ROW]);
        c.normalise(&[0.0; ROW], &mut p, &mut l);
        assert_eq!((p[3], p[4]), (0.0, 0.0));
        assert!((sum(&p) - 1.0).abs() < 1e-5);
    }
}
