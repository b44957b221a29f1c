//! What has to be done from time to time: retention, probes, occupancy, the watchdog.

use super::record::Names;
use super::wiring::House;
use crate::config::Config;
use crate::dispatch::actor::{self, Forget};
use crate::flow::{Place, SourceId};
use crate::monitor::actor::{Occupied, Probed};
use crate::monitor::{Occupancy, Saved};
use crate::prefetch::control::Verdict;
use crate::prefetch::source::Source;
use crate::store::Reader;
use crate::task::Places;
use crate::time::{Clock, Span, Time};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use tokio_util::sync::CancellationToken;

/// How often retention looks.
const RETENTION_EVERY: Span = Span::from_secs(60);
/// Tasks that are forgotten in one commit, so that it holds nobody up.
const GROUP: usize = 200;

/// Starts all of it on the current runtime.
pub fn start(
    config: &Arc<Config>,
    house: &House,
    names: &Names,
    sources: Vec<Arc<Source>>,
    logs: PathBuf,
    clock: Clock,
    stop: CancellationToken,
) {
    tokio::spawn(retention(config.clone(), house.clone(), names.clone(), logs, clock, stop.clone()));
    for (i, source) in sources.into_iter().enumerate() {
        let path = config.sources[i].probe.clone();
        let every = config.monitor.probe_interval;
        if let Some(path) = path {
            tokio::spawn(probe(SourceId(i as u16), source, path, every, house.clone(), clock, stop.clone()));
        }
    }
    let places = Arc::new(config.places());
    tokio::spawn(occupancy(config.monitor.interval, places, house.clone(), stop.clone()));
    watchdog(house.clone(), stop);
}

/// Tells the monitor what waits for each shard and moves out of it, and what staging has saved. Those asked keep
/// counts of their own, so asking costs as much as there are busy shards and transfers.
async fn occupancy(every: Span, places: Arc<Places>, house: House, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let queued = actor::look(&house.dispatch, |d, _| d.queued_by_place()).await;
        let moving = crate::prefetch::actor::look(&house.prefetch, move |agenda, flights, _| {
            let keys = flights.keys().map(|k| k.object.clone()).collect::<Vec<_>>();
            (keys, agenda.ledger().total().hidden_s, agenda.trial().verdict())
        });
        let (Ok(queued), Ok((moving, hidden_s, verdict))) = (queued, moving.await) else { return };
        let (per_demand_s, interval_s) = match verdict {
            Verdict::NotYetKnown { interval_s, .. } => (None, interval_s),
            Verdict::Known { saved_s, interval_s } => (Some(saved_s), Some(interval_s)),
        };
        let mut all: BTreeMap<Place, Occupancy> = BTreeMap::new();
        for (place, count) in queued {
            all.entry(place).or_default().queued += count;
        }
        for place in moving.iter().filter_map(|object| places.of(object)) {
            all.entry(place).or_default().transfers += 1;
        }
        // Who has no room gets the next one, which replaces this one.
        let _ = house
            .monitor
            .try_send(Occupied(all.into_iter().collect(), Saved { hidden_s, per_demand_s, interval_s }));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every.to_std()) => {}
        }
    }
}

/// Asks a source for one object's size, to know its latency when nobody else asks.
async fn probe(
    id: SourceId,
    source: Arc<Source>,
    path: String,
    every: Span,
    house: House,
    clock: Clock,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let asked = clock.now();
        let answered = source.stat(&path).await;
        // Missing is an answer too.
        let latency = match answered {
            Ok(_) | Err(crate::prefetch::source::Error::Missing { .. }) => Some(clock.now().since(asked)),
            Err(_) => None,
        };
        let _ = house.monitor.try_send(Probed(id, latency));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every.to_std()) => {}
        }
    }
}

/// Feeds systemd's watchdog as long as every actor answers.
fn watchdog(house: House, stop: CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(limit / 3);
        while !stop.is_cancelled() {
            tick.tick().await;
            let alive = async {
                let dispatch = actor::look(&house.dispatch, |_, _| ()).await.is_ok();
                let predict = crate::predict::actor::look(&house.predict, |_, _| ()).await.is_ok();
                let prefetch = crate::prefetch::actor::look(&house.prefetch, |_, _, _| ()).await.is_ok();
                let monitor = crate::monitor::actor::look(&house.monitor, |_, _| ()).await.is_ok();
                let mut caches = true;
                for c in &house.caches {
                    caches &= crate::cache::actor::look(c, |_| ()).await.is_ok();
                }
                dispatch && predict && prefetch && monitor && caches
            };
            match tokio::time::timeout(limit / 3, alive).await {
                Ok(true) => _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]),
                Ok(false) => tracing::error!("an actor is gone; the watchdog is not fed"),
                Err(_) => tracing::error!("an actor does not answer; the watchdog is not fed"),
            }
        }
    });
}

