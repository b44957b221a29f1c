use super::*;
use std::collections::BTreeMap as Sorted;

const MB: u64 = 1_000_000;

fn t(ms: u64) -> Time {
    Time::from_us(ms * 1000)
}

fn key(name: &str) -> Key {
    Key { pool: CacheId(0), object: ObjectName::new(format!("s:{name}")) }
}

fn free_budget() -> Budget {
    Budget { bytes_per_s: f64::INFINITY, connections: 16 }
}

/// A table with one source of `connections`.
fn table(connections: u16) -> Flights {
    let mut f = Flights::new(free_budget());
    let limits = SourceLimits { connections, bytes_per_s: None, retry: Retry::default() };
    f.set_source(SourceId(0), limits, Time::ZERO, &mut Vec::new());
    f
}

struct Bench {
    table: Flights,
    now: Time,
    next: u64,
}

impl Bench {
    fn new(connections: u16) -> Bench {
        Bench { table: table(connections), now: Time::ZERO, next: 0 }
    }
    fn want(&mut self, name: &str, class: Class) -> (Waiter, Vec<Action>) {
        self.want_by(name, class, self.now)
    }
    fn want_by(&mut self, name: &str, class: Class, due: Time) -> (Waiter, Vec<Action>) {
        self.next += 1;
        let waiter = Waiter(self.next);
        let want = Want { waiter, key: key(name), source: SourceId(0), class, due, bytes: None };
        (waiter, self.act(|f, now, out| f.want(want, now, out)))
    }
    fn act(&mut self, f: impl FnOnce(&mut Flights, Time, &mut Vec<Action>)) -> Vec<Action> {
        let mut out = Vec::new();
        f(&mut self.table, self.now, &mut out);
        self.table.assert_invariants();
        out
    }
    fn end(&mut self, flight: FlightId, ending: Ending) -> Vec<Action> {
        self.act(|f, now, out| f.finished(flight, ending, now, out))
    }
}

fn started(actions: &[Action]) -> Vec<(FlightId, String, Class, bool)> {
    let start = |a: &Action| match a {
        Action::Start { flight, key, class, resume, .. } => {
            Some((*flight, key.object.path().to_owned(), *class, *resume))
        }
        _ => None,
    };
    actions.iter().filter_map(start).collect()
}

fn answers(actions: &[Action]) -> Vec<(Waiter, Answer)> {
    let answer = |a: &Action| match a {
        Action::Answer { waiter, answer, .. } => Some((*waiter, answer.clone())),
        _ => None,
    };
    actions.iter().filter_map(answer).collect()
}

fn stopped(actions: &[Action]) -> Vec<FlightId> {
    actions
        .iter()
        .filter_map(|a| if let Action::Stop { flight } = a { Some(*flight) } else { None })
        .collect()
}

fn landed(bytes: u64) -> Ending {
    Ending::Landed { bytes, ttfb: Span::from_ms(1) }
}

fn broken(partial_bytes: u64) -> Ending {
    let error = Error::Unreachable { object: ObjectName::new("s:x"), reason: "reset".into() };
    Ending::Failed { error, partial_bytes }
}

fn missing() -> Ending {
    Ending::Failed { error: Error::Missing { object: ObjectName::new("s:x") }, partial_bytes: 0 }
}

#[test]
fn one_flight_serves_all_who_want_the_object_and_each_is_answered_once() {
    let mut b = Bench::new(2);
    let (w1, a1) = b.want("x", Class::Demand);
    let (w2, a2) = b.want("x", Class::Demand);
    assert_eq!((started(&a1).len(), started(&a2).len()), (1, 0));
    let flight = started(&a1)[0].0;
    b.now = t(50);
    let got = answers(&b.end(flight, landed(7)));
    let answer = |joined| Answer::Landed { bytes: 7, joined, staged: false, waited: Span::from_ms(50) };
    assert_eq!(got, vec![(w1, answer(false)), (w2, answer(true))]);
    assert_eq!(b.table.counts(), Counts::default());
}

