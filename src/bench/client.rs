//! A client that costs as little as one can: HTTP/1.1 on a blocking Unix socket, one connection, kept open.

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// One connection.
pub struct Client {
    stream: UnixStream,
    sent: Vec<u8>,
    read: Vec<u8>,
}

/// What `next` gives, as far as a completion needs it.
#[derive(Deserialize)]
struct Given<'a> {
    id: u64,
    #[serde(borrow)]
    token: &'a str,
}

#[derive(Deserialize)]
struct Next<'a> {
    #[serde(borrow)]
    tasks: Vec<Given<'a>>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(socket: &Path) -> anyhow::Result<Client> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client { stream, sent: Vec::new(), read: Vec::new() })
    }

    /// One request; its status and its body.
    ///
    /// # Errors
    /// When the connection breaks, or the answer is none.
    pub fn ask(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> anyhow::Result<(u16, &[u8])> {
        self.sent.clear();
        write!(
            self.sent,
            "{method} {path} HTTP/1.1\r\nhost: forestage\r\naccept: {kind}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )?;
        self.sent.extend_from_slice(body);
        self.stream.write_all(&self.sent)?;
        self.answer()
    }

    fn answer(&mut self) -> anyhow::Result<(u16, &[u8])> {
        self.read.clear();
        let mut chunk = [0; 64 << 10];
        let head_len = loop {
            let n = self.stream.read(&mut chunk)?;
            ensure!(n > 0, "the daemon closed the connection");
            let from = self.read.len().saturating_sub(3);
            self.read.extend_from_slice(&chunk[..n]);
            if let Some(at) = self.read[from..].windows(4).position(|w| w == b"\r\n\r\n") {
                break from + at + 4;
            }
        };
        let head = std::str::from_utf8(&self.read[..head_len]).context("the head of the answer")?;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).context("the status")?;
        let mut length = 0;
        for line in head.lines() {
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().context("the length of the answer")?;
            }
        }
        let have = self.read.len();
        self.read.resize(head_len + length, 0);
        if have < self.read.len() {
            self.stream.read_exact(&mut self.read[have..])?;
        }
        Ok((status, &self.read[head_len..]))
    }

    /// Submits tasks, which must all be accepted.
    ///
    /// # Errors
    /// When they are not.
    pub fn submit(&mut self, lines: &[u8], n: usize) -> anyhow::Result<()> {
        let single = n == 1;
        let kind = if single { "application/json" } else { "application/x-ndjson" };
        let (status, body) = self.ask("POST", "/v1/tasks", kind, lines)?;
        let accepted = if single { usize::from(status == 201) } else { count(body, b"\"id\":") };
        if status >= 300 || accepted != n {
            let shown = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
            bail!("{accepted} of {n} tasks were accepted, status {status}: {shown}");
        }
        Ok(())
    }

    /// Attaches as an outside worker; its session.
    ///
    /// # Errors
    /// When that is refused.
    pub fn attach(&mut self, name: &str, task_type: &str, slots: usize) -> anyhow::Result<u64> {
        let order = serde_json::json!({"name": name, "types": [task_type], "slots": slots, "lease_s": 600});
        let (status, body) =
            self.ask("POST", "/v1/workers", "application/json", order.to_string().as_bytes())?;
        ensure!(status == 201, "attach: status {status}: {}", String::from_utf8_lossy(body));
        let session: serde_json::Value = serde_json::from_slice(body)?;
        session["session"].as_u64().context("the session's number")
    }

    /// Completes what `done` names and takes up to `take` more, whose completions stand in `done` afterwards.
    ///
    /// # Errors
    /// When a completion is refused.
    pub fn next(
        &mut self,
        name: &str,
        session: u64,
        done: &mut Vec<u8>,
        take: usize,
    ) -> anyhow::Result<usize> {
        let mut order = Vec::with_capacity(done.len() + 100);
        write!(order, "{{\"session\":{session},\"take\":{take},\"wait_s\":60,\"done\":[")?;
        order.extend_from_slice(done);
        order.extend_from_slice(b"]}");
        let path = format!("/v1/workers/{name}/next");
        let (status, body) = self.ask("POST", &path, "application/json", &order)?;
        ensure!(status == 200, "next: status {status}: {}", String::from_utf8_lossy(body));
        let next: Next<'_> = serde_json::from_slice(body).context("the answer of next")?;
        done.clear();
        for Given { id, token } in &next.tasks {
            let comma = if done.is_empty() { "" } else { "," };
            write!(done, "{comma}{{\"id\":{id},\"token\":\"{token}\"}}")?;
        }
        Ok(next.tasks.len())
    }
}

fn count(text: &[u8], word: &[u8]) -> usize {
    text.windows(word.len()).filter(|w| *w == word).count()
}
