//! The engine as bytes: flat, versioned, checksummed.
//!
//! Layout, little endian: magic (8 bytes), version (u32), length of the body (u64), CRC-32C of the body
//! (u32), body. Long arrays are written as runs: so many zero words, so many words that follow. Most of a
//! young engine is zero, and costs next to nothing.

use super::Error;

/// First bytes of every snapshot.
const MAGIC: &[u8; 8] = b"fstypes\0";
/// Raised with every change of the layout or of what a field means.
pub(super) const VERSION: u32 = 3;
const HEADER: usize = 24;

/// Collects the body.
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub fn new() -> Writer {
        let mut bytes = Vec::with_capacity(1 << 16);
        bytes.resize(HEADER, 0);
        Writer { bytes }
    }

    /// Puts the header before what was written.
    pub fn finish(mut self) -> Vec<u8> {
        let body = &self.bytes[HEADER..];
        let (length, crc) = (body.len() as u64, crc32c::crc32c(body));
        self.bytes[..8].copy_from_slice(MAGIC);
        self.bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        self.bytes[12..20].copy_from_slice(&length.to_le_bytes());
        self.bytes[20..24].copy_from_slice(&crc.to_le_bytes());
        self.bytes
    }

    pub fn u8(&mut self, x: u8) {
        self.bytes.push(x);
    }
    pub fn u16(&mut self, x: u16) {
        self.bytes.extend_from_slice(&x.to_le_bytes());
    }
    pub fn u32(&mut self, x: u32) {
        self.bytes.extend_from_slice(&x.to_le_bytes());
    }
    pub fn u64(&mut self, x: u64) {
        self.bytes.extend_from_slice(&x.to_le_bytes());
    }
    pub fn f32(&mut self, x: f32) {
        self.u32(x.to_bits());
    }
    pub fn f64(&mut self, x: f64) {
        self.u64(x.to_bits());
    }
    /// A length that fits 32 bits: everything in the engine is bounded far below.
    pub fn len(&mut self, n: usize) {
        self.u32(u32::try_from(n).expect("every list of the engine is bounded below 2^32"));
    }
    pub fn text(&mut self, s: &str) {
        self.len(s.len());
        self.bytes.extend_from_slice(s.as_bytes());
    }
    /// A list whose length the reader knows.
    pub fn u16s_fixed(&mut self, list: &[u16]) {
        for &x in list {
            self.u16(x);
        }
    }
    pub fn u16s(&mut self, list: &[u16]) {
        self.len(list.len());
        self.u16s_fixed(list);
    }
    /// A long array of words, zeros run together.
    pub fn u32s(&mut self, list: &[u32]) {
        self.words(list.len(), |i| list[i]);
    }
    /// A long array of floats, zeros run together.
    pub fn f32s(&mut self, list: &[f32]) {
        self.words(list.len(), |i| list[i].to_bits());
    }
    fn words(&mut self, n: usize, word: impl Fn(usize) -> u32) {
        self.len(n);
        let mut i = 0;
        while i < n {
            let zeros = (i..n).take_while(|&j| word(j) == 0).count();
            i += zeros;
            // A run of words goes on over up to three zeros: a new run would cost as much.
            let mut end = i;
            while end < n && !(word(end) == 0 && (end..(end + 4).min(n)).all(|j| word(j) == 0)) {
                end += 1;
            }
            self.len(zeros);
            self.len(end - i);
            for j in i..end {
                self.u32(word(j));
            }
            i = end;
        }
    }
}

