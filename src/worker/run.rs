//! The spawn helper's client: starts the helper, hands it jobs, tells their ends.
//!
//! One task per helper owns the socket; [`Helper`] is a handle that any thread may clone and use.
//!
//! If the helper dies, every job it ran is [`Ending::Lost`], and that is told only when no process of these
//! jobs is left: leaders die with their parent, what they started is adopted by this process (it makes itself
//! a subreaper), found by its mark, killed and reaped here. [`Helper::gone`] tells of it, and
//! [`Helper::start`] makes a new one.

use super::helper::ARG;
use super::kin::{self, Marks};
use super::wire::{self, Bounds, Cause, Ended, Inbox, Job, JobId, Report, Request, monotonic};
use crate::flow::{Ending, Usage};
use crate::time::{Clock, Span, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};

/// Requests on their way to the helper; more wait in [`Helper::spawn`]. Each is there for microseconds.
const REQUESTS: usize = 1024;

/// Jobs are numbered within the process, so that a restarted helper's jobs are not taken for the old one's.
static NEXT_JOB: AtomicU64 = AtomicU64::new(1);

/// How a job ended. `ending` is [`Ending::Done`] for exit code 0: whether its outputs and inputs are as they
/// should be is not known here.
#[derive(Clone, Debug, PartialEq)]
pub struct Exited {
    /// Which job.
    pub job: JobId,
    /// How it ended.
    pub ending: Ending,
    /// What its processes used, the fetched bytes left at 0. All zero if it did not run to its end.
    pub usage: Usage,
    /// When its program was started.
    pub started: Time,
    /// When its leader ended; the rest of its group was gone when this was told.
    pub ended: Time,
    /// Bytes of output in its log, without the line that says that some were dropped.
    pub log_bytes: u64,
    /// Bytes of output that were dropped.
    pub log_dropped_bytes: u64,
}

/// A job's leader: the process that its program was started in.
#[derive(Clone, Debug, Default)]
pub struct Leader(Arc<AtomicI32>);

impl Leader {
    /// Its pid, which is the number of the job's process group too, once known: some milliseconds after the
    /// start. A job that ends sooner may never have one here.
    pub fn pid(&self) -> Option<i32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }
    fn set(&self, pid: i32) {
        self.0.store(pid, Ordering::Relaxed);
    }
}

/// A job under way. Dropping it does not end the job.
#[derive(Debug)]
pub struct JobHandle {
    id: JobId,
    leader: Leader,
    exited: oneshot::Receiver<Exited>,
    clock: Clock,
}

impl JobHandle {
    /// Its number, for [`Helper::kill`].
    pub fn id(&self) -> JobId {
        self.id
    }
    /// Where its pid will be told, also while somebody waits for its end.
    pub fn leader(&self) -> Leader {
        self.leader.clone()
    }
    /// Waits until no process of it is left.
    pub async fn ended(self) -> Exited {
        // The talk is over, or was ended with its runtime.
        self.exited.await.unwrap_or_else(|_| lost(self.id, self.clock.now()))
    }
}

/// A handle to a running spawn helper. When the last one is dropped, the helper ends all jobs and exits.
#[derive(Clone, Debug)]
pub struct Helper {
    requests: mpsc::Sender<Order>,
    gone: watch::Receiver<bool>,
    clock: Clock,
    pid: u32,
}

enum Order {
    Spawn { id: JobId, job: Box<Job>, leader: Leader, exited: oneshot::Sender<Exited> },
    Kill { id: JobId, grace: Span },
    Stop,
}

impl Helper {
    /// Starts a helper: `exe` is this binary (`/proc/self/exe` also names it after an upgrade replaced the
    /// file), `lock` a locked file that the helper shall hold too. Must be called within a tokio runtime, on
    /// which the talk then runs.
    ///
    /// # Errors
    /// What the system said to the socket pair or the process.
    pub fn start(exe: &Path, lock: Option<BorrowedFd<'_>>, clock: Clock) -> io::Result<Helper> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let stream = UnixStream::from_std(ours)?;
        let lock = lock.map_or(Ok(Stdio::null()), |fd| fd.try_clone_to_owned().map(Stdio::from))?;
        let child = Command::new(exe).arg(ARG).stdin(OwnedFd::from(theirs)).stdout(lock).spawn()?;
        let pid = child.id();
        let (requests, orders) = mpsc::channel(REQUESTS);
        let (tell_gone, gone) = watch::channel(false);
        let talk = Talk {
            stream,
            orders,
            inbox: Inbox::default(),
            outbox: vec![],
            running: BTreeMap::new(),
            clock,
            zero: (clock.now(), monotonic()),
        };
        tokio::spawn(async move {
            talk.run(child).await;
            // Nobody may be listening.
            let _ = tell_gone.send(true);
        });
        Ok(Helper { requests, gone, clock, pid })
    }

