//! The routes over a real Unix socket: what each answers, and what it refuses.

use super::listen::{ListenError, Listener, Place, Settings};
use super::roles::{Access, Role};
use super::testing::Daemon;
use super::{routes, wire};
use crate::task::State;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const NDJSON: &str = "application/x-ndjson";

/// An answer as it came over the socket.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
    fn header(&self, name: &str) -> Option<&str> {
        let named = |l: &&str| l.split(':').next().is_some_and(|n| n.eq_ignore_ascii_case(name));
        self.head.lines().find(named).map(|l| l[name.len() + 1..].trim())
    }
}

/// A request by hand, on a connection of its own, so that nothing of the client's hides anything.
async fn ask(socket: &Path, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = format!("{method} {target} HTTP/1.1\r\nhost: forestage\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    // A daemon that refuses a body need not read it to its end.
    let _ = stream.write_all(body).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    answer(&bytes).unwrap_or_else(|| panic!("no answer to {method} {target}"))
}

fn answer(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = bytes[end + 4..].to_vec();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Some(Answer { status, body: if chunked { unchunk(&body) } else { body }, head })
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[end + 4 + size..];
    }
    body
}

async fn get(d: &Daemon, target: &str) -> Answer {
    ask(&d.socket, "GET", target, &[], b"").await
}

async fn post(d: &Daemon, target: &str, body: Value) -> Answer {
    ask(&d.socket, "POST", target, &[], body.to_string().as_bytes()).await
}

/// The status, the stable word, and that the sentence says all of `says`.
fn refused(answer: &Answer, status: u16, code: &str, says: &[&str]) {
    let body = answer.json();
    assert_eq!((answer.status, body["code"].as_str()), (status, Some(code)), "{body}");
    for part in says {
        assert!(body["message"].as_str().unwrap().contains(part), "{part} is not in {body}");
    }
}

#[tokio::test]
async fn one_task_is_answered_with_its_number() {
    let d = Daemon::start();
    let a = post(&d, "/v1/tasks", json!({"type": "copy", "entity": "vol-1", "key": "k"})).await;
    assert_eq!((a.status, a.json()), (201, json!({"id": 1})));
    let a = post(&d, "/v1/tasks", json!({"type": "copy", "key": "k"})).await;
    assert_eq!((a.status, a.json()), (200, json!({"id": 1, "existing": true})));
    let a = get(&d, "/v1/tasks/1").await;
    assert_eq!((a.status, &a.json()["entity"], &a.json()["state"]), (200, &json!("vol-1"), &json!("queued")));
}

#[tokio::test]
async fn one_task_that_is_refused_is_answered_with_its_error() {
    let d = Daemon::start();
    refused(&post(&d, "/v1/tasks", json!({"type": "x"})).await, 400, "unknown_type", &["`x`", "copy"]);
    let dash = json!({"type": "copy", "entity": "-rf"});
    refused(&post(&d, "/v1/tasks", dash).await, 400, "bad_entity", &["begins with `-`"]);
    d.memory.fill();
    let a = post(&d, "/v1/tasks", json!({"type": "copy"})).await;
    refused(&a, 429, "busy", &["100 tasks wait"]);
    assert_eq!(a.header("retry-after"), Some("7"));
}

#[tokio::test]
async fn arrays_and_lines_are_answered_one_by_one_with_one_call() {
    let d = Daemon::start();
    let array =
        json!([{"type": "copy"}, {"type": "copy", "priority": "high"}, {"type": "x"}, {"type": "copy"}]);
    let a = post(&d, "/v1/tasks", array).await;
    let answers = a.json();
    assert_eq!((a.status, answers.as_array().unwrap().len(), d.memory.calls()), (200, 4, 1));
    assert_eq!((&answers[0]["id"], &answers[3]["id"]), (&json!(1), &json!(2)));
    assert_eq!(answers[2]["error"]["code"], "unknown_type");
    let why = answers[1]["error"]["message"].as_str().unwrap();
    assert!(why.starts_with("field `priority` of element 1: invalid type: string \"high\""), "{why}");

    let lines = b"{\"type\":\"copy\"}\n\n{\"type\":\n{\"typ\":\"copy\"}\r\n{\"type\":\"copy\"}";
    let a = ask(&d.socket, "POST", "/v1/tasks", &[("content-type", NDJSON)], lines).await;
    assert_eq!((a.status, a.header("content-type"), d.memory.calls()), (200, Some(NDJSON), 2));
    let answers: Vec<Value> = a.text().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((&answers[0]["id"], &answers[3]["id"], answers.len()), (&json!(3), &json!(4), 4));
    assert!(answers[1]["error"]["message"].as_str().unwrap().starts_with("line 3 is not JSON"));
    let unknown = answers[2]["error"]["message"].as_str().unwrap();
    assert!(
        unknown.contains("line 4") && unknown.contains("unknown field `typ`, expected one of `type`"),
        "{unknown}"
    );

    assert_eq!(post(&d, "/v1/tasks", json!([])).await.json(), json!([]));
    assert_eq!(d.memory.calls(), 2, "nothing to submit is not asked for");
}

