//! One attempt, from its assignment to its outcome: data, child, outputs.
//!
//! Runs as a future of its own beside the worker's actor, so that a worker with many slots waits for none of
//! them. Whatever happens, it ends with an outcome and leaves no pin and no process behind.

use super::folder::{Needs, WorkFolder, WorkRoot};
use super::inputs::{Check, Links, Placed, Way, name_of, ways};
use super::run::{Exited, Helper};
use super::wire::{Bounds, Job};
use crate::flow::{Ending, InputUse, ObjectName, Outcome, Usage, WorkerId};
use crate::message::{Assign, Began, Demand, Held, Made, NotReady, Pin, Publish, Ready, Unpin};
use crate::task::{Catalogue, Field, Places, Scope, TaskType};
use crate::time::{Clock, Span, Time};
use actix::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A child that ends sooner is not told to the monitor: there would be nothing to sample.
const WORTH_SAMPLING: std::time::Duration = std::time::Duration::from_millis(30);

/// What all attempts of a worker share.
pub struct Shared {
    /// The worker.
    pub id: WorkerId,
    /// Its name.
    pub name: String,
    /// Its cache's index.
    pub cache_id: crate::flow::CacheId,
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
    /// The clock.
    pub clock: Clock,
    /// The worker's cache.
    pub cache: (Recipient<Pin>, Recipient<Unpin>),
    /// Who makes inputs ready, and publishes outputs.
    pub prefetch: (Recipient<Demand>, Recipient<Publish>),
    /// Who samples children.
    pub monitor: Recipient<Began>,
}

/// Name of an attempt's log.
pub fn log_name(task: u64, attempt: u32) -> String {
    format!("{task}.{attempt}.log")
}

/// Inputs that are ready, and what must be given back.
#[derive(Default)]
pub(super) struct Data {
    pub(super) ready: Vec<Ready>,
    pinned: Vec<u64>,
}

impl Data {
    /// Gives back what the attempt held: private files go, pins are let go.
    pub(super) async fn let_go(&mut self, shared: &Shared) {
        for private in self.ready.iter().filter(|r| r.pinned.is_none()) {
            // Nobody else has this name of it.
            let _ = tokio::fs::remove_file(&private.path).await;
        }
        if !self.pinned.is_empty() {
            // A pin that could not be given back would never be evicted; the cache's mailbox takes it.
            let _ = shared.cache.1.send(Unpin(std::mem::take(&mut self.pinned))).await;
        }
    }
}

pub(super) struct Attempt<'a> {
    pub(super) shared: &'a Shared,
    pub(super) spec: &'a TaskType,
    pub(super) assign: &'a Assign,
    pub(super) stop: CancellationToken,
}

/// Runs an attempt; `stop` ends it early.
pub async fn run(shared: Arc<Shared>, assign: Assign, stop: CancellationToken) -> Outcome {
    let spec = shared.catalogue.get(assign.task.task_type);
    let attempt = Attempt { shared: &shared, spec, assign: &assign, stop };
    let mut data = Data::default();
    let began = shared.clock.now();
    let gathered = attempt.gather(&mut data).await;
    let data_wait = shared.clock.now().since(began);
    let (ending, usage) = match gathered {
        Ok(()) => attempt.run_child(&data).await,
        Err(ending) => (ending, Usage::default()),
    };
    data.let_go(&shared).await;
    attempt.outcome(ending, usage, data_wait, data)
}

