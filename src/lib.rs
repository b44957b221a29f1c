//! forestage: a task daemon for one host that has the data staged at the worker before the task asks.

pub mod flow;
pub mod message;
pub mod task;
pub mod time;
