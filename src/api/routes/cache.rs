//! Pools and what is in them.

use super::super::error::Error;
use super::super::wire::{Cache, CacheAnswer, CacheFilter, CacheOrder, CachedObject};
use super::Ask;
use super::query::{Query, within};
use super::reply::list as reply_list;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

/// Most objects of one order.
const OBJECTS_LIMIT: usize = 10_000;

/// List pools.
#[utoipa::path(get, path = "/v1/cache", tag = "cache", responses((status = 200, body = Vec<Cache>)))]
pub(super) async fn pools(State(ask): State<Ask>, headers: HeaderMap) -> Result<Response, Error> {
    Ok(reply_list(&headers, &ask.backend.caches().await?))
}

/// List cached objects.
#[utoipa::path(get, path = "/v1/cache/objects", tag = "cache", params(CacheFilter),
    responses((status = 200, body = Vec<CachedObject>)))]
pub(super) async fn objects(
    State(ask): State<Ask>,
    headers: HeaderMap,
    Query(filter): Query<CacheFilter>,
) -> Result<Response, Error> {
    within("limit", filter.limit, 1..=10_000)?;
    Ok(reply_list(&headers, &ask.backend.cached(filter).await?))
}

/// Stage objects, by name or as a task type derives them from an entity.
#[utoipa::path(post, path = "/v1/cache/stage", tag = "cache", request_body = CacheOrder,
    responses((status = 200, body = Vec<CacheAnswer>)))]
pub(super) async fn stage(State(ask): State<Ask>, headers: HeaderMap, body: Body) -> Result<Response, Error> {
    let order = named(&ask, body).await?;
    Ok(reply_list(&headers, &ask.backend.cache_stage(order).await?))
}

/// Pin objects: they are not evicted until they are unpinned. What is absent is staged first.
#[utoipa::path(post, path = "/v1/cache/pin", tag = "cache", request_body = CacheOrder,
    responses((status = 200, body = Vec<CacheAnswer>)))]
pub(super) async fn pin(State(ask): State<Ask>, headers: HeaderMap, body: Body) -> Result<Response, Error> {
    let order = named(&ask, body).await?;
    Ok(reply_list(&headers, &ask.backend.cache_pin(order, true).await?))
}

/// Unpin objects.
#[utoipa::path(post, path = "/v1/cache/unpin", tag = "cache", request_body = CacheOrder,
    responses((status = 200, body = Vec<CacheAnswer>)))]
pub(super) async fn unpin(State(ask): State<Ask>, headers: HeaderMap, body: Body) -> Result<Response, Error> {
    let order = named(&ask, body).await?;
    Ok(reply_list(&headers, &ask.backend.cache_pin(order, false).await?))
}

/// Evict objects.
#[utoipa::path(post, path = "/v1/cache/evict", tag = "cache", request_body = CacheOrder,
    responses((status = 200, body = Vec<CacheAnswer>)))]
pub(super) async fn evict(State(ask): State<Ask>, headers: HeaderMap, body: Body) -> Result<Response, Error> {
    let order = named(&ask, body).await?;
    Ok(reply_list(&headers, &ask.backend.cache_evict(order).await?))
}

/// Read and check the files of objects; of all objects when none are named.
#[utoipa::path(post, path = "/v1/cache/verify", tag = "cache", request_body = CacheOrder,
    responses((status = 200, body = Vec<CacheAnswer>)))]
pub(super) async fn verify(
    State(ask): State<Ask>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let order = ordered(&ask, body).await?;
    Ok(reply_list(&headers, &ask.backend.cache_verify(order).await?))
}

/// An order that must name something: `{}` must not evict everything.
async fn named(ask: &Ask, body: Body) -> Result<CacheOrder, Error> {
    let order = ordered(ask, body).await?;
    if order.objects.is_empty() && order.task_type.is_none() {
        return Err(Error::bad(
            "bad_field",
            "nothing is named; accepted: `objects`, or `type` with `entity`",
        ));
    }
    Ok(order)
}

async fn ordered(ask: &Ask, body: Body) -> Result<CacheOrder, Error> {
    let order: CacheOrder = ask.json(body).await?;
    if order.objects.len() > OBJECTS_LIMIT {
        let n = order.objects.len();
        return Err(Error::bad("bad_field", format!("`objects` has {n}; accepted: up to {OBJECTS_LIMIT}")));
    }
    if order.entity.is_some() && order.task_type.is_none() {
        return Err(Error::bad(
            "bad_field",
            "`entity` is given without `type`; accepted: both, or `objects`",
        ));
    }
    if !order.objects.is_empty() && order.task_type.is_some() {
        return Err(Error::bad("bad_field", "both `objects` and `type` are given; accepted: one of them"));
    }
    Ok(order)
}
