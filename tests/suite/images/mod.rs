//! Power cuts: what the running daemon writes and syncs is recorded, the disks that a cut could have left are
//! built from the recording and opened again. Bits that flip on disk: each is found or harmless.

mod disk;

use crate::house::{House, soak};
use disk::{Ack, Cut, Event, Player, acknowledge};
use forestage::store::{Change, Live, LiveState, Loaded, Options, Reader, Record, TaskRow, state::State};
use forestage::time::Time;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Images of the task record, and of sled; the second figure is that of the soak.
const RECORD_IMAGES: [u64; 2] = [80, 500];
const STATE_IMAGES: [u64; 2] = [40, 200];
/// Flipped bits for each file.
const FLIPS: [u64; 2] = [25, 100];

/// The recorder, compiled into `dir`.
pub fn shim(dir: &Path) -> PathBuf {
    let library = dir.join("shim.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/images/shim.c");
    let built = Command::new("cc")
        .args(["-O1", "-Wall", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .args([source, "-ldl", "-lpthread"])
        .status()
        .expect("a C compiler is there");
    assert!(built.success());
    library
}

const TYPES: &str = r#"
[type.check]
argv = ["cmp", "{input.0}", "{input.0}"]
inputs = ["volumes:{entity}/data.img"]
attempts = 50
"#;

/// A daemon's life of three starts, recorded: tasks are submitted and done, it is killed, it is stopped.
struct Recording {
    house: House,
    events: Vec<Event>,
}

/// One recording for the tests that run at the same time.
fn recording() -> Arc<Recording> {
    static SHARED: Mutex<Weak<Recording>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let fresh = Arc::new(record());
        *shared = Arc::downgrade(&fresh);
        fresh
    })
}

fn record() -> Recording {
    let mut house = House::new(TYPES);
    for i in 0..8u8 {
        house.volume(&format!("v{i}"), &vec![i; 9_000]);
    }
    let log = house.path("recording");
    let watched = format!("{0}/state/record:{0}/state/state", house.dir.path().display());
    house.env("LD_PRELOAD", shim(house.dir.path()));
    house.env("SHIM_DIRS", watched);
    house.env("SHIM_LOG", &log);
    for life in 0..3 {
        house.start();
        let mut log = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        for batch in 0..12 {
            let one = |i: u64| json!({"type": "check", "entity": format!("v{}", (batch + i) % 8)});
            let body = json!((0..1 + batch % 7).map(one).collect::<Vec<_>>()).to_string();
            let (status, answers) = house.request("POST", "/v1/tasks", &body);
            assert_eq!(status, 200, "{answers}");
            let ids: Vec<_> = answers.as_array().unwrap().iter().map(|a| a["id"].as_u64().unwrap()).collect();
            for id in &ids {
                acknowledge(&mut log, Ack::Submitted(*id));
            }
            if batch % 3 == life % 3 {
                house.wait_done(ids[0]);
                acknowledge(&mut log, Ack::Done(ids[0]));
            }
            if batch == 6 {
                // The record tidies up when nothing comes for half a second: a checkpoint under way is a moment too.
                std::thread::sleep(std::time::Duration::from_millis(700));
            }
        }
        match life {
            2 => assert!(house.stop(), "{}", house.log()),
            _ => house.crash(),
        }
    }
    let events = disk::read(&log);
    Recording { house, events }
}

/// Plays the recording and calls `each` with a disk for each of `images` moments, and what was told by then.
fn cuts(images: u64, seed: u64, mut each: impl FnMut(usize, Cut, disk::Disk, &[Ack])) {
    let recording = recording();
    let events = &recording.events;
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut moments: Vec<usize> = (0..images).map(|_| rng.usize(..events.len())).collect();
    moments.sort_unstable();
    let mut player = Player::default();
    let mut next = moments.into_iter().peekable();
    for (n, event) in events.iter().enumerate() {
        player.play(event);
        while next.next_if_eq(&n).is_some() {
            let how = [Cut::Dropped, Cut::Kept, Cut::Pages, Cut::Sectors][rng.usize(..4)];
            each(n, how, player.cut(how, &mut rng), &player.told);
        }
    }
}

/// A scratch folder, in memory where there is one: what counts are bytes.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What a record says: unfinished tasks, ends by task, and damage in words.
#[derive(Debug, Default, PartialEq)]
struct Said {
    live: BTreeSet<u64>,
    ends: BTreeMap<u64, u32>,
    damage: Vec<String>,
}