async fn retention(
    config: Arc<Config>,
    house: House,
    names: Names,
    logs: PathBuf,
    clock: Clock,
    stop: CancellationToken,
) {
    let dir = config.daemon.state_dir.join("record");
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETENTION_EVERY.to_std()) => {}
        }
        // Never past what the predictor's snapshot has learned: the record rebuilds it from there.
        let Ok(seq) = crate::predict::actor::look(&house.predict, |p, _| p.seq()).await else { return };
        let (dir, names, keep) = (dir.clone(), names.clone(), config.record.clone());
        let now = clock.now();
        let expired = tokio::task::spawn_blocking(move || -> Result<_, crate::store::Error> {
            let mut reader = Reader::open(&dir)?;
            let before = now - keep.keep_finished;
            let ids = reader.expired(before, Some(keep.keep_finished_bytes), seq + 1, GROUP)?;
            let rows = reader.bodies(&ids)?;
            let known =
                rows.into_iter().filter_map(|r| Some((r.id, names.catalogue.find(&r.type_name)?, r.key)));
            Ok(known.collect::<Vec<_>>())
        });
        match expired.await {
            Ok(Ok(tasks)) if !tasks.is_empty() => {
                let _ = house.dispatch.send(Forget(tasks)).await;
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "retention could not read the record"),
            Err(error) => tracing::error!(%error, "retention panicked"),
        }
        let (logs, work, config) = (logs.clone(), config.daemon.work_dir.clone(), config.clone());
        let tidied = tokio::task::spawn_blocking(move || {
            let r = &config.record;
            tidy(&logs, now, r.keep_logs, r.keep_logs_bytes);
            tidy(&work, now, r.keep_failed_work.max(r.keep_work), r.keep_work_bytes);
        });
        if let Err(error) = tidied.await {
            tracing::error!(%error, "retention panicked");
        }
    }
}

/// Removes what is older than `keep`, and the oldest until the rest is below `limit_bytes`.
fn tidy(dir: &Path, now: Time, keep: Span, limit_bytes: u64) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    let mut all: Vec<(Time, u64, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter(|e| !e.file_name().to_string_lossy().starts_with('.'))
        .filter_map(|e| {
            let meta = e.metadata().ok()?;
            let at = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            let bytes = if meta.is_dir() { folder_bytes(&e.path()) } else { meta.len() };
            Some((Time::from_s(at.as_secs_f64()), bytes, e.path()))
        })
        .collect();
    all.sort();
    let mut total: u64 = all.iter().map(|(_, bytes, _)| bytes).sum();
    for (at, bytes, path) in all {
        if now.since(at) <= keep && total <= limit_bytes {
            break;
        }
        total = total.saturating_sub(bytes);
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::debug!(%error, path = %path.display(), "not removed by retention");
        }
    }
}

fn folder_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .filter_map(Result::ok)
        .filter_map(|e| {
            let meta = std::fs::symlink_metadata(e.path()).ok()?;
            Some(if meta.is_dir() { folder_bytes(&e.path()) } else { meta.len() })
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_and_only_as_much_as_needed() {
        let dir = tempfile::tempdir().unwrap();
        for (i, name) in ["a", "b", "c"].into_iter().enumerate() {
            let path = dir.path().join(name);
            std::fs::write(&path, vec![0; 1_000]).unwrap();
            let at = UNIX_EPOCH + std::time::Duration::from_secs(1_000 + i as u64);
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
        }
        let names = || {
            let mut n: Vec<_> =
                std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
            n.sort();
            n
        };
        tidy(dir.path(), Time::from_s(1_010.0), Span::from_secs(100), 2_500);
        assert_eq!(names(), ["b", "c"]);
        tidy(dir.path(), Time::from_s(1_102.0), Span::from_secs(100), 2_500);
        assert_eq!(names(), ["c"], "b is older than the limit");
    }
}
