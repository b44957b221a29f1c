//! The monitor as a whole: facts in, heat out. Its figures are shared by the tests of its parts.

use super::attempts::tests::{at, outcome, running, sample, usage};
use super::settings::{CellInfo, SourceInfo};
use super::*;
use crate::flow::Usage;
use crate::flow::{CellId, Place, SourceId, TaskId, WorkerId};
use crate::time::{Span, Time};
use proptest::prelude::*;

pub(super) const GIB: u64 = 1 << 30;

pub(super) fn capacity(cpus: f64, memory: u64, io: f64, net: f64) -> Capacity {
    Capacity {
        cpus: Some(cpus),
        memory_bytes: Some(memory),
        io_bytes_per_s: Some(io),
        net_bytes_per_s: Some(net),
    }
}

/// Two workers on a host of four processors, one outside; two cells, each with a source.
pub(super) fn settings() -> Settings {
    let worker = |name: &str, on_host| WorkerInfo {
        name: name.to_owned(),
        capacity: capacity(2.0, GIB, 100.0, 100.0),
        on_host,
        near: vec![],
    };
    let cell = |name: &str, shards| CellInfo {
        name: name.to_owned(),
        capacity: capacity(2.0, GIB, 200.0, 100.0),
        shards,
    };
    let source = |name: &str, cell| SourceInfo { name: name.to_owned(), cell: CellId(cell) };
    Settings {
        workers: vec![worker("fast", true), worker("slow", true), worker("far", false)],
        cells: vec![cell("nas", 4), cell("s3", 1)],
        sources: vec![source("volumes", 0), source("copies", 0), source("archive", 1)],
        ..Settings::default()
    }
}

pub(super) fn monitor() -> Monitor {
    Monitor::new(settings()).unwrap()
}

pub(super) fn place(cell: u16, shard: u16) -> Place {
    Place { cell: CellId(cell), shard }
}

/// The host at `s` seconds when it had `busy` of four processors busy all the time.
pub(super) fn host(s: f64, busy: f64) -> HostSample {
    HostSample {
        cpus: 4,
        cpu_busy: Span::from_s(busy * s),
        cpu_idle: Span::from_s((4.0 - busy) * s),
        memory_total_bytes: 16 * GIB,
        memory_available_bytes: 12 * GIB,
        ..HostSample::default()
    }
}

fn close(found: f64, wanted: f64) {
    assert!((found - wanted).abs() < 0.02, "{found} is not {wanted}");
}

/// A minute in which task 1 keeps `cpus` processors of `worker` busy for a place.
fn busy_minute(monitor: &mut Monitor, worker: u16, about: Place, cpus: f64, host_busy: f64) {
    monitor.running(Running { place: Some(about), ..running(1, worker, 0, 0.0) });
    for s in 1..=60 {
        let s = f64::from(s);
        monitor.children(at(s), TaskId(1), sample(cpus * s, GIB / 4, (50.0 * s) as u64));
        monitor.host(at(s), host(s, host_busy));
        monitor.round(at(s), Span::from_ms(1));
    }
}

#[test]
fn a_running_child_heats_its_worker_its_cell_and_its_shard() {
    let mut monitor = monitor();
    busy_minute(&mut monitor, 0, place(0, 2), 1.0, 1.0);
    let heat = monitor.heat(at(60.0));
    for (r, wanted) in [0.5, 0.25, 0.5, 0.0].into_iter().enumerate() {
        close(heat.workers[0][r], wanted);
    }
    for (r, wanted) in [0.5, 0.25, 0.25, 0.0].into_iter().enumerate() {
        close(heat.cells[0][r], wanted);
    }
    // A quarter of the cell's capacity is this shard's: it has all of the cell's use.
    close(heat.shards[0][2][0], 1.0);
    assert_eq!(heat.shards[0][1], [0.0; 4]);
    assert_eq!(heat.cells[1], [0.0; 4]);
    close(heat.host[0], 0.25);
    close(heat.host[1], 0.25);
    // Nobody else is hot: the host has three processors left, worker 1 wants two.
    assert_eq!(heat.workers[1][0], 0.0);
}

#[test]
fn an_idle_worker_is_hot_when_the_host_has_nothing_left_and_an_outside_one_is_not() {
    let mut monitor = monitor();
    busy_minute(&mut monitor, 0, place(0, 0), 1.0, 3.0);
    let heat = monitor.heat(at(60.0));
    // One processor is left: half of what worker 1 may use.
    close(heat.workers[1][0], 0.5);
    close(heat.workers[0][0], 0.5);
    assert_eq!(heat.workers[2][0], 0.0);
}

