//! Single promises, each on a small record.

use super::*;

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    for inline in [true, false] {
        let dir = scratch();
        let Open { mut record, opened, contents, .. } = open(dir.path(), inline).unwrap();
        assert_eq!((opened.epoch, opened.last_id, contents), (1, 0, Contents::default()));
        put(&mut record, (1..=5).map(submit).collect()).unwrap();
        put(&mut record, vec![start(1, 1), start(2, 1), start(3, 1)]).unwrap();
        put(&mut record, vec![Change::Finished(outcome(2, 1)), Change::Finished(outcome(3, 2))]).unwrap();
        record.close().unwrap();
        let Open { record, opened, contents, .. } = open(dir.path(), inline).unwrap();
        let Opened { epoch, last_id, last_seq, last_time, live, finished, damage } = opened;
        assert_eq!((epoch, last_id, last_seq, live, finished, damage), (2, 5, 2, 3, 2, vec![]));
        assert_eq!(last_time, Time::from_us(3_000_002));
        assert_eq!(contents.live.keys().copied().collect::<Vec<_>>(), [1, 4, 5]);
        assert_eq!(contents.live[&1].state, LiveState::Running);
        assert_eq!(contents.live[&1].worker.as_deref(), Some("fast"));
        for id in [1, 4, 5] {
            assert_eq!(contents.tasks[&id], task(id));
        }
        let keyed = |id: u64| task(id).key.map(|k| (id, k.to_string()));
        assert_eq!(contents.finished_keys, [2, 3].into_iter().filter_map(keyed).collect());
        record.close().unwrap();
    }
}

#[test]
fn a_refused_batch_changes_nothing() {
    let dir = scratch();
    let mut record = open(dir.path(), true).unwrap().record;
    put(&mut record, vec![submit(1)]).unwrap();
    let mut refused = |changes: Vec<Change>| {
        let result = put(&mut record, changes.clone());
        assert!(matches!(result, Err(Error::Refused { .. })), "{changes:?}: {result:?}");
    };
    refused(vec![submit(2), submit(1)]);
    refused(vec![start(2, 1)]);
    refused(vec![start(1, 0)]);
    refused(vec![submit(0)]);
    refused(vec![submit(u64::MAX)]);
    refused(vec![Change::Reopen { id: TaskId(1), state: LiveState::Queued, reset_attempts: false }]);
    refused(vec![start(1, 1), start(1, 1)]);
    put(&mut record, vec![start(1, 1), Change::Finished(outcome(1, 1))]).unwrap();
    let mut refused = |changes| assert!(matches!(put(&mut record, changes), Err(Error::Refused { .. })));
    refused(vec![Change::Finished(outcome(1, 2))]);
    refused(vec![start(1, 2)]);
    refused(vec![submit(3), start(3, 1), Change::Finished(outcome(3, 1))]);
    let mut reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.task(TaskId(2)).unwrap(), None);
    assert_eq!(reader.task(TaskId(1)).unwrap().unwrap().done, [outcome(1, 1)]);
    assert_eq!(reader.counts().unwrap().live, [0; 4]);
}

#[test]
fn a_refused_batch_does_not_take_its_group_with_it() {
    let dir = scratch();
    let (mut tasks, _) = open::open(dir.path(), Durability::Sync, &mut |_| ()).unwrap();
    let (good, bad, better) = ([submit(1)], [submit(2), submit(2)], [submit(3)]);
    let batches: [&[Change]; 3] = [&good, &bad, &better];
    assert!(matches!(tasks.commit(batches.into_iter()), Err(Error::Refused { .. })));
    let results = tasks.commit_each(&batches).unwrap();
    assert!(matches!(results[..], [Ok(()), Err(Error::Refused { .. }), Ok(())]), "{results:?}");
    tasks.close().unwrap();
    let contents = open(dir.path(), true).unwrap().contents;
    assert_eq!(contents.live.keys().copied().collect::<Vec<_>>(), [1, 3]);
}

#[test]
fn answers_come_in_the_order_of_submission_and_pending_bytes_return_to_zero() {
    let dir = scratch();
    let mut record = open(dir.path(), false).unwrap().record;
    let (send, recv) = mpsc::channel();
    let mut most = 0;
    for id in 1..=2_000 {
        let send = send.clone();
        record.submit(vec![submit(id)], Box::new(move |r| send.send((id, r)).unwrap()));
        most = most.max(record.pending_bytes());
    }
    for id in 1..=2_000 {
        let (got, result) = recv.recv().unwrap();
        assert_eq!(got, id);
        result.unwrap();
    }
    assert!(most > 0 && record.pending_bytes() == 0);
    record.close().unwrap();
}

