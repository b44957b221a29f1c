//! Tasks from submit to their end, over the socket and the command line.

use crate::house::{House, processes_of, until};
use serde_json::json;

const TYPES: &str = r#"
[type.snapshot-copy]
argv = ["cp", "{input.0}", "out/copy.img"]
inputs = ["volumes:{entity}/data.img"]
outputs = [{ file = "copy.img", object = "copies:{entity}/copy.img" }]
writes = ["copies:{entity}/copy.img"]
[type.snapshot-verify]
argv = ["cmp", "{input.0}", "{input.1}"]
inputs = ["volumes:{entity}/data.img", "copies:{entity}/copy.img"]
[type.fail]
argv = ["sh", "-c", "echo out; echo err >&2; exit 3"]
attempts = 1
[type.sleep]
argv = ["sleep", "30"]
attempts = 1
[type.slow-group]
argv = ["sh", "-c", "sleep 300 & sleep 300"]
time_limit = "300ms"
kill_grace = "100ms"
attempts = 1
[type.env]
argv = ["sh", "-c", "env | sort"]
entity = "[a-z0-9-]+"
args = { level = "[0-9]" }
[type.vandal]
argv = ["sh", "-c", "chmod 644 in/* 2>/dev/null; echo x >> in/00-data.img"]
inputs = ["volumes:{entity}/data.img"]
input_mode = "copy"
attempts = 1
"#;

#[test]
fn a_chain_copies_and_verifies_real_files() {
    let mut house = House::new(TYPES);
    house.volume("vol-1", &vec![7; 300_000]);
    house.start();
    let copy = house.submit(json!({"type": "snapshot-copy", "entity": "vol-1"}));
    let verify = house.submit(json!({"type": "snapshot-verify", "entity": "vol-1", "after": [copy]}));
    let task = house.wait_done(verify);
    assert_eq!(task["exit_code"], 0);
    assert_eq!(std::fs::read(house.path("copies/vol-1/copy.img")).unwrap(), vec![7; 300_000]);
    let copied = house.get(&format!("/v1/tasks/{copy}"));
    assert!(copied["usage"]["wall_ms"].as_f64().unwrap() > 0.0);
    let objects = house.get("/v1/cache/objects");
    let names: Vec<_> = objects.as_array().unwrap().iter().map(|o| o["object"].as_str().unwrap()).collect();
    assert!(
        names.contains(&"copies:vol-1/copy.img"),
        "the output was adopted and outlived its task: {names:?}"
    );
}

#[test]
fn a_failure_keeps_its_exit_code_and_its_log() {
    let mut house = House::new(TYPES);
    house.start();
    let id = house.submit(json!({"type": "fail"}));
    let task = house.wait(id);
    assert_eq!((task["state"].as_str(), task["exit_code"].as_i64()), (Some("failed"), Some(3)));
    assert_eq!(task["reason"], "exit code 3");
    let log = house.cli(&["log", &id.to_string()]);
    assert_eq!(String::from_utf8_lossy(&log.stdout), "out\nerr\n");
    let waited = house.cli(&["wait", &id.to_string()]);
    assert_eq!(waited.status.code(), Some(1), "a failed task is told by the exit code");
}

#[test]
fn the_time_limit_ends_the_whole_group() {
    let mut house = House::new(TYPES);
    house.start();
    let id = house.submit(json!({"type": "slow-group"}));
    assert_eq!(house.wait(id)["reason"], "time limit ran out");
    assert_eq!(processes_of(house.dir.path()), Vec::<u32>::new());
}

#[test]
fn cancelling_ends_a_running_task() {
    let mut house = House::new(TYPES);
    house.start();
    let id = house.submit(json!({"type": "sleep"}));
    until("it runs", || (house.get(&format!("/v1/tasks/{id}"))["state"] == "running").then_some(()));
    let (status, _) = house.request("POST", &format!("/v1/tasks/{id}/cancel"), "");
    assert_eq!(status, 200);
    assert_eq!(house.wait(id)["state"], "cancelled");
    let (status, _) = house.request("POST", &format!("/v1/tasks/{id}/cancel"), "");
    assert_eq!(status, 409, "it has ended");
    assert_eq!(processes_of(house.dir.path()), Vec::<u32>::new());
}

#[test]
fn the_environment_is_built_from_nothing() {
    let mut house = House::new(TYPES);
    house.start();
    let id = house.submit(json!({"type": "env", "entity": "vol-9", "args": {"level": "4"}}));
    house.wait_done(id);
    let log = String::from_utf8(house.cli(&["log", &id.to_string()]).stdout).unwrap();
    let names: Vec<&str> = log.lines().filter_map(|l| l.split('=').next()).collect();
    for name in &names {
        let ours = name.starts_with("FORESTAGE_")
            || ["HOME", "LANG", "PATH", "PWD", "TMPDIR", "SHLVL", "_", "OLDPWD"].contains(name);
        assert!(ours, "{name} leaked into a task: {log}");
    }
    for line in
        ["FORESTAGE_ENTITY=vol-9", "FORESTAGE_ARG_LEVEL=4", "FORESTAGE_ATTEMPT=1", "FORESTAGE_TYPE=env"]
    {
        assert!(log.lines().any(|l| l == line), "{line} is missing: {log}");
    }
    assert!(names.contains(&"FORESTAGE_SLOT"));
}

