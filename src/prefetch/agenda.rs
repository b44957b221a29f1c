//! The agenda: what is to be staged where and by when, what is called off, and what came of it.
//!
//! A pure core. Facts come in as they happen; [`Agenda::attend`] says what follows from them. Nearest need
//! first; nothing is staged that a running task writes; in `observe` every decision is made and recorded, with
//! the time at which it would have been ready, and no byte is moved.

pub use super::candidate::{Derived, Knowledge};

use super::candidate::{Candidate, Candidates};
use super::control::{Trial, is_control};
use super::flights::{Answer, Class, Key};
use super::gate::{Pace, Worth};
use super::ledger::{Account, Ledger};
use crate::flow::{
    CacheId, CellId, Decided, Decision, Found, Heat, InputUse, Map, ObjectName, Outcome, Plan, TaskId,
};
use crate::message::{Cached, Purpose};
use crate::task::Places;
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Staging transfers that are asked for and have not ended; the flight table starts as many as it may.
const ASKED: usize = 64;
/// What a pool had no room for, or a source did not have, is not tried again for this long.
const DECLINED: Span = Span::from_secs(2);
/// Decisions that `why` can look back on.
const REMEMBERED: usize = 8_192;
/// Objects that left for a staged one and are watched for being needed.
const WATCHED: usize = 65_536;

/// Weight of the newest staged object in the share of harmful ones.
const HARM_SMOOTHING: f64 = 0.02;

/// Whether data is staged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Yes.
    #[default]
    On,
    /// Decisions are made and recorded, and not one byte is moved.
    Observe,
    /// No.
    Off,
}

/// What the agenda is told once.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Whether data is staged.
    pub mode: Mode,
    /// Nothing less probable is staged.
    pub least_p: f64,
    /// At and above this heat of a cell or worker nothing is staged from or to it.
    pub heat_max: f64,
    /// Most staging connections.
    pub connections: u16,
    /// Most bytes per second of all staging.
    pub bytes_per_s: Option<f64>,
    /// Share of the control group.
    pub control_share: f64,
    /// Seed of its draw.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            mode: Mode::On,
            least_p: 0.1,
            heat_max: 0.9,
            connections: 6,
            bytes_per_s: None,
            control_share: 0.02,
            seed: 1,
        }
    }
}

/// Objects of one pool with their need: when and how likely, or none any more.
pub type Needs = Vec<(ObjectName, Option<(Time, f64)>)>;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Fetch an object into a pool before it is needed.
    Stage {
        /// What and where.
        key: Key,
        /// When it is needed.
        due: Time,
    },
    /// A transfer is not worth it any more.
    CallOff {
        /// Which.
        key: Key,
    },
    /// What a pool's objects are needed for now: when and how likely, or not at all.
    Rank {
        /// The pool.
        cache: CacheId,
        /// Changes since the last one.
        needs: Needs,
    },
    /// What staging as a whole may use now.
    Budget {
        /// Zero pauses it, infinite is no limit.
        bytes_per_s: f64,
        /// Most connections.
        connections: u16,
    },
    /// For the diary.
    Decided(Decision),
}

/// One decision, for `why`.
#[derive(Clone, Debug, PartialEq)]
pub struct Remembered {
    /// When.
    pub at: Time,
    /// About what.
    pub key: Key,
    /// What was known.
    pub candidate: Candidate,
    /// Both sides.
    pub worth: Worth,
    /// What was decided.
    pub verdict: Verdict,
    /// When it was there, or would have been.
    pub ready: Option<Time>,
}

/// What was decided of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Staged.
    Staged,
    /// Would have been staged (`observe`).
    Observed,
    /// Left out by the draw of the control group.
    Control,
    /// Not worth it.
    NotWorthIt,
}

/// A transfer that was asked for, or an object that lies there unused.
#[derive(Clone, Debug)]
struct Staged {
    account: Account,
    since: Time,
    landed: Option<Time>,
    bytes: u64,
}

