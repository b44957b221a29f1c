//! The prefetcher and its transfers: what `prefetch/actor.rs` and `prefetch/carry.rs` do, with the world's bytes.

use super::house::{For, House};
use super::letter::{
    Landed, Landing, Letter, ToCache, ToCarrier, ToMonitor, ToObjects, ToPrefetch, ToSupply, Unpinner,
};
use super::world::{Brought, TransferId, World};
use crate::message::Transferred;
use crate::prefetch::core::{Action, Start};
use crate::prefetch::flights::{Class, Ending, FlightId, Waiter};
use crate::prefetch::source::Error;
use crate::time::{Span, Time};

/// How far a transfer has come.
enum State {
    /// It waits for room, or has everything and waits to be let in.
    Waits,
    /// Bytes come.
    Moves { transfer: TransferId, began: Time },
    /// It is in the pool's hands.
    Lands { bytes: u64, first_byte: Span },
    /// It gives its room back.
    GivesUp { error: Error },
}

/// One transfer, from making room to the pool.
pub(super) struct Carrier {
    start: Start,
    /// As what it is paced now.
    class: Class,
    stopped: bool,
    /// The pool's file; none for a private one.
    file: Option<u64>,
    state: State,
}

impl Carrier {
    /// Whether it began as staging and a task waits for it now.
    fn was_raised(&self) -> bool {
        self.start.class == Class::Staging && self.class == Class::Demand
    }
}

impl<W: World> House<W> {
    pub(super) fn at_prefetch(&mut self, m: ToPrefetch) {
        let (now, mut out) = (self.now, Vec::new());
        match m {
            ToPrefetch::Demand { attempt, cache, worker, inputs } => {
                if let Some(a) = self.attempts.get(&attempt) {
                    let about = a.about();
                    let unforeseen = self.prefetch.unforeseen(cache, worker, about, &inputs);
                    if let Some(u) = unforeseen {
                        self.arbiter.post(Letter::Objects(ToObjects::Unforeseen(u)));
                    }
                }
                self.supply(attempt, cache, inputs);
            }
            ToPrefetch::Ended { flight, key, landing, ending } => {
                self.carriers.remove(&flight);
                self.prefetch.flown(flight, &key.object, ending, now, &mut out);
                self.landed = Some(landing);
                self.do_transfers(out);
                if let Some(Landing::Pool(held)) = self.landed.take() {
                    self.post_cache(key.pool, ToCache::Unpin(vec![held.file], Unpinner::Nobody));
                }
                return;
            }
            ToPrefetch::Writing(w) => {
                let stale = self.prefetch.writing(w, now, &mut out);
                self.do_transfers(out);
                for cache in 0..self.pools.len() {
                    self.post_cache(crate::flow::CacheId(cache as u16), ToCache::Discard(stale.clone()));
                }
                return;
            }
            ToPrefetch::Plan(plan) => self.prefetch.planned(&plan, now, &mut out),
            ToPrefetch::Arrived(arrived) => self.prefetch.arrived(&arrived),
            ToPrefetch::Proposed(p) => self.prefetch.proposed(p, now, &mut out),
            ToPrefetch::Foreseen(f) => self.prefetch.foreseen(f, now, &mut out),
            ToPrefetch::Cached(fact) => self.prefetch.cached(&fact, now),
            ToPrefetch::Learned(lessons) => {
                lessons.iter().for_each(|l| self.prefetch.learned(&l.outcome, now));
            }
            ToPrefetch::Heated(heat) => self.prefetch.heated(heat),
            ToPrefetch::Tick => self.prefetch.tick(now, &mut out),
        }
        self.do_transfers(out);
    }

