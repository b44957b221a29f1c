//! The heatmap: what the series remember, and behind it what is expected.

use super::core::Monitor;
use super::key::{Grain, Key, Metric, Target};
use super::load::{Load, expected_rates};
use crate::draw::{Columns, Heatmap, MAX_COLUMNS, MAX_ROWS, Row, Unit};
use crate::flow::{self, Map, PerResource};
use crate::time::{Span, Time};
use thiserror::Error;

/// What to show.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MapRequest {
    /// What the rows are.
    pub by: Grain,
    /// What the values are.
    pub metric: Metric,
    /// Where it begins.
    pub from: Time,
    /// Where what was measured ends: now, as a rule.
    pub to: Time,
    /// Columns of it, at least 1. There will be fewer if the series are not that fine, and at most one more
    /// because columns begin at round times.
    pub columns: usize,
    /// Columns of forecast behind them, of the same width. Only for cpu, memory, io, net and heat by worker,
    /// cell or shard; others get none.
    pub forecast: usize,
    /// Most rows: if there are more, the hottest. At most [`MAX_ROWS`].
    pub rows: usize,
}

/// Why there is no such map.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MapError {
    /// Nothing of that grain is configured.
    #[error("no {by} is configured")]
    Nothing {
        /// The grain.
        by: Grain,
    },
    /// That metric is not kept for that grain.
    #[error("{metric} is not measured by {by}; accepted: {accepted}")]
    Metric {
        /// What was asked for.
        metric: Metric,
        /// By what.
        by: Grain,
        /// What is.
        accepted: String,
    },
    /// Too many or no columns.
    #[error("{found} columns of heatmap; accepted: 1 to {MAX_COLUMNS}, forecast included")]
    Columns {
        /// How many.
        found: usize,
    },
    /// An end before its beginning.
    #[error("heatmap ends before it begins")]
    Period,
}

/// The metrics that are kept for a grain.
pub fn kept(by: Grain) -> &'static [Metric] {
    use Metric::{
        Cpu, DiskRead, DiskWrite, Heat, Io, Latency, LatencyP99, Memory, Net, NetReceive, NetSend,
        PressureCpu, PressureIo, PressureMemory, Queued, Sampler, Saved, Transfers,
    };
    match by {
        Grain::Host => &[
            Cpu,
            Memory,
            Io,
            Net,
            Heat,
            PressureCpu,
            PressureMemory,
            PressureIo,
            DiskRead,
            DiskWrite,
            NetReceive,
            NetSend,
            Sampler,
            Saved,
        ],
        Grain::Worker => &[Cpu, Memory, Io, Net, Heat, Latency, LatencyP99],
        Grain::Cell => &[Cpu, Memory, Io, Net, Heat, Latency, LatencyP99, Queued, Transfers],
        Grain::Shard => &[Cpu, Memory, Io, Net, Heat, Queued, Transfers],
        Grain::Source => &[Latency, LatencyP99],
    }
}

impl Monitor {
    /// The map. Values are means over their columns.
    ///
    /// # Errors
    /// Names what was asked for and what is accepted.
    pub fn heatmap(&self, ask: &MapRequest) -> Result<Heatmap, MapError> {
        let targets = self.check(ask)?;
        let wanted = Span::from_us(ask.to.since(ask.from).as_us() / ask.columns as u64);
        let mut rows = Vec::with_capacity(targets.len());
        let mut columns = Columns { start: ask.from, step: wanted, count: 0 };
        for target in targets {
            let answer = self.series.query(Key { target, metric: ask.metric }, ask.from, ask.to, wanted);
            columns = Columns { start: answer.start, step: answer.step, count: answer.points.len() };
            // Series hold what was pushed: shares, seconds, counts. A sum in f32 may end a hair below 0.
            let values: Vec<_> =
                answer.points.iter().map(|p| p.map(|p| f64::from(p.mean).max(0.0))).collect();
            let label = target.label(&self.settings).unwrap_or_default();
            rows.push((target, Row { label, values }));
        }
        self.fill_idle_shards(ask, &columns, &mut rows);
        let note = keep_hottest(&mut rows, ask.rows.clamp(1, MAX_ROWS));
        let forecast_from = self.append_forecast(ask, &mut columns, &mut rows);
        let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
        let by = if ask.by == Grain::Shard { "cell and shard".to_owned() } else { ask.by.to_string() };
        let title = match ask.by {
            Grain::Host => format!("{} of the host", words(ask.metric)),
            _ => format!("{} by {by}", words(ask.metric)),
        };
        let unit = ask.metric.unit();
        Ok(Heatmap { title, note, unit, max: scale_end(unit, &rows), columns, rows, forecast_from })
    }

