//! Which free slot gets which ready task.
//!
//! Class comes first, then whose group's turn it is, then the score. For a free worker the candidates are the
//! heads of the lanes: the oldest of them, those of the types that the worker is best at, and the oldest
//! with data in its cache. [`SCAN`] bounds each list, so that a decision costs the same whatever waits behind
//! and however many types there are; only if none of them may start, all heads are looked at.
//! (With at most [`SCAN`] types ready the best head always wins; with more it is the best of those that are old,
//! fitting or local.) The baselines take the oldest head that may start and differ in the worker.

use super::Policy;
use super::core::Dispatch;
use super::homes::{Home, still_busy, worth_waiting};
use super::lanes::{GroupId, Lane, Lanes};
use super::queue::Order;
use super::score::{age, fit, locality};
use crate::flow::{Factors, TaskId, TypeId, WorkerId};
use crate::task::{Task, WaitingFor};
use crate::time::{Span, Time};
use std::cmp::Reverse;

/// Heads of each list that a decision looks at.
pub const SCAN: usize = 64;
/// Tasks behind a head that are looked at when the head's cell or shard is at its limit or busy and hot.
const BEHIND: usize = 8;
/// A shard this hot gets no second attempt while something cooler is ready.
const HOT_SHARD: f64 = 0.8;
/// A worker this hot is nobody's home: it is no faster than others at the moment.
const NO_HOME: f64 = 0.95;
/// With more free workers than this, each chooses once in turn; with fewer, the best pair of all goes first.
const FREE_WORKERS: usize = 32;

/// A possible start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub worker: WorkerId,
    pub lane: Lane,
    pub order: Order,
    pub factors: Factors,
    turn: f64,
    score: f64,
}

/// Where in the lists a search stands.
struct Search {
    now: Time,
    worker: WorkerId,
    group: GroupId,
    class: Reverse<u8>,
    best: Option<Choice>,
}

impl Dispatch {
    pub(super) fn still_fits(&self, c: &Choice) -> bool {
        let task = &self.tasks[&c.order.1].task;
        let spec = self.catalogue.get(task.task_type);
        self.groups.may_start(c.lane.group)
            && self.admission.check(&self.claim_of(c.worker, task), spec).is_ok()
    }

    /// Gives free slots to ready tasks until nothing fits any more.
    pub(super) fn place_all(&mut self, now: Time, step: &mut super::Step) {
        if self.paused || self.draining || self.queue.ready_len() == 0 {
            return;
        }
        self.admission.refill(now);
        let free: Vec<WorkerId> = self.admission.free_workers().collect();
        if free.len() > FREE_WORKERS {
            return self.place_in_turn(now, free, step);
        }
        let mut best: Vec<Option<Choice>> = free.iter().map(|w| self.choose(now, *w)).collect();
        while let Some(c) = best.iter().flatten().copied().reduce(|a, b| self.better(a, b)) {
            self.start(now, &c, step);
            // Only those whose favourite is gone or does not fit any more, and the one whose room has changed,
            // need to choose again.
            for (worker, favourite) in free.iter().zip(&mut best) {
                let gone = |b: &Choice| b.order == c.order || *worker == c.worker || !self.still_fits(b);
                if favourite.as_ref().is_some_and(gone) {
                    *favourite = self.choose(now, *worker);
                }
            }
        }
    }

    /// Each free worker takes what is best for it, one after the other: with many of them the order hardly
    /// matters, and comparing all pairs would cost their square.
    fn place_in_turn(&mut self, now: Time, free: Vec<WorkerId>, step: &mut super::Step) {
        for worker in free {
            while let Some(c) = self.choose(now, worker) {
                self.start(now, &c, step);
            }
            if self.queue.ready_len() == 0 {
                return;
            }
        }
    }

