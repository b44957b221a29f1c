//! End to end: the real binary, a temporary folder, a real socket. One binary keeps linking short.

mod bad_input;
mod daemon;
mod house;
mod life;
mod right_data;
mod survives;
