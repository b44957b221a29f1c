//! Workers, profiles, predictions, heatmaps, savings.

use super::{Hub, bad, gone, not_found, staging_name};
use crate::api::{Error, wire};
use crate::dispatch::actor as dispatch;
use crate::draw::Heatmap;
use crate::flow::{Expected, Forecast, WorkerId};
use crate::monitor::{self, Grain, MapError, MapRequest, Metric};
use crate::predict::{self, Subject};
use crate::prefetch::control::Verdict;
use crate::time::{Span, Time};
use crate::worker::roster_actor::LookAtRoster;
use tokio::sync::oneshot;

/// Types with less than this are not listed for a worker.
const LEAST_SHOWN: f64 = 0.005;
/// Pairs of entity and type of a prediction.
const NEXT: usize = 8;
/// Expected tasks of a prediction.
const EXPECTED: usize = 20;

impl Hub {
    fn running(&self, t: &crate::task::Task, since: Option<Time>) -> wire::RunningTask {
        wire::RunningTask {
            id: t.id.0,
            task_type: self.names.catalogue.name(t.task_type).to_owned(),
            entity: t.entity.as_deref().map(str::to_owned),
            started_s: since.map(|at| at.as_s()),
        }
    }

    pub(super) async fn show_workers(&self) -> Result<Vec<wire::Worker>, Error> {
        let all = dispatch::look(&self.house.dispatch, move |d, _| {
            // Outside workers that are away have no slots.
            let there = d.specs().iter().filter(|w| w.slots > 0).cloned();
            there.map(|w| (d.running_at(w.id).collect::<Vec<_>>(), w)).collect::<Vec<_>>()
        });
        let all = all.await.map_err(gone)?;
        let ids: Vec<WorkerId> = all.iter().map(|(_, w)| w.id).collect();
        let heat = monitor::actor::look(&self.house.monitor, |m, now| m.heat(now)).await.map_err(gone)?;
        let forecasts = predict::actor::look(&self.house.predict, move |p, now| {
            ids.into_iter().map(|w| p.forecast(Subject::Worker(w), now)).collect::<Vec<Forecast>>()
        });
        let forecasts = forecasts.await.map_err(gone)?;
        let standings = self.standings().await?;
        let mut workers = Vec::with_capacity(all.len());
        for ((running, w), forecast) in all.iter().zip(&forecasts) {
            let i = usize::from(w.id.0);
            let types = w.types.iter().flatten().map(|t| self.names.catalogue.name(*t).to_owned()).collect();
            let known =
                standings.get(i).into_iter().flat_map(|s| &s.types).filter(|s| s.effective_count >= 1.0);
            let best = known.max_by(|a, b| a.speed.total_cmp(&b.speed));
            workers.push(wire::Worker {
                name: w.name.clone(),
                slots: w.slots,
                outside: w.outside,
                running: running.iter().map(|(t, since)| self.running(t, *since)).collect(),
                cache: self.cache_name(w.cache),
                types,
                heat: heat.workers.get(i).copied().unwrap_or_default(),
                next: self.chances(forecast),
                best_at: best.map(|s| wire::BestAt {
                    task_type: self.names.catalogue.name(s.task_type).to_owned(),
                    speed: s.speed,
                }),
            });
        }
        Ok(workers)
    }

    fn chances(&self, f: &Forecast) -> Vec<wire::TypeChance> {
        let name = |t| self.names.catalogue.name(t).to_owned();
        let likely = f.types.iter().filter(|t| t.p >= LEAST_SHOWN).take(3);
        likely.map(|t| wire::TypeChance { task_type: name(t.task_type), p: t.p }).collect()
    }

    async fn standings(&self) -> Result<Vec<crate::flow::Standings>, Error> {
        let (tx, rx) = oneshot::channel();
        let ask = LookAtRoster(Box::new(move |r| _ = tx.send(r.all().collect())));
        self.house.roster.send(ask).await.map_err(gone)?;
        rx.await.map_err(|_| Error::Unavailable { message: "the daemon is stopping".into() })
    }

