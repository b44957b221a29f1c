//! Is a proposal worth its bytes?
//!
//! Stage an object if its probability p reaches a threshold τ, and p · seconds saved ≥ (1 − p) · seconds of
//! bandwidth wasted. τ = min(.7, .33 + .8 · w), where w is the share of accessed bytes that staging has wasted
//! lately: where guesses turn out wrong, only better ones are made. (Constants measured on the development
//! traces: a point of precision costs about half a point of misses removed.)

use super::snapshot::{Bad, Reader, Writer};

/// Threshold where nothing has been wasted.
const TAU: f64 = 0.33;
/// Threshold for each share of wasted bytes.
const SLOPE: f64 = 0.8;
/// The highest threshold.
const TAU_MAX: f64 = 0.7;
/// Accesses of mean size that the account starts with, so that a first mistake is not everything.
const HEAD_START: f64 = 256.0;
/// Every so many accesses, this share of the account is forgotten.
const FORGET_EVERY: u32 = 64;
const FORGET: f64 = 1.0 / 32.0;

/// What a transfer from the objects' source costs and saves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SourceSpeed {
    /// Time to the first byte, seconds.
    pub latency_s: f64,
    /// Bytes a second.
    pub bandwidth_per_s: f64,
}

impl Default for SourceSpeed {
    /// A near object store: 20 ms, 1 GB/s.
    fn default() -> SourceSpeed {
        SourceSpeed { latency_s: 0.02, bandwidth_per_s: 1e9 }
    }
}

/// Decaying sums of what was accessed and what was staged in vain, and the threshold that follows from them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    wasted_bytes: f64,
    accessed_bytes: f64,
    tau: f64,
}

impl Account {
    /// Nothing accessed, nothing wasted.
    pub(super) fn new() -> Account {
        Account { wasted_bytes: 0.0, accessed_bytes: 0.0, tau: TAU }
    }
    /// A task asked for so many bytes.
    pub(super) fn accessed(&mut self, bytes: u64) {
        self.accessed_bytes += bytes as f64;
    }
    /// So many bytes were staged in vain.
    pub(super) fn wasted(&mut self, bytes: u64) {
        self.wasted_bytes += bytes as f64;
    }
    /// Sets the threshold; `now` counts accesses.
    pub(super) fn settle(&mut self, mean_bytes: f64, now: u32) {
        let share = self.wasted_bytes / (self.accessed_bytes + HEAD_START * mean_bytes);
        self.tau = (TAU + SLOPE * share).min(TAU_MAX);
        if now.is_multiple_of(FORGET_EVERY) {
            self.wasted_bytes *= 1.0 - FORGET;
            self.accessed_bytes *= 1.0 - FORGET;
        }
    }
    /// The probability from which an object of this size is worth staging.
    pub(super) fn break_even(&self, bytes: u64, speed: SourceSpeed) -> f64 {
        let transfer_s = bytes as f64 / speed.bandwidth_per_s;
        let saved_s = speed.latency_s + transfer_s;
        // p · saved = (1 − p) · transfer.
        self.tau.max(transfer_s / (saved_s + transfer_s))
    }
    /// Writes it.
    pub(super) fn write(&self, to: &mut Writer) {
        to.f64(self.wasted_bytes);
        to.f64(self.accessed_bytes);
        to.f64(self.tau);
    }
    /// Reads what [`Account::write`] wrote.
    pub(super) fn read(&mut self, from: &mut Reader<'_>) -> Result<(), Bad> {
        *self = Account { wasted_bytes: from.f64()?, accessed_bytes: from.f64()?, tau: from.f64()? };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn break_even_rises_with_waste_and_is_forgiven() {
        let mut account = Account::new();
        let speed = SourceSpeed::default();
        account.settle(1000.0, 1);
        assert!((account.break_even(1000, speed) - 0.33).abs() < 1e-9);
        account.wasted(50_000);
        account.settle(1000.0, 1);
        assert!((account.break_even(1000, speed) - (0.33 + 0.8 * 50.0 / 256.0)).abs() < 1e-9);
        (1..200).for_each(|i| account.settle(1000.0, i * FORGET_EVERY));
        assert!(account.break_even(1000, speed) < 0.34);
    }

    #[test]
    fn large_objects_need_even_odds() {
        let account = Account::new();
        let p = account.break_even(100 << 30, SourceSpeed::default());
        assert!((0.49..0.5).contains(&p), "{p}");
    }
}
