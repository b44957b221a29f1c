//! Outside workers: programs of their own that attach over the socket, and everything that can go wrong with them.

use crate::house::{House, signal, until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const TYPES: &str = r#"
[type.here]
argv = ["true"]
[type.plain]
argv = ["true"]
attempts = 2
backoff = { first = "1ms" }
[type.brief]
argv = ["true"]
time_limit = "300ms"
attempts = 1
[type.copy]
argv = ["true"]
inputs = ["volumes:{entity}/data.img"]
outputs = [{ file = "copy.img", object = "copies:{entity}/copy.img" }]
"#;

fn house() -> House {
    let mut house = House::new(TYPES).running_only("here");
    house.start();
    house
}

/// A worker of this test; its session.
fn attach(house: &House, name: &str, more: Value) -> u64 {
    let mut order = json!({"name": name});
    order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, answer) = house.request("POST", "/v1/workers", &order.to_string());
    assert_eq!(status, 201, "{answer}");
    answer["session"].as_u64().unwrap()
}

fn next(house: &House, name: &str, order: Value) -> (u16, Value) {
    house.request("POST", &format!("/v1/workers/{name}/next"), &order.to_string())
}

/// Takes one task, which must come.
fn take_one(house: &House, name: &str, session: u64) -> Value {
    let (status, answer) = next(house, name, json!({"session": session, "wait_s": 30}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["tasks"].as_array().unwrap().len(), 1, "{answer}");
    answer["tasks"][0].clone()
}

fn done(task: &Value) -> Value {
    json!({"id": task["id"], "token": task["token"]})
}

fn submit(house: &House, n: usize) -> Vec<u64> {
    (0..n).map(|_| house.submit(json!({"type": "plain", "payload": "x"}))).collect()
}

#[test]
fn completes_what_it_did_and_takes_more_in_one_round_trip() {
    let house = house();
    let ids = submit(&house, 5);
    let session = attach(&house, "far", json!({"slots": 3}));
    let mut back: Vec<Value> = vec![];
    let mut seen = vec![];
    while seen.len() < 5 {
        let (status, answer) = next(&house, "far", json!({"session": session, "take": 2, "done": back}));
        assert_eq!(status, 200, "{answer}");
        let tasks = answer["tasks"].as_array().unwrap();
        assert!(!tasks.is_empty() && tasks.len() <= 2, "{answer}");
        assert_eq!(tasks[0]["payload"], "x");
        seen.extend(tasks.iter().map(|t| t["id"].as_u64().unwrap()));
        back = tasks.iter().map(done).collect();
    }
    assert_eq!(next(&house, "far", json!({"session": session, "take": 0, "done": back})).0, 200);
    assert_eq!(seen, ids, "in order, each once");
    for id in ids {
        assert_eq!(house.wait_done(id)["worker"], "far");
    }
    let workers = house.get("/v1/workers");
    let far = workers.as_array().unwrap().iter().find(|w| w["name"] == "far").unwrap();
    assert_eq!((&far["outside"], &far["slots"]), (&json!(true), &json!(3)));
    until("its profile knows the type", || {
        let profile = house.get("/v1/workers/far/profile");
        profile.as_array().unwrap().iter().any(|l| l["effective_count"].as_f64() > Some(1.0)).then_some(())
    });
}

#[test]
fn staged_inputs_stand_ready_and_outputs_are_published() {
    let house = house();
    house.volume("v1", b"twelve bytes");
    let id = house.submit(json!({"type": "copy", "entity": "v1"}));
    let session = attach(&house, "far", json!({"types": ["copy"]}));
    let task = take_one(&house, "far", session);
    let input = &task["inputs"][0];
    assert_eq!(input["object"], "volumes:v1/data.img");
    let path = input["path"].as_str().unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"twelve bytes");
    let workdir = std::path::Path::new(task["workdir"].as_str().unwrap());
    std::fs::write(workdir.join("out/copy.img"), b"made outside").unwrap();
    let order = json!({"session": session, "take": 0, "done": [done(&task)]});
    assert_eq!(next(&house, "far", order).0, 200);
    house.wait_done(id);
    assert_eq!(std::fs::read(house.path("copies/v1/copy.img")).unwrap(), b"made outside");
    assert!(!workdir.join("in").exists(), "its inputs are taken away");
}

