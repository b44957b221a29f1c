//! The demonstration: one seeded stream of real snapshot tasks through a real daemon, with staging off and on.
//!
//! Everything that is shown was measured in that run, and the bytes by the object server itself. In reading
//! order:
//!
//! - [`image`] and [`stream`]: the volumes, and the tasks about them over time. A seed repeats both.
//! - [`server`]: the object server, with the latency and bandwidth that make staging worth something.
//! - [`work`]: what a task does; the daemon runs this same program with another first argument.
//! - [`settings`], [`scratch`], [`process`], [`client`]: the daemon's configuration, its folder, its process, its socket.
//! - [`side`]: the stream played through one daemon. [`report`]: both sides side by side.
//! - [`mod@bench`] and [`workload`]: other workloads through the same machinery, for `scripts/bench-staging`.
//! - [`placement`]: two unlike pairs of slots under every policy, for `scripts/bench-placement`.

pub mod bench;
pub mod client;
pub mod image;
pub mod placement;
pub mod process;
mod program;
pub mod report;
pub mod scratch;
pub mod server;
pub mod settings;
pub mod side;
pub mod stream;
pub mod work;
pub mod workload;

mod run;

pub use report::Report;
pub use run::{Options, run};
