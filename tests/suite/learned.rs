//! Objects that no template names: tasks without an entity read them in an order that repeats.

use crate::house::House;
use forestage::demo::server::{Link, Server};
use forestage::time::Span;
use serde_json::json;

/// Objects of a round: more than the pool holds, so that a plain LRU would miss every one.
const OBJECTS: usize = 40;
const OBJECT_BYTES: usize = 40_000;
const LINK: Link =
    Link { latency: Span::from_ms(20), connection_bytes_per_s: 50e6, total_bytes_per_s: 200e6 };

/// Names without numbers that count anything: only the order tells what comes next.
fn object(i: usize) -> String {
    format!("{:x}q/data.img", i * 7_919_777 + 7_777_777)
}

fn house(url: &str) -> House {
    let extra = format!(
        r#"
[source.remote]
kind = "http"
url = "{url}"
consistency = "immutable"
[type.read]
argv = ["sh", "-c", "wc -c < \"$1\"", "sh", "{{input.0}}"]
"#
    );
    House::new(&extra).holding("1MiB")
}

fn server() -> String {
    let (tell, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let objects = (0..OBJECTS).map(|i| (object(i), vec![i as u8; OBJECT_BYTES].into()));
            let server = Server::start(LINK, objects).await.unwrap();
            tell.send(server.url()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    address.recv().unwrap()
}

/// One task after the other reads all objects, always in the same order.
fn round(house: &House) {
    for i in 0..OBJECTS {
        let object = format!("remote:{}", object(i));
        house.wait_done(house.submit(json!({"type": "read", "inputs": [object]})));
    }
}

/// Learned objects that were staged, and those that a task used: in time, or on their way.
fn learned(house: &House) -> (u64, u64) {
    let savings = house.get("/v1/savings");
    let lines = savings["lines"].as_array().unwrap();
    let of = |key: &str| {
        let learned = lines.iter().filter(|l| l["knowledge"] == "learned");
        learned.map(|l| l[key].as_u64().unwrap()).sum::<u64>()
    };
    (of("staged"), of("useful") + of("late"))
}

#[test]
fn objects_that_follow_each_other_are_staged_without_a_template_and_after_a_restart_too() {
    let mut house = house(&server());
    house.start();
    for _ in 0..4 {
        round(&house);
    }
    let (staged, used) = learned(&house);
    assert!(staged >= 20 && used >= 20, "{staged} staged, {used} used\n{}", house.get("/v1/savings"));
    assert!(house.stop(), "{}", house.log());
    house.start();
    let before = learned(&house).1;
    round(&house);
    let (staged, used) = learned(&house);
    // Without its history it would stage nothing in one round.
    assert!(used - before >= 10, "{staged} staged, {used} used after the restart: the history was kept");
}
