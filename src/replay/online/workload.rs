//! Streams of tasks: chains on volumes, as a snapshot service makes them.
//!
//! A chain creates a snapshot of a volume, copies it, verifies it, perhaps replicates it, deletes it; each step
//! reads the volume's files and numbered chunks. A tenth of the steps depart: one is left out, or reads some
//! other object. Volumes are drawn by Zipf; tasks arrive by a Poisson process at a given load.

use crate::flow::{Map, ObjectName, TypeId};
use crate::time::{Span, Time};
use std::sync::Arc;

/// Task types of the stream, by index.
pub const TYPES: [&str; 5] = ["create", "copy", "verify", "replicate", "delete"];
/// Mean work of each type once its inputs are there, milliseconds.
const WORK_MS: [f64; 5] = [20.0, 40.0, 15.0, 30.0, 5.0];

/// One task of a stream.
#[derive(Clone, Debug)]
pub struct Job {
    /// When it is submitted.
    pub at: Time,
    /// Its type: an index into [`TYPES`].
    pub task_type: TypeId,
    /// The volume that it is about.
    pub entity: Arc<str>,
    /// Its work once its inputs are there.
    pub work: Span,
    /// What it reads.
    pub inputs: Vec<ObjectName>,
}

/// A stream and the objects that it reads.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// In order of arrival.
    pub jobs: Vec<Job>,
    /// Every object that exists, bytes.
    pub sizes: Map<ObjectName, u64>,
}

/// What a stream is like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Tasks.
    pub tasks: usize,
    /// Volumes.
    pub volumes: usize,
    /// Numbered chunks of a volume.
    pub chunks: u64,
    /// Chains under way at once.
    pub active: usize,
    /// Exponent of the volumes' popularity.
    pub zipf: f64,
    /// Share of departures from the template.
    pub noise: f64,
    /// Slots, and the load on them if every input had to be fetched.
    pub load: (usize, f64),
    /// Time to the first byte.
    pub latency: Span,
    /// Bytes per second of one connection.
    pub connection_per_s: f64,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            seed: 1,
            tasks: 600,
            volumes: 40,
            chunks: 12,
            active: 12,
            zipf: 0.8,
            noise: 0.1,
            load: (4, 0.7),
            latency: Span::from_ms(40),
            connection_per_s: 20e6,
        }
    }
}

struct ChainState {
    volume: usize,
    chunk: u64,
    steps: Vec<usize>,
    at: usize,
}

struct Generator {
    shape: Shape,
    rng: fastrand::Rng,
    order: Vec<usize>,
    next_chunk: Vec<u64>,
    busy: Vec<bool>,
}

impl Generator {
    fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.rng.f64(), self.rng.f64());
        (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
    }

    fn zipf(&mut self) -> usize {
        let weight = |i: usize| 1.0 / ((i + 1) as f64).powf(self.shape.zipf);
        let total: f64 = (0..self.shape.volumes).map(weight).sum();
        let mut left = self.rng.f64() * total;
        let rank = (0..self.shape.volumes).find(|i| {
            left -= weight(*i);
            left <= 0.0
        });
        self.order[rank.unwrap_or(0)]
    }

    fn chain(&mut self) -> ChainState {
        let volume = loop {
            let v = self.zipf();
            let busy = self.busy.iter().filter(|b| **b).count();
            if !self.busy[v] || busy > self.shape.volumes / 2 {
                break v;
            }
        };
        self.busy[volume] = true;
        let chunk = self.next_chunk[volume];
        self.next_chunk[volume] = (chunk + 2) % self.shape.chunks;
        let mut steps = vec![0, 1, 2];
        if self.rng.f64() < 0.3 {
            steps.push(3);
        }
        steps.push(4);
        let noise = self.shape.noise;
        let steps = steps.into_iter().enumerate().filter(|(i, _)| *i == 0 || self.rng.f64() > noise);
        ChainState { volume, chunk, steps: steps.map(|(_, s)| s).collect(), at: 0 }
    }
}

fn object(volume: usize, file: &str) -> ObjectName {
    ObjectName::new(format!("volumes:vol{volume:03}/{file}"))
}

