use super::server::{Fault, Habits, Nginx, Server, noise};
use super::*;
use futures_util::TryStreamExt;
use hyper::http::Method;
use std::os::unix::fs::{PermissionsExt, symlink};

fn clock() -> Clock {
    Clock::starting_at(Time::ZERO)
}

fn open(kind: Kind, set: impl FnOnce(&mut Settings)) -> Source {
    let mut settings = Settings::new("s", kind, CellId(0));
    settings.retries = 0;
    set(&mut settings);
    Source::open(settings, Credentials::default(), clock()).unwrap()
}

fn http(server: &Server) -> Source {
    open(Kind::Http { url: server.url() }, |_| {})
}

fn folder(dir: &tempfile::TempDir) -> Source {
    open(Kind::File { path: dir.path().into() }, |s| s.writable = true)
}

async fn whole(source: &Source, path: &str) -> Result<Vec<u8>, Error> {
    rest(source.read(path, 0, None, 1).await?).await
}

async fn rest(reading: Reading) -> Result<Vec<u8>, Error> {
    reading
        .body
        .try_fold(Vec::new(), async |mut all, piece| {
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await
}

fn code<T>(result: Result<T, Error>) -> &'static str {
    result.map_or_else(|e| e.code(), |_| "ok")
}

// ---- names --------------------------------------------------------------------------------------------------

#[tokio::test]
async fn names_that_leave_the_root_are_refused_before_anything_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let source = folder(&dir);
    for path in ["", "/etc/passwd", "a/../b", "..", "a//b", "a/", "./a", "a\nb", " a", "a/.forestage-1-2"] {
        assert_eq!(code(source.stat(path).await), "bad_name", "{path:?}");
    }
    assert_eq!(code(source.stat(&"x".repeat(1025)).await), "bad_name");
    assert_eq!(code(source.stat("...").await), "missing", "an odd name, but a name");
}

// ---- folders ------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_folder_serves_whole_files_and_their_rest() {
    let dir = tempfile::tempdir().unwrap();
    let content = noise(1_300_000, 1);
    std::fs::create_dir(dir.path().join("vol")).unwrap();
    std::fs::write(dir.path().join("vol/data"), &content).unwrap();
    std::fs::write(dir.path().join("empty"), "").unwrap();
    let source = folder(&dir);
    assert_eq!(whole(&source, "vol/data").await.unwrap(), content);
    assert_eq!(whole(&source, "empty").await.unwrap(), b"");
    let meta = source.stat("vol/data").await.unwrap();
    assert_eq!(meta.bytes, 1_300_000);
    let reading = source.read("vol/data", 1_000_000, Some(&meta), 1).await.unwrap();
    assert_eq!(rest(reading).await.unwrap(), content[1_000_000..]);
    assert_eq!(source.revalidate("vol/data", &meta).await.unwrap(), Freshness::Unchanged);
}

#[tokio::test]
async fn no_symbolic_link_is_followed_beneath_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "x").unwrap();
    symlink(outside.path().join("secret"), dir.path().join("file")).unwrap();
    symlink(outside.path(), dir.path().join("folder")).unwrap();
    symlink("real", dir.path().join("inside")).unwrap();
    std::fs::write(dir.path().join("real"), "x").unwrap();
    let source = folder(&dir);
    for path in ["file", "folder/secret", "inside"] {
        let e = source.stat(path).await.unwrap_err();
        assert_eq!(e.to_string(), format!("s:{path}: access denied: a symbolic link stands in its path"));
        assert_eq!(code(source.read(path, 0, None, 1).await), "denied");
        assert_ne!(code(source.publish(&format!("{path}/new"), &dir.path().join("real")).await), "ok");
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    // Over a link, a publication puts a file in its place and leaves alone what it pointed to.
    source.publish("file", &dir.path().join("real")).await.unwrap();
    assert_eq!(std::fs::read_to_string(outside.path().join("secret")).unwrap(), "x");
    // A link as the root is the operator's choice.
    let linked = open(Kind::File { path: dir.path().join("folder") }, |_| {});
    assert_eq!(whole(&linked, "secret").await.unwrap(), b"x");
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused_without_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, rustix::fs::Mode::from_raw_mode(0o600), 0).unwrap();
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    let source = folder(&dir);
    assert_eq!(code(source.stat("pipe").await), "refused");
    assert_eq!(code(source.stat("folder").await), "refused");
    assert_eq!(code(source.stat("pipe/x").await), "missing");
}

