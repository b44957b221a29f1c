//! What a heatmap shows: rows against time, a unit, a scale, and where the forecast begins.

use super::axis::Columns;
use crate::time::Span;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use utoipa::ToSchema;

/// Most rows of one map. 500 workers and 64 cells of 64 shards fit; beyond that nobody reads a row.
pub const MAX_ROWS: usize = 4_096;
/// Most columns of one map: more than a wide screen has pixels for.
pub const MAX_COLUMNS: usize = 2_880;
/// Most values of one map: keeps one map below about 16 MB and one picture below a second.
pub const MAX_VALUES: usize = 1_000_000;
/// Longest title, note or row label, in characters.
pub const MAX_LABEL_CHARS: usize = 200;

/// Why a map cannot be drawn.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Error {
    /// More rows than [`MAX_ROWS`].
    #[error("heatmap has {found} rows; accepted: 1 to {MAX_ROWS}")]
    Rows {
        /// How many there are.
        found: usize,
    },
    /// No column, or more than [`MAX_COLUMNS`].
    #[error("heatmap has {found} columns; accepted: 1 to {MAX_COLUMNS}")]
    Columns {
        /// How many there are.
        found: usize,
    },
    /// More values than [`MAX_VALUES`].
    #[error("heatmap has {found} values; accepted: up to {MAX_VALUES}")]
    Values {
        /// Rows times columns.
        found: usize,
    },
    /// Columns without width.
    #[error("heatmap columns are 0 µs wide; accepted: 1 µs and more")]
    Step,
    /// A row that has not one value for each column.
    #[error("row `{row}` has {found} values for {expected} columns")]
    RowLength {
        /// The row's label.
        row: String,
        /// How many values it has.
        found: usize,
        /// How many columns the map has.
        expected: usize,
    },
    /// A negative or infinite value, or NaN.
    #[error("row `{row}` has the value {value} in column {column}; accepted: 0 and more, finite")]
    Value {
        /// The row's label.
        row: String,
        /// Index of the column.
        column: usize,
        /// What stands there.
        value: f64,
    },
    /// A scale that ends nowhere.
    #[error("heatmap scale ends at {found}; accepted: finite and above 0")]
    Max {
        /// What was asked for.
        found: f64,
    },
    /// A forecast that begins outside the map.
    #[error("forecast begins at column {found} of {columns}")]
    Forecast {
        /// Index of its first column.
        found: usize,
        /// How many columns there are.
        columns: usize,
    },
    /// A title, note or label that is too long or has control characters.
    #[error(
        "`{text}…` cannot be a label; accepted: up to {MAX_LABEL_CHARS} characters, no control characters"
    )]
    Label {
        /// Its beginning, control characters replaced.
        text: String,
    },
    /// A picture with more pixels than [`super::MAX_PIXELS`], or none.
    #[error(
        "picture of {width} × {height} pixels; accepted: up to {} pixels, scale .25 to {}",
        super::MAX_PIXELS,
        super::MAX_SCALE
    )]
    Pixels {
        /// Width.
        width: u64,
        /// Height.
        height: u64,
    },
    /// The picture library refused.
    #[error("render picture: {reason}")]
    Picture {
        /// What it said.
        reason: String,
    },
}

/// What the values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A share of capacity, 0 to 1.
    Share,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerS,
    /// Things: tasks, transfers.
    Count,
}

impl Unit {
    /// A value as people read it: `.93`, `47 ms`, `1.2 MiB`, `12 MiB/s`, `37`.
    pub fn format(self, value: f64) -> String {
        match self {
            Unit::Share if value <= 0.0 => "0".to_owned(),
            Unit::Share if value >= 0.995 => format!("{value:.2}"),
            Unit::Share => format!("{value:.2}").trim_start_matches('0').to_owned(),
            Unit::Seconds => Span::from_s(value).to_string(),
            Unit::Bytes => binary(value),
            Unit::BytesPerS => binary(value) + "/s",
            Unit::Count if value.fract() == 0.0 || value >= 100.0 => format!("{value:.0}"),
            Unit::Count => format!("{value:.1}"),
        }
    }
    /// The same with what a bare share is of: `.93 of capacity`. For the legend.
    pub fn format_whole(self, value: f64) -> String {
        let of = if self == Unit::Share { " of capacity" } else { "" };
        self.format(value) + of
    }
}

/// Two or three significant figures and a binary unit.
fn binary(bytes: f64) -> String {
    let mut value = bytes;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 999.5 {
            let digits = usize::from(value < 9.95 && unit != "B");
            return format!("{value:.digits$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.0} PiB")
}

/// One thing over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Row {
    /// Its name: `fast`, `nas · 2`.
    pub label: String,
    /// One value for each column, oldest first; none where nothing was measured.
    pub values: Vec<Option<f64>>,
}