    /// Starts a job. It is on its way when this returns; whether it could be started is told by its end
    /// ([`Ending::SpawnFailed`]), and so is a helper that has gone ([`Ending::Lost`]).
    pub async fn spawn(&self, job: Job) -> JobHandle {
        let id = JobId(NEXT_JOB.fetch_add(1, Ordering::Relaxed));
        let (tell, exited) = oneshot::channel();
        let leader = Leader::default();
        let order = Order::Spawn { id, job: Box::new(job), leader: leader.clone(), exited: tell };
        // If the helper has gone, the order is dropped with its sender, and that reads as lost.
        let _ = self.requests.send(order).await;
        JobHandle { id, leader, exited, clock: self.clock }
    }

    /// Ends a job: SIGTERM to its group, SIGKILL to all that is left of it after `grace`. No effect on one
    /// that has ended.
    pub async fn kill(&self, id: JobId, grace: Span) {
        // If the helper has gone, so has the job.
        let _ = self.requests.send(Order::Kill { id, grace }).await;
    }

    /// Ends all jobs and the helper; returns when no process of them is left.
    pub async fn stop(&self) {
        // If it has gone already, there is nothing to stop.
        let _ = self.requests.send(Order::Stop).await;
        self.gone().await;
    }

    /// Waits until the helper has gone and nothing of its jobs is left, whoever ended it.
    pub async fn gone(&self) {
        // An error means that the talk itself is gone.
        let _ = self.gone.clone().wait_for(|gone| *gone).await;
    }

    /// Whether children can be given read-only folders: tries it on `folder`, which must exist. It takes root,
    /// or a service manager that leaves its processes the right to mount.
    pub async fn can_mount(&self, folder: &Path) -> bool {
        let bounds = Bounds { read_only: vec![folder.into()], ..Bounds::default() };
        let (argv, cwd) = (vec!["true".into()], folder.into());
        let tried = self.spawn(Job { argv, cwd, bounds, ..Job::default() }).await;
        tried.ended().await.ending.is_done()
    }

