//! `[staging]`: how much may be spent on data that no task has asked for yet.

use super::kind::{IntegerIn, NumberIn, OneOf, RateIn};
use super::reader::Section;

/// Lowest and highest rate that can be configured, bytes per second.
pub(super) const RATES: (u64, u64) = (1 << 10, 1 << 40);

/// The staging of data ahead of demand.
#[derive(Clone, Debug, PartialEq)]
pub struct Staging {
    /// Whether data is staged. Default [`Mode::On`].
    pub mode: Mode,
    /// Most staging transfers at once, 1 to 256. Demand is not counted. Default 6.
    pub connections: u16,
    /// Most bytes per second of all staging transfers, 1 KiB to 1 TiB. Default no limit but the sources' own.
    pub bytes_per_s: Option<u64>,
    /// At and above this heat of a cell or worker nothing is staged from or to it, 0 to 1. Default 0.9.
    pub heat_max: f64,
    /// Nothing that is less probable is staged, 0 to 1. Default 0.1.
    pub min_p: f64,
    /// Share of objects and hours that are predicted and, as a control, not staged, 0 to 0.5. Default 0.02;
    /// 0 has no control group, and then no saving can be proved.
    pub control_share: f64,
    /// Seed of the draw of the control group. Default 1.
    pub seed: u64,
}

/// Whether data is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Yes.
    On,
    /// Decisions are made and recorded, and not one byte is moved.
    Observe,
    /// No.
    Off,
}

const MODES: &[(&str, Mode)] = &[("on", Mode::On), ("observe", Mode::Observe), ("off", Mode::Off)];

pub(super) fn read(mut s: Section<'_>) -> Staging {
    let staging = Staging {
        mode: s.read("mode", OneOf(MODES)).unwrap_or(Mode::On),
        connections: s.read("connections", IntegerIn(1u16, 256, "transfers")).unwrap_or(6),
        bytes_per_s: s.read("bandwidth", RateIn(RATES.0, RATES.1)),
        heat_max: s.read("heat_max", NumberIn::up_to(1.0)).unwrap_or(0.9),
        min_p: s.read("min_p", NumberIn::up_to(1.0)).unwrap_or(0.1),
        control_share: s.read("control_share", NumberIn::up_to(0.5)).unwrap_or(0.02),
        seed: s.read("seed", IntegerIn(0u64, i64::MAX as u64, "")).unwrap_or(1),
    };
    s.finish();
    staging
}
