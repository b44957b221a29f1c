//! The models that this folder puts together: a worker's own, and that of pairs.

use crate::predict::types::Settings;
use crate::predict::types::asking::{OWN_CONTEXTS, PAIR_CONTEXTS};
use crate::predict::types::model::{Layout, Model};
use crate::predict::types::pool::Selector;

/// A worker's own model: all contexts of `context.rs` over its history, and what it last touched.
pub(super) static OWN: Layout = Layout {
    extra: &OWN_CONTEXTS,
    order: &[
        5, 4, 3, 25, 23, 24, 17, 16, 15, 2, 9, 14, 7, 13, 12, 8, 22, 26, 27, 28, 29, 18, 20, 6, 21, 19, 10,
        11, 1,
    ],
    pools: [
        [Selector::Always, Selector::Evidence, Selector::Extra(0)],
        [Selector::Always, Selector::LastType, Selector::Extra(1)],
        [Selector::Always, Selector::Match, Selector::Extra(2)],
    ],
    first_weight: 0.06,
    pool_rate: 0.02,
    regression_rate: 0.15,
};

/// The pair model: all contexts of `context.rs` over an entity's history, and who asks.
static PAIR: Layout = Layout {
    extra: &PAIR_CONTEXTS,
    order: OWN.order,
    pools: [
        [Selector::Always, Selector::Evidence, Selector::Extra(0)],
        [Selector::Always, Selector::LastType, Selector::Position],
        [Selector::Always, Selector::Match, Selector::Extra(1)],
    ],
    first_weight: 0.06,
    pool_rate: 0.03,
    regression_rate: 0.15,
};

/// A pair model.
pub(in crate::predict::types) fn pair_model(settings: &Settings, alphabet: Option<usize>) -> Model {
    Model::new(&PAIR, settings, alphabet)
}
