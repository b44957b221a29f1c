//! Outside workers, as the socket sees them.

use super::{Hub, bad, gone, not_found};
use crate::api::Error;
use crate::api::outside::{
    Attach, Beaten, Completion, Given, Heartbeat, LEASE_DEFAULT_S, Next, NextAnswer, RefusedCompletion,
    Session, StagedInput, StopOrder, WireToken,
};
use crate::daemon::crew::{MOST, Order, Refused};
use crate::flow::{CellId, Ending, TaskId, Token, Usage, WorkerId};
use crate::message::{Fact, RoundTrip};
use crate::task::is_name;
use crate::time::Span;
use crate::worker::outside_actor::{self as worker, Beat, Came, Leave, OutsideActor, Refusal, SessionId};
use actix::Addr;
use tokio_util::sync::CancellationToken;

impl Hub {
    pub(super) async fn attach_worker(&self, order: Attach) -> Result<Session, Error> {
        let name = order.name.clone();
        if !is_name(&name) {
            return Err(bad(
                "bad_field",
                format!(
                    "`name` is `{}`; accepted: up to 64 letters, digits, `_`, `-` and `.`, a letter or digit first",
                    name.chars().take(80).collect::<String>()
                ),
            ));
        }
        if self.config.workers.iter().any(|w| w.name == name) {
            let message = format!("worker `{name}` is configured and runs here; take another name");
            return Err(Error::Conflict { message });
        }
        let lease = Span::from_s(order.lease_s.unwrap_or(LEASE_DEFAULT_S));
        let order = Order {
            slots: order.slots.unwrap_or(1),
            types: order.types.as_deref().map(|t| self.type_ids(t)).transpose()?,
            cache: self.pool_of(order.cache.as_deref())?,
            near: order.near.iter().map(|c| self.cell_id(c)).collect::<Result<_, _>>()?,
            name: order.name,
            lease,
        };
        match self.house.crew.attach(order).await.map_err(gone)? {
            Ok(session) => Ok(Session { name, session: session.0, lease_s: lease.as_s() }),
            Err(Refused::Full) => Err(Error::Conflict {
                message: format!(
                    "{MOST} workers are known, which is the limit; come back with a name that is known"
                ),
            }),
            Err(Refused::OtherPool(cache)) => Err(Error::Conflict {
                message: format!(
                    "worker `{name}` attached with cache `{}` before; take that, or another name",
                    self.cache_name(cache)
                ),
            }),
        }
    }

    fn type_ids(&self, names: &[String]) -> Result<Vec<crate::flow::TypeId>, Error> {
        if names.is_empty() {
            return Err(bad("bad_field", "`types` is empty; accepted: at least one, or left out for all"));
        }
        let find = |name: &String| {
            let known =
                || self.names.catalogue.iter().map(|(_, t)| t.name.as_str()).take(20).collect::<Vec<_>>();
            let id = self.names.catalogue.find(name);
            id.ok_or_else(|| {
                bad("unknown_type", format!("`types`: no task type `{name}`; known: {}", known().join(", ")))
            })
        };
        names.iter().map(find).collect()
    }

    fn pool_of(&self, name: Option<&str>) -> Result<crate::flow::CacheId, Error> {
        match name {
            Some(name) => self.cache_id(name),
            None if self.config.caches.len() == 1 => Ok(crate::flow::CacheId(0)),
            None => {
                let all: Vec<&str> = self.config.caches.iter().map(|c| c.name.as_str()).collect();
                Err(bad("bad_field", format!("`cache` is missing; accepted: one of {}", all.join(", "))))
            }
        }
    }

    fn cell_id(&self, name: &str) -> Result<CellId, Error> {
        let found = self.config.cells().find(|(_, c, _)| c.name == name).map(|(id, _, _)| id);
        found.ok_or_else(|| {
            let all: Vec<&str> = self.config.cells().map(|(_, c, _)| c.name.as_str()).collect();
            bad("bad_field", format!("`near`: no cell `{name}`; known: {}", all.join(", ")))
        })
    }

    async fn outside(&self, name: &str) -> Result<(WorkerId, Addr<OutsideActor>), Error> {
        self.house.crew.find(name).await.ok_or_else(|| {
            not_found(format!("no outside worker `{name}` is attached: it begins by POST /v1/workers"))
        })
    }

