//! The model of workers in a snapshot.

use super::{Worker, WorkerModel};
use crate::predict::types::Error;
use crate::predict::types::snapshot::{Reader, Writer};

impl WorkerModel {
    pub fn save(&self, to: &mut Writer) {
        self.own.save(to);
        self.takes.save(to);
        self.lost.save(to);
        self.handover.save(to);
        self.chronicle.save(to);
        // One that was only asked about has nothing to be remembered, and no number yet.
        let known = self.workers.split(|w| w.history.len == 0).next().unwrap_or_default();
        to.len(known.len());
        known.iter().for_each(|w| w.save(to));
    }

    pub fn load(&mut self, from: &mut Reader<'_>, types: usize, workers: usize) -> Result<(), Error> {
        self.own.load(from, types)?;
        self.takes.load(from)?;
        self.lost.load(from, types)?;
        self.handover.load(from, workers)?;
        self.chronicle.load(from)?;
        let n = from.len(workers, "the number of workers")?;
        self.workers.clear();
        for _ in 0..n {
            self.workers.push(Worker::load(from)?);
        }
        self.grow(types);
        self.grow_workers(workers);
        Ok(())
    }
}
