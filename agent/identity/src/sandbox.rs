//! A sandbox that is watched: its mounts, its place in a fanotify group, its loaders.

use std::{
    collections::HashSet,
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use crate::{
    groups::Seat,
    mounts::{MountsError, View, WritableTrees, is_trusted_fs_type},
    protocol::Watch,
    resolve::{Trusted, place_below},
};
use clawd_sys::fanotify::Group;

/// Where dynamic loaders are on the systems that clawd runs on.
pub(crate) const LOADERS: &[&str] = &[
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];

/// Interpreters of one sandbox's programs that are looked at.
const LOADERS_MAX: usize = 64;

/// Why a sandbox cannot be watched. Nothing of it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The kernel has no exec permission events, or refuses them.
    #[error(
        "cannot make a fanotify group; the exec gate needs permission events (CONFIG_FANOTIFY_ACCESS_PERMISSIONS)"
    )]
    Fanotify(#[source] io::Error),
    /// Other programs have used up the host's limit on fanotify groups; it counts for root too.
    #[error(
        "other programs use all fanotify groups (`sysctl fs.fanotify.max_user_groups`), and the exec gate needs one"
    )]
    Groups(#[source] io::Error),
    /// A mount of the sandbox could not be marked.
    #[error("cannot watch execs on the sandbox's mount {}", path.display())]
    Mark {
        /// The mount point in the sandbox's view.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The sandbox's root or mounts could not be looked at.
    #[error("cannot look at the sandbox's {what}")]
    Look {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its mounts are not understood.
    #[error("the sandbox's mounts are not understood")]
    Mounts(#[from] MountsError),
    /// Its policy could not be written.
    #[error("the policy does not fit into the kernel's tables")]
    Tables(#[from] crate::tables::TableError),
}

/// What becomes of a mount that cannot be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The sandbox is not watched: it must not start.
    Refuse,
    /// Its programs get no identity: the sandbox runs already.
    Skip,
}

/// How far a sandbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum State {
    /// Its policy is being loaded; its execs wait.
    Entering,
    /// Its execs are answered.
    Entered,
    /// Nobody watches it any more; its execs that wait go on without identity.
    Left,
}

/// A sandbox that is watched.
pub(crate) struct Sandbox {
    pub(crate) id: u32,
    seat: Seat,
    state: AtomicU8,
    root: OwnedFd,
    /// While this lives, no other namespace gets its number, by which its execs are known.
    _namespace: File,
    namespace: u32,
    pub(crate) view: View,
    /// Its mount points that are marked.
    marked: Mutex<Vec<PathBuf>>,
    /// Its writable mounts: while these live, no other file system gets the device number of one, by
    /// which what the sandbox can write is remembered.
    _kept: Vec<OwnedFd>,
    /// Interpreters whose content is known to be a loader.
    loaders: Mutex<HashSet<PathBuf>>,
    /// Those whose execs raise no event: a descriptor keeps the kernel's mark.
    ignored: Mutex<Vec<OwnedFd>>,
    /// Execs of its that went on without having been looked at, since that was told last.
    pub(crate) unseen: AtomicU64,
}

impl Sandbox {
    /// Looks at a sandbox's mounts. Its execs wait from the time that they are marked until it has
    /// entered.
    pub(crate) fn new(watch: &Watch, view: View, seat: Seat) -> Result<Self, WatchError> {
        let looked = |what| move |source| WatchError::Look { what, source };
        let proc = |name: &str| File::open(format!("/proc/{}/{name}", watch.init_pid));
        let root = proc("root").map_err(looked("root"))?;
        let namespace_file = proc("ns/mnt").map_err(looked("mount namespace"))?;
        let number = namespace_file
            .metadata()
            .map_err(looked("mount namespace"))?;
        let namespace = u32::try_from(number.ino())
            .map_err(|_too_large| looked("mount namespace")(io::ErrorKind::InvalidData.into()))?;
        let kept = view
            .mounts()
            .filter(|mount| !mount.read_only)
            .filter_map(|mount| place_below(root.as_fd(), &mount.point).ok())
            .collect();
        Ok(Self {
            id: watch.sandbox_id,
            seat,
            state: AtomicU8::new(State::Entering as u8),
            root: root.into(),
            _namespace: namespace_file,
            namespace,
            view,
            marked: Mutex::new(Vec::new()),
            _kept: kept,
            loaders: Mutex::new(HashSet::new()),
            ignored: Mutex::new(Vec::new()),
            unseen: AtomicU64::new(0),
        })
    }

    /// Marks the mounts that programs can be executed from.
    pub(crate) fn mark(&self, watch: &Watch, missing: Missing) -> Result<(), WatchError> {
        for path in &watch.exec_mounts {
            // The kernel opens each executed file for the gate; one of a file system whose server
            // does not answer would never come back. Nothing there has an identity anyway.
            if self
                .view
                .topmost(path)
                .is_none_or(|mount| !is_trusted_fs_type(&mount.fs_type))
            {
                tracing::info!(sandbox = watch.name, path = %path.display(), "no program of this file system can have an identity");
                continue;
            }
            let marked = place_below(self.root(), path)
                .and_then(|place| self.group().mark_exec_of_mount(place.as_fd()));
            match (marked, missing) {
                (Ok(()), _) => lock(&self.marked).push(path.clone()),
                (Err(error), Missing::Skip) => {
                    tracing::warn!(sandbox = watch.name, path = %path.display(), %error, "programs on a mount get no identity");
                }
                (Err(source), Missing::Refuse) => {
                    let path = path.clone();
                    return Err(WatchError::Mark { path, source });
                }
            }
        }
        Ok(())
    }

    /// What it is granted is known: its execs are answered from now on.
    pub(crate) fn enter(&self) {
        self.state.store(State::Entered as u8, Ordering::Release);
    }

    /// Nobody watches it from now on. Marks that cannot be taken back go with their mounts.
    pub(crate) fn leave(&self) {
        self.state.store(State::Left as u8, Ordering::Release);
        for path in lock(&self.marked).drain(..) {
            let unmarked = place_below(self.root(), &path)
                .and_then(|place| self.group().unmark_exec_of_mount(place.as_fd()));
            if let Err(error) = unmarked {
                tracing::debug!(sandbox_id = self.id, path = %path.display(), %error, "a mark stays until its mount is gone");
            }
        }
    }

    fn is(&self, state: State) -> bool {
        self.state.load(Ordering::Acquire) == state as u8
    }

    pub(crate) fn is_entering(&self) -> bool {
        self.is(State::Entering)
    }

    pub(crate) fn is_entered(&self) -> bool {
        self.is(State::Entered)
    }

    pub(crate) fn has_left(&self) -> bool {
        self.is(State::Left)
    }

    /// The group that its execs are told by.
    pub(crate) fn group(&self) -> &Group {
        self.seat.group()
    }

    /// The number of its mount namespace, its alone while it lives.
    pub(crate) fn namespace(&self) -> u32 {
        self.namespace
    }

    /// Its root directory, as its first process sees it.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Its view, as paths are followed that decide who is granted something.
    pub(crate) fn trusted<'a>(&'a self, trees: &'a WritableTrees) -> Trusted<'a> {
        Trusted {
            root: self.root.as_fd(),
            view: &self.view,
            trees,
        }
    }

    /// Whether an interpreter is new; from now on it is not.
    pub(crate) fn is_new_loader(&self, path: &Path) -> bool {
        let mut loaders = lock(&self.loaders);
        loaders.len() < LOADERS_MAX && loaders.insert(path.to_path_buf())
    }

    /// Asks for no more events of execs of a loader. Others of the group hear of none either, and it
    /// has an identity for nobody: its content has none.
    pub(crate) fn ignore_loader(&self, place: OwnedFd) -> io::Result<()> {
        self.group().ignore_exec_of_file(place.as_fd())?;
        lock(&self.ignored).push(place);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// EMFILE has a cause of its own, which the kernel's configuration does not mend.
pub(crate) fn no_group(source: io::Error) -> WatchError {
    const EMFILE: i32 = 24;
    if source.raw_os_error() == Some(EMFILE) {
        return WatchError::Groups(source);
    }
    WatchError::Fanotify(source)
}