#[test]
fn a_worker_without_limits_is_as_busy_as_the_host() {
    let mut settings = settings();
    settings.workers[1].capacity = Capacity::default();
    let mut monitor = Monitor::new(settings).unwrap();
    busy_minute(&mut monitor, 0, place(0, 0), 1.0, 3.0);
    close(monitor.heat(at(60.0)).workers[1][0], 0.75);
}

#[test]
fn memory_in_use_before_the_start_counts_at_once() {
    let mut monitor = monitor();
    monitor.host(at(0.0), host(0.0, 0.0));
    monitor.host(at(1.0), host(1.0, 2.0));
    let heat = monitor.heat(at(1.0));
    close(heat.host[1], 0.25);
    close(heat.host[0], 0.5);
}

#[test]
fn samples_then_outcome_heat_like_the_outcome_alone() {
    let place = Some(place(0, 1));
    let (mut live, mut late) = (monitor(), monitor());
    live.running(Running { place, ..running(1, 0, 0, 0.0) });
    for s in 1..=4 {
        live.children(at(f64::from(s)), TaskId(1), sample(1.5 * f64::from(s), 0, 20 * s as u64));
    }
    let end = outcome(1, 0, 5.0, Usage { net_bytes: 40, ..usage(5.0, 7.5, 0, 100) });
    live.outcome(&end, place);
    late.outcome(&end, place);
    let (live, late) = (live.heat(at(6.0)), late.heat(at(6.0)));
    for r in 0..4 {
        close(live.workers[0][r], late.workers[0][r]);
        close(live.cells[0][r], late.cells[0][r]);
    }
    assert!(live.workers[0][0] > 0.2 && live.workers[0][3] > 0.0);
}

#[test]
fn heat_fades_when_the_work_ends() {
    let mut monitor = monitor();
    busy_minute(&mut monitor, 0, place(0, 0), 2.0, 2.0);
    monitor.outcome(&outcome(1, 0, 60.0, usage(60.0, 120.0, GIB / 4, 3_000)), Some(place(0, 0)));
    assert!(monitor.heat(at(60.0)).cells[0][0] > 0.97);
    close(monitor.heat(at(65.0)).cells[0][0], 0.5);
    assert!(monitor.heat(at(100.0)).cells[0][0] < 0.01);
    assert_eq!(monitor.report(at(60.0)).workers[0].cpu_s, 120.0);
}

#[test]
fn smoothing_is_what_the_settings_say() {
    let reading = |smoothing| {
        let mut monitor = Monitor::new(Settings { smoothing, ..settings() }).unwrap();
        monitor.outcome(&outcome(1, 0, 10.0, usage(10.0, 10.0, 0, 0)), None);
        [10.0, 12.0, 20.0].map(|s| monitor.heat(at(s)).workers[0][0])
    };
    let quick = reading(Smoothing::HalfLife(Span::from_secs(2)));
    let slow = reading(Smoothing::HalfLife(Span::from_secs(20)));
    for (found, wanted) in quick.iter().zip([0.48, 0.24, 0.015]) {
        close(*found, wanted);
    }
    for (found, wanted) in slow.iter().zip([0.146, 0.137, 0.104]) {
        close(*found, wanted);
    }
    let window = reading(Smoothing::Window(Span::from_secs(10)));
    for (found, wanted) in window.iter().zip([0.5, 0.4, 0.0]) {
        assert!((found - wanted).abs() < 0.07, "{window:?}");
    }
}

#[test]
fn transfers_heat_the_cell_they_read_from() {
    let mut monitor = monitor();
    let slice = |s: f64, first: bool| Transfer {
        source: SourceId(0),
        place: place(0, 3),
        bytes: 50,
        started: at(s),
        ended: at(s + 1.0),
        first_byte: first.then(|| Span::from_ms(40)),
        failed: false,
    };
    (0..60).for_each(|s| monitor.transfer(&slice(f64::from(s), s == 0)));
    let heat = monitor.heat(at(60.0));
    // 50 bytes a second of 100 over the network, of 200 from disks; the shard has a quarter of each.
    close(heat.cells[0][3], 0.5);
    close(heat.cells[0][2], 0.25);
    close(heat.shards[0][3][3], 1.0);
    let report = monitor.report(at(60.0));
    assert_eq!((report.cells[0].net_bytes, report.cells[0].io_bytes), (3_000, 3_000));
    assert_eq!(report.sources[0].latency.count, 1);
    assert_eq!(report.occupancy, [(place(0, 3), Occupancy::default())]);
}

