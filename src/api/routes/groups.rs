//! Groups of tasks: list, set, wait for; and `retry` in bulk.

use super::super::error::Error;
use super::super::wire::{Group, GroupEdit, Idle, Retried, RetryFilter};
use super::Ask;
use super::query::{Name, Query, within};
use super::reply::list as reply_list;
use crate::task::is_name;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;

/// Longest and usual wait of one request, seconds.
const WAIT_S: (f64, f64) = (3_600.0, 30.0);
/// Most that a weight may be, and that a limit may.
const WEIGHT_LIMIT: f64 = 1_000.0;
const COUNT_LIMIT: u32 = 100_000_000;

/// List the groups that have unfinished tasks or settings.
#[utoipa::path(get, path = "/v1/groups", tag = "tasks", responses((status = 200, body = Vec<Group>)))]
pub(super) async fn list(State(ask): State<Ask>, headers: HeaderMap) -> Result<Response, Error> {
    Ok(reply_list(&headers, &ask.backend.groups().await?))
}

/// Change what is set of a group.
///
/// Durable when it is answered. `paused`: none of its tasks starts. `weight`: its share of the slots when others
/// want them too. `max_running` and `max_queued`: 0 lifts the limit; a submit beyond `max_queued` is answered
/// with 429.
#[utoipa::path(patch, path = "/v1/groups/{name}", tag = "tasks", request_body = GroupEdit,
    params(("name" = String, Path, description = "Its name")), responses((status = 200, body = Group)))]
pub(super) async fn set(State(ask): State<Ask>, Name(name): Name, body: Body) -> Result<Json<Group>, Error> {
    if !is_name(&name) {
        let accepted = "letters, digits, `_`, `-` and `.`, beginning with a letter or digit, at most 64";
        return Err(Error::bad("bad_path", format!("a group's name is not accepted; accepted: {accepted}")));
    }
    let edit: GroupEdit = ask.json(body).await?;
    if edit == GroupEdit::default() {
        let accepted = "`paused`, `weight`, `max_running` and `max_queued`";
        return Err(Error::bad("bad_field", format!("nothing to change; accepted: {accepted}")));
    }
    if let Some(w) = edit.weight.filter(|w| !(*w > 0.0 && *w <= WEIGHT_LIMIT)) {
        let message = format!("`weight` is {w}; accepted: above 0 to {WEIGHT_LIMIT}");
        return Err(Error::bad("bad_field", message));
    }
    for (what, n) in [("max_running", edit.max_running), ("max_queued", edit.max_queued)] {
        if let Some(n) = n.filter(|n| *n > COUNT_LIMIT) {
            let message = format!("`{what}` is {n}; accepted: 0 (no limit) to {COUNT_LIMIT}");
            return Err(Error::bad("bad_field", message));
        }
    }
    ask.backend.set_group(name, edit).await.map(Json)
}

/// For whom to wait, and how long.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wait {
    /// Only the tasks of this group; all when left out.
    #[serde(default)]
    group: Option<String>,
    /// Seconds, 0 to 3600; 30 when left out.
    #[serde(default)]
    timeout_s: Option<f64>,
}

/// Wait until no task, or none of a group, is unfinished.
#[utoipa::path(get, path = "/v1/wait", tag = "tasks", params(Wait), responses((status = 200, body = Idle)))]
pub(super) async fn wait(State(ask): State<Ask>, Query(wait): Query<Wait>) -> Result<Json<Idle>, Error> {
    within("timeout_s", wait.timeout_s, 0.0..=WAIT_S.0)?;
    tokio::select! {
        idle = ask.backend.wait_idle(wait.group, wait.timeout_s.unwrap_or(WAIT_S.1)) => idle.map(Json),
        () = ask.stop.cancelled() => Err(Error::Unavailable { message: "the daemon is stopping".to_owned() }),
    }
}

/// Try failed tasks again, all that a filter names.
#[utoipa::path(post, path = "/v1/retry", tag = "tasks", request_body = RetryFilter,
    responses((status = 200, body = Retried)))]
pub(super) async fn retry(State(ask): State<Ask>, body: Body) -> Result<Json<Retried>, Error> {
    let filter: RetryFilter = ask.json(body).await?;
    if let Some(n) = filter.limit.filter(|n| !(1..=100_000).contains(n)) {
        return Err(Error::bad("bad_field", format!("`limit` is {n}; accepted: 1 to 100000")));
    }
    ask.backend.retry_all(filter).await.map(Json)
}
