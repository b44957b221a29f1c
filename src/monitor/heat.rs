//! Utilisation and demand to heat.

use super::settings::Capacity;
use crate::flow::{PerResource, Usage};

/// The hottest a worker can be for a type: something is always left, or nothing would ever run there.
pub const MAX_HEAT: f64 = 0.99;

/// `h_w(t) = Σ_r d_t[r] · u_w[r]`, clamped to [0, [`MAX_HEAT`]]: how hot a worker is for a type.
///
/// `utilisation` in [0, 1] each; `demand` sums to one. A demand that knows nothing (all zero) is taken as the
/// same share of each resource.
pub fn at_type(utilisation: &PerResource, demand: &PerResource) -> f64 {
    let total: f64 = demand.iter().sum();
    let heat = if total > 0.0 {
        utilisation.iter().zip(demand).map(|(u, d)| u * d).sum::<f64>() / total
    } else {
        utilisation.iter().sum::<f64>() / utilisation.len() as f64
    };
    heat.clamp(0.0, MAX_HEAT)
}

/// The heat of a worker, a cell or a shard when no type is meant: its busiest resource, in [0, 1].
///
/// The largest and not a mean: what works there is held up by whatever is used up, however idle the rest is.
/// A cell whose disks are saturated must get no more transfers although its processors sleep; a mean of four
/// would call it a quarter warm. Where the type is known, [`at_type`] weighs by what it needs.
pub fn of_place(utilisation: &PerResource) -> f64 {
    utilisation.iter().copied().fold(0.0, f64::max).clamp(0.0, 1.0)
}

/// `d_t[r]`: what an attempt demanded, as shares that sum to one. Each resource counts by the share of `whole`
/// it would keep busy: processors, bytes of memory, bytes per second. All zero if nothing was used or `whole` is
/// unknown.
pub fn demand(usage: &Usage, whole: &Capacity) -> PerResource {
    let wall_s = usage.wall.as_s().max(1e-6);
    let used = [
        usage.cpu.as_s() / wall_s,
        usage.peak_memory_bytes as f64,
        usage.read_bytes.saturating_add(usage.write_bytes) as f64 / wall_s,
        usage.net_bytes as f64 / wall_s,
    ];
    let whole = whole.amounts();
    let mut shares = [0.0; 4];
    for r in 0..shares.len() {
        shares[r] = whole[r].filter(|w| *w > 0.0).map_or(0.0, |w| used[r] / w);
    }
    let total: f64 = shares.iter().sum();
    if total > 0.0 { shares.map(|s| s / total) } else { shares }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    #[test]
    fn heat_is_utilisation_weighted_by_demand() {
        let u = [0.8, 0.2, 0.4, 0.0];
        for (d, h) in [
            ([1.0, 0.0, 0.0, 0.0], 0.8),
            ([0.5, 0.0, 0.5, 0.0], 0.6),
            ([0.25; 4], 0.35),
            ([0.0, 0.0, 0.0, 1.0], 0.0),
            ([0.0; 4], 0.35),
            // Sums to two: weights, not probabilities.
            ([2.0, 0.0, 0.0, 0.0], 0.8),
        ] {
            assert!((at_type(&u, &d) - h).abs() < 1e-12, "{d:?}");
        }
        assert_eq!(at_type(&[1.0; 4], &[0.25; 4]), MAX_HEAT);
    }

    #[test]
    fn a_place_is_as_hot_as_its_busiest_resource() {
        assert_eq!(of_place(&[0.1, 0.0, 0.93, 0.2]), 0.93);
        assert_eq!(of_place(&[0.0; 4]), 0.0);
        assert_eq!(of_place(&[3.0, 0.0, 0.0, 0.0]), 1.0);
    }

    #[test]
    fn demand_counts_each_resource_by_its_share_of_the_whole() {
        let whole = Capacity {
            cpus: Some(2.0),
            memory_bytes: Some(1_000),
            io_bytes_per_s: Some(100.0),
            net_bytes_per_s: None,
        };
        let usage = Usage {
            wall: Span::from_secs(10),
            cpu: Span::from_secs(10),
            peak_memory_bytes: 250,
            read_bytes: 200,
            write_bytes: 50,
            net_bytes: 77,
        };
        // One of two processors, a quarter of the memory, 25 of 100 bytes a second.
        assert_eq!(demand(&usage, &whole), [0.5, 0.25, 0.25, 0.0]);
        assert_eq!(demand(&Usage::default(), &whole), [0.0; 4]);
    }
}
