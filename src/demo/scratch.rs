//! A folder that is gone when its owner is.

use anyhow::Context;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a removal is tried, and the pause between two attempts.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// A folder of this process alone; removed with all that is in it when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes `forestage-NAME-PID` in the system's folder for temporary files.
    ///
    /// # Errors
    /// When it cannot be made, or is there already.
    pub fn new(name: &str) -> anyhow::Result<Scratch> {
        Scratch::within(&std::env::temp_dir(), name)
    }

    /// Makes it in another folder.
    ///
    /// # Errors
    /// As [`Scratch::new`].
    pub fn within(dir: &Path, name: &str) -> anyhow::Result<Scratch> {
        let path = dir.join(format!("forestage-{name}-{}", std::process::id()));
        let path = std::path::absolute(&path)?;
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("make the temporary folder {}", path.display()))?;
        Ok(Scratch { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder in it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.path.join(name);
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for _ in 0..ATTEMPTS {
            match fs::remove_dir_all(&self.path) {
                Ok(()) => return,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return,
                // Read-only folders (`in/`) of tasks that were interrupted stop a removal that is not root's; and
                // tasks that are being ended may still write.
                Err(_) => make_writable(&self.path),
            }
            std::thread::sleep(PAUSE);
        }
        tracing::warn!(path = %self.path.display(), "a temporary folder stays behind");
    }
}

fn make_writable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            make_writable(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn leaves_nothing_behind() {
        let scratch = Scratch::new("scratch-test").unwrap();
        let path = scratch.path().to_owned();
        let sealed = scratch.folder("in").unwrap();
        fs::write(sealed.join("a"), "a").unwrap();
        fs::set_permissions(&sealed, fs::Permissions::from_mode(0o555)).unwrap();
        assert!(Scratch::new("scratch-test").is_err(), "two at once would share it");
        drop(scratch);
        assert!(!path.exists());
    }
}
