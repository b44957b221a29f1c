//! What the engine is told, and what it answers.

use crate::predict::types::Symbol;
use crate::predict::types::candidates::CANDIDATES;
use crate::predict::types::entities::Handle;
use crate::predict::types::model::Model;
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
    pub(super) fn take(&mut self, model: &Model) {
        // Probabilities are not negative: their bits order as they do. One integer for both is sorted without
        // a branch.
        let mut keys = [0u64; CANDIDATES];
        let mut n = 0;
        for (key, (symbol, p)) in keys.iter_mut().zip(model.named()) {
            *key = u64::from(!p.to_bits()) << 16 | u64::from(symbol);
            n += 1;
        }
        keys[..n].sort_unstable();
        self.types.clear();
        self.types.extend(keys[..n].iter().map(|&k| (k as Symbol, f32::from_bits(!(k >> 16) as u32))));
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
    /// Which entity: see [`Engine::entity_name`](super::Engine::entity_name).
    pub entity: EntityRef,
    /// Which type: see [`Engine::type_name`](super::Engine::type_name).
    pub task_type: Symbol,
    /// Probability that the next task is of this type and about this entity.
    pub p: f32,
}

/// An entity in the engine's store; good until it is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityRef(pub(in crate::predict::types) Handle);

/// One voice of an explanation.
#[derive(Clone, Debug, PartialEq)]
pub struct Voice {
    /// The context or expert.
    pub name: &'static str,
    /// What it added to the logarithm of the likeliest type's score: above zero speaks for it.
    pub says: f32,
    /// The type that it raises most; empty before the first lesson.
    pub favours: String,
    /// Tasks that it has counted after what it looks at, after forgetting. Nothing for experts that do not
    /// count: regression, plain frequency, what fades, entities in play.
    pub seen: Option<u8>,
}
