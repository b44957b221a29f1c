//! The table's books: flights made, joined, raised, detached and ended.

use super::*;

impl SourceState {
    pub(super) fn new(limits: SourceLimits) -> SourceState {
        SourceState {
            limits,
            queue: BTreeSet::new(),
            running: BTreeSet::new(),
            meter: Meter::default(),
            staging_bytes_per_s: f64::INFINITY,
            failures_in_a_row: 0,
            down_until: Time::ZERO,
        }
    }

    /// Learns from an ending whether the source is up.
    pub(super) fn heed(&mut self, ending: &Ending, now: Time) {
        match ending {
            Ending::Failed { error, .. } if error.is_about_source() => {
                self.failures_in_a_row += 1;
                if self.failures_in_a_row >= DOWN_AFTER {
                    let doublings = (self.failures_in_a_row - DOWN_AFTER).min(16);
                    let pause = Span::from_secs(1_u64 << doublings).min(DOWN_AT_MOST);
                    self.down_until = now + pause;
                }
            }
            // An answer is an answer, also "no such object".
            Ending::Landed { .. } | Ending::Failed { .. } => {
                self.failures_in_a_row = 0;
                self.down_until = Time::ZERO;
            }
            Ending::Stopped { .. } => {}
        }
    }
}

impl Waiting {
    fn new(want: &Want, now: Time, joined: bool) -> Waiting {
        Waiting { waiter: want.waiter, class: want.class, due: want.due, since: now, joined }
    }
}

impl Flights {
    /// Joins the flight that is under way; demand raises it.
    pub(super) fn join(&mut self, id: FlightId, want: &Want, out: &mut Vec<Action>, now: Time) {
        self.by_waiter.insert(want.waiter, id);
        let flight = self.flights.get_mut(&id).expect("its key is in the table");
        flight.waiters.push(Waiting::new(want, now, true));
        flight.total_bytes = flight.total_bytes.or(want.bytes);
        self.rerank(id, out);
    }

    /// Makes a new flight, unless staging is better off without.
    pub(super) fn make(&mut self, want: Want, now: Time, out: &mut Vec<Action>) {
        if want.class == Class::Staging {
            let refused = match self.failures.get(&want.key, now) {
                Some((until, error)) => Some(Answer::Refused { until, error }),
                None => (self.by_key.len() >= WAITING_LIMIT).then_some(Answer::Full),
            };
            if let Some(answer) = refused {
                out.push(Action::Answer { waiter: want.waiter, key: want.key, answer });
                return;
            }
        }
        let waiters = vec![Waiting::new(&want, now, false)];
        let order = match want.class {
            Class::Demand => self.arrival(),
            Class::Staging => want.due.as_us(),
        };
        self.insert(want.key, want.source, (want.class, order), want.bytes, waiters);
    }

