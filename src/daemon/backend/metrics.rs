//! All figures as families of `/metrics`.
//!
//! Each room is asked for a copy of its figures; names are put in and the text is made on the blocking pool, so
//! a scrape of tens of thousands of figures holds no arbiter. Dispatch is asked for four counts and the slots of
//! its workers.

use super::{Hub, gone};
use crate::api::metrics::{Family, In, Kind, Label, render};
use crate::api::{Error, wire};
use crate::dispatch::actor as dispatch;
use crate::flow::{PerResource, Resource};
use crate::monitor::{self, Report, Settings as Watched, Totals};
use crate::prefetch::flights::Counts;
use crate::prefetch::ledger::{Account, Line};
use crate::task::{Catalogue, State};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Copies of every room's figures at one moment.
struct Figures {
    up_s: f64,
    tasks: [(State, usize); 4],
    report: Report,
    watched: Watched,
    slots: Vec<u32>,
    catalogue: Arc<Catalogue>,
    caches: Vec<wire::Cache>,
    flights: Counts,
    ledger: Vec<(Account, Line)>,
    demands: (u64, u64),
    forecasts: (u64, u64),
}

impl Hub {
    pub(super) async fn render_metrics(&self) -> Result<String, Error> {
        let figures = self.figures().await?;
        let text = tokio::task::spawn_blocking(move || render(figures.families()));
        text.await.map_err(|e| Error::Internal { message: format!("render metrics: {e}") })
    }

    async fn figures(&self) -> Result<Figures, Error> {
        let asked = dispatch::look(&self.house.dispatch, |d, _| {
            (d.counts(), d.specs().iter().map(|w| w.slots).collect())
        });
        let (tasks, slots) = asked.await.map_err(gone)?;
        let watched =
            monitor::actor::look(&self.house.monitor, |m, now| (m.report(now), m.settings().clone()));
        let (report, watched) = watched.await.map_err(gone)?;
        let staged = crate::prefetch::actor::look(&self.house.prefetch, |agenda, flights, _| {
            let l = agenda.ledger();
            let lines = l.lines().map(|(a, l)| (a.clone(), *l)).collect();
            (flights.counts(), lines, (l.demands, l.found))
        });
        let (flights, ledger, demands) = staged.await.map_err(gone)?;
        let right = crate::predict::actor::look(&self.house.predict, |p, _| p.right()).await.map_err(gone)?;
        Ok(Figures {
            up_s: self.clock.now().since(self.ready).as_s(),
            tasks,
            report,
            watched,
            slots,
            catalogue: self.names.catalogue.clone(),
            caches: self.show_caches().await?,
            flights,
            ledger,
            demands,
            forecasts: right,
        })
    }
}

type Labels = Vec<(Label, Arc<str>)>;

fn counter(name: &'static str, unit: In, help: &'static str) -> Family {
    Family::new(name, Kind::Counter, unit, help)
}

fn gauge(name: &'static str, unit: In, help: &'static str) -> Family {
    Family::new(name, Kind::Gauge, unit, help)
}

fn resource_name(resource: Resource) -> &'static str {
    match resource {
        Resource::Cpu => "cpu",
        Resource::Memory => "memory",
        Resource::Io => "io",
        Resource::Net => "net",
    }
}

/// One figure for each resource of something.
fn by_resource(mut family: Family, who: &[(Label, Arc<str>)], figures: &PerResource) -> Family {
    for (resource, value) in Resource::ALL.into_iter().zip(figures) {
        let mut labels = who.to_vec();
        labels.push((Label::Resource, resource_name(resource).into()));
        family.push(labels, *value);
    }
    family
}

impl Figures {
    fn families(&self) -> Vec<Family> {
        let mut all = self.of_the_daemon();
        all.extend(self.of_the_host());
        all.extend(self.of_workers());
        all.extend(self.of_cells_and_sources());
        all.extend(self.of_caches());
        all.extend(self.of_staging());
        all
    }

