use super::*;
use crate::flow::{Ending, Expected, Factors, Planned, TypeId, Usage, WorkerId};
use crate::task::SourcePlace;

const POOL: CacheId = CacheId(0);
const COPY: TypeId = TypeId(0);

fn agenda(settings: Settings) -> Agenda {
    let volumes = SourcePlace { name: "v".into(), cell: CellId(0), shard_by: None, shards: 1 };
    let places = Places::new(vec![volumes], vec!["nas".into()]);
    Agenda::new(settings, Arc::new(places), Arc::new(Catalogue::new(vec![])))
}

fn certain() -> Settings {
    Settings { control_share: 0.0, ..Settings::default() }
}

fn key(object: &str) -> Key {
    Key { pool: POOL, object: ObjectName::new(object) }
}

fn plan(objects: &[&str]) -> Plan {
    let tasks = objects.iter().zip(1..).map(|(o, i)| Planned {
        task: TaskId(i),
        task_type: COPY,
        entity: None,
        worker: WorkerId(0),
        cache: POOL,
        due: Time::from_us(2_000_000 + i),
        inputs: vec![ObjectName::new(*o)],
    });
    Plan { next: tasks.collect(), ..Plan::default() }
}

fn derived(object: &str, p: f64, due: Time) -> Derived {
    let expected = Expected { entity: "e".into(), task_type: COPY, p, due, depth: 1 };
    Derived { object: ObjectName::new(object), worker: WorkerId(0), cache: POOL, expected }
}

fn outcome(object: &str, found: Found, wait: Span, started: Time) -> Outcome {
    let object = ObjectName::new(object);
    Outcome {
        task: TaskId(1),
        token: crate::flow::Token { epoch: 1, attempt: 1 },
        worker: WorkerId(0),
        task_type: COPY,
        entity: None,
        submitted: started,
        started,
        ended: started + wait,
        ending: Ending::Done,
        usage: Usage::default(),
        data_wait: wait,
        inputs: vec![InputUse { object, bytes: 1 << 20, found, staged: false, wait }],
        factors: Factors::default(),
    }
}

fn cached(object: &str, there: bool, unused: bool, for_staging: bool) -> Cached {
    Cached { cache: POOL, object: ObjectName::new(object), bytes: 1 << 20, there, unused, for_staging }
}

fn landed() -> Answer {
    Answer::Landed { bytes: 1 << 20, joined: false, staged: true, waited: Span::ZERO }
}

fn attend(a: &mut Agenda, now: Time) -> Vec<Action> {
    let mut out = Vec::new();
    a.attend(now, &mut out);
    a.assert_invariants();
    out
}

fn staged(actions: &[Action]) -> Vec<&str> {
    let mut all = Vec::new();
    for action in actions {
        if let Action::Stage { key, .. } = action {
            all.push(key.object.as_str());
        }
    }
    all
}

#[test]
fn stages_what_queued_tasks_need_nearest_first() {
    let mut a = agenda(certain());
    a.planned(&plan(&["v:b", "v:a", "v:c"]));
    assert_eq!(staged(&attend(&mut a, Time::ZERO)), ["v:b", "v:a", "v:c"]);
    assert_eq!(staged(&attend(&mut a, Time::from_s(1.0))), [""; 0], "asked for once");
}

#[test]
fn nothing_is_staged_while_a_task_writes_it() {
    let mut a = agenda(certain());
    a.written(&ObjectName::new("v:a"), true);
    a.planned(&plan(&["v:a"]));
    assert!(staged(&attend(&mut a, Time::ZERO)).is_empty());
    a.written(&ObjectName::new("v:a"), false);
    assert_eq!(staged(&attend(&mut a, Time::ZERO)), ["v:a"]);
}

#[test]
fn a_forecast_that_turns_is_called_off_and_one_that_stands_is_ranked() {
    let mut a = agenda(certain());
    let due = Time::from_s(1.0);
    a.foreseen(&"e".into(), vec![derived("v:a", 0.8, due), derived("v:b", 0.8, due)], Time::ZERO);
    assert_eq!(staged(&attend(&mut a, Time::ZERO)), ["v:a", "v:b"]);
    a.cached(&cached("v:b", true, false, false), Time::ZERO);
    a.staged(&key("v:b"), &landed(), Time::ZERO);
    let need = (ObjectName::new("v:b"), Some((due, 0.8)));
    assert!(attend(&mut a, Time::ZERO).contains(&Action::Rank { cache: POOL, needs: vec![need] }));
    a.foreseen(&"e".into(), vec![], Time::ZERO);
    let out = attend(&mut a, Time::ZERO);
    assert!(out.contains(&Action::CallOff { key: key("v:a") }));
    assert!(out.contains(&Action::Rank { cache: POOL, needs: vec![(ObjectName::new("v:b"), None)] }));
}