#[tokio::test]
async fn a_missing_object_and_a_missing_root_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let source = folder(&dir);
    assert_eq!(code(source.stat("a").await), "missing");
    let unmounted = open(Kind::File { path: dir.path().join("nas") }, |_| {});
    let e = unmounted.stat("a").await.unwrap_err();
    assert!(e.is_worth_retry() && e.code() == "unreachable", "{e}");
}

#[tokio::test]
async fn a_file_without_permission_is_denied() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a");
    std::fs::write(&file, "x").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
    let source = folder(&dir);
    if rustix::process::geteuid().is_root() {
        // Root may read it all the same; the mapping of the error is what is left to be tested.
        assert_eq!(code(source.stat("a").await), "ok");
        assert_eq!(file::tests_refused(rustix::io::Errno::ACCESS), "denied");
    } else {
        assert_eq!(code(source.stat("a").await), "denied");
    }
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_is_not_taken_for_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let source = folder(&dir);
    let changes: [(&str, &dyn Fn()); 3] = [
        ("overwritten", &|| std::fs::write(&path, noise(2_000_000, 2)).unwrap()),
        ("cut short", &|| {
            std::fs::File::options().write(true).open(&path).unwrap().set_len(1_000_000).unwrap()
        }),
        ("grown", &|| {
            use std::io::Write;
            std::fs::File::options().append(true).open(&path).unwrap().write_all(b"x").unwrap();
        }),
    ];
    for (how, change) in changes {
        std::fs::write(&path, noise(2_000_000, 1)).unwrap();
        let mut reading = source.read("a", 0, None, 1).await.unwrap();
        reading.body.try_next().await.unwrap().unwrap();
        change();
        assert_eq!(code(rest(reading).await), "changed", "{how}");
    }
    // A new file in its place does not disturb who reads the old one.
    std::fs::write(&path, noise(2_000_000, 1)).unwrap();
    let reading = source.read("a", 0, None, 1).await.unwrap();
    let old = reading.meta.clone();
    std::fs::write(dir.path().join("b"), "new").unwrap();
    std::fs::rename(dir.path().join("b"), &path).unwrap();
    assert_eq!(rest(reading).await.unwrap(), noise(2_000_000, 1));
    assert!(matches!(source.revalidate("a", &old).await.unwrap(), Freshness::Changed(m) if m.bytes == 3));
    assert_eq!(code(source.read("a", 0, Some(&old), 1).await), "changed");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(source.revalidate("a", &old).await.unwrap(), Freshness::Gone);
}

#[tokio::test]
async fn publishes_into_a_folder_at_once_and_durably() {
    let dir = tempfile::tempdir().unwrap();
    let work = tempfile::tempdir().unwrap();
    let out = work.path().join("out");
    let source = folder(&dir);
    for content in [noise(3_000_000, 1), noise(10, 2)] {
        std::fs::write(&out, &content).unwrap();
        let meta = source.publish("vol/7/copy.img", &out).await.unwrap();
        assert_eq!(meta, source.stat("vol/7/copy.img").await.unwrap());
        assert_eq!(whole(&source, "vol/7/copy.img").await.unwrap(), content);
    }
    assert_eq!(std::fs::read_dir(dir.path().join("vol/7")).unwrap().count(), 1, "no temporary file is left");
    assert_eq!(code(source.publish("vol/7", &out).await), "disk", "a folder is not replaced");
    let read_only = open(Kind::File { path: dir.path().into() }, |_| {});
    assert_eq!(code(read_only.publish("x", &out).await), "read_only");
}

// ---- HTTP ---------------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_whole_object_costs_one_request() {
    let server = Server::start(Habits::default()).await;
    server.put("vol-7/data%20set%2B1.img", noise(300_000, 1));
    let source = http(&server);
    let reading = source.read("vol-7/data set+1.img", 0, None, 4).await.unwrap();
    assert_eq!((reading.meta.bytes, reading.meta.etag.as_deref()), (300_000, Some("\"v1\"")));
    assert_eq!(rest(reading).await.unwrap(), noise(300_000, 1));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_pinned_read_gets_that_version_or_an_error() {
    for ignores_if_match in [false, true] {
        let server = Server::start(Habits { ignores_if_match, ..Habits::default() }).await;
        server.put("a", noise(100_000, 1));
        let source = http(&server);
        let meta = source.stat("a").await.unwrap();
        let reading = source.read("a", 60_000, Some(&meta), 1).await.unwrap();
        assert_eq!(rest(reading).await.unwrap(), noise(100_000, 1)[60_000..]);
        server.put("a", noise(100_000, 2));
        assert_eq!(code(source.read("a", 60_000, Some(&meta), 1).await), "changed");
        assert_eq!(code(source.read("a", 0, Some(&meta), 1).await), "changed");
    }
}

