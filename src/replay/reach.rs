//! What an online predictor could know of: the share of misses that is within reach.
//!
//! A miss is reachable if its object was accessed before, or if two names were accessed that differ from it in
//! one number only, by d and by 2d, for a usual d. Everything else nobody can foresee from accesses alone.

use crate::flow::ObjectName;
use crate::predict::objects::shape_of;
use std::collections::HashSet;

type Set<K> = HashSet<K, xxhash_rust::xxh3::Xxh3DefaultBuilder>;

/// Usual differences, up and down.
const DIFFERENCES: [i64; 10] = [1, 2, 3, 4, 8, 16, 32, 64, 128, 256];

/// How many of the misses are reachable. `order` is the accesses as indices into `names`, `missed` the
/// positions of the misses in it, rising.
pub(super) fn reachable(names: &[ObjectName], order: &[u32], missed: &[u32]) -> usize {
    let shapes: Vec<(String, Vec<u64>)> = names.iter().map(|n| shape_of(n.as_str())).collect();
    let mut accessed = vec![false; names.len()];
    let mut numbers: Set<(&str, &[u64])> = Set::default();
    let mut misses = missed.iter().peekable();
    let mut count = 0;
    for (i, &o) in order.iter().enumerate() {
        let o = o as usize;
        let (shape, fields) = (shapes[o].0.as_str(), &shapes[o].1);
        if misses.next_if(|&&m| m as usize == i).is_some() {
            let known = |f: &[u64]| numbers.contains(&(shape, f));
            count += usize::from(accessed[o] || has_two_before(fields, known));
        }
        if !std::mem::replace(&mut accessed[o], true) {
            numbers.insert((shape, fields));
        }
    }
    count
}

fn has_two_before(fields: &[u64], known: impl Fn(&[u64]) -> bool) -> bool {
    let mut other = fields.to_vec();
    for field in 0..fields.len() {
        for d in DIFFERENCES.into_iter().flat_map(|d| [d, -d]) {
            let both = [1, 2].into_iter().all(|n| {
                let moved = fields[field].checked_add_signed(d * n);
                moved.is_some_and(|m| {
                    other[field] = m;
                    known(&other)
                })
            });
            other[field] = fields[field];
            if both {
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(names: &[&str], order: &[u32]) -> usize {
        let names: Vec<ObjectName> = names.iter().map(|&n| ObjectName::new(n)).collect();
        let all: Vec<u32> = (0..order.len() as u32).collect();
        reachable(&names, order, &all)
    }

    #[test]
    fn what_was_accessed_before_is_reachable() {
        assert_eq!(reach(&["a", "b"], &[0, 1, 0, 0]), 2);
    }

    #[test]
    fn third_of_an_even_row_is_reachable_in_either_direction() {
        assert_eq!(reach(&["x/1/5", "x/1/9", "x/1/13"], &[0, 1, 2]), 1);
        assert_eq!(reach(&["x/1/5", "x/1/9", "x/1/13"], &[2, 1, 0]), 1);
        assert_eq!(reach(&["x/1/5", "x/1/9", "x/2/13"], &[0, 1, 2]), 0, "two numbers differ");
        assert_eq!(reach(&["x/0", "x/5", "x/10"], &[0, 1, 2]), 0, "five is no usual difference");
    }
}
