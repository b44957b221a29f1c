//! One side of a comparison: a stream of tasks played through one daemon, and what its record says of them.

use super::client::Client;
use super::process::Daemon;
use super::stream::Arrival;
use crate::api::wire::{Submit, Task};
use anyhow::bail;
use std::collections::BTreeMap;
use tokio::time::{Duration, Instant, sleep, sleep_until};

/// Most tasks in one request.
const SUBMITS: usize = 250;
/// How often the daemon is asked how many tasks have ended: seldom while tasks are still to come, often at the
/// end. Asking costs it processor time that the tasks would have, so it is asked one small question, and for the
/// tasks themselves only when all have ended.
const TICKS: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(100)];
/// If no task ends for so long, none will.
const STALLED: Duration = Duration::from_secs(60);

/// Plays the stream in real time and waits for all its tasks; `progress` is told how many have ended. The tasks
/// come back in the order of the arrivals.
///
/// # Errors
/// When the daemon refuses a task, dies, or stalls.
pub async fn play(
    daemon: &mut Daemon,
    arrivals: &[Arrival],
    progress: impl FnMut(usize),
) -> anyhow::Result<Vec<Task>> {
    let client = daemon.client().clone();
    match drive(&client, arrivals, progress).await {
        Ok(numbers) => record(&client, &numbers).await,
        // If it died, that is the reason for whatever went wrong.
        Err(e) => Err(daemon.check_alive().err().unwrap_or_else(|| e.context(daemon.tail()))),
    }
}

/// Submits each task at its time and returns their numbers when all have ended.
async fn drive(
    client: &Client,
    arrivals: &[Arrival],
    mut progress: impl FnMut(usize),
) -> anyhow::Result<Vec<u64>> {
    let start = Instant::now();
    let mut numbers: Vec<u64> = Vec::with_capacity(arrivals.len());
    let (mut ended, mut last_end, mut tick) = (0, start, start + TICKS[0]);
    while ended < arrivals.len() {
        let next = arrivals.get(numbers.len()).map_or(tick, |a| (start + a.at.to_std()).min(tick));
        sleep_until(next).await;
        let due = due(arrivals, &numbers, start.elapsed());
        if !due.is_empty() {
            numbers.extend(client.submit(&due).await?);
        }
        if Instant::now() < tick {
            continue;
        }
        tick = Instant::now() + TICKS[usize::from(numbers.len() == arrivals.len())];
        let unfinished: usize = client.health().await?.tasks.values().sum();
        let now_ended = numbers.len().saturating_sub(unfinished);
        if now_ended > ended || numbers.len() < arrivals.len() {
            last_end = Instant::now();
        }
        ended = now_ended.max(ended);
        progress(ended);
        if last_end.elapsed() >= STALLED {
            bail!("no task has ended for {} s; {unfinished} are unfinished", STALLED.as_secs());
        }
    }
    Ok(numbers)
}

/// The daemon's record of the tasks, in the order of their numbers here.
async fn record(client: &Client, numbers: &[u64]) -> anyhow::Result<Vec<Task>> {
    const ATTEMPTS: u32 = 100;
    let (Some(least), Some(most)) = (numbers.iter().min(), numbers.iter().max()) else {
        return Ok(Vec::new());
    };
    for _ in 0..ATTEMPTS {
        let mut found: BTreeMap<u64, Task> = BTreeMap::new();
        let mut before = most + 1;
        while before > *least {
            let page: Vec<Task> = client.get(&format!("/v1/tasks?limit=1000&before={before}")).await?;
            let Some(last) = page.last() else { break };
            before = last.id;
            found.extend(page.into_iter().map(|task| (task.id, task)));
        }
        let tasks: Vec<Task> = numbers.iter().filter_map(|id| found.get(id).cloned()).collect();
        if tasks.len() == numbers.len() && tasks.iter().all(|t| t.state.is_final() && t.ended_s.is_some()) {
            return Ok(tasks);
        }
        // The queue knows of an end a moment before the record can be read.
        sleep(TICKS[1] / 10).await;
    }
    bail!("the daemon's record lacks the end of a task that has ended")
}

/// What is to be submitted now: all whose time has come, up to the first that follows one of them, whose number
/// is not known yet.
fn due(arrivals: &[Arrival], numbers: &[u64], elapsed: Duration) -> Vec<Submit> {
    let from = numbers.len();
    let due = arrivals.iter().skip(from).take(SUBMITS);
    let due = due.take_while(|a| a.at.to_std() <= elapsed && a.follows.is_none_or(|before| before < from));
    due.map(|a| {
        let after = a.follows.iter().map(|before| numbers[*before]).collect();
        Submit { after, ..a.submit.clone() }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    #[test]
    fn what_is_due_is_submitted_together_but_not_what_follows_it() {
        let arrival =
            |at_ms, follows| Arrival { at: Span::from_ms(at_ms), submit: Submit::default(), follows };
        let arrivals =
            [arrival(0, None), arrival(5, None), arrival(6, Some(0)), arrival(7, Some(2)), arrival(90, None)];
        let now = Duration::from_millis(20);
        assert_eq!(due(&arrivals, &[], now).len(), 2);
        let submits = due(&arrivals, &[11, 12], now);
        assert_eq!(submits.iter().map(|s| s.after.clone()).collect::<Vec<_>>(), [vec![11]]);
        assert_eq!(due(&arrivals, &[11, 12, 13], now).len(), 1);
        assert!(due(&arrivals, &[11, 12, 13, 14], now).is_empty());
    }
}
