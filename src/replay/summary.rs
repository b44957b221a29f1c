//! Many replays of objects in a few figures: what a reader compares two versions by.

use super::objects::Report;
use serde::Serialize;

/// A cell counts as worse than no staging if it misses this much more.
const TOLERANCE: f64 = 0.002;

/// All cells (a trace at a capacity) of one policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// `lru` or `lfu`.
    pub policy: &'static str,
    /// How many there are.
    pub cells: usize,
    /// Median share of the demand-only misses that staging removes; under `lfu` against LFU-DA as libCacheSim
    /// computes it.
    pub removed_median: f64,
    /// The same against the pool's own LFU-DA without staging; under `lfu` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed_median_lfu_da: Option<f64>,
    /// Median of that share over [`Report::reachable_ratio`].
    pub reachable_removed_median: f64,
    /// Median share of the misses of MITHRIL in front of LRU that own staging avoids, where both were replayed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed_median_mithril: Option<f64>,
    /// Staged objects that were used, of all that were staged; null if nothing was.
    pub precision: Option<f64>,
    /// Cells that miss more than .002 more with staging.
    pub worse: Vec<String>,
    /// Bytes fetched beyond those without staging, per byte accessed.
    pub extra_bytes_median: f64,
    /// The worst cell's.
    pub extra_bytes_max: f64,
    /// Used staged objects that would still have been in flight, of all used ones.
    pub late_share: Option<f64>,
    /// Processor time that staging adds to an access, microseconds.
    pub us_per_access_median: f64,
    /// The slowest cell's.
    pub us_per_access_max: f64,
    /// The largest model's memory.
    pub model_bytes_max: u64,
}

/// One summary for each policy among the reports, in the order in which they first occur.
pub fn summaries(reports: &[Report]) -> Vec<Summary> {
    let mut policies: Vec<&'static str> = vec![];
    for r in reports {
        if !policies.contains(&r.policy) {
            policies.push(r.policy);
        }
    }
    let of = |policy| summary(policy, reports.iter().filter(|r| r.policy == policy).collect());
    policies.into_iter().map(of).collect()
}

fn summary(policy: &'static str, cells: Vec<&Report>) -> Summary {
    let over = |figure: &dyn Fn(&Report) -> f64| -> Vec<f64> { cells.iter().map(|r| figure(r)).collect() };
    let some = |figure: &dyn Fn(&Report) -> Option<f64>| -> Option<f64> {
        let known: Vec<f64> = cells.iter().filter_map(|r| figure(r)).collect();
        (!known.is_empty()).then(|| median(known))
    };
    let sum = |figure: &dyn Fn(&Report) -> u64| cells.iter().map(|r| figure(r)).sum::<u64>() as f64;
    let (issued, useful, late) = (sum(&|r| r.issued), sum(&|r| r.useful), sum(&|r| r.late));
    let worse = |r: &&&Report| {
        let alone = r.miss_ratio_lfu_da.unwrap_or(f64::INFINITY).min(r.miss_ratio_demand_only);
        r.miss_ratio > alone + TOLERANCE
    };
    Summary {
        policy,
        cells: cells.len(),
        removed_median: median(over(&removed)),
        removed_median_lfu_da: some(&|r| r.miss_ratio_lfu_da.map(|alone| share(r, alone))),
        reachable_removed_median: median(over(&|r| removed(r) / r.reachable_ratio.max(f64::MIN_POSITIVE))),
        removed_median_mithril: some(&|r| r.mithril.map(|m| share(r, m.miss_ratio))),
        precision: (issued > 0.0).then(|| useful / issued),
        worse: cells.iter().filter(worse).map(|r| format!("{} {}", r.trace, r.capacity_bytes)).collect(),
        extra_bytes_median: median(over(&|r| r.extra_bytes_ratio)),
        extra_bytes_max: over(&|r| r.extra_bytes_ratio).into_iter().fold(f64::MIN, f64::max),
        late_share: (useful > 0.0).then(|| late / useful),
        us_per_access_median: median(over(&|r| r.us_per_access)),
        us_per_access_max: over(&|r| r.us_per_access).into_iter().fold(0.0, f64::max),
        model_bytes_max: cells.iter().map(|r| r.model_bytes).max().unwrap_or(0),
    }
}

fn removed(r: &Report) -> f64 {
    share(r, r.miss_ratio_demand_only)
}

/// Share of the misses of `alone` that staging avoids.
fn share(r: &Report, alone: f64) -> f64 {
    if alone > 0.0 { 1.0 - r.miss_ratio / alone } else { 0.0 }
}

/// The middle one, or the mean of the two in the middle.
fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    match of.len() {
        0 => 0.0,
        n if n % 2 == 1 => of[n / 2],
        n => f64::midpoint(of[n / 2 - 1], of[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::objects::MithrilReport;

    fn report(alone: f64, staged: f64, issued: u64, useful: u64) -> Report {
        Report {
            trace: "t".into(),
            policy: "lru",
            capacity_bytes: 7,
            accesses: 100,
            miss_ratio_demand_only: alone,
            miss_ratio_lfu_da: None,
            miss_ratio: staged,
            reachable_ratio: 0.5,
            issued,
            useful,
            precision: Some(useful as f64 / issued as f64),
            extra_bytes_ratio: staged,
            us_per_access: alone,
            us_per_access_whole: 1.0,
            model_bytes: issued,
            catalogue_bytes: 0,
            clock: "back_to_back",
            stall_s_demand_only: 0.0,
            stall_s: 0.0,
            late: 1,
            mithril: Some(MithrilReport { miss_ratio: 0.4, issued: 0, useful: 0 }),
        }
    }

    #[test]
    fn cells_are_summed_up_by_medians_and_precision_is_pooled() {
        let lfu = Report { policy: "lfu", miss_ratio_lfu_da: Some(0.25), ..report(0.5, 0.2, 10, 1) };
        let cells = [report(0.5, 0.1, 100, 90), report(0.5, 0.3, 300, 150), report(0.5, 0.504, 4, 4), lfu];
        let all = summaries(&cells);
        let lru = &all[0];
        assert_eq!((lru.policy, lru.cells, all[1].policy), ("lru", 3, "lfu"));
        assert!((lru.removed_median - 0.4).abs() < 1e-9 && (lru.reachable_removed_median - 0.8).abs() < 1e-9);
        assert!((lru.removed_median_mithril.unwrap() - 0.25).abs() < 1e-9);
        assert!((lru.precision.unwrap() - 244.0 / 404.0).abs() < 1e-9, "pooled, not a mean of ratios");
        assert_eq!(lru.worse, ["t 7"], "only the one beyond the tolerance");
        assert_eq!((lru.extra_bytes_median, lru.extra_bytes_max), (0.3, 0.504));
        assert!((all[1].removed_median_lfu_da.unwrap() - 0.2).abs() < 1e-9);
        assert_eq!(lru.removed_median_lfu_da, None);
        assert!((median(vec![4.0, 1.0, 2.0, 9.0]) - 3.0).abs() < 1e-9);
    }
}