#[test]
fn numbers_of_forgotten_tasks_are_not_used_again() {
    let dir = scratch();
    let mut record = open(dir.path(), true).unwrap().record;
    put(&mut record, vec![submit(1), submit(7), Change::Finished(outcome(7, 9))]).unwrap();
    put(&mut record, vec![Change::Forget { ids: vec![TaskId(1), TaskId(7), TaskId(50)] }]).unwrap();
    record.close().unwrap();
    let Open { opened, contents, .. } = open(dir.path(), true).unwrap();
    assert_eq!((opened.last_id, opened.last_seq), (7, 9));
    assert_eq!(contents.live.keys().copied().collect::<Vec<_>>(), [1], "an unfinished task is not forgotten");
}

#[test]
fn a_reopened_task_keeps_its_outcomes_until_it_is_forgotten() {
    let dir = scratch();
    let mut record = open(dir.path(), true).unwrap().record;
    put(&mut record, vec![submit(1), start(1, 1), Change::Finished(outcome(1, 1))]).unwrap();
    let reopen = Change::Reopen { id: TaskId(1), state: LiveState::Queued, reset_attempts: false };
    put(&mut record, vec![reopen.clone()]).unwrap();
    let mut reader = record.reader().unwrap();
    let all = Filter::default();
    assert!(reader.finished(&all, None, 10).unwrap().rows.is_empty());
    assert_eq!(reader.task(TaskId(1)).unwrap().unwrap().live.unwrap().attempt, 1);
    put(&mut record, vec![start(1, 2), Change::Finished(outcome(1, 2)), reopen]).unwrap();
    put(&mut record, vec![Change::Finished(outcome(1, 3))]).unwrap();
    assert_eq!(reader.finished(&all, None, 10).unwrap().rows, [outcome(1, 3)]);
    assert_eq!(reader.task(TaskId(1)).unwrap().unwrap().done, [outcome(1, 3), outcome(1, 2), outcome(1, 1)]);
    let mut learned = Vec::new();
    reader.outcomes_since(1, |d| learned.push(d.seq)).unwrap();
    assert_eq!(learned, [2, 3]);
    put(&mut record, vec![Change::Forget { ids: vec![TaskId(1)] }]).unwrap();
    assert_eq!(reader.task(TaskId(1)).unwrap(), None);
    assert_eq!(reader.outcomes_since(0, |d| panic!("{d:?} was left")).unwrap(), 0);
}

#[test]
fn edits_and_requeues_are_there_after_a_restart() {
    let dir = scratch();
    let mut record = open(dir.path(), true).unwrap().record;
    let later = Time::from_us(1 << 60);
    let requeue = Change::Requeue {
        id: TaskId(2),
        state: LiveState::Delayed,
        not_before: Some(later),
        note: Some("exit code 3".into()),
    };
    put(
        &mut record,
        vec![
            submit(1),
            Change::Edit { id: TaskId(1), priority: Some(9), not_before: Some(Some(Time::MAX)) },
            submit(2),
            start(2, 1),
            requeue,
        ],
    )
    .unwrap();
    record.close().unwrap();
    let contents = open(dir.path(), true).unwrap().contents;
    assert_eq!(contents.tasks[&1], TaskRow { priority: 9, ..task(1) });
    assert_eq!(contents.live[&1].not_before, Some(Time::MAX));
    let expected = Live {
        attempt: 1,
        not_before: Some(later),
        note: Some("exit code 3".into()),
        ..Live::new(TaskId(2), LiveState::Delayed)
    };
    assert_eq!(contents.live[&2], expected);
}

