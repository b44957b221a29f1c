//! The spawn helper: a small process that starts the children, measures them, reaps them and ends them.
//!
//! It is the daemon's own binary, re-executed. It has one thread, no runtime and a few megabytes, so that a
//! child's `ru_maxrss` is the child's own and not what it shared with a large daemon before exec. It
//! stores nothing: when the daemon's end of the socket closes it kills every process it started or adopted,
//! reaps them all, and only then exits. As it holds the lock on the state folder, a new daemon cannot begin
//! before that.
//!
//! A job is reported as ended when *no process of it is left*: its group is killed with its leader, and the
//! helper is a subreaper, so that whatever else the job started becomes its child and bears the job's mark
//! (see `kin.rs`). What is left is the odd program that runs as another user where the helper does not
//! run as root: its end can be neither forced nor, if it also left its group, be told from the job.
//!
//! Every signal is blocked: those meant to end the daemon reach its process group, or its whole cgroup, and
//! must not end the helper first.

use super::child::Spawner;
use super::events::{Events, check};
use super::group::{self, Group};
use super::kin::{self, Marks};
use super::wire::{self, Inbox, Job, JobId, READ_BYTES, Report, Request, monotonic};
use crate::time::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// The first argument that makes the binary a spawn helper.
pub const ARG: &str = "__spawn-helper";

/// The socket and the signals among the events; jobs have their own numbers, from 1.
const SOCKET: u64 = u64::MAX;
const SIGNALS: u64 = u64::MAX - 1;

/// A job's start is told with the next report, and at the latest after this: for one that ends first, which is
/// what most short ones do, the daemon is woken once.
const START_TOLD_AFTER: Span = Span::from_ms(20);

/// Becomes the spawn helper; `main` calls this before anything else if the first argument is [`ARG`].
///
/// Standard input must be the helper's end of a stream socket to the daemon; standard output the lock to hold
/// until the end (a file, or `/dev/null`).
pub fn main() -> ! {
    let code = match take_over() {
        Ok((mut helper, _lock)) => {
            let result = helper.serve();
            helper.end_all();
            match result {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("forestage: spawn helper: {error}");
                    1
                }
            }
        }
        Err(error) => {
            eprintln!(
                "forestage: spawn helper cannot start: {error} (it is started by the daemon, not by hand)"
            );
            2
        }
    };
    std::process::exit(code)
}

/// Makes this process what the module says, and takes socket and lock out of the children's reach.
fn take_over() -> io::Result<(Helper, OwnedFd)> {
    // What the daemon inherited without knowing is not for its children either.
    // SAFETY: nothing in this process has opened a descriptor yet.
    check(unsafe { libc::close_range(3, libc::c_uint::MAX, 0) })?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let socket = move_away(0, &null)?;
    let lock = move_away(1, &null)?;
    rustix::net::sockopt::socket_type(&socket)?;
    // SAFETY: these calls change this process only; the structs are valid, and the mask is set before any child.
    let (signals, open_files) = unsafe {
        // Fails only for the leader of a group, which has left the daemon's already.
        libc::setsid();
        check(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1))?;
        libc::prctl(libc::PR_SET_NAME, c"forestage-spawn".as_ptr());
        // Children start with what the helper has: nothing ignored (the daemon ignores SIGPIPE).
        (1..=libc::SIGRTMAX()).for_each(stop_ignoring);
        let mut all: libc::sigset_t = mem::zeroed();
        libc::sigfillset(&raw mut all);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut()))?;
        let mut children: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut children);
        libc::sigaddset(&raw mut children, libc::SIGCHLD);
        let fd = check(libc::signalfd(-1, &raw const children, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        // Two descriptors a job.
        let mut limit: libc::rlimit = mem::zeroed();
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit))?;
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised))?;
        (File::from(OwnedFd::from_raw_fd(fd)), limit)
    };
    kin::children()?;
    let marks = Marks::new();
    let helper = Helper {
        events: Events::new()?,
        socket: File::from(socket),
        signals,
        spawner: Spawner::new(marks, null.into(), open_files),
        marks,
        inbox: Inbox::default(),
        outbox: vec![],
        tell_by: None,
        full: false,
        groups: BTreeMap::new(),
        leaders: BTreeMap::new(),
        dues: BTreeSet::new(),
        touched: BTreeSet::new(),
        buffer: vec![0; READ_BYTES],
    };
    helper.events.watch(SOCKET, helper.socket.as_raw_fd())?;
    helper.events.watch(SIGNALS, helper.signals.as_raw_fd())?;
    Ok((helper, lock))
}

