//! Pools: what `cache/actor.rs` does, without files.

use super::house::House;
use super::letter::{
    Landed, Letter, ToAttempt, ToCache, ToCarrier, ToDispatch, ToObjects, ToPrefetch, ToSupply, Unpinner,
};
use super::world::World;
use crate::cache::{self, CacheCore, FileId, Need, Victim};
use crate::flow::{CacheId, Map, ObjectName};
use crate::message::{Cached, Held, PoolFill, Purpose};
use crate::prefetch::flights::FlightId;
use std::path::PathBuf;

/// One pool.
pub(super) struct PoolRoom {
    id: CacheId,
    core: CacheCore,
    /// What transfers have room for.
    reserved: Map<FileId, ObjectName>,
    /// Files that are whole, until the end of the turn: the actor takes them in when all its mail is read.
    whole: Vec<(FlightId, FileId, ObjectName, u64)>,
}

impl PoolRoom {
    pub(super) fn new((i, core): (usize, CacheCore)) -> PoolRoom {
        PoolRoom { id: CacheId(i as u16), core, reserved: Map::default(), whole: vec![] }
    }

    fn held(&self, object: &ObjectName, file: FileId, staged: bool, protected: bool) -> Option<Held> {
        let e = self.core.get(object)?;
        Some(Held {
            object: object.clone(),
            file: file.0,
            path: PathBuf::new(),
            bytes: e.bytes,
            etag: e.etag.clone(),
            checked: e.checked_at,
            staged,
            protected,
        })
    }
}

impl<W: World> House<W> {
    pub(super) fn at_cache(&mut self, cache: CacheId, m: ToCache) {
        let now = self.now;
        let room = &mut self.pools[usize::from(cache.0)];
        match m {
            ToCache::Pin(attempt, objects) => {
                let look = |object: &ObjectName| {
                    let hit = room.core.touch(object, now)?;
                    let file = room.core.pin(object)?;
                    room.held(object, file, hit.first_use_of_staged, hit.protected)
                };
                let held = objects.iter().map(look).collect();
                self.arbiter.post(Letter::Attempt(attempt, ToAttempt::Pinned(held)));
            }
            ToCache::Hold { courier, object, supply, waiter, joined, staged } => {
                let held = room.core.pin(&object).and_then(|file| room.held(&object, file, false, false));
                let landed = match held {
                    Some(held) => Landed::Pool { held, joined, staged },
                    None => Landed::Failed("it has left the pool".into()),
                };
                self.arbiter.reply(courier, Letter::Supply(supply, ToSupply::Landed(waiter, landed)));
            }
            ToCache::Unpin(files, who) => {
                files.into_iter().for_each(|file| _ = room.core.unpin(FileId(file)));
                match who {
                    Unpinner::Attempt(key) => {
                        self.arbiter.post(Letter::Attempt(key, ToAttempt::Unpinned));
                    }
                    Unpinner::Supply(supply) => {
                        self.arbiter.post(Letter::Supply(supply, ToSupply::Unpinned));
                    }
                    Unpinner::Nobody => {}
                }
            }
            ToCache::Reserve { flight, object, bytes, purpose } => {
                let for_staging = matches!(purpose, Purpose::Forecast { .. } | Purpose::Learned);
                let reserved = room.core.reserve(&object, bytes, purpose_of(purpose), now);
                let answer = match reserved {
                    Err(refusal) => Err(refusal.to_string()),
                    Ok((file, victims)) => {
                        room.reserved.insert(file, object);
                        self.let_go(cache, victims, for_staging);
                        Ok(file.0)
                    }
                };
                self.arbiter.send_courier(Letter::Carrier(flight, ToCarrier::Reserved(answer)));
            }
            ToCache::Commit { flight, file, object, bytes } => {
                room.whole.push((flight, FileId(file), object, bytes));
            }
            ToCache::Abandon { flight, file } => {
                room.reserved.remove(&FileId(file));
                room.core.cancel(FileId(file));
                self.arbiter.post(Letter::Carrier(flight, ToCarrier::Abandoned));
            }
            ToCache::Raise { flight, file } => {
                room.core.raise(FileId(file));
                self.arbiter.post(Letter::Carrier(flight, ToCarrier::Raised));
            }
            ToCache::Expect { courier, expect } => {
                expect.protect.iter().for_each(|object| room.core.protect(object));
                let victims = expect.release.iter().filter_map(|o| room.core.release(o)).collect();
                let fill = room.core.fill();
                let fill = PoolFill {
                    capacity_bytes: fill.capacity_bytes,
                    entry_bytes: fill.entry_bytes,
                    entries: fill.entries,
                    inserts: fill.inserts,
                };
                self.let_go(cache, victims, false);
                self.arbiter.reply(courier, Letter::Objects(ToObjects::Filled(cache, fill)));
            }
            ToCache::Rank(needs) => {
                for (object, need) in needs {
                    room.core.set_need(&object, need.map(|(due, p)| Need { due, p }));
                }
            }
            ToCache::Discard(objects) => {
                let mut stale: Vec<FileId> =
                    room.reserved.iter().filter(|(_, o)| objects.contains(o)).map(|(f, _)| *f).collect();
                stale.sort_unstable();
                for file in stale {
                    room.reserved.remove(&file);
                    room.core.cancel(file);
                }
                let victims = objects.iter().filter_map(|o| room.core.drop_object(o)).collect();
                self.let_go(cache, victims, false);
            }
        }
    }

