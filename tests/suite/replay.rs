//! `forestage replay`: what it prints is what programs read.

use crate::house::BIN;
use serde_json::Value;
use std::fmt::Write as _;
use std::process::Command;

/// What every object of `replay objects --json` holds.
const KEYS: [&str; 15] = [
    "trace",
    "policy",
    "capacity_bytes",
    "accesses",
    "miss_ratio_demand_only",
    "miss_ratio",
    "reachable_ratio",
    "issued",
    "useful",
    "precision",
    "extra_bytes_ratio",
    "us_per_access",
    "model_bytes",
    "stall_s_demand_only",
    "stall_s",
];

#[test]
fn replay_of_objects_prints_one_line_a_cell_and_a_summary_a_policy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("loop.csv");
    let mut text = String::from("time_s,worker,task_type,entity,duration_s,bytes,objects\n");
    for i in 0..4_000 {
        writeln!(text, "{i},w0,read,,,4096,{:x}q:4096", i % 200 * 7_919 + 77_777).unwrap();
    }
    std::fs::write(&path, text).unwrap();
    let replay = |more: &[&str]| {
        let out = Command::new(BIN).args(["replay", "objects"]).arg(&path).args(more).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let cells =
        ["--capacity", "5%,20%", "--policy", "lru,lfu", "--baseline", "mithril", "--summary", "--json"];
    let lines: Vec<Value> = replay(&cells).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 4 + 2);
    for cell in &lines[..4] {
        assert!(KEYS.iter().all(|key| !cell[key].is_null()), "{cell}");
        assert!(cell["mithril"]["miss_ratio"].is_number() && cell["late"].is_number(), "{cell}");
        let alone = cell["miss_ratio_demand_only"].as_f64().unwrap();
        assert!(alone == 1.0 || cell["policy"] == "lfu", "a loop is lost to LRU: {cell}");
        assert!(cell["miss_ratio"].as_f64().unwrap() < 0.4, "{cell}");
    }
    for (summary, policy) in lines[4..].iter().zip(["lru", "lfu"]) {
        assert_eq!((&summary["policy"], &summary["cells"]), (&policy.into(), &2.into()));
        assert!(summary["removed_median"].as_f64().unwrap() > 0.5, "{summary}");
        assert_eq!(summary["worse"], serde_json::json!([]));
    }
    let shown = replay(&["--summary"]);
    assert!(shown.contains("precision, pooled") && shown.contains("lru, cells: 1"), "{shown}");
}
