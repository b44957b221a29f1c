//! Reads the kernel's counters: the host's, those of running attempts, our own. The only file here with I/O.
//!
//! Everything is read below a given `/proc` and `/sys`, so tests read a tree of their own. What this user may
//! not read, or this kernel does not have, is absent from the sample and no error; only what every Linux has
//! (`/proc/stat`, `/proc/meminfo`) is required.

use super::counters::{GroupSample, HostSample, Pressure};
use crate::time::{Span, Time};
use procfs::process::{Io, Stat, StatM};
use procfs::{DiskStats, FromRead, FromReadSI, KernelStats, net::InterfaceDeviceStatus};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A counter that must be there and is not.
#[derive(Debug, Error)]
#[error("read {path}: {reason}")]
pub struct Error {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// `/proc/diskstats` counts in these, whatever the disk's own sectors are.
const SECTOR_BYTES: u64 = 512;

/// Reads counters.
#[derive(Debug)]
pub struct Sampler {
    proc: PathBuf,
    sys: PathBuf,
    /// By name: whether it is a disk of its own, or only a view of others (dm, md, loop, …).
    disks: BTreeMap<String, bool>,
}

impl Default for Sampler {
    /// Of this machine.
    fn default() -> Sampler {
        Sampler::at("/proc", "/sys")
    }
}

impl Sampler {
    /// Of the trees that are mounted there.
    pub fn at(proc: impl Into<PathBuf>, sys: impl Into<PathBuf>) -> Sampler {
        Sampler { proc: proc.into(), sys: sys.into(), disks: BTreeMap::new() }
    }

    /// The host's counters now.
    ///
    /// # Errors
    /// If processor times or memory cannot be read.
    pub fn host(&mut self) -> Result<HostSample, Error> {
        let mut sample = HostSample { pressure: self.pressure(), ..HostSample::default() };
        self.processors(&mut sample)?;
        self.memory(&mut sample)?;
        self.disks(&mut sample);
        self.networks(&mut sample);
        (sample.own_cpu, sample.own_peak_memory_bytes) = own_usage();
        Ok(sample)
    }

    fn processors(&self, sample: &mut HostSample) -> Result<(), Error> {
        let path = self.proc.join("stat");
        let stat = KernelStats::from_file(&path, procfs::current_system_info())
            .map_err(|e| Error { path, reason: e.to_string() })?;
        let all = &stat.total;
        // Guest time is counted in user time already.
        let parts = [all.irq, all.softirq, all.steal].map(Option::unwrap_or_default);
        let busy = all.user + all.nice + all.system + parts.iter().sum::<u64>();
        sample.cpus = u32::try_from(stat.cpu_time.len()).unwrap_or(u32::MAX).max(1);
        sample.cpu_busy = ticks(busy);
        sample.cpu_idle = ticks(all.idle + all.iowait.unwrap_or_default());
        Ok(())
    }

