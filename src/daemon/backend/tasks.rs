//! Tasks: submit, list, show, log, retry, edit.

use super::{Hub, bad, gone, not_found};
use crate::api::backend::LogPart;
use crate::api::{Error, wire};
use crate::daemon::kept::Kept;
use crate::daemon::record::{state_of_done, state_of_live};
use crate::dispatch::actor::{self, Amend, Retry, Submit};
use crate::dispatch::{Edit, NotPossible, SubmitError, Why};
use crate::flow::{Ending, TaskId};
use crate::store::reader::{Filter, Stored};
use crate::store::{Done, DoneState, TaskRow};
use crate::task::{self, Refused, State};
use crate::time::Span;
use crate::worker::attempt::log_name;
use bytes::Bytes;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

/// Most bytes of a log in one answer.
const LOG_PART_BYTES: u64 = 1 << 20;
/// Tasks of a list, unless asked otherwise, and at most.
const LIST: (usize, usize) = (100, 1_000);

/// A refusal of dispatch as an error of the socket.
pub(super) fn not_possible(e: NotPossible) -> Error {
    match &e {
        NotPossible::Unknown { .. } | NotPossible::NoRecurring { .. } => not_found(e.to_string()),
        NotPossible::TooManyGroups { .. } => Error::Busy { message: e.to_string(), retry_after_s: 1 },
        NotPossible::State { .. } => Error::Conflict { message: e.to_string() },
    }
}

pub(super) fn submit_error(e: &SubmitError) -> Error {
    match e {
        SubmitError::Full { .. }
        | SubmitError::GroupFull { .. }
        | SubmitError::TooManyGroups { .. }
        | SubmitError::TooManyRecurring { .. } => Error::Busy { message: e.to_string(), retry_after_s: 1 },
        SubmitError::Draining => Error::Unavailable { message: e.to_string() },
        SubmitError::UnknownDependency { .. } => bad("unknown_dependency", e.to_string()),
        SubmitError::Schedule(s) => bad("bad_schedule", s.to_string()),
        SubmitError::Refused(r) => bad(refused_code(r), e.to_string()),
    }
}

fn refused_code(r: &Refused) -> &'static str {
    match r {
        Refused::UnknownType { .. } => "unknown_type",
        Refused::BadValue { .. } => "bad_value",
        Refused::UnknownArgument { .. } => "unknown_argument",
        Refused::MissingField { .. } => "missing_field",
        Refused::BadObject(_) => "bad_object",
        Refused::UnknownSource { .. } => "unknown_source",
        Refused::TooMuch { .. } => "too_much",
    }
}

impl Hub {
    pub(super) fn deadline(&self, deadline_s: Option<f64>) -> Result<Option<crate::time::Time>, Error> {
        let Some(s) = deadline_s else { return Ok(None) };
        let ok = s.is_finite() && s > 0.0;
        let wrong =
            || bad("bad_value", format!("deadline_s is {s}; accepted: above 0 to 315360000 (ten years)"));
        if ok { self.delay(Some(s)).map_err(|_| wrong()) } else { Err(wrong()) }
    }

    fn delay(&self, delay_s: Option<f64>) -> Result<Option<crate::time::Time>, Error> {
        match delay_s {
            None => Ok(None),
            Some(s) if (0.0..=10.0 * 365.0 * 86_400.0).contains(&s) => {
                Ok(Some(self.clock.now() + Span::from_s(s)))
            }
            Some(s) => Err(bad("bad_value", format!("delay_s is {s}; accepted: 0 to 315360000 (ten years)"))),
        }
    }

