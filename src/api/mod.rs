//! The socket: HTTP/1.1 and JSON under `/v1`.
//!
//! [`listen`] owns the Unix socket and its connections, [`roles`] says who may do what, [`routes`] turns
//! requests into calls of [`Backend`] and its answers into responses, [`wire`] is what goes over the wire, and
//! [`error`] the only place where an error gets a status. Nothing here knows an actor.
//!
//! Everything is bounded: connections, headers, bodies (each and all together), and the time that a header or
//! a body may take. Streams hold one part at a time and follow the reader's pace.

pub mod backend;
mod connection;
mod dashboard;
pub mod error;
pub mod listen;
pub mod loopback;
pub mod metrics;
mod near;
pub mod outside;
mod patience;
pub mod roles;
pub mod routes;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod wire;

pub use backend::{Backend, LogPart};
pub use error::Error;
pub use listen::{ListenError, Listener, Place, Settings, Socket, serve};
