//! The paths that somebody most likely meant.

/// Longest path that is compared, bytes; none of ours is near a longer one.
const COMPARED_BYTES: usize = 80;

/// Up to three of `known`, nearest first. Braced segments (`{id}`) equal whatever stands in their place.
pub(super) fn near<'a>(path: &str, known: &'a [String]) -> Vec<&'a str> {
    if path.len() > COMPARED_BYTES {
        return Vec::new();
    }
    let mut ranked: Vec<(usize, &str)> = known
        .iter()
        .map(|k| (distance(path, k), k.as_str()))
        .filter(|(d, k)| *d <= 2.max(k.len() / 3))
        .collect();
    ranked.sort();
    ranked.into_iter().take(3).map(|(_, k)| k).collect()
}

/// Levenshtein's distance, after the braced segments of `known` were filled from `path`.
fn distance(path: &str, known: &str) -> usize {
    let given: Vec<&str> = path.split('/').collect();
    let fill = |(i, part): (usize, &str)| -> String {
        let meant = part.starts_with('{').then(|| given.get(i).filter(|g| !g.is_empty())).flatten();
        meant.map_or_else(|| part.to_owned(), |g| (*g).to_owned())
    };
    let filled = known.split('/').enumerate().map(fill).collect::<Vec<_>>().join("/");
    let (a, b): (Vec<char>, Vec<char>) = (path.chars().collect(), filled.chars().collect());
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = change.min(last[j] + 1).min(row[j - 1] + 1);
        }
        last = row;
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_path_that_was_meant() {
        let known = ["/v1/tasks", "/v1/tasks/{id}", "/v1/tasks/{id}/log", "/v1/workers", "/v1/health"]
            .map(String::from);
        let first = |path: &str| near(path, &known).first().copied().unwrap_or_default().to_owned();
        assert_eq!(first("/v1/task"), "/v1/tasks");
        assert_eq!(first("/v1/tasks/17/logs"), "/v1/tasks/{id}/log");
        assert_eq!(first("/workers"), "/v1/workers");
        assert_eq!(first("/v1/helth"), "/v1/health");
        assert_eq!(near("/index.php", &known), [""; 0]);
        assert_eq!(near(&"/x".repeat(1_000), &known), [""; 0]);
    }
}