#[test]
fn lists_are_filtered_and_paged_newest_first() {
    let dir = scratch();
    let mut record = open(dir.path(), true).unwrap().record;
    let n = 300;
    put(&mut record, (1..=n).map(submit).collect()).unwrap();
    put(&mut record, (1..=n).map(|i| Change::Finished(outcome(n + 1 - i, i))).collect()).unwrap();
    let mut reader = record.reader().unwrap();
    let filters = [
        Filter::default(),
        Filter { states: vec![DoneState::Failed], type_name: Some("copy".into()) },
        Filter { states: vec![DoneState::Failed, DoneState::Cancelled], type_name: None },
        Filter { states: vec![], type_name: Some("verify".into()) },
        Filter { states: vec![], type_name: Some("no such type".into()) },
    ];
    for filter in filters {
        let fits = |d: &Done| {
            (filter.states.is_empty() || filter.states.contains(&d.state))
                && filter.type_name.as_ref().is_none_or(|t| *t == d.type_name)
        };
        let expected: Vec<_> = (1..=n).rev().map(|s| outcome(n + 1 - s, s)).filter(fits).collect();
        let (mut got, mut before) = (Vec::new(), None);
        loop {
            let page = reader.finished(&filter, before, 7).unwrap();
            assert!(page.rows.len() <= 7);
            got.extend(page.rows);
            match page.next {
                Some(next) => before = Some(next),
                None => break,
            }
        }
        assert_eq!(got, expected, "{filter:?}");
    }
    assert_eq!(reader.bodies(&[TaskId(3), TaskId(999)]).unwrap(), [TaskRow { key: None, ..task(3) }]);
}

#[test]
fn retention_goes_by_age_and_bytes_and_stops_at_what_was_not_learned() {
    let dir = scratch();
    let mut record = open(dir.path(), true).unwrap().record;
    put(&mut record, (1..=100).map(submit).collect()).unwrap();
    put(&mut record, (1..=90).map(|i| Change::Finished(outcome(i, i))).collect()).unwrap();
    let mut reader = record.reader().unwrap();
    let ids = |v: Vec<TaskId>| v.into_iter().map(|t| t.0).collect::<Vec<_>>();
    let ended = |seq: u64| outcome(1, seq).ended;
    assert_eq!(ids(reader.expired(ended(31), None, 1_000, 200).unwrap()), (1..=30).collect::<Vec<_>>());
    assert_eq!(ids(reader.expired(ended(31), None, 11, 200).unwrap()), (1..=10).collect::<Vec<_>>());
    assert_eq!(ids(reader.expired(ended(31), None, 1_000, 5).unwrap()), [1, 2, 3, 4, 5]);
    assert_eq!(ids(reader.expired(Time::ZERO, Some(1), 61, 200).unwrap()), (1..=60).collect::<Vec<_>>());
    assert_eq!(ids(reader.expired(Time::ZERO, Some(1 << 30), 61, 200).unwrap()), [0; 0]);
    let used = reader.used_bytes().unwrap();
    let ids = reader.expired(ended(1_000), None, 1_000, 200).unwrap();
    put(&mut record, vec![Change::Forget { ids }]).unwrap();
    assert!(reader.used_bytes().unwrap() < used);
    assert_eq!(reader.counts().unwrap(), Counts { live: [10, 0, 0, 0], done: [0; 3] });
}