    fn check(&self, ask: &MapRequest) -> Result<Vec<Target>, MapError> {
        let MapRequest { by, metric, columns, forecast, .. } = *ask;
        let found = columns.saturating_add(forecast);
        // One more because columns begin at round times.
        if columns == 0 || found >= MAX_COLUMNS {
            return Err(MapError::Columns { found });
        }
        if ask.to <= ask.from {
            return Err(MapError::Period);
        }
        if !kept(by).contains(&metric) {
            let accepted = kept(by).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(MapError::Metric { metric, by, accepted });
        }
        let targets = Target::all(by, &self.settings);
        if targets.is_empty() { Err(MapError::Nothing { by }) } else { Ok(targets) }
    }

    /// A shard that nothing was told of is not recorded. While its cell was watched, it was idle.
    fn fill_idle_shards(&self, ask: &MapRequest, columns: &Columns, rows: &mut [(Target, Row)]) {
        let mut watched: Map<Target, Vec<bool>> = Map::default();
        for (target, row) in rows {
            let Target::Shard(place) = *target else { continue };
            let cell = Target::Cell(place.cell);
            let seen = watched.entry(cell).or_insert_with(|| {
                let key = Key { target: cell, metric: Metric::Heat };
                let answer = self.series.query(key, ask.from, ask.to, columns.step);
                answer.points.iter().map(Option::is_some).collect()
            });
            for (value, _) in row.values.iter_mut().zip(seen).filter(|(v, seen)| v.is_none() && **seen) {
                *value = Some(0.0);
            }
        }
    }

    /// Adds the columns of forecast, if the metric has any; returns the first one's index.
    fn append_forecast(
        &self,
        ask: &MapRequest,
        columns: &mut Columns,
        rows: &mut [(Target, Row)],
    ) -> Option<usize> {
        let metrics = [Metric::Cpu, Metric::Memory, Metric::Io, Metric::Net, Metric::Heat];
        let metric = metrics.iter().position(|m| *m == ask.metric)?;
        if ask.forecast == 0 || matches!(ask.by, Grain::Host | Grain::Source) {
            return None;
        }
        let from = columns.count;
        let running: Vec<Load> = self.attempts.running().filter_map(Load::rest_of).collect();
        let ahead: Vec<Load> = self.outlook.loads(columns.time(from), &self.usual).collect();
        let loads = ahead.iter().chain(&running);
        let rates = expected_rates(loads, columns.time(from), columns.step, ask.forecast);
        for (target, row) in rows {
            let capacity = self.capacity_of(*target);
            let expected = rates.get(target);
            row.values.extend((0..ask.forecast).map(|i| {
                let rates = expected.map_or([0.0; 4], |rates| rates[i]);
                let shares: PerResource = [0, 1, 2, 3].map(|r| {
                    capacity[r].filter(|c| *c > 0.0).map_or(0.0, |c| (rates[r] / c).clamp(0.0, 1.0))
                });
                Some(shares.get(metric).copied().unwrap_or_else(|| flow::busiest(&shares)))
            }));
        }
        columns.count += ask.forecast;
        Some(from)
    }

    fn capacity_of(&self, target: Target) -> [Option<f64>; 4] {
        match target {
            Target::Worker(id) => self.worker_capacity(usize::from(id.0)),
            Target::Cell(id) => self.cell_capacity(usize::from(id.0)),
            Target::Shard(place) => {
                let cell = usize::from(place.cell.0);
                let shards = f64::from(self.settings.cells[cell].shards.max(1));
                self.cell_capacity(cell).map(|c| c.map(|c| c / shards))
            }
            Target::Host | Target::Source(_) => [None; 4],
        }
    }
}

/// Leaves the `most` rows with the largest sums, in their order; says so if some went.
fn keep_hottest(rows: &mut Vec<(Target, Row)>, most: usize) -> Option<String> {
    let all = rows.len();
    if all <= most {
        return None;
    }
    let sum = |row: &Row| row.values.iter().flatten().sum::<f64>();
    let mut order: Vec<usize> = (0..all).collect();
    order.sort_by(|&a, &b| sum(&rows[b].1).total_cmp(&sum(&rows[a].1)).then(a.cmp(&b)));
    let mut keep = vec![false; all];
    order[..most].iter().for_each(|&i| keep[i] = true);
    let mut kept = keep.into_iter();
    rows.retain(|_| kept.next().unwrap_or(false));
    Some(format!("the {most} hottest of {all} rows"))
}

