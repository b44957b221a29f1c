//! The client of the socket: one connection, HTTP/1.1, JSON.

use super::exit::Exit;
use crate::api::wire::ErrorBody;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::{Display, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;

/// Largest answer that is read into memory; streams are read piece by piece.
const ANSWER_LIMIT_BYTES: usize = 256 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("no daemon answers on {}: {source}\n{}", socket.display(), advice(source))]
    Unreachable {
        /// Where it was looked for.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke while the daemon worked.
    #[error("the daemon closed the connection on {}: {source}", socket.display())]
    Broken {
        /// Where it was.
        socket: PathBuf,
        /// What the protocol said.
        source: hyper::Error,
    },
    /// The daemon answered with an error.
    #[error("{}", said(body))]
    Refused {
        /// The status.
        status: StatusCode,
        /// What it said.
        body: ErrorBody,
    },
    /// The answer cannot be understood.
    #[error("the answer of the daemon is not understood: {0}; are command and daemon of one version?")]
    Strange(String),
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "you may not use this socket: its group may, see `ls -l`",
        _ => "start it by `forestage serve`, or name its socket by --socket or $FORESTAGE_SOCKET",
    }
}

fn said(body: &ErrorBody) -> String {
    match &body.detail {
        Some(detail) => format!("{}\n{detail}", body.message),
        None => body.message.clone(),
    }
}

impl Error {
    /// The exit code that it ends a command with.
    pub fn exit(&self) -> Exit {
        match self {
            Error::Unreachable { .. } | Error::Broken { .. } => Exit::Unreachable,
            Error::Refused { status, .. } if status.is_server_error() => Exit::NotNow,
            Error::Refused { status, .. } if *status == StatusCode::TOO_MANY_REQUESTS => Exit::NotNow,
            Error::Refused { .. } => Exit::Refused,
            Error::Strange(_) => Exit::Failed,
        }
    }
}

/// A path with a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(String);

impl Target {
    /// A path below `/v1` whose segments are escaped: `Target::of(&["tasks", "17"])`.
    pub fn of(segments: &[&str]) -> Target {
        let mut path = "/v1".to_owned();
        for segment in segments {
            path.push('/');
            escape(&mut path, segment);
        }
        Target(path)
    }

    /// With a field of the query, unless it has no value.
    #[must_use]
    pub fn with(mut self, name: &str, value: Option<impl Display>) -> Target {
        let Some(value) = value else { return self };
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0.push_str(name);
        self.0.push('=');
        escape(&mut self.0, &value.to_string());
        self
    }

    /// As it stands in a request.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
fn escape(into: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            write!(into, "%{byte:02X}").expect("a string takes all text");
        }
    }
}

/// One connection to a daemon, made anew when the daemon has closed an idle one.
pub struct Client {
    socket: PathBuf,
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn connect(socket: &Path) -> Result<Client, Error> {
        Ok(Client { socket: socket.to_owned(), sender: open(socket).await? })
    }

    /// Asks for a value.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get<T: DeserializeOwned>(&mut self, target: &Target) -> Result<T, Error> {
        let answer = self.send(Method::GET, target, None, "application/json", Bytes::new()).await?;
        read(answer).await
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn post<T: DeserializeOwned>(
        &mut self,
        target: &Target,
        body: Option<&impl Serialize>,
    ) -> Result<T, Error> {
        self.change(Method::POST, target, body).await
    }