    pub(super) async fn next_tasks(&self, name: String, order: Next) -> Result<NextAnswer, Error> {
        let (_, actor) = self.outside(&name).await?;
        let gone_token = CancellationToken::new();
        // Dropped with the request when its connection closes.
        let _hangs_up = gone_token.clone().drop_guard();
        let next = worker::Next {
            session: SessionId(order.session),
            done: order.done.into_iter().map(completion).collect(),
            take: order.take.unwrap_or(1),
            wait: Span::from_s(order.wait_s.unwrap_or(0.0)),
            gone: gone_token,
        };
        let answer = actor.send(next).await.map_err(gone)?.map_err(|r| refusal(&name, r))?;
        Ok(NextAnswer {
            tasks: answer.given.into_iter().map(|g| self.given(g)).collect(),
            refused: answer.refused.into_iter().map(|(id, token)| refused(&name, id, token)).collect(),
            stop: answer.stop.into_iter().map(stop_order).collect(),
        })
    }

    fn given(&self, g: worker::Given) -> Given {
        let task = &g.assign.task;
        let input = |(object, path): (crate::flow::ObjectName, std::path::PathBuf)| StagedInput {
            object: object.to_string(),
            path: path.display().to_string(),
        };
        Given {
            id: task.id.0,
            token: WireToken(g.assign.token),
            task_type: self.names.catalogue.name(task.task_type).to_owned(),
            entity: task.entity.as_deref().map(str::to_owned),
            args: task.args.clone(),
            payload: task.payload.clone(),
            inputs: g.inputs.into_iter().map(input).collect(),
            workdir: g.workdir.map(|w| w.display().to_string()),
        }
    }

    pub(super) async fn beat(&self, name: String, beat: Heartbeat) -> Result<Beaten, Error> {
        let (id, actor) = self.outside(&name).await?;
        let session = SessionId(beat.session);
        let beaten = actor.send(Beat { session }).await.map_err(gone)?.map_err(|r| refusal(&name, r))?;
        if let Some(ms) = beat.round_trip_ms {
            // A beat that the monitor has no room for is one sample less.
            let _ = self.house.monitor.try_send(Fact(RoundTrip(id, Span::from_s(ms / 1e3))));
        }
        Ok(Beaten { held: beaten.held, stop: beaten.stop.into_iter().map(stop_order).collect() })
    }

    pub(super) async fn end_session(&self, name: String, session: u64) -> Result<(), Error> {
        let (_, actor) = self.outside(&name).await?;
        let left = actor.send(Leave { session: SessionId(session) }).await.map_err(gone)?;
        left.map_err(|r| refusal(&name, r))
    }
}

fn completion(c: Completion) -> worker::Completion {
    let span = |ms: Option<f64>| Span::from_s(ms.unwrap_or(0.0) / 1e3);
    let usage = Usage {
        wall: span(c.wall_ms),
        cpu: span(c.cpu_ms),
        peak_memory_bytes: c.peak_memory_bytes.unwrap_or(0),
        read_bytes: c.read_bytes.unwrap_or(0),
        write_bytes: c.write_bytes.unwrap_or(0),
        net_bytes: 0,
    };
    let came = match (c.release_s, c.exit_code.unwrap_or(0)) {
        (Some(s), _) => Came::Released(Span::from_s(s)),
        (None, 0) => Came::Ended(Ending::Done, usage),
        (None, code) => Came::Ended(Ending::Exited { code }, usage),
    };
    worker::Completion { task: TaskId(c.id), token: c.token.0, came }
}

fn stop_order((id, token): (TaskId, Token)) -> StopOrder {
    StopOrder { id: id.0, token: WireToken(token) }
}

fn not_held(name: &str, id: TaskId, token: Token) -> Error {
    let Token { epoch, attempt } = token;
    Error::Conflict {
        message: format!(
            "worker `{name}` does not hold task {id} under token {epoch}.{attempt}: it came back before, its \
             lease was lost, or it was never given"
        ),
    }
}

fn refused(name: &str, id: TaskId, token: Token) -> RefusedCompletion {
    RefusedCompletion { id: id.0, token: WireToken(token), error: not_held(name, id, token).body() }
}

fn refusal(name: &str, refusal: Refusal) -> Error {
    match refusal {
        Refusal::Over => Error::Conflict {
            message: format!(
                "this session of worker `{name}` has ended, and what it held has gone back: attach anew"
            ),
        },
        Refusal::NotHeld(all) => match all.as_slice() {
            [(id, token)] => not_held(name, *id, *token),
            all => Error::Conflict {
                message: format!(
                    "worker `{name}` holds none of the {} tasks under the tokens that were shown, the first is {}",
                    all.len(),
                    all.first().map_or(0, |(id, _)| id.0)
                ),
            },
        },
    }
}
