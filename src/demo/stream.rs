//! The stream of tasks: chains of snapshot work on volumes of unequal popularity, arriving over time.
//!
//! A chain is create → copy → verify → (replicate) → delete on one volume. A tenth of the steps depart from it:
//! a verification is left out, or a task reads an object that nothing announced. Arrivals are a Poisson process
//! whose rate loads the slots to `LOAD` if each task fetched all its data itself.

use super::image::{self, Volume};
use super::server::Link;
use crate::api::wire::Submit;
use crate::time::Span;
use std::collections::{BTreeMap, BTreeSet};

/// Volumes there are.
const VOLUMES: usize = 24;
/// Chains that are under way at once.
const ACTIVE: usize = 8;
/// Popularity of the volume of rank r is r to this negative power (Zipf).
const ZIPF: f64 = 0.8;
/// Share of steps that depart from the chain.
const DEPARTURES: f64 = 0.10;
/// Share of chains that are replicated.
const REPLICATED: f64 = 0.30;
/// Share of the slots' time that the tasks need if each fetches all its data itself.
const LOAD: f64 = 0.70;

/// A step of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Reads what changed since the last snapshot.
    Create,
    /// Copies the changed chunks.
    Copy,
    /// Reads the copy and the other chunks back and compares them with the manifest.
    Verify,
    /// Sends the volume's index to the far side.
    Replicate,
    /// Removes the copy.
    Delete,
}

impl Step {
    /// All, in the order of a chain.
    pub const ALL: [Step; 5] = [Step::Create, Step::Copy, Step::Verify, Step::Replicate, Step::Delete];

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Step::Create => "create",
            Step::Copy => "copy",
            Step::Verify => "verify",
            Step::Replicate => "replicate",
            Step::Delete => "delete",
        }
    }

    /// The task type that does it.
    pub fn task_type(self) -> String {
        format!("snapshot-{}", self.word())
    }

    /// Files of the volume that it reads, and whether it reads the copy.
    pub fn reads(self) -> (&'static [&'static str], bool) {
        match self {
            Step::Create => (&["manifest.json", "bitmap"], false),
            Step::Copy => (&["manifest.json", "chunk-0", "chunk-1"], false),
            Step::Verify => (&["manifest.json", "chunk-2", "chunk-3"], true),
            Step::Replicate => (&["manifest.json", "index"], true),
            Step::Delete => (&["manifest.json"], false),
        }
    }

    /// Mean time that its work takes once its data was read, milliseconds.
    fn work_ms(self) -> f64 {
        match self {
            Step::Create => 20.0,
            Step::Copy => 40.0,
            Step::Verify => 15.0,
            Step::Replicate => 30.0,
            Step::Delete => 5.0,
        }
    }
}

/// One task of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrival {
    /// When it is submitted, since the start.
    pub at: Span,
    /// What is submitted; `after` is filled in when the number of the task before is known.
    pub submit: Submit,
    /// Index of the arrival that must be done before it.
    pub follows: Option<usize>,
}

/// Volumes, and the tasks about them.
#[derive(Clone, Debug)]
pub struct Stream {
    /// What the object server serves.
    pub volumes: Vec<Volume>,
    /// In the order of `at`.
    pub arrivals: Vec<Arrival>,
}

impl Stream {
    /// The stream of a seed for `slots` slots behind `link`.
    pub fn generate(seed: u64, tasks: usize, slots: usize, link: &Link) -> Stream {
        let mut rng = fastrand::Rng::with_seed(seed);
        let volumes = image::make(VOLUMES, &mut rng);
        let mut chains = Chains::new(&mut rng);
        let mut steps: Vec<Drawn> = (0..tasks).map(|_| chains.next(&volumes, &mut rng)).collect();
        let alone_s: f64 = steps.iter().map(|d| d.alone_s(&volumes, link)).sum();
        let rate_per_s = LOAD * slots as f64 * tasks as f64 / alone_s;
        let mut at_s = 0.0;
        let mut last: BTreeMap<usize, usize> = BTreeMap::new();
        let arrivals = steps.drain(..).enumerate().map(|(n, drawn)| {
            at_s += -(1.0 - rng.f64()).ln() / rate_per_s;
            // The first step of a chain follows the last one of the chain before it on the same volume, for
            // both are about the same copy.
            let follows = last.insert(drawn.volume, n);
            Arrival { at: Span::from_s(at_s), submit: drawn.submit(&volumes), follows }
        });
        let arrivals = arrivals.collect();
        Stream { volumes, arrivals }
    }

    /// Bytes of all volumes.
    pub fn footprint_bytes(&self) -> u64 {
        self.volumes.iter().flat_map(|v| v.files.values()).map(|b| b.len() as u64).sum()
    }
}

/// A task before its time is known.
struct Drawn {
    volume: usize,
    step: Step,
    work_ms: f64,
    stranger: Option<String>,
}

impl Drawn {
    fn submit(&self, volumes: &[Volume]) -> Submit {
        Submit {
            task_type: self.step.task_type(),
            entity: Some(volumes[self.volume].name.clone()),
            args: BTreeMap::from([("ms".to_owned(), format!("{:.1}", self.work_ms))]),
            inputs: self.stranger.iter().map(|path| format!("volumes:{path}")).collect(),
            ..Submit::default()
        }
    }

