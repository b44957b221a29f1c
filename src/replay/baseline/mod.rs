//! Simple models that a forecast must beat, in the same protocol and on the same run.
//!
//! They know the alphabet, keep exact counts in unbounded memory and forget nothing. Each follows the types
//! of an entity; in the per-worker protocol, those of a worker.

mod back_off;
pub mod mithril;
mod product;

use crate::flow::Map;
use back_off::BackOff;
use product::Product;
use serde::{Deserialize, Serialize};

/// Which simple model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Baseline {
    /// How often each type occurred, smoothed by one uniform observation.
    Frequency,
    /// What followed the last type, smoothed by one observation of the frequencies.
    Markov1,
    /// Interpolated Kneser-Ney over the last five types, discount .7.
    Kn5,
    /// The product of affinity, coolness and first-order history with exponents (1, 1, 1), where affinity is
    /// uniform and heat unknown: traces tell neither.
    Product,
}

/// What the measurement asks of a model that follows one kind of history.
pub(crate) trait Follow {
    /// The distribution over the whole alphabet after a history, latest type last.
    fn predict(&mut self, history: &[u16], p: &mut [f64]);
    /// `came` followed `history`.
    fn learn(&mut self, history: &[u16], came: u16);
    /// Memory, bytes, roughly.
    fn bytes(&self) -> usize;
}

impl Baseline {
    /// All, with their names.
    pub const ALL: [(&'static str, Baseline); 4] = [
        ("frequency", Baseline::Frequency),
        ("markov1", Baseline::Markov1),
        ("kn5", Baseline::Kn5),
        ("product", Baseline::Product),
    ];

    /// A fresh model for an alphabet of `types`.
    pub(crate) fn model(self, types: usize) -> Box<dyn Follow> {
        match self {
            Baseline::Frequency => Box::new(BackOff::dirichlet(0)),
            Baseline::Markov1 => Box::new(BackOff::dirichlet(1)),
            Baseline::Kn5 => Box::new(BackOff::kneser_ney(5)),
            Baseline::Product => Box::new(Product::new(types)),
        }
    }
}

impl std::str::FromStr for Baseline {
    type Err = String;
    fn from_str(name: &str) -> Result<Baseline, String> {
        let found = Baseline::ALL.iter().find(|(n, _)| *n == name);
        found.map(|(_, b)| *b).ok_or_else(|| {
            let names: Vec<&str> = Baseline::ALL.iter().map(|(n, _)| *n).collect();
            format!("there is no baseline {name:?}; known: {}", names.join(", "))
        })
    }
}

/// Histories of types by entity or worker, each bounded to what the models look at.
#[derive(Default)]
pub(crate) struct Histories {
    of: Map<u32, Vec<u16>>,
}

impl Histories {
    /// Types kept of each.
    const KEPT: usize = 8;

    /// The last types, latest last.
    pub fn get(&self, who: u32) -> &[u16] {
        self.of.get(&who).map_or(&[], Vec::as_slice)
    }
    /// One more.
    pub fn push(&mut self, who: u32, came: u16) {
        let h = self.of.entry(who).or_default();
        if h.len() == Histories::KEPT {
            h.remove(0);
        }
        h.push(came);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_baseline_is_a_distribution_that_learns() {
        for (name, baseline) in Baseline::ALL {
            let parsed: Baseline = name.parse().unwrap();
            assert_eq!(parsed, baseline);
            let mut model = baseline.model(5);
            let mut rng = fastrand::Rng::with_seed(7);
            let (mut history, mut p) = (vec![], vec![0.0; 5]);
            for i in 0..500 {
                model.predict(&history, &mut p);
                assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{name} at {i}: {p:?}");
                assert!(p.iter().all(|&x| x > 0.0), "{name}: {p:?}");
                let came = if rng.u8(..4) == 0 { rng.u16(..5) } else { i % 3 };
                model.learn(&history, came);
                history.push(came);
            }
            model.predict(&history, &mut p);
            assert!(p[..3].iter().sum::<f64>() > 0.8, "{name}: {p:?}");
        }
        assert!("moon".parse::<Baseline>().unwrap_err().contains("known: frequency, markov1"));
    }
}
