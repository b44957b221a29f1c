//! How requests travel: the transport below opendal, and the `PUT` that opendal's HTTP service lacks.
//!
//! opendal trusts servers: it would take a whole object for the range it asked for, and another version for
//! the pinned one. A wrong answer of that kind puts wrong bytes into a cache, so [`Transport`] checks each
//! answer against its request before opendal sees it.

use super::{Error, Settings};
use crate::flow::ObjectName;
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};
use hyper::body::{Body, Frame, SizeHint};
use hyper::http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, IF_MATCH, RANGE,
};
use hyper::http::{Method, Request, Response, StatusCode};
use opendal::{Buffer, ErrorKind, HttpBody, HttpTransport};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Error bodies up to this size are read, so that the connection can be used again.
const DRAIN_BYTES: u64 = 64 * 1024;

/// A client with a pool of kept-alive connections, shared by all requests of one source.
#[derive(Clone)]
pub(super) struct Transport {
    client: reqwest::Client,
    /// S3's error bodies name the error and opendal reads them; those of HTTP servers are pages for people.
    speaks_s3: bool,
    /// How long the server may be silent.
    idle: Duration,
}

impl Transport {
    pub(super) fn new(settings: &Settings, host: &str, speaks_s3: bool) -> Result<Transport, Error> {
        // The first provider that is installed stays; a second call is refused, and that is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = reqwest::Client::builder()
            .connect_timeout(settings.connect_timeout.to_std())
            .pool_max_idle_per_host(usize::from(settings.connections))
            .tcp_nodelay(true)
            .user_agent(concat!("forestage/", env!("CARGO_PKG_VERSION")));
        if is_loopback(host) {
            // A proxy from the environment cannot reach what listens on this host only.
            client = client.no_proxy();
        }
        let client = client.build().map_err(|e| Error::Setting {
            source_name: settings.name.clone(),
            key: "url",
            reason: root_cause(&e),
        })?;
        Ok(Transport { client, speaks_s3, idle: settings.idle_timeout.to_std() })
    }

    /// Sends a file by `PUT`. Returns the etag, if the server tells.
    pub(super) async fn put(
        &self,
        object: &ObjectName,
        url: reqwest::Url,
        authorization: Option<reqwest::header::HeaderValue>,
        file: tokio::fs::File,
        bytes: u64,
    ) -> Result<Option<String>, Error> {
        let body = reqwest::Body::wrap_stream(tokio_util::io::ReaderStream::with_capacity(file, 256 * 1024));
        let mut request = self.client.put(url).header(CONTENT_LENGTH, bytes).body(body);
        if let Some(value) = authorization {
            request = request.header(reqwest::header::AUTHORIZATION, value);
        }
        let unreachable = |reason| Error::Unreachable { object: object.clone(), reason };
        let limit = self.idle + Duration::from_secs(bytes / super::remote::SLOWEST_BYTES_PER_S);
        let answer = tokio::time::timeout(limit, request.send())
            .await
            .map_err(|_| unreachable(format!("not taken within {} s", limit.as_secs())))?
            .map_err(|e| unreachable(root_cause(&e)))?;
        match answer.status() {
            s if s.is_success() => {
                Ok(answer.headers().get(ETAG).and_then(|v| v.to_str().ok()).map(str::to_owned))
            }
            s => Err(super::remote::translate(object, status_error(s, ""))),
        }
    }
}

impl Transport {
    /// Whether opendal is to see an unsuccessful answer: where it is an answer, not a failure, and where S3's
    /// error bodies say more than the status.
    fn passes(&self, status: StatusCode) -> bool {
        match status.as_u16() {
            304 | 412 => true,
            403 | 404 | 409 | 416 => self.speaks_s3,
            _ => false,
        }
    }

