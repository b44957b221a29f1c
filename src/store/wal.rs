//! What SQLite does not tell about its write-ahead log.
//!
//! At recovery SQLite replays frames up to the first whose checksum fails, and says nothing: after a power cut
//! that frame is the torn end of a commit nobody was told of, which is as it should be; but one flipped bit in
//! the middle looks the same to it, and every commit behind it is gone. Two things tell the cases apart:
//!
//! - [`scan`] reads the frames before SQLite does. A bad frame with an intact, later transaction behind it
//!   is damage, because a transaction is written only after the one before it was synced (with
//!   [`super::Durability::Sync`]; the mark says whether that was so).
//! - `tasks.mark`, a small file beside the log, says up to which frame the log was synced when the last commit was
//!   acknowledged. It is never synced itself, so after a power cut it may be old; but what it says was true
//!   when it was written, so fewer intact frames than it says are damage, the last commit's own included.
//!
//! The log's format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use super::Error;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Length of the log's header.
const HEADER: usize = 32;
/// Length of a frame's header, before its page.
const FRAME: usize = 24;

/// What a scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No log, or one without a transaction.
    Empty,
    /// Frames up to the last intact commit, and whatever torn rest is normal after a power cut.
    Sound {
        /// Frames that SQLite will replay.
        frames: u32,
    },
    /// Acknowledged commits are unreadable.
    Damaged {
        /// The first bad frame, from 1; 0 is the header.
        frame: u32,
        /// How this is known.
        why: &'static str,
    },
}

/// Reads the log at `wal` and says whether it is whole, given the `mark` that stands beside it.
///
/// Costs one sequential read of the log (some 8 MiB, unless a reader held it up).
///
/// # Errors
/// [`Error::Io`] if the log cannot be read.
pub fn scan(wal: &Path, mark: Option<Synced>) -> Result<Found, Error> {
    let file = match File::open(wal) {
        Ok(f) => f,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(nothing_there(mark)),
        Err(e) => return Err(Error::io("open", wal)(e)),
    };
    let mut from = BufReader::with_capacity(1 << 18, file);
    let mut head = [0; HEADER];
    if !fill(&mut from, &mut head).map_err(Error::io("read", wal))? || head == [0; HEADER] {
        return Ok(nothing_there(mark));
    }
    let Some(log) = Log::from_header(&head) else {
        // A header that was torn while it was first written has no synced frame behind it.
        let fresh = mark.is_some_and(|m| m.frames == 0);
        let why = "the log's header is damaged";
        return Ok(if fresh { Found::Empty } else { Found::Damaged { frame: 0, why } });
    };
    let found = log.frames(&mut from).map_err(Error::io("read", wal))?;
    let synced = mark.filter(|m| m.salt == log.salt).map_or(0, |m| m.frames);
    let each_synced = mark.is_none_or(|m| m.each_synced);
    Ok(match found {
        Frames { bad: Some(frame), later: true, .. } if each_synced => {
            Found::Damaged { frame, why: "a later transaction is intact, so this one had been synced" }
        }
        Frames { committed, bad, .. } if committed < synced => {
            Found::Damaged { frame: bad.unwrap_or(committed + 1), why: "it had been synced and acknowledged" }
        }
        Frames { committed: 0, .. } => Found::Empty,
        Frames { committed, .. } => Found::Sound { frames: committed },
    })
}

fn nothing_there(mark: Option<Synced>) -> Found {
    match mark {
        Some(m) if m.frames > 0 => {
            Found::Damaged { frame: 0, why: "the log is gone; it held acknowledged commits" }
        }
        _ => Found::Empty,
    }
}