/// What the title calls a metric.
fn words(metric: Metric) -> &'static str {
    match metric {
        Metric::Cpu => "CPU",
        Metric::Memory => "memory",
        Metric::Io => "disk I/O",
        Metric::Net => "network",
        Metric::Heat => "heat",
        Metric::Latency => "median latency",
        Metric::LatencyP99 => "p99 latency",
        Metric::Queued => "queued tasks",
        Metric::Transfers => "transfers",
        Metric::PressureCpu => "CPU pressure",
        Metric::PressureMemory => "memory pressure",
        Metric::PressureIo => "disk pressure",
        Metric::DiskRead => "disk reads",
        Metric::DiskWrite => "disk writes",
        Metric::NetReceive => "network receive",
        Metric::NetSend => "network send",
        Metric::Sampler => "cost of sampling",
        Metric::Saved => "data wait saved",
        Metric::Saving => "saving of a demand",
        Metric::SavingLow => "saving of a demand, at least",
        Metric::SavingHigh => "saving of a demand, at most",
    }
}

/// Where the scale ends: 1 for shares, else the next round figure above the largest value.
fn scale_end(unit: Unit, rows: &[Row]) -> f64 {
    if unit == Unit::Share {
        return 1.0;
    }
    let largest = rows.iter().flat_map(|r| r.values.iter().flatten()).fold(0.0, |a: f64, b| a.max(*b));
    let base: f64 = match unit {
        Unit::Bytes | Unit::BytesPerS => 1024_f64.powf(largest.max(1.0).log(1024.0).floor()),
        _ => 1.0,
    };
    let least = if unit == Unit::Seconds { 1e-3 } else { 1.0 };
    let value = (largest / base).max(least);
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 1.5, 2.0, 3.0, 5.0, 7.5, 10.0];
    steps.into_iter().map(|s| s * power).find(|s| *s >= value * (1.0 - 1e-9)).unwrap_or(value) * base
}

#[cfg(test)]
mod tests {
    use super::super::attempts::tests::{at, outcome, running, usage};
    use super::super::tests::{GIB, host, monitor, place};
    use super::super::{Ahead, Running, Transfer};
    use super::*;
    use crate::draw::Zone;
    use crate::flow::{Outcome, SourceId, TypeId, WorkerId};

    fn ask(by: Grain, metric: Metric) -> MapRequest {
        MapRequest { by, metric, from: at(0.0), to: at(600.0), columns: 60, forecast: 0, rows: 100 }
    }

    /// Ten minutes; in the second five, one shard gives its all.
    fn watched() -> Monitor {
        let mut monitor = monitor();
        for s in 0..600 {
            let s = f64::from(s);
            monitor.host(at(s), host(s, 1.0));
            if s > 300.0 {
                monitor.transfer(&Transfer {
                    source: SourceId(0),
                    place: place(0, 2),
                    bytes: 25,
                    started: at(s - 1.0),
                    ended: at(s),
                    first_byte: Some(Span::from_ms(if s > 500.0 { 90 } else { 30 })),
                    failed: false,
                });
            }
            monitor.round(at(s), Span::from_ms(1));
        }
        monitor
    }

    #[test]
    fn the_hot_shard_is_called_hottest() {
        let map = watched().heatmap(&ask(Grain::Shard, Metric::Heat)).unwrap();
        map.check().unwrap();
        let labels: Vec<&str> = map.rows.iter().map(|r| r.label.as_str()).collect();
        assert_eq!(labels, ["nas · 0", "nas · 1", "nas · 2", "nas · 3", "s3 · 0"]);
        assert_eq!((map.columns.count, map.columns.step), (60, Span::from_secs(10)));
        let hot = map.hottest().unwrap();
        assert!(hot.row == 2 && hot.from >= 30 && hot.to == 60 && hot.mean > 0.95, "{hot:?}");
        assert!(map.rows[0].values.iter().all(|v| *v == Some(0.0)), "an idle shard is idle, not unknown");
        let words = map.summary(Zone::UTC).remove(0);
        assert!(
            words.starts_with("hottest: nas · 2 at 1.00, ") || words.starts_with("hottest: nas · 2 at .9")
        );
    }

    #[test]
    fn before_the_start_nothing_was_measured() {
        let early = MapRequest { from: at(-300.0), ..ask(Grain::Shard, Metric::Heat) };
        let map = watched().heatmap(&early).unwrap();
        let blank = |row: &Row| row.values.iter().take_while(|v| v.is_none()).count();
        // A quarter of a minute is no whole number of stored points, so columns are 20 s wide.
        assert_eq!(map.columns.step, Span::from_secs(20));
        assert!(
            map.rows.iter().all(|r| blank(r) == 15),
            "{:?}",
            map.rows.iter().map(blank).collect::<Vec<_>>()
        );
    }

    #[test]
    fn latency_has_a_scale_in_round_seconds() {
        let map = watched().heatmap(&ask(Grain::Source, Metric::LatencyP99)).unwrap();
        map.check().unwrap();
        assert_eq!((map.unit, map.title.as_str()), (Unit::Seconds, "p99 latency by source"));
        assert!((map.max - 0.1).abs() < 1e-9, "{}", map.max);
    }