impl Attempt<'_> {
    /// Pins what the cache has and asks for the rest.
    pub(super) async fn gather(&self, data: &mut Data) -> Result<(), Ending> {
        let task = &self.assign.task;
        if task.inputs.is_empty() {
            return if self.stop.is_cancelled() { Err(Ending::Cancelled) } else { Ok(()) };
        }
        let held: Vec<Option<Held>> = match self.shared.cache.0.send(Pin(task.inputs.clone())).await {
            Ok(held) => held,
            // Without a cache the task still gets its data.
            Err(_) => vec![None; task.inputs.len()],
        };
        data.pinned.extend(held.iter().flatten().map(|h| h.file));
        let demand = Demand {
            task: task.id,
            task_type: task.task_type,
            entity: task.entity.clone(),
            worker: self.shared.id,
            cache: self.shared.cache_id,
            inputs: task.inputs.iter().cloned().zip(held).collect(),
            fresh: task.fresh,
            stop: self.stop.clone(),
        };
        match self.shared.prefetch.0.send(demand).await {
            Ok(Ok(made_ready)) => {
                // What was pinned above and found stale has been let go by the prefetcher, which says so by
                // naming another file, or none.
                data.pinned = made_ready.iter().filter_map(|r| r.pinned).collect();
                data.ready = made_ready;
                Ok(())
            }
            Ok(Err(_)) if self.stop.is_cancelled() => {
                data.pinned.clear();
                Err(Ending::Cancelled)
            }
            Ok(Err(NotReady { object, error, released })) => {
                if released {
                    data.pinned.clear();
                }
                Err(Ending::MissingInput { object, error })
            }
            Err(_) => Err(Ending::Lost),
        }
    }

    async fn run_child(&self, data: &Data) -> (Ending, Usage) {
        let (ways, mount) = ways(self.spec.input_mode.into(), self.shared.as_root, self.shared.can_mount);
        let prepared = self.prepare(data, ways).await;
        let job = prepared.as_ref().map_err(Clone::clone).and_then(|(f, placed)| self.job(f, placed, mount));
        let (ending, usage) = match job {
            Ok(job) => {
                let exited = self.wait_for(job).await;
                (exited.ending, exited.usage)
            }
            Err(error) => (Ending::SpawnFailed { error }, Usage::default()),
        };
        let Ok((folder, placed)) = prepared else { return (ending, usage) };
        let ending = match self.take_inputs_away(&folder, placed, data).await {
            Some(object) => Ending::InputModified { object },
            None if ending.is_done() => self.publish(&folder).await,
            None => ending,
        };
        self.clean(folder, &ending).await;
        (ending, usage)
    }

    /// The work folder with its inputs.
    pub(super) async fn prepare(
        &self,
        data: &Data,
        ways: &'static [Way],
    ) -> Result<(WorkFolder, Vec<Placed>), String> {
        let (work, links) = (self.shared.work.clone(), self.shared.links.clone());
        let (id, token) = (self.assign.task.id, self.assign.token);
        let needs = Needs { inputs: !data.ready.is_empty(), outputs: true, owner: None };
        let names = |(i, r): (usize, &Ready)| (r.path.clone(), name_of(i, r.input.object.path()));
        let inputs: Vec<(PathBuf, String)> = data.ready.iter().enumerate().map(names).collect();
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
        let task = &self.assign.task;
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
            log: self.shared.logs.join(log_name(task.id.0, self.assign.token.attempt)),
            log_cap_bytes: self.shared.log_cap_bytes,
            time_limit: Some(self.spec.time_limit),
            grace: self.spec.kill_grace,
            bounds,
        })
    }

    /// The child's environment is built from nothing: no secret of the daemon's reaches it.
    fn environment(&self, workdir: &str) -> Vec<(String, String)> {
        let task = &self.assign.task;
        let mut env = vec![
            ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
            ("HOME".to_owned(), workdir.to_owned()),
            ("TMPDIR".to_owned(), workdir.to_owned()),
        ];
        let mut own = |name: &str, value: String| env.push((format!("FORESTAGE_{name}"), value));
        own("TASK", task.id.to_string());
        own("ATTEMPT", self.assign.token.attempt.to_string());
        own("TYPE", self.spec.name.clone());
        own("WORKER", self.shared.name.clone());
        own("SLOT", self.assign.slot.to_string());
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
                () = self.stop.cancelled(), if !stopped => {
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
            task: self.assign.task.id,
            token: self.assign.token,
            task_type: self.assign.task.task_type,
            worker: self.shared.id,
            place: self.assign.task.place,
            started: self.assign.at,
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
        data: &Data,
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
        Some(data.ready[at].input.object.clone())
    }

    /// Publishes the declared outputs before the task counts as done.
    pub(super) async fn publish(&self, folder: &WorkFolder) -> Ending {
        let declared = &self.assign.task.outputs;
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
        let publish = Publish { task: self.assign.task.id, cache: self.shared.cache_id, outputs };
        match self.shared.prefetch.1.send(publish).await {
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
                tracing::warn!(%error, task_id = self.assign.task.id.0, "remove the work folder")
            }
            Err(error) => tracing::error!(%error, "removing a work folder panicked"),
        }
    }

    pub(super) fn outcome(&self, ending: Ending, mut usage: Usage, data_wait: Span, data: Data) -> Outcome {
        let inputs: Vec<InputUse> = data.ready.into_iter().map(|r| r.input).collect();
        usage.net_bytes =
            inputs.iter().filter(|i| i.found == crate::flow::Found::Fetched).map(|i| i.bytes).sum();
        let task = &self.assign.task;
        let ended: Time = self.shared.clock.now();
        Outcome {
            task: task.id,
            token: self.assign.token,
            worker: self.shared.id,
            task_type: task.task_type,
            entity: task.entity.clone(),
            submitted: task.submitted,
            started: self.assign.at,
            ended,
            ending,
            usage,
            data_wait,
            inputs,
            factors: self.assign.factors,
        }
    }
}
