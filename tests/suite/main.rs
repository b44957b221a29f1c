//! End to end: the real binary, a temporary folder, a real socket. One binary keeps linking short.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it should be")]

mod bad_input;
mod browser;
mod daemon;
mod faults;
mod faulty;
mod forecasts;
mod heap;
mod house;
mod images;
mod learned;
mod life;
mod nginx;
mod outside;
mod port;
mod prometheus;
mod queue;
mod replay;
mod right_data;
mod survives;
