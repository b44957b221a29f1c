//! How well a worker fits a task: affinity × (1 − heat) × locality, with ageing.

use super::Policy;
use crate::flow::Factors;
use crate::time::Span;

/// Locality of a task at a cache, in (0, 1].
///
/// `missing` is the sum over inputs that the cache lacks of `1 / waiters(object)`, `inputs` their number: an
/// input that many waiting tasks read costs each of them only its share, so that one shared object does
/// not pull all of them to the worker that happens to hold it. All there gives 1, nothing there ½, nothing
/// there and far from its cell ⅓: missing data about doubles the time of the data-heavy tasks this
/// daemon is for, until a profile says otherwise.
pub fn locality(missing: f64, inputs: usize, near: bool) -> f64 {
    if inputs == 0 {
        return 1.0;
    }
    let share = missing / inputs as f64;
    1.0 / (1.0 + share * if near { 1.0 } else { 2.0 })
}

/// The score of a (worker, task) pair under a policy; higher is better, always finite.
///
/// `waited / ageing` is added as a factor so that nothing starves: after waiting for `ageing` a task counts
/// double. Under `fifo` and `random` only age, or nothing, counts; they are the baselines.
pub fn score(policy: Policy, factors: &Factors, waited: Span, ageing: Span, draw: f64) -> f64 {
    let age = 1.0 + waited.as_s() / ageing.as_s().max(1e-3);
    match policy {
        Policy::Affinity => factors.speed * (1.0 - factors.heat) * factors.locality * age,
        Policy::Heat => (1.0 - factors.heat) * age,
        Policy::Random => draw,
        Policy::Fifo => waited.as_s(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const F: Factors = Factors { speed: 2.0, heat: 0.25, locality: 0.5 };

    #[test]
    fn the_product_is_the_specifications() {
        let ageing = Span::from_secs(60);
        assert_eq!(score(Policy::Affinity, &F, Span::ZERO, ageing, 0.0), 2.0 * 0.75 * 0.5);
        assert_eq!(score(Policy::Affinity, &F, ageing, ageing, 0.0), 2.0 * 2.0 * 0.75 * 0.5);
        assert_eq!(score(Policy::Heat, &F, Span::ZERO, ageing, 0.0), 0.75);
        assert_eq!(score(Policy::Fifo, &F, Span::from_secs(3), ageing, 0.9), 3.0);
        assert_eq!(score(Policy::Random, &F, Span::from_secs(3), ageing, 0.9), 0.9);
    }

    #[test]
    fn a_shared_input_costs_each_waiter_its_share() {
        assert_eq!(locality(0.0, 2, true), 1.0);
        assert_eq!(locality(2.0, 2, true), 0.5);
        assert!((locality(0.02, 2, true) - 1.0 / 1.01).abs() < 1e-12);
        assert_eq!(locality(2.0, 2, false), 1.0 / 3.0);
        assert_eq!(locality(0.0, 0, false), 1.0);
    }
}
