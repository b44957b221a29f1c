//! An object server in this process: HTTP on loopback with a visible latency and visible bandwidth limits.
//!
//! GET (whole or a range), HEAD and PUT, with ETag and conditions. It counts what it sends, so that the figures
//! about fetched bytes do not come from the daemon that is judged by them.

use crate::time::Span;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Empty, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Duration, Instant};

/// Bytes handed to a connection at once: 6.5 ms of it at 20 MB/s.
const PIECE_BYTES: usize = 128 << 10;
/// How far a connection may run behind its pace and still catch up: a slow reader earns no credit.
const CREDIT: Duration = Duration::from_millis(20);
/// Longest body of a PUT.
const PUT_LIMIT_BYTES: usize = 64 << 20;

/// What stands between the daemon and the objects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// From a request to the first byte of its answer.
    pub latency: Span,
    /// Most bytes per second of one connection.
    pub connection_bytes_per_s: f64,
    /// Most bytes per second of all connections together.
    pub total_bytes_per_s: f64,
}

impl Link {
    /// That of the demonstration: an object store in the same region.
    pub const DEMO: Link =
        Link { latency: Span::from_ms(40), connection_bytes_per_s: 20e6, total_bytes_per_s: 125e6 };

    /// How long one object takes when nothing else is on its way.
    pub fn alone(&self, bytes: u64) -> Span {
        self.latency + Span::from_s(bytes as f64 / self.connection_bytes_per_s)
    }
}

/// What was asked of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// GET requests that were answered with bytes.
    pub gets: u64,
    /// HEAD requests, and conditional ones that were answered without bytes.
    pub heads: u64,
    /// PUT requests.
    pub puts: u64,
    /// Bytes sent in answers to GET.
    pub sent_bytes: u64,
}

/// A server that runs until it is dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

struct Shared {
    link: Link,
    objects: Mutex<BTreeMap<String, Object>>,
    /// When the bandwidth of all connections together is free again.
    free_at: Mutex<Instant>,
    gets: AtomicU64,
    heads: AtomicU64,
    puts: AtomicU64,
    sent_bytes: AtomicU64,
}

#[derive(Clone)]
struct Object {
    content: Bytes,
    etag: HeaderValue,
}

impl Object {
    fn new(content: Bytes) -> Object {
        let etag = format!("\"{:016x}\"", xxhash_rust::xxh3::xxh3_64(&content));
        Object { content, etag: HeaderValue::try_from(etag).expect("hexadecimal digits fit a header") }
    }
}

type Body = BoxBody<Bytes, Infallible>;

impl Server {
    /// Starts one on a free port of loopback.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(
        link: Link,
        objects: impl IntoIterator<Item = (String, Bytes)>,
    ) -> std::io::Result<Server> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let objects = objects.into_iter().map(|(path, content)| (path, Object::new(content))).collect();
        let shared = Arc::new(Shared {
            link,
            objects: Mutex::new(objects),
            free_at: Mutex::new(Instant::now()),
            gets: AtomicU64::new(0),
            heads: AtomicU64::new(0),
            puts: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Server { address, shared, accepting })
    }

    /// The address that paths are appended to.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// What was asked of it so far.
    pub fn counts(&self) -> Counts {
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Counts {
            gets: read(&self.shared.gets),
            heads: read(&self.shared.heads),
            puts: read(&self.shared.puts),
            sent_bytes: read(&self.shared.sent_bytes),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Ends with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(CREDIT).await;
            continue;
        };
        _ = socket.set_nodelay(true);
        let shared = Arc::clone(&shared);
        while connections.try_join_next().is_some() {}
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(shared.answer(request).await) }
            });
            _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

