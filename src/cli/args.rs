//! Arguments that several commands share, and how their values are read.

use crate::config::unit;
use crate::time::Span;
use std::path::PathBuf;

/// What every command that asks the daemon takes, also behind a command's own command (`cache list --socket`).
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Common {
    /// The daemon's socket [default: that of the configuration].
    #[arg(long, value_name = "PATH", env = "FORESTAGE_SOCKET", global = true, help_heading = "Connection")]
    pub socket: Option<PathBuf>,
    /// The configuration that names the socket, when --socket does not.
    #[arg(long, value_name = "FILE", global = true, help_heading = "Connection")]
    pub config: Option<PathBuf>,
    /// Print JSON for programs: one object a line.
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
}

/// A length of time: `500ms`, `10min`, or seconds without a unit.
///
/// # Errors
/// What is wrong with the text, and what is accepted.
pub fn span(text: &str) -> Result<Span, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return if (0.0..=1e12).contains(&seconds) {
            Ok(Span::from_s(seconds))
        } else {
            Err("accepted: 0 or more seconds, or a length of time as 500ms, 10min, 2h, 1d".to_owned())
        };
    }
    unit::span(text).map_err(|e| format!("it {e}; accepted: a length of time as 500ms, 90s, 10min, 2h, 1d"))
}

/// Bytes per second: `50MB/s`, `1GiB`.
///
/// # Errors
/// What is wrong with the text, and what is accepted.
pub fn bytes_per_s(text: &str) -> Result<u64, String> {
    match unit::bytes_per_s(text) {
        Ok(0) => Err("it is zero; accepted: 1 B/s or more, as 50MB/s".to_owned()),
        Ok(n) => Ok(n),
        Err(e) => Err(format!("it {e}; accepted: bytes per second as 50MB/s, 1GiB/s")),
    }
}

/// Memory of the models of task types: `12MiB`, as `predict.memory` takes it.
///
/// # Errors
/// What is wrong with the text, and what is accepted.
pub fn memory(text: &str) -> Result<u64, String> {
    const ACCEPTED: &str = "accepted: 4MiB to 1GiB";
    match unit::bytes(text) {
        Ok(n) if (4 << 20..=1 << 30).contains(&n) => Ok(n),
        Ok(_) => Err(format!("it is out of range; {ACCEPTED}")),
        Err(e) => Err(format!("it {e}; {ACCEPTED}")),
    }
}

/// How large a pool is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Capacity {
    /// A share of all bytes of the trace, in (0, 1].
    Share(f64),
    /// Bytes.
    Bytes(u64),
}

/// A share as `5%`, or a size as `20GiB`.
///
/// # Errors
/// What is wrong with the text, and what is accepted.
pub fn capacity(text: &str) -> Result<Capacity, String> {
    const ACCEPTED: &str = "accepted: more than 0 % up to 100 % of the trace's bytes, or a size as 20GiB";
    if let Some(percent) = text.strip_suffix('%') {
        return match percent.trim().parse::<f64>() {
            Ok(p) if p > 0.0 && p <= 100.0 => Ok(Capacity::Share(p / 100.0)),
            _ => Err(ACCEPTED.to_owned()),
        };
    }
    match unit::bytes(text) {
        Ok(0) => Err(format!("it is zero; {ACCEPTED}")),
        Ok(n) => Ok(Capacity::Bytes(n)),
        Err(e) => Err(format!("it {e}; {ACCEPTED}")),
    }
}

/// `NAME=VALUE`.
///
/// # Errors
/// What is wrong with the text, and what is accepted.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("accepted: NAME=VALUE, as level=3".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_seconds_unless_they_say_otherwise() {
        assert_eq!(span("2.5"), Ok(Span::from_ms(2_500)));
        assert_eq!(span("10min"), Ok(Span::from_secs(600)));
        for bad in ["-1", "nan", "10 parsecs", "", "1e300"] {
            assert!(span(bad).unwrap_err().contains("accepted:"), "{bad}");
        }
    }

    #[test]
    fn capacities_are_shares_or_sizes() {
        assert_eq!(capacity("5%"), Ok(Capacity::Share(0.05)));
        assert_eq!(capacity("1KiB"), Ok(Capacity::Bytes(1024)));
        for bad in ["0%", "101%", "x%", "0", "5 of 10"] {
            assert!(capacity(bad).unwrap_err().contains("accepted:"), "{bad}");
        }
    }

    #[test]
    fn pairs_have_a_name() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("=b").is_err() && pair("a").is_err());
    }
}
