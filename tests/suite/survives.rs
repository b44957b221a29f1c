//! SIGKILL in the middle of the work: nothing acknowledged is lost, nothing is left behind.

use crate::house::{House, processes_of, until};
use forestage::demo::server::{Link, Server};
use serde_json::json;

const TASKS: u64 = 200;

#[test]
fn two_hundred_tasks_survive_a_kill_half_way() {
    let url = object_server();
    let types = format!(
        r#"
[source.remote]
kind = "http"
url = "{}"
[type.copy-file]
argv = ["cp", "{{input.0}}", "out/copy.img"]
inputs = ["volumes:{{entity}}/data.img"]
outputs = [{{ file = "copy.img", object = "copies:{{entity}}/file.img" }}]
writes = ["copies:{{entity}}/file.img"]
[type.check-http]
argv = ["sh", "-c", "wc -c < \"$1\"", "sh", "{{input.0}}"]
inputs = ["remote:{{entity}}/data.img"]
"#,
        url
    );
    let mut house = House::new(&types);
    for i in 0..20u8 {
        house.volume(&format!("v{i}"), &vec![i; 20_000]);
    }
    house.start();
    let submits: Vec<_> = (0..TASKS)
        .map(|i| {
            let task_type = if i % 2 == 0 { "copy-file" } else { "check-http" };
            json!({"type": task_type, "entity": format!("v{}", i % 20)})
        })
        .collect();
    let (status, answers) = house.request("POST", "/v1/tasks", &serde_json::to_string(&submits).unwrap());
    assert_eq!(status, 200, "{answers}");
    let ids: Vec<u64> = answers.as_array().unwrap().iter().map(|a| a["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len() as u64, TASKS);
    until("half of it is done", || {
        let done = house.get("/v1/tasks?state=done&limit=1000");
        (done.as_array().unwrap().len() as u64 >= TASKS / 2).then_some(())
    });
    house.crash();
    house.start();
    assert_eq!(processes_of(house.dir.path()).len(), 0, "a child of the old daemon is alive");
    for id in &ids {
        let task = house.wait_done(*id);
        assert!(task["attempts"].as_u64().unwrap() >= 1, "{task}");
    }
    let health = house.get("/v1/health");
    assert_eq!(health["epoch"], 2);
    assert_eq!(health["damage"], json!([]));
    let profile = house.get("/v1/workers/fast/profile");
    let known = profile.as_array().unwrap().iter().any(|l| l["effective_count"].as_f64().unwrap() > 1.0);
    assert!(known, "profiles were kept: {profile}");
    assert!(house.stop(), "{}", house.log());
    let leftovers: Vec<_> = std::fs::read_dir(house.path("work"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .filter(|n| !n.to_string_lossy().starts_with('.'))
        .collect();
    assert!(leftovers.is_empty(), "work folders are left: {leftovers:?}");
    let unfinished = std::fs::read_dir(house.path("pool/tmp")).unwrap().count();
    assert_eq!(unfinished, 0, "temporary files are left in the pool");
}

/// A real HTTP server that serves twenty volumes until the test ends; its address.
fn object_server() -> String {
    let (tell, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let objects = (0..20u8).map(|i| (format!("v{i}/data.img"), vec![i; 20_000].into()));
            let server = Server::start(Link::DEMO, objects).await.unwrap();
            tell.send(server.url()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    address.recv().unwrap()
}