#[test]
fn a_dead_source_shows_as_failures() {
    let mut monitor = monitor();
    monitor.probe(at(0.0), SourceId(2), None);
    monitor.probe(at(1.0), SourceId(2), Some(Span::from_ms(7)));
    monitor.probe(at(1.0), SourceId(9), None);
    let report = monitor.report(at(2.0));
    assert_eq!((report.sources[2].latency.failures, report.sources[2].latency.count), (1, 1));
    assert_eq!(report.ignored, 1);
}

#[test]
fn outside_workers_are_attached_later() {
    let mut monitor = monitor();
    let info = WorkerInfo {
        name: "gpu".into(),
        capacity: capacity(8.0, GIB, 1.0, 1.0),
        on_host: false,
        near: vec![],
    };
    monitor.attach(WorkerId(4), info);
    monitor.heartbeat(at(0.0), WorkerId(4), Span::from_ms(3));
    monitor.outcome(&outcome(1, 4, 1.0, usage(1.0, 8.0, 0, 0)), None);
    let heat = monitor.heat(at(1.0));
    assert_eq!(heat.workers.len(), 5);
    assert!(heat.workers[4][0] > 0.1);
    monitor.attach(WorkerId(60_000), settings().workers[0].clone());
    assert_eq!(monitor.report(at(1.0)).ignored, 1);
}

#[test]
fn dear_rounds_slow_the_sampler_down() {
    let mut monitor = monitor();
    assert_eq!(monitor.round(at(0.0), Span::from_ms(1)), Span::from_secs(1));
    let slowed = (1..20).map(|s| monitor.round(at(f64::from(s)), Span::from_ms(80))).last();
    assert!(slowed.is_some_and(|i| i > Span::from_secs(7)), "{slowed:?}");
    assert!(monitor.report(at(20.0)).sampler.share <= 0.01 + 1e-9);
}

/// One fact, whatever it may be; small numbers so that they meet.
fn fact(monitor: &mut Monitor, now: f64, (what, a, b, x): (u8, u16, u16, f64)) {
    let (task, spot, moment) = (u64::from(a % 5), place(b % 4, a % 6), at(now));
    match what {
        0 => monitor.host(moment, host(now, x.min(4.0))),
        1 => {
            let expected = (b % 2 == 0).then(|| usage(x, 2.0 * x, 1_000, 500));
            monitor.running(Running { place: Some(spot), expected, ..running(task, a % 5, 0, now) });
        }
        2 => monitor.children(moment, TaskId(task), sample(x, GIB, 1_000 * u64::from(b))),
        3 => monitor.outcome(&outcome(task, a % 5, now, usage(x, 3.0 * x, GIB, 70)), Some(spot)),
        4 => monitor.transfer(&Transfer {
            source: SourceId(a % 4),
            place: spot,
            bytes: u64::from(b) * 1_000,
            started: at(now - x),
            ended: moment,
            first_byte: (b % 3 == 0).then(|| Span::from_s(x)),
            failed: b % 5 == 0,
        }),
        5 => monitor.probe(moment, SourceId(a % 4), (b % 2 == 0).then(|| Span::from_s(x))),
        6 => monitor.occupied(&[(spot, Occupancy { queued: b.into(), transfers: a.into() })]),
        7 => monitor.heartbeat(moment, WorkerId(a % 5), Span::from_s(x)),
        _ => drop(monitor.round(moment, Span::from_s(x / 100.0))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn any_facts_in_any_order_leave_heat_within_its_bounds(
        facts in proptest::collection::vec(((0_u8..10, 0_u16..50, 0_u16..50, 0.0..5.0), 0.0..3.0), 1..200),
        window in any::<bool>(),
    ) {
        let span = Span::from_secs(5);
        let smoothing = if window { Smoothing::Window(span) } else { Smoothing::HalfLife(span) };
        let mut monitor = Monitor::new(Settings { smoothing, ..settings() }).unwrap();
        let mut now = 0.0;
        for (what, wait) in facts {
            now += wait;
            fact(&mut monitor, now, what);
            monitor.assert_invariants(at(now));
        }
    }
}

impl Monitor {
    fn assert_invariants(&self, now: Time) {
        let heat = self.heat(now);
        let all =
            heat.workers.iter().chain(&heat.cells).chain(heat.shards.iter().flatten()).chain([&heat.host]);
        for u in all.flatten() {
            assert!((0.0..=1.0).contains(u), "{heat:?}");
        }
        assert_eq!(heat.workers.len(), self.settings.workers.len());
        assert_eq!(heat.shards.len(), self.settings.cells.len());
        for (shards, cell) in heat.shards.iter().zip(&self.settings.cells) {
            assert_eq!(shards.len(), usize::from(cell.shards));
        }
        let report = self.report(now);
        assert_eq!(report.heat, heat);
        assert!(report.sampler.interval >= self.settings.interval);
    }
}
