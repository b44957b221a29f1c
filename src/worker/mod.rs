//! How a task is run, what it cost, and how good the worker is at it.
//!
//! - Pure: [`moments`] → [`profile`] (what a worker learned) → [`host`] (all workers together, and what to
//!   expect of one in their light) → [`affinity`].
//! - Running a child: [`run`] is the daemon's side, [`helper`] the process that starts, measures and ends
//!   children; they speak [`wire`]. Inside the helper: `events` (what it waits for), `child` (clone to exec),
//!   `confine` (Landlock), `group` (one job's processes), `kin` (whose process is this), `log` (output, capped).
//! - Programs of their own that ask for work: [`outside_actor`], with [`leases`] and `hand_over` (data before
//!   and after).
//! - Around a child: [`folder`], where it works and leaves its outputs; [`inputs`], what it finds there.

pub mod actor;
pub mod affinity;
pub mod attempt;
pub mod children;
pub mod folder;
pub mod helper;
pub mod host;
pub mod inputs;
pub mod leases;
pub mod moments;
pub mod outside_actor;
pub mod profile;
pub mod roster;
pub mod roster_actor;
pub mod run;
pub mod wire;

mod child;
mod confine;
mod events;
mod group;
mod hand_over;
mod kin;
mod log;

#[cfg(test)]
mod tests;