    /// The error that an unsuccessful answer means. A short body is read: it keeps the connection usable, and
    /// S3's names the error.
    async fn refusal(&self, answer: reqwest::Response) -> opendal::Error {
        let status = answer.status();
        if answer.content_length().is_none_or(|n| n > DRAIN_BYTES) {
            return status_error(status, "");
        }
        let body = answer.text().await.unwrap_or_default();
        let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        status_error(status, code.filter(|_| self.speaks_s3).map_or("", |(code, _)| code))
    }
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let (parts, body) = request.into_parts();
        let (is_head, is_read) = (parts.method == Method::HEAD, parts.method == Method::GET);
        let (range, if_match) = (parts.headers.get(RANGE).cloned(), parts.headers.get(IF_MATCH).cloned());
        let url = reqwest::Url::parse(&parts.uri.to_string())
            .map_err(|e| opendal::Error::new(ErrorKind::Unexpected, format!("request address: {e}")))?;
        let mut request = self.client.request(parts.method, url).headers(parts.headers);
        if !body.is_empty() {
            request = request.body(reqwest::Body::wrap(Whole(body)));
        }
        let spare = if is_head || is_read { request.try_clone() } else { None };
        let mut answer = tokio::time::timeout(self.idle, request.send()).await;
        if let (Ok(Err(e)), Some(spare)) = (&answer, spare)
            && is_lost_connection(e)
        {
            // The server closed a kept-alive connection while the request was on its way. What only reads may be
            // asked again (RFC 9110, section 9.2.2).
            answer = tokio::time::timeout(self.idle, spare.send()).await;
        }
        let answer = answer.map_err(|_| silent(self.idle))?.map_err(failed)?;

        let status = answer.status();
        if !status.is_success() && !self.passes(status) {
            return Err(self.refusal(answer).await);
        }
        if status.is_success() {
            let text = |v: &Option<hyper::http::HeaderValue>| Some(v.as_ref()?.to_str().ok()?.to_owned());
            if is_read {
                check_answer(status, answer.headers(), text(&range).as_deref(), text(&if_match).as_deref())?;
            }
            if (is_read || is_head) && !self.speaks_s3 && !answer.headers().contains_key(CONTENT_LENGTH) {
                return Err(refused("the server does not announce the object's length".into()));
            }
        }
        // opendal checks the body against this length. With an encoding the length is another one.
        let encoded = answer.headers().contains_key(CONTENT_ENCODING);
        let length = answer.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        let length = length.filter(|_| !is_head && !encoded);
        let mut response = Response::builder().status(status).version(answer.version());
        if let Some(headers) = response.headers_mut() {
            *headers = answer.headers().clone();
        }
        let pieces = unless_silent(answer.bytes_stream(), self.idle).map_ok(Buffer::from);
        // opendal takes an empty piece for the end.
        let pieces = pieces.try_filter(|b| std::future::ready(!b.is_empty()));
        response
            .body(HttpBody::new(pieces, length))
            .map_err(|e| opendal::Error::new(ErrorKind::Unexpected, format!("answer: {e}")))
    }
}

/// Whether a successful answer is an answer to what was asked.
fn check_answer(
    status: StatusCode,
    headers: &HeaderMap,
    range: Option<&str>,
    if_match: Option<&str>,
) -> opendal::Result<()> {
    let header = |name| headers.get(name).and_then(|v: &hyper::http::HeaderValue| v.to_str().ok());
    if let Some(range) = range {
        if status != StatusCode::PARTIAL_CONTENT {
            return Err(opendal::Error::new(ErrorKind::Unsupported, "the server ignores Range requests"));
        }
        // `bytes=7-99` is answered by `bytes 7-99/1234`; a server may send less than was asked for, but it
        // must begin where it was told to.
        let first = |t: &str| t.split('-').next().and_then(|t| t.trim().parse::<u64>().ok());
        let asked = range.strip_prefix("bytes=").and_then(first);
        let given = header(CONTENT_RANGE).and_then(|t| t.strip_prefix("bytes ")).and_then(first);
        if asked.is_some() && asked != given {
            return Err(opendal::Error::new(
                ErrorKind::Unsupported,
                "the server sent another range than asked",
            ));
        }
    }
    // Servers that do not know If-Match answer with whatever they have now.
    match (if_match, header(ETAG)) {
        (Some(asked), Some(given)) if asked != given => Err(changed()),
        (Some(_), None) if status == StatusCode::PARTIAL_CONTENT => Err(changed()),
        _ => Ok(()),
    }
}

fn changed() -> opendal::Error {
    opendal::Error::new(ErrorKind::ConditionNotMatch, "it is another version")
}

