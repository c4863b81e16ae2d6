//! A host on which sandboxes cannot have limits.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command},
};

use super::Daemon;
use crate::mounts::cgroup2_mount;

/// Unmounts the version 1 hierarchies in a mount namespace of its own, then goes on as clawd.
const WITHOUT_LEGACY: &str = "while read -r _ _ _ _ place _ rest; do
    case $rest in *'- cgroup '*) umount -l \"$place\" ;; esac
done < /proc/self/mountinfo
exec \"$@\"";

/// A cgroup with a process of its own, whose children can have no controllers.
#[derive(Debug)]
pub struct Busy {
    path: PathBuf,
    process: Child,
}

impl Daemon {
    /// A daemon, not started yet, that is started by `launcher`, which gets clawd's command line.
    ///
    /// # Errors
    /// As [`Daemon::prepare`].
    pub fn prepare_by(launcher: &[&str]) -> anyhow::Result<Self> {
        let mut daemon = Self::prepare(None)?;
        daemon.launcher = launcher.iter().map(Into::into).collect();
        Ok(daemon)
    }

    /// A daemon, not started yet, that finds no controller for its sandboxes: version 1 hierarchies
    /// are not mounted for it, and its parent cgroup is below one with a process.
    ///
    /// # Errors
    /// As [`Daemon::prepare`], or the cgroup cannot be made.
    pub fn prepare_without_controllers() -> anyhow::Result<(Self, Busy)> {
        let mut daemon = Self::prepare(None)?;
        let path = daemon.paths.cgroup_parent.clone();
        fs::create_dir(&path)?;
        let process = Command::new("sleep").arg("1000").spawn()?;
        let busy = Busy { path, process };
        fs::write(
            busy.path.join("cgroup.procs"),
            busy.process.id().to_string(),
        )?;
        daemon.paths.cgroup_parent = busy.path.join("sandboxes");
        daemon.launch_by(&["unshare", "--mount", "sh", "-c", WITHOUT_LEGACY, "sh"]);
        debug_assert!(busy.path.starts_with(cgroup2_mount()?), "below the mount");
        Ok((daemon, busy))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let ended = self.process.kill().and_then(|()| self.process.wait());
        let removed = ended.and_then(|_status| fs::remove_dir(&self.path));
        if let Err(error) = removed {
            eprintln!("{} stays: {error}", self.path.display());
        }
    }
}