    pub(super) async fn submit_tasks(
        &self,
        submits: Vec<wire::Submit>,
    ) -> Result<Vec<wire::Submitted>, Error> {
        // Before anything is made of them: what waits to be written is bounded.
        if self.house.unwritten.is_congested() {
            let bytes = self.house.unwritten.pending_bytes();
            let message = format!("{bytes} bytes of changes wait to be written; try again in a moment");
            return Err(Error::Busy { message, retry_after_s: 1 });
        }
        let refused = |e: &Error| wire::Submitted { id: None, existing: false, error: Some(e.body()) };
        let mut answers: Vec<Option<wire::Submitted>> = Vec::with_capacity(submits.len());
        let mut good = Vec::with_capacity(submits.len());
        for s in submits {
            let times = self.delay(s.delay_s).and_then(|n| Ok((n, self.deadline(s.deadline_s)?)));
            match times {
                Err(e) => answers.push(Some(refused(&e))),
                Ok((not_before, deadline)) => {
                    answers.push(None);
                    good.push(task::Submit {
                        task_type: s.task_type,
                        entity: s.entity,
                        args: s.args,
                        inputs: s.inputs,
                        priority: s.priority,
                        key: s.key,
                        after: s.after.into_iter().map(TaskId).collect(),
                        not_before,
                        deadline,
                        group: s.group,
                        recurring: None,
                        fresh: s.fresh,
                        payload: s.payload,
                    });
                }
            }
        }
        let decided = self.house.dispatch.send(Submit(good)).await.map_err(gone)?;
        let mut decided = decided.into_iter().map(|r| match r {
            Ok(s) => wire::Submitted { id: Some(s.task.0), existing: s.existing, error: None },
            Err(e) => refused(&submit_error(&e)),
        });
        let fill = |a: Option<wire::Submitted>| a.or_else(|| decided.next());
        Ok(answers.into_iter().filter_map(fill).collect())
    }

    /// An unfinished task as the queue has it.
    pub(super) fn of_why(&self, w: &Why) -> wire::Task {
        let t = &w.task;
        wire::Task {
            id: t.id.0,
            task_type: self.names.catalogue.name(t.task_type).to_owned(),
            entity: t.entity.as_deref().map(str::to_owned),
            state: w.state,
            waiting_for: w.waiting_for.as_ref().map(|f| match f {
                task::WaitingFor::Better { worker } => format!("better worker {}", self.worker_name(*worker)),
                other => other.to_string(),
            }),
            reason: None,
            exit_code: None,
            priority: w.priority,
            group: Some(w.group.to_string()).filter(|g| !g.is_empty()),
            deadline_s: w.task.deadline.map(|t| t.as_s()),
            attempts: w.attempts,
            worker: w.held_by.as_ref().map(|(id, _, _)| self.worker_name(*id)),
            submitted_s: t.submitted.as_s(),
            started_s: (w.state == State::Running).then(|| w.since.as_s()),
            ended_s: None,
            not_before_s: w.not_before.map(|t| t.as_s()),
            key: t.key.as_deref().map(str::to_owned),
            after: t.after.iter().map(|t| t.0).collect(),
            args: t.args.clone(),
            inputs: t.inputs.iter().map(ToString::to_string).collect(),
            outputs: t.outputs.iter().map(|(_, o)| o.to_string()).collect(),
            writes: t.writes.iter().map(ToString::to_string).collect(),
            data_wait_ms: None,
            usage: None,
        }
    }

    fn of_row(&self, row: &TaskRow) -> wire::Task {
        // A type that is configured no more still shows what can be shown.
        let task = self.names.task(row, &self.places).ok();
        let list = |objects: Option<Vec<String>>| objects.unwrap_or_default();
        wire::Task {
            id: row.id.0,
            task_type: row.type_name.to_string(),
            entity: task.as_ref().and_then(|t| t.entity.as_deref().map(str::to_owned)),
            state: State::Queued,
            waiting_for: None,
            reason: None,
            exit_code: None,
            priority: row.priority,
            group: task.as_ref().and_then(|t| t.group.as_deref().map(str::to_owned)),
            deadline_s: task.as_ref().and_then(|t| Some(t.deadline?.as_s())),
            attempts: 0,
            worker: None,
            submitted_s: row.submitted.as_s(),
            started_s: None,
            ended_s: None,
            not_before_s: None,
            key: row.key.as_deref().map(str::to_owned),
            after: task.as_ref().map(|t| t.after.iter().map(|t| t.0).collect()).unwrap_or_default(),
            args: task.as_ref().map(|t| t.args.clone()).unwrap_or_default(),
            inputs: list(task.as_ref().map(|t| t.inputs.iter().map(ToString::to_string).collect())),
            outputs: list(task.as_ref().map(|t| t.outputs.iter().map(|(_, o)| o.to_string()).collect())),
            writes: list(task.as_ref().map(|t| t.writes.iter().map(ToString::to_string).collect())),
            data_wait_ms: None,
            usage: None,
        }
    }

