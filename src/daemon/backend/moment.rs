//! Figures over time, and everything that a dashboard shows of this moment.

use super::show::reliability;
use super::{Hub, bad, gone, not_found};
use crate::api::backend::Backend;
use crate::api::{Error, wire};
use crate::daemon::played::{Since, transfer_and_wait};
use crate::dispatch::actor as dispatch;
use crate::draw::Unit;
use crate::flow::Outcome;
use crate::monitor::{self, Grain, Key, Metric, NameError, Target};
use crate::predict::{self, Subject};
use crate::task::WaitingFor;
use crate::time::Span;

/// Lines of the queue.
const QUEUE_LINES: usize = 20;
/// Series of one answer.
const SERIES: usize = 512;
/// Farthest back, seconds: thirty days.
const LAST_LIMIT_S: f64 = 30.0 * 86_400.0;

impl Hub {
    pub(super) async fn show_series(&self, q: wire::SeriesQuery) -> Result<Vec<wire::Series>, Error> {
        let wrong = |e: NameError| bad("bad_value", e.to_string());
        let by: Grain = q.by.as_deref().unwrap_or("host").parse().map_err(wrong)?;
        let metric: Metric = q.metric.as_deref().unwrap_or("heat").parse().map_err(wrong)?;
        let last_s = q.last_s.unwrap_or(600.0);
        if !(1.0..=LAST_LIMIT_S).contains(&last_s) {
            let accepted = "accepted: 1 to 2592000 (thirty days)";
            return Err(bad("bad_value", format!("last_s is {last_s}; {accepted}")));
        }
        let step_s = q.step_s.unwrap_or(0.0);
        if !(0.0..=86_400.0).contains(&step_s) {
            return Err(bad("bad_value", format!("step_s is {step_s}; accepted: 0 to 86400 (a day)")));
        }
        let name = q.name.clone();
        let found = monitor::actor::look(&self.house.monitor, move |m, now| {
            let settings = m.settings();
            let mut targets: Vec<(Target, String)> = Target::all(by, settings)
                .into_iter()
                .filter_map(|t| Some((t, t.label(settings)?)))
                .filter(|(_, label)| name.as_ref().is_none_or(|n| n == label))
                .collect();
            targets.truncate(SERIES);
            let from = now - Span::from_s(last_s);
            let answer = |(target, label)| {
                let key = Key { target, metric };
                (label, m.series().query(key, from, now, Span::from_s(step_s)))
            };
            targets.into_iter().map(answer).collect::<Vec<_>>()
        });
        let found = found.await.map_err(gone)?;
        if found.is_empty() {
            return Err(not_found(match &q.name {
                Some(name) => format!("no {by} `{name}` has series"),
                None => format!("no {by} is configured"),
            }));
        }
        let shown = |(name, a): (String, monitor::Answer)| wire::Series {
            name,
            metric: metric.to_string(),
            unit: unit_word(metric.unit()).to_owned(),
            start_s: a.start.as_s(),
            step_s: a.step.as_s(),
            points: a.points.iter().map(|p| p.map(|p| [p.min, p.mean, p.max])).collect(),
        };
        Ok(found.into_iter().map(shown).collect())
    }

    pub(super) async fn show_now(&self, q: wire::NowQuery) -> Result<wire::Now, Error> {
        let (outcomes, next) = self.house.played.send(Since(q.since.unwrap_or(0))).await.map_err(gone)?;
        let queue = dispatch::look(&self.house.dispatch, |d, now| d.waiting_lines(now, QUEUE_LINES));
        let queue = queue.await.map_err(gone)?;
        let flights = crate::prefetch::actor::look(&self.house.prefetch, |_, flights, _| flights.counts());
        let flights = flights.await.map_err(gone)?;
        let explained = predict::actor::look(&self.house.predict, |p, _| p.explain(Subject::Host));
        let explained = explained.await.map_err(gone)?;
        let sampler = monitor::actor::look(&self.house.monitor, |m, _| m.sampler()).await.map_err(gone)?;
        Ok(wire::Now {
            at_s: self.clock.now().as_s(),
            health: self.health().await?,
            workers: self.show_workers().await?,
            queue: queue.iter().map(|(t, count, why)| self.queue_line(*t, *count, why)).collect(),
            transfers: wire::Transfers {
                demand: flights.running_demand,
                staging: flights.running_staging,
                waiting: flights.waiting,
            },
            caches: self.show_caches().await?,
            savings: self.show_savings().await?,
            calibration: reliability(&explained.calibration),
            played: outcomes.iter().map(|o| self.played(o)).collect(),
            next,
            sampler: [sampler.share, sampler.budget],
        })
    }

    fn queue_line(&self, t: crate::flow::TypeId, count: usize, why: &WaitingFor) -> wire::QueueLine {
        let waiting_for = match why {
            WaitingFor::Better { worker } => format!("better worker {}", self.worker_name(*worker)),
            other => other.to_string(),
        };
        wire::QueueLine { task_type: self.names.catalogue.name(t).to_owned(), count, waiting_for }
    }

    fn played(&self, o: &Outcome) -> wire::Played {
        let (transfer, wait) = transfer_and_wait(o);
        wire::Played {
            task: o.task.0,
            task_type: self.names.catalogue.name(o.task_type).to_owned(),
            entity: o.entity.as_deref().map(str::to_owned),
            worker: self.worker_name(o.worker),
            started_s: o.started.as_s(),
            transfer_s: transfer.as_s(),
            wait_s: wait.as_s(),
            ended_s: o.ended.as_s(),
            done: o.ending.is_done(),
            staged: o.inputs.iter().filter(|i| i.staged).count(),
        }
    }
}

fn unit_word(unit: Unit) -> &'static str {
    match unit {
        Unit::Share => "share",
        Unit::Seconds => "seconds",
        Unit::Bytes => "bytes",
        Unit::BytesPerS => "bytes_per_s",
        Unit::Count => "count",
    }
}
