//! The engine as bytes, and back.

use super::Engine;
use crate::predict::calibration::{BINS, Bin, Calibration};
use crate::predict::types::in_play::Latest;
use crate::predict::types::snapshot::{Reader, Writer};
use crate::predict::types::{Error, Settings};

impl Engine {
    /// Everything that was learned, as bytes that stand on their own: versioned, checksummed, with all names.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut to = Writer::new();
        to.u8(self.settings.table_bits);
        to.u8(self.settings.regression_bits);
        to.u8(self.settings.forget_above);
        to.u32(self.settings.entities_max);
        to.u8(u8::from(self.settings.workers));
        self.types.save(&mut to);
        self.workers.save(&mut to);
        self.entities.save(&mut to);
        self.latest.save(&mut to);
        self.chronicle.save(&mut to);
        self.by_entity.save(&mut to);
        if let Some(crew) = &self.crew {
            crew.pair.save(&mut to);
            crew.workers.save(&mut to);
            crew.host.save(&mut to);
        }
        for b in self.calibration.bins() {
            [b.n, b.stated, b.hits].into_iter().for_each(|x| to.f64(x));
        }
        to.u64(self.events);
        to.finish()
    }

    /// The engine that [`Engine::to_bytes`] was called on: its forecasts and lessons are the same from here
    /// on, bit for bit. Contexts may be switched off or on between.
    ///
    /// # Errors
    /// When the bytes are no snapshot, of another version, damaged, or made with other settings of memory.
    pub fn from_bytes(settings: &Settings, bytes: &[u8]) -> Result<Engine, Error> {
        let mut engine = Engine::new(settings)?;
        let mut from = Reader::open(bytes)?;
        same("table_bits", from.u8()?, settings.table_bits)?;
        same("regression_bits", from.u8()?, settings.regression_bits)?;
        same("forget_above", from.u8()?, settings.forget_above)?;
        same("entities_max", from.u32()?, settings.entities_max)?;
        same("workers", from.u8()? != 0, settings.workers)?;
        engine.types.load(&mut from)?;
        engine.workers.load(&mut from)?;
        engine.entities.load(&mut from)?;
        engine.latest = Latest::load(&mut from)?;
        engine.chronicle.load(&mut from)?;
        let (types, workers) = (engine.types.len(), engine.workers.len());
        engine.by_entity.load(&mut from, types)?;
        if let Some(crew) = &mut engine.crew {
            crew.pair.load(&mut from, types)?;
            crew.workers.load(&mut from, types, workers)?;
            crew.host.load(&mut from, types, 1)?;
        }
        let mut bins = [Bin::default(); BINS];
        for b in &mut bins {
            *b = Bin { n: from.f64()?, stated: from.f64()?, hits: from.f64()? };
        }
        engine.calibration = Calibration::from_bins(bins, Some(settings.calibration_window.into()))
            .ok_or(Error::Malformed { what: "the reliability table" })?;
        engine.events = from.u64()?;
        from.close()?;
        Ok(engine)
    }
}

fn same<T: PartialEq + std::fmt::Display>(key: &'static str, found: T, expected: T) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    Err(Error::OtherSettings { key, found: found.to_string(), expected: expected.to_string() })
}
