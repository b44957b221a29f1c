//! The actor that owns the queue.
//!
//! - **Told by** the socket ([`Submit`], [`Cancel`], …), by caches ([`Cached`]), the monitor ([`Heat`]), the
//!   roster ([`Standings`]); an attempt's end is the reply to [`Assign`].
//! - **Tells** workers ([`Assign`], awaited by a future of its own; [`Stop`]), those who look ahead
//!   ([`Arrived`], [`Plan`]), those who guard the caches ([`Writing`]), those who learn ([`Learned`]), the
//!   diary ([`Decision`]).
//! - **Order**: actions are carried out in the order in which their steps were made, each after its changes
//!   are durable. A step without changes waits behind those that have some, so that a `Stop` never
//!   overtakes its `Assign`.
//! - **After it stops**: nothing is lost; the record has all that was acknowledged.

use super::outside::OutsidePeer;
use super::step::{Action, Change, Edit, NotPossible, Step, SubmitError, Submitted};
use super::{Dispatch, Why};
use crate::flow::{
    Arrived, Decision, Ending, Factors, Heat, Outcome, Plan, Standings, TaskId, Token, TypeId, Usage,
    WorkerId, Writing,
};
use crate::message::{Assign, Cached, Fact, Give, Learned, Lesson, Stop};
use crate::task::{Recurring, State, Task};
use crate::time::{Clock, Span, Time};
use actix::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// How often delayed tasks and waits for better workers are looked at.
pub const TICK: Span = Span::from_ms(20);
/// Messages that may wait for this actor; senders of facts count what does not fit.
const MAILBOX: usize = 4_096;

/// Called once the changes are durable, or with what went wrong.
pub type Recorded = Box<dyn FnOnce(Result<(), String>) + Send>;
/// Makes changes durable and then calls back, in order of the calls. An error is fatal: what is on disk is
/// known only after a restart.
pub type Recorder = Box<dyn FnMut(Vec<Change>, Recorded)>;

/// Accept tasks.
#[derive(Message)]
#[rtype(result = "Vec<Result<Submitted, SubmitError>>")]
pub struct Submit(pub Vec<crate::task::Submit>);

/// Cancel a task.
#[derive(Message)]
#[rtype(result = "Result<(), NotPossible>")]
pub struct Cancel(pub TaskId);

/// Change a waiting task.
#[derive(Message)]
#[rtype(result = "Result<(), NotPossible>")]
pub struct Amend(pub TaskId, pub Edit);

/// Try an ended task again, as the record has it, with the attempts it had.
#[derive(Message)]
#[rtype(result = "Result<(), NotPossible>")]
pub struct Retry(pub Arc<Task>, pub u32);

/// Change what is set of a group.
#[derive(Message)]
#[rtype(result = "Result<(), NotPossible>")]
pub struct SetGroup(pub Arc<str>, pub GroupEdit);

/// Set a recurring task, or replace it.
#[derive(Message)]
#[rtype(result = "Result<(), SubmitError>")]
pub struct SetRecurring(pub Arc<str>, pub Recurring);

/// Remove a recurring task.
#[derive(Message)]
#[rtype(result = "Result<(), NotPossible>")]
pub struct RemoveRecurring(pub Arc<str>);

/// A change of a group's settings.
pub type GroupEdit = Box<dyn FnOnce(&mut super::GroupSettings) + Send>;

/// Start nothing more, or start again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Pause(pub bool);

/// Take and start nothing more; answered when nothing runs any more, or when the deadline is over.
#[derive(Message)]
#[rtype(result = "usize")]
pub struct Drain {
    /// How long running attempts may go on before they are ended.
    pub deadline: Span,
}

/// A question to the core, with the time of asking.
pub type Question = Box<dyn FnOnce(&Dispatch, Time) + Send>;

/// Look at the core, for those who show it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Look(pub Question);