/// The agenda.
pub struct Agenda {
    settings: Settings,
    places: Arc<Places>,
    candidates: Candidates,
    dirty: BTreeSet<Key>,
    present: BTreeMap<CacheId, Map<ObjectName, u64>>,
    /// Asked for and on its way.
    asked: Map<Key, Staged>,
    /// There, and not used yet.
    unused: Map<Key, Staged>,
    /// Predicted and left out: controls, or everything in `observe` (with when it would have been ready).
    left_out: Map<Key, (Staged, Verdict)>,
    declined: Map<Key, Time>,
    written: Map<ObjectName, u32>,
    /// Candidates that passed over for now: looked at again when something ends.
    held_back: BTreeSet<(Time, Key)>,
    watched: Map<Key, Account>,
    sizes: Map<ObjectName, u64>,
    paces: Map<Arc<str>, Pace>,
    heat: Heat,
    heat_changed: bool,
    remembered: VecDeque<Remembered>,
    ledger: Ledger,
    trial: Trial,
    /// Share of staged objects whose victims were then needed, lately.
    harm: f64,
    waits: VecDeque<(TaskId, Vec<InputUse>)>,
}

impl Agenda {
    /// Nothing is expected yet.
    pub fn new(settings: Settings, places: Arc<Places>) -> Agenda {
        Agenda {
            settings,
            places,
            candidates: Candidates::default(),
            dirty: BTreeSet::new(),
            present: BTreeMap::new(),
            asked: Map::default(),
            unused: Map::default(),
            left_out: Map::default(),
            declined: Map::default(),
            written: Map::default(),
            held_back: BTreeSet::new(),
            watched: Map::default(),
            sizes: Map::default(),
            paces: Map::default(),
            heat: Heat::default(),
            heat_changed: true,
            remembered: VecDeque::new(),
            ledger: Ledger::default(),
            trial: Trial::default(),
            harm: 0.0,
            waits: VecDeque::new(),
        }
    }

    // ---- facts -----------------------------------------------------------------------------------------------

    /// Dispatch's tentative plan.
    pub fn planned(&mut self, plan: &Plan) {
        self.candidates.planned(plan, &mut self.dirty);
    }

    /// What an entity is expected to bring, with the objects that its types derive.
    pub fn foreseen(&mut self, entity: &Arc<str>, derived: Vec<Derived>, now: Time) {
        self.candidates.foreseen(entity, derived, now, &mut self.dirty);
    }

    /// A pool got an object, or lost it.
    pub fn cached(&mut self, fact: &Cached, now: Time) {
        let key = Key { pool: fact.cache, object: fact.object.clone() };
        self.sizes.insert(fact.object.clone(), fact.bytes);
        let objects = self.present.entry(fact.cache).or_default();
        if fact.there {
            objects.insert(fact.object.clone(), fact.bytes);
            self.dirty.insert(key);
            return;
        }
        objects.remove(&fact.object);
        if let Some(s) = self.unused.remove(&key) {
            let line = self.ledger.line(&s.account);
            line.wasted += 1;
            line.wasted_bytes += s.bytes;
            if fact.for_staging {
                self.declined.insert(key.clone(), now + DECLINED);
            }
        } else if fact.for_staging && self.watched.len() < WATCHED {
            let account = self.account(&key.object, self.candidates.get(&key).as_ref());
            self.watched.insert(key.clone(), account);
        }
        self.dirty.insert(key);
    }

    /// A task that writes objects begins or ends.
    pub fn written(&mut self, object: &ObjectName, begins: bool) {
        let writers = self.written.entry(object.clone()).or_default();
        *writers = if begins { *writers + 1 } else { writers.saturating_sub(1) };
        if *writers == 0 {
            self.written.remove(object);
        }
        for cache in self.present.keys() {
            self.dirty.insert(Key { pool: *cache, object: object.clone() });
        }
    }

