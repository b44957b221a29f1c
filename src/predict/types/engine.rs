//! The engine: names, histories and models together. This is the face that others see.

mod answers;
mod lesson;
mod persist;

pub use self::answers::{Distribution, EntityRef, Event, Joint, Subject, Voice};

use super::chronicle::Chronicle;
use super::entities::Entities;
use super::in_play::Latest;
use super::model::{Extra, Model};
use super::names::Names;
use super::worker_model::{self, WorkerModel, World};
use super::{Error, Settings, Symbol, TYPES_MAX, WORKERS_MAX, entity_model};
use crate::predict::calibration::Calibration;

/// Models of workers and of the host.
#[derive(Clone, Debug)]
struct Crew {
    pair: Model,
    workers: WorkerModel,
    host: WorkerModel,
}

/// What the models have in hand; forecasts are reused until something is learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum InHand {
    #[default]
    Nothing,
    /// In the model of entities: the entity's id.
    Entity(u64),
    /// In the pair model: the entity's id, the worker.
    Pair(u64, Symbol),
    /// In the model of workers.
    Worker(Symbol),
    /// In the model of the host.
    Host,
}

/// The engine.
///
/// Costs: a forecast for an entity about 2 µs, for a worker or the host about 15 µs; a lesson as much as
/// all four forecasts together. None of them allocates, except that a lesson does for names never heard.
#[derive(Clone, Debug)]
pub struct Engine {
    settings: Settings,
    types: Names,
    workers: Names,
    entities: Entities,
    latest: Latest,
    chronicle: Chronicle,
    by_entity: Model,
    crew: Option<Box<Crew>>,
    calibration: Calibration,
    /// Tasks learned; also the number of the last one.
    events: u64,
    in_hand: InHand,
}

