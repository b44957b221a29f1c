//! The engine as a whole: what it promises to those who use it.

use super::*;
use crate::time::Time;

const TYPES: [&str; 5] = ["create", "copy", "verify", "delete", "report"];

/// A small set-up: quick to make and to snapshot.
fn small() -> Settings {
    Settings { table_bits: 10, regression_bits: 8, entities_max: 16, ..Settings::default() }
}

/// One random task: entities mostly go create → copy → verify → delete, workers come and go.
struct Workload {
    rng: fastrand::Rng,
    now: u64,
    stage: [usize; 40],
}

struct Task {
    time: Time,
    task_type: String,
    entity: Option<String>,
    worker: Option<String>,
}

impl Task {
    fn event(&self) -> Event<'_> {
        Event {
            time: self.time,
            task_type: &self.task_type,
            entity: self.entity.as_deref(),
            worker: self.worker.as_deref(),
        }
    }
}

impl Workload {
    fn new(seed: u64) -> Workload {
        Workload { rng: fastrand::Rng::with_seed(seed), now: 0, stage: [0; 40] }
    }

    fn next(&mut self) -> Task {
        self.now += self.rng.u64(..5_000_000);
        let e = self.rng.usize(..40);
        let task_type = match self.rng.u8(..20) {
            0 => format!("odd{}", self.rng.u8(..50)),
            1 => "report".into(),
            _ => {
                self.stage[e] += 1;
                TYPES[(self.stage[e] - 1) % 4].into()
            }
        };
        Task {
            time: Time::from_us(self.now),
            task_type,
            entity: (self.rng.u8(..10) > 0).then(|| format!("vol{e}")),
            worker: (self.rng.u8(..10) > 0).then(|| format!("w{}", e % 3)),
        }
    }
}

fn assert_is_distribution(d: &Distribution) {
    let sum = d.types.iter().map(|t| t.1).sum::<f32>() + d.rest + d.new;
    assert!((sum - 1.0).abs() < 2e-3, "sums to {sum}: {d:?}");
    assert!(d.types.iter().all(|t| t.1 >= 0.0 && t.1.is_finite()), "{d:?}");
    assert!(d.types.is_sorted_by(|a, b| a.1 >= b.1), "{d:?}");
    let mut symbols: Vec<Symbol> = d.types.iter().map(|t| t.0).collect();
    symbols.sort_unstable();
    symbols.dedup();
    assert_eq!(symbols.len(), d.types.len(), "each type once");
}

#[test]
fn any_question_at_any_time_gets_a_distribution() {
    let mut workload = Workload::new(1);
    let mut engine = Engine::new(&small()).unwrap();
    let mut rng = fastrand::Rng::with_seed(2);
    let (mut d, mut joint, mut voices) = (Distribution::default(), vec![], vec![]);
    for _ in 0..1500 {
        let (e, w) = (format!("vol{}", rng.u8(..60)), format!("w{}", rng.u8(..6)));
        let subject = match rng.u8(..5) {
            0 => Subject::Entity(Some(&e)),
            1 => Subject::Entity(None),
            2 => Subject::EntityAt(Some(&e), &w),
            3 => Subject::Worker(&w),
            _ => Subject::Host,
        };
        match rng.u8(..8) {
            0..4 => engine.learn(&workload.next().event()),
            4..6 => {
                engine.predict(subject, &mut d);
                assert_is_distribution(&d);
                for &(symbol, p) in &d.types {
                    let name = engine.type_name(symbol).to_owned();
                    assert_eq!(engine.p(subject, &name), p, "the same from both sides");
                }
            }
            6 => {
                engine.joint(subject, 8, &mut joint);
                let sum: f32 = joint.iter().map(|j| j.p).sum();
                assert!(joint.len() <= 8 && sum < 1.01, "{joint:?}");
                assert!(joint.iter().all(|j| engine.entity_name(j.entity).is_some()));
            }
            _ => {
                engine.explain(subject, &mut voices);
                assert!(voices.is_sorted_by(|a, b| a.says.abs() >= b.says.abs()));
            }
        }
        engine.assert_invariants();
    }
    assert!(engine.recent_entities().count() <= 16, "the store is bounded");
    assert_eq!(engine.known_workers().count(), 3);
}

