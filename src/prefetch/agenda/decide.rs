//! What follows: what is staged, ranked, called off, left out.

use super::*;

impl Agenda {
    /// Why a transfer's bytes want room in the pool.
    pub fn purpose(&self, key: &Key, class: Class) -> Purpose {
        match (class, self.candidates.get(key)) {
            (Class::Demand, _) => Purpose::Demand,
            (Class::Staging, Some(c)) if c.knowledge == Knowledge::Learned => Purpose::Learned,
            (Class::Staging, Some(c)) => Purpose::Forecast { due: c.due, p: c.p },
            (Class::Staging, None) => Purpose::Named,
        }
    }

    /// What follows from the facts so far.
    pub fn attend(&mut self, now: Time, out: &mut Vec<Action>) {
        self.candidates.expire(now, &mut self.dirty);
        self.wake(now);
        if std::mem::take(&mut self.heat_changed) {
            out.push(self.budget());
        }
        for switch in std::mem::take(&mut self.switched) {
            out.push(Action::Decided(self.announced(&switch, now)));
        }
        let mut ranks: BTreeMap<CacheId, Needs> = BTreeMap::new();
        let mut wanted: Vec<(Time, Key, Candidate)> = Vec::new();
        for key in std::mem::take(&mut self.dirty) {
            let candidate = self.candidates.get(&key);
            if self.is_present(&key) {
                // Learned objects never change the rank of what a forecast needs.
                let need = candidate.filter(|c| c.knowledge != Knowledge::Learned).map(|c| (c.due, c.p));
                ranks.entry(key.pool).or_default().push((key.object, need));
                continue;
            }
            match candidate {
                Some(c) if self.asked.contains_key(&key) => self.postpone(key, c.due, out),
                Some(_) if self.candidates.just_arrived(&key) => {}
                Some(c) if self.may_stage(&key) => wanted.push((c.due, key, c)),
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

    /// A transfer that waits goes by its need as it is known now.
    fn postpone(&mut self, key: Key, due: Time, out: &mut Vec<Action>) {
        let Some(s) = self.asked.get_mut(&key) else { return };
        if std::mem::replace(&mut s.due, due) != due {
            out.push(Action::Postpone { key, due });
        }
    }

    fn is_present(&self, key: &Key) -> bool {
        self.present.get(&key.pool).is_some_and(|o| o.contains_key(&key.object))
    }

    fn may_stage(&self, key: &Key) -> bool {
        self.settings.mode != Mode::Off
            && !self.left_out.contains_key(key)
            && !self.declined.contains_key(key)
            && !self.gave_way.contains(key)
            && !self.written.contains_key(&key.object)
    }

    fn not_needed(&mut self, key: Key, now: Time, out: &mut Vec<Action>) {
        if let Some((s, verdict)) = self.left_out.remove(&key)
            && matches!(verdict, Verdict::Observed | Verdict::Governed)
        {
            self.returned(&s.account, WASTED);
            if verdict == Verdict::Observed {
                let line = self.ledger.line(&s.account);
                line.staged += 1;
                line.bytes += s.bytes;
                line.wasted += 1;
                line.wasted_bytes += s.bytes;
            }
        }
        if self.asked.contains_key(&key) {
            let reason = "the forecast has turned".into();
            let decided = Decided::CalledOff { object: key.object.clone(), cache: key.pool, reason };
            out.push(Action::Decided(Decision { at: now, what: decided }));
            out.push(Action::CallOff { key });
        }
    }

    fn decide(&mut self, key: Key, c: Candidate, due: Time, now: Time, out: &mut Vec<Action>) {
        if self.asked.len() >= self.asked_at_most(&key, &c) {
            self.held_back.insert((due, key));
            return;
        }
        let bytes = self.sizes.guess(&key.object);
        let pace = self.pace(&key.object);
        let busy = (self.asked.len() as f64 / f64::from(self.settings.connections.max(1))).min(1.0);
        let worth = Worth::weigh(c.p, bytes, &pace, busy, self.harm, self.settings.least_p.max(c.floor));
        let verdict = self.verdict(&key, &c, &worth, now);
        let mut staged = Staged { account: self.account(&key.object, Some(&c)), due, landed: None, bytes };
        let mut ready = None;
        match verdict {
            Verdict::NotWorthIt => self.reject(&key),
            Verdict::Staged => {
                self.asked.insert(key.clone(), staged);
                out.push(Action::Stage { key: key.clone(), due });
            }
            _ => {
                if verdict != Verdict::Control {
                    ready = Some(now + Span::from_s(pace.fetch_s(bytes)));
                    staged.landed = ready;
                }
                self.left_out.insert(key.clone(), (staged, verdict));
                self.reject(&key);
            }
        }
        if !matches!(verdict, Verdict::NotWorthIt | Verdict::Governed) {
            self.trial.assigned(&key.object, verdict == Verdict::Control, now);
            let what = Decided::Staged {
                object: key.object.clone(),
                cache: key.pool,
                knowledge: describe(&c, verdict).into(),
                p: worth.p,
                break_even: worth.break_even,
            };
            out.push(Action::Decided(Decision { at: now, what }));
        }
        self.remember(Remembered { at: now, key, candidate: c, worth, verdict, ready });
    }

    fn verdict(&self, key: &Key, c: &Candidate, worth: &Worth, now: Time) -> Verdict {
        if !worth.pays() {
            return Verdict::NotWorthIt;
        }
        let branch = Branch { task_type: c.task_type, source: key.object.source().into() };
        if !self.governor.is_on(&branch) {
            return Verdict::Governed;
        }
        let Settings { control_share, seed, .. } = self.settings;
        if is_control(&key.object, now, control_share, seed) {
            Verdict::Control
        } else if self.settings.mode == Mode::Observe {
            Verdict::Observed
        } else {
            Verdict::Staged
        }
    }

    fn remember(&mut self, new: Remembered) {
        // The same refusal again and again tells nothing new and would push out what does.
        let again = |old: &Remembered| old.key == new.key && old.verdict == Verdict::NotWorthIt;
        if new.verdict == Verdict::NotWorthIt && self.remembered.iter().rev().take(64).any(again) {
            return;
        }
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back(new);
    }

    fn announced(&self, s: &Switch, now: Time) -> Decision {
        let t = s.branch.task_type;
        let name = if usize::from(t.0) < self.catalogue.len() { self.catalogue.name(t) } else { "–" };
        let what = format!("{name} from {}", s.branch.source).into();
        Decision {
            at: now,
            what: Decided::Governed { what, on: s.on, evidence: s.evidence.to_string().into() },
        }
    }

    pub(super) fn account(&self, object: &ObjectName, c: Option<&Candidate>) -> Account {
        Account {
            task_type: c.map_or(crate::flow::TypeId(u16::MAX), |c| c.task_type),
            source: object.source().into(),
            knowledge: c.map_or(Knowledge::Derived, |c| c.knowledge),
        }
    }

    pub(super) fn pace(&self, object: &ObjectName) -> Pace {
        self.paces.get(object.source()).copied().unwrap_or_default()
    }

    /// How many transfers may be under way for this one to be asked for: all that there is room for where it is
    /// cold, fewer with the heat of the object's cell and of the worker's disk, none where it is too hot.
    fn asked_at_most(&self, key: &Key, c: &Candidate) -> usize {
        let cell_heat = self.places.of(&key.object).map_or(0.0, |p| self.cell_heat(p.cell));
        let [_, _, io, _] = self.heat.workers.get(usize::from(c.worker.0)).copied().unwrap_or_default();
        (ASKED as f64 * self.share(cell_heat.max(io))).ceil() as usize
    }

    /// `1 − heat`, but a third at least while it is not too hot, and nothing where it is.
    fn share(&self, heat: f64) -> f64 {
        if heat >= self.settings.heat_max { 0.0 } else { (1.0 - heat).clamp(SHARE_MIN, 1.0) }
    }

    /// A cell's heat for staging: processors, memory and disks. Its network is shared out by the flight table,
    /// where demand goes strictly first; counting it here too would make staging throttle itself.
    fn cell_heat(&self, cell: CellId) -> f64 {
        let [cpu, memory, io, _] = self.heat.cells.get(usize::from(cell.0)).copied().unwrap_or_default();
        cpu.max(memory).max(io)
    }

    /// The budget follows the heat of the host's disks: full × (1 − heat), and nothing above the limit.
    fn budget(&self) -> Action {
        let [_, _, io, _] = self.heat.host;
        let share = if self.settings.mode == Mode::On { self.share(io) } else { 0.0 };
        let full = self.settings.bytes_per_s.unwrap_or(f64::INFINITY);
        // Infinity times nothing is nothing here.
        let bytes_per_s = if share > 0.0 { full * share } else { 0.0 };
        let connections = (f64::from(self.settings.connections) * share).ceil() as u16;
        Action::Budget { bytes_per_s, connections }
    }
}

/// How it is known, in words.
fn describe(c: &Candidate, verdict: Verdict) -> String {
    let who = c.entity.as_deref().map(|e| format!(" ({e})")).unwrap_or_default();
    let kind = c.knowledge.name();
    match verdict {
        Verdict::Control => format!("{kind}{who}, left out as a control"),
        Verdict::Observed => format!("{kind}{who}, observed only"),
        Verdict::Governed => format!("{kind}{who}, switched off by the governor"),
        _ => format!("{kind}{who}"),
    }
}
