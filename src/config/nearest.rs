//! The name that somebody most likely meant.

/// The candidate nearest to `name`, if it is near enough to be worth suggesting: at most a third of its
/// letters differ. Case does not count, and `_` and `-` are the same.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = plain(name);
    // Quadratic in the lengths; no name that is accepted is longer.
    if name.len() > 64 {
        return None;
    }
    candidates
        .into_iter()
        .map(|c| (distance(&name, &plain(c)), c))
        .filter(|(d, c)| *d <= 1.max(name.len().min(c.chars().count()) / 3))
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

fn plain(name: &str) -> Vec<char> {
    name.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours, each one step.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant_and_nothing_far_off() {
        let keys = ["slots", "cpus", "cpu_weight", "memory_max", "io_weight"];
        for (name, meant) in [
            ("slot", Some("slots")),
            ("solts", Some("slots")),
            ("cpu-weight", Some("cpu_weight")),
            ("memory", None),
            ("Memory_Mx", Some("memory_max")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, keys), meant, "{name}");
        }
    }

    #[test]
    fn counts_steps() {
        let d = |a: &str, b: &str| distance(&plain(a), &plain(b));
        assert_eq!(d("kitten", "sitting"), 3);
        assert_eq!(d("ab", "ba"), 1);
        assert_eq!(d("", "abc"), 3);
        assert_eq!(d("same", "same"), 0);
    }
}