#[test]
fn a_changed_input_fails_its_task_and_leaves_the_cache_alone() {
    let mut house = House::new(TYPES);
    house.volume("vol-1", b"precious");
    house.start();
    let id = house.submit(json!({"type": "vandal", "entity": "vol-1"}));
    let task = house.wait(id);
    assert_eq!(task["state"], "failed");
    assert!(task["reason"].as_str().unwrap().contains("changed its input volumes:vol-1/data.img"), "{task}");
    assert_eq!(std::fs::read(house.path("volumes/vol-1/data.img")).unwrap(), b"precious");
}

#[test]
fn a_missing_input_is_named_and_hurts_nobody_else() {
    let mut house = House::new(TYPES);
    house.volume("there", b"x");
    house.start();
    let lost = house.submit(json!({"type": "snapshot-copy", "entity": "nowhere"}));
    let fine = house.submit(json!({"type": "snapshot-copy", "entity": "there"}));
    house.wait_done(fine);
    let state = house.get(&format!("/v1/tasks/{lost}"));
    assert_ne!(state["state"], "done");
    house.request("POST", &format!("/v1/tasks/{lost}/cancel"), "");
    let ended = house.wait(lost);
    assert!(["failed", "cancelled"].contains(&ended["state"].as_str().unwrap()));
}

#[test]
fn why_explains_a_task_that_waits() {
    let mut house = House::new(TYPES);
    house.start();
    house.request("POST", "/v1/pause", "");
    let id = house.submit(json!({"type": "sleep"}));
    let why = house.get(&format!("/v1/why?task={id}"));
    assert!(why["title"].as_str().unwrap().contains("waits for: resume"), "{why}");
    assert_eq!(why["candidates"].as_array().unwrap().len(), 2, "both workers are scored");
    house.request("POST", &format!("/v1/tasks/{id}/cancel"), "");
}

#[test]
fn prediction_learns_the_chain_and_sums_to_one() {
    let mut house = House::new(TYPES);
    for i in 0..12 {
        house.volume(&format!("vol-{i}"), b"data");
    }
    house.start();
    for i in 0..12 {
        let entity = format!("vol-{i}");
        let copy = house.submit(json!({"type": "snapshot-copy", "entity": entity}));
        house.wait_done(copy);
        if i < 11 {
            let verify = house.submit(json!({"type": "snapshot-verify", "entity": entity}));
            house.wait_done(verify);
        }
    }
    let p = until("the last outcome is learned", || {
        let p = house.get("/v1/predict?entity=vol-11&explain=true");
        (p["types"][0]["type"] == "snapshot-verify").then_some(p)
    });
    assert!(p["types"][0]["p"].as_f64().unwrap() > 0.5, "{p}");
    for path in ["/v1/predict", "/v1/predict?worker=fast", "/v1/predict?entity=vol-3"] {
        let p = house.get(path);
        let sum: f64 = p["types"].as_array().unwrap().iter().map(|t| t["p"].as_f64().unwrap()).sum();
        assert!((sum + p["other"].as_f64().unwrap() - 1.0).abs() < 1e-6, "{path}: {p}");
    }
    let profile = house.get("/v1/workers/fast/profile");
    let affinity: f64 = profile.as_array().unwrap().iter().map(|l| l["affinity"].as_f64().unwrap()).sum();
    assert!((affinity - 1.0).abs() < 1e-6, "{profile}");
}

#[test]
fn the_heatmap_comes_as_text_json_svg_and_png() {
    let mut house = House::new(TYPES);
    house.start();
    until("a sample", || {
        house.get("/v1/heatmap?by=worker&metric=cpu&last_s=60")["rows"].as_array().map(|_| ())
    });
    let (svg, png) = (house.path("h.svg"), house.path("h.png"));
    let drawn = house.cli(&[
        "heatmap",
        "--by",
        "worker",
        "--svg",
        svg.to_str().unwrap(),
        "--png",
        png.to_str().unwrap(),
    ]);
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
    assert!(std::fs::read_to_string(svg).unwrap().starts_with("<svg"));
    assert!(std::fs::read(png).unwrap().starts_with(b"\x89PNG"));
    let text = house.cli(&["heatmap", "--by", "worker", "--metric", "heat"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("fast"));
    let wrong = house.cli(&["heatmap", "--by", "rack"]);
    assert!(!wrong.status.success());
}