/// Answered with the state in which a task ended, at once if it has.
#[derive(Message)]
#[rtype(result = "Option<State>")]
pub struct Settled(pub TaskId);

/// Answered when no task is unfinished, of a group or at all.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Idle(pub Option<Arc<str>>);

/// Ended tasks are past retention: they leave the record and the books.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Forget(pub Vec<(TaskId, TypeId, Option<Arc<str>>)>);

/// The step that recovery made; the first thing the actor does.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Resume(pub Step);

/// Whom the actor tells; wired once.
pub struct Peers {
    /// By [`WorkerId`].
    pub workers: Vec<WorkerPeer>,
    /// New tasks.
    pub arrived: Vec<Recipient<Fact<Vec<Arrived>>>>,
    /// Plans.
    pub plan: Vec<Recipient<Fact<Plan>>>,
    /// Tasks that write objects begin and end.
    pub writing: Vec<Recipient<Fact<Writing>>>,
    /// Attempts that ended, besides the workers that ran them.
    pub learned: Vec<Recipient<Learned>>,
    /// The diary.
    pub decisions: Vec<Recipient<Fact<Vec<Decision>>>>,
}

/// A worker's actor.
pub enum WorkerPeer {
    /// It runs children here; the end of an attempt is the reply to its assignment.
    Here {
        /// Takes an attempt.
        assign: Recipient<Assign>,
        /// Ends one.
        stop: Recipient<Stop>,
        /// Learns from its own.
        learned: Recipient<Learned>,
    },
    /// It is a program of its own.
    Outside(OutsidePeer),
    /// Nobody has this number now.
    Away,
}

impl WorkerPeer {
    fn stop(&self) -> Option<&Recipient<Stop>> {
        match self {
            WorkerPeer::Here { stop, .. } => Some(stop),
            WorkerPeer::Outside(peer) => Some(&peer.stop),
            WorkerPeer::Away => None,
        }
    }
    fn learned(&self) -> Option<&Recipient<Learned>> {
        match self {
            WorkerPeer::Here { learned, .. } => Some(learned),
            WorkerPeer::Outside(peer) => Some(&peer.learned),
            WorkerPeer::Away => None,
        }
    }
}

/// What one step tells others: one message each, however many tasks the step is about.
#[derive(Default)]
struct News {
    arrived: Vec<Arrived>,
    decisions: Vec<Decision>,
    lessons: Vec<Lesson>,
    given: std::collections::BTreeMap<WorkerId, Vec<Assign>>,
}

/// Lessons that may wait for their learners before outside workers have to wait for their answers, summed over the
/// learners: some ten MiB.
const UNLEARNED: usize = 60_000;

struct Waiting {
    durable: bool,
    actions: Vec<Action>,
    reply: Option<Box<dyn FnOnce()>>,
    /// Whether the reply waits while the learners are behind.
    patient: bool,
}

/// The actor.
pub struct DispatchActor {
    pub(super) core: Dispatch,
    pub(super) clock: Clock,
    record: Recorder,
    pub(super) peers: Peers,
    steps: VecDeque<Waiting>,
    first_step: u64,
    settled: crate::flow::Map<TaskId, Vec<oneshot::Sender<State>>>,
    idle: Vec<(Option<Arc<str>>, oneshot::Sender<()>)>,
    drained: Vec<oneshot::Sender<usize>>,
    /// Lessons on their way, and the replies that wait until there are fewer.
    unlearned: usize,
    held_back: Vec<Box<dyn FnOnce()>>,
    dropped: u64,
    fatal: Box<dyn Fn(String)>,
}

impl DispatchActor {
    /// `fatal` is called when the record failed; it must end the process.
    pub fn new(
        core: Dispatch,
        clock: Clock,
        record: Recorder,
        peers: Peers,
        fatal: Box<dyn Fn(String)>,
    ) -> Self {
        DispatchActor {
            core,
            clock,
            record,
            peers,
            steps: VecDeque::new(),
            first_step: 0,
            settled: crate::flow::Map::default(),
            idle: Vec::new(),
            drained: Vec::new(),
            unlearned: 0,
            held_back: Vec::new(),
            dropped: 0,
            fatal,
        }
    }

