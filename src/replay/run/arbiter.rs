//! One arbiter without a clock: seats with mailboxes, and a line of those that have mail.
//!
//! It keeps the order in which one single-threaded runtime would run the actors: who gets mail while it has
//! none goes to the end of the line, once; whose turn it is takes all its mail, also what comes meanwhile. What
//! an actor leaves to a future of its own has a seat of its own here.

use super::letter::{Letter, Seat};
use crate::flow::Map;
use std::collections::VecDeque;

/// The line and the mailboxes.
#[derive(Default)]
pub(super) struct Arbiter {
    line: VecDeque<Seat>,
    mail: Map<Seat, VecDeque<Letter>>,
    /// Whose turn it is.
    current: Option<Seat>,
    couriers: u64,
}

impl Arbiter {
    /// A letter for its seat.
    pub(super) fn post(&mut self, letter: Letter) {
        let seat = letter.seat();
        let mailbox = self.mail.entry(seat).or_default();
        if mailbox.is_empty() && self.current != Some(seat) {
            self.line.push_back(seat);
        }
        mailbox.push_back(letter);
    }

    /// A small future that posts a letter when it is its turn.
    pub(super) fn send_courier(&mut self, then: Letter) {
        self.couriers += 1;
        self.post(Letter::Courier(self.couriers, Some(Box::new(then))));
    }

    /// A small future that waits for a reply, to pass it on; its place in the line is that of now, if the reply
    /// is there by then.
    pub(super) fn hire_courier(&mut self) -> u64 {
        self.couriers += 1;
        self.couriers
    }

    /// The future begins: after the request was sent.
    pub(super) fn courier_waits(&mut self, courier: u64) {
        self.post(Letter::Courier(courier, None));
    }

    /// The reply that a courier waits for.
    pub(super) fn reply(&mut self, courier: u64, then: Letter) {
        self.post(Letter::Courier(courier, Some(Box::new(then))));
    }

    /// The next seat in the line has its turn.
    pub(super) fn next_seat(&mut self) -> Option<Seat> {
        self.current = self.line.pop_front();
        self.current
    }

    /// The next letter of whose turn it is; none ends the turn.
    pub(super) fn next_letter(&mut self) -> Option<Letter> {
        let seat = self.current?;
        let letter = self.mail.get_mut(&seat).and_then(VecDeque::pop_front);
        if letter.is_none() {
            self.mail.remove(&seat);
            self.current = None;
        }
        letter
    }
}
