//! SIGKILL under load: what was acknowledged is there, done once, and nothing is left behind.

use crate::house::{House, soak, strangers, until};
use crate::nginx::Nginx;
use forestage::store::Reader;
use forestage::time::{Clock, Time};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

/// Tasks of the test with a real web server.
const TASKS: u64 = 200;
/// Volumes they work on, and their size.
const VOLUMES: u8 = 20;
const VOLUME_BYTES: usize = 200_000;
/// Kills at random points; the second figure is that of the soak.
const KILLS: [u64; 2] = [6, 100];
/// Batches that a client submits between two kills, at most, so that the queue drains in the end.
const BATCHES: u64 = 12;

const SNAPSHOTS: &str = r#"
[source.remote]
kind = "http"
url = "URL"
consistency = "revalidate"
[type.snapshot-copy]
argv = ["cp", "{input.0}", "out/copy.img"]
inputs = ["volumes:{entity}/data.img"]
outputs = [{ file = "copy.img", object = "copies:{entity}/copy.img" }]
writes = ["copies:{entity}/copy.img"]
[type.snapshot-verify]
argv = ["cmp", "{input.0}", "{input.1}"]
inputs = ["remote:{entity}/data.img", "volumes:{entity}/data.img"]
"#;

#[test]
fn two_hundred_snapshot_tasks_survive_kills_on_their_way() {
    let mut house = House::new(SNAPSHOTS);
    for i in 0..VOLUMES {
        house.volume(&format!("v{i}"), &vec![i; VOLUME_BYTES]);
    }
    let Some(nginx) = Nginx::serve(&house.path("volumes")) else { return };
    house = house.replacing("URL", &nginx.url());
    house.start();
    let submits: Vec<_> = (0..TASKS)
        .map(|i| {
            let task_type = if i % 2 == 0 { "snapshot-copy" } else { "snapshot-verify" };
            json!({"type": task_type, "entity": format!("v{}", i / 2 % u64::from(VOLUMES))})
        })
        .collect();
    let (status, answers) = house.request("POST", "/v1/tasks", &json!(submits).to_string());
    assert_eq!(status, 200, "{answers}");
    let ids: BTreeSet<u64> = answers.as_array().unwrap().iter().map(|a| a["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len() as u64, TASKS);
    for quarter in 1..=3 {
        until("a quarter more is done", || {
            let done = house.get("/v1/tasks?state=done&limit=1000");
            (done.as_array().unwrap().len() as u64 >= quarter * TASKS / 4).then_some(())
        });
        house.crash();
        house.start();
        assert_eq!(strangers(&house), [0; 0], "a child of the old daemon is alive");
        assert!(knows_its_types(&house), "profiles are kept");
    }
    for id in &ids {
        house.wait_done(*id);
    }
    let health = house.get("/v1/health");
    assert_eq!((&health["epoch"], &health["damage"]), (&json!(4), &json!([])));
    for i in 0..VOLUMES {
        let copy = std::fs::read(house.path(&format!("copies/v{i}/copy.img"))).unwrap();
        assert_eq!(copy, vec![i; VOLUME_BYTES]);
    }
    assert_nothing_is_left(&mut house);
    assert_done_once(&house, &ids);
}

/// Whether a worker remembers how it fared.
fn knows_its_types(house: &House) -> bool {
    let lines = house.get("/v1/workers/fast/profile");
    lines.as_array().unwrap().iter().any(|l| l["effective_count"].as_f64().unwrap() >= 1.0)
}

/// Stops the daemon; no work folder and no unfinished file is left, and every staged file has its entry.
fn assert_nothing_is_left(house: &mut House) {
    let entries = house.get("/v1/cache/objects").as_array().unwrap().len();
    assert!(entries > 0, "something is staged");
    assert!(house.stop(), "{}", house.log());
    let names = |dir: &str| -> Vec<_> {
        let entries = std::fs::read_dir(house.path(dir)).unwrap().map(|e| e.unwrap().file_name());
        entries.filter(|n| !n.to_string_lossy().starts_with('.')).collect()
    };
    assert_eq!(names("work"), [""; 0], "work folders are left");
    assert_eq!(names("work/.private"), [""; 0], "private inputs are left");
    assert_eq!(names("pool/tmp"), [""; 0], "temporary files are left in the pool");
    let staged: usize = names("pool")
        .iter()
        .filter_map(|n| n.to_str())
        .filter(|n| *n != "tmp")
        .map(|folder| std::fs::read_dir(house.path("pool").join(folder)).map_or(0, Iterator::count))
        .sum();
    assert_eq!(staged, entries, "files and entries of the pool agree");
}

/// What the record says when nobody has it open: each task done, once, after so many attempts.
fn assert_done_once(house: &House, ids: &BTreeSet<u64>) -> BTreeMap<u64, u32> {
    let mut attempts = BTreeMap::new();
    let mut reader = Reader::open(&house.path("state/record")).unwrap();
    let damaged = reader.outcomes_since(0, |done| {
        assert_eq!(done.state, forestage::store::DoneState::Done, "{done:?}");
        assert_eq!(attempts.insert(done.id.0, done.attempts), None, "task {} is done twice", done.id.0);
    });
    assert_eq!(damaged.unwrap(), 0);
    assert!(attempts.keys().eq(ids), "what is done is what was acknowledged");
    attempts
}

const NOTES: &str = r#"
[type.note]
argv = ["sh", "-c", "echo $FORESTAGE_TASK $FORESTAGE_ATTEMPT >> NOTES; cmp \"$1\" \"$1\"; sleep 0.0$FORESTAGE_ARG_PAUSE", "sh", "{input.0}"]
inputs = ["volumes:{entity}/data.img"]
args = { pause = "[0-9]" }
attempts = 50
"#;

/// What a client knows of its tasks: each key, and the number it was told, if it was told one.
type Told = BTreeMap<u64, Option<u64>>;

#[test]
fn nothing_acknowledged_is_lost_over_kills_at_random_points() {
    let mut house = House::new(NOTES);
    let notes = house.path("notes").display().to_string();
    house = house.replacing("NOTES", &notes);
    for i in 0..VOLUMES {
        house.volume(&format!("v{i}"), &vec![i; 5_000]);
    }
    let mut rng = fastrand::Rng::with_seed(11);
    let told = Mutex::new(Told::new());
    for round in 0..soak(KILLS) {
        house.start();
        assert_eq!(strangers(&house), [0; 0], "round {round}: a child of the old daemon is alive");
        let kill_after = Duration::from_micros(rng.u64(1_000..400_000));
        std::thread::scope(|s| {
            s.spawn(|| submit_until_it_dies(&house, &told));
            std::thread::sleep(kill_after);
            crate::house::signal(house.pid(), "KILL");
        });
        house.crash();
    }
    house.start();
    let mut told = told.into_inner().unwrap();
    // What was not answered is asked for again: its key tells whether it was taken.
    for (key, id) in told.iter_mut().filter(|(_, id)| id.is_none()) {
        let (status, answer) = house.request("POST", "/v1/tasks", &note(*key).to_string());
        assert!(status == 201 || status == 200, "{answer}");
        *id = answer["id"].as_u64();
    }
    let ids: BTreeSet<u64> = told.values().map(|id| id.unwrap()).collect();
    assert_eq!(ids.len(), told.len(), "two keys, one task");
    for (key, id) in &told {
        let task = house.wait_done(id.unwrap());
        assert_eq!(task["key"], format!("key-{key}"), "{task}");
    }
    println!("{} kills, {} tasks", soak(KILLS), ids.len());
    assert_eq!(house.get("/v1/health")["damage"], json!([]));
    assert_nothing_is_left(&mut house);
    let recorded = assert_done_once(&house, &ids);
    let mut begun = BTreeSet::new();
    for line in std::fs::read_to_string(house.path("notes")).unwrap().lines() {
        let (task, attempt) = line.split_once(' ').unwrap();
        let (task, attempt): (u64, u32) = (task.parse().unwrap(), attempt.parse().unwrap());
        assert!(begun.insert((task, attempt)), "attempt {attempt} of task {task} was begun twice");
        assert!(attempt <= recorded[&task], "task {task} was begun again after it was done");
    }
    assert!(recorded.iter().all(|(id, attempts)| begun.contains(&(*id, *attempts))), "done, but never begun");
}

fn note(key: u64) -> Value {
    json!({"type": "note", "entity": format!("v{}", key % u64::from(VOLUMES)), "key": format!("key-{key}"),
        "args": {"pause": (key % 4).to_string()}})
}

/// Submits small batches, and now and then an old key again, until nobody answers.
fn submit_until_it_dies(house: &House, told: &Mutex<Told>) {
    for batch in 0..BATCHES {
        let mut told = told.lock().unwrap();
        let next = told.len() as u64;
        let fresh = next..next + 1 + batch % 5;
        let keys: Vec<u64> = fresh.chain((next > 3).then_some(next / 2)).collect();
        for key in &keys {
            told.entry(*key).or_default();
        }
        let body = json!(keys.iter().map(|k| note(*k)).collect::<Vec<_>>()).to_string();
        let Some((200, answers)) = house.try_request("POST", "/v1/tasks", "application/json", &body) else {
            return;
        };
        // A kill in the middle of the answer leaves a part of it: what can be read was acknowledged.
        let Some(answers) = answers.as_array() else { return };
        for (key, answer) in keys.iter().zip(answers) {
            let id = answer["id"].as_u64();
            assert!(id.is_some(), "{answer}");
            let before = told.insert(*key, id).flatten();
            assert!(before.is_none() || before == id, "key {key} was {before:?}, is {id:?}");
        }
        drop(told);
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Queued tasks of the recovery test.
const QUEUED: usize = 100_000;

#[test]
fn a_hundred_thousand_queued_tasks_are_back_after_a_kill() {
    let mut house = House::new(NOTES);
    house.volume("v0", b"x");
    house.start();
    house.request("POST", "/v1/pause", "");
    let submit = json!({"type": "note", "entity": "v0", "args": {"pause": "0"}});
    let thousand = json!(vec![submit; 1_000]).to_string();
    for _ in 0..QUEUED / 1_000 {
        let (status, answer) = house.request("POST", "/v1/tasks", &thousand);
        assert_eq!(status, 200, "{answer}");
    }
    let clock = Clock::start(Time::ZERO);
    house.crash();
    house.start();
    let took_ms = clock.now().since(clock.start_of()).as_ms();
    let health = house.get("/v1/health");
    println!("{QUEUED} queued: ready {took_ms} ms after the kill");
    let waiting: u64 = ["queued", "running"].iter().filter_map(|s| health["tasks"][s].as_u64()).sum();
    assert!(waiting > QUEUED as u64 - 100, "some may be done by now: {health}");
    // The figure belongs to a release build on a machine that does nothing else: the soak's.
    let limit_ms = if cfg!(debug_assertions) { 20_000.0 } else { 1_000.0 };
    assert!(took_ms <= limit_ms, "{took_ms} ms");
}
