//! Real servers for tests: one of our own that can misbehave in every way that has been met, and nginx.

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One thing that goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Answers with this status.
    Status(u16),
    /// Closes the connection after so many bytes of the body.
    CutAfter(usize),
    /// Sends so many bytes of the body, then nothing.
    StallAfter(usize),
    /// Does not announce a length.
    NoLength,
    /// Puts another version of equal length in its place after so many bytes, and closes the connection.
    ChangeAfter(usize),
}

/// What the server does wrong all the time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habits {
    pub refuses_head: bool,
    pub ignores_ranges: bool,
    pub ignores_if_match: bool,
    /// Announces etags as weak ones.
    pub weak_etags: bool,
    pub no_etags: bool,
    /// Sends 64 KiB, then waits so long.
    pub pause: Option<Duration>,
}

/// What was asked: method, path, range, if-match, authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub range: Option<String>,
    pub if_match: Option<String>,
    pub authorization: Option<String>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, (Bytes, u64)>,
    faults: BTreeMap<String, VecDeque<Fault>>,
    habits: Habits,
    asked: Vec<Asked>,
    open: usize,
    most_open: usize,
}

/// An HTTP server on loopback.
#[derive(Clone)]
pub struct Server {
    pub addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

type Answer = Response<BoxBody<Bytes, std::io::Error>>;

impl Server {
    pub async fn start(habits: Habits) -> Server {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = Server { addr, state: Arc::new(Mutex::new(State { habits, ..State::default() })) };
        let shared = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = shared.clone();
                let answer = hyper::service::service_fn(move |request| {
                    let server = server.clone();
                    async move { server.answer(request).await }
                });
                let stream = hyper_util::rt::TokioIo::new(stream);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(stream, answer));
            }
        });
        server
    }

    pub fn url(&self) -> String {
        format!("http://{}/o/", self.addr)
    }

    /// Sets an object's content; each time is another version.
    pub fn put(&self, path: &str, content: impl Into<Bytes>) {
        let mut state = self.state.lock().unwrap();
        let version = state.objects.get(path).map_or(1, |(_, v)| v + 1);
        state.objects.insert(path.to_owned(), (content.into(), version));
    }

    pub fn remove(&self, path: &str) {
        self.state.lock().unwrap().objects.remove(path);
    }

    /// What goes wrong with the next requests of an object, one each.
    pub fn fault(&self, path: &str, faults: &[Fault]) {
        self.state.lock().unwrap().faults.entry(path.to_owned()).or_default().extend(faults);
    }

    pub fn content(&self, path: &str) -> Option<Bytes> {
        self.state.lock().unwrap().objects.get(path).map(|(c, _)| c.clone())
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }

    pub fn count(&self, method: Method) -> usize {
        self.asked().iter().filter(|a| a.method == method).count()
    }

    /// The most bodies that were under way at once.
    pub fn most_open(&self) -> usize {
        self.state.lock().unwrap().most_open
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, std::convert::Infallible> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().strip_prefix("/o/").unwrap_or(parts.uri.path()).to_owned();
        let header = |name| parts.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        self.state.lock().unwrap().asked.push(Asked {
            method: parts.method.clone(),
            path: path.clone(),
            range: header(header::RANGE),
            if_match: header(header::IF_MATCH),
            authorization: header(header::AUTHORIZATION),
        });
        if parts.method == Method::PUT {
            let content = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            self.put(&path, content);
            return Ok(status(StatusCode::CREATED));
        }
        Ok(self.serve(&parts.method, &path, &parts.headers))
    }

    fn serve(&self, method: &Method, path: &str, headers: &HeaderMap) -> Answer {
        let header = |name| headers.get(name).and_then(|v| v.to_str().ok());
        let mut state = self.state.lock().unwrap();
        let habits = state.habits;
        if *method == Method::HEAD && habits.refuses_head {
            return status(StatusCode::METHOD_NOT_ALLOWED);
        }
        let fault = state.faults.get_mut(path).and_then(VecDeque::pop_front);
        if let Some(Fault::Status(code)) = fault {
            return status(StatusCode::from_u16(code).unwrap());
        }
        let Some((content, version)) = state.objects.get(path).cloned() else {
            return status(StatusCode::NOT_FOUND);
        };
        let etag = format!("{}\"v{version}\"", if habits.weak_etags { "W/" } else { "" });
        let etag = (!habits.no_etags).then_some(etag);
        let strong_miss = |asked: &str| habits.weak_etags || etag.as_deref() != Some(asked);
        if !habits.ignores_if_match && header(header::IF_MATCH).is_some_and(strong_miss) {
            return status(StatusCode::PRECONDITION_FAILED);
        }
        if header(header::IF_NONE_MATCH).is_some_and(|asked| etag.as_deref() == Some(asked)) {
            return status(StatusCode::NOT_MODIFIED);
        }
        let whole = content.len();
        let range = header(header::RANGE).filter(|_| !habits.ignores_ranges).map(|r| parse_range(r, whole));
        let (code, from, to) = match range {
            None => (StatusCode::OK, 0, whole),
            Some((from, to)) if from < to => (StatusCode::PARTIAL_CONTENT, from, to),
            Some(_) => return status(StatusCode::RANGE_NOT_SATISFIABLE),
        };
        let mut answer = Response::builder().status(code);
        if fault != Some(Fault::NoLength) {
            answer = answer.header(header::CONTENT_LENGTH, to - from);
        }
        if let Some(etag) = etag {
            answer = answer.header(header::ETAG, etag);
        }
        if code == StatusCode::PARTIAL_CONTENT {
            answer = answer.header(header::CONTENT_RANGE, format!("bytes {from}-{}/{whole}", to - 1));
        }
        if *method == Method::HEAD {
            return answer.body(empty()).unwrap();
        }
        state.open += 1;
        state.most_open = state.most_open.max(state.open);
        drop(state);
        let sending = Sending {
            path: path.to_owned(),
            left: content.slice(from..to),
            sent: 0,
            fault,
            habits,
            state: self.state.clone(),
        };
        let body = StreamBody::new(stream::unfold(sending, Sending::next));
        answer.body(BodyExt::boxed(body)).unwrap()
    }
}