/// A map of rows against time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Heatmap {
    /// What it shows: `heat by cell and shard`.
    pub title: String,
    /// What the reader should know besides: rows left out, nothing measured yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What the values are.
    pub unit: Unit,
    /// The value of the deepest colour; the palest is always 0. Larger values are drawn as this one.
    pub max: f64,
    /// The time axis.
    pub columns: Columns,
    /// The rows, top to bottom.
    pub rows: Vec<Row>,
    /// Index of the first column that is forecast, not measured; `columns.count` and none mean there is no
    /// such column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forecast_from: Option<usize>,
}

/// A stretch of one row: columns `from..to`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Area {
    /// Index of the row.
    pub row: usize,
    /// First column.
    pub from: usize,
    /// One past the last column.
    pub to: usize,
    /// Mean of its values.
    pub mean: f64,
}

impl Heatmap {
    /// Whether it can be drawn: every renderer asks first.
    ///
    /// # Errors
    /// Names the limit and the value that breaks it.
    pub fn check(&self) -> Result<(), Error> {
        let columns = self.columns.count;
        if self.rows.is_empty() || self.rows.len() > MAX_ROWS {
            return Err(Error::Rows { found: self.rows.len() });
        }
        if columns == 0 || columns > MAX_COLUMNS {
            return Err(Error::Columns { found: columns });
        }
        if self.rows.len() * columns > MAX_VALUES {
            return Err(Error::Values { found: self.rows.len() * columns });
        }
        if self.columns.step == Span::ZERO {
            return Err(Error::Step);
        }
        if !(self.max.is_finite() && self.max > 0.0) {
            return Err(Error::Max { found: self.max });
        }
        if let Some(found) = self.forecast_from.filter(|&from| from > columns) {
            return Err(Error::Forecast { found, columns });
        }
        check_label(&self.title)?;
        self.note.as_deref().map_or(Ok(()), check_label)?;
        self.rows.iter().try_for_each(|row| row.check(columns))
    }

    /// How many columns, from the left, were measured.
    pub fn measured(&self) -> usize {
        self.forecast_from.unwrap_or(self.columns.count).min(self.columns.count)
    }

    /// Where a value lies on the scale, in [0, 1].
    pub fn share(&self, value: f64) -> f64 {
        (value / self.max).clamp(0.0, 1.0)
    }

    /// The newest `count` columns: what a narrow screen shows. Forecast columns are the newest of all.
    pub fn newest(&self, count: usize) -> Heatmap {
        let drop = self.columns.count.saturating_sub(count);
        let mut map = self.clone();
        if drop == 0 {
            return map;
        }
        map.columns.start = self.columns.time(drop);
        map.columns.count -= drop;
        map.forecast_from = self.forecast_from.map(|from| from.saturating_sub(drop));
        for row in &mut map.rows {
            row.values.drain(..drop.min(row.values.len()));
        }
        map
    }

    /// The hottest measured area: of all stretches of a row that stay within a fifth of the map's largest
    /// value, the one with the largest sum. None where everything is as hot as everything else.
    pub fn hottest(&self) -> Option<Area> {
        let (low, high) = self.extremes()?;
        let bound = high - 0.2 * (high - low);
        self.areas(|v| v >= bound).max_by(|a, b| {
            let sum = |area: &Area| area.mean * (area.to - area.from) as f64;
            // `max_by` keeps the last of equals; the upper row and the earlier column should win.
            sum(a).total_cmp(&sum(b)).then_with(|| (b.row, b.from).cmp(&(a.row, a.from)))
        })
    }

    /// The coolest measured area: of all stretches that stay within a fifth of the smallest value, the
    /// longest. None where everything is as hot as everything else.
    pub fn coolest(&self) -> Option<Area> {
        let (low, high) = self.extremes()?;
        let bound = low + 0.2 * (high - low);
        self.areas(|v| v <= bound).max_by(|a, b| {
            (a.to - a.from)
                .cmp(&(b.to - b.from))
                .then_with(|| b.mean.total_cmp(&a.mean))
                .then_with(|| (b.row, b.from).cmp(&(a.row, a.from)))
        })
    }

    /// What the map says in words, one line for the hottest area and one for the coolest; or that nothing is
    /// hotter than the rest.
    pub fn summary(&self, zone: super::Zone) -> Vec<String> {
        let lines = [("hottest", self.hottest()), ("coolest", self.coolest())].map(|(word, area)| {
            let area = area?;
            let label = &self.rows[area.row].label;
            let mean = self.unit.format(area.mean);
            let when = self.period(area.from, area.to, zone);
            Some(format!("{word}: {label} at {mean}, {when}"))
        });
        let lines: Vec<String> = lines.into_iter().flatten().collect();
        if lines.is_empty() { vec!["nothing is hotter than the rest".to_owned()] } else { lines }
    }

