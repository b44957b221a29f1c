//! How fast bytes may come: limits that can be changed, or set to zero, while transfers wait on them.

use crate::prefetch::flights::Class;
use crate::time::{Clock, Span, Time};
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// What may come at once after a rest, in seconds of the rate: short, so that a limit holds over any second.
const BURST_S: f64 = 0.05;

/// A token bucket that goes into debt: a piece is let through when nothing is owed, and then owed. So pieces of
/// any size pass, and the average holds.
#[derive(Debug)]
struct Pace {
    clock: Clock,
    bytes_per_s: watch::Sender<f64>,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Negative: owed.
    bytes: f64,
    at: Time,
}

impl Pace {
    fn new(bytes_per_s: f64, clock: Clock) -> Pace {
        let bucket = Mutex::new(Bucket { bytes: 0.0, at: clock.now() });
        Pace { clock, bytes_per_s: watch::Sender::new(bytes_per_s), bucket }
    }

    fn set(&self, bytes_per_s: f64) {
        // What was saved up or owed under the old rate is settled first.
        drop(self.settle(*self.bytes_per_s.borrow()));
        self.bytes_per_s.send_replace(bytes_per_s);
    }

    fn settle(&self, bytes_per_s: f64) -> std::sync::MutexGuard<'_, Bucket> {
        let now = self.clock.now();
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = now.since(bucket.at).as_s() * bytes_per_s;
        // Infinite times zero is no number: an unlimited pace has nothing to settle.
        if gained.is_finite() {
            bucket.bytes = (bucket.bytes + gained).min(bytes_per_s * BURST_S);
        } else {
            bucket.bytes = 0.0;
        }
        bucket.at = now;
        bucket
    }

    /// Waits until nothing is owed, then owes `bytes`. May be dropped while it waits; then nothing is owed.
    async fn take(&self, bytes: u64) {
        let mut rate = self.bytes_per_s.subscribe();
        loop {
            let bytes_per_s = *rate.borrow_and_update();
            if bytes_per_s.is_infinite() {
                return;
            }
            let owed = {
                let mut bucket = self.settle(bytes_per_s);
                if bytes_per_s > 0.0 && bucket.bytes >= 0.0 {
                    bucket.bytes -= bytes as f64;
                    return;
                }
                -bucket.bytes
            };
            if bytes_per_s <= 0.0 {
                rate.changed().await.expect("the sender lives in self");
                continue;
            }
            // A timer has a millisecond's grain; and a day is for ever here.
            let sleep =
                tokio::time::sleep(Span::from_s((owed / bytes_per_s).clamp(0.001, 86_400.0)).to_std());
            tokio::select! {
                () = sleep => {}
                changed = rate.changed() => changed.expect("the sender lives in self"),
            }
        }
    }
}

/// The way from one source to this host: its own limit, which all bytes keep, and the share of staging, which
/// is set anew whenever demand comes or goes.
#[derive(Debug)]
pub struct Lane {
    all: Pace,
    staging: Pace,
}

impl Lane {
    /// A lane with the source's configured limit; staging is free at first.
    pub fn new(limit_bytes_per_s: Option<u64>, clock: Clock) -> Lane {
        let limit = limit_bytes_per_s.map_or(f64::INFINITY, |n| n as f64);
        Lane { all: Pace::new(limit, clock), staging: Pace::new(f64::INFINITY, clock) }
    }

    /// What all staging transfers of the source may take together, bytes/s: zero pauses them in their place,
    /// infinite frees them. Acts at once, also on those that wait.
    pub fn set_staging(&self, bytes_per_s: f64) {
        self.staging.set(bytes_per_s);
    }

    /// Lets `bytes` of a transfer pass. A transfer that becomes demand while it waits as staging passes at once.
    pub(super) async fn pass(&self, class: &watch::Sender<Class>, bytes: u64) {
        let mut class = class.subscribe();
        while *class.borrow_and_update() == Class::Staging {
            tokio::select! {
                biased;
                () = self.staging.take(bytes) => break,
                changed = class.changed() => changed.expect("the transfer holds the sender"),
            }
        }
        self.all.take(bytes).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn clock() -> Clock {
        Clock::starting_at(Time::ZERO)
    }

    #[tokio::test(start_paused = true)]
    async fn the_average_holds() {
        let clock = clock();
        let lane = Lane::new(Some(1_000_000), clock);
        let demand = watch::Sender::new(Class::Demand);
        for _ in 0..100 {
            lane.pass(&demand, 100_000).await;
        }
        let s = clock.now().as_s();
        assert!((9.7..10.0).contains(&s), "10 MB at 1 MB/s took {s} s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_lane_holds_staging_and_lets_demand_pass() {
        let lane = Lane::new(None, clock());
        lane.set_staging(0.0);
        let (staging, demand) = (watch::Sender::new(Class::Staging), watch::Sender::new(Class::Demand));
        lane.pass(&demand, 1 << 30).await;
        let held = tokio::time::timeout(Duration::from_secs(3600), lane.pass(&staging, 1));
        assert!(held.await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_rate_and_a_new_class_act_on_those_who_wait() {
        let clock = clock();
        let lane = Lane::new(None, clock);
        lane.set_staging(0.0);
        let class = watch::Sender::new(Class::Staging);
        tokio::join!(lane.pass(&class, 1), async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            lane.set_staging(1e6);
        });
        assert!((5.0..5.01).contains(&clock.now().as_s()), "{:?}", clock.now());
        lane.set_staging(0.0);
        tokio::join!(lane.pass(&class, 1), async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            class.send_replace(Class::Demand);
        });
        assert!((10.0..10.02).contains(&clock.now().as_s()), "{:?}", clock.now());
    }
}
