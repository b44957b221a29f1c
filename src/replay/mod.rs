//! A trace and a virtual clock drive the same cores as the daemon does.

pub mod baseline;
mod link;
pub mod objects;
pub mod online;
mod reach;
pub mod summary;
pub mod trace;
pub mod types;
