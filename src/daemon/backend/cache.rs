//! Caches: list, stage, pin, evict, verify.

use super::{Hub, bad, gone, not_found};
use crate::api::{Error, wire};
use crate::cache::Policy;
use crate::cache::actor::{self, Count, Evict, Keep, Verify};
use crate::flow::{CacheId, ObjectName};
use crate::predict::objects::actor::Weigh;
use crate::prefetch::actor::Stage;
use crate::task::{derived_inputs, parse_object};
use futures_util::future::join_all;

/// Objects of a list, unless asked otherwise, and at most.
const LIST: (usize, usize) = (1_000, 10_000);

impl Hub {
    pub(super) async fn show_caches(&self) -> Result<Vec<wire::Cache>, Error> {
        let mut caches = Vec::new();
        let memory = self.house.objects.send(Weigh).await.map_err(gone)?;
        for ((cache, addr), memory) in self.config.caches.iter().zip(&self.house.caches).zip(memory) {
            let fill = actor::look(addr, |c| c.fill()).await.map_err(gone)?;
            let looked = addr.send(Count).await.map_err(gone)?;
            let policy = match cache.policy {
                crate::config::Eviction::Lru => Policy::Lru,
                crate::config::Eviction::Lfu => Policy::Lfu,
            };
            caches.push(wire::Cache {
                name: cache.name.clone(),
                dir: cache.dir.display().to_string(),
                policy: if policy == Policy::Lru { "lru".into() } else { "lfu".into() },
                capacity_bytes: fill.capacity_bytes,
                used_bytes: fill.entry_bytes,
                pinned_bytes: fill.pinned_bytes,
                zombie_bytes: fill.zombie_bytes,
                objects: fill.entries,
                hits: looked.hits,
                misses: looked.misses,
                model_bytes: memory.model_bytes as u64,
                catalogue_bytes: memory.catalogue_bytes as u64,
            });
        }
        Ok(caches)
    }

    pub(super) async fn list_cached(&self, f: wire::CacheFilter) -> Result<Vec<wire::CachedObject>, Error> {
        let limit = f.limit.unwrap_or(LIST.0);
        if !(1..=LIST.1).contains(&limit) {
            return Err(bad("bad_value", format!("limit is {limit}; accepted: 1 to {}", LIST.1)));
        }
        let mut all = Vec::new();
        for id in self.asked_caches(f.cache.as_deref())? {
            let (name, prefix) = (self.cache_name(id), f.prefix.clone().unwrap_or_default());
            let found = actor::look(&self.house.caches[usize::from(id.0)], move |c| {
                let of = |e: &crate::cache::Entry| wire::CachedObject {
                    object: e.object.to_string(),
                    cache: name.clone(),
                    bytes: e.bytes,
                    staged: e.staged && !e.used,
                    pinned: e.user_pinned,
                    in_use: c.task_pins(&e.object),
                    etag: e.etag.clone(),
                };
                c.entries().filter(|e| e.object.as_str().starts_with(&prefix)).map(of).collect::<Vec<_>>()
            });
            all.extend(found.await.map_err(gone)?);
        }
        all.sort_by(|a, b| a.object.cmp(&b.object).then(a.cache.cmp(&b.cache)));
        all.truncate(limit);
        Ok(all)
    }

    fn asked_caches(&self, name: Option<&str>) -> Result<Vec<CacheId>, Error> {
        match name {
            Some(name) => Ok(vec![self.cache_id(name)?]),
            None => Ok((0..self.config.caches.len()).map(|i| CacheId(i as u16)).collect()),
        }
    }

    /// The objects of an order: named ones, and those that a type derives from an entity.
    fn ordered(&self, order: &wire::CacheOrder) -> Result<Vec<ObjectName>, Error> {
        let mut objects = Vec::new();
        for name in &order.objects {
            let object = parse_object(name).map_err(|e| bad("bad_object", e.to_string()))?;
            if self.places.source(&object).is_none() {
                return Err(bad("unknown_source", format!("object `{object}` is of an unknown source")));
            }
            objects.push(object);
        }
        match (&order.task_type, &order.entity) {
            (Some(t), Some(entity)) => {
                let id =
                    self.names.catalogue.find(t).ok_or_else(|| not_found(format!("no task type `{t}`")))?;
                let spec = self.names.catalogue.get(id);
                spec.entity_pattern
                    .check(entity)
                    .map_err(|why| bad("bad_value", format!("entity `{entity}` {why}")))?;
                objects.extend(derived_inputs(spec, entity, &self.places));
            }
            (None, None) => {}
            _ => return Err(bad("missing_field", "`type` and `entity` are needed together")),
        }
        Ok(objects)
    }

