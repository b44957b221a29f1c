//! Predictions, and what they are made of.

use super::RunningTask;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whose next task is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub struct PredictQuery {
    /// A worker's; the whole host's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// An entity's next task instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Whether to say what the probabilities are made of.
    #[serde(default)]
    pub explain: bool,
}

/// A probability for each type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Prediction {
    /// `host`, `worker NAME` or `entity NAME`.
    pub of: String,
    /// Sums to one together with `other`.
    pub types: Vec<PredictedType>,
    /// Probability of types that are not listed.
    pub other: f64,
    /// Which tasks, not yet submitted, are expected: most likely first.
    pub expected: Vec<ExpectedTask>,
    /// Which entity comes with which type as the very next task of the worker or the host, most likely first;
    /// nothing for an entity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<NextTask>,
    /// Tasks that are known already and come before them: queued for this worker.
    pub known: Vec<RunningTask>,
    /// What it is made of; with `explain` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explain: Option<Explain>,
}

/// One line of a [`Prediction`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PredictedType {
    /// The type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// Probability that the next task is of this type.
    pub p: f64,
    /// Affinity score `a_w(t)`.
    pub affinity: f64,
    /// Heat `h_w(t)`.
    pub heat: f64,
    /// `P(t | history)`.
    pub history: f64,
    /// Expected time until the next task of this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_in_s: Option<f64>,
}

/// A task that nobody has submitted yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExpectedTask {
    /// Its type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// What it will be about.
    pub entity: String,
    /// Probability that it comes within the horizon.
    pub p: f64,
    /// Expected time until then.
    pub due_in_s: f64,
}

/// An entity and a type that are expected together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NextTask {
    /// The type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// The entity.
    pub entity: String,
    /// Probability that the next task is of this type and about this entity.
    pub p: f64,
}

/// What a prediction is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Explain {
    /// Exponents of affinity, coolness and history.
    pub exponents: [f64; 3],
    /// Whether they are learned or kept at 1.
    pub exponents_learned: bool,
    /// Which contexts spoke loudest about the likeliest type by history.
    pub contexts: Vec<ContextVoice>,
    /// Reliability of recent predictions, by bin of confidence.
    pub calibration: Vec<CalibrationBin>,
    /// Mean log loss of recent predictions, bits.
    pub log_loss_bits: f64,
}

/// What one context said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ContextVoice {
    /// What it looks at.
    pub context: String,
    /// What it added to the logarithm of that type's score: above zero speaks for it.
    pub weight: f64,
    /// The type it raises most.
    #[serde(rename = "type")]
    pub task_type: String,
    /// Tasks counted after it, after forgetting; nothing for what does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<f64>,
}

/// One bin of a reliability table.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CalibrationBin {
    /// Lower end of the bin's confidence.
    pub from: f64,
    /// Upper end.
    pub to: f64,
    /// How many predictions fell into it.
    pub count: f64,
    /// Mean confidence of these.
    pub confidence: f64,
    /// Share of these that came true.
    pub came_true: f64,
}
