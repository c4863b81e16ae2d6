//! Cgroups: the parent that the programs are attached to, and one child for each sandbox.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd as _, BorrowedFd},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use clawd_sandbox::Cgroups;
use procfs::process::MountInfo;
use rustix::fs::{FlockOperation, flock};

use crate::limits::controllers::{Controller, Controllers};

/// How long killed processes may take to leave their cgroup.
const EMPTY_DEADLINE: Duration = Duration::from_secs(10);

/// Why a cgroup cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    #[error(
        "no cgroup v2 hierarchy is mounted; run `mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified` or boot with systemd.unified_cgroup_hierarchy=1"
    )]
    NoCgroup2,
    #[error("cannot read the mounts of this process")]
    Mounts(#[source] procfs::ProcError),
    #[error("{} is not below the cgroup v2 mount {}", path.display(), mount.display())]
    Outside { path: PathBuf, mount: PathBuf },
    #[error(
        "clawd runs in a cgroup namespace of its own, where it cannot tell how deep its cgroups are; run it on the host"
    )]
    Namespace,
    #[error("another clawd has its sandboxes in {}; stop it or give another --cgroup-parent", path.display())]
    InUse { path: PathBuf },
    #[error("cannot {what} cgroup {}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The cgroup whose children are the sandboxes.
#[derive(Debug)]
pub(crate) struct Parent {
    path: PathBuf,
    mount: PathBuf,
    /// Its id in the kernel.
    pub(crate) id: u64,
    /// Held open, and locked: one daemon to a parent.
    dir: File,
    /// Depth of its children below the root of the hierarchy.
    pub(crate) sandbox_level: u32,
    controllers: Arc<Controllers>,
}

/// Looks for a cgroup by its id. "Not there" is only said when all of the hierarchy was looked at.
fn find_below(dir: &Path, cgroup_id: u64) -> Result<Option<PathBuf>, CgroupError> {
    let entries = match fs::read_dir(dir) {
        // What went away meanwhile is not it: that one has programs attached.
        Err(error) if is_gone(&error) => return Ok(None),
        other => other.map_err(failed("list", dir))?,
    };
    for entry in entries {
        let entry = match entry {
            Err(error) if is_gone(&error) => continue,
            other => other.map_err(failed("list", dir))?,
        };
        let metadata = match entry.metadata() {
            Err(error) if is_gone(&error) => continue,
            other => other.map_err(failed("look at", &entry.path()))?,
        };
        if !metadata.is_dir() {
            continue;
        }
        if metadata.ino() == cgroup_id {
            return Ok(Some(entry.path()));
        }
        if let Some(found) = find_below(&entry.path(), cgroup_id)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The cgroup of one sandbox, with those of the same name in hierarchies of version 1.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    controllers: Arc<Controllers>,
    /// Inode number, which is the cgroup's id in the kernel (`cgroup_id()` in include/linux/cgroup.h, v6.12).
    pub(crate) id: u64,
}

impl CgroupError {
    /// Whether the cgroup is not there any more.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_gone(source))
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    move |source| CgroupError::Io {
        what,
        path: path.to_path_buf(),
        source,
    }
}

impl Parent {
    /// Finds or makes the parent: `wanted`, or `clawd` below the cgroup2 mount.
    pub(crate) fn provide(wanted: Option<&Path>) -> Result<Self, CgroupError> {
        let mounts = procfs::process::Process::myself()
            .and_then(|process| process.mountinfo())
            .map_err(CgroupError::Mounts)?
            .0;
        let mount = cgroup2_mount(&mounts)?;
        let path = wanted.map_or_else(|| mount.join("clawd"), Path::to_path_buf);
        let below = path
            .strip_prefix(&mount)
            .map_err(|_outside| CgroupError::Outside {
                path: path.clone(),
                mount: mount.clone(),
            })?;
        let controllers = Controllers::find(&mount, below, &mounts);
        let depth = u32::try_from(below.components().count()).unwrap_or(u32::MAX);
        if depth == 0 {
            return Err(CgroupError::Outside { path, mount });
        }
        fs::create_dir_all(&path).map_err(failed("make", &path))?;
        let dir = File::open(&path).map_err(failed("open", &path))?;
        if flock(&dir, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(CgroupError::InUse { path });
        }
        let id = dir.metadata().map_err(failed("look at", &path))?.ino();
        Ok(Self {
            path,
            mount,
            id,
            dir,
            sandbox_level: depth.saturating_add(1),
            controllers: Arc::new(controllers),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The cgroup itself, to attach programs.
    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Where the cgroup with that id is, if there still is one.
    pub(crate) fn find(&self, cgroup_id: u64) -> Result<Option<PathBuf>, CgroupError> {
        find_below(&self.mount, cgroup_id)
    }

    /// Makes the cgroup of a new sandbox; it must not exist.
    pub(crate) fn create_child(&self, name: &str) -> Result<Cgroup, CgroupError> {
        let path = self.path.join(name);
        fs::create_dir(&path).map_err(failed("make", &path))?;
        self.child(name)
    }

    /// The cgroup of a sandbox that exists.
    pub(crate) fn child(&self, name: &str) -> Result<Cgroup, CgroupError> {
        let path = self.path.join(name);
        let id = fs::metadata(&path).map_err(failed("look at", &path))?.ino();
        let controllers = Arc::clone(&self.controllers);
        Ok(Cgroup {
            path,
            controllers,
            id,
        })
    }

    /// Removes cgroups of version 1 hierarchies whose sandbox has no cgroup any more.
    pub(crate) fn sweep_legacy(&self) {
        for parent in self.controllers.legacy_parents() {
            for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_dir && !self.path.join(entry.file_name()).exists() {
                    remove_legacy(&entry.path());
                }
            }
        }
    }

    /// The names of all children.
    pub(crate) fn children(&self) -> Result<Vec<String>, CgroupError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed("list", &self.path))? {
            let entry = entry.map_err(failed("list", &self.path))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        Ok(names)
    }

    /// Removes the parent unless sandboxes are left in it.
    pub(crate) fn remove_if_empty(&self) {
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the parent cgroup stays");
                return;
            }
            Ok(()) => {}
        }
        for parent in self.controllers.legacy_parents() {
            if parent.exists() {
                remove_legacy(parent);
            }
        }
        self.controllers.give_back();
    }
}