#[test]
fn demand_raises_a_staging_flight_without_a_restart() {
    let mut b = Bench::new(4);
    let flight = started(&b.want("x", Class::Staging).1)[0].0;
    let (w, actions) = b.want("x", Class::Demand);
    assert!(actions.contains(&Action::SetClass { flight, class: Class::Demand }), "{actions:?}");
    assert!(started(&actions).is_empty() && stopped(&actions).is_empty());
    let got = answers(&b.end(flight, landed(7)));
    assert!(
        got.iter().any(|(x, a)| *x == w && matches!(a, Answer::Landed { staged: true, joined: true, .. }))
    );
}

#[test]
fn a_task_that_joined_staging_gets_its_object_when_the_pool_has_no_room_for_what_was_staged() {
    let mut b = Bench::new(4);
    let flight = started(&b.want("x", Class::Staging).1)[0].0;
    let (w, _) = b.want("x", Class::Demand);
    let error = Error::NoRoom { object: ObjectName::new("s:x"), reason: "others are needed sooner".into() };
    let actions = b.end(flight, Ending::Failed { error, partial_bytes: 0 });
    assert!(answers(&actions).iter().all(|(x, _)| *x != w), "{actions:?}");
    b.now = b.table.next_wake().unwrap();
    let again = started(&b.act(|f, now, out| f.tick(now, out)))[0].0;
    let got = answers(&b.end(again, landed(7)));
    assert!(got.iter().any(|(x, a)| *x == w && matches!(a, Answer::Landed { .. })), "{got:?}");
}

#[test]
fn a_staging_transfer_goes_by_its_need_as_it_is_known_now() {
    let mut b = Bench::new(2);
    let running = started(&b.want("first", Class::Staging).1)[0].0;
    let (late, _) = b.want_by("late", Class::Staging, t(10));
    let (soon, _) = b.want_by("soon", Class::Staging, t(20));
    b.act(|f, now, out| f.postpone(late, t(90_000), now, out));
    b.act(|f, now, out| f.postpone(soon, t(1), now, out));
    assert_eq!(started(&b.end(running, landed(7)))[0].1, "soon");
}

#[test]
fn staging_pauses_while_demand_is_under_way_and_goes_on_after() {
    let mut b = Bench::new(4);
    b.want("s1", Class::Staging);
    let (_, actions) = b.want("d", Class::Demand);
    let rate = |actions: &[Action]| {
        actions.iter().find_map(|a| match a {
            Action::Rate { staging_bytes_per_s, .. } => Some(*staging_bytes_per_s),
            _ => None,
        })
    };
    assert_eq!(rate(&actions), Some(0.0));
    assert!(started(&b.want("s2", Class::Staging).1).is_empty(), "nothing new is staged meanwhile");
    let demand = started(&actions)[0].0;
    let after = b.end(demand, landed(7));
    assert_eq!(rate(&after), Some(f64::INFINITY));
    assert_eq!(started(&after)[0].1, "s2");
}

#[test]
fn staging_stands_aside_when_demand_lacks_a_connection_and_resumes_later() {
    let mut b = Bench::new(2);
    // One connection is kept for demand, so one is staging's.
    let (_, a) = b.want_by("s", Class::Staging, t(10));
    let staging = started(&a)[0].0;
    assert!(started(&b.want_by("s2", Class::Staging, t(20)).1).is_empty());
    let d1 = started(&b.want("d1", Class::Demand).1)[0].0;
    let (_, a) = b.want("d2", Class::Demand);
    assert_eq!(stopped(&a), vec![staging]);
    let a = b.end(staging, Ending::Stopped { partial_bytes: 500 });
    assert_eq!(started(&a)[0].1, "d2");
    let d2 = started(&a)[0].0;
    b.end(d1, landed(1));
    let a = b.end(d2, landed(1));
    assert_eq!(started(&a)[0], (staging, "s".into(), Class::Staging, true), "nearest need first, resumed");
}