#[tokio::test]
async fn malformed_bodies_name_the_place_and_what_is_accepted() {
    let d = Daemon::start();
    let send = async |body: &str| ask(&d.socket, "POST", "/v1/tasks", &[], body.as_bytes()).await;
    refused(&send("").await, 400, "bad_json", &["the body is empty", "accepted"]);
    refused(&send("{\"type\": ").await, 400, "bad_json", &["line 1 column 9"]);
    refused(&send("[{\"type\": \"copy\"}").await, 400, "bad_json", &["the body"]);
    refused(&send("\u{1}\u{2}").await, 400, "bad_json", &["not JSON"]);
    refused(&send("{}").await, 400, "bad_field", &["missing field `type`"]);
    refused(
        &send("{\"type\":\"copy\",\"args\":{\"n\":3}}").await,
        400,
        "bad_field",
        &["`args.n`", "a string"],
    );
    refused(&send("{\"type\":\"copy\",\"prio\":3}").await, 400, "bad_field", &["`prio`", "`priority`"]);
    refused(&send("{\"type\":\"copy\",\"after\":[1,-2]}").await, 400, "bad_field", &["`after[1]`"]);
    let deep = "[".repeat(100_000);
    assert_eq!(send(&deep).await.status, 400, "nesting does not overflow the stack");
    assert_eq!(get(&d, "/v1/health").await.status, 200);
}

