//! `[predict]` and `[profile]`: how fast is learned, and how much is kept of it.

use super::kind::{BytesIn, IntegerIn, ListOf, NumberIn, OneOf, SpanIn};
use super::reader::Section;
use crate::predict::types::CONTEXTS;
use crate::time::Span;

/// How the next tasks and objects are predicted.
#[derive(Clone, Debug, PartialEq)]
pub struct Predict {
    /// Most memory of the models of task types, 4 MiB to 1 GiB. Default 12 MiB.
    pub memory_bytes: u64,
    /// Most memory of the model of objects, 1 MiB to 1 GiB; names and sizes come on top. Default 8 MiB.
    pub objects_memory_bytes: u64,
    /// Whether affinity, heat and history are weighted. Default [`Exponents::Learned`].
    pub exponents: Exponents,
    /// Counts of what followed a context are halved above this sum, 16 to 254. Default 254.
    pub forget_above: u8,
    /// Contexts that are not asked, by the names that `forestage predict --explain` shows. Default none.
    pub contexts_off: Vec<String>,
    /// Weight of the newest forecast in the reliability table and the log loss, more than 0, up to 1. Default
    /// 0.002.
    pub smoothing: f64,
    /// No forecast reaches further, 1 s to 1 d. Default 10 min.
    pub horizon: Span,
    /// How many steps of an entity's chain are looked ahead, 1 to 16. Default 8.
    pub depth: u8,
    /// How often the predictor's state is saved, 1 s to 1 h. What was learned since is learned again from the
    /// record after a restart. Default 1 min.
    pub snapshot_every: Span,
}

/// The exponents α, β and γ of affinity, heat and history in the forecast of the next type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exponents {
    /// From the loss of past forecasts; they start at 1.
    Learned,
    /// All 1, for ever.
    Fixed,
}

const EXPONENTS: &[(&str, Exponents)] = &[("learned", Exponents::Learned), ("fixed", Exponents::Fixed)];

pub(super) fn read(mut s: Section<'_>) -> Predict {
    let contexts = s.read("contexts_off", ListOf(OneOf(&CONTEXTS), CONTEXTS.len())).unwrap_or_default();
    let predict = Predict {
        memory_bytes: s.read("memory", BytesIn(4 << 20, 1 << 30)).unwrap_or(12 << 20),
        objects_memory_bytes: s.read("objects_memory", BytesIn(1 << 20, 1 << 30)).unwrap_or(8 << 20),
        exponents: s.read("exponents", OneOf(EXPONENTS)).unwrap_or(Exponents::Learned),
        forget_above: s.read("forget_above", IntegerIn(16u8, 254, "counts")).unwrap_or(254),
        contexts_off: contexts
            .into_iter()
            .filter_map(|k| CONTEXTS.iter().find(|(_, n)| *n == k))
            .map(|(name, _)| (*name).to_owned())
            .collect(),
        smoothing: s.read("smoothing", NumberIn::weight()).unwrap_or(0.002),
        horizon: s
            .read("horizon", SpanIn(Span::from_secs(1), Span::from_secs(86_400)))
            .unwrap_or(Span::from_secs(600)),
        depth: s.read("depth", IntegerIn(1u8, 16, "steps")).unwrap_or(8),
        snapshot_every: s
            .read("snapshot_every", SpanIn(Span::from_secs(1), Span::from_secs(3_600)))
            .unwrap_or(Span::from_secs(60)),
    };
    s.finish();
    predict
}

/// Weights of the newest observation in each figure of a worker's profile, more than 0, up to 1. A weight of
/// a forgets half within ln 2 / a observations.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Of the execution time. Default 0.05.
    pub time: f64,
    /// Of the success rate. Default 0.02: failures are rare, so each says much.
    pub success: f64,
    /// Of the processor time. Default 0.05.
    pub cpu: f64,
    /// Of the peak memory. Default 0.02: what matters is the upper end, which is seldom seen.
    pub memory: f64,
    /// Of the bytes read from and written to disks. Default 0.05.
    pub io: f64,
    /// Of the input bytes fetched from sources. Default 0.05.
    pub net: f64,
}

pub(super) fn read_profile(mut s: Section<'_>) -> Profile {
    let mut weight = |key, default| s.read(key, NumberIn::weight()).unwrap_or(default);
    let profile = Profile {
        time: weight("time", 0.05),
        success: weight("success", 0.02),
        cpu: weight("cpu", 0.05),
        memory: weight("memory", 0.02),
        io: weight("io", 0.05),
        net: weight("net", 0.05),
    };
    s.finish();
    profile
}
