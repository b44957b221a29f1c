use super::*;
use crate::flow::CellId;
use crate::prefetch::source::server::{Fault, Habits, Nginx, Server, noise};
use crate::prefetch::source::{Credentials, Kind, Settings};
use bytes::Bytes;
use hyper::http::Method;
use sha2::Digest;
use std::sync::Mutex;
use std::time::Duration;

struct Bench {
    dir: tempfile::TempDir,
    source: Source,
    lane: Lane,
    clock: Clock,
    steps: Mutex<Vec<(u64, u64)>>,
}

impl Bench {
    fn new(kind: Kind) -> Bench {
        Bench::with(kind, |_| {})
    }

    fn with(kind: Kind, set: impl FnOnce(&mut Settings)) -> Bench {
        let clock = Clock::starting_at(Time::ZERO);
        let mut settings = Settings::new("s", kind, CellId(0));
        settings.retries = 0;
        set(&mut settings);
        Bench {
            dir: tempfile::tempdir().unwrap(),
            source: Source::open(settings, Credentials::default(), clock).unwrap(),
            lane: Lane::new(None, clock),
            clock,
            steps: Mutex::default(),
        }
    }

    fn http(server: &Server) -> Bench {
        Bench::new(Kind::Http { url: server.url() })
    }

    fn order(&self, path: &str) -> Order {
        Order {
            object: self.source.object(path),
            temp: self.dir.path().join("t"),
            resume: None,
            expect: None,
            sha256: None,
            max_bytes: u64::MAX,
            connections: 1,
        }
    }

    async fn run(&self, order: Order) -> Result<Landed, Failed> {
        self.steer(order, &Handle::new(Class::Demand)).await
    }

    async fn steer(&self, order: Order, handle: &Handle) -> Result<Landed, Failed> {
        let step = |done, total| self.steps.lock().unwrap().push((done, total));
        run(order, &self.source, &self.lane, handle, self.clock, step).await
    }

