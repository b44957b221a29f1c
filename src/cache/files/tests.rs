use super::*;
use std::os::unix::fs::symlink;

struct Pool {
    _dir: tempfile::TempDir,
    root: PathBuf,
    files: Files,
}

fn pool() -> Pool {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("pool");
    let (files, _) = Files::open(&root, &BTreeSet::new()).unwrap();
    Pool { _dir: dir, root, files }
}

impl Pool {
    fn put(&self, id: u64, content: &[u8]) -> FileId {
        let temp = self.files.tmp().join(format!("t{id}"));
        std::fs::write(&temp, content).unwrap();
        self.files.admit(&temp, FileId(id), content.len() as u64).unwrap();
        FileId(id)
    }
}

#[test]
fn admits_a_checked_file_read_only_under_its_id() {
    let p = pool();
    let id = p.put(0x1ff, b"hello");
    assert_eq!(p.files.path(id), p.root.join("ff/00000000000001ff"));
    let meta = std::fs::metadata(p.files.path(id)).unwrap();
    assert_eq!((meta.len(), meta.permissions().mode() & 0o777), (5, 0o444));
    let sum = xxhash_rust::xxh3::xxh3_128(b"hello");
    assert_eq!(p.files.verify(id, 5, Some(sum)), Verdict::Good);
    assert_eq!(p.files.verify(id, 5, None), Verdict::Good);
}

#[test]
fn refuses_a_file_of_another_length_and_removes_it() {
    let p = pool();
    let temp = p.files.tmp().join("t");
    std::fs::write(&temp, b"hell").unwrap();
    let e = p.files.admit(&temp, FileId(1), 5).unwrap_err();
    assert_eq!(e, Error::WrongSize { path: temp.clone(), expected_bytes: 5, found_bytes: 4 });
    assert!(!temp.exists() && !p.files.path(FileId(1)).exists());
}

#[test]
fn verify_tells_missing_short_and_changed_files_apart() {
    let p = pool();
    let sum = Some(xxhash_rust::xxh3::xxh3_128(b"hello"));
    assert_eq!(p.files.verify(FileId(9), 5, sum), Verdict::Missing);
    let id = p.put(1, b"hell");
    assert_eq!(p.files.verify(id, 5, sum), Verdict::WrongSize { found_bytes: 4 });
    let id = p.put(2, b"hallo");
    assert!(matches!(p.files.verify(id, 5, sum), Verdict::WrongChecksum { .. }));
    std::fs::create_dir(p.files.path(FileId(3))).unwrap();
    assert!(matches!(p.files.verify(FileId(3), 5, sum), Verdict::Unreadable(Error::NotAFile { .. })));
}

#[test]
fn start_removes_leftovers_but_those_to_be_resumed() {
    let p = pool();
    for (name, content) in [("a", "12"), ("keep", "345"), ("c", "6789")] {
        std::fs::write(p.files.tmp().join(name), content).unwrap();
    }
    let Pool { _dir, root, files } = p;
    drop(files);
    let (files, swept) = Files::open(&root, &BTreeSet::from(["keep".into()])).unwrap();
    assert_eq!(swept, Swept { files: 2, bytes: 6 });
    assert!(files.tmp().join("keep").exists());
}

#[test]
fn recheck_finds_what_was_lost_and_removes_what_is_unknown() {
    let p = pool();
    let (good, short, unknown) = (p.put(1, b"good"), p.put(2, b"shor"), p.put(3, b"unknown"));
    std::fs::write(p.root.join("07/notes.txt"), b"!").unwrap();
    // In the wrong folder it would never be found again.
    std::fs::write(p.root.join("07/0000000000000001"), b"good").unwrap();
    let claims = BTreeMap::from([(good, 4), (short, 5), (FileId(4), 1)]);
    let found = p.files.recheck(&claims).unwrap();
    assert_eq!(found.lost, vec![short, FileId(4)]);
    assert_eq!(found.strays.files, 4);
    assert!(p.files.path(good).exists() && !p.files.path(short).exists() && !p.files.path(unknown).exists());
    assert_eq!(p.files.recheck(&BTreeMap::from([(good, 4)])).unwrap(), Recheck::default());
}