    fn some_ordered(&self, order: &wire::CacheOrder) -> Result<Vec<ObjectName>, Error> {
        let objects = self.ordered(order)?;
        if objects.is_empty() {
            return Err(bad("missing_field", "no object is named: give `objects`, or `type` and `entity`"));
        }
        Ok(objects)
    }

    fn answer(&self, cache: CacheId, object: &ObjectName, result: &str) -> wire::CacheAnswer {
        wire::CacheAnswer {
            object: object.to_string(),
            cache: self.cache_name(cache),
            result: result.into(),
            bytes: None,
            error: None,
        }
    }

    pub(super) async fn stage_objects(
        &self,
        order: wire::CacheOrder,
    ) -> Result<Vec<wire::CacheAnswer>, Error> {
        let objects = self.some_ordered(&order)?;
        let mut answers = Vec::new();
        for cache in self.asked_caches(order.cache.as_deref())? {
            let staged = objects.iter().map(|object| self.stage_one(cache, object, order.wait));
            answers.extend(join_all(staged).await);
        }
        Ok(answers)
    }

    async fn stage_one(&self, cache: CacheId, object: &ObjectName, wait: bool) -> wire::CacheAnswer {
        let known = object.clone();
        let there =
            actor::look(&self.house.caches[usize::from(cache.0)], move |c| c.get(&known).map(|e| e.bytes));
        if let Ok(Some(bytes)) = there.await {
            return wire::CacheAnswer { bytes: Some(bytes), ..self.answer(cache, object, "present") };
        }
        let staged = self.house.prefetch.send(Stage { cache, object: object.clone() });
        if !wait {
            tokio::spawn(staged);
            return self.answer(cache, object, "staging");
        }
        match staged.await {
            Ok(Ok(bytes)) => wire::CacheAnswer { bytes: Some(bytes), ..self.answer(cache, object, "staged") },
            Ok(Err(e)) => wire::CacheAnswer { error: Some(e), ..self.answer(cache, object, "failed") },
            Err(e) => {
                wire::CacheAnswer { error: Some(e.to_string()), ..self.answer(cache, object, "failed") }
            }
        }
    }

    pub(super) async fn pin_objects(
        &self,
        order: wire::CacheOrder,
        pin: bool,
    ) -> Result<Vec<wire::CacheAnswer>, Error> {
        let objects = self.some_ordered(&order)?;
        let mut answers = Vec::new();
        for cache in self.asked_caches(order.cache.as_deref())? {
            for object in &objects {
                if pin {
                    let staged = self.stage_one(cache, object, true).await;
                    if staged.error.is_some() {
                        answers.push(staged);
                        continue;
                    }
                }
                let there = self.house.caches[usize::from(cache.0)].send(Keep(object.clone(), pin));
                let result = match (there.await.map_err(gone)?, pin) {
                    (true, true) => "pinned",
                    (true, false) => "unpinned",
                    (false, _) => "absent",
                };
                answers.push(self.answer(cache, object, result));
            }
        }
        Ok(answers)
    }

    pub(super) async fn evict_objects(
        &self,
        order: wire::CacheOrder,
    ) -> Result<Vec<wire::CacheAnswer>, Error> {
        let objects = self.some_ordered(&order)?;
        let mut answers = Vec::new();
        for cache in self.asked_caches(order.cache.as_deref())? {
            for object in &objects {
                let gone_now = self.house.caches[usize::from(cache.0)].send(Evict(object.clone()));
                let result = match gone_now.await.map_err(gone)? {
                    Some(true) => "evicted",
                    Some(false) => "in use",
                    None => "absent",
                };
                answers.push(self.answer(cache, object, result));
            }
        }
        Ok(answers)
    }

    pub(super) async fn verify_objects(
        &self,
        order: wire::CacheOrder,
    ) -> Result<Vec<wire::CacheAnswer>, Error> {
        let named = self.ordered(&order)?;
        let mut answers = Vec::new();
        for cache in self.asked_caches(order.cache.as_deref())? {
            let addr = &self.house.caches[usize::from(cache.0)];
            let objects: Vec<ObjectName> = if named.is_empty() {
                actor::look(addr, |c| c.entries().map(|e| e.object.clone()).collect()).await.map_err(gone)?
            } else {
                named.clone()
            };
            for object in objects {
                let verdict = addr.send(Verify(object.clone())).await.map_err(gone)?;
                answers.push(match verdict {
                    None => self.answer(cache, &object, "absent"),
                    Some(Ok(bytes)) => {
                        wire::CacheAnswer { bytes: Some(bytes), ..self.answer(cache, &object, "whole") }
                    }
                    Some(Err(e)) => {
                        wire::CacheAnswer { error: Some(e), ..self.answer(cache, &object, "damaged") }
                    }
                });
            }
        }
        Ok(answers)
    }
}
