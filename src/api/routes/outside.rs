//! Outside workers: attach, ask for work, live, leave.

use super::super::error::Error;
use super::super::outside::{
    Attach, Beaten, Heartbeat, LEASE_LEAST_S, LEASE_LIMIT_S, Next, NextAnswer, SLOTS_LIMIT, Session,
};
use super::Ask;
use super::query::{Name, Query};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait of one request.
const WAIT_LIMIT_S: f64 = 3_600.0;
/// Longest delay of a task that is given back: ten years.
const RELEASE_LIMIT_S: f64 = 3.2e8;
/// A life line says so often that it is there.
const LIFE_LINE: Duration = Duration::from_millis(500);

/// Attach an outside worker.
///
/// Answered with its session. A session under the same name that is still there ends with it, and what that one
/// held goes back to the queue.
#[utoipa::path(post, path = "/v1/workers", tag = "workers", request_body = Attach,
    responses((status = 201, body = Session)))]
pub(super) async fn attach(State(ask): State<Ask>, body: Body) -> Result<Response, Error> {
    let order: Attach = ask.json(body).await?;
    field("slots", order.slots, 1, SLOTS_LIMIT)?;
    field("lease_s", order.lease_s, LEASE_LEAST_S, LEASE_LIMIT_S)?;
    let session = ask.backend.attach(order).await?;
    Ok((StatusCode::CREATED, Json(session)).into_response())
}

/// Take back what was done and give more, in one round trip.
///
/// What comes back is on record before the answer, and so is the start of what is given. With `wait_s` the answer
/// comes as soon as there is at least one attempt. If every completion is refused (its lease was lost, or it came
/// twice) the answer is 409 and nothing is given; if some are, they are listed in `refused`. After a broken
/// connection attach anew: what was on its way is given back then.
#[utoipa::path(post, path = "/v1/workers/{name}/next", tag = "workers", request_body = Next,
    params(("name" = String, Path, description = "The worker")), responses((status = 200, body = NextAnswer)))]
pub(super) async fn next(
    State(ask): State<Ask>,
    Name(name): Name,
    body: Body,
) -> Result<Json<NextAnswer>, Error> {
    let whole = ask.read(body, ask.limits.lines_bytes).await?;
    let order: Next = super::body::parse(&whole.bytes, || "the body".to_owned())?;
    field("take", order.take, 0, SLOTS_LIMIT)?;
    field("wait_s", order.wait_s, 0.0, WAIT_LIMIT_S)?;
    for (i, done) in order.done.iter().enumerate() {
        field(&format!("done[{i}].exit_code"), done.exit_code, 0, 255)?;
        field(&format!("done[{i}].release_s"), done.release_s, 0.0, RELEASE_LIMIT_S)?;
        field(&format!("done[{i}].wall_ms"), done.wall_ms, 0.0, 1e12)?;
        field(&format!("done[{i}].cpu_ms"), done.cpu_ms, 0.0, 1e12)?;
    }
    drop(whole);
    tokio::select! {
        answer = ask.backend.next(name, order) => answer.map(Json),
        () = ask.stop.cancelled() => Err(stopping()),
    }
}

/// Say that the worker lives, and hear what it should end.
#[utoipa::path(post, path = "/v1/workers/{name}/heartbeat", tag = "workers", request_body = Heartbeat,
    params(("name" = String, Path, description = "The worker")), responses((status = 200, body = Beaten)))]
pub(super) async fn heartbeat(
    State(ask): State<Ask>,
    Name(name): Name,
    body: Body,
) -> Result<Json<Beaten>, Error> {
    let beat: Heartbeat = ask.json(body).await?;
    field("round_trip_ms", beat.round_trip_ms, 0.0, 1e9)?;
    ask.backend.heartbeat(name, beat).await.map(Json)
}

/// Which session.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfSession {
    /// Its number.
    session: u64,
}

/// End a session: what it holds goes back to the queue.
#[utoipa::path(delete, path = "/v1/workers/{name}", tag = "workers",
    params(("name" = String, Path, description = "The worker"), OfSession), responses((status = 204)))]
pub(super) async fn leave(
    State(ask): State<Ask>,
    Name(name): Name,
    Query(of): Query<OfSession>,
) -> Result<StatusCode, Error> {
    ask.backend.leave(name, of.session).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Hold a life line: the session ends when this connection closes, at once.
///
/// An empty line comes twice a second as long as the session lives, and each counts as a heartbeat.
#[utoipa::path(get, path = "/v1/workers/{name}/lifeline", tag = "workers",
    params(("name" = String, Path, description = "The worker"), OfSession),
    responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn life_line(
    State(ask): State<Ask>,
    Name(name): Name,
    Query(of): Query<OfSession>,
) -> Result<Response, Error> {
    let beat = Heartbeat { session: of.session, round_trip_ms: None };
    ask.backend.heartbeat(name.clone(), beat.clone()).await?;
    let line = Arc::new(Line { ask: ask.clone(), name, session: of.session });
    let beats = stream::unfold((line, true), move |(line, first)| {
        let beat = beat.clone();
        async move {
            if !first {
                tokio::time::sleep(LIFE_LINE).await;
            }
            line.ask.backend.heartbeat(line.name.clone(), beat).await.ok()?;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"\n")), (line, false)))
        }
    });
    use futures_util::StreamExt;
    let beats = beats.take_until(ask.stop.clone().cancelled_owned());
    Ok(([(header::CONTENT_TYPE, "text/plain")], Body::from_stream(beats)).into_response())
}

/// Ends its session when it is dropped: the connection has closed.
struct Line {
    ask: Ask,
    name: String,
    session: u64,
}

impl Drop for Line {
    fn drop(&mut self) {
        let (backend, name, session) = (self.ask.backend.clone(), self.name.clone(), self.session);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // It may have ended already.
                let _ = backend.leave(name, session).await;
            });
        }
    }
}

fn stopping() -> Error {
    Error::Unavailable { message: "the daemon is stopping".to_owned() }
}

/// Refuses a field outside its range; what is not a number is outside of every range.
fn field<T: PartialOrd + Copy + std::fmt::Display>(
    name: &str,
    value: Option<T>,
    from: T,
    to: T,
) -> Result<(), Error> {
    match value {
        Some(v) if !(from..=to).contains(&v) => {
            Err(Error::bad("bad_field", format!("`{name}` is {v}; accepted: {from} to {to}")))
        }
        _ => Ok(()),
    }
}
