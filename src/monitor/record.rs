//! A round of sampling ends: one point in each series, the pace of the next round, and what goes to disk.

use super::core::Monitor;
use super::key::{Key, Metric, Target};
use super::latency::{Latency, LatencySummary};
use super::layout::Error;
use super::parts::Occupancy;
use super::stored::BlockId;
use crate::flow::{self, CellId, Map, PerResource, Place, SourceId, WorkerId};
use crate::time::{Span, Time};

/// Series are tidied this often.
const TIDY: Span = Span::from_secs(60);

impl Monitor {
    /// Ends a round of sampling that took `cost` of processor time: records one point in each series and
    /// says how long to wait from this round's start to the next one's.
    pub fn round(&mut self, now: Time, cost: Span) -> Span {
        self.pace.spent(cost);
        self.rounded = now;
        self.record(now);
        if now.since(self.tidied) >= TIDY {
            self.series.tidy();
            self.outlook.forget_overdue(now);
            self.tidied = now;
        }
        self.pace.interval()
    }

    fn record(&mut self, now: Time) {
        let heat = self.heat(now);
        let mut points: Vec<(Target, Metric, f64)> = Vec::new();
        let four = |target: Target, u: &PerResource, points: &mut Vec<_>| {
            let metrics = [Metric::Cpu, Metric::Memory, Metric::Io, Metric::Net];
            points.extend(metrics.into_iter().zip(u).map(|(metric, u)| (target, metric, *u)));
            points.push((target, Metric::Heat, flow::busiest(u)));
        };
        if let Some(rates) = &self.rates {
            four(Target::Host, &heat.host, &mut points);
            let mut host = |metric, value| points.push((Target::Host, metric, value));
            if let Some([cpu, memory, io, _]) = rates.pressure {
                host(Metric::PressureCpu, cpu);
                host(Metric::PressureMemory, memory);
                host(Metric::PressureIo, io);
            }
            host(Metric::DiskRead, rates.disk_read_bytes_per_s);
            host(Metric::DiskWrite, rates.disk_write_bytes_per_s);
            host(Metric::NetReceive, rates.net_receive_bytes_per_s);
            host(Metric::NetSend, rates.net_send_bytes_per_s);
            host(Metric::Sampler, self.pace.share());
        }
        if let Some(saved) = &self.saved {
            let mut host =
                |metric, value: Option<f64>| points.extend(value.map(|v| (Target::Host, metric, v)));
            host(Metric::Saved, Some(saved.hidden_s));
            host(Metric::Saving, saved.per_demand_s);
            host(Metric::SavingLow, saved.interval_s.map(|i| i[0]));
            host(Metric::SavingHigh, saved.interval_s.map(|i| i[1]));
        }
        let latency = |target, summary: LatencySummary, points: &mut Vec<_>| {
            if summary.count > 0 {
                points.push((target, Metric::Latency, summary.p50.as_s()));
                points.push((target, Metric::LatencyP99, summary.p99.as_s()));
            }
        };
        for (i, worker) in self.workers.iter().enumerate() {
            let target = Target::Worker(WorkerId(i as u16));
            four(target, &heat.workers[i], &mut points);
            latency(target, Latency::summary(now, worker.round_trip.iter()), &mut points);
        }
        for (c, cell) in self.cells.iter().enumerate() {
            let id = CellId(c as u16);
            four(Target::Cell(id), &heat.cells[c], &mut points);
            latency(Target::Cell(id), self.cell_latency(id, now), &mut points);
            let mut sum = Occupancy::default();
            for (s, shard) in cell.shards.iter().enumerate().filter(|(_, s)| s.seen) {
                let target = Target::Shard(Place { cell: id, shard: s as u16 });
                four(target, &heat.shards[c][s], &mut points);
                points.push((target, Metric::Queued, f64::from(shard.occupancy.queued)));
                points.push((target, Metric::Transfers, f64::from(shard.occupancy.transfers)));
                sum.queued += shard.occupancy.queued;
                sum.transfers += shard.occupancy.transfers;
            }
            points.push((Target::Cell(id), Metric::Queued, f64::from(sum.queued)));
            points.push((Target::Cell(id), Metric::Transfers, f64::from(sum.transfers)));
        }
        for (i, source) in self.sources.iter().enumerate() {
            let summary = Latency::summary(now, std::iter::once(source));
            latency(Target::Source(SourceId(i as u16)), summary, &mut points);
        }
        for (target, metric, value) in points {
            self.series.push(Key { target, metric }, now, value);
        }
    }

    fn cell_latency(&self, cell: CellId, now: Time) -> LatencySummary {
        let infos = self.settings.sources.iter().zip(&self.sources);
        Latency::summary(now, infos.filter(|(info, _)| info.cell == cell).map(|(_, latency)| latency))
    }

    /// Blocks of series to be written, by name; each replaces what was written under its name before.
    pub fn changed(&mut self) -> Vec<(String, Vec<u8>)> {
        let changed = self.series.changed();
        changed.into_iter().filter_map(|(id, bytes)| Some((self.block_name(&id)?, bytes))).collect()
    }

    /// Names of blocks that can be deleted.
    pub fn expired(&mut self) -> Vec<String> {
        let expired = self.series.expired();
        expired.iter().filter_map(|id| self.block_name(id)).collect()
    }

    /// `worker/fast/cpu/10000/2780488`: series, step in ms, number of the block.
    fn block_name(&self, id: &BlockId) -> Option<String> {
        let name = id.key.name(&self.settings)?;
        Some(format!("{name}/{}/{}", id.step.as_us() / 1_000, id.number))
    }