    /// The monitor's heat.
    pub fn heated(&mut self, heat: Heat) {
        self.heat = heat;
        self.heat_changed = true;
    }

    /// A staging transfer has ended.
    pub fn staged(&mut self, key: &Key, answer: &Answer, now: Time) {
        let Some(mut s) = self.asked.remove(key) else { return };
        match answer {
            Answer::Landed { bytes, .. } => {
                s.bytes = *bytes;
                s.landed = Some(now);
                let line = self.ledger.line(&s.account);
                line.staged += 1;
                line.bytes += bytes;
                self.harm -= HARM_SMOOTHING * self.harm;
                if let Some(r) = self.remembered.iter_mut().rev().find(|r| r.key == *key) {
                    r.ready = Some(now);
                }
                self.unused.insert(key.clone(), s);
            }
            Answer::Refused { until, .. } => _ = self.declined.insert(key.clone(), *until),
            _ => _ = self.declined.insert(key.clone(), now + DECLINED),
        }
        self.wake(now);
    }

    /// An attempt has ended: its inputs tell how quick sources are and what staging was good for.
    pub fn learned(&mut self, o: &Outcome, cache: CacheId, now: Time) {
        for input in &o.inputs {
            self.ledger.demands += 1;
            self.ledger.found += u64::from(input.found == Found::Cached);
            self.sizes.insert(input.object.clone(), input.bytes);
            let source: Arc<str> = input.object.source().into();
            if input.found == Found::Fetched {
                self.paces.entry(source).or_default().learn(input.bytes, input.wait);
            }
            self.settle(Key { pool: cache, object: input.object.clone() }, o, input);
        }
        if self.waits.len() == REMEMBERED {
            self.waits.pop_front();
        }
        self.waits.push_back((o.task, o.inputs.clone()));
        self.wake(now);
    }

    /// What became of a prediction now that its object was demanded.
    fn settle(&mut self, key: Key, o: &Outcome, input: &InputUse) {
        let would_wait_s = self.pace(&key.object).fetch_s(input.bytes);
        let wait_s = input.wait.as_s();
        if let Some(account) = self.watched.remove(&key)
            && input.found == Found::Fetched
        {
            self.ledger.line(&account).harmful += 1;
            self.harm += HARM_SMOOTHING;
        }
        if let Some(s) = self.unused.remove(&key).or_else(|| self.asked.remove(&key)) {
            self.trial.learn(false, wait_s);
            let line = self.ledger.line(&s.account);
            match (s.landed, input.found) {
                (Some(_), Found::Cached) => line.useful += 1,
                _ => {
                    if s.landed.is_none() {
                        // The demand took the transfer over; it counts as staged all the same.
                        line.staged += 1;
                        line.bytes += input.bytes;
                    }
                    line.late += 1;
                    line.late_s += wait_s;
                }
            }
            line.hidden_s += (would_wait_s - wait_s).max(0.0);
        }
        if let Some((s, verdict)) = self.left_out.remove(&key) {
            match verdict {
                Verdict::Control => self.trial.learn(true, wait_s),
                _ => {
                    let began = o.started;
                    let line = self.ledger.line(&s.account);
                    line.staged += 1;
                    line.bytes += input.bytes;
                    let ready = s.landed.unwrap_or(Time::MAX);
                    if ready <= began {
                        line.useful += 1;
                        line.hidden_s += wait_s;
                    } else {
                        line.late += 1;
                        line.hidden_s += (wait_s - ready.since(began).as_s()).max(0.0);
                    }
                }
            }
        }
    }

    /// Candidates that were held back are looked at again.
    fn wake(&mut self, now: Time) {
        while let Some(first) = self.held_back.first().cloned().filter(|_| self.asked.len() < ASKED) {
            self.held_back.remove(&first);
            if self.dirty.len() > 4 * ASKED && first.0 > now {
                self.held_back.insert(first);
                break;
            }
            self.dirty.insert(first.1);
        }
    }

    // ---- decisions -------------------------------------------------------------------------------------------

