//! The core of prefetching: agenda and flight table together, and what is known between them.
//!
//! The agenda says what is worth staging, the table which transfer goes first; here one's wants become the
//! other's, and every answer finds who waits for it. Facts in, [`Action`]s out.

use super::agenda::{self, Agenda, Derived};
use super::flights::{self, Answer, Class, FlightId, Flights, Key, SourceLimits, Waiter, Want};
use crate::flow::{
    Arrived, CacheId, Decision, Heat, Map, ObjectName, Outcome, Plan, SourceId, TypeId, WorkerId, Writing,
};
use crate::message::{Attached, Cached, Declined, Foreseen, Purpose};
use crate::task::{Catalogue, Places};
use crate::time::Time;
use std::sync::Arc;

/// A transfer to be started.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// Which.
    pub flight: FlightId,
    /// What and where to.
    pub key: Key,
    /// Where from.
    pub source: SourceId,
    /// Why, at first.
    pub class: Class,
    /// So many ranges at once at most.
    pub connections: u16,
    /// Why it wants room in the pool.
    pub purpose: Purpose,
    /// The object's size, if anybody knows it.
    pub bytes: Option<u64>,
    /// What it is taken to be otherwise.
    pub guess: u64,
    /// A running task writes the object: what comes must not be read by anybody later, so it stays out of the
    /// pool.
    pub past_the_pool: bool,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Start a transfer, and report its end by [`Prefetch::flown`].
    Start(Start),
    /// Pace a running transfer as of another class.
    SetClass {
        /// Which.
        flight: FlightId,
        /// As what.
        class: Class,
    },
    /// End a running transfer, and report its end.
    Stop {
        /// Which.
        flight: FlightId,
    },
    /// All staging from a source together may take so many bytes/s from now on.
    Rate {
        /// Which source.
        source: SourceId,
        /// Zero is "pause", infinite "no limit".
        staging_bytes_per_s: f64,
    },
    /// What a task waits for is where the transfer that just ended has left it.
    Landed {
        /// Who waits.
        waiter: Waiter,
        /// For what.
        key: Key,
        /// Whether the transfer was under way already when it came.
        joined: bool,
        /// Whether it had been started for staging.
        staged: bool,
    },
    /// What a task waits for cannot be had.
    Failed {
        /// Who waits.
        waiter: Waiter,
        /// Why.
        error: String,
    },
    /// What the forecast needs of a pool.
    Rank {
        /// The pool.
        cache: CacheId,
        /// Changes since the last one.
        needs: agenda::Needs,
    },
    /// For the diary.
    Decided(Decision),
    /// For who proposed them: these objects are not staged.
    Declined(Declined),
}

/// The core.
pub struct Prefetch {
    flights: Flights,
    pub(super) agenda: Agenda,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) places: Arc<Places>,
    /// Each worker's pool, by worker index.
    worker_caches: Vec<CacheId>,
    /// Pools of workers that came later.
    attached: Map<WorkerId, CacheId>,
    /// Staging wants of the agenda, by who waits and by what.
    staging: Map<Waiter, Key>,
    by_key: Map<Key, Waiter>,
    writers: Map<ObjectName, u32>,
    /// Where a task of each type would run.
    homes: Map<TypeId, (WorkerId, CacheId)>,
    next_waiter: u64,
}

impl Prefetch {
    /// An empty table with these sources, by index.
    pub fn new(
        mut flights: Flights,
        agenda: Agenda,
        catalogue: Arc<Catalogue>,
        places: Arc<Places>,
        worker_caches: Vec<CacheId>,
        sources: impl IntoIterator<Item = SourceLimits>,
        now: Time,
    ) -> Prefetch {
        // Nothing is queued yet, so nothing is asked for.
        let mut nothing = Vec::new();
        for (i, limits) in sources.into_iter().enumerate() {
            flights.set_source(SourceId(i as u16), limits, now, &mut nothing);
        }
        Prefetch {
            flights,
            agenda,
            catalogue,
            places,
            worker_caches,
            attached: Map::default(),
            staging: Map::default(),
            by_key: Map::default(),
            writers: Map::default(),
            homes: Map::default(),
            next_waiter: 1,
        }
    }

    /// What is to be staged, and what came of it.
    pub fn agenda(&self) -> &Agenda {
        &self.agenda
    }

    /// All transfers.
    pub fn flights(&self) -> &Flights {
        &self.flights
    }

    /// Whether a task that has not ended writes the object.
    pub fn is_written(&self, object: &ObjectName) -> bool {
        self.writers.contains_key(object)
    }

    // ---- what tasks want -----------------------------------------------------------------------------------