#[test]
fn an_idle_record_gives_pages_back_and_empties_its_log() {
    let dir = scratch();
    let (mut tasks, _) = open::open(dir.path(), Durability::Sync, &mut |_| ()).unwrap();
    let n = 20_000;
    let submits: Vec<_> = (1..=n).map(submit).collect();
    tasks.commit(std::iter::once(&submits[..])).unwrap();
    let ends: Vec<_> = (1..=n).map(|i| Change::Finished(outcome(i, i))).collect();
    tasks.commit(std::iter::once(&ends[..])).unwrap();
    while tasks.is_untidy() {
        tasks.tidy().unwrap();
    }
    let size = || std::fs::metadata(dir.path().join("tasks.db")).unwrap().len();
    let full = size();
    for ids in (1..=n).map(TaskId).collect::<Vec<_>>().chunks(200) {
        tasks.commit(std::iter::once(&[Change::Forget { ids: ids.to_vec() }][..])).unwrap();
    }
    let mut steps = 0;
    while tasks.is_untidy() {
        tasks.tidy().unwrap();
        steps += 1;
    }
    assert!(size() < full / 2 && steps > 1, "{full} bytes became {} in {steps} steps", size());
    // A void log: what is in the database is all there is.
    assert_eq!(wal::scan(&dir.path().join("tasks.db-wal"), None).unwrap(), wal::Found::Empty);
    tasks.commit(std::iter::once(&[submit(n + 1)][..])).unwrap();
    let copy = scratch();
    for name in FILES {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let Open { opened, contents, .. } = open(copy.path(), true).unwrap();
    assert_eq!((opened.damage, contents.live.len(), opened.last_id), (vec![], 1, n + 1));
}

#[test]
fn interval_commits_reach_the_disk_within_the_second_and_at_close() {
    let dir = scratch();
    let options = Options { durability: Durability::Interval, ..Options::default() };
    let (mut record, _) = Record::open(dir.path(), options, |_| ()).unwrap();
    let mark = || std::fs::read(dir.path().join("tasks.mark")).unwrap();
    let before = mark();
    let mut id = 0;
    // Under load, not only when it is quiet.
    while mark() == before {
        id += 1;
        put(&mut record, vec![submit(id)]).unwrap();
    }
    assert!(id > 1);
    record.close().unwrap();
    assert_eq!(open(dir.path(), true).unwrap().contents.live.len(), id as usize);
}

#[test]
fn a_long_query_neither_holds_up_the_writer_nor_breaks_the_checkpoints_that_wait_for_it() {
    let dir = scratch();
    let mut record = open(dir.path(), false).unwrap().record;
    put(&mut record, (1..=100).map(submit).collect()).unwrap();
    let reader = rusqlite::Connection::open(dir.path().join("tasks.db")).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    let count = || reader.query_row("SELECT count(*) FROM task", [], |r| r.get::<_, i64>(0)).unwrap() as u64;
    assert_eq!(count(), 100);
    let n = 4 * u64::from(tasks::CHECKPOINT_FRAMES);
    let mut next = 100;
    while next < n {
        put(&mut record, (next + 1..=next + 50).map(submit).collect()).unwrap();
        // Rows all over the file, so that the log grows.
        put(&mut record, (next + 1..=next + 50).map(|i| start(i, 1)).collect()).unwrap();
        next += 50;
    }
    assert_eq!(count(), 100);
    reader.execute_batch("COMMIT").unwrap();
    put(&mut record, vec![submit(next + 1)]).unwrap();
    assert_eq!(count(), next + 1);
    drop(reader);
    record.close().unwrap();
    let Open { opened, .. } = open(dir.path(), true).unwrap();
    assert_eq!((opened.damage, opened.live), (vec![], next + 1));
}

#[test]
fn a_record_of_layout_1_is_brought_up_to_date_with_all_it_holds() {
    let dir = scratch();
    let mut record = open(dir.path(), true).unwrap().record;
    put(&mut record, vec![submit(1), submit(2), start(1, 1), Change::Finished(outcome(1, 1))]).unwrap();
    record.close().unwrap();
    // Layout 1 is layout 2 without the table of what is kept.
    let conn = rusqlite::Connection::open(dir.path().join("tasks.db")).unwrap();
    conn.execute_batch("DROP TABLE kept; PRAGMA user_version = 1").unwrap();
    drop(conn);
    let Open { mut record, opened, contents, .. } = open(dir.path(), true).unwrap();
    assert_eq!((opened.damage, opened.live, opened.finished), (vec![], 1, 1));
    assert_eq!(contents.tasks.keys().collect::<Vec<_>>(), [&2]);
    let keep = Change::Keep { kind: Kind::Group, name: "night".into(), body: Some(Bytes::from_static(b"x")) };
    put(&mut record, vec![keep]).unwrap();
    record.close().unwrap();
    let again = open(dir.path(), true).unwrap().contents;
    assert_eq!(again.kept[&(Kind::Group, "night".to_owned())], "x");
}

#[test]
fn a_record_of_a_later_version_or_of_something_else_is_refused() {
    let dir = scratch();
    open(dir.path(), true).unwrap().record.close().unwrap();
    let db = dir.path().join("tasks.db");
    let conn = rusqlite::Connection::open(&db).unwrap();
    conn.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(conn);
    let error = open(dir.path(), true).err().unwrap();
    assert!(matches!(error, Error::Newer { found: 99, .. }), "{error}");
    for bytes in [&b"not a database, but long enough to be one: "[..], &[0xff; 5_000]] {
        let dir = scratch();
        std::fs::write(dir.path().join("tasks.db"), bytes).unwrap();
        let error = open(dir.path(), true).err().unwrap();
        assert!(matches!(error, Error::Unreadable { .. }), "{error}");
    }
    let dir = scratch();
    rusqlite::Connection::open(dir.path().join("tasks.db"))
        .unwrap()
        .execute_batch("CREATE TABLE t(x)")
        .unwrap();
    assert!(matches!(open(dir.path(), true).err().unwrap(), Error::Unreadable { .. }));
}
