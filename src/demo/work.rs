//! The work of one task: this program again, as a child of the daemon.
//!
//! It reads its inputs, hashes them, compares them with the volume's manifest, writes what its step writes,
//! removes what its step removes, and then takes the time it was given. A wrong byte fails the task.

use super::image::{Entry, Manifest, hex};
use super::stream::Step;
use crate::time::{Clock, Span, Time};
use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// First argument that makes this program do the work of a task.
pub const ARGUMENT: &str = "__demo-work";
/// Share of a task's own time that it computes; the rest it sleeps, as a task does that waits for a device.
const BUSY: f64 = 0.25;
/// Bytes read at once.
const PIECE_BYTES: usize = 256 << 10;

/// Runs the work that the arguments after [`ARGUMENT`] name: `STEP MS OUT INPUT…`, where `OUT` is the folder
/// that takes what is written (`delete`: the file to remove), and `read MS INPUT…`, which reads, hashes and waits.
pub fn main(args: &[String]) -> ExitCode {
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> anyhow::Result<()> {
    let clock = Clock::start(Time::ZERO);
    let [step, ms, rest @ ..] = args else { bail!("usage: {ARGUMENT} STEP MS [OUT] INPUT…") };
    let work = Span::from_s(ms.parse::<f64>().with_context(|| format!("`{ms}` is no time"))? / 1e3);
    if step == "read" {
        for input in rest {
            digest(Path::new(input))?;
        }
        // A measurement of staging: what it costs in processor time is to be seen, not the task's own.
        std::thread::sleep(work.to_std());
    } else {
        let step =
            Step::ALL.into_iter().find(|s| s.word() == step).with_context(|| format!("no step `{step}`"))?;
        let [out, inputs @ ..] = rest else { bail!("no folder is named") };
        // Behind what the type declares stands what only this task reads: objects of other volumes.
        let (files, copy) = step.reads();
        let (own, strange) =
            inputs.split_at_checked(files.len() + usize::from(copy)).context("inputs lack")?;
        Inputs::named(own).take(step, Path::new(out))?;
        for input in strange {
            digest(Path::new(input))?;
        }
        spend(work, clock);
    }
    Ok(())
}

/// The input files by the name they had at their source, without the order number that the work folder adds.
struct Inputs {
    files: BTreeMap<String, PathBuf>,
}

impl Inputs {
    fn named(paths: &[String]) -> Inputs {
        let files = paths.iter().map(PathBuf::from).map(|path| {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let name = name.split_once('-').map_or(name.as_str(), |(_, original)| original).to_owned();
            (name, path)
        });
        Inputs { files: files.collect() }
    }

    fn path(&self, name: &str) -> anyhow::Result<&Path> {
        self.files.get(name).map(PathBuf::as_path).with_context(|| format!("there is no input {name}"))
    }

    fn manifest(&self) -> anyhow::Result<Manifest> {
        let path = self.path("manifest.json")?;
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).context("manifest.json")
    }

    fn take(&self, step: Step, out: &Path) -> anyhow::Result<()> {
        let manifest = self.manifest()?;
        let mut seen = self.check_all(&manifest)?;
        match step {
            Step::Create => write(out, "snapshot.json", &manifest_of(&manifest, &seen)?),
            Step::Copy => {
                let mut image = fs::read(self.path("chunk-0")?)?;
                image.extend(fs::read(self.path("chunk-1")?)?);
                write(out, "copy.img", &image)
            }
            Step::Verify => {
                self.check_copy(&manifest, &mut seen)?;
                write(out, "verified.json", &manifest_of(&manifest, &seen)?)
            }
            Step::Replicate => {
                self.check_copy(&manifest, &mut seen)?;
                write(out, "replica.json", &manifest_of(&manifest, &seen)?)
            }
            Step::Delete => fs::remove_file(out).with_context(|| format!("remove {}", out.display())),
        }
    }

    /// Reads all inputs; those of the volume must be what its manifest says.
    fn check_all(&self, manifest: &Manifest) -> anyhow::Result<BTreeMap<String, Entry>> {
        let mut seen = BTreeMap::new();
        for (name, path) in &self.files {
            let found = digest(path)?;
            if let Some(expected) = manifest.files.get(name) {
                let same = found == *expected;
                ensure!(same, "{}/{name} is not what its manifest says", manifest.volume);
                seen.insert(name.clone(), found);
            }
        }
        Ok(seen)
    }

    /// The copy must be the first two chunks, one after the other.
    fn check_copy(&self, manifest: &Manifest, seen: &mut BTreeMap<String, Entry>) -> anyhow::Result<()> {
        let image = fs::read(self.path("copy.img")?)?;
        let mut rest = image.as_slice();
        for name in ["chunk-0", "chunk-1"] {
            let expected = manifest.files.get(name).with_context(|| format!("the manifest has no {name}"))?;
            let length = usize::try_from(expected.bytes).unwrap_or(usize::MAX);
            let Some((part, after)) = rest.split_at_checked(length) else {
                bail!("the copy of {} ends within {name}", manifest.volume)
            };
            ensure!(Entry::of(part) == *expected, "{name} in the copy of {} differs", manifest.volume);
            seen.insert(format!("copied {name}"), expected.clone());
            rest = after;
        }
        ensure!(rest.is_empty(), "the copy of {} is too long", manifest.volume);
        Ok(())
    }
}

