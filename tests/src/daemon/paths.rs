//! The paths of one daemon.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use super::is_there;
use crate::{
    leftovers::{remove_cgroup, remove_cgroup_tree},
    mounts::{BPFFS, cgroup1_mounts, cgroup2_mount},
    scratch::Scratch,
};

/// Where everything of one daemon is.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Control socket.
    pub socket: PathBuf,
    /// State directory, which outlives the daemon.
    pub state_dir: PathBuf,
    /// Folder of pins.
    pub bpffs: PathBuf,
    /// The cgroup that holds the sandboxes' cgroups.
    pub cgroup_parent: PathBuf,
    /// What stands for it in hierarchies of version 1.
    pub legacy_parents: Vec<PathBuf>,
}

impl Paths {
    /// Paths that carry the name of `scratch`.
    ///
    /// # Errors
    /// There is no cgroup v2 hierarchy.
    pub fn new(scratch: &Scratch) -> anyhow::Result<Self> {
        Ok(Self {
            socket: scratch.path("control.sock"),
            state_dir: scratch.path("state"),
            bpffs: Path::new(BPFFS).join(scratch.name()),
            cgroup_parent: cgroup2_mount()?.join(scratch.name()),
            legacy_parents: (cgroup1_mounts()?.iter())
                .map(|mount| mount.join(scratch.name()))
                .collect(),
        })
    }

    /// The daemon's flags.
    #[must_use]
    pub fn flags(&self) -> Vec<OsString> {
        let flags = [
            ("--socket", &self.socket),
            ("--state-dir", &self.state_dir),
            ("--bpffs", &self.bpffs),
            ("--cgroup-parent", &self.cgroup_parent),
        ];
        flags
            .into_iter()
            .flat_map(|(flag, path)| [flag.into(), path.clone().into_os_string()])
            .collect()
    }

    /// What of the daemon is there; the state directory does not count.
    #[must_use]
    pub fn existing(&self) -> Vec<&Path> {
        let all = [&self.socket, &self.bpffs, &self.cgroup_parent];
        all.into_iter()
            .chain(&self.legacy_parents)
            .map(PathBuf::as_path)
            .filter(|path| is_there(path))
            .collect()
    }

    /// Whether any of [`Paths::existing`] is there.
    #[must_use]
    pub fn exist(&self) -> bool {
        !self.existing().is_empty()
    }

    /// Removes what is there, whatever it takes.
    pub(super) fn remove(&self) {
        if is_there(&self.cgroup_parent)
            && let Err(error) = remove_cgroup(&self.cgroup_parent)
        {
            eprintln!("{} stays: {error}", self.cgroup_parent.display());
        }
        for path in self.legacy_parents.iter().filter(|path| is_there(path)) {
            if let Err(error) = remove_cgroup_tree(path) {
                eprintln!("{} stays: {error}", path.display());
            }
        }
        if is_there(&self.bpffs)
            && let Err(error) = fs::remove_dir_all(&self.bpffs)
        {
            eprintln!("{} stays: {error}", self.bpffs.display());
        }
    }
}