    /// Waits until so many bytes have been told.
    async fn told(&self, bytes: u64) {
        while self.last_told() < bytes {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn last_told(&self) -> u64 {
        self.steps.lock().unwrap().last().map_or(0, |step| step.0)
    }

    fn left(&self) -> usize {
        std::fs::read_dir(self.dir.path()).unwrap().count()
    }
}

fn assert_holds(landed: &Landed, content: &Bytes) {
    assert_eq!(std::fs::read(&landed.temp).unwrap(), *content);
    assert_eq!(landed.meta.bytes, content.len() as u64);
    assert_eq!(landed.checksum, xxhash_rust::xxh3::xxh3_128(content));
}

#[tokio::test]
async fn brings_objects_of_all_sizes_whole_with_one_get_each() {
    let server = Server::start(Habits::default()).await;
    let b = Bench::http(&server);
    for bytes in [0, 1, 65_536, 1 << 20, (1 << 20) + 1, 5_000_000] {
        let content = noise(bytes, bytes as u64);
        server.put("a", content.clone());
        let landed = b.run(b.order("a")).await.unwrap();
        assert_holds(&landed, &content);
        assert_eq!((landed.fetched_bytes, landed.legs), (bytes as u64, 1));
        assert!(landed.ttfb > Span::ZERO);
    }
    assert_eq!((server.count(Method::GET), server.asked().len()), (6, 6));
    let steps = b.steps.lock().unwrap();
    assert!((4..40).contains(&steps.len()), "in coarse steps: {steps:?}");
}

#[tokio::test]
async fn resumes_a_broken_connection_with_the_same_version() {
    let server = Server::start(Habits::default()).await;
    let content = noise(3_000_000, 1);
    server.put("a", content.clone());
    server.fault("a", &[Fault::CutAfter(1_000_000), Fault::CutAfter(500_000), Fault::CutAfter(300_000)]);
    let b = Bench::http(&server);
    let landed = b.run(b.order("a")).await.unwrap();
    assert_holds(&landed, &content);
    assert_eq!((landed.legs, landed.fetched_bytes), (4, 3_000_000), "nothing came twice");
    let asked = server.asked();
    assert_eq!(asked[0].range, None);
    for resumed in &asked[1..] {
        assert!(resumed.range.is_some() && resumed.if_match.as_deref() == Some("\"v1\""), "{resumed:?}");
    }
    // What the cut took along (one piece at most) is asked for again.
    let last = asked[3].range.as_deref().and_then(|r| r[6..].strip_suffix('-')?.parse().ok());
    assert!((1_600_000..=1_800_000).contains(&last.unwrap_or(0)), "{asked:?}");
}

#[tokio::test]
async fn never_joins_two_versions() {
    for habits in [Habits::default(), Habits { ignores_if_match: true, ..Habits::default() }] {
        let server = Server::start(habits).await;
        server.put("a", noise(1_000_000, 1));
        server.fault("a", &[Fault::ChangeAfter(300_000)]);
        let b = Bench::http(&server);
        let failed = b.run(b.order("a")).await.unwrap_err();
        assert_eq!((failed.error.code(), failed.partial), ("changed", None));
        assert_eq!(b.left(), 0, "the old half is gone");
        assert_holds(&b.run(b.order("a")).await.unwrap(), &noise(1_000_000, 2));
    }
}

#[tokio::test]
async fn without_a_strong_version_a_broken_transfer_starts_over() {
    for habits in
        [Habits { weak_etags: true, ..Habits::default() }, Habits { no_etags: true, ..Habits::default() }]
    {
        let server = Server::start(habits).await;
        server.put("a", noise(1_000_000, 1));
        server.fault("a", &[Fault::CutAfter(300_000)]);
        let b = Bench::http(&server);
        let failed = b.run(b.order("a")).await.unwrap_err();
        assert_eq!((failed.error.code(), failed.partial), ("truncated", None));
        assert_eq!(b.left(), 0);
        assert_holds(&b.run(b.order("a")).await.unwrap(), &noise(1_000_000, 1));
    }
}

#[tokio::test]
async fn goes_on_with_what_an_earlier_try_left() {
    let server = Server::start(Habits::default()).await;
    let content = noise(3_000_000, 1);
    server.put("a", content.clone());
    server.fault("a", &[Fault::CutAfter(2_000_000), Fault::Status(503)]);
    let b = Bench::http(&server);
    let failed = b.run(b.order("a")).await.unwrap_err();
    assert_eq!(failed.error.code(), "unreachable", "the second request brought nothing");
    let partial = failed.partial.unwrap();
    assert!((1_900_000..=2_000_000).contains(&partial.bytes), "{partial:?}");
    let landed = b.run(Order { resume: Some(partial.meta.clone()), ..b.order("a") }).await.unwrap();
    assert_holds(&landed, &content);
    assert_eq!(landed.fetched_bytes, 3_000_000 - partial.bytes);
    // Had it been whole already, nothing would be asked.
    let before = server.asked().len();
    let again = b.run(Order { resume: Some(partial.meta), ..b.order("a") }).await.unwrap();
    assert_holds(&again, &content);
    assert_eq!((again.fetched_bytes, server.asked().len()), (0, before));
}

#[tokio::test]
async fn a_server_without_ranges_is_asked_for_the_whole() {
    let server = Server::start(Habits { ignores_ranges: true, ..Habits::default() }).await;
    let content = noise(20_000_000, 1);
    server.put("a", content.clone());
    let b = Bench::http(&server);
    let expect = Some(b.source.stat("a").await.unwrap());
    let order = Order { expect: expect.clone(), connections: 4, ..b.order("a") };
    assert_holds(&b.run(order).await.unwrap(), &content);
    // Also when an earlier try left half of it.
    std::fs::write(b.dir.path().join("t"), &content[..5_000_000]).unwrap();
    assert_holds(&b.run(Order { resume: expect, ..b.order("a") }).await.unwrap(), &content);
}

#[tokio::test]
async fn refuses_what_is_longer_than_its_room_before_the_body_comes() {
    let server = Server::start(Habits::default()).await;
    server.put("a", noise(8_000_000, 1));
    let b = Bench::http(&server);
    let failed = b.run(Order { max_bytes: 7_999_999, ..b.order("a") }).await.unwrap_err();
    assert_eq!(failed.error.to_string(), "s:a has 8000000 bytes or more, and only 7999999 were expected");
    assert_eq!((failed.fetched_bytes, b.left()), (0, 0));
}

/// A server that sends more, or less, than it announced: hyper's server would not.
#[tokio::test]
async fn bodies_that_do_not_keep_to_their_announced_length_are_caught() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for (sent, expected) in [(12_usize, Ok(())), (8, Err("truncated"))] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
                let _ = stream.write_all(format!("{head}{}", "x".repeat(sent)).as_bytes()).await;
            }
        });
        let b = Bench::new(Kind::Http { url: format!("http://127.0.0.1:{port}/") });
        match (b.run(b.order("a")).await, expected) {
            // What stands beyond the announced end belongs to nobody: ten bytes are what was promised.
            (Ok(landed), Ok(())) => assert_holds(&landed, &Bytes::from_static(b"xxxxxxxxxx")),
            (Err(failed), Err(code)) => assert_eq!(failed.error.code(), code),
            (got, _) => panic!("{sent}: {got:?}"),
        }
    }
}

