//! One group of batches, and what is done between groups: syncs, checkpoints, tidying.

use super::Error;
use super::checkpoint::Helper;
use super::record::Change;
use super::tasks::Tasks;
use super::writer::SYNC_EVERY;
use std::time::{Duration, Instant};

/// Quiet for so long means idle: time to tidy.
const IDLE: Duration = Duration::from_millis(500);

/// Commits groups; whoever calls it is the one writer.
pub(super) struct Committer {
    /// Copies the log on a thread of its own; without it that is done between groups. Stands before `tasks`, so that
    /// its connection closes first: the last one to close removes the log.
    helper: Option<Helper>,
    tasks: Tasks,
    /// When the oldest commit that is not synced was made.
    unsynced_since: Option<Instant>,
}

impl Committer {
    pub fn new(tasks: Tasks, helper: Option<Helper>) -> Committer {
        Committer { helper, tasks, unsynced_since: None }
    }

    /// Commits the batches of a group together. A batch that is refused does not take the others with it; any
    /// other error is one for all.
    pub fn commit(&mut self, group: &[&[Change]]) -> Vec<Result<(), Error>> {
        let together = self.tasks.commit(group.iter().copied());
        let each = match together {
            Err(Error::Refused { .. }) if group.len() > 1 => self.tasks.commit_each(group),
            one => return vec![one; group.len()],
        };
        each.unwrap_or_else(|e| vec![Err(e); group.len()])
    }

    /// What is due after a group, once its waiters have their answers.
    ///
    /// # Errors
    /// Fatal ones.
    pub fn after(&mut self) -> Result<(), Error> {
        self.sync_if_due()?;
        let Some(helper) = &mut self.helper else {
            return if self.tasks.is_checkpoint_due() { self.tasks.checkpoint() } else { Ok(()) };
        };
        if helper.finished(self.tasks.is_log_too_long())? {
            // What came while it copied.
            self.tasks.checkpoint()?;
        } else if self.tasks.is_checkpoint_due() {
            helper.begin();
        }
        Ok(())
    }

    /// With [`super::Durability::Interval`]: syncs what has been waiting for [`SYNC_EVERY`], under load too.
    #[allow(clippy::disallowed_methods, reason = "how long a thread waits is no decision of a core")]
    fn sync_if_due(&mut self) -> Result<(), Error> {
        match self.unsynced_since {
            Some(since) if since.elapsed() >= SYNC_EVERY => self.tasks.sync()?,
            None if self.tasks.is_unsynced() => self.unsynced_since = Some(Instant::now()),
            _ => {}
        }
        if !self.tasks.is_unsynced() {
            self.unsynced_since = None;
        }
        Ok(())
    }

    /// How long to wait for work before [`Self::idle`] is called; for ever if there is nothing to do.
    pub fn patience(&self) -> Option<Duration> {
        match self.unsynced_since {
            Some(since) => Some(SYNC_EVERY.saturating_sub(since.elapsed())),
            None => self.tasks.is_untidy().then_some(IDLE),
        }
    }

    /// No work came: one small step of what can wait.
    ///
    /// # Errors
    /// Fatal ones.
    pub fn idle(&mut self) -> Result<(), Error> {
        match self.unsynced_since {
            Some(_) => self.sync_if_due(),
            None => self.tasks.tidy(),
        }
    }

    /// Syncs and closes.
    ///
    /// # Errors
    /// SQLite's and the file system's.
    pub fn close(self) -> Result<(), Error> {
        drop(self.helper);
        self.tasks.close()
    }
}
