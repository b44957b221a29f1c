//! A task's log, whole or followed.

use super::super::backend::Backend;
use super::super::error::Error;
use super::Ask;
use super::query::{Query, TaskId, switch};
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

/// How often a growing log is looked at. The child writes into a file, and a file tells nobody that it grew.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Which part of a log.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogQuery {
    /// Whether to go on until the task has ended.
    #[serde(default, deserialize_with = "switch")]
    follow: Option<bool>,
    /// Which attempt, from 1; the last one when left out.
    #[serde(default)]
    attempt: Option<u32>,
    /// From which byte on.
    #[serde(default)]
    offset: Option<u64>,
}

/// The output of a task.
///
/// Without `follow` what there is now of one attempt; with it, what comes until the task has ended, over all
/// its further attempts. Plain bytes, as the task wrote them.
#[utoipa::path(get, path = "/v1/tasks/{id}/log", tag = "tasks",
    params(("id" = u64, Path, description = "Its number"), LogQuery),
    responses((status = 200, body = String, content_type = "application/octet-stream")))]
pub(super) async fn log(
    State(ask): State<Ask>,
    TaskId(id): TaskId,
    Query(query): Query<LogQuery>,
) -> Result<Response, Error> {
    let follow = query.follow.unwrap_or(false);
    let mut reader = Reader {
        backend: ask.backend,
        task: id,
        attempt: query.attempt,
        one_attempt: query.attempt.is_some() || !follow,
        offset: query.offset.unwrap_or(0),
        follow,
    };
    // The first part is read before the status is sent, so that an unknown task is a 404 and no empty log.
    let first = reader.next().await?;
    let rest = stream::try_unfold(reader, |mut reader| async move {
        Ok::<_, Error>(reader.next().await?.map(|part| (part, reader)))
    });
    let whole = stream::iter(first.map(Ok)).chain(rest);
    let whole = whole.take_until(ask.stop.cancelled_owned());
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::from_stream(whole)).into_response())
}

struct Reader {
    backend: Arc<dyn Backend>,
    task: u64,
    /// Which attempt is read; the last one until it is known which that is.
    attempt: Option<u32>,
    /// Whether to end with this attempt.
    one_attempt: bool,
    offset: u64,
    follow: bool,
}

impl Reader {
    /// The next bytes; `None` when there are no more.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.attempt.is_none() && !self.begin().await? {
                return Ok(None);
            }
            let part = self.backend.log(self.task, self.attempt, self.offset).await?;
            self.offset = part.next;
            if !part.bytes.is_empty() {
                return Ok(Some(part.bytes));
            }
            let goes_on = if part.ended { self.turn().await? } else { self.follow };
            if !goes_on {
                return Ok(None);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Settles which attempt is read; false if there is none and none will come.
    async fn begin(&mut self) -> Result<bool, Error> {
        loop {
            let task = self.backend.task(self.task).await?;
            if task.attempts > 0 {
                self.attempt = Some(task.attempts);
                return Ok(true);
            }
            if task.state.is_final() || !self.follow {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Goes on to the next attempt, if there may be one; false when the task has ended with this one.
    async fn turn(&mut self) -> Result<bool, Error> {
        if self.one_attempt {
            return Ok(false);
        }
        let task = self.backend.task(self.task).await?;
        let read = self.attempt.unwrap_or(0);
        if task.attempts > read {
            self.attempt = Some(read + 1);
            self.offset = 0;
            return Ok(true);
        }
        Ok(!task.state.is_final())
    }
}