#[tokio::test]
async fn checks_a_declared_sha256() {
    let server = Server::start(Habits::default()).await;
    let content = noise(3_000_000, 1);
    server.put("a", content.clone());
    let b = Bench::http(&server);
    let declared: [u8; 32] = sha2::Sha256::digest(&content).into();
    assert_holds(&b.run(Order { sha256: Some(declared), ..b.order("a") }).await.unwrap(), &content);
    // Over a broken connection too.
    server.fault("a", &[Fault::CutAfter(1_500_000)]);
    assert_holds(&b.run(Order { sha256: Some(declared), ..b.order("a") }).await.unwrap(), &content);
    let failed = b.run(Order { sha256: Some([7; 32]), ..b.order("a") }).await.unwrap_err();
    assert!(matches!(&failed.error, Error::Corrupt { declared, .. } if declared.starts_with("0707")));
    assert_eq!((failed.partial, b.left()), (None, 0));
}

#[tokio::test]
async fn stops_on_request_and_keeps_what_it_has() {
    let server = Server::start(Habits { pause: Some(Duration::from_millis(5)), ..Habits::default() }).await;
    let content = noise(10_000_000, 1);
    server.put("a", content.clone());
    let b = Bench::http(&server);
    let handle = Handle::new(Class::Demand);
    let stop = async {
        b.told(1).await;
        handle.stop();
    };
    let (failed, ()) = tokio::join!(b.steer(b.order("a"), &handle), stop);
    let failed = failed.unwrap_err();
    let partial = failed.partial.unwrap();
    assert_eq!(failed.error.code(), "stopped");
    assert!(partial.bytes > 0 && partial.bytes < 10_000_000);
    assert_eq!(std::fs::read(b.dir.path().join("t")).unwrap(), content[..partial.bytes as usize]);
}

#[tokio::test]
async fn staging_pauses_in_its_place_and_goes_on_when_it_becomes_demand() {
    let server = Server::start(Habits::default()).await;
    let content = noise(40_000_000, 1);
    server.put("a", content.clone());
    let b = Bench::with(Kind::Http { url: server.url() }, |s| s.idle_timeout = Span::from_ms(1_000));
    let handle = Handle::new(Class::Staging);
    b.lane.set_staging(20e6);
    let steer = async {
        b.told(1).await;
        b.lane.set_staging(0.0);
        tokio::time::sleep(Duration::from_millis(300)).await;
        let paused_at = b.last_told();
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        let still_at = b.last_told();
        handle.set_class(Class::Demand);
        (paused_at, still_at)
    };
    let (landed, (paused_at, still_at)) = tokio::join!(b.steer(b.order("a"), &handle), steer);
    let landed = landed.unwrap();
    assert_holds(&landed, &content);
    assert_eq!((landed.legs, server.count(Method::GET)), (1, 1), "no restart");
    assert_eq!(paused_at, still_at, "nothing moved while it was paused, longer than the source's time-out");
    assert!(paused_at < 20_000_000, "it had hardly begun: {paused_at}");
}

