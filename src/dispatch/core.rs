//! The core of dispatch: what it owns, and the requests that people and programs make of it.
//!
//! What happens to it (attempts that end, time, heat) is in `facts.rs`, what it chooses in `place.rs`.

use super::admit::Admission;
use super::explore::Explorer;
use super::groups::{GROUPS_LIMIT, GroupSettings, GroupView, Groups};
use super::homes::Homes;
use super::lanes::{GroupId, Lane};
use super::lease::Lease;
use super::queue::{Order, Queue, order};
use super::recurring::Recurrings;
use super::step::{Action, Change, Edit, NotPossible, Step, SubmitError, Submitted};
use super::{Settings, WorkerSpec};
use crate::flow::{Arrived, Decided, Decision, Ending, Heat, Map, Standing, TaskId, TypeId, WorkerId};
use crate::task::{Catalogue, Life, Places, Priority, State, Submit, Task};
use crate::time::{Span, Time};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Stands for all types whose keys answer host-wide; no type has this number, see [`Catalogue::LIMIT`].
const HOST_WIDE: TypeId = TypeId(u16::MAX);

#[derive(Debug)]
pub(super) struct Entry {
    pub task: Arc<Task>,
    pub priority: Priority,
    pub not_before: Option<Time>,
    pub life: Life,
    pub group: GroupId,
    /// Boxed: of a million tasks few run.
    pub lease: Option<Box<Lease>>,
    pub waiting_on: BTreeSet<TaskId>,
}

impl Entry {
    pub fn order(&self) -> Order {
        order(&self.task, self.priority)
    }

    pub fn lane(&self) -> Lane {
        Lane { group: self.group, task_type: self.task.task_type }
    }
}

/// The core of dispatch.
pub struct Dispatch {
    pub(super) settings: Settings,
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) places: Arc<Places>,
    pub(super) workers: Vec<WorkerSpec>,
    pub(super) tasks: Map<TaskId, Entry>,
    pub(super) ended: Map<TaskId, State>,
    pub(super) keys: Map<(TypeId, Arc<str>), TaskId>,
    /// When keys of ended tasks stop answering.
    pub(super) key_ends: BTreeSet<(Time, TaskId, (TypeId, Arc<str>))>,
    pub(super) queue: Queue,
    pub(super) admission: Admission,
    pub(super) groups: Groups,
    pub(super) homes: Homes,
    pub(super) explorer: Explorer,
    pub(super) recurrings: Recurrings,
    /// By worker: the types that it is best at, best first.
    pub(super) best_at: Vec<Vec<TypeId>>,
    /// By worker: no speed of its own is above this.
    pub(super) best_speed: Vec<f64>,
    /// Tasks that each worker holds.
    pub(super) held: Vec<BTreeSet<TaskId>>,
    pub(super) standings: Vec<Map<TypeId, Standing>>,
    pub(super) heat: Heat,
    pub(super) epoch: u32,
    pub(super) next_id: u64,
    pub(super) next_seq: u64,
    pub(super) paused: bool,
    pub(super) draining: bool,
    pub(super) plan_dirty: bool,
    /// Where each type would run, as the last plans said.
    pub(super) plan_homes: Vec<Option<WorkerId>>,
    pub(super) plan_homes_next: usize,
    pub(super) random: fastrand::Rng,
}

impl Dispatch {
    /// An empty queue. `epoch` is this start's number, made durable before.
    pub fn new(
        settings: Settings,
        catalogue: Arc<Catalogue>,
        places: Arc<Places>,
        workers: Vec<WorkerSpec>,
        epoch: u32,
    ) -> Dispatch {
        Dispatch {
            admission: Admission::new(settings.limits.clone(), &workers),
            random: fastrand::Rng::with_seed(settings.seed),
            groups: Groups::default(),
            homes: Homes::default(),
            explorer: Explorer::default(),
            recurrings: Recurrings::default(),
            best_at: vec![Vec::new(); workers.len()],
            best_speed: vec![1.0; workers.len()],
            standings: vec![Map::default(); workers.len()],
            held: vec![BTreeSet::new(); workers.len()],
            settings,
            catalogue,
            places,
            workers,
            tasks: Map::default(),
            ended: Map::default(),
            keys: Map::default(),
            key_ends: BTreeSet::new(),
            queue: Queue::default(),
            heat: Heat::default(),
            epoch,
            next_id: 1,
            next_seq: 1,
            paused: false,
            draining: false,
            plan_dirty: false,
            plan_homes: Vec::new(),
            plan_homes_next: 0,
        }
    }

