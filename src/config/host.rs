//! What must be asked of the host: are file systems large enough, are folders and programs there?

use super::reader::Key;
use super::source::SourceKind;
use super::unit::{show_about, show_bytes};
use super::{Config, Error, Problem, Report, Severity};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Checks a configuration against this host. What may come right later (a NAS that is not mounted yet, a
/// program that is installed tomorrow) is a warning; a pool that can never be filled is an error.
///
/// # Errors
/// [`Error::Invalid`] with all that is wrong, the warnings among it.
pub fn check_host(config: &Config) -> Result<Report, Error> {
    let mut found = Found { config, problems: Vec::new() };
    found.pools();
    found.mounts();
    found.sources();
    found.workers();
    found.programs();
    found.group();
    let origin = &config.origin;
    let report = Report::new(origin.path.clone(), origin.text.clone(), found.problems, &origin.secrets);
    if report.has_errors() { Err(Error::Invalid(report)) } else { Ok(report) }
}

/// Where programs without a `/` are looked up for children that get no `PATH`: their environment is built
/// from nothing.
pub const CHILD_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

struct Found<'c> {
    config: &'c Config,
    problems: Vec<Problem>,
}

impl Found<'_> {
    fn note(&mut self, severity: Severity, key: &Key, what: &str, label: impl Into<String>) {
        let span = self.config.origin.spans.get(key.path()).cloned();
        let (title, label) = (format!("{} {what}", key.subject()), label.into());
        let (key, found) = (key.path().to_owned(), String::new());
        self.problems.push(Problem { severity, key, title, found, label, help: None, line: None, span });
    }

    fn pools(&mut self) {
        let mut by_system: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let config = self.config;
        for cache in &config.caches {
            let key = Key::named("cache", &cache.name);
            let there = nearest_folder(&cache.dir);
            let Ok(system) = rustix::fs::statvfs(&there) else { continue };
            let total = system.f_blocks.saturating_mul(system.f_frsize);
            let (dir, free) = (cache.dir.display(), show_bytes(cache.min_free_bytes));
            let limit = total.saturating_sub(cache.min_free_bytes);
            if limit < 1 << 20 {
                let label = format!("{dir} is {}; accepted: less than that", show_about(total));
                self.note(Severity::Error, &key.join("min_free"), "leaves no room on its file system", label);
            } else if cache.capacity_bytes > limit {
                // A capacity that nobody wrote is only the most that is taken: `min_free` holds in any case.
                let written = config.origin.spans.contains_key(key.join("capacity").path());
                let severity = if written { Severity::Error } else { Severity::Warning };
                let range = format!("accepted: 1 MiB to {} (min_free = {free})", show_about(limit));
                let label = format!("{dir} is {}; {range}", show_about(total));
                let key = if written { key.join("capacity") } else { key };
                let what = "is larger than its file system";
                let what =
                    if written { what.to_owned() } else { format!("with the default capacity {what}") };
                self.note(severity, &key, &what, label);
            } else if let Ok(stat) = rustix::fs::stat(&there) {
                let sum = by_system.entry(stat.st_dev).or_insert((0, total));
                let before = sum.0;
                sum.0 = before.saturating_add(cache.capacity_bytes);
                if before > 0 && sum.0 > limit {
                    let label = format!(
                        "its file system is {}, the pools on it {}",
                        show_about(total),
                        show_about(sum.0)
                    );
                    let what = "does not fit beside the pools on the same file system";
                    self.note(Severity::Warning, &key.join("capacity"), what, label);
                }
            }
        }
        self.same_folders();
    }

    /// Two names of one folder: links and bind mounts, which no comparison of texts finds.
    fn same_folders(&mut self) {
        let config = self.config;
        let mut seen: BTreeMap<(u64, u64), String> = BTreeMap::new();
        let pools = config.caches.iter().map(|c| (Key::named("cache", &c.name).join("dir"), &c.dir));
        let work = (Key::section("daemon").join("work_dir"), &config.daemon.work_dir);
        for (key, dir) in std::iter::once(work).chain(pools) {
            let Ok(stat) = rustix::fs::stat(dir) else { continue };
            if let Some(other) = seen.insert((stat.st_dev, stat.st_ino), key.subject()) {
                let label = "accepted: a folder of its own";
                self.note(
                    Severity::Error,
                    &key,
                    &format!("is the folder of {other} under another name"),
                    label,
                );
            }
        }
    }

    /// Hard links do not cross mounts, even two mounts of one file system.
    fn mounts(&mut self) {
        let Some(work) = mount_of(&self.config.daemon.work_dir) else { return };
        for cache in &self.config.caches {
            if mount_of(&cache.dir).is_some_and(|mount| mount != work) {
                let key = Key::named("cache", &cache.name).join("dir");
                let label =
                    format!("{} is on another: inputs are copied", self.config.daemon.work_dir.display());
                self.note(Severity::Warning, &key, "is not on the mount of the work folders", label);
            }
        }
    }

    fn sources(&mut self) {
        for source in &self.config.sources {
            let SourceKind::File { path } = &source.kind else { continue };
            if !path.is_dir() {
                let key = Key::named("source", &source.name).join("path");
                let label = "its objects are missing until it is there";
                self.note(Severity::Warning, &key, "is no folder on this host", label);
            }
        }
    }

    fn workers(&mut self) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let info = rustix::system::sysinfo();
        let memory = u64::from(info.mem_unit).saturating_mul(info.totalram as u64);
        for worker in &self.config.workers {
            let key = Key::named("worker", &worker.name);
            if worker.cpus.is_some_and(|cpus| cpus > cores) {
                let label = format!("this host has {cores}");
                self.note(Severity::Warning, &key.join("cpus"), "is more than there are", label);
            }
            if worker.memory_max_bytes.is_some_and(|bytes| bytes > memory) {
                let label = format!("this host has {}", show_about(memory));
                self.note(Severity::Warning, &key.join("memory_max"), "is more than there is", label);
            }
        }
    }

    fn programs(&mut self) {
        let config = self.config;
        for task_type in &config.types {
            let Some(program) = task_type.argv.first() else { continue };
            let path = match task_type.env.get("PATH") {
                None => CHILD_PATH,
                Some(path) if path.fields().next().is_none() => path.source(),
                // It depends on the submit.
                Some(_) => continue,
            };
            self.program(&Key::named("type", &task_type.name).join("argv"), program.source(), path);
        }
        for worker in &config.workers {
            if let Some(program) = worker.argv_prefix.first() {
                self.program(&Key::named("worker", &worker.name).join("argv_prefix"), program, CHILD_PATH);
            }
        }
    }

    fn program(&mut self, key: &Key, program: &str, path: &str) {
        if is_there(program, path) {
            return;
        }
        let label = match program.starts_with('/') {
            true => "its tasks fail until it is there and executable".to_owned(),
            false => format!("looked up in {path}"),
        };
        let program = super::error::one_line(program);
        self.note(Severity::Warning, key, &format!("begins with `{program}`, which this host lacks"), label);
    }

    /// Groups may come from a directory service too, so one that the file lacks is only worth a warning.
    fn group(&mut self) {
        let Some(group) = &self.config.daemon.socket_group else { return };
        let Ok(groups) = std::fs::read_to_string("/etc/group") else { return };
        if !groups.lines().any(|line| line.split(':').next() == Some(group)) && group.parse::<u32>().is_err()
        {
            let label = "/etc/group has no such group; the daemon does not start without it";
            self.note(
                Severity::Warning,
                &Key::section("daemon").join("socket_group"),
                "may be unknown",
                label,
            );
        }
    }
}