    pub(super) async fn show_profile(&self, worker: String) -> Result<Vec<wire::ProfileLine>, Error> {
        let id = self.worker_id(&worker)?;
        let standings = self.standings().await?;
        let (tx, rx) = oneshot::channel();
        let ask =
            LookAtRoster(Box::new(move |r| _ = tx.send(r.profile(id).map(|(p, h)| (p.clone(), h.clone())))));
        self.house.roster.send(ask).await.map_err(gone)?;
        let stopping = || Error::Unavailable { message: "the daemon is stopping".into() };
        let (profile, host) = rx.await.map_err(|_| stopping())?.ok_or_else(stopping)?;
        let posterior = host.posterior(&profile);
        let mut lines = Vec::new();
        for s in &standings[usize::from(id.0)].types {
            let estimate = posterior.estimate(s.task_type);
            let figures = profile.get(s.task_type);
            let smoothed = |of: fn(&crate::worker::profile::Figures) -> f64| figures.map_or(0.0, of);
            lines.push(wire::ProfileLine {
                task_type: self.names.catalogue.name(s.task_type).to_owned(),
                affinity: s.affinity,
                speed: s.speed,
                effective_count: s.effective_count,
                success: estimate.success,
                wall_ms: estimate.expected_time().as_ms(),
                cpu_ms: smoothed(|f| f.cpu_s.mean() * 1e3),
                memory_bytes: smoothed(|f| f.log_memory.mean().exp()),
                io_bytes: smoothed(|f| f.io_bytes.mean()),
                net_bytes: smoothed(|f| f.net_bytes.mean()),
                first_s: figures.and_then(|f| f.first).map(|t| t.as_s()),
                last_s: figures.and_then(|f| f.last).map(|t| t.as_s()),
            });
        }
        lines.sort_by(|a, b| b.affinity.total_cmp(&a.affinity).then(a.task_type.cmp(&b.task_type)));
        Ok(lines)
    }

    pub(super) async fn show_prediction(&self, q: wire::PredictQuery) -> Result<wire::Prediction, Error> {
        let worker = q.worker.as_deref().map(|w| self.worker_id(w)).transpose()?;
        if worker.is_some() && q.entity.is_some() {
            return Err(bad("bad_value", "ask for a worker or for an entity, not for both"));
        }
        let (entity, explain) = (q.entity.clone(), q.explain);
        let asked = predict::actor::look(&self.house.predict, move |p, now| {
            let subject = match (worker, entity.as_deref()) {
                (Some(w), _) => Subject::Worker(w),
                (None, Some(e)) => Subject::Entity(e),
                (None, None) => Subject::Host,
            };
            let forecast = p.forecast(subject, now);
            let expected = match subject {
                Subject::Entity(e) => p.expected(e, now),
                _ => p.expected_all(now, EXPECTED),
            };
            let explained = explain.then(|| (p.explain(subject), p.exponents_learned()));
            let mut next = match subject {
                Subject::Entity(_) => vec![],
                _ => p.joint(subject),
            };
            next.truncate(NEXT);
            (forecast, expected, next, explained, now)
        });
        let (forecast, expected, next, explained, now) = asked.await.map_err(gone)?;
        let known = match worker {
            Some(w) => self.known_for(w).await?,
            None => vec![],
        };
        let name = |t| self.names.catalogue.name(t).to_owned();
        Ok(wire::Prediction {
            of: match (&q.worker, &q.entity) {
                (Some(w), _) => format!("worker {w}"),
                (None, Some(e)) => format!("entity {e}"),
                (None, None) => "host".into(),
            },
            types: forecast
                .types
                .iter()
                .map(|t| wire::PredictedType {
                    task_type: name(t.task_type),
                    p: t.p,
                    affinity: t.affinity,
                    heat: t.heat,
                    history: t.history,
                    due_in_s: t.due_in.map(Span::as_s),
                })
                .collect(),
            other: forecast.other,
            expected: expected.iter().map(|e| self.expected(e, now)).collect(),
            next: next
                .into_iter()
                .map(|(entity, t, p)| wire::NextTask { task_type: name(t), entity: entity.to_string(), p })
                .collect(),
            known,
            explain: explained.map(|(e, learned)| explanation(e, learned)),
        })
    }

    fn expected(&self, e: &Expected, now: Time) -> wire::ExpectedTask {
        wire::ExpectedTask {
            task_type: self.names.catalogue.name(e.task_type).to_owned(),
            entity: e.entity.to_string(),
            p: e.p,
            due_in_s: e.due.since(now).as_s(),
        }
    }

    /// Tasks that are queued for a worker by the tentative plan.
    async fn known_for(&self, worker: WorkerId) -> Result<Vec<wire::RunningTask>, Error> {
        let known = dispatch::look(&self.house.dispatch, move |d, now| d.planned_for(worker, now))
            .await
            .map_err(gone)?;
        Ok(known.iter().map(|t| self.running(t, None)).collect())
    }

