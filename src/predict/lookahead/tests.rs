use super::*;

const CREATE: TypeId = TypeId(0);
const COPY: TypeId = TypeId(1);
const VERIFY: TypeId = TypeId(2);
const DELETE: TypeId = TypeId(3);
const CHAIN: [TypeId; 4] = [CREATE, COPY, VERIFY, DELETE];
const NAMES: [&str; 4] = ["create", "copy", "verify", "delete"];

fn object(name: String) -> ObjectName {
    ObjectName::new(name)
}

/// What one task of the test's chains reads: part `2k + place` of its volume, and the index at the end.
fn reads(entity: &str, chain: u64, place: usize) -> Vec<ObjectName> {
    match place {
        0 => vec![object(format!("v:{entity}/manifest")), object(format!("v:{entity}/c{:04}", 2 * chain))],
        1 | 2 => vec![object(format!("v:{entity}/c{:04}", 2 * chain + 1))],
        _ => vec![object(format!("v:{entity}/index"))],
    }
}

/// Four volumes, chains one after the other, a task a second on each, 30 s between chains.
fn trained() -> (Lookahead, Time) {
    let mut l = Lookahead::new(Settings::default());
    let mut end = Time::ZERO;
    for chain in 0..20u64 {
        for v in 0..4 {
            for (place, t) in CHAIN.into_iter().enumerate() {
                let entity = format!("vol{v}");
                let at = Time::from_s(33.0 * chain as f64 + place as f64 + 0.1 * f64::from(v));
                l.arrived_reading(at, &entity, t, &reads(&entity, chain, place));
                l.ended_reading(at, at + Span::from_ms(300), &entity, t, &reads(&entity, chain, place));
                l.assert_invariants();
                end = end.max(at);
            }
        }
    }
    (l, end)
}

#[test]
fn foresees_the_rest_of_the_chain_of_a_new_entity() {
    let (mut l, end) = trained();
    let now = end + Span::from_secs(1);
    l.arrived(now, "new", CREATE);
    let expected = l.expected("new", now);
    let p = |t| expected.iter().find(|e| e.task_type == t).map_or(0.0, |e| e.p);
    // One, two, three gaps of mean 1 s within H = 3 s: .95, .80, .58, less a little doubt about the chain.
    assert!((p(COPY) - 0.95).abs() < 0.07, "{expected:?}");
    assert!((p(VERIFY) - 0.80).abs() < 0.07, "{expected:?}");
    assert!((p(DELETE) - 0.58).abs() < 0.09, "{expected:?}");
    assert!(p(CREATE) < 0.1, "{expected:?}");
    let depths: Vec<u8> = expected.iter().map(|e| e.depth).collect();
    assert_eq!(depths[..3], [1, 2, 3]);
    let due = expected[0].due.since(now).as_s();
    assert!((due - 1.0).abs() < 0.3, "{due}");
    assert!(expected.windows(2).all(|w| w[0].due <= w[1].due));
}

#[test]
fn foresees_numbered_parts_and_fixed_names() {
    let (mut l, end) = trained();
    let now = end + Span::from_secs(1);
    let first = vec![object("v:new/manifest".into()), object("v:new/c0100".into())];
    l.arrived_reading(now, "new", CREATE, &first);
    let objects = l.expected_objects("new", now);
    let p = |name: &str| objects.iter().find(|(o, _)| o.as_str() == name).map_or(0.0, |(_, e)| e.p);
    assert!(p("v:new/c0101") > 0.85, "{objects:?}");
    assert!(p("v:new/index") > 0.45, "{objects:?}");
    assert!(p("v:new/c0100") < 0.05, "{objects:?}");
}

#[test]
fn a_task_that_has_not_ended_moves_its_entity_on_but_teaches_nothing() {
    let (mut l, end) = trained();
    let now = end + Span::from_secs(30);
    let before = l.to_bytes(|t| NAMES[usize::from(t.0)]);
    l.arrived(now, "vol1", CREATE);
    assert_eq!(l.expected("vol1", now)[0].task_type, COPY);
    assert_eq!(l.to_bytes(|t| NAMES[usize::from(t.0)]), before);
}