#[tokio::test]
async fn keeps_the_configured_bandwidth_of_a_source() {
    let server = Server::start(Habits::default()).await;
    server.put("a", noise(2_000_000, 1));
    server.put("b", noise(2_000_000, 2));
    let mut b = Bench::http(&server);
    b.lane = Lane::new(Some(10_000_000), b.clock);
    let start = b.clock.now();
    let second = Order { temp: b.dir.path().join("u"), ..b.order("b") };
    let (one, two) = tokio::join!(b.run(b.order("a")), b.run(second));
    one.unwrap();
    two.unwrap();
    let s = b.clock.now().since(start).as_s();
    assert!(s > 0.38, "4 MB at 10 MB/s in {s} s");
}

#[tokio::test]
async fn a_restarted_daemon_finds_what_it_can_go_on_with() {
    let server = Server::start(Habits::default()).await;
    let content = noise(NOTED_BYTES as usize + 5, 1);
    server.put("big", content.clone());
    server.put("small", noise(2_000_000, 2));
    server.fault("big", &[Fault::CutAfter(9_000_000), Fault::Status(503)]);
    server.fault("small", &[Fault::CutAfter(1_000_000), Fault::Status(503)]);
    let b = Bench::http(&server);
    b.run(b.order("big")).await.unwrap_err();
    b.run(Order { temp: b.dir.path().join("u"), ..b.order("small") }).await.unwrap_err();
    let found = leftovers(b.dir.path());
    assert_eq!(found.len(), 1, "{found:?}");
    let Leftover { temp, object, meta, bytes } = found[0].clone();
    assert!(object == b.source.object("big") && (8_900_000..=9_000_000).contains(&bytes), "{bytes}");
    assert_eq!(found[0].names(), ["t", "t.note"]);
    let landed = b.run(Order { temp, resume: Some(meta), ..b.order("big") }).await.unwrap();
    assert_holds(&landed, &content);
    assert_eq!(landed.fetched_bytes, NOTED_BYTES + 5 - bytes);
    assert!(leftovers(b.dir.path()).is_empty() && !b.dir.path().join("t.note").exists());
    // After the machine went down, unsynced bytes are not believed.
    std::fs::write(b.dir.path().join("v"), "x").unwrap();
    let note = r#"{"boot":"another","object":"s:big","meta":{"bytes":9,"etag":"\"v1\"","modified":null}}"#;
    std::fs::write(b.dir.path().join("v.note"), note).unwrap();
    assert!(leftovers(b.dir.path()).is_empty());
}

#[tokio::test]
async fn a_missing_object_leaves_nothing_behind() {
    let server = Server::start(Habits::default()).await;
    let b = Bench::http(&server);
    let failed = b.run(b.order("a")).await.unwrap_err();
    assert_eq!((failed.error.code(), failed.partial, b.left()), ("missing", None, 0));
}

#[tokio::test]
async fn an_unwritable_pool_is_told_with_its_path() {
    let server = Server::start(Habits::default()).await;
    server.put("a", "x");
    let b = Bench::http(&server);
    let failed = b.run(Order { temp: "/nowhere/t".into(), ..b.order("a") }).await.unwrap_err();
    assert_eq!(failed.error.to_string(), "s:a: /nowhere/t: No such file or directory (os error 2)");
}

