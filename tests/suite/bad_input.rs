//! Bad input gets a clear answer, and the daemon goes on.

use crate::house::House;
use serde_json::json;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

const TYPES: &str = r#"
[type.copy]
argv = ["true"]
inputs = ["volumes:{entity}/data.img"]
"#;

#[test]
fn each_bad_request_gets_a_clear_refusal() {
    let mut house = House::new(TYPES);
    house.start();
    for (body, status, part) in [
        ("{", 400, "line 1"),
        ("{\"type\": \"copy\"", 400, ""),
        (r#"{"type": "nope"}"#, 400, "unknown task type `nope`; known: copy"),
        (r#"{"type": "copy"}"#, 400, "needs {entity}"),
        (r#"{"type": "copy", "entity": "-rf"}"#, 400, "begins with `-`"),
        (r#"{"type": "copy", "entity": "a/../b"}"#, 400, "could leave its folder"),
        (
            r#"{"type": "copy", "entity": "v", "inputs": ["volumes:../../etc/passwd"]}"#,
            400,
            "leaves its folder",
        ),
        (r#"{"type": "copy", "entity": "v", "inputs": ["nowhere:x"]}"#, 400, "unknown source"),
        (r#"{"type": "copy", "entity": "v", "priority": 10}"#, 400, "priority is 10; accepted: up to 9"),
        (r#"{"type": "copy", "entity": "v", "speed": 3}"#, 400, "speed"),
        (r#"{"type": "copy", "entity": "v", "after": [99]}"#, 400, "task 99"),
        (r#"{"type": "copy", "entity": "v", "delay_s": -1}"#, 400, "delay_s is -1"),
    ] {
        let (got, answer) = house.request("POST", "/v1/tasks", body);
        assert_eq!(got, status, "{body}: {answer}");
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(message.contains(part), "{body}: {message}");
        assert!(answer["code"].is_string(), "{answer}");
    }
    for (method, path, status) in [
        ("GET", "/v1/tasks/7", 404),
        ("GET", "/v1/nothing", 404),
        ("PUT", "/v1/tasks", 405),
        ("GET", "/v1/tasks?limit=0", 400),
        ("GET", "/v1/tasks?colour=red", 400),
        ("GET", "/v1/predict?worker=nobody", 404),
        ("GET", "/v1/heatmap?by=rack", 400),
    ] {
        let (got, answer) = house.request(method, path, "");
        assert_eq!(got, status, "{method} {path}: {answer}");
    }
    house.get("/v1/health");
}

#[test]
fn an_oversize_body_is_refused() {
    let mut house = House::new(TYPES);
    house.start();
    let big = json!({"type": "copy", "entity": "v", "payload": "x".repeat(9 << 20)}).to_string();
    let (status, _) = house.request("POST", "/v1/tasks", &big);
    assert_eq!(status, 413);
    house.get("/v1/health");
}

#[test]
fn ten_thousand_random_bytes_do_no_harm() {
    let mut house = House::new(TYPES);
    house.start();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20 {
        let mut s = UnixStream::connect(house.socket()).unwrap();
        let bytes: Vec<u8> = (0..10_000).map(|_| random.u8(..)).collect();
        // It may hang up in the middle of it.
        let _ = s.write_all(&bytes);
        let _ = s.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = s.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
    }
    house.get("/v1/health");
}

#[test]
fn each_invalid_configuration_is_refused_by_its_own_message() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/invalid");
    let house = House::new("");
    let mut messages = std::collections::BTreeSet::new();
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        files += 1;
        let check = house.cli(&["check-config", path.to_str().unwrap()]);
        assert!(!check.status.success(), "{} was accepted", path.display());
        let said =
            String::from_utf8_lossy(&check.stderr).into_owned() + &String::from_utf8_lossy(&check.stdout);
        let first = said.lines().find(|l| l.starts_with("error")).unwrap_or_default().to_owned();
        assert!(!first.is_empty(), "{}: {said}", path.display());
        messages.insert((first, said));
    }
    assert!(files >= 20);
    assert_eq!(messages.len(), files, "each has its own message");
}
