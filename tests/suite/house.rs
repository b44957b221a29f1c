//! A daemon of our own in a temporary folder, and what a test asks of it.

use serde_json::Value;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// The binary under test.
pub const BIN: &str = env!("CARGO_BIN_EXE_forestage");
/// How long a condition may take; far more than it needs, so that a busy machine fails no test.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Waits until `ready` gives something.
pub fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let mut waited = Duration::ZERO;
    loop {
        if let Some(t) = ready() {
            return t;
        }
        assert!(waited < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(LOOK_AGAIN);
        waited += LOOK_AGAIN;
    }
}

/// The first figure in a short run, the second where `FORESTAGE_SOAK` is set (`scripts/soak`).
pub fn soak([short, long]: [u64; 2]) -> u64 {
    if std::env::var_os("FORESTAGE_SOAK").is_some() { long } else { short }
}

/// A temporary folder with sources, and perhaps a daemon in it. Dropping it ends the daemon.
pub struct House {
    pub dir: tempfile::TempDir,
    pub child: Option<Child>,
    extra: String,
    env: Vec<(String, OsString)>,
    daemon: String,
    capacity: &'static str,
}

impl House {
    /// With `extra` behind the common part of the configuration.
    pub fn new(extra: &str) -> House {
        let dir = tempfile::tempdir().unwrap();
        for d in ["volumes", "copies"] {
            std::fs::create_dir(dir.path().join(d)).unwrap();
        }
        House {
            dir,
            child: None,
            extra: extra.into(),
            env: Vec::new(),
            daemon: String::new(),
            capacity: "64MiB",
        }
    }

    /// With a word of the configuration replaced, for paths that are known only now.
    pub fn replacing(mut self, word: &str, by: &str) -> House {
        self.extra = self.extra.replace(word, by);
        self
    }

    /// Sets a variable of the daemon's environment, from the next start on.
    pub fn env(&mut self, name: &str, value: impl Into<OsString>) {
        self.env.push((name.into(), value.into()));
    }

    /// With more lines in `[daemon]`.
    pub fn with_daemon(mut self, lines: &str) -> House {
        self.daemon = lines.into();
        self
    }

    /// With a pool of another size than 64 MiB.
    pub fn holding(mut self, capacity: &'static str) -> House {
        self.capacity = capacity;
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn socket(&self) -> PathBuf {
        self.path("s.sock")
    }

    fn config(&self) -> PathBuf {
        let d = self.dir.path().display();
        let text = format!(
            r#"
[daemon]
state_dir = "{d}/state"
work_dir = "{d}/work"
socket = "{d}/s.sock"
log = "human"
{daemon}
[source.volumes]
kind = "file"
path = "{d}/volumes"
[source.copies]
kind = "file"
path = "{d}/copies"
writable = true
[cache.main]
dir = "{d}/pool"
capacity = "{capacity}"
min_free = "1MiB"
[worker.fast]
slots = 2
[worker.slow]
slots = 1
{extra}
"#,
            extra = self.extra,
            daemon = self.daemon,
            capacity = self.capacity
        );
        let path = self.path("forestage.toml");
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let child = Command::new(BIN)
            .args(["serve", "--config"])
            .arg(self.config())
            .envs(self.env.iter().map(|(n, v)| (n, v)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        until("the daemon answers", || {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("the daemon ended: {status}\n{}", self.log());
            }
            let (status, body) = self.try_request("GET", "/v1/health", "application/json", "")?;
            (status == 200 && body["pid"] == self.pid()).then_some(())
        });
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// SIGKILL, as a crash does it.
    pub fn crash(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM; waits for the end and says whether it was a good one.
    pub fn stop(&mut self) -> bool {
        let mut child = self.child.take().unwrap();
        signal(child.id(), "TERM");
        until("the daemon stops", || child.try_wait().unwrap()).success()
    }

    /// One request, where the daemon may be gone.
    pub fn try_request(&self, method: &str, path: &str, accept: &str, body: &str) -> Option<(u16, Value)> {
        let mut s = UnixStream::connect(self.socket()).ok()?;
        s.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: forestage\r\nconnection: close\r\naccept: {accept}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        s.write_all(head.as_bytes()).ok()?;
        // A body that is too large is refused before all of it was sent.
        let _ = s.write_all(body.as_bytes());
        let mut answer = Vec::new();
        // After a refusal the connection may be reset behind the answer.
        let _ = s.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        let status = text.split(' ').nth(1)?.parse().ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let body = if head.to_lowercase().contains("transfer-encoding: chunked") {
            unchunk(body)
        } else {
            body.into()
        };
        Some((status, serde_json::from_str(&body).unwrap_or(Value::String(body))))
    }

    /// One request; its status and its body as JSON.
    pub fn request(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.try_request(method, path, "application/json", body).expect("the daemon answers")
    }

    pub fn get(&self, path: &str) -> Value {
        let (status, body) = self.request("GET", path, "");
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Submits one task; its number.
    pub fn submit(&self, body: Value) -> u64 {
        let (status, answer) = self.request("POST", "/v1/tasks", &body.to_string());
        assert_eq!(status, 201, "{answer}");
        answer["id"].as_u64().unwrap()
    }

    /// Waits for a task's end.
    pub fn wait(&self, id: u64) -> Value {
        until("the task ends", || {
            let task = self.get(&format!("/v1/tasks/{id}/wait?timeout_s=20"));
            ["done", "failed", "cancelled"].contains(&task["state"].as_str().unwrap()).then_some(task)
        })
    }

    pub fn wait_done(&self, id: u64) -> Value {
        let task = self.wait(id);
        assert_eq!(task["state"], "done", "{task}\n{}", self.log());
        task
    }

    /// The command line, as a user calls it.
    pub fn cli(&self, args: &[&str]) -> Output {
        Command::new(BIN)
            .args(args)
            .env("FORESTAGE_SOCKET", self.socket())
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    }

    pub fn volume(&self, name: &str, content: &[u8]) {
        let dir = self.path("volumes").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        // Replaced as a whole, as storage systems do it; the reader sees old or new.
        std::fs::write(dir.join("new"), content).unwrap();
        std::fs::rename(dir.join("new"), dir.join("data.img")).unwrap();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
    assert!(sent.success());
}

/// Processes whose environment or command line speaks of this folder, the daemon itself left out.
pub fn processes_of(dir: &Path) -> Vec<u32> {
    let needle = dir.display().to_string().into_bytes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environ.windows(needle.len()).any(|w| w == needle)
            && environ.windows(15).any(|w| w == b"FORESTAGE_TASK=".as_slice())
        {
            found.push(pid);
        }
    }
    found
}

/// Processes of tasks in this house that are no descendants of the daemon that runs now.
pub fn strangers(house: &House) -> Vec<u32> {
    let descends = |mut pid: u32| loop {
        if pid == house.pid() {
            return true;
        }
        match parent(pid) {
            Some(p) if p > 1 => pid = p,
            Some(_) => return false,
            // It ended while we looked.
            None => return true,
        }
    };
    processes_of(house.dir.path()).into_iter().filter(|pid| !descends(*pid)).collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

fn unchunk(body: &str) -> String {
    let mut out = String::new();
    let mut rest = body;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let n = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if n == 0 || after.len() < n {
            break;
        }
        out.push_str(&after[..n]);
        rest = after[n..].trim_start_matches("\r\n");
    }
    out
}
