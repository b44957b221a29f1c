//! The actor of one outside worker: a program in any language that asks for work over the socket.
//!
//! - **Asked by** the socket: [`Begin`], [`Next`], [`Beat`], [`Leave`]. **Told by** dispatch: [`Give`], [`Stop`],
//!   [`Learned`].
//! - **Asks** dispatch by [`Turn`]: what the worker did and how much more it wants, in one message, so that both
//!   are one group of the record. Data is made ready before an attempt can be fetched (`hand_over.rs`).
//! - **A session** is one run of the program. It ends when the program leaves, when another one begins under the
//!   same name, when its life line closes, or when nothing was heard of it for as long as it said. Then all it
//!   held is lost, and goes back to the queue. What comes later shows an old session or an old token.
//! - The profile outlives sessions: it is the name's.

use super::actor::{ProfileKeeper, learn};
use super::attempt::Shared;
use super::children::InFolders;
use super::hand_over::{self, Standing};
use super::leases::{Hold, Leases};
use super::profile::{Profile, Smoothing};
use super::roster_actor::Profiled;
use crate::flow::{Ending, Map, ObjectName, Outcome, TaskId, Token, Usage};
use crate::message::{Assign, Give, Learned, Released, Stop, Turn};
use crate::time::{Span, Time};
use actix::prelude::*;
use futures_util::future::LocalBoxFuture;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// How often silence and time limits are looked at.
const LOOK: Span = Span::from_ms(100);
/// Requests that may wait for this actor.
const MAILBOX: usize = 4_096;

/// One run of the program under a worker's name; rises with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionId(pub u64);

/// A program begins a session; what the one before it held is lost. Answered when that is durable.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Begin {
    /// Its number.
    pub session: SessionId,
    /// How long it may be silent.
    pub lease: Span,
    /// Called when the session has ended.
    pub ended: Box<dyn FnOnce() + Send>,
}

/// How an attempt came back.
#[derive(Clone, Debug, PartialEq)]
pub enum Came {
    /// It ended, and used this much; the wall time counts from its fetching if it is zero.
    Ended(Ending, Usage),
    /// It was given back undone, and is not to start again before that long.
    Released(Span),
}

/// One attempt that comes back.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Which task.
    pub task: TaskId,
    /// What it was given with.
    pub token: Token,
    /// How it came back.
    pub came: Came,
}

/// Take back what was done and give more.
#[derive(Message)]
#[rtype(result = "Result<Answer, Refusal>")]
pub struct Next {
    /// Who asks.
    pub session: SessionId,
    /// What comes back.
    pub done: Vec<Completion>,
    /// How many more it takes, at most.
    pub take: u32,
    /// How long to wait for the first.
    pub wait: Span,
    /// Cancelled when the one who asked does not listen any more.
    pub gone: CancellationToken,
}

/// The worker lives; how long its last beat took there and back, if it says.
#[derive(Message)]
#[rtype(result = "Result<Beaten, Refusal>")]
pub struct Beat {
    /// Who.
    pub session: SessionId,
}

/// The session ends: the program left, or its life line closed.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Leave {
    /// Who.
    pub session: SessionId,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// Its session has ended, or another has begun.
    Over,
    /// None of the attempts that came back is held by the worker under its token.
    NotHeld(Vec<(TaskId, Token)>),
}

/// An attempt for the worker.
#[derive(Clone, Debug)]
pub struct Given {
    /// The attempt.
    pub assign: Assign,
    /// Its inputs, and where each stands.
    pub inputs: Vec<(ObjectName, PathBuf)>,
    /// Where it works, if it has inputs or outputs.
    pub workdir: Option<PathBuf>,
}

/// The answer to [`Next`].
#[derive(Debug, Default)]
pub struct Answer {
    /// What it is given.
    pub given: Vec<Given>,
    /// What came back and was not its to give.
    pub refused: Vec<(TaskId, Token)>,
    /// What it should end.
    pub stop: Vec<(TaskId, Token)>,
}

/// The answer to [`Beat`].
#[derive(Debug, Default)]
pub struct Beaten {
    /// How many attempts it holds.
    pub held: usize,
    /// What it should end.
    pub stop: Vec<(TaskId, Token)>,
}

struct Session {
    id: SessionId,
    lease: Span,
    heard: Time,
    ended: Box<dyn FnOnce() + Send>,
}

