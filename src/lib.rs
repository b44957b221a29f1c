//! forestage: a task daemon for one host that has the data staged at the worker before the task asks.
//!
//! The rooms in reading order, from the ground up: see `ARCHITECTURE.md`.

pub mod slow;
pub mod time;

pub mod draw;
pub mod flow;
pub mod message;
pub mod task;

pub mod cache;
pub mod dispatch;
pub mod monitor;
pub mod predict;
pub mod prefetch;
pub mod store;
pub mod worker;

pub mod api;
pub mod config;

pub mod daemon;
pub mod demo;
pub mod replay;

pub mod cli;
