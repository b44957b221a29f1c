//! The child of an attempt whose data is ready: its work folder, its end, what it made.
//!
//! [`Children`] is who runs children. The real one, [`InFolders`], makes a work folder, has the helper start the
//! child in it and publishes what it leaves; a rehearsal has a script instead.

use super::attempt::log_name;
use super::folder::{Needs, WorkFolder, WorkRoot};
use super::inputs::{Check, Links, Placed, Way, name_of, ways};
use super::run::{Exited, Helper};
use super::wire::{Bounds, Job};
use crate::flow::{CacheId, Ending, ObjectName, Usage, WorkerId};
use crate::message::{Assign, Began, Made, NotReady, Publish, Ready};
use crate::task::{Catalogue, Field, Places, Scope, TaskType};
use actix::prelude::*;
use async_trait::async_trait;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A child that ends sooner is not told to the monitor: there would be nothing to sample.
const WORTH_SAMPLING: std::time::Duration = std::time::Duration::from_millis(30);

/// An attempt whose data is ready.
pub struct Child<'a> {
    /// What is to be run.
    pub assign: &'a Assign,
    /// Its inputs, in order.
    pub ready: &'a [Ready],
    /// Ends it early.
    pub stop: &'a CancellationToken,
}

/// Who runs children.
#[async_trait(?Send)]
pub trait Children: Send + Sync {
    /// Runs a child to its end, outputs published; whatever happens, no process of it is left behind.
    async fn run(&self, child: Child<'_>) -> (Ending, Usage);
}

/// Real children, each in a work folder of its own.
pub struct InFolders {
    /// The worker.
    pub id: WorkerId,
    /// Its name.
    pub name: String,
    /// Its cache's index.
    pub cache_id: CacheId,
    /// Put before every command.
    pub argv_prefix: Vec<String>,
    /// What children may use.
    pub bounds: Bounds,
    /// Task types.
    pub catalogue: Arc<Catalogue>,
    /// Cells and shards.
    pub places: Arc<Places>,
    /// The spawn helper that is alive now.
    pub helper: watch::Receiver<Helper>,
    /// Where work folders are made.
    pub work: Arc<WorkRoot>,
    /// Cache files that are linked into work folders.
    pub links: Arc<Links>,
    /// Whether children run as root.
    pub as_root: bool,
    /// Whether `in/` can be mounted read-only for a child.
    pub can_mount: bool,
    /// Where logs go.
    pub logs: PathBuf,
    /// Most bytes of one attempt's log.
    pub log_cap_bytes: u64,
    /// Whether the work folder of an attempt that did not end well stays for a while.
    pub keep_failed_work: bool,
    /// Whether that of one that ended well does.
    pub keep_done_work: bool,
    /// Who publishes outputs.
    pub publish: Recipient<Publish>,
    /// Who samples children.
    pub monitor: Recipient<Began>,
}

#[async_trait(?Send)]
impl Children for InFolders {
    async fn run(&self, child: Child<'_>) -> (Ending, Usage) {
        InFolder::new(self, child).run().await
    }
}

/// An attempt in its work folder.
pub(super) struct InFolder<'a> {
    shared: &'a InFolders,
    spec: &'a TaskType,
    child: Child<'a>,
}

impl<'a> InFolder<'a> {
    pub(super) fn new(shared: &'a InFolders, child: Child<'a>) -> InFolder<'a> {
        let spec = shared.catalogue.get(child.assign.task.task_type);
        InFolder { shared, spec, child }
    }
}

