//! Both sides, side by side: the table, the sentence about what was saved, one decision explained.

use crate::api::wire::{Task, Why};
use crate::task::State;
use crate::time::Span;
use anyhow::Context;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::fmt::{self, Write};
use std::path::PathBuf;

/// What was measured of one side.
#[derive(Clone, Debug)]
pub struct Side {
    /// From submit to end of each task, microseconds.
    pub latency: Histogram<u64>,
    /// How long slots idled for data, all tasks together, seconds.
    pub data_wait_s: f64,
    /// Processor time of the tasks themselves, seconds.
    pub task_cpu_s: f64,
    /// From the first submit to the last end, seconds.
    pub took_s: f64,
    /// Tasks.
    pub tasks: usize,
    /// Tasks that did not end well.
    pub failed: usize,
    /// The first of them, and what the daemon says of it.
    pub failure: Option<String>,
    /// Inputs that tasks asked for.
    pub demands: u64,
    /// … and that were in the cache, whole.
    pub found: u64,
    /// Bytes that the object server sent.
    pub fetched_bytes: u64,
    /// How many forecasts came true, of how many; where the daemon counts them.
    pub forecasts: Option<(u64, u64)>,
}

impl Side {
    /// From the daemon's record of the tasks; what the record does not have is left zero.
    ///
    /// # Errors
    /// When a task has no end.
    pub fn of(tasks: &[Task]) -> anyhow::Result<Side> {
        // From 1 µs to an hour at three digits, as precise as the table.
        let mut latency = Histogram::new_with_bounds(1, 3_600_000_000, 3)?;
        let (mut data_wait_s, mut task_cpu_s, mut failed) = (0.0, 0.0, 0);
        let mut failure = None;
        let (mut first_s, mut last_s) = (f64::INFINITY, 0.0_f64);
        for task in tasks {
            let ended_s = task.ended_s.with_context(|| format!("task {} has no end on record", task.id))?;
            latency.saturating_record(Span::from_s(ended_s - task.submitted_s).as_us());
            data_wait_s += task.data_wait_ms.unwrap_or(0.0) / 1e3;
            task_cpu_s += task.usage.map_or(0.0, |u| u.cpu_ms / 1e3);
            if task.state != State::Done {
                failed += 1;
                failure.get_or_insert_with(|| told(task));
            }
            first_s = first_s.min(task.submitted_s);
            last_s = last_s.max(ended_s);
        }
        Ok(Side {
            latency,
            data_wait_s,
            task_cpu_s,
            took_s: (last_s - first_s).max(0.0),
            tasks: tasks.len(),
            failed,
            failure,
            demands: 0,
            found: 0,
            fetched_bytes: 0,
            forecasts: None,
        })
    }

    /// Mean latency, milliseconds.
    pub fn mean_ms(&self) -> f64 {
        self.latency.mean() / 1e3
    }

    /// A percentile of the latency, milliseconds.
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        self.latency.value_at_percentile(percent) as f64 / 1e3
    }

    /// Mean data wait of a task, milliseconds.
    pub fn data_wait_ms(&self) -> f64 {
        self.data_wait_s * 1e3 / self.tasks.max(1) as f64
    }

    /// Share of inputs that were found in the cache.
    pub fn hit_ratio(&self) -> f64 {
        self.found as f64 / self.demands.max(1) as f64
    }
}

/// A decision of the daemon, explained by itself.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The task it is about.
    pub task: Task,
    /// The daemon's explanation.
    pub why: Why,
}

/// What one run of the demonstration showed.
#[derive(Clone, Debug)]
pub struct Report {
    /// Repeats the stream.
    pub seed: u64,
    /// Workers and slots, the link: the first line.
    pub setting: String,
    /// With staging off.
    pub off: Side,
    /// With staging on.
    pub on: Side,
    /// A task whose data was there because it was forecast; none if there was none.
    pub explained: Option<Explained>,
    /// Where the heatmap was written.
    pub picture: PathBuf,
}

impl Report {
    /// Seconds of data wait that there were less with staging on; negative if there were more.
    pub fn saved_s(&self) -> f64 {
        self.off.data_wait_s - self.on.data_wait_s
    }