/// A request that waits for something to be given.
struct Poll {
    number: u64,
    take: u32,
    answer: oneshot::Sender<Vec<Given>>,
}

/// The actor.
pub struct OutsideActor {
    shared: Arc<Shared>,
    /// Work folders, for data that is handed over.
    folders: Arc<InFolders>,
    dispatch: Recipient<Turn>,
    profile: Profile,
    smoothing: Smoothing,
    roster: Recipient<Profiled>,
    keeper: ProfileKeeper,
    session: Option<Session>,
    leases: Leases<Option<Standing>>,
    /// Attempts whose data is being made ready.
    staging: Map<TaskId, (Assign, CancellationToken)>,
    polls: VecDeque<Poll>,
    next_poll: u64,
    /// What dispatch was asked for and has not given yet, as far as is known here.
    asked: u32,
    /// What requests take whose turn is not answered yet.
    turning: u32,
}

impl OutsideActor {
    /// Nobody has attached under this name yet.
    pub fn new(
        shared: Shared,
        folders: Arc<InFolders>,
        dispatch: Recipient<Turn>,
        profile: Profile,
        smoothing: Smoothing,
        roster: Recipient<Profiled>,
        keeper: ProfileKeeper,
    ) -> OutsideActor {
        OutsideActor {
            shared: Arc::new(shared),
            folders,
            dispatch,
            profile,
            smoothing,
            roster,
            keeper,
            session: None,
            leases: Leases::default(),
            staging: Map::default(),
            polls: VecDeque::new(),
            next_poll: 0,
            asked: 0,
            turning: 0,
        }
    }

    /// The session lives and was heard of.
    fn hear(&mut self, session: SessionId) -> Result<(), Refusal> {
        let now = self.shared.clock.now();
        match &mut self.session {
            Some(s) if s.id == session => {
                s.heard = now;
                Ok(())
            }
            _ => Err(Refusal::Over),
        }
    }

    fn turn(&self, ended: Vec<Arc<Outcome>>, asks: i64) -> Turn {
        Turn { worker: self.shared.id, ended, released: vec![], asks }
    }

    /// Sends a turn whose answer is nobody's in particular.
    fn send_turn(&mut self, turn: Turn, ctx: &mut Context<Self>) {
        let sent = self.dispatch.send(turn).into_actor(self).map(|given, actor, ctx| {
            actor.store(given.unwrap_or_default(), ctx);
            actor.serve(ctx);
        });
        ctx.spawn(sent);
    }

    /// Attempts that dispatch gave: those that need data get it first.
    fn store(&mut self, given: Vec<Assign>, ctx: &mut Context<Self>) {
        self.asked = self.asked.saturating_sub(given.len() as u32);
        if self.session.is_none() {
            // The session ended while this was on its way.
            let lost: Vec<_> = given.iter().map(|a| self.plain(a, Ending::Lost)).collect();
            if !lost.is_empty() {
                self.send_turn(self.turn(lost, 0), ctx);
            }
            return;
        }
        for assign in given {
            if hand_over::is_needed(&assign.task) {
                self.stage(assign, ctx);
            } else {
                let old = self.leases.give(assign, None);
                debug_assert!(old.is_none(), "dispatch gives a task to one at a time");
            }
        }
    }

    fn plain(&self, assign: &Assign, ending: Ending) -> Arc<Outcome> {
        Arc::new(hand_over::plain_outcome(&self.shared, assign, ending, Usage::default()))
    }

    fn stage(&mut self, assign: Assign, ctx: &mut Context<Self>) {
        let (id, token, stop) = (assign.task.id, assign.token, CancellationToken::new());
        self.staging.insert(id, (assign.clone(), stop.clone()));
        let ready = hand_over::get_ready(self.shared.clone(), self.folders.clone(), assign, stop.clone());
        ctx.spawn(ready.into_actor(self).map(move |ready, actor, ctx| {
            // If the session ended meanwhile, the attempt was told as lost already.
            let wanted = actor.staging.get(&id).is_some_and(|(a, _)| a.token == token);
            if wanted {
                actor.staging.remove(&id);
            }
            match ready {
                Ok((assign, standing)) if wanted && !stop.is_cancelled() => {
                    actor.leases.give(assign, Some(standing));
                    actor.serve(ctx);
                }
                Ok((assign, standing)) => {
                    let usage = Usage::default();
                    let ended = actor.take_back(assign, Some(standing), Ending::Cancelled, usage);
                    actor.end_later(ended, wanted, ctx);
                }
                // What was asked for was not given after all: one more is asked for.
                Err(outcome) if wanted => {
                    actor.asked += 1;
                    actor.send_turn(actor.turn(vec![Arc::new(outcome)], 1), ctx);
                }
                Err(_) => {}
            }
        }));
    }