    // ---- requests ------------------------------------------------------------------------------------------

    /// Accepts or refuses submits, one by one and in order, then places what can be placed.
    pub fn submit(&mut self, now: Time, submits: Vec<Submit>) -> (Vec<Result<Submitted, SubmitError>>, Step) {
        let mut step = Step::default();
        let answers = submits.into_iter().map(|s| self.accept(now, s, &mut step)).collect();
        self.place_all(now, &mut step);
        (answers, step)
    }

    pub(super) fn accept(
        &mut self,
        now: Time,
        submit: Submit,
        step: &mut Step,
    ) -> Result<Submitted, SubmitError> {
        if self.draining {
            return Err(SubmitError::Draining);
        }
        if let Some(key) = &submit.key
            && let Some(task_type) = self.catalogue.find(&submit.task_type)
            && let Some(task) = self.keys.get(&self.key_of(task_type, &Arc::from(key.as_str())))
        {
            return Ok(Submitted { task: *task, existing: true });
        }
        if self.tasks.len() >= self.settings.limits.queued {
            return Err(SubmitError::Full { limit: self.settings.limits.queued });
        }
        let unknown = |t: &&TaskId| !self.tasks.contains_key(t) && !self.ended.contains_key(t);
        if let Some(task) = submit.after.iter().find(unknown) {
            return Err(SubmitError::UnknownDependency { task: *task });
        }
        let group = self.group_with_room(submit.group.as_deref())?;
        let id = TaskId(self.next_id);
        let task = Arc::new(submit.resolve(id, now, &self.catalogue, &self.places)?);
        self.next_id += 1;
        if let Some(key) = &task.key {
            let place = self.key_of(task.task_type, key);
            self.keys.insert(place, id);
        }
        let waiting_on: BTreeSet<TaskId> =
            task.after.iter().copied().filter(|t| self.ended.get(t) != Some(&State::Done)).collect();
        let broken = waiting_on.iter().copied().find(|t| self.ended.contains_key(t));
        let state = first_state(&waiting_on, task.not_before, now);
        step.changes.push(Change::Submitted { task: task.clone(), state });
        let Task { task_type, entity, .. } = &*task;
        let (task_type, entity) = (*task_type, entity.clone());
        step.actions.push(Action::Decided(Decision {
            at: now,
            what: Decided::Accepted { task: id, task_type, entity: entity.clone() },
        }));
        let inputs = task.inputs.clone();
        step.actions.push(Action::Arrived(Arrived { task: id, task_type, entity, at: now, inputs }));
        self.insert(task, group, state, 0, now, waiting_on, None);
        if let Some(dependency) = broken {
            self.finish(now, id, State::Failed, Ending::DependencyFailed { task: dependency }, None, step);
        }
        Ok(Submitted { task: id, existing: false })
    }

    /// A key with whom it answers for: its type, or all that share one space of keys.
    pub(super) fn key_of(&self, task_type: TypeId, key: &Arc<str>) -> (TypeId, Arc<str>) {
        let space = if self.catalogue.get(task_type).keys.host_wide { HOST_WIDE } else { task_type };
        (space, key.clone())
    }

    /// A task with a key has ended (at the latest at `now`): how long the key answers on.
    pub(super) fn key_ended(&mut self, now: Time, id: TaskId, task_type: TypeId, key: &Arc<str>) {
        let Some(lifetime) = self.catalogue.get(task_type).keys.lifetime else { return };
        let key = self.key_of(task_type, key);
        if lifetime == Span::ZERO {
            if self.keys.get(&key) == Some(&id) {
                self.keys.remove(&key);
            }
        } else {
            self.key_ends.insert((now + lifetime, id, key));
        }
    }

    /// Keys whose lifetime is over answer no more.
    pub(super) fn expire_keys(&mut self, now: Time) {
        while self.key_ends.first().is_some_and(|(until, ..)| *until <= now) {
            let Some((_, id, key)) = self.key_ends.pop_first() else { return };
            if self.keys.get(&key) == Some(&id) {
                self.keys.remove(&key);
            }
        }
    }

    /// The group that a submit names, if it takes one more.
    fn group_with_room(&mut self, name: Option<&str>) -> Result<GroupId, SubmitError> {
        let name = name.unwrap_or("");
        let group =
            self.groups.find_or_add(name).ok_or(SubmitError::TooManyGroups { limit: GROUPS_LIMIT })?;
        match self.groups.room(group) {
            Some(0) => {
                let limit = self.groups.settings(group).max_queued.unwrap_or(0);
                Err(SubmitError::GroupFull { group: name.to_owned(), limit })
            }
            _ => Ok(group),
        }
    }