    #[test]
    fn the_forecast_follows_what_was_measured() {
        let mut monitor = watched();
        let expected = Some(usage(25.0, 50.0, GIB / 2, 0));
        monitor.running(Running { expected, ..running(1, 0, 0, 590.0) });
        // What tasks of type 7 use is learned from one that has ended, long enough ago to leave no heat.
        let taught = Outcome { task_type: TypeId(7), ..outcome(9, 1, 0.0, usage(10.0, 20.0, 0, 0)) };
        monitor.outcome(&taught, None);
        let place = Some(place(1, 0));
        let ahead = |p| Ahead { task_type: TypeId(7), worker: None, place, due: at(620.0), p };
        monitor.planned(vec![], Map::from_iter([(TypeId(7), WorkerId(1))]));
        monitor.foreseen(at(600.0), &"vol-1".into(), vec![ahead(0.5), ahead(0.25)]);
        let map = monitor.heatmap(&MapRequest { forecast: 4, ..ask(Grain::Worker, Metric::Heat) }).unwrap();
        map.check().unwrap();
        assert_eq!((map.forecast_from, map.columns.count), (Some(60), 64));
        // The rest of what runs on `fast`: 15 of its 25 seconds, both processors.
        let ahead = |row: usize| map.rows[row].values[60..].iter().map(|v| v.unwrap()).collect::<Vec<_>>();
        assert_eq!(ahead(0), [1.0, 0.5, 0.0, 0.0]);
        // What is expected on `slow`: three quarters of two processors, in the third column.
        assert_eq!(ahead(1), [0.0, 0.0, 0.75, 0.0]);
        let cells = monitor.heatmap(&MapRequest { forecast: 4, ..ask(Grain::Cell, Metric::Cpu) }).unwrap();
        assert_eq!(cells.rows[1].values[62], Some(0.75));
        let latency = MapRequest { forecast: 4, ..ask(Grain::Source, Metric::Latency) };
        assert_eq!(monitor.heatmap(&latency).unwrap().forecast_from, None);
    }

    #[test]
    fn only_the_hottest_rows_are_shown_and_it_says_so() {
        let map = watched().heatmap(&MapRequest { rows: 2, ..ask(Grain::Shard, Metric::Net) }).unwrap();
        let labels: Vec<&str> = map.rows.iter().map(|r| r.label.as_str()).collect();
        assert_eq!(labels, ["nas · 0", "nas · 2"]);
        assert_eq!(map.note.as_deref(), Some("the 2 hottest of 5 rows"));
    }

    #[test]
    fn what_cannot_be_shown_is_refused_with_what_can() {
        let monitor = watched();
        let refuse = |ask: MapRequest, words: &str| {
            assert_eq!(monitor.heatmap(&ask).unwrap_err().to_string(), words);
        };
        refuse(
            ask(Grain::Source, Metric::Cpu),
            "cpu is not measured by source; accepted: latency, latency_p99",
        );
        let bad = ask(Grain::Worker, Metric::Cpu);
        refuse(
            MapRequest { columns: 0, ..bad },
            "0 columns of heatmap; accepted: 1 to 2880, forecast included",
        );
        refuse(MapRequest { to: at(-1.0), ..bad }, "heatmap ends before it begins");
        let none = Monitor::new(super::super::Settings::default()).unwrap();
        let said = none.heatmap(&ask(Grain::Cell, Metric::Cpu)).unwrap_err().to_string();
        assert_eq!(said, "no cell is configured");
    }

    #[test]
    fn every_metric_of_every_grain_can_be_drawn() {
        let monitor = watched();
        for by in [Grain::Host, Grain::Worker, Grain::Cell, Grain::Shard, Grain::Source] {
            for &metric in kept(by) {
                let request = MapRequest { forecast: 6, ..ask(by, metric) };
                monitor.heatmap(&request).unwrap().check().unwrap();
            }
        }
    }

    #[test]
    fn scales_end_at_round_figures() {
        let end =
            |unit, value: f64| scale_end(unit, &[Row { label: String::new(), values: vec![Some(value)] }]);
        for (unit, value, wanted) in [
            (Unit::Share, 0.2, 1.0),
            (Unit::Seconds, 0.0, 0.001),
            (Unit::Seconds, 0.042, 0.05),
            (Unit::Seconds, 0.05, 0.05),
            (Unit::Count, 17.0, 20.0),
            (Unit::Count, 0.0, 1.0),
            (Unit::BytesPerS, 3_500_000.0, 5.0 * 1_048_576.0),
        ] {
            let found = end(unit, value);
            assert!((found - wanted).abs() < 1e-9 * wanted, "{unit:?} {value}: {found}");
        }
    }
}
