//! A name of one's own, with a folder by that name.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Context as _;

use crate::leftovers::start_time;

/// How all names begin: what the sweeper looks for.
pub(crate) const PREFIX: &str = "clawd-test";
/// Where the folders are: not below `/tmp`, of which every sandbox has one of its own.
pub(crate) const FOLDERS: &str = "/var/tmp";

/// A folder that is removed when this is dropped; its name tells which process made it.
#[derive(Debug)]
pub struct Scratch {
    name: String,
    dir: PathBuf,
}

impl Scratch {
    /// Makes a folder that everybody may search and only root may write to.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let pid = process::id();
        let started = start_time(pid).context("cannot tell when this process started")?;
        let name = format!("{PREFIX}-{pid}-{started}-{count}");
        let dir = Path::new(FOLDERS).join(&name);
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
        Ok(Self { name, dir })
    }

    /// `clawd-test-<pid>-<start time>-<count>`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes a folder in the folder, with these mode bits.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder(&self, name: &str, mode: u32) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(path)
    }

    /// Writes a file in the folder.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("{} stays: {error}", self.dir.display());
        }
    }
}