/// Moves a standard descriptor to a number that no child inherits, and puts `null` in its place.
fn move_away(number: RawFd, null: &File) -> io::Result<OwnedFd> {
    // SAFETY: the new descriptor is ours alone; the old number stays valid, it now names `null`.
    unsafe {
        let moved = OwnedFd::from_raw_fd(check(libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3))?);
        check(libc::dup2(null.as_raw_fd(), number))?;
        Ok(moved)
    }
}

/// Sets an ignored signal to its default. The bare system call, because the C library keeps two signals to
/// itself, and those may have been inherited ignored as well.
fn stop_ignoring(signal: i32) {
    // The kernel's struct sigaction begins with the handler; all zero is the default, without flags or mask.
    let (mut old, default) = ([0usize; 4], [0usize; 4]);
    let none = ptr::null::<[usize; 4]>();
    // SAFETY: both arrays are at least as long as the kernel's struct, whose mask is 8 bytes.
    unsafe {
        let asked = libc::syscall(libc::SYS_rt_sigaction, signal, none, &raw mut old, 8usize);
        if asked == 0 && old[0] == libc::SIG_IGN {
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, none, 8usize);
        }
    }
}

struct Helper {
    events: Events,
    socket: File,
    signals: File,
    spawner: Spawner,
    marks: Marks,
    inbox: Inbox,
    outbox: Vec<u8>,
    /// When the outbox is due; None while it is empty.
    tell_by: Option<Span>,
    /// The daemon does not read: the socket is watched for room.
    full: bool,
    groups: BTreeMap<JobId, Group>,
    /// Pid of each group's leader, until it is reaped.
    leaders: BTreeMap<i32, JobId>,
    /// What [`Group::due`] says, in order.
    dues: BTreeSet<(Span, JobId)>,
    /// Groups that lost a process since they were last looked at.
    touched: BTreeSet<JobId>,
    buffer: Vec<u8>,
}

