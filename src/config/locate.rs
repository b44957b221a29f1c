//! Which file is read, and what holds where it says nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The file of a host-wide installation.
pub const SYSTEM_FILE: &str = "/etc/forestage/forestage.toml";

/// Where the configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Located {
    /// A file, and who named it.
    File {
        /// Which file.
        path: PathBuf,
        /// Who named it.
        by: NamedBy,
    },
    /// No file: the built-in defaults.
    Defaults,
}

/// Who named the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// `--config`.
    CommandLine,
    /// `$FORESTAGE_CONFIG`.
    Environment,
    /// Nobody: [`SYSTEM_FILE`] is there.
    System,
}

/// `--config`, else `$FORESTAGE_CONFIG`, else [`SYSTEM_FILE`] if it is there, else the built-in defaults. A
/// file that was named is taken whether it is there or not: to fall back in silence would start a daemon on
/// another state folder.
pub fn locate(cli: Option<PathBuf>, env: impl Fn(&str) -> Option<OsString>) -> Located {
    locate_with(cli, env, Path::new(SYSTEM_FILE))
}

fn locate_with(cli: Option<PathBuf>, env: impl Fn(&str) -> Option<OsString>, system: &Path) -> Located {
    if let Some(path) = cli {
        return Located::File { path, by: NamedBy::CommandLine };
    }
    if let Some(path) = variable(&env, "FORESTAGE_CONFIG") {
        return Located::File { path, by: NamedBy::Environment };
    }
    // What cannot be looked at counts as there: reading it then says why.
    if system.try_exists().unwrap_or(true) {
        return Located::File { path: system.to_owned(), by: NamedBy::System };
    }
    Located::Defaults
}

fn variable(env: impl Fn(&str) -> Option<OsString>, name: &str) -> Option<PathBuf> {
    env(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// What the defaults depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// Default of `daemon.state_dir`.
    pub state_dir: PathBuf,
    /// Holds the default work folder and the default pool.
    pub cache_dir: PathBuf,
    /// `$XDG_RUNTIME_DIR`; `None` puts the socket into the state folder.
    pub runtime_dir: Option<PathBuf>,
    /// Processors that this process may use, at least 1.
    pub cores: u32,
}

impl Surroundings {
    /// By the XDG base directory specification. Without `$HOME` the folders of a system service are taken,
    /// `/var/lib/forestage` and `/var/cache/forestage`. Relative paths in the variables count as unset, as
    /// the specification wants.
    pub fn from_env(env: impl Fn(&str) -> Option<OsString>, cores: u32) -> Surroundings {
        let folder = |name| variable(&env, name).filter(|p| p.is_absolute());
        let home = |below: &str| folder("HOME").map(|h| h.join(below));
        let under = |name, below: &str| folder(name).or_else(|| home(below)).map(|d| d.join("forestage"));
        Surroundings {
            state_dir: under("XDG_STATE_HOME", ".local/state").unwrap_or_else(|| "/var/lib/forestage".into()),
            cache_dir: under("XDG_CACHE_HOME", ".cache").unwrap_or_else(|| "/var/cache/forestage".into()),
            runtime_dir: folder("XDG_RUNTIME_DIR"),
            cores: cores.max(1),
        }
    }

    /// Of this process.
    pub fn here() -> Surroundings {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Surroundings::from_env(|name| std::env::var_os(name), u32::try_from(cores).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v))
    }

    #[test]
    fn the_search_goes_from_the_command_line_to_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let system = dir.path().join("forestage.toml");
        let set = [("FORESTAGE_CONFIG", "/b.toml")];
        let file = |path: &str, by| Located::File { path: path.into(), by };
        let find = |cli: Option<&str>, set| locate_with(cli.map(PathBuf::from), env(set), &system);
        assert_eq!(find(Some("/a.toml"), &set), file("/a.toml", NamedBy::CommandLine));
        assert_eq!(find(None, &set), file("/b.toml", NamedBy::Environment));
        assert_eq!(find(None, &[("FORESTAGE_CONFIG", "")]), Located::Defaults);
        std::fs::write(&system, "").unwrap();
        assert_eq!(find(None, &[]), file(system.to_str().unwrap(), NamedBy::System));
    }

    #[test]
    fn folders_follow_xdg() {
        let s = Surroundings::from_env(env(&[("HOME", "/home/u"), ("XDG_RUNTIME_DIR", "/run/user/7")]), 0);
        assert_eq!(s.state_dir, Path::new("/home/u/.local/state/forestage"));
        assert_eq!(s.cache_dir, Path::new("/home/u/.cache/forestage"));
        assert_eq!(s.runtime_dir.as_deref(), Some(Path::new("/run/user/7")));
        assert_eq!(s.cores, 1);
        let s = Surroundings::from_env(
            env(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s"), ("XDG_CACHE_HOME", "rel")]),
            2,
        );
        assert_eq!((s.state_dir, s.cache_dir), ("/s/forestage".into(), "/h/.cache/forestage".into()));
        let s = Surroundings::from_env(env(&[]), 2);
        assert_eq!((s.state_dir, s.runtime_dir), ("/var/lib/forestage".into(), None));
    }
}
