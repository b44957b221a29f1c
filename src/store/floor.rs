//! The limit: what no record that syncs can beat.
//!
//! A preallocated file, one sequential write and one `fdatasync` for each group, nothing to read it by but a
//! length, a checksum and a number in front. [`super::bench`] sets the record beside it, in the same run.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes in front of each group: its length, CRC32C and number.
const HEAD_BYTES: usize = 16;

/// A bare log. It begins again at its start when it is full.
#[derive(Debug)]
pub struct Floor {
    file: File,
    len: u64,
    at: u64,
    number: u64,
    buf: Vec<u8>,
}

impl Floor {
    /// Makes the file and writes its blocks once, so that an append changes no metadata.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(path: &Path, len: u64) -> std::io::Result<Floor> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        let zeros = vec![0; 1 << 20];
        let mut at = 0;
        while at < len {
            let n = (len - at).min(zeros.len() as u64);
            file.write_all_at(&zeros[..n as usize], at)?;
            at += n;
        }
        file.sync_all()?;
        Ok(Floor { file, len, at: 0, number: 0, buf: Vec::new() })
    }

    /// Appends one group, which `write` puts together, and syncs it.
    ///
    /// # Errors
    /// The file system's; [`std::io::ErrorKind::FileTooLarge`] for a group larger than the file.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> std::io::Result<()> {
        self.buf.clear();
        self.buf.resize(HEAD_BYTES, 0);
        write(&mut self.buf);
        self.number += 1;
        let len = (self.buf.len() - HEAD_BYTES) as u32;
        self.buf[..4].copy_from_slice(&len.to_le_bytes());
        self.buf[8..16].copy_from_slice(&self.number.to_le_bytes());
        let crc = crc32c::crc32c(&self.buf[8..]);
        self.buf[4..8].copy_from_slice(&crc.to_le_bytes());
        let bytes = self.buf.len() as u64;
        if bytes > self.len {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        if self.at + bytes > self.len {
            self.at = 0;
        }
        self.file.write_all_at(&self.buf, self.at)?;
        self.file.sync_data()?;
        self.at += bytes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_lie_one_behind_the_other_and_begin_again_when_full() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floor");
        let mut floor = Floor::create(&path, 100).unwrap();
        for byte in [1, 2, 3] {
            floor.append(|b| b.extend_from_slice(&[byte; 24])).unwrap();
        }
        let file = std::fs::read(&path).unwrap();
        assert_eq!((file.len(), file[16], file[56]), (100, 3, 2));
        assert!(floor.append(|b| b.resize(101, 0)).is_err());
    }
}