#[tokio::test]
async fn tasks_are_listed_and_filtered() {
    let d = Daemon::start();
    for entity in ["a", "b", "c d&e"] {
        post(&d, "/v1/tasks", json!({"type": "copy", "entity": entity})).await;
    }
    d.memory.start(2);
    let ids = async |target: &str| -> Vec<u64> {
        let list = get(&d, target).await.json();
        list.as_array().unwrap().iter().map(|t| t["id"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids("/v1/tasks").await, [3, 2, 1]);
    assert_eq!(ids("/v1/tasks?state=running").await, [2]);
    assert_eq!(ids("/v1/tasks?entity=c%20d%26e").await, [3]);
    assert_eq!(ids("/v1/tasks?type=copy&limit=1&before=3").await, [2]);
    let lines = ask(&d.socket, "GET", "/v1/tasks", &[("accept", NDJSON)], b"").await;
    assert_eq!((lines.header("content-type"), lines.text().lines().count()), (Some(NDJSON), 3));
}

#[tokio::test]
async fn wrong_queries_and_paths_say_what_is_accepted() {
    let d = Daemon::start();
    let check = async |target: &str, says: &[&str]| refused(&get(&d, target).await, 400, "bad_query", says);
    check("/v1/tasks?state=lost", &["`lost`", "`queued`"]).await;
    check("/v1/tasks?color=red", &["`color`", "`state`"]).await;
    check("/v1/tasks?limit=0", &["`limit` is 0", "1 to 1000"]).await;
    check("/v1/tasks?limit=many", &["limit"]).await;
    check("/v1/tasks/1/wait?timeout_s=NaN", &["`timeout_s`", "0 to 3600"]).await;
    check("/v1/tasks/1/wait?timeout_s=-1", &["0 to 3600"]).await;
    check("/v1/tasks/1/log?follow=maybe", &["0 or 1"]).await;
    check("/v1/cache/objects?limit=10001", &["1 to 10000"]).await;
    check("/v1/heatmap?by=moon", &["`moon`", "worker, cell, shard, source"]).await;
    check("/v1/heatmap?metric=love", &["cpu, memory"]).await;
    check("/v1/heatmap?format=gif", &["json, svg, png"]).await;
    check("/v1/heatmap?columns=1001", &["1 to 1000"]).await;
    check("/v1/heatmap?last_s=inf", &["`last_s`"]).await;
    check("/v1/why", &["exactly one"]).await;
    check("/v1/why?task=1&worker=fast", &["exactly one"]).await;
    check("/v1/predict?worker=fast&entity=vol-1", &["one of them"]).await;
    refused(&get(&d, "/v1/tasks/x").await, 400, "bad_path", &["`x` is no task"]);
    refused(&get(&d, "/v1/tasks/0").await, 400, "bad_path", &["number"]);
    refused(&get(&d, "/v1/tasks/%ff").await, 400, "bad_path", &[]);
    refused(&get(&d, "/v1/task").await, 404, "not_found", &["`/v1/task`", "`/v1/tasks`"]);
    refused(&get(&d, "/v1/tasks/../../etc/passwd").await, 404, "not_found", &["no path"]);
    refused(&get(&d, "/xyzzy").await, 404, "not_found", &["/v1/openapi.json"]);
    let a = ask(&d.socket, "DELETE", "/v1/tasks", &[], b"").await;
    refused(&a, 405, "method_not_allowed", &["DELETE"]);
    let allowed = a.header("allow").unwrap();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
}

#[tokio::test]
async fn what_is_not_there_is_a_404_everywhere() {
    let d = Daemon::start();
    for target in
        ["/v1/tasks/9", "/v1/tasks/9/log", "/v1/tasks/9/log?follow=1", "/v1/tasks/9/wait?timeout_s=0"]
    {
        refused(&get(&d, target).await, 404, "not_found", &["no task 9"]);
    }
    for target in ["/v1/workers/slow/profile", "/v1/predict?worker=slow", "/v1/why?worker=slow"] {
        refused(&get(&d, target).await, 404, "not_found", &["there are: fast"]);
    }
    refused(&get(&d, "/v1/why?task=9").await, 404, "not_found", &["no task 9"]);
    for verb in ["cancel", "retry"] {
        refused(&post(&d, &format!("/v1/tasks/9/{verb}"), json!({})).await, 404, "not_found", &["no task 9"]);
    }
}

#[tokio::test]
async fn waiting_ends_with_the_task_or_with_the_time() {
    let d = Daemon::start();
    post(&d, "/v1/tasks", json!({"type": "copy"})).await;
    assert_eq!(get(&d, "/v1/tasks/1/wait?timeout_s=0.01").await.json()["state"], "queued");
    d.memory.start(1);
    let (socket, memory) = (d.socket.clone(), d.memory.clone());
    let waiting = tokio::spawn(async move { ask(&socket, "GET", "/v1/tasks/1/wait", &[], b"").await });
    memory.end(1, State::Done);
    assert_eq!(waiting.await.unwrap().json()["state"], "done");
}

#[tokio::test]
async fn tasks_are_cancelled_retried_and_edited() {
    let d = Daemon::start();
    post(&d, "/v1/tasks", json!({"type": "copy"})).await;
    let edit =
        async |body: Value| ask(&d.socket, "PATCH", "/v1/tasks/1", &[], body.to_string().as_bytes()).await;
    assert_eq!(edit(json!({"priority": 9})).await.json()["priority"], 9);
    refused(&edit(json!({})).await, 400, "bad_field", &["`priority` and `delay_s`"]);
    refused(&edit(json!({"priority": 10})).await, 400, "bad_field", &["0 to 9"]);
    refused(&edit(json!({"delay_s": -1})).await, 400, "bad_field", &["`delay_s` is -1"]);
    refused(&edit(json!({"state": "done"})).await, 400, "bad_field", &["`state`"]);
    let cancel = async || post(&d, "/v1/tasks/1/cancel", Value::Null).await;
    assert_eq!(cancel().await.json()["state"], "cancelled");
    refused(&cancel().await, 409, "conflict", &["cancelled already"]);
    assert_eq!(post(&d, "/v1/tasks/1/retry", Value::Null).await.json()["state"], "queued");
    refused(&post(&d, "/v1/tasks/1/retry", Value::Null).await, 409, "conflict", &["accepted"]);
}

#[tokio::test]
async fn a_followed_log_goes_over_all_attempts_to_the_end_of_the_task() {
    let d = Daemon::start();
    post(&d, "/v1/tasks", json!({"type": "copy"})).await;
    assert_eq!(get(&d, "/v1/tasks/1/log").await.body, b"");
    let (socket, memory) = (d.socket.clone(), d.memory.clone());
    let follow = tokio::spawn(async move { ask(&socket, "GET", "/v1/tasks/1/log?follow=1", &[], b"").await });
    memory.start(1);
    memory.write(1, "first attempt\n");
    // The reader settles on the last attempt that it sees: give it the first one to see.
    tokio::time::sleep(Duration::from_millis(500)).await;
    memory.requeue(1);
    memory.start(1);
    memory.write(1, "second\n");
    memory.end(1, State::Done);
    let a = follow.await.unwrap();
    assert_eq!((a.status, a.text().as_str()), (200, "first attempt\nsecond\n"));
    assert_eq!(get(&d, "/v1/tasks/1/log").await.text(), "second\n");
    assert_eq!(get(&d, "/v1/tasks/1/log?attempt=1&offset=6").await.text(), "attempt\n");
    refused(&get(&d, "/v1/tasks/1/log?attempt=3").await, 404, "not_found", &["no attempt 3"]);
}

#[tokio::test]
async fn workers_predictions_and_evidence_are_answered() {
    let d = Daemon::start();
    post(&d, "/v1/tasks", json!({"type": "copy"})).await;
    let read = async |target: &str| {
        let a = get(&d, target).await;
        assert_eq!(a.status, 200, "{target}: {a:?}");
        a.json()
    };
    assert_eq!(read("/v1/workers").await[0]["name"], "fast");
    assert_eq!(read("/v1/workers/fast/profile").await[0]["type"], "copy");
    assert_eq!(read("/v1/predict").await["of"], "host");
    let p = read("/v1/predict?worker=fast&explain=true").await;
    assert_eq!((&p["of"], p["explain"]["exponents"].as_array().unwrap().len()), (&json!("worker fast"), 3));
    assert_eq!(read("/v1/predict?entity=vol-1").await["of"], "entity vol-1");
    assert_eq!(read("/v1/savings").await["useful"], 221);
    assert_eq!(read("/v1/why?task=1").await["candidates"][0]["worker"], "fast");
    assert_eq!(read("/v1/why?object=volumes:vol-1").await["lines"][0]["name"], "forecast");
    assert!(read("/v1/why?worker=fast").await["title"].as_str().unwrap().contains("fast"));
}

#[tokio::test]
async fn the_cache_is_listed_and_ordered() {
    let d = Daemon::start();
    let order = async |verb: &str, body: Value| post(&d, &format!("/v1/cache/{verb}"), body).await;
    let result = async |verb: &str, body: Value| order(verb, body).await.json()[0]["result"].clone();
    assert_eq!(get(&d, "/v1/cache").await.json()[0]["policy"], "lru");
    assert_eq!(result("stage", json!({"objects": ["volumes:a"]})).await, "staging");
    assert_eq!(result("stage", json!({"type": "copy", "entity": "b", "wait": true})).await, "staged");
    assert_eq!(result("pin", json!({"objects": ["volumes:a"]})).await, "pinned");
    let objects = get(&d, "/v1/cache/objects?prefix=volumes:a&limit=5").await.json();
    assert_eq!((objects.as_array().unwrap().len(), &objects[0]["pinned"]), (1, &json!(true)));
    assert_eq!(result("unpin", json!({"objects": ["volumes:a"]})).await, "unpinned");
    assert_eq!(order("verify", json!({})).await.json().as_array().unwrap().len(), 2);
    assert_eq!(result("evict", json!({"objects": ["volumes:a"]})).await, "evicted");
    refused(&order("evict", json!({})).await, 400, "bad_field", &["nothing is named"]);
    refused(&order("stage", json!({"entity": "b"})).await, 400, "bad_field", &["without `type`"]);
    let both = json!({"objects": ["volumes:a"], "type": "copy"});
    refused(&order("stage", both).await, 400, "bad_field", &["one of them"]);
    let many = json!({"objects": vec!["volumes:a"; 10_001]});
    refused(&order("stage", many).await, 400, "bad_field", &["up to 10000"]);
}

#[tokio::test]
async fn heat_comes_as_data_and_as_pictures() {
    let d = Daemon::start();
    let map: crate::draw::Heatmap =
        serde_json::from_value(get(&d, "/v1/heatmap?by=worker&metric=heat&columns=30").await.json()).unwrap();
    assert_eq!(map.columns.count, 30);
    let svg = get(&d, "/v1/heatmap?format=svg&theme=dark&zone_s=3600").await;
    assert_eq!(svg.header("content-type"), Some("image/svg+xml"));
    assert!(svg.text().contains("<svg"));
    let png = get(&d, "/v1/heatmap?format=png").await;
    assert_eq!((png.header("content-type"), &png.body[1..4]), (Some("image/png"), &b"PNG"[..]));
}

#[tokio::test]
async fn the_daemon_is_paused_resumed_and_drained() {
    let d = Daemon::start();
    let status = async |path: &str| post(&d, path, Value::Null).await.json()["status"].clone();
    assert_eq!(status("/v1/pause").await, "paused");
    assert_eq!(get(&d, "/v1/health").await.json()["status"], "paused");
    assert_eq!(status("/v1/resume").await, "running");
    assert_eq!(status("/v1/drain").await, "draining");
}

#[tokio::test]
async fn the_diary_comes_as_lines_and_as_server_sent_events() {
    let d = Daemon::start();
    post(&d, "/v1/tasks", json!({"type": "copy"})).await;
    d.memory.start(1);
    d.memory.end(1, State::Done);
    let lines = ask(&d.socket, "GET", "/v1/events?from=2", &[("accept", NDJSON)], b"").await.text();
    let events: Vec<wire::Event> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((events.len(), events[0].seq, events[0].decided.as_str()), (1, 2, "done"));
    let past = ask(&d.socket, "GET", "/v1/events?follow=0", &[("last-event-id", "1")], b"").await;
    assert_eq!(past.header("content-type"), Some("text/event-stream"));
    assert!(past.text().starts_with("id: 2\nevent: done\ndata: {"), "{}", past.text());

    let mut live = UnixStream::connect(&d.socket).await.unwrap();
    live.write_all(b"GET /v1/events?from=3 HTTP/1.1\r\nhost: f\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 4_096];
    let mut told = false;
    while !seen.contains("id: 3") {
        let n = live.read(&mut buffer).await.unwrap();
        assert!(n > 0, "the stream ended early: {seen}");
        seen.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        if !told && seen.contains("\r\n\r\n") {
            post(&d, "/v1/tasks", json!({"type": "copy"})).await;
            d.memory.start(2);
            told = true;
        }
    }
    assert!(seen.contains("event: running"), "{seen}");
}

#[tokio::test]
async fn figures_come_as_series_as_a_moment_and_for_scrapers() {
    let d = Daemon::start();
    let series = get(&d, "/v1/series?by=host&metric=cpu").await.json();
    assert_eq!((&series[0]["metric"], &series[0]["points"][1]), (&json!("cpu"), &Value::Null));
    assert_eq!(get(&d, "/v1/series?step=3").await.status, 400, "unknown words are refused");
    let now = get(&d, "/v1/now").await.json();
    assert_eq!((&now["played"][0]["task"], &now["next"]), (&json!(7), &json!(1)));
    assert_eq!(get(&d, "/v1/now?since=1").await.json()["played"], json!([]));
    let metrics = get(&d, "/metrics").await;
    assert_eq!(metrics.header("content-type"), Some(super::metrics::CONTENT_TYPE));
    assert!(metrics.text().ends_with("forestage_up_seconds 720.0\n# EOF\n"));
}

#[tokio::test]
async fn the_dashboard_is_part_of_the_daemon() {
    let d = Daemon::start();
    let page = get(&d, "/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").is_some_and(|p| p.starts_with("default-src 'none'")));
    for (asset, media_type) in
        [("app.js", "text/javascript; charset=utf-8"), ("ramp.css", "text/css; charset=utf-8")]
    {
        let answer = get(&d, &format!("/assets/{asset}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(media_type)));
    }
    assert_eq!(get(&d, "/assets/none.js").await.status, 404);
}

#[tokio::test]
async fn the_document_describes_every_route_and_is_served() {
    let d = Daemon::start();
    let served = get(&d, "/v1/openapi.json").await.json();
    assert_eq!(served, serde_json::to_value(routes::document()).unwrap());
    let declared: Vec<String> = served["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys().filter(|k| *k != "parameters");
            methods.map(move |m| format!("{} {path}", m.to_uppercase())).collect::<Vec<_>>()
        })
        .collect();
    let expected = [
        "DELETE /v1/recurring/{name}",
        "DELETE /v1/workers/{name}",
        "GET /metrics",
        "GET /v1/cache",
        "GET /v1/cache/objects",
        "GET /v1/events",
        "GET /v1/groups",
        "GET /v1/health",
        "GET /v1/heatmap",
        "GET /v1/now",
        "GET /v1/openapi.json",
        "GET /v1/predict",
        "GET /v1/recurring",
        "GET /v1/savings",
        "GET /v1/series",
        "GET /v1/tasks",
        "GET /v1/tasks/{id}",
        "GET /v1/tasks/{id}/log",
        "GET /v1/tasks/{id}/wait",
        "GET /v1/wait",
        "GET /v1/why",
        "GET /v1/workers",
        "GET /v1/workers/{name}/lifeline",
        "GET /v1/workers/{name}/profile",
        "PATCH /v1/groups/{name}",
        "PATCH /v1/tasks/{id}",
        "POST /v1/cache/evict",
        "POST /v1/cache/pin",
        "POST /v1/cache/stage",
        "POST /v1/cache/unpin",
        "POST /v1/cache/verify",
        "POST /v1/drain",
        "POST /v1/pause",
        "POST /v1/resume",
        "POST /v1/retry",
        "POST /v1/tasks",
        "POST /v1/tasks/{id}/cancel",
        "POST /v1/tasks/{id}/retry",
        "POST /v1/workers",
        "POST /v1/workers/{name}/heartbeat",
        "POST /v1/workers/{name}/next",
        "PUT /v1/recurring/{name}",
    ];
    let mut declared = declared;
    declared.sort();
    assert_eq!(declared, expected);
    // Every reference leads somewhere, every operation has an error, and queries stand in the query.
    let text = served.to_string();
    for reference in text.split("\"$ref\":\"").skip(1) {
        let pointer = reference.split('"').next().unwrap().trim_start_matches('#');
        assert!(served.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
    for (path, item) in served["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            assert!(operation["responses"]["default"].is_object(), "{method} {path}");
            for parameter in operation["parameters"].as_array().unwrap_or(&Vec::new()) {
                let name = parameter["name"].as_str().unwrap();
                let place = if path.contains(&format!("{{{name}}}")) {
                    "path"
                } else if name == "last-event-id" {
                    "header"
                } else {
                    "query"
                };
                assert_eq!(parameter["in"], place, "{method} {path} {name}");
            }
        }
    }
}

#[tokio::test]
async fn large_bodies_are_refused_without_being_read() {
    let d = Daemon::start();
    let size = 8 << 20;
    let mut body = json!({"type": "copy", "payload": "x"}).to_string().into_bytes();
    body.resize(size, b' ');
    assert_eq!(ask(&d.socket, "POST", "/v1/tasks", &[], &body).await.status, 201, "8 MiB are accepted");
    body.push(b' ');
    let a = ask(&d.socket, "POST", "/v1/tasks", &[], &body).await;
    refused(&a, 413, "too_large", &["8388608 bytes"]);
    let a = ask(&d.socket, "POST", "/v1/tasks", &[("content-type", NDJSON)], &body).await;
    assert_eq!(a.status, 200, "NDJSON may be larger");

    // A gigabyte that is only announced, and one that is not announced at all.
    let head = |h: &str| format!("POST /v1/tasks HTTP/1.1\r\nhost: f\r\nconnection: close\r\n{h}\r\n\r\n");
    let mut stream = UnixStream::connect(&d.socket).await.unwrap();
    stream.write_all(head("content-length: 1073741824").as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(answer(&bytes).unwrap().status, 413);
    let mut stream = UnixStream::connect(&d.socket).await.unwrap();
    stream.write_all(head("transfer-encoding: chunked").as_bytes()).await.unwrap();
    let chunk = [b"100000\r\n".to_vec(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
    let mut sent = 0;
    while sent < 1_024 && stream.write_all(&chunk).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 64, "{sent} MiB were taken");
    assert_eq!(get(&d, "/v1/health").await.status, 200);
}

#[tokio::test]
async fn random_bytes_get_a_clear_answer_and_the_daemon_goes_on() {
    let d = Daemon::start();
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..40 {
        let mut bytes: Vec<u8> = (0..10_000).map(|_| random.u8(..)).collect();
        if round % 2 == 1 {
            bytes.splice(0..0, *b"GET /v1/tasks HTTP/1.1\r\n");
        }
        let mut stream = UnixStream::connect(&d.socket).await.unwrap();
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut got = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut got)).await;
        assert!(read.is_ok(), "round {round}: neither answered nor closed");
        if let Some(a) = answer(&got) {
            assert!((400..500).contains(&a.status), "round {round}: {}", a.head);
        }
    }
    // Random bytes as bodies, and as queries.
    for _ in 0..40 {
        let bytes: Vec<u8> = (0..10_000).map(|_| random.u8(..)).collect();
        assert_eq!(ask(&d.socket, "POST", "/v1/tasks", &[], &bytes).await.status, 400);
        let query: String = (0..50).map(|_| format!("%{:02X}", random.u8(..))).collect();
        assert_eq!(get(&d, &format!("/v1/tasks?{query}=1")).await.status, 400);
    }
    assert_eq!(get(&d, "/v1/health").await.status, 200);
}

#[tokio::test]
async fn slow_clients_are_let_go() {
    let short = Duration::from_millis(100);
    let d =
        Daemon::start_with(Settings { header_timeout: short, body_timeout: short, ..Settings::default() });
    // Half a head, half a body, and nothing at all.
    let half_body = "POST /v1/tasks HTTP/1.1\r\nhost: f\r\ncontent-length: 100\r\n\r\n{";
    for (sent, status) in [("GET /v1/ta", None), (half_body, Some(408)), ("", None)] {
        let mut stream = UnixStream::connect(&d.socket).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut got)).await;
        assert!(read.is_ok(), "{sent:?} was kept");
        let found = answer(&got).map(|a| a.status);
        assert!(found == status || found == Some(408), "{sent:?}: {found:?}");
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let d = Daemon::start_with(Settings { max_connections: 2, ..Settings::default() });
    let idle = [UnixStream::connect(&d.socket).await.unwrap(), UnixStream::connect(&d.socket).await.unwrap()];
    let a = get(&d, "/v1/health").await;
    refused(&a, 503, "busy", &["2 connections are open"]);
    assert_eq!(a.header("retry-after"), Some("1"));
    drop(idle);
    for _ in 0..100 {
        if get(&d, "/v1/health").await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the places were not given back");
}

#[tokio::test]
async fn roles_limit_what_callers_may_do() {
    // Whoever runs the tests is the owner; seen from a daemon of somebody else it is one of the others. Root
    // administers every daemon, so the refusals are checked at the router with a peer of our choice.
    use axum::body::Body;
    use hyper::service::Service;
    let memory = super::testing::Memory::new();
    let router = routes::router(memory, routes::Limits::default(), Default::default());
    let service = hyper_util::service::TowerToHyperService::new(router);
    let ask = async |role: Option<Role>, method: &str, path: &str| {
        let mut request =
            axum::http::Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        if let Some(role) = role {
            request.extensions_mut().insert(super::roles::Peer { uid: 7, role });
        }
        service.call(request).await.unwrap().status().as_u16()
    };
    for role in [None, Some(Role::Read)] {
        assert_eq!(ask(role, "GET", "/v1/health").await, 200);
        assert_eq!(ask(role, "POST", "/v1/tasks/1/cancel").await, 403);
        assert_eq!(ask(role, "POST", "/v1/pause").await, 403);
    }
    assert_eq!(ask(Some(Role::Submit), "POST", "/v1/tasks/1/cancel").await, 404);
    for path in ["/v1/pause", "/v1/drain", "/v1/cache/evict", "/v1/cache/pin"] {
        assert_eq!(ask(Some(Role::Submit), "POST", path).await, 403, "{path}");
    }
    assert_eq!(ask(Some(Role::Admin), "POST", "/v1/pause").await, 200);
    assert_eq!(Access::here().of(0), Role::Admin);
}

#[tokio::test]
async fn all_bodies_together_and_all_tasks_of_one_are_bounded() {
    use axum::body::Body;
    use hyper::service::Service;
    let limits = routes::Limits { all_bodies_bytes: 128 << 10, submits: 10, ..routes::Limits::default() };
    let router = routes::router(super::testing::Memory::new(), limits, Default::default());
    let service = hyper_util::service::TowerToHyperService::new(router);
    let post = async |body: Vec<u8>| {
        let peer = super::roles::Peer { uid: 7, role: Role::Submit };
        let request = axum::http::Request::builder().method("POST").uri("/v1/tasks").extension(peer);
        service.call(request.body(Body::from(body)).unwrap()).await.unwrap().status().as_u16()
    };
    let tasks = |n: usize| format!("[{}]", vec!["{\"type\":\"copy\"}"; n].join(",")).into_bytes();
    assert_eq!(post(vec![b' '; 200 << 10]).await, 429);
    // What a refused one took is given back, again and again.
    for _ in 0..10 {
        assert_eq!(post(vec![b' '; 100 << 10]).await, 400);
        assert_eq!(post(tasks(10)).await, 200);
    }
    assert_eq!(post(tasks(11)).await, 400);
}

#[tokio::test]
async fn stopping_answers_what_is_under_way_and_accepts_nothing_more() {
    let d = Daemon::start();
    post(&d, "/v1/tasks", json!({"type": "copy"})).await;
    let socket = d.socket.clone();
    let waiting = tokio::spawn(async move { ask(&socket, "GET", "/v1/tasks/1/wait", &[], b"").await });
    let mut idle = UnixStream::connect(&d.socket).await.unwrap();
    let mut stream = UnixStream::connect(&d.socket).await.unwrap();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: f\r\n\r\n").await.unwrap();
    let mut some = [0; 16];
    stream.read_exact(&mut some).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    d.shutdown.cancel();
    refused(&waiting.await.unwrap(), 503, "unavailable", &["stopping"]);
    tokio::time::timeout(Duration::from_secs(4), d.served)
        .await
        .expect("idle and streams end at once")
        .unwrap();
    assert_eq!(idle.read(&mut some).await.unwrap(), 0);
    assert!(UnixStream::connect(&d.socket).await.is_err());
    assert!(d.socket.exists(), "the file goes last");
    d.file.remove();
    assert!(!d.socket.exists());
}

#[tokio::test]
async fn the_socket_replaces_a_stale_one_and_no_other() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/here/f.sock");
    let place = Place { path: path.clone(), mode: 0o600, group: None };
    let first = Listener::bind(&place).unwrap();
    let file = first.socket();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let live = Listener::bind(&place).unwrap_err();
    assert!(matches!(live, ListenError::Live(_)), "{live}");
    assert!(live.to_string().contains("another daemon listens on"), "{live}");
    drop(first);
    let grouped = Place { group: Some(path.metadata().unwrap().gid().to_string()), ..place.clone() };
    let second = Listener::bind(&grouped).unwrap();
    file.remove();
    assert!(path.exists(), "the first one's file is gone; this is the second one's");
    let file = second.socket();
    file.remove();
    assert!(path.exists(), "it answers still");
    drop(second);
    file.remove();
    assert!(!path.exists());

    std::fs::write(&path, "not a socket").unwrap();
    assert!(matches!(Listener::bind(&place).unwrap_err(), ListenError::NoSocket(_)));
    assert_eq!(std::fs::read(&path).unwrap(), b"not a socket");
    let long = Place { path: folder.path().join("x".repeat(100)), ..place.clone() };
    assert!(Listener::bind(&long).unwrap_err().to_string().contains("accepted: up to 107"));
    let nobody = Place { group: Some("no-such-group".to_owned()), ..place };
    assert!(Listener::bind(&nobody).unwrap_err().to_string().contains("/etc/group"));
}

#[tokio::test]
async fn an_inherited_socket_is_taken_and_never_unlinked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.sock");
    let made = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let listener = Listener::from_inherited(made.into()).unwrap();
    assert_eq!(listener.socket().path(), path);
    listener.socket().remove();
    assert!(path.exists());
    let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(matches!(Listener::from_inherited(one.into()), Err(ListenError::NotInheritable)));
}
