//! What each running attempt has been charged so far, so that samples, estimates and outcomes add up.
//!
//! Three kinds of news about one attempt, each better than the last: what its type usually uses, samples of its
//! processes, and its outcome. Whatever comes is compared with what has been charged already, and only the
//! difference is charged: at its end an attempt has been charged exactly what it used.

use super::counters::GroupSample;
use crate::flow::{Outcome, Place, Resource, TaskId, Token, Usage, WorkerId};
use crate::time::{Span, Time};
use std::collections::BTreeMap;

/// Most attempts followed at once; more are charged at their ends only. Far above the slots of any host.
pub const MAX_RUNNING: usize = 65_536;

/// An attempt began.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// Which task.
    pub task: TaskId,
    /// Which attempt of it.
    pub token: Token,
    /// Where.
    pub worker: WorkerId,
    /// The cell and shard of its first input, if it has one.
    pub place: Option<Place>,
    /// When its worker took it.
    pub started: Time,
    /// What its type usually uses, until a sample tells better. None: nothing is charged until then.
    pub expected: Option<Usage>,
}

/// `amount` of a resource was used over `from..to`: processor seconds, byte-seconds of memory, bytes.
/// Negative amounts take back what was charged too much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Charge {
    pub worker: WorkerId,
    pub place: Option<Place>,
    pub resource: Resource,
    pub amount: f64,
    pub from: Time,
    pub to: Time,
}

#[derive(Clone, Debug)]
struct Live {
    about: Running,
    /// By resource, so far.
    charged: [f64; 4],
    /// Up to when.
    last: Time,
    sample: Option<GroupSample>,
}

/// All running attempts.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts {
    live: BTreeMap<TaskId, Live>,
}

impl Attempts {
    /// An attempt began. It replaces an earlier one of the same task; told again of the same one, only what is
    /// known about it is replaced.
    pub fn started(&mut self, about: Running) {
        if let Some(live) = self.live.get_mut(&about.task).filter(|l| l.about.token == about.token) {
            live.about = about;
        } else if self.live.len() < MAX_RUNNING || self.live.contains_key(&about.task) {
            let last = about.started;
            self.live.insert(about.task, Live { about, charged: [0.0; 4], last, sample: None });
        }
    }

    /// Charges what its processes have used since the last news. At the first sample of an attempt, they
    /// began after the round before, which was at `since`: until then it waited for its data.
    pub fn sampled(&mut self, now: Time, since: Time, task: TaskId, sample: GroupSample) -> Vec<Charge> {
        let Some(live) = self.live.get_mut(&task) else { return Vec::new() };
        if live.sample.is_none() {
            live.last = live.last.max(since.min(now));
        }
        let before = live.sample.unwrap_or_default();
        // Counters of processes that ended unseen by their parent vanish: the sum must not fall for that.
        let cpu = sample.cpu.max(before.cpu);
        let most = |a: Option<u64>, b: Option<u64>| a.max(b);
        let (read, write) =
            (most(sample.read_bytes, before.read_bytes), most(sample.write_bytes, before.write_bytes));
        live.sample = Some(GroupSample { cpu, read_bytes: read, write_bytes: write, ..sample });
        let held = live.charged[1] + sample.memory_bytes as f64 * now.since(live.last).as_s();
        let io = read.zip(write).map(|(r, w)| r.saturating_add(w) as f64);
        live.settle([Some(cpu.as_s()), Some(held), io, None], now)
    }

    /// Charges, for the attempts that no sample has told of yet, what their types usually use.
    pub fn estimate(&mut self, now: Time) -> Vec<Charge> {
        let mut charges = Vec::new();
        for live in self.live.values_mut().filter(|l| l.sample.is_none()) {
            let (Some(expected), dt_s) = (live.about.expected, now.since(live.last).as_s()) else { continue };
            let Some([cpu, memory, io, _]) = rates(&expected) else { continue };
            let c = live.charged;
            let so_far = [Some(c[0] + cpu * dt_s), Some(c[1] + memory * dt_s), Some(c[2] + io * dt_s), None];
            charges.extend(live.settle(so_far, now));
        }
        charges
    }

    /// The attempt ended: charges what has not been charged, takes back what was too much. An outcome that
    /// does not know what was used (the worker was lost) leaves it as it is.
    pub fn ended(&mut self, outcome: &Outcome, place: Option<Place>) -> Vec<Charge> {
        let usage = &outcome.usage;
        let known = self.live.get(&outcome.task).is_some_and(|l| l.about.token == outcome.token);
        let mut live = if known {
            self.live.remove(&outcome.task).expect("it was just found")
        } else {
            Live::unseen(outcome)
        };
        live.about.place = place.or(live.about.place);
        if usage.wall == Span::ZERO {
            return Vec::new();
        }
        let tail = outcome.ended.since(live.last).as_s();
        let held = match live.sample {
            Some(sample) => live.charged[1] + sample.memory_bytes as f64 * tail,
            None => usage.peak_memory_bytes as f64 * usage.wall.as_s(),
        };
        let io = usage.read_bytes.saturating_add(usage.write_bytes) as f64;
        let mut charges = live.settle([Some(usage.cpu.as_s()), Some(held), Some(io), None], outcome.ended);
        if usage.net_bytes > 0 {
            // Inputs are fetched before the child begins.
            let fetched = outcome.started + outcome.data_wait;
            charges.push(live.charge(Resource::Net, usage.net_bytes as f64, outcome.started, fetched));
        }
        charges
    }

