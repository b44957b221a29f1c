//! The product with exponents (1, 1, 1): what `predict/product.rs` gives with `exponents = "fixed"`, fed with
//! what a trace can tell.

use super::Follow;
use super::back_off::BackOff;
use crate::predict::product::{Exponents, Factors, Product as Formula};

/// A first-order history inside the product.
pub(super) struct Product {
    history: BackOff,
    formula: Formula,
    factors: Vec<Factors>,
}

impl Product {
    pub fn new(types: usize) -> Product {
        let uniform = Factors { affinity: 1.0 / types.max(1) as f64, heat: 0.0, history: 0.0 };
        Product {
            history: BackOff::dirichlet(1),
            formula: Formula::new(Exponents::Fixed),
            factors: vec![uniform; types],
        }
    }
}

impl Follow for Product {
    fn predict(&mut self, history: &[u16], p: &mut [f64]) {
        self.history.predict(history, p);
        for (f, &x) in self.factors.iter_mut().zip(p.iter()) {
            f.history = x;
        }
        self.formula.predict(&self.factors, p);
    }

    fn learn(&mut self, history: &[u16], came: u16) {
        self.formula.learn(&self.factors, came as usize);
        self.history.learn(history, came);
    }

    fn bytes(&self) -> usize {
        self.history.bytes() + self.factors.len() * size_of::<Factors>()
    }
}