    #[allow(clippy::too_many_arguments, reason = "what a task is, and where it stands")]
    pub(super) fn insert(
        &mut self,
        task: Arc<Task>,
        group: GroupId,
        state: State,
        attempts: u32,
        now: Time,
        waiting_on: BTreeSet<TaskId>,
        edited: Option<(Priority, Option<Time>)>,
    ) {
        let id = task.id;
        for t in &waiting_on {
            self.queue.depend(id, *t);
        }
        let (priority, not_before) = edited.unwrap_or((task.priority, task.not_before));
        let entry = Entry {
            priority,
            not_before,
            life: Life::recovered(state, attempts, now),
            lease: None,
            group,
            waiting_on,
            task,
        };
        self.groups.came(group);
        if let Some(until) = entry.task.deadline {
            self.queue.limit(id, until);
        }
        self.tasks.insert(id, entry);
        self.enqueue(id);
    }

    /// Puts a task where its state says it waits.
    pub(super) fn enqueue(&mut self, id: TaskId) {
        let entry = &self.tasks[&id];
        match entry.life.state() {
            State::Queued => self.ready_in(id),
            State::Delayed => {
                self.queue.delay(id, entry.not_before.expect("a delayed task has a time"));
            }
            _ => {}
        }
        self.plan_dirty = true;
    }

    /// Among the ready tasks.
    pub(super) fn ready_in(&mut self, id: TaskId) {
        let entry = &self.tasks[&id];
        let (lane, order) = (entry.lane(), entry.order());
        if !self.queue.ready().groups().any(|(g, _)| g == lane.group) {
            self.groups.catch_up(lane.group);
        }
        self.queue.push(&entry.task, lane, order);
        self.homes.count(lane.task_type, 1);
    }

    /// Not among the ready tasks any more.
    pub(super) fn ready_out(&mut self, id: TaskId) {
        let entry = &self.tasks[&id];
        let lane = entry.lane();
        self.queue.remove(&entry.task, lane, entry.order());
        self.homes.count(lane.task_type, -1);
    }

    /// Takes a task from where it waits.
    pub(super) fn dequeue(&mut self, id: TaskId) {
        let entry = &self.tasks[&id];
        match entry.life.state() {
            State::Queued => self.ready_out(id),
            State::Delayed => {
                self.queue.undelay(id, entry.not_before.expect("a delayed task has a time"));
            }
            State::Blocked => {
                for t in &entry.waiting_on {
                    self.queue.undepend(id, *t);
                }
            }
            _ => {}
        }
        self.plan_dirty = true;
    }

    /// Cancels a task: at once if it waits, else its attempt is ended first.
    ///
    /// # Errors
    /// If it is unknown or has ended.
    pub fn cancel(&mut self, now: Time, id: TaskId) -> Result<Step, NotPossible> {
        let mut step = Step::default();
        let Some(entry) = self.tasks.get_mut(&id) else {
            return Err(self.not_unfinished(id, "only an unfinished task can be cancelled"));
        };
        if let Some(lease) = &mut entry.lease {
            lease.cancelled = true;
            let (worker, token) = (lease.worker, lease.token);
            step.actions.push(Action::Stop { worker, task: id, token });
        } else {
            self.finish(now, id, State::Cancelled, Ending::Cancelled, None, &mut step);
            self.place_all(now, &mut step);
        }
        Ok(step)
    }

    /// Changes what can be changed of a waiting task.
    ///
    /// # Errors
    /// If it is unknown, running or has ended.
    pub fn edit(&mut self, now: Time, id: TaskId, edit: &Edit) -> Result<Step, NotPossible> {
        let mut step = Step::default();
        let Some(entry) = self.tasks.get(&id) else {
            return Err(self.not_unfinished(id, "only a waiting task can be edited"));
        };
        let state = entry.life.state();
        if state == State::Running {
            return Err(NotPossible::State { task: id, state, why: "only a waiting task can be edited" });
        }
        self.dequeue(id);
        let entry = self.tasks.get_mut(&id).expect("it was there a moment ago");
        entry.priority = edit.priority.unwrap_or(entry.priority);
        entry.not_before = edit.not_before.or(entry.not_before);
        let next = first_state(&entry.waiting_on, entry.not_before, now);
        if next != state {
            entry.life.go(next, now).expect("waiting states follow each other");
        }
        let (priority, not_before) = (entry.priority, entry.not_before);
        if next == State::Blocked {
            for t in &entry.waiting_on.clone() {
                self.queue.depend(id, *t);
            }
        }
        step.changes.push(Change::Edited { task: id, priority, not_before });
        self.enqueue(id);
        self.place_all(now, &mut step);
        Ok(step)
    }

