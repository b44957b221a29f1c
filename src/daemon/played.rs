//! The latest attempts that ended, for the stream of tasks.

use crate::flow::{Found, Outcome};
use crate::message::Learned;
use crate::time::Span;
use actix::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;

/// Attempts that are kept: a few minutes of a busy host.
const KEPT: usize = 5_000;
/// Attempts of one answer.
pub const ANSWER: usize = 1_000;

/// The actor that keeps them.
#[derive(Default)]
pub struct Played {
    kept: VecDeque<Arc<Outcome>>,
    /// Number of the next one, from 0.
    next: u64,
}

impl Actor for Played {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(16_384);
    }
}

impl Handler<Learned> for Played {
    type Result = ();
    fn handle(&mut self, msg: Learned, _: &mut Context<Self>) {
        for lesson in msg.0.iter() {
            if self.kept.len() == KEPT {
                self.kept.pop_front();
            }
            self.kept.push_back(lesson.outcome.clone());
            self.next += 1;
        }
    }
}

/// Attempts from a number on, the latest [`ANSWER`] at most, oldest first; and the number of the next one.
#[derive(Message)]
#[rtype(result = "(Vec<Arc<Outcome>>, u64)")]
pub struct Since(pub u64);

impl Handler<Since> for Played {
    type Result = MessageResult<Since>;
    fn handle(&mut self, msg: Since, _: &mut Context<Self>) -> Self::Result {
        let wanted = usize::try_from(self.next.saturating_sub(msg.0)).unwrap_or(usize::MAX);
        let from = self.kept.len() - wanted.min(ANSWER).min(self.kept.len());
        MessageResult((self.kept.range(from..).cloned().collect(), self.next))
    }
}

/// How an attempt's wait for data divides: into fetching what nobody had asked for before, and waiting for what
/// was on its way. Its inputs come at the same time, so the longest fetch counts; the rest is waiting.
pub fn transfer_and_wait(outcome: &Outcome) -> (Span, Span) {
    let fetches = outcome.inputs.iter().filter(|i| i.found == Found::Fetched).map(|i| i.wait);
    let transfer = fetches.max().unwrap_or(Span::ZERO).min(outcome.data_wait);
    (transfer, Span::from_us(outcome.data_wait.as_us() - transfer.as_us()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::*;
    use crate::time::Time;

    fn outcome(task: u64) -> Outcome {
        let input = |found, wait_ms| InputUse {
            object: ObjectName::new("volumes:a"),
            bytes: 1,
            found,
            staged: false,
            wait: Span::from_ms(wait_ms),
        };
        Outcome {
            task: TaskId(task),
            token: Token { epoch: 1, attempt: 1 },
            worker: WorkerId(0),
            task_type: TypeId(0),
            entity: None,
            submitted: Time::ZERO,
            started: Time::ZERO,
            ended: Time::ZERO,
            ending: Ending::Done,
            usage: Usage::default(),
            data_wait: Span::from_ms(50),
            inputs: vec![input(Found::Fetched, 30), input(Found::Joined, 50), input(Found::Fetched, 20)],
            factors: Factors::default(),
        }
    }

    #[test]
    fn a_wait_divides_into_fetching_and_waiting() {
        assert_eq!(transfer_and_wait(&outcome(1)), (Span::from_ms(30), Span::from_ms(20)));
        let nothing = Outcome { inputs: vec![], ..outcome(1) };
        assert_eq!(transfer_and_wait(&nothing), (Span::ZERO, Span::from_ms(50)));
    }

    #[actix::test]
    async fn readers_go_on_where_they_were() {
        let played = Played::default().start();
        for task in 1..=ANSWER as u64 + 5 {
            played
                .send(Learned(Arc::new(vec![crate::message::Lesson {
                    outcome: Arc::new(outcome(task)),
                    seq: None,
                }])))
                .await
                .unwrap();
        }
        let (all, next) = played.send(Since(0)).await.unwrap();
        assert_eq!((all.len(), all[0].task, next), (ANSWER, TaskId(6), ANSWER as u64 + 5));
        let (rest, _) = played.send(Since(next - 2)).await.unwrap();
        assert_eq!(rest.iter().map(|o| o.task.0).collect::<Vec<_>>(), [next - 1, next]);
        let (none, _) = played.send(Since(next)).await.unwrap();
        assert!(none.is_empty());
    }
}
