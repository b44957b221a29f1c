//! The loopback listener: dashboard and `/metrics` for browsers and scrapers of this machine, read-only.
//!
//! A TCP port has no owner and no mode: every program of this machine can reach it, and so can every web page
//! that a browser of this machine shows. Therefore: loopback addresses only; `GET` and `HEAD` only; `Host` must
//! name the address, so that another site's name which points here (DNS rebinding) gets nothing; and a token,
//! unless it was switched off, as `Authorization: Bearer …` or as the cookie that `/?token=…` sets.

use super::backend::Backend;
use super::error::Error;
use super::{connection, listen, routes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Most connections at once: a few browsers and scrapers.
const CONNECTIONS: usize = 64;
/// The cookie that carries the token.
const COOKIE: &str = "forestage-token";
/// Pause when the process is out of files.
const OUT_OF_FILES_PAUSE: Duration = Duration::from_millis(100);

/// A bound port that nobody serves yet.
#[derive(Debug)]
pub struct Loopback {
    listener: std::net::TcpListener,
    address: SocketAddr,
    token: Option<Arc<str>>,
}

impl Loopback {
    /// Binds the port. `token`: what callers must show, if anything.
    ///
    /// # Errors
    /// If the address is not a loopback address, or the system refuses it.
    pub fn bind(address: SocketAddr, token: Option<Arc<str>>) -> io::Result<Loopback> {
        if !address.ip().is_loopback() {
            let why = format!("{address} is not a loopback address: others could reach it");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Loopback { listener, address, token })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves it until `shutdown`, on the current runtime: not the one that answers submits.
pub async fn serve(
    port: Loopback,
    backend: Arc<dyn Backend>,
    settings: listen::Settings,
    shutdown: CancellationToken,
) {
    let guard = Guard { port: port.address.port(), token: port.token };
    let router = routes::router(backend, routes::Limits::default(), shutdown.clone())
        .layer(middleware::from_fn_with_state(Arc::new(guard), check));
    let listener = match TcpListener::from_std(port.listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the loopback listener could not be served");
            return;
        }
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a loopback connection was not accepted");
                tokio::time::sleep(OUT_OF_FILES_PAUSE).await;
                continue;
            }
        };
        // Beyond the limit a connection is closed at once.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (router, shutdown) = (router.clone(), shutdown.clone());
        tokio::spawn(async move {
            // Nobody is known by a port; what may be asked is settled above.
            if let Err(error) = connection::answer(stream, router, |_| (), &settings, &shutdown).await {
                tracing::debug!(%error, "a loopback connection ended early");
            }
            drop(place);
        });
    }
}

/// What every request is held against.
struct Guard {
    port: u16,
    token: Option<Arc<str>>,
}

async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if !guard.knows_host(request.headers()) {
        let message = format!("`Host` must be 127.0.0.1:{0}, localhost:{0} or [::1]:{0}", guard.port);
        return refuse(StatusCode::MISDIRECTED_REQUEST, "wrong_host", message);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let message = "this port is read-only; changes go over the Unix socket".to_owned();
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "read_only", message);
    }
    if let Some(token) = &guard.token {
        if let Some(given) = token_of_query(request.uri().query()) {
            return if same(given, token) { welcome(token, request.uri().path()) } else { unknown() };
        }
        if !shown(request.headers()).any(|given| same(given, token)) {
            return unknown();
        }
    }
    next.run(request).await
}

impl Guard {
    fn knows_host(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
        let Some((name, port)) = host.and_then(|h| h.rsplit_once(':')) else { return false };
        let is_loopback = name.eq_ignore_ascii_case("localhost")
            || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        is_loopback && port.parse() == Ok(self.port)
    }
}

fn refuse(status: StatusCode, code: &str, message: String) -> Response {
    let body = super::wire::ErrorBody { code: code.to_owned(), message, detail: None };
    (status, axum::Json(body)).into_response()
}

fn unknown() -> Response {
    let message =
        "show the token, as `Authorization: Bearer TOKEN` or by opening `/?token=TOKEN`; it is in the \
        file `dashboard.token` of the state folder"
            .to_owned();
    let mut response = refuse(StatusCode::UNAUTHORIZED, "token_needed", message);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    response
}

/// The right token was in the address: from now on it comes as a cookie, and leaves the address bar.
fn welcome(token: &str, path: &str) -> Response {
    let cookie = format!("{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/");
    let headers = [(header::SET_COOKIE, cookie), (header::LOCATION, path.to_owned())];
    (StatusCode::SEE_OTHER, headers).into_response()
}

fn token_of_query(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|part| part.strip_prefix("token="))
}

/// Every token that a request shows.
fn shown(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let texts = |name| headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
    let bearer = texts(header::AUTHORIZATION).filter_map(|v| v.strip_prefix("Bearer "));
    let cookies = texts(header::COOKIE).flat_map(|v| v.split(';'));
    let cookie = cookies.filter_map(|c| c.trim().strip_prefix(COOKIE)?.strip_prefix('='));
    bearer.chain(cookie).map(str::trim)
}