    fn memory(&self, sample: &mut HostSample) -> Result<(), Error> {
        let path = self.proc.join("meminfo");
        let failed = |reason: String| Error { path: path.clone(), reason };
        let text = fs::read_to_string(&path).map_err(|e| failed(e.to_string()))?;
        let bytes = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name)?.trim().strip_suffix("kB"));
            let number = line.and_then(|n| n.trim().parse::<u64>().ok()).map(|kib| kib.saturating_mul(1_024));
            number.ok_or_else(|| failed(format!("it has no line `{name}`")))
        };
        sample.memory_total_bytes = bytes("MemTotal:")?;
        sample.memory_available_bytes = bytes("MemAvailable:")?;
        Ok(())
    }

    /// Sums over disks of their own: a volume group's bytes are its disks' bytes.
    fn disks(&mut self, sample: &mut HostSample) {
        let Ok(DiskStats(all)) = read(&self.proc.join("diskstats")) else { return };
        if all.iter().any(|d| !self.disks.contains_key(&d.name)) {
            self.disks = all.iter().map(|d| (d.name.clone(), self.is_own_disk(&d.name))).collect();
        }
        for disk in all.iter().filter(|d| self.disks.get(&d.name) == Some(&true)) {
            sample.disk_read_bytes += disk.sectors_read * SECTOR_BYTES;
            sample.disk_write_bytes += disk.sectors_written * SECTOR_BYTES;
            sample.disk_busy.push((disk.name.clone(), Span::from_ms(disk.time_in_progress)));
        }
    }

    /// Partitions have no entry in `/sys/block`; devices made of others lie under `virtual`, but so does the
    /// head of a multipath NVMe disk, whose paths are hidden from `/proc/diskstats`.
    fn is_own_disk(&self, name: &str) -> bool {
        let entry = self.sys.join("block").join(name.replace('/', "!"));
        let Ok(target) = fs::read_link(entry) else { return false };
        let target = target.to_string_lossy();
        !target.contains("/virtual/") || target.contains("/nvme-subsystem/")
    }

    /// Sums over interfaces with a device behind them; over all but loopback if none has one (in a
    /// container).
    fn networks(&self, sample: &mut HostSample) {
        let Ok(InterfaceDeviceStatus(all)) = read(&self.proc.join("net/dev")) else { return };
        let class = self.sys.join("class/net");
        let real = |name: &str| class.join(name).join("device").exists();
        let any_real = all.keys().any(|name| real(name));
        let mut speed = None;
        for (name, counters) in &all {
            if name == "lo" || (any_real && !real(name)) {
                continue;
            }
            sample.net_receive_bytes += counters.recv_bytes;
            sample.net_send_bytes += counters.sent_bytes;
            // In Mbit/s; -1 or an error where the device does not know.
            let told = fs::read_to_string(class.join(name).join("speed")).ok();
            if let Some(mbit) = told.and_then(|s| s.trim().parse::<f64>().ok()).filter(|s| *s > 0.0) {
                speed = Some(speed.unwrap_or(0.0) + mbit * 125_000.0);
            }
        }
        sample.net_speed_bytes_per_s = speed;
    }

    fn pressure(&self) -> Option<Pressure> {
        let read = |name: &str| fs::read_to_string(self.proc.join("pressure").join(name)).ok();
        let (cpu, memory, io) = (read("cpu")?, read("memory")?, read("io")?);
        Some(Pressure {
            cpu_some: stalled(&cpu, "some")?,
            memory_some: stalled(&memory, "some")?,
            memory_full: stalled(&memory, "full")?,
            io_some: stalled(&io, "some")?,
            io_full: stalled(&io, "full")?,
        })
    }

    /// What the process groups have used so far, in one pass over the processes of the machine. Groups
    /// without a process are absent.
    ///
    /// A child that moved to another group or session is not seen here; it is in the outcome.
    pub fn groups(&self, groups: &[u32]) -> BTreeMap<u32, GroupSample> {
        let mut samples = BTreeMap::new();
        if groups.is_empty() {
            return samples;
        }
        let mut wanted = groups.to_vec();
        wanted.sort_unstable();
        for pid in self.processes() {
            // Much cheaper than reading each process's `stat` to learn its group.
            let Some(group) = group_of(pid).filter(|g| wanted.binary_search(g).is_ok()) else { continue };
            if let Some(sample) = self.process(pid) {
                samples.entry(group).and_modify(|s| add(s, &sample)).or_insert(sample);
            }
        }
        samples
    }

    /// What these processes have used so far, together. None if all have ended.
    pub fn pids(&self, pids: &[u32]) -> Option<GroupSample> {
        let samples = pids.iter().filter_map(|pid| self.process(*pid));
        samples.reduce(|mut sum, sample| {
            add(&mut sum, &sample);
            sum
        })
    }

    fn processes(&self) -> impl Iterator<Item = u32> {
        let entries = fs::read_dir(&self.proc).into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().to_str()?.parse().ok())
    }

    /// One process and those of its children that have ended and that it has waited for. None if it is gone.
    fn process(&self, pid: u32) -> Option<GroupSample> {
        let folder = self.proc.join(pid.to_string());
        let stat: Stat = read(&folder.join("stat")).ok()?;
        let waited_for = u64::try_from(stat.cutime + stat.cstime).unwrap_or(0);
        let memory: Option<StatM> = read(&folder.join("statm")).ok();
        // `shared` is what is mapped from files and shared memory: page cache, for the most part.
        let pages = memory.map_or(0, |m| m.resident.saturating_sub(m.shared));
        let memory_bytes = pages * procfs::page_size();
        // Root, or the same user: a daemon that is neither sees no I/O until the outcome tells.
        let io: Option<Io> = read(&folder.join("io")).ok();
        Some(GroupSample {
            cpu: ticks(stat.utime + stat.stime + waited_for),
            memory_bytes,
            peak_memory_bytes: memory_bytes,
            read_bytes: io.map(|io| io.read_bytes),
            write_bytes: io.map(|io| io.write_bytes),
            processes: 1,
        })
    }

    /// What a control group (version 2) has used so far. Page cache is left out of its memory; the peak is
    /// the kernel's less the page cache of now, or the present memory if that is more, so it is too high by
    /// cache that was dropped since the peak.
    ///
    /// # Errors
    /// If there is no `cpu.stat`. A controller that is not enabled leaves its figures out.
    pub fn cgroup(&self, folder: &Path) -> Result<GroupSample, Error> {
        let text = |name: &str| fs::read_to_string(folder.join(name)).ok();
        let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
        let path = folder.join("cpu.stat");
        let cpu =
            fs::read_to_string(&path).map_err(|e| Error { path: path.clone(), reason: e.to_string() })?;
        let cpu_us = field(&cpu, "usage_usec")
            .ok_or(Error { path, reason: "it has no line `usage_usec`".to_owned() })?;
        let memory = text("memory.stat").unwrap_or_default();
        // Shared memory counts as file pages, but it is no cache: nothing can drop it.
        let cache = field(&memory, "file").unwrap_or(0).saturating_sub(field(&memory, "shmem").unwrap_or(0));
        let memory_bytes = number("memory.current").unwrap_or(0).saturating_sub(cache);
        let peak = number("memory.peak").unwrap_or(0).saturating_sub(cache);
        let io = text("io.stat").map(|io| self.cgroup_io(&io));
        let processes = text("cgroup.procs").map_or(0, |p| p.lines().count());
        Ok(GroupSample {
            cpu: Span::from_us(cpu_us),
            memory_bytes,
            peak_memory_bytes: peak.max(memory_bytes),
            read_bytes: io.map(|io| io.0),
            write_bytes: io.map(|io| io.1),
            processes: u32::try_from(processes).unwrap_or(u32::MAX),
        })
    }

    /// Bytes read and written. A volume group's bytes appear again at its disks: if there are disks of their
    /// own, only these count.
    fn cgroup_io(&self, text: &str) -> (u64, u64) {
        let value = |line: &str, name: &str| {
            let word = line.split(' ').find_map(|w| w.strip_prefix(name));
            word.and_then(|w| w.parse::<u64>().ok()).unwrap_or(0)
        };
        let (mut own, mut all) = (None, (0, 0));
        for line in text.lines() {
            let device = line.split(' ').next().unwrap_or_default();
            let bytes = (value(line, "rbytes="), value(line, "wbytes="));
            all = (all.0 + bytes.0, all.1 + bytes.1);
            let link = fs::read_link(self.sys.join("dev/block").join(device));
            if link.is_ok_and(|l| !l.to_string_lossy().contains("/virtual/")) {
                let sum: (u64, u64) = own.unwrap_or_default();
                own = Some((sum.0 + bytes.0, sum.1 + bytes.1));
            }
        }
        own.unwrap_or(all)
    }
}

