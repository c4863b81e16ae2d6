//! Builds a planned view and makes it this process's root.

use std::{
    fmt::Display,
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use clawd_sys::{
    mount::set_attributes,
    rustix::{
        fs::{CWD, Mode, OFlags, ResolveFlags, openat2},
        io::Errno,
        mount::{
            FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
            OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
            mount_change, move_mount, open_tree, unmount,
        },
        process::{chdir, chroot, fchdir, pivot_root},
    },
};

use super::{
    cover::{Blank, pin},
    etc::Contents,
    mountinfo,
    plan::{Access, Entry, Plan, Tree, What},
};
use crate::{
    error::{Failed, InLayer, Layer},
    spec::SpawnSpec,
};

/// Limits of the view's own file systems; what is in them counts as the sandbox's memory.
const TEMPORARY_SIZE: &str = "1g";
const HOME_SIZE: &str = "1g";
const SHARED_MEMORY_SIZE: &str = "256m";
/// Root and `/dev` hold mount points, links and some small files.
const SKELETON_SIZE: &str = "4m";
/// A file of no bytes costs kernel memory too.
const FILES_MAX: &str = "262144";

/// Nodes of the host's `/dev` that every sandbox has.
pub(super) const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What else is in `/dev`.
pub(super) const IN_DEVICES: &[&str] = &["shm", "pts", "ptmx", "fd", "stdin", "stdout", "stderr"];

const NOTHING_SPECIAL: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
pub(super) const DATA: MountAttrFlags = NOTHING_SPECIAL.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// The finished view.
#[derive(Debug)]
pub(crate) struct Built {
    /// Mount points of the mounts that programs can be executed from.
    pub(crate) exec_mounts: Vec<PathBuf>,
    /// All mounts.
    pub(crate) mounts: u32,
}

/// Builds the view of a sandbox and moves into it. The caller is root, alone in its mount namespace;
/// after an error it must end.
pub(crate) fn build(plan: &Plan, spec: &SpawnSpec) -> Result<Built, Failed> {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .in_view("make the host's mounts private")?;
    // Everything of the host is opened before the new root hides it.
    let mut sources: Vec<Option<Source>> = Vec::new();
    for tree in &plan.trees {
        sources.push(Some(open_source(tree)?));
    }
    let mut nodes = Vec::new();
    for name in NODES {
        nodes.push((name, open_node(name)?));
    }
    let contents = Contents::new(spec)?;
    enter_new_root()?;
    let blank = Blank::new()?;
    for entry in &plan.entries {
        match &entry.what {
            What::Tree(number) => {
                let source = sources.get_mut(*number).and_then(Option::take);
                let source = source.ok_or("planned twice").in_view(entry.at.display())?;
                attach(&source.mount, &point(entry, source.is_dir)?, &entry.at)?;
            }
            What::Link(text) => link(entry, text)?,
            What::Temporary => temporary(&point(entry, true)?, &entry.at, TEMPORARY_SIZE)?,
            What::Home => home(&point(entry, true)?, &entry.at, spec)?,
            What::Devices => devices(&point(entry, true)?, &entry.at, &nodes)?,
            What::Processes => {
                processes(&point(entry, true)?, &entry.at)?;
                blank.mask()?;
            }
            What::Written(file) => write(entry, contents.of(*file))?,
            What::Cover => blank.cover(entry)?,
            What::Pin => pin(entry)?,
        }
    }
    blank.hide()?;
    make_read_only("/")?;
    describe()
}

/// A tree of the host, detached and with its attributes.
struct Source {
    mount: OwnedFd,
    is_dir: bool,
}

fn open_source(tree: &Tree) -> Result<Source, Failed> {
    let what = format!("bind `{}`", tree.source.display());
    // The plan's path has no links. One that appeared since must not lead elsewhere.
    let file = open_plain(&tree.source).in_view(&what)?;
    let is_dir = is_dir(file.as_fd()).in_view(&what)?;
    let mount = clone_tree(file.as_fd(), is_dir).in_view(&what)?;
    let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
    let attributes = match tree.access {
        Access::ReadOnly => DATA.union(read_only),
        Access::ReadExecute => NOTHING_SPECIAL.union(read_only),
        Access::ReadWrite => DATA,
        Access::ReadWriteExecute => NOTHING_SPECIAL,
    };
    set_attributes(mount.as_fd(), attributes, is_dir).in_view(&what)?;
    Ok(Source { mount, is_dir })
}

fn open_node(name: &str) -> Result<OwnedFd, Failed> {
    let what = format!("bind `/dev/{name}`");
    let file = open_plain(&Path::new("/dev").join(name)).in_view(&what)?;
    let mount = clone_tree(file.as_fd(), false).in_view(&what)?;
    // Read-only keeps mode and owner of the node; writing to the device is another matter.
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        .union(MountAttrFlags::MOUNT_ATTR_NOSUID)
        .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
    set_attributes(mount.as_fd(), attributes, false).in_view(&what)?;
    Ok(mount)
}

pub(super) fn clone_tree(file: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(file, "", flags)
}

/// Opens a path that must lead through no symbolic link.
pub(crate) fn open_plain(path: &Path) -> Result<OwnedFd, Errno> {
    openat2(
        CWD,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_SYMLINKS,
    )
}

pub(super) fn is_dir(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mode = clawd_sys::rustix::fs::fstat(file)?.st_mode;
    Ok(clawd_sys::rustix::fs::FileType::from_raw_mode(mode).is_dir())
}

/// Makes an empty file system the root; the host's tree is no longer reachable.
fn enter_new_root() -> Result<(), Failed> {
    let options = [("mode", "0755"), ("size", SKELETON_SIZE)];
    let root = file_system("tmpfs", &options, DATA).in_view("make a root")?;
    give_root_a_parent()?;
    move_mount(&root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .in_view("mount the new root")?;
    fchdir(&root).in_view("enter the new root")?;
    // The old root ends up on top of the new one, at the same place, and is taken away from there
    // (pivot_root(2), "pivot_root(".", ".")").
    pivot_root(".", ".").in_view("change the root")?;
    unmount(".", UnmountFlags::DETACH).in_view("detach the host's tree")?;
    chdir("/").in_view("enter the new root")
}

/// `pivot_root` refuses to move the very first mount, which is the root of a system that runs from
/// its initramfs. There, a second mount of the same tree becomes the root first.
fn give_root_a_parent() -> Result<(), Failed> {
    let mounts = read_mounts("/proc/self/mountinfo")?;
    let on_root = mounts.iter().rev().find(|mount| mount.at == Path::new("/"));
    if on_root.is_none_or(|mount| mount.filesystem != "rootfs") {
        return Ok(());
    }
    let file = open_plain(Path::new("/")).in_view("open the root")?;
    let copy = clone_tree(file.as_fd(), true).in_view("copy the root's mounts")?;
    move_mount(&copy, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .in_view("mount the root over itself")?;
    fchdir(&copy).in_view("enter the copy of the root")?;
    chroot(".").in_view("make the copy the root")
}

/// Finds or creates an entry's mount point.
pub(super) fn point(entry: &Entry, is_dir: bool) -> Result<OwnedFd, Failed> {
    let what = format!("make the mount point `{}`", entry.at.display());
    if fs::symlink_metadata(&entry.at).is_err() {
        if !entry.create {
            return Err(Failed::new(
                Layer::MountView,
                format!(
                    "`{}` is not in the listed tree around it: create it on the host, or list smaller trees",
                    entry.at.display()
                ),
            ));
        }
        if is_dir {
            fs::create_dir_all(&entry.at).in_view(&what)?;
        } else {
            create_parents(&entry.at).in_view(&what)?;
            fs::File::create_new(&entry.at).in_view(&what)?;
        }
    }
    open_plain(&entry.at).in_view(&what)
}

fn create_parents(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

pub(super) fn attach(mount: impl AsFd, point: &OwnedFd, at: &Path) -> Result<(), Failed> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", point, "", flags).in_view(format_args!("mount `{}`", at.display()))
}

/// A link that lies in a tree of the host is there already.
fn link(entry: &Entry, text: &Path) -> Result<(), Failed> {
    if !entry.create || fs::symlink_metadata(&entry.at).is_ok() {
        return Ok(());
    }
    let what = format!("make the link `{}`", entry.at.display());
    create_parents(&entry.at).in_view(&what)?;
    std::os::unix::fs::symlink(text, &entry.at).in_view(&what)
}

/// Writes a file into the root, which is read-only in the end.
fn write(entry: &Entry, content: &[u8]) -> Result<(), Failed> {
    let what = format!("write `{}`", entry.at.display());
    create_parents(&entry.at).in_view(&what)?;
    fs::write(&entry.at, content).in_view(&what)
}

fn temporary(point: &OwnedFd, at: &Path, size: &str) -> Result<(), Failed> {
    let options = [("mode", "1777"), ("size", size), ("nr_inodes", FILES_MAX)];
    let mount = file_system("tmpfs", &options, DATA).in_view(at.display())?;
    attach(&mount, point, at)
}

fn home(point: &OwnedFd, at: &Path, spec: &SpawnSpec) -> Result<(), Failed> {
    let (uid, gid) = (spec.uid.to_string(), spec.gid.to_string());
    let options = [
        ("mode", "0700"),
        ("size", HOME_SIZE),
        ("nr_inodes", FILES_MAX),
        ("uid", uid.as_str()),
        ("gid", gid.as_str()),
    ];
    let mount = file_system("tmpfs", &options, DATA).in_view(at.display())?;
    attach(&mount, point, at)
}

fn processes(point: &OwnedFd, at: &Path) -> Result<(), Failed> {
    // Read-only, because a process may write to `/proc/<pid>/mem` of any other of its user, whatever
    // that maps as read-only: it would speak with another program's identity. What programs like to
    // write there (`oom_score_adj`, the names of threads) has no better place to be allowed.
    let attributes = DATA.union(MountAttrFlags::MOUNT_ATTR_RDONLY);
    let mount = file_system("proc", &[], attributes).in_view("make `/proc`")?;
    attach(&mount, point, at)
}

fn devices(point: &OwnedFd, at: &Path, nodes: &[(&str, OwnedFd)]) -> Result<(), Failed> {
    let options = [("mode", "0755"), ("size", SKELETON_SIZE)];
    let mount = file_system("tmpfs", &options, DATA).in_view("make `/dev`")?;
    attach(&mount, point, at)?;
    let place = |name: &str, is_dir| {
        let entry = Entry {
            at: at.join(name),
            what: What::Devices,
            create: true,
        };
        self::point(&entry, is_dir).map(|point| (point, entry.at))
    };
    for (name, node) in nodes {
        let (point, at) = place(name, false)?;
        attach(node, &point, &at)?;
    }
    let (shared, shared_at) = place("shm", true)?;
    temporary(&shared, &shared_at, SHARED_MEMORY_SIZE)?;
    let terminals = MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NOEXEC);
    let options = [("newinstance", ""), ("mode", "0620"), ("ptmxmode", "0666")];
    let mount = file_system("devpts", &options, terminals).in_view("make `/dev/pts`")?;
    let (point, at_pts) = place("pts", true)?;
    attach(&mount, &point, &at_pts)?;
    for (name, text) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        std::os::unix::fs::symlink(text, at.join(name))
            .in_view(format_args!("link `/dev/{name}`"))?;
    }
    make_read_only("/dev")
}

/// A new file system, mounted nowhere yet. An option without a value is a flag.
pub(super) fn file_system(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            clawd_sys::rustix::mount::fsconfig_set_flag(&context, *key)?;
        } else {
            fsconfig_set_string(&context, *key, *value)?;
        }
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Closes a skeleton once it is complete; what is mounted in it keeps its own attributes.
fn make_read_only(path: &str) -> Result<(), Failed> {
    let what = format!("make `{path}` read-only");
    let file = open_plain(Path::new(path)).in_view(&what)?;
    set_attributes(
        file.as_fd(),
        DATA.union(MountAttrFlags::MOUNT_ATTR_RDONLY),
        false,
    )
    .in_view(&what)
}

fn read_mounts(path: &str) -> Result<Vec<mountinfo::Mount>, Failed> {
    let text = fs::read(path).in_view(format_args!("read {path}"))?;
    mountinfo::parse_all(&String::from_utf8_lossy(&text)).in_view(format_args!("read {path}"))
}

/// Looks at what was built.
fn describe() -> Result<Built, Failed> {
    let all = read_mounts("/proc/self/mountinfo")?;
    let mounts = u32::try_from(all.len()).in_view("count the mounts")?;
    let executable = all.into_iter().filter(|mount| !mount.noexec);
    Ok(Built {
        exec_mounts: executable.map(|mount| mount.at).collect(),
        mounts,
    })
}

/// All errors here are of one layer.
pub(super) trait InView<T> {
    fn in_view(self, what: impl Display) -> Result<T, Failed>;
}

impl<T, E: Display> InView<T> for Result<T, E> {
    fn in_view(self, what: impl Display) -> Result<T, Failed> {
        self.in_layer(Layer::MountView, what)
    }
}
