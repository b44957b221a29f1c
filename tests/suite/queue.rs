//! Groups, recurring tasks and bulk requests through the real daemon, over a crash.

use crate::house::{House, until};
use serde_json::{Value, json};

const TYPES: &str = r#"
[type.quick]
argv = ["true"]
[type.fail]
argv = ["false"]
attempts = 1
"#;

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().unwrap().iter().find(|x| x["name"] == name).unwrap_or_else(|| panic!("{name}: {list}"))
}

#[test]
fn a_paused_group_stays_paused_over_a_crash_and_a_full_one_refuses() {
    let mut house = House::new(TYPES);
    house.start();
    let set = house.cli(&["group", "night", "--pause", "--weight", "2", "--max-queued", "1"]);
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    let id = house.submit(json!({"type": "quick", "group": "night"}));
    let free = house.submit(json!({"type": "quick"}));
    house.wait_done(free);
    let (status, body) = house.request("POST", "/v1/tasks", r#"{"type": "quick", "group": "night"}"#);
    assert_eq!((status, body["code"].as_str()), (429, Some("busy")), "{body}");
    house.crash();
    house.start();
    let task = house.get(&format!("/v1/tasks/{id}"));
    assert_eq!(
        (task["state"].as_str(), task["waiting_for"].as_str(), task["group"].as_str()),
        (Some("queued"), Some("resume of group night"), Some("night"))
    );
    let group = named(&house.get("/v1/groups"), "night").clone();
    assert_eq!((group["paused"].as_bool(), group["weight"].as_f64()), (Some(true), Some(2.0)));
    assert_eq!((group["unfinished"].as_u64(), group["max_queued"].as_u64()), (Some(1), Some(1)));
    assert!(house.cli(&["group", "night", "--resume"]).status.success());
    let waited = house.cli(&["wait", "--group", "night", "--timeout", "30s"]);
    assert_eq!(waited.status.code(), Some(0), "{}", String::from_utf8_lossy(&waited.stderr));
    house.wait_done(id);
}

#[test]
fn a_recurring_task_fires_and_is_there_after_a_crash() {
    let mut house = House::new(TYPES);
    house.start();
    let set = house.cli(&["recurring", "set", "often", "--cron", "* * * * * *", "quick", "--entity", "v1"]);
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    let ran = |house: &House| {
        let done = house.get("/v1/tasks?state=done&type=quick");
        (!done.as_array().unwrap().is_empty()).then_some(())
    };
    until("it ran", || ran(&house));
    let next = named(&house.get("/v1/recurring"), "often")["next_task"].as_u64().unwrap();
    house.crash();
    house.start();
    let recurring = named(&house.get("/v1/recurring"), "often").clone();
    assert_eq!(recurring["recurring"]["cron"], "* * * * * *");
    until("the occurrence that was on record is over", || {
        let task = house.get(&format!("/v1/tasks/{next}"));
        (task["state"] == "done" || task["state"] == "cancelled").then_some(())
    });
    assert!(house.cli(&["recurring", "remove", "often"]).status.success());
    assert_eq!(house.get("/v1/recurring"), json!([]));
    let bad = house.cli(&["recurring", "set", "x", "--cron", "* * * * *", "--zone", "Mars", "quick"]);
    assert!(String::from_utf8_lossy(&bad.stderr).contains("`Mars` is no time zone"));
}

#[test]
fn failed_tasks_are_listed_with_their_reason_and_retried_in_bulk() {
    let mut house = House::new(TYPES);
    house.start();
    let ids: Vec<u64> = (0..5).map(|_| house.submit(json!({"type": "fail", "group": "a"}))).collect();
    let other = house.submit(json!({"type": "fail", "group": "b"}));
    for id in ids.iter().chain([&other]) {
        assert_eq!(house.wait(*id)["reason"], "exit code 1");
    }
    let retried = house.cli(&["retry", "--failed", "--group", "a", "--json"]);
    let answer: Value = serde_json::from_slice(&retried.stdout).unwrap();
    assert_eq!(answer["retried"], 5, "{answer}");
    let waited = house.cli(&["wait", "--all", "--timeout", "30s"]);
    assert_eq!(waited.status.code(), Some(0));
    for id in ids {
        assert_eq!(house.wait(id)["attempts"], 2);
    }
    assert_eq!(house.wait(other)["attempts"], 1);
}