#[test]
fn what_the_pool_has_no_room_for_is_tried_again_soon() {
    let mut a = agenda(certain());
    a.planned(&plan(&["v:a"]));
    attend(&mut a, Time::ZERO);
    let no_room =
        crate::prefetch::source::Error::NoRoom { object: ObjectName::new("v:a"), reason: "full".into() };
    a.staged(&key("v:a"), &Answer::Failed(no_room), Time::ZERO);
    assert!(staged(&attend(&mut a, Time::from_s(0.1))).is_empty());
    assert_eq!(staged(&attend(&mut a, Time::from_s(0.3))), ["v:a"]);
}

#[test]
fn what_gave_way_unused_is_not_fetched_again_for_the_same_forecast() {
    let mut a = agenda(certain());
    let (now, due) = (Time::from_s(0.9), Time::from_s(1.0));
    a.foreseen(&"e".into(), vec![derived("v:a", 0.5, due)], Time::ZERO);
    assert_eq!(staged(&attend(&mut a, Time::ZERO)), ["v:a"]);
    a.cached(&cached("v:a", true, false, false), Time::ZERO);
    a.staged(&key("v:a"), &landed(), Time::ZERO);
    a.cached(&cached("v:a", false, true, true), now);
    assert!(staged(&attend(&mut a, now)).is_empty());
    a.foreseen(&"e".into(), vec![derived("v:a", 0.6, due)], now);
    assert_eq!(staged(&attend(&mut a, now)), ["v:a"]);
}

#[test]
fn a_task_that_comes_does_not_call_off_what_was_staged_for_it() {
    let mut a = agenda(certain());
    let now = Time::from_s(1.0);
    a.foreseen(&"e".into(), vec![derived("v:a", 0.5, now)], Time::ZERO);
    assert_eq!(staged(&attend(&mut a, Time::ZERO)), ["v:a"]);
    let inputs = ["v:a", "v:b"].map(ObjectName::new).to_vec();
    let came = Arrived { task: TaskId(1), task_type: COPY, entity: Some("e".into()), at: now, inputs };
    a.arrived(&came, WorkerId(0), POOL);
    a.foreseen(&"e".into(), vec![], now);
    let out = attend(&mut a, now);
    assert!(!out.iter().any(|x| matches!(x, Action::CallOff { .. })), "{out:?}");
    // It asks for the rest itself, the next moment.
    assert!(staged(&out).is_empty());
}

#[test]
fn the_ledger_tells_useful_late_wasted_and_harmful() {
    let mut a = agenda(certain());
    a.planned(&plan(&["v:useful", "v:late", "v:wasted"]));
    attend(&mut a, Time::ZERO);
    // Something had to leave for the first, and was needed then.
    a.cached(&cached("v:victim", false, false, true), Time::ZERO);
    for o in ["v:useful", "v:wasted"] {
        a.cached(&cached(o, true, false, false), Time::ZERO);
        a.staged(&key(o), &landed(), Time::ZERO);
    }
    let now = Time::from_s(1.0);
    a.learned(&outcome("v:useful", Found::Cached, Span::ZERO, now), POOL, now);
    a.learned(&outcome("v:late", Found::Joined, Span::from_ms(10), now), POOL, now);
    a.cached(&cached("v:wasted", false, true, false), now);
    a.learned(&outcome("v:victim", Found::Fetched, Span::from_ms(50), now), POOL, now);
    let total = a.ledger().total();
    assert_eq!((total.staged, total.useful, total.late, total.wasted, total.harmful), (3, 1, 1, 1, 1));
    // Unmeasured: 20 ms and 1 MiB at 50 MB/s; once whole, once less the 10 ms that were waited.
    assert!((total.hidden_s - (2.0 * (0.02 + 1_048_576.0 / 50e6) - 0.01)).abs() < 1e-9, "{total:?}");
    assert!((total.late_s - 0.01).abs() < 1e-9);
}

