//! The inputs of one attempt on their way: what `prefetch/demand.rs` does. Sources are taken to be immutable,
//! so no cached copy is asked for anew.

use super::house::{For, House};
use super::letter::{AttemptKey, Landed, Letter, ToAttempt, ToCache, ToSupply, Unpinner};
use super::world::{TransferId, World};
use crate::flow::{CacheId, Found, InputUse, ObjectName};
use crate::message::{Held, NotReady, Ready};
use crate::prefetch::flights::{Class, Key, Waiter};
use crate::time::{Span, Time};
use std::path::PathBuf;

/// One input.
enum Wanted {
    /// A transfer brings it.
    Flying(Waiter),
    /// A running task writes it: it is read past the pool, once the supply has its turn.
    Past(Option<TransferId>),
    /// There, or not to be had.
    Settled(Result<Ready, String>),
}

/// The inputs of one attempt.
pub(super) struct Supply {
    attempt: AttemptKey,
    cache: CacheId,
    began: Time,
    inputs: Vec<(ObjectName, Wanted)>,
    /// What is answered once the pins are given back.
    failed: Option<NotReady>,
}

impl Supply {
    fn settle(
        &mut self,
        which: impl Fn(&Wanted) -> bool,
        result: impl FnOnce(ObjectName) -> Result<Ready, String>,
    ) {
        if let Some((object, wanted)) = self.inputs.iter_mut().find(|(_, w)| which(w)) {
            *wanted = Wanted::Settled(result(object.clone()));
        }
    }
}

fn ready(held: Held, found: Found, staged: bool, wait: Span) -> Ready {
    let staged = staged || held.staged;
    let input = InputUse { object: held.object, bytes: held.bytes, found, staged, wait };
    Ready { path: held.path, pinned: Some(held.file), input }
}

fn private(object: ObjectName, bytes: u64, found: Found, wait: Span) -> Ready {
    let input = InputUse { object, bytes, found, staged: false, wait };
    Ready { path: PathBuf::new(), pinned: None, input }
}

fn joined_or_not(joined: bool) -> Found {
    if joined { Found::Joined } else { Found::Fetched }
}

impl<W: World> House<W> {
    /// A demand has come: what is there is taken, what is not is made to fly.
    pub(super) fn supply(
        &mut self,
        attempt: AttemptKey,
        cache: CacheId,
        inputs: Vec<(ObjectName, Option<Held>)>,
    ) {
        let id = self.next_supply;
        self.next_supply += 1;
        let mut wanted = Vec::with_capacity(inputs.len());
        for (object, held) in inputs {
            let w = match held {
                _ if self.prefetch.is_written(&object) => Wanted::Past(None),
                Some(held) => Wanted::Settled(Ok(ready(held, Found::Cached, false, Span::ZERO))),
                None => {
                    let key = Key { pool: cache, object: object.clone() };
                    let mut out = Vec::new();
                    match self.prefetch.want(key, self.now, &mut out) {
                        Ok(waiter) => {
                            self.waiting.insert(waiter, id);
                            self.do_transfers(out);
                            Wanted::Flying(waiter)
                        }
                        Err(e) => Wanted::Settled(Err(e)),
                    }
                }
            };
            wanted.push((object, w));
        }
        let supply = Supply { attempt, cache, began: self.now, inputs: wanted, failed: None };
        self.supplies.insert(id, supply);
        self.arbiter.post(Letter::Supply(id, ToSupply::Go));
    }

    pub(super) fn at_supply(&mut self, id: u64, m: ToSupply) {
        let Some(s) = self.supplies.get_mut(&id) else { return };
        let wait = self.now.since(s.began);
        match m {
            ToSupply::Go => {
                for (object, wanted) in &mut s.inputs {
                    if let (Wanted::Past(transfer), Some(source)) = (wanted, self.places.source(object)) {
                        let t = self.world.transfer(self.now, source, object, Class::Demand, 1);
                        *transfer = Some(t);
                        self.transfers.insert(t, For::Past(id));
                    }
                }
            }
            ToSupply::Landed(waiter, landed) => {
                let which = |w: &Wanted| matches!(w, Wanted::Flying(one) if *one == waiter);
                s.settle(which, |object| match landed {
                    Landed::Pool { held, joined, staged } => {
                        Ok(ready(held, joined_or_not(joined), staged, wait))
                    }
                    Landed::Private { bytes, joined } => {
                        Ok(private(object, bytes, joined_or_not(joined), wait))
                    }
                    Landed::Failed(e) => Err(e),
                });
            }
            ToSupply::Past(transfer, result) => {
                let which = |w: &Wanted| matches!(w, Wanted::Past(Some(t)) if *t == transfer);
                s.settle(which, |object| match result {
                    Ok(brought) => Ok(private(object, brought.bytes, Found::Fetched, wait)),
                    Err(e) => Err(e.to_string()),
                });
            }
            ToSupply::Unpinned => {
                let s = self.supplies.remove(&id).expect("looked at just now");
                let failed = s.failed.expect("only a supply that failed gives pins back");
                self.arbiter.post(Letter::Attempt(s.attempt, ToAttempt::Supplied(Err(failed))));
                return;
            }
        }
        if self.supplies[&id].inputs.iter().all(|(_, w)| matches!(w, Wanted::Settled(_))) {
            self.sum_up(id);
        }
    }

    /// All ready, or the first that is not; then whatever was pinned is let go.
    fn sum_up(&mut self, id: u64) {
        let mut s = self.supplies.remove(&id).expect("the caller has it");
        let (mut there, mut pinned, mut failed) = (vec![], vec![], None);
        for (object, wanted) in std::mem::take(&mut s.inputs) {
            match wanted {
                Wanted::Settled(Ok(ready)) => {
                    pinned.extend(ready.pinned);
                    there.push(ready);
                }
                Wanted::Settled(Err(error)) => {
                    failed.get_or_insert(NotReady { object, error, released: true });
                }
                Wanted::Flying(_) | Wanted::Past(_) => unreachable!("all are settled"),
            }
        }
        let Some(failed) = failed else {
            return self.arbiter.post(Letter::Attempt(s.attempt, ToAttempt::Supplied(Ok(there))));
        };
        if pinned.is_empty() {
            return self.arbiter.post(Letter::Attempt(s.attempt, ToAttempt::Supplied(Err(failed))));
        }
        self.post_cache(s.cache, ToCache::Unpin(pinned, Unpinner::Supply(id)));
        s.failed = Some(failed);
        self.supplies.insert(id, s);
    }
}