    /// A task wants an object in a pool: joins what flies or makes it fly. [`Action::Landed`] or
    /// [`Action::Failed`] names the waiter later.
    ///
    /// # Errors
    /// If the object has no known source.
    pub fn want(&mut self, key: Key, now: Time, out: &mut Vec<Action>) -> Result<Waiter, String> {
        let source =
            self.places.source(&key.object).ok_or_else(|| format!("{} has no known source", key.object))?;
        let waiter = self.waiter();
        let bytes = self.agenda.sizes().known(&key.object);
        let want = Want { waiter, key, source, class: Class::Demand, due: now, bytes };
        let mut said = Vec::new();
        self.flights.want(want, now, &mut said);
        self.heed(said, now, out);
        Ok(waiter)
    }

    /// A task does not wait any more.
    pub fn cancel(&mut self, waiter: Waiter, now: Time, out: &mut Vec<Action>) {
        let mut said = Vec::new();
        self.flights.cancel(waiter, now, &mut said);
        self.heed(said, now, out);
    }

    fn waiter(&mut self) -> Waiter {
        self.next_waiter += 1;
        Waiter(self.next_waiter)
    }

    // ---- transfers -----------------------------------------------------------------------------------------

    /// Bytes of a transfer arrived, counted from the object's start.
    pub fn progress(&mut self, flight: FlightId, done: u64, total: u64, now: Time, out: &mut Vec<Action>) {
        let mut said = Vec::new();
        self.flights.progress(flight, done, total, now, &mut said);
        self.heed(said, now, out);
    }

    /// A transfer has ended.
    pub fn flown(
        &mut self,
        flight: FlightId,
        object: &ObjectName,
        ending: flights::Ending,
        now: Time,
        out: &mut Vec<Action>,
    ) {
        if let flights::Ending::Landed { bytes, .. } = &ending {
            self.agenda.measured(object, *bytes);
        }
        let mut said = Vec::new();
        self.flights.finished(flight, ending, now, &mut said);
        self.heed(said, now, out);
    }

    /// What the table of transfers said.
    fn heed(&mut self, said: Vec<flights::Action>, now: Time, out: &mut Vec<Action>) {
        for action in said {
            match action {
                flights::Action::Start { flight, key, source, class, connections, .. } => {
                    let bytes = self.agenda.sizes().known(&key.object);
                    out.push(Action::Start(Start {
                        flight,
                        source,
                        class,
                        connections,
                        purpose: self.agenda.purpose(&key, class),
                        bytes,
                        guess: self.agenda.sizes().guess(&key.object),
                        past_the_pool: self.is_written(&key.object),
                        key,
                    }));
                }
                flights::Action::SetClass { flight, class } => out.push(Action::SetClass { flight, class }),
                flights::Action::Stop { flight } => out.push(Action::Stop { flight }),
                flights::Action::Rate { source, staging_bytes_per_s } => {
                    out.push(Action::Rate { source, staging_bytes_per_s });
                }
                flights::Action::Answer { waiter, key, answer } => {
                    self.answered(waiter, key, answer, now, out)
                }
            }
        }
    }

    fn answered(&mut self, waiter: Waiter, key: Key, answer: Answer, now: Time, out: &mut Vec<Action>) {
        if self.staging.remove(&waiter).is_some() {
            self.by_key.remove(&key);
            self.agenda.staged(&key, &answer, now);
            return;
        }
        out.push(match answer {
            Answer::Landed { joined, staged, .. } => Action::Landed { waiter, key, joined, staged },
            Answer::Failed(error) | Answer::Refused { error, .. } => {
                Action::Failed { waiter, error: error.to_string() }
            }
            Answer::Cancelled | Answer::Full => Action::Failed { waiter, error: "cancelled".to_owned() },
        });
    }

    // ---- facts ---------------------------------------------------------------------------------------------

    /// A task that writes objects begins or ends. What is on its way is of no use then; what the pools hold is
    /// to be dropped, except what the task has published. Gives the objects to drop.
    pub fn writing(&mut self, w: Writing, now: Time, out: &mut Vec<Action>) -> Vec<ObjectName> {
        let Writing { objects, begins, published, .. } = w;
        let mut said = Vec::new();
        for object in &objects {
            let writers = self.writers.entry(object.clone()).or_default();
            *writers = if begins { *writers + 1 } else { writers.saturating_sub(1) };
            if *writers == 0 {
                self.writers.remove(object);
            }
            self.agenda.written(object, begins);
            if !published.contains(object) {
                self.flights.invalidate(object, now, &mut said);
            }
        }
        self.heed(said, now, out);
        // While it was being written nobody brought a copy into a pool, so a published one is the new version.
        objects.into_iter().filter(|o| !published.contains(o)).collect()
    }

