//! A daemon in memory, for the tests of the routes and of the command line: it keeps tasks, a log each, a pool
//! and a diary, and ends tasks when it is told to.

use super::backend::{Backend, LogPart};
use super::error::Error;
use super::listen::{Listener, Place, Settings, Socket, serve};
use super::outside;
use super::wire::*;
use crate::draw::{Columns, Heatmap, Row, Unit};
use crate::flow::{Factors, Found, InputUse, ObjectName};
use crate::task::State;
use crate::time::{Span, Time};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Second since the epoch at which everything in this daemon happens.
pub(crate) const NOW_S: f64 = 1_000_000.0;

#[derive(Default)]
struct State_ {
    tasks: BTreeMap<u64, Task>,
    groups: BTreeMap<String, Group>,
    recurring: BTreeMap<String, RecurringTask>,
    logs: BTreeMap<(u64, u32), Vec<u8>>,
    objects: BTreeMap<String, CachedObject>,
    events: Vec<Event>,
    calls: usize,
    paused: bool,
    draining: bool,
    full: bool,
}

/// The daemon in memory.
pub(crate) struct Memory {
    state: Mutex<State_>,
    changed: watch::Sender<u64>,
    diary: broadcast::Sender<Event>,
}

impl Memory {
    pub(crate) fn new() -> Arc<Memory> {
        let (changed, _) = watch::channel(0);
        let (diary, _) = broadcast::channel(1_024);
        Arc::new(Memory { state: Mutex::default(), changed, diary })
    }

    fn state(&self) -> MutexGuard<'_, State_> {
        self.state.lock().unwrap()
    }

    fn tell(&self, decided: &str, text: String) {
        let mut state = self.state();
        let seq = state.events.len() as u64 + 1;
        let event = Event { seq, at_s: NOW_S, decided: decided.into(), text, ..Event::default() };
        state.events.push(event.clone());
        drop(state);
        let _ = self.diary.send(event);
        self.changed.send_modify(|n| *n += 1);
    }

    fn task_of(&self, id: u64) -> Result<Task, Error> {
        let known = self.state().tasks.get(&id).cloned();
        known.ok_or_else(|| Error::NotFound { message: format!("there is no task {id}") })
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Task) -> Result<(), Error>) -> Result<Task, Error> {
        let mut task = self.task_of(id)?;
        change(&mut task)?;
        self.state().tasks.insert(id, task.clone());
        self.tell(task.state.name(), format!("task {id}"));
        Ok(task)
    }

    /// A worker takes a task.
    pub(crate) fn start(&self, id: u64) {
        self.change(id, |t| {
            t.state = State::Running;
            t.attempts += 1;
            t.worker = Some("fast".to_owned());
            t.started_s = Some(NOW_S - 2.0);
            t.waiting_for = None;
            Ok(())
        })
        .unwrap();
    }

    /// A task writes.
    pub(crate) fn write(&self, id: u64, text: &str) {
        let attempt = self.task_of(id).unwrap().attempts;
        self.state().logs.entry((id, attempt)).or_default().extend_from_slice(text.as_bytes());
    }

    /// A task ends.
    pub(crate) fn end(&self, id: u64, state: State) {
        self.change(id, |t| {
            t.state = state;
            t.ended_s = Some(NOW_S);
            t.reason = (state == State::Failed).then(|| "exit code 3".to_owned());
            t.exit_code = Some(if state == State::Failed { 3 } else { 0 });
            Ok(())
        })
        .unwrap();
    }

    /// An attempt ends, and another will follow.
    pub(crate) fn requeue(&self, id: u64) {
        self.change(id, |t| {
            t.state = State::Queued;
            Ok(())
        })
        .unwrap();
    }

    /// From now on nothing more fits.
    pub(crate) fn fill(&self) {
        self.state().full = true;
    }

    /// How often `submit` was called.
    pub(crate) fn calls(&self) -> usize {
        self.state().calls
    }

    fn accept(state: &mut State_, submit: Submit) -> Submitted {
        let refuse = |code: &str, message: String| Submitted {
            id: None,
            existing: false,
            error: Some(ErrorBody { code: code.into(), message, detail: None }),
        };
        if submit.task_type != "copy" {
            return refuse(
                "unknown_type",
                format!("there is no type `{}`; there are: copy", submit.task_type),
            );
        }
        if submit.entity.as_deref().is_some_and(|e| e.starts_with('-')) {
            return refuse("bad_entity", "the entity begins with `-`".to_owned());
        }
        let same = |t: &&Task| t.key.is_some() && t.key == submit.key;
        if let Some(known) = state.tasks.values().find(same) {
            return Submitted { id: Some(known.id), existing: true, error: None };
        }
        let id = state.tasks.len() as u64 + 1;
        let blocked = !submit.after.is_empty();
        let waits = if blocked { format!("task {}", submit.after[0]) } else { "slot".to_owned() };
        let task = Task {
            id,
            task_type: submit.task_type,
            entity: submit.entity,
            state: if blocked { State::Blocked } else { State::Queued },
            waiting_for: Some(waits),
            reason: None,
            exit_code: None,
            priority: submit.priority.unwrap_or(5),
            group: submit.group,
            deadline_s: submit.deadline_s.map(|d| NOW_S + d),
            attempts: 0,
            worker: None,
            submitted_s: NOW_S - 12.0,
            started_s: None,
            ended_s: None,
            not_before_s: submit.delay_s.map(|d| NOW_S + d),
            key: submit.key,
            after: submit.after,
            args: submit.args,
            inputs: submit.inputs,
            outputs: Vec::new(),
            writes: Vec::new(),
            data_wait_ms: None,
            usage: None,
        };
        state.tasks.insert(id, task);
        Submitted { id: Some(id), existing: false, error: None }
    }

    /// What becomes of each object of an order.
    fn each(
        &self,
        order: &CacheOrder,
        mut what: impl FnMut(&mut State_, &str) -> (&'static str, Option<String>),
    ) -> Vec<CacheAnswer> {
        let mut objects = order.objects.clone();
        if let (Some(t), Some(e)) = (&order.task_type, &order.entity) {
            objects.push(format!("volumes:{t}/{e}"));
        }
        let mut state = self.state();
        let answer = |object: String| {
            let (result, error) = what(&mut state, &object);
            CacheAnswer { object, cache: "ssd".into(), result: result.into(), bytes: Some(2 << 20), error }
        };
        objects.into_iter().map(answer).collect()
    }
}

