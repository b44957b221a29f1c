//! What was learned outlives the daemon: the same forecasts, bit for bit, after SIGKILL and restart.

use crate::house::{House, until};
use forestage::store::state::{SNAPSHOTS, State};
use serde_json::{Value, json};

const TYPES: &str = r#"
[predict]
snapshot_every = "EVERY"
[type.create]
argv = ["true"]
[type.copy]
argv = ["true"]
[type.verify]
argv = ["true"]
[type.delete]
argv = ["true"]
"#;

fn house(snapshot_every: &str) -> House {
    House::new(TYPES).replacing("EVERY", snapshot_every)
}

/// Entities `from..to` go create, copy, verify or copy, delete, one behind the other.
fn work(house: &House, from: u64, to: u64) {
    for e in from..to {
        let third = if e % 3 == 0 { "copy" } else { "verify" };
        for task_type in ["create", "copy", third, "delete"] {
            let id = house.submit(json!({"type": task_type, "entity": format!("v{}", e % 40)}));
            house.wait_done(id);
        }
    }
}

/// Every digit of what is foretold, without what depends on the time of asking: when something is due, and how
/// hot the workers are this moment. A worker's p is a function of what is left and of that heat.
fn said(house: &House) -> Vec<Value> {
    let mut said = Vec::new();
    for of in ["", "worker=fast", "worker=slow", "entity=v0", "entity=v7", "entity=v39", "entity=new"] {
        let mut p = house.get(&format!("/v1/predict?explain=true&{of}"));
        p["expected"] = Value::Null;
        let mut types = p["types"].as_array().unwrap().clone();
        for t in &mut types {
            t["due_in_s"] = Value::Null;
            if of.starts_with("worker") {
                (t["heat"], t["p"]) = (Value::Null, Value::Null);
            }
        }
        types.sort_by_key(|t| t["type"].to_string());
        p["types"] = json!(types);
        if of.starts_with("worker") {
            p["other"] = Value::Null;
        }
        said.push(p);
    }
    said
}

/// What is foretold once nothing changes it any more: the last outcome was learned, the last snapshot is on disk.
fn said_when_idle(house: &House) -> Vec<Value> {
    let mut last = said(house);
    let mut same = 0;
    until("forecasts stay as they are", || {
        std::thread::sleep(std::time::Duration::from_millis(250));
        let now = said(house);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        (same == 16).then_some(())
    });
    last
}

fn exponents(said: &[Value]) -> &Value {
    &said[0]["explain"]["exponents"]
}

#[test]
fn forecasts_are_the_same_bit_for_bit_after_a_kill() {
    let mut house = house("1s");
    house.start();
    work(&house, 0, 60);
    let before = said_when_idle(&house);
    assert_ne!(exponents(&before), &json!([1.0, 1.0, 1.0]), "exponents were learned");
    house.crash();
    house.start();
    assert_eq!(said(&house), before);
    assert_eq!(house.get("/v1/health")["damage"], json!([]));
    // And they go on from there, and survive again: snapshot and outcomes since.
    work(&house, 60, 70);
    let later = said_when_idle(&house);
    assert_ne!(later, before);
    house.crash();
    house.start();
    assert_eq!(said(&house), later);
    assert!(house.stop(), "{}", house.log());
}

#[test]
fn without_any_snapshot_the_record_alone_gives_the_same_forecasts() {
    let mut house = house("1h");
    house.start();
    work(&house, 0, 40);
    let before = said_when_idle(&house);
    // What the record cannot tell again does not count before it is in a snapshot.
    assert_eq!(exponents(&before), &json!([1.0, 1.0, 1.0]));
    house.crash();
    house.start();
    assert_eq!(said(&house), before);
    assert!(house.stop(), "{}", house.log());
}

#[test]
fn a_damaged_snapshot_is_set_aside_and_rebuilt_from_the_record() {
    let mut house = house("1h");
    house.start();
    work(&house, 0, 40);
    let before = said_when_idle(&house);
    assert!(house.stop(), "{}", house.log());
    {
        let (state, damage) = State::open(&house.path("state").join("state")).unwrap();
        assert!(damage.is_none());
        let tree = state.tree(SNAPSHOTS).unwrap();
        let mut bytes = tree.get_bytes(b"predictor").unwrap().expect("the daemon left a snapshot");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        tree.put_bytes(b"predictor", &bytes).unwrap();
        state.flush().unwrap();
    }
    house.start();
    let damage = house.get("/v1/health")["damage"].to_string();
    assert!(damage.contains("checksum is wrong") && damage.contains("learns again"), "{damage}");
    assert_eq!(said(&house), before);
    assert!(house.stop(), "{}", house.log());
    house.start();
    assert_eq!(house.get("/v1/health")["damage"], json!([]), "it was rebuilt and kept");
    assert!(house.stop(), "{}", house.log());
}