    /// An attempt's outcome, after its data was taken back.
    fn take_back(
        &self,
        assign: Assign,
        standing: Option<Standing>,
        ending: Ending,
        usage: Usage,
    ) -> impl Future<Output = Outcome> + use<> {
        let (shared, folders) = (self.shared.clone(), self.folders.clone());
        async move {
            match standing {
                Some(standing) => {
                    hand_over::take_back(shared, folders, assign, standing, ending, usage).await
                }
                None => hand_over::plain_outcome(&shared, &assign, ending, usage),
            }
        }
    }

    /// Tells dispatch an outcome when it is there, or only cleans up.
    fn end_later(
        &mut self,
        ended: impl Future<Output = Outcome> + 'static,
        tell: bool,
        ctx: &mut Context<Self>,
    ) {
        ctx.spawn(ended.into_actor(self).map(move |outcome, actor, ctx| {
            if tell {
                actor.send_turn(actor.turn(vec![Arc::new(outcome)], 0), ctx);
            }
        }));
    }

    /// What it used; its wall time counts from its fetching unless it says so itself.
    fn usage_of(&self, hold: &Hold<Option<Standing>>, mut usage: Usage) -> Usage {
        if usage.wall == Span::ZERO {
            let now = self.shared.clock.now();
            usage.wall = now.since(hold.out.unwrap_or(now));
        }
        usage
    }

    /// Answers requests that wait, as long as there is something to give.
    fn serve(&mut self, ctx: &mut Context<Self>) {
        while self.leases.ready() > 0 {
            let Some(poll) = self.polls.pop_front() else { break };
            if poll.answer.is_closed() {
                continue;
            }
            let given = self.fetch(poll.take);
            if let Err(given) = poll.answer.send(given) {
                // In reverse, because each goes before all others.
                for g in given.iter().rev() {
                    self.leases.unfetch(g.assign.task.id);
                }
            }
        }
        self.want_less(ctx);
    }

    /// Hands out up to `take` attempts.
    fn fetch(&mut self, take: u32) -> Vec<Given> {
        let now = self.shared.clock.now();
        let catalogue = self.folders.catalogue.clone();
        let mut given = Vec::with_capacity(self.leases.ready().min(take as usize));
        while given.len() < take as usize {
            let due = |a: &Assign| now + catalogue.get(a.task.task_type).time_limit;
            let Some(hold) = self.leases.fetch(now, due) else { break };
            given.push(Given {
                assign: hold.assign.clone(),
                inputs: hold.data.as_ref().map(Standing::inputs).unwrap_or_default(),
                workdir: hold.data.as_ref().map(Standing::workdir),
            });
        }
        given
    }

    /// Takes back what dispatch was asked for and nobody waits for any more.
    fn want_less(&mut self, ctx: &mut Context<Self>) {
        let wanted: u32 = self.turning + self.polls.iter().map(|p| p.take).sum::<u32>();
        let excess = self.asked.saturating_sub(wanted);
        if excess > 0 {
            self.asked -= excess;
            self.send_turn(self.turn(vec![], -i64::from(excess)), ctx);
        }
    }

    /// Waits for something to be given; answers at once if there is, or if nothing is to be waited for.
    fn poll(
        &mut self,
        take: u32,
        wait: Span,
        gone: CancellationToken,
        ctx: &mut Context<Self>,
    ) -> oneshot::Receiver<Vec<Given>> {
        let (answer, rx) = oneshot::channel();
        if take == 0 || self.leases.ready() > 0 || wait == Span::ZERO {
            let given = if gone.is_cancelled() { Vec::new() } else { self.fetch(take) };
            // The other end is in this function's answer.
            let _ = answer.send(given);
            self.serve(ctx);
            return rx;
        }
        let number = self.next_poll;
        self.next_poll += 1;
        self.polls.push_back(Poll { number, take, answer });
        let over = async move {
            tokio::select! {
                () = tokio::time::sleep(wait.to_std()) => {}
                () = gone.cancelled() => {}
            }
        };
        ctx.spawn(over.into_actor(self).map(move |(), actor, ctx| {
            if let Some(at) = actor.polls.iter().position(|p| p.number == number)
                && let Some(poll) = actor.polls.remove(at)
            {
                // Who is gone does not hear it.
                let _ = poll.answer.send(Vec::new());
                actor.want_less(ctx);
            }
        }));
        rx
    }