#[test]
fn staging_goes_by_nearest_need() {
    let mut b = Bench::new(2);
    let first = started(&b.want_by("a", Class::Staging, t(100)).1)[0].0;
    for (name, due) in [("b", 300), ("c", 200), ("d", 400)] {
        b.want_by(name, Class::Staging, t(due));
    }
    // A second wish moves it forward.
    b.want_by("d", Class::Staging, t(150));
    let mut order = Vec::new();
    let mut flight = first;
    while let Some(next) = started(&b.end(flight, landed(1))).first() {
        order.push(next.1.clone());
        flight = next.0;
    }
    assert_eq!(order, ["d", "c", "b"]);
}

#[test]
fn a_broken_transfer_is_tried_again_with_what_it_has_and_then_given_up() {
    let mut b = Bench::new(2);
    let (w, a) = b.want("x", Class::Demand);
    let flight = started(&a)[0].0;
    let mut tries = 1;
    let mut last = b.end(flight, broken(1000));
    while let Some(at) = b.table.next_wake() {
        assert!(answers(&last).is_empty());
        b.now = at;
        let again = b.act(|f, now, out| f.tick(now, out));
        assert_eq!(started(&again), vec![(flight, "x".into(), Class::Demand, true)]);
        tries += 1;
        last = b.end(flight, broken(1000));
    }
    assert_eq!(tries, Retry::default().demand_tries);
    assert!(matches!(answers(&last)[..], [(x, Answer::Failed(Error::Unreachable { .. }))] if x == w));
    assert!(b.now < t(2_000), "a task is told within two seconds: {:?}", b.now);
}

#[test]
fn failures_are_remembered_for_staging_only_and_expire() {
    let mut b = Bench::new(2);
    let flight = started(&b.want("x", Class::Staging).1)[0].0;
    b.end(flight, missing());
    let (_, a) = b.want("x", Class::Staging);
    assert!(matches!(answers(&a)[..], [(_, Answer::Refused { .. })]));
    let (_, a) = b.want("x", Class::Demand);
    assert_eq!(started(&a).len(), 1, "demand always asks");
    b.end(started(&a)[0].0, missing());
    b.now = t(60_001);
    assert_eq!(started(&b.want("x", Class::Staging).1).len(), 1);
}

#[test]
fn a_source_that_is_down_is_left_alone_by_staging_for_a_while() {
    let mut b = Bench::new(4);
    for name in ["a", "b", "c"] {
        let started = started(&b.want(name, Class::Demand).1);
        b.end(started[0].0, broken(0));
    }
    assert!(started(&b.want("s", Class::Staging).1).is_empty());
    // Demand goes on trying meanwhile, and fails.
    loop {
        b.now = b.table.next_wake().expect("it is tried again some time");
        let begun = started(&b.act(|f, now, out| f.tick(now, out)));
        if begun.iter().any(|(_, name, ..)| name == "s") {
            break;
        }
        for (flight, ..) in begun {
            assert!(started(&b.end(flight, broken(0))).is_empty());
        }
    }
    assert!((t(1_000)..t(120_000)).contains(&b.now), "{:?}", b.now);
    // One answer, whatever it says, and the source counts as up.
    let flight = started(&b.want("d", Class::Demand).1)[0].0;
    b.end(flight, missing());
    assert_eq!(started(&b.want("s2", Class::Staging).1).len(), 1);
}

#[test]
fn invalidation_starts_demand_anew_and_cancels_staging() {
    let mut b = Bench::new(4);
    let (s, a) = b.want("x", Class::Staging);
    let old = started(&a)[0].0;
    let (d, _) = b.want("x", Class::Demand);
    let a = b.act(|f, now, out| f.invalidate(&ObjectName::new("s:x"), now, out));
    assert_eq!(answers(&a), vec![(s, Answer::Cancelled)]);
    assert_eq!(stopped(&a), vec![old]);
    let new = started(&a)[0].clone();
    assert!(new.0 != old && !new.3, "a new transfer, from zero");
    assert!(!b.table.is_current(old) && b.table.is_current(new.0));
    // The old one completes although it was told to stop: it answers nobody.
    assert!(answers(&b.end(old, landed(7))).is_empty());
    assert_eq!(answers(&b.end(new.0, landed(8)))[0].0, d);
}

