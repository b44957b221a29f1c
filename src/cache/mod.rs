//! What is staged on one file system, and what is evicted.
//!
//! The index ([`CacheCore`]) decides and counts; [`files`] links, renames and unlinks; the actor carries one
//! to the other.

pub mod actor;
mod bad;
mod core;
mod duel;
mod entry;
pub mod files;
mod ghosts;
mod keys;
mod policy;
mod rank;
mod room;
mod segments;
mod split;

pub use self::core::CacheCore;
pub use bad::{Bad, BadCopies};
pub use entry::{Entry, FileId, Fill, Hit, Limits, Purpose, Refusal, Victim};
pub(crate) use keys::FastMap;
pub use policy::Policy;
pub use rank::Need;
