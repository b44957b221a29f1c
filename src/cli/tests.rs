//! The real client against a daemon in memory: what people and programs read, and how commands exit.

use super::screen::Look;
use super::{Ask, Cli, Command, Exit, ended};
use crate::api::testing::{Daemon, NOW_S};
use crate::task::State;
use crate::time::Time;
use clap::{CommandFactory, Parser};
use std::ffi::OsString;
use std::path::Path;

fn look() -> Look {
    Look { now: Some(Time::from_s(NOW_S)), ..Look::plain() }
}

fn parse(line: &[&str], socket: &Path) -> Ask {
    let args = std::iter::once("forestage").chain(line.iter().copied()).map(OsString::from);
    let socket = [OsString::from("--socket"), socket.into()];
    match Cli::try_parse_from(args.chain(socket)).unwrap_or_else(|e| panic!("{e}")).command {
        Command::Ask(ask) => ask,
        other => panic!("{other:?} does not ask the daemon"),
    }
}

/// Runs a command; its output, and how it exits.
async fn run(d: &Daemon, line: &[&str]) -> (String, Exit) {
    let mut out = Vec::new();
    let exit = match parse(line, &d.socket).run(&mut out, look()).await {
        Ok(exit) => exit,
        Err(e) => ended(&e),
    };
    (String::from_utf8(out).unwrap(), exit)
}

/// Runs a command that must exit well.
async fn say(d: &Daemon, line: &[&str]) -> String {
    let (text, exit) = run(d, line).await;
    assert_eq!(exit, Exit::Ok, "{line:?}: {text}");
    text
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
    let help = Cli::command().render_long_help().to_string();
    let commands = [
        "serve",
        "check-config",
        "submit",
        "tasks",
        "show",
        "log",
        "wait",
        "cancel",
        "retry",
        "edit",
        "workers",
        "profile",
        "predict",
        "cache",
        "heatmap",
        "savings",
        "why",
        "pause",
        "resume",
        "drain",
        "replay",
        "demo",
        "health",
        "events",
    ];
    for command in commands {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in the help");
    }
    assert!(help.contains("Exit codes:") && help.contains("no daemon answers"), "{help}");
}

#[test]
fn wrong_command_lines_are_usage_errors() {
    for line in [
        &["submit"][..],
        &["submit", "copy", "--file", "x"],
        &["submit", "copy", "--priority", "10"],
        &["submit", "copy", "--arg", "novalue"],
        &["submit", "copy", "--timeout", "5s"],
        &["edit", "1"],
        &["wait"],
        &["tasks", "--state", "lost"],
        &["heatmap", "--by", "moon"],
        &["cache", "evict"],
        &["cache", "stage", "a:b", "--type", "copy"],
        &["replay", "objects", "t.csv", "--capacity", "0%"],
        &["frobnicate"],
    ] {
        let args = std::iter::once("forestage").chain(line.iter().copied());
        let error = Cli::try_parse_from(args).map(|_| ()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line:?}: {error}");
    }
}

