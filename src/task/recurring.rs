//! Recurring tasks: a schedule in a time zone, and what is submitted when it fires.

use super::submit::Submit;
use crate::time::{Span, Time};
use chrono::{DateTime, TimeZone, Utc};
use chrono_tz::Tz;
use croner::parser::{CronParser, Seconds};
use serde::{Deserialize, Serialize};

/// Longest cron pattern, bytes.
const PATTERN_LIMIT_BYTES: usize = 256;

/// A task that is submitted again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recurring {
    /// When: a cron pattern of five fields, or six with seconds first.
    pub cron: String,
    /// The IANA time zone in which the pattern is read.
    pub zone: String,
    /// What happens if one is due while the one before is unfinished.
    pub overlap: Overlap,
    /// What happens to those whose time passed while the daemon was down.
    pub catch_up: CatchUp,
    /// What is submitted; its `not_before` is the moment at which it fires.
    pub submit: Submit,
    /// How long after it fired it must have started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
}

/// What happens if one is due while the one before is unfinished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// It is cancelled, with that reason: at most one at a time.
    #[default]
    Skip,
    /// It is queued like any other task.
    Allow,
}

/// What happens to those whose time passed while the daemon was down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// They are left out.
    None,
    /// One runs, late, for all of them.
    #[default]
    One,
    /// Each of them runs, late, up to a limit.
    All,
}

/// Why a schedule is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    /// The pattern is none.
    #[error(
        "`{pattern}` is no cron pattern: {why}; accepted: minute hour day month weekday, as `30 2 * * mon-fri`, with seconds before them if need be"
    )]
    Pattern {
        /// The text.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// The zone is none.
    #[error("`{zone}` is no time zone; accepted: a name of the IANA database, as Europe/Berlin or UTC")]
    Zone {
        /// The text.
        zone: String,
    },
    /// It never fires.
    #[error("`{pattern}` never fires again")]
    Never {
        /// The text.
        pattern: String,
    },
}

impl Recurring {
    /// The first moment after `after` at which it fires. A local time that a change of the clocks leaves out
    /// or repeats is handled as croner does it: left out, the task fires at the change; repeated, once.
    ///
    /// # Errors
    /// If pattern or zone are none, or it never fires again.
    pub fn next(&self, after: Time) -> Result<Time, BadSchedule> {
        let cut = |t: &str| t.chars().take(PATTERN_LIMIT_BYTES).collect::<String>();
        let pattern = || cut(&self.cron);
        let bad = |why: String| BadSchedule::Pattern { pattern: pattern(), why };
        if self.cron.len() > PATTERN_LIMIT_BYTES {
            return Err(bad(format!("it is longer than {PATTERN_LIMIT_BYTES} bytes")));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).build();
        let cron = parser.parse(&self.cron).map_err(|e| bad(e.to_string()))?;
        let zone: Tz = self.zone.parse().map_err(|_| BadSchedule::Zone { zone: cut(&self.zone) })?;
        let never = || BadSchedule::Never { pattern: pattern() };
        let after: DateTime<Tz> = i64::try_from(after.as_us())
            .ok()
            .and_then(DateTime::<Utc>::from_timestamp_micros)
            .map(|t| zone.from_utc_datetime(&t.naive_utc()))
            .ok_or_else(never)?;
        let next = cron.find_next_occurrence(&after, false).map_err(|_| never())?;
        u64::try_from(next.timestamp_micros()).map(Time::from_us).map_err(|_| never())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn daily(cron: &str, zone: &str) -> Recurring {
        Recurring {
            cron: cron.into(),
            zone: zone.into(),
            overlap: Overlap::Skip,
            catch_up: CatchUp::One,
            submit: Submit::default(),
            deadline: None,
        }
    }

    fn at(text: &str) -> Time {
        let t: DateTime<Utc> = text.parse().unwrap();
        Time::from_us(t.timestamp_micros() as u64)
    }

    #[test]
    fn a_pattern_is_read_in_its_zone_over_a_change_of_the_clocks() {
        let berlin = daily("30 2 * * *", "Europe/Berlin");
        // Winter: one hour ahead of UTC; summer: two.
        assert_eq!(berlin.next(at("2026-01-10T00:00:00Z")), Ok(at("2026-01-10T01:30:00Z")));
        assert_eq!(berlin.next(at("2026-07-10T00:00:00Z")), Ok(at("2026-07-10T00:30:00Z")));
        assert_eq!(
            daily("30 2 * * *", "UTC").next(at("2026-07-10T00:00:00Z")),
            Ok(at("2026-07-10T02:30:00Z"))
        );
        // Strictly after.
        assert_eq!(berlin.next(at("2026-01-10T01:30:00Z")), Ok(at("2026-01-11T01:30:00Z")));
    }

    #[test]
    fn what_is_no_schedule_is_named() {
        for (cron, zone, part) in [
            ("every day", "UTC", "`every day` is no cron pattern"),
            ("99 * * * *", "UTC", "is no cron pattern"),
            ("* * * * *", "Berlin", "`Berlin` is no time zone"),
            ("0 0 30 2 *", "UTC", "never fires"),
        ] {
            let error = daily(cron, zone).next(at("2026-01-01T00:00:00Z")).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
