//! `kill -9` under load: what was acknowledged is there.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

const CHILD: &str = "FORESTAGE_TEST_KILLED_WRITER";
const RUNS: u64 = 20;

/// Not a test of its own: the process that is killed. It prints each batch's number once it is acknowledged.
#[test]
fn writer_that_is_killed() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let Open { mut record, opened, .. } = open(Path::new(&dir), false).unwrap();
    let (send, recv) = mpsc::channel::<(u64, Result<(), Error>)>();
    let mut out = std::io::stdout().lock();
    let first = opened.last_id / 10;
    for n in first.. {
        let send = send.clone();
        record.submit(batch(n), Box::new(move |r| send.send((n, r)).unwrap()));
        // Some in flight, so that groups form.
        if n >= first + 6 {
            let (n, result) = recv.recv().unwrap();
            result.unwrap();
            writeln!(out, "acknowledged {n}").unwrap();
            out.flush().unwrap();
        }
    }
}

/// Batch `n`: submits ten tasks, starts the ten of the batch before, finishes the ten before those.
fn batch(n: u64) -> Vec<Change> {
    let ten = |n: Option<u64>| n.into_iter().flat_map(|n| 1 + 10 * n..=10 + 10 * n);
    let mut all: Vec<_> = ten(Some(n)).map(submit).collect();
    all.extend(ten(n.checked_sub(1)).map(|i| start(i, 1)));
    all.extend(ten(n.checked_sub(2)).map(|i| Change::Finished(outcome(i, i))));
    all
}

#[test]
fn nothing_acknowledged_is_lost_when_the_writer_is_killed() {
    let dir = scratch();
    let mut rng = fastrand::Rng::with_seed(4);
    let mut batches = 0;
    for run in 0..RUNS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::kill::writer_that_is_killed", "--nocapture", "--test-threads=1"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = None;
        let enough = rng.usize(1..50);
        for line in lines.by_ref().map(Result::unwrap).filter(|l| l.contains("acknowledged")).take(enough) {
            acknowledged = line.rsplit(' ').next().unwrap().parse::<u64>().ok();
        }
        child.kill().unwrap();
        // What was still in the pipe was acknowledged too.
        for line in lines.map(Result::unwrap) {
            acknowledged = line.strip_prefix("acknowledged ").and_then(|n| n.parse().ok()).or(acknowledged);
        }
        child.wait().unwrap();
        let acknowledged = acknowledged.expect("some batch was acknowledged");
        batches = assert_whole(dir.path(), acknowledged, run);
    }
    assert!(batches > RUNS);
}

/// The record holds batches 0 to some last one, at least the acknowledged one, and each of them whole.
fn assert_whole(dir: &Path, acknowledged: u64, run: u64) -> u64 {
    let on_disk = open(dir, true).unwrap();
    assert_eq!(on_disk.opened.damage, [], "run {run}");
    let batches = on_disk.opened.last_id / 10;
    assert!(batches > acknowledged, "run {run}: batch {acknowledged} was acknowledged, {batches} are there");
    let finished = 10 * batches.saturating_sub(2);
    assert_eq!(on_disk.opened.last_seq, finished, "run {run}");
    let live: Vec<_> = on_disk.contents.live.values().map(|l| (l.id.0, l.attempt)).collect();
    let expected = |id| (id, u32::from(id <= 10 * (batches - 1)));
    assert_eq!(live, (finished + 1..=10 * batches).map(expected).collect::<Vec<_>>(), "run {run}");
    let mut all = on_disk.contents.clone();
    assert_eq!(add_finished(dir, &mut all).unwrap(), 0);
    assert!(all.tasks.values().eq((1..=10 * batches).map(task).collect::<Vec<_>>().iter()), "run {run}");
    assert!(
        all.done.values().eq((1..=finished).map(|i| outcome(i, i)).collect::<Vec<_>>().iter()),
        "run {run}"
    );
    on_disk.record.close().unwrap();
    batches
}
