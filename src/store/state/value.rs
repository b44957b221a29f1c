//! A value of any size in pieces that sled keeps in its own pages, replaced as one.
//!
//! `heads` holds, by key, a header and the value itself, or, for a large one, the number under which its pieces
//! lie in `pieces` (key: that number and the piece's, both big-endian). New pieces are synced before the head
//! that names them is put, and the old ones go after that head is synced: whoever reads, and whatever a crash
//! leaves, sees the old value or the new one.
//!
//! A header's layout: version (1), kind (0 whole, 1 in pieces), 2 bytes zero, CRC32C of key and value (4, little-endian),
//! length of the value (8), number of the pieces (8).

use super::{KEY_LIMIT_BYTES, Tree, VALUE_LIMIT_BYTES};
use crate::store::Error;
use std::collections::BTreeSet;

/// The name of a tree's second tree ends so.
pub(super) const PIECES: &str = "#pieces";

/// Pieces are at most this long: 16 values and their keys stay below sled's page limit of 128 KiB, with room
/// for one more before the page is split.
pub const PIECE_BYTES: usize = 6 << 10;

const HEAD_BYTES: usize = 24;
const VERSION: u8 = 1;

/// A decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    in_pieces: bool,
    crc: u32,
    len: u64,
    number: u64,
}

impl Head {
    fn encode(self) -> [u8; HEAD_BYTES] {
        let mut b = [0; HEAD_BYTES];
        b[0] = VERSION;
        b[1] = u8::from(self.in_pieces);
        b[4..8].copy_from_slice(&self.crc.to_le_bytes());
        b[8..16].copy_from_slice(&self.len.to_le_bytes());
        b[16..24].copy_from_slice(&self.number.to_le_bytes());
        b
    }
    fn decode(b: &[u8]) -> Option<(Head, &[u8])> {
        let (h, rest) = b.split_first_chunk::<HEAD_BYTES>()?;
        let sound = h[0] == VERSION && h[1] <= 1 && h[2..4] == [0, 0];
        let u64_at = |at: usize| h[at..at + 8].iter().rev().fold(0_u64, |n, b| n << 8 | u64::from(*b));
        let crc = u32::from_le_bytes([h[4], h[5], h[6], h[7]]);
        let head = Head { in_pieces: h[1] == 1, crc, len: u64_at(8), number: u64_at(16) };
        (sound && head.len <= VALUE_LIMIT_BYTES as u64).then_some((head, rest))
    }
}

fn seal(key: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), value)
}

fn piece_key(number: u64, i: u64) -> [u8; 16] {
    let mut k = [0; 16];
    k[..8].copy_from_slice(&number.to_be_bytes());
    k[8..].copy_from_slice(&i.to_be_bytes());
    k
}

/// What a read came to.
enum Read {
    Value(Vec<u8>),
    /// Its pieces were gone: replaced meanwhile, or damaged.
    Gone,
    Damaged,
}

impl Tree {
    /// Puts a value. A large one (above [`PIECE_BYTES`]) is durable when this returns, a small one after the next
    /// [`super::State::flush`].
    ///
    /// # Errors
    /// [`Error::State`], also if key or value is longer than their limits.
    pub fn put_bytes(&self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        if key.len() > KEY_LIMIT_BYTES || value.len() > VALUE_LIMIT_BYTES {
            return Err(self.refuse(&format!(
                "key of {} or value of {} bytes too long",
                key.len(),
                value.len()
            )));
        }
        let mut head = Head { in_pieces: false, crc: seal(key, value), len: value.len() as u64, number: 0 };
        if value.len() > PIECE_BYTES {
            head.in_pieces = true;
            head.number = self.put_pieces(value)?;
        }
        let mut cell = Vec::with_capacity(HEAD_BYTES + PIECE_BYTES);
        cell.extend_from_slice(&head.encode());
        if !head.in_pieces {
            cell.extend_from_slice(value);
        }
        let old = self.state.guard(|_| self.heads.insert(key, cell))?;
        if head.in_pieces {
            self.state.flush()?;
        }
        self.drop_pieces(old)
    }

    /// Writes and syncs a large value's pieces, under a number of their own.
    fn put_pieces(&self, value: &[u8]) -> Result<u64, Error> {
        let number = self.state.guard(|db| db.generate_id())?;
        for (i, piece) in (0..).zip(value.chunks(PIECE_BYTES)) {
            self.state.guard(|_| self.pieces.insert(piece_key(number, i), piece))?;
        }
        self.state.flush()?;
        Ok(number)
    }

    /// Removes the pieces that a replaced head named. Its successor is synced first: pieces must not be gone
    /// while a crash could still bring back the head that names them.
    fn drop_pieces(&self, old: Option<sled::IVec>) -> Result<(), Error> {
        let Some(old) = old else { return Ok(()) };
        let Some((Head { in_pieces: true, number, len, .. }, _)) = Head::decode(&old) else { return Ok(()) };
        self.state.flush()?;
        for i in 0..len.div_ceil(PIECE_BYTES as u64) {
            self.state.guard(|_| self.pieces.remove(piece_key(number, i)))?;
        }
        Ok(())
    }

