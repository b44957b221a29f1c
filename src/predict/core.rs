//! The core of prediction: learns from every final outcome, in the order of the record, and answers what
//! comes next. Forecasts are made when they are asked for, never kept.

use super::calibration::Calibration;
use super::lookahead::{self, Lookahead};
use super::product::{Exponents, Factors, Product};
use super::types::{self, Distribution, Engine, Event, Voice};
use crate::flow::{
    Arrived, Expected, Forecast, Heat, ObjectName, Outcome, PerResource, Standing, Standings, TypeForecast,
    TypeId, WorkerId,
};
use crate::task::Catalogue;
use crate::time::Time;
use std::sync::Arc;

/// Most pairs of a joint forecast.
const PAIRS: usize = 16;
/// First bytes of a snapshot, and its version.
const MAGIC: [u8; 8] = *b"fspred\0\x01";

/// What the predictor is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the model of types.
    pub types: types::Settings,
    /// Whether exponents are learned.
    pub exponents: Exponents,
    /// Weight of the newest forecast in the mean log loss, in (0, 1].
    pub smoothing: f64,
    /// Of the look ahead.
    pub lookahead: lookahead::Settings,
}

/// Whose next task is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A worker's.
    Worker(WorkerId),
    /// An entity's.
    Entity(&'a str),
    /// Anybody's.
    Host,
}

/// What a forecast is made of.
#[derive(Clone, Debug)]
pub struct Explained {
    /// α, β, γ.
    pub exponents: [f64; 3],
    /// What each context added to the likeliest type.
    pub voices: Vec<Voice>,
    /// Do forecasts come true.
    pub calibration: Calibration,
    /// Recent mean log loss of the next type of an entity, bits.
    pub log_loss_bits: f64,
    /// Submits whose type had been the likeliest for their entity, and all that had a forecast.
    pub right: (u64, u64),
}

/// The core of prediction.
pub struct Predict {
    settings: Settings,
    catalogue: Arc<Catalogue>,
    workers: Arc<Vec<Arc<str>>>,
    engine: Engine,
    lookahead: Lookahead,
    /// In force: as it is in the last snapshot that is known to be on disk.
    product: Product,
    /// With every lesson since. They come from heat and standings of the moment, which nobody can tell again
    /// after a crash, so they count only once they are kept.
    ahead: Product,
    /// What [`Predict::kept`] puts in force, by snapshot.
    offered: Vec<(u64, Product)>,
    standings: Vec<Vec<Standing>>,
    heat: Heat,
    log_loss_bits: f64,
    right: (u64, u64),
    seq: u64,
    scratch: Distribution,
}