impl Cgroup {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens all of them, to start a process there.
    pub(crate) fn open(&self) -> Result<Cgroups, CgroupError> {
        let legacy = self.legacy().into_iter().filter(|dir| dir.exists());
        Cgroups::open(&self.path, legacy).map_err(failed("open", &self.path))
    }

    pub(crate) fn controllers(&self) -> &Controllers {
        &self.controllers
    }

    /// The directory that has a controller's files of this sandbox.
    pub(crate) fn dir_of(&self, controller: Controller) -> Option<PathBuf> {
        let parent = self.controllers.parent(controller)?;
        Some(parent.join(self.path.file_name()?))
    }

    /// Its directories in hierarchies of version 1, of which some may not be there.
    fn legacy(&self) -> Vec<PathBuf> {
        let name = self.path.file_name().unwrap_or_default();
        let parents = self.controllers.legacy_parents().into_iter();
        parents.map(|parent| parent.join(name)).collect()
    }

    /// Whether the path still leads to this cgroup, not to a later one of the same name.
    fn is_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.id)
    }

    /// The processes in it, as the daemon's pid namespace numbers them.
    pub(crate) fn processes(&self) -> Result<Vec<u32>, CgroupError> {
        if !self.is_there() {
            return Ok(Vec::new());
        }
        let path = self.path.join("cgroup.procs");
        let text = fs::read_to_string(&path).map_err(failed("read", &path))?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Ends every process in it and below, and waits until they are gone.
    pub(crate) fn kill(&self) -> Result<(), CgroupError> {
        if !self.is_there() {
            return Ok(());
        }
        let path = self.path.join("cgroup.kill");
        fs::write(&path, "1").map_err(failed("kill the processes of", &path))?;
        let deadline = Instant::now() + EMPTY_DEADLINE;
        let mut pause = Duration::from_micros(200);
        while self.is_populated()? {
            if Instant::now() > deadline {
                let source = io::Error::from(io::ErrorKind::TimedOut);
                return Err(CgroupError::Io {
                    what: "empty",
                    path: self.path.clone(),
                    source,
                });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        Ok(())
    }

    /// A cgroup that was removed meanwhile has no process.
    fn is_populated(&self) -> Result<bool, CgroupError> {
        let path = self.path.join("cgroup.events");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().any(|line| line == "populated 1")),
            Err(error) if is_gone(&error) => Ok(false),
            Err(source) => Err(failed("read", &path)(source)),
        }
    }

    /// Kills what is in it, and removes it with every cgroup below.
    pub(crate) fn destroy(&self) -> Result<(), CgroupError> {
        if self.is_there() {
            match self.kill() {
                Err(error) if error.is_gone() => {}
                Err(error) => return Err(error),
                Ok(()) => remove_tree(&self.path).map_err(failed("remove", &self.path))?,
            }
        }
        // A cgroup of this name that is another one has limits of its own.
        if !self.path.exists() {
            (self.legacy().iter())
                .filter(|dir| dir.exists())
                .for_each(|dir| remove_legacy(dir));
        }
        Ok(())
    }
}

/// Whether a cgroup is not there any more: no such file, or (opened before) no such device.
fn is_gone(error: &io::Error) -> bool {
    const ENODEV: i32 = 19;
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ENODEV)
}

/// Removes a cgroup and those below; their control files go with them.
fn remove_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

/// Removes a cgroup of a version 1 hierarchy. Its processes were those of the sandbox's own cgroup,
/// which are gone; what stays limits nobody.
fn remove_legacy(path: &Path) {
    if let Err(error) = remove_tree(path)
        && !is_gone(&error)
    {
        tracing::error!(path = %path.display(), %error, "a cgroup stays");
    }
}

/// Where the hierarchy is mounted; on hybrid hosts that is not `/sys/fs/cgroup` itself.
fn cgroup2_mount(mounts: &[MountInfo]) -> Result<PathBuf, CgroupError> {
    let found = mounts
        .iter()
        .find(|mount| mount.fs_type == "cgroup2")
        .ok_or(CgroupError::NoCgroup2)?;
    if found.root == "/" {
        Ok(found.mount_point.clone())
    } else {
        Err(CgroupError::Namespace)
    }
}
