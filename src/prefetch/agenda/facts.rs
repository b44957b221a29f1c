//! What happened: plan, forecasts, what pools got and lost, how transfers and tasks ended.

use super::*;

impl Agenda {
    /// Dispatch's tentative plan.
    pub fn planned(&mut self, plan: &Plan) {
        if !self.gave_way.is_empty() {
            for task in plan.next.iter().chain(&plan.later) {
                for object in &task.inputs {
                    self.gave_way.remove(&Key { pool: task.cache, object: object.clone() });
                }
            }
        }
        self.candidates.planned(plan, &mut self.dirty);
    }

    /// A task has come that would run there.
    pub fn arrived(&mut self, a: &Arrived, worker: WorkerId, pool: CacheId) {
        self.candidates.arrived(a, worker, pool, &mut self.dirty);
    }

    /// An object was seen to be so long.
    pub fn measured(&mut self, object: &ObjectName, bytes: u64) {
        self.sizes.learn(object, bytes);
    }

    /// What an entity is expected to bring, with the objects that its types derive.
    pub fn foreseen(&mut self, entity: &Arc<str>, derived: Vec<Derived>, now: Time) {
        if !self.gave_way.is_empty() {
            for d in &derived {
                self.gave_way.remove(&Key { pool: d.cache, object: d.object.clone() });
            }
        }
        self.candidates.foreseen(entity, derived, now, &mut self.dirty);
    }

    /// History proposes an object.
    pub fn proposed(&mut self, learned: Learned) {
        self.candidates.proposed(learned, &mut self.dirty);
    }

    /// History takes a proposal back.
    pub fn withdrawn(&mut self, key: &Key) {
        self.candidates.withdrawn(key, &mut self.dirty);
    }

