//! The house under a virtual clock: the cores that the actors own, each in its room, and the line of letters
//! between them.
//!
//! Rooms do what the actors' handlers do, in the same order, so that a decision of the replay is a decision of
//! the daemon (`rehearsal.rs` holds the two against each other). What differs is where time comes from.

use super::arbiter::Arbiter;
use super::cores::{Cores, MONITOR_EVERY};
use super::figures::Tally;
use super::letter::{
    AttemptKey, Letter, Seat, ToAttempt, ToCache, ToCarrier, ToDispatch, ToMonitor, ToPrefetch, ToRoster,
    ToSupply,
};
use super::pool::PoolRoom;
use super::supply::Supply;
use super::time::{Tick, Turns};
use super::transfers::Carrier;
use super::world::{Happening, TransferId, World};
use super::{crew::Attempt, letter::Landing};
use crate::dispatch::Dispatch;
use crate::flow::{CacheId, Decision, Map, SourceId};
use crate::message::Expect;
use crate::monitor::Monitor;
use crate::predict::Predict;
use crate::predict::objects::PoolHistory;
use crate::prefetch::core::Prefetch;
use crate::prefetch::flights::{FlightId, Waiter};
use crate::task::Places;
use crate::time::{Span, Time};
use crate::worker::profile::{Profile, Smoothing};
use crate::worker::roster::Roster;
use std::sync::Arc;

/// Idle for so long, the house has settled: from then on ticks are left out.
const SETTLED: Span = Span::from_secs(1);
/// If tasks wait and nothing happens for so long, nothing will.
const HOPELESS: Span = Span::from_secs(7 * 86_400);

/// Who a transfer is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum For {
    /// A flight.
    Flight(FlightId),
    /// One attempt, past the pool.
    Past(u64),
}

/// All rooms, the line, the clock and the world.
pub struct House<W> {
    pub(super) now: Time,
    pub(super) arbiter: Arbiter,
    pub(super) world: W,
    turns: Turns,
    skip_idle: bool,
    pub(super) log: Vec<Decision>,
    pub(super) tally: Tally,
    /// Submits that dispatch refused.
    pub(super) refused: u64,

    pub(super) dispatch: Dispatch,
    pub(super) profiles: Vec<Profile>,
    pub(super) worker_caches: Vec<CacheId>,
    pub(super) smoothing: Smoothing,
    pub(super) attempts: Map<AttemptKey, Attempt>,
    pub(super) roster: Roster,
    pub(super) roster_changed: bool,
    pub(super) pools: Vec<PoolRoom>,
    pub(super) monitor: Monitor,
    pub(super) predict: Predict,
    pub(super) histories: Vec<PoolHistory>,
    pub(super) prefetch: Prefetch,
    pub(super) places: Arc<Places>,
    /// Who waits for a transfer: a supply.
    pub(super) waiting: Map<Waiter, u64>,
    pub(super) landed: Option<Landing>,
    pub(super) carriers: Map<FlightId, Carrier>,
    pub(super) supplies: Map<u64, Supply>,
    pub(super) next_supply: u64,
    pub(super) transfers: Map<TransferId, For>,
}

impl<W: World> House<W> {
    /// With cores that have decided nothing yet. `grain` is how finely the world's time is divided; with
    /// `skip_idle`, ticks in which nothing would happen are left out.
    pub fn new(cores: Cores, places: Arc<Places>, world: W, grain: Span, skip_idle: bool) -> House<W> {
        House {
            now: Time::ZERO,
            arbiter: Arbiter::default(),
            world,
            turns: Turns::new(grain, MONITOR_EVERY),
            skip_idle,
            log: Vec::new(),
            tally: Tally::new(),
            refused: 0,
            dispatch: cores.dispatch,
            profiles: cores.profiles,
            worker_caches: cores.worker_caches,
            smoothing: Smoothing::default(),
            attempts: Map::default(),
            roster: cores.roster,
            roster_changed: true,
            pools: cores.caches.into_iter().enumerate().map(PoolRoom::new).collect(),
            monitor: cores.monitor,
            predict: cores.predict,
            histories: cores.histories,
            prefetch: cores.prefetch,
            places,
            waiting: Map::default(),
            landed: None,
            carriers: Map::default(),
            supplies: Map::default(),
            next_supply: 1,
            transfers: Map::default(),
        }
    }