    pub(super) fn step(&mut self, step: Step, reply: Option<Box<dyn FnOnce()>>, ctx: &mut Context<Self>) {
        self.step_for(step, reply, false, ctx);
    }

    /// `patient`: whoever waits for the reply brings lessons, and waits while there are too many.
    pub(super) fn step_for(
        &mut self,
        step: Step,
        reply: Option<Box<dyn FnOnce()>>,
        patient: bool,
        ctx: &mut Context<Self>,
    ) {
        let Step { changes, actions } = step;
        if changes.is_empty() && actions.is_empty() && self.steps.is_empty() {
            if let Some(reply) = reply {
                reply();
            }
            return;
        }
        let number = self.first_step + self.steps.len() as u64;
        self.steps.push_back(Waiting { durable: changes.is_empty(), actions, reply, patient });
        if changes.is_empty() {
            self.carry_out_durable(ctx);
            return;
        }
        let (tx, rx) = oneshot::channel();
        (self.record)(changes, Box::new(move |result| drop(tx.send(result))));
        let landed = rx.into_actor(self).map(move |result, actor, ctx| match result {
            Ok(Ok(())) => {
                let at = usize::try_from(number - actor.first_step).expect("steps are few");
                actor.steps[at].durable = true;
                actor.carry_out_durable(ctx);
            }
            Ok(Err(why)) => (actor.fatal)(why),
            Err(_) => (actor.fatal)("the writer of the record is gone".into()),
        });
        ctx.spawn(landed);
    }

    fn carry_out_durable(&mut self, ctx: &mut Context<Self>) {
        while self.steps.front().is_some_and(|s| s.durable) {
            let Some(step) = self.steps.pop_front() else { break };
            self.first_step += 1;
            let mut news = News::default();
            for action in step.actions {
                self.carry_out(action, &mut news, ctx);
            }
            self.tell(news, ctx);
            match step.reply {
                Some(reply) if step.patient && self.unlearned > UNLEARNED => self.held_back.push(reply),
                Some(reply) => reply(),
                None => {}
            }
        }
        if !self.idle.is_empty() {
            let core = &self.core;
            self.idle.retain(|(group, waiter)| core.unfinished(group.as_deref()) > 0 && !waiter.is_closed());
        }
        if self.core.running() == 0 && self.steps.is_empty() {
            for d in self.drained.drain(..) {
                let _ = d.send(0);
            }
        }
    }

    fn carry_out(&mut self, action: Action, news: &mut News, ctx: &mut Context<Self>) {
        match action {
            Action::Assign { worker, task, token, factors } => {
                self.assign(worker, task, token, factors, news, ctx);
            }
            Action::Stop { worker, task, token } => {
                // A worker whose mailbox is full gets the order when it has room.
                if let Some(stop) = self.peers.workers[usize::from(worker.0)].stop() {
                    see_to_it(stop.send(Stop { task, token }));
                }
            }
            Action::Arrived(a) => news.arrived.push(a),
            Action::Writing(w) => {
                // Not a fact that may be missed: a stale copy could be read. The mailbox takes it in order.
                for p in &self.peers.writing {
                    see_to_it(p.send(Fact(w.clone())));
                }
            }
            Action::Learn { outcome, seq } => news.lessons.push(Lesson { outcome, seq }),
            Action::Settled { task, state } => {
                for waiter in self.settled.remove(&task).into_iter().flatten() {
                    let _ = waiter.send(state);
                }
            }
            Action::Decided(d) => news.decisions.push(d),
        }
    }