/// Why there is no predictor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model of types refused settings or snapshot.
    #[error("model of task types: {0}")]
    Types(#[from] types::Error),
    /// The look ahead refused its snapshot.
    #[error("look ahead: {0}")]
    Lookahead(String),
    /// The bytes are no snapshot of this version, or have changed.
    #[error("predictor snapshot: {0}")]
    Snapshot(&'static str),
}

impl Predict {
    /// A predictor that has learned nothing.
    ///
    /// # Errors
    /// If a setting is out of range.
    pub fn new(
        settings: Settings,
        catalogue: Arc<Catalogue>,
        workers: Arc<Vec<Arc<str>>>,
    ) -> Result<Predict, Error> {
        Ok(Predict {
            engine: Engine::new(&settings.types)?,
            lookahead: Lookahead::new(settings.lookahead.clone()),
            product: Product::new(settings.exponents),
            ahead: Product::new(settings.exponents),
            offered: Vec::new(),
            standings: vec![Vec::new(); workers.len()],
            settings,
            catalogue,
            workers,
            heat: Heat::default(),
            log_loss_bits: 0.0,
            right: (0, 0),
            seq: 0,
            scratch: Distribution::default(),
        })
    }

    /// A worker that was not known at the start; its number follows theirs.
    pub fn attach(&mut self, worker: WorkerId, name: Arc<str>) {
        let w = usize::from(worker.0);
        let workers = Arc::make_mut(&mut self.workers);
        workers.resize(workers.len().max(w + 1), "".into());
        workers[w] = name;
        self.standings.resize(workers.len(), Vec::new());
    }

    /// Number of the last outcome that was learned.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// A task came in. Nothing is learned from it; whether its type was expected is counted.
    pub fn arrived(&mut self, a: &Arrived) {
        let Some(entity) = a.entity.as_deref() else { return };
        let name = self.catalogue.name(a.task_type);
        if self.lookahead.knows(entity) {
            self.engine.for_entity(Some(entity), &mut self.scratch);
            let top = self.scratch.types.first().map(|(s, _)| *s);
            let right = top.is_some_and(|s| self.engine.type_name(s) == name);
            self.right.0 += u64::from(right);
            self.right.1 += 1;
        }
        self.lookahead.arrived_reading(a.at, entity, a.task_type, &a.inputs);
    }

    /// A task has ended: the one lesson it teaches. Outcomes come in the order of the record, each once;
    /// one that was learned already (its number is not above the last) is passed over.
    pub fn learn(&mut self, seq: u64, o: &Outcome) {
        if seq <= self.seq {
            return;
        }
        self.seq = seq;
        let task_type = self.catalogue.name(o.task_type).to_owned();
        let worker = self.workers.get(usize::from(o.worker.0)).cloned();
        let entity = o.entity.as_deref();
        let p = f64::from(self.engine.p(types::Subject::Entity(entity), &task_type)).max(1e-6);
        // The plain mean until there are enough forecasts for the moving one.
        let weight = self.settings.smoothing.max(1.0 / (self.engine.events() + 1) as f64);
        self.log_loss_bits += weight * (-p.log2() - self.log_loss_bits);
        self.learn_product(o);
        let event = Event { time: o.ended, task_type: &task_type, entity, worker: worker.as_deref() };
        self.engine.learn(&event);
        if let Some(entity) = entity {
            let reads: Vec<ObjectName> = o.inputs.iter().map(|i| i.object.clone()).collect();
            self.lookahead.ended_reading(o.submitted, o.ended, entity, o.task_type, &reads);
        }
    }

    fn learn_product(&mut self, o: &Outcome) {
        let lines = self.lines(Subject::Worker(o.worker));
        if let Some(came) = lines.iter().position(|(t, _)| *t == o.task_type) {
            let factors: Vec<Factors> = lines.into_iter().map(|(_, f)| f).collect();
            self.ahead.learn(&factors, came);
        }
    }

    /// The monitor's heat, replaced whole.
    pub fn heated(&mut self, heat: Heat) {
        self.heat = heat;
    }

    /// A worker's standings, replaced whole.
    pub fn stand(&mut self, s: Standings) {
        if let Some(mine) = self.standings.get_mut(usize::from(s.worker.0)) {
            *mine = s.types;
        }
    }

    /// A probability for each configured type; sums to one with `other`.
    pub fn forecast(&mut self, subject: Subject<'_>, now: Time) -> Forecast {
        let lines = self.lines(subject);
        let factors: Vec<Factors> = lines.iter().map(|(_, f)| *f).collect();
        let mut p = vec![0.0; factors.len()];
        match subject {
            Subject::Worker(_) if !p.is_empty() => self.product.predict(&factors, &mut p),
            _ => p.iter_mut().zip(&factors).for_each(|(p, f)| *p = f.history),
        }
        let mut types: Vec<TypeForecast> = lines
            .into_iter()
            .zip(p)
            .map(|((task_type, f), p)| TypeForecast {
                task_type,
                p,
                affinity: f.affinity,
                heat: f.heat,
                history: f.history,
                due_in: self.lookahead.due_in(task_type, now),
            })
            .collect();
        types.sort_by(|a, b| b.p.total_cmp(&a.p).then(a.task_type.cmp(&b.task_type)));
        let other = (1.0 - types.iter().map(|t| t.p).sum::<f64>()).max(0.0);
        Forecast { at: now, types, other }
    }

    /// The factors of each type for a subject. The history's forecast speaks of types by name; what it gives to
    /// types that are configured but were never seen is shared among them.
    fn lines(&mut self, subject: Subject<'_>) -> Vec<(TypeId, Factors)> {
        match subject {
            Subject::Entity(e) => self.engine.for_entity(Some(e), &mut self.scratch),
            Subject::Host => self.engine.for_host(&mut self.scratch),
            Subject::Worker(w) => match self.workers.get(usize::from(w.0)) {
                Some(name) => self.engine.for_worker(name, &mut self.scratch),
                None => self.engine.for_host(&mut self.scratch),
            },
        }
        let runs = |t: TypeId| match subject {
            Subject::Worker(w) => {
                self.standing(w, t).is_some() || self.standings[usize::from(w.0)].is_empty()
            }
            _ => true,
        };
        let types: Vec<TypeId> = self.catalogue.iter().map(|(t, _)| t).filter(|t| runs(*t)).collect();
        let listed = |t: TypeId| {
            let symbol = self.engine.type_number(self.catalogue.name(t))?;
            self.scratch.types.iter().find(|(s, _)| *s == symbol).map(|(_, p)| f64::from(*p))
        };
        let known: Vec<Option<f64>> = types.iter().map(|t| listed(*t)).collect();
        let strangers = known.iter().filter(|p| p.is_none()).count().max(1) as f64;
        let rest = f64::from(self.scratch.rest + self.scratch.new) / strangers;
        let uniform = 1.0 / types.len().max(1) as f64;
        types
            .into_iter()
            .zip(known)
            .map(|(t, p)| {
                let standing = match subject {
                    Subject::Worker(w) => self.standing(w, t),
                    _ => None,
                };
                let heat = match subject {
                    Subject::Worker(w) => self.heat.felt_by(w, &demand(standing)),
                    _ => 0.0,
                };
                let affinity = standing.map_or(uniform, |s| s.affinity);
                (t, Factors { affinity, heat, history: p.unwrap_or(rest) })
            })
            .collect()
    }

    fn standing(&self, worker: WorkerId, t: TypeId) -> Option<&Standing> {
        self.standings.get(usize::from(worker.0))?.iter().find(|s| s.task_type == t)
    }

    /// The tasks that nobody has submitted yet which this entity is expected to bring within the horizon.
    pub fn expected(&self, entity: &str, now: Time) -> Vec<Expected> {
        self.lookahead.expected(entity, now)
    }

    /// The objects that those tasks will read, as far as what was read before tells: numbered parts too, which
    /// no template names.
    pub fn expected_objects(&self, entity: &str, now: Time) -> Vec<(ObjectName, Expected)> {
        self.lookahead.expected_objects(entity, now)
    }

    /// The same over all entities in play, likeliest first, at most `limit`.
    pub fn expected_all(&self, now: Time, limit: usize) -> Vec<Expected> {
        self.lookahead.expected_all(now, limit)
    }

    /// Which entity will need which type next, at a worker or on the host: names, types and probabilities.
    pub fn joint(&mut self, subject: Subject<'_>) -> Vec<(Arc<str>, TypeId, f64)> {
        let mut pairs = Vec::with_capacity(PAIRS);
        let worker = match subject {
            Subject::Worker(w) => self.workers.get(usize::from(w.0)).cloned(),
            _ => None,
        };
        let of = worker.as_deref().map_or(types::Subject::Host, types::Subject::Worker);
        self.engine.joint(of, PAIRS, &mut pairs);
        pairs
            .iter()
            .filter_map(|j| {
                let entity = self.engine.entity_name(j.entity)?;
                let t = self.catalogue.find(self.engine.type_name(j.task_type))?;
                Some((Arc::from(entity), t, f64::from(j.p)))
            })
            .collect()
    }

    /// What the forecast for a subject is made of.
    pub fn explain(&mut self, subject: Subject<'_>) -> Explained {
        let worker = match subject {
            Subject::Worker(w) => self.workers.get(usize::from(w.0)).cloned(),
            _ => None,
        };
        let of = match (subject, worker.as_deref()) {
            (Subject::Entity(e), _) => types::Subject::Entity(Some(e)),
            (_, Some(w)) => types::Subject::Worker(w),
            _ => types::Subject::Host,
        };
        let mut voices = Vec::new();
        self.engine.explain(of, &mut voices);
        voices.sort_by(|a, b| b.says.abs().total_cmp(&a.says.abs()).then(a.name.cmp(b.name)));
        Explained {
            exponents: self.product.exponents(),
            voices,
            calibration: self.engine.calibration().clone(),
            log_loss_bits: self.log_loss_bits,
            right: self.right,
        }
    }

    /// Submits whose type had been the likeliest for their entity, and all that had a forecast.
    pub fn right(&self) -> (u64, u64) {
        self.right
    }

    /// Whether exponents are learned.
    pub fn exponents_learned(&self) -> bool {
        self.settings.exponents == Exponents::Learned
    }

    /// A snapshot of all that was learned. Once it is on disk, and only then, [`Predict::kept`] is to be called
    /// with its number: that of the last outcome in it.
    ///
    /// Forecasts are a function of the last snapshot on disk and the outcomes on record since: a restart after a
    /// crash finds both, and gives the same forecasts, bit for bit.
    pub fn snapshot(&mut self) -> Vec<u8> {
        self.offered.retain(|o| o.0 != self.seq);
        self.offered.push((self.seq, self.ahead.clone()));
        self.to_bytes()
    }

    /// The snapshot that reached this outcome is on disk.
    pub fn kept(&mut self, seq: u64) {
        if let Some(at) = self.offered.iter().rposition(|o| o.0 <= seq) {
            self.product = self.offered[at].1.clone();
            self.offered.drain(..=at);
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let small = (self.seq, &self.ahead, self.log_loss_bits, self.right);
        let small = serde_json::to_vec(&small).expect("numbers always become JSON");
        let mut out = MAGIC.to_vec();
        for part in [small, self.engine.to_bytes(), self.lookahead.to_bytes(|t| self.catalogue.name(t))] {
            out.extend_from_slice(&(part.len() as u64).to_le_bytes());
            out.extend_from_slice(&part);
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Takes over what was learned before.
    ///
    /// # Errors
    /// If the bytes are not what [`Predict::snapshot`] writes; nothing changes then.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let bad = Error::Snapshot;
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or(bad("it is too short"))?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return Err(bad("its checksum is wrong"));
        }
        let mut rest = body.strip_prefix(&MAGIC).ok_or(bad("it is of another version"))?;
        let mut part = || {
            let (len, after) = rest.split_first_chunk::<8>()?;
            let (part, after) = after.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
            rest = after;
            Some(part)
        };
        let (Some(small), Some(engine), Some(lookahead)) = (part(), part(), part()) else {
            return Err(bad("it ends early"));
        };
        let (seq, product, log_loss_bits, right): (u64, Product, f64, (u64, u64)) =
            serde_json::from_slice(small).map_err(|_| bad("its head cannot be read"))?;
        let engine = Engine::from_bytes(&self.settings.types, engine)?;
        let lookahead =
            Lookahead::from_bytes(self.settings.lookahead.clone(), lookahead, |n| self.catalogue.find(n))
                .map_err(|e| Error::Lookahead(e.to_string()))?;
        // Exponents that were learned once do not outlive the wish to keep them fixed.
        if self.settings.exponents == Exponents::Learned {
            (self.product, self.ahead) = (product.clone(), product);
        }
        self.offered.clear();
        (self.seq, self.engine, self.lookahead) = (seq, engine, lookahead);
        (self.log_loss_bits, self.right) = (log_loss_bits, right);
        Ok(())
    }
}

/// A type that was never measured is taken to need all resources alike.
fn demand(standing: Option<&Standing>) -> PerResource {
    standing.map_or([0.25; 4], |s| s.demand)
}

#[cfg(test)]
mod tests;
