//! Forecasts and lessons of the next-type engine.
//!
//! `cargo bench --bench types`; the stream is seeded: 400 entities walk a chain of 40 types with noise, 12
//! workers. Every question and lesson is about another entity than the one before, so caches are cold.
//!
//! Medians on 2026-11-24, one of two cores of an AMD EPYC, neighbours busy:
//!
//! | what | time |
//! |---|---|
//! | predict, entity | 3.7 µs |
//! | predict and learn, entity | 5.9 µs |
//! | predict with pairs, worker | 22 µs |
//! | learn, everything: entity, pair, worker, host | 69 µs |
//! | snapshot of all four models | 4.6 ms |

#![allow(missing_docs, reason = "criterion's macros make items that cannot be documented")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use forestage::predict::types::{Distribution, Engine, Event, Joint, Settings, Subject};
use forestage::time::Time;
use std::hint::black_box;

struct Task {
    time: Time,
    task_type: String,
    entity: String,
    worker: String,
}

impl Task {
    fn event(&self) -> Event<'_> {
        Event {
            time: self.time,
            task_type: &self.task_type,
            entity: Some(&self.entity),
            worker: Some(&self.worker),
        }
    }
}

fn stream(n: usize) -> Vec<Task> {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut at = vec![0usize; 400];
    (0..n)
        .map(|i| {
            let e = rng.usize(..at.len());
            at[e] = if rng.u8(..10) < 8 { (at[e] * 3 + 1) % 40 } else { rng.usize(..40) };
            Task {
                time: Time::from_us(i as u64 * 1_000_000),
                task_type: format!("type{}", at[e]),
                entity: format!("entity{e}"),
                worker: format!("worker{}", rng.usize(..12)),
            }
        })
        .collect()
}

fn taught(workers: bool, stream: &[Task]) -> Engine {
    let mut engine =
        Engine::new(&Settings { workers, ..Settings::default() }).expect("the defaults are in range");
    stream.iter().for_each(|t| engine.learn(&t.event()));
    engine
}

fn types(c: &mut Criterion) {
    let stream = stream(20_000);
    let (past, future) = stream.split_at(16_000);
    let mut out = Distribution::default();
    let mut joint: Vec<Joint> = Vec::new();

    let mut engine = taught(false, past);
    let mut next = future.iter().cycle();
    c.bench_function("predict, entity", |b| {
        b.iter_batched(
            || next.next().expect("a cycle has no end").entity.as_str(),
            |entity| engine.for_entity(Some(black_box(entity)), &mut out),
            BatchSize::SmallInput,
        );
    });
    let mut next = future.iter().cycle();
    c.bench_function("predict and learn, entity", |b| {
        b.iter_batched(
            || next.next().expect("a cycle has no end"),
            |task| {
                engine.for_entity(Some(&task.entity), &mut out);
                engine.learn(black_box(&task.event()));
            },
            BatchSize::SmallInput,
        );
    });

    let mut engine = taught(true, past);
    let mut next = future.iter().cycle();
    c.bench_function("predict with pairs, worker", |b| {
        b.iter_batched(
            || next.next().expect("a cycle has no end").worker.as_str(),
            |worker| {
                engine.for_worker(black_box(worker), &mut out);
                engine.joint(Subject::Worker(worker), 8, &mut joint);
            },
            BatchSize::SmallInput,
        );
    });
    let mut next = future.iter().cycle();
    c.bench_function("learn, everything", |b| {
        b.iter_batched(
            || next.next().expect("a cycle has no end"),
            |task| engine.learn(black_box(&task.event())),
            BatchSize::SmallInput,
        );
    });
    c.bench_function("snapshot", |b| b.iter(|| black_box(engine.to_bytes()).len()));
}

criterion_group!(benches, types);
criterion_main!(benches);