/// The folder itself, or the nearest one above it that is there: the file system it will be made on.
fn nearest_folder(path: &Path) -> PathBuf {
    path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn mount_of(path: &Path) -> Option<u64> {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let stat = statx(CWD, nearest_folder(path), AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id)
}

fn is_there(program: &str, path: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let runs = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    match program.starts_with('/') {
        true => runs(Path::new(program)),
        false => path.split(':').any(|dir| runs(&Path::new(dir).join(program))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Surroundings;
    use super::*;

    fn check(dir: &Path, text: &str) -> Result<Report, Error> {
        let around = Surroundings {
            state_dir: dir.join("state"),
            cache_dir: dir.join("cache"),
            runtime_dir: None,
            cores: 1,
        };
        let text = text.replace("DIR", dir.to_str().unwrap());
        check_host(
            &Config::parse(&text, Some(Path::new("test.toml")), &around).unwrap_or_else(|e| panic!("{e}")),
        )
    }

    #[test]
    fn a_pool_must_fit_on_its_file_system() {
        let dir = tempfile::tempdir().unwrap();
        let error =
            check(dir.path(), "[cache.ssd]\ndir = \"DIR/a/b\"\ncapacity = \"1PiB\"\nmin_free = \"1MiB\"\n");
        let error = error.unwrap_err().to_string();
        assert!(error.contains("error: capacity of cache `ssd` is larger than its file system"), "{error}");
        assert!(error.contains("--> test.toml:3:12"), "{error}");
        assert!(error.contains("; accepted: 1 MiB to ") && error.contains("(min_free = 1 MiB)"), "{error}");
        let error =
            check(dir.path(), "[cache.ssd]\ndir = \"DIR/a\"\ncapacity = \"1MiB\"\nmin_free = \"1PiB\"\n");
        assert!(error.unwrap_err().to_string().contains("min_free of cache `ssd` leaves no room"));
        assert!(
            check(dir.path(), "[cache.ssd]\ndir = \"DIR/a\"\ncapacity = \"1MiB\"\nmin_free = 0\n").is_ok()
        );
    }

    #[test]
    fn pools_on_one_file_system_are_added_up() {
        let dir = tempfile::tempdir().unwrap();
        let system = rustix::fs::statvfs(dir.path()).unwrap();
        let most = system.f_blocks * system.f_frsize * 2 / 3;
        let pool =
            |name: &str| format!("[cache.{name}]\ndir = \"DIR/{name}\"\ncapacity = {most}\nmin_free = 0\n");
        let report = check(dir.path(), &format!("{}{}", pool("a"), pool("b"))).unwrap();
        assert!(report.to_string().contains("capacity of cache `b` does not fit beside"), "{report}");
        assert_eq!(report.problems().len(), 1);
    }

    #[test]
    fn a_folder_is_recognised_under_another_name() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        let small = "capacity = \"1MiB\"\nmin_free = 0\n";
        let text = format!("[cache.a]\ndir = \"DIR/real\"\n{small}[cache.b]\ndir = \"DIR/link\"\n{small}");
        let error = check(dir.path(), &text).unwrap_err().to_string();
        assert!(
            error.contains("dir of cache `b` is the folder of dir of cache `a` under another name"),
            "{error}"
        );
    }

    #[test]
    fn what_may_come_right_later_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        for (text, part) in [
            (
                "[source.v]\nkind = \"file\"\npath = \"DIR/none\"\n",
                "path of source `v` is no folder on this host",
            ),
            ("[type.t]\nargv = [\"no-such-program\"]\n", "which this host lacks"),
            ("[type.t]\nargv = [\"/no/such/program\"]\n", "fail until it is there"),
            ("[type.t]\nargv = [\"sh\"]\nenv = { PATH = \"/no/where\" }\n", "looked up in /no/where"),
            ("[worker.w]\ncpus = 4096\n", "cpus of worker `w` is more than there are"),
            ("[worker.w]\nmemory_max = \"1PiB\"\n", "memory_max of worker `w` is more than there is"),
            ("[worker.w]\nargv_prefix = [\"no-such-program\"]\n", "argv_prefix of worker `w` begins with"),
            ("[daemon]\nsocket_group = \"no-such-group\"\n", "`daemon.socket_group` may be unknown"),
        ] {
            let report = check(
                dir.path(),
                &format!("{text}[cache.a]\ndir = \"DIR/a\"\ncapacity = \"1MiB\"\nmin_free = 0\n"),
            );
            let report = report.unwrap();
            assert!(report.to_string().contains(part), "{part}: {report}");
            assert_eq!(report.problems().len(), 1, "{report}");
        }
        let fine =
            "[type.t]\nargv = [\"sh\"]\n[cache.a]\ndir = \"DIR/a\"\ncapacity = \"1MiB\"\nmin_free = 0\n";
        assert!(check(dir.path(), fine).unwrap().is_empty());
    }

    #[test]
    fn another_mount_than_that_of_the_work_folders_is_a_warning() {
        let (dir, shm) = (tempfile::tempdir().unwrap(), Path::new("/dev/shm"));
        if mount_of(shm) == mount_of(dir.path()) || !shm.is_dir() {
            return;
        }
        let text = "[cache.a]\ndir = \"/dev/shm/forestage-none\"\ncapacity = \"1MiB\"\nmin_free = 0\n";
        let report = check(dir.path(), text).unwrap().to_string();
        assert!(report.contains("dir of cache `a` is not on the mount of the work folders"), "{report}");
    }
}
