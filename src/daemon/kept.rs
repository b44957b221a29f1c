//! What the record keeps of a task's end: names instead of indices, so that it can be read after the
//! configuration changed.

use crate::flow::{Ending, Factors, InputUse, Outcome, TaskId, Token, TypeId, Usage, WorkerId};
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The opaque outcome of a finished task, as JSON. Fields are only ever added, with a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// How the task ended.
    pub ending: Ending,
    /// Its last attempt, if one was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
}

/// A finished attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Who ran it.
    pub worker: String,
    /// Its token.
    pub token: Token,
    /// What it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<Arc<str>>,
    /// When it was submitted.
    pub submitted: Time,
    /// When the worker took it.
    pub started: Time,
    /// When it ended.
    pub ended: Time,
    /// What it used.
    pub usage: Usage,
    /// How long its slot idled for data.
    pub data_wait: Span,
    /// Its inputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<InputUse>,
    /// Why it was placed where it ran.
    pub factors: Factors,
    /// How the attempt itself ended, if that differs from the task's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

impl Kept {
    /// From the task's end and its last attempt.
    pub fn new(ending: &Ending, outcome: Option<&Outcome>, worker: impl Fn(WorkerId) -> String) -> Kept {
        let attempt = outcome.map(|o| Attempt {
            worker: worker(o.worker),
            token: o.token,
            entity: o.entity.clone(),
            submitted: o.submitted,
            started: o.started,
            ended: o.ended,
            usage: o.usage,
            data_wait: o.data_wait,
            inputs: o.inputs.clone(),
            factors: o.factors,
            ending: (o.ending != *ending).then(|| o.ending.clone()),
        });
        Kept { ending: ending.clone(), attempt }
    }

    /// As the record stores it.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and texts always become JSON")
    }

    /// From the record.
    ///
    /// # Errors
    /// If the bytes are not what [`Kept::to_bytes`] writes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Kept, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The outcome that learners were told, if there was one and its type and worker are still configured.
    pub fn outcome(
        &self,
        task: TaskId,
        task_type: TypeId,
        worker: impl Fn(&str) -> Option<WorkerId>,
    ) -> Option<Outcome> {
        let a = self.attempt.as_ref()?;
        Some(Outcome {
            task,
            token: a.token,
            worker: worker(&a.worker)?,
            task_type,
            entity: a.entity.clone(),
            submitted: a.submitted,
            started: a.started,
            ended: a.ended,
            ending: a.ending.clone().unwrap_or_else(|| self.ending.clone()),
            usage: a.usage,
            data_wait: a.data_wait,
            inputs: a.inputs.clone(),
            factors: a.factors,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_reads_back_as_it_was() {
        let outcome = Outcome {
            task: TaskId(7),
            token: Token { epoch: 2, attempt: 1 },
            worker: WorkerId(1),
            task_type: TypeId(3),
            entity: Some("vol-7".into()),
            submitted: Time::from_us(1),
            started: Time::from_us(2),
            ended: Time::from_us(3),
            ending: Ending::Signalled { signal: 15 },
            usage: Usage { wall: Span::from_ms(4), ..Usage::default() },
            data_wait: Span::from_ms(5),
            inputs: vec![],
            factors: Factors { speed: 1.25, heat: 0.5, locality: 1.0 },
        };
        let kept = Kept::new(&Ending::Cancelled, Some(&outcome), |_| "fast".into());
        let back = Kept::from_bytes(&kept.to_bytes()).unwrap();
        assert_eq!(back, kept);
        let of = |name: &str| (name == "fast").then_some(WorkerId(1));
        assert_eq!(back.outcome(TaskId(7), TypeId(3), of), Some(outcome));
        assert_eq!(back.outcome(TaskId(7), TypeId(3), |_| None), None);
    }
}
