//! The daemon: wiring, start, shutdown, and the only place that sees all rooms.

pub mod backend;
mod crew;
mod diary;
mod keep;
mod kept;
mod lock;
mod log;
mod record;
mod serve;
mod setup;
mod upkeep;
mod wiring;

pub use lock::{Lock, LockError};
pub use serve::{Overrides, serve};