    /// The best task for one worker.
    pub(super) fn choose(&mut self, now: Time, worker: WorkerId) -> Option<Choice> {
        if self.admission.free_slots(worker) == 0 {
            return None;
        }
        // Classes from high to low; within a class the groups in the order of their turns.
        let mut todo: Vec<(Order, GroupId)> = Vec::new();
        for (group, first) in self.queue.ready().groups() {
            if self.groups.may_start(group) {
                todo.push((first, group));
            }
        }
        while let Some(at) = self.next_in_turn(&todo) {
            let (first, group) = todo[at];
            let mut search = Search { now, worker, group, class: first.0, best: None };
            match self.settings.policy {
                Policy::Affinity => self.search(&mut search),
                _ => self.oldest(&mut search),
            }
            if search.best.is_some() {
                return search.best;
            }
            // Nothing of this class may start here: its next lower one.
            let below = (Reverse(first.0.0.wrapping_sub(1)), TaskId(0));
            let next = if first.0.0 == 0 { None } else { self.queue.ready().heads(group, below).next() };
            match next {
                Some((order, _)) => todo[at].0 = order,
                None => _ = todo.swap_remove(at),
            }
        }
        None
    }

    fn next_in_turn(&self, todo: &[(Order, GroupId)]) -> Option<usize> {
        (0..todo.len()).min_by(|a, b| {
            let ((x, g), (y, h)) = (todo[*a], todo[*b]);
            x.0.cmp(&y.0).then(self.groups.turn(g).total_cmp(&self.groups.turn(h))).then(g.cmp(&h))
        })
    }

    /// The baselines' choice: the oldest that may start.
    fn oldest(&mut self, s: &mut Search) {
        let score = match self.settings.policy {
            Policy::Random => self.random.f64(),
            _ => 0.0,
        };
        let from = (s.class, TaskId(0));
        let mut heads = self.queue.ready().heads(s.group, from).take_while(|(o, _)| o.0 == s.class);
        let found = heads.find_map(|(order, lane)| self.admitted(s.worker, order, lane));
        let Some((order, lane)) = found else { return };
        let factors = self.factors(s.worker, &self.tasks[&order.1].task);
        let score = if self.settings.policy == Policy::Heat { 1.0 - factors.heat } else { score };
        let turn = self.groups.turn(s.group);
        s.best = Some(Choice { worker: s.worker, lane, order, factors, turn, score });
    }

    /// The best of the heads of a class and group by affinity × (1 − heat) × locality × age.
    fn search(&mut self, s: &mut Search) {
        let (from, class, group) = ((s.class, TaskId(0)), s.class, s.group);
        let of_class = move |(o, _): &(Order, Lane)| o.0 == class;
        let heads = |lanes: &Lanes, n: usize| -> Vec<(Order, Lane)> {
            lanes.heads(group, from).take_while(of_class).take(n).collect()
        };
        let oldest = heads(self.queue.ready(), SCAN);
        let cache = self.workers[usize::from(s.worker.0)].cache;
        let local = self.queue.local(cache).map_or_else(Vec::new, |l| heads(l, SCAN));
        let fitting: Vec<(Order, Lane)> = if oldest.len() < SCAN {
            Vec::new() // All heads are among the oldest.
        } else {
            let lane = |t: &TypeId| Lane { group, task_type: *t };
            let best_at = self.best_at[usize::from(s.worker.0)].iter().map(lane);
            best_at.filter_map(|l| Some((self.queue.ready().head(l)?, l))).filter(of_class).collect()
        };
        let mut all = oldest;
        let few = all.len() < SCAN;
        all.extend(local);
        all.extend(fitting);
        all.sort_unstable();
        all.dedup();
        self.best_of(s, &all);
        if s.best.is_none() && !few {
            let rest = heads(self.queue.ready(), usize::MAX);
            self.best_of(s, &rest);
        }
    }

