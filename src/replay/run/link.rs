//! The way to the objects' source: a round trip, a bandwidth for each connection, and one for all together.
//!
//! Bytes flow as a fluid: whenever a transfer begins, ends or is raised, the bandwidth is shared out anew.
//! Demand first, in equal shares; staging gets what is left, no more than it was allowed (the flight table
//! paces it).

use super::world::{Brought, TransferId};
use crate::flow::SourceId;
use crate::prefetch::flights::Class;
use crate::time::{Span, Time};
use std::collections::BTreeMap;

/// A link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkSettings {
    /// From a request to its first byte.
    pub rtt: Span,
    /// Bytes/s of all transfers together, > 0.
    pub bytes_per_s: f64,
    /// Bytes/s of one connection, > 0.
    pub connection_bytes_per_s: f64,
}

#[derive(Clone, Debug)]
struct Transfer {
    source: SourceId,
    class: Class,
    connections: u16,
    bytes: u64,
    left: f64,
    asked: Time,
    /// When its first byte comes; then it flows.
    first_byte: Time,
    flows: bool,
    /// Bytes/s now.
    rate: f64,
}

/// The link with what is on it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    settings: LinkSettings,
    transfers: BTreeMap<TransferId, Transfer>,
    staging: BTreeMap<SourceId, f64>,
    /// Until when bytes have flowed.
    at: Time,
    begun: u64,
    carried: f64,
}

impl Link {
    pub(super) fn new(settings: LinkSettings) -> Link {
        let (transfers, staging) = (BTreeMap::new(), BTreeMap::new());
        Link { settings, transfers, staging, at: Time::ZERO, begun: 0, carried: 0.0 }
    }

    pub(super) fn carried_bytes(&self) -> u64 {
        self.carried.round() as u64
    }

    pub(super) fn begin(
        &mut self,
        now: Time,
        source: SourceId,
        bytes: u64,
        class: Class,
        connections: u16,
    ) -> TransferId {
        self.begun += 1;
        let id = TransferId(self.begun);
        let (left, first_byte) = (bytes as f64, now + self.settings.rtt);
        let new = Transfer {
            source,
            class,
            connections,
            bytes,
            left,
            asked: now,
            first_byte,
            flows: false,
            rate: 0.0,
        };
        self.transfers.insert(id, new);
        id
    }

    pub(super) fn set_class(&mut self, now: Time, id: TransferId, class: Class) {
        self.flow(now);
        if let Some(t) = self.transfers.get_mut(&id) {
            t.class = class;
        }
        self.share_out();
    }

    pub(super) fn pace(&mut self, now: Time, source: SourceId, staging_bytes_per_s: f64) {
        self.flow(now);
        self.staging.insert(source, staging_bytes_per_s);
        self.share_out();
    }

    pub(super) fn break_off(&mut self, now: Time, id: TransferId) -> u64 {
        self.flow(now);
        let Some(t) = self.transfers.remove(&id) else { return 0 };
        self.share_out();
        (t.bytes as f64 - t.left) as u64
    }

    /// When the next first byte comes or the next transfer ends.
    pub(super) fn next(&self) -> Option<Time> {
        self.transfers.values().filter_map(|t| self.due(t)).min()
    }

    fn due(&self, t: &Transfer) -> Option<Time> {
        if !t.flows {
            return Some(t.first_byte);
        }
        if t.left <= 0.0 {
            return Some(self.at);
        }
        // Rounded up, so that at that moment nothing is left.
        (t.rate > 0.0).then(|| self.at + Span::from_us((t.left / t.rate * 1e6).ceil() as u64))
    }

    /// The first thing that is due: a first byte, of which nobody hears, or a transfer that has ended.
    pub(super) fn happen(&mut self, now: Time) -> Option<(TransferId, Brought)> {
        let due = |(id, t): (&TransferId, &Transfer)| Some((self.due(t)?, *id));
        let (_, id) = self.transfers.iter().filter_map(due).min().filter(|(at, _)| *at <= now)?;
        self.flow(now);
        let t = self.transfers.get_mut(&id).expect("listed just now");
        if !t.flows {
            t.flows = true;
            self.share_out();
            return None;
        }
        let t = self.transfers.remove(&id).expect("listed just now");
        self.share_out();
        Some((id, Brought { bytes: t.bytes, first_byte: t.first_byte.since(t.asked) }))
    }

    /// Bytes flow until now.
    fn flow(&mut self, now: Time) {
        let s = now.since(self.at).as_s();
        self.at = self.at.max(now);
        for t in self.transfers.values_mut().filter(|t| t.flows) {
            let came = (t.rate * s).min(t.left);
            t.left -= came;
            self.carried += came;
        }
    }