#[tokio::test]
async fn a_task_is_submitted_shown_and_listed() {
    let d = Daemon::start();
    let submit = ["submit", "copy", "-e", "vol-1", "-a", "level=3", "--key", "k", "--input", "volumes:extra"];
    assert_eq!(say(&d, &submit).await, "task 1\n");
    assert_eq!(say(&d, &submit).await, "task 1 (the key was known)\n");
    assert_eq!(say(&d, &["submit", "copy", "--after", "1", "--json"]).await, "{\"id\":2}\n");
    d.memory.start(1);
    d.memory.end(1, State::Failed);
    insta::assert_snapshot!(say(&d, &["tasks"]).await, @r"
    TASK  TYPE  ENTITY  STATE    WORKER  SUBMITTED   TIME  NOTE
       2  copy          blocked          12 s ago          waiting for: task 1
       1  copy  vol-1   failed   fast    12 s ago   2.0 s  exit code 3
    ");
    insta::assert_snapshot!(say(&d, &["show", "1"]).await, @r"
    task       1
    type       copy
    entity     vol-1
    state      failed
    reason     exit code 3
    exit code  3
    priority   5
    attempts   1
    worker     fast
    submitted  12 s ago
    started    2 s ago
    ended      just now
    took       2.0 s
    key        k
    arguments  level=3
    inputs     volumes:extra
    ");
    let json = say(&d, &["tasks", "--json", "--state", "failed"]).await;
    assert_eq!(json.lines().count(), 1);
    assert!(json.starts_with("{\"id\":1,\"type\":\"copy\","), "{json}");
    assert_eq!(say(&d, &["tasks", "--type", "nothing"]).await, "no tasks\n");
}

#[tokio::test]
async fn files_are_submitted_in_batches_and_refused_lines_do_not_stop_the_rest() {
    let d = Daemon::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tasks.ndjson");
    let mut lines: Vec<String> =
        (0..2_500).map(|i| format!("{{\"type\":\"copy\",\"entity\":\"vol-{i}\"}}")).collect();
    lines[1_200] = "{\"type\":\"unheard-of\"}".to_owned();
    lines[1_300] = String::new();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let (text, exit) = run(&d, &["submit", "--file", file.to_str().unwrap()]).await;
    assert_eq!((text.as_str(), exit), ("2498 tasks accepted (1 to 2498), 1 refused\n", Exit::Refused));
    assert_eq!(d.memory.calls(), 3);
    let (json, _) = run(&d, &["submit", "--file", file.to_str().unwrap(), "--json"]).await;
    assert_eq!(json.lines().count(), 2_499);
    let (_, exit) = run(&d, &["submit", "--file", "/nowhere.ndjson"]).await;
    assert_eq!(exit, Exit::Failed);
}

#[tokio::test]
async fn waiting_exits_with_what_became_of_the_tasks() {
    let d = Daemon::start();
    for _ in 0..3 {
        say(&d, &["submit", "copy"]).await;
    }
    let timeout = ["wait", "3", "--timeout", "10ms"];
    let (text, exit) = run(&d, &timeout).await;
    assert_eq!((text.as_str(), exit), ("task 3 queued, waiting for: slot\n", Exit::TimedOut));
    let memory = d.memory.clone();
    let ends = tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        for (id, state) in [(2, State::Failed), (1, State::Done)] {
            memory.start(id);
            memory.end(id, state);
        }
    });
    let (text, exit) = run(&d, &["wait", "1", "2"]).await;
    ends.await.unwrap();
    assert_eq!(text, "task 1 done after 2.0 s\ntask 2 failed after 2.0 s: exit code 3\n");
    assert_eq!(exit, Exit::Failed);
    assert_eq!(run(&d, &["wait", "1"]).await.1, Exit::Ok);
}

#[tokio::test]
async fn tasks_are_changed_and_refusals_of_one_do_not_stop_the_others() {
    let d = Daemon::start();
    for _ in 0..2 {
        say(&d, &["submit", "copy"]).await;
    }
    assert_eq!(say(&d, &["edit", "1", "--priority", "9"]).await, "task 1 queued, waiting for: slot\n");
    assert_eq!(say(&d, &["cancel", "1"]).await, "task 1 cancelled\n");
    let (text, exit) = run(&d, &["cancel", "1", "2"]).await;
    assert_eq!((text.as_str(), exit), ("task 2 cancelled\n", Exit::Refused));
    assert_eq!(say(&d, &["retry", "1", "2", "--json"]).await.lines().count(), 2);
    assert_eq!(run(&d, &["retry", "1"]).await.1, Exit::Refused);
}

#[tokio::test]
async fn logs_are_printed_as_they_are() {
    let d = Daemon::start();
    say(&d, &["submit", "copy"]).await;
    d.memory.start(1);
    d.memory.write(1, "one\ntwo");
    assert_eq!(say(&d, &["log", "1"]).await, "one\ntwo");
    d.memory.end(1, State::Done);
    assert_eq!(say(&d, &["log", "1", "-f"]).await, "one\ntwo");
    assert_eq!(run(&d, &["log", "7"]).await.1, Exit::Refused);
}

