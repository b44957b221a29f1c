//! The daemon's socket, as far as the demonstration needs it. One connection for each request.

use crate::api::wire;
use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::UnixStream;

/// A client of the socket at a path; cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    socket: Arc<Path>,
}

impl Client {
    /// Of the daemon that listens, or will listen, at `socket`.
    pub fn new(socket: PathBuf) -> Client {
        Client { socket: socket.into() }
    }

    /// Whether the daemon answers.
    pub async fn health(&self) -> anyhow::Result<wire::Health> {
        self.get("/v1/health").await
    }

    /// Submits tasks; their numbers, in order.
    ///
    /// # Errors
    /// When one of them is refused.
    pub async fn submit(&self, submits: &[wire::Submit]) -> anyhow::Result<Vec<u64>> {
        let body = Bytes::from(serde_json::to_vec(submits)?);
        let answer = self.ask(Method::POST, "/v1/tasks", body).await?;
        let answers: Vec<wire::Submitted> =
            serde_json::from_slice(&answer).context("the daemon's answer to a submit")?;
        if answers.len() != submits.len() {
            bail!("the daemon gave {} answers to {} submits", answers.len(), submits.len());
        }
        let number = |answer: wire::Submitted| match (answer.id, answer.error) {
            (Some(id), None) => Ok(id),
            (_, Some(error)) => bail!("the daemon refused a task: {}", error.message),
            (None, None) => bail!("the daemon gave a task no number"),
        };
        answers.into_iter().map(number).collect()
    }

    /// What a GET of `path` gives, read as JSON.
    ///
    /// # Errors
    /// When the daemon does not answer, refuses, or answers something else.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let answer = self.bytes(path).await?;
        serde_json::from_slice(&answer).with_context(|| format!("the daemon's answer to GET {path}"))
    }

    /// What a GET of `path` gives.
    ///
    /// # Errors
    /// When the daemon does not answer or refuses.
    pub async fn bytes(&self, path: &str) -> anyhow::Result<Bytes> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Asks the daemon to finish what runs and stop.
    ///
    /// # Errors
    /// When the daemon does not answer or refuses.
    pub async fn drain(&self) -> anyhow::Result<()> {
        self.ask(Method::POST, "/v1/drain", Bytes::new()).await.map(drop)
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let asked = format!("{method} {path}");
        let at = || format!("{asked} at {}", self.socket.display());
        let socket = UnixStream::connect(&self.socket).await.with_context(at)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.with_context(at)?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let answer = sender.send_request(request).await.with_context(at)?;
        let status = answer.status();
        let body = answer.into_body().collect().await.with_context(at)?.to_bytes();
        connection.abort();
        if status.is_success() { Ok(body) } else { Err(refusal(&asked, status, &body)) }
    }
}

fn refusal(asked: &str, status: StatusCode, body: &[u8]) -> anyhow::Error {
    let message = serde_json::from_slice::<wire::ErrorBody>(body)
        .map_or_else(|_| String::from_utf8_lossy(body).trim().to_owned(), |e| e.message);
    anyhow::anyhow!("{asked}: {status}: {message}")
}
