//! The lesson of one task, and how workers and entities go on from it.

use super::{Taking, WorkerModel, lost_states};
use crate::predict::types::Symbol;
use crate::predict::types::entities::{Entity, Handle};
use crate::predict::types::history::History;
use crate::time::Time;

impl WorkerModel {
    /// Worker `w` did a task of this type about that entity (nothing: one not in the store): a lesson for all
    /// that spoke in the forecast in hand, which must be about `w`.
    pub fn learn(&mut self, w: usize, symbol: Symbol, entity: Option<Handle>) {
        self.own.learn(symbol);
        let place = self.place_of(entity);
        self.takes.learn(place);
        if place == self.in_play.list().len() + 1 {
            for state in lost_states(w as u64, &self.workers[w]) {
                let at = self.lost.find(state);
                self.lost.learn(at, symbol);
            }
        }
    }

    /// An entity's place among the choices in hand.
    fn place_of(&self, entity: Option<Handle>) -> usize {
        let n = self.in_play.list().len();
        entity.map_or(n, |h| self.in_play.position(h).unwrap_or(n + 1))
    }

    /// Before the entity's history goes on: worker `w` has taken it, out of the inboxes where it waited.
    /// `was_known`: it was in the store before this task.
    pub fn take(&mut self, w: usize, handle: Handle, entity: &Entity, was_known: bool) {
        if was_known && !self.host {
            self.handover.learn(&entity.history, w as u16);
        }
        if !self.host {
            self.withdraw(entity);
        }
        let taking = self.taking(w, handle, &entity.history, was_known);
        let mine = self.mine(w, &entity.history);
        let worker = &mut self.workers[w];
        worker.taking_before = std::mem::replace(&mut worker.taking, taking);
        worker.same_taking = if worker.taking == worker.taking_before { worker.same_taking + 1 } else { 0 };
        worker.run = if worker.latest.get(0) == Some(handle) { worker.run + 1 } else { 1 };
        if was_known && !mine {
            worker.inbox.took(entity.sequence);
        }
        worker.latest.push(handle);
    }

    /// An entity waits in no inbox any longer.
    pub fn withdraw(&mut self, entity: &Entity) {
        for &o in entity.expected_by.list() {
            if let Some(other) = self.workers.get_mut(o as usize) {
                other.inbox.remove(entity.sequence);
            }
        }
    }

    fn taking(&self, w: usize, handle: Handle, h: &History, was_known: bool) -> Taking {
        let mine = self.mine(w, h);
        let same = self.workers[w].latest.get(0) == Some(handle);
        match () {
            () if !was_known => Taking::New,
            () if same && mine => Taking::Same,
            () if same => Taking::Back,
            () if mine => Taking::Own,
            () if self.in_play.position(handle).is_none() => Taking::Lost,
            () => Taking::Other,
        }
    }

    /// After the entity's history went on: it waits for those who usually take it from here.
    pub fn hand_on(&mut self, w: usize, handle: Handle, entity: &mut Entity) {
        entity.expected_by = self.handover.expect(&entity.history);
        for &o in entity.expected_by.list() {
            if o as usize != w && (o as usize) < self.workers.len() {
                self.workers[o as usize].inbox.put(entity.sequence, handle);
            }
        }
    }

    /// The worker's own history goes on; `id` is the entity's.
    pub fn advance(&mut self, w: usize, symbol: Symbol, id: u64, at: Time) {
        self.chronicle.advance(&mut self.workers[w].history, symbol, id, at);
    }
}
