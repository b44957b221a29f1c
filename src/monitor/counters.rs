//! What a sample is: counters as the kernel keeps them, and the rates between two of them.
//!
//! Plain values. [`super::sample`] reads them, [`super::core`] draws conclusions.

use crate::flow::PerResource;
use crate::time::{Span, Time};
use serde::{Deserialize, Serialize};

/// Pressure stall totals since boot (`/proc/pressure`): how long somebody was held up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// At least one process waited for a processor.
    pub cpu_some: Span,
    /// At least one process waited for memory.
    pub memory_some: Span,
    /// All processes waited for memory.
    pub memory_full: Span,
    /// At least one process waited for a disk.
    pub io_some: Span,
    /// All processes waited for disks.
    pub io_full: Span,
}

/// The host's counters at one moment. What counts since boot is compared with an earlier sample.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostSample {
    /// Processors online.
    pub cpus: u32,
    /// Busy time of all processors together, since boot; waiting for I/O is idle.
    pub cpu_busy: Span,
    /// Idle time of all processors together, since boot.
    pub cpu_idle: Span,
    /// Memory of the host.
    pub memory_total_bytes: u64,
    /// What could be had without swapping.
    pub memory_available_bytes: u64,
    /// Bytes read from physical disks since boot.
    pub disk_read_bytes: u64,
    /// Bytes written to physical disks since boot.
    pub disk_write_bytes: u64,
    /// How long each physical disk had work since boot, by name. The busiest one is what a task waits for.
    pub disk_busy: Vec<(String, Span)>,
    /// Bytes received by network interfaces since boot, without loopback.
    pub net_receive_bytes: u64,
    /// Bytes sent by them.
    pub net_send_bytes: u64,
    /// Their speed together, if they tell.
    pub net_speed_bytes_per_s: Option<f64>,
    /// Stall totals, where the kernel keeps them.
    pub pressure: Option<Pressure>,
    /// Processor time of this process since its start.
    pub own_cpu: Span,
    /// Largest resident set of this process so far.
    pub own_peak_memory_bytes: u64,
}

/// What one attempt's processes have used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSample {
    /// User and system time, children that have ended included.
    pub cpu: Span,
    /// Resident memory now, without page cache.
    pub memory_bytes: u64,
    /// The largest it is known to have been, without page cache. Not below `memory_bytes`.
    pub peak_memory_bytes: u64,
    /// Bytes read from disks; none where the kernel does not let us see.
    pub read_bytes: Option<u64>,
    /// Bytes written to disks.
    pub write_bytes: Option<u64>,
    /// Processes alive.
    pub processes: u32,
}

/// What happened on the host between two samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostRates {
    /// How much time lies between them.
    pub over: Span,
    /// Busy processors, 0 to `cpus`.
    pub cpus_busy: f64,
    /// Processors online.
    pub cpus: f64,
    /// Memory that is not available.
    pub memory_used_bytes: f64,
    /// Memory of the host.
    pub memory_total_bytes: f64,
    /// Bytes read from disks.
    pub disk_read_bytes_per_s: f64,
    /// Bytes written to disks.
    pub disk_write_bytes_per_s: f64,
    /// Share of the time in which the busiest disk had work, in [0, 1].
    pub disk_busy: f64,
    /// Bytes received.
    pub net_receive_bytes_per_s: f64,
    /// Bytes sent.
    pub net_send_bytes_per_s: f64,
    /// Share of the time in which somebody waited (`some`), in the order of the four resources; net has no
    /// such counter and is 0. None where the kernel keeps none.
    pub pressure: Option<PerResource>,
    /// Processor time of this process, in processors.
    pub own_cpus: f64,
}

