//! The files in `config/` beside the sources: the good ones are accepted and say the truth about the defaults,
//! each of the bad ones fails with its own message, and no text at all makes the parser panic.

use super::*;
use crate::time::Span;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn around() -> Surroundings {
    Surroundings {
        state_dir: "/home/u/.local/state/forestage".into(),
        cache_dir: "/home/u/.cache/forestage".into(),
        runtime_dir: Some("/run/user/1000".into()),
        cores: 4,
    }
}

fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(text, Some(Path::new("test.toml")), &around())
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|e| panic!("{}\n{text}", e.render(false)))
}

fn toml_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    files.sort();
    assert!(!files.is_empty(), "{}", dir.display());
    files
}

fn annotated() -> String {
    std::fs::read_to_string(folder().join("forestage.toml")).unwrap()
}

/// The annotated file with its commented keys switched on: all of them, or only those that state a default.
fn switched_on(text: &str, defaults_only: bool) -> String {
    let mut comment = String::new();
    let mut out = String::new();
    for line in text.lines() {
        match line.strip_prefix('#') {
            Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => {
                let stated = !comment.contains("Default: none");
                out.push_str(if stated || !defaults_only { key } else { line });
            }
            Some(header) if header.starts_with('[') => {
                out.push_str(if defaults_only { line } else { header })
            }
            Some(prose) => comment.push_str(prose),
            None => {
                out.push_str(line);
                comment.clear();
            }
        }
        if line.is_empty() {
            comment.clear();
        }
        out.push('\n');
    }
    out
}

#[test]
fn every_file_beside_the_sources_is_accepted() {
    for path in toml_files(&folder()) {
        let config = good(&std::fs::read_to_string(&path).unwrap());
        assert!(config.warnings.is_empty(), "{}: {}", path.display(), config.warnings);
    }
}

#[test]
fn the_annotated_file_states_the_defaults() {
    let text = annotated();
    let plain = good(&text);
    let defaults = Config::defaults(&around()).unwrap();
    // What is before the first named table: there, examples begin.
    let end = text.find("# A cell is a failure domain").unwrap();
    let on = good(&switched_on(&text[..end], true));
    assert_eq!(on.record, defaults.record);
    assert_eq!(on.dispatch, defaults.dispatch);
    assert_eq!(on.predict, defaults.predict);
    assert_eq!(on.profile, defaults.profile);
    assert_eq!(on.staging, defaults.staging);
    assert_eq!(on.monitor, defaults.monitor);
    let Daemon { state_dir, work_dir, socket, .. } = plain.daemon.clone();
    assert_eq!(on.daemon, Daemon { state_dir, work_dir, socket, ..defaults.daemon.clone() });
    assert_eq!(
        plain.caches[0],
        Cache { dir: "/var/cache/forestage/local".into(), ..defaults.caches[0].clone() }
    );
    assert_eq!(plain.workers, defaults.workers);
}

#[test]
fn the_annotated_file_has_every_key() {
    let text = annotated();
    let notes = Notes::default();
    let all = switched_on(&text, false);
    let config = Config::parse_noting(&all, None, &around(), &notes);
    let config = config.unwrap_or_else(|e| panic!("{}", e.render(false)));
    assert_eq!((config.sources.len(), config.workers.len(), config.types.len()), (3, 1, 1));
    let written: BTreeSet<String> = notes_written(&config);
    let known = notes.known();
    assert!(known.len() > 90, "{}", known.len());
    let missing: Vec<&String> = known.iter().filter(|k| !written.contains(*k)).collect();
    assert!(missing.is_empty(), "not in forestage.toml: {missing:?}");
}