    /// The figures for programs.
    pub fn to_json(&self) -> Value {
        let (off, on) = (&self.off, &self.on);
        let why = self.explained.as_ref().map(|e| json!({ "task": e.task.id, "why": e.why }));
        json!({
            "seed": self.seed,
            "tasks": off.tasks,
            "tasks_failed_off": off.failed,
            "tasks_failed_on": on.failed,
            "latency_ms_mean_off": rounded(off.mean_ms()),
            "latency_ms_mean_on": rounded(on.mean_ms()),
            "latency_ms_p50_off": rounded(off.percentile_ms(50.0)),
            "latency_ms_p50_on": rounded(on.percentile_ms(50.0)),
            "latency_ms_p99_off": rounded(off.percentile_ms(99.0)),
            "latency_ms_p99_on": rounded(on.percentile_ms(99.0)),
            "data_wait_ms_off": rounded(off.data_wait_ms()),
            "data_wait_ms_on": rounded(on.data_wait_ms()),
            "hit_ratio_off": rounded(off.hit_ratio()),
            "hit_ratio_on": rounded(on.hit_ratio()),
            "bytes_fetched_off": off.fetched_bytes,
            "bytes_fetched_on": on.fetched_bytes,
            "took_s_off": rounded(off.took_s),
            "took_s_on": rounded(on.took_s),
            "seconds_saved": rounded(self.saved_s()),
            "forecasts_right": on.forecasts.map(|(right, of)| rounded(share(right, of))),
            "forecasts": on.forecasts.map(|(_, of)| of),
            "why": why,
            "picture": self.picture,
        })
    }

