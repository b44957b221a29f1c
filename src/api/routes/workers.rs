//! Workers, their profiles, and what they will most likely be asked next.

use super::super::error::Error;
use super::super::wire::{PredictQuery, Prediction, ProfileLine, Worker};
use super::Ask;
use super::query::{Name, Query};
use super::reply::list as reply_list;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

/// List workers.
#[utoipa::path(get, path = "/v1/workers", tag = "workers", responses((status = 200, body = Vec<Worker>)))]
pub(super) async fn list(State(ask): State<Ask>, headers: HeaderMap) -> Result<Response, Error> {
    Ok(reply_list(&headers, &ask.backend.workers().await?))
}

/// What a worker is good at: one line for each task type.
#[utoipa::path(get, path = "/v1/workers/{name}/profile", tag = "workers",
    params(("name" = String, Path, description = "The worker")),
    responses((status = 200, body = Vec<ProfileLine>)))]
pub(super) async fn profile(
    State(ask): State<Ask>,
    headers: HeaderMap,
    Name(name): Name,
) -> Result<Response, Error> {
    Ok(reply_list(&headers, &ask.backend.profile(name).await?))
}

/// Foretell the next task of a worker, of an entity, or of the whole host.
#[utoipa::path(get, path = "/v1/predict", tag = "workers", params(PredictQuery),
    responses((status = 200, body = Prediction)))]
pub(super) async fn predict(
    State(ask): State<Ask>,
    Query(query): Query<PredictQuery>,
) -> Result<Json<Prediction>, Error> {
    if query.worker.is_some() && query.entity.is_some() {
        return Err(Error::bad(
            "bad_query",
            "both `worker` and `entity` are given; accepted: one of them, or none",
        ));
    }
    ask.backend.predict(query).await.map(Json)
}
