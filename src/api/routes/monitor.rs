//! Figures: of this moment, over time, and for those who scrape.

use super::super::error::Error;
use super::super::metrics::CONTENT_TYPE;
use super::super::wire::{Now, NowQuery, Series, SeriesQuery};
use super::Ask;
use super::query::Query;
use super::reply::list;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

/// Figures over time, at the resolution that fits.
#[utoipa::path(get, path = "/v1/series", tag = "evidence", params(SeriesQuery),
    responses((status = 200, body = Vec<Series>)))]
pub(super) async fn series(
    State(ask): State<Ask>,
    headers: HeaderMap,
    Query(query): Query<SeriesQuery>,
) -> Result<Response, Error> {
    Ok(list(&headers, &ask.backend.series(query).await?))
}

/// Everything that a dashboard shows of this moment.
#[utoipa::path(get, path = "/v1/now", tag = "evidence", params(NowQuery), responses((status = 200, body = Now)))]
pub(super) async fn now(State(ask): State<Ask>, Query(query): Query<NowQuery>) -> Result<Json<Now>, Error> {
    ask.backend.now(query).await.map(Json)
}

/// All figures in OpenMetrics.
#[utoipa::path(get, path = "/metrics", tag = "evidence",
    responses((status = 200, content((String = "application/openmetrics-text")))))]
pub(super) async fn metrics(State(ask): State<Ask>) -> Result<Response, Error> {
    let text = ask.backend.metrics().await?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}