    /// The attempts that run, with what is expected of them.
    pub fn running(&self) -> impl Iterator<Item = &Running> {
        self.live.values().map(|l| &l.about)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.live.len()
    }
}

impl Live {
    /// An attempt whose beginning nobody told.
    fn unseen(outcome: &Outcome) -> Live {
        let started = (outcome.ended - outcome.usage.wall).max(outcome.started);
        let Outcome { task, token, worker, .. } = *outcome;
        let about = Running { task, token, worker, place: None, started, expected: None };
        Live { about, charged: [0.0; 4], last: started, sample: None }
    }

    /// Charges the difference between `so_far` and what has been charged: more over the time since the last
    /// news, less over the attempt's whole time, because nobody knows when it was too much.
    fn settle(&mut self, so_far: [Option<f64>; 4], now: Time) -> Vec<Charge> {
        let mut charges = Vec::new();
        for (r, resource) in Resource::ALL.into_iter().enumerate() {
            let Some(difference) = so_far[r].map(|total| total - self.charged[r]) else { continue };
            if difference != 0.0 {
                let from = if difference > 0.0 && now > self.last { self.last } else { self.about.started };
                charges.push(self.charge(resource, difference, from, now));
                self.charged[r] += difference;
            }
        }
        self.last = self.last.max(now);
        charges
    }

    fn charge(&self, resource: Resource, amount: f64, from: Time, to: Time) -> Charge {
        let Running { worker, place, .. } = self.about;
        Charge { worker, place, resource, amount, from, to }
    }
}