#[tokio::test]
async fn the_rest_is_not_asked_for_where_it_might_not_fit() {
    let weak = Server::start(Habits { weak_etags: true, ..Habits::default() }).await;
    weak.put("a", noise(1000, 1));
    let source = http(&weak);
    let meta = source.stat("a").await.unwrap();
    assert_eq!(meta.etag.as_deref(), Some("W/\"v1\""));
    assert_eq!(code(source.read("a", 500, Some(&meta), 1).await), "changed");
    assert_eq!(code(source.read("a", 0, Some(&meta), 1).await), "ok", "from the start it is good enough");
    assert_eq!(source.revalidate("a", &meta).await.unwrap(), Freshness::Unchanged);

    let whole_only = Server::start(Habits { ignores_ranges: true, ..Habits::default() }).await;
    whole_only.put("a", noise(1000, 1));
    let source = http(&whole_only);
    let meta = source.stat("a").await.unwrap();
    assert_eq!(code(source.read("a", 500, Some(&meta), 1).await), "no_ranges");
}

#[tokio::test]
async fn large_pinned_objects_come_in_parallel_ranges() {
    let server = Server::start(Habits::default()).await;
    let content = noise(30_000_000, 1);
    server.put("a", content.clone());
    let source = http(&server);
    let meta = source.stat("a").await.unwrap();
    let reading = source.read("a", 0, Some(&meta), 3).await.unwrap();
    assert_eq!(rest(reading).await.unwrap(), content);
    let gets: Vec<_> = server.asked().into_iter().filter(|a| a.method == Method::GET).collect();
    assert_eq!(gets.len(), 4, "four ranges of at most 8 MiB");
    assert!(gets.iter().all(|g| g.range.is_some() && g.if_match.as_deref() == Some("\"v1\"")));
    assert!(server.most_open() > 1);
}

#[tokio::test]
async fn stat_works_where_head_is_refused() {
    for ignores_ranges in [false, true] {
        let server = Server::start(Habits { refuses_head: true, ignores_ranges, ..Habits::default() }).await;
        server.put("a", noise(5_000_000, 1));
        server.put("empty", "");
        let source = http(&server);
        assert_eq!(source.stat("a").await.unwrap().bytes, 5_000_000);
        assert_eq!(source.stat("empty").await.unwrap().bytes, 0);
        assert_eq!(code(source.stat("b").await), "missing");
        assert_eq!(server.count(Method::HEAD), 1, "it is remembered");
        let meta = source.stat("a").await.unwrap();
        assert_eq!(source.revalidate("a", &meta).await.unwrap(), Freshness::Unchanged);
    }
}

#[tokio::test]
async fn revalidation_tells_unchanged_changed_and_gone() {
    let server = Server::start(Habits::default()).await;
    server.put("a", "one");
    let source = http(&server);
    let meta = source.stat("a").await.unwrap();
    assert_eq!(source.revalidate("a", &meta).await.unwrap(), Freshness::Unchanged);
    server.put("a", "two");
    assert!(
        matches!(source.revalidate("a", &meta).await.unwrap(), Freshness::Changed(m) if m.etag.as_deref() == Some("\"v2\""))
    );
    server.remove("a");
    assert_eq!(source.revalidate("a", &meta).await.unwrap(), Freshness::Gone);
    assert_eq!(server.count(Method::GET), 0);
    // Without etag and date nothing can be told, and a copy is not trusted.
    let mute = Server::start(Habits { no_etags: true, ..Habits::default() }).await;
    mute.put("a", "one");
    let source = http(&mute);
    let meta = source.stat("a").await.unwrap();
    assert!(matches!(source.revalidate("a", &meta).await.unwrap(), Freshness::Changed(_)));
}

