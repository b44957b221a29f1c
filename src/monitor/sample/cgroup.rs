//! Control groups (version 2), where they are delegated.

use super::{Error, Sampler};
use crate::monitor::counters::GroupSample;
use crate::time::Span;
use std::path::Path;
use std::{fs, io};

impl Sampler {
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

/// The number behind a name in a file of `name number` lines.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Whether a failed read of [`Sampler::cgroup`] only means that the group has ended.
pub fn is_gone(folder: &Path) -> bool {
    matches!(fs::metadata(folder), Err(e) if e.kind() == io::ErrorKind::NotFound)
}
