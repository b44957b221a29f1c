//! A fluid network: transfers share the line, demand strictly before staging.

use crate::flow::ObjectName;
use crate::prefetch::flights::{Class, FlightId};
use crate::time::{Span, Time};
use std::collections::BTreeMap;

/// The line between the host and its source.
#[derive(Clone, Debug)]
pub struct Line {
    /// Time from a request to its first byte.
    pub latency: Span,
    /// Bytes per second of one connection.
    pub connection_per_s: f64,
    /// Bytes per second of all connections together.
    pub line_per_s: f64,
}

/// One transfer.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// What is fetched.
    pub object: ObjectName,
    /// Its bytes; `None` if the source does not have it.
    pub bytes: Option<u64>,
    /// Bytes that have not come.
    pub left: f64,
    /// When its first byte comes.
    pub first_byte: Time,
    /// How it is paced.
    pub class: Class,
    /// Parallel ranges.
    pub connections: u16,
}

/// All transfers.
#[derive(Debug)]
pub struct Network {
    line: Line,
    now: Time,
    transfers: BTreeMap<FlightId, Transfer>,
    /// What the flight table lets staging have, bytes per second.
    pub staging_per_s: f64,
    /// All bytes that came.
    pub moved_bytes: f64,
}

impl Network {
    /// An idle line.
    pub fn new(line: Line) -> Network {
        Network {
            line,
            now: Time::ZERO,
            transfers: BTreeMap::new(),
            staging_per_s: f64::INFINITY,
            moved_bytes: 0.0,
        }
    }

    /// A request goes out.
    pub fn start(
        &mut self,
        id: FlightId,
        object: ObjectName,
        bytes: Option<u64>,
        class: Class,
        connections: u16,
    ) {
        let first_byte = self.now + self.line.latency;
        let left = bytes.unwrap_or(0) as f64;
        self.transfers.insert(id, Transfer { object, bytes, left, first_byte, class, connections });
    }

    /// Paces a transfer anew.
    pub fn set_class(&mut self, id: FlightId, class: Class) {
        if let Some(t) = self.transfers.get_mut(&id) {
            t.class = class;
        }
    }

    /// Ends a transfer early.
    pub fn stop(&mut self, id: FlightId) -> Option<Transfer> {
        self.transfers.remove(&id)
    }

    /// Bytes of a running transfer that have come, and all of it.
    pub fn progress(&self) -> Vec<(FlightId, u64, u64)> {
        let done = |t: &Transfer| t.bytes.map(|b| ((b as f64 - t.left) as u64, b));
        self.transfers.iter().filter_map(|(id, t)| done(t).map(|(d, b)| (*id, d, b))).collect()
    }

    /// Bytes per second of one connection of each class.
    fn rates(&self) -> (f64, f64) {
        let streams = |class| {
            let all = self.transfers.values().filter(|t| t.class == class && t.first_byte <= self.now);
            all.map(|t| f64::from(t.connections)).sum::<f64>()
        };
        let (demand, staging) = (streams(Class::Demand), streams(Class::Staging));
        let demand_rate =
            if demand > 0.0 { (self.line.line_per_s / demand).min(self.line.connection_per_s) } else { 0.0 };
        let rest = (self.line.line_per_s - demand * demand_rate).min(self.staging_per_s).max(0.0);
        let staging_rate = if staging > 0.0 { (rest / staging).min(self.line.connection_per_s) } else { 0.0 };
        (demand_rate, staging_rate)
    }

    fn rate_of(&self, t: &Transfer) -> f64 {
        let (demand, staging) = self.rates();
        f64::from(t.connections) * if t.class == Class::Demand { demand } else { staging }
    }

    /// When something happens next on the line, if nothing else does before.
    pub fn next_event(&self) -> Option<Time> {
        let at = |t: &Transfer| {
            if t.first_byte > self.now {
                return Some(t.first_byte);
            }
            let rate = self.rate_of(t);
            // Rounded up, so that the transfer is over by then.
            (rate > 0.0).then(|| self.now + Span::from_s(t.left / rate) + Span::from_us(1))
        };
        self.transfers.values().filter_map(at).min()
    }

    /// Lets time pass; nothing may happen on the line before `now`. Returns what has ended, in order of id.
    pub fn advance(&mut self, now: Time) -> Vec<(FlightId, Transfer)> {
        let (demand, staging) = self.rates();
        let dt = now.since(self.now).as_s();
        for t in self.transfers.values_mut().filter(|t| t.first_byte <= self.now) {
            let rate = f64::from(t.connections) * if t.class == Class::Demand { demand } else { staging };
            let moved = (rate * dt).min(t.left);
            t.left -= moved;
            self.moved_bytes += moved;
        }
        self.now = now;
        let over: Vec<FlightId> = self
            .transfers
            .iter()
            .filter(|(_, t)| t.first_byte <= now && t.left < 1e-3)
            .map(|(id, _)| *id)
            .collect();
        over.into_iter().filter_map(|id| Some((id, self.transfers.remove(&id)?))).collect()
    }
}