#[test]
fn snapshot_and_what_came_since_give_the_same_state() {
    let (mut l, end) = trained();
    let name = |t: TypeId| NAMES[usize::from(t.0)];
    let find = |n: &str| NAMES.iter().position(|x| *x == n).map(|i| TypeId(i as u16));
    let bytes = l.to_bytes(name);
    let mut restored = Lookahead::from_bytes(Settings::default(), &bytes, find).unwrap();
    assert_eq!(restored.to_bytes(name), bytes);
    let at = end + Span::from_secs(2);
    for l in [&mut l, &mut restored] {
        l.arrived_reading(at, "vol2", CREATE, &reads("vol2", 20, 0));
        l.ended_reading(at, at, "vol2", CREATE, &reads("vol2", 20, 0));
    }
    assert_eq!(restored.to_bytes(name), l.to_bytes(name));
    assert_eq!(restored.expected("vol2", at), l.expected("vol2", at));
    assert_eq!(restored.expected_objects("vol2", at), l.expected_objects("vol2", at));
}

#[test]
fn types_that_moved_in_the_configuration_keep_what_was_learned_of_them() {
    let (l, end) = trained();
    let bytes = l.to_bytes(|t| NAMES[usize::from(t.0)]);
    let moved =
        |n: &str| NAMES.iter().position(|x| *x == n).filter(|i| *i != 3).map(|i| TypeId(7 - i as u16));
    let mut l = Lookahead::from_bytes(Settings::default(), &bytes, moved).unwrap();
    l.assert_invariants();
    l.arrived(end, "new", TypeId(7));
    let expected = l.expected("new", end);
    assert_eq!(expected[0].task_type, TypeId(6));
    assert!(expected.iter().all(|e| e.task_type.0 > 4), "{expected:?}");
}

#[test]
fn damaged_snapshots_are_refused_and_never_panic() {
    let (l, _) = trained();
    let bytes = l.to_bytes(|t| NAMES[usize::from(t.0)]);
    let find = |n: &str| NAMES.iter().position(|x| *x == n).map(|i| TypeId(i as u16));
    let read = |b: &[u8]| Lookahead::from_bytes(Settings::default(), b, find).err();
    assert_eq!(read(b"fslook\0\x02rest"), Some(BadSnapshot::Version));
    assert_eq!(read(&[]), Some(BadSnapshot::Version));
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..300 {
        let mut b = bytes.clone();
        let i = rng.usize(8..b.len() - 4);
        b[i] ^= 1 << rng.u8(..8);
        assert_eq!(read(&b), Some(BadSnapshot::Checksum));
        // With a checksum that fits, contents that make no sense are refused or read as something else.
        let n = b.len() - 4;
        let crc = crc32c::crc32c(&b[..n]).to_le_bytes();
        b[n..].copy_from_slice(&crc);
        let _ = read(&b);
        let _ = read(&b[..i]);
    }
}

#[test]
fn the_store_of_entities_is_bounded_and_keeps_the_lively() {
    let settings = Settings { entities: 100, ..Settings::default() };
    let mut l = Lookahead::new(settings);
    let mut rng = fastrand::Rng::with_seed(5);
    for i in 0..5_000u64 {
        let at = Time::from_us(i * 10_000);
        let entity = if i % 3 == 0 { "busy".to_string() } else { format!("e{}", rng.u32(..2_000)) };
        let t = TypeId(rng.u16(..4));
        l.arrived_reading(at, &entity, t, &[object(format!("s:{entity}/p{i}"))]);
        if rng.bool() {
            l.ended_reading(at, at, &entity, t, &[object(format!("s:{entity}/p{i}"))]);
        }
        l.assert_invariants();
        if i % 50 == 0 {
            let all = l.expected_all(at, 20);
            assert!(all.len() <= 20 && all.windows(2).all(|w| w[0].p >= w[1].p));
            assert!(all.iter().all(|e| e.p > 0.0 && e.p <= 1.0 && e.depth >= 1 && e.depth <= 8));
        }
    }
    assert!(l.knows("busy"));
}

#[test]
fn a_task_that_was_overtaken_teaches_no_step() {
    let (mut l, end) = trained();
    let at = |s: u64| end + Span::from_secs(s);
    l.ended(at(3), at(4), "vol0", COPY);
    let before = l.to_bytes(|t| NAMES[usize::from(t.0)]);
    l.ended(at(1), at(5), "vol0", CREATE);
    assert_eq!(l.to_bytes(|t| NAMES[usize::from(t.0)]), before);
}

#[test]
fn silence_pushes_the_expectation_away() {
    let (mut l, end) = trained();
    let now = end + Span::from_secs(40);
    l.arrived(now, "vol0", CREATE);
    let p = |at: Time| l.expected("vol0", at).iter().find(|e| e.task_type == COPY).map_or(0.0, |e| e.p);
    assert!(p(now + Span::from_secs(60)) < 0.8 * p(now));
}
