//! Who goes next: demand first, staging by nearest need, and how fast.

use super::*;

impl SourceState {
    fn demand_waits(&self) -> bool {
        self.queue.first().is_some_and(|(class, ..)| *class == Class::Demand)
    }
}

impl Flights {
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
            tight: source.meter.is_tight(now),
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
