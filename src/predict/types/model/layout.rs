//! What differs between the models of entities, of pairs and of workers.

use crate::predict::types::context::{Context, EXTRA};
use crate::predict::types::pool::Selector;
use crate::predict::types::spread::Spread;

/// What kind of history a model follows: the parts that differ between an entity's, a worker's and a pair's.
#[derive(Debug)]
pub(in crate::predict::types) struct Layout {
    /// Contexts given from outside, numbered from [`BASE`] on.
    pub extra: &'static [Context],
    /// All contexts but the root, the most specific first: the order in which they name candidates, and in
    /// which counts are learned.
    pub order: &'static [u8],
    /// What selects the weights of the three pools.
    pub pools: [[Selector; 3]; 3],
    /// Where the weight of an ordinary context starts.
    pub first_weight: f32,
    /// Step of the pools.
    pub pool_rate: f32,
    /// Step of the sparse regression.
    pub regression_rate: f32,
}

/// What the caller adds to a history for one forecast.
#[derive(Clone, Copy, Debug)]
pub(in crate::predict::types) struct Extra<'a> {
    /// Hashes of the extra contexts; zero for absent.
    pub contexts: [u64; EXTRA],
    /// Values of [`Selector::Extra`].
    pub selectors: [usize; 3],
    /// An expert from outside.
    pub given: Option<&'a Spread>,
}

impl Extra<'_> {
    /// Nothing to add.
    pub const NONE: Extra<'static> = Extra { contexts: [0; EXTRA], selectors: [0; 3], given: None };
}