impl InFolder<'_> {
    async fn run(&self) -> (Ending, Usage) {
        let (ways, mount) = ways(self.spec.input_mode.into(), self.shared.as_root, self.shared.can_mount);
        let prepared = self.prepare(ways).await;
        let job = prepared.as_ref().map_err(Clone::clone).and_then(|(f, placed)| self.job(f, placed, mount));
        let (ending, usage) = match job {
            Ok(job) => {
                let exited = self.wait_for(job).await;
                (exited.ending, exited.usage)
            }
            Err(error) => (Ending::SpawnFailed { error }, Usage::default()),
        };
        let Ok((folder, placed)) = prepared else { return (ending, usage) };
        let ending = match self.take_inputs_away(&folder, placed).await {
            Some(object) => Ending::InputModified { object },
            None if ending.is_done() => self.publish(&folder).await,
            None => ending,
        };
        self.clean(folder, &ending).await;
        (ending, usage)
    }

    /// The work folder with its inputs.
    pub(super) async fn prepare(&self, ways: &'static [Way]) -> Result<(WorkFolder, Vec<Placed>), String> {
        let (work, links) = (self.shared.work.clone(), self.shared.links.clone());
        let (id, token) = (self.child.assign.task.id, self.child.assign.token);
        let needs = Needs { inputs: !self.child.ready.is_empty(), outputs: true, owner: None };
        let names = |(i, r): (usize, &Ready)| (r.path.clone(), name_of(i, r.input.object.path()));
        let inputs: Vec<(PathBuf, String)> = self.child.ready.iter().enumerate().map(names).collect();
        let made = tokio::task::spawn_blocking(move || {
            let folder = work.make(id, token, needs).map_err(|e| e.to_string())?;
            let place =
                |(path, name): &(PathBuf, String)| links.place(path, &folder.inputs().join(name), ways);
            let placed: Vec<Placed> =
                inputs.iter().map(place).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
            if needs.inputs {
                folder.seal_inputs().map_err(|e| e.to_string())?;
            }
            Ok::<_, String>((folder, placed))
        });
        made.await.unwrap_or_else(|e| Err(e.to_string()))
    }

    fn job(&self, folder: &WorkFolder, placed: &[Placed], mount: bool) -> Result<Job, String> {
        let task = &self.child.assign.task;
        let inputs: Vec<String> = placed.iter().map(|p| p.path.display().to_string()).collect();
        let workdir = folder.path().display().to_string();
        let place = task.place;
        let scope = Scope {
            entity: task.entity.as_deref(),
            cell: place.map_or("", |p| self.shared.places.cell_name(p.cell)),
            shard: place.map_or(0, |p| p.shard),
            inputs: &inputs,
            args: Some(&task.args),
            workdir: &workdir,
            task: task.id.0,
        };
        let missing = |field: Field| format!("the command needs {field}, which this task does not have");
        let mut argv = self.shared.argv_prefix.clone();
        for template in &self.spec.argv {
            template.expand_argument(&scope, &mut argv).map_err(missing)?;
        }
        let mut env = self.environment(&workdir);
        for (name, template) in &self.spec.env {
            env.push((name.clone(), template.expand(&scope).map_err(missing)?));
        }
        let mut bounds = self.shared.bounds.clone();
        if mount && !placed.is_empty() {
            bounds.read_only.push(folder.inputs());
        }
        Ok(Job {
            argv,
            env,
            cwd: folder.path().to_owned(),
            log: self.shared.logs.join(log_name(task.id.0, self.child.assign.token.attempt)),
            log_cap_bytes: self.shared.log_cap_bytes,
            time_limit: Some(self.spec.time_limit),
            grace: self.spec.kill_grace,
            bounds,
        })
    }

    /// The child's environment is built from nothing: no secret of the daemon's reaches it.
    fn environment(&self, workdir: &str) -> Vec<(String, String)> {
        let task = &self.child.assign.task;
        let mut env = vec![
            ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("HOME".to_owned(), workdir.to_owned()),
            ("TMPDIR".to_owned(), workdir.to_owned()),
        ];
        let mut own = |name: &str, value: String| env.push((format!("FORESTAGE_{name}"), value));
        own("TASK", task.id.to_string());
        own("ATTEMPT", self.child.assign.token.attempt.to_string());
        own("TYPE", self.spec.name.clone());
        own("WORKER", self.shared.name.clone());
        own("SLOT", self.child.assign.slot.to_string());
        own("WORKDIR", workdir.to_owned());
        if let Some(entity) = &task.entity {
            own("ENTITY", entity.to_string());
        }
        if let Some(payload) = &task.payload {
            own("PAYLOAD", payload.clone());
        }
        for (name, value) in &task.args {
            own(&format!("ARG_{}", name.to_uppercase().replace('-', "_")), value.clone());
        }
        env
    }

    async fn wait_for(&self, job: Job) -> Exited {
        let helper = self.shared.helper.borrow().clone();
        let handle = helper.spawn(job).await;
        let id = handle.id();
        let leader = handle.leader();
        let mut ended = std::pin::pin!(handle.ended());
        let mut told = false;
        let mut stopped = false;
        loop {
            tokio::select! {
                exited = &mut ended => return exited,
                () = self.child.stop.cancelled(), if !stopped => {
                    stopped = true;
                    helper.kill(id, self.spec.kill_grace).await;
                }
                () = tokio::time::sleep(WORTH_SAMPLING), if !told => {
                    told = true;
                    self.tell_monitor(leader.pid());
                }
            }
        }
    }

    fn tell_monitor(&self, pid: Option<i32>) {
        let began = Began {
            task: self.child.assign.task.id,
            token: self.child.assign.token,
            task_type: self.child.assign.task.task_type,
            worker: self.shared.id,
            place: self.child.assign.task.place,
            started: self.child.assign.at,
            group: pid,
        };
        // A monitor that has no room samples one child less.
        let _ = self.shared.monitor.try_send(began);
    }

    /// Compares the inputs with what was placed and takes them away; the first that was changed, if any.
    pub(super) async fn take_inputs_away(
        &self,
        folder: &WorkFolder,
        placed: Vec<Placed>,
    ) -> Option<ObjectName> {
        if placed.is_empty() {
            return None;
        }
        let (links, folder) = (self.shared.links.clone(), folder.clone());
        let checked = tokio::task::spawn_blocking(move || {
            let changed = placed.iter().position(|p| links.check(p) != Check::Unchanged);
            let removed = folder
                .unseal_inputs()
                .map_err(|e| e.to_string())
                .and_then(|()| placed.iter().try_for_each(|p| links.remove(p)).map_err(|e| e.to_string()));
            if let Err(error) = removed {
                tracing::warn!(%error, "take inputs away");
            }
            changed
        });
        let at = checked.await.ok().flatten()?;
        Some(self.child.ready[at].input.object.clone())
    }

    /// Publishes the declared outputs before the task counts as done.
    pub(super) async fn publish(&self, folder: &WorkFolder) -> Ending {
        let declared = &self.child.assign.task.outputs;
        if declared.is_empty() {
            return Ending::Done;
        }
        let mut outputs = Vec::with_capacity(declared.len());
        for (file, object) in declared {
            match folder.output(file) {
                Ok(found) => outputs.push(Made {
                    path: found.path,
                    object: object.clone(),
                    bytes: found.bytes,
                    shared: found.shared,
                }),
                Err(e) => return Ending::OutputFailed { object: object.clone(), error: e.to_string() },
            }
        }
        let publish = Publish { task: self.child.assign.task.id, cache: self.shared.cache_id, outputs };
        match self.shared.publish.send(publish).await {
            Ok(Ok(())) => Ending::Done,
            Ok(Err(NotReady { object, error, .. })) => Ending::OutputFailed { object, error },
            Err(_) => Ending::Lost,
        }
    }

    pub(super) async fn clean(&self, folder: WorkFolder, ending: &Ending) {
        let keep = if ending.is_done() { self.shared.keep_done_work } else { self.shared.keep_failed_work };
        if keep {
            return; // Retention removes it.
        }
        let work = self.shared.work.clone();
        match tokio::task::spawn_blocking(move || work.remove(folder.name())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, task_id = self.child.assign.task.id.0, "remove the work folder")
            }
            Err(error) => tracing::error!(%error, "removing a work folder panicked"),
        }
    }
}