#[tokio::test]
async fn statuses_become_errors_with_reasons_that_people_can_read() {
    let server = Server::start(Habits::default()).await;
    server.put("a", "x");
    let source = http(&server);
    for (status, expected, retry) in [
        (404, "missing", false),
        (410, "missing", false),
        (401, "denied", false),
        (403, "denied", false),
        (400, "refused", false),
        (429, "unreachable", true),
        (500, "unreachable", true),
        (503, "unreachable", true),
    ] {
        server.fault("a", &[Fault::Status(status)]);
        let e = whole(&source, "a").await.unwrap_err();
        assert_eq!((e.code(), e.is_worth_retry()), (expected, retry), "{status}");
        assert!(!e.to_string().contains("html"), "{e}");
    }
    server.fault("a", &[Fault::Status(503)]);
    let e = whole(&source, "a").await.unwrap_err();
    assert_eq!(e.to_string(), "s:a: its source cannot be reached: HTTP status 503 Service Unavailable");
    server.fault("a", &[Fault::NoLength]);
    let e = whole(&source, "a").await.unwrap_err();
    assert_eq!(e.to_string(), "s:a: refused by its source: the server does not announce the object's length");
}

#[tokio::test]
async fn quick_retries_hide_short_troubles_of_pinned_reads_and_stats() {
    let server = Server::start(Habits::default()).await;
    server.put("a", noise(500_000, 1));
    let source = open(Kind::Http { url: server.url() }, |s| s.retries = 2);
    server.fault("a", &[Fault::Status(503), Fault::Status(500)]);
    let meta = source.stat("a").await.unwrap();
    server.fault("a", &[Fault::CutAfter(200_000), Fault::Status(503)]);
    let reading = source.read("a", 0, Some(&meta), 1).await.unwrap();
    assert_eq!(rest(reading).await.unwrap(), noise(500_000, 1));
    assert!(source.quick_retries() >= 3);
    let gets: Vec<_> = server.asked().into_iter().filter(|a| a.method == Method::GET).collect();
    assert!(gets.iter().all(|g| g.if_match.is_some()), "a body is never reopened without its version");
    // A lasting trouble passes through.
    server.fault("a", &[Fault::Status(503); 3]);
    assert_eq!(code(source.stat("a").await), "unreachable");
}

#[tokio::test]
async fn silence_and_closed_ports_end_in_time() {
    let server = Server::start(Habits::default()).await;
    server.put("a", noise(500_000, 1));
    let source = open(Kind::Http { url: server.url() }, |s| s.idle_timeout = Span::from_ms(150));
    server.fault("a", &[Fault::StallAfter(100_000)]);
    let start = clock();
    let e = whole(&source, "a").await.unwrap_err();
    assert_eq!(e.code(), "unreachable", "{e}");
    assert!(start.now().as_s() < 20.0, "not the default 30 s");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let source = open(Kind::Http { url: format!("http://127.0.0.1:{port}/") }, |_| {});
    let e = source.stat("a").await.unwrap_err();
    assert!(e.to_string().contains("refused (os error 111)"), "{e}");
}

#[tokio::test]
async fn a_slow_but_steady_range_is_not_taken_for_silence() {
    let pause = Some(std::time::Duration::from_millis(15));
    let server = Server::start(Habits { pause, ..Habits::default() }).await;
    let content = noise(17_000_000, 1);
    server.put("a", content.clone());
    // Each range takes two seconds.
    let source = open(Kind::Http { url: server.url() }, |s| s.idle_timeout = Span::from_ms(1_000));
    let meta = source.stat("a").await.unwrap();
    let reading = source.read("a", 0, Some(&meta), 3).await.unwrap();
    assert_eq!(rest(reading).await.unwrap(), content);
}

#[tokio::test]
async fn credentials_are_sent_and_never_shown() {
    let server = Server::start(Habits::default()).await;
    server.put("a", "x");
    let secret = |t: &str| Some(Secret::new(t));
    let cases = [
        (Credentials { token: secret("hunter2"), ..Default::default() }, "Bearer hunter2"),
        (
            Credentials { username: secret("aladdin"), password: secret("opensesame"), ..Default::default() },
            "Basic YWxhZGRpbjpvcGVuc2VzYW1l",
        ),
    ];
    for (credentials, expected) in cases {
        let mut settings = Settings::new("s", Kind::Http { url: server.url() }, CellId(0));
        (settings.retries, settings.writable) = (0, true);
        let source = Source::open(settings, credentials, clock()).unwrap();
        source.stat("a").await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "new").unwrap();
        source.publish("b", &dir.path().join("f")).await.unwrap();
        server.fault("a", &[Fault::Status(403)]);
        let shown = format!("{source:?} {}", whole(&source, "a").await.unwrap_err());
        assert!(!shown.contains("hunter2") && !shown.contains("sesame"), "{shown}");
        let asked = server.asked();
        assert!(
            asked.iter().rev().take(3).all(|a| a.authorization.as_deref() == Some(expected)),
            "{asked:?}"
        );
    }
    let e = Source::open(
        Settings::new("s", Kind::Http { url: "http://u:hunter2@h/".into() }, CellId(0)),
        Credentials::default(),
        clock(),
    )
    .unwrap_err();
    assert!(e.code() == "setting" && !e.to_string().contains("hunter2"), "{e}");
}

