//! A distribution over types that is given to a model from outside, as one more expert.

use super::Symbol;

/// Probabilities of named types, and of the two rests. Reused from forecast to forecast.
#[derive(Clone, Debug, Default)]
pub(super) struct Spread {
    /// By type; zero for those not in `named`.
    p: Vec<f32>,
    named: Vec<Symbol>,
    /// All other types seen before.
    pub rest: f32,
    /// Types never seen.
    pub new: f32,
}

impl Spread {
    /// Makes room for types `0..n`.
    pub fn grow(&mut self, n: usize) {
        if n > self.p.len() {
            self.p.resize(n, 0.0);
            self.named.reserve(n - self.named.len());
        }
    }

    /// Memory, bytes.
    pub fn bytes(&self) -> usize {
        self.p.capacity() * 4 + self.named.capacity() * 2
    }

    /// Forgets everything.
    #[inline]
    pub fn clear(&mut self) {
        for &s in &self.named {
            self.p[s as usize] = 0.0;
        }
        self.named.clear();
        (self.rest, self.new) = (0.0, 0.0);
    }

    /// Adds to a type's probability.
    #[inline]
    pub fn add(&mut self, symbol: Symbol, p: f32) {
        let x = &mut self.p[symbol as usize];
        if *x == 0.0 {
            self.named.push(symbol);
        }
        *x += p.max(1e-12);
    }

    /// A named type's probability; zero for all others.
    #[inline]
    pub fn p(&self, symbol: Symbol) -> f32 {
        self.p[symbol as usize]
    }

    /// The named types; by falling probability after [`Spread::sort`].
    #[inline]
    pub fn named(&self) -> &[Symbol] {
        &self.named
    }

    /// Orders the named types by falling probability, equals by number.
    pub fn sort(&mut self) {
        let p = &self.p;
        self.named.sort_unstable_by(|&a, &b| p[b as usize].total_cmp(&p[a as usize]).then(a.cmp(&b)));
    }

    /// Probability of all named types together.
    #[inline]
    pub fn named_total(&self) -> f32 {
        self.named.iter().map(|&s| self.p[s as usize]).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_sorts_and_clears() {
        let mut s = Spread::default();
        s.grow(5);
        for (symbol, p) in [(3, 0.2), (1, 0.3), (3, 0.2)] {
            s.add(symbol, p);
        }
        s.sort();
        assert_eq!(s.named(), [3, 1]);
        assert!((s.p(3) - 0.4).abs() < 1e-6 && s.p(0) == 0.0 && (s.named_total() - 0.7).abs() < 1e-6);
        s.clear();
        assert!(s.named().is_empty() && s.p(3) == 0.0);
    }
}