    /// The end of a pool's turn: whole files enter the index.
    pub(super) fn commit_files(&mut self, cache: CacheId) {
        for (flight, file, object, bytes) in std::mem::take(&mut self.pools[usize::from(cache.0)].whole) {
            let room = &mut self.pools[usize::from(cache.0)];
            room.reserved.remove(&file);
            let answer = match room.core.commit(file, bytes, None, self.now) {
                Err(refusal) => Err(refusal.to_string()),
                Ok(victims) => {
                    self.let_go(cache, victims, false);
                    self.pools[usize::from(cache.0)].core.pin(&object);
                    self.tell_cached(Cached {
                        cache,
                        object: object.clone(),
                        bytes,
                        there: true,
                        unused: false,
                        for_staging: false,
                    });
                    let held = self.pools[usize::from(cache.0)].held(&object, file, false, false);
                    held.ok_or_else(|| "it was evicted at once".to_owned())
                }
            };
            self.arbiter.post(Letter::Carrier(flight, ToCarrier::Committed(answer)));
        }
    }

    /// Victims are told, unless a newer copy has taken their place already.
    fn let_go(&mut self, cache: CacheId, victims: Vec<Victim>, for_staging: bool) {
        for v in victims {
            let room = &self.pools[usize::from(cache.0)];
            if room.core.contains(&v.entry.object) {
                continue;
            }
            let cache = room.id;
            self.tell_cached(Cached {
                cache,
                unused: v.entry.staged && !v.entry.used,
                object: v.entry.object,
                bytes: v.entry.bytes,
                there: false,
                for_staging,
            });
        }
    }

    fn tell_cached(&mut self, fact: Cached) {
        self.arbiter.post(Letter::Dispatch(ToDispatch::Cached(fact.clone())));
        self.arbiter.post(Letter::Prefetch(ToPrefetch::Cached(fact.clone())));
        self.arbiter.post(Letter::Objects(ToObjects::Cached(fact)));
    }
}

fn purpose_of(p: Purpose) -> cache::Purpose {
    match p {
        Purpose::Demand => cache::Purpose::Demand,
        Purpose::Forecast { due, p } => cache::Purpose::Forecast(Need { due, p }),
        Purpose::Learned => cache::Purpose::Learned,
        Purpose::Named => cache::Purpose::Named,
    }
}