#[test]
fn a_folder_with_other_things_in_it_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.tex"), b"x").unwrap();
    let e = Files::open(dir.path(), &BTreeSet::new()).unwrap_err();
    assert_eq!(e, Error::NotAPool { dir: dir.path().to_owned() });
    assert_eq!(list(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_pool_of_another_version_is_not_touched() {
    let Pool { _dir, root, files } = pool();
    std::fs::write(files.tmp().join("a"), "x").unwrap();
    drop(files);
    std::fs::write(root.join(MARK.0), "forestage pool 2\n").unwrap();
    let e = Files::open(&root, &BTreeSet::new()).unwrap_err();
    assert_eq!(e, Error::OtherVersion { dir: root.clone() });
    assert!(root.join("tmp/a").exists());
}

#[test]
fn a_pool_serves_one_daemon_at_a_time() {
    let p = pool();
    assert_eq!(Files::open(&p.root, &BTreeSet::new()).unwrap_err(), Error::InUse { dir: p.root.clone() });
    let Pool { _dir, root, files } = p;
    drop(files);
    Files::open(&root, &BTreeSet::new()).unwrap();
}

#[test]
fn unlink_tells_whether_a_task_still_holds_the_bytes() {
    let p = pool();
    let (free, held) = (p.put(1, b"free"), p.put(2, b"held!"));
    std::fs::hard_link(p.files.path(held), p.root.join("tmp/link")).unwrap();
    assert_eq!(p.files.unlink(free).unwrap(), Unlinked { bytes: 4, still_linked: false });
    assert_eq!(p.files.unlink(held).unwrap(), Unlinked { bytes: 5, still_linked: true });
    assert_eq!(p.files.unlink(held).unwrap(), Unlinked { bytes: 0, still_linked: false });
    assert_eq!(std::fs::read(p.root.join("tmp/link")).unwrap(), b"held!");
}

#[test]
fn adopts_by_moving_when_safe_and_by_copying_when_not() {
    let p = pool();
    let out = p.root.parent().unwrap().join("out.img");
    let sum = xxhash_rust::xxh3::xxh3_128(b"snapshot");
    std::fs::write(&out, b"snapshot").unwrap();
    let adopted = p.files.adopt(&out, FileId(1)).unwrap();
    assert_eq!(adopted, Adopted { bytes: 8, checksum: sum, moved: true });
    assert!(!out.exists());

    // A second link: whoever holds it could change the bytes.
    std::fs::write(&out, b"snapshot").unwrap();
    std::fs::hard_link(&out, out.with_extension("link")).unwrap();
    assert_eq!(p.files.adopt(&out, FileId(2)).unwrap(), Adopted { bytes: 8, checksum: sum, moved: false });
    std::fs::write(out.with_extension("link"), b"changed!").unwrap();
    assert_eq!(p.files.verify(FileId(2), 8, Some(sum)), Verdict::Good);

    // Another file system.
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    let far = shm.path().join("out.img");
    std::fs::write(&far, b"snapshot").unwrap();
    assert!(!p.files.adopt(&far, FileId(3)).unwrap().moved);
    assert_eq!(p.files.verify(FileId(3), 8, Some(sum)), Verdict::Good);
    assert_eq!(list(&p.files.tmp()).unwrap().count(), 0);
}

#[test]
fn links_pipes_and_folders_are_not_adopted() {
    let p = pool();
    let at = |name: &str| p.root.parent().unwrap().join(name);
    std::fs::write(at("secret"), b"x").unwrap();
    symlink(at("secret"), at("link")).unwrap();
    std::fs::create_dir(at("folder")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("pipe"),
        rustix::fs::FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    for name in ["link", "folder", "pipe"] {
        assert_eq!(p.files.adopt(&at(name), FileId(1)).unwrap_err(), Error::NotAFile { path: at(name) });
    }
}

/// A real full file system: a tmpfs of 1 MiB in a mount namespace of its own would need root in the test's
/// process; `/dev/full` gives the same error code without.
#[test]
fn a_full_disk_is_told_apart() {
    let e = File::options().write(true).open("/dev/full").unwrap().write_all(b"x").unwrap_err();
    let error = Error::new("write", Path::new("/pool/x"), &e);
    assert!(error.is_no_space(), "{error}");
    assert_eq!(error.to_string(), "no space left for /pool/x");
}

#[test]
fn tells_free_bytes() {
    let p = pool();
    assert!(p.files.free_bytes().unwrap() > 0);
}

/// What durability costs. `cargo test --release measures_the_price -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
#[allow(clippy::disallowed_methods, reason = "measures real time")]
fn measures_the_price_of_syncs() {
    let p = pool();
    const N: u64 = 1000;
    for (label, sync_file, sync_folder) in
        [("no sync", false, false), ("fdatasync", true, false), ("fdatasync + folder", true, true)]
    {
        let start = std::time::Instant::now();
        for n in 0..N {
            let temp = p.files.tmp().join("t");
            let mut file = File::create(&temp).unwrap();
            file.write_all(&[7; 4096]).unwrap();
            if sync_file {
                file.sync_data().unwrap();
            }
            let to = p.files.path(FileId(n));
            std::fs::rename(&temp, &to).unwrap();
            if sync_folder {
                File::open(to.parent().unwrap()).unwrap().sync_all().unwrap();
            }
        }
        println!("{label}: {:.0} µs a file", start.elapsed().as_micros() as f64 / N as f64);
    }
}
