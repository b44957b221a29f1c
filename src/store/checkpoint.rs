//! Checkpoints beside the commits.
//!
//! Copying the log into the database takes 10 to 30 ms, most of it disk. Done by the writer, that is a tenth to a
//! fifth of its time, and all of its slowest commits. So a second thread with a connection of its own copies while
//! the writer goes on, and the writer copies only what came in the meantime: after that the log begins anew.

use super::Error;
use super::open::{Durability, connect_any, pragma};
use super::statements::failed;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

/// The second thread.
pub(super) struct Helper {
    go: Option<Sender<()>>,
    done: Receiver<Result<(), Error>>,
    thread: Option<JoinHandle<()>>,
    running: bool,
}

impl Helper {
    /// Starts the thread; it opens its connection when it is first needed.
    pub fn start(db: &Path) -> Result<Helper, Error> {
        let ((go, gone), (say, done)) = (channel(), channel());
        let path = db.to_owned();
        let thread = std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || work(&path, &gone, &say))
            .map_err(Error::io("start checkpoints of", db))?;
        Ok(Helper { go: Some(go), done, thread: Some(thread), running: false })
    }

    /// Begins to copy, if it is not copying already.
    pub fn begin(&mut self) {
        if !self.running
            && let Some(go) = &self.go
        {
            self.running = go.send(()).is_ok();
        }
    }

    /// Whether it has just finished; with `wait`, once it has.
    ///
    /// # Errors
    /// What it ran into: fatal, as an error of the writer would be.
    pub fn finished(&mut self, wait: bool) -> Result<bool, Error> {
        if !self.running {
            return Ok(false);
        }
        let said = match wait {
            true => self.done.recv().map_err(|_| TryRecvError::Disconnected),
            false => self.done.try_recv(),
        };
        match said {
            Err(TryRecvError::Empty) => Ok(false),
            Err(TryRecvError::Disconnected) => Err(Error::Closed),
            Ok(result) => {
                self.running = false;
                result.map(|()| true)
            }
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.go.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("checkpoint thread panicked");
        }
    }
}

fn work(db: &Path, gone: &Receiver<()>, say: &Sender<Result<(), Error>>) {
    let mut conn = None;
    while gone.recv().is_ok() {
        let copied = match &conn {
            Some(conn) => Ok(conn),
            None => connect_any(db, Durability::Sync).map(|c| &*conn.insert(c)),
        };
        let copied = copied.and_then(|c| pragma(c, "PRAGMA wal_checkpoint(PASSIVE)").map(drop));
        if say.send(copied.map_err(|e| failed(db, e))).is_err() {
            return;
        }
    }
}
