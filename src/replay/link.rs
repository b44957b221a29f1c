//! The link to the objects' source, on a virtual clock: a round trip, and one bandwidth for all.
//!
//! Demand comes strictly first: it never waits for staging, and staging waits for it.

use crate::time::{Span, Time};

/// A link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    rtt: Span,
    bandwidth_per_s: f64,
    /// Until then, staging that was asked for keeps the link busy.
    busy_until: Time,
}

impl Link {
    /// Idle, with this time to the first byte and so many bytes a second.
    pub(super) fn new(rtt: Span, bandwidth_per_s: f64) -> Link {
        Link { rtt, bandwidth_per_s, busy_until: Time::ZERO }
    }
    fn transfer(&self, bytes: u64) -> Span {
        Span::from_s(bytes as f64 / self.bandwidth_per_s)
    }
    /// A task waits for so many bytes; says when they are there.
    pub(super) fn demand(&mut self, now: Time, bytes: u64) -> Time {
        let transfer = self.transfer(bytes);
        self.busy_until = self.busy_until.max(now) + transfer;
        now + self.rtt + transfer
    }
    /// So many bytes are staged; says when they are there.
    pub(super) fn stage(&mut self, now: Time, bytes: u64) -> Time {
        self.busy_until = self.busy_until.max(now) + self.transfer(bytes);
        self.busy_until + self.rtt
    }
    /// A task waits for what is being staged until `arrival`; says when it is there. It is raised to demand: at
    /// the worst it is fetched as if nothing had been staged.
    pub(super) fn join(&self, now: Time, arrival: Time, bytes: u64) -> Time {
        arrival.min(now + self.rtt + self.transfer(bytes)).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_waits_for_demand_and_not_the_other_way_round() {
        let mut link = Link::new(Span::from_ms(20), 1000.0);
        assert_eq!(link.stage(Time::ZERO, 1000), Time::from_s(1.02));
        assert_eq!(link.demand(Time::ZERO, 500), Time::from_s(0.52));
        assert_eq!(link.stage(Time::ZERO, 100), Time::from_s(1.62));
        assert_eq!(link.join(Time::from_s(1.0), Time::from_s(1.62), 100), Time::from_s(1.12), "raised");
        assert_eq!(link.join(Time::from_s(1.6), Time::from_s(1.62), 100), Time::from_s(1.62), "nearly there");
    }
}
