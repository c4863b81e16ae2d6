//! Where the kernel's resource controllers are: in the unified hierarchy, or in one of version 1.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use procfs::process::MountInfo;
use rustix::{
    fs::{FlockOperation, XattrFlags, flock, getxattr, removexattr, setxattr},
    io::Errno,
};

/// On a cgroup whose `subtree_control` a clawd has added to: what it added. Whichever clawd ends last
/// takes it back.
const ADDED: &str = "trusted.clawd.controllers";

/// How long to wait for another clawd at most. Whoever may read the root of the hierarchy, which is
/// everybody, may hold a lock on it for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// A resource controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Controller {
    Pids,
    Memory,
    Cpu,
}

/// Where a controller is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Home {
    Unified,
    /// The directory of a version 1 hierarchy that stands for the parent cgroup.
    Legacy(PathBuf),
    Nowhere,
}

/// The controllers, as seen from the parent of the sandboxes' cgroups.
#[derive(Debug)]
pub(crate) struct Controllers {
    pids: Home,
    memory: Home,
    cpu: Home,
    /// The cgroups of the unified hierarchy from its root to the parent.
    chain: Vec<PathBuf>,
}

/// Why a controller cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControllerError {
    #[error(
        "the kernel offers no {name} controller, neither in cgroup v2 ({}) nor mounted as version 1; boot without `cgroup_disable={name}`, or mount it: `mount -t cgroup -o {name} cgroup DIRECTORY`",
        root.display()
    )]
    Nowhere { name: &'static str, root: PathBuf },
    #[error(
        "the {name} controller cannot be enabled in {}/cgroup.subtree_control ({source}); a cgroup with processes of its own cannot do that: move them into a cgroup below, or give another --cgroup-parent",
        dir.display()
    )]
    NotDelegated {
        name: &'static str,
        dir: PathBuf,
        source: io::Error,
    },
}

// === impl Controller ===

impl Controller {
    const ALL: [Self; 3] = [Self::Pids, Self::Memory, Self::Cpu];

    /// The kernel's name of it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pids => "pids",
            Self::Memory => "memory",
            Self::Cpu => "cpu",
        }
    }
}

// === impl Controllers ===

impl Controllers {
    /// Looks for them; `below` is the parent's path from the mount point of the unified hierarchy.
    pub(crate) fn find(unified: &Path, below: &Path, mounts: &[MountInfo]) -> Self {
        let offered = words(&unified.join("cgroup.controllers"));
        let home = |controller: Controller| {
            if offered.iter().any(|name| name == controller.name()) {
                return Home::Unified;
            }
            let has = |mount: &&MountInfo| {
                let options = &mount.super_options;
                mount.fs_type == "cgroup"
                    && mount.root == "/"
                    && options.contains_key(controller.name())
            };
            let mount = mounts.iter().find(has);
            mount.map_or(Home::Nowhere, |mount| {
                Home::Legacy(mount.mount_point.join(below))
            })
        };
        let mut chain = vec![unified.to_path_buf()];
        for part in below {
            chain.extend(chain.last().map(|above| above.join(part)));
        }
        Self {
            pids: home(Controller::Pids),
            memory: home(Controller::Memory),
            cpu: home(Controller::Cpu),
            chain,
        }
    }

    fn home(&self, controller: Controller) -> &Home {
        match controller {
            Controller::Pids => &self.pids,
            Controller::Memory => &self.memory,
            Controller::Cpu => &self.cpu,
        }
    }

    /// Whether the controller is in the unified hierarchy.
    pub(crate) fn is_unified(&self, controller: Controller) -> bool {
        *self.home(controller) == Home::Unified
    }

    /// The directory whose children have this controller's files.
    pub(crate) fn parent(&self, controller: Controller) -> Option<&Path> {
        match self.home(controller) {
            Home::Unified => self.chain.last().map(PathBuf::as_path),
            Home::Legacy(dir) => Some(dir),
            Home::Nowhere => None,
        }
    }

    /// The directories of version 1 hierarchies that stand for the parent, each once.
    pub(crate) fn legacy_parents(&self) -> Vec<&Path> {
        let mut parents: Vec<&Path> = Vec::new();
        for controller in Controller::ALL {
            if let Home::Legacy(dir) = self.home(controller)
                && !parents.contains(&dir.as_path())
            {
                parents.push(dir);
            }
        }
        parents
    }

    /// Sees to it that children of [`Controllers::parent`] have this controller; returns that.
    pub(crate) fn provide(&self, controller: Controller) -> Result<&Path, ControllerError> {
        let name = controller.name();
        let Some(parent) = self.parent(controller) else {
            let root = self.chain.first().cloned().unwrap_or_default();
            return Err(ControllerError::Nowhere { name, root });
        };
        if self.is_unified(controller) && !self.is_enabled(parent, name) {
            self.enable(name)?;
        }
        Ok(parent)
    }

    /// Whether children of the parent have the controller, with all of its files. The kernel shows a
    /// controller in `subtree_control` before it makes the files of the children that are there
    /// (`cgroup_subtree_control_write` of kernel/cgroup/cgroup.c, v6.12; reading takes no lock), so
    /// nobody may be about to enable it. Somebody who keeps the lock holds up no start for good.
    fn is_enabled(&self, parent: &Path, name: &str) -> bool {
        let _lock = self.lock(FlockOperation::NonBlockingLockShared);
        has(parent, name)
    }