#[test]
fn forecasts_and_lessons_go_on_bit_for_bit_after_a_snapshot() {
    let mut workload = Workload::new(3);
    let mut engine = Engine::new(&small()).unwrap();
    for _ in 0..600 {
        engine.learn(&workload.next().event());
    }
    let bytes = engine.to_bytes();
    let mut twin = Engine::from_bytes(&small(), &bytes).unwrap();
    assert_eq!(twin.to_bytes(), bytes);
    let (mut a, mut b) = (Distribution::default(), Distribution::default());
    let (mut ja, mut jb) = (vec![], vec![]);
    for i in 0..300 {
        let task = workload.next();
        let e = task.entity.as_deref();
        for subject in [Subject::Entity(e), Subject::EntityAt(e, "w1"), Subject::Worker("w1"), Subject::Host]
        {
            engine.predict(subject, &mut a);
            twin.predict(subject, &mut b);
            assert_eq!(a, b, "{subject:?} after {i} more");
            engine.joint(subject, 4, &mut ja);
            twin.joint(subject, 4, &mut jb);
            assert_eq!(ja, jb);
        }
        engine.learn(&task.event());
        twin.learn(&task.event());
    }
    assert_eq!(engine.to_bytes(), twin.to_bytes());
}

#[test]
fn what_was_asked_in_between_changes_no_lesson() {
    let (mut quiet, mut asked) = (Engine::new(&small()).unwrap(), Engine::new(&small()).unwrap());
    let mut workload = Workload::new(4);
    let mut d = Distribution::default();
    for i in 0..300 {
        let task = workload.next();
        if i % 3 == 0 {
            asked.for_host(&mut d);
            asked.for_worker("w2", &mut d);
            asked.for_entity(task.entity.as_deref(), &mut d);
        }
        quiet.learn(&task.event());
        asked.learn(&task.event());
    }
    let (mut a, mut b) = (Distribution::default(), Distribution::default());
    quiet.for_host(&mut a);
    asked.for_host(&mut b);
    assert_eq!(a, b);
    quiet.for_entity(Some("vol1"), &mut a);
    asked.for_entity(Some("vol1"), &mut b);
    assert_eq!(a, b);
}

#[test]
fn a_snapshot_is_small_when_young_and_refused_when_damaged_or_foreign() {
    let mut engine = Engine::new(&Settings::default()).unwrap();
    assert!(engine.to_bytes().len() < 20_000, "{}", engine.to_bytes().len());
    let mut workload = Workload::new(5);
    for _ in 0..50 {
        engine.learn(&workload.next().event());
    }
    let bytes = engine.to_bytes();
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    let error =
        |settings: &Settings, bytes: &[u8]| Engine::from_bytes(settings, bytes).unwrap_err().to_string();
    let same = Settings::default();
    assert!(error(&same, &damaged).starts_with("snapshot is damaged: checksum "));
    assert!(error(&same, &bytes[..bytes.len() - 3]).contains("its header says"));
    assert_eq!(error(&same, b"hello, this is no snapshot"), "not a snapshot of the prediction engine");
    let other = Settings { table_bits: 11, ..Settings::default() };
    assert!(error(&other, &bytes).contains("the configuration says 11"));
}

#[test]
fn random_bytes_behind_a_good_checksum_never_panic() {
    let mut engine = Engine::new(&small()).unwrap();
    let mut workload = Workload::new(6);
    for _ in 0..200 {
        engine.learn(&workload.next().event());
    }
    let good = engine.to_bytes();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut d = Distribution::default();
    for _ in 0..150 {
        let mut forged = good.clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(24..forged.len());
            forged[at] = rng.u8(..);
        }
        let crc = crc32c::crc32c(&forged[24..]);
        forged[20..24].copy_from_slice(&crc.to_le_bytes());
        if let Ok(mut twin) = Engine::from_bytes(&small(), &forged) {
            twin.for_host(&mut d);
            twin.for_entity(Some("vol3"), &mut d);
            twin.learn(&workload.next().event());
        }
    }
}