impl Shared {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let begin = Instant::now() + self.link.latency.to_std();
        let path = request.uri().path().trim_start_matches('/').to_owned();
        let (head, body) = request.into_parts();
        if head.method == Method::PUT {
            return self.put(path, body, begin).await;
        }
        tokio::time::sleep_until(begin).await;
        if head.method != Method::GET && head.method != Method::HEAD {
            let mut answer = empty(StatusCode::METHOD_NOT_ALLOWED);
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, PUT"));
            return answer;
        }
        let object = self.objects.lock().unwrap_or_else(PoisonError::into_inner).get(&path).cloned();
        match object {
            Some(object) => self.give(&head.method, &head.headers, object),
            None => empty(StatusCode::NOT_FOUND),
        }
    }

    fn give(self: Arc<Self>, method: &Method, headers: &HeaderMap, object: Object) -> Response<Body> {
        let is = |name| headers.get(name).map(|value| value == object.etag);
        if is(header::IF_NONE_MATCH) == Some(true) {
            self.heads.fetch_add(1, Ordering::Relaxed);
            return described(StatusCode::NOT_MODIFIED, &object);
        }
        if is(header::IF_MATCH) == Some(false) {
            return described(StatusCode::PRECONDITION_FAILED, &object);
        }
        let length = object.content.len();
        let range = headers.get(header::RANGE).filter(|_| is(header::IF_RANGE) != Some(false));
        let (status, part) = match range.map(|r| r.to_str().ok().and_then(|r| part(r, length))) {
            None => (StatusCode::OK, 0..length),
            Some(Some(part)) => (StatusCode::PARTIAL_CONTENT, part),
            Some(None) => {
                let mut answer = described(StatusCode::RANGE_NOT_SATISFIABLE, &object);
                set(answer.headers_mut(), header::CONTENT_RANGE, format!("bytes */{length}"));
                return answer;
            }
        };
        let mut answer = described(status, &object);
        set(answer.headers_mut(), header::CONTENT_LENGTH, part.len().to_string());
        if status == StatusCode::PARTIAL_CONTENT {
            let range = format!("bytes {}-{}/{length}", part.start, part.end.saturating_sub(1));
            set(answer.headers_mut(), header::CONTENT_RANGE, range);
        }
        if method == Method::HEAD {
            self.heads.fetch_add(1, Ordering::Relaxed);
        } else {
            self.gets.fetch_add(1, Ordering::Relaxed);
            *answer.body_mut() = self.paced(object.content.slice(part));
        }
        answer
    }

    async fn put(self: Arc<Self>, path: String, body: Incoming, begin: Instant) -> Response<Body> {
        let limited = http_body_util::Limited::new(body, PUT_LIMIT_BYTES);
        let Ok(content) = limited.collect().await.map(|c| c.to_bytes()) else {
            return empty(StatusCode::PAYLOAD_TOO_LARGE);
        };
        let took = Duration::from_secs_f64(content.len() as f64 / self.link.connection_bytes_per_s);
        tokio::time::sleep_until(begin + took).await;
        self.puts.fetch_add(1, Ordering::Relaxed);
        let object = Object::new(content);
        let answer = described(StatusCode::CREATED, &object);
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).insert(path, object);
        answer
    }

    /// A body that flows no faster than the link.
    fn paced(self: Arc<Self>, content: Bytes) -> Body {
        let flow = Flow { shared: self, rest: content, due: Instant::now() };
        StreamBody::new(stream::unfold(flow, |mut flow| async move {
            let piece = flow.next().await?;
            Some((Ok(Frame::data(piece)), flow))
        }))
        .boxed()
    }

    /// Books `bytes` of the common bandwidth, not before `from`; says when they have passed.
    fn book(&self, from: Instant, bytes: usize) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let took = Duration::from_secs_f64(bytes as f64 / self.link.total_bytes_per_s);
        *free_at = (*free_at).max(from) + took;
        *free_at
    }
}

/// What is left of an answer, and when its last piece was due.
struct Flow {
    shared: Arc<Shared>,
    rest: Bytes,
    due: Instant,
}

impl Flow {
    async fn next(&mut self) -> Option<Bytes> {
        if self.rest.is_empty() {
            return None;
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        let from = self.due.max(Instant::now() - CREDIT);
        let own = Duration::from_secs_f64(piece.len() as f64 / self.shared.link.connection_bytes_per_s);
        self.due = (from + own).max(self.shared.book(from, piece.len()));
        tokio::time::sleep_until(self.due).await;
        self.shared.sent_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Some(piece)
    }
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut answer = Response::new(Empty::new().boxed());
    *answer.status_mut() = status;
    answer
}

fn described(status: StatusCode, object: &Object) -> Response<Body> {
    let mut answer = empty(status);
    let headers = answer.headers_mut();
    headers.insert(header::ETAG, object.etag.clone());
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer
}

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: String) {
    headers.insert(name, HeaderValue::try_from(value).expect("digits and ASCII words fit a header"));
}

