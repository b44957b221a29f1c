//! What the table does on the way from a fact to its actions: queueing, starting, standing aside, ending.

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

    fn demand_waits(&self) -> bool {
        self.queue.first().is_some_and(|(class, ..)| *class == Class::Demand)
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
        if error.is_worth_retry() && flight.tries < tries && !flight.waiters.is_empty() {
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

    // ---- who goes next ------------------------------------------------------------------------------------

    /// Does whatever can be done now.
    pub(super) fn advance(&mut self, now: Time, out: &mut Vec<Action>) {
        while let Some(&(until, id)) = self.backoff.first()
            && until <= now
        {
            self.backoff.pop_first();
            let flight = self.flights.get_mut(&id).expect("what waits for a try is in the table");
            flight.state = State::Queued;
            self.sources.get_mut(&flight.source).expect("announced").queue.insert(flight.rank);
        }
        let ids: Vec<SourceId> = self.sources.keys().copied().collect();
        for &id in &ids {
            self.start_demand(id, now, out);
        }
        for source in self.sources.values_mut().filter(|s| s.down_until <= now) {
            source.down_until = Time::ZERO;
        }
        // Rates first: what demand has just taken pauses what is staged.
        self.set_rates(now, out);
        if self.start_staging(now, out) {
            self.set_rates(now, out);
        }
    }

    /// Starts demand at one source; where connections lack, staging stands aside, farthest need first.
    fn start_demand(&mut self, source_id: SourceId, now: Time, out: &mut Vec<Action>) {
        let mut used = self.connections(source_id, |_| true);
        let source = &self.sources[&source_id];
        let limit = source.limits.connections;
        let waiting: Vec<FlightId> =
            source.queue.iter().take_while(|(c, ..)| *c == Class::Demand).map(|(.., id)| *id).collect();
        let mut unserved = 0_u16;
        for (n, &id) in waiting.iter().enumerate() {
            if used >= limit {
                unserved = u16::try_from(waiting.len() - n).unwrap_or(u16::MAX);
                break;
            }
            let alone = waiting.len() == 1;
            used += self.start(id, limit - used, if alone { limit.div_ceil(2) } else { 1 }, now, out);
        }
        let leaving =
            self.connections(source_id, |f| matches!(f.state, State::Running { stopping: true, .. }));
        let mut lacking = unserved.saturating_sub(leaving);
        while lacking > 0 {
            let farthest = self.sources[&source_id]
                .running
                .iter()
                .map(|id| (self.flights[id].rank, id, &self.flights[id]))
                .filter(|(_, _, f)| {
                    f.class == Class::Staging && matches!(f.state, State::Running { stopping: false, .. })
                })
                .max_by_key(|(rank, ..)| *rank)
                .map(|(_, id, _)| *id);
            let Some(id) = farthest else { break };
            let flight = self.flights.get_mut(&id).expect("listed just now");
            if let State::Running { stopping, connections, .. } = &mut flight.state {
                *stopping = true;
                lacking = lacking.saturating_sub(*connections);
            }
            out.push(Action::Stop { flight: id });
        }
    }

    /// Starts staging, nearest need first over all sources, within its limits. Tells whether any started.
    fn start_staging(&mut self, now: Time, out: &mut Vec<Action>) -> bool {
        let mut held: u16 = 0;
        for id in self.sources.keys() {
            held += self.connections(*id, |f| f.class == Class::Staging);
        }
        let mut any = false;
        while held < self.budget.connections && self.budget.bytes_per_s > 0.0 {
            let nearest = self
                .sources
                .iter()
                .filter(|(id, s)| self.may_stage(**id, s, now))
                .filter_map(|(_, s)| s.queue.first())
                .min()
                .copied();
            let Some((.., id)) = nearest else { break };
            held += self.start(id, 1, 1, now, out);
            any = true;
        }
        any
    }

    /// Whether one more staging transfer may start at a source.
    fn may_stage(&self, id: SourceId, source: &SourceState, now: Time) -> bool {
        let limit = source.limits.connections;
        let for_staging = if limit > 1 { limit - 1 } else { 1 };
        !source.queue.is_empty()
            && !source.demand_waits()
            && source.down_until <= now
            && source.staging_bytes_per_s > 0.0
            && self.connections(id, |_| true) < limit
            && self.connections(id, |f| f.class == Class::Staging) < for_staging
    }

    /// Starts a queued flight with up to `most` of the `free` connections; returns how many it got.
    fn start(&mut self, id: FlightId, free: u16, most: u16, now: Time, out: &mut Vec<Action>) -> u16 {
        let flight = self.flights.get_mut(&id).expect("queued flights are in the table");
        let left = flight.total_bytes.map_or(0, |total| total.saturating_sub(flight.done_bytes));
        let useful = u16::try_from(left / BYTES_PER_RANGE).unwrap_or(u16::MAX).clamp(1, PARALLEL_LIMIT);
        let connections = if flight.whole { 1 } else { useful.min(free).min(most).max(1) };
        flight.state = State::Running { since: now, connections, stopping: false };
        if flight.tries == 0 && flight.done_bytes == 0 {
            flight.started_as = flight.class;
        }
        let source = self.sources.get_mut(&flight.source).expect("announced");
        assert!(source.queue.remove(&flight.rank), "a queued flight is in its queue");
        source.running.insert(id);
        out.push(Action::Start {
            flight: id,
            key: flight.key.clone(),
            source: flight.source,
            class: flight.class,
            connections,
            resume: flight.done_bytes > 0 && !flight.whole,
        });
        connections
    }

    /// Connections that running flights of a source hold.
    pub(super) fn connections(&self, source: SourceId, which: impl Fn(&Flight) -> bool) -> u16 {
        let running = self.sources[&source].running.iter().map(|id| &self.flights[id]);
        let held = running.filter(|f| which(f)).map(|f| match f.state {
            State::Running { connections, .. } => connections,
            _ => 0,
        });
        held.sum()
    }

    /// Decides how fast staging may go, and tells what changed by more than a twentieth.
    pub(super) fn set_rates(&mut self, now: Time, out: &mut Vec<Action>) {
        let facts: Vec<Facts> = self.sources.iter().map(|(id, s)| self.facts(*id, s, now)).collect();
        let rates = rate::share(self.budget.bytes_per_s, &facts);
        for ((id, source), rate) in self.sources.iter_mut().zip(rates) {
            let old = source.staging_bytes_per_s;
            let close = rate.is_finite() && rate > 0.0 && (old - rate).abs() <= 0.05 * rate;
            let same = old == rate || close;
            if !same {
                source.staging_bytes_per_s = rate;
                out.push(Action::Rate { source: *id, staging_bytes_per_s: rate });
            }
        }
    }

    fn facts(&self, id: SourceId, source: &SourceState, now: Time) -> Facts {
        let waiting = source.queue.iter().take_while(|(c, ..)| *c == Class::Demand).count();
        let waiting = u16::try_from(waiting).unwrap_or(u16::MAX);
        Facts {
            limit: source.limits.bytes_per_s.unwrap_or(f64::INFINITY),
            capacity: source.meter.capacity(now),
            per_connection: source.meter.per_connection(now),
            demand: self.connections(id, |f| f.class == Class::Demand).saturating_add(waiting),
            staging: self.connections(id, |f| f.class == Class::Staging),
        }
    }

    /// What must hold after every call; for tests.
    ///
    /// # Panics
    /// If it does not.
    pub fn assert_invariants(&self) {
        self.failures.assert_invariants();
        let mut waiters = 0;
        for (id, f) in &self.flights {
            let source = &self.sources[&f.source];
            waiters += f.waiters.len();
            assert!(
                f.waiters.iter().all(|w| self.by_waiter.get(&w.waiter) == Some(id)),
                "waiters know their flight"
            );
            assert_eq!(self.by_key.get(&f.key) == Some(id), !f.detached, "one flight for one key");
            assert_eq!(matches!(f.state, State::Running { .. }), source.running.contains(id));
            assert_eq!(f.state == State::Queued, source.queue.contains(&f.rank));
            if let State::Backoff { until } = f.state {
                assert!(self.backoff.contains(&(until, *id)) && !f.waiters.is_empty());
            }
            let class = f.waiters.iter().map(|w| w.class).min().unwrap_or(Class::Staging);
            assert_eq!(f.class, class, "a flight is demand if a waiter is");
        }
        assert_eq!(waiters, self.by_waiter.len(), "no waiter is lost");
        assert_eq!(self.by_key.len(), self.flights.values().filter(|f| !f.detached).count());
        for (id, s) in &self.sources {
            let limit = s.limits.connections;
            let used = self.connections(*id, |_| true);
            assert!(used <= limit, "no more connections than allowed");
            let demand_waits = s.queue.iter().take_while(|(c, ..)| *c == Class::Demand).count();
            let staging = self.connections(*id, |f| {
                f.class == Class::Staging && matches!(f.state, State::Running { stopping: false, .. })
            });
            let leaving = self.connections(*id, |f| matches!(f.state, State::Running { stopping: true, .. }));
            if demand_waits > 0 {
                assert_eq!(used, limit, "demand waits only for connections");
                assert!(staging == 0 || usize::from(leaving) >= demand_waits, "demand is not behind staging");
            }
        }
    }
}
