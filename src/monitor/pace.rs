//! How often to sample, so that sampling stays within its budget.

use crate::time::Span;

/// However dear a round gets, there is one at least this often.
pub const MAX_INTERVAL: Span = Span::from_secs(60);
/// Weight of the newest round in the mean cost: one dear round in ten does not change the pace much.
const NEWEST: f64 = 0.2;
/// Pauses are multiples of this, so that the pace does not change with every round.
const GRAIN: Span = Span::from_ms(100);

/// Decides the pause between rounds from what rounds cost.
#[derive(Clone, Debug)]
pub struct Pace {
    base: Span,
    budget: f64,
    cost_us: Option<f64>,
}

impl Pace {
    /// `base` is the interval asked for; `budget` the share of one processor that rounds may take, kept
    /// within [.0001, 1].
    pub fn new(base: Span, budget: f64) -> Pace {
        Pace { base: base.max(Span::from_ms(10)), budget: budget.clamp(1e-4, 1.0), cost_us: None }
    }

    /// A round took this much processor time.
    pub fn spent(&mut self, cost: Span) {
        let cost = cost.as_us() as f64;
        self.cost_us = Some(self.cost_us.map_or(cost, |mean| mean + NEWEST * (cost - mean)));
    }

    /// How long to wait from the start of one round to the start of the next: the interval asked for, or as
    /// much longer as the budget needs.
    pub fn interval(&self) -> Span {
        let needed_us = self.cost_us.unwrap_or(0.0) / self.budget;
        if needed_us <= self.base.as_us() as f64 {
            return self.base;
        }
        let grains = (needed_us / GRAIN.as_us() as f64).ceil() as u64;
        Span::from_us(grains.saturating_mul(GRAIN.as_us())).clamp(self.base, MAX_INTERVAL.max(self.base))
    }

    /// The share of one processor that rounds take at this pace.
    pub fn share(&self) -> f64 {
        self.cost_us.unwrap_or(0.0) / self.interval().as_us() as f64
    }

    /// The share they may take.
    pub fn budget(&self) -> f64 {
        self.budget
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(cost_ms: u64) -> Pace {
        let mut pace = Pace::new(Span::from_secs(1), 0.01);
        (0..50).for_each(|_| pace.spent(Span::from_ms(cost_ms)));
        pace
    }

    #[test]
    fn cheap_rounds_keep_the_interval() {
        assert_eq!(Pace::new(Span::from_secs(1), 0.01).interval(), Span::from_secs(1));
        assert_eq!(pace(10).interval(), Span::from_secs(1));
    }

    #[test]
    fn dear_rounds_come_less_often_and_stay_in_the_budget() {
        let dear = pace(53);
        assert_eq!(dear.interval(), Span::from_ms(5_300));
        assert!(dear.share() <= 0.01 + 1e-9);
        assert_eq!(pace(100_000).interval(), MAX_INTERVAL);
    }

    #[test]
    fn one_dear_round_is_forgiven_and_the_pace_recovers() {
        let mut pace = pace(2);
        pace.spent(Span::from_ms(30));
        assert_eq!(pace.interval(), Span::from_secs(1));
        (0..30).for_each(|_| pace.spent(Span::from_ms(200)));
        assert!(pace.interval() > Span::from_secs(15));
        (0..30).for_each(|_| pace.spent(Span::from_ms(2)));
        assert_eq!(pace.interval(), Span::from_secs(1));
    }
}
