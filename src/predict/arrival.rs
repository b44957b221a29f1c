//! When: the time from one event of an entity to its next.
//!
//! The gap after a type is taken as exponential with an unknown mean. Evidence is (how many gaps, their
//! sum); a level's posterior mean is `(sum + w · mean of the level above) / (n + w)`, the mean of a gamma
//! posterior on the rate with `w` pseudo-gaps of the parent: entity → type → all types.
//! Gaps that are still open count as exposure without an event (the usual censored likelihood of the
//! exponential): without them, entities that fell silent are expected back far too soon.

use crate::flow::{Map, TypeId};
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};

/// Evidence is halved above this many gaps, so that a changed rhythm is followed.
const GAPS_KEPT: f64 = 256.0;
/// Pseudo-gaps that a type takes from all types, and all types from [`UNINFORMED_S`].
const TYPE_PRIOR: f64 = 1.0;
/// Pseudo-gaps that an entity takes from the type. Measured on the staging workload.
const ENTITY_PRIOR: f64 = 3.0;
/// Mean gap before anything was seen, seconds.
const UNINFORMED_S: f64 = 1.0;

/// Completed gaps: how many and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gaps {
    /// How many, discounted.
    pub n: f64,
    /// Their sum in seconds, discounted alike.
    pub sum_s: f64,
}

impl Gaps {
    /// One more gap.
    pub fn learn(&mut self, gap: Span) {
        self.n += 1.0;
        self.sum_s += gap.as_s();
        if self.n > GAPS_KEPT {
            self.n *= 0.5;
            self.sum_s *= 0.5;
        }
    }
    /// Posterior mean in seconds, with `exposure_s` of waiting that has not ended and a parent's mean that
    /// counts as `weight` gaps.
    fn mean_s(&self, exposure_s: f64, parent_s: f64, weight: f64) -> f64 {
        (self.sum_s + exposure_s + weight * parent_s) / (self.n + weight)
    }
}

/// What is known of the gaps after one type.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct AfterType {
    gaps: Gaps,
    /// Entities whose last event is of this type, and the sum of the moments of those events.
    open: u64,
    open_since_us: u128,
}

/// Gaps by type of the event before them, and over all.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    all: Gaps,
    after: Map<TypeId, AfterType>,
}

impl Arrivals {
    /// A gap begins: an event of this type was seen at `at`.
    pub fn opened(&mut self, last: TypeId, at: Time) {
        let after = self.after.entry(last).or_default();
        after.open += 1;
        after.open_since_us += u128::from(at.as_us());
    }

    /// The gap that began at `since` after `last` ended with a next event at `now`.
    pub fn closed(&mut self, last: TypeId, since: Time, now: Time) {
        self.abandoned(last, since);
        self.all.learn(now.since(since));
        self.after.entry(last).or_default().gaps.learn(now.since(since));
    }

    /// The gap that began at `since` is no longer watched (its entity was forgotten).
    pub fn abandoned(&mut self, last: TypeId, since: Time) {
        if let Some(after) = self.after.get_mut(&last) {
            after.open = after.open.saturating_sub(1);
            after.open_since_us = after.open_since_us.saturating_sub(u128::from(since.as_us()));
        }
    }

    /// Mean seconds from an event of type `last` to the entity's next, given the entity's own evidence and
    /// that its current gap has already lasted `waited`. By the exponential's lack of memory this is also
    /// the mean time *from now*.
    pub fn mean_s(&self, own: Gaps, waited: Span, last: TypeId, now: Time) -> f64 {
        let all = self.all.mean_s(0.0, UNINFORMED_S, TYPE_PRIOR);
        let after = self.after.get(&last).copied().unwrap_or_default();
        let exposure_us =
            (u128::from(after.open) * u128::from(now.as_us())).saturating_sub(after.open_since_us);
        let typed = after.gaps.mean_s(exposure_us as f64 / 1e6, all, TYPE_PRIOR);
        own.mean_s(waited.as_s(), typed, ENTITY_PRIOR).max(1e-6)
    }

    /// All evidence without the open gaps, in the order of types: for a snapshot.
    pub fn evidence(&self) -> (Gaps, Vec<(TypeId, Gaps)>) {
        let mut types: Vec<_> = self.after.iter().map(|(t, a)| (*t, a.gaps)).collect();
        types.sort_by_key(|(t, _)| *t);
        (self.all, types)
    }

    /// From a snapshot's evidence; open gaps are opened again by the caller.
    pub fn from_evidence(all: Gaps, types: impl IntoIterator<Item = (TypeId, Gaps)>) -> Arrivals {
        let after =
            types.into_iter().map(|(t, gaps)| (t, AfterType { gaps, ..AfterType::default() })).collect();
        Arrivals { all, after }
    }
}

/// P(T ≤ h) for a sum of waiting times with this mean and variance (s, s²): a gamma distribution with the
/// same two moments. 1 for an endless horizon; 0 for none.
pub fn within(mean_s: f64, var_s2: f64, horizon_s: f64) -> f64 {
    if horizon_s <= 0.0 {
        return 0.0;
    }
    if horizon_s.is_infinite() || horizon_s > 50.0 * mean_s {
        return 1.0;
    }
    regularised_gamma(mean_s * mean_s / var_s2, horizon_s * mean_s / var_s2)
}

