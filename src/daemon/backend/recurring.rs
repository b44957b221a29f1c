//! Recurring tasks.

use super::tasks::{not_possible, submit_error};
use super::{Hub, gone};
use crate::api::{Error, wire};
use crate::dispatch::RecurringView;
use crate::dispatch::actor::{self, RemoveRecurring, SetRecurring};
use crate::task::{CatchUp, Overlap, Recurring, Submit};
use crate::time::Span;

impl Hub {
    pub(super) async fn list_recurring(&self) -> Result<Vec<wire::RecurringTask>, Error> {
        let views = actor::look(&self.house.dispatch, |d, _| d.recurring()).await.map_err(gone)?;
        Ok(views.into_iter().map(shown).collect())
    }

    pub(super) async fn put_recurring(
        &self,
        name: String,
        r: wire::Recurring,
    ) -> Result<wire::RecurringTask, Error> {
        let t = r.task;
        let deadline = self.deadline(t.deadline_s)?.and(t.deadline_s).map(Span::from_s);
        let recurring = Recurring {
            cron: r.cron,
            zone: r.zone.unwrap_or_else(|| "UTC".to_owned()),
            overlap: match r.overlap.unwrap_or_default() {
                wire::Overlap::Skip => Overlap::Skip,
                wire::Overlap::Allow => Overlap::Allow,
            },
            catch_up: match r.catch_up.unwrap_or_default() {
                wire::CatchUp::None => CatchUp::None,
                wire::CatchUp::One => CatchUp::One,
                wire::CatchUp::All => CatchUp::All,
            },
            submit: Submit {
                task_type: t.task_type,
                entity: t.entity,
                args: t.args,
                inputs: t.inputs,
                priority: t.priority,
                group: t.group,
                fresh: t.fresh,
                payload: t.payload,
                ..Submit::default()
            },
            deadline,
        };
        let set = SetRecurring(name.as_str().into(), recurring);
        let set = self.house.dispatch.send(set).await.map_err(gone)?;
        set.map_err(|e| submit_error(&e))?;
        let all = self.list_recurring().await?;
        all.into_iter()
            .find(|r| r.name == name)
            .ok_or_else(|| super::not_found(format!("`{name}` was removed")))
    }

    pub(super) async fn delete_recurring(&self, name: String) -> Result<(), Error> {
        let removed = self.house.dispatch.send(RemoveRecurring(name.as_str().into())).await.map_err(gone)?;
        removed.map_err(not_possible)
    }
}

fn shown(v: RecurringView) -> wire::RecurringTask {
    let r = v.recurring;
    let s = r.submit;
    wire::RecurringTask {
        name: v.name.to_string(),
        recurring: wire::Recurring {
            cron: r.cron,
            zone: Some(r.zone),
            overlap: Some(match r.overlap {
                Overlap::Skip => wire::Overlap::Skip,
                Overlap::Allow => wire::Overlap::Allow,
            }),
            catch_up: Some(match r.catch_up {
                CatchUp::None => wire::CatchUp::None,
                CatchUp::One => wire::CatchUp::One,
                CatchUp::All => wire::CatchUp::All,
            }),
            task: wire::Submit {
                task_type: s.task_type,
                entity: s.entity,
                args: s.args,
                inputs: s.inputs,
                priority: s.priority,
                deadline_s: r.deadline.map(Span::as_s),
                group: s.group,
                fresh: s.fresh,
                payload: s.payload,
                ..wire::Submit::default()
            },
        },
        next_s: v.next.map(|(_, at)| at.as_s()),
        next_task: v.next.map(|(id, _)| id.0),
        last_task: v.last.map(|id| id.0),
    }
}
