//! `[monitor]`: how often is measured, and how much of it is kept.

use super::kind::{Kind, NumberIn, SpanIn};
use super::reader::{Section, Value};
use super::unit::show_span;
use crate::time::Span;

/// Most resolutions.
const RESOLUTIONS_LIMIT: usize = 6;
/// Most points of one series at one resolution.
const POINTS_LIMIT: u64 = 50_000;

/// How the host is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Monitor {
    /// Time between two samples, 100 ms to 1 min. Default 1 s.
    pub interval: Span,
    /// Time between two probes of a source that has a `probe`, 1 s to 1 h. Default 10 s.
    pub probe_interval: Span,
    /// What the sampler may cost, as a share of one core, 0.0001 to 0.5; above it slows itself down.
    /// Default 0.01.
    pub budget: f64,
    /// What is kept of each series, finest first: 1 to 6, each step a multiple of the one before, at most
    /// 50,000 points each. Default 1 s × 10 min, 10 s × 6 h, 1 min × 7 d.
    pub resolutions: Vec<Resolution>,
}

/// How fine and for how long a series is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Time that one point covers, 100 ms to 1 d.
    pub step: Span,
    /// How long points are kept, a multiple of `step`.
    pub keep: Span,
}

impl Resolution {
    /// How many points that is.
    pub fn points(&self) -> u64 {
        self.keep.as_us() / self.step.as_us().max(1)
    }
}

pub(super) fn read(mut s: Section<'_>) -> Monitor {
    let second = Span::from_secs(1);
    let kept = |step, keep| Resolution { step: Span::from_secs(step), keep: Span::from_secs(keep) };
    let monitor = Monitor {
        interval: s.read("interval", SpanIn(Span::from_ms(100), Span::from_secs(60))).unwrap_or(second),
        probe_interval: s
            .read("probe_interval", SpanIn(second, Span::from_secs(3_600)))
            .unwrap_or(Span::from_secs(10)),
        budget: s
            .read("budget", NumberIn { low: 0.0001, high: 0.5, above: false, unit: "of one core" })
            .unwrap_or(0.01),
        resolutions: s
            .read("resolutions", Resolutions)
            .unwrap_or_else(|| vec![kept(1, 600), kept(10, 21_600), kept(60, 604_800)]),
    };
    s.finish();
    monitor
}

struct Resolutions;

impl Kind for Resolutions {
    type Out = Vec<Resolution>;
    fn accepted(&self) -> String {
        format!(
            "1 to {RESOLUTIONS_LIMIT} of {{ step = \"1s\", keep = \"10min\" }}, finest first, \
             each step a multiple of the one before, up to {POINTS_LIMIT} points each"
        )
    }
    fn read(&self, value: &Value<'_>) -> Option<Vec<Resolution>> {
        let items = value.items(&self.accepted())?;
        let read: Option<Vec<Resolution>> = items.iter().map(resolution).collect();
        let read = read?;
        if read.is_empty() || read.len() > RESOLUTIONS_LIMIT {
            value.wrong(&format!("has {} items", read.len()), format!("accepted: {}", self.accepted()));
            return None;
        }
        for (pair, item) in read.windows(2).zip(&items[1..]) {
            let (fine, coarse) = (pair[0].step, pair[1].step);
            if coarse <= fine || !coarse.as_us().is_multiple_of(fine.as_us()) {
                let label = format!("accepted: a step that is a multiple of {}", show_span(fine));
                item.wrong("is not coarser than the one before", label);
                return None;
            }
        }
        Some(read)
    }
}

fn resolution(item: &Value<'_>) -> Option<Resolution> {
    let mut s = item.section("{ step = \"1s\", keep = \"10min\" }")?;
    let day = Span::from_secs(86_400);
    let step = s.require("step", SpanIn(Span::from_ms(100), day));
    let keep = s.require("keep", SpanIn(Span::from_secs(1), Span::from_secs(3_650 * 86_400)));
    s.finish();
    let read = Resolution { step: step?, keep: keep? };
    if !read.keep.as_us().is_multiple_of(read.step.as_us()) || read.points() > POINTS_LIMIT {
        let most = Span::from_us(read.step.as_us().saturating_mul(POINTS_LIMIT));
        let label =
            format!("accepted: keep, a multiple of step, up to {} points: {}", POINTS_LIMIT, show_span(most));
        item.wrong("does not fit", label);
        return None;
    }
    Some(read)
}
