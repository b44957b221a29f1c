//! Random changes against a model in memory, with restarts in between.

use super::*;

/// What the record should hold.
#[derive(Clone, Debug, Default)]
struct Model {
    tasks: BTreeMap<u64, TaskRow>,
    live: BTreeMap<u64, Live>,
    /// All outcomes, by number.
    done: BTreeMap<u64, Done>,
    /// The outcome that holds, or held before the task was reopened.
    newest: BTreeMap<u64, u64>,
    kept: BTreeMap<(Kind, String), Bytes>,
    last_id: u64,
    last_seq: u64,
}

impl Model {
    /// A change that fits, and its effect.
    fn random(&mut self, rng: &mut fastrand::Rng) -> Change {
        let live: Vec<u64> = self.live.keys().copied().collect();
        let finished: Vec<u64> =
            self.newest.keys().copied().filter(|id| !self.live.contains_key(id)).collect();
        let pick = |rng: &mut fastrand::Rng, v: &[u64]| (!v.is_empty()).then(|| v[rng.usize(..v.len())]);
        match rng.u8(..11) {
            10 => {
                let kind = [Kind::Group, Kind::Recurring][rng.usize(..2)];
                let name = format!("name {}", rng.u8(..6));
                let body = (rng.u8(..3) > 0).then(|| Bytes::from(noise(rng.u64(..), 80)));
                match &body {
                    Some(body) => _ = self.kept.insert((kind, name.clone()), body.clone()),
                    None => _ = self.kept.remove(&(kind, name.clone())),
                }
                return Change::Keep { kind, name: name.into(), body };
            }
            0..3 => {}
            3..5 => {
                if let Some(id) = pick(rng, &live) {
                    let l = self.live.get_mut(&id).unwrap();
                    let at = Time::from_us(rng.u64(..));
                    *l = Live {
                        attempt: l.attempt + 1 + rng.u32(..2),
                        worker: Some("w".into()),
                        started: Some(at),
                        ..Live::new(TaskId(id), LiveState::Running)
                    };
                    let token = Token { epoch: 1, attempt: l.attempt };
                    return Change::Started { id: TaskId(id), token, worker: "w".into(), at };
                }
            }
            5 => {
                if let Some(id) = pick(rng, &live) {
                    let l = self.live.get_mut(&id).unwrap();
                    let state = [LiveState::Queued, LiveState::Delayed, LiveState::Blocked][rng.usize(..3)];
                    let not_before = rng.bool().then(|| Time::from_us(rng.u64(..)));
                    let note = rng.bool().then(|| format!("note {}", rng.u8(..)).into());
                    *l = Live { not_before, note, attempt: l.attempt, ..Live::new(TaskId(id), state) };
                    return Change::Requeue { id: TaskId(id), state, not_before, note: l.note.clone() };
                }
            }
            6 | 7 => {
                if let Some(id) = pick(rng, &live) {
                    self.last_seq += 1 + rng.u64(..2);
                    let d = outcome(id, self.last_seq);
                    self.live.remove(&id);
                    self.done.insert(d.seq, d.clone());
                    self.newest.insert(id, d.seq);
                    return Change::Finished(d);
                }
            }
            8 => {
                if let Some(id) = pick(rng, &live).filter(|_| rng.bool()) {
                    let (priority, not_before) =
                        (rng.bool().then(|| rng.u8(..)), rng.bool().then(|| rng.bool().then_some(Time::MAX)));
                    if let Some(p) = priority {
                        self.tasks.get_mut(&id).unwrap().priority = p;
                    }
                    if let Some(t) = not_before {
                        self.live.get_mut(&id).unwrap().not_before = t;
                    }
                    return Change::Edit { id: TaskId(id), priority, not_before };
                }
                if let Some(id) = pick(rng, &finished) {
                    let reset_attempts = rng.bool();
                    let attempt = if reset_attempts { 0 } else { self.done[&self.newest[&id]].attempts };
                    self.live.insert(id, Live { attempt, ..Live::new(TaskId(id), LiveState::Blocked) });
                    return Change::Reopen { id: TaskId(id), state: LiveState::Blocked, reset_attempts };
                }
            }
            _ => {
                let ids: Vec<u64> = (0..3).filter_map(|_| pick(rng, &finished)).collect();
                for id in &ids {
                    self.tasks.remove(id);
                    self.newest.remove(id);
                    self.done.retain(|_, d| d.id.0 != *id);
                }
                // One that is unfinished or unknown is left alone.
                let others = [pick(rng, &live).unwrap_or(1 << 40), 1 << 50];
                return Change::Forget { ids: ids.into_iter().chain(others).map(TaskId).collect() };
            }
        }
        self.last_id += 1 + rng.u64(..3);
        let id = self.last_id;
        self.tasks.insert(id, task(id));
        self.live.insert(id, Live::new(TaskId(id), LiveState::Queued));
        submit(id)
    }

    fn assert_same(&self, dir: &Path, at_start: &Open) {
        let Open { opened, contents, twice, .. } = at_start;
        assert_eq!((&opened.damage, twice), (&vec![], &vec![]));
        assert_eq!((opened.last_id, opened.last_seq), (self.last_id, self.last_seq));
        assert_eq!(
            (opened.live, opened.finished),
            (self.live.len() as u64, (self.tasks.len() - self.live.len()) as u64)
        );
        assert_eq!(contents.live, self.live);
        assert_eq!(contents.kept, self.kept);
        let mut all = contents.clone();
        assert_eq!(add_finished(dir, &mut all).unwrap(), 0);
        assert_eq!(all.tasks, self.tasks);
        assert_eq!(all.done, self.done);
        let keys = self.tasks.values().filter(|t| !self.live.contains_key(&t.id.0));
        let keys = keys.filter_map(|t| Some((t.id.0, t.key.as_ref()?.to_string()))).collect();
        assert_eq!(contents.finished_keys, keys);
    }
}

#[test]
fn the_record_does_what_a_map_in_memory_does_over_any_restarts() {
    for seed in 0..12 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let dir = scratch();
        let mut model = Model::default();
        let inline = rng.bool();
        let mut on_disk = open(dir.path(), inline).unwrap();
        for restart in 1..=8 {
            for _ in 0..rng.usize(1..40) {
                let batch: Vec<_> = (0..rng.usize(1..8)).map(|_| model.random(&mut rng)).collect();
                put(&mut on_disk.record, batch.clone())
                    .unwrap_or_else(|e| panic!("seed {seed}: {e}: {batch:?}"));
            }
            // Most end in good order, some by losing the process: that is a copy of the files as they are.
            if rng.bool() {
                on_disk.record.close().unwrap();
            } else {
                let files = FILES.map(|n| dir.path().join(n));
                let now = files.each_ref().map(|f| std::fs::read(f).unwrap());
                on_disk.record.close().unwrap();
                for (file, bytes) in files.iter().zip(now) {
                    std::fs::write(file, bytes).unwrap();
                }
            }
            on_disk = open(dir.path(), inline).unwrap();
            assert_eq!(on_disk.opened.epoch, restart + 1, "seed {seed}");
            model.assert_same(dir.path(), &on_disk);
        }
        let damage = on_disk.record.checker()().unwrap();
        assert_eq!(damage, [], "seed {seed}");
    }
}