    fn share_out(&mut self) {
        let each = self.settings.connection_bytes_per_s;
        let mut left = self.settings.bytes_per_s;
        self.transfers.values_mut().for_each(|t| t.rate = 0.0);
        let mut give = |limit: f64, group: Vec<&mut Transfer>| {
            let caps: Vec<f64> = group.iter().map(|t| each * f64::from(t.connections)).collect();
            let rates = shares(left.min(limit), &caps);
            for (t, rate) in group.into_iter().zip(rates) {
                t.rate = rate;
                left = (left - rate).max(0.0);
            }
        };
        let flowing = |class| move |t: &&mut Transfer| t.flows && t.left > 0.0 && t.class == class;
        give(f64::INFINITY, self.transfers.values_mut().filter(flowing(Class::Demand)).collect());
        for (source, limit) in &self.staging {
            let of = |t: &&mut Transfer| t.source == *source;
            give(*limit, self.transfers.values_mut().filter(flowing(Class::Staging)).filter(of).collect());
        }
        // A source that was never paced is not held back.
        let paced: Vec<SourceId> = self.staging.keys().copied().collect();
        let of = |t: &&mut Transfer| !paced.contains(&t.source);
        let free = self.transfers.values_mut().filter(flowing(Class::Staging)).filter(of).collect();
        give(f64::INFINITY, free);
    }
}

/// Equal shares of `total`, none above its cap; what one cannot use goes to the others.
fn shares(total: f64, caps: &[f64]) -> Vec<f64> {
    let mut rates = vec![0.0; caps.len()];
    let mut open: Vec<usize> = (0..caps.len()).collect();
    open.sort_by(|a, b| caps[*a].total_cmp(&caps[*b]).then(a.cmp(b)));
    let mut left = total;
    for (n, &i) in open.iter().enumerate() {
        rates[i] = caps[i].min(left / (open.len() - n) as f64);
        left -= rates[i];
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: SourceId = SourceId(0);

    fn link() -> Link {
        Link::new(LinkSettings {
            rtt: Span::from_ms(100),
            bytes_per_s: 1_000.0,
            connection_bytes_per_s: 800.0,
        })
    }

    /// Lets everything happen; says when each transfer ended.
    fn ends(link: &mut Link) -> Vec<(u64, f64)> {
        let mut ends = vec![];
        while let Some(at) = link.next() {
            if let Some((id, _)) = link.happen(at) {
                ends.push((id.0, at.as_s()));
            }
        }
        ends
    }

    #[test]
    fn one_transfer_takes_a_round_trip_and_its_bytes_at_a_connections_pace() {
        let mut link = link();
        link.begin(Time::ZERO, SOURCE, 800, Class::Demand, 1);
        assert_eq!(ends(&mut link), [(1, 1.1)]);
        assert_eq!(link.carried_bytes(), 800);
    }

    #[test]
    fn two_demands_share_what_there_is() {
        let mut link = link();
        link.begin(Time::ZERO, SOURCE, 500, Class::Demand, 1);
        link.begin(Time::ZERO, SOURCE, 1_000, Class::Demand, 1);
        // 500/s each for a second; then 500 bytes are left at 800/s.
        assert_eq!(ends(&mut link), [(1, 1.1), (2, 1.725)]);
    }

    #[test]
    fn staging_gets_what_demand_leaves_and_all_of_it_when_it_is_raised() {
        let mut link = link();
        link.begin(Time::ZERO, SOURCE, 800, Class::Demand, 1);
        let staged = link.begin(Time::ZERO, SOURCE, 500, Class::Staging, 1);
        let mut raised = link.clone();
        assert_eq!(ends(&mut link), [(1, 1.1), (2, 1.475)]);
        while raised.next().is_some_and(|t| t < Time::from_s(0.6)) {
            let at = raised.next().unwrap();
            raised.happen(at);
        }
        // Half a second at 200/s have brought 100; then both have 500/s.
        raised.set_class(Time::from_s(0.6), staged, Class::Demand);
        assert_eq!(ends(&mut raised), [(1, 1.4), (2, 1.4)]);
    }

    #[test]
    fn a_pace_of_zero_pauses_staging_in_its_place() {
        let mut link = link();
        let id = link.begin(Time::ZERO, SOURCE, 800, Class::Staging, 1);
        link.happen(Time::from_s(0.1));
        link.pace(Time::from_s(0.6), SOURCE, 0.0);
        assert_eq!(link.next(), None);
        link.pace(Time::from_s(5.0), SOURCE, f64::INFINITY);
        assert_eq!(link.next(), Some(Time::from_s(5.5)));
        assert_eq!(link.break_off(Time::from_s(5.25), id), 600);
        assert_eq!(link.next(), None);
    }

    #[test]
    fn an_empty_object_takes_the_round_trip_alone() {
        let mut link = link();
        link.begin(Time::ZERO, SOURCE, 0, Class::Demand, 4);
        assert_eq!(ends(&mut link), [(1, 0.1)]);
    }
}
