//! The real helper and real children.
//!
//! The helper is the daemon's binary, re-executed; here it is the test binary, whose constructor [`ENTER`] runs
//! before the test harness and looks at the arguments as the daemon's `main` does. The same way it becomes
//! children of known cost.

use super::helper;
use super::run::{Exited, Helper, JobHandle};
use super::wire::{Bounds, Job, Rlimit, User};
use crate::flow::Ending;
use crate::time::{Clock, Span, Time};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

#[used]
#[unsafe(link_section = ".init_array")]
static ENTER: extern "C" fn() = {
    extern "C" fn enter() {
        let args: Vec<String> = std::env::args().collect();
        let number = || args[2].parse::<u64>().unwrap();
        match args.get(1).map(String::as_str) {
            Some(helper::ARG) => helper::main(),
            Some("__burn-ms") => burn(number()),
            Some("__nested") => nested(),
            Some("__hold-mib") => {
                let held = vec![1u8; (number() as usize) << 20];
                std::process::exit(i32::from(std::hint::black_box(held)[7] != 1))
            }
            _ => {}
        }
    }
    enter
};

/// Uses that much processor time, whatever else runs on the machine.
fn burn(ms: u64) -> ! {
    let mut used = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    while used.tv_sec as u64 * 1000 + used.tv_nsec as u64 / 1_000_000 < ms {
        // SAFETY: `used` is a valid timespec for the call to fill.
        unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut used) };
    }
    std::process::exit(0)
}

/// A daemon that is itself a task: two jobs at once, of which one ends and must not take the other's with it.
fn nested() -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let b = Bench::new();
        let long =
            b.helper.spawn(b.shell("(setsid sh -c 'sleep .5; echo alive > survivor' &); sleep 1")).await;
        assert_eq!(b.ending("setsid sleep 30 & exit 0").await, Ending::Done);
        assert_eq!(long.ended().await.ending, Ending::Done);
        assert!(b.dir.path().join("survivor").exists());
        b.helper.stop().await;
    });
    std::process::exit(0)
}

struct Bench {
    dir: TempDir,
    helper: Helper,
}

impl Bench {
    fn new() -> Bench {
        Bench { dir: tempfile::tempdir().unwrap(), helper: start() }
    }
    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }
    fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }
    fn job(&self, argv: &[&str]) -> Job {
        Job {
            argv: argv.iter().map(|a| a.to_string()).collect(),
            env: vec![("PATH".into(), "/usr/local/bin:/usr/bin:/bin".into())],
            cwd: self.dir.path().into(),
            log: self.log_path(),
            log_cap_bytes: 1 << 20,
            time_limit: None,
            grace: Span::from_secs(5),
            bounds: Bounds::default(),
        }
    }
    fn shell(&self, script: &str) -> Job {
        self.job(&["sh", "-c", script, &me()])
    }
    async fn run(&self, job: Job) -> Exited {
        self.helper.spawn(job).await.ended().await
    }
    async fn ending(&self, script: &str) -> Ending {
        self.run(self.shell(script)).await.ending
    }
    /// Waits until the job has written that many lines, and gives them.
    async fn lines(&self, n: usize) -> Vec<String> {
        let text = eventually(|| Some(self.log()).filter(|text| text.lines().count() >= n)).await;
        text.lines().map(str::to_string).collect()
    }
}

fn start() -> Helper {
    Helper::start(&std::env::current_exe().unwrap(), None, Clock::start(Time::ZERO)).unwrap()
}

fn me() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_string()
}