    /// Learned proposals that were not carried out since this was asked last: whoever made them must know, or it
    /// would take their objects for staged.
    pub fn take_rejected(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.rejected)
    }

    /// A pool got an object, or lost it.
    pub fn cached(&mut self, fact: &Cached, now: Time) {
        let key = Key { pool: fact.cache, object: fact.object.clone() };
        self.sizes.learn(&fact.object, fact.bytes);
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
            self.returned(&s.account, WASTED);
            if self.gave_way.len() >= DECLINED_MAX {
                self.gave_way.clear();
            }
            self.gave_way.insert(key.clone());
            self.reject(&key);
        } else if fact.for_staging {
            self.watch(&key, now);
        }
        self.dirty.insert(key);
    }

    /// An object had to leave for a staged one. That is harm if it is needed before the staged one is; later it
    /// would have left anyway. For which of the transfers it left is not told: the latest need bounds it.
    fn watch(&mut self, key: &Key, now: Time) {
        let latest = self.asked.iter().filter(|(k, _)| k.pool == key.pool).max_by_key(|(_, s)| s.due);
        let Some((account, until)) = latest.map(|(_, s)| (s.account.clone(), s.due)) else { return };
        if self.watched.len() >= WATCHED {
            self.watched.retain(|_, (_, until)| *until >= now);
        }
        if self.watched.len() < WATCHED {
            self.watched.insert(key.clone(), (account, until));
        }
    }

    fn decline(&mut self, key: &Key, until: Time, now: Time) {
        let until = until.max(now);
        if self.declined.len() < DECLINED_MAX
            && let Some(earlier) = self.declined.insert(key.clone(), until)
        {
            self.retry.remove(&(earlier, key.clone()));
        }
        if self.declined.get(key) == Some(&until) {
            self.retry.insert((until, key.clone()));
        }
        self.reject(key);
    }

    /// Tells whoever learned it that an object is not staged.
    pub(super) fn reject(&mut self, key: &Key) {
        let learned = self.candidates.get(key).is_some_and(|c| c.knowledge == Knowledge::Learned);
        if learned && self.rejected.len() < REJECTED_MAX {
            self.rejected.push(key.clone());
        }
    }

    /// A prediction has ended with this return.
    pub(super) fn returned(&mut self, account: &Account, gain: f64) {
        let branch = Branch { task_type: account.task_type, source: account.source.clone() };
        self.switched.extend(self.governor.learn(&branch, gain));
    }

    /// A task that writes objects begins or ends.
    pub fn written(&mut self, object: &ObjectName, begins: bool) {
        let writers = self.written.entry(object.clone()).or_default();
        *writers = if begins { *writers + 1 } else { writers.saturating_sub(1) };
        if *writers == 0 {
            self.written.remove(object);
        }
        self.dirty.extend(self.candidates.keys_of(object));
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
            Answer::Refused { until, .. } => self.decline(key, *until, now),
            _ => self.decline(key, now + DECLINED, now),
        }
    }

    /// An attempt has ended: its inputs tell how quick sources are and what staging was good for.
    pub fn learned(&mut self, o: &Outcome, cache: CacheId, now: Time) {
        for input in &o.inputs {
            self.ledger.demands += 1;
            self.ledger.found += u64::from(input.found == Found::Cached);
            self.sizes.learn(&input.object, input.bytes);
            self.trial.demanded(&input.object, input.wait.as_s(), now);
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
    }

    /// What became of a prediction now that its object was demanded.
    fn settle(&mut self, key: Key, o: &Outcome, input: &InputUse) {
        let would_wait_s = self.pace(&key.object).fetch_s(input.bytes).max(input.wait.as_s());
        if let Some((account, until)) = self.watched.remove(&key)
            && input.found == Found::Fetched
            && o.started <= until
        {
            self.ledger.line(&account).harmful += 1;
            self.harm += HARM_SMOOTHING;
            self.returned(&account, HARMFUL);
        }
        if let Some(s) = self.unused.remove(&key).or_else(|| self.asked.remove(&key)) {
            let hidden_s = would_wait_s - input.wait.as_s();
            let line = self.ledger.line(&s.account);
            if s.landed.is_none() {
                // The demand took the transfer over; it counts as staged all the same.
                line.staged += 1;
                line.bytes += input.bytes;
            }
            match (s.landed, input.found) {
                (Some(_), Found::Cached) => line.useful += 1,
                _ => {
                    line.late += 1;
                    line.late_s += input.wait.as_s();
                }
            }
            line.hidden_s += hidden_s;
            self.returned(&s.account, hidden_s / would_wait_s.max(1e-9));
        }
        if let Some((s, verdict)) = self.left_out.remove(&key) {
            self.settle_unmoved(&s, verdict, o, input);
        }
        self.candidates.withdrawn(&key, &mut self.dirty);
    }

    /// The same for one that was predicted and not staged: what staging would have hidden.
    fn settle_unmoved(&mut self, s: &Staged, verdict: Verdict, o: &Outcome, input: &InputUse) {
        // Of a control's wait the trial has heard already; and it must not be counted twice.
        let Some(ready) = s.landed.filter(|_| verdict != Verdict::Control) else { return };
        let late_s = ready.since(o.started).as_s();
        let hidden_s = (input.wait.as_s() - late_s).max(0.0);
        if verdict == Verdict::Observed {
            let line = self.ledger.line(&s.account);
            line.staged += 1;
            line.bytes += input.bytes;
            line.hidden_s += hidden_s;
            if late_s > 0.0 {
                line.late += 1;
                line.late_s += late_s;
            } else {
                line.useful += 1;
            }
        }
        if input.found != Found::Cached {
            self.returned(&s.account, hidden_s / input.wait.as_s().max(1e-9));
        }
    }

    /// What was declined or held back is looked at again, as far as its time has come and there is room.
    pub(super) fn wake(&mut self, now: Time) {
        while let Some((until, key)) = self.retry.first().cloned().filter(|(until, _)| *until <= now) {
            self.retry.remove(&(until, key.clone()));
            self.declined.remove(&key);
            self.dirty.insert(key);
        }
        let room = ASKED.saturating_sub(self.asked.len());
        for _ in 0..room {
            let Some((_, key)) = self.held_back.pop_first() else { break };
            self.dirty.insert(key);
        }
    }
}
