//! One side of a comparison: a stream of tasks played through one daemon, and what its record says of them.

use super::client::Client;
use super::process::Daemon;
use super::stream::Arrival;
use crate::api::wire::{Submit, Task};
use anyhow::bail;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep_until};

/// Waits that are open at once: each costs a connection. Ends come from the record, so a wait that begins late
/// changes no figure.
const WAITS: usize = 64;
/// Most tasks in one request.
const SUBMITS: usize = 250;
/// If no task ends for so long, none will.
const STALLED: Duration = Duration::from_secs(60);

/// Plays the stream in real time and waits for all its tasks; `ended` is told of each that has. The tasks come
/// back in the order of the arrivals.
///
/// # Errors
/// When the daemon refuses a task, dies, or stalls.
pub async fn play(
    daemon: &mut Daemon,
    arrivals: &[Arrival],
    mut ended: impl FnMut(&Task),
) -> anyhow::Result<Vec<Task>> {
    let client = daemon.client().clone();
    let permits = Arc::new(Semaphore::new(WAITS));
    let start = Instant::now();
    let mut numbers: Vec<u64> = Vec::with_capacity(arrivals.len());
    let mut tasks: Vec<Option<Task>> = vec![None; arrivals.len()];
    let mut count = 0;
    let mut waits: JoinSet<(usize, anyhow::Result<Task>)> = JoinSet::new();
    let mut last_end = Instant::now();
    while count < arrivals.len() {
        let next = arrivals.get(numbers.len()).map_or(last_end + STALLED, |a| start + a.at.to_std());
        tokio::select! {
            Some(joined) = waits.join_next(), if !waits.is_empty() => {
                let (n, task) = joined?;
                let task = match task {
                    Ok(task) => task,
                    Err(e) => return Err(daemon.check_alive().err().unwrap_or(e)),
                };
                ended(&task);
                tasks[n] = Some(task);
                count += 1;
                last_end = Instant::now();
            }
            () = sleep_until(next.min(last_end + STALLED)) => {
                let elapsed = start.elapsed();
                let due = due(arrivals, &numbers, elapsed);
                if due.is_empty() && last_end.elapsed() >= STALLED {
                    daemon.check_alive()?;
                    bail!("no task has ended for {} s\n{}", STALLED.as_secs(), daemon.tail());
                }
                if due.is_empty() {
                    continue;
                }
                let submitted = match client.submit(&due).await {
                    Ok(submitted) => submitted,
                    Err(e) => return Err(daemon.check_alive().err().unwrap_or(e)),
                };
                for id in submitted {
                    waits.spawn(wait(client.clone(), numbers.len(), id, Arc::clone(&permits)));
                    numbers.push(id);
                }
            }
        }
    }
    Ok(tasks.into_iter().flatten().collect())
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

async fn wait(client: Client, n: usize, id: u64, permits: Arc<Semaphore>) -> (usize, anyhow::Result<Task>) {
    let permit = permits.acquire().await;
    let task = client.ended(id).await;
    drop(permit);
    (n, task)
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