/// The error that a status means. `ConfigInvalid` stands for "another try will not change it": opendal's retry
/// layer marks every error that passes it as persistent, so that only the kind tells them apart afterwards.
fn status_error(status: StatusCode, code: &str) -> opendal::Error {
    let kind = match status.as_u16() {
        404 | 410 => ErrorKind::NotFound,
        401 | 403 | 407 => ErrorKind::PermissionDenied,
        412 => ErrorKind::ConditionNotMatch,
        416 => ErrorKind::RangeNotSatisfied,
        408 | 425 | 429 | 500 | 502 | 503 | 504 | 506..=599 => ErrorKind::Unexpected,
        _ => ErrorKind::ConfigInvalid,
    };
    let text = format!("HTTP status {status} {code}");
    opendal::Error::new(kind, text.trim_end()).with_temporary(kind == ErrorKind::Unexpected)
}

fn refused(why: String) -> opendal::Error {
    opendal::Error::new(ErrorKind::ConfigInvalid, why)
}

/// Ends a body with an error when nothing comes for so long. The time counts only while somebody waits for the
/// next piece, so that a paused transfer is not taken for a silent server (the client's own `read_timeout` counts
/// through the pause).
fn unless_silent(
    body: impl Stream<Item = reqwest::Result<Bytes>> + Send + Sync + Unpin + 'static,
    idle: Duration,
) -> impl Stream<Item = opendal::Result<Bytes>> + Send + Sync + Unpin + 'static {
    Box::pin(stream::unfold(Some(body), move |body| async move {
        let mut body = body?;
        match tokio::time::timeout(idle, body.next()).await {
            Ok(None) => None,
            Ok(Some(piece)) => Some((piece.map_err(failed), Some(body))),
            Err(_) => Some((Err(silent(idle)), None)),
        }
    }))
}

fn silent(idle: Duration) -> opendal::Error {
    let said = format!("the server was silent for {} s", idle.as_secs_f64());
    opendal::Error::new(ErrorKind::Unexpected, said).set_temporary()
}

/// Whether the connection ended before a byte of the answer came.
fn is_lost_connection(e: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(e);
    while let Some(error) = cause {
        if let Some(e) = error.downcast_ref::<hyper::Error>() {
            return e.is_incomplete_message() || e.is_closed() || e.is_canceled();
        }
        cause = error.source();
    }
    false
}

fn failed(e: reqwest::Error) -> opendal::Error {
    let temporary = e.is_request() || e.is_connect() || e.is_timeout() || e.is_body() || e.is_decode();
    opendal::Error::new(ErrorKind::Unexpected, root_cause(&e.without_url())).with_temporary(temporary)
}

/// What lies at the bottom of an error: "Connection refused (os error 111)" rather than "error sending request".
pub(super) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
}

/// A request body of known length.
struct Whole(Buffer);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Iterator::next(&mut self.0).map(|b| Ok(Frame::data(b))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        status: u16,
        headers: &[(&'static str, &'static str)],
        range: Option<&str>,
        tag: Option<&str>,
    ) -> bool {
        let mut map = HeaderMap::new();
        for (k, v) in headers {
            map.insert(*k, hyper::http::HeaderValue::from_static(v));
        }
        check_answer(StatusCode::from_u16(status).unwrap(), &map, range, tag).is_ok()
    }

    #[test]
    fn refuses_a_whole_object_for_a_range_and_a_range_from_elsewhere() {
        assert!(!check(200, &[], Some("bytes=5-"), None));
        assert!(check(206, &[("content-range", "bytes 5-9/10")], Some("bytes=5-"), None));
        assert!(!check(206, &[("content-range", "bytes 0-9/10")], Some("bytes=5-"), None));
        assert!(!check(206, &[], Some("bytes=5-"), None));
    }

    #[test]
    fn refuses_another_version_from_servers_that_ignore_if_match() {
        assert!(check(200, &[("etag", "\"a\"")], None, Some("\"a\"")));
        assert!(!check(200, &[("etag", "\"b\"")], None, Some("\"a\"")));
        assert!(check(200, &[], None, Some("\"a\"")), "a whole object is one version, whichever");
        assert!(!check(206, &[("content-range", "bytes 5-9/10")], Some("bytes=5-"), Some("\"a\"")));
    }

    #[test]
    fn statuses_that_mean_later_are_temporary() {
        for (code, temporary) in
            [(404, false), (403, false), (501, false), (500, true), (503, true), (429, true)]
        {
            assert_eq!(
                status_error(StatusCode::from_u16(code).unwrap(), "").is_temporary(),
                temporary,
                "{code}"
            );
        }
    }
}