    /// The best of some heads, in order, that may start and should not wait for their home.
    ///
    /// Stops where nothing younger can be better: the age falls along the list, and no fit is above the
    /// worker's best.
    fn best_of(&mut self, s: &mut Search, heads: &[(Order, Lane)]) {
        let ageing = self.settings.ageing;
        let limit = self.best_speed[usize::from(s.worker.0)];
        for (head, lane) in heads {
            let submitted = self.tasks[&head.1].task.submitted;
            if s.best.is_some_and(|b| b.score >= limit * age(s.now.since(submitted), ageing)) {
                return;
            }
            let Some((order, lane)) = self.admitted(s.worker, *head, *lane) else { continue };
            let entry = &self.tasks[&order.1];
            let (task, waited) = (entry.task.clone(), s.now.since(entry.life.since()));
            let factors = self.factors(s.worker, &task);
            let score = fit(&factors) * age(waited, ageing);
            if s.best.is_some_and(|b| b.score >= score) {
                continue;
            }
            if self.better_worker(s.now, s.worker, &task, waited).is_some() && !self.explores(s.worker, &task)
            {
                continue;
            }
            let turn = self.groups.turn(s.group);
            s.best = Some(Choice { worker: s.worker, lane, order, factors, turn, score });
        }
    }

    /// The head of a lane if it may start at a worker. If only its cell or shard is in the way, one of the next
    /// few may pass it.
    fn admitted(&self, worker: WorkerId, head: Order, lane: Lane) -> Option<(Order, Lane)> {
        let (task_type, spec) = (lane.task_type, self.catalogue.get(lane.task_type));
        if !self.runs(worker, task_type) || self.admission.check_type(task_type, spec).is_err() {
            return None;
        }
        let task = &self.tasks[&head.1].task;
        if self.admission.check_memory(&self.claim_of(worker, task)).is_err() {
            return None;
        }
        let free = |o: &Order| {
            let place = self.tasks[&o.1].task.place;
            self.admission.check_place(place).is_ok() && !self.hot(place)
        };
        if free(&head) {
            return Some((head, lane));
        }
        let same_class = |o: &Order| o.0 == head.0;
        let behind = self.queue.ready().of(lane).take_while(same_class).skip_while(|o| *o <= head);
        let cooler = behind.take(BEHIND).find(free);
        // Only cooler work may go before it; where there is none, a hot shard is no reason to idle.
        cooler.or_else(|| self.admission.check_place(task.place).is_ok().then_some(head)).map(|o| (o, lane))
    }

    /// Whether an attempt reads from this shard already and the shard is hot.
    fn hot(&self, place: Option<crate::flow::Place>) -> bool {
        place.is_some_and(|p| {
            let shards = self.heat.shards.get(usize::from(p.cell.0));
            let heat = shards.and_then(|s| s.get(usize::from(p.shard)));
            heat.is_some_and(|u| u.iter().any(|u| *u >= HOT_SHARD)) && self.admission.running_at(p) > 0
        })
    }

    /// Whether a worker runs a type.
    pub(super) fn runs(&self, worker: WorkerId, task_type: TypeId) -> bool {
        self.workers[usize::from(worker.0)].types.as_ref().is_none_or(|t| t.contains(&task_type))
    }

    /// The factors of a pair.
    pub(super) fn factors(&self, worker: WorkerId, task: &Task) -> Factors {
        let spec = &self.workers[usize::from(worker.0)];
        let standing = self.standing(worker, task.task_type);
        // A type that was never measured is taken to need all resources alike.
        let demand = standing.map_or([0.25; 4], |s| s.demand);
        let missing: f64 = task
            .inputs
            .iter()
            .filter(|o| !self.queue.is_cached(spec.cache, o))
            .map(|o| 1.0 / self.queue.waiters(o).max(1) as f64)
            .sum();
        let near = spec.near.is_empty() || task.place.is_none_or(|p| spec.near.contains(&p.cell));
        Factors {
            speed: standing.map_or(1.0, |s| s.speed),
            heat: self.heat.felt_by(worker, &demand),
            locality: locality(missing, task.inputs.len(), near),
        }
    }

    /// The workers that a type is at home at, worked out anew if something has changed: O(workers) then, O(1)
    /// else.
    pub(super) fn home(&mut self, task_type: TypeId) -> &Home {
        if self.homes.get(task_type).is_none() {
            let home = self.find_home(task_type);
            self.homes.set(task_type, home, self.queue.ready_of(task_type));
        }
        self.homes.latest(task_type).expect("just set")
    }