#[test]
fn learns_a_chain_and_says_which_context_told_it() {
    let mut engine = Engine::new(&small()).unwrap();
    for i in 0..400u64 {
        engine.learn(&Event {
            time: Time::from_us(i * 1_000_000),
            task_type: TYPES[(i / 4 % 4) as usize],
            entity: Some(["a", "b", "c", "d"][(i % 4) as usize]),
            worker: None,
        });
    }
    let mut d = Distribution::default();
    engine.for_entity(Some("a"), &mut d);
    assert_eq!(engine.type_name(d.types[0].0), "create");
    assert!(d.types[0].1 > 0.97, "{d:?}");
    let mut voices = vec![];
    engine.explain(Subject::Entity(Some("a")), &mut voices);
    assert!(voices.iter().any(|v| v.name.starts_with("last ") && v.says > 0.0), "{voices:?}");
    assert!(engine.calibration().ece() < 0.1);
    let mut joint = vec![];
    engine.joint(Subject::Host, 3, &mut joint);
    assert_eq!(engine.entity_name(joint[0].entity), Some("a"));
    assert_eq!(engine.type_name(joint[0].task_type), "create");
    assert!(joint[0].p > 0.9, "{joint:?}");
}

#[test]
fn a_type_never_heard_of_has_its_chance_and_is_known_afterwards() {
    let mut engine = Engine::new(&small()).unwrap();
    let task =
        |i: u64, task_type| Event { time: Time::from_us(i), task_type, entity: Some("a"), worker: None };
    for i in 0..50 {
        engine.learn(&task(i, "copy"));
    }
    let subject = Subject::Entity(Some("a"));
    let before = engine.p(subject, "move");
    assert!(before > 0.0 && before < 0.1, "{before}");
    assert_eq!(engine.uses("move"), 0);
    engine.learn(&task(50, "move"));
    assert_eq!(engine.uses("move"), 1);
    let mut d = Distribution::default();
    engine.for_entity(Some("a"), &mut d);
    let symbol = engine.type_number("move").unwrap();
    assert!(d.types.iter().any(|t| t.0 == symbol));
}

#[test]
fn contexts_can_be_switched_off_and_on_over_a_snapshot() {
    let off = Settings { contexts_off: vec!["entity".into(), "last 1, partner".into()], ..small() };
    let mut engine = Engine::new(&off).unwrap();
    let mut workload = Workload::new(8);
    for _ in 0..200 {
        engine.learn(&workload.next().event());
    }
    let mut voices = vec![];
    engine.explain(Subject::Entity(Some("vol1")), &mut voices);
    assert!(!voices.is_empty() && voices.iter().all(|v| v.name != "entity" && v.name != "last 1, partner"));
    let mut on = Engine::from_bytes(&small(), &engine.to_bytes()).unwrap();
    on.learn(&workload.next().event());
    on.assert_invariants();
}

#[test]
fn without_workers_only_entities_are_forecast() {
    let mut engine = Engine::new(&Settings { workers: false, ..small() }).unwrap();
    let mut workload = Workload::new(9);
    for _ in 0..100 {
        engine.learn(&workload.next().event());
    }
    let (mut d, mut joint) = (Distribution::default(), vec![]);
    engine.for_worker("w1", &mut d);
    engine.joint(Subject::Host, 4, &mut joint);
    assert!(d.types.is_empty() && joint.is_empty());
    engine.for_entity(Some("vol1"), &mut d);
    assert_is_distribution(&d);
}

#[test]
fn questions_leave_no_trace_in_a_snapshot() {
    let mut engine = Engine::new(&small()).unwrap();
    let mut out = Distribution::default();
    let strangers = [
        Subject::Worker("never at work"),
        Subject::EntityAt(Some("new"), "nor this one"),
        Subject::Entity(Some("new")),
        Subject::Host,
    ];
    let mut workload = Workload::new(6);
    for _ in 0..40 {
        let quiet = engine.to_bytes();
        strangers.iter().for_each(|&s| engine.predict(s, &mut out));
        assert_eq!(engine.to_bytes(), quiet);
        Engine::from_bytes(&small(), &quiet).unwrap();
        engine.learn(&workload.next().event());
    }
}
