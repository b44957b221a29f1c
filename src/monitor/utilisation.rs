//! How busy workers, cells and shards are: what they use over what they can take.

use super::core::Monitor;
use super::counters::HostRates;
use super::meter::Smoothing;
use crate::flow::{CellId, Heat, PerResource, Resource};
use crate::time::{Span, Time};

impl Monitor {
    /// How busy everything is.
    pub fn heat(&self, now: Time) -> Heat {
        let host = self.host_state(now);
        let cells: Vec<PerResource> = (0..self.cells.len()).map(|c| self.cell_heat(c, now)).collect();
        Heat {
            at: now,
            workers: (0..self.workers.len()).map(|w| self.worker_heat(w, now, &host, &cells)).collect(),
            cells,
            shards: (0..self.cells.len()).map(|c| self.shard_heat(c, now)).collect(),
            host: host.map(|h| h.map_or(0.0, |h| (h.used / h.capacity).clamp(0.0, 1.0))),
        }
    }

    /// `u_w[r]`: the share of what a worker may use that a new task would not get at once, because its own
    /// tasks use it or because the host has no more: `1 − min(capacity − own use, what the host has left) /
    /// capacity`. (Its own use alone would call an idle worker cool on a host that others keep busy; the
    /// host's alone would call all workers the same.) A worker that is declared near cells lives on their disks
    /// and network too: these are as busy for it as they are on the mean of its cells, if that is more.
    fn worker_heat(
        &self,
        worker: usize,
        now: Time,
        host: &[Option<HostResource>; 4],
        cells: &[PerResource],
    ) -> PerResource {
        let info = &self.settings.workers[worker];
        let own = self.workers[worker].meters.rates(now);
        let declared = info.capacity.amounts();
        [0, 1, 2, 3].map(|r| {
            let host = host[r].as_ref().filter(|_| info.on_host);
            let utilisation = match (declared[r].filter(|c| *c > 0.0), host) {
                (Some(capacity), Some(host)) => {
                    1.0 - (capacity - own[r]).min(host.left_of(capacity)) / capacity
                }
                (Some(capacity), None) => own[r] / capacity,
                (None, Some(host)) => host.used / host.capacity,
                (None, None) => 0.0,
            };
            let near = match Resource::ALL[r] {
                Resource::Io | Resource::Net => mean_of(&info.near, cells, r),
                Resource::Cpu | Resource::Memory => 0.0,
            };
            utilisation.max(near).clamp(0.0, 1.0)
        })
    }

    fn cell_heat(&self, cell: usize, now: Time) -> PerResource {
        share_of(&self.cells[cell].meters.rates(now), &self.cell_capacity(cell), 1.0)
    }

    /// A shard's share of its cell's capacity is the same for each: one in `shards`. So a single hot shard
    /// shows before its cell is hot as a whole.
    fn shard_heat(&self, cell: usize, now: Time) -> Vec<PerResource> {
        let capacity = self.cell_capacity(cell);
        let shards = &self.cells[cell].shards;
        let part = 1.0 / shards.len() as f64;
        shards.iter().map(|s| share_of(&s.meters.rates(now), &capacity, part)).collect()
    }

    /// What a cell can take: as declared; for processors and memory, where its tasks run, else as the host.
    pub(super) fn cell_capacity(&self, cell: usize) -> [Option<f64>; 4] {
        let mut capacity = self.settings.cells[cell].capacity.amounts();
        if let Some(rates) = &self.rates {
            capacity[0] = capacity[0].or(Some(rates.cpus));
            capacity[1] = capacity[1].or(Some(rates.memory_total_bytes));
        }
        capacity[2] = capacity[2].or(self.settings.host.io_bytes_per_s);
        capacity[3] = capacity[3].or(self.host_net_capacity());
        capacity
    }

    /// What a worker can take: as declared, else as the host.
    pub(super) fn worker_capacity(&self, worker: usize) -> [Option<f64>; 4] {
        let host = self.host_state(Time::ZERO);
        let declared = self.settings.workers[worker].capacity.amounts();
        [0, 1, 2, 3].map(|r| declared[r].or(host[r].as_ref().filter(|h| !h.is_share).map(|h| h.capacity)))
    }

    /// What the host uses, in the units of [`Monitor::host_state`].
    pub(super) fn host_used(&self, rates: &HostRates) -> PerResource {
        let io = if self.settings.host.io_bytes_per_s.is_some() {
            rates.disk_read_bytes_per_s + rates.disk_write_bytes_per_s
        } else {
            rates.disk_busy
        };
        let net = rates.net_receive_bytes_per_s + rates.net_send_bytes_per_s;
        [rates.cpus_busy, rates.memory_used_bytes, io, net]
    }

    /// Use and capacity of the host, where both are known. Disks without a declared capacity count by the
    /// share of time in which the busiest one has work.
    fn host_state(&self, now: Time) -> [Option<HostResource>; 4] {
        let used = self.host.rates(now);
        let Some(rates) = &self.rates else { return [None; 4] };
        let io = self.settings.host.io_bytes_per_s;
        let capacity =
            [Some(rates.cpus), Some(rates.memory_total_bytes), io.or(Some(1.0)), self.host_net_capacity()];
        [0, 1, 2, 3].map(|r| {
            let capacity = capacity[r].filter(|c| *c > 0.0)?;
            Some(HostResource { used: used[r], capacity, is_share: r == 2 && io.is_none() })
        })
    }

    fn host_net_capacity(&self) -> Option<f64> {
        let measured = self.sample.as_ref().and_then(|(_, s)| s.net_speed_bytes_per_s);
        self.settings.host.net_bytes_per_s.or(measured)
    }

    /// How far back the meters remember to any effect.
    pub(super) fn memory_of_the_meters(&self) -> Span {
        match self.settings.smoothing {
            Smoothing::HalfLife(span) => Span::from_us(span.as_us().saturating_mul(20)),
            Smoothing::Window(span) => span,
        }
    }
}

/// Use and capacity of the host in one resource.
#[derive(Clone, Copy, Debug)]
struct HostResource {
    used: f64,
    capacity: f64,
    /// Whether both are shares of time and say nothing about amounts.
    is_share: bool,
}

impl HostResource {
    /// How much of a worker's `capacity` the host could give.
    fn left_of(&self, capacity: f64) -> f64 {
        let left = (self.capacity - self.used).max(0.0);
        if self.is_share { left * capacity } else { left }
    }
}

/// Mean utilisation of one resource over some cells; 0 of none.
fn mean_of(near: &[CellId], cells: &[PerResource], resource: usize) -> f64 {
    let known: Vec<f64> = near.iter().filter_map(|c| Some(cells.get(usize::from(c.0))?[resource])).collect();
    if known.is_empty() { 0.0 } else { known.iter().sum::<f64>() / known.len() as f64 }
}

/// Rates over `part` of a capacity, in [0, 1]; 0 where it is not known.
fn share_of(rates: &PerResource, capacity: &[Option<f64>; 4], part: f64) -> PerResource {
    [0, 1, 2, 3].map(|r| {
        let capacity = capacity[r].map(|c| c * part).filter(|c| *c > 0.0);
        capacity.map_or(0.0, |c| (rates[r] / c).clamp(0.0, 1.0))
    })
}
