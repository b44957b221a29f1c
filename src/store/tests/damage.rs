//! Single flipped bits and torn logs: reported or harmless, never wrong in silence, never a panic.

use super::*;

/// A record in mid-life: queued, running, finished, reopened and forgotten tasks, in the database and the log.
fn record_in_use(dir: &Path) -> Contents {
    let (mut tasks, _) = open::open(dir, Durability::Sync, &mut |_| ()).unwrap();
    let mut commit = |changes: Vec<Change>| tasks.commit(std::iter::once(&changes[..])).unwrap();
    commit((1..=400).map(submit).collect());
    commit((1..=200).map(|i| start(i, 1)).collect());
    commit((1..=150).map(|i| Change::Finished(outcome(i, i))).collect());
    tasks.checkpoint().unwrap();
    let mut commit = |changes: Vec<Change>| tasks.commit(std::iter::once(&changes[..])).unwrap();
    for n in 0..40 {
        let id = 401 + n;
        commit(vec![submit(id), start(id - 200, 1), Change::Finished(outcome(id - 250, id - 250))]);
    }
    std::mem::forget(tasks);
    let copy = scratch();
    for name in FILES {
        std::fs::copy(dir.join(name), copy.path().join(name)).unwrap();
    }
    let mut all = open(copy.path(), true).unwrap().contents;
    add_finished(copy.path(), &mut all).unwrap();
    all
}

/// Opens a copy with `file` changed, and says whether it is as `sound`, or says that it is not.
fn judge(
    dir: &Path,
    sound: &Contents,
    file: &str,
    what: &str,
    change: impl Fn(&mut Vec<u8>),
) -> &'static str {
    let damaged = scratch();
    for name in FILES {
        let mut bytes = std::fs::read(dir.join(name)).unwrap();
        if name == file {
            change(&mut bytes);
        }
        std::fs::write(damaged.path().join(name), bytes).unwrap();
    }
    let mut on_disk = match open(damaged.path(), true) {
        Ok(o) => o,
        Err(e) => {
            assert!(matches!(e, Error::Unreadable { .. } | Error::Newer { .. }), "{what}: {e}");
            return "refused";
        }
    };
    // What is given is sound, whatever else there is to say.
    for (id, task) in &on_disk.contents.tasks {
        let mut expected = sound.tasks[id].clone();
        // Keys have a page of their own; a lost one is missed below.
        expected.key = expected.key.filter(|_| task.key.is_some());
        assert_eq!(*task, expected, "{what}");
    }
    let mut all = on_disk.contents.clone();
    let listed = add_finished(damaged.path(), &mut all);
    let reported = !on_disk.opened.damage.is_empty() || !matches!(listed, Ok(0));
    let same = all == *sound;
    let checked = on_disk.record.checker()().unwrap();
    assert!(same || reported || !checked.is_empty(), "{what}: wrong in silence");
    assert_eq!(on_disk.twice, [0; 0], "{what}");
    // Work goes on, or stops with an error; after the restart that an error asks for, it goes on.
    if let Err(e) = put(&mut on_disk.record, vec![submit(5_000), start(5_000, 1)]) {
        assert!(e.is_fatal() && (reported || !checked.is_empty()), "{what}: {e}");
    }
    drop(on_disk);
    let mut again = open(damaged.path(), true).unwrap_or_else(|e| panic!("{what}: second start: {e}"));
    if !again.contents.live.contains_key(&5_000) {
        put(&mut again.record, vec![submit(5_000)])
            .unwrap_or_else(|e| panic!("{what}: after the second start: {e}"));
    }
    match (same, reported) {
        (_, true) => "reported",
        (true, false) if checked.is_empty() => "harmless",
        _ => "found by the check",
    }
}

/// Flips one bit at `n` places of those sectors of the file that hold anything.
fn flip(file: &str, n: usize, seed: u64) -> BTreeMap<&'static str, usize> {
    let dir = scratch();
    let sound = record_in_use(dir.path());
    let bytes = std::fs::read(dir.path().join(file)).unwrap();
    let used: Vec<_> =
        bytes.chunks(512).enumerate().filter(|(_, s)| s.iter().any(|b| *b != 0)).map(|(i, _)| i).collect();
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut verdicts = BTreeMap::new();
    for _ in 0..n {
        let at = (used[rng.usize(..used.len())] * 512 + rng.usize(..512)).min(bytes.len() - 1);
        let bit = rng.u8(..8);
        let what = format!("{file}, byte {at}, bit {bit}");
        *verdicts.entry(judge(dir.path(), &sound, file, &what, |b| b[at] ^= 1 << bit)).or_default() += 1;
    }
    println!("{file}: {verdicts:?}");
    verdicts
}