    fn of_the_daemon(&self) -> Vec<Family> {
        let version = vec![(Label::Version, Arc::from(env!("CARGO_PKG_VERSION")))];
        let mut tasks = gauge("tasks", In::Number, "Unfinished tasks by state");
        for (state, count) in &self.tasks {
            tasks.push(vec![(Label::State, state.name().into())], *count as f64);
        }
        let sampler = &self.report.sampler;
        let series = &self.report.series;
        vec![
            gauge("build_info", In::Number, "The daemon's version; always 1").with(version, 1.0),
            gauge("up", In::Seconds, "Time since the daemon was ready").with(vec![], self.up_s),
            tasks,
            gauge("sampler_interval", In::Seconds, "Time between two samples now")
                .with(vec![], sampler.interval.as_s()),
            gauge("sampler_cost", In::Ratio, "Share of one processor that sampling takes")
                .with(vec![], sampler.share),
            gauge("sampler_budget", In::Ratio, "Share of one processor that sampling may take")
                .with(vec![], sampler.budget),
            gauge("series", In::Number, "Time series that are kept").with(vec![], series.series as f64),
            gauge("series_size", In::Bytes, "Memory of all time series").with(vec![], series.bytes as f64),
            counter("monitor_ignored", In::Number, "Facts about what is not configured")
                .with(vec![], self.report.ignored as f64),
        ]
    }

    fn of_the_host(&self) -> Vec<Family> {
        let Some(host) = &self.report.host else { return Vec::new() };
        let one = |name, unit, help, value| gauge(name, unit, help).with(vec![], value);
        let mut all = vec![
            one("host_cpus", In::Number, "Processors online", host.cpus),
            one("host_cpus_busy", In::Number, "Processors that were busy", host.cpus_busy),
            one("host_memory", In::Bytes, "Memory of the host", host.memory_total_bytes),
            one("host_memory_used", In::Bytes, "Memory that is not available", host.memory_used_bytes),
            one("host_disk_busy", In::Ratio, "Time in which the busiest disk had work", host.disk_busy),
            one("daemon_cpus", In::Number, "Processors that the daemon uses", host.own_cpus),
            by_resource(
                gauge("host_utilisation", In::Ratio, "Utilisation of the host, smoothed"),
                &[],
                &self.report.heat.host,
            ),
        ];
        let moved = gauge("host_traffic_per_second", In::Number, "Bytes per second by direction");
        let direction = |name: &str| vec![(Label::State, Arc::from(name))];
        all.push(
            moved
                .with(direction("disk_read"), host.disk_read_bytes_per_s)
                .with(direction("disk_write"), host.disk_write_bytes_per_s)
                .with(direction("net_receive"), host.net_receive_bytes_per_s)
                .with(direction("net_send"), host.net_send_bytes_per_s),
        );
        if let Some(pressure) = &host.pressure {
            let family = gauge("host_pressure", In::Ratio, "Time in which somebody waited for a resource");
            all.push(by_resource(family, &[], pressure));
        }
        all
    }