#[tokio::test]
async fn workers_and_profiles_read_as_tables() {
    let d = Daemon::start();
    for entity in ["vol-0412", "vol-0077"] {
        say(&d, &["submit", "copy", "-e", entity]).await;
    }
    d.memory.start(1);
    d.memory.start(2);
    insta::assert_snapshot!(say(&d, &["workers"]).await, @r"
    WORKER  SLOTS  RUNNING           NEXT (forecast)  CACHE             BEST AT
    fast    2 / 4  copy vol-0412 +1  copy .52 ▅       ssd 38 of 50 GiB  copy 1.9×
    ");
    insta::assert_snapshot!(say(&d, &["profile", "fast"]).await, @r"
    TYPE  AFFINITY  SPEED  SEEN  SUCCESS   TIME     CPU    MEMORY     DISK  NET  LAST
    copy       .62   1.9×    42      .98  1.9 s  850 ms  45.8 MiB  1.9 GiB  0 B  12 min ago
    ");
    assert_eq!(run(&d, &["profile", "slow"]).await.1, Exit::Refused);
}

#[tokio::test]
async fn predictions_read_as_tables_with_bars() {
    let d = Daemon::start();
    insta::assert_snapshot!(say(&d, &["predict"]).await, @r"
    next task of host

    TYPE             P       DUE
    copy         .71 ▆  in 1.9 s
    other types  .29 ▃

    THE VERY NEXT TASK  ENTITY      P
    verify              vol-1   .60 ▅

    known already, and before it:
      task 1  copy vol-1

    EXPECTED  ENTITY    P       DUE
    verify    vol-1   .84  in 4.0 s
    ");
    insta::assert_snapshot!(say(&d, &["predict", "fast", "--explain"]).await, @r"
    next task of worker fast

    TYPE             P  AFFINITY  HEAT  HISTORY       DUE
    copy         .71 ▆       .62   .25      .80  in 1.9 s
    other types  .29 ▃

    THE VERY NEXT TASK  ENTITY      P
    verify              vol-1   .60 ▅

    known already, and before it:
      task 1  copy vol-1

    EXPECTED  ENTITY    P       DUE
    verify    vol-1   .84  in 4.0 s

    p ∝ affinity^1.00 × (1 − heat)^0.80 × history^1.20, exponents learned; log loss lately 0.81 bits

    CONTEXT          SAYS  SPEAKS FOR  SEEN
    last two types  +0.41  copy         118

    CONFIDENCE  FORECASTS  MEAN  CAME TRUE
    .70 to .80         60   .74        .76
    ");
    assert!(say(&d, &["predict", "--entity", "vol 1", "--json"]).await.contains("\"of\":\"entity vol 1\""));
}

#[tokio::test]
async fn the_cache_is_listed_and_ordered() {
    let d = Daemon::start();
    insta::assert_snapshot!(say(&d, &["cache", "list"]).await, @r"
    CACHE  POLICY          USED   PINNED  HELD  OBJECTS  FOUND  FOLDER
    ssd    lru     38 of 50 GiB  1.0 GiB   0 B      412    .86  /var/cache/forestage
    ");
    assert_eq!(say(&d, &["cache", "list", "--objects"]).await, "no objects\n");
    assert_eq!(
        say(&d, &["cache", "stage", "volumes:a", "volumes:b", "--wait"]).await,
        "volumes:a  staged in ssd, 2.0 MiB\nvolumes:b  staged in ssd, 2.0 MiB\n"
    );
    say(&d, &["cache", "pin", "volumes:a"]).await;
    insta::assert_snapshot!(say(&d, &["cache", "list", "-o"]).await, @r"
    OBJECT     CACHE     SIZE  STATE
    volumes:a  ssd    2.0 MiB  staged, pinned
    volumes:b  ssd    2.0 MiB  staged
    ");
    let (text, exit) = run(&d, &["cache", "stage", "volumes:missing", "--wait"]).await;
    assert_eq!(exit, Exit::Failed);
    assert_eq!(text, "volumes:missing  failed in ssd, 2.0 MiB: the source has no such object\n");
    assert!(say(&d, &["cache", "stage", "--type", "copy", "--entity", "vol-1"]).await.contains("copy/vol-1"));
    assert_eq!(say(&d, &["cache", "verify", "--json"]).await.lines().count(), 3);
    say(&d, &["cache", "unpin", "volumes:a"]).await;
    assert_eq!(say(&d, &["cache", "evict", "volumes:a"]).await, "volumes:a  evicted in ssd, 2.0 MiB\n");
}

#[tokio::test]
async fn the_heatmap_is_drawn_and_written() {
    let d = Daemon::start();
    let text = say(&d, &["heatmap", "--by", "worker", "--metric", "cpu", "--columns", "20"]).await;
    assert!(text.contains("fast") && !text.contains('\x1b'), "{text}");
    let folder = tempfile::tempdir().unwrap();
    let [svg, png] = ["a.svg", "a.png"].map(|n| folder.path().join(n).to_str().unwrap().to_owned());
    assert_eq!(say(&d, &["heatmap", "--svg", &svg, "--png", &png]).await, format!("{svg}\n{png}\n"));
    assert!(std::fs::read_to_string(&svg).unwrap().contains("<svg"));
    assert_eq!(&std::fs::read(&png).unwrap()[1..4], b"PNG");
    let map = say(&d, &["heatmap", "--json", "-n", "5"]).await;
    assert!(map.starts_with("{\"title\":\"heat by worker\""), "{map}");
}

#[tokio::test]
async fn evidence_reads_with_the_answer_first() {
    let d = Daemon::start();
    say(&d, &["submit", "copy"]).await;
    insta::assert_snapshot!(say(&d, &["savings"]).await, @r"
    staging on: saves 31 ms a demand (95 %: 12 to 50 ms)

    data wait hidden  19.8 s
    found in cache    258 (.86 of demands)
    staged            284 objects, 455 MiB
    useful            221 (.78 of staged)
    late              20 (.07 of staged)
    wasted            43 (.15 of staged), 43.0 MiB
    harmful           1
    forecasts right   222 (.78 of forecasts)
    turned off        copy from archive: saved nothing in 200 demands

    TYPE  SOURCE   KNOWLEDGE  STAGED  USEFUL  LATE  WASTED  HIDDEN    BYTES
    copy  volumes  derived       284     221    20      43  19.8 s  455 MiB
    ");
    insta::assert_snapshot!(say(&d, &["why", "1"]).await, @r"
    task 1 copy vol-1 waits for a slot
      staged  volumes:vol-1, p .71, break-even .18

    WORKER  SCORE  SPEED  HEAT  LOCALITY  FREE SLOTS
    fast    1.425   1.9×   .25      1.00           0

    INPUT             SIZE  FOUND         DATA WAIT
    volumes:vol-1  2.0 MiB  staged ahead       3 ms
    ");
    assert!(
        say(&d, &["why", "volumes:vol-1"]).await.starts_with("volumes:vol-1 is staged in ssd\n  forecast  ")
    );
    assert!(say(&d, &["why", "fast"]).await.starts_with("fast gets copy"));
    assert_eq!(run(&d, &["why", "slow"]).await.1, Exit::Refused);
}

#[tokio::test]
async fn the_daemon_is_controlled_and_asked_how_it_is() {
    let d = Daemon::start();
    say(&d, &["submit", "copy"]).await;
    insta::assert_snapshot!(say(&d, &["health"]).await, @r"
    status   running
    tasks    1 queued
    staging  on
    up       12 min
    process  4242, 3 starts on this state
    version  0.1.0
    ");
    assert_eq!(say(&d, &["pause"]).await, "paused: 1 queued\n");
    assert_eq!(say(&d, &["resume"]).await, "running: 1 queued\n");
    assert_eq!(say(&d, &["drain"]).await, "draining: 1 queued\n");
}

#[tokio::test]
async fn the_diary_is_printed_line_by_line() {
    let d = Daemon::start();
    say(&d, &["submit", "copy"]).await;
    d.memory.start(1);
    d.memory.end(1, State::Done);
    assert_eq!(say(&d, &["events"]).await, "13:46:40  running     task 1\n13:46:40  done        task 1\n");
    let json = say(&d, &["events", "--from", "2", "--json"]).await;
    assert_eq!(json, "{\"seq\":2,\"at_s\":1000000.0,\"decided\":\"done\",\"text\":\"task 1\"}\n");
}

#[tokio::test]
async fn no_daemon_and_a_full_one_have_their_own_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("f.sock");
    let error = parse(&["health"], &socket).run(&mut Vec::new(), look()).await.unwrap_err();
    let text = super::told(&error);
    assert_eq!(text.matches("No such file").count(), 1, "{text}");
    assert!(text.contains("no daemon answers on") && text.contains("forestage serve"), "{text}");
    assert_eq!(ended(&error), Exit::Unreachable);
    let d = Daemon::start();
    d.memory.fill();
    let error = parse(&["submit", "copy"], &d.socket).run(&mut Vec::new(), look()).await.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), ended(&error)),
        ("100 tasks wait, which is the limit", Exit::NotNow)
    );
}

#[tokio::test]
async fn the_client_connects_again_when_the_daemon_has_let_go() {
    use super::client::{Client, Target};
    let settings = crate::api::Settings {
        header_timeout: std::time::Duration::from_millis(50),
        ..crate::api::Settings::default()
    };
    let d = Daemon::start_with(settings);
    let mut client = Client::connect(&d.socket).await.unwrap();
    for _ in 0..3 {
        let health: crate::api::wire::Health = client.get(&Target::of(&["health"])).await.unwrap();
        assert_eq!(health.status, "running");
        tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    }
}

#[test]
fn configurations_are_checked_with_line_and_caret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.toml");
    std::fs::write(&file, "[worker.fast]\nslots = 0\n").unwrap();
    let check = |extra: &[&str]| {
        let line = ["forestage", "check-config", file.to_str().unwrap(), "--no-host"];
        let Command::CheckConfig(args) = Cli::parse_from(line.iter().chain(extra)).command else { panic!() };
        let mut out = Vec::new();
        let exit = super::check_config::run(args, &mut out, look()).unwrap();
        (String::from_utf8(out).unwrap(), exit)
    };
    let (text, exit) = check(&[]);
    assert_eq!(exit, Exit::Failed);
    assert!(text.contains("broken.toml:2:9") && text.contains("slots") && text.contains("^"), "{text}");
    let (json, _) = check(&["--json"]);
    let problem: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!((&problem["key"], &problem["line"]), (&"worker.fast.slots".into(), &2.into()));
    std::fs::write(&file, "").unwrap();
    let (text, exit) = check(&[]);
    assert_eq!(exit, Exit::Ok);
    assert!(text.ends_with("broken.toml is accepted\n"), "{text}");
}