impl Helper {
    /// Serves until the daemon's end of the socket closes.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            for token in self.events.wait(self.idle_until())? {
                match token {
                    SOCKET => {
                        if !self.listen()? {
                            return Ok(());
                        }
                        if self.full {
                            self.tell_by = Some(Span::ZERO);
                        }
                    }
                    SIGNALS => self.reap(),
                    job => self.pump(JobId(job)),
                }
            }
            self.fire_what_is_due();
            self.finish_what_is_over()?;
            self.tell()?;
        }
    }

    fn idle_until(&self) -> Option<Span> {
        let due = self.dues.first().map(|(at, _)| *at);
        [due, self.tell_by].into_iter().flatten().min()
    }

    /// Takes the daemon's requests; returns false when there will be no more.
    fn listen(&mut self) -> io::Result<bool> {
        let inbox = self.inbox.space();
        let start = inbox.len();
        inbox.resize(start + READ_BYTES, 0);
        let got = receive(&self.socket, &mut inbox[start..])?;
        inbox.truncate(start + got.unwrap_or(0));
        while let Some(request) = self.inbox.next::<Request>()? {
            match request {
                Request::Spawn { id, job } => self.spawn(id, *job)?,
                Request::Kill { id, grace } => self.kill(id, grace),
            }
        }
        Ok(got != Some(0))
    }

    fn spawn(&mut self, id: JobId, job: Job) -> io::Result<()> {
        let started = monotonic();
        match self.start(id, job, started) {
            Ok(pid) => {
                wire::append(&mut self.outbox, &Report::Started { id, pid })?;
                self.tell_by.get_or_insert(started + START_TOLD_AFTER);
            }
            Err(error) => {
                wire::append(&mut self.outbox, &Report::NotStarted { id, error })?;
                self.tell_by = Some(Span::ZERO);
            }
        }
        Ok(())
    }

    fn start(&mut self, id: JobId, job: Job, started: Span) -> Result<i32, String> {
        let (output, input) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| format!("make a pipe for its output: {e}"))?;
        rustix::io::ioctl_fionbio(&output, true).map_err(|e| format!("prepare its output: {e}"))?;
        self.events.watch(id.0, output.as_raw_fd()).map_err(|e| format!("watch its output: {e}"))?;
        let pid = self.spawner.spawn(id, &job, std::os::fd::AsFd::as_fd(&input))?;
        let group = Group::new(id, job, pid, started, output.into(), input);
        if let Some(due) = group.due() {
            self.dues.insert((due, id));
        }
        self.leaders.insert(pid, id);
        self.groups.insert(id, group);
        Ok(pid)
    }

    fn kill(&mut self, id: JobId, grace: Span) {
        self.change(id, |group| group.ask_to_end(monotonic(), grace));
    }

    fn pump(&mut self, id: JobId) {
        // What one turn leaves, the next one takes: the pipe stays readable.
        if let Some(group) = self.groups.get_mut(&id) {
            group.pump(&mut self.buffer);
        }
    }

    /// Changes a group and keeps the order of what is due.
    fn change(&mut self, id: JobId, change: impl FnOnce(&mut Group)) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let before = group.due();
        change(group);
        let after = group.due();
        if before != after {
            before.map(|at| self.dues.remove(&(at, id)));
            after.map(|at| self.dues.insert((at, id)));
        }
    }

    fn fire_what_is_due(&mut self) {
        let now = monotonic();
        while let Some((_, id)) = self.dues.first().copied().filter(|(at, _)| *at <= now) {
            let kin = self.kin_of(id);
            self.change(id, |group| group.fire(now, &kin));
        }
    }

    /// Takes in every child that has ended.
    fn reap(&mut self) {
        // The signals themselves say nothing that waitid does not; several may have come as one.
        while matches!(io::Read::read(&mut self.signals, &mut self.buffer), Ok(n) if n > 0) {}
        while let Some(pid) = next_zombie(libc::WNOHANG) {
            self.bury(pid);
        }
    }

    fn bury(&mut self, pid: i32) {
        let now = monotonic();
        let leads = self.leaders.remove(&pid);
        // Before it is reaped, while its number still names it.
        let id = leads.or_else(|| self.owner_of(pid));
        if let Some(id) = leads {
            self.change(id, Group::leader_ends);
        }
        let Some((status, usage)) = wait(pid) else { return };
        if let Some(id) = id {
            self.change(id, |group| group.reaped(pid, status, &usage, now));
            self.touched.insert(id);
        }
    }

    /// The job that an adopted child belongs to: by its mark, else by its group.
    fn owner_of(&self, pid: i32) -> Option<JobId> {
        let marked = self.marks.job_of(pid).filter(|id| self.groups.contains_key(id));
        marked.or_else(|| {
            let number = group::group_of(pid)?;
            self.groups.values().find(|g| g.number() == number).map(|g| g.id)
        })
    }

    /// Unreaped children of the helper that belong to a job, without its leader. If a job's leader has been
    /// reaped and this is empty, no process of the job is left: each has an ancestor here.
    fn kin_of(&self, id: JobId) -> Vec<i32> {
        let children = kin::children().unwrap_or_default();
        let adopted = children.into_iter().filter(|pid| !self.leaders.contains_key(pid));
        adopted.filter(|pid| self.owner_of(*pid) == Some(id)).collect()
    }

    /// Reports the groups of which no process is left, and goes on killing those that are over.
    fn finish_what_is_over(&mut self) -> io::Result<()> {
        for id in mem::take(&mut self.touched) {
            if !self.groups.get(&id).is_some_and(Group::has_lost_leader) {
                continue;
            }
            let kin = self.kin_of(id);
            if !kin.is_empty() {
                if let Some(group) = self.groups.get(&id).filter(|g| g.is_over()) {
                    // Their ends wake us again.
                    group.kill(&kin);
                }
                continue;
            }
            let group = self.groups.remove(&id).expect("it was there a moment ago");
            group.due().map(|at| self.dues.remove(&(at, id)));
            let ended = group.finish(&mut self.buffer);
            wire::append(&mut self.outbox, &Report::Ended { id, ended })?;
            self.tell_by = Some(Span::ZERO);
        }
        Ok(())
    }

    /// Sends what is due. If the daemon does not read, the rest waits until it does: what can wait is bounded
    /// by the jobs it has running.
    fn tell(&mut self) -> io::Result<()> {
        if self.tell_by.is_none_or(|at| at > monotonic()) {
            return Ok(());
        }
        let sent = send(&self.socket, &self.outbox)?;
        self.outbox.drain(..sent);
        let full = !self.outbox.is_empty();
        if full != self.full {
            self.events.watch_writable(SOCKET, self.socket.as_raw_fd(), full)?;
            self.full = full;
        }
        // With room again the socket's event brings us back here.
        self.tell_by = full.then_some(Span::MAX);
        Ok(())
    }

    /// Kills everything that was started or adopted, and returns when all of it is gone.
    fn end_all(&mut self) {
        for number in self.leaders.keys() {
            group::signal(-number, libc::SIGKILL);
        }
        loop {
            // Each end may bring orphans, which are then our children: look again.
            for pid in kin::children().unwrap_or_default() {
                group::signal(pid, libc::SIGKILL);
            }
            let Some(pid) = next_zombie(0) else { break };
            wait(pid);
        }
        for group in self.groups.values_mut() {
            while group.pump(&mut self.buffer) {}
        }
    }
}

