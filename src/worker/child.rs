//! From a job to a running child: what happens between clone and exec.
//!
//! The child shares the helper's memory until it has executed its program (`CLONE_VM | CLONE_VFORK`, as
//! posix_spawn does), so starting one costs the same whatever the helper holds, and whatever goes wrong before
//! exec comes back as the step and its error number, not as an exit code. The price is discipline: between the
//! two, [`Plan::run`] makes system calls only. It allocates nothing, takes no lock and cannot panic; all that
//! it needs was prepared before.

use super::confine;
use super::kin::Marks;
use super::wire::{Job, JobId, Rlimit};
use std::convert::Infallible;
use std::ffi::{CString, c_char, c_int, c_void};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr;

/// Where programs are looked for if the job's environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Room for the child's stack until exec; its frames take less than 4 KiB.
const STACK_BYTES: usize = 64 << 10;

/// Starts children, one at a time.
pub(super) struct Spawner {
    marks: Marks,
    null: OwnedFd,
    stack: Vec<u8>,
    /// The limit on open files that the helper was started with: it raised its own, children get this one.
    open_files: libc::rlimit,
    helper: i32,
}

impl Spawner {
    pub(super) fn new(marks: Marks, null: OwnedFd, open_files: libc::rlimit) -> Spawner {
        let helper = std::process::id() as i32;
        Spawner { marks, null, stack: vec![0; STACK_BYTES], open_files, helper }
    }

    /// Starts a job in a process group of its own, with `output` as its standard output and error. Returns
    /// the leader's pid, which is the group's number too.
    ///
    /// # Errors
    /// A sentence that names the step and what the system said. No process is left then.
    pub(super) fn spawn(&mut self, id: JobId, job: &Job, output: BorrowedFd<'_>) -> Result<i32, String> {
        let words = Words::new(job)?;
        let bounds = &job.bounds;
        let cgroup = bounds.cgroup.as_deref().map(open_cgroup).transpose()?;
        let landlock =
            bounds.writable.as_deref().map(confine::ruleset).transpose().map_err(|e| e.to_string())?;
        let mut limits =
            vec![(libc::RLIMIT_RTTIME, same(self.marks.mark(id))), (libc::RLIMIT_NOFILE, self.open_files)];
        limits.extend(bounds.rlimits.iter().map(|(limit, value)| (number(*limit), same(*value))));
        let mut plan = Plan {
            argv: pointers(&words.argv),
            env: pointers(&words.env),
            words: &words,
            helper: self.helper,
            cpus: cpu_set(&bounds.cpus)?,
            nice: bounds.nice.map(c_int::from),
            io_level: bounds.io_level.map(|level| c_int::from(level.min(7))),
            cgroup: cgroup.as_ref().map(|f| f.as_raw_fd()),
            limits: &limits,
            user: bounds.user.as_ref().map(|u| (u.uid, u.gid, u.groups.as_slice())),
            landlock: landlock.as_ref().map(|f| f.as_raw_fd()),
            null: self.null.as_raw_fd(),
            output: output.as_raw_fd(),
            failed: None,
        };
        let pid = self.clone(&mut plan).map_err(|e| format!("clone: {e}"))?;
        let Some(Failed { step, errno }) = plan.failed else { return Ok(pid) };
        // It has already ended; nobody else learns that it ever was.
        // SAFETY: waits for a child of ours, and asks for no status.
        unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
        let error = io::Error::from_raw_os_error(errno);
        Err(match step {
            Step::Folder => format!("enter {}: {error}", job.cwd.display()),
            Step::Exec => format!("execute {}: {error}", job.argv[0]),
            Step::ReadOnly => format!("mount read-only: {error}"),
            step => format!("set {}: {error}", step.name()),
        })
    }

    fn clone(&mut self, plan: &mut Plan<'_>) -> io::Result<i32> {
        // The stack grows down from its end, which the ABI wants aligned to 16 bytes.
        let end = self.stack.as_mut_ptr_range().end;
        let top = end.wrapping_sub(end as usize % 16).cast::<c_void>();
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: this thread sleeps until the child has executed or exited, so `plan` and the stack outlive
        // the child's use of them and nothing else touches them; `enter` keeps to system calls. The helper has
        // one thread and every signal blocked, so no handler runs on the shared memory.
        let pid = unsafe { libc::clone(enter, top, flags, ptr::from_mut(plan).cast()) };
        if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
    }
}

/// All texts of a job as the kernel wants them.
struct Words {
    programs: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    cwd: CString,
    read_only: Vec<CString>,
}