impl HostRates {
    /// The rates between `old` and `new`; none if no time lies between them. A counter that went backwards (a
    /// device was replaced, the machine resumed) counts from zero, not from an absurd difference.
    pub fn between(old: &(Time, HostSample), new: &(Time, HostSample)) -> Option<HostRates> {
        let over = new.0.since(old.0);
        let seconds = over.as_s();
        if over == Span::ZERO {
            return None;
        }
        let (a, b) = (&old.1, &new.1);
        let rate = |a: u64, b: u64| delta(a, b) as f64 / seconds;
        let time = |a: Span, b: Span| delta(a.as_us(), b.as_us()) as f64;
        let share = |a: Span, b: Span| (time(a, b) / over.as_us() as f64).min(1.0);
        let (busy, idle) = (time(a.cpu_busy, b.cpu_busy), time(a.cpu_idle, b.cpu_idle));
        let cpus = f64::from(b.cpus);
        let disks = b.disk_busy.iter().filter_map(|(name, after)| {
            let before = a.disk_busy.iter().find(|(n, _)| n == name)?.1;
            Some(share(before, *after))
        });
        Some(HostRates {
            over,
            // By the kernel's own ticks: our clock and its ticks do not begin at the same moment.
            cpus_busy: if busy + idle > 0.0 { cpus * busy / (busy + idle) } else { 0.0 },
            cpus,
            memory_used_bytes: b.memory_total_bytes.saturating_sub(b.memory_available_bytes) as f64,
            memory_total_bytes: b.memory_total_bytes as f64,
            disk_read_bytes_per_s: rate(a.disk_read_bytes, b.disk_read_bytes),
            disk_write_bytes_per_s: rate(a.disk_write_bytes, b.disk_write_bytes),
            disk_busy: disks.fold(0.0, f64::max),
            net_receive_bytes_per_s: rate(a.net_receive_bytes, b.net_receive_bytes),
            net_send_bytes_per_s: rate(a.net_send_bytes, b.net_send_bytes),
            pressure: a.pressure.zip(b.pressure).map(|(p, q)| {
                [
                    share(p.cpu_some, q.cpu_some),
                    share(p.memory_some, q.memory_some),
                    share(p.io_some, q.io_some),
                    0.0,
                ]
            }),
            own_cpus: time(a.own_cpu, b.own_cpu) / over.as_us() as f64,
        })
    }
}

/// What a counter gained. One that went backwards was reset: its new value is the gain.
pub(super) fn delta(old: u64, new: u64) -> u64 {
    if new >= old { new - old } else { new }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_s: f64, change: impl FnOnce(&mut HostSample)) -> (Time, HostSample) {
        let mut sample = HostSample { cpus: 4, memory_total_bytes: 1_000, ..HostSample::default() };
        change(&mut sample);
        (Time::from_s(at_s), sample)
    }

    #[test]
    fn rates_are_differences_over_time() {
        let old = sample(10.0, |s| {
            s.cpu_busy = Span::from_secs(100);
            s.cpu_idle = Span::from_secs(300);
            s.disk_busy = vec![("sda".into(), Span::from_secs(5)), ("sdb".into(), Span::from_secs(50))];
            s.pressure = Some(Pressure::default());
        });
        let new = sample(12.0, |s| {
            s.cpu_busy = Span::from_secs(102);
            s.cpu_idle = Span::from_secs(306);
            s.memory_available_bytes = 250;
            s.disk_read_bytes = 4_096;
            s.net_send_bytes = 10;
            s.disk_busy = vec![("sda".into(), Span::from_secs(6)), ("sdb".into(), Span::from_secs(50))];
            s.pressure = Some(Pressure { io_some: Span::from_ms(500), ..Pressure::default() });
            s.own_cpu = Span::from_ms(20);
        });
        let rates = HostRates::between(&old, &new).unwrap();
        assert_eq!(rates.cpus_busy, 1.0);
        assert_eq!(rates.memory_used_bytes, 750.0);
        assert_eq!(rates.disk_read_bytes_per_s, 2_048.0);
        assert_eq!(rates.net_send_bytes_per_s, 5.0);
        assert_eq!(rates.disk_busy, 0.5);
        assert_eq!(rates.pressure, Some([0.0, 0.0, 0.25, 0.0]));
        assert!((rates.own_cpus - 0.01).abs() < 1e-12);
    }

    #[test]
    fn a_counter_that_was_reset_counts_from_zero() {
        let old = sample(0.0, |s| s.disk_read_bytes = 1 << 40);
        let new = sample(1.0, |s| s.disk_read_bytes = 512);
        assert_eq!(HostRates::between(&old, &new).unwrap().disk_read_bytes_per_s, 512.0);
    }

    #[test]
    fn no_time_no_rates() {
        assert_eq!(HostRates::between(&sample(1.0, |_| ()), &sample(1.0, |_| ())), None);
    }

    #[test]
    fn a_disk_that_was_just_plugged_in_is_not_busy() {
        let old = sample(0.0, |_| ());
        let new = sample(1.0, |s| s.disk_busy = vec![("sda".into(), Span::from_secs(9))]);
        assert_eq!(HostRates::between(&old, &new).unwrap().disk_busy, 0.0);
    }
}