/// The keys that the file has, without the names: `worker.*.slots`.
fn notes_written(config: &Config) -> BTreeSet<String> {
    let named = ["cell", "source", "cache", "worker", "type"];
    let strip = |key: &String| match key.split('.').collect::<Vec<_>>().as_slice() {
        [section, _, rest @ ..] if named.contains(section) => format!("{section}.*.{}", rest.join(".")),
        _ => key.clone(),
    };
    let plain = |key: String| {
        let mut out = String::new();
        let mut inside = false;
        for c in key.chars() {
            inside = (inside || c == '[') && c != ']';
            if !inside && c != ']' {
                out.push(c);
            }
        }
        out
    };
    config.origin.spans.keys().map(strip).flat_map(|k| [plain(k.clone()), k]).collect()
}

#[test]
fn the_unit_and_the_file_agree() {
    let unit = std::fs::read_to_string(folder().join("forestage.service")).unwrap();
    let value = |key: &str| {
        let line = unit.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{key}")).to_owned()
    };
    let c = good(&annotated());
    assert_eq!(c.daemon.state_dir, Path::new("/var/lib").join(value("StateDirectory")));
    assert!(c.daemon.socket.starts_with(Path::new("/run").join(value("RuntimeDirectory"))));
    // One mount, so that hard links go from the pool to the work folders.
    let cache = Path::new("/var/cache").join(value("CacheDirectory"));
    assert!(c.daemon.work_dir.starts_with(&cache) && c.caches[0].dir.starts_with(&cache));
    let kill_grace = Span::from_secs(10);
    assert!(unit::span(&value("TimeoutStopSec")).unwrap() > c.daemon.drain_deadline + kill_grace);
    assert!(value("ExecStart").ends_with(&format!("--config {SYSTEM_FILE}")));
    // Beside the unit, systemd's tools would take a folder of this name for drop-ins that are in force.
    assert!(!folder().join("forestage.service.d").exists());
}

#[test]
fn each_bad_file_fails_with_its_own_message() {
    let bless = std::env::var_os("FORESTAGE_BLESS").is_some();
    let mut titles = BTreeSet::new();
    let files = toml_files(&folder().join("invalid"));
    assert!(files.len() >= 20);
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = PathBuf::from(path.file_name().unwrap());
        let error = Config::parse(&text, Some(&name), &around()).expect_err(&path.display().to_string());
        let rendered = error.render(false) + "\n";
        let golden = path.with_extension("stderr");
        if bless {
            std::fs::write(&golden, &rendered).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(
            rendered,
            expected,
            "{}: run with FORESTAGE_BLESS=1 and look at the difference",
            name.display()
        );
        assert!(titles.insert(error.problems()[0].title.clone()), "{}: {rendered}", name.display());
        for p in error.problems() {
            assert!(p.line.is_some() && !p.label.is_empty(), "{p:?}");
            assert!(p.key.is_empty() || p.label.contains("accepted"), "{p:?}");
        }
        assert!(error.render(true).contains("\u{1b}["));
    }
}

#[test]
fn defaults_are_what_the_documentation_says() {
    let c = Config::defaults(&around()).unwrap();
    assert!(c.warnings.is_empty() && c.path().is_none() && c.types.is_empty() && c.sources.is_empty());
    assert_eq!(c.daemon.socket, Path::new("/run/user/1000/forestage/forestage.sock"));
    assert_eq!(c.daemon.state_dir, around().state_dir);
    assert_eq!(c.daemon.work_dir, Path::new("/home/u/.cache/forestage/work"));
    assert_eq!((c.workers.len(), c.workers[0].slots, c.caches.len(), c.cells.len()), (1, 4, 1, 1));
    let c = Config::defaults(&Surroundings { runtime_dir: None, ..around() }).unwrap();
    assert_eq!(c.daemon.socket, Path::new("/home/u/.local/state/forestage/forestage.sock"));
}

#[test]
fn a_default_that_cannot_be_used_is_an_error_without_a_line() {
    let deep = format!("/{}", "x".repeat(120));
    let around = Surroundings { state_dir: deep.into(), runtime_dir: None, ..around() };
    let error = Config::defaults(&around).unwrap_err();
    assert_eq!(error.problems()[0].line, None);
    assert!(error.to_string().contains("`daemon.socket` is 136 bytes long"), "{error}");
}

