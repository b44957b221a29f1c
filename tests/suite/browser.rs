//! The dashboard in a real browser: Chromium, headless, driven over its DevTools pipe.

use crate::house::{House, until};
use crate::port;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const TYPES: &str = r#"
[type.copy]
argv = ["cp", "{input.0}", "{workdir}/copy"]
inputs = ["volumes:{entity}/data.img"]
[type.verify]
argv = ["sha256sum", "{input.0}"]
inputs = ["volumes:{entity}/data.img"]
"#;

fn is_there() -> bool {
    let found =
        Command::new("chromium").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|s| s.success())
}

/// One page of a browser of our own.
struct Page {
    child: Child,
    to: File,
    from: File,
    buffer: Vec<u8>,
    session: String,
    last: u64,
    /// Complaints of the page: exceptions, and errors in its console.
    complaints: Vec<String>,
}

impl Page {
    /// Starts it. Commands go through file 3, answers come through file 4, each ended by a zero.
    fn open(dir: &Path) -> Page {
        let (to, from) = (dir.join("to"), dir.join("from"));
        for pipe in [&to, &from] {
            assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
        }
        let child = Command::new("sh")
            .args(["-c", r#"exec chromium --headless --no-sandbox --disable-gpu --remote-debugging-pipe \
                --user-data-dir="$3" --no-first-run --disable-background-networking --disable-component-update \
                --disable-sync --disable-extensions --disable-dev-shm-usage \
                --host-resolver-rules="MAP * ~NOTFOUND , EXCLUDE 127.0.0.1" about:blank 3<"$1" 4>"$2""#, "sh"])
            .args([&to, &from, &dir.join("profile")])
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("chromium.log")).unwrap())
            .spawn()
            .unwrap();
        // Each opens when the shell opens the other end.
        let to = File::options().write(true).open(&to).unwrap();
        let from = File::open(&from).unwrap();
        let (buffer, complaints) = (Vec::new(), Vec::new());
        let mut page = Page { child, to, from, buffer, session: String::new(), last: 0, complaints };
        let target = page.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = page.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        page.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.next();
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.heed(&answer);
        }
    }

    fn next(&mut self) -> Value {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == 0) {
                let message: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&message[..end]).unwrap();
            }
            let mut part = [0; 65_536];
            let n = self.from.read(&mut part).unwrap();
            assert!(n > 0, "the browser is gone");
            self.buffer.extend_from_slice(&part[..n]);
        }
    }

    fn heed(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => self.complaints.push(params["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if params["type"] == "error" => {
                self.complaints.push(params["args"].to_string());
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.complaints.push(params["entry"].to_string());
            }
            _ => {}
        }
    }

    /// The value of an expression in the page.
    fn eval(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    fn text(&mut self, id: &str) -> String {
        self.eval(&format!("document.getElementById('{id}').textContent"))
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    fn resize(&mut self, width: u32, height: u32, dark: bool) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let theme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": theme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    fn key(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.call("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "code": key }));
        }
    }

    /// A picture of the whole page, kept where FORESTAGE_SHOTS says, to be looked at.
    fn shoot(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("FORESTAGE_SHOTS") else { return };
        let shot =
            self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true }));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join(name), decode(shot["data"].as_str().unwrap())).unwrap();
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Base64 without line ends.
fn decode(text: &str) -> Vec<u8> {
    let digit = |b: u8| match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    for group in text.as_bytes().chunks(4) {
        let digits = group.iter().filter(|b| **b != b'=').map(|b| u32::from(digit(*b)));
        let count = digits.clone().count();
        let bits = digits.fold(0, |bits, d| bits << 6 | d) << (6 * (4 - count));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..count]);
    }
    bytes
}

fn work(house: &House, from: usize, count: usize) {
    let ids: Vec<u64> = (from..from + count)
        .map(|i| {
            let task_type = if i % 2 == 0 { "copy" } else { "verify" };
            house.submit(json!({ "type": task_type, "entity": format!("vol-{}", i / 2 % 5) }))
        })
        .collect();
    ids.iter().for_each(|id| _ = house.wait_done(*id));
}

#[test]
fn the_dashboard_shows_what_the_api_says_and_follows_it() {
    if !is_there() {
        println!("skipped: there is no chromium");
        return;
    }
    let port = port::free();
    let mut house = House::new(TYPES).with_daemon(&format!("listen = \"127.0.0.1:{port}\""));
    for i in 0..5 {
        house.volume(&format!("vol-{i}"), &vec![7; 200_000]);
    }
    house.start();
    work(&house, 0, 20);
    let token = std::fs::read_to_string(house.path("state/dashboard.token")).unwrap();
    let browser = tempfile::tempdir().unwrap();
    let mut page = Page::open(browser.path());
    page.resize(1280, 1300, false);
    page.call("Page.navigate", json!({ "url": format!("http://127.0.0.1:{port}/?token={}", token.trim()) }));

    until("the page shows the workers", || {
        (page.eval("document.querySelectorAll('.worker b').length") == 2).then_some(())
    });
    assert_eq!(page.eval("location.search"), "", "the token has left the address");
    assert_eq!(
        page.eval("[...document.querySelectorAll('.worker b')].map(e => e.textContent).join()"),
        "fast,slow"
    );
    assert_eq!(page.text("staging"), "staging on");
    assert!(page.text("live").starts_with("live · "));
    assert!(page.text("diary").contains("ended      task 20"), "{}", page.text("diary"));
    assert!(page.text("wait-by").ends_with("last 20 attempts"), "{}", page.text("wait-by"));
    let paint = page.eval("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0");
    println!("first contentful paint: {paint} ms");

    // Live: what happens now shows without a reload.
    work(&house, 20, 4);
    until("the page follows", || page.text("diary").contains("ended      task 24").then_some(()));
    until("the figures follow", || page.text("wait-by").ends_with("last 24 attempts").then_some(()));
    let stream = page.eval("document.getElementById('stream').ariaLabel");
    assert!(stream.as_str().unwrap().contains("attempts ended, after"), "{stream}");

    // Drill-down by keyboard: a cell of the heatmap and what it is made of.
    until("the heatmap is drawn", || page.text("map-legend").contains("hottest").then_some(()));
    page.eval("document.getElementById('map').focus()");
    page.key("ArrowLeft");
    page.key("ArrowDown");
    assert!(page.text("map-at").starts_with("slow, "), "{}", page.text("map-at"));
    page.key("Enter");
    until("the factors are shown", || page.text("factors").contains("memory").then_some(()));
    assert!(page.text("factors").contains("cpu"), "{}", page.text("factors"));
    page.shoot("light-1280.png");

    // Narrow, wide, dark; nothing runs out of the page.
    for (width, dark) in [(400, false), (1280, true), (2500, true)] {
        page.resize(width, 1300, dark);
        page.eval("new Promise(r => setTimeout(r, 300))");
        let overflow = page.eval("document.documentElement.scrollWidth - window.innerWidth");
        assert!(overflow.as_i64().unwrap() <= 0, "{overflow} px too wide at {width}");
        page.shoot(&format!("{}-{width}.png", if dark { "dark" } else { "light" }));
    }
    // Every control has a name for a screen reader.
    let nameless = page.eval(
        "[...document.querySelectorAll('button,input,select,[tabindex]')].filter(e => !(e.textContent.trim() \
         || e.ariaLabel || e.labels?.length || e.id === 'diary')).map(e => e.outerHTML).join()",
    );
    assert_eq!(nameless, "");
    assert_eq!(page.complaints, Vec::<String>::new(), "the console is quiet");
}
