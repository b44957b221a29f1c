//! Groups, waiting for many tasks, and `retry` in bulk.

use super::tasks::not_possible;
use super::{Hub, gone};
use crate::api::{Error, wire};
use crate::dispatch::GroupView;
use crate::dispatch::actor::{self, Idle, SetGroup};
use crate::task::State;
use crate::time::Span;
use futures_util::StreamExt;

/// Retries of one request that are on their way at once: they share the record's commits.
const AT_ONCE: usize = 64;
/// Failed tasks that are looked up at once.
const PAGE: usize = 1_000;

fn shown(g: GroupView) -> wire::Group {
    wire::Group {
        name: g.name.to_string(),
        paused: g.settings.paused,
        weight: g.settings.weight,
        max_running: g.settings.max_running,
        max_queued: g.settings.max_queued,
        running: g.running,
        unfinished: g.unfinished,
    }
}

impl Hub {
    pub(super) async fn list_groups(&self) -> Result<Vec<wire::Group>, Error> {
        let views = actor::look(&self.house.dispatch, |d, _| d.groups()).await.map_err(gone)?;
        Ok(views.into_iter().map(shown).collect())
    }

    pub(super) async fn change_group(
        &self,
        name: String,
        edit: wire::GroupEdit,
    ) -> Result<wire::Group, Error> {
        let change: actor::GroupEdit = Box::new(move |s| {
            let limit = |new: Option<u32>, old: &mut Option<u32>| {
                if let Some(n) = new {
                    *old = Some(n).filter(|n| *n > 0);
                }
            };
            s.paused = edit.paused.unwrap_or(s.paused);
            s.weight = edit.weight.unwrap_or(s.weight);
            limit(edit.max_running, &mut s.max_running);
            limit(edit.max_queued, &mut s.max_queued);
        });
        let set = self.house.dispatch.send(SetGroup(name.as_str().into(), change)).await.map_err(gone)?;
        set.map_err(not_possible)?;
        let groups = self.list_groups().await?;
        // With the default settings and nothing to do there is no such group any more.
        let gone = wire::Group { name: name.clone(), weight: 1.0, ..wire::Group::default() };
        Ok(groups.into_iter().find(|g| g.name == name).unwrap_or(gone))
    }

    pub(super) async fn await_idle(
        &self,
        group: Option<String>,
        timeout_s: f64,
    ) -> Result<wire::Idle, Error> {
        let limit = Span::from_s(timeout_s.min(86_400.0)).to_std();
        let idle = self.house.dispatch.send(Idle(group.as_deref().map(Into::into)));
        if let Ok(answer) = tokio::time::timeout(limit, idle).await {
            answer.map_err(gone)?;
        }
        let count = actor::look(&self.house.dispatch, move |d, _| d.unfinished(group.as_deref()));
        Ok(wire::Idle { unfinished: count.await.map_err(gone)? as u64 })
    }

    pub(super) async fn retry_many(&self, f: wire::RetryFilter) -> Result<wire::Retried, Error> {
        let mut left = f.limit.unwrap_or(10_000);
        let mut all = wire::Retried::default();
        let mut before = None;
        while left > 0 {
            let filter = wire::TaskFilter {
                state: Some(State::Failed),
                task_type: f.task_type.clone(),
                entity: f.entity.clone(),
                group: f.group.clone(),
                limit: Some(left.min(PAGE)),
                before,
            };
            let page = self.list_tasks(filter).await?;
            let Some(last) = page.last() else { break };
            before = Some(last.id);
            left -= page.len();
            let ids: Vec<u64> = page.iter().map(|t| t.id).collect();
            let tries = ids.into_iter().map(|id| async move { (id, self.retry_task(id).await) });
            let mut tries = futures_util::stream::iter(tries).buffer_unordered(AT_ONCE);
            while let Some((id, tried)) = tries.next().await {
                match tried {
                    Ok(_) => all.retried += 1,
                    Err(e) if all.refused.len() < PAGE => {
                        all.refused.push(wire::Refusal { id, message: e.body().message });
                    }
                    Err(_) => {}
                }
            }
        }
        all.refused.sort_by_key(|r| r.id);
        Ok(all)
    }
}
