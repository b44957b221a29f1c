//! What type of task comes next.
//!
//! An online Bayesian mixture of count experts over several contexts: nothing is trained ahead, every outcome
//! is learned once, memory is fixed. Read in this order:
//!
//! - `history.rs` what is remembered of an entity, `context.rs` what of it is taken to matter
//! - `table.rs` the counts, `root.rs` and `novelty.rs` what is known without context
//! - `backoff.rs`, `echo.rs`, `fading.rs`, `softmax.rs` the experts; `pool.rs`, `standing.rs`, `apm.rs` how they
//!   become one forecast
//! - `model.rs` all of that in order

mod apm;
mod asking;
mod backoff;
mod candidates;
mod chronicle;
mod context;
mod echo;
mod engine;
mod entities;
mod entity_model;
mod fading;
mod handover;
mod history;
mod in_play;
mod maths;
mod model;
mod names;
mod novelty;
mod pool;
mod root;
mod row;
mod settings;
mod snapshot;
mod softmax;
mod spread;
mod standing;
mod table;
mod takes;
#[cfg(test)]
mod tests;
mod worker_model;

pub use context::NAMES as CONTEXTS;
pub use engine::{Distribution, Engine, EntityRef, Event, Joint, Subject, Voice};
pub use settings::Settings;

/// A task type: its number inside the engine, in order of appearance.
pub type Symbol = u16;

/// Most task types; later ones share the last number.
pub const TYPES_MAX: usize = 16_384;
/// Most workers; later ones share the last number.
pub const WORKERS_MAX: usize = 4096;
/// Stands for no worker or no entity among partners.
const NOBODY: u64 = u32::MAX as u64;

/// Why settings or a snapshot were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A setting is out of its range.
    #[error("{key} is {value}, accepted: {accepted}")]
    Setting {
        /// Which.
        key: &'static str,
        /// What it was.
        value: String,
        /// What it may be.
        accepted: String,
    },
    /// The bytes are something else.
    #[error("not a snapshot of the prediction engine")]
    NotASnapshot,
    /// Another version of the format.
    #[error("snapshot of format version {found}, this program reads version {expected}")]
    Version {
        /// Of the bytes.
        found: u32,
        /// Of this program.
        expected: u32,
    },
    /// Bytes are missing or left over.
    #[error("snapshot of {found} bytes, its header says {expected}")]
    Length {
        /// Behind the header.
        found: u64,
        /// In the header.
        expected: u64,
    },
    /// Bytes have changed.
    #[error("snapshot is damaged: checksum {found:08x}, its header says {expected:08x}")]
    Checksum {
        /// Of the bytes.
        found: u32,
        /// In the header.
        expected: u32,
    },
    /// The checksum is right but the content makes no sense: a bug, or a forgery.
    #[error("snapshot makes no sense at {what}")]
    Malformed {
        /// Where.
        what: &'static str,
    },
    /// The snapshot was made with other settings.
    #[error("snapshot was made with {key} = {found}, the configuration says {expected}")]
    OtherSettings {
        /// Which setting.
        key: &'static str,
        /// In the snapshot.
        found: String,
        /// In the configuration.
        expected: String,
    },
}
