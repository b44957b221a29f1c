//! Evidence: what staging saved, and why something was done.

use super::super::error::Error;
use super::super::wire::{Savings, Why};
use super::Ask;
use super::query::Query;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;

/// What staging has saved.
#[utoipa::path(get, path = "/v1/savings", tag = "evidence", responses((status = 200, body = Savings)))]
pub(super) async fn savings(State(ask): State<Ask>) -> Result<Json<Savings>, Error> {
    ask.backend.savings().await.map(Json)
}

/// What is to be explained: exactly one of these.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct About {
    /// A task's number.
    #[serde(default)]
    task: Option<u64>,
    /// An object, as `source:path`.
    #[serde(default)]
    object: Option<String>,
    /// A worker.
    #[serde(default)]
    worker: Option<String>,
}

/// Why a task waits or ran where it did, why an object is or is not staged, why a worker gets what it gets.
#[utoipa::path(get, path = "/v1/why", tag = "evidence", params(About), responses((status = 200, body = Why)))]
pub(super) async fn why(State(ask): State<Ask>, Query(about): Query<About>) -> Result<Json<Why>, Error> {
    let why = match about {
        About { task: Some(id), object: None, worker: None } => ask.backend.why_task(id).await,
        About { task: None, object: Some(object), worker: None } => ask.backend.why_object(object).await,
        About { task: None, object: None, worker: Some(worker) } => ask.backend.why_worker(worker).await,
        _ => Err(Error::bad("bad_query", "accepted: exactly one of `task`, `object` and `worker`")),
    };
    why.map(Json)
}