/// A body on its way out.
struct Sending {
    path: String,
    left: Bytes,
    sent: usize,
    fault: Option<Fault>,
    habits: Habits,
    state: Arc<Mutex<State>>,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.state.lock().unwrap().open -= 1;
    }
}

impl Sending {
    /// The next version is the noise of its number.
    fn change(&self) {
        let mut state = self.state.lock().unwrap();
        let (content, version) = state.objects.get_mut(&self.path).unwrap();
        *version += 1;
        *content = noise(content.len(), *version);
    }

    async fn next(mut self) -> Option<(Result<Frame<Bytes>, std::io::Error>, Sending)> {
        const PIECE: usize = 64 * 1024;
        let limit = match self.fault {
            Some(Fault::CutAfter(n) | Fault::StallAfter(n) | Fault::ChangeAfter(n)) => n - self.sent,
            _ => usize::MAX,
        };
        if limit == 0 && !self.left.is_empty() {
            match self.fault {
                Some(Fault::StallAfter(_)) => std::future::pending().await,
                Some(Fault::ChangeAfter(_)) => self.change(),
                _ => {}
            }
            return Some((Err(std::io::Error::other("cut")), self));
        }
        if self.left.is_empty() {
            return None;
        }
        if let Some(pause) = self.habits.pause
            && self.sent > 0
        {
            tokio::time::sleep(pause).await;
        }
        let n = PIECE.min(limit).min(self.left.len());
        let piece = self.left.split_to(n);
        self.sent += n;
        // What was sent is to be on its way before the connection is cut.
        if self.fault.is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Some((Ok(Frame::data(piece)), self))
    }
}

fn parse_range(range: &str, whole: usize) -> (usize, usize) {
    let (from, to) = range.strip_prefix("bytes=").and_then(|r| r.split_once('-')).unwrap();
    let from: usize = from.parse().unwrap();
    let to = to.parse::<usize>().map_or(whole, |last| (last + 1).min(whole));
    (from, to)
}

fn empty() -> BoxBody<Bytes, std::io::Error> {
    http_body_util::Empty::new().map_err(|e| match e {}).boxed()
}

fn status(code: StatusCode) -> Answer {
    let page = http_body_util::Full::new(Bytes::from_static(b"<html>a page for people</html>"));
    let body = if code == StatusCode::NOT_MODIFIED { empty() } else { page.map_err(|e| match e {}).boxed() };
    Response::builder().status(code).body(body).unwrap()
}

/// Repeatable bytes that compress badly and differ from offset to offset.
pub fn noise(bytes: usize, seed: u64) -> Bytes {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut out = vec![0; bytes];
    rng.fill(&mut out);
    out.into()
}

/// A real nginx that serves a folder, with `PUT` by its WebDAV module.
pub struct Nginx {
    process: std::process::Child,
    pub dir: tempfile::TempDir,
    pub port: u16,
}

impl Nginx {
    /// `None` where nginx is not installed; says so, and fails where `CI=true` promises it.
    pub fn start() -> Option<Nginx> {
        let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];
        let Some(program) = program.iter().find(|p| Path::new(p).exists()) else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "nginx is not installed");
            println!("skipped: nginx is not installed");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("o")).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let conf = dir.path().join("nginx.conf");
        std::fs::write(&conf, Nginx::conf(dir.path(), port)).unwrap();
        let process = std::process::Command::new(program)
            .args(["-p", dir.path().to_str().unwrap(), "-e", "error.log", "-c", conf.to_str().unwrap()])
            .spawn()
            .unwrap();
        let nginx = Nginx { process, dir, port };
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(nginx);
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!(
            "nginx does not listen: {}",
            std::fs::read_to_string(nginx.dir.path().join("error.log")).unwrap()
        );
    }

    fn conf(dir: &Path, port: u16) -> String {
        let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path tmp-{name};\n"))
            .collect();
        format!(
            "{user} daemon off; master_process off; pid nginx.pid;
             events {{ worker_connections 64; }}
             http {{ access_log access.log; {temp} client_max_body_size 64m;
               server {{ listen 127.0.0.1:{port}; root {};
                 location /o/ {{ dav_methods PUT; create_full_put_path on; }}
                 location /slow/ {{ alias {}/o/; limit_rate 4m; }}
                 location /forbidden/ {{ return 403; }}
                 location /broken/ {{ return 503; }} }} }}",
            dir.display(),
            dir.display()
        )
    }

    pub fn url(&self, folder: &str) -> String {
        format!("http://127.0.0.1:{}/{folder}/", self.port)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join("o").join(name)
    }

    /// Lines of the access log that name `what`.
    pub fn log_lines(&self, what: &str) -> usize {
        let log = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        log.lines().filter(|l| l.contains(what)).count()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
