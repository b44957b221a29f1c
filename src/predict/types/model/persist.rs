//! A model in a snapshot.

use super::Model;
use crate::predict::types::Error;
use crate::predict::types::root::Root;
use crate::predict::types::snapshot::{Reader, Writer};

impl Model {
    pub fn save(&self, to: &mut Writer) {
        self.root.save(to);
        self.table.save(to);
        self.fading.save(to);
        self.standing.save(to);
        self.sparse.save(to);
        self.residual.save(to);
        self.pools.save(to);
        self.by_last_type.save(to);
        self.by_position.save(to);
    }

    /// Into a model that was made with the same settings.
    pub fn load(&mut self, from: &mut Reader<'_>, types: usize) -> Result<(), Error> {
        self.root = Root::load(from)?;
        self.table.load(from, types)?;
        self.fading.load(from, types)?;
        self.standing.load(from)?;
        self.sparse.load(from)?;
        self.residual.load(from)?;
        self.pools.load(from)?;
        self.by_last_type.load(from)?;
        self.by_position.load(from)?;
        self.grow(types);
        Ok(())
    }
}
