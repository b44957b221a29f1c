//! The lesson of one task: for every model, and for the histories.

use super::{Engine, Event, InHand};
use crate::predict::types::entities::{Entities, Handle};
use crate::predict::types::worker_model::World;
use crate::predict::types::{NOBODY, Symbol};

impl Engine {
    /// Learns one task: every model that would have been asked about it first says what it expected.
    pub fn learn(&mut self, event: &Event<'_>) {
        let symbol = self.types.number(event.task_type);
        self.grow();
        let worker = event.worker.map(|w| self.workers.number(w));
        let name = event.entity.unwrap_or("");
        let id = Entities::id(name);
        let known = self.entities.find(id);
        if self.crew.is_some() {
            self.learn_stream(symbol, worker, known);
        }
        self.learn_entity(symbol, id);
        self.learn_pair(symbol, worker, id, known);
        self.move_on(event, symbol, worker, id, known);
        self.in_hand = InHand::Nothing;
    }

    /// Makes room for every type heard of.
    fn grow(&mut self) {
        let n = self.types.len();
        self.by_entity.grow(n);
        if let Some(crew) = self.crew.as_deref_mut() {
            crew.pair.grow(n);
            crew.workers.grow(n);
            crew.host.grow(n);
        }
    }

    fn learn_entity(&mut self, symbol: Symbol, id: u64) {
        self.prepare_entity(id);
        if let Some((expected, p)) = self.by_entity.best() {
            self.calibration.observe(p.into(), expected == symbol);
        }
        self.by_entity.learn(symbol);
    }

    /// The host's model and the worker's.
    fn learn_stream(&mut self, symbol: Symbol, worker: Option<Symbol>, known: Option<Handle>) {
        if let Some(crew) = self.crew.as_deref_mut() {
            crew.workers.grow_workers(self.workers.len());
            crew.host.grow_workers(1);
        }
        let world = World { entities: &self.entities, latest: &self.latest, chronicle: &self.chronicle };
        let Some(crew) = self.crew.as_deref_mut() else { return };
        if let Some(w) = worker {
            if self.in_hand != InHand::Worker(w) {
                crew.workers.predict(w as usize, world, &mut crew.pair);
            }
            crew.workers.learn(w as usize, symbol, known);
        }
        if self.in_hand != InHand::Host {
            crew.host.predict(0, world, &mut self.by_entity);
        }
        crew.host.learn(0, symbol, known);
        self.in_hand = InHand::Nothing;
    }

    fn learn_pair(&mut self, symbol: Symbol, worker: Option<Symbol>, id: u64, known: Option<Handle>) {
        let (Some(crew), Some(w)) = (self.crew.as_deref_mut(), worker) else { return };
        let begun;
        let history = match known.and_then(|h| self.entities.get(h)) {
            Some(e) => &e.history,
            None => {
                begun = self.chronicle.begin(id);
                &begun
            }
        };
        let extra = crew.workers.asking(w as usize, history, known);
        crew.pair.predict(history, &extra);
        crew.pair.learn(symbol);
    }

    /// Histories go on.
    fn move_on(
        &mut self,
        event: &Event<'_>,
        symbol: Symbol,
        worker: Option<Symbol>,
        id: u64,
        known: Option<Handle>,
    ) {
        self.events += 1;
        let handle = match known {
            Some(h) => h,
            None => {
                let begun = self.chronicle.begin(id);
                let (handle, forgotten) = self.entities.add(event.entity.unwrap_or(""), begun);
                if let (Some(old), Some(crew)) = (forgotten, self.crew.as_deref_mut()) {
                    crew.workers.withdraw(&old);
                }
                handle
            }
        };
        self.entities.touch(handle);
        self.latest.push(handle);
        let entity = self.entities.get_mut(handle).expect("it was found or added just now");
        if let Some(crew) = self.crew.as_deref_mut() {
            crew.host.take(0, handle, entity, known.is_some());
            match worker {
                Some(w) => crew.workers.take(w as usize, handle, entity, known.is_some()),
                None => crew.workers.withdraw(entity),
            }
        }
        let partner = worker.map_or(NOBODY, u64::from);
        self.chronicle.advance(&mut entity.history, symbol, partner, event.time);
        entity.sequence = self.events;
        if let Some(crew) = self.crew.as_deref_mut() {
            crew.host.advance(0, symbol, id, event.time);
            if let Some(w) = worker {
                crew.workers.hand_on(w as usize, handle, entity);
                crew.workers.advance(w as usize, symbol, id, event.time);
            }
        }
    }
}