    /// What came back, as turns have it; and what was not the worker's to bring.
    fn bring_back(&mut self, done: Vec<Completion>) -> Back {
        let now = self.shared.clock.now();
        let mut back = Back::default();
        for Completion { task, token, came } in done {
            let Some(hold) = self.leases.end(task, token) else {
                back.refused.push((task, token));
                continue;
            };
            match (came, hold.data.is_some()) {
                (Came::Released(delay), with_data) => {
                    back.released.push(Released { task, token, not_before: now + delay });
                    if with_data {
                        let cleaned =
                            self.take_back(hold.assign, hold.data, Ending::Released, Usage::default());
                        back.cleaned.push(Box::pin(cleaned));
                    }
                }
                (Came::Ended(ending, usage), with_data) => {
                    let usage = self.usage_of(&hold, usage);
                    if with_data {
                        back.slow.push(Box::pin(self.take_back(hold.assign, hold.data, ending, usage)));
                    } else {
                        let ended = hand_over::plain_outcome(&self.shared, &hold.assign, ending, usage);
                        back.ended.push(Arc::new(ended));
                    }
                }
            }
        }
        back
    }

    /// Ends the session: all that it held is lost. The turn says so.
    fn lose(&mut self, ctx: &mut Context<Self>) -> Option<Turn> {
        let session = self.session.take()?;
        (session.ended)();
        self.polls.clear();
        let mut lost = Vec::new();
        for hold in self.leases.lose() {
            lost.push(self.plain(&hold.assign, Ending::Lost));
            if hold.data.is_some() {
                let cleaned = self.take_back(hold.assign, hold.data, Ending::Lost, Usage::default());
                self.end_later(cleaned, false, ctx);
            }
        }
        let mut staging: Vec<_> = std::mem::take(&mut self.staging).into_values().collect();
        staging.sort_by_key(|(a, _)| a.task.id);
        for (assign, stop) in staging {
            stop.cancel();
            lost.push(self.plain(&assign, Ending::Lost));
        }
        let asked = std::mem::take(&mut self.asked);
        tracing::info!(
            worker = self.folders.name,
            lost = lost.len(),
            "an outside worker's session has ended"
        );
        Some(self.turn(lost, -i64::from(asked)))
    }

    /// Silence, and attempts that are not back in time.
    fn look(&mut self, ctx: &mut Context<Self>) {
        let now = self.shared.clock.now();
        // Who waits for an answer is there.
        let silent = |s: &Session| self.polls.is_empty() && now.since(s.heard) >= s.lease;
        if self.session.as_ref().is_some_and(silent)
            && let Some(turn) = self.lose(ctx)
        {
            self.send_turn(turn, ctx);
        }
        while let Some(hold) = self.leases.overdue(now) {
            let usage = self.usage_of(&hold, Usage::default());
            let ended = self.take_back(hold.assign, hold.data, Ending::TimedOut, usage);
            self.end_later(ended, true, ctx);
        }
    }
}

/// What a request brought back.
#[derive(Default)]
struct Back {
    ended: Vec<Arc<Outcome>>,
    released: Vec<Released>,
    refused: Vec<(TaskId, Token)>,
    /// Outcomes that come when inputs are compared and outputs published.
    slow: Vec<LocalBoxFuture<'static, Outcome>>,
    /// Data of attempts that were given back.
    cleaned: Vec<LocalBoxFuture<'static, Outcome>>,
}

impl Back {
    fn is_all_refused(&self) -> bool {
        !self.refused.is_empty() && self.ended.is_empty() && self.released.is_empty() && self.slow.is_empty()
    }
}

impl Actor for OutsideActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(LOOK.to_std(), |actor, ctx| actor.look(ctx));
    }
}

impl Handler<Begin> for OutsideActor {
    type Result = ResponseActFuture<Self, ()>;
    fn handle(&mut self, msg: Begin, ctx: &mut Context<Self>) -> Self::Result {
        let turn = self.lose(ctx);
        let heard = self.shared.clock.now();
        self.session = Some(Session { id: msg.session, lease: msg.lease, heard, ended: msg.ended });
        Box::pin(self.told(turn))
    }
}