#[test]
fn cancelling_stops_a_transfer_unless_half_of_it_is_there() {
    for (done, stops) in [(40, true), (60, false)] {
        let mut b = Bench::new(4);
        let (w, a) = b.want("x", Class::Staging);
        let flight = started(&a)[0].0;
        b.act(|f, now, out| f.progress(flight, done, 100, now, out));
        let a = b.act(|f, now, out| f.cancel(w, now, out));
        assert_eq!(answers(&a), vec![(w, Answer::Cancelled)]);
        assert_eq!(!stopped(&a).is_empty(), stops);
        let ending = if stops { Ending::Stopped { partial_bytes: done } } else { landed(100) };
        b.end(flight, ending);
        assert_eq!(b.table.counts(), Counts::default());
    }
}

#[test]
fn a_large_object_gets_parallel_ranges_only_when_no_other_demand_waits() {
    let mut b = Bench::new(8);
    let big = |b: &mut Bench, name: &str| {
        b.next += 1;
        let (waiter, due) = (Waiter(b.next), b.now);
        let want = Want {
            waiter,
            key: key(name),
            source: SourceId(0),
            class: Class::Demand,
            due,
            bytes: Some(100 * MB),
        };
        let a = b.act(|f, now, out| f.want(want, now, out));
        a.iter()
            .find_map(|a| if let Action::Start { connections, .. } = a { Some(*connections) } else { None })
    };
    assert_eq!(big(&mut b, "a"), Some(4));
    assert_eq!(big(&mut b, "b"), Some(4));
    assert_eq!(big(&mut b, "c"), None);
}

/// Random facts against the invariants, and the books of a driver that carries the actions out.
#[test]
fn random_operations_keep_every_promise() {
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        Driver::new(&mut rng).run(&mut rng, 400);
    }
}

struct Driver {
    table: Flights,
    now: Time,
    /// Not answered yet.
    waiting: BTreeSet<Waiter>,
    running: Sorted<FlightId, (Key, Class)>,
    rates: Sorted<SourceId, f64>,
    next: u64,
}

impl Driver {
    fn new(rng: &mut fastrand::Rng) -> Driver {
        let mut table = Flights::new(Budget { bytes_per_s: 1e7, connections: rng.u16(0..8) });
        for s in 0..3 {
            let limits =
                SourceLimits { connections: rng.u16(1..5), bytes_per_s: None, retry: Retry::default() };
            table.set_source(SourceId(s), limits, Time::ZERO, &mut Vec::new());
        }
        Driver {
            table,
            now: Time::ZERO,
            waiting: BTreeSet::new(),
            running: Sorted::new(),
            rates: Sorted::new(),
            next: 0,
        }
    }

    fn run(mut self, rng: &mut fastrand::Rng, steps: usize) {
        for _ in 0..steps {
            self.now = self.now + Span::from_ms(rng.u64(0..80));
            let mut out = Vec::new();
            self.step(rng, &mut out);
            self.book(out);
        }
        // Everything comes to an end.
        for _ in 0..100_000 {
            let mut out = Vec::new();
            if let Some(&flight) = self.running.keys().next() {
                self.running.remove(&flight);
                self.table.finished(flight, landed(1), self.now, &mut out);
            } else if let Some(at) = self.table.next_wake() {
                self.now = self.now.max(at);
                self.table.tick(self.now, &mut out);
            } else {
                let budget = Budget { bytes_per_s: 1e9, connections: 8 };
                self.table.set_budget(budget, self.now, &mut out);
                if out.is_empty() {
                    break;
                }
            }
            self.book(out);
        }
        assert!(self.waiting.is_empty(), "every waiter is answered: {:?}", self.waiting);
        let rest = self.table.counts();
        assert_eq!((rest.running_demand, rest.running_staging, rest.waiting), (0, 0, 0));
    }