fn read<T: FromRead>(path: &Path) -> Result<T, Error> {
    T::from_file(path).map_err(|e| Error { path: path.to_owned(), reason: e.to_string() })
}

fn ticks(ticks: u64) -> Span {
    Span::from_us((u128::from(ticks) * 1_000_000 / u128::from(procfs::ticks_per_second())) as u64)
}

/// The `total` of a line of a pressure file: microseconds.
fn stalled(text: &str, line: &str) -> Option<Span> {
    let line = text.lines().find(|l| l.starts_with(line))?;
    line.rsplit_once("total=")?.1.trim().parse().ok().map(Span::from_us)
}

/// The number behind a name in a file of `name number` lines.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn add(sum: &mut GroupSample, more: &GroupSample) {
    let both = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a + b);
    sum.cpu += more.cpu;
    sum.memory_bytes += more.memory_bytes;
    sum.peak_memory_bytes += more.peak_memory_bytes;
    sum.read_bytes = both(sum.read_bytes, more.read_bytes);
    sum.write_bytes = both(sum.write_bytes, more.write_bytes);
    sum.processes += more.processes;
}

fn group_of(pid: u32) -> Option<u32> {
    let pid = i32::try_from(pid).ok()?;
    // Not rustix's: its debug builds refuse group 0, which kernel threads have.
    // SAFETY: the call takes a number, touches no memory of ours, and fails cleanly for any number.
    let group = unsafe { libc::getpgid(pid) };
    u32::try_from(group).ok()
}