    /// Why a transfer's bytes want room in the pool.
    pub fn purpose(&self, key: &Key, class: Class) -> Purpose {
        match (class, self.candidates.get(key)) {
            (Class::Demand, _) => Purpose::Demand,
            (Class::Staging, Some(c)) => Purpose::Forecast { due: c.due, p: c.p },
            (Class::Staging, None) => Purpose::Named,
        }
    }

    /// What follows from the facts so far.
    pub fn attend(&mut self, now: Time, out: &mut Vec<Action>) {
        self.candidates.expire(now, &mut self.dirty);
        if std::mem::take(&mut self.heat_changed) {
            out.push(self.budget());
        }
        let mut ranks: BTreeMap<CacheId, Needs> = BTreeMap::new();
        let mut wanted: Vec<(Time, Key, Candidate)> = Vec::new();
        for key in std::mem::take(&mut self.dirty) {
            let candidate = self.candidates.get(&key);
            if self.is_present(&key) {
                let need = candidate.map(|c| (c.due, c.p));
                ranks.entry(key.pool).or_default().push((key.object, need));
                continue;
            }
            match candidate {
                Some(c) if self.may_stage(&key, now) => wanted.push((c.due, key, c)),
                Some(c) if self.declined.contains_key(&key) => _ = self.held_back.insert((c.due, key)),
                Some(_) => {}
                None => self.not_needed(key, now, out),
            }
        }
        wanted.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        for (due, key, c) in wanted {
            self.decide(key, c, due, now, out);
        }
        out.extend(ranks.into_iter().map(|(cache, needs)| Action::Rank { cache, needs }));
    }

    fn is_present(&self, key: &Key) -> bool {
        self.present.get(&key.pool).is_some_and(|o| o.contains_key(&key.object))
    }

    fn may_stage(&mut self, key: &Key, now: Time) -> bool {
        if self.declined.get(key).is_some_and(|until| *until <= now) {
            self.declined.remove(key);
        }
        self.settings.mode != Mode::Off
            && !self.asked.contains_key(key)
            && !self.left_out.contains_key(key)
            && !self.declined.contains_key(key)
            && !self.written.contains_key(&key.object)
    }

    fn not_needed(&mut self, key: Key, now: Time, out: &mut Vec<Action>) {
        self.left_out.remove(&key);
        if self.asked.contains_key(&key) {
            let reason = "the forecast has turned".into();
            let decided = Decided::CalledOff { object: key.object.clone(), cache: key.pool, reason };
            out.push(Action::Decided(Decision { at: now, what: decided }));
            out.push(Action::CallOff { key });
        }
    }

    fn decide(&mut self, key: Key, c: Candidate, due: Time, now: Time, out: &mut Vec<Action>) {
        if self.asked.len() >= ASKED || self.is_hot(&key, &c) {
            self.held_back.insert((due, key));
            return;
        }
        let bytes = self.sizes.get(&key.object).copied().unwrap_or(1 << 20);
        let pace = self.pace(&key.object);
        let busy = (self.asked.len() as f64 / f64::from(self.settings.connections.max(1))).min(1.0);
        let worth = Worth::weigh(c.p, bytes, &pace, busy, self.harm, self.settings.least_p);
        let verdict = if !worth.pays() {
            Verdict::NotWorthIt
        } else if is_control(&key.object, now, self.settings.control_share, self.settings.seed) {
            Verdict::Control
        } else if self.settings.mode == Mode::Observe {
            Verdict::Observed
        } else {
            Verdict::Staged
        };
        let mut staged =
            Staged { account: self.account(&key.object, Some(&c)), since: now, landed: None, bytes };
        let mut ready = None;
        match verdict {
            Verdict::NotWorthIt => {}
            Verdict::Control => _ = self.left_out.insert(key.clone(), (staged, verdict)),
            Verdict::Observed => {
                ready = Some(staged.since + Span::from_s(pace.fetch_s(bytes)));
                staged.landed = ready;
                self.left_out.insert(key.clone(), (staged, verdict));
            }
            Verdict::Staged => {
                self.asked.insert(key.clone(), staged);
                out.push(Action::Stage { key: key.clone(), due });
            }
        }
        if verdict != Verdict::NotWorthIt {
            let what = Decided::Staged {
                object: key.object.clone(),
                cache: key.pool,
                knowledge: describe(&c, verdict).into(),
                p: worth.p,
                break_even: worth.break_even,
            };
            out.push(Action::Decided(Decision { at: now, what }));
        }
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back(Remembered { at: now, key, candidate: c, worth, verdict, ready });
    }