    /// Tries a failed or cancelled task again; the caller read it, and how many attempts it had, from the
    /// record.
    ///
    /// # Errors
    /// If it has not ended that way.
    pub fn retry(&mut self, now: Time, task: Arc<Task>, attempts: u32) -> Result<Step, NotPossible> {
        let mut step = Step::default();
        let (id, why) = (task.id, "only a failed or cancelled task can be tried again");
        match self.ended.get(&id).copied() {
            Some(State::Failed | State::Cancelled) => {}
            Some(state) => return Err(NotPossible::State { task: id, state, why }),
            None => {
                return Err(match self.tasks.get(&id) {
                    Some(e) => NotPossible::State { task: id, state: e.life.state(), why },
                    None => NotPossible::Unknown { task: id },
                });
            }
        }
        let name = task.group.as_deref().unwrap_or("");
        let group = self.groups.find_or_add(name).unwrap_or_default();
        self.ended.remove(&id);
        let waiting_on: BTreeSet<TaskId> =
            task.after.iter().copied().filter(|t| self.tasks.contains_key(t)).collect();
        let state = first_state(&waiting_on, task.not_before, now);
        step.changes.push(Change::Reopened { task: id, state });
        self.insert(task, group, state, attempts, now, waiting_on, None);
        let entry = self.tasks.get_mut(&id).expect("just inserted");
        entry.life.renew();
        if let Some(until) = entry.task.deadline.filter(|until| *until < now) {
            // Whoever asks for a retry after the deadline wants it in spite of it.
            self.queue.unlimit(id, until);
        }
        self.place_all(now, &mut step);
        Ok(step)
    }

    fn not_unfinished(&self, id: TaskId, why: &'static str) -> NotPossible {
        match self.ended.get(&id) {
            Some(state) => NotPossible::State { task: id, state: *state, why },
            None => NotPossible::Unknown { task: id },
        }
    }

    /// Changes a group's settings; one that nobody has named yet is made.
    ///
    /// # Errors
    /// If there are too many groups.
    pub fn set_group(
        &mut self,
        now: Time,
        name: &str,
        change: impl FnOnce(&mut GroupSettings),
    ) -> Result<Step, NotPossible> {
        let group =
            self.groups.find_or_add(name).ok_or(NotPossible::TooManyGroups { limit: GROUPS_LIMIT })?;
        let mut settings = self.groups.settings(group).clone();
        change(&mut settings);
        self.groups.set(group, settings.clone());
        self.plan_dirty = true;
        let mut step = Step::default();
        step.changes.push(Change::GroupSet { name: name.into(), settings });
        self.place_all(now, &mut step);
        Ok(step)
    }

    /// What was set of a group, as the record has it; before [`Dispatch::recover`].
    pub fn restore_group(&mut self, name: &str, settings: GroupSettings) {
        if let Some(group) = self.groups.find_or_add(name) {
            self.groups.set(group, settings);
        }
    }

    /// All groups that have unfinished tasks or settings, by name.
    pub fn groups(&self) -> Vec<GroupView> {
        self.groups.views()
    }

    /// Starts nothing more until [`Dispatch::resume`].
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Starts tasks again.
    pub fn resume(&mut self, now: Time) -> Step {
        self.paused = false;
        self.placed(now)
    }

    /// Takes and starts nothing more; running attempts go on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// How many attempts run.
    pub fn running(&self) -> usize {
        (0..self.workers.len()).map(|w| self.admission.running(WorkerId(w as u16)) as usize).sum()
    }

    /// How many ready tasks have their first input at each cell and shard.
    pub fn queued_by_place(&self) -> Vec<(crate::flow::Place, u32)> {
        self.queue.by_place().collect()
    }

    /// Forgets ended tasks that retention removed from the record.
    pub fn forget(&mut self, tasks: &[(TaskId, TypeId, Option<Arc<str>>)]) {
        for (id, task_type, key) in tasks {
            self.ended.remove(id);
            if let Some(key) = key {
                let key = self.key_of(*task_type, key);
                if self.keys.get(&key) == Some(id) {
                    self.keys.remove(&key);
                }
            }
        }
    }
}

pub(super) fn first_state(waiting_on: &BTreeSet<TaskId>, not_before: Option<Time>, now: Time) -> State {
    if !waiting_on.is_empty() {
        State::Blocked
    } else if not_before.is_some_and(|t| t > now) {
        State::Delayed
    } else {
        State::Queued
    }
}