    /// The place at the end of the line of demand: flights and arrivals are numbered by one count.
    fn arrival(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// A new flight in its source's queue.
    pub(super) fn insert(
        &mut self,
        key: Key,
        source: SourceId,
        (class, order): (Class, u64),
        total_bytes: Option<u64>,
        waiters: Vec<Waiting>,
    ) {
        let id = FlightId(self.arrival());
        let rank = (class, order, id);
        for w in &waiters {
            self.by_waiter.insert(w.waiter, id);
        }
        self.by_key.insert(key.clone(), id);
        self.sources.get_mut(&source).expect("announced").queue.insert(rank);
        let flight = Flight {
            key,
            source,
            class,
            started_as: class,
            rank,
            waiters,
            state: State::Queued,
            tries: 0,
            done_bytes: 0,
            total_bytes,
            whole: false,
            detached: false,
        };
        self.flights.insert(id, flight);
    }

    /// Brings a flight's class and its place in the queue in line with its waiters.
    pub(super) fn rerank(&mut self, id: FlightId, out: &mut Vec<Action>) {
        let flight = &self.flights[&id];
        let (old, was) = (flight.rank, flight.class);
        let Some(class) = flight.waiters.iter().map(|w| w.class).min() else {
            return self.set_rank(id, (Class::Staging, old.1, id), out);
        };
        let order = match class {
            Class::Demand if was == Class::Demand => old.1,
            Class::Demand => self.arrival(),
            Class::Staging => flight.waiters.iter().map(|w| w.due.as_us()).min().expect("it has waiters"),
        };
        self.set_rank(id, (class, order, id), out);
    }

    fn set_rank(&mut self, id: FlightId, rank: Rank, out: &mut Vec<Action>) {
        let flight = self.flights.get_mut(&id).expect("the caller holds it");
        let old = std::mem::replace(&mut flight.rank, rank);
        let was = std::mem::replace(&mut flight.class, rank.0);
        let queue = &mut self.sources.get_mut(&flight.source).expect("announced").queue;
        match flight.state {
            State::Running { .. } if was != rank.0 => {
                out.push(Action::SetClass { flight: id, class: rank.0 });
            }
            State::Running { .. } => {}
            State::Queued => {
                assert!(queue.remove(&old), "a queued flight is in its queue");
                queue.insert(rank);
            }
            State::Backoff { until } if was != rank.0 && rank.0 == Class::Demand => {
                // A task waits now: its tries are its own.
                self.backoff.remove(&(until, id));
                (flight.tries, flight.state) = (0, State::Queued);
                queue.insert(rank);
            }
            State::Backoff { .. } => {}
        }
    }

    /// Nobody waits for it any more.
    pub(super) fn abandon(&mut self, id: FlightId, out: &mut Vec<Action>) {
        let flight = self.flights.get_mut(&id).expect("the caller holds it");
        let half_done = flight.total_bytes.is_some_and(|total| flight.done_bytes.saturating_mul(2) > total);
        match &mut flight.state {
            State::Running { .. } if half_done => {}
            State::Running { stopping, .. } => {
                if !std::mem::replace(stopping, true) {
                    out.push(Action::Stop { flight: id });
                }
            }
            State::Queued | State::Backoff { .. } => self.remove(id),
        }
    }

    /// Takes a flight out of the table's books; one that runs stays until it has ended.
    pub(super) fn detach(&mut self, id: FlightId, out: &mut Vec<Action>) {
        let flight = self.flights.get_mut(&id).expect("the caller holds it");
        match &mut flight.state {
            State::Running { stopping, .. } => {
                if !std::mem::replace(stopping, true) {
                    out.push(Action::Stop { flight: id });
                }
                flight.detached = true;
                // What still runs for nobody must not count as demand.
                let rank = (Class::Staging, flight.rank.1, id);
                self.set_rank(id, rank, out);
            }
            State::Queued | State::Backoff { .. } => self.remove(id),
        }
    }

    /// Removes a flight that does not run.
    fn remove(&mut self, id: FlightId) {
        let flight = self.flights.remove(&id).expect("the caller holds it");
        if self.by_key.get(&flight.key) == Some(&id) {
            self.by_key.remove(&flight.key);
        }
        match flight.state {
            State::Queued => {
                self.sources.get_mut(&flight.source).expect("announced").queue.remove(&flight.rank);
            }
            State::Backoff { until } => {
                self.backoff.remove(&(until, id));
            }
            State::Running { .. } => {}
        }
    }

    /// Flights of this object that belong to somebody, whatever the pool.
    pub(super) fn attached(&self, object: &ObjectName) -> Vec<FlightId> {
        let mut ids: Vec<FlightId> =
            self.by_key.iter().filter(|(k, _)| k.object == *object).map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// Learns bandwidth from an ending.
    pub(super) fn measure(&mut self, id: FlightId, ending: &Ending, now: Time) {
        let flight = &self.flights[&id];
        let State::Running { since, connections, .. } = flight.state else { return };
        let done = match ending {
            Ending::Landed { bytes, .. } => *bytes,
            Ending::Failed { partial_bytes, .. } | Ending::Stopped { partial_bytes } => *partial_bytes,
        };
        let meter = &mut self.sources.get_mut(&flight.source).expect("announced").meter;
        meter.moved(done.saturating_sub(flight.done_bytes), now);
        // Only a transfer that was never held back shows what a connection can carry.
        if let (Ending::Landed { bytes, ttfb }, Class::Demand, 0) = (ending, flight.started_as, flight.tries)
        {
            let busy = Span::from_us(now.since(since).as_us().saturating_sub(ttfb.as_us()));
            meter.landed(bytes / u64::from(connections.max(1)), busy, now);
        }
    }

    pub(super) fn land(&mut self, id: FlightId, bytes: u64, now: Time, out: &mut Vec<Action>) {
        let staged = self.flights[&id].started_as == Class::Staging;
        self.failures.forget(&self.flights[&id].key.clone());
        self.answer_all(id, out, |w| Answer::Landed {
            bytes,
            joined: w.joined,
            staged,
            waited: now.since(w.since),
        });
    }

    pub(super) fn fail(
        &mut self,
        id: FlightId,
        error: Error,
        partial_bytes: u64,
        now: Time,
        out: &mut Vec<Action>,
    ) {
        let flight = self.flights.get_mut(&id).expect("the caller holds it");
        let retry = self.sources[&flight.source].limits.retry;
        flight.tries = flight.tries.saturating_add(1);
        flight.done_bytes = if error.keeps_partial() { partial_bytes } else { 0 };
        flight.whole |= matches!(error, Error::NoRanges { .. });
        let tries = if flight.class == Class::Demand { retry.demand_tries } else { retry.staging_tries };
        // A task that joined a staging transfer does not go without for want of room: as demand it gets it anyway.
        let raised = flight.class == Class::Demand && matches!(error, Error::NoRoom { .. });
        if (error.is_worth_retry() || raised) && flight.tries < tries && !flight.waiters.is_empty() {
            let until = now + retry.wait(id, flight.tries);
            flight.state = State::Backoff { until };
            self.backoff.insert((until, id));
            return;
        }
        let remember = if error.is_worth_retry() { retry.remember_passing } else { retry.remember_permanent };
        // A pool that had no room says nothing of the object, and may have room the next moment.
        if !matches!(error, Error::NoRoom { .. }) {
            self.failures.note(&flight.key, &error, now + remember);
        }
        self.answer_all(id, out, |_| Answer::Failed(error.clone()));
    }

    /// It was stopped: for want of waiters, or to make room. Somebody may have come meanwhile.
    pub(super) fn stand_aside(&mut self, id: FlightId, partial_bytes: u64) {
        let flight = self.flights.get_mut(&id).expect("the caller holds it");
        flight.state = State::Queued;
        flight.done_bytes = partial_bytes;
        let nobody = flight.waiters.is_empty();
        self.sources.get_mut(&flight.source).expect("announced").queue.insert(flight.rank);
        if nobody {
            self.remove(id);
        }
    }

    fn answer_all(&mut self, id: FlightId, out: &mut Vec<Action>, answer: impl Fn(&Waiting) -> Answer) {
        let flight = self.flights.remove(&id).expect("the caller holds it");
        self.by_key.remove(&flight.key);
        for w in &flight.waiters {
            self.by_waiter.remove(&w.waiter);
            out.push(Action::Answer { waiter: w.waiter, key: flight.key.clone(), answer: answer(w) });
        }
    }
}
