//! The host's figures, merged from its workers', and what to expect of one worker in their light.
//!
//! The hierarchy is task type on a worker → that worker → the host, each level shrunk towards the next by
//! its effective count, so that two observations never make a worker the best. On the log of the execution
//! time:
//!
//! ```text
//! mu_t       = (k_h·M_all + N_t·M_t) / (k_h + N_t)            the type on this host
//! delta_w    = sum_t n_wt·(m_wt − M_t) / (k_w + sum_t n_wt)   the worker over all types
//! delta_wt   = n_wt·(m_wt − M_t − delta_w) / (k_t + n_wt)     the worker at this type
//! log time   ~ normal(mu_t + delta_w + delta_wt, sigma²_wt)
//! ```
//!
//! with `m`, `n` a worker's mean and effective count, `M`, `N` the host's. This is the usual normal
//! hierarchical model (Gelman et al., *Bayesian Data Analysis*, 3rd ed., §5.4) with the ratios of the variances
//! held fixed as prior strengths. Durations are not regressed on input size: a worker that is always given
//! the large volumes looks slower than it is.

use super::moments::Moments;
use super::profile::{Figures, Profile};
use crate::flow::{PerResource, TypeId};
use crate::time::Span;
use std::collections::BTreeMap;

/// Prior strengths, in effective observations, and prior figures.
mod prior {
    /// `k_h`: small, because types differ far more from each other than their executions do.
    pub(super) const TYPE_TO_ALL: f64 = 0.25;
    /// `k_w`.
    pub(super) const WORKER_TO_HOST: f64 = 8.0;
    /// `k_t`.
    pub(super) const TASK_TO_WORKER: f64 = 3.0;
    /// Of a host that has run nothing yet: a median of one second …
    pub(super) const LOG_TIME_MEAN: f64 = 0.0;
    /// … and, at each level, e^±1 around it.
    pub(super) const LOG_TIME_VARIANCE: f64 = 1.0;
    /// Nine in ten attempts succeed, worth two observations.
    pub(super) const SUCCESS: f64 = 0.9;
    pub(super) const SUCCESS_STRENGTH: f64 = 2.0;
    /// 64 MiB of peak memory, as a logarithm, spread by e^±.5 at each level until something is known.
    pub(super) const LOG_MEMORY_MEAN: f64 = 18.021_826_694_558_58;
    pub(super) const LOG_MEMORY_VARIANCE: f64 = 0.25;
    pub(super) const VARIANCE_STRENGTH: f64 = 2.0;
}

/// The mean of a log-normal is `exp(mu + variance/2)`; beyond this variance (a factor of e²) the estimate
/// would speak of the tail's shape, which nobody measured.
const LARGEST_LOG_VARIANCE: f64 = 4.0;

/// What the host can give per second: the scale on which cpu-seconds and bytes become comparable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// Processors, > 0.
    pub cpus: f64,
    /// Memory in bytes, > 0.
    pub memory_bytes: f64,
    /// Bytes per second from and to disks, > 0.
    pub io_bytes_per_s: f64,
    /// Bytes per second from sources, > 0.
    pub net_bytes_per_s: f64,
}

/// The host's figures: per type, and over all types.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostProfile {
    types: BTreeMap<TypeId, Figures>,
    all: Figures,
}

/// What to expect of one type on one worker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Mean of the log execution time in seconds.
    pub log_time_mean: f64,
    /// Its variance, ≥ 0.
    pub log_time_variance: f64,
    /// How much slower than the host the worker is at this type, as a log ratio; negative is faster.
    pub slowdown: f64,
    /// Probability that an attempt succeeds, in (0, 1).
    pub success: f64,
    /// Effective number of done attempts of this type on this worker: what the estimate rests on.
    pub effective_count: f64,
}

impl Estimate {
    /// Expected execution time, without the wait for data.
    pub fn expected_time(&self) -> Span {
        Span::from_s((self.log_time_mean + self.log_time_variance.min(LARGEST_LOG_VARIANCE) / 2.0).exp())
    }
    /// Median execution time.
    pub fn median_time(&self) -> Span {
        Span::from_s(self.log_time_mean.exp())
    }
    /// `s_w(t)`: expected speed relative to the host times success probability, > 0.
    pub fn speed(&self) -> f64 {
        (-self.slowdown).exp() * self.success
    }
}