    fn account(&self, object: &ObjectName, c: Option<&Candidate>) -> Account {
        Account {
            task_type: c.map_or(crate::flow::TypeId(u16::MAX), |c| c.task_type),
            source: object.source().into(),
            knowledge: c.map_or(Knowledge::Derived, |c| c.knowledge),
        }
    }

    fn pace(&self, object: &ObjectName) -> Pace {
        self.paces.get(object.source()).copied().unwrap_or_default()
    }

    /// Whether the object's cell or the worker's disk is too hot to stage.
    fn is_hot(&self, key: &Key, c: &Candidate) -> bool {
        let cell = self.places.of(&key.object).map(|p| p.cell);
        let cell_heat = cell.map_or(0.0, |c| self.cell_heat(c));
        let [_, _, io, _] = self.heat.workers.get(usize::from(c.worker.0)).copied().unwrap_or_default();
        cell_heat >= self.settings.heat_max || io >= self.settings.heat_max
    }

    /// A cell's heat for staging: processors, memory and disks. Its network is shared out by the flight table,
    /// where demand goes strictly first; counting it here too would make staging throttle itself.
    fn cell_heat(&self, cell: CellId) -> f64 {
        let [cpu, memory, io, _] = self.heat.cells.get(usize::from(cell.0)).copied().unwrap_or_default();
        cpu.max(memory).max(io)
    }

    /// The budget follows the host's heat: full × (1 − heat), and nothing above the limit.
    fn budget(&self) -> Action {
        let [_, _, io, _] = self.heat.host;
        let heat = io.clamp(0.0, 1.0);
        let full = self.settings.bytes_per_s.unwrap_or(f64::INFINITY);
        let off = self.settings.mode != Mode::On || heat >= self.settings.heat_max;
        let bytes_per_s = if off { 0.0 } else { full * (1.0 - heat) };
        Action::Budget { bytes_per_s, connections: self.settings.connections }
    }

    // ---- for those who show it -------------------------------------------------------------------------------

    /// Whether data is staged.
    pub fn mode(&self) -> Mode {
        self.settings.mode
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What the control group says.
    pub fn trial(&self) -> &Trial {
        &self.trial
    }

    /// Decisions about an object, newest first.
    pub fn decisions(&self, object: &ObjectName) -> impl Iterator<Item = &Remembered> {
        self.remembered.iter().rev().filter(move |r| r.key.object == *object)
    }

    /// How the inputs of a task's latest attempt were found, if it ended lately.
    pub fn inputs_of(&self, task: TaskId) -> Option<&[InputUse]> {
        self.waits.iter().rev().find(|(t, _)| *t == task).map(|(_, inputs)| inputs.as_slice())
    }

    /// What is known of the need for an object now.
    pub fn candidate(&self, key: &Key) -> Option<Candidate> {
        self.candidates.get(key)
    }
}

/// How it is known, in words.
fn describe(c: &Candidate, verdict: Verdict) -> String {
    let who = c.entity.as_deref().map(|e| format!(" ({e})")).unwrap_or_default();
    let kind = c.knowledge.name();
    match verdict {
        Verdict::Control => format!("{kind}{who}, left out as a control"),
        Verdict::Observed => format!("{kind}{who}, observed only"),
        _ => format!("{kind}{who}"),
    }
}