    /// Sends what a step has to tell.
    fn tell(&mut self, news: News, ctx: &mut Context<Self>) {
        let News { arrived, decisions, lessons, given } = news;
        for (worker, attempts) in given {
            if let WorkerPeer::Outside(peer) = &self.peers.workers[usize::from(worker.0)] {
                see_to_it(peer.give.send(Give(attempts)));
            }
        }
        if !arrived.is_empty() {
            tell(&self.peers.arrived, Fact(arrived), &mut self.dropped);
        }
        if !lessons.is_empty() {
            // Learning follows the record's order and skips nothing, so these are not dropped.
            let learned = Learned(Arc::new(lessons));
            let ran: std::collections::BTreeSet<_> = learned.0.iter().map(|l| l.outcome.worker).collect();
            let ran = ran.iter().filter_map(|w| self.peers.workers.get(usize::from(w.0))?.learned());
            for p in ran {
                see_to_it(p.send(learned.clone()));
            }
            let lessons = learned.0.len();
            for p in &self.peers.learned {
                self.unlearned += lessons;
                ctx.spawn(p.send(learned.clone()).into_actor(self).map(move |_, actor, _| {
                    actor.unlearned -= lessons;
                    if actor.unlearned <= UNLEARNED {
                        actor.held_back.drain(..).for_each(|reply| reply());
                    }
                }));
            }
        }
        if !decisions.is_empty() {
            tell(&self.peers.decisions, Fact(decisions), &mut self.dropped);
        }
    }

    fn assign(
        &mut self,
        worker: WorkerId,
        task: Arc<Task>,
        token: Token,
        factors: Factors,
        news: &mut News,
        ctx: &mut Context<Self>,
    ) {
        let at = self.clock.now();
        let lost = lost(&task, worker, token, at, factors);
        let attempt = Assign { task, token, at, factors, slot: 0 };
        let WorkerPeer::Here { assign, .. } = &self.peers.workers[usize::from(worker.0)] else {
            news.given.entry(worker).or_default().push(attempt);
            return;
        };
        let reply = assign.send(attempt);
        let (addr, clock) = (ctx.address(), self.clock);
        // The end comes back as a message, so that attempts are taken in the order in which they ended.
        actix_rt::spawn(async move {
            // A worker that died takes its attempt with it; the supervisor has ended the child by then.
            let outcome = reply.await.unwrap_or_else(|_| Outcome { ended: clock.now(), ..lost });
            let _ = addr.send(Ended(outcome)).await;
        });
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let step = self.core.tick(now);
        self.step(step, None, ctx);
        if let Some(plan) = self.core.plan(now) {
            tell(&self.peers.plan, Fact(plan), &mut self.dropped);
        }
    }
}

/// Waits for room in a mailbox beside the actor; what is answered does not matter.
fn see_to_it<T>(sent: impl Future<Output = T> + 'static) {
    actix_rt::spawn(async move { _ = sent.await });
}

/// What is known of an attempt whose worker never answered.
fn lost(task: &Task, worker: WorkerId, token: Token, at: Time, factors: Factors) -> Outcome {
    Outcome {
        task: task.id,
        token,
        worker,
        task_type: task.task_type,
        entity: task.entity.clone(),
        submitted: task.submitted,
        started: at,
        ended: at,
        ending: Ending::Lost,
        usage: Usage::default(),
        data_wait: Span::ZERO,
        inputs: Vec::new(),
        factors,
    }
}

/// Tells a fact to all; who has no room misses it and catches up from the next one.
fn tell<M>(peers: &[Recipient<M>], message: M, dropped: &mut u64)
where
    M: Message<Result = ()> + Clone + Send + 'static,
{
    for p in peers {
        if p.try_send(message.clone()).is_err() {
            *dropped += 1;
            tracing::debug!(dropped = *dropped, "a mailbox was full, a fact was missed");
        }
    }
}

impl Actor for DispatchActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(TICK.to_std(), |actor, ctx| actor.tick(ctx));
    }
}

