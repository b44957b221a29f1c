//! Tasks: submit, list, show, wait, cancel, retry, edit.

use super::super::error::{Error, status_of};
use super::super::wire::{Edit, ErrorBody, Submit, Submitted, Task, TaskFilter};
use super::Ask;
use super::body::parse;
use super::query::{Query, TaskId, within};
use super::reply::{is_ndjson, lines, list as reply_list};
use crate::task::PRIORITY_LIMIT;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Longest wait of one request; whoever wants to wait longer asks again.
const WAIT_LIMIT_S: f64 = 3_600.0;
/// How long a request waits that does not say.
const WAIT_DEFAULT_S: f64 = 30.0;
/// Longest delay: ten years.
const DELAY_LIMIT_S: f64 = 3.2e8;
/// When to come again if a single submit is refused because too much waits.
const RETRY_AFTER_S: u32 = 1;

/// Submit tasks.
///
/// One object is answered with 201 and its number (200 if its key was known), or with its error. An array, or
/// NDJSON with that content type, is answered with 200 and one element (one line) each, in order, accepted or
/// not. What is acknowledged is durable.
#[utoipa::path(
    post, path = "/v1/tasks", tag = "tasks",
    request_body(content(
        (Submit = "application/json"),
        (Vec<Submit> = "application/json"),
        (Submit = "application/x-ndjson")
    )),
    responses(
        (status = 201, body = Submitted, description = "One task was accepted"),
        (status = 200, body = Vec<Submitted>, description = "One answer for each task of an array or of NDJSON")
    )
)]
pub(super) async fn submit(
    State(ask): State<Ask>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Error> {
    let ndjson = is_ndjson(headers.get(header::CONTENT_TYPE));
    let limit = if ndjson { ask.limits.lines_bytes } else { ask.limits.body_bytes };
    let whole = ask.read(body, limit).await?;
    if ndjson {
        return Ok(lines(&submit_all(&ask, parse_lines(&whole.bytes, ask.limits.submits)?).await?));
    }
    if whole.bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[') {
        let answers = submit_all(&ask, parse_array(&whole.bytes, ask.limits.submits)?).await?;
        return Ok(reply_list(&headers, &answers));
    }
    let submit = parse::<Submit>(&whole.bytes, || "the body".to_owned())?;
    let mut answers = ask.backend.submit(vec![submit]).await?;
    let answer = answers.pop().ok_or_else(short_answer)?;
    Ok(one_answer(answer))
}

type Parsed = Result<Submit, Error>;

fn parse_lines(bytes: &[u8], limit: usize) -> Result<Vec<Parsed>, Error> {
    let lines = bytes.split(|b| *b == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.iter().all(u8::is_ascii_whitespace));
    let parsed: Vec<Parsed> =
        lines.take(limit + 1).map(|(i, line)| parse(line, || format!("line {}", i + 1))).collect();
    bounded(parsed, limit)
}

fn parse_array(bytes: &[u8], limit: usize) -> Result<Vec<Parsed>, Error> {
    let raw: Vec<&RawValue> = parse(bytes, || "the body".to_owned())?;
    let one = |(i, raw): (usize, &&RawValue)| parse(raw.get().as_bytes(), || format!("element {i}"));
    bounded(raw.iter().take(limit + 1).enumerate().map(one).collect(), limit)
}

fn bounded(parsed: Vec<Parsed>, limit: usize) -> Result<Vec<Parsed>, Error> {
    if parsed.len() > limit {
        let message =
            format!("more than {limit} tasks in one request; accepted: up to {limit}, then another");
        return Err(Error::bad("too_many", message));
    }
    Ok(parsed)
}

/// One call for all that could be read; the answers in the order of the request.
async fn submit_all(ask: &Ask, parsed: Vec<Parsed>) -> Result<Vec<Submitted>, Error> {
    let mut good = Vec::with_capacity(parsed.len());
    let refusals: Vec<Option<ErrorBody>> = parsed
        .into_iter()
        .map(|p| match p {
            Ok(submit) => {
                good.push(submit);
                None
            }
            Err(e) => Some(e.body()),
        })
        .collect();
    let wanted = good.len();
    let answers = if good.is_empty() { Vec::new() } else { ask.backend.submit(good).await? };
    if answers.len() != wanted {
        return Err(short_answer());
    }
    let mut answers = answers.into_iter();
    let merge = |refusal| match refusal {
        Some(error) => Ok(Submitted { id: None, existing: false, error: Some(error) }),
        None => answers.next().ok_or_else(short_answer),
    };
    refusals.into_iter().map(merge).collect()
}

fn short_answer() -> Error {
    Error::Internal { message: "the daemon did not answer for every task".to_owned() }
}

fn one_answer(answer: Submitted) -> Response {
    let Some(error) = answer.error else {
        let status = if answer.existing { StatusCode::OK } else { StatusCode::CREATED };
        return (status, Json(answer)).into_response();
    };
    let status = status_of(&error.code);
    let mut response = (status, Json(error)).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
    }
    response
}

