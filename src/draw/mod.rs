//! Heatmaps and small bars: one model, several renderers.
//!
//! [`Heatmap`] is the only thing that knows what is shown: rows against time, a unit, a scale, and where the
//! forecast begins. [`text()`], [`svg()`] and [`png()`] only differ in ink; the browser draws the same model,
//! sent as JSON. All of them use the same ten levels ([`level`]), so a digit in a log, a block in a terminal
//! and a cell in a picture say the same.
//!
//! Everything here is pure: no clock, no terminal, no file. The time zone, the width and whether colours are
//! welcome are passed in.

mod axis;
mod bars;
mod model;
mod png;
mod ramp;
mod svg;
mod text;

pub use axis::{Columns, Zone};
pub use bars::{bar, bars};
pub use model::{Area, Error, Heatmap, Row, Unit};
pub use model::{MAX_COLUMNS, MAX_LABEL_CHARS, MAX_ROWS, MAX_VALUES};
pub use png::{MAX_PIXELS, MAX_SCALE, png};
pub use ramp::{LEVELS, Rgb, Theme, level};
pub use svg::{SvgStyle, svg};
pub use text::{Colour, TextStyle, text};