    fn of_workers(&self) -> Vec<Family> {
        let names: Vec<Arc<str>> = self.watched.workers.iter().map(|w| w.name.as_str().into()).collect();
        let types: Vec<Arc<str>> = self.catalogue.iter().map(|(_, t)| t.name.as_str().into()).collect();
        let worker = |i: usize| (Label::Worker, names[i].clone());
        let mut slots = gauge("worker_slots", In::Number, "Attempts that a worker can run at once");
        for (i, count) in self.slots.iter().enumerate() {
            // A worker that came between the two questions is counted in the next scrape.
            if i < names.len() {
                slots.push(vec![worker(i)], f64::from(*count));
            }
        }
        let mut busy =
            gauge("worker_utilisation", In::Ratio, "Utilisation of what a worker lives on, smoothed");
        for (i, figures) in self.report.heat.workers.iter().enumerate() {
            busy = by_resource(busy, &[worker(i)], figures);
        }
        // The only two families with worker and type together, and only the pairs that were seen.
        let mut attempts = counter("attempts", In::Number, "Attempts that ended");
        let mut run = counter("run", In::Seconds, "Time in which attempts ran");
        let mut by_type: BTreeMap<usize, (u64, f64)> = BTreeMap::new();
        for (w, t, tally) in &self.report.pairs {
            let (Some(name), Some(type_name)) = (names.get(usize::from(w.0)), types.get(usize::from(t.0)))
            else {
                continue;
            };
            let labels = vec![(Label::Worker, name.clone()), (Label::Type, type_name.clone())];
            attempts.push(labels.clone(), tally.attempts as f64);
            // To the millisecond: three digits more of each pair would be a tenth of a megabyte.
            run.push(labels, (tally.run_s * 1e3).round() / 1e3);
            let sums = by_type.entry(usize::from(t.0)).or_default();
            *sums = (sums.0 + tally.failed, sums.1 + tally.data_wait_s);
        }
        let mut failed =
            counter("attempts_failed", In::Number, "Attempts that did not do what they were asked to");
        let mut waited = counter("data_wait", In::Seconds, "Time in which slots idled for data");
        for (t, (failures, wait_s)) in by_type {
            let labels = vec![(Label::Type, types[t].clone())];
            failed.push(labels.clone(), failures as f64);
            waited.push(labels, wait_s);
        }
        let mut all = vec![slots, busy, attempts, run, failed, waited];
        let used: Vec<(Labels, &Totals)> =
            self.report.workers.iter().enumerate().map(|(i, t)| (vec![worker(i)], t)).collect();
        all.extend(totals(["worker_cpu", "worker_io", "worker_fetched"], &used));
        all
    }

    fn of_cells_and_sources(&self) -> Vec<Family> {
        let cells: Vec<Arc<str>> = self.watched.cells.iter().map(|c| c.name.as_str().into()).collect();
        let cell = |i: usize| (Label::Cell, cells[i].clone());
        let mut busy = gauge("cell_utilisation", In::Ratio, "Utilisation of a cell, smoothed");
        for (i, figures) in self.report.heat.cells.iter().enumerate() {
            busy = by_resource(busy, &[cell(i)], figures);
        }
        let mut counts = vec![(0, 0); cells.len()];
        for (place, occupancy) in &self.report.occupancy {
            let sums = &mut counts[usize::from(place.cell.0)];
            *sums = (sums.0 + occupancy.queued, sums.1 + occupancy.transfers);
        }
        let mut queued =
            gauge("cell_queued_tasks", In::Number, "Ready tasks whose first input lies in a cell");
        let mut moving =
            gauge("cell_transfers", In::Number, "Transfers out of a cell, waiting ones included");
        for (i, (tasks, transfers)) in counts.into_iter().enumerate() {
            queued.push(vec![cell(i)], f64::from(tasks));
            moving.push(vec![cell(i)], f64::from(transfers));
        }
        let used: Vec<(Labels, &Totals)> =
            self.report.cells.iter().enumerate().map(|(i, t)| (vec![cell(i)], t)).collect();
        let mut all = vec![busy, queued, moving];
        all.extend(totals(["cell_cpu", "cell_io", "cell_fetched"], &used));

        let mut median = gauge("source_latency_p50", In::Seconds, "Half of the answers came sooner");
        let mut slow = gauge("source_latency_p99", In::Seconds, "99 in 100 answers came sooner");
        let mut answers = gauge("source_recent_answers", In::Number, "Answers of the last five minutes");
        let mut failures =
            gauge("source_recent_failures", In::Number, "Requests of the last five minutes that got none");
        for (source, report) in self.watched.sources.iter().zip(&self.report.sources) {
            let labels: Labels = vec![(Label::Source, source.name.as_str().into())];
            let latency = &report.latency;
            if latency.count > 0 {
                median.push(labels.clone(), latency.p50.as_s());
                slow.push(labels.clone(), latency.p99.as_s());
            }
            answers.push(labels.clone(), latency.count as f64);
            failures.push(labels, latency.failures as f64);
        }
        all.extend([median, slow, answers, failures]);
        all
    }