/// A child that has ended and is not reaped yet; with `WNOHANG` None may also mean that none has ended.
fn next_zombie(hang: i32) -> Option<i32> {
    // SAFETY: the struct is plain data for the call to fill; a zero pid in it means that there is none.
    unsafe {
        let mut info: libc::siginfo_t = mem::zeroed();
        let r = libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOWAIT | hang);
        (r == 0 && info.si_pid() != 0).then(|| info.si_pid())
    }
}

/// Reaps a child that has ended.
fn wait(pid: i32) -> Option<(i32, libc::rusage)> {
    // SAFETY: both structs are plain data for the call to fill.
    unsafe {
        let (mut status, mut usage): (i32, libc::rusage) = mem::zeroed();
        let r = libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage);
        (r == pid).then_some((status, usage))
    }
}

/// Bytes received; None if there are none now, 0 at the end.
fn receive(socket: &File, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match rustix::net::recv(socket, buffer, rustix::net::RecvFlags::DONTWAIT) {
        Ok((n, _)) => Ok(Some(n)),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        // The daemon died with something unread: the same end.
        Err(rustix::io::Errno::CONNRESET) => Ok(Some(0)),
        Err(e) => Err(e.into()),
    }
}

/// Bytes sent, 0 if there is no room now.
fn send(socket: &File, bytes: &[u8]) -> io::Result<usize> {
    use rustix::net::SendFlags;
    match rustix::net::send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(n) => Ok(n),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(0),
        // The end of the socket is told by reading.
        Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => Ok(bytes.len()),
        Err(e) => Err(e.into()),
    }
}
