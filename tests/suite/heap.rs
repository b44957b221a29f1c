//! Forecasts of task types do not touch the heap. The whole test binary runs on an allocator that counts.

use forestage::predict::types::{Distribution, Engine, Event, Joint, Settings, Subject};
use forestage::time::Time;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Allocations of this thread so far.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes through to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(at, layout, size) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }
}

fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

#[test]
fn no_forecast_allocates_and_no_lesson_about_known_names_does() {
    let names = |what: &str, n: usize| -> Vec<String> { (0..n).map(|i| format!("{what}{i}")).collect() };
    let (types, entities, workers) = (names("type", 40), names("entity", 300), names("worker", 9));
    let mut rng = fastrand::Rng::with_seed(3);
    let mut at = vec![0usize; entities.len()];
    let mut events: Vec<(usize, usize, usize)> = Vec::new();
    for _ in 0..6000 {
        let e = rng.usize(..entities.len());
        at[e] = if rng.u8(..10) < 8 { (at[e] * 3 + 1) % types.len() } else { rng.usize(..types.len()) };
        events.push((e, at[e], rng.usize(..workers.len())));
    }
    let mut engine = Engine::new(&Settings { table_bits: 12, ..Settings::default() }).unwrap();
    let mut out = Distribution::default();
    out.types.reserve(64);
    let mut joint: Vec<Joint> = Vec::with_capacity(16);
    assert!(allocations(|| drop(Vec::<u8>::with_capacity(64))) > 0, "the allocator counts");
    let (mut forecasts, mut lessons) = (0, 0);
    for (i, &(e, t, w)) in events.iter().enumerate() {
        let (entity, worker) = (Some(entities[e].as_str()), workers[w].as_str());
        let subjects = [
            Subject::Entity(entity),
            Subject::Entity(Some("never heard of")),
            Subject::EntityAt(entity, worker),
            Subject::Worker(worker),
            Subject::Host,
        ];
        let asked = allocations(|| {
            for subject in subjects {
                engine.predict(subject, &mut out);
                engine.joint(subject, 8, &mut joint);
                engine.p(subject, &types[t]);
                engine.joint_p(subject, entity, &types[t]);
            }
        });
        let time = Time::from_us(i as u64 * 1_000_000);
        let event = Event { time, task_type: &types[t], entity, worker: Some(worker) };
        let learned = allocations(|| engine.learn(&event));
        // At first names are new, and lists grow to the size that they keep.
        if i >= 3000 {
            forecasts += asked;
            lessons += learned;
        }
    }
    assert_eq!((forecasts, lessons), (0, 0));
}