/// Takes the body apart.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks the header and the checksum.
    pub fn open(bytes: &'a [u8]) -> Result<Reader<'a>, Error> {
        let mut header = Reader { rest: bytes };
        if header.take(8)? != MAGIC {
            return Err(Error::NotASnapshot);
        }
        let found = header.u32()?;
        if found != VERSION {
            return Err(Error::Version { found, expected: VERSION });
        }
        let length = header.u64()?;
        let crc = header.u32()?;
        if header.rest.len() as u64 != length {
            return Err(Error::Length { found: header.rest.len() as u64, expected: length });
        }
        let found = crc32c::crc32c(header.rest);
        if found != crc {
            return Err(Error::Checksum { found, expected: crc });
        }
        Ok(header)
    }

    /// Nothing may be left over.
    pub fn close(self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(Error::Malformed { what: "the end of the snapshot" }) }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Error> {
        if self.rest.len() < n {
            return Err(Error::Malformed { what: "the end of the snapshot" });
        }
        let (head, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(head)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        Ok(self.take(N)?.try_into().expect("take gives as many bytes as asked"))
    }
    pub fn u8(&mut self) -> Result<u8, Error> {
        Ok(self.array::<1>()?[0])
    }
    pub fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    pub fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    pub fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    pub fn f32(&mut self) -> Result<f32, Error> {
        let x = f32::from_bits(self.u32()?);
        if x.is_finite() { Ok(x) } else { Err(Error::Malformed { what: "a number" }) }
    }
    pub fn f64(&mut self) -> Result<f64, Error> {
        let x = f64::from_bits(self.u64()?);
        if x.is_finite() { Ok(x) } else { Err(Error::Malformed { what: "a number" }) }
    }
    /// A length of at most `max`; `what` names the list in the error.
    pub fn len(&mut self, max: usize, what: &'static str) -> Result<usize, Error> {
        let n = self.u32()? as usize;
        if n <= max { Ok(n) } else { Err(Error::Malformed { what }) }
    }
    pub fn text(&mut self) -> Result<&'a str, Error> {
        let n = self.len(1 << 20, "the length of a name")?;
        std::str::from_utf8(self.take(n)?).map_err(|_| Error::Malformed { what: "a name" })
    }
    pub fn u16s_fixed(&mut self, into: &mut [u16]) -> Result<(), Error> {
        for x in into {
            *x = self.u16()?;
        }
        Ok(())
    }
    pub fn u16s(&mut self, max: usize, what: &'static str) -> Result<Vec<u16>, Error> {
        let mut list = vec![0; self.len(max, what)?];
        self.u16s_fixed(&mut list)?;
        Ok(list)
    }
    pub fn u32s_into(&mut self, into: &mut [u32]) -> Result<(), Error> {
        self.words(into.len(), |i, x| {
            into[i] = x;
            true
        })
    }
    pub fn f32s_into(&mut self, into: &mut [f32]) -> Result<(), Error> {
        self.words(into.len(), |i, x| {
            into[i] = f32::from_bits(x);
            into[i].is_finite()
        })
    }
    /// An array of at most `max` floats; `what` names it in the error.
    pub fn f32s(&mut self, max: usize, what: &'static str) -> Result<Vec<f32>, Error> {
        let n = Reader { rest: self.rest }.len(max, what)?;
        let mut list = vec![0.0; n];
        self.f32s_into(&mut list)?;
        Ok(list)
    }
    fn words(&mut self, n: usize, mut put: impl FnMut(usize, u32) -> bool) -> Result<(), Error> {
        let wrong = Error::Malformed { what: "an array of another size" };
        if self.u32()? as usize != n {
            return Err(wrong);
        }
        let mut i = 0;
        while i < n {
            let zeros = self.u32()? as usize;
            let words = self.u32()? as usize;
            if zeros + words == 0 || zeros > n - i || words > n - i - zeros {
                return Err(wrong);
            }
            for _ in 0..zeros {
                put(i, 0);
                i += 1;
            }
            for bytes in self.take(words * 4)?.chunks_exact(4) {
                if !put(i, u32::from_le_bytes(bytes.try_into().expect("chunks of four"))) {
                    return Err(Error::Malformed { what: "a number" });
                }
                i += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_come_back_and_zeros_cost_little() {
        let mut rng = fastrand::Rng::with_seed(3);
        for zeros_of_ten in [0, 5, 9, 10] {
            let list: Vec<u32> =
                (0..1000).map(|_| if rng.u8(..10) < zeros_of_ten { 0 } else { rng.u32(1..) }).collect();
            let mut w = Writer::new();
            w.u32s(&list);
            let bytes = w.finish();
            if zeros_of_ten == 10 {
                assert!(bytes.len() < 64);
            }
            let mut back = vec![9; 1000];
            let mut r = Reader::open(&bytes).unwrap();
            r.u32s_into(&mut back).unwrap();
            r.close().unwrap();
            assert_eq!(back, list);
        }
    }

    #[test]
    fn damage_is_told_apart() {
        let mut w = Writer::new();
        w.text("copy");
        let good = w.finish();
        assert_eq!(Reader::open(&good).unwrap().text().unwrap(), "copy");
        let with = |at: usize, x: u8| {
            let mut b = good.clone();
            b[at] ^= x;
            b
        };
        assert!(matches!(Reader::open(&with(0, 1)), Err(Error::NotASnapshot)));
        assert!(
            matches!(Reader::open(&with(8, 9)), Err(Error::Version { found, expected: VERSION }) if found == VERSION ^ 9)
        );
        assert!(matches!(Reader::open(&good[..good.len() - 1]), Err(Error::Length { .. })));
        assert!(matches!(Reader::open(&with(HEADER, 1)), Err(Error::Checksum { .. })));
        assert!(matches!(Reader::open(&[]), Err(Error::Malformed { .. })));
    }
}
