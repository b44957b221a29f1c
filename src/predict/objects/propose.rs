//! What the evidence proposes: the five kinds, and the classes that their strength falls into.

use super::associate::SUCCESSORS;
use super::calibrate::Calibration;
use super::catalogue::{Id, NO_CANDIDATE};
use super::core::{ObjectPredictor, Proposal};
use super::runs::after;
use super::shape::Fields;

/// A resident object expected with at least this probability is protected.
const PROTECT: f32 = 0.2;

/// It is protected again after this part of a candidate's time at the earliest.
const PROTECT_AGAIN: u64 = 32;

/// Evidence that an object comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It was a would-be miss soon after an access to this object.
    Near,
    /// It was a would-be miss soon after another one.
    Chain,
    /// It continues an arithmetic run over the numbers in names.
    Run,
    /// It followed the last time when would-be misses came in this order.
    Stream,
    /// It lies at a usual difference from the last would-be miss.
    Neighbour,
}

/// What a cell is worth before anything was seen, by kind and class.
pub(super) fn prior(kind: usize, class: usize) -> f32 {
    match kind {
        k if k == Kind::Run as usize || k == Kind::Stream as usize => 0.5,
        k if k == Kind::Neighbour as usize => 0.2,
        _ => (class % 16) as f32 / 15.0 * 0.6,
    }
}

impl ObjectPredictor {
    /// An object was used; `missed` says whether it was a would-be miss.
    pub(super) fn propose(&mut self, id: Id, missed: bool, out: &mut Vec<Proposal>) {
        // A sibling's size is guessed from this one's, or from all of them until this one's is known.
        let bytes = match self.item_mut(id).bytes {
            0 => self.facts.mean_bytes() as u64,
            bytes => bytes,
        };
        let parts = self.catalogue.parts(id);
        if let Some((shape, fields)) = &parts {
            self.propose_run(*shape, fields, bytes, out);
        }
        self.propose_associated(Kind::Near, id, out);
        if !missed {
            return;
        }
        if let Some((shape, fields)) = &parts {
            self.propose_neighbours(*shape, fields, bytes, out);
        }
        self.propose_associated(Kind::Chain, id, out);
        let mut proposed = std::mem::take(&mut self.proposed);
        proposed.clear();
        self.stream.step(id, &mut proposed);
        for p in &proposed {
            self.candidate(p.id, Kind::Stream, p.run_class * 8 + p.step_class, 0, out);
        }
        self.proposed = proposed;
    }
    /// Class = lag · 128 + strength · 16 + count over uses in fifteenths.
    fn propose_associated(&mut self, kind: Kind, id: Id, out: &mut Vec<Proposal>) {
        let table = if kind == Kind::Near { &self.near } else { &self.chain };
        let Some(&node) = table.get(id) else { return };
        for j in 0..SUCCESSORS {
            let (count, uses) = (node.count[j], node.uses.max(1));
            let ratio = (u16::from(count) * 15 / u16::from(uses)).min(15);
            if count == 0 || ratio < 2 && count < 2 {
                continue;
            }
            let strength = match count {
                8.. => 5,
                4.. => 4,
                3 => 3,
                2 => 2,
                _ if uses == 1 => 1,
                _ => 0,
            };
            let far = u16::from(node.lag[j] > 1);
            self.candidate(node.successor[j], kind, far * 128 + strength * 16 + ratio, 0, out);
        }
    }
    /// Class = steps that held · 16 + steps ahead.
    fn propose_run(&mut self, shape: u32, fields: &Fields, bytes: u64, out: &mut Vec<Proposal>) {
        let Some(e) = self.runs.see(shape, *fields, self.now) else { return };
        for step in e.from..=e.to {
            let Some(next) = after(fields, &e.delta, step) else { break };
            let id = self.catalogue.sibling(shape, next);
            let class = e.len.min(15) * 16 + step.min(15);
            self.candidate(id, Kind::Run, class as u16, bytes, out);
        }
    }
    /// Class = seen before · 64 + share of the difference · 4 + rank.
    fn propose_neighbours(&mut self, shape: u32, fields: &Fields, bytes: u64, out: &mut Vec<Proposal>) {
        let last = fields.iter().rposition(|&f| f != 0).unwrap_or(0);
        let x = fields[last] as i64;
        let usual = self.neighbours.see(shape, x, self.now);
        for (rank, u) in usual.into_iter().enumerate().filter_map(|(rank, u)| Some((rank, u?))) {
            // The next number is always worth following; other differences once they are usual.
            if x + u.delta < 0 || u.delta != 1 && u.share < 1 {
                continue;
            }
            let mut next = *fields;
            next[last] = (x + u.delta) as u64;
            let id = self.catalogue.sibling(shape, next);
            let known = u16::from(self.item_mut(id).bytes > 0);
            self.candidate(id, Kind::Neighbour, known * 64 + u.share * 4 + rank as u16, bytes, out);
        }
    }
    /// Adds evidence for an object. A resident one is protected instead; `guess_bytes` stands in for a size
    /// that is not known.
    fn candidate(&mut self, id: Id, kind: Kind, class: u16, guess_bytes: u64, out: &mut Vec<Proposal>) {
        let Some(item) = self.catalogue.get(id) else { return };
        let bytes = if item.bytes > 0 { item.bytes } else { guess_bytes };
        if bytes == 0 {
            return;
        }
        let (resident, at) = (item.resident(), item.candidate);
        let cell = Calibration::cell_of(class, size_class(bytes, self.facts.mean_bytes()));
        if resident {
            if self.calibration.p(kind as usize, cell) >= PROTECT {
                self.protect(id, out);
            }
            return;
        }
        let at = match at {
            NO_CANDIDATE if self.shadow.is_full() => return,
            NO_CANDIDATE => {
                let at = self.shadow.add(id, bytes, self.facts.inserts);
                self.item_mut(id).candidate = at;
                at
            }
            at => at,
        };
        let c = self.shadow.get_mut(at);
        if c.issued {
            return;
        }
        c.votes = c.votes.saturating_add(1);
        self.calibration.charge(&mut c.evidence, kind as usize, cell);
        if !std::mem::replace(&mut c.waits, true) {
            self.changed.push(at);
        }
    }
}

impl ObjectPredictor {
    /// Away from the cold end with it, unless it is far from there anyway: it was protected moments ago.
    fn protect(&mut self, id: Id, out: &mut Vec<Proposal>) {
        let fresh = (self.facts.horizon() / PROTECT_AGAIN) as u32;
        let inserts = self.facts.inserts;
        if self.item_mut(id).protect(inserts, fresh) {
            out.extend(self.catalogue.name(id).map(Proposal::Protect));
        }
    }
}

/// An object's size relative to the pool's mean.
pub(super) fn size_class(bytes: u64, mean_bytes: f64) -> u16 {
    match bytes as f64 / mean_bytes {
        r if r < 0.25 => 0,
        r if r < 4.0 => 1,
        r if r < 32.0 => 2,
        _ => 3,
    }
}