impl Handler<Submit> for DispatchActor {
    type Result = ResponseFuture<Vec<Result<Submitted, SubmitError>>>;
    fn handle(&mut self, msg: Submit, ctx: &mut Context<Self>) -> Self::Result {
        let (answers, step) = self.core.submit(self.clock.now(), msg.0);
        let (tx, rx) = oneshot::channel();
        self.step(step, Some(Box::new(move || _ = tx.send(()))), ctx);
        Box::pin(async move {
            // The sender is dropped unused only when the record failed, and then the process ends.
            let _ = rx.await;
            answers
        })
    }
}

/// An attempt has ended.
#[derive(Message)]
#[rtype(result = "()")]
struct Ended(Outcome);

impl Handler<Ended> for DispatchActor {
    type Result = ();
    fn handle(&mut self, msg: Ended, ctx: &mut Context<Self>) {
        if let Some(step) = self.core.ended(self.clock.now(), Arc::new(msg.0)) {
            self.step(step, None, ctx);
        }
    }
}

type Answer = ResponseFuture<Result<(), NotPossible>>;

impl DispatchActor {
    fn answer<E: 'static>(
        &mut self,
        result: Result<Step, E>,
        ctx: &mut Context<Self>,
    ) -> ResponseFuture<Result<(), E>> {
        match result {
            Err(e) => Box::pin(std::future::ready(Err(e))),
            Ok(step) => {
                let (tx, rx) = oneshot::channel();
                self.step(step, Some(Box::new(move || _ = tx.send(()))), ctx);
                Box::pin(async move {
                    let _ = rx.await;
                    Ok(())
                })
            }
        }
    }
}

impl Handler<Cancel> for DispatchActor {
    type Result = Answer;
    fn handle(&mut self, msg: Cancel, ctx: &mut Context<Self>) -> Answer {
        let result = self.core.cancel(self.clock.now(), msg.0);
        self.answer(result, ctx)
    }
}

impl Handler<Amend> for DispatchActor {
    type Result = Answer;
    fn handle(&mut self, msg: Amend, ctx: &mut Context<Self>) -> Answer {
        let result = self.core.edit(self.clock.now(), msg.0, &msg.1);
        self.answer(result, ctx)
    }
}

impl Handler<Retry> for DispatchActor {
    type Result = Answer;
    fn handle(&mut self, msg: Retry, ctx: &mut Context<Self>) -> Answer {
        let result = self.core.retry(self.clock.now(), msg.0, msg.1);
        self.answer(result, ctx)
    }
}

impl Handler<SetGroup> for DispatchActor {
    type Result = Answer;
    fn handle(&mut self, msg: SetGroup, ctx: &mut Context<Self>) -> Answer {
        let result = self.core.set_group(self.clock.now(), &msg.0, msg.1);
        self.answer(result, ctx)
    }
}

impl Handler<SetRecurring> for DispatchActor {
    type Result = ResponseFuture<Result<(), SubmitError>>;
    fn handle(&mut self, msg: SetRecurring, ctx: &mut Context<Self>) -> Self::Result {
        let result = self.core.set_recurring(self.clock.now(), &msg.0, msg.1);
        self.answer(result, ctx)
    }
}

impl Handler<RemoveRecurring> for DispatchActor {
    type Result = Answer;
    fn handle(&mut self, msg: RemoveRecurring, ctx: &mut Context<Self>) -> Answer {
        let result = self.core.remove_recurring(self.clock.now(), &msg.0);
        self.answer(result, ctx)
    }
}

impl Handler<Pause> for DispatchActor {
    type Result = ();
    fn handle(&mut self, msg: Pause, ctx: &mut Context<Self>) {
        if msg.0 {
            self.core.pause();
        } else {
            let step = self.core.resume(self.clock.now());
            self.step(step, None, ctx);
        }
    }
}