    /// Columns `from..to` as clock times: `14:08 to 14:20`.
    pub fn period(&self, from: usize, to: usize, zone: super::Zone) -> String {
        let (start, end) = (self.columns.time(from), self.columns.time(to));
        super::axis::period(start, end, zone)
    }

    /// The last measured value of a row.
    pub fn latest(&self, row: usize) -> Option<f64> {
        self.rows[row].values[..self.measured()].iter().rev().find_map(|v| *v)
    }

    /// Smallest and largest measured value; none if they are the same.
    fn extremes(&self) -> Option<(f64, f64)> {
        let measured = self.measured();
        let values = self.rows.iter().flat_map(|r| r.values.iter().take(measured).flatten());
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &v| (l.min(v), h.max(v)));
        (high - low > 1e-3 * self.max).then_some((low, high))
    }

    /// Longest stretches of measured values that `inside` accepts.
    fn areas(&self, inside: impl Fn(f64) -> bool) -> impl Iterator<Item = Area> {
        let measured = self.measured();
        let mut found = Vec::new();
        for (row, Row { values, .. }) in self.rows.iter().enumerate() {
            let mut open: Option<(usize, f64)> = None;
            for column in 0..=measured {
                let value = values.get(column).copied().flatten().filter(|_| column < measured);
                match value.filter(|&v| inside(v)) {
                    Some(v) => open = open.map_or(Some((column, v)), |(from, sum)| Some((from, sum + v))),
                    None => {
                        if let Some((from, sum)) = open.take() {
                            found.push(Area { row, from, to: column, mean: sum / (column - from) as f64 });
                        }
                    }
                }
            }
        }
        found.into_iter()
    }
}

impl Row {
    fn check(&self, columns: usize) -> Result<(), Error> {
        check_label(&self.label)?;
        if self.values.len() != columns {
            let (row, found) = (self.label.clone(), self.values.len());
            return Err(Error::RowLength { row, found, expected: columns });
        }
        for (column, value) in self.values.iter().enumerate() {
            if let Some(value) = value.filter(|v| !(v.is_finite() && *v >= 0.0)) {
                return Err(Error::Value { row: self.label.clone(), column, value });
            }
        }
        Ok(())
    }
}

fn check_label(text: &str) -> Result<(), Error> {
    if text.chars().count() <= MAX_LABEL_CHARS && !text.chars().any(char::is_control) {
        return Ok(());
    }
    let text = text.chars().take(24).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    Err(Error::Label { text })
}

