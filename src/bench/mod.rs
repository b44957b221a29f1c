//! `forestage bench`: what the daemon costs, measured over its real socket, beside what the machine could do.
//!
//! - [`queue`]: submit, lease and complete, in batches, by several clients at once.
//! - [`spawn`]: tasks that do nothing, finished by real children.
//! - [`fill`]: memory and disk with many tasks queued, and how long a start takes then.
//! - [`floor`]: the same bytes in the same groups as a bare preallocated log with `fdatasync`; a bare `posix_spawn`.
//!
//! The daemon under test is this same binary with everything on, in a folder of its own; or one that runs already.
//! Rounds alternate, so that a neighbour's noise falls on both sides. Nothing here is known to the daemon.

mod client;
mod daemon;
pub mod fill;
pub mod floor;
pub mod queue;
pub mod spawn;

pub use daemon::Durability;
use std::time::Instant;

/// The time on a stop watch.
#[allow(clippy::disallowed_methods, reason = "a benchmark times the machine, no decision depends on it")]
fn now() -> Instant {
    Instant::now()
}

/// The middle one, and the 99th percentile.
fn quantiles(mut us: Vec<f64>) -> (f64, f64) {
    us.sort_by(f64::total_cmp);
    let at = |q: f64| us.get((q * us.len() as f64) as usize).copied().unwrap_or(0.0);
    (at(0.5), at(0.99))
}
