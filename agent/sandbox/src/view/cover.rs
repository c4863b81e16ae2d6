//! Mounts that hide what is there, and mounts that keep a directory's name.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use clawd_sys::{
    mount::set_attributes,
    rustix::{
        fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2},
        io::Errno,
        mount::{MountAttrFlags, UnmountFlags, unmount},
    },
};

use super::{
    build::{DATA, InView, attach, clone_tree, file_system, is_dir, open_plain, point},
    plan::Entry,
};
use crate::error::Failed;

/// Where the blank file and directory are while the view is built.
const PLACE: &str = "/.blank";

/// What `/proc` tells of the whole host, or offers to change, and no program needs: the kernel's
/// command line, symbols, modules, keys and memory, devices and their interrupts (whose counts tell of
/// keystrokes), mounted file systems, locks.
///
/// Not `hidepid`: in the sandbox's own pid namespace there are its own processes alone. Not `subset=pid`:
/// it takes `cpuinfo`, `meminfo`, `stat` and `sys` away too, without which language runtimes do not start.
const MASKED: [&str; 38] = [
    "acpi",
    "asound",
    "bootconfig",
    "bus",
    "cmdline",
    "consoles",
    "diskstats",
    "driver",
    "dynamic_debug",
    "fs",
    "interrupts",
    "iomem",
    "ioports",
    "irq",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "locks",
    "mdstat",
    "modules",
    "pagetypeinfo",
    "partitions",
    "sched_debug",
    "schedstat",
    "scsi",
    "slabinfo",
    "softirqs",
    "swaps",
    "sysrq-trigger",
    "timer_list",
    "timer_stats",
    "vmallocinfo",
];

/// An empty file and an empty directory, of root's, without any permission and read-only: no sandbox
/// has the capability to open them.
#[derive(Debug)]
pub(super) struct Blank(());

// === impl Blank ===

impl Blank {
    /// Makes both, in a file system of their own, so that nothing can be put beside them.
    pub(super) fn new() -> Result<Self, Failed> {
        let what = "make the blanks that cover what is denied";
        let options = [("mode", "0000"), ("size", "4k")];
        let mount = file_system("tmpfs", &options, DATA).in_view(what)?;
        mkdirat(&mount, "directory", Mode::empty()).in_view(what)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        openat(&mount, "file", flags, Mode::empty()).in_view(what)?;
        let read_only = DATA.union(MountAttrFlags::MOUNT_ATTR_RDONLY);
        set_attributes(mount.as_fd(), read_only, false).in_view(what)?;
        fs::create_dir(PLACE).in_view(what)?;
        let place = open_plain(Path::new(PLACE)).in_view(what)?;
        attach(&mount, &place, Path::new(PLACE))?;
        Ok(Self(()))
    }

    /// Covers what of the view's `/proc` is not for sandboxes.
    pub(super) fn mask(&self) -> Result<(), Failed> {
        for name in MASKED {
            let at = Path::new("/proc").join(name);
            // Kernels differ in what they have.
            if let Ok(there) = open_unfollowed(&at) {
                self.put_on(&there, &at)?;
            }
        }
        Ok(())
    }

    /// Covers what is at an entry's place, a symbolic link itself included.
    pub(super) fn cover(&self, entry: &Entry) -> Result<(), Failed> {
        let there = match open_unfollowed(&entry.at) {
            // Nothing can ever be made there.
            Err(Errno::NOENT | Errno::NOTDIR) if is_fixed(&entry.at) => return Ok(()),
            Err(Errno::NOENT) if entry.create => point(entry, true)?,
            opened => opened.in_view(format_args!("look at `{}`", entry.at.display()))?,
        };
        self.put_on(&there, &entry.at)
    }

    fn put_on(&self, there: &OwnedFd, at: &Path) -> Result<(), Failed> {
        let what = format!("cover `{}`", at.display());
        let blank = if is_dir(there.as_fd()).in_view(&what)? {
            "directory"
        } else {
            "file"
        };
        let blank = open_plain(&Path::new(PLACE).join(blank)).in_view(&what)?;
        let mount = clone_tree(blank.as_fd(), false).in_view(&what)?;
        attach(&mount, there, at)
    }

    /// Takes the blanks' names away; the covers stay.
    pub(super) fn hide(self) -> Result<(), Failed> {
        let what = "take the blanks' names away";
        unmount(PLACE, UnmountFlags::DETACH).in_view(what)?;
        fs::remove_dir(PLACE).in_view(what)
    }
}

/// Mounts a directory on itself, with all that is mounted in it so far.
pub(super) fn pin(entry: &Entry) -> Result<(), Failed> {
    let what = format!("keep the name of `{}`", entry.at.display());
    let there = point(entry, true)?;
    let mount = clone_tree(there.as_fd(), true).in_view(&what)?;
    attach(&mount, &there, &entry.at)
}

/// Opens a place through no link; a link that is there is what is opened.
fn open_unfollowed(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)
}

/// Whether a place lies where nobody makes files: in the sandbox's own `/dev` and `/proc`.
fn is_fixed(path: &Path) -> bool {
    path.starts_with("/proc") || (path.starts_with("/dev") && !path.starts_with("/dev/shm"))
}