    fn finish(&self, mut t: wire::Task, done: &Done) -> wire::Task {
        t.state = state_of_done(done.state);
        t.ended_s = Some(done.ended.as_s());
        t.attempts = done.attempts;
        if let Ok(kept) = Kept::from_bytes(&done.outcome) {
            if !kept.ending.is_done() {
                t.reason = Some(kept.ending.to_string());
            }
            t.exit_code = match kept.ending {
                Ending::Done => Some(0),
                Ending::Exited { code } => Some(code),
                _ => None,
            };
            if let Some(a) = kept.attempt {
                t.worker = Some(a.worker);
                t.started_s = Some(a.started.as_s());
                t.data_wait_ms = Some(a.data_wait.as_ms());
                t.usage = Some(a.usage.into());
            }
        }
        t
    }

    /// A task as the record has it.
    pub(super) fn of_stored(&self, s: &Stored) -> wire::Task {
        let mut t = self.of_row(&s.task);
        if let Some(live) = &s.live {
            t.state = state_of_live(live.state);
            t.attempts = live.attempt;
            t.worker = live.worker.as_deref().map(str::to_owned);
            t.not_before_s = live.not_before.map(|t| t.as_s());
            return t;
        }
        match s.done.first() {
            Some(done) => self.finish(t, done),
            None => t,
        }
    }

    pub(super) async fn show_task(&self, id: u64) -> Result<wire::Task, Error> {
        if let Some(why) = actor::why(&self.house.dispatch, TaskId(id), false).await.map_err(gone)? {
            return Ok(self.of_why(&why));
        }
        Ok(self.of_stored(&self.stored(id).await?))
    }

    pub(super) async fn list_tasks(&self, f: wire::TaskFilter) -> Result<Vec<wire::Task>, Error> {
        let limit = f.limit.unwrap_or(LIST.0);
        if !(1..=LIST.1).contains(&limit) {
            return Err(bad("bad_value", format!("limit is {limit}; accepted: 1 to {}", LIST.1)));
        }
        let task_type = match &f.task_type {
            Some(name) => Some(
                self.names.catalogue.find(name).ok_or_else(|| not_found(format!("no task type `{name}`")))?,
            ),
            None => None,
        };
        let before = f.before.unwrap_or(u64::MAX);
        let (state, entity, group) = (f.state, f.entity.clone(), f.group.clone());
        let keep = move |t: &task::Task, s: State| {
            t.id.0 < before
                && state.is_none_or(|want| want == s)
                && task_type.is_none_or(|want| want == t.task_type)
                && entity.as_deref().is_none_or(|want| t.entity.as_deref() == Some(want))
                && group.as_deref().is_none_or(|want| t.group.as_deref().unwrap_or("") == want)
        };
        let live: Vec<Why> = actor::look(&self.house.dispatch, move |d, now| {
            d.newest(limit, keep).into_iter().filter_map(|id| d.why(now, id, false)).collect()
        })
        .await
        .map_err(gone)?;
        let mut tasks: Vec<wire::Task> = live.iter().map(|w| self.of_why(w)).collect();
        tasks.extend(self.list_finished(&f, before, limit).await?);
        // A task may have ended between the two looks: the record's word is the newer one.
        tasks.sort_by(|a, b| b.id.cmp(&a.id).then(b.ended_s.is_some().cmp(&a.ended_s.is_some())));
        tasks.dedup_by_key(|t| t.id);
        tasks.truncate(limit);
        Ok(tasks)
    }

