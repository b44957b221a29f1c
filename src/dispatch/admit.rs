//! What may start: slots, memory, limits by type, shard and cell.

use super::rate::Bucket;
use super::{Limits, WorkerSpec};
use crate::flow::{CellId, Map, Place, TypeId, WorkerId};
use crate::task::{TaskType, WaitingFor};
use crate::time::Time;
use std::collections::BTreeSet;

/// What running tasks have taken.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    slots: Vec<u32>,
    /// How many more attempts an outside worker has asked for; `None` for those that take what they have slots for.
    asked: Vec<Option<u32>>,
    memory_limit: Vec<u64>,
    running: Vec<u32>,
    memory: Vec<u64>,
    host_memory: u64,
    free: BTreeSet<WorkerId>,
    by_type: Map<TypeId, u32>,
    /// Starts that types with a rate limit have left.
    rates: Map<TypeId, Bucket>,
    now: Time,
    by_cell: Map<CellId, u32>,
    by_shard: Map<Place, u32>,
}

/// What one attempt takes while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The worker.
    pub worker: WorkerId,
    /// The type.
    pub task_type: TypeId,
    /// Cell and shard of its first input.
    pub place: Option<Place>,
    /// Expected peak memory, bytes.
    pub memory_bytes: u64,
}

impl Admission {
    /// Nothing runs yet.
    pub fn new(limits: Limits, workers: &[WorkerSpec]) -> Admission {
        Admission {
            limits,
            slots: workers.iter().map(|w| w.slots).collect(),
            asked: workers.iter().map(|w| w.outside.then_some(0)).collect(),
            memory_limit: workers.iter().map(|w| w.memory_bytes.unwrap_or(u64::MAX)).collect(),
            running: vec![0; workers.len()],
            memory: vec![0; workers.len()],
            host_memory: 0,
            free: workers.iter().filter(|w| w.slots > 0 && !w.outside).map(|w| w.id).collect(),
            by_type: Map::default(),
            rates: Map::default(),
            now: Time::ZERO,
            by_cell: Map::default(),
            by_shard: Map::default(),
        }
    }

    /// Free slots of a worker; of an outside one no more than it has asked for.
    pub fn free_slots(&self, worker: WorkerId) -> u32 {
        let w = usize::from(worker.0);
        let free = self.slots[w].saturating_sub(self.running[w]);
        self.asked[w].map_or(free, |asked| asked.min(free))
    }

    /// A worker came, or came back with other limits. It has asked for nothing yet.
    pub(super) fn attach(&mut self, spec: &WorkerSpec) {
        let w = usize::from(spec.id.0);
        let n = self.slots.len().max(w + 1);
        self.slots.resize(n, 0);
        self.asked.resize(n, Some(0));
        self.memory_limit.resize(n, u64::MAX);
        self.running.resize(n, 0);
        self.memory.resize(n, 0);
        self.slots[w] = spec.slots;
        self.asked[w] = spec.outside.then_some(0);
        self.memory_limit[w] = spec.memory_bytes.unwrap_or(u64::MAX);
        self.note(spec.id);
    }

    /// An outside worker asks for so many more attempts, or for fewer.
    pub(super) fn ask(&mut self, worker: WorkerId, by: i64) {
        if let Some(Some(asked)) = self.asked.get_mut(usize::from(worker.0)) {
            *asked = u32::try_from((i64::from(*asked) + by).max(0)).unwrap_or(u32::MAX);
            self.note(worker);
        }
    }

    /// Notes whether a worker has a free slot, after something about it changed.
    fn note(&mut self, worker: WorkerId) {
        if self.free_slots(worker) > 0 {
            self.free.insert(worker);
        } else {
            self.free.remove(&worker);
        }
    }

    /// Workers with a free slot, in order of their index.
    pub fn free_workers(&self) -> impl Iterator<Item = WorkerId> {
        self.free.iter().copied()
    }

    /// Time has come to `now`: types with a rate limit get what is due.
    pub fn refill(&mut self, now: Time) {
        self.now = now;
    }

    /// Running tasks that read from a shard.
    pub fn running_at(&self, place: Place) -> u32 {
        self.by_shard.get(&place).copied().unwrap_or(0)
    }

