//! Volume images: seeded random bytes in a few files, and a manifest that says what they must be.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Chunks of a volume.
pub const CHUNKS: usize = 4;
/// Median size of a chunk, bytes; sizes are log-normal, as those of disk extents are.
const CHUNK_MEDIAN_BYTES: f64 = 1.5 * MIB;
/// Standard deviation of the logarithm of a chunk's size.
const CHUNK_SIGMA: f64 = 0.5;
const MIB: f64 = 1024.0 * 1024.0;

/// What a volume's files must be; the volume's smallest file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The volume's name.
    pub volume: String,
    /// Its other files, by name.
    pub files: BTreeMap<String, Entry>,
}

/// What one file must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
}

impl Entry {
    /// What describes these bytes.
    pub fn of(bytes: &[u8]) -> Entry {
        Entry { bytes: bytes.len() as u64, sha256: hex(&Sha256::digest(bytes)) }
    }
}

/// A volume: what the object server serves of it.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Its name, `vol-012`; also the entity of the tasks about it.
    pub name: String,
    /// Its files by path, `vol-012/chunk-0`.
    pub files: BTreeMap<String, Bytes>,
}

impl Volume {
    /// Size of a file by its name without the volume's, 0 if there is none.
    pub fn bytes_of(&self, file: &str) -> u64 {
        self.files.get(&format!("{}/{file}", self.name)).map_or(0, |b| b.len() as u64)
    }
}

/// Makes `count` volumes. The same generator state gives the same bytes.
pub fn make(count: usize, rng: &mut fastrand::Rng) -> Vec<Volume> {
    (0..count).map(|n| volume(format!("vol-{n:03}"), rng)).collect()
}

fn volume(name: String, rng: &mut fastrand::Rng) -> Volume {
    let mut sizes =
        vec![("bitmap".to_owned(), between(rng, 256, 512)), ("index".to_owned(), between(rng, 64, 256))];
    for chunk in 0..CHUNKS {
        let bytes = CHUNK_MEDIAN_BYTES * (CHUNK_SIGMA * normal(rng)).exp();
        sizes.push((format!("chunk-{chunk}"), bytes.clamp(0.5 * MIB, 4.0 * MIB) as usize));
    }
    let mut manifest = Manifest { volume: name.clone(), files: BTreeMap::new() };
    let mut files = BTreeMap::new();
    for (file, bytes) in sizes {
        let mut content = vec![0; bytes];
        rng.fill(&mut content);
        manifest.files.insert(file.clone(), Entry::of(&content));
        files.insert(format!("{name}/{file}"), Bytes::from(content));
    }
    let text = serde_json::to_vec_pretty(&manifest).expect("texts and numbers always become JSON");
    files.insert(format!("{name}/manifest.json"), Bytes::from(text));
    Volume { name, files }
}

fn between(rng: &mut fastrand::Rng, from_kib: usize, to_kib: usize) -> usize {
    rng.usize(from_kib * 1024..to_kib * 1024)
}

/// A standard normal deviate (Box and Muller 1958).
fn normal(rng: &mut fastrand::Rng) -> f64 {
    let (u, v) = (1.0 - rng.f64(), rng.f64());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_the_bytes_and_the_manifest_tells_them() {
        let make = |seed| make(2, &mut fastrand::Rng::with_seed(seed));
        let (a, b, c) = (make(7), make(7), make(8));
        assert_eq!(a[1].files, b[1].files);
        assert_ne!(a[1].files, c[1].files);
        let manifest: Manifest = serde_json::from_slice(&a[0].files["vol-000/manifest.json"]).unwrap();
        assert_eq!(manifest.files.len(), CHUNKS + 2);
        for (name, entry) in &manifest.files {
            assert_eq!(*entry, Entry::of(&a[0].files[&format!("vol-000/{name}")]), "{name}");
            assert_eq!(entry.bytes, a[0].bytes_of(name));
        }
    }
}