fn cached(object: &str) -> CachedObject {
    CachedObject {
        object: object.to_owned(),
        cache: "ssd".to_owned(),
        bytes: 2 << 20,
        staged: true,
        pinned: false,
        in_use: 0,
        etag: Some("v1".to_owned()),
    }
}

fn known_worker(worker: &str) -> Result<(), Error> {
    if worker == "fast" {
        return Ok(());
    }
    Err(Error::NotFound { message: format!("there is no worker `{worker}`; there are: fast") })
}

#[async_trait]
impl Backend for Memory {
    async fn submit(&self, submits: Vec<Submit>) -> Result<Vec<Submitted>, Error> {
        let mut state = self.state();
        state.calls += 1;
        if state.full {
            return Err(Error::Busy {
                message: "100 tasks wait, which is the limit".into(),
                retry_after_s: 7,
            });
        }
        Ok(submits.into_iter().map(|s| Memory::accept(&mut state, s)).collect())
    }
    async fn attach(&self, order: outside::Attach) -> Result<outside::Session, Error> {
        Ok(outside::Session { name: order.name, session: 1, lease_s: order.lease_s.unwrap_or(30.0) })
    }
    async fn next(&self, _: String, _: outside::Next) -> Result<outside::NextAnswer, Error> {
        Ok(outside::NextAnswer::default())
    }
    async fn heartbeat(&self, _: String, _: outside::Heartbeat) -> Result<outside::Beaten, Error> {
        Ok(outside::Beaten::default())
    }
    async fn leave(&self, _: String, _: u64) -> Result<(), Error> {
        Ok(())
    }
    async fn tasks(&self, filter: TaskFilter) -> Result<Vec<Task>, Error> {
        let state = self.state();
        let fits = |t: &&Task| {
            filter.state.is_none_or(|s| s == t.state)
                && filter.task_type.as_ref().is_none_or(|n| *n == t.task_type)
                && (filter.entity.is_none() || filter.entity == t.entity)
                && filter.before.is_none_or(|b| t.id < b)
        };
        Ok(state.tasks.values().rev().filter(fits).take(filter.limit.unwrap_or(100)).cloned().collect())
    }
    async fn task(&self, id: u64) -> Result<Task, Error> {
        self.task_of(id)
    }
    async fn log(&self, id: u64, attempt: Option<u32>, offset: u64) -> Result<LogPart, Error> {
        let task = self.task_of(id)?;
        let attempt = attempt.unwrap_or(task.attempts);
        if attempt > task.attempts {
            return Err(Error::NotFound { message: format!("task {id} has no attempt {attempt}") });
        }
        let state = self.state();
        let log = state.logs.get(&(id, attempt)).map_or(&[][..], Vec::as_slice);
        let from = usize::try_from(offset).unwrap().min(log.len());
        // Small parts, so that the reader has to come again.
        let to = (from + 4).min(log.len());
        let ended = attempt < task.attempts || task.state != State::Running;
        Ok(LogPart { bytes: Bytes::copy_from_slice(&log[from..to]), next: to as u64, ended })
    }
    async fn wait(&self, id: u64, timeout_s: f64) -> Result<Task, Error> {
        let mut changes = self.changed.subscribe();
        let ended = async {
            loop {
                let task = self.task_of(id)?;
                if task.state.is_final() {
                    return Ok(task);
                }
                changes.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(Duration::from_secs_f64(timeout_s), ended).await {
            Ok(task) => task,
            Err(_) => self.task_of(id),
        }
    }
    async fn cancel(&self, id: u64) -> Result<Task, Error> {
        self.change(id, |t| {
            if t.state.is_final() {
                return Err(Error::Conflict { message: format!("task {id} is {} already", t.state.name()) });
            }
            t.state = State::Cancelled;
            t.waiting_for = None;
            Ok(())
        })
    }
    async fn retry(&self, id: u64) -> Result<Task, Error> {
        self.change(id, |t| {
            if !matches!(t.state, State::Failed | State::Cancelled) {
                let state = t.state.name();
                let message = format!("task {id} is {state}; accepted: failed or cancelled tasks");
                return Err(Error::Conflict { message });
            }
            t.state = State::Queued;
            t.reason = None;
            Ok(())
        })
    }
    async fn edit(&self, id: u64, edit: Edit) -> Result<Task, Error> {
        self.change(id, |t| {
            t.priority = edit.priority.unwrap_or(t.priority);
            t.not_before_s = edit.delay_s.map(|d| NOW_S + d).or(t.not_before_s);
            Ok(())
        })
    }
    async fn why_task(&self, id: u64) -> Result<Why, Error> {
        self.task_of(id)?;
        Ok(Why {
            title: format!("task {id} copy vol-1 waits for a slot"),
            lines: vec![WhyLine {
                name: "staged".into(),
                text: "volumes:vol-1, p .71, break-even .18".into(),
            }],
            candidates: vec![WhyCandidate {
                worker: "fast".into(),
                factors: Factors { speed: 1.9, heat: 0.25, locality: 1.0 },
                score: 1.425,
                free_slots: 0,
            }],
            inputs: vec![InputUse {
                object: ObjectName::new("volumes:vol-1"),
                bytes: 2 << 20,
                found: Found::Cached,
                staged: true,
                wait: Span::from_ms(3),
            }],
        })
    }
    async fn why_object(&self, object: String) -> Result<Why, Error> {
        let lines = vec![WhyLine { name: "forecast".into(), text: "copy vol-1 with p .71".into() }];
        let title = format!("{object} is staged in ssd");
        Ok(Why { title, lines, candidates: Vec::new(), inputs: Vec::new() })
    }
    async fn why_worker(&self, worker: String) -> Result<Why, Error> {
        known_worker(&worker)?;
        let title = format!("{worker} gets copy: it is 1.9 times as fast there");
        Ok(Why { title, lines: Vec::new(), candidates: Vec::new(), inputs: Vec::new() })
    }
    async fn workers(&self) -> Result<Vec<Worker>, Error> {
        let state = self.state();
        let running = state.tasks.values().filter(|t| t.state == State::Running);
        let running = running
            .map(|t| RunningTask {
                id: t.id,
                task_type: t.task_type.clone(),
                entity: t.entity.clone(),
                started_s: t.started_s,
            })
            .collect();
        Ok(vec![Worker {
            name: "fast".into(),
            outside: false,
            slots: 4,
            running,
            cache: "ssd".into(),
            types: Vec::new(),
            heat: [0.5, 0.25, 0.0, 0.125],
            next: vec![TypeChance { task_type: "copy".into(), p: 0.52 }],
            best_at: Some(BestAt { task_type: "copy".into(), speed: 1.94 }),
        }])
    }
    async fn profile(&self, worker: String) -> Result<Vec<ProfileLine>, Error> {
        known_worker(&worker)?;
        Ok(vec![ProfileLine {
            task_type: "copy".into(),
            affinity: 0.62,
            speed: 1.94,
            effective_count: 41.7,
            success: 0.98,
            wall_ms: 1_900.0,
            cpu_ms: 850.0,
            memory_bytes: 48e6,
            io_bytes: 2e9,
            net_bytes: 0.0,
            first_s: Some(NOW_S - 9e4),
            last_s: Some(NOW_S - 720.0),
        }])
    }
    async fn predict(&self, query: PredictQuery) -> Result<Prediction, Error> {
        if let Some(worker) = &query.worker {
            known_worker(worker)?;
        }
        let of = match (&query.worker, &query.entity) {
            (Some(w), _) => format!("worker {w}"),
            (_, Some(e)) => format!("entity {e}"),
            _ => "host".to_owned(),
        };
        let explain = query.explain.then(|| Explain {
            exponents: [1.0, 0.8, 1.2],
            exponents_learned: true,
            contexts: vec![ContextVoice {
                context: "last two types".into(),
                weight: 0.41,
                task_type: "copy".into(),
                count: Some(118.0),
            }],
            calibration: vec![CalibrationBin {
                from: 0.7,
                to: 0.8,
                count: 60.0,
                confidence: 0.74,
                came_true: 0.76,
            }],
            log_loss_bits: 0.81,
        });
        Ok(Prediction {
            of,
            types: vec![PredictedType {
                task_type: "copy".into(),
                p: 0.71,
                affinity: 0.62,
                heat: 0.25,
                history: 0.8,
                due_in_s: Some(1.9),
            }],
            other: 0.29,
            expected: vec![ExpectedTask {
                task_type: "verify".into(),
                entity: "vol-1".into(),
                p: 0.84,
                due_in_s: 4.0,
            }],
            next: vec![NextTask { task_type: "verify".into(), entity: "vol-1".into(), p: 0.6 }],
            known: vec![RunningTask {
                id: 1,
                task_type: "copy".into(),
                entity: Some("vol-1".into()),
                started_s: None,
            }],
            explain,
        })
    }
    async fn caches(&self) -> Result<Vec<Cache>, Error> {
        Ok(vec![Cache {
            name: "ssd".into(),
            dir: "/var/cache/forestage".into(),
            policy: "lru".into(),
            capacity_bytes: 50 << 30,
            used_bytes: 38 << 30,
            pinned_bytes: 1 << 30,
            zombie_bytes: 0,
            objects: 412,
            hits: 86,
            misses: 14,
            model_bytes: 0,
            catalogue_bytes: 0,
        }])
    }
    async fn cached(&self, filter: CacheFilter) -> Result<Vec<CachedObject>, Error> {
        let prefix = filter.prefix.unwrap_or_default();
        let state = self.state();
        let fits = state.objects.values().filter(|o| o.object.starts_with(&prefix));
        Ok(fits.take(filter.limit.unwrap_or(1_000)).cloned().collect())
    }
    async fn cache_stage(&self, order: CacheOrder) -> Result<Vec<CacheAnswer>, Error> {
        let result = if order.wait { "staged" } else { "staging" };
        Ok(self.each(&order, |state, object| {
            if object.contains("missing") {
                return ("failed", Some("the source has no such object".to_owned()));
            }
            state.objects.entry(object.to_owned()).or_insert_with(|| cached(object));
            (result, None)
        }))
    }
    async fn cache_pin(&self, order: CacheOrder, pin: bool) -> Result<Vec<CacheAnswer>, Error> {
        Ok(self.each(&order, |state, object| {
            state.objects.entry(object.to_owned()).or_insert_with(|| cached(object)).pinned = pin;
            (if pin { "pinned" } else { "unpinned" }, None)
        }))
    }
    async fn cache_evict(&self, order: CacheOrder) -> Result<Vec<CacheAnswer>, Error> {
        Ok(self.each(&order, |state, object| match state.objects.remove(object) {
            Some(_) => ("evicted", None),
            None => ("absent", None),
        }))
    }
    async fn cache_verify(&self, mut order: CacheOrder) -> Result<Vec<CacheAnswer>, Error> {
        if order.objects.is_empty() {
            order.objects = self.state().objects.keys().cloned().collect();
        }
        Ok(self.each(&order, |state, object| {
            if state.objects.contains_key(object) { ("whole", None) } else { ("absent", None) }
        }))
    }
    async fn heatmap(&self, query: HeatmapQuery) -> Result<Heatmap, Error> {
        let count = query.columns.unwrap_or(60);
        let step = Span::from_s(query.last_s.unwrap_or(600.0) / count as f64);
        let values = (0..count).map(|i| Some(i as f64 / count as f64)).collect();
        Ok(Heatmap {
            title: format!("{} by {}", query.metric.unwrap_or_default(), query.by.unwrap_or_default()),
            note: None,
            unit: Unit::Share,
            max: 1.0,
            columns: Columns { start: Time::from_s(NOW_S - 600.0), step, count },
            rows: vec![Row { label: "fast".into(), values }],
            forecast_from: None,
        })
    }
    async fn series(&self, query: SeriesQuery) -> Result<Vec<Series>, Error> {
        Ok(vec![Series {
            name: query.name.unwrap_or_else(|| "host".into()),
            metric: query.metric.unwrap_or_else(|| "heat".into()),
            unit: "share".into(),
            start_s: NOW_S - 20.0,
            step_s: 10.0,
            points: vec![Some([0.1, 0.2, 0.3]), None],
        }])
    }
    async fn now(&self, query: NowQuery) -> Result<Now, Error> {
        let played = Played {
            task: 7,
            task_type: "copy".into(),
            entity: Some("vol-7".into()),
            worker: "fast".into(),
            started_s: NOW_S - 3.0,
            transfer_s: 0.4,
            wait_s: 0.2,
            ended_s: NOW_S - 1.0,
            done: true,
            staged: 1,
        };
        let bin = |i: u32| CalibrationBin {
            from: f64::from(i) / 10.0,
            to: f64::from(i + 1) / 10.0,
            count: 10.0,
            confidence: f64::from(i) / 10.0 + 0.05,
            came_true: f64::from(i) / 10.0 + 0.04,
        };
        Ok(Now {
            at_s: NOW_S,
            health: self.health().await?,
            workers: self.workers().await?,
            queue: vec![QueueLine { task_type: "copy".into(), count: 4, waiting_for: "slot".into() }],
            transfers: Transfers { demand: 1, staging: 2, waiting: 3 },
            caches: self.caches().await?,
            savings: self.savings().await?,
            calibration: (0..10).map(bin).collect(),
            played: if query.since.unwrap_or(0) < 1 { vec![played] } else { vec![] },
            next: 1,
            sampler: [0.002, 0.01],
        })
    }
    async fn metrics(&self) -> Result<String, Error> {
        use super::metrics::{Family, In, Kind, render};
        Ok(render(vec![Family::one(
            "up",
            Kind::Gauge,
            In::Seconds,
            "Time since the daemon was ready",
            720.0,
        )]))
    }
    async fn savings(&self) -> Result<Savings, Error> {
        Ok(Savings {
            staging: "on".into(),
            hidden_s: 19.8,
            per_demand_s: Some(0.031),
            interval_s: Some([0.012, 0.05]),
            verdict: "saves 31 ms a demand (95 %: 12 to 50 ms)".into(),
            demands: 300,
            found: 258,
            staged: 284,
            useful: 221,
            late: 20,
            wasted: 43,
            harmful: 1,
            staged_bytes: 455 << 20,
            wasted_bytes: 43 << 20,
            forecasts_right: 222,
            forecasts: 284,
            lines: vec![SavingsLine {
                task_type: "copy".into(),
                source: "volumes".into(),
                knowledge: "derived".into(),
                staged: 284,
                useful: 221,
                late: 20,
                wasted: 43,
                hidden_s: 19.8,
                bytes: 455 << 20,
            }],
            off: vec!["copy from archive: saved nothing in 200 demands".into()],
        })
    }
    async fn recurring(&self) -> Result<Vec<RecurringTask>, Error> {
        Ok(self.state().recurring.values().cloned().collect())
    }
    async fn set_recurring(&self, name: String, recurring: Recurring) -> Result<RecurringTask, Error> {
        let task = RecurringTask {
            name: name.clone(),
            recurring,
            next_s: Some(NOW_S + 60.0),
            next_task: Some(1),
            last_task: None,
        };
        self.state().recurring.insert(name, task.clone());
        Ok(task)
    }
    async fn remove_recurring(&self, name: String) -> Result<(), Error> {
        match self.state().recurring.remove(&name) {
            Some(_) => Ok(()),
            None => Err(Error::NotFound { message: format!("there is no recurring task `{name}`") }),
        }
    }
    async fn groups(&self) -> Result<Vec<Group>, Error> {
        Ok(self.state().groups.values().cloned().collect())
    }
    async fn set_group(&self, name: String, edit: GroupEdit) -> Result<Group, Error> {
        let mut state = self.state();
        let new = Group { name: name.clone(), weight: 1.0, ..Group::default() };
        let group = state.groups.entry(name).or_insert(new);
        group.paused = edit.paused.unwrap_or(group.paused);
        group.weight = edit.weight.unwrap_or(group.weight);
        group.max_running = edit.max_running.or(group.max_running);
        group.max_queued = edit.max_queued.or(group.max_queued);
        Ok(group.clone())
    }
    async fn wait_idle(&self, group: Option<String>, _: f64) -> Result<Idle, Error> {
        let state = self.state();
        let left = state.tasks.values().filter(|t| !t.state.is_final());
        let left = left.filter(|t| group.is_none() || t.group == group);
        Ok(Idle { unfinished: left.count() as u64 })
    }
    async fn retry_all(&self, filter: RetryFilter) -> Result<Retried, Error> {
        let failed: Vec<u64> = {
            let state = self.state();
            let failed = state.tasks.values().filter(|t| t.state == State::Failed);
            failed.filter(|t| filter.group.is_none() || t.group == filter.group).map(|t| t.id).collect()
        };
        for id in &failed {
            self.retry(*id).await?;
        }
        Ok(Retried { retried: failed.len() as u64, refused: vec![] })
    }
    async fn pause(&self, pause: bool) -> Result<(), Error> {
        self.state().paused = pause;
        Ok(())
    }
    async fn drain(&self) -> Result<(), Error> {
        self.state().draining = true;
        Ok(())
    }
    async fn health(&self) -> Result<Health, Error> {
        let state = self.state();
        let mut tasks = BTreeMap::new();
        for task in state.tasks.values().filter(|t| !t.state.is_final()) {
            *tasks.entry(task.state.name().to_owned()).or_default() += 1;
        }
        let status = match (state.draining, state.paused) {
            (true, _) => "draining",
            (_, true) => "paused",
            _ => "running",
        };
        Ok(Health {
            status: status.into(),
            version: "0.1.0".into(),
            pid: 4_242,
            up_s: 720.0,
            epoch: 3,
            staging: "on".into(),
            tasks,
            damage: Vec::new(),
        })
    }
    async fn events(&self, from: Option<u64>, follow: bool) -> Result<BoxStream<'static, Event>, Error> {
        let live = self.diary.subscribe();
        let past = self.state().events.clone();
        let past = stream::iter(past).filter(move |e| std::future::ready(from.is_none_or(|n| e.seq >= n)));
        if !follow {
            return Ok(past.boxed());
        }
        let live = stream::unfold(live, |mut live| async move { Some((live.recv().await.ok()?, live)) });
        Ok(past.chain(live).boxed())
    }
}

/// A daemon that listens in a folder of its own.
pub(crate) struct Daemon {
    pub(crate) memory: Arc<Memory>,
    pub(crate) socket: PathBuf,
    pub(crate) file: Socket,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl Daemon {
    pub(crate) fn start() -> Daemon {
        Daemon::start_with(Settings::default())
    }

    pub(crate) fn start_with(settings: Settings) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("f.sock");
        let place = Place { path: socket.clone(), mode: 0o660, group: None };
        let listener = Listener::bind(&place).unwrap();
        let (memory, shutdown) = (Memory::new(), CancellationToken::new());
        let file = listener.socket();
        let served = tokio::spawn(serve(listener, Arc::clone(&memory) as _, settings, shutdown.clone()));
        Daemon { memory, socket, file, shutdown, served, _folder: folder }
    }
}