impl HostProfile {
    /// Merges the workers' profiles; O(types of all workers).
    pub fn merge<'a>(workers: impl IntoIterator<Item = &'a Profile>) -> HostProfile {
        let mut host = HostProfile::default();
        for (t, figures) in workers.into_iter().flat_map(Profile::iter) {
            host.types.entry(t).or_default().merge(figures);
        }
        host.sum_up();
        host
    }

    /// Merges one type anew, after a worker learned something of it; O(workers + types).
    pub fn refresh<'a>(&mut self, task_type: TypeId, workers: impl IntoIterator<Item = &'a Profile>) {
        let mut merged = Figures::default();
        for figures in workers.into_iter().filter_map(|w| w.get(task_type)) {
            merged.merge(figures);
        }
        if merged.attempts > 0 {
            self.types.insert(task_type, merged);
        } else {
            self.types.remove(&task_type);
        }
        self.sum_up();
    }

    fn sum_up(&mut self) {
        self.all = Figures::default();
        for figures in self.types.values() {
            self.all.merge(figures);
        }
    }

    /// What the host knows of one type.
    pub fn get(&self, task_type: TypeId) -> Option<&Figures> {
        self.types.get(&task_type)
    }

    /// What the host knows over all types.
    pub fn all(&self) -> &Figures {
        &self.all
    }

    /// The posterior for one worker: computes `delta_w` once, O(types of the worker).
    pub fn posterior<'a>(&'a self, worker: &'a Profile) -> Posterior<'a> {
        let (mut sum, mut weight) = (0.0, prior::WORKER_TO_HOST);
        for (t, mine) in worker.iter() {
            if let Some(host) = self.types.get(&t) {
                sum += mine.log_time.effective_count() * (mine.log_time.mean() - host.log_time.mean());
                weight += mine.log_time.effective_count();
            }
        }
        Posterior { host: self, worker, slowdown: sum / weight }
    }

    /// `d_t[r]`: what share of its demand a type puts on each resource; sums to one, each ≥ 0.
    ///
    /// Each figure is first put over what the host can give (a mean attempt's seconds of the whole resource:
    /// cpu-seconds over processors, bytes over bytes per second, memory share times duration), because
    /// cpu-seconds and bytes do not add. The shares are then shrunk towards those of all types, and these
    /// towards a quarter each, by effective count.
    pub fn demand(&self, task_type: TypeId, capacity: &Capacity) -> PerResource {
        let all = shares_towards(&self.all, capacity, [0.25; 4], 1.0);
        match self.types.get(&task_type) {
            Some(f) => shares_towards(f, capacity, all, prior::TYPE_TO_ALL),
            None => all,
        }
    }
}

fn shares_towards(f: &Figures, capacity: &Capacity, prior: PerResource, strength: f64) -> PerResource {
    let time_s = (f.log_time.mean() + f.log_time.variance().min(LARGEST_LOG_VARIANCE) / 2.0).exp();
    let seconds = [
        f.cpu_s.mean() / capacity.cpus,
        f.log_memory.mean().exp() / capacity.memory_bytes * time_s,
        f.io_bytes.mean() / capacity.io_bytes_per_s,
        f.net_bytes.mean() / capacity.net_bytes_per_s,
    ];
    let total: f64 = seconds.iter().sum();
    let n = f.log_time.effective_count();
    if n == 0.0 || !total.is_finite() || total <= 0.0 {
        return prior;
    }
    std::array::from_fn(|r| (strength * prior[r] + n * seconds[r] / total) / (strength + n))
}

/// A worker seen in the light of its host.
#[derive(Clone, Copy, Debug)]
pub struct Posterior<'a> {
    host: &'a HostProfile,
    worker: &'a Profile,
    slowdown: f64,
}