impl Handler<Drain> for DispatchActor {
    type Result = ResponseFuture<usize>;
    fn handle(&mut self, msg: Drain, ctx: &mut Context<Self>) -> Self::Result {
        self.core.drain();
        let (tx, rx) = oneshot::channel();
        self.drained.push(tx);
        self.carry_out_durable(ctx);
        // Past the deadline the attempts are left to the helper, which ends them with the daemon; they are
        // found as lost at the next start and go back to the queue.
        ctx.run_later(msg.deadline.to_std(), |actor, _| {
            let running = actor.core.running();
            for d in actor.drained.drain(..) {
                let _ = d.send(running);
            }
        });
        Box::pin(async move { rx.await.unwrap_or(0) })
    }
}

impl Handler<Look> for DispatchActor {
    type Result = ();
    fn handle(&mut self, msg: Look, _: &mut Context<Self>) {
        (msg.0)(&self.core, self.clock.now());
    }
}

impl Handler<Settled> for DispatchActor {
    type Result = ResponseFuture<Option<State>>;
    fn handle(&mut self, msg: Settled, _: &mut Context<Self>) -> Self::Result {
        match self.core.state(msg.0) {
            None => Box::pin(std::future::ready(None)),
            Some(s) if s.is_final() => Box::pin(std::future::ready(Some(s))),
            Some(_) => {
                let (tx, rx) = oneshot::channel();
                self.settled.entry(msg.0).or_default().push(tx);
                Box::pin(async move { rx.await.ok() })
            }
        }
    }
}

impl Handler<Idle> for DispatchActor {
    type Result = ResponseFuture<()>;
    fn handle(&mut self, msg: Idle, _: &mut Context<Self>) -> Self::Result {
        if self.core.unfinished(msg.0.as_deref()) == 0 {
            return Box::pin(std::future::ready(()));
        }
        let (tx, rx) = oneshot::channel();
        self.idle.push((msg.0, tx));
        // The sender is dropped when nothing is left, and that is the answer.
        Box::pin(async move { _ = rx.await })
    }
}

impl Handler<Forget> for DispatchActor {
    type Result = ();
    fn handle(&mut self, msg: Forget, ctx: &mut Context<Self>) {
        self.core.forget(&msg.0);
        let tasks = msg.0.into_iter().map(|(id, _, _)| id).collect();
        self.step(Step { changes: vec![Change::Forgotten { tasks }], actions: vec![] }, None, ctx);
    }
}

impl Handler<Resume> for DispatchActor {
    type Result = ();
    fn handle(&mut self, msg: Resume, ctx: &mut Context<Self>) {
        self.step(msg.0, None, ctx);
    }
}

impl Handler<Cached> for DispatchActor {
    type Result = ();
    fn handle(&mut self, msg: Cached, _: &mut Context<Self>) {
        if msg.there {
            self.core.cached(msg.cache, &msg.object);
        } else {
            self.core.evicted(msg.cache, &msg.object);
        }
    }
}

impl Handler<Fact<Heat>> for DispatchActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Heat>, _: &mut Context<Self>) {
        self.core.heated(msg.0);
    }
}

impl Handler<Fact<Standings>> for DispatchActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Standings>, _: &mut Context<Self>) {
        self.core.stand(msg.0);
    }
}

/// Asks the core something, from elsewhere.
///
/// # Errors
/// If the actor is gone.
pub async fn look<R: Send + 'static>(
    dispatch: &Addr<DispatchActor>,
    ask: impl FnOnce(&Dispatch, Time) -> R + Send + 'static,
) -> Result<R, MailboxError> {
    let (tx, rx) = oneshot::channel();
    dispatch.send(Look(Box::new(move |core, now| drop(tx.send(ask(core, now)))))).await?;
    rx.await.map_err(|_| MailboxError::Closed)
}

/// Everything about one unfinished task.
///
/// # Errors
/// If the actor is gone.
pub async fn why(
    dispatch: &Addr<DispatchActor>,
    id: TaskId,
    candidates: bool,
) -> Result<Option<Why>, MailboxError> {
    look(dispatch, move |core, now| core.why(now, id, candidates)).await
}