#[test]
fn what_is_not_held_is_refused_and_changes_nothing() {
    let house = house();
    let (status, answer) = next(&house, "nobody", json!({"session": 1}));
    assert_eq!((status, &answer["code"]), (404, &json!("not_found")), "{answer}");
    let id = submit(&house, 1)[0];
    let session = attach(&house, "far", json!({}));
    let (status, _) = next(&house, "far", json!({"session": session + 7}));
    assert_eq!(status, 409, "another session");
    let task = take_one(&house, "far", session);
    let wrong = json!({"id": id, "token": "1.9"});
    let (status, answer) = next(&house, "far", json!({"session": session, "done": [wrong]}));
    assert_eq!((status, &answer["code"]), (409, &json!("conflict")), "{answer}");
    let order = json!({"session": session, "take": 0, "done": [done(&task)]});
    assert_eq!(next(&house, "far", order.clone()).0, 200);
    let (status, answer) = next(&house, "far", order);
    assert_eq!((status, &answer["code"]), (409, &json!("conflict")), "a double completion: {answer}");
    // In a batch the others are taken, and the answer says which was not.
    let ids = submit(&house, 1);
    let other = take_one(&house, "far", session);
    let order = json!({"session": session, "take": 0, "done": [done(&other), done(&task)]});
    let (status, answer) = next(&house, "far", order);
    assert_eq!((status, &answer["refused"][0]["id"]), (200, &json!(id)), "{answer}");
    assert_eq!(house.wait_done(ids[0])["attempts"], 1);
    assert_eq!(house.get(&format!("/v1/tasks/{id}"))["attempts"], 1);
}

#[test]
fn a_silent_worker_loses_its_lease_and_a_late_completion_gets_409() {
    let house = house();
    let id = submit(&house, 1)[0];
    let silent = attach(&house, "silent", json!({"lease_s": 0.3}));
    let task = take_one(&house, "silent", silent);
    let session = attach(&house, "far", json!({}));
    let again = take_one(&house, "far", session);
    assert_eq!(again["id"], id);
    assert_ne!(again["token"], task["token"], "another attempt, another token");
    for order in [json!({"session": silent, "done": [done(&task)]}), json!({"session": silent})] {
        assert_eq!(next(&house, "silent", order).0, 409);
    }
    // Not under a new session either.
    let silent = attach(&house, "silent", json!({}));
    assert_eq!(next(&house, "silent", json!({"session": silent, "done": [done(&task)]})).0, 409);
    let order = json!({"session": session, "take": 0, "done": [done(&again)]});
    assert_eq!(next(&house, "far", order).0, 200);
    assert_eq!(house.wait_done(id)["worker"], "far");
}

#[test]
fn heartbeats_keep_a_lease_but_not_past_the_time_limit() {
    let house = house();
    let id = house.submit(json!({"type": "brief"}));
    let session = attach(&house, "far", json!({"lease_s": 0.4}));
    let task = take_one(&house, "far", session);
    // It lives, and never answers.
    let ended = until("the time limit", || {
        let beat = json!({"session": session, "round_trip_ms": 1.5}).to_string();
        let (status, answer) = house.request("POST", "/v1/workers/far/heartbeat", &beat);
        assert_eq!(status, 200, "{answer}");
        let task = house.get(&format!("/v1/tasks/{id}"));
        (task["state"] == "failed").then_some(task)
    });
    assert!(ended["reason"].as_str().unwrap().contains("time limit"), "{ended}");
    assert_eq!(next(&house, "far", json!({"session": session, "done": [done(&task)]})).0, 409);
}

#[test]
fn a_broken_life_line_gives_everything_back_at_once() {
    let house = house();
    let id = submit(&house, 1)[0];
    let session = attach(&house, "dies", json!({"lease_s": 3600}));
    let mut line = UnixStream::connect(house.socket()).unwrap();
    write!(line, "GET /v1/workers/dies/lifeline?session={session} HTTP/1.1\r\nhost: f\r\n\r\n").unwrap();
    let mut byte = [0; 64];
    line.read_exact(&mut byte[..12]).unwrap();
    assert_eq!(&byte[..12], b"HTTP/1.1 200");
    take_one(&house, "dies", session);
    drop(line);
    let far = attach(&house, "far", json!({}));
    assert_eq!(take_one(&house, "far", far)["id"], id);
}

