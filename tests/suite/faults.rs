//! Real faults against the real binary: full and failing disks, sources that die, stall, lie.

use crate::faulty::{Faulty, Habits};
use crate::house::{House, until};
use crate::images::shim;
use serde_json::json;
use std::path::Path;
use std::process::{Command, Stdio};

const TYPES: &str = r#"
[source.remote]
kind = "http"
url = "URL"
retries = 2
timeout = "2s"
[type.compare]
argv = ["cmp", "{input.0}", "{input.1}"]
inputs = ["remote:{entity}/data.img", "volumes:{entity}/data.img"]
attempts = 20
backoff = { first = "20ms", limit = "200ms" }
[type.local]
argv = ["cmp", "{input.0}", "{input.0}"]
inputs = ["volumes:{entity}/data.img"]
"#;

/// A source that nobody asks.
const NOBODY: &str = "http://127.0.0.1:9/";

/// Submits tasks that compare what came through a faulty server with the original; all are to be done.
fn right_data_in_spite_of(habits: Habits, tasks: u64) {
    let mut house = House::new(TYPES);
    for i in 0..tasks {
        house.volume(&format!("v{i}"), &vec![i as u8; 30_000 + i as usize]);
    }
    let server = Faulty::serve(&house.path("volumes"), habits);
    house = house.replacing("URL", &server.url());
    house.start();
    let submits: Vec<_> = (0..tasks).map(|i| json!({"type": "compare", "entity": format!("v{i}")})).collect();
    let (status, answers) = house.request("POST", "/v1/tasks", &json!(submits).to_string());
    assert_eq!(status, 200, "{answers}");
    for answer in answers.as_array().unwrap() {
        house.wait_done(answer["id"].as_u64().unwrap());
    }
    assert!(server.faults() > 0, "nothing went wrong");
    eprintln!("{habits:?}: {} of the requests went wrong", server.faults());
    assert!(house.stop(), "{}", house.log());
    assert_eq!(std::fs::read_dir(house.path("pool/tmp")).unwrap().count(), 0, "unfinished files are left");
}

#[test]
fn one_percent_of_errors_is_not_noticed() {
    right_data_in_spite_of(Habits { errors: 1, ..Habits::default() }, 200);
}

#[test]
fn twenty_percent_of_errors_and_cuts_cost_retries_and_no_task() {
    right_data_in_spite_of(Habits { errors: 10, cuts: 10, ..Habits::default() }, 60);
}

#[test]
fn bodies_that_are_cut_short_or_too_long_never_reach_a_task() {
    right_data_in_spite_of(Habits { truncates: 20, overruns: 20, ..Habits::default() }, 40);
}

#[test]
fn a_source_that_stalls_is_asked_again_and_holds_nobody_else_up() {
    right_data_in_spite_of(Habits { stalls: 15, ..Habits::default() }, 20);
}

#[test]
fn a_source_that_dies_for_good_fails_its_tasks_and_no_other() {
    let types = TYPES.replace("attempts = 20", "attempts = 2");
    let mut house = House::new(&types);
    house.volume("v0", b"here");
    let server = Faulty::serve(&house.path("volumes"), Habits::default());
    house = house.replacing("URL", &server.url());
    house.start();
    house.wait_done(house.submit(json!({"type": "compare", "entity": "v0"})));
    drop(server);
    house.volume("v0", b"changed");
    let lost = house.submit(json!({"type": "compare", "entity": "v0"}));
    let fine = house.submit(json!({"type": "local", "entity": "v0"}));
    house.wait_done(fine);
    let task = house.wait(lost);
    assert_eq!(task["state"], "failed", "what may be stale is not used");
    assert!(task["reason"].as_str().unwrap().contains("remote:v0/data.img"), "{task}");
}

#[test]
fn a_bit_that_flips_in_the_cache_is_found_and_named() {
    let mut house = House::new(TYPES);
    house.volume("v0", &[7; 50_000]);
    house = house.replacing("URL", NOBODY);
    house.start();
    house.wait_done(house.submit(json!({"type": "local", "entity": "v0"})));
    let mut files = Vec::new();
    for folder in std::fs::read_dir(house.path("pool")).unwrap().map(|e| e.unwrap().path()) {
        if folder.is_dir() {
            files.extend(std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()));
        }
    }
    assert_eq!(files.len(), 1, "{files:?}");
    let mut bytes = std::fs::read(&files[0]).unwrap();
    bytes[33_333] ^= 4;
    // In place, as a disk does it: same file, same size.
    let mut file = std::fs::File::options().write(true).open(&files[0]).unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    let verified = house.cli(&["cache", "verify"]);
    let said =
        format!("{}{}", String::from_utf8_lossy(&verified.stdout), String::from_utf8_lossy(&verified.stderr));
    assert!(said.contains("volumes:v0/data.img"), "{said}");
    assert_eq!(house.get("/v1/cache/objects"), json!([]), "the damaged copy is out");
    house.wait_done(house.submit(json!({"type": "local", "entity": "v0"})));
}

