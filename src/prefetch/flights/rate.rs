//! How fast staging may go: what a source can give, less what demand could take.
//!
//! Demand comes strictly first. While a demand transfer is under way at a source, staging gets only what demand
//! cannot use: capacity minus (demand connections × what one connection has been seen to take). Where either is
//! unknown, or demand can fill the source, staging pauses. Capacity is what was seen to arrive, and a source that
//! is seldom busy was never seen at its best: so while several demand transfers each go as fast as one alone, a
//! quarter more than was seen is tried, and the first one that is held back ends that for a while.

use crate::time::{Span, Time};

/// Over how long throughput is measured. Progress arrives in steps of up to a megabyte, so that a shorter window
/// sees mostly its own noise.
const WINDOW: Span = Span::from_ms(250);
/// Peaks fade to a half in this time: a source that became slower is believed to be slower after a minute.
const HALF_LIFE: Span = Span::from_secs(60);
/// Transfers below this size show latency, not bandwidth.
const TELLING_BYTES: u64 = 128 * 1024;
/// The share of the measured capacity that demand and staging together may plan with: windows that happen to end
/// on a burst overstate it by up to a tenth.
const USABLE: f64 = 0.85;

/// The same while several demand transfers hold nobody back: what was seen is no limit then. (Without it a queue
/// that keeps all slots waiting for data would never let staging begin.)
const TRIED: f64 = 1.25;
/// A demand transfer below this share of what a connection can take was held back.
const HELD_BACK: f64 = 0.8;
/// For so long after that nothing is tried.
const CAREFUL: Span = Span::from_secs(10);

/// What one source has been seen to give.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    window: Option<(Time, u64)>,
    total: Peak,
    connection: Peak,
    held_back: Option<Time>,
}

/// A maximum that fades.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    per_s: f64,
    at: Time,
}

impl Peak {
    fn now(&self, now: Time) -> f64 {
        self.per_s * 0.5_f64.powf(now.since(self.at).as_s() / HALF_LIFE.as_s())
    }
    fn see(&mut self, per_s: f64, now: Time) {
        if per_s > self.now(now) {
            *self = Peak { per_s, at: now };
        }
    }
}

impl Meter {
    /// Bytes arrived from this source, over whatever connection.
    pub(super) fn moved(&mut self, bytes: u64, now: Time) {
        let (start, sum) = self.window.get_or_insert((now, 0));
        *sum += bytes;
        let elapsed = now.since(*start);
        if elapsed >= WINDOW {
            let per_s = *sum as f64 / elapsed.as_s();
            self.total.see(per_s, now);
            self.window = None;
        }
    }

    /// A demand transfer ended: `bytes` came over each of its connections within `busy` after the first byte.
    pub(super) fn landed(&mut self, bytes: u64, busy: Span, now: Time) {
        if bytes >= TELLING_BYTES && busy > Span::ZERO {
            let per_s = bytes as f64 / busy.as_s();
            if per_s < HELD_BACK * self.connection.now(now) {
                self.held_back = Some(now);
            }
            self.connection.see(per_s, now);
        }
    }

    /// Bytes per second of all connections together, zero if never measured.
    pub(super) fn capacity(&self, now: Time) -> f64 {
        self.total.now(now)
    }

    /// Whether demand was held back lately.
    pub(super) fn is_tight(&self, now: Time) -> bool {
        self.held_back.is_some_and(|at| now.since(at) < CAREFUL)
    }

    /// Bytes per second of one connection, zero if never measured.
    pub(super) fn per_connection(&self, now: Time) -> f64 {
        self.connection.now(now)
    }
}

/// The facts of one source that the decision needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// The configured limit, bytes/s; infinite if there is none.
    pub limit: f64,
    /// Measured, bytes/s; zero if unknown.
    pub capacity: f64,
    /// Measured, bytes/s; zero if unknown.
    pub per_connection: f64,
    /// Whether demand was held back lately.
    pub tight: bool,
    /// Connections that demand holds or waits for.
    pub demand: u16,
    /// Connections that staging holds.
    pub staging: u16,
}

