//! What is remembered of one worker.

use crate::predict::types::Error;
use crate::predict::types::history::History;
use crate::predict::types::in_play::{Inbox, Latest};
use crate::predict::types::snapshot::{Reader, Writer};

/// How a worker came by an entity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::predict::types) enum Taking {
    #[default]
    Nothing = 0,
    /// Never seen before.
    New = 1,
    /// The same as last time, untouched by others since.
    Same = 2,
    /// The same as last time, but another had it in between.
    Back = 3,
    /// One this worker was the last to touch.
    Own = 4,
    /// One that was no candidate.
    Lost = 5,
    /// From another worker.
    Other = 6,
}

impl Taking {
    fn from_u8(x: u8) -> Result<Taking, Error> {
        use Taking::*;
        let all = [Nothing, New, Same, Back, Own, Lost, Other];
        all.get(x as usize).copied().ok_or(Error::Malformed { what: "a worker" })
    }
}

/// One worker.
#[derive(Clone, Debug)]
pub(in crate::predict::types) struct Worker {
    /// Its tasks; the partners are entities.
    pub history: History,
    /// The entities it touched last.
    pub latest: Latest,
    /// The entities that are usually handed to it.
    pub inbox: Inbox,
    /// Tasks in a row about the same entity.
    pub run: u32,
    pub taking: Taking,
    pub taking_before: Taking,
    /// How often in a row it came by entities in the same way.
    pub same_taking: u32,
}

impl Worker {
    /// Of whom nothing is known but how histories begin.
    pub fn new(history: History) -> Worker {
        Worker {
            history,
            latest: Latest::default(),
            inbox: Inbox::default(),
            run: 0,
            taking: Taking::Nothing,
            taking_before: Taking::Nothing,
            same_taking: 0,
        }
    }

    /// Memory, bytes, roughly.
    pub fn bytes(&self) -> usize {
        size_of::<Worker>() + 16 * 8 + self.inbox.len() * 16
    }

    pub fn save(&self, to: &mut Writer) {
        self.history.save(to);
        self.latest.save(to);
        self.inbox.save(to);
        to.u32(self.run);
        to.u8(self.taking as u8);
        to.u8(self.taking_before as u8);
        to.u32(self.same_taking);
    }

    pub fn load(from: &mut Reader<'_>) -> Result<Worker, Error> {
        Ok(Worker {
            history: History::load(from)?,
            latest: Latest::load(from)?,
            inbox: Inbox::load(from)?,
            run: from.u32()?,
            taking: Taking::from_u8(from.u8()?)?,
            taking_before: Taking::from_u8(from.u8()?)?,
            same_taking: from.u32()?,
        })
    }
}