    fn of_caches(&self) -> Vec<Family> {
        let mut size = gauge("cache_capacity", In::Bytes, "What a cache may hold");
        let mut used = gauge("cache_used", In::Bytes, "What its objects take");
        let mut pinned = gauge("cache_pinned", In::Bytes, "What tasks and users hold");
        let mut objects = gauge("cache_objects", In::Number, "Objects in a cache");
        let mut hits = counter("cache_hits", In::Number, "Demands that found their object whole");
        let mut misses = counter("cache_misses", In::Number, "Demands that did not");
        for cache in &self.caches {
            let labels = || vec![(Label::Cache, Arc::from(cache.name.as_str()))];
            size.push(labels(), cache.capacity_bytes as f64);
            used.push(labels(), cache.used_bytes as f64);
            pinned.push(labels(), cache.pinned_bytes as f64);
            objects.push(labels(), cache.objects as f64);
            hits.push(labels(), cache.hits as f64);
            misses.push(labels(), cache.misses as f64);
        }
        vec![size, used, pinned, objects, hits, misses]
    }

    fn of_staging(&self) -> Vec<Family> {
        let mut saved = counter("saved", In::Seconds, "Data wait that staging has hidden, by the ledger");
        let mut bytes = counter("staged", In::Bytes, "Bytes staged");
        let mut results = counter("staged_objects", In::Number, "Staged objects by what came of them");
        let mut by_account: BTreeMap<(Arc<str>, Arc<str>), Line> = BTreeMap::new();
        for (account, line) in &self.ledger {
            let known = usize::from(account.task_type.0) < self.catalogue.len();
            let type_name = if known { self.catalogue.name(account.task_type) } else { "none" };
            by_account.entry((type_name.into(), account.source.clone())).or_default().add(line);
        }
        for ((task_type, source), line) in by_account {
            let labels: Labels = vec![(Label::Type, task_type), (Label::Source, source)];
            saved.push(labels.clone(), line.hidden_s);
            bytes.push(labels.clone(), line.bytes as f64);
            for (result, count) in [("useful", line.useful), ("late", line.late), ("wasted", line.wasted)] {
                let mut labels = labels.clone();
                labels.push((Label::State, result.into()));
                results.push(labels, count as f64);
            }
        }
        let transfers = [
            ("demand", self.flights.running_demand),
            ("staging", self.flights.running_staging),
            ("waiting", self.flights.waiting),
        ];
        let mut moving = gauge("transfers", In::Number, "Transfers by what they are for");
        for (class, count) in transfers {
            moving.push(vec![(Label::State, class.into())], count as f64);
        }
        let one = |name, help, value: u64| counter(name, In::Number, help).with(vec![], value as f64);
        vec![
            saved,
            bytes,
            results,
            moving,
            one("demands", "Inputs that tasks asked for", self.demands.0),
            one("demands_found", "Inputs that were there, whole", self.demands.1),
            one("forecasts", "Submits for which there was a forecast", self.forecasts.1),
            one("forecasts_right", "Submits whose type had been the likeliest", self.forecasts.0),
        ]
    }
}

