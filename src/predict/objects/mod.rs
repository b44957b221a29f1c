//! Objects: what comes next, and is the proposal to be trusted?
//!
//! Read in this order: `shape` and `catalogue` (names as numbers), the four sources of evidence `associate`, `stream`,
//! `runs`, `neighbours`, then `calibrate` and `regress`
//! (evidence to probability), `shadow` (candidates until their outcome),
//! `worth` (which probability is enough) and `core`, which puts them together. `pool` and the actor carry that into
//! a running daemon.

pub mod actor;
mod associate;
mod calibrate;
mod catalogue;
mod core;
mod hash;
mod neighbours;
mod per_shape;
mod pool;
mod propose;
mod regress;
mod runs;
mod shadow;
mod shape;
mod snapshot;
mod stream;
mod worth;

pub use self::core::{Access, Answer, ObjectPredictor, PoolFacts, Proposal};
pub use pool::PoolHistory;
pub use shape::shape_of;
pub use snapshot::Bad;
pub use worth::SourceSpeed;