    pub(super) fn do_transfers(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start(start) => {
                    let flight = start.flight;
                    let class = start.class;
                    let carrier = Carrier { start, class, stopped: false, file: None, state: State::Waits };
                    self.carriers.insert(flight, carrier);
                    self.arbiter.post(Letter::Carrier(flight, ToCarrier::Go));
                }
                Action::SetClass { flight, class } => self.steer(flight, |c| c.class = class),
                Action::Stop { flight } => self.steer(flight, |c| c.stopped = true),
                Action::Rate { source, staging_bytes_per_s } => self.pace(source, staging_bytes_per_s),
                Action::Landed { waiter, key, joined, staged } => {
                    let Some(supply) = self.waiting.remove(&waiter) else { continue };
                    match self.landed.clone() {
                        Some(Landing::Pool(held)) => {
                            let (courier, object) = (self.arbiter.hire_courier(), held.object);
                            let hold = ToCache::Hold { courier, object, supply, waiter, joined, staged };
                            self.post_cache(key.pool, hold);
                            self.arbiter.courier_waits(courier);
                        }
                        Some(Landing::Private(bytes)) => {
                            self.tell_supply(supply, waiter, Landed::Private { bytes, joined });
                        }
                        Some(Landing::Nowhere) | None => {
                            self.tell_supply(supply, waiter, Landed::Failed("it landed nowhere".into()));
                        }
                    }
                }
                Action::Failed { waiter, error } => {
                    if let Some(supply) = self.waiting.remove(&waiter) {
                        self.tell_supply(supply, waiter, Landed::Failed(error));
                    }
                }
                Action::Rank { cache, needs } => self.post_cache(cache, ToCache::Rank(needs)),
                Action::Decided(decision) => self.log.push(decision),
                Action::Declined(d) => self.arbiter.post(Letter::Objects(ToObjects::Declined(d))),
            }
        }
    }

    fn tell_supply(&mut self, supply: u64, waiter: Waiter, landed: Landed) {
        self.arbiter.post(Letter::Supply(supply, ToSupply::Landed(waiter, landed)));
    }

    /// A transfer whose bytes come hears at once, others when it comes to that.
    fn steer(&mut self, flight: FlightId, change: impl FnOnce(&mut Carrier)) {
        let Some(c) = self.carriers.get_mut(&flight) else { return };
        change(c);
        if matches!(c.state, State::Moves { .. }) {
            self.arbiter.post(Letter::Carrier(flight, ToCarrier::Steered));
        }
    }

    pub(super) fn at_carrier(&mut self, flight: FlightId, m: ToCarrier) {
        let Some(c) = self.carriers.get_mut(&flight) else { return };
        match m {
            ToCarrier::Go if c.start.past_the_pool => self.begin_to_move(flight),
            ToCarrier::Go => {
                let Start { key, bytes, guess, purpose, .. } = c.start.clone();
                let bytes = bytes.unwrap_or(guess);
                let reserve = ToCache::Reserve { flight, object: key.object, bytes, purpose };
                self.post_cache(key.pool, reserve);
            }
            ToCarrier::Reserved(Err(why)) if c.start.class == Class::Staging => self.no_room(flight, why),
            ToCarrier::Reserved(room) => {
                c.file = room.ok();
                self.begin_to_move(flight);
            }
            ToCarrier::Steered => self.heed(flight),
            ToCarrier::Moved(result) => self.moved(flight, result),
            ToCarrier::Committed(Ok(held)) => {
                let State::Lands { bytes, first_byte } = c.state else { return };
                self.report(flight, Landing::Pool(held), Ending::Landed { bytes, ttfb: first_byte });
            }
            ToCarrier::Committed(Err(why)) => self.no_room(flight, why),
            ToCarrier::Raised => {
                let (State::Lands { bytes, .. }, Some(file)) = (&c.state, c.file) else { return };
                let (pool, object, bytes) = (c.start.key.pool, c.start.key.object.clone(), *bytes);
                self.post_cache(pool, ToCache::Commit { flight, file, object, bytes });
            }
            ToCarrier::Abandoned => self.failed(flight),
        }
    }

    fn begin_to_move(&mut self, flight: FlightId) {
        let c = self.carriers.get_mut(&flight).expect("the caller has it");
        if c.stopped {
            return self.broken_off(flight, self.now, 0);
        }
        let Start { source, key, connections, .. } = &c.start;
        let transfer = self.world.transfer(self.now, *source, &key.object, c.class, *connections);
        c.state = State::Moves { transfer, began: self.now };
        self.transfers.insert(transfer, For::Flight(flight));
    }

    /// It was stopped, or raised.
    fn heed(&mut self, flight: FlightId) {
        let c = &self.carriers[&flight];
        let State::Moves { transfer, began } = c.state else { return };
        if c.stopped {
            self.transfers.remove(&transfer);
            let came = self.world.break_off(self.now, transfer);
            self.broken_off(flight, began, came);
        } else {
            self.world.set_class(self.now, transfer, c.class);
        }
    }

    fn broken_off(&mut self, flight: FlightId, began: Time, came: u64) {
        let object = self.carriers[&flight].start.key.object.clone();
        self.tell_monitor(flight, began, came, None);
        self.give_up(flight, Error::Stopped { object });
    }

    fn moved(&mut self, flight: FlightId, result: Result<Brought, Error>) {
        let c = self.carriers.get_mut(&flight).expect("the caller has it");
        let State::Moves { began, .. } = c.state else { return };
        match result {
            Ok(Brought { bytes, first_byte }) => {
                c.state = State::Lands { bytes, first_byte };
                let (key, file) = (c.start.key.clone(), c.file);
                self.tell_monitor(flight, began, bytes, Some(first_byte));
                let raised = self.carriers[&flight].was_raised();
                match file {
                    // A task waits for it by now: it gives way to no forecast.
                    Some(file) if raised => self.post_cache(key.pool, ToCache::Raise { flight, file }),
                    Some(file) => {
                        let object = key.object;
                        self.post_cache(key.pool, ToCache::Commit { flight, file, object, bytes });
                    }
                    None => {
                        let ending = Ending::Landed { bytes, ttfb: first_byte };
                        self.report(flight, Landing::Private(bytes), ending);
                    }
                }
            }
            Err(error) => {
                self.tell_monitor(flight, began, 0, None);
                self.give_up(flight, error);
            }
        }
    }

    fn tell_monitor(&mut self, flight: FlightId, started: Time, bytes: u64, first_byte: Option<Span>) {
        let Start { source, key, .. } = &self.carriers[&flight].start;
        let Some(place) = self.places.of(&key.object) else { return };
        let (source, ended) = (*source, self.now);
        let fact = Transferred { source, place, bytes, started, ended, first_byte };
        self.arbiter.post(Letter::Monitor(ToMonitor::Transferred(fact)));
    }

    fn give_up(&mut self, flight: FlightId, error: Error) {
        let c = self.carriers.get_mut(&flight).expect("the caller has it");
        c.state = State::GivesUp { error };
        match c.file {
            Some(file) => {
                let pool = c.start.key.pool;
                self.post_cache(pool, ToCache::Abandon { flight, file });
            }
            None => self.failed(flight),
        }
    }

    fn failed(&mut self, flight: FlightId) {
        let State::GivesUp { error } = &self.carriers[&flight].state else { return };
        let error = error.clone();
        let ending = match error {
            Error::Stopped { .. } => Ending::Stopped { partial_bytes: 0 },
            error => Ending::Failed { error, partial_bytes: 0 },
        };
        self.report(flight, Landing::Nowhere, ending);
    }

    fn no_room(&mut self, flight: FlightId, why: String) {
        let object = self.carriers[&flight].start.key.object.clone();
        let error = Error::NoRoom { object, reason: why };
        self.report(flight, Landing::Nowhere, Ending::Failed { error, partial_bytes: 0 });
    }

    fn report(&mut self, flight: FlightId, landing: Landing, ending: Ending) {
        let key = self.carriers[&flight].start.key.clone();
        self.arbiter.post(Letter::Prefetch(ToPrefetch::Ended { flight, key, landing, ending }));
    }
}