/// What a usage is per second, in the order of the resources: processors, bytes of memory, bytes per second.
/// None if it took no time.
pub(super) fn rates(usage: &Usage) -> Option<[f64; 4]> {
    let wall_s = usage.wall.as_s();
    (wall_s > 0.0).then(|| {
        [
            usage.cpu.as_s() / wall_s,
            usage.peak_memory_bytes as f64,
            usage.read_bytes.saturating_add(usage.write_bytes) as f64 / wall_s,
            usage.net_bytes as f64 / wall_s,
        ]
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::flow::{CellId, Ending, Factors, TypeId};

    pub(in super::super) fn at(s: f64) -> Time {
        Time::from_s(1_000.0 + s)
    }

    pub(in super::super) const TOKEN: Token = Token { epoch: 1, attempt: 1 };

    pub(in super::super) fn running(task: u64, worker: u16, cell: u16, started: f64) -> Running {
        Running {
            task: TaskId(task),
            token: TOKEN,
            worker: WorkerId(worker),
            place: Some(Place { cell: CellId(cell), shard: 0 }),
            started: at(started),
            expected: None,
        }
    }

    pub(in super::super) fn usage(wall_s: f64, cpu_s: f64, memory: u64, io: u64) -> Usage {
        Usage {
            wall: Span::from_s(wall_s),
            cpu: Span::from_s(cpu_s),
            peak_memory_bytes: memory,
            read_bytes: io,
            write_bytes: 0,
            net_bytes: 0,
        }
    }

    pub(in super::super) fn outcome(task: u64, worker: u16, ended: f64, usage: Usage) -> Outcome {
        Outcome {
            task: TaskId(task),
            token: TOKEN,
            worker: WorkerId(worker),
            task_type: TypeId(0),
            entity: None,
            submitted: at(ended) - usage.wall,
            started: at(ended) - usage.wall,
            ended: at(ended),
            ending: Ending::Done,
            usage,
            data_wait: Span::ZERO,
            inputs: Vec::new(),
            factors: Factors::default(),
        }
    }

    pub(in super::super) fn sample(cpu_s: f64, memory: u64, io: u64) -> GroupSample {
        GroupSample {
            cpu: Span::from_s(cpu_s),
            memory_bytes: memory,
            peak_memory_bytes: memory,
            read_bytes: Some(io),
            write_bytes: Some(0),
            processes: 1,
        }
    }

    fn total(charges: &[Charge], resource: Resource) -> f64 {
        charges.iter().filter(|c| c.resource == resource).map(|c| c.amount).sum()
    }

    #[test]
    fn samples_and_outcome_add_up_to_what_was_used() {
        let mut attempts = Attempts::default();
        attempts.started(running(1, 0, 0, 0.0));
        let mut all = attempts.sampled(at(1.0), at(0.0), TaskId(1), sample(0.8, 100, 5_000));
        all.extend(attempts.sampled(at(2.0), at(0.0), TaskId(1), sample(1.6, 300, 9_000)));
        all.extend(attempts.ended(&outcome(1, 0, 2.5, usage(2.5, 2.1, 400, 10_000)), None));
        assert!((total(&all, Resource::Cpu) - 2.1).abs() < 1e-9);
        assert_eq!(total(&all, Resource::Io), 10_000.0);
        assert_eq!(total(&all, Resource::Memory), 100.0 + 300.0 + 150.0);
        // The rest is charged to the time that no sample covered.
        let last = all.iter().rfind(|c| c.resource == Resource::Cpu).unwrap();
        assert_eq!((last.from, last.to), (at(2.0), at(2.5)));
        assert_eq!(attempts.len(), 0);
    }

    #[test]
    fn estimates_are_taken_back_where_they_were_too_high() {
        let mut attempts = Attempts::default();
        let expected = Some(usage(10.0, 10.0, 1_000, 0));
        attempts.started(Running { expected, ..running(1, 0, 0, 0.0) });
        let mut all = attempts.estimate(at(4.0));
        assert!((total(&all, Resource::Cpu) - 4.0).abs() < 1e-9);
        all.extend(attempts.ended(&outcome(1, 0, 5.0, usage(5.0, 1.0, 200, 70)), None));
        assert!((total(&all, Resource::Cpu) - 1.0).abs() < 1e-9);
        assert_eq!(total(&all, Resource::Memory), 1_000.0);
        assert_eq!(total(&all, Resource::Io), 70.0);
        let back = all.iter().find(|c| c.amount < 0.0).unwrap();
        assert_eq!((back.from, back.to), (at(0.0), at(5.0)));
    }

    #[test]
    fn a_sample_outranks_the_estimate() {
        let mut attempts = Attempts::default();
        attempts.started(Running { expected: Some(usage(1.0, 1.0, 0, 0)), ..running(1, 0, 0, 0.0) });
        let mut all = attempts.estimate(at(1.0));
        all.extend(attempts.sampled(at(2.0), at(0.0), TaskId(1), sample(0.3, 0, 0)));
        assert!((total(&all, Resource::Cpu) - 0.3).abs() < 1e-9);
        assert!(attempts.estimate(at(3.0)).is_empty());
    }

    #[test]
    fn time_spent_waiting_for_data_is_charged_no_memory() {
        let mut attempts = Attempts::default();
        attempts.started(running(1, 0, 0, 0.0));
        let all = attempts.sampled(at(31.0), at(30.0), TaskId(1), sample(0.5, 100, 0));
        assert_eq!(total(&all, Resource::Memory), 100.0);
        assert!(all.iter().all(|c| c.from == at(30.0)));
    }

    #[test]
    fn being_told_twice_of_an_attempt_charges_it_once() {
        let mut attempts = Attempts::default();
        let expected = Some(usage(10.0, 10.0, 1_000, 0));
        attempts.started(Running { expected, ..running(1, 0, 0, 0.0) });
        let mut all = attempts.estimate(at(4.0));
        attempts.started(Running { expected, ..running(1, 0, 0, 0.0) });
        all.extend(attempts.ended(&outcome(1, 0, 5.0, usage(5.0, 5.0, 0, 0)), None));
        assert!((total(&all, Resource::Cpu) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn counters_that_fall_are_no_refund() {
        let mut attempts = Attempts::default();
        attempts.started(running(1, 0, 0, 0.0));
        attempts.sampled(at(1.0), at(0.0), TaskId(1), sample(1.0, 0, 100));
        assert_eq!(attempts.sampled(at(2.0), at(0.0), TaskId(1), sample(0.2, 0, 10)), []);
    }

    #[test]
    fn an_outcome_nobody_announced_is_charged_whole() {
        let mut attempts = Attempts::default();
        let place = Some(Place { cell: CellId(3), shard: 1 });
        let mut end = outcome(9, 2, 4.0, Usage { net_bytes: 50, ..usage(3.0, 1.5, 10, 7) });
        end.started = at(0.0);
        end.data_wait = Span::from_secs(1);
        let all = attempts.ended(&end, place);
        assert_eq!(total(&all, Resource::Cpu), 1.5);
        assert!(all.iter().all(|c| c.place == place && c.worker == WorkerId(2)));
        let by = |r| all.iter().find(|c| c.resource == r).map(|c| (c.from, c.to)).unwrap();
        assert_eq!(by(Resource::Cpu), (at(1.0), at(4.0)));
        assert_eq!(by(Resource::Net), (at(0.0), at(1.0)));
    }

    #[test]
    fn a_lost_worker_keeps_what_it_was_charged() {
        let mut attempts = Attempts::default();
        attempts.started(running(1, 0, 0, 0.0));
        attempts.sampled(at(1.0), at(0.0), TaskId(1), sample(1.0, 5, 5));
        assert_eq!(attempts.ended(&outcome(1, 0, 2.0, Usage::default()), None), []);
        assert_eq!(attempts.len(), 0);
    }

    #[test]
    fn an_old_attempts_outcome_does_not_end_the_new_one() {
        let mut attempts = Attempts::default();
        attempts.started(Running { token: Token { epoch: 1, attempt: 2 }, ..running(1, 0, 0, 5.0) });
        attempts.ended(&outcome(1, 0, 6.0, usage(1.0, 1.0, 0, 0)), None);
        assert_eq!(attempts.len(), 1);
    }
}
