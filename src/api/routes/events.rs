//! The diary, as it grows.

use super::super::error::Error;
use super::super::wire::Event;
use super::Ask;
use super::query::{Query, switch};
use super::reply::{NDJSON, is_ndjson, line};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response, sse};
use futures_util::StreamExt;
use serde::Deserialize;
use std::convert::Infallible;

/// Which part of the diary.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventsQuery {
    /// From this number on (0: the oldest that is kept); the latest hundred when left out. A client that reconnects says
    /// `Last-Event-ID` instead.
    #[serde(default)]
    from: Option<u64>,
    /// Whether to go on as decisions are made. Left out: yes for server-sent events, no for NDJSON.
    #[serde(default, deserialize_with = "switch")]
    follow: Option<bool>,
}

/// The decisions of the daemon, as server-sent events, or as NDJSON with `Accept: application/x-ndjson`.
#[utoipa::path(get, path = "/v1/events", tag = "daemon",
    params(EventsQuery, ("last-event-id" = Option<u64>, Header, description = "The last event that was seen")),
    responses((status = 200, content((Event = "text/event-stream"), (Event = "application/x-ndjson")))))]
pub(super) async fn events(
    State(ask): State<Ask>,
    headers: HeaderMap,
    Query(query): Query<EventsQuery>,
) -> Result<Response, Error> {
    let ndjson = is_ndjson(headers.get(header::ACCEPT));
    let seen = headers.get("last-event-id").and_then(|h| h.to_str().ok()).and_then(|t| t.parse::<u64>().ok());
    let from = seen.map(|n| n.saturating_add(1)).or(query.from);
    let events = ask.backend.events(from, query.follow.unwrap_or(!ndjson)).await?;
    let events = events.take_until(ask.stop.cancelled_owned());
    if ndjson {
        let lines = events.map(|event| {
            let mut text = Vec::new();
            line(&mut text, &event);
            Ok::<_, Infallible>(text)
        });
        return Ok(([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response());
    }
    let sent = events.map(|event| {
        let data = serde_json::to_string(&event).expect("an event is plain data");
        Ok::<_, Infallible>(sse::Event::default().id(event.seq.to_string()).event(event.decided).data(data))
    });
    Ok(Sse::new(sent).keep_alive(KeepAlive::default()).into_response())
}