#[tokio::test]
async fn publishes_by_put() {
    let server = Server::start(Habits::default()).await;
    let source = open(Kind::Http { url: server.url() }, |s| s.writable = true);
    let dir = tempfile::tempdir().unwrap();
    let content = noise(2_000_000, 3);
    std::fs::write(dir.path().join("f"), &content).unwrap();
    let meta = source.publish("vol/copy.img", &dir.path().join("f")).await.unwrap();
    assert_eq!((meta.bytes, meta.etag.as_deref()), (2_000_000, Some("\"v1\"")));
    assert_eq!(server.content("vol/copy.img").unwrap(), content);
    assert_eq!(code(http(&server).publish("x", &dir.path().join("f")).await), "read_only");
}

#[test]
fn addresses_that_cannot_work_are_refused_at_once() {
    for (url, reason) in [
        ("ftp://h/", "neither http nor https"),
        ("not an address", "no address"),
        ("http://h/?a=b", "a query"),
    ] {
        let settings = Settings::new("nas", Kind::Http { url: url.into() }, CellId(0));
        let e = Source::open(settings, Credentials::default(), clock()).unwrap_err().to_string();
        assert!(e.starts_with("source nas: url: ") && e.contains(reason), "{e}");
    }
}

// ---- nginx --------------------------------------------------------------------------------------------------

#[tokio::test]
async fn nginx_serves_wholes_rests_ranges_and_errors() {
    let Some(nginx) = Nginx::start() else { return };
    let content = noise(20_000_000, 7);
    std::fs::write(nginx.file("data.img"), &content).unwrap();
    std::fs::write(nginx.file("empty"), "").unwrap();
    let at = |folder: &str| open(Kind::Http { url: nginx.url(folder) }, |s| s.writable = true);
    let source = at("o");
    let meta = source.stat("data.img").await.unwrap();
    assert!(meta.bytes == 20_000_000 && meta.strong_etag().is_some() && meta.modified.is_some(), "{meta:?}");
    assert_eq!(whole(&source, "data.img").await.unwrap(), content);
    assert_eq!(whole(&source, "empty").await.unwrap(), b"");
    let reading = source.read("data.img", 19_999_990, Some(&meta), 1).await.unwrap();
    assert_eq!(rest(reading).await.unwrap(), content[19_999_990..]);
    let before = nginx.log_lines("GET");
    let reading = source.read("data.img", 0, Some(&meta), 3).await.unwrap();
    assert_eq!(rest(reading).await.unwrap(), content);
    // The log is written when a request has ended, a moment after its last byte.
    for _ in 0..100 {
        if nginx.log_lines("GET") >= before + 3 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(nginx.log_lines("GET"), before + 3);
    assert_eq!(source.revalidate("data.img", &meta).await.unwrap(), Freshness::Unchanged);
    // By date alone, as for servers without etags.
    let dated = Meta { etag: None, ..meta.clone() };
    let reading = source.read("data.img", 100, Some(&dated), 1).await.unwrap();
    assert_eq!(rest(reading).await.unwrap(), content[100..]);
    std::fs::write(nginx.file("data.img"), noise(20_000_001, 8)).unwrap();
    assert!(matches!(source.revalidate("data.img", &meta).await.unwrap(), Freshness::Changed(_)));
    assert_eq!(code(source.read("data.img", 100, Some(&meta), 1).await), "changed");
    std::fs::remove_file(nginx.file("data.img")).unwrap();
    assert_eq!(source.revalidate("data.img", &meta).await.unwrap(), Freshness::Gone);
    assert_eq!(code(whole(&at("forbidden"), "x").await), "denied");
    assert_eq!(code(whole(&at("broken"), "x").await), "unreachable");
}

#[tokio::test]
async fn nginx_keeps_what_is_published() {
    let Some(nginx) = Nginx::start() else { return };
    let source = open(Kind::Http { url: nginx.url("o") }, |s| s.writable = true);
    let dir = tempfile::tempdir().unwrap();
    let content = noise(3_000_000, 9);
    std::fs::write(dir.path().join("f"), &content).unwrap();
    let meta = source.publish("new/folder/copy 1.img", &dir.path().join("f")).await.unwrap();
    assert_eq!(std::fs::read(nginx.file("new/folder/copy 1.img")).unwrap(), content);
    assert_eq!(source.revalidate("new/folder/copy 1.img", &meta).await.unwrap(), Freshness::Unchanged);
}

// ---- S3 -----------------------------------------------------------------------------------------------------

/// A real S3 server over a folder, which checks signatures.
async fn s3_server() -> (tempfile::TempDir, String) {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("bucket")).unwrap();
    let mut service = s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
    service.set_auth(s3s::auth::SimpleAuth::from_single("AKID", "top-secret"));
    let service = service.build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stream = hyper_util::rt::TokioIo::new(stream);
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(stream, service.clone()));
        }
    });
    (root, endpoint)
}