    /// How long it takes a slot that fetches one object after the other.
    fn alone_s(&self, volumes: &[Volume], link: &Link) -> f64 {
        let own = self.step.reads().0.iter().map(|file| volumes[self.volume].bytes_of(file));
        let strange = self
            .stranger
            .iter()
            .map(|path| volumes.iter().find_map(|v| v.files.get(path)).map_or(0, |bytes| bytes.len() as u64));
        self.work_ms / 1e3 + own.chain(strange).map(|bytes| link.alone(bytes).as_s()).sum::<f64>()
    }
}

/// The chains under way.
struct Chains {
    /// Volumes, most popular first.
    by_rank: Vec<usize>,
    busy: BTreeSet<usize>,
    active: Vec<(usize, Vec<Step>)>,
}

impl Chains {
    fn new(rng: &mut fastrand::Rng) -> Chains {
        let mut by_rank: Vec<usize> = (0..VOLUMES).collect();
        rng.shuffle(&mut by_rank);
        let mut chains = Chains { by_rank, busy: BTreeSet::new(), active: Vec::new() };
        for _ in 0..ACTIVE {
            let chain = chains.begin(rng);
            chains.active.push(chain);
        }
        chains
    }

    /// A new chain on a volume that has none. The steps lie in reverse, the next one last.
    fn begin(&mut self, rng: &mut fastrand::Rng) -> (usize, Vec<Step>) {
        let weight = |rank: usize| (rank as f64 + 1.0).powf(-ZIPF);
        let free: Vec<usize> = (0..VOLUMES).filter(|r| !self.busy.contains(&self.by_rank[*r])).collect();
        let mut draw = rng.f64() * free.iter().map(|r| weight(*r)).sum::<f64>();
        let rank = free.iter().find(|r| {
            draw -= weight(**r);
            draw <= 0.0
        });
        let volume = self.by_rank[*rank.or(free.last()).expect("fewer chains than volumes")];
        self.busy.insert(volume);
        let replicated = rng.f64() < REPLICATED;
        let verified = rng.f64() >= DEPARTURES;
        let mut steps = Step::ALL.to_vec();
        steps.retain(|s| match s {
            Step::Replicate => replicated,
            Step::Verify => verified,
            _ => true,
        });
        steps.reverse();
        (volume, steps)
    }

    fn next(&mut self, volumes: &[Volume], rng: &mut fastrand::Rng) -> Drawn {
        let n = rng.usize(..self.active.len());
        let (volume, steps) = &mut self.active[n];
        let (volume, step) = (*volume, steps.pop().expect("a chain that has ended is replaced"));
        if steps.is_empty() {
            self.busy.remove(&volume);
            self.active[n] = self.begin(rng);
        }
        // Of another volume, so that it is none of the objects that the task reads anyway.
        let other = (volume + rng.usize(1..VOLUMES)) % VOLUMES;
        let chunk = rng.usize(..image::CHUNKS);
        let stranger = (rng.f64() < DEPARTURES).then(|| format!("{}/chunk-{chunk}", volumes[other].name));
        Drawn { volume, step, work_ms: step.work_ms() * (0.8 + 0.4 * rng.f64()), stranger }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link = Link::DEMO;

    #[test]
    fn a_seed_repeats_the_stream_and_another_does_not() {
        let make = |seed| Stream::generate(seed, 120, 4, &LINK).arrivals;
        assert_eq!(make(7), make(7));
        assert_ne!(make(7), make(8));
    }

    #[test]
    fn every_chain_is_in_order_and_waits_for_its_own_past() {
        let stream = Stream::generate(3, 300, 4, &LINK);
        assert!(stream.arrivals.is_sorted_by_key(|a| a.at));
        let mut copied = BTreeSet::new();
        for (n, arrival) in stream.arrivals.iter().enumerate() {
            let entity = arrival.submit.entity.clone().unwrap();
            if let Some(before) = arrival.follows {
                assert!(before < n && stream.arrivals[before].submit.entity.as_ref() == Some(&entity));
            }
            match arrival.submit.task_type.as_str() {
                "snapshot-copy" => assert!(copied.insert(entity)),
                "snapshot-delete" => assert!(copied.remove(&entity)),
                "snapshot-verify" | "snapshot-replicate" => assert!(copied.contains(&entity)),
                _ => assert!(!copied.contains(&entity)),
            }
        }
    }

    #[test]
    fn popular_volumes_come_more_often_and_the_load_is_as_promised() {
        let stream = Stream::generate(1, 600, 4, &LINK);
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for a in &stream.arrivals {
            *counts.entry(a.submit.entity.as_deref().unwrap()).or_default() += 1;
        }
        let (most, least) = (counts.values().max().unwrap(), counts.values().min().unwrap());
        assert!(*most > 2 * least, "{counts:?}");
        let last_s = stream.arrivals[599].at.as_s();
        assert!((20.0..90.0).contains(&last_s), "{last_s}");
    }
}