    async fn list_finished(
        &self,
        f: &wire::TaskFilter,
        before: u64,
        limit: usize,
    ) -> Result<Vec<wire::Task>, Error> {
        let states = match f.state {
            None => vec![],
            Some(State::Done) => vec![DoneState::Done],
            Some(State::Failed) => vec![DoneState::Failed],
            Some(State::Cancelled) => vec![DoneState::Cancelled],
            Some(_) => return Ok(vec![]),
        };
        let filter = Filter { states, type_name: f.task_type.as_deref().map(Arc::from) };
        let (entity, group) = (f.entity.clone(), f.group.clone());
        let (names, places) = (self.names.clone(), self.places.clone());
        let found = self
            .read(move |r| {
                let mut found: Vec<(TaskRow, Done)> = Vec::new();
                let mut cursor = None;
                // Outcomes are numbered as tasks ended, lists go by the tasks' own numbers; the two orders are
                // near each other, so a few pages more than asked for are enough to merge them.
                loop {
                    let page = r.finished(&filter, cursor, limit.max(100))?;
                    let ids: Vec<TaskId> =
                        page.rows.iter().map(|d| d.id).filter(|id| id.0 < before).collect();
                    let mut rows: std::collections::BTreeMap<TaskId, TaskRow> =
                        r.bodies(&ids)?.into_iter().map(|row| (row.id, row)).collect();
                    for done in page.rows {
                        let Some(row) = rows.remove(&done.id) else { continue };
                        let fits = |row: &TaskRow| {
                            let task = names.task(row, &places).ok();
                            let (e, g) = task.map(|t| (t.entity, t.group)).unwrap_or_default();
                            entity.as_deref().is_none_or(|want| e.as_deref() == Some(want))
                                && group.as_deref().is_none_or(|want| g.as_deref().unwrap_or("") == want)
                        };
                        // A body is read only where it is asked about.
                        if (entity.is_none() && group.is_none()) || fits(&row) {
                            found.push((row, done));
                        }
                    }
                    cursor = page.next;
                    if cursor.is_none() || found.len() >= 2 * limit {
                        return Ok(found);
                    }
                }
            })
            .await?;
        Ok(found.iter().map(|(row, done)| self.finish(self.of_row(row), done)).collect())
    }

    pub(super) async fn read_log(
        &self,
        id: u64,
        attempt: Option<u32>,
        offset: u64,
    ) -> Result<LogPart, Error> {
        let task = self.show_task(id).await?;
        let attempt = attempt.unwrap_or(task.attempts);
        let ended = task.state != State::Running || attempt < task.attempts;
        let path = self.state_dir.join("logs").join(log_name(id, attempt));
        let read = tokio::task::spawn_blocking(move || -> std::io::Result<Vec<u8>> {
            let mut file = match std::fs::File::open(&path) {
                // A child that said nothing left no log.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
                other => other?,
            };
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = Vec::new();
            file.take(LOG_PART_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        match read.await {
            Ok(Ok(bytes)) => {
                let next = offset + bytes.len() as u64;
                let whole = (bytes.len() as u64) < LOG_PART_BYTES;
                Ok(LogPart { bytes: Bytes::from(bytes), next, ended: ended && whole })
            }
            Ok(Err(e)) => Err(Error::Internal { message: format!("read the log of task {id}: {e}") }),
            Err(e) => Err(Error::Internal { message: e.to_string() }),
        }
    }

    pub(super) async fn retry_task(&self, id: u64) -> Result<wire::Task, Error> {
        let stored = self.stored(id).await?;
        let task = self.names.task(&stored.task, &self.places);
        let task = task
            .map_err(|why| Error::Conflict { message: format!("task {id} cannot be tried again: {why}") })?;
        let attempts = stored.done.first().map_or(0, |d| d.attempts);
        let retried = self.house.dispatch.send(Retry(Arc::new(task), attempts)).await.map_err(gone)?;
        retried.map_err(not_possible)?;
        self.show_task(id).await
    }

    pub(super) async fn edit_task(&self, id: u64, edit: wire::Edit) -> Result<wire::Task, Error> {
        if let Some(p) = edit.priority.filter(|p| *p > task::PRIORITY_LIMIT) {
            return Err(bad(
                "bad_value",
                format!("priority is {p}; accepted: 0 to {}", task::PRIORITY_LIMIT),
            ));
        }
        let edit = Edit { priority: edit.priority, not_before: self.delay(edit.delay_s)? };
        let amended = self.house.dispatch.send(Amend(TaskId(id), edit)).await.map_err(gone)?;
        amended.map_err(not_possible)?;
        self.show_task(id).await
    }
}