/// Processor time and largest resident set of this process.
fn own_usage() -> (Span, u64) {
    // SAFETY: `rusage` is a plain struct of integers, for which all zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live `rusage` of ours, which the call fills and does not keep.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) } != 0 {
        return (Span::ZERO, 0);
    }
    let time = |t: libc::timeval| Span::from_s(t.tv_sec as f64) + Span::from_us(t.tv_usec.unsigned_abs());
    (time(usage.ru_utime) + time(usage.ru_stime), usage.ru_maxrss.unsigned_abs() * 1024)
}

/// Processor time of the calling thread: what a round of sampling costs is its growth over the round.
pub fn thread_cpu() -> Span {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live `timespec` of ours, which the call fills and does not keep.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0 {
        return Span::ZERO;
    }
    Span::from_s(time.tv_sec as f64) + Span::from_us(time.tv_nsec.unsigned_abs() / 1_000)
}

/// Seconds east of UTC of this machine's time zone at a moment, for `draw::Zone`.
pub fn utc_offset_s(at: Time) -> i32 {
    let seconds = (at.as_us() / 1_000_000) as libc::time_t;
    // SAFETY: `tm` is a plain struct; its pointer field may be null.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of ours; the call fills `local` and keeps neither.
    let filled = unsafe { libc::localtime_r(&raw const seconds, &raw mut local) };
    if filled.is_null() { 0 } else { i32::try_from(local.tm_gmtoff).unwrap_or(0) }
}