#[test]
fn a_flipped_bit_in_the_database_is_reported_or_harmless() {
    let verdicts = flip("tasks.db", 100, 1);
    assert!(verdicts["reported"] > 20, "{verdicts:?}");
}

#[test]
fn a_flipped_bit_in_the_log_is_reported_or_harmless() {
    let verdicts = flip("tasks.db-wal", 100, 2);
    assert!(verdicts["reported"] > 60, "{verdicts:?}");
}

#[test]
fn a_damaged_mark_costs_nothing() {
    let verdicts = flip("tasks.mark", 24, 3);
    assert_eq!(verdicts.keys().copied().collect::<Vec<_>>(), ["harmless"]);
}

/// Where transactions end in a log.
fn commits(wal: &[u8]) -> Vec<usize> {
    let frame = 24 + u32::from_be_bytes(wal[8..12].try_into().unwrap()) as usize;
    let ends = (32..).step_by(frame).take_while(|at| at + frame <= wal.len());
    let ends = ends.filter(|at| wal[at + 8..at + 16] == wal[16..24] && wal[at + 4..at + 8] != [0; 4]);
    ends.map(|at| at + frame).collect()
}

#[test]
fn the_torn_end_of_a_commit_nobody_was_told_of_is_normal() {
    let dir = scratch();
    let sound = record_in_use(dir.path());
    let wal = dir.path().join("tasks.db-wal");
    let mark = dir.path().join("tasks.mark");
    let (before, mark_before) = (std::fs::read(&wal).unwrap(), std::fs::read(&mark).unwrap());
    // One more transaction, whose acknowledgement the mark never saw.
    let (mut tasks, _) = open::open(dir.path(), Durability::Interval, &mut |_| ()).unwrap();
    tasks.sync().unwrap();
    let synced = (std::fs::read(&wal).unwrap(), std::fs::read(&mark).unwrap());
    assert_eq!(commits(&synced.0).len(), commits(&before).len() + 1, "the start itself is one");
    assert_ne!(synced.1, mark_before);
    tasks.commit(std::iter::once(&[submit(900), submit(901)][..])).unwrap();
    let after = std::fs::read(&wal).unwrap();
    assert_eq!(std::fs::read(&mark).unwrap(), synced.1);
    std::mem::forget(tasks);
    let (from, to) = (*commits(&synced.0).last().unwrap(), *commits(&after).last().unwrap());
    assert!(to > from);
    let mut rng = fastrand::Rng::with_seed(5);
    for round in 0..40 {
        let mut torn = after.clone();
        match round % 3 {
            0 => torn.truncate(rng.usize(from..to)),
            1 => {
                let at = rng.usize(from..to);
                torn[at..to].fill(0);
            }
            _ => {
                // Some sectors of the transaction never came to the disk.
                let mut gone = false;
                for at in (from..to).step_by(512) {
                    if rng.bool() {
                        torn[at..(at + 512).min(to)].fill(0);
                        gone = true;
                    }
                }
                if !gone {
                    continue;
                }
            }
        }
        let copy = scratch();
        std::fs::copy(dir.path().join("tasks.db"), copy.path().join("tasks.db")).unwrap();
        std::fs::write(copy.path().join("tasks.db-wal"), torn).unwrap();
        std::fs::write(copy.path().join("tasks.mark"), &synced.1).unwrap();
        let Open { opened, mut contents, .. } = open(copy.path(), true).unwrap();
        assert_eq!(opened.damage, [], "round {round}");
        add_finished(copy.path(), &mut contents).unwrap();
        assert_eq!(contents, sound, "round {round}");
    }
}

#[test]
fn a_log_cut_before_the_last_acknowledged_commit_is_damage() {
    let dir = scratch();
    let sound = record_in_use(dir.path());
    let ends = commits(&std::fs::read(dir.path().join("tasks.db-wal")).unwrap());
    for (i, end) in ends.iter().enumerate().step_by(5) {
        let what = format!("log cut in commit {i}");
        let verdict = judge(dir.path(), &sound, "tasks.db-wal", &what, |b| b.truncate(end - 100));
        assert_eq!(verdict, "reported", "{what}");
    }
    let verdict = judge(dir.path(), &sound, "tasks.db-wal", "log gone", Vec::clear);
    assert_eq!(verdict, "reported");
}