/// Most bytes per second that staging may take from one source: zero is "pause", infinite is "no limit".
pub(super) fn ceiling(f: Facts) -> f64 {
    if f.demand == 0 {
        return f.limit;
    }
    if f.capacity <= 0.0 || f.per_connection <= 0.0 {
        return 0.0;
    }
    // One connection alone may fill the source; several that each go as fast as one alone do not.
    let is_wider = f.demand >= 2 && !f.tight;
    let seen = f.capacity * if is_wider { TRIED } else { USABLE };
    let capacity = seen.min(f.limit * USABLE);
    let left = capacity - f64::from(f.demand) * f.per_connection;
    // Less than this is not worth the connection, and within the error of the measurement.
    if left < capacity * 0.1 { 0.0 } else { left }
}

/// Shares the host's staging budget (bytes/s) among sources with the given ceilings: equal shares, and what one
/// source cannot use goes to the others (max-min fairness). Sources that stage nothing keep their ceiling, cut
/// to the budget.
pub(super) fn share(budget: f64, sources: &[Facts]) -> Vec<f64> {
    let mut rates: Vec<f64> = sources.iter().map(|f| ceiling(*f).min(budget)).collect();
    let mut open: Vec<usize> = (0..sources.len()).filter(|&i| sources[i].staging > 0).collect();
    open.sort_by(|&a, &b| rates[a].total_cmp(&rates[b]).then(a.cmp(&b)));
    let mut left = budget;
    for (n, &i) in open.iter().enumerate() {
        let fair = left / (open.len() - n) as f64;
        rates[i] = rates[i].min(fair);
        left -= rates[i];
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Facts = Facts {
        limit: f64::INFINITY,
        capacity: 0.0,
        per_connection: 0.0,
        tight: true,
        demand: 0,
        staging: 1,
    };

    #[test]
    fn staging_is_free_without_demand_and_pauses_with_demand_when_nothing_is_known() {
        assert_eq!(ceiling(IDLE), f64::INFINITY);
        assert_eq!(ceiling(Facts { demand: 1, ..IDLE }), 0.0);
        assert_eq!(ceiling(Facts { limit: 5e6, ..IDLE }), 5e6);
    }

    #[test]
    fn demand_that_can_fill_the_source_pauses_staging() {
        let f = Facts { capacity: 40e6, per_connection: 40e6, demand: 1, ..IDLE };
        assert_eq!(ceiling(f), 0.0);
    }

    #[test]
    fn what_demand_cannot_use_is_left_to_staging() {
        let f = Facts { capacity: 100e6, per_connection: 20e6, demand: 2, ..IDLE };
        assert!((ceiling(f) - 45e6).abs() < 1.0, "{}", ceiling(f));
        assert!((ceiling(Facts { tight: false, ..f }) - 85e6).abs() < 1.0);
        assert_eq!(ceiling(Facts { tight: false, limit: 40e6, ..f }), 0.0);
    }

    #[test]
    fn demand_that_is_slower_than_its_like_makes_staging_careful_for_a_while() {
        let mut m = Meter::default();
        let t = |s: u64| Time::from_us(s * 1_000_000);
        m.landed(2_000_000, Span::from_ms(100), t(1));
        assert!(!m.is_tight(t(1)));
        m.landed(2_000_000, Span::from_ms(200), t(2));
        assert!(m.is_tight(t(11)) && !m.is_tight(t(12)));
    }

    #[test]
    fn the_budget_is_shared_equally_and_the_rest_goes_on() {
        let slow = Facts { limit: 2e6, ..IDLE };
        let idle = Facts { staging: 0, ..IDLE };
        assert_eq!(share(10e6, &[slow, IDLE, IDLE, idle]), vec![2e6, 4e6, 4e6, 10e6]);
        assert_eq!(share(0.0, &[slow, IDLE]), vec![0.0, 0.0]);
        assert_eq!(share(f64::INFINITY, &[slow, IDLE]), vec![2e6, f64::INFINITY]);
    }

    #[test]
    fn a_peak_fades() {
        let mut m = Meter::default();
        let t = |ms: u64| Time::from_us(ms * 1000);
        m.moved(0, t(0));
        m.moved(10_000_000, t(500));
        assert!((m.capacity(t(500)) - 20e6).abs() < 1.0);
        assert!((m.capacity(t(60_500)) - 10e6).abs() < 1.0);
    }
}
