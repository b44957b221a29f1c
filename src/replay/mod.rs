//! A trace and a virtual clock drive the same cores as the daemon does.

pub mod baseline;
mod link;
pub mod objects;
mod reach;
pub mod synthetic;
pub mod trace;
pub mod types;