const EXAMPLE: &str = r#"
cell.nas       = { cpus = 2, memory = "4GiB", io_per_s = "200MiB", net_per_s = "125MiB" }
source.copies  = { kind = "file", path = "/srv/copies", cell = "nas", shard_by = "^([^/]+)/", shards = 8, writable = true }
source.volumes = { kind = "http", url = "http://127.0.0.1:8080/o", cell = "nas", shard_by = "^([^/]+)/", shards = 8, consistency = "revalidate" }
cache.ssd      = { dir = "/var/cache/forestage/ssd", capacity = "50GiB", min_free = "5GiB", policy = "lru" }
worker.fast    = { slots = 4, cpus = 2.0, near = ["nas"], cache = "ssd", types = ["snapshot-copy"] }

[type.snapshot-copy]
argv    = ["cp", "{input.1}", "{workdir}/out/copy.img"]
inputs  = ["volumes:{entity}/manifest.json", "volumes:{entity}/data.img"]
outputs = [{ file = "copy.img", object = "copies:{entity}/copy.img" }]
writes  = ["copies:{entity}/copy.img"]
"#;

#[test]
fn tables_and_inline_tables_mean_the_same() {
    let c = good(EXAMPLE);
    assert_eq!(c.cells[0].net_bytes_per_s, Some(125 << 20));
    assert_eq!(c.sources[1].kind, SourceKind::Http { url: "http://127.0.0.1:8080/o/".into() });
    assert_eq!(c.caches[0].min_free_bytes, 5 << 30);
    assert_eq!(c.workers[0].types, Some(vec![TypeId(0)]));
    assert_eq!(c.workers[0].near, [CellId(0)]);
    let table = EXAMPLE.replace(
        r#"worker.fast    = { slots = 4, cpus = 2.0, near = ["nas"], cache = "ssd", types = ["snapshot-copy"] }"#,
        "[worker.fast]\nslots = 4\ncpus = 2\nnear = [\"nas\"]\ncache = \"ssd\"\ntypes = [\"snapshot-copy\"]\n",
    );
    assert_eq!(good(&table).workers, c.workers);
}

#[test]
fn ids_follow_the_order_of_the_file() {
    let c = good("[worker.zeta]\n[worker.alpha]\n[type.b]\n[type.a]\n[cell.y]\n[cell.x]\n");
    let names: Vec<&str> = c.workers.iter().map(|w| w.name.as_str()).collect();
    assert_eq!(names, ["zeta", "alpha"]);
    assert_eq!(c.catalogue().find("a"), Some(TypeId(1)));
    assert_eq!(c.places().cell_name(CellId(0)), "y");
}

#[test]
fn the_catalogue_and_the_places_take_a_submit() {
    use crate::flow::TaskId;
    use crate::task::Submit;
    use crate::time::Time;
    let c = good(EXAMPLE);
    let submit =
        Submit { task_type: "snapshot-copy".into(), entity: Some("vol-7".into()), ..Submit::default() };
    let task = submit.resolve(TaskId(1), Time::ZERO, &c.catalogue(), &c.places()).unwrap();
    assert_eq!(task.inputs[1].as_str(), "volumes:vol-7/data.img");
    assert_eq!(task.place.unwrap().cell, CellId(0));
    assert!(task.place.unwrap().shard < 8);
}