#[test]
fn a_new_session_takes_the_place_of_the_old_one() {
    let house = house();
    let id = submit(&house, 1)[0];
    let old = attach(&house, "far", json!({}));
    let task = take_one(&house, "far", old);
    let new = attach(&house, "far", json!({}));
    assert_eq!(next(&house, "far", json!({"session": old, "done": [done(&task)]})).0, 409);
    let again = take_one(&house, "far", new);
    assert_eq!((&again["id"], again["token"] != task["token"]), (&json!(id), true));
}

#[test]
fn a_cancelled_task_is_told_to_its_worker() {
    let house = house();
    let id = submit(&house, 1)[0];
    let session = attach(&house, "far", json!({}));
    let task = take_one(&house, "far", session);
    house.request("POST", &format!("/v1/tasks/{id}/cancel"), "");
    let stop = until("the stop", || {
        let beat = json!({"session": session}).to_string();
        let (_, answer) = house.request("POST", "/v1/workers/far/heartbeat", &beat);
        answer.get("stop").cloned()
    });
    assert_eq!(stop, json!([{"id": id, "token": task["token"]}]));
    let mut back = done(&task);
    back["exit_code"] = json!(1);
    assert_eq!(next(&house, "far", json!({"session": session, "take": 0, "done": [back]})).0, 200);
    assert_eq!(house.wait(id)["state"], "cancelled");
}

#[test]
fn a_request_whose_client_is_gone_takes_nothing() {
    let house = house();
    let session = attach(&house, "far", json!({}));
    let body = json!({"session": session, "wait_s": 60}).to_string();
    let mut gone = UnixStream::connect(house.socket()).unwrap();
    write!(gone, "POST /v1/workers/far/next HTTP/1.1\r\nhost: f\r\ncontent-type: application/json\r\n")
        .unwrap();
    write!(gone, "content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    drop(gone);
    std::thread::sleep(Duration::from_millis(100));
    let id = submit(&house, 1)[0];
    assert_eq!(take_one(&house, "far", session)["id"], id);
}

#[test]
fn releasing_with_a_delay_again_and_again_keeps_the_disk_bounded() {
    let house = house();
    let id = submit(&house, 1)[0];
    let session = attach(&house, "far", json!({}));
    let rounds = 300;
    let mut task = take_one(&house, "far", session);
    let size = || {
        let files = std::fs::read_dir(house.path("state/record")).unwrap();
        files.map(|f| f.unwrap().metadata().unwrap().len()).sum::<u64>()
    };
    let before = size();
    for _ in 0..rounds {
        let back = json!({"id": id, "token": task["token"], "release_s": 0.001});
        let order = json!({"session": session, "done": [back], "wait_s": 30});
        let (status, answer) = next(&house, "far", order);
        assert_eq!(status, 200, "{answer}");
        task = answer["tasks"][0].clone();
        assert_eq!(task["id"], id, "{answer}");
    }
    assert_eq!(task["token"], format!("1.{}", rounds + 1));
    // The log is preallocated once, and a state's row is written over.
    assert!(size() < before + (40 << 20), "{before} to {}", size());
    assert_eq!(next(&house, "far", json!({"session": session, "take": 0, "done": [done(&task)]})).0, 200);
    house.wait_done(id);
}

#[test]
fn an_order_that_makes_no_sense_is_explained() {
    let house = house();
    for (order, word) in [
        (json!({"name": "fast"}), "configured"),
        (json!({"name": "../x"}), "`name`"),
        (json!({"name": "far", "slots": 0}), "accepted: 1 to 10000"),
        (json!({"name": "far", "types": ["nope"]}), "known: here, plain"),
        (json!({"name": "far", "types": []}), "at least one"),
        (json!({"name": "far", "cache": "nope"}), "main"),
        (json!({"name": "far", "near": ["nope"]}), "no cell"),
        (json!({"name": "far", "lease_s": 1e9}), "accepted: 0.2 to 3600"),
        (json!({"name": "far", "slot": 1}), "slot"),
    ] {
        let (status, answer) = house.request("POST", "/v1/workers", &order.to_string());
        assert!((400..410).contains(&status), "{order}: {status}");
        assert!(answer["message"].as_str().unwrap().contains(word), "{order}: {answer}");
    }
    let session = attach(&house, "far", json!({}));
    for (order, word) in [
        (json!({"session": session, "take": 10_001}), "`take`"),
        (json!({"session": session, "done": [{"id": 1, "token": "x"}]}), "done[0].token"),
        (json!({"session": session, "done": [{"id": 1, "token": "1.1", "exit_code": 256}]}), "exit_code"),
    ] {
        let (status, answer) = next(&house, "far", order);
        assert_eq!(status, 400);
        assert!(answer["message"].as_str().unwrap().contains(word), "{answer}");
    }
}

#[test]
fn a_body_of_a_gigabyte_is_refused_before_it_is_read() {
    let house = house();
    for (path, kind) in [("/v1/tasks", "application/json"), ("/v1/tasks", "application/x-ndjson")] {
        let mut s = UnixStream::connect(house.socket()).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: f\r\ncontent-type: {kind}\r\ncontent-length: 1073741824\r\n\r\n"
        );
        s.write_all(head.as_bytes()).unwrap();
        let mut answer = [0; 12];
        s.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 413");
    }
}