fn manifest_of(of: &Manifest, files: &BTreeMap<String, Entry>) -> anyhow::Result<Vec<u8>> {
    let manifest = Manifest { volume: of.volume.clone(), files: files.clone() };
    Ok(serde_json::to_vec_pretty(&manifest)?)
}

fn write(folder: &Path, name: &str, content: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::write(&path, content).with_context(|| format!("write {}", path.display()))
}

/// Reads a whole file and hashes it.
fn digest(path: &Path) -> anyhow::Result<Entry> {
    let at = || format!("read {}", path.display());
    let mut file = fs::File::open(path).with_context(at)?;
    let mut piece = vec![0; PIECE_BYTES];
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    loop {
        let n = file.read(&mut piece).with_context(at)?;
        if n == 0 {
            return Ok(Entry { bytes, sha256: hex(&hash.finalize()) });
        }
        hash.update(&piece[..n]);
        bytes += n as u64;
    }
}

/// Computes for a part of `work`, sleeps for the rest.
fn spend(work: Span, clock: Clock) {
    let busy_until = clock.now() + work.times(BUSY);
    let mut block = [7u8; 4096];
    while clock.now() < busy_until {
        let sum = Sha256::digest(block);
        block[..sum.len()].copy_from_slice(&sum);
    }
    std::thread::sleep(work.times(1.0 - BUSY).to_std());
}

#[cfg(test)]
mod tests {
    use super::super::image;
    use super::*;

    /// A volume's files as a work folder shows them: numbered, and beside them `out/`.
    fn folder(names: &[&str]) -> (tempfile::TempDir, Vec<String>, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let volume = &image::make(1, &mut fastrand::Rng::with_seed(5))[0];
        let chunk = |n| volume.files[&format!("vol-000/chunk-{n}")].to_vec();
        let copy = [chunk(0), chunk(1)].concat();
        let inputs = names.iter().enumerate().map(|(n, name)| {
            let path = dir.path().join(format!("{n:02}-{name}"));
            let content = volume.files.get(&format!("vol-000/{name}")).map_or(copy.as_slice(), |b| b);
            fs::write(&path, content).unwrap();
            path.to_str().unwrap().to_owned()
        });
        let inputs = inputs.collect();
        fs::create_dir(dir.path().join("out")).unwrap();
        (dir, inputs, copy)
    }

    fn work(step: &str, dir: &Path, inputs: &[String]) -> anyhow::Result<()> {
        let out = dir.join("out").to_str().unwrap().to_owned();
        let args = [vec![step.to_owned(), "1.5".to_owned(), out], inputs.to_vec()].concat();
        run(&args)
    }

    #[test]
    fn a_copy_is_the_changed_chunks_and_passes_its_verification() {
        let (dir, inputs, copy) = folder(&["manifest.json", "chunk-0", "chunk-1"]);
        work("copy", dir.path(), &inputs).unwrap();
        assert_eq!(fs::read(dir.path().join("out/copy.img")).unwrap(), copy);
        let (dir, inputs, _) = folder(&["manifest.json", "chunk-2", "chunk-3", "copy.img"]);
        work("verify", dir.path(), &inputs).unwrap();
        let text = fs::read(dir.path().join("out/verified.json")).unwrap();
        let seen: Manifest = serde_json::from_slice(&text).unwrap();
        assert_eq!(seen.files.len(), 4);
    }

    #[test]
    fn a_wrong_byte_fails_the_task() {
        let (dir, inputs, mut copy) = folder(&["manifest.json", "chunk-2", "chunk-3", "copy.img"]);
        copy[9] ^= 1;
        fs::write(&inputs[3], &copy).unwrap();
        let error = work("verify", dir.path(), &inputs).unwrap_err().to_string();
        assert_eq!(error, "chunk-0 in the copy of vol-000 differs");
        fs::write(&inputs[1], b"x").unwrap();
        let error = work("verify", dir.path(), &inputs).unwrap_err().to_string();
        assert_eq!(error, "vol-000/chunk-2 is not what its manifest says");
    }

    #[test]
    fn delete_removes_the_copy_and_read_only_reads() {
        let (_dir, inputs, _) = folder(&["manifest.json", "copy.img"]);
        let args = ["delete", "1", &inputs[1], &inputs[0]].map(str::to_owned);
        run(&args).unwrap();
        assert!(!Path::new(&inputs[1]).exists());
        let read = ["read", "1", &inputs[0]].map(str::to_owned);
        run(&read).unwrap();
        assert!(run(&["read", "1", &inputs[1]].map(str::to_owned)).is_err());
        assert!(run(&["fly", "1", "out", &inputs[0]].map(str::to_owned)).is_err());
        assert!(run(&[]).is_err());
    }

    #[test]
    fn a_chunk_of_another_volume_does_not_stand_for_its_own() {
        let (dir, mut inputs, _) = folder(&["manifest.json", "chunk-0", "chunk-1"]);
        let strange = dir.path().join("03-chunk-2");
        fs::write(&strange, b"of another volume").unwrap();
        inputs.push(strange.to_str().unwrap().to_owned());
        work("copy", dir.path(), &inputs).unwrap();
    }
}
