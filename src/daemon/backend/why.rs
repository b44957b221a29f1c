//! Why: every factor of a decision, with both sides of what staging weighed.

use super::{Hub, bad, gone};
use crate::api::{Error, wire};
use crate::daemon::kept::{Attempt, Kept};
use crate::dispatch::actor as dispatch;
use crate::flow::{Factors, Found, InputUse, ObjectName, TaskId};
use crate::prefetch::agenda::{Remembered, Verdict};
use crate::task::parse_object;
use crate::time::{Span, Time};

/// Decisions about one object that are shown.
const SHOWN: usize = 5;

fn line(name: &str, text: impl Into<String>) -> wire::WhyLine {
    wire::WhyLine { name: name.into(), text: text.into() }
}

fn product(f: &Factors) -> String {
    format!("speed {:.2} × (1 − heat {:.2}) × locality {:.2}", f.speed, f.heat, f.locality)
}

impl Hub {
    pub(super) async fn explain_task(&self, id: u64) -> Result<wire::Why, Error> {
        let live = dispatch::why(&self.house.dispatch, TaskId(id), true).await.map_err(gone)?;
        let mut why = match &live {
            Some(w) => self.explain_live(w),
            None => self.explain_ended(id).await?,
        };
        let inputs = match &live {
            Some(w) => w.task.inputs.clone(),
            None => why.inputs.iter().map(|i| i.object.clone()).collect(),
        };
        why.lines.extend(self.explain_staging(inputs).await?);
        Ok(why)
    }

    fn explain_live(&self, w: &crate::dispatch::Why) -> wire::Why {
        let name = self.names.catalogue.name(w.task.task_type);
        let who = w.task.entity.as_deref().unwrap_or("");
        let mut lines = Vec::new();
        let title = match (&w.waiting_for, &w.held_by) {
            (Some(f), _) => {
                lines.push(line("waits", format!("for {f}, since {}", ago(w.since, self.clock.now()))));
                format!("task {} {name} {who} waits for: {f}", w.task.id)
            }
            (None, Some((worker, token, factors))) => {
                lines.push(line("placed", format!("at {}: {}", self.worker_name(*worker), product(factors))));
                format!(
                    "task {} {name} {who} runs at {}, attempt {}",
                    w.task.id,
                    self.worker_name(*worker),
                    token.attempt
                )
            }
            _ => format!("task {} {name} {who} is {}", w.task.id, w.state),
        };
        let candidates = w
            .candidates
            .iter()
            .map(|c| wire::WhyCandidate {
                worker: self.worker_name(c.worker),
                factors: c.factors,
                score: c.score,
                free_slots: c.free_slots,
            })
            .collect();
        wire::Why { title, lines, candidates, inputs: vec![] }
    }

    async fn explain_ended(&self, id: u64) -> Result<wire::Why, Error> {
        let stored = self.stored(id).await?;
        let task = self.of_stored(&stored);
        let kept = stored.done.first().and_then(|d| Kept::from_bytes(&d.outcome).ok());
        let who = task.entity.clone().unwrap_or_default();
        let mut lines = Vec::new();
        let mut inputs = Vec::new();
        let Some(Kept { ending, attempt }) = kept else {
            let title = format!("task {id} {} {who} is {}", task.task_type, task.state);
            return Ok(wire::Why { title, lines, candidates: vec![], inputs });
        };
        lines.push(line("ended", format!("{ending}, after {} attempt(s)", task.attempts)));
        let mut how = "";
        if let Some(a) = attempt {
            lines.push(line("placed", format!("at {}: {}", a.worker, product(&a.factors))));
            lines.push(line("times", times(&a)));
            lines.push(line("data wait", a.data_wait.to_string()));
            lines.extend(a.inputs.iter().map(|i| line("input", found(i))));
            how = match a.inputs.iter().all(|i| i.found == Found::Cached) {
                _ if a.inputs.is_empty() => "",
                true => " started with its data there",
                false => " had to wait for data",
            };
            inputs = a.inputs;
        }
        Ok(wire::Why {
            title: format!("task {id} {} {who}{how}", task.task_type),
            lines,
            candidates: vec![],
            inputs,
        })
    }

    async fn explain_staging(&self, objects: Vec<ObjectName>) -> Result<Vec<wire::WhyLine>, Error> {
        let decided = crate::prefetch::actor::look(&self.house.prefetch, move |a, _, _| {
            objects
                .iter()
                .flat_map(|o| a.decisions(o).take(1).cloned().collect::<Vec<_>>())
                .collect::<Vec<_>>()
        });
        Ok(decided.await.map_err(gone)?.iter().map(|r| line("staged", self.decision(r))).collect())
    }

