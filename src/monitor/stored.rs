//! Series on their way to disk and back, as blocks of 64 points.

use super::block::{self, BLOCK};
use super::key::Key;
use super::layout::Error;
use super::series::Series;
use super::track::{PACKED_OVERHEAD, Packed};
use crate::time::{Span, Time};

/// A block's place: whose, which resolution, which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockId {
    /// Which series.
    pub key: Key,
    /// Width of a point.
    pub step: Span,
    /// Counts blocks of 64 points from the epoch.
    pub number: u64,
}

impl Series {
    /// Blocks to be written: those that were filled since the last call, and the ones that are being filled.
    /// Each replaces what was written under its id before. Call it about once a minute: what was recorded
    /// since the last call is lost when the process is killed.
    pub fn changed(&mut self) -> Vec<(BlockId, Vec<u8>)> {
        let mut ids = std::mem::take(&mut self.changed);
        for (key, tracks) in &self.tracks {
            for (track, ring) in tracks.iter().zip(&self.layout.rings) {
                if ring.stored && !track.open.is_empty() {
                    ids.push(BlockId { key: *key, step: ring.step, number: track.number });
                }
            }
        }
        ids.into_iter().filter_map(|id| Some((id, self.bytes_of(id)?))).collect()
    }

    fn bytes_of(&self, id: BlockId) -> Option<Vec<u8>> {
        let ring = self.layout.rings.iter().position(|r| r.step == id.step)?;
        let track = &self.tracks.get(&id.key)?[ring];
        if track.number == id.number && !track.open.is_empty() {
            return Some(block::encode(id.step, id.number, &track.open));
        }
        let i = track.packed.binary_search_by_key(&id.number, |b| b.number).ok()?;
        Some(track.packed[i].bytes.to_vec())
    }

    /// Blocks that are gone and can be deleted, since the last call.
    pub fn expired(&mut self) -> Vec<BlockId> {
        std::mem::take(&mut self.expired)
    }

    /// Takes back a block that [`Series::changed`] gave, before the first push. Blocks may come in any order.
    ///
    /// # Errors
    /// If the bytes are damaged or of a resolution that is configured no more: delete them.
    pub fn restore(&mut self, key: Key, bytes: &[u8]) -> Result<(), Error> {
        let read = block::decode(bytes)?;
        let unknown = Error::Step { step: read.step };
        let ring = self.layout.rings.iter().position(|r| r.step == read.step).ok_or(unknown)?;
        if !self.tracks.contains_key(&key) && !self.insert_tracks(key) {
            return Ok(());
        }
        let end = read.points.last().map_or(0, |p| read.number.saturating_mul(BLOCK) + u64::from(p.0));
        self.newest = self.newest.max(Time::from_us(end.saturating_mul(read.step.as_us())));
        let track = &mut self.tracks.get_mut(&key).expect("it was just inserted")[ring];
        if let Err(at) = track.packed.binary_search_by_key(&read.number, |b| b.number) {
            track.packed.insert(at, Packed { number: read.number, bytes: bytes.into() });
            track.bytes += bytes.len() + PACKED_OVERHEAD;
            self.bytes += bytes.len() + PACKED_OVERHEAD;
        }
        Ok(())
    }
}
