//! `[cell.NAME]`: a failure domain (a zone, a rack, a filer) and what it can carry.

use super::kind::{BytesIn, NumberIn, RateIn};
use super::reader::Section;
use super::staging::RATES;

/// A cell. Its heat is what children and transfers use on behalf of its objects, over these capacities.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Its name.
    pub name: String,
    /// Processors, more than 0, up to 4,096. `None`: the host's.
    pub cpus: Option<f64>,
    /// Memory, 1 MiB to 1 PiB. `None`: the host's.
    pub memory_bytes: Option<u64>,
    /// Bytes read and written per second, 1 KiB to 1 TiB. `None`: the host's.
    pub io_bytes_per_s: Option<u64>,
    /// Bytes per second over its network, 1 KiB to 1 TiB. `None`: the host's.
    pub net_bytes_per_s: Option<u64>,
}

impl Cell {
    pub(super) fn implicit() -> Cell {
        Cell {
            name: "local".into(),
            cpus: None,
            memory_bytes: None,
            io_bytes_per_s: None,
            net_bytes_per_s: None,
        }
    }
}

/// A number of processors.
pub(super) fn cpus() -> NumberIn {
    NumberIn { low: 0.0, high: 4_096.0, above: true, unit: "processors" }
}

pub(super) fn read(name: String, mut s: Section<'_>) -> Cell {
    let rate = || RateIn(RATES.0, RATES.1);
    let cell = Cell {
        name,
        cpus: s.read("cpus", cpus()),
        memory_bytes: s.read("memory", BytesIn(1 << 20, 1 << 50)),
        io_bytes_per_s: s.read("io_per_s", rate()),
        net_bytes_per_s: s.read("net_per_s", rate()),
    };
    s.finish();
    cell
}