fn ask(dir: &Path) -> Result<Said, String> {
    let mut said = Said::default();
    let options = Options { inline: true, beside: false, ..Options::default() };
    let (mut record, opened) = Record::open(dir, options, |loaded| {
        if let Loaded::Task(task, _) = loaded {
            assert!(said.live.insert(task.id.0), "task {} came twice", task.id.0);
        }
    })
    .map_err(|e| e.to_string())?;
    said.damage = opened.damage.iter().map(ToString::to_string).collect();
    let unreadable = Reader::open(dir)
        .and_then(|mut r| r.outcomes_since(0, |done| *said.ends.entry(done.id.0).or_default() += 1));
    match unreadable {
        Ok(0) => {}
        Ok(n) => said.damage.push(format!("{n} outcomes in {}", dir.display())),
        Err(e) => said.damage.push(e.to_string()),
    }
    // Work goes on.
    let id = forestage::flow::TaskId(opened.last_id + 1);
    let row = TaskRow {
        id,
        type_name: "check".into(),
        priority: 1,
        key: None,
        submitted: Time::from_us(1),
        body: "{}".into(),
    };
    let more = Change::Submit(row, Live::new(id, LiveState::Queued));
    let mut went_on = Err("no answer".to_owned());
    let (tell, told) = std::sync::mpsc::channel();
    record.submit(vec![more], Box::new(move |r| tell.send(r).unwrap()));
    if let Ok(answer) = told.recv() {
        went_on = answer.map_err(|e| e.to_string());
    }
    if let Err(error) = went_on {
        said.damage.push(error);
    }
    let checked = record.checker()().map_err(|e| e.to_string())?;
    said.damage.extend(checked.iter().map(ToString::to_string));
    Ok(said)
}

#[test]
fn the_recording_is_complete() {
    let recording = recording();
    let Recording { house, events } = &*recording;
    let mut player = Player::default();
    events.iter().for_each(|e| player.play(e));
    let dir = scratch();
    let disk = player.cut(Cut::Kept, &mut fastrand::Rng::with_seed(0));
    disk.restore(&house.path("state"), dir.path());
    for file in ["record/tasks.db", "record/tasks.mark", "state/db"] {
        let (real, rebuilt) = (house.path("state").join(file), dir.path().join(file));
        assert!(std::fs::read(real).unwrap() == std::fs::read(rebuilt).unwrap(), "{file} differs");
    }
    let syncs = events.iter().filter(|e| matches!(e, Event::Sync(_))).count();
    println!("{} events, {syncs} syncs, {} acknowledgements", events.len(), player.told.len());
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut() {
    let recording = recording();
    let root = recording.house.path("state/record");
    let mut opened = 0;
    cuts(soak(RECORD_IMAGES), 21, |n, how, disk, told| {
        let dir = scratch();
        disk.restore(&root, dir.path());
        let said = ask(dir.path()).unwrap_or_else(|e| panic!("cut {how:?} after event {n}: {e}"));
        assert_eq!(said.damage, [""; 0], "cut {how:?} after event {n}");
        for ack in told {
            match ack {
                Ack::Submitted(id) => assert!(
                    said.live.contains(id) || said.ends.contains_key(id),
                    "cut {how:?} after event {n}: task {id} is lost"
                ),
                Ack::Done(id) => {
                    assert_eq!(said.ends.get(id), Some(&1), "cut {how:?} after event {n}: task {id}")
                }
            }
        }
        assert!(said.ends.values().all(|ends| *ends == 1), "cut {how:?} after event {n}: done twice");
        opened += 1;
    });
    println!("{opened} images of the record");
}

#[test]
fn a_disk_that_ignores_syncs_would_lose_tasks() {
    // What excludes that the images above are kind: without the syncs the same recording loses what was told.
    let recording = recording();
    let mut player = Player::default();
    recording.events.iter().filter(|e| !matches!(e, Event::Sync(_))).for_each(|e| player.play(e));
    let dir = scratch();
    player
        .cut(Cut::Pages, &mut fastrand::Rng::with_seed(24))
        .restore(&recording.house.path("state/record"), dir.path());
    let lost = ask(dir.path()).map_or(true, |said| {
        !said.damage.is_empty()
            || player.told.iter().any(|ack| match ack {
                Ack::Submitted(id) => !said.live.contains(id) && !said.ends.contains_key(id),
                Ack::Done(id) => !said.ends.contains_key(id),
            })
    });
    assert!(lost);
}

#[test]
fn sled_opens_after_a_power_cut_or_is_set_aside() {
    let recording = recording();
    let root = recording.house.path("state/state");
    let mut set_aside = BTreeMap::<String, u32>::new();
    cuts(soak(STATE_IMAGES), 22, |n, how, disk, _| {
        let dir = scratch();
        let path = dir.path().join("state");
        disk.restore(&root, &path);
        let (state, damage) =
            State::open(&path).unwrap_or_else(|e| panic!("cut {how:?} after event {n}: {e}"));
        if let Some(damage) = damage {
            assert!(damage.to_string().contains(&*path.to_string_lossy()), "{damage}");
            assert!(path.with_file_name("state.damaged-1").exists(), "{damage}");
            *set_aside.entry(format!("{how:?}")).or_default() += 1;
        }
        let tree = state.tree("profiles").unwrap();
        tree.scan::<serde_json::Value>(b"", |_, value| assert!(value.is_ok(), "a value that is none"))
            .unwrap();
        tree.put_bytes(b"new", b"value").unwrap();
        state.flush().unwrap();
        assert_eq!(tree.get_bytes(b"new").unwrap().as_deref(), Some(&b"value"[..]));
    });
    println!("{} images of sled, set aside: {set_aside:?}", soak(STATE_IMAGES));
    // Seen about once in a hundred such images: sled does not always open what a kill left between two of its
    // writes. What it keeps can be rebuilt, so that is set aside like any other damage; it must stay rare.
    let by_kill = set_aside.get("Kept").copied().unwrap_or(0);
    assert!(by_kill <= 3, "{by_kill} of them by a kill alone");
}

/// Copies a folder without what does not outlive the process.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(name));
        } else if !name.to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

