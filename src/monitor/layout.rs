//! Which resolutions of series there are, and what can be wrong with them.

use super::block::BlockError;
use super::track::Ring;
use crate::time::Span;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most rings of a layout.
pub const MAX_RINGS: usize = 6;

/// Which resolutions there are, and how much they may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Finest first.
    pub rings: Vec<Ring>,
    /// Most bytes of all series together. When they are reached, the largest ring gets shorter. Default
    /// 128 MiB: a busy series takes about 90 KB for a week, an idle one 2 KB, so 100 workers and 30 shards that
    /// are never idle keep their week, and 500 such workers more than a day.
    pub max_bytes: usize,
    /// Most series; what comes later is not kept, and counted. Default 16,384.
    pub max_series: usize,
}

impl Default for Layout {
    fn default() -> Layout {
        let ring =
            |step, keep| Ring { step: Span::from_secs(step), keep: Span::from_secs(keep), stored: step > 1 };
        Layout {
            rings: vec![ring(1, 600), ring(10, 6 * 3_600), ring(60, 7 * 86_400)],
            max_bytes: 128 << 20,
            max_series: 16_384,
        }
    }
}

/// Why a layout or a stored block cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// No ring, or too many.
    #[error("{found} resolutions of series; accepted: 1 to {MAX_RINGS}")]
    Rings {
        /// How many there are.
        found: usize,
    },
    /// Steps that do not rise, or a ring shorter than its step.
    #[error(
        "series of {step} for {keep}; accepted: steps from 10 ms, each longer than the one before, kept for at least one step"
    )]
    Ring {
        /// Its step.
        step: Span,
        /// Its length.
        keep: Span,
    },
    /// A stored block that is none.
    #[error("read series block: {0}")]
    Block(#[from] BlockError),
    /// A stored block of a resolution that is configured no more.
    #[error("series block has steps of {step}, which is not configured")]
    Step {
        /// Its step.
        step: Span,
    },
    /// A stored block whose name is not its content's, or names nothing that is configured.
    #[error("series block `{name}` belongs to nothing that is configured")]
    Name {
        /// Its name.
        name: String,
    },
}

impl Layout {
    /// Whether it can be kept.
    ///
    /// # Errors
    /// Names the ring that cannot be.
    pub fn check(&self) -> Result<(), Error> {
        if self.rings.is_empty() || self.rings.len() > MAX_RINGS {
            return Err(Error::Rings { found: self.rings.len() });
        }
        let mut least = Span::from_ms(10);
        for &Ring { step, keep, .. } in &self.rings {
            if step < least || keep < step {
                return Err(Error::Ring { step, keep });
            }
            least = step + Span::from_us(1);
        }
        Ok(())
    }
}