/// A house whose state lies on a file system of its own, with `size` bytes; `None` where one cannot be made.
struct Mount(std::path::PathBuf);

impl Mount {
    fn new(at: &Path, size: &str) -> Option<Mount> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "forestage-test"])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        if !mounted.is_ok_and(|s| s.success()) {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no tmpfs can be mounted");
            eprintln!("skipped: no tmpfs can be mounted here");
            return None;
        }
        Some(Mount(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Fills what is left of a file system.
fn fill(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("ballast");
    let mut file = std::fs::File::create(&path).unwrap();
    let mut step = 1 << 16;
    while step > 0 {
        if std::io::Write::write_all(&mut file, &vec![0; step]).is_err() {
            step /= 2;
        }
    }
    path
}

#[test]
fn a_full_disk_under_the_record_loses_nothing_acknowledged() {
    let mut house = House::new(TYPES);
    let Some(_mount) = Mount::new(&house.path("state"), "24m") else { return };
    house.volume("v0", b"x");
    house = house.replacing("URL", NOBODY);
    house.start();
    let mut told = Vec::new();
    let local = json!({"type": "local", "entity": "v0"});
    for _ in 0..5 {
        told.push(house.submit(local.clone()));
    }
    let ballast = fill(&house.path("state"));
    // Until the daemon says so and stops; nothing that it refuses is acknowledged.
    let many = json!(vec![local.clone(); 200]).to_string();
    let mut child = house.child.take().unwrap();
    let ended = until("a full disk shows", || {
        if let Some((200, answers)) = house.try_request("POST", "/v1/tasks", "application/json", &many) {
            told.extend(answers.as_array().unwrap().iter().filter_map(|a| a["id"].as_u64()));
        }
        child.try_wait().unwrap()
    });
    assert_eq!(ended.code(), Some(70), "{}", house.log());
    let log = house.log();
    assert!(log.contains("no space left") || log.contains("full"), "{log}");
    std::fs::remove_file(ballast).unwrap();
    house.start();
    for id in told {
        house.wait_done(id);
    }
    assert_eq!(house.get("/v1/health")["damage"], json!([]));
}

#[test]
fn a_full_pool_is_no_reason_to_fail_a_task() {
    let mut house = House::new(&TYPES.replace("[type.local]", "[type.local]\nattempts = 5"));
    let Some(_mount) = Mount::new(&house.path("pool"), "3m") else { return };
    house = house.replacing("URL", NOBODY);
    for i in 0..20 {
        house.volume(&format!("v{i}"), &vec![i; 400_000]);
    }
    house.start();
    let ids: Vec<_> =
        (0..20).map(|i| house.submit(json!({"type": "local", "entity": format!("v{i}")}))).collect();
    for id in ids {
        house.wait_done(id);
    }
}

/// A sync or a write of the record fails: the daemon stops at once, and what was acknowledged is there.
fn stops_when_the_record_fails(fault: &str) {
    let mut house = House::new(TYPES).replacing("URL", NOBODY);
    house.volume("v0", b"x");
    let (dirs, switch) = (house.path("state/record"), house.path("fault"));
    house.env("LD_PRELOAD", shim(house.dir.path()));
    house.env("SHIM_DIRS", dirs);
    house.env("SHIM_FAULT", &switch);
    house.start();
    let told: Vec<_> = (0..5).map(|_| house.submit(json!({"type": "local", "entity": "v0"}))).collect();
    house.wait_done(told[4]);
    std::fs::write(&switch, fault).unwrap();
    let refused = house.try_request(
        "POST",
        "/v1/tasks",
        "application/json",
        &json!({"type": "local", "entity": "v0"}).to_string(),
    );
    assert!(refused.is_none_or(|(status, _)| status >= 500), "a task was acknowledged that is not on disk");
    let mut child = house.child.take().unwrap();
    let ended = until("the daemon stops", || child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(70), "{}", house.log());
    std::fs::remove_file(&switch).unwrap();
    house.start();
    for id in told {
        house.wait_done(id);
    }
    assert_eq!(house.get("/v1/health")["damage"], json!([]));
}

#[test]
fn a_failed_sync_of_the_record_ends_the_daemon() {
    stops_when_the_record_fails("sync 5");
}

#[test]
fn a_failed_write_of_the_record_ends_the_daemon() {
    stops_when_the_record_fails("write 28");
}