    fn step(&mut self, rng: &mut fastrand::Rng, out: &mut Vec<Action>) {
        let now = self.now;
        let some_flight = self.running.keys().nth(rng.usize(0..self.running.len().max(1))).copied();
        let some_waiter = self.waiting.iter().nth(rng.usize(0..self.waiting.len().max(1))).copied();
        match (rng.u8(0..20), some_flight, some_waiter) {
            (0..9, ..) => {
                self.next += 1;
                let waiter = Waiter(self.next);
                let source = SourceId(rng.u16(0..3));
                let key = Key {
                    pool: CacheId(rng.u16(0..2)),
                    object: ObjectName::new(format!("{source}:{}", rng.u8(0..12))),
                };
                let class = if rng.bool() { Class::Demand } else { Class::Staging };
                let due = now + Span::from_ms(rng.u64(0..500));
                let bytes = rng.bool().then(|| rng.u64(0..100_000_000));
                self.waiting.insert(waiter);
                self.table.want(Want { waiter, key, source, class, due, bytes }, now, out);
            }
            (9..11, _, Some(w)) => self.table.cancel(w, now, out),
            (11, ..) => {
                let object = ObjectName::new(format!("{}:{}", rng.u16(0..3), rng.u8(0..12)));
                self.table.invalidate(&object, now, out);
            }
            (12, ..) => {
                let budget =
                    Budget { bytes_per_s: [0.0, 1e6, 1e8][rng.usize(0..3)], connections: rng.u16(0..8) };
                self.table.set_budget(budget, now, out);
            }
            (13..15, Some(flight), _) => {
                let total = rng.u64(1..10_000_000);
                self.table.progress(flight, rng.u64(0..=total), total, now, out);
            }
            (15.., Some(flight), _) => {
                self.running.remove(&flight);
                let ending = match rng.u8(0..8) {
                    0 => missing(),
                    1 => broken(rng.u64(0..1000)),
                    2 | 3 => Ending::Stopped { partial_bytes: rng.u64(0..1000) },
                    _ => landed(rng.u64(0..10_000_000)),
                };
                self.table.finished(flight, ending, now, out);
            }
            _ => self.table.tick(now, out),
        }
    }

    fn book(&mut self, out: Vec<Action>) {
        self.table.assert_invariants();
        for action in out {
            match action {
                Action::Start { flight, key, source, class, connections, .. } => {
                    assert!(connections > 0);
                    if class == Class::Staging {
                        let rate = self.rates.get(&source).copied().unwrap_or(f64::INFINITY);
                        assert!(rate > 0.0, "nothing is staged from a source that is paused");
                    }
                    assert!(self.running.insert(flight, (key, class)).is_none(), "started twice");
                }
                Action::SetClass { flight, class } => {
                    self.running.get_mut(&flight).expect("it runs").1 = class;
                }
                Action::Stop { flight } => assert!(self.running.contains_key(&flight)),
                Action::Rate { source, staging_bytes_per_s } => {
                    assert!(staging_bytes_per_s >= 0.0);
                    self.rates.insert(source, staging_bytes_per_s);
                }
                Action::Answer { waiter, .. } => assert!(self.waiting.remove(&waiter), "answered twice"),
            }
        }
        // What the driver was told agrees with the table: no two flights for one key.
        let current: Vec<&Key> =
            self.running.iter().filter(|(f, _)| self.table.is_current(**f)).map(|(_, (k, _))| k).collect();
        assert_eq!(current.len(), current.iter().collect::<BTreeSet<_>>().len(), "two flights for one key");
    }
}

