//! End to end: the real binary, a temporary folder, a real socket. One binary keeps linking short.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it should be")]

mod bad_input;
mod daemon;
mod house;
mod life;
mod outside;
mod right_data;
mod survives;