impl Engine {
    /// An engine that has learned nothing, for types that may turn up at any time.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn new(settings: &Settings) -> Result<Engine, Error> {
        Engine::with_alphabet(settings, &[])
    }

    /// An engine that is told the names of all types there will ever be; none: anything may come.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub fn with_alphabet(settings: &Settings, alphabet: &[String]) -> Result<Engine, Error> {
        settings.check()?;
        let mut types = Names::new(TYPES_MAX);
        for name in alphabet {
            types.number(name);
        }
        let closed = (!alphabet.is_empty()).then_some(types.len());
        let crew = || {
            Box::new(Crew {
                pair: worker_model::pair_model(settings, closed),
                workers: WorkerModel::new(settings, closed, false),
                host: WorkerModel::new(settings, closed, true),
            })
        };
        Ok(Engine {
            types,
            workers: Names::new(WORKERS_MAX),
            entities: Entities::new(settings.entities_max as usize),
            latest: Latest::default(),
            chronicle: Chronicle::new(settings.echo_bits()),
            by_entity: entity_model::new(settings, closed),
            crew: settings.workers.then(crew),
            calibration: Calibration::of_last(settings.calibration_window.into()),
            settings: settings.clone(),
            events: 0,
            in_hand: InHand::Nothing,
        })
    }

    /// Memory, bytes: everything that is kept or reserved, names and histories included.
    pub fn bytes(&self) -> usize {
        let crew = |c: &Crew| c.pair.bytes() + c.workers.bytes() + c.host.bytes();
        self.by_entity.bytes()
            + self.chronicle.bytes()
            + self.types.bytes()
            + self.workers.bytes()
            + self.entities.bytes()
            + self.crew.as_deref().map_or(0, crew)
            + size_of::<Engine>()
    }

    /// Tasks learned so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    // ---- forecasts ------------------------------------------------------------------------------------

    /// What type comes next for `subject`. With [`Settings::workers`] off there is nothing to say of workers
    /// and of the host, and `out` is empty.
    pub fn predict(&mut self, subject: Subject<'_>, out: &mut Distribution) {
        match self.prepare(subject) {
            Some(model) => out.take(model),
            None => *out = Distribution::default(),
        }
    }

    /// What type comes next for an entity.
    pub fn for_entity(&mut self, entity: Option<&str>, out: &mut Distribution) {
        self.predict(Subject::Entity(entity), out);
    }

    /// What type a worker does next.
    pub fn for_worker(&mut self, worker: &str, out: &mut Distribution) {
        self.predict(Subject::Worker(worker), out);
    }

    /// What type comes next on the host.
    pub fn for_host(&mut self, out: &mut Distribution) {
        self.predict(Subject::Host, out);
    }

    /// Which entity will need which type next, likeliest first, at most `max`, for a worker or the host.
    /// The probabilities are of the very next task; what is missing to one is about entities not in play.
    /// Nothing for an entity as a subject, and with [`Settings::workers`] off.
    pub fn joint(&mut self, subject: Subject<'_>, max: usize, out: &mut Vec<Joint>) {
        out.clear();
        if let Some(model) = self.prepare_stream(subject) {
            model.joint(max, out);
        }
    }

    /// Probability of one type for `subject`. A type never seen gets, in an open alphabet, the probability
    /// that any such comes.
    pub fn p(&mut self, subject: Subject<'_>, task_type: &str) -> f32 {
        let symbol = self.types.find(task_type);
        let Some(model) = self.prepare(subject) else { return 0.0 };
        symbol.map_or_else(|| model.rests()[1], |s| model.p(s))
    }

    /// Probability of entity and type together as the next task of `subject`, a worker or the host. For an
    /// entity that is not in play, the probability of this type with any such.
    pub fn joint_p(&mut self, subject: Subject<'_>, entity: Option<&str>, task_type: &str) -> f32 {
        let p_type = self.p(subject, task_type);
        let symbol = self.types.find(task_type);
        let handle = self.entities.find(Entities::id(entity.unwrap_or("")));
        match (self.prepare_stream(subject), symbol) {
            (Some(model), Some(s)) => model.joint_p(handle, s, p_type),
            _ => 0.0,
        }
    }

    /// Which contexts spoke loudest about the likeliest type for `subject`; loudest first.
    pub fn explain(&mut self, subject: Subject<'_>, out: &mut Vec<Voice>) {
        out.clear();
        let mut voices = Vec::new();
        if let Some(model) = self.prepare(subject) {
            model.loudest(&mut voices);
        }
        let name = |s: Option<Symbol>| s.map_or_else(String::new, |s| self.types.name(s).to_owned());
        out.extend(voices.into_iter().map(|v| Voice {
            name: v.name,
            says: v.says,
            favours: name(v.favours),
            seen: v.seen,
        }));
    }

    /// How well the forecasts for entities came true lately: the probability of the likeliest type, stated
    /// before each task, against whether it came.
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// Makes the forecast, unless it is in hand; the model that has it.
    fn prepare(&mut self, subject: Subject<'_>) -> Option<&Model> {
        match subject {
            Subject::Entity(entity) => {
                self.prepare_entity(Entities::id(entity.unwrap_or("")));
                Some(&self.by_entity)
            }
            Subject::EntityAt(entity, worker) => {
                let id = Entities::id(entity.unwrap_or(""));
                if self.crew.is_some() {
                    return self.prepare_pair(id, self.workers.peek(worker));
                }
                self.prepare_entity(id);
                Some(&self.by_entity)
            }
            Subject::Worker(_) | Subject::Host => self.prepare_stream(subject).map(WorkerModel::forecast),
        }
    }

    fn prepare_entity(&mut self, id: u64) {
        if self.in_hand == InHand::Entity(id) {
            return;
        }
        match self.entities.find(id).and_then(|h| self.entities.get(h)) {
            Some(e) => self.by_entity.predict(&e.history, &Extra::NONE),
            None => self.by_entity.predict(&self.chronicle.begin(id), &Extra::NONE),
        }
        self.in_hand = InHand::Entity(id);
    }

    fn prepare_pair(&mut self, id: u64, w: Symbol) -> Option<&Model> {
        let crew = self.crew.as_deref_mut()?;
        if self.in_hand != InHand::Pair(id, w) {
            let handle = self.entities.find(id);
            let begun;
            let history = match handle.and_then(|h| self.entities.get(h)) {
                Some(e) => &e.history,
                None => {
                    begun = self.chronicle.begin(id);
                    &begun
                }
            };
            crew.workers.grow_workers(w as usize + 1);
            let extra = crew.workers.asking(w as usize, history, handle);
            crew.pair.predict(history, &extra);
            self.in_hand = InHand::Pair(id, w);
        }
        Some(&crew.pair)
    }

    fn prepare_stream(&mut self, subject: Subject<'_>) -> Option<&WorkerModel> {
        let worker = match subject {
            // A worker never heard of is forecast under the number that it would be given.
            Subject::Worker(name) => Some(self.workers.peek(name)),
            Subject::Host => None,
            Subject::Entity(_) | Subject::EntityAt(..) => return None,
        };
        let crew = self.crew.as_deref_mut()?;
        let world = World { entities: &self.entities, latest: &self.latest, chronicle: &self.chronicle };
        match worker {
            Some(w) => {
                if self.in_hand != InHand::Worker(w) {
                    crew.workers.grow_workers(w as usize + 1);
                    crew.workers.predict(w as usize, world, &mut crew.pair);
                    self.in_hand = InHand::Worker(w);
                }
                Some(&crew.workers)
            }
            None => {
                if self.in_hand != InHand::Host {
                    crew.host.grow_workers(1);
                    crew.host.predict(0, world, &mut self.by_entity);
                    self.in_hand = InHand::Host;
                }
                Some(&crew.host)
            }
        }
    }

    // ---- names ------------------------------------------------------------------------------------------

    /// The name of a type.
    ///
    /// # Panics
    /// When the number is not from this engine.
    pub fn type_name(&self, symbol: Symbol) -> &str {
        self.types.name(symbol)
    }
    /// The number of a type, if it was heard of.
    pub fn type_number(&self, name: &str) -> Option<Symbol> {
        self.types.find(name)
    }
    /// How often a type was learned.
    pub fn uses(&self, task_type: &str) -> u32 {
        self.types.find(task_type).map_or(0, |s| self.by_entity.uses(s))
    }
    /// The name of an entity, unless it was forgotten; empty for tasks about nothing.
    pub fn entity_name(&self, entity: EntityRef) -> Option<&str> {
        self.entities.get(entity.0).map(|e| &*e.name)
    }
    /// The entities with recent tasks, latest first; tasks about nothing are left out.
    pub fn recent_entities(&self) -> impl Iterator<Item = &str> {
        self.entities.latest().map(|e| &*e.name).filter(|n| !n.is_empty())
    }
    /// The workers heard of, in order of appearance.
    pub fn known_workers(&self) -> impl Iterator<Item = &str> {
        (0..self.workers.len()).map(|w| self.workers.name(w as Symbol))
    }

    #[cfg(test)]
    pub(super) fn assert_invariants(&self) {
        self.by_entity.assert_invariants();
        self.entities.assert_invariants();
        if let Some(crew) = &self.crew {
            crew.pair.assert_invariants();
            crew.workers.assert_invariants();
            crew.host.assert_invariants();
        }
    }
}
