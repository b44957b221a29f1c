//! Processor quotas for the slots of the measurement: control groups where the machine lets us make them.

use std::path::{Path, PathBuf};

/// Period of the quotas, microseconds: short against a task, so that its time is smooth.
const PERIOD_US: u32 = 10_000;
/// Where the controller may be mounted: version 1 alone, version 1 beside others, version 2.
const ROOTS: [(&str, bool); 3] =
    [("/sys/fs/cgroup/cpu", false), ("/sys/fs/cgroup/cpu,cpuacct", false), ("/sys/fs/cgroup", true)];

/// The quotas that can be had.
#[derive(Debug)]
pub struct Quotas {
    /// Folder of our groups; `None` if there is no controller, and the children pace themselves.
    root: Option<PathBuf>,
    made: Vec<PathBuf>,
}

impl Quotas {
    /// Makes a group for each share of a processor that the workers' slots use, `slots` for each worker.
    pub fn new(slots: usize) -> Quotas {
        for (root, v2) in ROOTS {
            let root = Path::new(root).join(format!("forestage-bench-{}", std::process::id()));
            if v2 && !Path::new(ROOTS[2].0).join("cgroup.controllers").exists() {
                continue;
            }
            let mut quotas = Quotas { root: Some(root.clone()), made: vec![] };
            if quotas.make(&root, v2, slots).is_ok() {
                return quotas;
            }
        }
        Quotas::paced()
    }

    /// None: the children pace themselves.
    pub fn paced() -> Quotas {
        Quotas { root: None, made: vec![] }
    }

    fn make(&mut self, root: &Path, v2: bool, slots: usize) -> std::io::Result<()> {
        std::fs::create_dir(root)?;
        self.made.push(root.to_owned());
        if v2 {
            std::fs::write(root.join("cgroup.subtree_control"), "+cpu")?;
        }
        for worker in super::slot::WORKERS {
            for slot in 0..slots {
                let group = root.join(format!("{}-{slot}", worker.name));
                std::fs::create_dir(&group)?;
                self.made.push(group.clone());
                let quota_us = (worker.cpu * f64::from(PERIOD_US)) as u32;
                if v2 {
                    std::fs::write(group.join("cpu.max"), format!("{quota_us} {PERIOD_US}"))?;
                } else {
                    std::fs::write(group.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
                    std::fs::write(group.join("cpu.cfs_quota_us"), quota_us.to_string())?;
                }
            }
        }
        Ok(())
    }

    /// Folder and name of a worker's groups, without the slot's number.
    pub fn of(&self, worker: &str) -> Option<String> {
        Some(self.root.as_ref()?.join(worker).to_string_lossy().into_owned())
    }

    /// What the figures say of it.
    pub fn how(&self) -> &'static str {
        if self.root.is_some() { "cgroup" } else { "paced" }
    }
}

impl Drop for Quotas {
    fn drop(&mut self) {
        // Groups are empty once their children are reaped; the inner ones first.
        for group in self.made.iter().rev() {
            _ = std::fs::remove_dir(group);
        }
    }
}
