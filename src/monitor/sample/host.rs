//! The host's own counters: processors, memory, disks, networks, pressure.

use super::{Error, Sampler, own, read, ticks};
use crate::monitor::counters::{HostSample, Pressure};
use crate::time::Span;
use procfs::{DiskStats, FromReadSI, KernelStats, net::InterfaceDeviceStatus};
use std::fs;

/// `/proc/diskstats` counts in these, whatever the disk's own sectors are.
const SECTOR_BYTES: u64 = 512;

impl Sampler {
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
        (sample.own_cpu, sample.own_peak_memory_bytes) = own::usage();
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
}

/// The `total` of a line of a pressure file: microseconds.
fn stalled(text: &str, line: &str) -> Option<Span> {
    let line = text.lines().find(|l| l.starts_with(line))?;
    line.rsplit_once("total=")?.1.trim().parse().ok().map(Span::from_us)
}