/// Whether a failed read of [`Sampler::cgroup`] only means that the group has ended.
pub fn is_gone(folder: &Path) -> bool {
    matches!(fs::metadata(folder), Err(e) if e.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::fs::symlink;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const STAT: &str = "cpu  1000 50 300 8000 200 10 20 5 0 0\n\
        cpu0 500 25 150 4000 100 5 10 3 0 0\ncpu1 500 25 150 4000 100 5 10 2 0 0\n\
        intr 0\nctxt 1\nbtime 1700000000\nprocesses 9\nprocs_running 1\nprocs_blocked 0\n";
    const MEMINFO: &str = "MemTotal:  1000 kB\nMemFree: 100 kB\nMemAvailable:   600 kB\nCached: 300 kB\n";
    const DISKSTATS: &str = "   8       0 sda 1 0 100 5 2 0 200 6 0 7000 8\n\
           8       1 sda1 1 0 90 5 2 0 190 6 0 6000 8\n 253       0 dm-0 1 0 100 5 2 0 200 6 0 9000 8\n";
    const NETDEV: &str = "Inter-| Receive | Transmit\n face |bytes packets\n\
        lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\neth0: 500 5 0 0 0 0 0 0 70 7 0 0 0 0 0 0\n\
        veth1: 400 4 0 0 0 0 0 0 60 6 0 0 0 0 0 0\n";

    fn host_tree() -> tempfile::TempDir {
        let root = tree(&[
            ("proc/stat", STAT),
            ("proc/meminfo", MEMINFO),
            ("proc/diskstats", DISKSTATS),
            ("proc/net/dev", NETDEV),
            ("proc/pressure/cpu", "some avg10=1.00 avg60=0.10 avg300=0.00 total=5000\n"),
            (
                "proc/pressure/memory",
                "some avg10=0 avg60=0 avg300=0 total=60\nfull avg10=0 avg60=0 avg300=0 total=50\n",
            ),
            (
                "proc/pressure/io",
                "some avg10=0 avg60=0 avg300=0 total=80\nfull avg10=0 avg60=0 avg300=0 total=70\n",
            ),
            ("sys/class/net/eth0/speed", "1000\n"),
            ("sys/class/net/eth0/device/vendor", ""),
        ]);
        fs::create_dir_all(root.path().join("sys/block")).unwrap();
        symlink("../devices/pci0/block/sda", root.path().join("sys/block/sda")).unwrap();
        symlink("../devices/virtual/block/dm-0", root.path().join("sys/block/dm-0")).unwrap();
        root
    }

    fn at(root: &tempfile::TempDir) -> Sampler {
        Sampler::at(root.path().join("proc"), root.path().join("sys"))
    }

    #[test]
    fn the_host_is_read_from_its_files() {
        let sample = at(&host_tree()).host().unwrap();
        let hertz = procfs::ticks_per_second() as f64;
        assert_eq!(sample.cpus, 2);
        assert_eq!(sample.cpu_busy, Span::from_s(1_385.0 / hertz));
        assert_eq!(sample.cpu_idle, Span::from_s(8_200.0 / hertz));
        assert_eq!((sample.memory_total_bytes, sample.memory_available_bytes), (1_024_000, 614_400));
        // The disk, not its partition and not the volume on it.
        assert_eq!((sample.disk_read_bytes, sample.disk_write_bytes), (51_200, 102_400));
        assert_eq!(sample.disk_busy, [("sda".to_owned(), Span::from_secs(7))]);
        // The card, not loopback and not a container's end.
        assert_eq!((sample.net_receive_bytes, sample.net_send_bytes), (500, 70));
        assert_eq!(sample.net_speed_bytes_per_s, Some(125e6));
        let pressure = sample.pressure.unwrap();
        assert_eq!((pressure.cpu_some, pressure.io_full), (Span::from_ms(5), Span::from_us(70)));
        assert!(sample.own_cpu > Span::ZERO && sample.own_peak_memory_bytes > 1 << 20);
    }

    #[test]
    fn what_a_kernel_does_not_have_is_absent() {
        let root = tree(&[("proc/stat", STAT), ("proc/meminfo", MEMINFO)]);
        let sample = at(&root).host().unwrap();
        assert_eq!((sample.pressure, sample.net_speed_bytes_per_s), (None, None));
        assert!(sample.disk_busy.is_empty());
    }

    #[test]
    fn a_missing_file_is_named() {
        let root = tree(&[("proc/stat", STAT)]);
        let error = at(&root).host().unwrap_err().to_string();
        assert!(error.starts_with("read ") && error.contains("/proc/meminfo: No such file"), "{error}");
        fs::write(root.path().join("proc/meminfo"), "MemTotal: 5 kB\n").unwrap();
        let error = at(&root).host().unwrap_err().to_string();
        assert!(error.ends_with("it has no line `MemAvailable:`"), "{error}");
    }

    #[test]
    fn this_machine_can_be_sampled() {
        let mut sampler = Sampler::default();
        let (a, b) = (sampler.host().unwrap(), sampler.host().unwrap());
        assert!(b.cpu_busy >= a.cpu_busy && b.memory_available_bytes <= b.memory_total_bytes);
        assert!(thread_cpu() > Span::ZERO);
        assert!(utc_offset_s(Time::from_s(1_795_529_280.0)).abs() <= 14 * 3_600);
    }

    fn cgroup_tree() -> tempfile::TempDir {
        tree(&[
            ("g/cpu.stat", "usage_usec 500000\nuser_usec 400000\nsystem_usec 100000\n"),
            ("g/memory.current", "300000000\n"),
            ("g/memory.peak", "330000000\n"),
            ("g/memory.stat", "anon 190000000\nfile 100000000\nkernel 1\nshmem 10000000\nfile_mapped 5\n"),
            (
                "g/io.stat",
                "8:0 rbytes=1000 wbytes=67108864 rios=1 wios=9 dbytes=0 dios=0\n253:0 rbytes=1000 wbytes=67108864 rios=1 wios=9 dbytes=0 dios=0\n",
            ),
            ("g/cgroup.procs", "12\n13\n"),
        ])
    }

    #[test]
    fn a_control_group_is_read_without_page_cache() {
        let root = cgroup_tree();
        fs::create_dir_all(root.path().join("sys/dev/block")).unwrap();
        symlink("../../devices/pci0/block/sda", root.path().join("sys/dev/block/8:0")).unwrap();
        symlink("../../devices/virtual/block/dm-0", root.path().join("sys/dev/block/253:0")).unwrap();
        let sample = at(&root).cgroup(&root.path().join("g")).unwrap();
        assert_eq!(sample.cpu, Span::from_ms(500));
        assert_eq!((sample.memory_bytes, sample.peak_memory_bytes), (210_000_000, 240_000_000));
        assert_eq!((sample.read_bytes, sample.write_bytes), (Some(1_000), Some(67_108_864)));
        assert_eq!(sample.processes, 2);
    }

    #[test]
    fn controllers_that_are_off_leave_their_figures_out() {
        let root = tree(&[("g/cpu.stat", "usage_usec 7\n"), ("bad/cpu.stat", "nothing 1\n")]);
        let sample = at(&root).cgroup(&root.path().join("g")).unwrap();
        assert_eq!(sample, GroupSample { cpu: Span::from_us(7), ..GroupSample::default() });
        let error = at(&root).cgroup(&root.path().join("bad")).unwrap_err().to_string();
        assert!(error.ends_with("bad/cpu.stat: it has no line `usage_usec`"), "{error}");
        assert!(is_gone(&root.path().join("none")) && !is_gone(&root.path().join("g")));
    }

    #[test]
    fn the_real_control_group_has_a_cpu_stat_where_it_is_mounted() {
        for folder in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            let folder = Path::new(folder);
            if folder.join("cpu.stat").exists() {
                let sample = Sampler::default().cgroup(folder).unwrap();
                assert!(sample.cpu > Span::ZERO);
            }
        }
    }

    /// The known child: only when started by the test below does it do anything.
    #[test]
    fn known_child() {
        let Ok(scratch) = std::env::var("FORESTAGE_TEST_KNOWN_CHILD") else { return };
        let memory = vec![1_u8; 200 << 20];
        let mut file = fs::File::create(Path::new(&scratch).join("written")).unwrap();
        for chunk in memory[..64 << 20].chunks(1 << 20) {
            file.write_all(chunk).unwrap();
        }
        file.sync_all().unwrap();
        let mut sum = 0_u64;
        while thread_cpu() < Span::from_ms(500) {
            sum = (0..100_000_u64).fold(sum, |s, i| s.wrapping_mul(31).wrapping_add(std::hint::black_box(i)));
        }
        println!("\nREADY {} {}", thread_cpu().as_us(), sum + u64::from(memory[5]));
        let _ = io::stdin().read(&mut [0]);
        drop(std::hint::black_box(memory));
    }

    /// Starts the known child in a group of its own; returns it and the processor time it says it used.
    fn start_known_child(scratch: &Path) -> (Child, Span) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "monitor::sample::tests::known_child", "--nocapture", "--test-threads=1"])
            .env("FORESTAGE_TEST_KNOWN_CHILD", scratch)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let ready = lines.map_while(Result::ok).find_map(|l| l.strip_prefix("READY ").map(str::to_owned));
        let cpu_us = ready.unwrap().split(' ').next().unwrap().parse().unwrap();
        (child, Span::from_us(cpu_us))
    }

    #[test]
    fn a_known_child_is_measured_within_five_percent() {
        // Beside the test binary: the temporary folder may be in memory, where writes are no disk I/O.
        let beside = std::env::current_exe().unwrap().parent().unwrap().to_owned();
        let scratch = tempfile::tempdir_in(beside).unwrap();
        let (mut child, cpu) = start_known_child(scratch.path());
        let sampler = Sampler::default();
        let all = sampler.groups(&[child.id(), 1]);
        let sample = all[&child.id()];
        assert_eq!(sampler.pids(&[child.id()]).map(|s| s.processes), Some(1));
        drop(child.stdin.take());
        child.wait().unwrap();
        let close = |found: f64, true_value: f64, what: &str| {
            assert!((found / true_value - 1.0).abs() < 0.05, "{what}: {found}, should be {true_value}");
        };
        close(sample.cpu.as_s(), cpu.as_s().max(0.5), "processor time");
        close(sample.memory_bytes as f64, (200_u64 << 20) as f64, "memory");
        close(sample.write_bytes.unwrap() as f64, (64_u64 << 20) as f64, "bytes written");
        assert_eq!(sampler.groups(&[child.id()]).get(&child.id()), None, "it has ended");
        assert_eq!(sampler.pids(&[child.id()]), None);
    }
}