    /// The helper's pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

fn lost(job: JobId, at: Time) -> Exited {
    let (usage, ending) = (Usage::default(), Ending::Lost);
    Exited { job, ending, usage, started: at, ended: at, log_bytes: 0, log_dropped_bytes: 0 }
}

struct Running {
    leader: Leader,
    exited: oneshot::Sender<Exited>,
}

/// The daemon's side of the socket.
struct Talk {
    stream: UnixStream,
    orders: mpsc::Receiver<Order>,
    inbox: Inbox,
    outbox: Vec<u8>,
    running: BTreeMap<JobId, Running>,
    clock: Clock,
    /// One moment on both clocks: the helper's moments are on the kernel's.
    zero: (Time, Span),
}

/// Why a talk is over.
enum Over {
    Stopped,
    HelperDied(io::Error),
}

impl Talk {
    async fn run(mut self, mut child: Child) {
        let over = self.talk().await;
        if let Over::HelperDied(error) = &over {
            tracing::error!(pid = child.id(), %error, jobs = self.running.len(), "the spawn helper died");
            // One that only misbehaves must not go on beside its successor. It may be dead already.
            let _ = child.kill();
        }
        // Closes the socket: the helper's sign to end everything.
        drop(self.stream);
        self.orders.close();
        let jobs: BTreeSet<JobId> = self.running.keys().copied().collect();
        let ended = tokio::task::spawn_blocking(move || {
            let waited = child.wait();
            end_orphans(&jobs);
            waited
        });
        match ended.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "wait for the spawn helper"),
            Err(error) => tracing::error!(%error, "wait for the spawn helper"),
        }
        let now = self.clock.now();
        for (id, job) in self.running {
            // Whoever asked may have lost interest.
            let _ = job.exited.send(lost(id, now));
        }
    }

    async fn talk(&mut self) -> Over {
        let mut orders = Vec::new();
        loop {
            tokio::select! {
                n = self.orders.recv_many(&mut orders, REQUESTS) => {
                    if n == 0 {
                        return Over::Stopped;
                    }
                    for order in orders.drain(..) {
                        match order {
                            Order::Stop => return Over::Stopped,
                            order => self.take(order),
                        }
                    }
                }
                ready = self.stream.readable() => {
                    if let Err(error) = ready.and_then(|()| self.listen()) {
                        return Over::HelperDied(error);
                    }
                }
                ready = self.stream.writable(), if !self.outbox.is_empty() => {
                    if let Err(error) = ready {
                        return Over::HelperDied(error);
                    }
                }
            }
            if let Err(error) = self.send() {
                return Over::HelperDied(error);
            }
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Spawn { id, job, leader, exited } => {
                match wire::append(&mut self.outbox, &Request::Spawn { id, job }) {
                    Ok(()) => {
                        self.running.insert(id, Running { leader, exited });
                    }
                    Err(error) => {
                        // Whoever asked may have lost interest.
                        let _ = exited.send(self.not_started(id, error.to_string()));
                    }
                }
            }
            Order::Kill { id, grace } => wire::append(&mut self.outbox, &Request::Kill { id, grace })
                .expect("two numbers can always be written"),
            Order::Stop => unreachable!("ends the talk before it comes here"),
        }
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            match self.stream.try_write(&self.outbox) {
                Ok(n) => drop(self.outbox.drain(..n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn listen(&mut self) -> io::Result<()> {
        match self.stream.try_read_buf(self.inbox.space()) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        }
        while let Some(report) = self.inbox.next::<Report>()? {
            let (id, exited) = match report {
                Report::Started { id, pid } => {
                    if let Some(job) = self.running.get(&id) {
                        job.leader.set(pid);
                    }
                    continue;
                }
                Report::NotStarted { id, error } => (id, self.not_started(id, error)),
                Report::Ended { id, ended } => (id, self.exited(id, &ended)),
            };
            if let Some(job) = self.running.remove(&id) {
                // Whoever asked may have lost interest.
                let _ = job.exited.send(exited);
            }
        }
        Ok(())
    }

    fn not_started(&self, id: JobId, error: String) -> Exited {
        Exited { ending: Ending::SpawnFailed { error }, ..lost(id, self.clock.now()) }
    }

    fn exited(&self, job: JobId, ended: &Ended) -> Exited {
        let (time, kernel) = self.zero;
        let on_clock = |at: Span| time + Span::from_us(at.as_us().saturating_sub(kernel.as_us()));
        Exited {
            job,
            ending: ending(ended.cause, ended.status),
            usage: Usage {
                wall: Span::from_us(ended.ended.as_us().saturating_sub(ended.started.as_us())),
                cpu: ended.cpu,
                peak_memory_bytes: ended.peak_memory_bytes,
                read_bytes: ended.read_bytes,
                write_bytes: ended.write_bytes,
                net_bytes: 0,
            },
            started: on_clock(ended.started),
            ended: on_clock(ended.ended),
            log_bytes: ended.log_bytes,
            log_dropped_bytes: ended.log_dropped_bytes,
        }
    }
}

fn ending(cause: Cause, status: i32) -> Ending {
    match cause {
        Cause::TimeLimit => Ending::TimedOut,
        Cause::Request => Ending::Cancelled,
        Cause::Itself if libc::WIFSIGNALED(status) => Ending::Signalled { signal: libc::WTERMSIG(status) },
        Cause::Itself => match libc::WEXITSTATUS(status) {
            0 => Ending::Done,
            code => Ending::Exited { code },
        },
    }
}

/// Kills and reaps what a dead helper's jobs left to this process. Blocks until all of it is gone.
fn end_orphans(jobs: &BTreeSet<JobId>) {
    let marks = Marks::new();
    loop {
        let ours = |pid: &i32| marks.job_of(*pid).is_some_and(|id| jobs.contains(&id));
        let orphans: Vec<i32> = kin::children().unwrap_or_default().into_iter().filter(ours).collect();
        if orphans.is_empty() {
            return;
        }
        for pid in &orphans {
            super::group::signal(*pid, libc::SIGKILL);
        }
        for pid in orphans {
            // Each end may bring more of them: look again afterwards.
            // SAFETY: waits for a child of ours and asks for no status.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        }
    }
}