impl OutsideActor {
    /// Answers when a turn is durable.
    fn told(&self, turn: Option<Turn>) -> impl ActorFuture<Self, Output = ()> + use<> {
        let sent = turn.map(|turn| self.dispatch.send(turn));
        let sent = async move {
            match sent {
                Some(sent) => sent.await.unwrap_or_default(),
                None => Vec::new(),
            }
        };
        sent.into_actor(self).map(|given, actor: &mut Self, ctx: &mut Context<Self>| actor.store(given, ctx))
    }
}

impl Handler<Next> for OutsideActor {
    type Result = ResponseActFuture<Self, Result<Answer, Refusal>>;
    fn handle(&mut self, msg: Next, _: &mut Context<Self>) -> Self::Result {
        let Next { session, done, take, wait, gone } = msg;
        if let Err(refusal) = self.hear(session) {
            return Box::pin(fut::ready(Err(refusal)));
        }
        let back = self.bring_back(done);
        if back.is_all_refused() {
            return Box::pin(fut::ready(Err(Refusal::NotHeld(back.refused))));
        }
        let Back { mut ended, released, refused, slow, cleaned } = back;
        let asks = take.saturating_sub(self.leases.ready() as u32);
        self.asked += asks;
        self.turning += take;
        let (worker, dispatch) = (self.shared.id, self.dispatch.clone());
        let turned = async move {
            for outcome in slow {
                ended.push(Arc::new(outcome.await));
            }
            for done in cleaned {
                done.await;
            }
            let turn = Turn { worker, ended, released, asks: i64::from(asks) };
            dispatch.send(turn).await.unwrap_or_default()
        };
        let answered =
            turned.into_actor(self).then(move |given, actor: &mut Self, ctx: &mut Context<Self>| {
                actor.store(given, ctx);
                actor.turning -= take;
                let rx = match actor.hear(session) {
                    Ok(()) => actor.poll(take, wait, gone, ctx),
                    Err(_) => oneshot::channel().1,
                };
                rx.into_actor(actor).map(move |given, actor: &mut Self, _: &mut Context<Self>| match given {
                    Ok(given) => {
                        // A long wait is no silence.
                        let _ = actor.hear(session);
                        Ok(Answer { given, refused, stop: actor.leases.stops().collect() })
                    }
                    Err(_) => Err(Refusal::Over),
                })
            });
        Box::pin(answered)
    }
}

impl Handler<Beat> for OutsideActor {
    type Result = Result<Beaten, Refusal>;
    fn handle(&mut self, msg: Beat, _: &mut Context<Self>) -> Self::Result {
        self.hear(msg.session)?;
        Ok(Beaten { held: self.leases.len(), stop: self.leases.stops().collect() })
    }
}

impl Handler<Leave> for OutsideActor {
    type Result = ResponseActFuture<Self, Result<(), Refusal>>;
    fn handle(&mut self, msg: Leave, ctx: &mut Context<Self>) -> Self::Result {
        if let Err(refusal) = self.hear(msg.session) {
            return Box::pin(fut::ready(Err(refusal)));
        }
        let turn = self.lose(ctx);
        Box::pin(self.told(turn).map(|(), _, _| Ok(())))
    }
}

impl Handler<Give> for OutsideActor {
    type Result = ();
    fn handle(&mut self, msg: Give, ctx: &mut Context<Self>) {
        self.store(msg.0, ctx);
        self.serve(ctx);
    }
}

impl Handler<Stop> for OutsideActor {
    type Result = ();
    fn handle(&mut self, msg: Stop, ctx: &mut Context<Self>) {
        if let Some((assign, stop)) = self.staging.get(&msg.task)
            && assign.token == msg.token
        {
            stop.cancel();
        }
        if let Some(hold) = self.leases.stop(msg.task, msg.token) {
            // It was not fetched yet.
            let ended = self.take_back(hold.assign, hold.data, Ending::Cancelled, Usage::default());
            self.end_later(ended, true, ctx);
        }
    }
}

impl Handler<Learned> for OutsideActor {
    type Result = ();
    fn handle(&mut self, msg: Learned, _: &mut Context<Self>) {
        let ours = msg.0.iter().map(|l| &l.outcome).filter(|o| o.worker == self.shared.id);
        for told in learn(&mut self.profile, &self.smoothing, &mut self.keeper, ours) {
            // Missed facts are made good by the next one of the same type.
            let _ = self.roster.try_send(told);
        }
    }
}