/// A real full file system: a tmpfs of two megabytes. Needs root for the mount; says so where it is not.
#[tokio::test]
async fn a_full_disk_is_found_before_or_while_writing_and_leaves_nothing() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let server = Server::start(Habits::default()).await;
    server.put("large", noise(5_000_000, 1));
    server.put("small", noise(1_000_000, 2));
    let b = Bench::http(&server);
    let small_disk = b.dir.path().join("disk");
    std::fs::create_dir(&small_disk).unwrap();
    if let Err(e) = mount("tmpfs", &small_disk, "tmpfs", MountFlags::empty(), Some(c"size=2m")) {
        println!("skipped: no tmpfs can be mounted: {e}");
        return;
    }
    let at = |name: &str, path: &str| Order { temp: small_disk.join(name), ..b.order(path) };
    let large = b.run(at("t", "large")).await.unwrap_err();
    let one = b.run(at("one", "small")).await;
    let two = b.run(at("two", "small")).await;
    let left = std::fs::read_dir(&small_disk).unwrap().count();
    unmount(&small_disk, UnmountFlags::DETACH).unwrap();
    assert_eq!((large.error.code(), large.fetched_bytes, large.partial), ("disk_full", 0, None));
    assert!(one.is_ok());
    assert_eq!(two.map_err(|f| f.error.code()).map(|l| l.legs), Ok(1), "two of a megabyte just fit");
    assert_eq!(left, 2);
}

#[tokio::test]
async fn brings_files_of_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let content = noise(3_000_000, 1);
    std::fs::write(dir.path().join("a"), &content).unwrap();
    std::fs::write(dir.path().join("empty"), "").unwrap();
    let b = Bench::new(Kind::File { path: dir.path().into() });
    assert_holds(&b.run(b.order("a")).await.unwrap(), &content);
    assert_holds(&b.run(b.order("empty")).await.unwrap(), &Bytes::new());
    let meta = b.source.stat("a").await.unwrap();
    std::fs::write(b.dir.path().join("t"), &content[..1_234_567]).unwrap();
    let landed = b.run(Order { resume: Some(meta), ..b.order("a") }).await.unwrap();
    assert_holds(&landed, &content);
    assert_eq!(landed.fetched_bytes, 3_000_000 - 1_234_567);
}

#[tokio::test]
async fn nginx_that_dies_is_resumed_from_another_one() {
    let Some(first) = Nginx::start() else { return };
    let content = noise(6_000_000, 1);
    std::fs::write(first.file("a"), &content).unwrap();
    let b = Bench::new(Kind::Http { url: first.url("slow") });
    let handle = Handle::new(Class::Staging);
    let die = async {
        b.told(500_001).await;
        // What is there serves the second nginx: same file, same etag.
        let kept = first.dir.path().join("o").join("a");
        let second = Nginx::start().unwrap();
        std::fs::rename(kept, second.file("a")).unwrap();
        drop(first);
        second
    };
    let (failed, second) = tokio::join!(b.steer(b.order("a"), &handle), die);
    let partial = failed.unwrap_err().partial.expect("it had begun");
    assert!(partial.bytes > 500_000 && partial.bytes < 6_000_000, "{partial:?}");
    let again = Bench::new(Kind::Http { url: second.url("o") });
    let order = Order { resume: Some(partial.meta), temp: b.dir.path().join("t"), ..again.order("a") };
    let landed = again.run(order).await.unwrap();
    assert_holds(&landed, &content);
    assert_eq!(landed.fetched_bytes, 6_000_000 - partial.bytes);
}

/// What a small transfer costs this process, server included.
/// `cargo test measures_small_transfers -- --ignored --nocapture`
#[tokio::test]
#[ignore = "a measurement"]
async fn measures_small_transfers() {
    const N: u32 = 2000;
    let server = Server::start(Habits::default()).await;
    server.put("a", noise(16_384, 1));
    let b = Bench::http(&server);
    let cpu = || {
        let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `t` is a valid timespec for the call to fill; this clock always exists on Linux.
        unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut t) };
        t.tv_sec as f64 * 1e6 + t.tv_nsec as f64 / 1e3
    };
    let (wall, used) = (b.clock.now(), cpu());
    for _ in 0..N {
        b.run(b.order("a")).await.unwrap();
    }
    let (wall, used) = (b.clock.now().since(wall).as_s() * 1e6, cpu() - used);
    println!("16 KiB: {:.0} µs wall, {:.0} µs CPU each", wall / f64::from(N), used / f64::from(N));
}
