//! Where slow work runs: files are made, renamed and removed beside the actors, not on their thread.

/// Where blocking work runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Slow {
    /// On tokio's threads for blocking work.
    #[default]
    Beside,
    /// At once, on the caller's own thread. Under a paused clock another thread would take part in the order of
    /// things.
    Inline,
}

impl Slow {
    /// Runs blocking work.
    ///
    /// # Errors
    /// If it panicked on its thread.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        match self {
            Slow::Beside => tokio::task::spawn_blocking(work).await,
            Slow::Inline => Ok(work()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_runs_on_another_thread_or_on_this_one() {
        let here = std::thread::current().id();
        let thread = || std::thread::current().id();
        assert_ne!(Slow::Beside.run(thread).await.unwrap(), here);
        assert_eq!(Slow::Inline.run(thread).await.unwrap(), here);
    }
}