    /// Hands a controller down from the root of the hierarchy to the parent's children.
    fn enable(&self, name: &'static str) -> Result<(), ControllerError> {
        let failed = |dir: &Path| {
            let dir = dir.to_path_buf();
            move |source| ControllerError::NotDelegated { name, dir, source }
        };
        let lock = self.lock(FlockOperation::NonBlockingLockExclusive);
        let _lock = lock.map_err(failed(Path::new("")))?;
        let parent = self.chain.last();
        for dir in self.chain.iter().filter(|dir| !has(dir, name)) {
            if has_own_processes(dir) {
                return Err(failed(dir)(io::ErrorKind::ResourceBusy.into()));
            }
            let control = dir.join("cgroup.subtree_control");
            fs::write(control, format!("+{name}")).map_err(failed(dir))?;
            // The parent itself goes when it is not needed.
            if Some(dir) != parent {
                remember(dir, name);
            }
        }
        Ok(())
    }

    /// Takes back what clawd has handed down, where no cgroup is left that could use it. The parent is
    /// gone.
    pub(crate) fn give_back(&self) {
        if self.chain.iter().all(|dir| added(dir).is_empty()) {
            return;
        }
        let Ok(_lock) = self.lock(FlockOperation::NonBlockingLockExclusive) else {
            return;
        };
        for dir in self.chain.iter().rev() {
            let names = added(dir);
            if names.is_empty() || has_children(dir) {
                continue;
            }
            let control = dir.join("cgroup.subtree_control");
            let taken = names
                .iter()
                .try_for_each(|name| fs::write(&control, format!("-{name}")))
                .and_then(|()| Ok(removexattr(dir, ADDED)?));
            if let Err(error) = taken {
                tracing::warn!(dir = %dir.display(), %error, "controllers stay enabled");
            }
        }
    }

    /// One clawd at a time hands down and takes back, while none looks. Fails after [`PATIENCE`].
    fn lock(&self, operation: FlockOperation) -> io::Result<File> {
        let root = File::open(self.chain.first().map_or(Path::new(""), PathBuf::as_path))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            match flock(&root, operation) {
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(1));
                }
                locked => return locked.map(|()| root).map_err(io::Error::from),
            }
        }
    }
}

/// The words of a control file; none where it cannot be read.
fn words(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

fn has(dir: &Path, name: &str) -> bool {
    words(&dir.join("cgroup.subtree_control"))
        .iter()
        .any(|word| word == name)
}

/// Whether processes compete with the children of a cgroup, which only the root can bear. The kernel
/// would take some controllers there, and then let no process into the children.
fn has_own_processes(dir: &Path) -> bool {
    let is_root = !dir.join("cgroup.type").exists();
    !is_root && !words(&dir.join("cgroup.procs")).is_empty()
}

fn has_children(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| {
        entries
            .any(|entry| entry.is_ok_and(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())))
    })
}

/// What a clawd has added to a cgroup's `subtree_control`.
fn added(dir: &Path) -> Vec<String> {
    let mut value = [0_u8; 128];
    let Ok(length) = getxattr(dir, ADDED, &mut value) else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(value.get(..length).unwrap_or_default()).into_owned();
    text.split(' ').map(str::to_owned).collect()
}

fn remember(dir: &Path, name: &str) {
    let mut names = added(dir);
    names.push(name.to_owned());
    let value = names.join(" ");
    if let Err(error) = setxattr(dir, ADDED, value.as_bytes(), XattrFlags::empty()) {
        tracing::warn!(dir = %dir.display(), %error, "controllers that clawd enabled stay enabled when it ends");
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, path::Path, time::Instant};

    use procfs::{FromRead as _, process::MountInfos};
    use rustix::fs::{FlockOperation, flock};

    use super::{Controller, ControllerError, Controllers, PATIENCE};

    const HYBRID: &str = "\
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 /x /sys/fs/cgroup/part rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /none/unified rw,relatime - cgroup2 cgroup2 rw
";

    fn controllers(mounts: &str) -> Controllers {
        let mounts = MountInfos::from_read(mounts.as_bytes()).expect("mounts").0;
        Controllers::find(Path::new("/none/unified"), Path::new("a/b"), &mounts)
    }

    #[test]
    fn controllers_of_version_1_are_found_beside_the_unified_parent() {
        let found = controllers(HYBRID);
        assert!(!found.is_unified(Controller::Pids));
        let pids = found.provide(Controller::Pids).expect("there");
        assert_eq!(pids, Path::new("/sys/fs/cgroup/pids/a/b"));
        let legacy = found.legacy_parents();
        let want = ["/sys/fs/cgroup/pids/a/b", "/sys/fs/cgroup/memory/a/b"];
        assert_eq!(legacy, want.map(Path::new));
    }

    #[test]
    fn controller_of_a_part_of_a_hierarchy_is_not_there() {
        let found = controllers(HYBRID);
        let error = found.provide(Controller::Cpu).expect_err("a bind mount");
        assert!(matches!(
            error,
            ControllerError::Nowhere { name: "cpu", .. }
        ));
        assert!(error.to_string().contains("cgroup_disable=cpu"), "{error}");
    }

    #[test]
    fn lock_that_somebody_keeps_holds_nobody_up_for_good() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("cgroup.subtree_control"), "pids").expect("written");
        let found = Controllers::find(dir.path(), Path::new(""), &[]);
        let kept = File::open(dir.path()).expect("opens");
        flock(&kept, FlockOperation::LockExclusive).expect("nobody else has it");
        let begun = Instant::now();
        assert!(found.is_enabled(dir.path(), "pids"));
        assert!(begun.elapsed() >= PATIENCE);
    }

    #[test]
    fn controllers_mounted_together_have_one_parent() {
        let found = controllers("9 1 0:9 / /c/both rw - cgroup cgroup rw,memory,pids\n");
        assert_eq!(found.legacy_parents(), [Path::new("/c/both/a/b")]);
    }
}
