//! The routes of `/v1` and the document that describes them; both come from the same declarations.

mod body;
mod cache;
mod control;
mod events;
mod groups;
mod heatmap;
mod log;
mod monitor;
mod outside;
mod query;
mod recurring;
mod reply;
mod tasks;
mod why;
mod workers;

use super::backend::Backend;
use super::error::Error;
use super::near::near;
use super::{dashboard, roles, wire};
use axum::Router;
use axum::extract::State;
use axum::http::{Method, Uri, header};
use axum::middleware;
use axum::response::IntoResponse;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa::openapi::{Content, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What requests may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest body, bytes.
    pub body_bytes: usize,
    /// Longest body of NDJSON, bytes.
    pub lines_bytes: usize,
    /// Most bytes of all bodies that are read or worked on at once; beyond it a request is told to come again.
    pub all_bodies_bytes: usize,
    /// Most tasks of one request.
    pub submits: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
}

impl Default for Limits {
    /// 8 MiB, 64 MiB of NDJSON, 160 MiB for all, 100,000 tasks, 30 s.
    fn default() -> Limits {
        Limits {
            body_bytes: 8 << 20,
            lines_bytes: 64 << 20,
            all_bodies_bytes: 160 << 20,
            submits: 100_000,
            body_timeout: Duration::from_secs(30),
        }
    }
}

/// What every route has.
#[derive(Clone)]
struct Ask {
    backend: Arc<dyn Backend>,
    limits: Limits,
    /// What is left of [`Limits::all_bodies_bytes`], in KiB.
    room: Arc<Semaphore>,
    /// Ends streams and long polls when the daemon stops.
    stop: CancellationToken,
    /// Every path, for suggestions.
    paths: Arc<[String]>,
    /// The document, as it is served.
    document: Bytes,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "forestage",
        description = "A task daemon for one host that has the data staged at the worker before the task asks \
            for it. Served over a Unix socket: `curl --unix-socket PATH http://forestage/v1/workers`. Lists are \
            JSON arrays; with `Accept: application/x-ndjson` they come as one object a line."
    ),
    tags(
        (name = "tasks", description = "Submit tasks and follow them"),
        (name = "workers", description = "Who runs them, and what is expected next"),
        (name = "cache", description = "What is staged"),
        (name = "evidence", description = "What is hot, what was saved, and why"),
        (name = "daemon", description = "The daemon itself")
    ),
    components(schemas(wire::ErrorBody)),
    modifiers(&EveryError)
)]
struct Document;

/// Every operation may answer with an error, and all errors look alike.
struct EveryError;

impl Modify for EveryError {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let error = || RefOr::from(Ref::from_schema_name("ErrorBody"));
        for item in document.paths.paths.values_mut() {
            let operations =
                [&mut item.get, &mut item.post, &mut item.patch, &mut item.put, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                let response = ResponseBuilder::new()
                    .description("Any error: a stable word, and a sentence that says what is accepted")
                    .content("application/json", Content::new(Some(error())));
                operation.responses.responses.insert("default".to_owned(), response.build().into());
            }
        }
    }
}

fn declared() -> OpenApiRouter<Ask> {
    OpenApiRouter::new()
        .routes(routes!(tasks::list, tasks::submit))
        .routes(routes!(tasks::show, tasks::edit))
        .routes(routes!(log::log))
        .routes(routes!(tasks::wait))
        .routes(routes!(tasks::cancel))
        .routes(routes!(tasks::retry))
        .routes(routes!(workers::list, outside::attach))
        .routes(routes!(outside::next))
        .routes(routes!(outside::heartbeat))
        .routes(routes!(outside::life_line))
        .routes(routes!(outside::leave))
        .routes(routes!(groups::list))
        .routes(routes!(groups::set))
        .routes(routes!(groups::wait))
        .routes(routes!(groups::retry))
        .routes(routes!(recurring::list))
        .routes(routes!(recurring::set, recurring::remove))
        .routes(routes!(workers::profile))
        .routes(routes!(workers::predict))
        .routes(routes!(cache::pools))
        .routes(routes!(cache::objects))
        .routes(routes!(cache::stage))
        .routes(routes!(cache::pin))
        .routes(routes!(cache::unpin))
        .routes(routes!(cache::evict))
        .routes(routes!(cache::verify))
        .routes(routes!(heatmap::heatmap))
        .routes(routes!(monitor::series))
        .routes(routes!(monitor::now))
        .routes(routes!(monitor::metrics))
        .routes(routes!(why::savings))
        .routes(routes!(why::why))
        .routes(routes!(control::pause))
        .routes(routes!(control::resume))
        .routes(routes!(control::drain))
        .routes(routes!(control::health))
        .routes(routes!(events::events))
        .routes(routes!(openapi))
}

fn split() -> (Router<Ask>, utoipa::openapi::OpenApi) {
    let (router, paths) = declared().split_for_parts();
    let mut document = Document::openapi();
    document.merge(paths);
    EveryError.modify(&mut document);
    (router, document)
}

/// The document that describes every route, as `/v1/openapi.json` serves it.
pub fn document() -> utoipa::openapi::OpenApi {
    split().1
}

/// Every route, over a backend. Streams and long polls end when `stop` is cancelled.
pub fn router(backend: Arc<dyn Backend>, limits: Limits, stop: CancellationToken) -> Router {
    let (router, document) = split();
    let ask = Ask {
        backend,
        limits,
        room: Arc::new(Semaphore::new(limits.all_bodies_bytes >> 10)),
        stop,
        paths: document.paths.paths.keys().cloned().collect(),
        document: Bytes::from(serde_json::to_vec(&document).expect("the document is plain data")),
    };
    router
        .merge(dashboard::router())
        .route_layer(middleware::from_fn(roles::guard))
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .with_state(ask)
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "daemon", responses((status = 200, body = Object)))]
async fn openapi(State(ask): State<Ask>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], ask.document)
}

async fn wrong_method(method: Method, uri: Uri) -> Error {
    let path = shorten(uri.path());
    Error::Method {
        message: format!("`{path}` does not take {method}; the header `allow` says what it takes"),
    }
}

async fn unknown_path(State(ask): State<Ask>, uri: Uri) -> Error {
    let near: Vec<String> = near(uri.path(), &ask.paths).iter().map(|p| format!("`{p}`")).collect();
    let hint = match near.as_slice() {
        [] => "`/v1/openapi.json` lists all paths".to_owned(),
        near => format!("near to it: {}", near.join(", ")),
    };
    Error::NotFound { message: format!("there is no path `{}`; {hint}", shorten(uri.path())) }
}

/// What others sent, cut to what a message can carry.
fn shorten(text: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    let mut short: String = text.chars().take(SHOWN_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
