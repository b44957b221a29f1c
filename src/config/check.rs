//! What no key can tell alone: how the parts of a configuration fit together.

use super::daemon::SOCKET_PATH_LIMIT_BYTES;
use super::reader::{Key, Notes};
use super::source::SourceKind;
use super::task_type::is_program;
use super::{Config, Severity};
use std::collections::BTreeMap;
use std::path::Path;

/// Notes what does not fit. Pure: the host is asked in `host`.
pub(super) fn check(config: &Config, notes: &Notes) {
    check_socket(config, notes);
    check_folders(config, notes);
    check_workers(config, notes);
    check_types(config, notes);
    check_credentials(config, notes);
    let (interval, finest) = (config.monitor.interval, config.monitor.resolutions[0].step);
    if interval > finest {
        let label = format!("the finest series keeps a point every {finest}; most of them would be empty");
        notes.about(
            Severity::Warning,
            &daemon_key("monitor", "interval"),
            "is longer than the finest step",
            label,
        );
    }
}

fn daemon_key(section: &str, key: &str) -> Key {
    Key::section(section).join(key)
}

fn check_socket(config: &Config, notes: &Notes) {
    let length = config.daemon.socket.as_os_str().len();
    if length > SOCKET_PATH_LIMIT_BYTES {
        // One from the file was refused before: this is the default, under a folder with a long name.
        let what = format!("is {length} bytes long: {}", config.daemon.socket.display());
        let label = format!("accepted: up to {SOCKET_PATH_LIMIT_BYTES} bytes; set it to a shorter path");
        notes.about(Severity::Error, &daemon_key("daemon", "socket"), &what, label);
    }
    if config.daemon.socket_mode & 0o007 != 0 {
        let label = "every user of this host reaches the socket; 0660 lets in the group";
        notes.about(Severity::Warning, &daemon_key("daemon", "socket_mode"), "is open to all", label);
    }
}

/// A folder that the daemon fills and clears by its own rules.
struct Folder<'a> {
    key: Key,
    path: &'a Path,
    /// Whether another of these may lie inside it: the state folder has its own names and leaves others alone.
    roomy: bool,
}

fn check_folders(config: &Config, notes: &Notes) {
    let mut own = vec![
        Folder { key: daemon_key("daemon", "state_dir"), path: &config.daemon.state_dir, roomy: true },
        Folder { key: daemon_key("daemon", "work_dir"), path: &config.daemon.work_dir, roomy: false },
    ];
    for cache in &config.caches {
        own.push(Folder {
            key: Key::named("cache", &cache.name).join("dir"),
            path: &cache.dir,
            roomy: false,
        });
    }
    // Sorted, every folder comes right after those that it lies in: one pass with the enclosing ones on a
    // stack finds all pairs, whatever their number.
    own.sort_by(|a, b| a.path.components().cmp(b.path.components()));
    let mut around: Vec<&Folder<'_>> = Vec::new();
    for folder in &own {
        around.retain(|outer| folder.path.starts_with(outer.path));
        for outer in &around {
            if folder.path == outer.path {
                let what = format!("is the folder of {} too", outer.key.subject());
                notes.about(Severity::Error, &folder.key, &what, "accepted: a folder of its own");
            } else if !outer.roomy {
                let what = format!("lies inside {}", outer.key.subject());
                let label = format!("accepted: a folder outside {}", outer.path.display());
                notes.about(Severity::Error, &folder.key, &what, label);
            }
        }
        around.push(folder);
    }
    for source in &config.sources {
        let SourceKind::File { path } = &source.kind else { continue };
        let key = Key::named("source", &source.name).join("path");
        for folder in own.iter().filter(|f| path.starts_with(f.path)) {
            let what = format!("lies inside {}", folder.key.subject());
            let label =
                format!("accepted: a folder outside {}, which the daemon clears", folder.path.display());
            notes.about(Severity::Error, &key, &what, label);
        }
    }
}

fn check_workers(config: &Config, notes: &Notes) {
    for worker in &config.workers {
        let key = Key::named("worker", &worker.name);
        for id in worker.types.iter().flatten() {
            let task_type = &config.types[usize::from(id.0)];
            if task_type.argv.is_empty() {
                let what = format!("names type `{}`, which has no argv", task_type.name);
                let label = "accepted: types with a command; only outside workers run the others";
                notes.about(Severity::Error, &key.join("types"), &what, label);
            }
        }
        if worker.argv_prefix.first().is_some_and(|program| !is_program(program)) {
            let label = "accepted: an absolute path, or a name that is looked up in the folders of PATH";
            notes.about(Severity::Error, &key.join("argv_prefix"), "does not begin with a program", label);
        }
    }
}

fn check_types(config: &Config, notes: &Notes) {
    let mut taken = vec![config.workers.iter().any(|w| w.types.is_none()); config.types.len()];
    for id in config.workers.iter().flat_map(|w| w.types.iter().flatten()) {
        taken[usize::from(id.0)] = true;
    }
    for (task_type, _) in config.types.iter().zip(taken).filter(|(t, taken)| !taken && !t.argv.is_empty()) {
        let key = Key::named("type", &task_type.name);
        let label = "its tasks wait until an outside worker takes them";
        notes.about(Severity::Warning, &key, "is taken by no worker", label);
    }
}

/// Credentials are found by the source's name, and in the environment `-` becomes `_`.
fn check_credentials(config: &Config, notes: &Notes) {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for source in config.sources.iter().filter(|s| !matches!(s.kind, SourceKind::File { .. })) {
        let variable = source.name.to_ascii_uppercase().replace('-', "_");
        if let Some(other) = seen.insert(variable, &source.name) {
            let what =
                format!("shares the names of its credentials in the environment with source `{other}`");
            let label = "rename one of them, or give both their credentials as files";
            notes.about(Severity::Warning, &Key::named("source", &source.name), &what, label);
        }
    }
}
