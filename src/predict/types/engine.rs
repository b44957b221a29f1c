//! The engine: names, histories and models together. This is the face that others see.

use super::chronicle::Chronicle;
use super::entities::{Entities, Handle};
use super::in_play::Latest;
use super::model::{Extra, Model};
use super::names::Names;
use super::snapshot::{Reader, Writer};
use super::worker_model::{self, WorkerModel, World};
use super::{Error, NOBODY, Settings, Symbol, TYPES_MAX, WORKERS_MAX, entity_model};
use crate::predict::calibration::{BINS, Bin, Calibration};
use crate::time::Time;

/// One task that ended.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// When.
    pub time: Time,
    /// The name of its type.
    pub task_type: &'a str,
    /// What it was about. Tasks about nothing share one history.
    pub entity: Option<&'a str>,
    /// Who did it.
    pub worker: Option<&'a str>,
}

/// A probability for each type; sums to one with the two rests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Types with a probability of their own, at most 30, by falling probability.
    pub types: Vec<(Symbol, f32)>,
    /// All other types seen before.
    pub rest: f32,
    /// All types never seen before.
    pub new: f32,
}

impl Distribution {
    fn take(&mut self, model: &Model) {
        self.types.clear();
        self.types.extend(model.named());
        self.types.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        [self.rest, self.new] = model.rests();
    }
}

/// Whose next task a forecast is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// An entity's; nothing for tasks about nothing.
    Entity(Option<&'a str>),
    /// An entity's, when it is known that this worker will do it.
    EntityAt(Option<&'a str>, &'a str),
    /// A worker's.
    Worker(&'a str),
    /// Anybody's.
    Host,
}

/// An entity and a type that are expected together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Joint {
    /// Which entity: see [`Engine::entity_name`].
    pub entity: EntityRef,
    /// Which type: see [`Engine::type_name`].
    pub task_type: Symbol,
    /// Probability that the next task is of this type and about this entity.
    pub p: f32,
}

/// An entity in the engine's store; good until it is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityRef(Handle);

/// One voice of an explanation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Voice {
    /// The context or expert.
    pub name: &'static str,
    /// What it added to the logarithm of the likeliest type's score: above zero speaks for it.
    pub says: f32,
}

/// Statements that the reliability table remembers, about.
const CALIBRATION_WINDOW: f64 = 1000.0;

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
            chronicle: Chronicle::new(),
            by_entity: entity_model::new(settings, closed),
            crew: settings.workers.then(crew),
            calibration: Calibration::of_last(CALIBRATION_WINDOW),
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
        let mut pairs = Vec::with_capacity(max + 1);
        let Some(model) = self.prepare_stream(subject) else { return };
        model.joint(max, &mut pairs);
        out.extend(pairs.into_iter().map(|(h, task_type, p)| Joint { entity: EntityRef(h), task_type, p }));
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
        out.extend(voices.into_iter().map(|(name, says)| Voice { name, says }));
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

    // ---- the lesson -------------------------------------------------------------------------------------

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

    // ---- snapshot -----------------------------------------------------------------------------------------

    /// Everything that was learned, as bytes that stand on their own: versioned, checksummed, with all names.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut to = Writer::new();
        to.u8(self.settings.table_bits);
        to.u8(self.settings.regression_bits);
        to.u16(self.settings.forget_above);
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
        same("forget_above", from.u16()?, settings.forget_above)?;
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
        engine.calibration = Calibration::from_bins(bins, Some(CALIBRATION_WINDOW))
            .ok_or(Error::Malformed { what: "the reliability table" })?;
        engine.events = from.u64()?;
        from.close()?;
        Ok(engine)
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

fn same<T: PartialEq + std::fmt::Display>(key: &'static str, found: T, expected: T) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    Err(Error::OtherSettings { key, found: found.to_string(), expected: expected.to_string() })
}