impl Posterior<'_> {
    /// `delta_w`: how much slower than the host the worker is over all types, as a log ratio.
    pub fn slowdown(&self) -> f64 {
        self.slowdown
    }

    /// What to expect of one type on this worker; also of one that the worker, or the host, never ran.
    pub fn estimate(&self, task_type: TypeId) -> Estimate {
        let nothing = Figures::default();
        let mine = self.worker.get(task_type).unwrap_or(&nothing);
        let host = self.host.get(task_type).unwrap_or(&nothing);
        let all = &self.host.all;

        let n = mine.log_time.effective_count();
        let own =
            n * (mine.log_time.mean() - host.log_time.mean() - self.slowdown) / (prior::TASK_TO_WORKER + n);
        let slowdown = self.slowdown + own;
        let everything = all.log_time.mean_towards(prior::LOG_TIME_MEAN, prior::TYPE_TO_ALL);
        let on_host = host.log_time.mean_towards(everything, prior::TYPE_TO_ALL);

        Estimate {
            log_time_mean: on_host + slowdown,
            log_time_variance: variance(|f| &f.log_time, [mine, host, all], prior::LOG_TIME_VARIANCE),
            slowdown,
            success: success([mine, host, all]),
            effective_count: n,
        }
    }

    /// Peak memory that an attempt stays below with the probability that belongs to `z` (1.645: 95 %), in
    /// bytes. Of a type that nobody ran yet it is a guess from all types, and at first from nothing.
    pub fn memory_bytes(&self, task_type: TypeId, z: f64) -> u64 {
        let nothing = Figures::default();
        let mine = self.worker.get(task_type).unwrap_or(&nothing);
        let host = self.host.get(task_type).unwrap_or(&nothing);
        let all = &self.host.all;
        let everything = all.log_memory.mean_towards(prior::LOG_MEMORY_MEAN, prior::TYPE_TO_ALL);
        let on_host = host.log_memory.mean_towards(everything, prior::TYPE_TO_ALL);
        let mean = mine.log_memory.mean_towards(on_host, prior::TASK_TO_WORKER);
        let spread = variance(|f| &f.log_memory, [mine, host, all], prior::LOG_MEMORY_VARIANCE);
        // The next attempt's own spread plus that of the mean it was estimated from.
        let n = prior::TYPE_TO_ALL + host.log_memory.effective_count();
        (mean + z * (spread * (1.0 + 1.0 / n)).sqrt()).exp() as u64
    }
}

/// Variance of one figure, each level shrunk towards the next and the last towards `prior`.
fn variance<const N: usize>(figure: impl Fn(&Figures) -> &Moments, levels: [&Figures; N], prior: f64) -> f64 {
    levels.iter().rev().fold(prior, |prior, f| figure(f).variance_towards(prior, prior::VARIANCE_STRENGTH))
}

/// Mean of the Beta posterior of success, each level's prior being the level above.
fn success(levels: [&Figures; 3]) -> f64 {
    levels
        .iter()
        .rev()
        .fold(prior::SUCCESS, |prior, f| f.success.mean_towards(prior, prior::SUCCESS_STRENGTH))
}

#[cfg(test)]
mod tests {
    use super::super::profile::Smoothing;
    use super::super::profile::tests::outcome;
    use super::*;
    use crate::flow::Ending;

    const CAPACITY: Capacity =
        Capacity { cpus: 2.0, memory_bytes: 16e9, io_bytes_per_s: 200e6, net_bytes_per_s: 125e6 };

    fn learned(runs: &[(u16, f64, usize)]) -> Profile {
        let mut p = Profile::default();
        for &(t, wall_s, times) in runs {
            for _ in 0..times {
                p.learn(&outcome(t, Ending::Done, wall_s, 1), &Smoothing::default());
            }
        }
        p
    }

    #[test]
    fn a_lone_worker_is_as_fast_as_its_host() {
        let w = learned(&[(0, 3.0, 10), (1, 0.1, 2)]);
        let host = HostProfile::merge([&w]);
        for t in [0, 1, 2] {
            assert!(host.posterior(&w).estimate(TypeId(t)).slowdown.abs() < 1e-12);
        }
        let e = host.posterior(&w).estimate(TypeId(0));
        assert!((e.median_time().as_s() - 3.0).abs() < 0.15, "{}", e.median_time());
    }

    #[test]
    fn posterior_equals_the_formulas_written_out() {
        // Worker a: 2 runs of 1 s; worker b: 2 runs of e s. Weights are 1.95 each, so M = .5, N = 3.9.
        let (a, b) = (learned(&[(0, 1.0, 2)]), learned(&[(0, std::f64::consts::E, 2)]));
        let host = HostProfile::merge([&a, &b]);
        let (n, big_n) = (1.95, 3.9);
        let delta_w = n * 0.5 / (8.0 + n);
        let delta = delta_w + n * (0.5 - delta_w) / (3.0 + n);
        let all = big_n * 0.5 / (0.25 + big_n);
        let mu = (0.25 * all + big_n * 0.5) / (0.25 + big_n);
        let e = host.posterior(&b).estimate(TypeId(0));
        // Spans have microseconds: the logs agree to about that.
        assert!((e.slowdown - delta).abs() < 1e-5);
        assert!((e.log_time_mean - (mu + delta)).abs() < 1e-5);
        let var = |own: f64, n: f64, prior: f64| (2.0 * prior + n * own) / (2.0 + n);
        let v = var(0.0, n, var(0.25, big_n, var(0.25, big_n, 1.0)));
        assert!((e.log_time_variance - v).abs() < 1e-5);
        let s = |n: f64, prior: f64| (2.0 * prior + n) / (2.0 + n);
        // Success fades more slowly: 1.98 each.
        assert!((e.success - s(1.98, s(3.96, s(3.96, 0.9)))).abs() < 1e-9);
        assert!(host.posterior(&a).estimate(TypeId(0)).slowdown + e.slowdown < 1e-9, "symmetric");
    }