/// Fills `buf`; false if the file ends before.
fn fill(from: &mut impl Read, buf: &mut [u8]) -> std::io::Result<bool> {
    match from.read_exact(buf) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// The figures of a sound header.
struct Log {
    big_endian: bool,
    page_bytes: usize,
    salt: [u8; 8],
    sum: [u32; 2],
}

/// How far the frames go.
struct Frames {
    /// Frames up to the last commit before the first bad one.
    committed: u32,
    /// The first bad one, if frames of this log's generation may follow it.
    bad: Option<u32>,
    /// Whether an intact transaction begins somewhere behind the bad frame.
    later: bool,
}

impl Log {
    fn from_header(h: &[u8; HEADER]) -> Option<Log> {
        let magic = be(h, 0);
        let page_bytes = be(h, 8) as usize;
        let log = Log {
            big_endian: magic & 1 == 1,
            page_bytes,
            salt: h[16..24].try_into().ok()?,
            sum: [be(h, 24), be(h, 28)],
        };
        let sound = magic & !1 == 0x377f_0682
            && page_bytes.is_power_of_two()
            && (512..=65_536).contains(&page_bytes)
            && log.checksum([0, 0], &h[..24]) == log.sum;
        sound.then_some(log)
    }

    /// Follows the chain of checksums. Behind a bad frame it is taken up again from the sum stored in that
    /// frame's own header, which verifies every frame but the bad one.
    fn frames(&self, from: &mut impl Read) -> std::io::Result<Frames> {
        let mut found = Frames { committed: 0, bad: None, later: false };
        let mut buf = vec![0; FRAME + self.page_bytes];
        let mut sum = self.sum;
        let mut commit_before = false;
        let mut n = 0;
        while !found.later && fill(from, &mut buf)? {
            n += 1;
            let stored = [be(&buf, 16), be(&buf, 20)];
            let ours = buf[8..16] == self.salt;
            let intact = ours
                && self.checksum(self.checksum(sum, &buf[..8]), &buf[FRAME..]) == stored
                && be(&buf, 0) != 0;
            let commits = be(&buf, 4) != 0;
            if found.bad.is_some() {
                found.later = intact && commit_before;
                commit_before = intact && commits;
            } else if !intact {
                found.bad = Some(n);
            } else if commits {
                found.committed = n;
            }
            sum = stored;
        }
        Ok(found)
    }

    fn checksum(&self, [mut a, mut b]: [u32; 2], bytes: &[u8]) -> [u32; 2] {
        let word = |c: &[u8]| match <[u8; 4]>::try_from(c) {
            Ok(w) if self.big_endian => u32::from_be_bytes(w),
            Ok(w) => u32::from_le_bytes(w),
            Err(_) => unreachable!("chunks of eight are split in the middle"),
        };
        for pair in bytes.chunks_exact(8) {
            a = a.wrapping_add(word(&pair[..4])).wrapping_add(b);
            b = b.wrapping_add(word(&pair[4..])).wrapping_add(a);
        }
        [a, b]
    }
}

/// The big-endian word at `at`.
fn be(b: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

/// Up to where the log was synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// The log's generation: the salts of its header, as they stand there.
    pub salt: [u8; 8],
    /// Frames of that generation.
    pub frames: u32,
    /// Whether every commit was synced before the next was written.
    pub each_synced: bool,
}

const MARK_BYTES: usize = 28;
const MARK_MAGIC: [u8; 8] = *b"fsmark1\n";

impl Synced {
    fn encode(self) -> [u8; MARK_BYTES] {
        let mut b = [0; MARK_BYTES];
        b[..8].copy_from_slice(&MARK_MAGIC);
        b[8..16].copy_from_slice(&self.salt);
        b[16..20].copy_from_slice(&self.frames.to_le_bytes());
        b[20] = u8::from(self.each_synced);
        let crc = crc32c::crc32c(&b[..24]);
        b[24..].copy_from_slice(&crc.to_le_bytes());
        b
    }
    fn decode(b: &[u8; MARK_BYTES]) -> Option<Synced> {
        let word = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        (b[..8] == MARK_MAGIC && crc32c::crc32c(&b[..24]) == word(24)).then(|| Synced {
            salt: [b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]],
            frames: word(16),
            each_synced: b[20] == 1,
        })
    }
}

/// The file that holds a [`Synced`].
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
}

impl Mark {
    /// Opens or makes the file; what it says, if it is sound.
    pub fn open(path: &Path) -> Result<(Mark, Option<Synced>), Error> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(Error::io("open", path))?;
        let mut b = [0; MARK_BYTES];
        let said = file.read_exact_at(&mut b, 0).ok().and_then(|()| Synced::decode(&b));
        Ok((Mark { file }, said))
    }
    /// Says it anew; not synced.
    pub fn write(&self, s: Synced) -> std::io::Result<()> {
        self.file.write_all_at(&s.encode(), 0)
    }
    /// Says it anew, and makes that durable: before the log is emptied, or it would seem to be missing.
    pub fn write_synced(&self, s: Synced) -> std::io::Result<()> {
        self.write(s)?;
        self.file.sync_data()
    }
}
