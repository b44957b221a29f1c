//! What is hot: takes samples and facts, says how busy every worker, cell and shard is.
//!
//! Facts in: the host's counters, samples of running attempts, outcomes, transfers, probes, occupancy. Out:
//! [`crate::flow::Heat`] for those who decide, [`Report`] for those who watch, points for the series.
//! Everything about the same second may come in any order and late: see [`super::meter`].

use super::attempts::{Attempts, Charge, Running};
use super::counters::{GroupSample, HostRates, HostSample};
use super::latency::Latency;
use super::layout::Error;
use super::outlook::Outlook;
use super::pace::Pace;
use super::parts::{Cell, Meters, Occupancy, Saved, Shard, Worker};
use super::report::Totals;
use super::series::Series;
use super::settings::{Capacity, Settings, WorkerInfo};
use super::tally::Tallies;
use super::usual::Usual;
use crate::flow::{Outcome, Place, Resource, SourceId, TaskId, TypeId, Usage, WorkerId};
use crate::time::{Span, Time};

/// Most workers, outside ones included.
pub const MAX_WORKERS: usize = 4_096;

/// A transfer from a source, or the newest slice of a long one: slices of one transfer follow each other in
/// time, and only the first carries `first_byte`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transfer {
    /// Where it came from.
    pub source: SourceId,
    /// Where the object lives.
    pub place: Place,
    /// Bytes that arrived.
    pub bytes: u64,
    /// When this slice began.
    pub started: Time,
    /// When it ended.
    pub ended: Time,
    /// From the request to its first byte.
    pub first_byte: Option<Span>,
    /// Whether it failed: what arrived before counts all the same.
    pub failed: bool,
}

/// The monitor. One for each daemon.
#[derive(Debug)]
pub struct Monitor {
    pub(super) settings: Settings,
    pub(super) series: Series,
    pub(super) attempts: Attempts,
    pub(super) outlook: Outlook,
    pub(super) usual: Usual,
    pub(super) tallies: Tallies,
    pub(super) sample: Option<(Time, HostSample)>,
    pub(super) rates: Option<HostRates>,
    pub(super) host: Meters,
    pub(super) workers: Vec<Worker>,
    pub(super) cells: Vec<Cell>,
    pub(super) sources: Vec<Latency>,
    pub(super) pace: Pace,
    pub(super) tidied: Time,
    /// When the last round ended.
    pub(super) rounded: Time,
    pub(super) ignored: u64,
    pub(super) saved: Option<Saved>,
}

impl Monitor {
    /// Nothing is known yet.
    ///
    /// # Errors
    /// If the series' layout cannot be kept.
    pub fn new(settings: Settings) -> Result<Monitor, Error> {
        let smoothing = settings.smoothing;
        let shard = || Shard { meters: Meters::new(smoothing), occupancy: Occupancy::default(), seen: false };
        let cell = |shards: u16| Cell {
            meters: Meters::new(smoothing),
            shards: (0..shards.max(1)).map(|_| shard()).collect(),
            totals: Totals::default(),
        };
        let mut monitor = Monitor {
            series: Series::new(settings.series.clone())?,
            attempts: Attempts::default(),
            outlook: Outlook::default(),
            usual: Usual::default(),
            tallies: Tallies::default(),
            sample: None,
            rates: None,
            host: Meters::new(smoothing),
            workers: Vec::new(),
            cells: settings.cells.iter().map(|c| cell(c.shards)).collect(),
            sources: settings.sources.iter().map(|_| Latency::new(settings.latency_window)).collect(),
            pace: Pace::new(settings.interval, settings.budget),
            tidied: Time::ZERO,
            rounded: Time::ZERO,
            ignored: 0,
            saved: None,
            settings,
        };
        monitor.make_workers();
        Ok(monitor)
    }

    fn make_workers(&mut self) {
        let worker = Worker {
            meters: Meters::new(self.settings.smoothing),
            totals: Totals::default(),
            round_trip: None,
        };
        self.workers.resize(self.settings.workers.len(), worker);
    }

    // ---- facts ------------------------------------------------------------------------------------------

    /// An outside worker came, or a worker changed. Ids follow each other; one that would leave a gap beyond
    /// [`MAX_WORKERS`] is ignored.
    pub fn attach(&mut self, id: WorkerId, info: WorkerInfo) {
        let index = usize::from(id.0);
        if index >= MAX_WORKERS {
            self.ignored += 1;
            return;
        }
        while self.settings.workers.len() <= index {
            let name = format!("worker {}", self.settings.workers.len());
            let capacity = Capacity::default();
            self.settings.workers.push(WorkerInfo { name, capacity, on_host: false, near: Vec::new() });
        }
        self.settings.workers[index] = info;
        self.make_workers();
    }

    /// The host's counters now. Also charges running attempts of which there are no samples yet.
    pub fn host(&mut self, now: Time, sample: HostSample) {
        let new = (now, sample);
        let rates = self.sample.as_ref().and_then(|old| HostRates::between(old, &new));
        if let Some(rates) = rates {
            // The first rates are taken to have been so before: memory was in use before we looked.
            let over = if self.rates.is_some() { rates.over } else { self.memory_of_the_meters() };
            // A replay's clock may be younger than that.
            let from = now - over;
            for (resource, rate) in Resource::ALL.into_iter().zip(self.host_used(&rates)) {
                self.host.charge(resource, rate * now.since(from).as_s(), from, now);
            }
            self.rates = Some(rates);
        }
        self.sample = Some(new);
        let estimates = self.attempts.estimate(now);
        self.apply(&estimates);
    }

