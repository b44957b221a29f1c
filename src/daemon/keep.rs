//! Keeping what can be rebuilt: one plain thread puts profiles, indices, snapshots and series into sled, so that
//! no actor ever waits for it.

use crate::store::state::State;
use crate::time::{Clock, Span, Time};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// How long puts may wait for their flush: what a kill costs of profiles and indices.
const FLUSH_EVERY: Span = Span::from_ms(200);
/// Puts that may wait for the thread. It is quick; a full queue drops the put, and says so.
const QUEUE: usize = 16_384;

/// One thing to keep.
pub enum Put {
    /// A value under a key, or its end.
    Value {
        /// The tree.
        tree: String,
        /// The key.
        key: Vec<u8>,
        /// The value; `None` removes it.
        bytes: Option<Vec<u8>>,
    },
    /// A value that somebody must know to be on disk: it is put and flushed at once, then `done` is called.
    Durable {
        /// The tree.
        tree: String,
        /// The key.
        key: Vec<u8>,
        /// The value.
        bytes: Vec<u8>,
        /// Called on the thread, and only if all went well.
        done: Box<dyn FnOnce() + Send>,
    },
    /// Make everything durable; answered when it is.
    Flush(mpsc::Sender<()>),
}

/// The keeper's end that actors hold.
#[derive(Clone)]
pub struct Keeper(mpsc::SyncSender<Put>);

impl Keeper {
    /// Keeps a value, or removes it.
    pub fn put(&self, tree: &str, key: Vec<u8>, bytes: Option<Vec<u8>>) {
        if self.0.try_send(Put::Value { tree: tree.to_owned(), key, bytes }).is_err() {
            tracing::warn!(tree, "the keeper of state is behind; a value was not kept");
        }
    }

    /// Keeps a value and calls `done` once it is on disk; never, if that fails.
    pub fn put_durable(&self, tree: &str, key: Vec<u8>, bytes: Vec<u8>, done: Box<dyn FnOnce() + Send>) {
        if self.0.try_send(Put::Durable { tree: tree.to_owned(), key, bytes, done }).is_err() {
            tracing::warn!(tree, "the keeper of state is behind; a value was not kept");
        }
    }

    /// Makes everything durable that was put before.
    pub fn flush(&self) {
        let (tx, rx) = mpsc::channel();
        if self.0.send(Put::Flush(tx)).is_ok() {
            // The thread ends only with the last sender.
            let _ = rx.recv();
        }
    }
}

/// Starts the thread; it ends when the last [`Keeper`] is gone, after a last flush.
pub fn start(state: State) -> std::io::Result<(Keeper, JoinHandle<()>)> {
    let (tx, rx) = mpsc::sync_channel(QUEUE);
    let thread = std::thread::Builder::new().name("keeper".into()).spawn(move || run(&state, &rx))?;
    Ok((Keeper(tx), thread))
}

fn run(state: &State, rx: &mpsc::Receiver<Put>) {
    let clock = Clock::start(Time::ZERO);
    // When the oldest unflushed put is due: under steady puts a flush comes all the same.
    let mut due: Option<Time> = None;
    loop {
        let patience = due.map_or(FLUSH_EVERY, |due| due.since(clock.now()));
        match rx.recv_timeout(patience.to_std()) {
            Ok(Put::Durable { tree, key, bytes, done }) => {
                let put = state.tree(&tree).and_then(|t| t.put_bytes(&key, &bytes));
                match put.and_then(|()| state.flush()) {
                    Ok(()) => {
                        due = None;
                        done();
                    }
                    Err(error) => tracing::warn!(%error, tree, "state could not be made durable"),
                }
            }
            Ok(Put::Value { tree, key, bytes }) => {
                due = due.or(Some(clock.now() + FLUSH_EVERY));
                let put = state.tree(&tree).and_then(|t| match bytes {
                    Some(bytes) => t.put_bytes(&key, &bytes),
                    None => t.remove(&key),
                });
                if let Err(error) = put {
                    tracing::warn!(%error, tree, "state could not be kept");
                }
            }
            Ok(Put::Flush(done)) => {
                flush(state);
                due = None;
                // Who asked may have given up.
                let _ = done.send(());
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return flush(state),
        }
        if due.is_some_and(|due| due <= clock.now()) {
            flush(state);
            due = None;
        }
    }
}

fn flush(state: &State) {
    if let Err(error) = state.flush() {
        tracing::warn!(%error, "state could not be made durable");
    }
}