impl Words {
    fn new(job: &Job) -> Result<Words, String> {
        let c = |bytes: &[u8]| {
            CString::new(bytes).map_err(|_| format!("{:?} contains a NUL", String::from_utf8_lossy(bytes)))
        };
        let program = job.argv.first().filter(|p| !p.is_empty()).ok_or("argv names no program")?;
        let programs = if program.contains('/') {
            vec![c(program.as_bytes())?]
        } else {
            let path = job.env.iter().find(|(k, _)| k == "PATH").map_or(DEFAULT_PATH, |(_, v)| v);
            let in_folder = |dir: &str| c(format!("{dir}/{program}").as_bytes());
            path.split(':').filter(|dir| !dir.is_empty()).map(in_folder).collect::<Result<_, _>>()?
        };
        Ok(Words {
            programs,
            argv: job.argv.iter().map(|a| c(a.as_bytes())).collect::<Result<_, _>>()?,
            env: job.env.iter().map(|(k, v)| c(format!("{k}={v}").as_bytes())).collect::<Result<_, _>>()?,
            cwd: c(job.cwd.as_os_str().as_bytes())?,
            read_only: job
                .bounds
                .read_only
                .iter()
                .map(|p| c(p.as_os_str().as_bytes()))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn pointers(words: &[CString]) -> Vec<*const c_char> {
    words.iter().map(|w| w.as_ptr()).chain([ptr::null()]).collect()
}

fn open_cgroup(folder: &Path) -> Result<OwnedFd, String> {
    let file = folder.join("cgroup.procs");
    let opened = OpenOptions::new().write(true).custom_flags(libc::O_CLOEXEC).open(&file);
    opened.map(OwnedFd::from).map_err(|e| format!("join {}: {e}", file.display()))
}

fn cpu_set(cpus: &[u16]) -> Result<Option<libc::cpu_set_t>, String> {
    // SAFETY: the set is plain bits, all zero is the empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &cpu in cpus {
        if usize::from(cpu) >= libc::CPU_SETSIZE as usize {
            return Err(format!("there is no processor {cpu}"));
        }
        // SAFETY: the number was checked to lie inside the set.
        unsafe { libc::CPU_SET(usize::from(cpu), &mut set) };
    }
    Ok((!cpus.is_empty()).then_some(set))
}

fn same(value: u64) -> libc::rlimit {
    libc::rlimit { rlim_cur: value, rlim_max: value }
}

#[cfg(target_env = "gnu")]
type RlimitNumber = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type RlimitNumber = c_int;

fn number(limit: Rlimit) -> RlimitNumber {
    match limit {
        Rlimit::AddressSpace => libc::RLIMIT_AS,
        Rlimit::Data => libc::RLIMIT_DATA,
        Rlimit::FileSize => libc::RLIMIT_FSIZE,
        Rlimit::OpenFiles => libc::RLIMIT_NOFILE,
        Rlimit::Processes => libc::RLIMIT_NPROC,
        Rlimit::Core => libc::RLIMIT_CORE,
        Rlimit::CpuSeconds => libc::RLIMIT_CPU,
    }
}

/// What the child does before exec, in order.
#[derive(Clone, Copy, Debug)]
enum Step {
    Group,
    Cpus,
    Nice,
    IoLevel,
    Cgroup,
    ReadOnly,
    Limits,
    User,
    Parent,
    Folder,
    Landlock,
    Output,
    Signals,
    Exec,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Step::Group => "process group",
            Step::Cpus => "processors",
            Step::Nice => "nice value",
            Step::IoLevel => "disk priority",
            Step::Cgroup => "cgroup",
            Step::ReadOnly => "read-only folders",
            Step::Limits => "resource limits",
            Step::User => "user",
            Step::Parent => "parent-death signal",
            Step::Folder => "work folder",
            Step::Landlock => "Landlock",
            Step::Output => "output",
            Step::Signals => "signals",
            Step::Exec => "program",
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Failed {
    step: Step,
    errno: c_int,
}

struct Plan<'a> {
    words: &'a Words,
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    helper: i32,
    cpus: Option<libc::cpu_set_t>,
    nice: Option<c_int>,
    io_level: Option<c_int>,
    cgroup: Option<RawFd>,
    limits: &'a [(RlimitNumber, libc::rlimit)],
    user: Option<(u32, u32, &'a [u32])>,
    landlock: Option<RawFd>,
    null: RawFd,
    output: RawFd,
    failed: Option<Failed>,
}

extern "C" fn enter(plan: *mut c_void) -> c_int {
    // SAFETY: `Spawner::clone` passes a Plan that it does not touch until this process is done with it.
    let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
    let Err(failed) = plan.run();
    plan.failed = Some(failed);
    // SAFETY: ends this process at once, without the handlers of the memory's owner.
    unsafe { libc::_exit(127) }
}

fn last_errno() -> c_int {
    // SAFETY: the thread's own errno is always there.
    unsafe { *libc::__errno_location() }
}

/// A system call's result (of whichever width) as the step's success or failure.
fn done(step: Step, result: impl Into<i64>) -> Result<(), Failed> {
    if result.into() < 0 { Err(Failed { step, errno: last_errno() }) } else { Ok(()) }
}

impl Plan<'_> {
    /// Becomes the job's program, or says why not. System calls only: see the module.
    fn run(&self) -> Result<Infallible, Failed> {
        // SAFETY: every pointer below comes from a reference that `Spawner::spawn` keeps alive until exec, and
        // the calls read what their types say. The calls act on this process alone: raw ones are used for
        // the user because the C library's would change all threads of the memory's owner.
        unsafe {
            done(Step::Group, libc::setpgid(0, 0))?;
            if let Some(set) = &self.cpus {
                done(Step::Cpus, libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set))?;
            }
            if let Some(nice) = self.nice {
                done(Step::Nice, libc::setpriority(libc::PRIO_PROCESS, 0, nice))?;
            }
            if let Some(level) = self.io_level {
                // IOPRIO_WHO_PROCESS, IOPRIO_CLASS_BE << 13 | level.
                done(Step::IoLevel, libc::syscall(libc::SYS_ioprio_set, 1, 0, 2 << 13 | level))?;
            }
            if let Some(cgroup) = self.cgroup {
                done(Step::Cgroup, libc::write(cgroup, c"0".as_ptr().cast(), 1) as i64)?;
            }
            self.mount_read_only()?;
            self.set_limits()?;
            if let Some((uid, gid, groups)) = self.user {
                done(Step::User, libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
                done(Step::User, libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
                done(Step::User, libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
            }
            // After the user: the kernel forgets this signal when credentials change.
            done(Step::Parent, libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            if libc::getppid() != self.helper {
                return Err(Failed { step: Step::Parent, errno: libc::ESRCH });
            }
            done(Step::Folder, libc::chdir(self.words.cwd.as_ptr()))?;
            if let Some(rules) = self.landlock {
                done(Step::Landlock, libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
                done(Step::Landlock, libc::syscall(libc::SYS_landlock_restrict_self, rules, 0))?;
            }
            done(Step::Output, libc::dup2(self.null, 0))?;
            done(Step::Output, libc::dup2(self.output, 1))?;
            done(Step::Output, libc::dup2(self.output, 2))?;
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            done(Step::Signals, libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut()))?;
            self.execute()
        }
    }

    /// Binds each folder onto itself, read-only, in a mount namespace that only this child sees.
    fn mount_read_only(&self) -> Result<(), Failed> {
        if self.words.read_only.is_empty() {
            return Ok(());
        }
        let step = Step::ReadOnly;
        let locked = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV;
        let (none, nothing) = (ptr::null(), ptr::null());
        // SAFETY: the paths are alive and end in NUL; the other arguments may be null for these operations.
        unsafe {
            done(step, libc::unshare(libc::CLONE_NEWNS))?;
            // The host's later mounts still arrive here, ours never leave.
            done(step, libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_SLAVE, nothing))?;
            for folder in &self.words.read_only {
                done(step, libc::mount(folder.as_ptr(), folder.as_ptr(), none, libc::MS_BIND, nothing))?;
                done(step, libc::mount(none, folder.as_ptr(), none, locked, nothing))?;
            }
        }
        Ok(())
    }

    fn set_limits(&self) -> Result<(), Failed> {
        for (limit, value) in self.limits {
            // SAFETY: `value` is a valid rlimit.
            done(Step::Limits, unsafe { libc::setrlimit(*limit, value) })?;
        }
        Ok(())
    }

    /// Tries each place in which the program may lie, as execvp(3) does; but what is neither a binary nor
    /// begins with `#!` is not handed to a shell.
    fn execute(&self) -> Result<Infallible, Failed> {
        let mut errno = libc::ENOENT;
        for program in &self.words.programs {
            // SAFETY: the program ends in NUL, both arrays end in null, and all they point to is alive.
            unsafe { libc::execve(program.as_ptr(), self.argv.as_ptr(), self.env.as_ptr()) };
            match last_errno() {
                // Not here, but perhaps in a later folder; a forbidden one is remembered.
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => errno = libc::EACCES,
                other => {
                    errno = other;
                    break;
                }
            }
        }
        Err(Failed { step: Step::Exec, errno })
    }
}