/// A link of 40 MB/s, shared equally by whoever sends; every 200 ms a task demands 4 MB, and 200 objects of 2 MB
/// are to be staged. Strict order must hide the staging from demand altogether.
#[test]
fn demand_is_not_slowed_by_staging_on_a_narrow_link() {
    let alone = Link::new().run(0);
    let beside = Link::new().run(200);
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    println!(
        "demand alone {:.1} ms, beside staging {:.1} ms; staged {} MB in {:.1} s",
        mean(&alone.0),
        mean(&beside.0),
        beside.1 / MB,
        20.0
    );
    assert!(mean(&beside.0) <= mean(&alone.0) * 1.02 + 1.0, "{} {}", mean(&alone.0), mean(&beside.0));
    assert!(beside.1 > 250 * MB, "the rest of the link is used: {} MB", beside.1 / MB);
}

struct Flow {
    class: Class,
    total: f64,
    done: f64,
    begins: Time,
}

struct Link {
    bench: Bench,
    flows: Sorted<FlightId, Flow>,
    asked: Sorted<Waiter, Time>,
    waits_ms: Vec<f64>,
    staged: u64,
    rate: f64,
}

impl Link {
    const PER_S: f64 = 40e6;
    const STEP: Span = Span::from_ms(2);

    fn new() -> Link {
        let flows = Sorted::new();
        Link {
            bench: Bench::new(6),
            flows,
            asked: Sorted::new(),
            waits_ms: vec![],
            staged: 0,
            rate: f64::INFINITY,
        }
    }

    /// 20 s. Returns the waits of demand and the bytes staged.
    fn run(mut self, to_stage: usize) -> (Vec<f64>, u64) {
        for n in 0..to_stage {
            let (_, a) = self.bench.want_by(&format!("s{n}"), Class::Staging, t(n as u64));
            self.carry_out(a);
        }
        for step in 0..10_000_u64 {
            self.bench.now = Time::from_us(step * Self::STEP.as_us());
            if step % 100 == 99 {
                let (w, a) = self.bench.want(&format!("d{step}"), Class::Demand);
                self.asked.insert(w, self.bench.now);
                self.carry_out(a);
            }
            self.move_bytes();
        }
        (self.waits_ms, self.staged)
    }

    fn move_bytes(&mut self) {
        let now = self.bench.now;
        let sends = |f: &Flow, rate: f64| f.begins <= now && (f.class == Class::Demand || rate > 0.0);
        let senders = self.flows.values().filter(|f| sends(f, self.rate)).count().max(1);
        let share = Self::PER_S / senders as f64 * Self::STEP.as_s();
        let rate = self.rate;
        for f in self.flows.values_mut().filter(|f| sends(f, rate)) {
            f.done = (f.done + share).min(f.total);
        }
        let ids: Vec<FlightId> = self.flows.keys().copied().collect();
        for id in ids {
            let Some(f) = self.flows.get(&id) else { continue };
            let (done, total, class) = (f.done as u64, f.total as u64, f.class);
            let a = if done >= total {
                self.flows.remove(&id);
                self.staged += if class == Class::Staging { total } else { 0 };
                self.bench.end(id, Ending::Landed { bytes: total, ttfb: Span::from_ms(5) })
            } else {
                self.bench.act(|f, now, out| f.progress(id, done, total, now, out))
            };
            self.carry_out(a);
        }
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for a in actions {
            match a {
                Action::Start { flight, class, .. } => {
                    let total = if class == Class::Demand { 4e6 } else { 2e6 };
                    let begins = self.bench.now + Span::from_ms(5);
                    self.flows.insert(flight, Flow { class, total, done: 0.0, begins });
                }
                Action::SetClass { flight, class } => self.flows.get_mut(&flight).unwrap().class = class,
                Action::Rate { staging_bytes_per_s, .. } => self.rate = staging_bytes_per_s,
                Action::Answer { waiter, .. } => {
                    if let Some(at) = self.asked.remove(&waiter) {
                        self.waits_ms.push(self.bench.now.since(at).as_ms());
                    }
                }
                Action::Stop { flight } => {
                    self.flows.remove(&flight);
                    let next = self.bench.end(flight, Ending::Stopped { partial_bytes: 0 });
                    self.carry_out(next);
                }
            }
        }
    }
}
