//! The next type of an entity.

use super::Settings;
use super::model::{Layout, Model};
use super::pool::Selector;

/// The model that follows entities: all contexts of `context.rs`, none besides.
static LAYOUT: Layout = Layout {
    extra: &[],
    order: &[5, 4, 3, 17, 16, 15, 2, 9, 14, 7, 13, 12, 8, 18, 20, 6, 21, 19, 10, 11, 1],
    pools: [
        [Selector::Always, Selector::Evidence, Selector::Bag],
        [Selector::Always, Selector::LastType, Selector::Position],
        [Selector::Always, Selector::Match, Selector::Partner],
    ],
    first_weight: 0.08,
    pool_rate: 0.028,
    regression_rate: 0.25,
};

/// A model of entities. `alphabet`: how many types there will ever be, if that is known.
pub(super) fn new(settings: &Settings, alphabet: Option<usize>) -> Model {
    Model::new(&LAYOUT, settings, alphabet)
}