/// Three families of what was used: processor time, bytes on disks, bytes fetched.
fn totals([cpu, io, net]: [&'static str; 3], used: &[(Labels, &Totals)]) -> [Family; 3] {
    let mut cpu = counter(cpu, In::Seconds, "Processor time of attempts that ended");
    let mut io = counter(io, In::Bytes, "Bytes read and written on disks by attempts that ended");
    let mut net = counter(net, In::Bytes, "Bytes fetched");
    for (labels, totals) in used {
        cpu.push(labels.clone(), totals.cpu_s);
        io.push(labels.clone(), totals.io_bytes as f64);
        net.push(labels.clone(), totals.net_bytes as f64);
    }
    [cpu, io, net]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{CellId, Heat, Place, SourceId, TypeId, WorkerId};
    use crate::monitor::sample::thread_cpu;
    use crate::monitor::{CellInfo, HostRates, Occupancy, SourceInfo, SourceReport, Tally, WorkerInfo};
    use crate::prefetch::agenda::Knowledge;
    use crate::time::Span;
    use std::collections::BTreeSet;

    /// A host on which everything happens: every worker has ended attempts of every type.
    fn busy(workers: u16, types: u16) -> Figures {
        let text: String = (0..types).map(|t| format!("[type.type-{t}]\nargv = [\"/bin/true\"]\n")).collect();
        let around = crate::config::Surroundings::from_env(|_| None, 2);
        let config = crate::config::Config::parse(&text, None, &around).unwrap();
        let worker = |w: u16| WorkerInfo {
            name: format!("worker-{w}"),
            capacity: Default::default(),
            on_host: true,
            near: vec![],
        };
        let tally = Tally { attempts: 1_234, failed: 5, run_s: 98.765_432, data_wait_s: 1.25 };
        let pairs = (0..workers).flat_map(|w| (0..types).map(move |t| (WorkerId(w), TypeId(t), tally)));
        let mut source = SourceReport { source: SourceId(0), latency: Default::default() };
        (source.latency.count, source.latency.p50) = (9, Span::from_ms(12));
        let host = HostRates {
            over: Span::from_secs(1),
            cpus_busy: 1.5,
            cpus: 2.0,
            memory_used_bytes: 1e9,
            memory_total_bytes: 4e9,
            disk_read_bytes_per_s: 1e6,
            disk_write_bytes_per_s: 2e6,
            disk_busy: 0.25,
            net_receive_bytes_per_s: 3e6,
            net_send_bytes_per_s: 4e6,
            pressure: Some([0.1, 0.0, 0.2, 0.0]),
            own_cpus: 0.05,
        };
        let report = Report {
            heat: Heat {
                workers: vec![[0.1, 0.2, 0.3, 0.4]; workers.into()],
                cells: vec![[0.5; 4]],
                ..Heat::default()
            },
            host: Some(host),
            workers: vec![Totals { cpu_s: 12.5, io_bytes: 1 << 40, net_bytes: 7 }; workers.into()],
            cells: vec![Totals::default()],
            pairs: pairs.collect(),
            sources: vec![source],
            occupancy: vec![(Place { cell: CellId(0), shard: 3 }, Occupancy { queued: 4, transfers: 2 })],
            ..Report::default()
        };
        let watched = Watched {
            workers: (0..workers).map(worker).collect(),
            cells: vec![CellInfo { name: "nas".into(), capacity: Default::default(), shards: 8 }],
            sources: vec![SourceInfo { name: "volumes".into(), cell: CellId(0) }],
            ..Watched::default()
        };
        let cache = wire::Cache {
            name: "ssd".into(),
            dir: "/ssd".into(),
            policy: "lru".into(),
            capacity_bytes: 100,
            used_bytes: 50,
            pinned_bytes: 10,
            zombie_bytes: 0,
            objects: 3,
            hits: 8,
            misses: 2,
            model_bytes: 0,
            catalogue_bytes: 0,
        };
        let account = |knowledge| Account { task_type: TypeId(0), source: "volumes".into(), knowledge };
        let line = Line { staged: 5, useful: 3, late: 1, wasted: 1, hidden_s: 2.5, ..Line::default() };
        Figures {
            up_s: 60.0,
            tasks: [(State::Queued, 4), (State::Delayed, 1), (State::Blocked, 0), (State::Running, 2)],
            report,
            watched,
            slots: vec![4; workers.into()],
            catalogue: Arc::new(config.catalogue()),
            caches: vec![cache],
            flights: Counts { running_demand: 1, running_staging: 2, waiting: 3, failures_remembered: 0 },
            ledger: vec![(account(Knowledge::Derived), line), (account(Knowledge::Queued), line)],
            demands: (10, 8),
            forecasts: (7, 9),
        }
    }

    #[test]
    fn figures_bear_the_names_of_what_they_are_about() {
        let text = render(busy(2, 2).families());
        for line in [
            "forestage_tasks{state=\"queued\"} 4.0",
            "forestage_attempts_total{worker=\"worker-1\",type=\"type-0\"} 1234.0",
            "forestage_attempts_failed_total{type=\"type-1\"} 10.0",
            "forestage_data_wait_seconds_total{type=\"type-1\"} 2.5",
            "forestage_worker_utilisation_ratio{worker=\"worker-0\",resource=\"io\"} 0.3",
            "forestage_cell_queued_tasks{cell=\"nas\"} 4.0",
            "forestage_source_latency_p50_seconds{source=\"volumes\"} 0.012",
            "forestage_cache_used_bytes{cache=\"ssd\"} 50.0",
            "forestage_saved_seconds_total{type=\"type-0\",source=\"volumes\"} 5.0",
            "forestage_staged_objects_total{type=\"type-0\",source=\"volumes\",state=\"useful\"} 6.0",
            "forestage_forecasts_right_total 7.0",
            "forestage_host_pressure_ratio{resource=\"io\"} 0.2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn worker_and_type_stand_together_in_two_families() {
        let families = busy(2, 2).families();
        let has = |f: &Family, label| f.points.iter().any(|p| p.labels.iter().any(|(l, _)| *l == label));
        let both = families.iter().filter(|f| has(f, Label::Worker) && has(f, Label::Type));
        assert_eq!(both.map(|f| f.name).collect::<Vec<_>>(), ["attempts", "run"]);
        let mut names = BTreeSet::new();
        assert!(families.iter().all(|f| names.insert(f.name)), "every family comes once");
    }

    /// The names that a file of PromQL uses, without what PromQL adds.
    fn used(text: &str) -> BTreeSet<String> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        words.filter(|w| w.starts_with("forestage_")).map(str::to_owned).collect()
    }

    #[test]
    fn dashboards_and_alerts_ask_for_figures_that_there_are() {
        let text = render(busy(2, 2).families());
        let there: BTreeSet<String> = text.lines().filter(|l| !l.starts_with('#')).flat_map(used).collect();
        for file in ["config/grafana-dashboard.json", "config/prometheus-alerts.yml"] {
            let asked = used(&std::fs::read_to_string(file).unwrap());
            assert!(asked.len() >= 5, "{file} asks for something");
            let missing: Vec<_> = asked.difference(&there).collect();
            assert!(missing.is_empty(), "{file} asks for {missing:?}");
        }
        let grafana = std::fs::read_to_string("config/grafana-dashboard.json").unwrap();
        let parsed: serde_json::Value = serde_json::from_str(&grafana).unwrap();
        assert!(parsed["panels"].as_array().is_some_and(|p| p.len() >= 8));
    }

    #[test]
    fn five_hundred_workers_of_fifty_types_are_scraped_within_thirty_milliseconds_and_four_megabytes() {
        let figures = busy(500, 50);
        // Processor time, not time: other tests run beside this one.
        let scrape = || {
            let before = thread_cpu();
            let text = render(figures.families());
            (thread_cpu().as_us() - before.as_us(), text.len())
        };
        let (cost_us, bytes) = (0..5).map(|_| scrape()).min().unwrap();
        println!("scrape of 500 workers x 50 types: {cost_us} us, {bytes} bytes");
        assert!(bytes < 4_000_000, "{bytes} bytes");
        assert!(cost_us < 30_000, "{cost_us} us");
    }
}