#[test]
fn unknown_keys_are_errors_in_every_section() {
    let named = [
        ("cell.x", ""),
        ("source.x", "kind = \"file\"\npath = \"/x\"\n"),
        ("cache.x", "dir = \"/x\"\n"),
        ("worker.x", ""),
        ("type.x", ""),
    ];
    let plain = ["daemon", "record", "dispatch", "predict", "profile", "staging", "monitor"];
    for (section, rest) in named.into_iter().chain(plain.map(|s| (s, ""))) {
        let error = parse(&format!("[{section}]\n{rest}colour = 1\n")).unwrap_err();
        let [problem] = error.problems() else { panic!("{error}") };
        assert!(problem.title.starts_with("unknown key `colour`"), "{error}");
        assert_eq!(problem.key, format!("{section}.colour"));
    }
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    for (text, part) in [
        ("[daemon]\nsocket_mode = \"0666\"\n", "socket_mode` is open to all"),
        ("[monitor]\ninterval = \"10s\"\n", "longer than the finest step"),
        (
            "[worker.a]\ntypes = [\"x\"]\n[type.x]\nargv = [\"true\"]\n[type.y]\nargv = [\"true\"]\n",
            "taken by no worker",
        ),
        (
            "[source.a-b]\nkind = \"http\"\nurl = \"http://a\"\n[source.a_b]\nkind = \"http\"\nurl = \"http://b\"\n",
            "shares the names of its credentials",
        ),
    ] {
        let c = good(text);
        assert!(c.warnings.to_string().starts_with("warning: "), "{}", c.warnings);
        assert!(c.warnings.to_string().contains(part), "{}", c.warnings);
        assert_eq!(c.warnings.problems().len(), 1, "{}", c.warnings);
    }
}

