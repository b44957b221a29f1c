//! The wire types of outside workers: programs that attach over the socket and ask for work.
//!
//! The rules of `wire.rs` hold here too.

use super::wire::ErrorBody;
use crate::flow::Token;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Most attempts that one outside worker holds at once.
pub const SLOTS_LIMIT: u32 = 10_000;
/// Longest silence that may be asked for, seconds.
pub const LEASE_LIMIT_S: f64 = 3_600.0;
/// Shortest one.
pub const LEASE_LEAST_S: f64 = 0.2;
/// The silence that is allowed unless another is asked for, seconds.
pub const LEASE_DEFAULT_S: f64 = 30.0;

/// A program that wants to work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// Its name, which none of the configured workers has. Its profile is kept under it, so the same program
    /// should come back with the same name.
    pub name: String,
    /// How many attempts it holds at once, 1 to 10000; 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Types it runs; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub types: Option<Vec<String>>,
    /// The pool in which its inputs are staged; may be left out if there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// Cells whose data it reaches best.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<String>,
    /// How long it may be silent, .2 to 3600 seconds; then all it holds is lost. 30 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_s: Option<f64>,
}

/// A session: one run of the program. Whatever it asks names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// The worker's name.
    pub name: String,
    /// The session's number.
    pub session: u64,
    /// How long it may be silent.
    pub lease_s: f64,
}

/// What a completion must show: the token that the attempt was given with, `EPOCH.ATTEMPT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireToken(pub Token);

impl Serialize for WireToken {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{}.{}", self.0.epoch, self.0.attempt))
    }
}

impl<'de> Deserialize<'de> for WireToken {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        let read = text.split_once('.').and_then(|(epoch, attempt)| {
            Some(Token { epoch: epoch.parse().ok()?, attempt: attempt.parse().ok()? })
        });
        let expected = &"the token that the attempt was given with, as 3.1";
        read.map(WireToken).ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), expected))
    }
}

/// An attempt that comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Completion {
    /// The task.
    pub id: u64,
    /// The token it was given with.
    #[schema(value_type = String, example = "3.1")]
    pub token: WireToken,
    /// 0 when left out: it is done. 1 to 255: it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Gives it back undone, which counts as no try; it does not start again before so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_s: Option<f64>,
    /// How long it ran; since it was handed out when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<f64>,
    /// Processor time that it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<f64>,
    /// Largest resident set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Read from disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
    /// Written to disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_bytes: Option<u64>,
}

/// Take back what was done, and give more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Next {
    /// The session.
    pub session: u64,
    /// What comes back. It is on record before the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<Completion>,
    /// How many more attempts to take, 0 to 10000; 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub take: Option<u32>,
    /// How long to wait for the first of them, 0 to 3600 seconds; 0 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_s: Option<f64>,
}

/// An attempt for the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Given {
    /// The task.
    pub id: u64,
    /// What its completion must show.
    #[schema(value_type = String, example = "3.1")]
    pub token: WireToken,
    /// Its type.
    #[serde(rename = "type")]
    pub task_type: String,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Arguments.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
    /// What the submit passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// Its inputs; each stands at a path, and must not be changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<StagedInput>,
    /// Where it works, if it has inputs or outputs. Declared outputs are published from `out/` in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
}

/// An input that stands ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StagedInput {
    /// The object.
    pub object: String,
    /// Where it stands.
    pub path: String,
}

/// A completion that was refused: the worker does not hold the task under this token, any more or at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RefusedCompletion {
    /// The task.
    pub id: u64,
    /// The token that was shown.
    #[schema(value_type = String, example = "3.1")]
    pub token: WireToken,
    /// Why.
    pub error: ErrorBody,
}

/// An attempt that should be ended: somebody cancelled its task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StopOrder {
    /// The task.
    pub id: u64,
    /// Which attempt.
    #[schema(value_type = String, example = "3.1")]
    pub token: WireToken,
}

/// The answer to `next`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NextAnswer {
    /// Attempts; what is acknowledged here is on record as started.
    pub tasks: Vec<Given>,
    /// Completions that were refused, while others of the same request were taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedCompletion>,
    /// Attempts to end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<StopOrder>,
}

/// The worker lives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// The session.
    pub session: u64,
    /// How long its last heartbeat took there and back: the worker's network latency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<f64>,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Beaten {
    /// How many attempts the worker holds.
    pub held: usize,
    /// Attempts to end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<StopOrder>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_written_as_they_are_read() {
        let token = WireToken(Token { epoch: 3, attempt: 12 });
        let text = serde_json::to_string(&token).unwrap();
        assert_eq!(text, "\"3.12\"");
        assert_eq!(serde_json::from_str::<WireToken>(&text).unwrap(), token);
        for bad in ["\"3\"", "\"3.\"", "\"a.1\"", "\"-1.2\"", "\"1.2.3\"", "7"] {
            assert!(serde_json::from_str::<WireToken>(bad).is_err(), "{bad}");
        }
    }
}