    /// Running tasks of a worker.
    pub fn running(&self, worker: WorkerId) -> u32 {
        self.running[usize::from(worker.0)]
    }

    /// Running tasks of a type.
    pub fn running_of(&self, task_type: TypeId) -> u32 {
        self.by_type.get(&task_type).copied().unwrap_or(0)
    }

    /// Whether an attempt may start, and if not, what it waits for. What does not depend on the worker is
    /// checked by [`Admission::check_type`] and [`Admission::check_place`] once for all of them.
    pub fn check(&self, claim: &Claim, spec: &TaskType) -> Result<(), WaitingFor> {
        self.check_type(claim.task_type, spec)?;
        self.check_place(claim.place)?;
        if self.free_slots(claim.worker) == 0 {
            return Err(WaitingFor::Slot);
        }
        self.check_memory(claim)
    }

    /// The type's own limits: how many at once, and how many in a time.
    pub fn check_type(&self, task_type: TypeId, spec: &TaskType) -> Result<(), WaitingFor> {
        if let Some(limit) = spec.concurrency.filter(|l| self.running_of(task_type) >= *l) {
            return Err(WaitingFor::Limit { limit });
        }
        let bucket = spec.rate.as_ref().zip(self.rates.get(&task_type));
        match bucket.and_then(|(rate, bucket)| bucket.next(rate, self.now)) {
            Some(until) => Err(WaitingFor::Rate { until }),
            None => Ok(()),
        }
    }

    /// The limits of the cell and the shard that the task reads from.
    pub fn check_place(&self, place: Option<Place>) -> Result<(), WaitingFor> {
        let Some(place) = place else { return Ok(()) };
        for (count, limit) in [
            (self.by_cell.get(&place.cell), self.limits.per_cell),
            (self.by_shard.get(&place), self.limits.per_shard),
        ] {
            if let Some(limit) = limit.filter(|l| count.copied().unwrap_or(0) >= *l) {
                return Err(WaitingFor::Limit { limit });
            }
        }
        Ok(())
    }

    /// The memory that its attempts and the host's are expected to need.
    pub fn check_memory(&self, claim: &Claim) -> Result<(), WaitingFor> {
        let w = usize::from(claim.worker.0);
        let free = (self.memory_limit[w].saturating_sub(self.memory[w]))
            .min(self.limits.memory_bytes.saturating_sub(self.host_memory));
        // A task that alone needs more than there is may run when nothing else does: refusing it for
        // ever because of an estimate would be worse.
        let alone = self.running[w] == 0;
        if claim.memory_bytes <= free || alone {
            return Ok(());
        }
        Err(WaitingFor::Memory { needed_bytes: claim.memory_bytes, free_bytes: free })
    }

    /// An attempt starts.
    pub fn take(&mut self, claim: &Claim, spec: &TaskType) {
        let w = usize::from(claim.worker.0);
        self.running[w] += 1;
        if let Some(asked) = &mut self.asked[w] {
            *asked = asked.saturating_sub(1);
        }
        self.note(claim.worker);
        if let Some(rate) = &spec.rate {
            self.rates.entry(claim.task_type).or_default().take(rate, self.now);
        }
        self.memory[w] = self.memory[w].saturating_add(claim.memory_bytes);
        self.host_memory = self.host_memory.saturating_add(claim.memory_bytes);
        *self.by_type.entry(claim.task_type).or_default() += 1;
        if let Some(place) = claim.place {
            *self.by_cell.entry(place.cell).or_default() += 1;
            *self.by_shard.entry(place).or_default() += 1;
        }
    }

    /// An attempt ended.
    pub fn give_back(&mut self, claim: &Claim) {
        let w = usize::from(claim.worker.0);
        assert!(self.running[w] > 0, "worker {w} gave back a slot that it did not take");
        self.running[w] -= 1;
        self.note(claim.worker);
        self.memory[w] = self.memory[w].saturating_sub(claim.memory_bytes);
        self.host_memory = self.host_memory.saturating_sub(claim.memory_bytes);
        lower(&mut self.by_type, claim.task_type);
        if let Some(place) = claim.place {
            lower(&mut self.by_cell, place.cell);
            lower(&mut self.by_shard, place);
        }
    }
}

fn lower<K: std::hash::Hash + Eq>(counts: &mut Map<K, u32>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}
