//! An HTTP server that serves a folder and misbehaves on purpose, by a seeded schedule.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What goes wrong with a request, in percent of all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habits {
    /// Answers 503.
    pub errors: u32,
    /// Dies in the middle: closes the connection after half of the body.
    pub cuts: u32,
    /// Says nothing for five seconds, in the middle of the body.
    pub stalls: u32,
    /// Announces the whole length, sends less, and ends in good order.
    pub truncates: u32,
    /// Sends more than it announced.
    pub overruns: u32,
}

/// How long a stall is.
const STALL: Duration = Duration::from_secs(5);

pub struct Faulty {
    port: u16,
    stop: Arc<AtomicBool>,
    faults: Arc<AtomicU64>,
}

struct Shared {
    folder: PathBuf,
    habits: Habits,
    rng: Mutex<fastrand::Rng>,
    stop: Arc<AtomicBool>,
    faults: Arc<AtomicU64>,
}

impl Faulty {
    pub fn serve(folder: &Path, habits: Habits) -> Faulty {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, faults) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let rng = Mutex::new(fastrand::Rng::with_seed(31));
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            habits,
            rng,
            stop: stop.clone(),
            faults: faults.clone(),
        });
        let stopped = stop.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let shared = shared.clone();
                std::thread::spawn(move || while answer(&shared, &stream).is_some() {});
            }
        });
        Faulty { port, stop, faults }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Requests that went wrong.
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the one who accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// One request of a connection; `None` ends it.
fn answer(shared: &Shared, mut stream: &TcpStream) -> Option<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    if shared.stop.load(Ordering::Relaxed) {
        return None;
    }
    let mut range = None;
    for line in lines.map_while(Result::ok).take_while(|l| !l.is_empty()) {
        let line = line.to_ascii_lowercase();
        range = line.strip_prefix("range: bytes=").map(str::to_owned).or(range);
    }
    let Ok(content) = std::fs::read(shared.folder.join(path.trim_start_matches('/'))) else {
        write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").ok()?;
        return Some(());
    };
    let (from, to) = range.as_deref().and_then(|r| part(r, content.len())).unwrap_or((0, content.len()));
    let body = &content[from..to];
    let length = body.len();
    let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
    let place = match range {
        Some(_) => format!("content-range: bytes {from}-{}/{}\r\n", to.max(1) - 1, content.len()),
        None => String::new(),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\netag: \"{:x}\"\r\n{place}\r\n",
        crc32(&content)
    );
    if method == "HEAD" {
        stream.write_all(head.as_bytes()).ok()?;
        return Some(());
    }
    let h = shared.habits;
    let dice = shared.rng.lock().unwrap().u32(0..100);
    let half = &body[..length / 2];
    let bounds = [h.errors, h.cuts, h.stalls, h.truncates, h.overruns];
    let mut sum = 0;
    let fault = bounds.iter().position(|share| {
        sum += share;
        dice < sum
    });
    if fault.is_some() {
        shared.faults.fetch_add(1, Ordering::Relaxed);
    }
    match fault {
        Some(0) => {
            write!(stream, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").ok()?;
            return Some(());
        }
        Some(1 | 3) => {
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(half)).ok()?;
            // Reset or a good end: to the reader both are less than was announced.
            let how = if fault == Some(1) { std::net::Shutdown::Both } else { std::net::Shutdown::Write };
            stream.shutdown(how).ok()?;
            return None;
        }
        Some(2) => {
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(half)).ok()?;
            std::thread::sleep(STALL);
            stream.write_all(&body[length / 2..]).ok()?;
        }
        Some(4) => {
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()?;
            stream.write_all(&[0x5a; 4_000]).ok()?;
            return None;
        }
        _ => stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()?,
    }
    Some(())
}

fn part(range: &str, whole: usize) -> Option<(usize, usize)> {
    let (from, to) = range.split_once('-')?;
    let from: usize = from.parse().ok()?;
    let to = to.trim().parse::<usize>().map_or(whole, |last| (last + 1).min(whole));
    (from < to).then_some((from, to))
}

fn crc32(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}
