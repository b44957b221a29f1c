//! Virtual time: when the house looks at the clock, and when the world may do something.

use crate::dispatch::actor::TICK as DISPATCH;
use crate::prefetch::actor::TICK as PREFETCH;
use crate::time::{Span, Time};
use crate::worker::roster_actor::TELL_ALL;

/// What the house does from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// Dispatch looks at delayed tasks and makes a plan.
    Dispatch,
    /// The agenda looks at the time.
    Prefetch,
    /// The monitor takes a sample and tells the heat.
    Monitor,
    /// The roster tells all standings.
    Roster,
}

/// When an actor is started after the first one. No two look at the clock in the same instant, so that nothing
/// depends on which of two timers fires first.
pub const PHASES: [(Tick, Span); 4] = [
    (Tick::Dispatch, Span::ZERO),
    (Tick::Prefetch, Span::from_ms(5)),
    (Tick::Monitor, Span::from_ms(10)),
    (Tick::Roster, Span::from_ms(15)),
];

/// One who looks at the clock.
#[derive(Clone, Copy, Debug)]
struct Beat {
    tick: Tick,
    phase: Span,
    every: Span,
    next: Time,
}

impl Beat {
    /// The last of its moments that is not after `at`.
    fn last_until(&self, at: Time) -> Time {
        let since = at.since(Time::ZERO + self.phase).as_us();
        Time::ZERO + self.phase + Span::from_us(since - since % self.every.as_us())
    }
    fn has(&self, at: Time) -> bool {
        at >= Time::ZERO + self.phase && self.last_until(at) == at
    }
}

/// The ticks, and the instants between them that are the world's.
#[derive(Clone, Debug)]
pub struct Turns {
    beats: Vec<Beat>,
    grain: Span,
    last: Time,
}

impl Turns {
    /// `grain` is how finely the world's time is divided: tokio's timers know milliseconds, a replay may be
    /// finer. The monitor looks every `monitor`.
    pub fn new(grain: Span, monitor: Span) -> Turns {
        let beat = |(tick, phase): (Tick, Span)| {
            let (every, at_once) = match tick {
                Tick::Dispatch => (DISPATCH, false),
                Tick::Prefetch => (PREFETCH, false),
                Tick::Monitor => (monitor, true),
                Tick::Roster => (TELL_ALL, true),
            };
            let next = Time::ZERO + phase + if at_once { Span::ZERO } else { every };
            Beat { tick, phase, every, next }
        };
        Turns { beats: PHASES.into_iter().map(beat).collect(), grain, last: Time::ZERO }
    }

    /// When the world may do what is due at `at`: one thing in each instant of its grain, and none while the
    /// house looks at the clock.
    pub fn turn(&self, at: Time) -> Time {
        let grain = self.grain.as_us();
        let at = at.max(self.last + self.grain).as_us();
        let mut turn = Time::from_us(at.div_ceil(grain) * grain);
        while self.beats.iter().any(|b| b.has(turn)) {
            turn = turn + self.grain;
        }
        turn
    }

    /// The world has taken its turn.
    pub fn took(&mut self, at: Time) {
        self.last = at;
    }

    /// When the world did something last.
    pub fn last(&self) -> Time {
        self.last
    }

    /// The next tick.
    pub fn next_tick(&self) -> (Time, Tick) {
        let first = self.beats.iter().min_by_key(|b| b.next).expect("there are four");
        (first.next, first.tick)
    }

    /// The tick that was due at `at` is done.
    pub fn ticked(&mut self, at: Time) {
        if let Some(b) = self.beats.iter_mut().find(|b| b.next == at) {
            b.next = at + b.every;
        }
    }

    /// Leaves out ticks in which nothing would happen: of each kind the last one until `at` is next.
    pub fn skip_to(&mut self, at: Time) {
        for b in &mut self.beats {
            b.next = b.next.max(b.last_until(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_world_never_acts_twice_in_an_instant_nor_in_a_tick() {
        let mut turns = Turns::new(Span::from_ms(1), Span::from_secs(1));
        assert_eq!(turns.turn(Time::from_us(19_300)), Time::from_us(21_000), "20 ms is a tick");
        turns.took(Time::from_us(21_000));
        assert_eq!(turns.turn(Time::from_us(3)), Time::from_us(22_000), "one thing at a time");
        assert_eq!(turns.turn(Time::from_us(24_500)), Time::from_us(26_000), "and the agenda's at 25 ms");
    }

    #[test]
    fn no_two_ticks_fall_together_and_each_keeps_its_beat() {
        let mut turns = Turns::new(Span::from_us(1), Span::from_secs(1));
        let mut seen = vec![];
        for _ in 0..500 {
            let (at, tick) = turns.next_tick();
            turns.ticked(at);
            seen.push((at, tick));
        }
        assert!(seen.windows(2).all(|w| w[0].0 < w[1].0));
        assert_eq!(seen[0], (Time::from_us(10_000), Tick::Monitor));
        assert_eq!(seen[2], (Time::from_us(20_000), Tick::Dispatch));
    }

    #[test]
    fn skipping_keeps_the_beat_and_never_goes_back() {
        let mut turns = Turns::new(Span::from_us(1), Span::from_secs(1));
        turns.skip_to(Time::from_us(10_007_003));
        let mut ticks = vec![];
        for _ in 0..4 {
            let (at, tick) = turns.next_tick();
            turns.ticked(at);
            ticks.push((at.as_us(), tick));
        }
        let expected = [
            (9_010_000, Tick::Monitor),
            (9_015_000, Tick::Roster),
            (10_000_000, Tick::Dispatch),
            (10_005_000, Tick::Prefetch),
        ];
        assert_eq!(ticks, expected);
        turns.skip_to(Time::ZERO);
        assert!(turns.next_tick().0 >= Time::from_us(10_010_000));
    }
}
