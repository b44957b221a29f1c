//! Recurring tasks: list, set, remove.

use super::super::error::Error;
use super::super::wire::{Recurring, RecurringTask};
use super::Ask;
use super::query::Name;
use super::reply::list as reply_list;
use crate::task::is_name;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

/// List the recurring tasks, each with its next occurrence.
#[utoipa::path(get, path = "/v1/recurring", tag = "tasks",
    responses((status = 200, body = Vec<RecurringTask>)))]
pub(super) async fn list(State(ask): State<Ask>, headers: HeaderMap) -> Result<Response, Error> {
    Ok(reply_list(&headers, &ask.backend.recurring().await?))
}

/// Set a recurring task, or replace the one of that name.
///
/// Its next occurrence is submitted at once as a delayed task: it is listed, can be cancelled, and its inputs are
/// staged before it fires.
#[utoipa::path(put, path = "/v1/recurring/{name}", tag = "tasks", request_body = Recurring,
    params(("name" = String, Path, description = "Its name")), responses((status = 200, body = RecurringTask)))]
pub(super) async fn set(
    State(ask): State<Ask>,
    Name(name): Name,
    body: Body,
) -> Result<Json<RecurringTask>, Error> {
    if !is_name(&name) {
        let accepted = "letters, digits, `_`, `-` and `.`, beginning with a letter or digit, at most 64";
        return Err(Error::bad("bad_path", format!("the name is not accepted; accepted: {accepted}")));
    }
    let recurring: Recurring = ask.json(body).await?;
    let task = &recurring.task;
    if task.key.is_some() || !task.after.is_empty() || task.delay_s.is_some() {
        let message =
            "`key`, `after` and `delay_s` belong to one task; a recurring one is a new task each time";
        return Err(Error::bad("bad_field", message));
    }
    ask.backend.set_recurring(name, recurring).await.map(Json)
}

/// Remove a recurring task. The occurrence that waits is cancelled; one that is queued or runs goes on.
#[utoipa::path(delete, path = "/v1/recurring/{name}", tag = "tasks",
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = Vec<RecurringTask>)))]
pub(super) async fn remove(
    State(ask): State<Ask>,
    headers: HeaderMap,
    Name(name): Name,
) -> Result<Response, Error> {
    ask.backend.remove_recurring(name).await?;
    Ok(reply_list(&headers, &ask.backend.recurring().await?))
}