impl Stream {
    /// The stream of that shape: the same for the same seed.
    pub fn generate(shape: &Shape) -> Stream {
        let mut g = Generator {
            rng: fastrand::Rng::with_seed(shape.seed),
            order: (0..shape.volumes).collect(),
            next_chunk: Vec::new(),
            busy: vec![false; shape.volumes],
            shape: shape.clone(),
        };
        let mut sizes = Map::default();
        for v in 0..shape.volumes {
            for kind in ["manifest", "index", "bitmap"] {
                sizes.insert(object(v, kind), g.rng.u64(256 << 10..512 << 10));
            }
            for c in 0..shape.chunks {
                let bytes = (1.5 * f64::from(1 << 20)) * (0.8 * g.normal()).exp();
                sizes.insert(object(v, &format!("c{c:04}")), bytes.clamp(262_144.0, 8_388_608.0) as u64);
            }
        }
        g.rng.shuffle(&mut g.order);
        g.next_chunk = (0..shape.volumes).map(|_| g.rng.u64(..shape.chunks)).collect();
        let mut all: Vec<ObjectName> = sizes.keys().cloned().collect();
        all.sort_unstable();
        let mut active: Vec<ChainState> = (0..shape.active).map(|_| g.chain()).collect();
        let mut jobs = Vec::new();
        while jobs.len() < shape.tasks {
            let k = g.rng.usize(..active.len());
            let chain = &active[k];
            let step = chain.steps[chain.at];
            let (v, c) = (chain.volume, |i: u64| format!("c{:04}", (chain.chunk + i) % shape.chunks));
            let mut inputs = match step {
                0 => vec![object(v, "manifest"), object(v, &c(0))],
                1 => vec![object(v, &c(1))],
                2 => vec![object(v, "bitmap"), object(v, &c(1))],
                3 => vec![object(v, &c(2))],
                _ => vec![object(v, "index")],
            };
            if g.rng.f64() < shape.noise {
                let i = g.rng.usize(..inputs.len());
                inputs[i] = all[g.rng.usize(..all.len())].clone();
                inputs.dedup();
            }
            let work = Span::from_s(WORK_MS[step] / 1e3 * (0.8 + 0.4 * g.rng.f64()));
            let entity = format!("vol{v:03}").into();
            jobs.push(Job { at: Time::ZERO, task_type: TypeId(step as u16), entity, work, inputs });
            active[k].at += 1;
            if active[k].at == active[k].steps.len() {
                g.busy[v] = false;
                active[k] = g.chain();
            }
        }
        let mut stream = Stream { jobs, sizes };
        stream.arrive(&mut g.rng, shape);
        stream
    }

    /// Poisson arrivals at the load of the shape.
    fn arrive(&mut self, rng: &mut fastrand::Rng, shape: &Shape) {
        let fetch = |o: &ObjectName| shape.latency.as_s() + self.sizes[o] as f64 / shape.connection_per_s;
        let busy_s: f64 =
            self.jobs.iter().map(|j| j.work.as_s() + j.inputs.iter().map(fetch).sum::<f64>()).sum();
        let mean_gap_s = busy_s / self.jobs.len() as f64 / (shape.load.0 as f64 * shape.load.1);
        let mut at_s = 1.0;
        for job in &mut self.jobs {
            at_s += -mean_gap_s * (1.0 - rng.f64()).ln();
            job.at = Time::from_s(at_s);
        }
    }

    /// From the two tables of a recorded workload: objects (`name,bytes,…`) and tasks
    /// (`time_s,worker,task_type,entity,duration_s,bytes,objects,…`). `None` where a line cannot be read.
    pub fn parse(catalogue: &str, tasks: &str) -> Option<Stream> {
        let mut stream = Stream::default();
        let name = |n: &str| ObjectName::new(format!("volumes:{n}"));
        for line in catalogue.lines().skip(1) {
            let mut fields = line.split(',');
            stream.sizes.insert(name(fields.next()?), fields.next()?.parse().ok()?);
        }
        for line in tasks.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let task_type = TYPES.iter().position(|t| fields.get(2).is_some_and(|f| f.ends_with(t)))?;
            stream.jobs.push(Job {
                at: Time::from_s(1.0 + fields.first()?.parse::<f64>().ok()?),
                task_type: TypeId(task_type as u16),
                entity: (*fields.get(3)?).into(),
                work: Span::from_s(fields.get(4)?.parse().ok()?),
                inputs: fields
                    .get(6)?
                    .split(';')
                    .map(|o| o.rsplit_once(':').map(|x| name(x.0)))
                    .collect::<Option<_>>()?,
            });
        }
        Some(stream)
    }

    /// Bytes of all objects that some task reads, each once.
    pub fn footprint_bytes(&self) -> u64 {
        let mut read: Vec<&ObjectName> = self.jobs.iter().flat_map(|j| &j.inputs).collect();
        read.sort_unstable();
        read.dedup();
        read.iter().map(|o| self.sizes[*o]).sum()
    }
}
