//! Do forecasts come true? A reliability table: of what was said with probability .8, did .8 happen?

use serde::{Deserialize, Serialize};

/// Bins of stated probability, of equal width.
pub const BINS: usize = 10;

/// Statements whose probability lay in one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// How many, after forgetting.
    pub n: f64,
    /// Sum of their stated probabilities.
    pub stated: f64,
    /// How many came true.
    pub hits: f64,
}

impl Bin {
    /// Mean stated probability and share that came true; nothing when empty.
    pub fn rates(&self) -> Option<(f64, f64)> {
        (self.n > 0.0).then(|| (self.stated / self.n, self.hits / self.n))
    }
}

/// The table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    bins: [Bin; BINS],
    /// Older statements fade so that about this many count; nothing: all count the same for ever.
    window: Option<f64>,
}

impl Calibration {
    /// Of all statements ever.
    pub fn of_all() -> Calibration {
        Calibration { bins: [Bin::default(); BINS], window: None }
    }

    /// Of about the last `n` statements, at least one: each fades by 1 − 1/n with every later one.
    pub fn of_last(n: f64) -> Calibration {
        Calibration { bins: [Bin::default(); BINS], window: Some(n.max(1.0)) }
    }

    /// A statement with probability `stated` in [0, 1] did or did not come true.
    pub fn observe(&mut self, stated: f64, hit: bool) {
        if let Some(n) = self.window {
            let keep = 1.0 - 1.0 / n;
            for b in &mut self.bins {
                *b = Bin { n: b.n * keep, stated: b.stated * keep, hits: b.hits * keep };
            }
        }
        let bin = &mut self.bins[((stated * BINS as f64) as usize).min(BINS - 1)];
        bin.n += 1.0;
        bin.stated += stated;
        bin.hits += f64::from(u8::from(hit));
    }

    /// The bins: `bins[i]` holds stated probabilities from i/10 to (i + 1)/10.
    pub fn bins(&self) -> &[Bin; BINS] {
        &self.bins
    }

    /// Expected calibration error: mean distance between stated and true rate, each bin by its share (Naeini,
    /// Cooper and Hauskrecht 2015). Zero when nothing was stated.
    pub fn ece(&self) -> f64 {
        let n: f64 = self.bins.iter().map(|b| b.n).sum();
        if n > 0.0 { self.bins.iter().map(|b| (b.stated - b.hits).abs()).sum::<f64>() / n } else { 0.0 }
    }

    /// From bins kept in a snapshot; nothing if a figure makes no sense.
    pub fn from_bins(bins: [Bin; BINS], window: Option<f64>) -> Option<Calibration> {
        let fine = |x: f64| x.is_finite() && x >= 0.0;
        bins.iter()
            .all(|b| fine(b.n) && fine(b.stated) && fine(b.hits))
            .then_some(Calibration { bins, window })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_is_the_hand_computed_one() {
        let mut c = Calibration::of_all();
        assert_eq!(c.ece(), 0.0);
        for hit in [true, true, true, false] {
            c.observe(0.85, hit);
        }
        c.observe(0.15, false);
        // 4 of 5: |.85 − .75|, 1 of 5: |.15 − 0|
        assert!((c.ece() - (0.8 * 0.10 + 0.2 * 0.15)).abs() < 1e-12);
        let (stated, hits) = c.bins()[8].rates().unwrap();
        assert!((stated - 0.85).abs() < 1e-12 && hits == 0.75);
        assert_eq!(c.bins()[3].rates(), None);
    }

    #[test]
    fn certain_statements_fall_into_the_last_bin() {
        let mut c = Calibration::of_all();
        c.observe(1.0, true);
        assert_eq!((c.bins()[9].n, c.ece()), (1.0, 0.0));
    }

    #[test]
    fn old_statements_fade() {
        let mut c = Calibration::of_last(100.0);
        for _ in 0..1000 {
            c.observe(0.95, false);
        }
        assert!(c.ece() > 0.9);
        for _ in 0..1000 {
            c.observe(0.95, true);
        }
        assert!((c.ece() - 0.05).abs() < 0.01);
        assert!((c.bins().iter().map(|b| b.n).sum::<f64>() - 100.0).abs() < 0.1);
    }
}
