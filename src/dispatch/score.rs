//! How well a worker fits a task: affinity × (1 − heat) × locality, with ageing.

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

/// The factor by which waiting raises a task: after `ageing` it counts double, so that nothing starves. A
/// task can be passed only by one that fits better by more than this, hence not for ever.
pub fn age(waited: Span, ageing: Span) -> f64 {
    1.0 + waited.as_s() / ageing.as_s().max(1e-3)
}

/// Affinity × (1 − heat) × locality: how well a worker fits, whatever the age; higher is better, finite.
pub fn fit(factors: &Factors) -> f64 {
    factors.speed * (1.0 - factors.heat) * factors.locality
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_is_the_specifications() {
        let f = Factors { speed: 2.0, heat: 0.25, locality: 0.5 };
        assert_eq!(fit(&f), 2.0 * 0.75 * 0.5);
        let minute = Span::from_secs(60);
        assert_eq!(
            (age(Span::ZERO, minute), age(minute, minute), age(minute.times(2.0), minute)),
            (1.0, 2.0, 3.0)
        );
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
