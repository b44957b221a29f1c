//! A flat, versioned, checksummed form of the predictor: little-endian, no padding, CRC32C at the end.

use super::catalogue::Id;

/// First bytes of every snapshot; the last one counts the layouts.
pub(super) const MAGIC: [u8; 8] = *b"fsobjp\0\x02";

/// Why a snapshot was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// Another kind of file, or another layout.
    #[error("not an object predictor of this version")]
    Version,
    /// A byte is wrong.
    #[error("checksum differs")]
    Checksum,
    /// It ends too early, or goes on too long.
    #[error("wrong length")]
    Length,
    /// The configured sizes are others than when it was written, or a value is out of range.
    #[error("a value is out of range, or the configured sizes differ")]
    Value,
}

/// Collects a snapshot.
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// Begins one.
    pub(super) fn new() -> Writer {
        Writer(MAGIC.to_vec())
    }
    /// Ends it with its checksum.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let sum = crc32c::crc32c(&self.0);
        self.u32(sum);
        self.0
    }
    /// One byte.
    pub(super) fn u8(&mut self, v: u8) {
        self.0.push(v);
    }
    /// Four bytes.
    pub(super) fn u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    /// Eight bytes.
    pub(super) fn u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    /// Bit for bit.
    pub(super) fn f32(&mut self, v: f32) {
        self.u32(v.to_bits());
    }
    /// Bit for bit.
    pub(super) fn f64(&mut self, v: f64) {
        self.u64(v.to_bits());
    }
    /// An object's number.
    pub(super) fn id(&mut self, v: Id) {
        self.u32(v.raw());
    }
    /// Bytes whose number the reader knows.
    pub(super) fn bytes(&mut self, v: &[u8]) {
        self.0.extend_from_slice(v);
    }
    /// A text of at most 4 GiB.
    pub(super) fn text(&mut self, v: &str) {
        self.u32(v.len() as u32);
        self.bytes(v.as_bytes());
    }
}

/// Reads a snapshot from its beginning.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Checks kind, version and checksum.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Reader<'a>, Bad> {
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or(Bad::Length)?;
        let rest = body.strip_prefix(&MAGIC).ok_or(Bad::Version)?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
            return Err(Bad::Checksum);
        }
        Ok(Reader(rest))
    }
    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), Bad> {
        if self.0.is_empty() { Ok(()) } else { Err(Bad::Length) }
    }
    fn take(&mut self, n: usize) -> Result<&'a [u8], Bad> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(Bad::Length)?;
        self.0 = tail;
        Ok(head)
    }
    /// Bytes whose number the type says.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        self.take(N)?.try_into().map_err(|_| Bad::Length)
    }
    /// Bytes whose number the caller knows.
    pub(super) fn bytes(&mut self, n: usize) -> Result<&'a [u8], Bad> {
        self.take(n)
    }
    /// One byte.
    pub(super) fn u8(&mut self) -> Result<u8, Bad> {
        Ok(self.array::<1>()?[0])
    }
    /// Four bytes.
    pub(super) fn u32(&mut self) -> Result<u32, Bad> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    /// Eight bytes.
    pub(super) fn u64(&mut self) -> Result<u64, Bad> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    /// A number that is not NaN.
    pub(super) fn f32(&mut self) -> Result<f32, Bad> {
        Some(f32::from_bits(self.u32()?)).filter(|v| !v.is_nan()).ok_or(Bad::Value)
    }
    /// A number that is not NaN.
    pub(super) fn f64(&mut self) -> Result<f64, Bad> {
        Some(f64::from_bits(self.u64()?)).filter(|v| !v.is_nan()).ok_or(Bad::Value)
    }
    /// An object's number.
    pub(super) fn id(&mut self) -> Result<Id, Bad> {
        Ok(Id::from_raw(self.u32()?))
    }
    /// A text.
    pub(super) fn text(&mut self) -> Result<&'a str, Bad> {
        let n = self.u32()? as usize;
        std::str::from_utf8(self.take(n)?).map_err(|_| Bad::Value)
    }
    /// A number of things, at most `limit`.
    pub(super) fn count(&mut self, limit: usize) -> Result<usize, Bad> {
        Some(self.u32()? as usize).filter(|&n| n <= limit).ok_or(Bad::Value)
    }
    /// An index below `limit`.
    pub(super) fn index(&mut self, limit: usize) -> Result<usize, Bad> {
        Some(self.u32()? as usize).filter(|&n| n < limit).ok_or(Bad::Value)
    }
    /// A number that must be the one of this configuration.
    pub(super) fn expect_u32(&mut self, v: u32) -> Result<(), Bad> {
        if self.u32()? == v { Ok(()) } else { Err(Bad::Value) }
    }
}