    pub(super) async fn draw_heatmap(&self, q: wire::HeatmapQuery) -> Result<Heatmap, Error> {
        let by: Grain =
            q.by.as_deref()
                .unwrap_or("worker")
                .parse()
                .map_err(|e: monitor::NameError| bad("bad_value", e.to_string()))?;
        let metric: Metric = q
            .metric
            .as_deref()
            .unwrap_or("heat")
            .parse()
            .map_err(|e: monitor::NameError| bad("bad_value", e.to_string()))?;
        let last_s = q.last_s.unwrap_or(600.0);
        if !(1.0..=30.0 * 86_400.0).contains(&last_s) {
            return Err(bad(
                "bad_value",
                format!("last_s is {last_s}; accepted: 1 to 2592000 (thirty days)"),
            ));
        }
        let columns = q.columns.unwrap_or(60);
        if !(1..=1_000).contains(&columns) {
            return Err(bad("bad_value", format!("columns is {columns}; accepted: 1 to 1000")));
        }
        let map = monitor::actor::look(&self.house.monitor, move |m, now| {
            let from = now - Span::from_s(last_s);
            let forecast = (columns / 10).max(1);
            m.heatmap(&MapRequest {
                by,
                metric,
                from,
                to: now,
                columns,
                forecast,
                rows: crate::draw::MAX_ROWS,
            })
        });
        map.await.map_err(gone)?.map_err(|e| match e {
            MapError::Nothing { .. } => not_found(e.to_string()),
            other => bad("bad_value", other.to_string()),
        })
    }

    pub(super) async fn show_savings(&self) -> Result<wire::Savings, Error> {
        let (lines, total, demands, found, verdict, off) =
            crate::prefetch::actor::look(&self.house.prefetch, |a, _, _| {
                let l = a.ledger();
                let lines: Vec<_> = l.lines().map(|(a, l)| (a.clone(), *l)).collect();
                let off: Vec<_> = a.governor().off().into_iter().cloned().collect();
                (lines, l.total(), l.demands, l.found, a.trial().verdict(), off)
            })
            .await
            .map_err(gone)?;
        let right = predict::actor::look(&self.house.predict, |p, _| p.right()).await.map_err(gone)?;
        let (per_demand_s, interval_s, said) = match verdict {
            Verdict::NotYetKnown { interval_s, demands } => {
                let so_far = interval_s.map_or_else(String::new, |[a, b]| {
                    format!("; the interval so far is {:.0} to {:.0} ms", a * 1e3, b * 1e3)
                });
                (None, interval_s, format!("not yet known: {demands} demands in the smaller group{so_far}"))
            }
            Verdict::Known { saved_s, interval_s: [a, b] } => {
                let does = if saved_s >= 0.0 { "saves" } else { "costs" };
                let ms = |s: f64| s.abs() * 1e3;
                let (low, high) = (ms(a).min(ms(b)), ms(a).max(ms(b)));
                let text = format!("{does} {:.0} ms a demand (95 %: {low:.0} to {high:.0} ms)", ms(saved_s));
                (Some(saved_s), Some([a, b]), text)
            }
        };
        let type_name = |t: crate::flow::TypeId| {
            if usize::from(t.0) < self.names.catalogue.len() {
                self.names.catalogue.name(t).to_owned()
            } else {
                "–".into()
            }
        };
        Ok(wire::Savings {
            staging: staging_name(self.config.staging.mode).into(),
            hidden_s: total.hidden_s,
            per_demand_s,
            interval_s,
            verdict: said,
            demands,
            found,
            staged: total.staged,
            useful: total.useful,
            late: total.late,
            wasted: total.wasted,
            harmful: total.harmful,
            staged_bytes: total.bytes,
            wasted_bytes: total.wasted_bytes,
            forecasts_right: right.0,
            forecasts: right.1,
            lines: lines
                .into_iter()
                .map(|(a, l)| wire::SavingsLine {
                    task_type: type_name(a.task_type),
                    source: a.source.to_string(),
                    knowledge: a.knowledge.name().into(),
                    staged: l.staged,
                    useful: l.useful,
                    late: l.late,
                    wasted: l.wasted,
                    hidden_s: l.hidden_s,
                    bytes: l.bytes,
                })
                .collect(),
            off: off.iter().map(|b| format!("{} from {}", type_name(b.task_type), b.source)).collect(),
        })
    }
}

fn explanation(e: predict::Explained, learned: bool) -> wire::Explain {
    wire::Explain {
        exponents: e.exponents,
        exponents_learned: learned,
        contexts: e
            .voices
            .iter()
            .take(8)
            .map(|v| wire::ContextVoice {
                context: v.name.to_owned(),
                weight: f64::from(v.says),
                task_type: v.favours.clone(),
                count: v.seen.map(f64::from),
            })
            .collect(),
        calibration: reliability(&e.calibration),
        log_loss_bits: e.log_loss_bits,
    }
}

/// A reliability table, bin by bin.
pub(super) fn reliability(calibration: &predict::calibration::Calibration) -> Vec<wire::CalibrationBin> {
    let bins = calibration.bins();
    let width = 1.0 / bins.len() as f64;
    let bin = |(i, b): (usize, &predict::calibration::Bin)| {
        let (confidence, came_true) = b.rates().unwrap_or_default();
        let from = i as f64 * width;
        wire::CalibrationBin { from, to: from + width, count: b.n, confidence, came_true }
    };
    bins.iter().enumerate().map(bin).collect()
}