    fn find_home(&self, task_type: TypeId) -> Home {
        let times = self.workers.iter().filter(|w| self.runs(w.id, task_type)).filter_map(|w| {
            let s = self.standing(w.id, task_type)?;
            (self.heat.felt_by(w.id, &s.demand) < NO_HOME).then_some((w.id, s.expected))
        });
        Home::of(times)
    }

    /// A worker for which the task should rather wait a moment (late binding): the best of its home, if what
    /// the task would lose here is more than what it and those behind it gain. The wait is bounded by
    /// `late_binding` from when the task became ready.
    pub(super) fn better_worker(
        &mut self,
        now: Time,
        here: WorkerId,
        task: &Task,
        waited: Span,
    ) -> Option<WorkerId> {
        if self.settings.policy != Policy::Affinity || waited >= self.settings.late_binding {
            return None;
        }
        let task_type = task.task_type;
        let time_here = self.standing(here, task_type)?.expected;
        let home = self.home(task_type).clone();
        if home.workers.contains(&here) || !home.is_clearly_better_than(time_here) {
            return None;
        }
        let wait = home.workers.iter().filter_map(|w| self.first_slot(now, *w, task)).min()?;
        let slots = home.workers.iter().map(|w| self.workers[usize::from(w.0)].slots).sum();
        let n = self.homes.backlog(&home);
        worth_waiting(time_here, home.expected, wait, n, slots).then(|| home.workers[0])
    }

    /// How long until a worker has a slot for a task, as far as can be told; `None` if something else than its
    /// slots is in the way there.
    fn first_slot(&self, now: Time, worker: WorkerId, task: &Task) -> Option<Span> {
        if self.admission.free_slots(worker) > 0 {
            let claim = self.claim_of(worker, task);
            return self.admission.check_memory(&claim).is_ok().then_some(Span::ZERO);
        }
        self.leases(worker).map(|l| still_busy(l.until.since(now), now.since(l.until))).min()
    }

    /// Why a ready task did not start; asked only by people, so it may look at all workers.
    pub(super) fn reason(&self, now: Time, task: &Task, lane: Lane) -> WaitingFor {
        if self.paused || self.draining {
            return WaitingFor::Paused;
        }
        let group = self.groups.settings(lane.group);
        if group.paused {
            return WaitingFor::PausedGroup { group: self.groups.name(lane.group).clone() };
        }
        if !self.groups.may_start(lane.group) {
            return WaitingFor::Limit { limit: group.max_running.unwrap_or(0) };
        }
        let spec = self.catalogue.get(task.task_type);
        let mut reason = WaitingFor::Worker;
        for w in (0..self.workers.len()).map(|w| WorkerId(w as u16)) {
            if !self.runs(w, task.task_type) {
                continue;
            }
            match self.admission.check(&self.claim_of(w, task), spec) {
                Ok(()) => match self.homes.latest(task.task_type).and_then(|h| h.workers.first()) {
                    Some(home) if *home != w && now.since(task.submitted) < self.settings.late_binding => {
                        return WaitingFor::Better { worker: *home };
                    }
                    _ => return WaitingFor::Slot,
                },
                Err(e) => reason = e,
            }
        }
        reason
    }

    /// The better of two choices: class first, then whose turn it is; then, by affinity, the score, and for the
    /// baselines the age; then age and the worker's index.
    fn better(&self, a: Choice, b: Choice) -> Choice {
        let by_score = b.score.total_cmp(&a.score);
        let by_age = a.order.1.cmp(&b.order.1);
        let fit = match self.settings.policy {
            Policy::Affinity => by_score.then(by_age),
            _ => by_age.then(by_score),
        };
        let turn =
            if a.lane.group == b.lane.group { std::cmp::Ordering::Equal } else { a.turn.total_cmp(&b.turn) };
        let first = a.order.0.cmp(&b.order.0).then(turn).then(fit).then(a.worker.cmp(&b.worker));
        if first.is_le() { a } else { b }
    }
}
