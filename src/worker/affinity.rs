//! Affinity: how good a worker is at each task type, as a score that sums to one over the types.
//!
//! `s_w(t)` is the expected speed of worker w at type t relative to the host, times its success probability;
//! `a_w(t) = s_w(t) / Σ_t s_w(t)`. Both are shown, with the effective count that they rest on: `s` compares
//! workers at one type (dispatch), `a` compares types on one worker (prediction).

use super::host::{Capacity, HostProfile};
use super::profile::Profile;
use crate::flow::{Standing, Standings, TypeId, WorkerId};

/// Peak memory is stated so that 95 in 100 attempts stay below it.
const MEMORY_Z: f64 = 1.645;

/// What one worker is good at, for the types it may run, in their order; a type must not be given twice.
pub fn standings(
    worker: WorkerId,
    profile: &Profile,
    host: &HostProfile,
    capacity: &Capacity,
    types: impl IntoIterator<Item = TypeId>,
) -> Standings {
    let posterior = host.posterior(profile);
    let mut types: Vec<Standing> = types
        .into_iter()
        .map(|task_type| {
            let estimate = posterior.estimate(task_type);
            Standing {
                task_type,
                speed: estimate.speed(),
                affinity: 0.0,
                effective_count: estimate.effective_count,
                expected: estimate.expected_time(),
                memory_bytes: posterior.memory_bytes(task_type, MEMORY_Z),
                demand: host.demand(task_type, capacity),
            }
        })
        .collect();
    let total: f64 = types.iter().map(|s| s.speed).sum();
    for s in &mut types {
        s.affinity = s.speed / total;
    }
    Standings { worker, types }
}

#[cfg(test)]
mod tests {
    use super::super::profile::Smoothing;
    use super::super::profile::tests::outcome;
    use super::*;
    use crate::flow::Ending;
    use proptest::prelude::*;

    const CAPACITY: Capacity =
        Capacity { cpus: 2.0, memory_bytes: 16e9, io_bytes_per_s: 200e6, net_bytes_per_s: 125e6 };

    fn scores(w: &Profile, host: &HostProfile, n: u16) -> Vec<Standing> {
        standings(WorkerId(0), w, host, &CAPACITY, (0..n).map(TypeId)).types
    }

    #[test]
    fn a_cold_start_knows_no_difference() {
        let cold = Profile::default();
        for s in scores(&cold, &HostProfile::merge([&cold]), 4) {
            assert_eq!((s.affinity, s.effective_count, s.demand), (0.25, 0.0, [0.25; 4]));
        }
    }

    #[test]
    fn the_faster_and_the_surer_type_scores_higher() {
        let (mut a, mut b) = (Profile::default(), Profile::default());
        let s = Smoothing::default();
        for _ in 0..30 {
            // a runs type 0 twice as fast as b, type 1 half as fast, and fails every other type 2.
            for (w, times) in [(&mut a, [1.0, 2.0, 1.0]), (&mut b, [2.0, 1.0, 1.0])] {
                for (t, wall_s) in (0..).zip(times) {
                    w.learn(&outcome(t, Ending::Done, wall_s, 1), &s);
                }
            }
            a.learn(&outcome(2, Ending::Exited { code: 1 }, 1.0, 1), &s);
        }
        let host = HostProfile::merge([&a, &b]);
        let [fast, slow, shaky] = scores(&a, &host, 3)[..] else { panic!("three types") };
        assert!(fast.speed > 1.25 && slow.speed < 0.8, "{fast:?} {slow:?}");
        assert!((shaky.speed - 0.5).abs() < 0.06, "{shaky:?}");
        assert!(fast.affinity > slow.affinity && slow.affinity > shaky.affinity);
        assert!((fast.affinity / slow.affinity - fast.speed / slow.speed).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn scores_sum_to_one_whatever_was_learned(
            runs in prop::collection::vec((0..2usize, 0..6u16, any::<bool>(), -6.0..6.0f64), 0..120)
        ) {
            let mut workers = [Profile::default(), Profile::default()];
            for (w, t, done, log_s) in runs {
                let ending = if done { Ending::Done } else { Ending::TimedOut };
                workers[w].learn(&outcome(t, ending, log_s.exp(), 1), &Smoothing::default());
            }
            let host = HostProfile::merge(&workers);
            for w in &workers {
                let all = scores(w, &host, 8);
                prop_assert!((all.iter().map(|s| s.affinity).sum::<f64>() - 1.0).abs() < 1e-9);
                for s in all {
                    prop_assert!(s.speed > 0.0 && s.speed.is_finite() && s.affinity > 0.0);
                    prop_assert!((s.demand.iter().sum::<f64>() - 1.0).abs() < 1e-9);
                    prop_assert!(s.expected.as_us() > 0);
                }
            }
        }
    }
}
