//! A real Prometheus scrapes the daemon; its answers are those of the API.

use crate::house::{House, until};
use crate::port;
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};

const TYPES: &str = r#"
[type.copy]
argv = ["cp", "{input.0}", "{workdir}/copy"]
inputs = ["volumes:{entity}/data.img"]
[type.broken]
argv = ["/bin/false"]
attempts = 1
"#;

/// Ends the process when the test ends, however it does.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|s| s.success())
}

#[test]
fn the_alerts_are_read_by_promtool() {
    if !has("promtool") {
        println!("skipped: there is no promtool");
        return;
    }
    let checked =
        Command::new("promtool").args(["check", "rules", "config/prometheus-alerts.yml"]).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// The one value that a PromQL question has, if it has one.
fn value(port: u16, question: &str) -> Option<f64> {
    let escaped: String = question
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect();
    let answer = port::json(port, &format!("/api/v1/query?query={escaped}"))?;
    let results = answer["data"]["result"].as_array()?.clone();
    assert!(results.len() <= 1, "{question} has one answer: {results:?}");
    results.first()?["value"][1].as_str()?.parse().ok()
}

fn start_prometheus(house: &House, daemon: u16, own: u16) -> Ended {
    let config = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\nscrape_configs:\n- job_name: forestage\n  \
         authorization: {{ credentials_file: {token} }}\n  static_configs: [{{ targets: ['127.0.0.1:{daemon}'] }}]\n",
        token = house.path("state/dashboard.token").display()
    );
    let path = house.path("prometheus.yml");
    std::fs::write(&path, config).unwrap();
    let log = std::fs::File::create(house.path("prometheus.log")).unwrap();
    let child = Command::new("prometheus")
        .arg(format!("--config.file={}", path.display()))
        .arg(format!("--storage.tsdb.path={}", house.path("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{own}"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    Ended(child)
}

#[test]
fn promql_answers_are_those_of_the_api() {
    if !has("prometheus") {
        println!("skipped: there is no prometheus");
        return;
    }
    let (daemon, own) = (port::free(), port::free());
    let mut house = House::new(TYPES).with_daemon(&format!("listen = \"127.0.0.1:{daemon}\""));
    for i in 0..4 {
        house.volume(&format!("vol-{i}"), &[7; 4_096]);
    }
    house.start();
    let (status, head, _) = port::get(daemon, "/metrics", "").unwrap();
    assert_eq!(status, 401, "a token is needed: {head}");
    let mut ids: Vec<u64> = (0..12)
        .map(|i| house.submit(json!({ "type": "copy", "entity": format!("vol-{}", i % 4) })))
        .collect();
    ids.push(house.submit(json!({ "type": "broken" })));
    ids.iter().for_each(|id| _ = house.wait(*id));
    let _prometheus = start_prometheus(&house, daemon, own);

    let sum = |what: &str| format!("sum({what})");
    let attempts = until("prometheus has counted all attempts", || {
        value(own, &sum("forestage_attempts_total")).filter(|n| *n >= 13.0)
    });
    assert_eq!(attempts, 13.0);
    assert_eq!(value(own, "up{job=\"forestage\"}"), Some(1.0));
    assert_eq!(value(own, "forestage_attempts_failed_total{type=\"broken\"}"), Some(1.0));
    let caches = house.get("/v1/cache");
    let cache = |field: &str| caches[0][field].as_f64();
    assert_eq!(value(own, "forestage_cache_objects{cache=\"main\"}"), cache("objects"));
    assert_eq!(value(own, "forestage_cache_used_bytes{cache=\"main\"}"), cache("used_bytes"));
    assert_eq!(value(own, "forestage_cache_hits_total{cache=\"main\"}"), cache("hits"));
    let savings = house.get("/v1/savings");
    assert_eq!(value(own, "forestage_demands_total"), savings["demands"].as_f64());
    let slots: Value =
        house.get("/v1/workers").as_array().unwrap().iter().map(|w| w["slots"].clone()).collect();
    assert_eq!(slots, json!([2, 1]));
    assert_eq!(value(own, &sum("forestage_worker_slots")), Some(3.0));
    assert_eq!(value(own, "forestage_tasks{state=\"queued\"}"), Some(0.0));
    // What runs shows in the next scrape, and in the API at once.
    let (_, paused) = house.request("POST", "/v1/pause", "");
    house.submit(json!({ "type": "copy", "entity": "vol-1" }));
    assert_eq!(house.get("/v1/health")["tasks"]["queued"], 1, "{paused}");
    until("prometheus sees the queue", || {
        value(own, "forestage_tasks{state=\"queued\"}").filter(|n| *n == 1.0)
    });
}
