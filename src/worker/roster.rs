//! The roster: what all workers' profiles say together.
//!
//! Each worker owns its profile. The roster keeps the latest copy of each, merges them into the host's, and
//! derives every worker's standings from both; it owns nothing that could not be derived again.

use super::affinity;
use super::host::{Capacity, HostProfile};
use super::profile::{Figures, Profile};
use crate::flow::{Standings, TypeId, WorkerId};

/// A worker's place in the roster.
#[derive(Clone, Debug)]
struct Member {
    profile: Profile,
    types: Vec<TypeId>,
    capacity: Capacity,
}

/// All workers' profiles, merged.
#[derive(Debug)]
pub struct Roster {
    members: Vec<Member>,
    host: HostProfile,
}

impl Roster {
    /// In the order of [`WorkerId`]: each worker's profile, the types it may run, and what it lives on.
    pub fn new(workers: Vec<(Profile, Vec<TypeId>, Capacity)>) -> Roster {
        let members: Vec<Member> = workers
            .into_iter()
            .map(|(profile, types, capacity)| Member { profile, types, capacity })
            .collect();
        let host = HostProfile::merge(members.iter().map(|m| &m.profile));
        Roster { members, host }
    }

    /// A worker that was not known at the start came, or came back with other types. Its number follows theirs.
    pub fn attach(&mut self, worker: WorkerId, types: Vec<TypeId>) {
        let w = usize::from(worker.0);
        // What the host can give is the scale for all of them.
        let Some(capacity) = self.members.first().map(|m| m.capacity) else { return };
        while self.members.len() <= w {
            self.members.push(Member { profile: Profile::default(), types: Vec::new(), capacity });
        }
        self.members[w].types = types;
    }

    /// A worker learned something about a type. The standings of that worker follow; those of the others move
    /// with the host's figures, and are asked for by [`Roster::all`] from time to time.
    pub fn profiled(&mut self, worker: WorkerId, task_type: TypeId, figures: Figures) -> Option<Standings> {
        let member = self.members.get_mut(usize::from(worker.0))?;
        member.profile.restore(task_type, figures);
        self.host.refresh(task_type, self.members.iter().map(|m| &m.profile));
        Some(self.standings(worker))
    }

    /// One worker's standings.
    fn standings(&self, worker: WorkerId) -> Standings {
        let m = &self.members[usize::from(worker.0)];
        affinity::standings(worker, &m.profile, &self.host, &m.capacity, m.types.iter().copied())
    }

    /// All workers' standings.
    pub fn all(&self) -> impl Iterator<Item = Standings> {
        (0..self.members.len()).map(|w| self.standings(WorkerId(w as u16)))
    }

    /// One worker's profile and the host's.
    pub fn profile(&self, worker: WorkerId) -> Option<(&Profile, &HostProfile)> {
        Some((&self.members.get(usize::from(worker.0))?.profile, &self.host))
    }
}