    /// Runs until everybody has submitted and every task has ended; `heard` is told of every decision.
    pub fn run(&mut self, mut heard: impl FnMut(&Decision)) {
        let mut told = 0;
        // Those who learn from pools ask at their start how full they are.
        for cache in 0..self.pools.len() {
            self.expect(CacheId(cache as u16), Expect::default());
        }
        self.take_turns();
        while !(self.world.is_spent() && self.dispatch.unfinished(None) == 0) {
            self.advance();
            self.take_turns();
            self.log[told..].iter().for_each(&mut heard);
            told = self.log.len();
            let idle = self.now.since(self.turns.last());
            if idle > HOPELESS && self.world.next().is_none() {
                break;
            }
            if self.skip_idle && idle >= SETTLED {
                self.skip(idle);
            }
        }
    }

    /// Everybody who has mail has a turn, until nobody has.
    fn take_turns(&mut self) {
        while let Some(seat) = self.arbiter.next_seat() {
            while let Some(letter) = self.arbiter.next_letter() {
                self.deliver(letter);
            }
            if let Seat::Cache(cache) = seat {
                self.commit_files(cache);
            }
        }
    }

    /// The next thing: the world's turn, or a tick.
    fn advance(&mut self) {
        let (tick_at, tick) = self.turns.next_tick();
        match self.world.next().map(|at| self.turns.turn(at)).filter(|turn| *turn < tick_at) {
            Some(turn) => {
                self.now = turn;
                self.turns.took(turn);
                if let Some(happening) = self.world.happen(turn) {
                    self.hear(happening);
                }
            }
            None => {
                self.now = tick_at;
                self.turns.ticked(tick_at);
                self.arbiter.post(match tick {
                    Tick::Dispatch => Letter::Dispatch(ToDispatch::Tick),
                    Tick::Prefetch => Letter::Prefetch(ToPrefetch::Tick),
                    Tick::Monitor => Letter::Monitor(ToMonitor::Tick),
                    Tick::Roster => Letter::Roster(ToRoster::Tick),
                });
            }
        }
    }

    fn hear(&mut self, happening: Happening) {
        let letter = match happening {
            Happening::Submitted(submits) => Letter::Dispatch(ToDispatch::Submit(submits)),
            Happening::Exited { task, token, ending, usage } => {
                Letter::Attempt((task, token.attempt), ToAttempt::Exited(ending, usage))
            }
            Happening::Moved { transfer, result } => match self.transfers.remove(&transfer) {
                Some(For::Flight(flight)) => Letter::Carrier(flight, ToCarrier::Moved(result)),
                Some(For::Past(supply)) => Letter::Supply(supply, ToSupply::Past(transfer, result)),
                None => return,
            },
        };
        self.arbiter.post(letter);
    }

    /// Nothing waits for anything but the world: ticks until then would change nothing but what fades with
    /// time. As much is left out as has been idle already, so that what is due in between is seen soon enough.
    fn skip(&mut self, idle: Span) {
        if self.dispatch.waits_for_time() {
            return;
        }
        let turn = self.world.next().map(|at| self.turns.turn(at));
        let due = [turn, self.dispatch.next_due(), self.prefetch.flights().next_wake()];
        let until = due.into_iter().flatten().min().unwrap_or(Time::MAX).min(self.now + idle);
        self.turns.skip_to(until - Span::from_us(1));
    }

    fn deliver(&mut self, letter: Letter) {
        match letter {
            Letter::Dispatch(m) => self.at_dispatch(m),
            Letter::Worker(w, m) => self.at_worker(w, m),
            Letter::Attempt(a, m) => self.at_attempt(a, m),
            Letter::Cache(c, m) => self.at_cache(c, m),
            Letter::Prefetch(m) => self.at_prefetch(m),
            Letter::Supply(s, m) => self.at_supply(s, m),
            Letter::Carrier(f, m) => self.at_carrier(f, m),
            Letter::Predict(m) => self.at_predict(m),
            Letter::Objects(m) => self.at_objects(m),
            Letter::Monitor(m) => self.at_monitor(m),
            Letter::Roster(m) => self.at_roster(m),
            Letter::Courier(_, then) => then.into_iter().for_each(|letter| self.arbiter.post(*letter)),
        }
    }

    pub(super) fn post_cache(&mut self, cache: CacheId, m: ToCache) {
        self.arbiter.post(Letter::Cache(cache, m));
    }

    pub(super) fn pace(&mut self, source: SourceId, staging_bytes_per_s: f64) {
        self.world.pace(self.now, source, staging_bytes_per_s);
    }
}
