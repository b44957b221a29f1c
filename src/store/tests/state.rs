//! sled at arm's length: a broken store is set aside, and the daemon starts.

use super::super::state::State;
use super::*;

fn value(key: u64) -> Vec<u8> {
    noise(key, if key.is_multiple_of(7) { 40_000 } else { 900 })
}

fn fill(state: &State) {
    for name in ["profiles", "caches/ssd"] {
        let tree = state.tree(name).unwrap();
        for key in 0..200_u64 {
            tree.put_bytes(&key.to_be_bytes(), &value(key)).unwrap();
        }
        for key in 0..50_u64 {
            tree.remove(&key.to_be_bytes()).unwrap();
        }
    }
    state.flush().unwrap();
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn what_was_flushed_is_there_after_a_restart() {
    let dir = scratch();
    let path = dir.path().join("state");
    let (state, damage) = State::open(&path).unwrap();
    assert_eq!(damage, None);
    fill(&state);
    let copy = dir.path().join("copy");
    copy_dir(&path, &copy);
    for path in [&copy, &path] {
        let (state, damage) = if path == &copy { State::open(path).unwrap() } else { (state.clone(), None) };
        assert_eq!(damage, None);
        assert_eq!(state.trees().unwrap().len(), 2);
        let tree = state.tree("profiles").unwrap();
        let mut seen = Vec::new();
        tree.scan_bytes(b"", |key, bytes| {
            let key = u64::from_be_bytes(key.try_into().unwrap());
            assert_eq!(bytes, value(key));
            seen.push(key);
        })
        .unwrap();
        assert!(seen.into_iter().eq(50..200));
    }
}

#[test]
fn json_of_another_shape_is_the_readers_to_judge() {
    let dir = scratch();
    let (state, _) = State::open(&dir.path().join("state")).unwrap();
    let tree = state.tree("t").unwrap();
    tree.put(b"k", &vec![1, 2, 3]).unwrap();
    assert_eq!(tree.get::<Vec<u8>>(b"k").unwrap().unwrap().unwrap(), [1, 2, 3]);
    assert!(tree.get::<String>(b"k").unwrap().unwrap().is_err());
    assert!(tree.get::<String>(b"other").unwrap().is_none());
    assert!(tree.put(&[0; 300], &1).is_err());
    assert!(tree.get::<Vec<u8>>(b"k").unwrap().is_some(), "a refused value breaks nothing");
}

#[test]
fn a_reader_sees_the_old_value_or_the_new_one() {
    let dir = scratch();
    let (state, _) = State::open(&dir.path().join("state")).unwrap();
    let tree = state.tree("snapshots").unwrap();
    tree.put_bytes(b"k", &[0; 30_000]).unwrap();
    std::thread::scope(|s| {
        let writer = s.spawn(|| (1..40_u8).for_each(|n| tree.put_bytes(b"k", &[n; 30_000]).unwrap()));
        let reader = state.tree("snapshots").unwrap();
        let mut last = 0;
        while !writer.is_finished() {
            let value = reader.get_bytes(b"k").unwrap().unwrap();
            assert!(value.len() == 30_000 && value.iter().all(|b| *b == value[0]) && value[0] >= last);
            last = value[0];
        }
    });
}

#[test]
fn a_damaged_store_is_set_aside_and_rebuilt() {
    let dir = scratch();
    let path = dir.path().join("state");
    let (state, _) = State::open(&path).unwrap();
    fill(&state);
    drop(state);
    let db = std::fs::read(path.join("db")).unwrap();
    let used: Vec<_> =
        db.chunks(512).enumerate().filter(|(_, s)| s.iter().any(|b| *b != 0)).map(|(i, _)| i).collect();
    let mut rng = fastrand::Rng::with_seed(9);
    let mut set_aside = 0;
    for round in 0..100 {
        let at = used[rng.usize(..used.len())] * 512 + rng.usize(..512);
        let broken = dir.path().join(format!("broken-{round}"));
        copy_dir(&path, &broken);
        let mut bytes = db.clone();
        bytes[at] ^= 1 << rng.u8(..8);
        std::fs::write(broken.join("db"), bytes).unwrap();
        let (state, damage) = State::open(&broken).unwrap();
        let tree = state.tree("profiles").unwrap();
        let mut seen = 0;
        tree.scan_bytes(b"", |key, bytes| {
            assert_eq!(bytes, value(u64::from_be_bytes(key.try_into().unwrap())), "byte {at}");
            seen += 1;
        })
        .unwrap();
        if let Some(damage) = damage {
            set_aside += 1;
            assert_eq!(seen, 0);
            assert!(
                damage.what.contains("damaged-1")
                    && dir.path().join(format!("broken-{round}.damaged-1")).exists()
            );
        }
        tree.put_bytes(b"new", b"value").unwrap();
        state.flush().unwrap();
    }
    println!("set aside: {set_aside} of 100");
    assert!(set_aside > 5);
}

#[test]
fn a_folder_of_rubbish_does_not_keep_the_daemon_from_starting() {
    let dir = scratch();
    let path = dir.path().join("state");
    std::fs::create_dir(&path).unwrap();
    for name in ["db", "conf", "snap.0000"] {
        std::fs::write(path.join(name), [0x5a; 3_000]).unwrap();
    }
    let (state, damage) = State::open(&path).unwrap();
    assert!(damage.is_some());
    state.tree("t").unwrap().put(b"k", &1).unwrap();
}
