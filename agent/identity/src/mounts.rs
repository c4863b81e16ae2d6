//! Where a sandbox can write: the mounts of its view, told apart from the file systems beneath
//! them.
//!
//! A bind mount shows a part of a file system under another path, so paths of views say nothing
//! about who can write a file. A [`Place`] does: it names a file system and a path inside it.
//!
//! What places cannot tell, and callers have to see to: a file with several names (hard links) lies
//! at several places, see [`WritableTrees::any_on`]; somebody may write beneath a file system, to
//! its disk or image; a process may hold a descriptor of what no mount of its view shows. A view is
//! how it was when it was read.

mod layers;
mod parse;
mod writable;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

pub use layers::{Layers, UnknownLayer, layers_writable, upper_places};
pub use parse::{MOUNTS_MAX, MountsError, parse};
pub use writable::WritableTrees;

/// Number of a file system, as `/proc/<pid>/mountinfo` shows it.
///
/// That is the super block's (`fs/proc_namespace.c`, `show_mountinfo`, v6.12), one for all
/// subvolumes of a btrfs, whose paths then differ in [`Mount::root`]. `statx(2)` shows another for
/// each subvolume (`fs/btrfs/inode.c`, `btrfs_getattr`, v6.12), so its numbers are never compared
/// with this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dev {
    /// Major number; 0 where there is no block device.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// Where something lies inside its file system, through whatever mount it is seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file system.
    pub dev: Dev,
    /// The path from that file system's own root.
    pub path: PathBuf,
}

/// One mount, as `proc_pid_mountinfo(5)` tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its id, which is used again after it is gone.
    pub id: u64,
    /// The id of the mount that it is mounted on; one of no mount of the view for the first.
    pub parent: u64,
    /// Its file system.
    pub dev: Dev,
    /// What of the file system it shows. No path where the file system has none
    /// (`net:[4026531840]`).
    pub root: PathBuf,
    /// Where it is in the view.
    pub point: PathBuf,
    /// Whether nothing can be written through it: it or its whole file system is read-only.
    pub read_only: bool,
    /// Whether nothing can be executed through it.
    pub noexec: bool,
    /// Type of the file system.
    pub fs_type: String,
    /// Paths of an overlay's layers as those who mounted it wrote them, upper and data layers
    /// included; a path that can be read in two ways is there in both. Empty for other types.
    pub layers: Vec<PathBuf>,
    /// Those of [`Mount::layers`] that the overlay writes to.
    pub upper: Vec<PathBuf>,
}

/// The mounts of one mount namespace, as a process with a certain root sees them.
#[derive(Clone, Debug, Default)]
pub struct View {
    mounts: BTreeMap<u64, Mount>,
}

/// Types of file systems whose inodes tell of every change of content, and on which the kernel
/// counts writers.
///
/// FUSE and network file systems are not among them: a server may show other bytes at any time.
/// Neither are ramfs, and rootfs, which may be one: its inodes have no generation, so a number that
/// is used again looks like the old file.
const TRUSTED_FS_TYPES: &[&str] = &[
    "ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "f2fs", "bcachefs",
];

/// Types that hold nothing but what the kernel itself shows in them, so that no program can be put
/// there. A list of what is left out, not of what counts: an unknown type counts as writable.
/// devtmpfs counts, because it is a tmpfs.
const KERNEL_FS_TYPES: &[&str] = &[
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "efivarfs",
    "fusectl",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tracefs",
];

/// Whether a file on a file system of this type may carry an identity at all.
#[must_use]
pub fn is_trusted_fs_type(name: &str) -> bool {
    TRUSTED_FS_TYPES.contains(&name)
}

/// Whether a path is absolute and has no `..`: one whose components say where it leads.
fn is_plain(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|part| part == Component::ParentDir)
}

// === impl Place ===

impl Place {
    /// Whether `other` is this or lies below it, by components.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.dev == other.dev && other.path.starts_with(&self.path)
    }
}

// === impl Mount ===