/// A map that tests of every renderer share: nine shards over 24 minutes, six columns of forecast.
#[cfg(test)]
pub(super) fn example() -> Heatmap {
    let names = ["nas-a", "nas-a", "nas-a", "nas-a", "s3-eu", "s3-eu", "s3-eu", "s3-archive", "s3-archive"];
    let shards = [0, 1, 2, 3, 0, 1, 2, 0, 1];
    let mut rng = fastrand::Rng::with_seed(7);
    let rows = names.iter().zip(shards).enumerate().map(|(i, (name, shard))| {
        let mut v = 0.2 + rng.f64() * 0.3;
        let values = (0..54).map(|c| {
            let pull = if i == 2 && c > 28 { 0.13 } else { -0.01 };
            v = (v + (rng.f64() - 0.5) * 0.22 + pull).clamp(0.0, 0.99);
            // Nothing was measured on one shard for a while.
            (i != 6 || !(10..14).contains(&c)).then_some((v * 1000.0_f64).round() / 1000.0)
        });
        Row { label: format!("{name} · {shard}"), values: values.collect() }
    });
    Heatmap {
        title: "heat by cell and shard".to_owned(),
        note: None,
        unit: Unit::Share,
        max: 1.0,
        // 24 November 2026, 14:08 UTC
        columns: Columns {
            start: crate::time::Time::from_s(1_795_529_280.0),
            step: Span::from_secs(30),
            count: 54,
        },
        rows: rows.collect(),
        forecast_from: Some(48),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::Zone;

    fn map(rows: &[&[f64]]) -> Heatmap {
        let rows: Vec<Row> = rows
            .iter()
            .enumerate()
            .map(|(i, values)| Row {
                label: format!("r{i}"),
                values: values.iter().map(|&v| Some(v)).collect(),
            })
            .collect();
        let count = rows[0].values.len();
        let columns = Columns { start: crate::time::Time::ZERO, step: Span::from_secs(60), count };
        let title = "heat".to_owned();
        Heatmap { title, note: None, unit: Unit::Share, max: 1.0, columns, rows, forecast_from: None }
    }

    #[test]
    fn figures_read_as_people_write_them() {
        let table = [
            (Unit::Share, 0.934, ".93"),
            (Unit::Share, 0.0, "0"),
            (Unit::Share, 0.002, ".00"),
            (Unit::Share, 1.0, "1.00"),
            (Unit::Share, 0.996, "1.00"),
            (Unit::Seconds, 0.047, "47 ms"),
            (Unit::Bytes, 1_258_291.0, "1.2 MiB"),
            (Unit::Bytes, 12.0, "12 B"),
            (Unit::Bytes, 1_048_575.0, "1.0 MiB"),
            (Unit::BytesPerS, 41_943_040.0, "40 MiB/s"),
            (Unit::Count, 37.0, "37"),
            (Unit::Count, 3.44, "3.4"),
        ];
        for (unit, value, text) in table {
            assert_eq!(unit.format(value), text, "{unit:?} {value}");
        }
    }

    #[test]
    fn every_limit_has_its_own_message() {
        let good = map(&[&[0.1, 0.2]]);
        good.check().unwrap();
        let check = |change: &dyn Fn(&mut Heatmap), message: &str| {
            let mut bad = good.clone();
            change(&mut bad);
            assert_eq!(bad.check().unwrap_err().to_string(), message);
        };
        check(&|m| m.rows.clear(), "heatmap has 0 rows; accepted: 1 to 4096");
        check(&|m| m.columns.count = 0, "heatmap has 0 columns; accepted: 1 to 2880");
        check(&|m| m.columns.count = 3, "row `r0` has 2 values for 3 columns");
        check(&|m| m.columns.step = Span::ZERO, "heatmap columns are 0 µs wide; accepted: 1 µs and more");
        check(&|m| m.max = 0.0, "heatmap scale ends at 0; accepted: finite and above 0");
        check(&|m| m.forecast_from = Some(3), "forecast begins at column 3 of 2");
        check(
            &|m| m.rows[0].values[1] = Some(f64::NAN),
            "row `r0` has the value NaN in column 1; accepted: 0 and more, finite",
        );
        check(
            &|m| m.title = "a\u{1b}[2Jb".to_owned(),
            "`a\u{fffd}[2Jb…` cannot be a label; accepted: up to 200 characters, no control characters",
        );
        check(
            &|m| {
                m.columns.count = 2_880;
                m.rows = vec![Row { label: "r".into(), values: vec![None; 2_880] }; 400];
            },
            "heatmap has 1152000 values; accepted: up to 1000000",
        );
    }

    #[test]
    fn hottest_is_the_long_plateau_not_the_lone_peak() {
        let map = map(&[&[0.1, 0.1, 1.0, 0.1, 0.1], &[0.1, 0.9, 0.9, 0.9, 0.3], &[0.0, 0.0, 0.0, 0.2, 0.5]]);
        let hot = map.hottest().unwrap();
        assert_eq!((hot.row, hot.from, hot.to), (1, 1, 4));
        let cold = map.coolest().unwrap();
        assert_eq!((cold.row, cold.from, cold.to), (2, 0, 4));
        assert_eq!(
            map.summary(Zone::UTC),
            ["hottest: r1 at .90, 00:01 to 00:04", "coolest: r2 at .05, 00:00 to 00:04"]
        );
    }

    #[test]
    fn an_even_map_has_no_hottest_area() {
        let map = map(&[&[0.4, 0.4], &[0.4, 0.4]]);
        assert_eq!((map.hottest(), map.coolest()), (None, None));
        assert_eq!(map.summary(Zone::UTC), ["nothing is hotter than the rest"]);
    }

    #[test]
    fn the_forecast_is_never_called_hottest() {
        let mut map = map(&[&[0.1, 0.3, 1.0]]);
        map.forecast_from = Some(2);
        let hot = map.hottest().unwrap();
        assert_eq!((hot.from, hot.to), (1, 2));
        assert_eq!(map.latest(0), Some(0.3));
    }

    #[test]
    fn narrow_maps_keep_the_newest_columns() {
        let map = example().newest(10);
        map.check().unwrap();
        assert_eq!((map.columns.count, map.forecast_from), (10, Some(4)));
        assert_eq!(map.columns.start, example().columns.time(44));
        assert_eq!(map.rows[3].values, example().rows[3].values[44..]);
        assert_eq!(example().newest(3).forecast_from, Some(0));
    }

    #[test]
    fn json_gives_the_same_map_back() {
        let json = serde_json::to_string(&example()).unwrap();
        assert_eq!(serde_json::from_str::<Heatmap>(&json).unwrap(), example());
        assert!(json.contains(r#""unit":"share""#) && json.contains("null"));
    }
}
