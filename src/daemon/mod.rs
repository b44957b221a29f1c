//! The daemon: wiring, start, shutdown, and the only place that sees all rooms.

pub mod backend;
mod crew;
pub(crate) mod diary;
#[cfg(test)]
mod heat_tests;
mod keep;
mod kept;
mod lock;
mod log;
mod played;
mod record;
mod serve;
mod setup;
mod upkeep;
pub(crate) mod wiring;

pub use lock::{Lock, LockError};
pub use serve::{Overrides, serve};