#[test]
fn ten_thousand_idle_connections_leave_the_daemon_answering() {
    let house = house();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = limit.current.unwrap_or(u64::MAX).saturating_sub(100).min(10_000);
    let mut idle = Vec::new();
    let mut refused = 0;
    for _ in 0..most {
        let s = UnixStream::connect(house.socket()).unwrap();
        s.set_nonblocking(true).unwrap();
        let mut head = [0; 12];
        match (&s).read(&mut head) {
            Ok(12) if &head == b"HTTP/1.1 503" => refused += 1,
            Ok(_) | Err(_) => {}
        }
        idle.push(s);
    }
    // What is one too many is told so and closed; who is served goes on being served.
    let status = std::fs::read_to_string(format!("/proc/{}/status", house.pid())).unwrap();
    let rss = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    let rss_kib: u64 = rss.split_whitespace().next().unwrap().parse().unwrap();
    assert!(rss_kib < 250 << 10, "{rss_kib} KiB with {most} idle connections, {refused} refused at once");
    drop(idle);
    until("it serves again", || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| house.get("/v1/health"))).ok()
    });
}

/// An example of `scripts/`, as a user starts it.
fn script(house: &House, name: &str, args: &[&str]) -> Child {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
    let log = std::fs::File::options().create(true).append(true).open(house.path("script.log")).unwrap();
    Command::new(path)
        .args(args)
        .env("FORESTAGE_SOCKET", house.socket())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

fn ends(house: &House, mut child: Child) {
    signal(child.id(), "TERM");
    let status = until("the example ends", || child.try_wait().unwrap());
    let log = std::fs::read_to_string(house.path("script.log")).unwrap_or_default();
    assert!(status.success() || status.code() == Some(143), "{status}\n{log}");
}

#[test]
fn the_shell_example_works() {
    let house = house();
    house.volume("v1", b"for the shell");
    let worker = script(
        &house,
        "outside-worker.sh",
        &["shell", "copy,plain", "sh", "-c", r#"[ -z "$1" ] || cp "$1" out/copy.img"#, "sh"],
    );
    let copy = house.submit(json!({"type": "copy", "entity": "v1"}));
    let plain = submit(&house, 3);
    for id in plain.into_iter().chain([copy]) {
        assert_eq!(house.wait_done(id)["worker"], "shell");
    }
    assert_eq!(std::fs::read(house.path("copies/v1/copy.img")).unwrap(), b"for the shell");
    ends(&house, worker);
}

#[test]
fn the_python_example_works() {
    let house = house();
    house.volume("v1", b"for python");
    let worker = script(&house, "outside_worker.py", &["snake", "--types", "copy,plain", "--slots", "3"]);
    let payload = r#"cp "$1" out/copy.img"#;
    let copy = house.submit(json!({"type": "copy", "entity": "v1", "payload": payload}));
    let good: Vec<u64> = (0..5)
        .map(|i| house.submit(json!({"type": "plain", "payload": format!("exit {}", i / 4)})))
        .collect();
    assert_eq!(house.wait_done(copy)["worker"], "snake");
    assert_eq!(std::fs::read(house.path("copies/v1/copy.img")).unwrap(), b"for python");
    for id in &good[..4] {
        house.wait_done(*id);
    }
    let failed = house.wait(good[4]);
    assert_eq!((&failed["state"], &failed["exit_code"]), (&json!("failed"), &json!(1)), "{failed}");
    ends(&house, worker);
}