    /// Asks for something to be changed.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn patch<T: DeserializeOwned>(
        &mut self,
        target: &Target,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.change(Method::PATCH, target, Some(body)).await
    }

    /// Puts something at a place.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put<T: DeserializeOwned>(
        &mut self,
        target: &Target,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.change(Method::PUT, target, Some(body)).await
    }

    /// Removes what is at a place.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete<T: DeserializeOwned>(&mut self, target: &Target) -> Result<T, Error> {
        self.change(Method::DELETE, target, None::<&()>).await
    }

    async fn change<T: DeserializeOwned>(
        &mut self,
        method: Method,
        target: &Target,
        body: Option<&impl Serialize>,
    ) -> Result<T, Error> {
        let json = body.map(serde_json::to_vec).transpose();
        let json = json.map_err(|e| Error::Strange(e.to_string()))?;
        let kind = json.as_ref().map(|_| "application/json");
        let answer = self.send(method, target, kind, "application/json", json.unwrap_or_default().into());
        read(answer.await?).await
    }

    /// Posts lines and reads lines: one object each.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn post_lines<T: DeserializeOwned>(
        &mut self,
        target: &Target,
        lines: Bytes,
    ) -> Result<Vec<T>, Error> {
        const NDJSON: &str = "application/x-ndjson";
        let answer = self.send(Method::POST, target, Some(NDJSON), NDJSON, lines).await?;
        let bytes = whole(answer).await?;
        let lines = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty());
        lines.map(|l| serde_json::from_slice(l).map_err(|e| Error::Strange(e.to_string()))).collect()
    }

    /// Asks for a body that comes piece by piece.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stream(&mut self, target: &Target, accept: &str) -> Result<Pieces, Error> {
        let answer = self.send(Method::GET, target, None, accept, Bytes::new()).await?;
        Ok(Pieces { body: answer.into_body(), socket: self.socket.clone() })
    }

    async fn send(
        &mut self,
        method: Method,
        target: &Target,
        kind: Option<&str>,
        accept: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, Error> {
        let build = || {
            let mut request = Request::builder()
                .method(method.clone())
                .uri(target.as_str())
                .header(header::HOST, "forestage")
                .header(header::ACCEPT, accept);
            if let Some(kind) = kind {
                request = request.header(header::CONTENT_TYPE, kind);
            }
            request.body(Full::new(body.clone())).map_err(|e| Error::Strange(e.to_string()))
        };
        if self.sender.ready().await.is_err() {
            self.sender = open(&self.socket).await?;
        }
        let answer = match self.sender.send_request(build()?).await {
            // Closed while idle: nothing was done yet, or it can be asked again without harm.
            Err(e) if e.is_canceled() || (method == Method::GET && e.is_incomplete_message()) => {
                self.sender = open(&self.socket).await?;
                self.sender.send_request(build()?).await
            }
            answer => answer,
        };
        let answer = answer.map_err(|source| Error::Broken { socket: self.socket.clone(), source })?;
        if answer.status().is_success() { Ok(answer) } else { Err(refusal(answer).await) }
    }
}

async fn open(socket: &Path) -> Result<SendRequest<Full<Bytes>>, Error> {
    let unreachable = |source| Error::Unreachable { socket: socket.to_owned(), source };
    let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
    let shaken = handshake(TokioIo::new(stream)).await;
    let (sender, connection) =
        shaken.map_err(|source| Error::Broken { socket: socket.to_owned(), source })?;
    // Its errors come out of the requests.
    tokio::spawn(connection);
    Ok(sender)
}

async fn whole(answer: Response<Incoming>) -> Result<Bytes, Error> {
    let collected = Limited::new(answer.into_body(), ANSWER_LIMIT_BYTES).collect().await;
    collected.map(|c| c.to_bytes()).map_err(|e| Error::Strange(format!("it broke off: {e}")))
}

async fn read<T: DeserializeOwned>(answer: Response<Incoming>) -> Result<T, Error> {
    serde_json::from_slice(&whole(answer).await?).map_err(|e| Error::Strange(e.to_string()))
}

async fn refusal(answer: Response<Incoming>) -> Error {
    let status = answer.status();
    match read::<ErrorBody>(answer).await {
        Ok(body) => Error::Refused { status, body },
        Err(_) => {
            let message = format!("the daemon answered with {status}");
            Error::Refused {
                status,
                body: ErrorBody { code: status.as_u16().to_string(), message, detail: None },
            }
        }
    }
}

/// A body that comes piece by piece.
pub struct Pieces {
    body: Incoming,
    socket: PathBuf,
}

impl Pieces {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|source| Error::Broken { socket: self.socket.clone(), source })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_escaped() {
        let target = Target::of(&["workers", "a b/ü"]).with("x", Some("1&2")).with("y", None::<u8>);
        assert_eq!(target.with("z", Some(3)).as_str(), "/v1/workers/a%20b%2F%C3%BC?x=1%262&z=3");
    }

    #[test]
    fn exit_codes_tell_refused_from_not_now() {
        let refused = |status| Error::Refused {
            status,
            body: ErrorBody { code: String::new(), message: String::new(), detail: None },
        };
        assert_eq!(refused(StatusCode::NOT_FOUND).exit(), Exit::Refused);
        assert_eq!(refused(StatusCode::TOO_MANY_REQUESTS).exit(), Exit::NotNow);
        assert_eq!(refused(StatusCode::SERVICE_UNAVAILABLE).exit(), Exit::NotNow);
    }
}
