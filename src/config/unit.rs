//! Lengths of time and sizes as people write them: `500ms`, `10min`, `4GiB`.

use crate::time::Span;

/// Units of time with their length in µs, shortest first. `us` and `µs` are the same.
const SPANS: [(&str, u64); 7] = [
    ("us", 1),
    ("µs", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

/// Units of size with their bytes. Powers of 1024 and of 1000 are told apart by the `i`.
const SIZES: [(&str, u64); 10] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Why a text is no quantity. It completes "`x` …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuantity {
    /// It does not begin with a number.
    #[error("does not begin with a number")]
    NoNumber,
    /// The number stands alone.
    #[error("has no unit")]
    NoUnit,
    /// The unit is none of these.
    #[error("has the unknown unit `{0}`")]
    UnknownUnit(String),
    /// Larger than 64 bits of the smallest unit hold.
    #[error("is too large")]
    TooLarge,
}

/// Reads a length of time: a number with or without a fraction, and `us`, `ms`, `s`, `min`, `h` or `d`.
///
/// # Errors
/// What is wrong with the text.
pub fn span(text: &str) -> Result<Span, BadQuantity> {
    let (number, unit) = split(text)?;
    quantity(number, find(unit, &SPANS)?).map(Span::from_us)
}

/// Reads a size in bytes: a number with or without a fraction, and `B`, `KiB` … `PiB` (powers of 1024) or
/// `kB` … `TB` (powers of 1000). A whole number alone is bytes.
///
/// # Errors
/// What is wrong with the text.
pub fn bytes(text: &str) -> Result<u64, BadQuantity> {
    let (number, unit) = split(text)?;
    let scale = if unit.is_empty() && !number.contains('.') { 1 } else { find(unit, &SIZES)? };
    quantity(number, scale)
}

/// Reads bytes per second: a size, with or without `/s` behind it.
///
/// # Errors
/// What is wrong with the text.
pub fn bytes_per_s(text: &str) -> Result<u64, BadQuantity> {
    bytes(text.trim_end().strip_suffix("/s").unwrap_or(text))
}

/// A span in the largest unit that shows it exactly: `90 s`, `1 h`.
pub fn show_span(span: Span) -> String {
    let us = span.as_us();
    let exact = SPANS.iter().rev().find(|(name, scale)| *name != "us" && us.is_multiple_of(*scale));
    match exact {
        Some((name, scale)) if us > 0 => format!("{} {name}", us / scale),
        _ => "0 s".to_owned(),
    }
}

/// A size in the largest unit that shows it exactly: `1536 MiB`, `2 TiB`.
pub fn show_bytes(bytes: u64) -> String {
    let exact = SIZES[..6].iter().rev().find(|(_, scale)| bytes.is_multiple_of(*scale));
    match exact {
        Some((name, scale)) if bytes > 0 => format!("{} {name}", bytes / scale),
        _ => "0 B".to_owned(),
    }
}

/// A size with one figure behind the point, for what was measured: `1.8 TiB`.
pub fn show_about(bytes: u64) -> String {
    let (name, scale) = SIZES[..6].iter().rev().find(|(_, s)| bytes >= *s).unwrap_or(&SIZES[0]);
    let x = bytes as f64 / *scale as f64;
    if *scale == 1 || x >= 100.0 { format!("{x:.0} {name}") } else { format!("{x:.1} {name}") }
}

fn split(text: &str) -> Result<(&str, &str), BadQuantity> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if !number.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(BadQuantity::NoNumber);
    }
    Ok((number, unit.trim_start()))
}

fn find(unit: &str, units: &[(&str, u64)]) -> Result<u64, BadQuantity> {
    if unit.is_empty() {
        return Err(BadQuantity::NoUnit);
    }
    let known = units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
    known.ok_or_else(|| BadQuantity::UnknownUnit(unit.chars().take(20).collect()))
}

/// Exact in integers: a double would lose bytes beyond 2^53. What is finer than the smallest unit is cut.
fn quantity(number: &str, scale: u64) -> Result<u64, BadQuantity> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(BadQuantity::NoNumber);
    }
    let whole: u128 = whole.parse().map_err(|_| BadQuantity::TooLarge)?;
    let fraction = &fraction[..fraction.len().min(15)];
    let part: u128 = fraction.parse().map_err(|_| BadQuantity::TooLarge)?;
    let part = part * u128::from(scale) / 10u128.pow(fraction.len() as u32);
    let sum = whole.checked_mul(u128::from(scale)).and_then(|x| x.checked_add(part));
    sum.and_then(|x| u64::try_from(x).ok()).ok_or(BadQuantity::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        for (text, us) in [
            ("500ms", 500_000),
            ("2s", 2_000_000),
            ("10min", 600_000_000),
            ("1 h", 3_600_000_000),
            ("7d", 604_800_000_000),
            ("1.5s", 1_500_000),
            ("40us", 40),
            ("40µs", 40),
        ] {
            assert_eq!(span(text), Ok(Span::from_us(us)), "{text}");
        }
        for (text, n) in [
            ("4GiB", 4 << 30),
            ("200MiB", 200 << 20),
            ("64 KiB", 64 << 10),
            ("1.5GB", 1_500_000_000),
            ("17", 17),
            ("17B", 17),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(bytes(text), Ok(n), "{text}");
        }
        assert_eq!(bytes_per_s("125MiB/s"), Ok(125 << 20));
        assert_eq!(bytes_per_s("125MiB"), Ok(125 << 20));
    }

    #[test]
    fn says_what_is_wrong() {
        use BadQuantity::*;
        assert_eq!(span("60"), Err(NoUnit));
        assert_eq!(span("-1s"), Err(NoNumber));
        assert_eq!(span(""), Err(NoNumber));
        assert_eq!(span("1.s"), Err(NoNumber));
        assert_eq!(span("1.2.3s"), Err(NoNumber));
        assert_eq!(span("5m"), Err(UnknownUnit("m".into())));
        assert_eq!(bytes("5gb"), Err(UnknownUnit("gb".into())));
        assert_eq!(bytes("1.5"), Err(NoUnit));
        assert_eq!(bytes("18446744073709551616"), Err(TooLarge));
        assert_eq!(bytes("99999999999999999999999999999999999999999999TiB"), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read(n in any::<u64>()) {
            prop_assert_eq!(bytes(&show_bytes(n)), Ok(n));
            prop_assert_eq!(span(&show_span(Span::from_us(n))), Ok(Span::from_us(n)));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = (span(&text), bytes(&text), bytes_per_s(&text));
        }
    }
}