    fn table(&self, out: &mut String) -> fmt::Result {
        let (off, on) = (&self.off, &self.on);
        let ms =
            |name: &str, off: f64, on: f64| row(name, &whole(off, "ms"), &whole(on, "ms"), &change(off, on));
        writeln!(out, "{}", row("", "off", "on", ""))?;
        writeln!(out, "{}", ms("latency   mean", off.mean_ms(), on.mean_ms()))?;
        writeln!(out, "{}", ms("          p99", off.percentile_ms(99.0), on.percentile_ms(99.0)))?;
        writeln!(out, "{}", ms("data wait mean", off.data_wait_ms(), on.data_wait_ms()))?;
        let found = [off, on].map(|side| whole(100.0 * side.hit_ratio(), "%"));
        writeln!(
            out,
            "{}",
            row("found in cache", &found[0], &found[1], &format!("of {} inputs", on.demands))
        )?;
        let mib = [off, on].map(|side| side.fetched_bytes as f64 / 1_048_576.0);
        let change = change(mib[0], mib[1]);
        writeln!(out, "{}", row("fetched", &whole(mib[0], "MiB"), &whole(mib[1], "MiB"), &change))?;
        if let Some((right, of)) = on.forecasts {
            let right = whole(100.0 * share(right, of), "%");
            writeln!(out, "{}", row("forecasts right", "–", &right, &format!("of {of}")))?;
        }
        if off.failed + on.failed > 0 {
            let [a, b] = [off, on].map(|side| side.failed.to_string());
            writeln!(out, "{}", row("tasks failed", &a, &b, ""))?;
            for (name, side) in [("off", off), ("on", on)] {
                if let Some(failure) = &side.failure {
                    writeln!(out, "  {name:4} {failure}")?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        writeln!(out, "forestage demo · seed {} · {}", self.seed, self.setting)?;
        for (name, side) in [("staging off", &self.off), ("staging on", &self.on)] {
            let (bar, n) = ("█".repeat(24), side.tasks);
            writeln!(out, "{name:13} {bar}  {n} / {n} {:>6}", whole(side.took_s, "s"))?;
        }
        writeln!(out)?;
        self.table(&mut out)?;
        let saved_s = self.saved_s();
        let (word, amount) = if saved_s < 0.0 { ("lost", -saved_s) } else { ("saved", saved_s) };
        writeln!(out, "\n{word} {amount:.1} s of waiting in {:.0} s of work.\n", self.on.took_s)?;
        if let Some(e) = &self.explained {
            let entity = e.task.entity.as_deref().unwrap_or_default();
            writeln!(
                out,
                "why task {} {} {entity} started with its data there:",
                e.task.id, e.task.task_type
            )?;
            for line in &e.why.lines {
                writeln!(out, "  {:<10} {}", line.name, line.text)?;
            }
        }
        write!(out, "{:<12} {}", "heatmap", self.picture.display())?;
        f.write_str(&out)
    }
}

/// A task that did not end well, in words.
fn told(task: &Task) -> String {
    let entity = task.entity.as_deref().unwrap_or_default();
    let reason = task.reason.as_deref().unwrap_or("no reason is on record");
    format!("task {} {} {entity}: {reason}", task.id, task.task_type)
}

/// One line of the table.
pub(super) fn row(name: &str, off: &str, on: &str, note: &str) -> String {
    format!("{name:18}{off:>10}{on:>11}    {note}").trim_end().to_owned()
}

fn whole(value: f64, unit: &str) -> String {
    format!("{value:.0} {unit}")
}

/// How much `on` is more or less than `off`, of `off`.
fn change(off: f64, on: f64) -> String {
    if off <= 0.0 {
        return String::new();
    }
    let percent = 100.0 * (on / off - 1.0);
    let sign = if percent < 0.0 { '−' } else { '+' };
    format!("{sign}{:.0} %", percent.abs())
}

fn share(part: u64, of: u64) -> f64 {
    part as f64 / of.max(1) as f64
}

/// Three decimals are more than the measurement has.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::WhyLine;

    fn task(id: u64, latency_s: f64, wait_ms: f64) -> Task {
        let text = json!({
            "id": id, "type": "snapshot-verify", "entity": "vol-012", "state": "done", "priority": 5,
            "attempts": 1, "submitted_s": 100.0 + id as f64, "ended_s": 100.0 + id as f64 + latency_s,
            "data_wait_ms": wait_ms,
        });
        serde_json::from_value(text).unwrap()
    }

    fn side(latencies_s: &[f64], wait_ms: f64, found: u64, fetched_mib: u64) -> Side {
        let tasks = latencies_s.iter().enumerate().map(|(n, s)| task(n as u64, *s, wait_ms));
        let tasks: Vec<Task> = tasks.collect();
        Side { demands: 50, found, fetched_bytes: fetched_mib << 20, ..Side::of(&tasks).unwrap() }
    }

    fn report() -> Report {
        let line = |name: &str, text: &str| WhyLine { name: name.to_owned(), text: text.to_owned() };
        let why = Why {
            title: "task 187".to_owned(),
            lines: vec![
                line(
                    "forecast",
                    "snapshot-copy vol-012 ended 1.9 s earlier; snapshot-verify next with p .84",
                ),
                line(
                    "staged",
                    "volumes:vol-012/manifest.json and 2 chunks, break-even p .16, ready 1.3 s ahead",
                ),
            ],
            candidates: Vec::new(),
            inputs: Vec::new(),
        };
        let on = side(&[0.030, 0.040, 0.050], 27.0, 43, 455);
        Report {
            seed: 7,
            setting: "2 workers × 2 slots · object server 40 ms, 20 MB/s a connection".to_owned(),
            off: side(&[0.100, 0.110, 0.600], 93.0, 26, 412),
            on: Side { forecasts: Some((7, 9)), ..on },
            explained: Some(Explained { task: task(187, 0.02, 0.0), why }),
            picture: "forestage-demo-7.png".into(),
        }
    }

    #[test]
    fn reads_as_it_should() {
        let expected = "\
forestage demo · seed 7 · 2 workers × 2 slots · object server 40 ms, 20 MB/s a connection
staging off   ████████████████████████  3 / 3    3 s
staging on    ████████████████████████  3 / 3    2 s

                         off         on
latency   mean        270 ms      40 ms    −85 %
          p99         600 ms      50 ms    −92 %
data wait mean         93 ms      27 ms    −71 %
found in cache          52 %       86 %    of 50 inputs
fetched              412 MiB    455 MiB    +10 %
forecasts right            –       78 %    of 9

saved 0.2 s of waiting in 2 s of work.

why task 187 snapshot-verify vol-012 started with its data there:
  forecast   snapshot-copy vol-012 ended 1.9 s earlier; snapshot-verify next with p .84
  staged     volumes:vol-012/manifest.json and 2 chunks, break-even p .16, ready 1.3 s ahead
heatmap      forestage-demo-7.png";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn losses_and_failures_are_not_hidden() {
        let mut r = report();
        std::mem::swap(&mut r.off, &mut r.on);
        r.on.failed = 1;
        let text = r.to_string();
        assert!(text.contains("lost 0.2 s of waiting"), "{text}");
        assert!(text.contains("tasks failed               0          1"), "{text}");
        assert!(!text.contains("forecasts right"), "a side that was not asked says nothing");
    }

    #[test]
    fn programs_get_the_same_figures() {
        let json = report().to_json();
        for (key, value) in [
            ("seed", 7.0),
            ("tasks", 3.0),
            ("data_wait_ms_off", 93.0),
            ("data_wait_ms_on", 27.0),
            ("hit_ratio_off", 0.52),
            ("seconds_saved", 0.198),
            ("bytes_fetched_on", 455.0 * 1_048_576.0),
            ("forecasts_right", 0.778),
        ] {
            assert_eq!(json[key].as_f64(), Some(value), "{key}");
        }
        assert_eq!(json["picture"], "forestage-demo-7.png");
    }

    #[test]
    fn a_task_without_an_end_is_no_measurement() {
        let unfinished = Task { ended_s: None, ..task(1, 1.0, 0.0) };
        assert!(Side::of(&[unfinished]).is_err());
    }
}