/// Takes the same time for every wrong token of a length.
fn same(given: &str, token: &str) -> bool {
    let differences = given.bytes().zip(token.bytes()).fold(0, |d, (a, b)| d | (a ^ b));
    given.len() == token.len() && differences == 0
}

/// Reads the token from its file, or makes one: 32 hexadecimal digits from the kernel, readable by this user only.
///
/// # Errors
/// If the file cannot be read or written, or holds something else.
pub fn token(path: &std::path::Path) -> Result<Arc<str>, Error> {
    use std::io::{Read, Write};
    use std::os::unix::fs::OpenOptionsExt;
    let failed = |what: &str, e: &dyn std::fmt::Display| Error::Internal {
        message: format!("{what} the token of the dashboard {}: {e}", path.display()),
    };
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let token = text.trim();
            let fits = token.len() >= 16 && token.bytes().all(|b| b.is_ascii_alphanumeric());
            return if fits {
                Ok(token.into())
            } else {
                Err(failed("read", &"accepted: at least 16 letters and digits; remove it to get a new one"))
            };
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed("read", &e)),
    }
    let mut bytes = [0; 16];
    let random = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes));
    random.map_err(|e| failed("make", &e))?;
    let token: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.and_then(|mut f| writeln!(f, "{token}")).map_err(|e| failed("write", &e))?;
    Ok(token.into())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Memory;
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn start(token: Option<&str>) -> (SocketAddr, CancellationToken) {
        let port = Loopback::bind("127.0.0.1:0".parse().unwrap(), token.map(Into::into)).unwrap();
        let (address, stop) = (port.address(), CancellationToken::new());
        tokio::spawn(serve(port, Memory::new(), listen::Settings::default(), stop.clone()));
        (address, stop)
    }

    async fn ask(to: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let host = format!("127.0.0.1:{}", to.port());
        let request = request.replace("HOST", &host);
        stream.write_all(format!("{request}\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn status(answer: &str) -> &str {
        answer.split(' ').nth(1).unwrap()
    }

    #[tokio::test]
    async fn without_the_token_nobody_gets_in() {
        let (to, _stop) = start(Some("0123456789abcdef")).await;
        for (request, wanted) in [
            ("GET /v1/workers HTTP/1.1\r\nhost: HOST", "401"),
            ("GET /v1/workers HTTP/1.1\r\nhost: HOST\r\nauthorization: Bearer 0123456789abcdee", "401"),
            ("GET /v1/workers HTTP/1.1\r\nhost: HOST\r\nauthorization: Bearer 0123456789abcdef", "200"),
            (
                "GET /v1/workers HTTP/1.1\r\nhost: HOST\r\ncookie: a=b; forestage-token=0123456789abcdef",
                "200",
            ),
            ("GET /metrics HTTP/1.1\r\nhost: HOST\r\nauthorization: Bearer 0123456789abcdef", "200"),
            ("GET /?token=wrong HTTP/1.1\r\nhost: HOST", "401"),
        ] {
            assert_eq!(status(&ask(to, request).await), wanted, "{request}");
        }
        let answer = ask(to, "GET /?token=0123456789abcdef HTTP/1.1\r\nhost: HOST").await;
        assert_eq!(status(&answer), "303");
        assert!(answer.contains("set-cookie: forestage-token=0123456789abcdef; HttpOnly; SameSite=Strict"));
        assert!(answer.contains("location: /\r\n"), "the token leaves the address: {answer}");
    }

    #[tokio::test]
    async fn only_this_machines_names_and_only_reading() {
        let (to, _stop) = start(None).await;
        let port = to.port();
        let named = |host: String| format!("GET /v1/health HTTP/1.1\r\nhost: {host}");
        for (host, wanted) in [
            (format!("localhost:{port}"), "200"),
            (format!("[::1]:{port}"), "200"),
            (format!("127.0.0.1:{}", port ^ 1), "421"),
            (format!("evil.example:{port}"), "421"),
            ("127.0.0.1".to_owned(), "421"),
        ] {
            assert_eq!(status(&ask(to, &named(host.clone())).await), wanted, "{host}");
        }
        for request in ["POST /v1/pause HTTP/1.1\r\nhost: HOST", "POST /v1/tasks HTTP/1.1\r\nhost: HOST"] {
            assert_eq!(status(&ask(to, request).await), "405", "{request}");
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        let error = Loopback::bind("0.0.0.0:0".parse().unwrap(), None).unwrap_err().to_string();
        assert_eq!(error, "0.0.0.0:0 is not a loopback address: others could reach it");
    }

    #[test]
    fn the_token_is_made_once_and_for_this_user_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dashboard.token");
        let made = token(&path).unwrap();
        assert_eq!((made.len(), token(&path).unwrap()), (32, made));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "short").unwrap();
        assert!(token(&path).unwrap_err().to_string().contains("at least 16 letters and digits"));
    }
}