/// The part that a `Range` header asks for; none if there is no such part (RFC 9110 §14.1.2; several ranges at
/// once are not served).
fn part(range: &str, length: usize) -> Option<Range<usize>> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let part = match (from.parse::<usize>(), to.parse::<usize>()) {
        (Ok(from), Ok(to)) => from..to.saturating_add(1).min(length),
        (Ok(from), Err(_)) if to.is_empty() => from..length,
        (Err(_), Ok(last)) if from.is_empty() => length.saturating_sub(last)..length,
        _ => return None,
    };
    (part.start < part.end).then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn ask(server: &Server, head: &str, body: &[u8]) -> (String, Vec<u8>) {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        let head = format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(body).await.unwrap();
        let mut all = Vec::new();
        socket.read_to_end(&mut all).await.unwrap();
        let at = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        (String::from_utf8(all[..at].to_vec()).unwrap(), all[at + 4..].to_vec())
    }

    async fn server(bytes: usize) -> (Server, Vec<u8>) {
        let content: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
        let link = Link { latency: Span::from_ms(10), ..Link::DEMO };
        (Server::start(link, [("v/a".to_owned(), Bytes::from(content.clone()))]).await.unwrap(), content)
    }

    #[tokio::test]
    async fn serves_objects_parts_and_conditions() {
        let (server, content) = server(1_000).await;
        let (head, body) = ask(&server, "GET /v/a HTTP/1.1", b"").await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length: 1000"), "{head}");
        assert_eq!(body, content);
        let etag = head.lines().find_map(|l| l.strip_prefix("etag: ")).unwrap().to_owned();
        let (head, body) = ask(&server, "GET /v/a HTTP/1.1\r\nRange: bytes=10-19", b"").await;
        assert!(head.starts_with("HTTP/1.1 206") && head.contains("bytes 10-19/1000"), "{head}");
        assert_eq!(body, content[10..20]);
        let stale = "GET /v/a HTTP/1.1\r\nRange: bytes=10-\r\nIf-Range: \"old\"";
        assert_eq!(ask(&server, stale, b"").await.1, content);
        let (head, _) = ask(&server, "GET /v/a HTTP/1.1\r\nRange: bytes=1000-", b"").await;
        assert!(head.starts_with("HTTP/1.1 416"), "{head}");
        let same = format!("GET /v/a HTTP/1.1\r\nIf-None-Match: {etag}");
        assert!(ask(&server, &same, b"").await.0.starts_with("HTTP/1.1 304"));
        let (head, body) = ask(&server, "HEAD /v/a HTTP/1.1", b"").await;
        assert!(head.contains("content-length: 1000") && body.is_empty(), "{head}");
        assert!(ask(&server, "GET /v/none HTTP/1.1", b"").await.0.starts_with("HTTP/1.1 404"));
        assert!(ask(&server, "POST /v/a HTTP/1.1", b"").await.0.starts_with("HTTP/1.1 405"));
        assert_eq!(server.counts(), Counts { gets: 3, heads: 2, puts: 0, sent_bytes: 2_010 });
    }

    #[tokio::test]
    async fn keeps_what_is_put() {
        let (server, _) = server(10).await;
        let (head, _) = ask(&server, "PUT /r/b HTTP/1.1\r\nContent-Length: 3", b"abc").await;
        assert!(head.starts_with("HTTP/1.1 201"), "{head}");
        assert_eq!(ask(&server, "GET /r/b HTTP/1.1", b"").await.1, b"abc");
        assert_eq!(server.counts().puts, 1);
    }

    #[tokio::test]
    async fn is_as_slow_as_its_link() {
        let (server, _) = server(2_000_000).await;
        let start = Instant::now();
        ask(&server, "GET /v/a HTTP/1.1", b"").await;
        let one = start.elapsed().as_secs_f64();
        assert!((0.110..0.4).contains(&one), "{one}");
        let start = Instant::now();
        let many = (0..10).map(|_| ask(&server, "GET /v/a HTTP/1.1", b""));
        futures_util::future::join_all(many).await;
        let ten = start.elapsed().as_secs_f64();
        assert!((0.160..0.6).contains(&ten), "{ten}: 20 MB at 125 MB/s take 0.16 s");
    }

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        for (text, expected) in [
            ("bytes=0-9", Some(0..10)),
            ("bytes=90-200", Some(90..100)),
            ("bytes=90-", Some(90..100)),
            ("bytes=-5", Some(95..100)),
            ("bytes=100-", None),
            ("bytes=5-2", None),
            ("bytes=a-", None),
            ("lines=1-2", None),
        ] {
            assert_eq!(part(text, 100), expected, "{text}");
        }
    }
}