fn s3(endpoint: &str, secret: Option<&str>) -> Source {
    let kind = Kind::S3 {
        bucket: "bucket".into(),
        endpoint: Some(endpoint.into()),
        region: "us-east-1".into(),
        prefix: "volumes".into(),
    };
    let mut settings = Settings::new("s", kind, CellId(0));
    (settings.retries, settings.writable) = (0, true);
    let credentials = Credentials {
        access_key_id: secret.map(|_| Secret::new("AKID")),
        secret_access_key: secret.map(Secret::new),
        ..Credentials::default()
    };
    Source::open(settings, credentials, clock()).unwrap()
}

#[tokio::test]
async fn s3_publishes_serves_and_revalidates() {
    let (root, endpoint) = s3_server().await;
    let source = s3(&endpoint, Some("top-secret"));
    let file = root.path().join("upload");
    for (path, bytes) in [("vol-7/small image.img", 3_000_000), ("vol-7/large.img", 20_000_000)] {
        let content = noise(bytes, bytes as u64);
        std::fs::write(&file, &content).unwrap();
        assert_eq!(code(source.stat(path).await), "missing");
        let published = source.publish(path, &file).await.unwrap();
        let meta = source.stat(path).await.unwrap();
        assert_eq!(meta.bytes, bytes as u64);
        assert!(meta.strong_etag().is_some() && published.is_same_version(&meta), "{published:?} {meta:?}");
        assert_eq!(std::fs::read(root.path().join("bucket/volumes").join(path)).unwrap(), content);
        assert_eq!(whole(&source, path).await.unwrap(), content);
        let reading = source.read(path, 0, Some(&meta), 3).await.unwrap();
        assert_eq!(rest(reading).await.unwrap(), content, "in parallel ranges");
        let reading = source.read(path, 1_000_000, Some(&meta), 1).await.unwrap();
        assert_eq!(rest(reading).await.unwrap(), content[1_000_000..]);
        assert_eq!(source.revalidate(path, &meta).await.unwrap(), Freshness::Unchanged);
        std::fs::write(&file, "new").unwrap();
        source.publish(path, &file).await.unwrap();
        assert!(
            matches!(source.revalidate(path, &meta).await.unwrap(), Freshness::Changed(m) if m.bytes == 3)
        );
        assert_eq!(code(source.read(path, 1, Some(&meta), 1).await), "changed");
        std::fs::remove_file(root.path().join("bucket/volumes").join(path)).unwrap();
        assert_eq!(source.revalidate(path, &meta).await.unwrap(), Freshness::Gone);
    }
}

#[tokio::test]
async fn s3_refuses_wrong_and_absent_keys_and_nothing_shows_them() {
    let (_root, endpoint) = s3_server().await;
    for secret in [Some("wrong-secret"), None] {
        let source = s3(&endpoint, secret);
        let e = whole(&source, "a").await.unwrap_err();
        assert_eq!(e.code(), "denied", "{e}");
        let shown = format!("{source:?} {e} {e:?}");
        assert!(!shown.contains("wrong-secret") && !shown.contains("AKID"), "{shown}");
    }
    assert_eq!(code(s3("http://127.0.0.1:1", Some("x")).stat("a").await), "unreachable");
}
