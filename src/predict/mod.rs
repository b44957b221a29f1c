//! What comes next: types, objects, when.
//!
//! - [`types`]: the next task type of an entity, a worker, the host (an online Bayesian mixture).
//! - [`arrival`] and [`lookahead`]: which tasks nobody has submitted yet are expected, and when.
//! - [`objects`]: the next objects, learned from accesses alone.
//! - [`product`]: affinity × (1 − heat) × history, the specification's formula, with exponents.
//! - [`calibration`]: do forecasts come true.

pub mod actor;
pub mod arrival;
pub mod calibration;
mod core;
pub mod lookahead;
pub mod objects;
pub mod product;
pub mod types;

pub use self::core::{Explained, Predict, Settings, Subject};