/// List tasks, new to old.
#[utoipa::path(get, path = "/v1/tasks", tag = "tasks", params(TaskFilter),
    responses((status = 200, body = Vec<Task>)))]
pub(super) async fn list(
    State(ask): State<Ask>,
    headers: HeaderMap,
    Query(filter): Query<TaskFilter>,
) -> Result<Response, Error> {
    within("limit", filter.limit, 1..=1_000)?;
    Ok(reply_list(&headers, &ask.backend.tasks(filter).await?))
}

/// Show one task.
#[utoipa::path(get, path = "/v1/tasks/{id}", tag = "tasks", params(("id" = u64, Path, description = "Its number")),
    responses((status = 200, body = Task)))]
pub(super) async fn show(State(ask): State<Ask>, TaskId(id): TaskId) -> Result<Json<Task>, Error> {
    ask.backend.task(id).await.map(Json)
}

/// How long to wait.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wait {
    /// Seconds, 0 to 3600; 30 when left out.
    #[serde(default)]
    timeout_s: Option<f64>,
}

/// Wait until a task has ended.
///
/// Answers with the task when it has ended, or when the time is over with the task as it is then.
#[utoipa::path(get, path = "/v1/tasks/{id}/wait", tag = "tasks",
    params(("id" = u64, Path, description = "Its number"), Wait), responses((status = 200, body = Task)))]
pub(super) async fn wait(
    State(ask): State<Ask>,
    TaskId(id): TaskId,
    Query(wait): Query<Wait>,
) -> Result<Json<Task>, Error> {
    within("timeout_s", wait.timeout_s, 0.0..=WAIT_LIMIT_S)?;
    tokio::select! {
        task = ask.backend.wait(id, wait.timeout_s.unwrap_or(WAIT_DEFAULT_S)) => task.map(Json),
        () = ask.stop.cancelled() => Err(Error::Unavailable { message: "the daemon is stopping".to_owned() }),
    }
}

/// Cancel a task.
#[utoipa::path(post, path = "/v1/tasks/{id}/cancel", tag = "tasks",
    params(("id" = u64, Path, description = "Its number")), responses((status = 200, body = Task)))]
pub(super) async fn cancel(State(ask): State<Ask>, TaskId(id): TaskId) -> Result<Json<Task>, Error> {
    ask.backend.cancel(id).await.map(Json)
}

/// Try a failed or cancelled task again.
#[utoipa::path(post, path = "/v1/tasks/{id}/retry", tag = "tasks",
    params(("id" = u64, Path, description = "Its number")), responses((status = 200, body = Task)))]
pub(super) async fn retry(State(ask): State<Ask>, TaskId(id): TaskId) -> Result<Json<Task>, Error> {
    ask.backend.retry(id).await.map(Json)
}

/// Change the priority or the delay of a waiting task.
#[utoipa::path(patch, path = "/v1/tasks/{id}", tag = "tasks", request_body = Edit,
    params(("id" = u64, Path, description = "Its number")), responses((status = 200, body = Task)))]
pub(super) async fn edit(
    State(ask): State<Ask>,
    TaskId(id): TaskId,
    body: Body,
) -> Result<Json<Task>, Error> {
    let edit: Edit = ask.json(body).await?;
    if edit == Edit::default() {
        return Err(Error::bad("bad_field", "nothing to change; accepted: `priority` and `delay_s`"));
    }
    if let Some(p) = edit.priority.filter(|p| *p > PRIORITY_LIMIT) {
        return Err(Error::bad("bad_field", format!("`priority` is {p}; accepted: 0 to {PRIORITY_LIMIT}")));
    }
    if let Some(d) = edit.delay_s.filter(|d| !(0.0..=DELAY_LIMIT_S).contains(d)) {
        return Err(Error::bad(
            "bad_field",
            format!("`delay_s` is {d}; accepted: 0 to {DELAY_LIMIT_S} seconds"),
        ));
    }
    ask.backend.edit(id, edit).await.map(Json)
}