impl Mount {
    /// The place of what the view shows at this path, if it is seen through this mount; `None` for
    /// a path that is not below the mount point, or that is relative or has `..`.
    ///
    /// Symbolic links are not followed.
    #[must_use]
    pub fn place_of(&self, path_in_view: &Path) -> Option<Place> {
        if !is_plain(path_in_view) {
            return None;
        }
        let below = path_in_view.strip_prefix(&self.point).ok()?;
        // Joining an empty path would add a slash, which is wrong behind a file.
        let path = if below.as_os_str().is_empty() {
            self.root.clone()
        } else {
            self.root.join(below)
        };
        Some(Place {
            dev: self.dev,
            path,
        })
    }

    /// The place of its root.
    fn place(&self) -> Place {
        Place {
            dev: self.dev,
            path: self.root.clone(),
        }
    }
}

// === impl View ===

impl View {
    /// Reads the view of a process.
    ///
    /// The kernel leaves out mounts that its root directory does not reach.
    ///
    /// # Errors
    /// The process is gone, or [`parse`] refuses what the kernel shows.
    pub fn read(pid: u32) -> Result<Self, MountsError> {
        let read = || -> io::Result<Vec<u8>> {
            let mut text = Vec::new();
            let file = File::open(format!("/proc/{pid}/mountinfo"))?;
            // One byte more than is taken, so that a longer text is seen to be longer.
            file.take(parse::TEXT_BYTES_MAX + 1)
                .read_to_end(&mut text)?;
            Ok(text)
        };
        let text = read().map_err(|source| MountsError::Read { pid, source })?;
        parse(&text).map(Self::from_mounts)
    }

    /// A view of these mounts; of several with one id the last.
    #[must_use]
    pub fn from_mounts(mounts: Vec<Mount>) -> Self {
        let mounts = mounts.into_iter().map(|mount| (mount.id, mount));
        Self {
            mounts: mounts.collect(),
        }
    }

    /// The mount with this id.
    #[must_use]
    pub fn mount(&self, id: u64) -> Option<&Mount> {
        self.mounts.get(&id)
    }

    /// Every mount, by id.
    pub fn mounts(&self) -> impl Iterator<Item = &Mount> {
        self.mounts.values()
    }

    /// The mount through which the view shows this path, an absolute one without `..` and without
    /// symbolic links: the last on the way there, as the kernel walks it. One that another mount
    /// hides is never the answer. `None` where the way is not clear.
    #[must_use]
    pub fn topmost(&self, point: &Path) -> Option<&Mount> {
        if !is_plain(point) {
            return None;
        }
        let mut current = self.first()?;
        // Each step leads to another mount, unless the parents go round in a circle.
        for _ in 0..self.mounts.len() {
            let on_the_way = self.mounts().filter(|mount| {
                mount.parent == current.id
                    && mount.id != current.id
                    && point.starts_with(&mount.point)
            });
            // The walk meets the shortest first; a mount further down on the same parent is then
            // hidden by it.
            let mut next = None;
            let mut is_tie = false;
            for mount in on_the_way {
                let depth = mount.point.components().count();
                match next {
                    Some((least, _)) if depth > least => {}
                    Some((least, _)) if depth == least => is_tie = true,
                    _ => (next, is_tie) = (Some((depth, mount)), false),
                }
            }
            match next {
                None => return Some(current),
                // Two mounts at one place of one parent: the kernel does not make that.
                Some(_) if is_tie => return None,
                Some((_, mount)) => current = mount,
            }
        }
        None
    }

    /// Every place that can be written through a mount of this view.
    ///
    /// What an overlay writes to its upper layer is not among them: see [`upper_places`].
    #[must_use]
    pub fn writable(&self) -> Vec<Place> {
        let counts =
            |mount: &&Mount| !mount.read_only && !KERNEL_FS_TYPES.contains(&mount.fs_type.as_str());
        self.mounts().filter(counts).map(Mount::place).collect()
    }

    /// The mount at `/` that is mounted on no other of the view; `None` unless there is exactly
    /// one.
    fn first(&self) -> Option<&Mount> {
        let mut firsts = self.mounts().filter(|mount| {
            mount.point == Path::new("/")
                && (mount.parent == mount.id || !self.mounts.contains_key(&mount.parent))
        });
        firsts.next().filter(|_| firsts.next().is_none())
    }
}

#[cfg(test)]
mod tests;