#[test]
fn a_victim_is_harm_only_if_it_is_needed_before_what_took_its_place() {
    let harmful = |needed: f64| {
        let mut a = agenda(certain());
        a.planned(&plan(&["v:a"])); // due in 2 s
        attend(&mut a, Time::ZERO);
        a.cached(&cached("v:victim", false, false, true), Time::ZERO);
        let needed = Time::from_s(needed);
        a.learned(&outcome("v:victim", Found::Fetched, Span::from_ms(50), needed), POOL, needed);
        a.ledger().total().harmful
    };
    assert_eq!((harmful(1.9), harmful(2.1)), (1, 0));
}

#[test]
fn observing_moves_nothing_and_tells_what_would_have_been() {
    let mut a = agenda(Settings { mode: Mode::Observe, ..certain() });
    let due = Time::from_s(1.0);
    let three = ["v:in-time", "v:late", "v:never"].map(|o| derived(o, 0.9, due));
    a.foreseen(&"e".into(), three.to_vec(), Time::ZERO);
    assert!(staged(&attend(&mut a, Time::ZERO)).is_empty());
    let ready = a.decisions(&ObjectName::new("v:late")).next().unwrap().ready.unwrap();
    assert!(ready > Time::ZERO);
    let wait = Span::from_ms(100);
    a.learned(&outcome("v:in-time", Found::Fetched, wait, ready), POOL, due);
    let early = ready - Span::from_ms(30);
    a.learned(&outcome("v:late", Found::Fetched, wait, early), POOL, due);
    a.foreseen(&"e".into(), vec![], due);
    attend(&mut a, due);
    let total = a.ledger().total();
    assert_eq!((total.staged, total.useful, total.late, total.wasted), (3, 1, 1, 1));
    assert!((total.hidden_s - 0.17).abs() < 1e-6, "{total:?}");
}

#[test]
fn controls_are_predicted_and_not_staged_and_their_waits_are_compared() {
    let mut a = agenda(Settings { control_share: 0.3, ..Settings::default() });
    let now = Time::from_s(1.0);
    for i in 0..400 {
        let object = format!("v:{i}");
        a.foreseen(&"e".into(), vec![derived(&object, 0.9, now)], now);
        let is_staged = !staged(&attend(&mut a, now)).is_empty();
        if is_staged {
            a.cached(&cached(&object, true, false, false), now);
            a.staged(&key(&object), &landed(), now);
        }
        let (found, wait) = if is_staged { (Found::Cached, 1) } else { (Found::Fetched, 50 + i % 20) };
        a.learned(&outcome(&object, found, Span::from_ms(wait), now), POOL, now);
    }
    let super::super::control::Verdict::Known { saved_s, interval_s } = a.trial().verdict() else {
        panic!("{:?}", a.trial().verdict())
    };
    assert!((0.05..0.07).contains(&saved_s) && interval_s[0] > 0.04, "{saved_s} in {interval_s:?}");
}

#[test]
fn the_governor_ends_what_is_only_wasted_and_says_so() {
    let mut a = agenda(certain());
    let mut governed = Vec::new();
    for i in 0..300 {
        let (now, object) = (Time::from_s(f64::from(i)), format!("v:{i}"));
        a.foreseen(&"e".into(), vec![derived(&object, 0.9, now)], now);
        let out = attend(&mut a, now);
        governed.extend(out.iter().filter_map(|x| match x {
            Action::Decided(Decision { what: Decided::Governed { on, .. }, .. }) => Some((i, *on)),
            _ => None,
        }));
        if !staged(&out).is_empty() {
            a.cached(&cached(&object, true, false, false), now);
            a.staged(&key(&object), &landed(), now);
            a.cached(&cached(&object, false, true, false), now);
        } else {
            assert!(!governed.is_empty());
        }
    }
    assert_eq!(governed.len(), 1, "{governed:?}");
    assert!(!governed[0].1 && governed[0].0 < 150 && a.governor().off().len() == 1);
    let verdicts = a.decisions(&ObjectName::new("v:299")).next().unwrap().verdict;
    assert_eq!(verdicts, Verdict::Governed);
}