    /// One staging decision, both sides of it.
    fn decision(&self, r: &Remembered) -> String {
        let verdict = match r.verdict {
            Verdict::Staged => "staged",
            Verdict::Observed => "would have been staged",
            Verdict::Control => "left out as a control",
            Verdict::Governed => "not staged: the governor has switched it off",
            Verdict::NotWorthIt => "not staged",
        };
        let ready = r.ready.map_or_else(String::new, |t| {
            let ahead = r.candidate.due.since(t);
            if ahead > Span::ZERO {
                format!(", ready {ahead} ahead")
            } else {
                format!(", ready {} late", t.since(r.candidate.due))
            }
        });
        let who = r.candidate.entity.as_deref().map(|e| format!(" for {e}")).unwrap_or_default();
        format!(
            "{} at {}: {verdict}, {}{who} ({} next), p {:.2}, break-even {:.2}; saves {:.0} ms, costs {:.1} ms{ready}",
            r.key.object,
            self.cache_name(r.key.pool),
            r.candidate.knowledge.name(),
            self.names.catalogue.name(r.candidate.task_type),
            r.worth.p,
            r.worth.break_even,
            r.worth.saves_s * 1e3,
            r.worth.costs_s * 1e3,
        )
    }

    pub(super) async fn explain_object(&self, object: String) -> Result<wire::Why, Error> {
        let object = parse_object(&object).map_err(|e| bad("bad_object", e.to_string()))?;
        let asked = object.clone();
        let decided = crate::prefetch::actor::look(&self.house.prefetch, move |a, _, _| {
            a.decisions(&asked).take(SHOWN).cloned().collect::<Vec<_>>()
        });
        let decided = decided.await.map_err(gone)?;
        let mut lines = Vec::new();
        for (cache, addr) in self.config.caches.iter().zip(&self.house.caches) {
            let asked = object.clone();
            let entry =
                crate::cache::actor::look(addr, move |c| c.get(&asked).map(|e| (e.clone(), c.need(&asked))));
            if let Some((e, need)) = entry.await.map_err(gone)? {
                let need = need.map_or_else(
                    || "no forecast needs it".into(),
                    |n| format!("needed in {} with p {:.2}", n.due.since(self.clock.now()), n.p),
                );
                lines.push(line(
                    "cached",
                    format!("in {}, {} bytes, used {} times; {need}", cache.name, e.bytes, e.uses),
                ));
            }
        }
        let there = !lines.is_empty();
        lines.extend(
            decided
                .iter()
                .map(|r| line("decided", format!("{}: {}", ago(r.at, self.clock.now()), self.decision(r)))),
        );
        let state = match (there, decided.is_empty()) {
            (true, _) => "is cached",
            (false, false) => "is not cached",
            (false, true) => "is not cached, and nothing was decided about it lately",
        };
        Ok(wire::Why { title: format!("{object} {state}"), lines, candidates: vec![], inputs: vec![] })
    }

    pub(super) async fn explain_worker(&self, worker: String) -> Result<wire::Why, Error> {
        let prediction = self
            .show_prediction(wire::PredictQuery { worker: Some(worker.clone()), entity: None, explain: true })
            .await?;
        let mut lines: Vec<wire::WhyLine> = prediction
            .types
            .iter()
            .take(SHOWN)
            .map(|t| {
                let text = format!(
                    "p {:.2} = affinity {:.2} × (1 − heat {:.2}) × history {:.2}, normalised",
                    t.p, t.affinity, t.heat, t.history
                );
                line(&t.task_type, text)
            })
            .collect();
        if let Some(e) = &prediction.explain {
            let [a, b, c] = e.exponents;
            let how = if e.exponents_learned { "learned" } else { "fixed" };
            lines.push(line("exponents", format!("{a:.2}, {b:.2}, {c:.2} ({how})")));
        }
        lines.extend(prediction.known.iter().map(|t| {
            line("planned", format!("task {} {} {}", t.id, t.task_type, t.entity.as_deref().unwrap_or("")))
        }));
        Ok(wire::Why {
            title: format!("worker {worker}: what it is expected to be asked next"),
            lines,
            candidates: vec![],
            inputs: vec![],
        })
    }
}

fn times(a: &Attempt) -> String {
    format!("waited {} for a slot, ran {}", a.started.since(a.submitted), a.usage.wall)
}

fn found(i: &InputUse) -> String {
    let how = match (i.found, i.staged) {
        (Found::Cached, true) => "was there, staged ahead".to_owned(),
        (Found::Cached, false) => "was in the cache".to_owned(),
        (Found::Joined, _) => format!("was on its way, waited {}", i.wait),
        (Found::Fetched, _) => format!("had to be fetched, waited {}", i.wait),
    };
    format!("{} ({} bytes) {how}", i.object, i.bytes)
}

fn ago(at: Time, now: Time) -> String {
    format!("{} ago", now.since(at))
}