    /// Dispatch's tentative plan.
    pub fn planned(&mut self, plan: &Plan, now: Time, out: &mut Vec<Action>) {
        self.homes.extend(plan.homes.iter().map(|(t, w, c)| (*t, (*w, *c))));
        self.agenda.planned(plan);
        self.attend(now, out);
    }

    /// Tasks have come: what they read is queued, before any plan says so.
    pub fn arrived(&mut self, arrived: &[Arrived]) {
        for a in arrived {
            if let Some((worker, cache)) = self.homes.get(&a.task_type).copied() {
                self.agenda.arrived(a, worker, cache);
            }
        }
    }

    /// An outside worker is there.
    pub fn attached(&mut self, a: &Attached) {
        self.attached.insert(a.worker, a.cache);
    }

    /// What an entity is expected to bring. What was learned of an object itself says more than what its type's
    /// template says.
    pub fn foreseen(&mut self, f: Foreseen, now: Time, out: &mut Vec<Action>) {
        let mut derived: Vec<Derived> = Vec::new();
        for (object, expected) in f.objects {
            let Some((worker, cache)) = self.homes.get(&expected.task_type).copied() else { continue };
            derived.push(Derived { object, worker, cache, expected });
        }
        for e in &f.expected {
            let Some((worker, cache)) = self.homes.get(&e.task_type).copied() else { continue };
            let spec = self.catalogue.get(e.task_type);
            for object in crate::task::derived_inputs(spec, &e.entity, &self.places) {
                if derived.iter().all(|d| d.object != object) {
                    derived.push(Derived { object, worker, cache, expected: e.clone() });
                }
            }
        }
        self.agenda.foreseen(&f.entity, derived, now);
        self.attend(now, out);
    }

    /// A pool got an object, or lost it.
    pub fn cached(&mut self, fact: &Cached, now: Time) {
        self.agenda.cached(fact, now);
    }

    /// An attempt has ended.
    pub fn learned(&mut self, o: &Outcome, now: Time) {
        let configured = self.worker_caches.get(usize::from(o.worker.0));
        let cache = configured.or_else(|| self.attached.get(&o.worker)).copied().unwrap_or(CacheId(0));
        self.agenda.learned(o, cache, now);
    }

    /// The monitor's heat.
    pub fn heated(&mut self, heat: Heat) {
        self.agenda.heated(heat);
    }

    // ---- time ----------------------------------------------------------------------------------------------

    /// Time has passed.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.flights.next_wake().is_some_and(|t| t <= now) {
            let mut said = Vec::new();
            self.flights.tick(now, &mut said);
            self.heed(said, now, out);
        }
        self.attend(now, out);
    }

    /// Asks the agenda what follows from the facts, and passes it on.
    pub(super) fn attend(&mut self, now: Time, out: &mut Vec<Action>) {
        let mut wanted = Vec::new();
        self.agenda.attend(now, &mut wanted);
        for action in wanted {
            match action {
                agenda::Action::Stage { key, due } => self.stage(key, due, now, out),
                agenda::Action::Postpone { key, due } => {
                    if let Some(waiter) = self.by_key.get(&key).copied() {
                        let mut said = Vec::new();
                        self.flights.postpone(waiter, due, now, &mut said);
                        self.heed(said, now, out);
                    }
                }
                agenda::Action::CallOff { key } => {
                    if let Some(waiter) = self.by_key.get(&key).copied() {
                        self.cancel(waiter, now, out);
                    }
                }
                agenda::Action::Rank { cache, needs } => out.push(Action::Rank { cache, needs }),
                agenda::Action::Budget { bytes_per_s, connections } => {
                    let budget = flights::Budget { bytes_per_s, connections };
                    let mut said = Vec::new();
                    self.flights.set_budget(budget, now, &mut said);
                    self.heed(said, now, out);
                }
                agenda::Action::Decided(decision) => out.push(Action::Decided(decision)),
            }
        }
        out.extend(self.declined().map(Action::Declined));
    }

    fn stage(&mut self, key: Key, due: Time, now: Time, out: &mut Vec<Action>) {
        let Some(source) = self.places.source(&key.object) else { return };
        if self.by_key.contains_key(&key) || self.is_written(&key.object) {
            return;
        }
        let waiter = self.waiter();
        self.staging.insert(waiter, key.clone());
        self.by_key.insert(key.clone(), waiter);
        let bytes = self.agenda.sizes().known(&key.object);
        let want = Want { waiter, key, source, class: Class::Staging, due, bytes };
        let mut said = Vec::new();
        self.flights.want(want, now, &mut said);
        self.heed(said, now, out);
    }
}
