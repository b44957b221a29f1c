//! Time, Span, the one clock.
//!
//! Every core takes `now: Time` as an argument; nothing but [`Clock`] reads the machine's clocks
//! (`clippy.toml` bans `Instant::now` and `SystemTime::now` elsewhere).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A moment: microseconds since the Unix epoch.
///
/// Within one run of the daemon it never goes backwards, whatever the wall clock does: see [`Clock`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(u64);

/// A length of time in microseconds, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(u64);

impl Time {
    /// The Unix epoch, and the start of a replayed trace.
    pub const ZERO: Time = Time(0);
    /// Later than every other moment.
    pub const MAX: Time = Time(u64::MAX);

    /// From microseconds since the Unix epoch.
    pub const fn from_us(us: u64) -> Time {
        Time(us)
    }
    /// From seconds since the Unix epoch; negative and NaN give zero.
    pub fn from_s(s: f64) -> Time {
        Time(Span::from_s(s).0)
    }
    /// Microseconds since the Unix epoch.
    pub const fn as_us(self) -> u64 {
        self.0
    }
    /// Seconds since the Unix epoch.
    pub fn as_s(self) -> f64 {
        self.0 as f64 / 1e6
    }
    /// How long ago `earlier` was; zero if it lies in the future.
    pub const fn since(self, earlier: Time) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);
    /// Longer than every other span.
    pub const MAX: Span = Span(u64::MAX);

    /// From microseconds.
    pub const fn from_us(us: u64) -> Span {
        Span(us)
    }
    /// From milliseconds.
    pub const fn from_ms(ms: u64) -> Span {
        Span(ms.saturating_mul(1_000))
    }
    /// From whole seconds.
    pub const fn from_secs(s: u64) -> Span {
        Span(s.saturating_mul(1_000_000))
    }
    /// From seconds; negative and NaN give zero, what is too long gives [`Span::MAX`].
    pub fn from_s(s: f64) -> Span {
        // `as` saturates and maps NaN to zero, which is what is promised.
        Span((s * 1e6) as u64)
    }
    /// Microseconds.
    pub const fn as_us(self) -> u64 {
        self.0
    }
    /// Milliseconds, with fraction.
    pub fn as_ms(self) -> f64 {
        self.0 as f64 / 1e3
    }
    /// Seconds, with fraction.
    pub fn as_s(self) -> f64 {
        self.0 as f64 / 1e6
    }
    /// This span `k` times; negative and NaN factors give zero.
    pub fn times(self, k: f64) -> Span {
        Span((self.0 as f64 * k) as u64)
    }
    /// For the standard library and tokio.
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_micros(self.0)
    }
}

impl Add<Span> for Time {
    type Output = Time;
    fn add(self, s: Span) -> Time {
        Time(self.0.saturating_add(s.0))
    }
}
impl Sub<Span> for Time {
    type Output = Time;
    fn sub(self, s: Span) -> Time {
        Time(self.0.saturating_sub(s.0))
    }
}
impl Add for Span {
    type Output = Span;
    fn add(self, s: Span) -> Span {
        Span(self.0.saturating_add(s.0))
    }
}
impl AddAssign for Span {
    fn add_assign(&mut self, s: Span) {
        self.0 = self.0.saturating_add(s.0);
    }
}

impl fmt::Display for Span {
    /// Three significant figures and a unit: `850 µs`, `47 ms`, `1.9 s`, `12 min`, `3.2 h`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.as_s();
        match s {
            s if s < 0.001 => write!(f, "{} µs", self.0),
            s if s < 1.0 => write!(f, "{:.0} ms", s * 1e3),
            s if s < 90.0 => write!(f, "{s:.1} s"),
            s if s < 5400.0 => write!(f, "{:.0} min", s / 60.0),
            s if s < 172_800.0 => write!(f, "{:.1} h", s / 3600.0),
            s => write!(f, "{:.1} d", s / 86_400.0),
        }
    }
}

/// Where the daemon gets its time: the wall clock once, when made, then the monotonic clock.
///
/// A wall clock that jumps therefore never reorders events or fires delays early. Tests that run under
/// tokio's paused clock get the paused time, because the monotonic part is tokio's own.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Time,
    start: tokio::time::Instant,
}

impl Clock {
    /// Reads the wall clock, no earlier than `not_before`: the latest moment that is already on record,
    /// so that time does not go backwards over a restart either.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the clocks")]
    pub fn start(not_before: Time) -> Clock {
        let wall = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX));
        Clock { wall: Time(wall).max(not_before), start: tokio::time::Instant::now() }
    }
    /// A clock that starts at a chosen moment, for tests and replays.
    pub fn starting_at(at: Time) -> Clock {
        Clock { wall: at, start: tokio::time::Instant::now() }
    }
    /// The moment at which it was made.
    pub fn start_of(&self) -> Time {
        self.wall
    }
    /// Now.
    pub fn now(&self) -> Time {
        let run = self.start.elapsed().as_micros();
        self.wall + Span(u64::try_from(run).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_say_them() {
        for (us, text) in [
            (850, "850 µs"),
            (47_000, "47 ms"),
            (1_900_000, "1.9 s"),
            (720_000_000, "12 min"),
            (11_520_000_000, "3.2 h"),
        ] {
            assert_eq!(Span::from_us(us).to_string(), text);
        }
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Time::ZERO - Span::from_us(1), Time::ZERO);
        assert_eq!(Time::MAX + Span::from_us(1), Time::MAX);
        assert_eq!(Time::ZERO.since(Time::MAX), Span::ZERO);
        assert_eq!(Span::from_s(f64::NAN), Span::ZERO);
        assert_eq!(Span::from_s(-1.0), Span::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_follows_tokios_paused_time() {
        let clock = Clock::starting_at(Time::from_us(5));
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(clock.now(), Time::from_us(1_000_005));
    }
}