    #[test]
    fn two_lucky_observations_do_not_make_the_best_worker() {
        let steady = learned(&[(0, 0.5, 40)]);
        let others = learned(&[(0, 1.0, 40)]);
        let lucky = learned(&[(0, 0.4, 2)]);
        let host = HostProfile::merge([&steady, &others, &lucky]);
        let speed = |w| host.posterior(w).estimate(TypeId(0)).speed();
        assert!(speed(&steady) > speed(&lucky));
        assert!(speed(&lucky) > speed(&others));
    }

    #[test]
    fn a_slow_worker_is_expected_to_be_slow_at_a_type_it_never_ran() {
        let slow = learned(&[(0, 2.0, 20), (1, 4.0, 20)]);
        let fast = learned(&[(0, 1.0, 20), (1, 2.0, 20), (2, 1.0, 20)]);
        let host = HostProfile::merge([&slow, &fast]);
        let e = host.posterior(&slow).estimate(TypeId(2));
        assert_eq!(e.effective_count, 0.0);
        assert!(e.slowdown > 0.2 && e.slowdown < 0.5 * 2f64.ln());
        assert!(e.expected_time() > host.posterior(&fast).estimate(TypeId(2)).expected_time());
    }

    #[test]
    fn an_unknown_type_is_expected_as_all_types_together() {
        let w = learned(&[(0, 10.0, 30)]);
        let host = HostProfile::merge([&w]);
        let e = host.posterior(&w).estimate(TypeId(9));
        assert!((e.median_time().as_s() - 10.0).abs() < 0.7);
        let empty = HostProfile::default();
        let e = empty.posterior(&w).estimate(TypeId(0));
        assert!(e.speed().is_finite() && e.success < 1.0 && e.expected_time() > Span::ZERO);
    }

    #[test]
    fn demand_names_the_resource_that_a_type_lives_on() {
        let mut p = Profile::default();
        for _ in 0..50 {
            let mut cpu = outcome(0, Ending::Done, 1.0, 1);
            (cpu.usage.cpu, cpu.usage.read_bytes, cpu.usage.write_bytes) = (Span::from_s(1.0), 0, 4096);
            p.learn(&cpu, &Smoothing::default());
            let mut copy = outcome(1, Ending::Done, 1.0, 1);
            (copy.usage.cpu, copy.usage.write_bytes, copy.usage.net_bytes) =
                (Span::from_s(0.02), 150_000_000, 12_500_000);
            p.learn(&copy, &Smoothing::default());
        }
        let host = HostProfile::merge([&p]);
        let [cpu, copy, unknown] = [0, 1, 2].map(|t| host.demand(TypeId(t), &CAPACITY));
        assert!(cpu[0] > 0.95, "{cpu:?}");
        assert!(copy[2] > 0.8 && copy[3] > 0.08, "{copy:?}");
        for d in [cpu, copy, unknown, HostProfile::default().demand(TypeId(0), &CAPACITY)] {
            assert!((d.iter().sum::<f64>() - 1.0).abs() < 1e-12 && d.iter().all(|x| *x >= 0.0), "{d:?}");
        }
    }

    #[test]
    fn expected_memory_is_an_upper_quantile_and_tightens_with_evidence() {
        let quantile = |runs| {
            let w = learned(&[(0, 1.0, runs)]);
            HostProfile::merge([&w]).posterior(&w).memory_bytes(TypeId(0), 1.645)
        };
        let (few, many) = (quantile(2), quantile(200));
        assert!((8 << 20..10 << 20).contains(&many), "{many}");
        assert!(few > many, "{few} > {many}");
        let (w, host) = (learned(&[]), HostProfile::default());
        let unknown = host.posterior(&w).memory_bytes(TypeId(0), 1.645);
        assert!(unknown > 64 << 20 && unknown < 1 << 30, "{unknown}");
    }

    #[test]
    fn refreshing_a_type_equals_merging_anew() {
        let mut workers = vec![learned(&[(0, 1.0, 3), (1, 2.0, 3)]), learned(&[(0, 5.0, 9)])];
        let mut host = HostProfile::merge(&workers);
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let (w, t) = (rng.usize(..2), rng.u16(..5));
            let ending = if rng.u8(..4) == 0 { Ending::Exited { code: 2 } } else { Ending::Done };
            workers[w].learn(&outcome(t, ending, rng.f64() * 3.0, 1), &Smoothing::default());
            host.refresh(TypeId(t), &workers);
            assert_eq!(host, HostProfile::merge(&workers));
        }
    }
}
