//! How figures read in tables: short, with their unit, and the same everywhere.

use crate::config::unit::show_about;
use crate::time::Span;

/// A probability or another share of one: `.52`, `1.00`, `<.01`.
pub fn share(p: f64) -> String {
    match p {
        p if !p.is_finite() => "–".to_owned(),
        p if p > 0.0 && p < 0.005 => "<.01".to_owned(),
        p if (0.0..0.995).contains(&p) => format!("{p:.2}").trim_start_matches('0').to_owned(),
        p => format!("{p:.2}"),
    }
}

/// A factor: `1.9×`.
pub fn factor(f: f64) -> String {
    format!("{f:.1}×")
}

/// Seconds as people say them: `850 µs`, `47 ms`, `1.9 s`, `12 min`.
pub fn seconds(s: f64) -> String {
    if s < 0.0 { format!("−{}", Span::from_s(-s)) } else { Span::from_s(s).to_string() }
}

/// Milliseconds as people say them.
pub fn millis(ms: f64) -> String {
    seconds(ms / 1e3)
}

/// A size: `1.8 TiB`.
pub fn bytes(n: u64) -> String {
    show_about(n)
}

/// A size that is the result of smoothing.
pub fn about_bytes(n: f64) -> String {
    // `as` saturates and maps NaN to zero.
    show_about(n as u64)
}

/// A part of a whole in the whole's unit: `38 of 50 GiB`.
pub fn part_of(part: u64, whole: u64) -> String {
    const UNITS: [(&str, u64); 6] =
        [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("PiB", 1 << 50)];
    let (name, scale) = UNITS.iter().rev().find(|(_, s)| whole >= *s).unwrap_or(&UNITS[0]);
    let show = |n: u64| {
        let x = n as f64 / *scale as f64;
        if x >= 10.0 || x.fract() == 0.0 { format!("{x:.0}") } else { format!("{x:.1}") }
    };
    format!("{} of {} {name}", show(part), show(whole))
}

/// How long ago something was, seen from `now_s`: `12 min ago`, `just now`; `in 3.0 s` for what comes.
pub fn ago(now_s: f64, then_s: f64) -> String {
    match now_s - then_s {
        d if d >= 1.0 => format!("{} ago", rough(d)),
        d if d <= -1.0 => format!("in {}", rough(-d)),
        _ => "just now".to_owned(),
    }
}

/// Whole seconds where a fraction would only be noise.
fn rough(s: f64) -> String {
    if s < 90.0 { format!("{s:.0} s") } else { Span::from_s(s).to_string() }
}

/// One or many: `1 task`, `3 tasks`.
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// A clock time of a day, `zone_s` east of UTC: `14:03:09`.
pub fn clock(at_s: f64, zone_s: i32) -> String {
    let s = (at_s as i64 + i64::from(zone_s)).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", s / 3_600, s / 60 % 60, s % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_say_them() {
        assert_eq!(
            [0.0, 0.001, 0.184, 0.52, 0.999, 1.0].map(share),
            [".00", "<.01", ".18", ".52", "1.00", "1.00"]
        );
        assert_eq!(factor(1.94), "1.9×");
        assert_eq!(seconds(-0.031), "−31 ms");
        assert_eq!(part_of(38 << 30, 50 << 30), "38 of 50 GiB");
        assert_eq!(part_of(1 << 29, 50 << 30), "0.5 of 50 GiB");
        assert_eq!(part_of(0, 0), "0 of 0 B");
        assert_eq!(ago(100.0, 97.4), "3 s ago");
        assert_eq!(ago(100.0, 100.2), "just now");
        assert_eq!(ago(100.0, 820.0), "in 12 min");
        assert_eq!(clock(-1.0, 0), "23:59:59");
        assert_eq!(clock(0.0, 3_600), "01:00:00");
        assert_eq!(count(1, "task", "tasks"), "1 task");
    }
}