#[test]
fn secrets_are_in_no_message() {
    for text in [
        "[source.v]\nkind = \"http\"\nurl = \"https://user:hunter2@host/\"\n",
        "source.v = { kind = \"http\", url = \"https://host/\", token = \"hunter2\" }\n",
        "[source.v]\nkind = \"s3\"\nbucket = \"abc\"\nsecret_access_key = \"hunter2\"\n",
        "[type.t]\nenv = { API_TOKEN = \"hunter2\", \"bad name\" = \"\" }\n",
    ] {
        let error = parse(text).unwrap_err();
        let json = serde_json::to_string(error.problems()).unwrap();
        assert!(!error.render(false).contains("hunter2") && !json.contains("hunter2"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[test]
fn a_thousand_problems_are_bounded_and_quick() {
    let text: String = (0..100_000).map(|i| format!("k{i} = 1\n")).collect();
    let error = parse(&text).unwrap_err();
    assert_eq!(error.problems().len(), 1_000);
    assert!(error.render(false).ends_with("… and 950 more"));
    let noise = "= \n".repeat(1 << 20);
    assert_eq!(parse(&noise).unwrap_err().problems().len(), 1);
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let load =
        |path: &Path| Config::load(&Located::File { path: path.into(), by: NamedBy::CommandLine }, &around());
    let missing = dir.path().join("none.toml");
    assert!(load(&missing).unwrap_err().to_string().contains("none.toml: No such file"));
    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, b"[daemon]\n\xff\xfe").unwrap();
    assert!(load(&binary).unwrap_err().to_string().ends_with("is not UTF-8 text: line 2"));
    let large = dir.path().join("large.toml");
    std::fs::File::create(&large).unwrap().set_len(FILE_LIMIT_BYTES + 1).unwrap();
    let error = load(&large).unwrap_err();
    assert!(matches!(error, Error::TooLarge { found_bytes, .. } if found_bytes == FILE_LIMIT_BYTES + 1));
    assert!(error.render(false).starts_with("error: the configuration "));
    let fine = dir.path().join("fine.toml");
    std::fs::write(&fine, EXAMPLE).unwrap();
    assert_eq!(load(&fine).unwrap().path(), Some(fine.as_path()));
}

#[test]
fn ten_thousand_types_are_read_in_a_moment() {
    let types: String = (0..10_000)
        .map(|i| format!("[type.t{i}]\nargv = [\"cp\", \"{{entity}}\"]\ninputs = [\"v:{{entity}}/{i}\"]\n"))
        .collect();
    let c = good(&format!("source.v = {{ kind = \"file\", path = \"/v\" }}\n{types}"));
    assert_eq!(c.catalogue().len(), 10_000);
}

fn mutated() -> impl Strategy<Value = String> {
    let texts = [EXAMPLE.to_owned(), switched_on(&annotated(), false)];
    let bits = prop::sample::select(vec![
        "\"",
        "'",
        "[",
        "]",
        "{",
        "}",
        "=",
        "\n",
        "#",
        ".",
        ",",
        "-1",
        "0",
        "\\",
        "1e400",
        "nan",
        "\u{7f}",
        "\0",
        "ä",
        "\u{202e}",
        "true",
        "[[type]]",
        "99999999999999999999",
        "1979-05-27",
        "\"\"\"",
        "{entity}",
        "\r",
    ]);
    let edit = (any::<prop::sample::Index>(), 0usize..30, bits);
    (prop::sample::select(texts.to_vec()), prop::collection::vec(edit, 1..6)).prop_map(|(mut text, edits)| {
        for (at, cut, bit) in edits {
            let mut start = at.index(text.len() + 1);
            while !text.is_char_boundary(start) {
                start -= 1;
            }
            let mut end = (start + cut).min(text.len());
            while !text.is_char_boundary(end) {
                end += 1;
            }
            text.replace_range(start..end, bit);
        }
        text
    })
}

/// Whatever the text: a configuration or an error that can be shown, in colour too.
fn never_panics(text: &str) {
    match parse(text) {
        Ok(config) => {
            assert!(!config.warnings.has_errors());
            assert!(
                config.workers().all(|(_, w)| usize::from(w.cache.0) < config.caches.len() && w.slots > 0)
            );
            assert!(
                config.sources().all(|(_, s)| usize::from(s.cell.0) < config.cells.len() && s.shards > 0)
            );
            assert!(config.daemon.drain_deadline <= Span::from_secs(3_600));
            config.catalogue();
            config.places();
        }
        Err(error) => {
            assert!(!error.problems().is_empty());
            assert!(error.render(true).len() > error.render(false).len());
        }
    }
}

proptest! {
    #[test]
    fn a_damaged_file_never_panics(text in mutated()) {
        never_panics(&text);
    }

    #[test]
    fn random_text_never_panics(text in "(?s).{0,300}") {
        never_panics(&text);
    }

    #[test]
    fn random_toml_never_panics(
        section in prop::sample::select(vec!["daemon", "record", "dispatch", "predict", "profile", "staging",
            "monitor", "cell.a", "source.a", "cache.a", "worker.a", "type.a", "cell", "type", "worker"]),
        lines in prop::collection::vec((
            prop::sample::select(vec!["slots", "kind", "path", "url", "dir", "capacity", "argv", "inputs", "outputs",
                "args", "env", "backoff", "resolutions", "time_limit", "cpus", "listen", "socket", "socket_mode",
                "shard_by", "entity", "types", "near", "memory", "bandwidth", "min_p", "nice", "x"]),
            prop::sample::select(vec!["1", "-1", "0.5", "inf", "true", "\"\"", "\"10s\"", "\"4GiB\"", "[]", "{}",
                "[1]", "[\"a\"]", "[[]]", "{ a = 1 }", "[{ step = \"1s\", keep = \"0s\" }]", "\"{entity}\"", "\"a:{b\"",
                "1979-05-27T07:32:00Z", "0o777", "0xffffffffffffffffffffffffffffffffffffffffff", "\"/a/../b\"",
                "[{ file = \"x\", object = \"a:b\" }]", "\"(\"", "\"http://[::1]:1/\"", "\"\\u0000\"", "\"file\""]),
        ), 0..8),
    ) {
        let lines: String = lines.into_iter().map(|(k, v)| format!("{k} = {v}\n")).collect();
        never_panics(&format!("[{section}]\n{lines}"));
    }
}
