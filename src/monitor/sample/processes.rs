//! Running attempts by their process groups, through procfs.

use super::{Sampler, read, ticks};
use crate::monitor::counters::GroupSample;
use procfs::process::{Io, Stat, StatM};
use std::collections::BTreeMap;
use std::fs;

impl Sampler {
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
