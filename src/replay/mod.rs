//! A trace and a virtual clock drive the same cores as the daemon does.

pub mod baseline;
mod link;
pub mod objects;
pub mod online;
mod reach;
pub mod run;
pub mod summary;
pub mod synthetic;
pub mod trace;
pub mod types;