    /// An attempt began.
    pub fn running(&mut self, about: Running) {
        self.attempts.started(about);
    }

    /// What a running attempt's processes have used so far.
    pub fn children(&mut self, now: Time, task: TaskId, sample: GroupSample) {
        let charges = self.attempts.sampled(now, self.rounded, task, sample);
        self.apply(&charges);
    }

    /// An attempt ended; `place` is the cell and shard of its first input.
    pub fn outcome(&mut self, outcome: &Outcome, place: Option<Place>) {
        let charges = self.attempts.ended(outcome, place);
        self.apply(&charges);
        self.usual.learn(outcome);
        self.tallies.count(outcome);
        let used = Totals::of(&outcome.usage);
        match self.workers.get_mut(usize::from(outcome.worker.0)) {
            Some(worker) => worker.totals.add(&used),
            None => self.ignored += 1,
        }
        let cell = place.and_then(|p| self.cells.get_mut(usize::from(p.cell.0)));
        if let Some(cell) = cell {
            // What was fetched is counted by its transfer.
            cell.totals.add(&Totals { net_bytes: 0, ..used });
        }
    }

    /// Bytes came from a source. They are its cell's network and, because they were read there, its disks.
    pub fn transfer(&mut self, transfer: &Transfer) {
        let Transfer { source, place, bytes, started, ended, first_byte, failed } = *transfer;
        if let Some(latency) = self.sources.get_mut(usize::from(source.0)) {
            match first_byte {
                Some(first) => latency.answered(ended, first),
                None if failed => latency.failed(ended),
                None => {}
            }
        }
        for resource in [Resource::Net, Resource::Io] {
            self.charge_place(place, resource, bytes as f64, started, ended);
        }
        if let Some(cell) = self.cells.get_mut(usize::from(place.cell.0)) {
            let used = Totals { cpu_s: 0.0, io_bytes: bytes, net_bytes: bytes };
            cell.totals.add(&used);
        }
    }

    /// A source was asked for nothing much: it answered after so long, or not at all.
    pub fn probe(&mut self, now: Time, source: SourceId, answered: Option<Span>) {
        match (self.sources.get_mut(usize::from(source.0)), answered) {
            (Some(latency), Some(after)) => latency.answered(now, after),
            (Some(latency), None) => latency.failed(now),
            (None, _) => self.ignored += 1,
        }
    }

    /// An outside worker's heartbeat took this long there and back.
    pub fn heartbeat(&mut self, now: Time, worker: WorkerId, round_trip: Span) {
        let window = self.settings.latency_window;
        match self.workers.get_mut(usize::from(worker.0)) {
            Some(it) => it.round_trip.get_or_insert_with(|| Latency::new(window)).answered(now, round_trip),
            None => self.ignored += 1,
        }
    }

    /// What waits for shards and moves out of them now. Replaces what was told before, of all shards: for what
    /// is not named nothing waits.
    pub fn occupied(&mut self, all: &[(Place, Occupancy)]) {
        for shard in self.cells.iter_mut().flat_map(|c| &mut c.shards) {
            shard.occupancy = Occupancy::default();
        }
        for &(place, occupancy) in all {
            match self.shard(place) {
                Some(shard) => {
                    shard.occupancy = occupancy;
                    shard.seen |= occupancy != Occupancy::default();
                }
                None => self.ignored += 1,
            }
        }
    }

    /// What a task of this type usually uses, by the attempts that ended so far.
    pub fn usual(&self, task_type: TypeId) -> Option<Usage> {
        self.usual.of(task_type)
    }

    /// What staging has saved so far.
    pub fn saved(&mut self, saved: Saved) {
        self.saved = Some(saved);
    }

    fn apply(&mut self, charges: &[Charge]) {
        for &Charge { worker, place, resource, amount, from, to } in charges {
            match self.workers.get_mut(usize::from(worker.0)) {
                Some(worker) => worker.meters.charge(resource, amount, from, to),
                None => self.ignored += 1,
            }
            // What was fetched for it was charged to the place by its transfer.
            if let Some(place) = place.filter(|_| resource != Resource::Net) {
                self.charge_place(place, resource, amount, from, to);
            }
        }
    }

    fn charge_place(&mut self, place: Place, resource: Resource, amount: f64, from: Time, to: Time) {
        match self.shard(place) {
            Some(shard) => {
                shard.seen = true;
                shard.meters.charge(resource, amount, from, to);
                self.cells[usize::from(place.cell.0)].meters.charge(resource, amount, from, to);
            }
            None => self.ignored += 1,
        }
    }

    fn shard(&mut self, place: Place) -> Option<&mut Shard> {
        self.cells.get_mut(usize::from(place.cell.0))?.shards.get_mut(usize::from(place.shard))
    }

    /// What was recorded.
    pub fn series(&self) -> &Series {
        &self.series
    }

    /// Names and capacities, outside workers included.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
