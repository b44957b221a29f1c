//! What a user may set. The defaults need no touching.

use super::Error;
use super::context::CONTEXTS;
use serde::{Deserialize, Serialize};

/// Settings of the engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Nodes of 36 bytes of each count table, as a power of two (10..=20). 15 is .001 bit worse than 16, 14
    /// .004, 13 .009.
    pub table_bits: u8,
    /// Lines of 64 bytes of each sparse regression, as a power of two (7..=18).
    pub regression_bits: u8,
    /// Counts after a context are halved when their sum exceeds this (16..=254): smaller forgets faster.
    pub forget_above: u8,
    /// Entities whose history is kept (16..=1000000), about 300 bytes each; beyond, the longest idle is
    /// forgotten and starts anew when it returns.
    pub entities_max: u32,
    /// Contexts that do not speak, by the names that an explanation shows. Empty: all speak.
    pub contexts_off: Vec<String>,
    /// About so many forecasts make up the reliability table (1..=1000000): older ones fade.
    pub calibration_window: u32,
    /// Whether forecasts for workers and for the host are kept up, beside those for entities. Off saves most
    /// of the memory and of the time.
    pub workers: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            table_bits: 15,
            regression_bits: 12,
            forget_above: 254,
            entities_max: 16_384,
            contexts_off: Vec::new(),
            calibration_window: 500,
            workers: true,
        }
    }
}

/// Bytes of one model for each node of its count table: the node with its tag, an eighth of a line each of fading
/// contexts and regression, of 64 bytes, half an echo of ten, and little besides.
const MODEL_BYTES_PER_NODE: u64 = 36 + 8 + 8 + 5 + 1;
/// Bytes of one entity: history, name, place in the index.
const ENTITY_BYTES: u64 = 300;
/// Bytes of what has no knob: echoes, maps, pools, weights of who takes what.
const FIXED_BYTES: u64 = 2 << 20;

impl Settings {
    /// The defaults, with tables as large as fit into so many bytes: a quarter for the histories of entities, the
    /// rest for the four models.
    pub fn within(memory_bytes: u64) -> Settings {
        let entities = (memory_bytes / 4 / ENTITY_BYTES).clamp(16, 1_000_000);
        let models = (memory_bytes * 3 / 4).saturating_sub(FIXED_BYTES);
        // Three models, and that of the host with a quarter of the nodes.
        let fits = |bits: &u8| (MODEL_BYTES_PER_NODE * 13 / 4) << bits <= models;
        let table_bits = (10..=20).rev().find(fits).unwrap_or(10);
        Settings {
            table_bits,
            regression_bits: table_bits - 3,
            entities_max: entities as u32,
            ..Settings::default()
        }
    }

    /// Whether every value lies in its range and every context exists.
    ///
    /// # Errors
    /// [`Error::Setting`] names the first key that is wrong, its value and what is accepted.
    pub fn check(&self) -> Result<(), Error> {
        let range = |key: &'static str, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(Error::Setting { key, value: value.to_string(), accepted: format!("{min} to {max}") })
            }
        };
        range("table_bits", self.table_bits.into(), 10, 20)?;
        range("regression_bits", self.regression_bits.into(), 7, 18)?;
        range("forget_above", self.forget_above.into(), 16, 254)?;
        range("calibration_window", self.calibration_window.into(), 1, 1_000_000)?;
        range("entities_max", self.entities_max.into(), 16, 1_000_000)?;
        match self.contexts_off.iter().find(|&name| number(name).is_none()) {
            None => Ok(()),
            Some(name) => Err(Error::Setting {
                key: "contexts_off",
                value: name.clone(),
                accepted: CONTEXTS[1..].iter().map(|c| c.name).collect::<Vec<_>>().join(" | "),
            }),
        }
    }

    /// States whose echoes are kept, as a power of two.
    pub(super) fn echo_bits(&self) -> u8 {
        self.table_bits - 1
    }

    /// A bit for each context that may speak.
    pub(super) fn contexts_on(&self) -> u32 {
        self.contexts_off.iter().filter_map(|name| number(name)).fold(u32::MAX, |on, k| on & !(1 << k))
    }
}

/// A context's number; the root has none.
fn number(name: &str) -> Option<usize> {
    (1..CONTEXTS.len()).find(|&k| CONTEXTS[k].name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predict::types::Engine;

    #[test]
    fn refusals_name_key_value_and_what_is_accepted() {
        assert!(Settings::default().check().is_ok());
        let wrong = Settings { table_bits: 30, ..Settings::default() };
        assert_eq!(wrong.check().unwrap_err().to_string(), "table_bits is 30, accepted: 10 to 20");
        let wrong = Settings { contexts_off: vec!["moon".into()], ..Settings::default() };
        assert!(
            wrong.check().unwrap_err().to_string().starts_with("contexts_off is moon, accepted: last 1 | ")
        );
    }

    #[test]
    fn tables_grow_with_the_memory_and_stay_within_it() {
        let mut bits = 0;
        for mib in [1u64, 4, 6, 8, 12, 24, 64, 1024] {
            let s = Settings::within(mib << 20);
            assert!(s.check().is_ok() && s.table_bits >= bits, "{mib} MiB: {s:?}");
            bits = s.table_bits;
            let engine = Engine::new(&s).unwrap();
            let full = engine.bytes() as u64 + u64::from(s.entities_max) * ENTITY_BYTES;
            assert!(mib < 6 || full <= mib << 20, "{mib} MiB: {full} bytes");
        }
        assert_eq!(Settings::within(12 << 20).table_bits, Settings::default().table_bits);
    }

    #[test]
    fn contexts_are_switched_off_by_name() {
        let s =
            Settings { contexts_off: vec!["entity".into(), "last 1, hour".into()], ..Settings::default() };
        assert!(s.check().is_ok());
        assert_eq!(!s.contexts_on(), 1 << 10 | 1 << 19);
    }
}