/// The regularised lower incomplete gamma function P(a, x): its series below a + 1, Lentz's continued
/// fraction for 1 − P above (Abramowitz & Stegun 6.5.29 and 6.5.31).
fn regularised_gamma(a: f64, x: f64) -> f64 {
    let front = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        for _ in 0..300 {
            n += 1.0;
            term *= x / n;
            sum += term;
            if term < sum * 1e-12 {
                break;
            }
        }
        return (sum * front).clamp(0.0, 1.0);
    }
    const TINY: f64 = 1e-300;
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1.0 / TINY, 1.0 / b);
    let mut fraction = d;
    for i in 1..300 {
        let i = f64::from(i);
        let an = -i * (i - a);
        b += 2.0;
        d = 1.0 / nonzero(an * d + b, TINY);
        c = nonzero(b + an / c, TINY);
        fraction *= c * d;
        if (c * d - 1.0).abs() < 1e-12 {
            break;
        }
    }
    (1.0 - front * fraction).clamp(0.0, 1.0)
}

fn nonzero(x: f64, tiny: f64) -> f64 {
    if x.abs() < tiny { tiny } else { x }
}

/// ln Γ(a) for a > 0 by Lanczos' approximation with six coefficients (relative error below 2·10⁻¹⁰).
fn ln_gamma(a: f64) -> f64 {
    const LANCZOS: [f64; 6] = [
        76.180_091_729_471_46,
        -86.505_320_329_416_77,
        24.014_098_240_830_91,
        -1.231_739_572_450_155,
        1.208_650_973_866_179e-3,
        -5.395_239_384_953e-6,
    ];
    let t = a + 5.5;
    let series: f64 =
        1.000_000_000_190_015 + LANCZOS.iter().zip(1..).map(|(c, i)| c / (a + f64::from(i))).sum::<f64>();
    (a + 0.5) * t.ln() - t + (2.506_628_274_631_000_5 * series / a).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COPY: TypeId = TypeId(1);

    fn check(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-9 * want.abs().max(1.0), "{got} is not {want}");
    }

    #[test]
    fn posterior_mean_is_the_hand_computed_one() {
        let mut arrivals = Arrivals::default();
        arrivals.opened(COPY, Time::from_s(0.0));
        arrivals.closed(COPY, Time::from_s(0.0), Time::from_s(3.0));
        // all: (3 + 1·1)/(1 + 1) = 2; after copy: (3 + 1·2)/(1 + 1) = 2.5; an entity without gaps: 2.5
        check(arrivals.mean_s(Gaps::default(), Span::ZERO, COPY, Time::from_s(3.0)), 2.5);
        // its own two gaps of 1 s, 2 s waited: (2 + 2 + 3·2.5)/(2 + 3)
        let own = Gaps { n: 2.0, sum_s: 2.0 };
        check(arrivals.mean_s(own, Span::from_secs(2), COPY, Time::from_s(3.0)), 2.3);
    }

    #[test]
    fn open_gaps_count_as_exposure_until_they_are_abandoned() {
        let mut arrivals = Arrivals::default();
        let epoch = Time::from_us(1_700_000_000_000_000);
        arrivals.opened(COPY, epoch);
        let later = epoch + Span::from_secs(10);
        // all: prior mean 1; after copy: (0 + 10 + 1)/(0 + 1)
        check(arrivals.mean_s(Gaps::default(), Span::ZERO, COPY, later), 11.0);
        arrivals.abandoned(COPY, epoch);
        check(arrivals.mean_s(Gaps::default(), Span::ZERO, COPY, later), 1.0);
    }

    #[test]
    fn exponential_and_erlang_sums_have_their_known_probabilities() {
        check(within(2.0, 4.0, 2.0), 1.0 - (-1.0f64).exp());
        // Erlang with two steps of mean 1: P(T ≤ 3) = 1 − e⁻³(1 + 3)
        check(within(2.0, 2.0, 3.0), 1.0 - (-3.0f64).exp() * 4.0);
        // eight steps, below and above the mean
        let erlang8 = |h: f64| {
            let terms: f64 = (0..8).map(|k| h.powi(k) / (1..=k).map(f64::from).product::<f64>()).sum();
            1.0 - (-h).exp() * terms
        };
        for h in [2.0, 8.0, 12.0, 30.0] {
            check(within(8.0, 8.0, h), erlang8(h));
        }
        assert_eq!(within(1.0, 1.0, f64::INFINITY), 1.0);
        assert_eq!(within(1.0, 1.0, 0.0), 0.0);
    }

    #[test]
    fn evidence_survives_a_snapshot_but_open_gaps_do_not() {
        let mut arrivals = Arrivals::default();
        arrivals.opened(COPY, Time::ZERO);
        arrivals.closed(COPY, Time::ZERO, Time::from_s(4.0));
        arrivals.opened(COPY, Time::from_s(4.0));
        let (all, types) = arrivals.evidence();
        let restored = Arrivals::from_evidence(all, types);
        let at = Time::from_s(4.0);
        check(
            restored.mean_s(Gaps::default(), Span::ZERO, COPY, at),
            arrivals.mean_s(Gaps::default(), Span::ZERO, COPY, at),
        );
        assert!(restored.mean_s(Gaps::default(), Span::ZERO, COPY, Time::from_s(9.0)) < 4.0);
    }

    #[test]
    fn a_changed_rhythm_is_followed() {
        let mut gaps = Gaps::default();
        for _ in 0..2_000 {
            gaps.learn(Span::from_secs(1));
        }
        for _ in 0..400 {
            gaps.learn(Span::from_secs(10));
        }
        assert!(gaps.mean_s(0.0, 1.0, 1.0) > 7.5);
    }
}
