//! The actor that keeps the roster: told by workers ([`Profiled`]), tells dispatch, predictor and prefetcher
//! ([`Standings`]). After it stops nothing is lost: it is derived from the workers' profiles.

use super::profile::Figures;
use super::roster::Roster;
use crate::flow::{Standings, TypeId, WorkerId};
use crate::message::{Attached, Fact};
use crate::time::Span;
use actix::prelude::*;

/// How often all standings are told anew: the host's figures move everybody's.
pub const TELL_ALL: Span = Span::from_secs(1);

/// A worker learned something about a type.
#[derive(Message, Clone, Debug)]
#[rtype(result = "()")]
pub struct Profiled {
    /// Which worker.
    pub worker: WorkerId,
    /// Which type.
    pub task_type: TypeId,
    /// What it knows now.
    pub figures: Figures,
}

/// A question to the roster.
pub type Question = Box<dyn FnOnce(&Roster) + Send>;

/// Look at the roster, for those who show it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LookAtRoster(pub Question);

/// The actor.
pub struct RosterActor {
    roster: Roster,
    told: Vec<Recipient<Fact<Standings>>>,
    changed: bool,
}

impl RosterActor {
    /// `told` hear of every change.
    pub fn new(roster: Roster, told: Vec<Recipient<Fact<Standings>>>) -> RosterActor {
        RosterActor { roster, told, changed: true }
    }

    fn tell(&self, standings: &Standings) {
        for p in &self.told {
            // Who has no room gets the next one, which replaces this one.
            let _ = p.try_send(Fact(standings.clone()));
        }
    }

    fn tell_all(&mut self) {
        if std::mem::take(&mut self.changed) {
            for s in self.roster.all() {
                self.tell(&s);
            }
        }
    }
}

impl Actor for RosterActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(4_096);
        self.tell_all();
        ctx.run_interval(TELL_ALL.to_std(), |actor, _| actor.tell_all());
    }
}

impl Handler<Profiled> for RosterActor {
    type Result = ();
    fn handle(&mut self, msg: Profiled, _: &mut Context<Self>) {
        self.changed = true;
        if let Some(standings) = self.roster.profiled(msg.worker, msg.task_type, msg.figures) {
            self.tell(&standings);
        }
    }
}

impl Handler<Fact<Attached>> for RosterActor {
    type Result = ();
    fn handle(&mut self, msg: Fact<Attached>, _: &mut Context<Self>) {
        self.roster.attach(msg.0.worker, msg.0.types);
        self.changed = true;
        self.tell_all();
    }
}

impl Handler<LookAtRoster> for RosterActor {
    type Result = ();
    fn handle(&mut self, msg: LookAtRoster, _: &mut Context<Self>) {
        (msg.0)(&self.roster);
    }
}