/// A disk in the middle of the recording, with a log that holds something.
fn in_mid_life(root: &Path) -> tempfile::TempDir {
    let recording = recording();
    let events = &recording.events;
    let mut player = Player::default();
    events[..events.len() * 4 / 5].iter().for_each(|e| player.play(e));
    let dir = scratch();
    player.cut(Cut::Kept, &mut fastrand::Rng::with_seed(0)).restore(root, &dir.path().join("sound"));
    dir
}

/// Flips one bit at many places of each file below `sound`, each in a copy of its own.
fn flips(sound: &Path, mut each: impl FnMut(&Path, &Path, String)) {
    let mut rng = fastrand::Rng::with_seed(23);
    let mut files: Vec<PathBuf> = Vec::new();
    let mut folders = vec![sound.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path())
            } else {
                files.push(entry.path())
            }
        }
    }
    files.sort();
    for file in files {
        let name = file.strip_prefix(sound).unwrap();
        let bytes = std::fs::read(&file).unwrap();
        let used: Vec<usize> = (0..bytes.len().div_ceil(512))
            .filter(|s| bytes[s * 512..bytes.len().min((s + 1) * 512)].iter().any(|b| *b != 0))
            .collect();
        if used.is_empty() {
            continue;
        }
        for _ in 0..soak(FLIPS) {
            let at = (used[rng.usize(..used.len())] * 512 + rng.usize(..512)).min(bytes.len() - 1);
            let bit = rng.u8(..8);
            let dir = scratch();
            let damaged = dir.path().join("damaged");
            copy(sound, &damaged);
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            std::fs::write(damaged.join(name), bytes).unwrap();
            each(&damaged, name, format!("{}, byte {at}, bit {bit}", name.display()));
        }
    }
}

#[test]
fn a_flipped_bit_of_the_record_is_named_or_harmless() {
    let recording = recording();
    let dir = in_mid_life(&recording.house.path("state/record"));
    let sound_dir = dir.path().join("sound");
    let probe = scratch();
    copy(&sound_dir, probe.path());
    let sound = ask(probe.path()).unwrap();
    assert_eq!(sound.damage, [""; 0]);
    let mut verdicts = BTreeMap::<String, [u32; 3]>::new();
    flips(&sound_dir, |damaged, name, what| {
        let verdict = match ask(damaged) {
            // Nothing can be read without it; the file is named.
            Err(said) => {
                assert!(said.contains("tasks."), "{what}: {said}");
                2
            }
            Ok(said) if said.damage.is_empty() => {
                assert_eq!(said, sound, "{what}: wrong in silence");
                0
            }
            Ok(said) => {
                assert!(
                    said.damage.iter().all(|d| d.contains(&*damaged.to_string_lossy())),
                    "{what}: {said:?}"
                );
                1
            }
        };
        verdicts.entry(name.display().to_string()).or_default()[verdict] += 1;
    });
    println!("harmless, reported, refused: {verdicts:?}");
}

#[test]
fn a_flipped_bit_of_sled_is_set_aside_or_harmless() {
    let recording = recording();
    let dir = in_mid_life(&recording.house.path("state/state"));
    let sound_dir = dir.path().join("sound");
    let values = |dir: &Path| {
        let (state, damage) = State::open(dir).unwrap();
        let mut all = BTreeMap::new();
        for name in state.trees().unwrap() {
            let tree = state.tree(&name).unwrap();
            tree.scan_bytes(b"", |k, v| _ = all.insert((name.clone(), k.to_vec()), v.to_vec())).unwrap();
        }
        (all, damage)
    };
    let probe = scratch();
    copy(&sound_dir, &probe.path().join("state"));
    let (sound, _) = values(&probe.path().join("state"));
    assert!(!sound.is_empty());
    let mut verdicts = BTreeMap::<String, [u32; 3]>::new();
    flips(&sound_dir, |damaged, name, what| {
        let (found, damage) = values(damaged);
        let verdict = match damage {
            Some(damage) => {
                assert!(damage.to_string().contains(&*damaged.to_string_lossy()), "{what}: {damage}");
                1
            }
            None if found == sound => 0,
            None => {
                // A lost tail is older, never wrong: what is there is what was put.
                for (key, value) in &found {
                    assert!(
                        sound.get(key).is_none_or(|v| v == value || v.len() == value.len()),
                        "{what}: {key:?}"
                    );
                }
                2
            }
        };
        verdicts.entry(name.display().to_string()).or_default()[verdict] += 1;
    });
    println!("harmless, set aside, older: {verdicts:?}");
}