#[test]
fn heat_thins_staging_out_and_stops_it_above_the_limit() {
    let mut a = agenda(certain());
    let mut heat = |io: f64| {
        a.heated(Heat { cells: vec![[0.0, 0.0, io, 0.0]], host: [0.0, 0.0, io, 0.0], ..Heat::default() });
        let objects: Vec<String> = (0..200).map(|i| format!("v:{i}")).collect();
        let objects: Vec<&str> = objects.iter().map(String::as_str).collect();
        a.planned(&plan(&objects));
        attend(&mut a, Time::ZERO)
    };
    let hot = heat(0.95);
    assert!(staged(&hot).is_empty());
    assert!(hot.contains(&Action::Budget { bytes_per_s: 0.0, connections: 0 }));
    let warm = heat(0.5);
    assert_eq!(staged(&warm).len(), ASKED / 2);
    assert!(warm.contains(&Action::Budget { bytes_per_s: f64::INFINITY, connections: 3 }));
    assert_eq!(staged(&heat(0.0)).len(), ASKED - ASKED / 2);
}

#[test]
fn learned_objects_have_their_own_floor_purpose_and_no_rank() {
    let mut a = agenda(certain());
    let learned = |object: &str, p| Learned {
        object: ObjectName::new(object),
        cache: POOL,
        worker: WorkerId(0),
        task_type: COPY,
        p,
        break_even: 0.4,
        until: Time::from_s(9.0),
    };
    a.proposed(learned("v:likely", 0.6));
    a.proposed(learned("v:unlikely", 0.3));
    assert_eq!(staged(&attend(&mut a, Time::ZERO)), ["v:likely"]);
    assert_eq!(a.take_rejected(), [key("v:unlikely")]);
    assert_eq!(a.purpose(&key("v:likely"), Class::Staging), Purpose::Learned);
    a.cached(&cached("v:likely", true, false, false), Time::ZERO);
    let out = attend(&mut a, Time::ZERO);
    assert!(out.contains(&Action::Rank { cache: POOL, needs: vec![(ObjectName::new("v:likely"), None)] }));
}

#[test]
fn random_facts_never_break_a_promise() {
    for (seed, mode) in [(1, Mode::On), (2, Mode::Observe), (3, Mode::Off), (4, Mode::On)] {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut a = agenda(Settings { mode, control_share: 0.1, ..Settings::default() });
        let mut flying: BTreeSet<Key> = BTreeSet::new();
        let mut writing: Vec<ObjectName> = Vec::new();
        for i in 0..6_000u64 {
            let now = Time::from_us(i * 20_000);
            let object = format!("v:{}", rng.u8(..60));
            match rng.u8(..9) {
                0 => a.planned(&plan(&[&object, "v:1"])),
                1 => {
                    let due = now + Span::from_s(3.0 * rng.f64());
                    a.foreseen(
                        &format!("e{}", rng.u8(..5)).into(),
                        vec![derived(&object, rng.f64(), due)],
                        now,
                    );
                }
                2 => a.cached(&cached(&object, rng.bool(), rng.bool(), rng.bool()), now),
                3 if writing.len() < 4 => {
                    writing.push(ObjectName::new(object.as_str()));
                    a.written(&ObjectName::new(object.as_str()), true);
                }
                4 => {
                    if let Some(o) = writing.pop() {
                        a.written(&o, false);
                    }
                }
                5 => {
                    if let Some(k) = flying.pop_first() {
                        let answer = if rng.bool() { landed() } else { Answer::Cancelled };
                        a.staged(&k, &answer, now);
                    }
                }
                6 => {
                    let found = [Found::Cached, Found::Joined, Found::Fetched][rng.usize(..3)];
                    a.learned(&outcome(&object, found, Span::from_ms(rng.u64(..90)), now), POOL, now);
                }
                7 => {
                    let io = rng.f64();
                    a.heated(Heat { cells: vec![[0.0, 0.0, io, 0.0]], ..Heat::default() });
                }
                _ => {}
            }
            for action in attend(&mut a, now) {
                match action {
                    Action::Stage { key, .. } => {
                        assert_eq!(mode, Mode::On);
                        assert!(!writing.contains(&key.object), "staged while it is written");
                        // A demand may have taken the last one over without an answer yet.
                        flying.insert(key);
                    }
                    Action::CallOff { key } if flying.remove(&key) => {
                        a.staged(&key, &Answer::Cancelled, now);
                    }
                    _ => {}
                }
            }
        }
        let total = a.ledger().total();
        assert!(total.useful + total.late + total.wasted <= total.staged + 64, "{total:?}");
        assert!(mode != Mode::Off || total.staged == 0);
    }
}