async fn eventually<T>(mut probe: impl FnMut() -> Option<T>) -> T {
    for _ in 0..3000 {
        if let Some(found) = probe() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("did not happen within 15 s")
}

fn is_alive(pid: &str) -> bool {
    // A zombie that its parent has not reaped does nothing any more.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn children_of_helper(b: &Bench) -> String {
    fs::read_to_string(format!("/proc/{0}/task/{0}/children", b.helper.pid())).unwrap()
}

#[tokio::test]
async fn endings_are_told_as_they_were() {
    let b = Bench::new();
    assert_eq!(b.run(b.job(&["true"])).await.ending, Ending::Done);
    assert_eq!(b.ending("exit 3").await, Ending::Exited { code: 3 });
    assert_eq!(b.ending("kill -9 $$").await, Ending::Signalled { signal: 9 });
    assert_eq!(b.ending("kill -TERM $$").await, Ending::Signalled { signal: 15 });
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let b = Bench::new();
    let plain = b.dir.path().join("plain");
    fs::write(&plain, "echo never through a shell").unwrap();
    let error = |job: Job| async {
        match b.run(job).await.ending {
            Ending::SpawnFailed { error } => error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        error(b.job(&["no-such-program"])).await,
        "execute no-such-program: No such file or directory (os error 2)"
    );
    let name = plain.to_str().unwrap();
    assert!(error(b.job(&[name])).await.contains("Permission denied"));
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(error(b.job(&[name])).await.contains("Exec format error"));
    assert!(error(Job { cwd: "/nowhere".into(), ..b.job(&["true"]) }).await.starts_with("enter /nowhere: "));
    assert!(error(b.job(&["true", "a\0b"])).await.contains("NUL"));
    assert_eq!(error(b.job(&[])).await, "argv names no program");
    assert!(error(b.job(&["true", &"x".repeat(20 << 20)])).await.contains("too long"));
    assert_eq!(b.run(b.job(&["true"])).await.ending, Ending::Done, "and the helper goes on");
}

#[tokio::test]
async fn the_child_gets_exactly_what_was_given() {
    let b = Bench::new();
    let env = vec![("B".into(), "x y=ü".into()), ("A".into(), String::new())];
    b.run(Job { env, ..b.job(&["env"]) }).await;
    assert_eq!(b.log(), "B=x y=ü\nA=\n");
    b.run(b.job(&["printf", "<%s>", "$HOME", "a b", "*", ""])).await;
    assert_eq!(b.log(), "<$HOME><a b><*><>");
    b.run(b.job(&["pwd"])).await;
    assert_eq!(b.log().trim_end(), b.dir.path().canonicalize().unwrap().to_str().unwrap());
    b.run(b.job(&["ls", "/proc/self/fd"])).await;
    assert_eq!(b.log(), "0\n1\n2\n3\n", "3 is ls's own");
    b.run(b.job(&["grep", "-E", "Sig(Blk|Ign|Pnd)", "/proc/self/status"])).await;
    assert_eq!(b.log().matches("\t0000000000000000\n").count(), 3, "{}", b.log());
    b.run(b.shell("ulimit -n; cat")).await;
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap();
    assert_eq!(b.log(), format!("{own}\n"), "and standard input is empty");
}

#[tokio::test]
async fn output_and_errors_are_kept_in_order_up_to_the_cap() {
    let b = Bench::new();
    let e = b.run(b.shell("echo one; echo two >&2; echo three")).await;
    assert_eq!((b.log().as_str(), e.log_bytes, e.log_dropped_bytes), ("one\ntwo\nthree\n", 14, 0));
    let e = b.run(Job { log_cap_bytes: 100_000, ..b.shell("head -c 30000000 /dev/zero | tr '\\0' x") }).await;
    assert_eq!((e.log_bytes, e.log_dropped_bytes), (100_000, 29_900_000));
    let text = b.log();
    assert!(text[..100_000].bytes().all(|c| c == b'x'));
    assert_eq!(&text[100_000..], "\n[forestage: output beyond 100000 bytes was dropped]\n");
    fs::remove_file(b.log_path()).unwrap();
    b.run(b.job(&["true"])).await;
    assert!(!b.log_path().exists(), "silence leaves no file");
}

#[tokio::test]
async fn time_limit_ends_grandchildren_that_ignore_it_and_those_that_left_the_group() {
    let b = Bench::new();
    let script = "trap '' TERM; sleep 100 & echo $!; setsid sleep 101 & echo $!; (setsid sh -c 'sleep 102 & echo $!; wait' &) ; wait; wait; sleep 103";
    let job = Job { time_limit: Some(Span::from_ms(300)), grace: Span::from_ms(100), ..b.shell(script) };
    let running = b.helper.spawn(job).await;
    let pids = b.lines(3).await;
    assert!(pids.iter().all(|pid| is_alive(pid)));
    let e = running.ended().await;
    assert_eq!(e.ending, Ending::TimedOut);
    assert!(e.usage.wall >= Span::from_ms(300), "{}", e.usage.wall);
    assert_eq!(pids.iter().filter(|pid| is_alive(pid)).count(), 0);
}

#[tokio::test]
async fn a_task_that_cleans_up_within_its_grace_is_not_killed() {
    let b = Bench::new();
    let script = "trap 'sleep .1; echo cleaned; exit 0' TERM; echo up; while :; do sleep .05; done";
    let job = Job { time_limit: Some(Span::from_ms(300)), grace: Span::from_secs(30), ..b.shell(script) };
    let e = b.run(job).await;
    assert!(e.ending == Ending::TimedOut && b.log().contains("cleaned"), "{:?} {}", e.ending, b.log());
    assert!(e.usage.wall < Span::from_secs(20));
    // The leader dies at once, its child is the one that cleans up.
    let script = "(trap 'sleep .1; echo cleaned; exit 0' TERM; echo up; while :; do sleep .05; done) & wait";
    let e = b
        .run(Job { time_limit: Some(Span::from_ms(300)), grace: Span::from_secs(30), ..b.shell(script) })
        .await;
    assert!(e.ending == Ending::TimedOut && b.log().contains("cleaned"), "{:?} {}", e.ending, b.log());
}

#[tokio::test]
async fn what_a_task_leaves_running_ends_with_it() {
    let b = Bench::new();
    let e = b.run(b.shell("sleep 100 & echo $!; setsid sleep 100 & echo $!; sleep .1; exit 4")).await;
    assert_eq!(e.ending, Ending::Exited { code: 4 });
    assert!(b.log().lines().count() == 2 && b.log().lines().all(|pid| !is_alive(pid)));
}

#[tokio::test]
async fn a_cancelled_job_ends_also_when_it_is_stopped() {
    let b = Bench::new();
    let running = b.helper.spawn(b.shell("echo $$; kill -STOP $$")).await;
    let pid = b.lines(1).await.remove(0);
    b.helper.kill(running.id(), Span::from_secs(60)).await;
    let e = running.ended().await;
    assert_eq!(e.ending, Ending::Cancelled);
    assert!(!is_alive(&pid));
    let deaf = b.helper.spawn(b.shell("trap '' TERM; echo up; sleep 100; sleep 100")).await;
    b.lines(1).await;
    b.helper.kill(deaf.id(), Span::from_secs(60)).await;
    b.helper.kill(deaf.id(), Span::ZERO).await;
    assert_eq!(deaf.ended().await.ending, Ending::Cancelled, "a second request shortens the grace");
}

#[tokio::test]
async fn usage_is_the_whole_groups() {
    let b = Bench::new();
    let check = |e: Exited, cpu_ms: f64| {
        assert_eq!(e.ending, Ending::Done);
        let off = e.usage.cpu.as_ms() / cpu_ms;
        // The dynamic linker and the test harness before `ENTER` take a few milliseconds.
        assert!((0.98..1.10).contains(&off), "{} instead of {cpu_ms} ms", e.usage.cpu);
    };
    check(b.run(b.job(&[&me(), "__burn-ms", "300"])).await, 300.0);
    check(b.run(b.shell("\"$0\" __burn-ms 200 & \"$0\" __burn-ms 200; wait")).await, 400.0);
    // Its parent dies first, so the helper reaps it.
    let script = "(\"$0\" __burn-ms 300 & echo $!) > pid; while kill -0 $(cat pid) 2>&-; do sleep .02; done";
    let e = b.run(b.shell(script)).await;
    assert!(e.usage.cpu >= Span::from_ms(300), "{}", e.usage.cpu);
}

#[tokio::test]
async fn memory_and_disk_are_measured() {
    let b = Bench::new();
    let held = b.run(b.job(&[&me(), "__hold-mib", "64"])).await.usage.peak_memory_bytes >> 20;
    assert!((64..80).contains(&held), "{held} MiB");
    let small = b.run(b.job(&["true"])).await.usage.peak_memory_bytes >> 20;
    assert!(small < 16, "{small} MiB: the helper's own size shows through");
    println!("a child of no size is measured as {small} MiB");
    let e = b.run(b.job(&["dd", "if=/dev/zero", "of=file", "bs=1M", "count=8", "oflag=direct"])).await;
    if e.ending == Ending::Done {
        let written = e.usage.write_bytes as f64 / (8 << 20) as f64;
        assert!((1.0..1.05).contains(&written), "{written}");
    }
}

#[tokio::test]
async fn moments_are_on_the_daemons_clock() {
    let b = Bench::new();
    let clock = Clock::start(Time::ZERO);
    let before = clock.now();
    let e = b.run(b.shell("sleep .1")).await;
    let after = clock.now();
    // Two clocks read the wall separately: it may be slewed a little in between.
    let slack = Span::from_ms(5);
    assert!(before <= e.started + slack && e.ended <= after + slack, "{before:?} {e:?} {after:?}");
    let took = e.ended.since(e.started);
    assert!(took >= Span::from_ms(100) && took == e.usage.wall);
}

#[tokio::test]
async fn nothing_is_left_when_the_daemons_end_closes_and_the_lock_is_held_until_then() {
    let dir = tempfile::tempdir().unwrap();
    let lock = fs::File::create(dir.path().join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let exe = std::env::current_exe().unwrap();
    let helper = Helper::start(&exe, Some(lock.as_fd()), Clock::start(Time::ZERO)).unwrap();
    let b = Bench { dir, helper };
    let script = "trap '' TERM INT HUP; sleep 100 & echo $!; setsid sleep 100 & echo $!; echo $$; wait; wait; sleep 100";
    let running = b.helper.spawn(b.shell(script)).await;
    let pids = b.lines(3).await;
    // The daemon dies: its descriptors close. The helper holds the lock on.
    drop(lock);
    let again = fs::File::open(b.dir.path().join("lock")).unwrap();
    let try_lock = || rustix::fs::flock(&again, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    assert!(try_lock().is_err());
    let Bench { helper, dir: _dir } = b;
    drop(helper);
    eventually(|| try_lock().ok()).await;
    assert!(pids.iter().all(|pid| !is_alive(pid)), "the lock is released only after the last child");
    assert_eq!(running.ended().await.ending, Ending::Lost);
}

#[tokio::test]
async fn jobs_of_a_killed_helper_are_lost_and_gone_and_a_new_one_can_be_started() {
    let b = Bench::new();
    let script = "trap '' TERM; sleep 100 & echo $!; setsid sleep 100 & echo $!; (setsid sh -c 'sleep 100 & echo $!; wait' &); echo $$; wait; sleep 100";
    let running = b.helper.spawn(b.shell(script)).await;
    let pids = b.lines(4).await;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(b.helper.pid() as i32).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    assert_eq!(running.ended().await.ending, Ending::Lost);
    assert_eq!(pids.iter().filter(|pid| is_alive(pid)).count(), 0);
    b.helper.gone().await;
    assert_eq!(b.run(b.job(&["true"])).await.ending, Ending::Lost);
    let again = Bench { helper: start(), ..b };
    assert_eq!(again.run(again.job(&["true"])).await.ending, Ending::Done);
    again.helper.stop().await;
}

#[tokio::test]
async fn signals_for_the_daemon_do_not_end_the_helper() {
    use rustix::process::{Pid, Signal, kill_process};
    let b = Bench::new();
    let running = b.helper.spawn(b.shell("sleep .3; exit 7")).await;
    let pid = Pid::from_raw(b.helper.pid() as i32).unwrap();
    b.run(b.job(&["true"])).await;
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        kill_process(pid, signal).unwrap();
    }
    assert_eq!(running.ended().await.ending, Ending::Exited { code: 7 });
    // A session of its own: the terminal's signals do not reach it.
    assert_eq!(rustix::process::getsid(Some(pid)).unwrap(), pid);
    b.helper.stop().await;
    assert!(!is_alive(&pid.as_raw_nonzero().to_string()));
}

#[tokio::test]
async fn bounds_reach_the_child() {
    let b = Bench::new();
    let bounds = Bounds {
        nice: Some(5),
        io_level: Some(7),
        cpus: vec![0],
        rlimits: vec![(Rlimit::FileSize, 4096), (Rlimit::OpenFiles, 32), (Rlimit::AddressSpace, 1 << 30)],
        ..Bounds::default()
    };
    let script = "nice; ulimit -n; ulimit -v; grep Cpus_allowed_list /proc/self/status; ionice; head -c 9999 /dev/zero > big; wc -c < big";
    let e = b.run(Job { bounds, ..b.shell(script) }).await;
    assert_eq!(e.ending, Ending::Done, "{}", b.log());
    let log = b.log();
    for line in ["5\n", "32\n", "1048576\n", "Cpus_allowed_list:\t0\n", "best-effort: prio 7\n", "4096\n"] {
        assert!(log.contains(line), "{line:?} in {log}");
    }
}

#[tokio::test]
async fn a_child_joins_its_cgroup() {
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/cpu"].map(PathBuf::from);
    let name = format!("forestage-test-{}", std::process::id());
    let Some(cgroup) = roots
        .iter()
        .filter(|root| root.join("cgroup.procs").exists())
        .map(|root| root.join(&name))
        .find(|cgroup| fs::create_dir(cgroup).is_ok())
    else {
        println!("no cgroup can be made here");
        return;
    };
    let b = Bench::new();
    let job = |cgroup| Job {
        bounds: Bounds { cgroup: Some(cgroup), ..Bounds::default() },
        ..b.job(&["grep", "-c", &format!("/{name}$"), "/proc/self/cgroup"])
    };
    let e = b.run(job(cgroup.clone())).await;
    fs::remove_dir(&cgroup).unwrap();
    assert_eq!(e.ending, Ending::Done, "{}", b.log());
    let e = b.run(job(cgroup)).await;
    assert!(matches!(e.ending, Ending::SpawnFailed { error } if error.starts_with("join /sys/fs/cgroup/")));
}

#[tokio::test]
async fn landlock_lets_the_child_write_only_where_it_may() {
    let b = Bench::new();
    fs::create_dir(b.dir.path().join("out")).unwrap();
    fs::write(b.dir.path().join("old"), "old").unwrap();
    let bounds = Bounds { writable: Some(vec![b.dir.path().join("out")]), ..Bounds::default() };
    let script = "echo x > out/new || exit 1; cat old > /dev/null || exit 2; mkdir out/d && mv out/new out/d/ || exit 3; \
                  for c in 'echo x > new' 'echo x > old' 'rm old' 'mv old out/' 'ln old out/old' 'truncate -s 0 old'; do \
                  sh -c \"$c\" 2>/dev/null && echo \"$c was allowed\"; done; true";
    let e = b.run(Job { bounds, ..b.shell(script) }).await;
    assert_eq!((e.ending, b.log().as_str()), (Ending::Done, ""));
    let missing = Bounds { writable: Some(vec!["/nowhere".into()]), ..Bounds::default() };
    let e = b.run(Job { bounds: missing, ..b.job(&["true"]) }).await;
    assert!(matches!(e.ending, Ending::SpawnFailed { error } if error.starts_with("writable /nowhere: ")));
}

#[tokio::test]
async fn root_can_run_children_as_somebody_else_and_with_read_only_inputs() {
    if !rustix::process::geteuid().is_root() {
        println!("needs root");
        return;
    }
    let b = Bench::new();
    fs::set_permissions(b.dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let user = Some(User { uid: 65534, gid: 65534, groups: vec![100] });
    let e = b
        .run(Job {
            bounds: Bounds { user, ..Bounds::default() },
            ..b.shell("id -u; id -g; id -G; kill -9 1")
        })
        .await;
    assert_eq!(e.ending, Ending::Exited { code: 1 });
    assert!(b.log().starts_with("65534\n65534\n65534 100\n"), "{}", b.log());

    let input = b.dir.path().join("in");
    fs::create_dir(&input).unwrap();
    fs::write(input.join("00-a"), "a").unwrap();
    assert!(b.helper.can_mount(&input).await);
    assert!(!b.helper.can_mount(&b.dir.path().join("none")).await);
    let bounds = Bounds { read_only: vec![input.clone()], ..Bounds::default() };
    let script =
        "cat in/00-a; echo; echo x > in/00-a; chmod 0666 in/00-a; rm in/00-a; touch in/b; echo out > out";
    let e = b.run(Job { bounds, ..b.shell(script) }).await;
    assert_eq!(e.ending, Ending::Done);
    assert_eq!(b.log().matches("Read-only file system").count(), 4, "{}", b.log());
    assert_eq!(fs::read_to_string(input.join("00-a")).unwrap(), "a");
    fs::write(input.join("00-a"), "the mount is the child's alone").unwrap();
}

#[tokio::test]
async fn a_daemon_that_runs_as_a_task_tells_its_own_jobs_apart() {
    let b = Bench::new();
    assert_eq!(b.run(b.job(&[&me(), "__nested"])).await.ending, Ending::Done, "{}", b.log());
}

#[tokio::test]
async fn a_tree_that_keeps_forking_is_ended() {
    let b = Bench::new();
    let script = "trap '' TERM; while :; do (sleep 1 & setsid sleep 1 & sh -c 'sleep 1 & sleep .01') & sleep .01; done";
    let job = Job { time_limit: Some(Span::from_ms(300)), grace: Span::from_ms(50), ..b.shell(script) };
    assert_eq!(b.run(job).await.ending, Ending::TimedOut);
    assert_eq!(children_of_helper(&b), "");
}

#[tokio::test]
async fn the_pid_is_told_while_a_job_runs() {
    let b = Bench::new();
    let job = b.helper.spawn(b.shell("echo $$; sleep 100")).await;
    let (leader, id) = (job.leader(), job.id());
    let told = eventually(|| leader.pid()).await;
    assert_eq!(b.lines(1).await, [told.to_string()]);
    b.helper.kill(id, Span::ZERO).await;
    assert_eq!(job.ended().await.ending, Ending::Cancelled);
}

#[test]
fn the_helper_is_not_started_by_hand() {
    let by_hand =
        std::process::Command::new(me()).arg(helper::ARG).stdin(std::process::Stdio::null()).output();
    let by_hand = by_hand.unwrap();
    assert_eq!(by_hand.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&by_hand.stderr).contains("not by hand"));
}

#[tokio::test]
async fn many_short_tasks() {
    let b = Bench::new();
    let begun = Clock::start(Time::ZERO);
    let zero = begun.now();
    let mut left = 500;
    let mut running: std::collections::VecDeque<JobHandle> = Default::default();
    while left > 0 || !running.is_empty() {
        while left > 0 && running.len() < 4 {
            running.push_back(b.helper.spawn(b.job(&["true"])).await);
            left -= 1;
        }
        let first = running.pop_front().unwrap();
        assert_eq!(first.ended().await.ending, Ending::Done);
    }
    println!("{:.0} tasks/s, four at a time", 500.0 / begun.now().since(zero).as_s());
}

#[tokio::test]
async fn random_jobs_all_end_and_leave_nothing() {
    let b = Bench::new();
    let mut rng = fastrand::Rng::with_seed(11);
    let scripts = [
        "true",
        "exit 5",
        "kill -9 $$",
        "sleep 30",
        "trap '' TERM; sleep 30; sleep 30",
        "sleep 30 & setsid sleep 30 & exit 0",
        "(setsid sh -c 'sleep 30 & wait' &); head -c 300000 /dev/zero; sleep .02",
        "yes",
        "kill -STOP $$",
    ];
    let mut running: Vec<JobHandle> = vec![];
    for step in 0..150 {
        let mut job = b.shell(scripts[rng.usize(..scripts.len())]);
        job.log = b.dir.path().join(format!("log-{step}"));
        job.log_cap_bytes = rng.u64(..200_000);
        job.time_limit = Some(Span::from_ms(rng.u64(1..300)));
        job.grace = Span::from_ms(rng.u64(..100));
        running.push(b.helper.spawn(job).await);
        if rng.bool() {
            let victim = &running[rng.usize(..running.len())];
            b.helper.kill(victim.id(), Span::from_ms(rng.u64(..50))).await;
        }
        if running.len() > 12 {
            let e = running.swap_remove(rng.usize(..running.len())).ended().await;
            assert!(e.ended >= e.started && e.log_bytes <= 200_000);
        }
    }
    for job in running {
        job.ended().await;
    }
    assert_eq!(children_of_helper(&b), "");
    let open = fs::read_dir(format!("/proc/{}/fd", b.helper.pid())).unwrap().count();
    assert!(open < 12, "{open} descriptors open: some job's pipe was kept");
}
