//! What a replay measures.

use crate::flow::{Ending, Found, Outcome};
use crate::prefetch::ledger::Line;
use crate::time::{Span, Time};
use hdrhistogram::Histogram;
use serde::Serialize;

/// Counted while a replay runs.
pub(super) struct Tally {
    tasks: u64,
    failed: u64,
    /// Microseconds from submit to end.
    latency: Histogram<u64>,
    latency_sum: Span,
    data_wait: Span,
    demands: u64,
    found: u64,
    last_end: Time,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            tasks: 0,
            failed: 0,
            latency: Histogram::new(3).expect("three digits are allowed"),
            latency_sum: Span::ZERO,
            data_wait: Span::ZERO,
            demands: 0,
            found: 0,
            last_end: Time::ZERO,
        }
    }

    /// A task's last attempt has ended.
    pub(super) fn ended(&mut self, o: &Outcome) {
        self.tasks += 1;
        self.failed += u64::from(o.ending != Ending::Done);
        let latency = o.ended.since(o.submitted);
        self.latency.saturating_record(latency.as_us());
        self.latency_sum += latency;
        self.data_wait += o.data_wait;
        self.demands += o.inputs.len() as u64;
        self.found += o.inputs.iter().filter(|i| i.found == Found::Cached).count() as u64;
        self.last_end = self.last_end.max(o.ended);
    }

    pub(super) fn figures(&self, staging: &'static str, began: Time, fetched: u64, ledger: Line) -> Figures {
        let n = self.tasks.max(1) as f64;
        let ms = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        Figures {
            staging,
            tasks: self.tasks,
            failed: self.failed,
            span_s: self.last_end.since(began).as_s(),
            latency_ms_mean: self.latency_sum.as_ms() / n,
            latency_ms_p50: ms(0.5),
            latency_ms_p99: ms(0.99),
            data_wait_ms_mean: self.data_wait.as_ms() / n,
            data_wait_s: self.data_wait.as_s(),
            hit_ratio: (self.demands > 0).then(|| self.found as f64 / self.demands as f64),
            bytes_fetched: fetched,
            staged: ledger.staged,
            useful: ledger.useful,
            late: ledger.late,
            wasted: ledger.wasted,
        }
    }
}

/// What one side of a replay measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// `on` or `off`.
    pub staging: &'static str,
    /// Tasks that ended.
    pub tasks: u64,
    /// Those of them that did not get done.
    pub failed: u64,
    /// From the trace's start to the last end, seconds.
    pub span_s: f64,
    /// From submit to end.
    pub latency_ms_mean: f64,
    /// The median.
    pub latency_ms_p50: f64,
    /// What one task in a hundred exceeds.
    pub latency_ms_p99: f64,
    /// How long a slot idled for a task's data.
    pub data_wait_ms_mean: f64,
    /// The same of all tasks together, seconds.
    pub data_wait_s: f64,
    /// Inputs that were in the pool when they were needed; nothing if no task had any.
    pub hit_ratio: Option<f64>,
    /// Bytes that came over the link.
    pub bytes_fetched: u64,
    /// Objects staged.
    pub staged: u64,
    /// Of these, there when they were needed.
    pub useful: u64,
    /// Of these, needed while they were on their way.
    pub late: u64,
    /// Of these, left unused.
    pub wasted: u64,
}
