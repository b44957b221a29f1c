//! The time axis: clock times in a zone, and which columns carry a label.

use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The time axis: columns of equal width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Columns {
    /// When the first column begins, microseconds since the Unix epoch.
    #[schema(value_type = u64)]
    pub start: Time,
    /// How wide one column is, microseconds.
    #[schema(value_type = u64)]
    pub step: Span,
    /// How many there are.
    pub count: usize,
}

impl Columns {
    /// When column `i` begins.
    pub fn time(&self, i: usize) -> Time {
        self.start + Span::from_us(self.step.as_us().saturating_mul(i as u64))
    }
}

/// Seconds east of UTC. Reading the machine's zone is somebody else's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Zone(pub i32);

impl Zone {
    /// Greenwich.
    pub const UTC: Zone = Zone(0);
}

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

/// Distances between labels that people count in, seconds.
const STEPS: [i64; 21] = [
    1,
    2,
    5,
    10,
    15,
    30,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    28 * DAY,
];

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Seconds of local time since the epoch.
fn local(at: Time, zone: Zone) -> i64 {
    i64::try_from(at.as_us() / 1_000_000).unwrap_or(i64::MAX / 2) + i64::from(zone.0)
}

/// Day of the month and month of a day since the epoch: `civil_from_days` of Howard Hinnant's
/// "chrono-Compatible Low-Level Date Algorithms", the year left out.
fn date(day: i64) -> String {
    let z = day + 719_468;
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 2 } else { mp - 10 };
    format!("{} {}", doy - (153 * mp + 2) / 5 + 1, MONTHS[month as usize])
}

/// `14:08`, or `14:08:30` where seconds matter.
fn clock(local_s: i64, seconds: bool) -> String {
    let s = local_s.rem_euclid(DAY);
    let (h, m, s) = (s / HOUR, s / MINUTE % 60, s % 60);
    if seconds { format!("{h:02}:{m:02}:{s:02}") } else { format!("{h:02}:{m:02}") }
}

/// The width of a column: `30 s`, `1.5 s`.
pub(super) fn width(step: Span) -> String {
    step.to_string().replace(".0 ", " ")
}

/// `14:08 to 14:20`; with seconds or dates where these are needed to tell the ends apart.
pub(super) fn period(from: Time, to: Time, zone: Zone) -> String {
    let (a, b) = (local(from, zone), local(to, zone));
    let seconds = b - a < 3 * MINUTE;
    if a.div_euclid(DAY) == b.div_euclid(DAY) {
        return format!("{} to {}", clock(a, seconds), clock(b, seconds));
    }
    let full = |s: i64| format!("{} {}", date(s.div_euclid(DAY)), clock(s, seconds));
    format!("{} to {}", full(a), full(b))
}

/// One label under the map.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    /// The column whose left edge it marks.
    pub column: usize,
    /// `14:08`.
    pub label: String,
}

/// Labels for the first `columns.count` columns, at round local times, at least `gap` columns apart.
/// The first column gets one of its own if no round time is near it.
pub(super) fn ticks(columns: &Columns, zone: Zone, gap: usize) -> Vec<Tick> {
    let column_s = columns.step.as_s().max(1e-6);
    let least = gap.max(1) as f64 * column_s;
    let step = STEPS.into_iter().find(|&s| s as f64 >= least).unwrap_or(STEPS[STEPS.len() - 1]);
    let label = |s: i64| match step {
        _ if s.rem_euclid(DAY) == 0 => date(s.div_euclid(DAY)),
        DAY.. => date(s.div_euclid(DAY)),
        ..MINUTE => clock(s, true),
        _ => clock(s, false),
    };
    let mut ticks: Vec<Tick> = Vec::new();
    let first = local(columns.start, zone);
    let whole = |i: usize| local(columns.time(i), zone).div_euclid(step);
    for column in 1..columns.count {
        let at = whole(column);
        let far = ticks.last().is_none_or(|t| column - t.column >= gap);
        if at != whole(column - 1) && far {
            ticks.push(Tick { column, label: label(at * step) });
        }
    }
    if ticks.first().is_none_or(|t| t.column >= gap) {
        let round = first.rem_euclid(step) == 0;
        let seconds = column_s < 60.0 && first.rem_euclid(MINUTE) != 0;
        let text = if round {
            label(first)
        } else if step >= DAY {
            date(first.div_euclid(DAY))
        } else {
            clock(first, seconds)
        };
        ticks.insert(0, Tick { column: 0, label: text });
    }
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(start_s: f64, step_s: u64, count: usize, gap: usize, zone: Zone) -> String {
        let columns = Columns { start: Time::from_s(start_s), step: Span::from_secs(step_s), count };
        let all = ticks(&columns, zone, gap);
        all.iter().map(|t| format!("{}={} ", t.column, t.label)).collect::<String>().trim_end().to_owned()
    }

    const NOV_24: f64 = 1_795_478_400.0; // 2026-11-24 00:00 UTC

    #[test]
    fn labels_stand_at_round_local_times() {
        assert_eq!(labels(NOV_24 + 50_880.0, 30, 48, 12, Zone::UTC), "4=14:10 24=14:20 44=14:30");
        assert_eq!(labels(NOV_24, 1, 30, 10, Zone::UTC), "0=24 Nov 10=00:00:10 20=00:00:20");
        assert_eq!(
            labels(NOV_24 - 7_200.0, 600, 36, 6, Zone(3_600)),
            "0=23:00 6=24 Nov 12=01:00 18=02:00 24=03:00 30=04:00"
        );
        assert_eq!(
            labels(NOV_24, 3_600, 168, 24, Zone::UTC),
            "0=24 Nov 24=25 Nov 48=26 Nov 72=27 Nov 96=28 Nov 120=29 Nov 144=30 Nov"
        );
    }

    #[test]
    fn columns_wider_than_a_label_each_get_one() {
        assert_eq!(labels(NOV_24, 3_600, 3, 1, Zone::UTC), "0=24 Nov 1=01:00 2=02:00");
    }

    #[test]
    fn dates_are_right_around_leap_days_and_new_year() {
        let days = [
            (0, "1 Jan"),
            (59, "1 Mar"),
            (19_782, "29 Feb"),
            (19_783, "1 Mar"),
            (20_819, "1 Jan"),
            (20_818, "31 Dec"),
        ];
        for (day, text) in days {
            assert_eq!(date(day), text, "{day}");
        }
    }

    #[test]
    fn periods_say_only_what_tells_their_ends_apart() {
        let at = |s: f64| Time::from_s(NOV_24 + s);
        assert_eq!(period(at(3_600.0), at(7_200.0), Zone::UTC), "01:00 to 02:00");
        assert_eq!(period(at(1.0), at(9.0), Zone::UTC), "00:00:01 to 00:00:09");
        assert_eq!(period(at(-3_600.0), at(3_600.0), Zone::UTC), "23 Nov 23:00 to 24 Nov 01:00");
    }
}