    /// Gets a value; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::State`], also if the value is damaged: the store is then broken, see [`super::State`].
    pub fn get_bytes(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        // A value that is replaced between its head and its pieces is read anew; a writer that does so time
        // and again within microseconds does not exist, damage does.
        const TRIES: usize = 8;
        for _ in 0..TRIES {
            let Some(cell) = self.state.guard(|_| self.heads.get(key))? else { return Ok(None) };
            match self.read(key, &cell)? {
                Read::Value(value) => return Ok(Some(value)),
                Read::Gone => {}
                Read::Damaged => break,
            }
        }
        Err(self.state.damaged(format!("value at {:?} is damaged", String::from_utf8_lossy(key))))
    }

    fn read(&self, key: &[u8], cell: &[u8]) -> Result<Read, Error> {
        let Some((head, whole)) = Head::decode(cell) else { return Ok(Read::Damaged) };
        let mut value;
        if head.in_pieces {
            // Grows with what is there, not with what a damaged header promises.
            value = Vec::new();
            for i in 0..head.len.div_ceil(PIECE_BYTES as u64) {
                match self.state.guard(|_| self.pieces.get(piece_key(head.number, i)))? {
                    Some(piece) => value.extend_from_slice(&piece),
                    None => return Ok(Read::Gone),
                }
            }
        } else {
            value = whole.to_vec();
        }
        let sound = value.len() as u64 == head.len && seal(key, &value) == head.crc;
        Ok(if sound { Read::Value(value) } else { Read::Damaged })
    }

    /// Removes a value.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn remove(&self, key: &[u8]) -> Result<(), Error> {
        let old = self.state.guard(|_| self.heads.remove(key))?;
        self.drop_pieces(old)
    }

    /// Removes pieces that no head names: of a large value that a crash kept from being put.
    pub(super) fn drop_stray_pieces(&self) -> Result<(), Error> {
        let mut named = BTreeSet::new();
        let mut heads = self.state.guard(|_| Ok(self.heads.iter()))?;
        while let Some((_, cell)) = self.state.guard(|_| heads.next().transpose())? {
            named.extend(Head::decode(&cell).filter(|(h, _)| h.in_pieces).map(|(h, _)| h.number));
        }
        let mut pieces = self.state.guard(|_| Ok(self.pieces.iter().keys()))?;
        while let Some(key) = self.state.guard(|_| pieces.next().transpose())? {
            let number = key.first_chunk::<8>().map(|n| u64::from_be_bytes(*n));
            if number.is_none_or(|n| !named.contains(&n)) {
                self.state.guard(|_| self.pieces.remove(&key))?;
            }
        }
        Ok(())
    }

    /// Gives every value whose key begins with `prefix`, by rising key. Values put or removed meanwhile may be
    /// seen or not.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn scan_bytes(&self, prefix: &[u8], mut each: impl FnMut(&[u8], &[u8])) -> Result<(), Error> {
        let mut rows = self.state.guard(|_| Ok(self.heads.scan_prefix(prefix)))?;
        while let Some((key, cell)) = self.state.guard(|_| rows.next().transpose())? {
            let value = match self.read(&key, &cell)? {
                Read::Value(value) => Some(value),
                Read::Gone | Read::Damaged => self.get_bytes(&key)?,
            };
            if let Some(value) = value {
                each(&key, &value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn headers_survive_the_round_trip_and_nothing_else_is_one() {
        let head = Head { in_pieces: true, crc: 0xdead_beef, len: 70_000, number: 1 << 40 };
        assert_eq!(Head::decode(&head.encode()), Some((head, &[][..])));
        for bad in [&[][..], &[0; HEAD_BYTES], &[VERSION, 2], &[9; 40]] {
            assert_eq!(Head::decode(bad), None);
        }
    }

    #[test]
    fn values_of_every_size_come_back_and_replaced_pieces_go() {
        let dir = tempfile::tempdir().unwrap();
        let (state, damage) = State::open(&dir.path().join("state")).unwrap();
        assert_eq!(damage, None);
        let tree = state.tree("t").unwrap();
        for len in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 5 * PIECE_BYTES, 300_000, 3] {
            let value: Vec<u8> = (0..len).map(|i| (i * 31 + len) as u8).collect();
            tree.put_bytes(b"k", &value).unwrap();
            assert_eq!(tree.get_bytes(b"k").unwrap(), Some(value));
            assert_eq!(tree.pieces.len(), if len > PIECE_BYTES { len.div_ceil(PIECE_BYTES) } else { 0 });
        }
        tree.put_bytes(b"k", &[7; 20_000]).unwrap();
        let stray = tree.put_pieces(&[8; 9_000]).unwrap();
        assert_eq!(tree.pieces.len(), 4 + 2);
        tree.drop_stray_pieces().unwrap();
        assert!(tree.pieces.len() == 4 && !tree.pieces.contains_key(piece_key(stray, 0)).unwrap());
        assert_eq!(tree.get_bytes(b"k").unwrap(), Some(vec![7; 20_000]));
        tree.remove(b"k").unwrap();
        assert_eq!((tree.get_bytes(b"k").unwrap(), tree.pieces.len()), (None, 0));
    }
}