    /// Takes back what [`Monitor::changed`] gave, before the first round; returns the names of blocks that are
    /// damaged or belong to nothing that is configured any more, with the reason: delete them.
    pub fn restore<'a>(&mut self, stored: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<(String, Error)> {
        let keys = Key::all(&self.settings);
        let names: Map<String, Key> =
            keys.into_iter().filter_map(|k| Some((k.name(&self.settings)?, k))).collect();
        let mut refused = Vec::new();
        for (name, bytes) in stored {
            let series = name.rsplitn(3, '/').nth(2).unwrap_or_default();
            let unknown = || Error::Name { name: name.to_owned() };
            let read = names.get(series).ok_or_else(unknown).and_then(|key| self.series.restore(*key, bytes));
            if let Err(error) = read {
                refused.push((name.to_owned(), error));
            }
        }
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::super::attempts::tests::at;
    use super::super::tests::{host, monitor, place, settings};
    use super::super::{Monitor, Transfer};
    use super::*;

    fn hour(monitor: &mut Monitor) {
        for s in 0..3_600 {
            let s = f64::from(s);
            monitor.host(at(s), host(s, 2.0));
            let moved = Transfer {
                source: SourceId(0),
                place: place(0, 1),
                bytes: 30,
                started: at(s - 1.0),
                ended: at(s),
                first_byte: Some(Span::from_ms(20)),
                failed: false,
            };
            monitor.transfer(&moved);
            monitor.occupied(&[(place(0, 1), Occupancy { queued: 7, transfers: 1 })]);
            monitor.round(at(s), Span::from_ms(2));
        }
    }

    fn mean(monitor: &Monitor, target: Target, metric: Metric) -> Option<f32> {
        let (key, step) = (Key { target, metric }, Span::from_secs(60));
        monitor.series().query(key, at(3_000.0), at(3_600.0), step).points[5].map(|p| p.mean)
    }

    #[test]
    fn a_round_records_every_grain() {
        let mut monitor = monitor();
        hour(&mut monitor);
        let near = |target, metric, wanted: f32| {
            let found = mean(&monitor, target, metric);
            assert!(
                found.is_some_and(|f| (f - wanted).abs() < 0.02 * wanted.max(0.5)),
                "{metric}: {found:?}"
            );
        };
        near(Target::Host, Metric::Cpu, 0.5);
        near(Target::Host, Metric::Sampler, 0.002);
        near(Target::Worker(WorkerId(0)), Metric::Heat, 0.0);
        near(Target::Cell(CellId(0)), Metric::Net, 0.3);
        near(Target::Cell(CellId(0)), Metric::Latency, 0.02);
        near(Target::Cell(CellId(0)), Metric::Queued, 7.0);
        near(Target::Shard(place(0, 1)), Metric::Heat, 1.0);
        near(Target::Shard(place(0, 1)), Metric::Transfers, 1.0);
        near(Target::Source(SourceId(0)), Metric::LatencyP99, 0.02);
        assert_eq!(mean(&monitor, Target::Shard(place(0, 2)), Metric::Heat), None, "it was never seen");
        assert_eq!(mean(&monitor, Target::Source(SourceId(1)), Metric::Latency), None);
    }

    #[test]
    fn stored_blocks_come_back_by_name_even_when_ids_moved() {
        let mut before = monitor();
        hour(&mut before);
        let stored = before.changed();
        assert!(stored.iter().any(|(name, _)| name.starts_with("worker/fast/cpu/10000/")));
        assert!(stored.iter().all(|(name, _)| !name.contains("/1000/")), "seconds are not stored");
        let mut moved = settings();
        moved.workers.swap(0, 2);
        moved.workers.remove(1);
        let mut after = Monitor::new(moved).unwrap();
        let mut entries: Vec<(&str, &[u8])> = stored.iter().map(|(n, b)| (n.as_str(), &b[..])).collect();
        entries.push(("cell/nas/cpu/10000/5", b"junk"));
        entries.push(("nonsense", b""));
        let refused = after.restore(entries.into_iter());
        let said: Vec<String> = refused.iter().map(|(_, e)| e.to_string()).collect();
        assert!(said.contains(&"read series block: block has version 106; this program reads 1".to_owned()));
        assert!(said.contains(&"series block `nonsense` belongs to nothing that is configured".to_owned()));
        assert!(refused.iter().any(|(name, _)| name.starts_with("worker/slow/")));
        assert!(refused.iter().all(|(name, _)| !name.starts_with("worker/fast/")));
        let fast = Target::Worker(WorkerId(1));
        assert!(mean(&after, fast, Metric::Heat).is_some());
        assert_eq!(mean(&after, Target::Host, Metric::Cpu).map(|m| (m * 50.0).round()), Some(25.0));
    }

    #[test]
    fn names_on_disk_keep_slashes_apart() {
        let mut odd = settings();
        odd.workers[0].name = "rack/1%".into();
        let key = Key { target: Target::Worker(WorkerId(0)), metric: Metric::Cpu };
        assert_eq!(key.name(&odd).as_deref(), Some("worker/rack%2f1%25/cpu"));
        assert_eq!(Key { target: Target::Worker(WorkerId(9)), metric: Metric::Cpu }.name(&odd), None);
    }

    #[test]
    fn expired_blocks_are_named() {
        let mut short = settings();
        short.series.rings.iter_mut().for_each(|r| r.keep = Span::from_secs(900));
        let mut monitor = Monitor::new(short).unwrap();
        hour(&mut monitor);
        let expired = monitor.expired();
        assert!(expired.iter().any(|name| name.starts_with("host/host/cpu/10000/")), "{expired:?}");
        assert_eq!(monitor.expired(), Vec::<String>::new());
    }
}
