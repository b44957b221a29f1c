//! The lesson of one task: for everything that spoke in the forecast in hand.

use super::Model;
use crate::predict::types::Symbol;
use crate::predict::types::context::{BASE, CONTEXTS, LAST, MOST};

impl Model {
    /// `symbol` came: a lesson for everything that spoke in the forecast in hand.
    pub fn learn(&mut self, symbol: Symbol) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as in `predict`.
            unsafe { self.learn_wide(symbol) };
            return;
        }
        self.learn_any(symbol);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn learn_wide(&mut self, symbol: Symbol) {
        self.learn_any(symbol);
    }

    #[inline(always)]
    fn learn_any(&mut self, symbol: Symbol) {
        let hand = &mut self.hand;
        let seen = self.root.uses(symbol) > 0;
        let came = if seen { hand.candidates.place(symbol) } else { hand.candidates.new_class() };
        self.pools.learn(&hand.situation, &hand.candidates, came);
        if hand.candidates.len() > 0 {
            self.by_last_type.learn(came == hand.top);
            self.by_position.learn(came == hand.top);
        }
        let features = hand.features.list();
        self.sparse.learn(features, &hand.lanes, &hand.sparse_p, came, &mut hand.blocks);
        self.residual.learn(&hand.residual_features, &hand.lanes, &hand.mixed, came, &mut hand.blocks);
        self.standing.learn(&hand.mixed, came);
        self.fading.learn(&hand.fading_keys, symbol, hand.last_type);
        if came >= hand.candidates.len() {
            self.sparse.learn_unnamed(features, symbol);
        }
        let fresh = self.learn_counts(symbol);
        self.root.learn(symbol, fresh);
    }

    /// Counts in every context that is there and not shadowed. True when the last type had not been followed
    /// by this one before.
    #[inline(always)]
    fn learn_counts(&mut self, symbol: Symbol) -> bool {
        let mut fresh = [false; MOST];
        for &k in self.layout.order {
            let k = k as usize;
            if self.hand.keys[k] == 0 {
                // Switched off: what it shadows must learn on its own.
                fresh[k] = true;
                continue;
            }
            if k < BASE && CONTEXTS[k].counts_new_to.is_some_and(|by| !fresh[by]) {
                continue;
            }
            fresh[k] = self.table.learn(self.hand.places[k], symbol);
        }
        fresh[LAST]
    }
}
