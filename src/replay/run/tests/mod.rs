//! What a replay must get right whatever the cores decide.

use super::*;
use crate::replay::trace::Trace;
use std::path::Path;

mod rehearsal;

/// Chains of three steps on a few volumes, each reading its volume's image; one volume is worked on at a time.
pub(super) fn chains(volumes: u32, rounds: u32, gap_ms: u64) -> Trace {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut text = "time_s,task_type,entity,duration_s,bytes,objects\n".to_owned();
    let mut at_ms = 0;
    for _ in 0..rounds {
        let v = rng.u32(..volumes);
        for step in ["create", "copy", "verify"] {
            at_ms += rng.u64(gap_ms / 2..gap_ms * 2);
            let (s, took) = (at_ms as f64 / 1e3, rng.f64() * 0.04);
            text += &format!("{s},{step},vol-{v},{took:.6},,vol-{v}/{step}.img:{}\n", 200_000 + 1_000 * v);
        }
    }
    Trace::parse(text.as_bytes(), Path::new("chains.csv")).unwrap()
}

pub(super) fn options() -> Options {
    Options {
        workers: 3,
        pools: 1,
        capacity: Capacity::Share(0.3),
        policy: Policy::Lru,
        connections: 4,
        link: LinkSettings { rtt: Span::from_ms(20), bytes_per_s: 40e6, connection_bytes_per_s: 10e6 },
    }
}

#[test]
fn every_task_of_the_trace_ends_done_and_takes_at_least_its_time() {
    let trace = chains(12, 60, 30);
    let script = Arc::new(Script::new(&trace, 3));
    let mut ended = 0;
    let figures = run(&script, &options(), true, |d| ended += u64::from(ends_a_task(d))).unwrap();
    assert_eq!((figures.tasks, figures.failed, ended), (180, 0, 180));
    assert!(figures.latency_ms_mean >= figures.data_wait_ms_mean);
    assert!(figures.bytes_fetched >= script.footprint_bytes, "everything was fetched once at least");
}

#[test]
fn staging_saves_waits_that_come_again() {
    let script = Arc::new(Script::new(&chains(12, 150, 60), 3));
    let off = run(&script, &options(), false, |_| {}).unwrap();
    let on = run(&script, &options(), true, |_| {}).unwrap();
    assert_eq!((off.staged, off.tasks), (0, on.tasks));
    assert!(on.data_wait_s < 0.8 * off.data_wait_s, "{on:?}\n{off:?}");
    assert!(on.hit_ratio > off.hit_ratio);
    let saved = Saved::between(&off, &on);
    assert!((saved.data_wait_s - (off.data_wait_s - on.data_wait_s)).abs() < 1e-9);
}

#[test]
fn the_same_trace_gives_the_same_decisions() {
    let script = Arc::new(Script::new(&chains(8, 40, 20), 3));
    let mut logs = vec![];
    for _ in 0..2 {
        let mut log = vec![];
        run(&script, &options(), true, |d| log.push(serde_json::to_string(d).unwrap())).unwrap();
        logs.push(log);
    }
    assert!(logs[0].len() > 360, "accepted, placed, ended of each task, and what was staged");
    assert_eq!(logs[0], logs[1]);
}

#[test]
fn an_idle_year_costs_nothing_and_changes_nothing_but_what_fades() {
    let trace = chains(6, 30, 40);
    let later = {
        let mut far = trace.clone();
        let year = Span::from_secs(365 * 86_400);
        let half = far.rows.len() / 2;
        far.rows[half..].iter_mut().for_each(|r| r.time = r.time + year);
        far
    };
    let script = Arc::new(Script::new(&later, 3));
    let figures = run(&script, &options(), true, |_| {}).unwrap();
    assert_eq!(figures.tasks, 90);
    assert!(figures.span_s > 31_536_000.0);
    assert!(figures.latency_ms_mean < 1_000.0, "nobody waits for the year to pass");
}
