//! The exec gate: answers the permission events of all sandboxes with a few threads.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clawd_common::{record::FileKey, verdict::Reason};
use clawd_sys::fanotify::{ExecEvent, Group};
use rustix::{
    buffer::spare_capacity,
    event::epoll,
    fs::{Mode, OFlags, ResolveFlags, StatVfsMountFlags, fstat, fstatvfs, openat2, readlinkat},
};

use crate::settle::{Identified, identify};

/// Threads that answer events.
pub const WORKERS: u32 = 2;

/// Longest an exec waits for its hash.
const DEADLINE: Duration = Duration::from_secs(5);

/// Computes file keys; each worker has one of its own.
pub trait Keys: Send {
    /// The key of an open file.
    ///
    /// # Errors
    /// Whatever kept the kernel from telling it.
    fn key(&mut self, file: BorrowedFd<'_>) -> io::Result<FileKey>;
}

/// What came of one exec event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The file carries an identity.
    Identified(Identified),
    /// It does not.
    NoIdentity(Reason),
}

/// One exec event, seen before the file runs.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The sandbox whose mount it came through.
    pub sandbox_id: u32,
    /// The process that executes, in the daemon's pid namespace.
    pub pid: i32,
    /// The file, in the sandbox's view.
    pub path: PathBuf,
    /// The file's key; `None` where it could not be computed.
    pub key: Option<FileKey>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What becomes of a mount that cannot be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Nothing is watched: the sandbox must not start.
    Refuse,
    /// Its programs get no identity: the sandbox runs already.
    Skip,
}

/// Where identities are kept. Called from the workers while the exec waits.
pub trait Identities: Send + Sync {
    /// The hash of a key that was published before.
    fn known(&self, key: &FileKey) -> Option<[u8; 32]>;
    /// Publishes what was seen; when this returns, the kernel must know it.
    fn seen(&self, seen: Seen);
}

/// Why the gate cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// The kernel has no exec permission events, or refuses them.
    #[error(
        "cannot {what}; the exec gate needs fanotify with permission events (CONFIG_FANOTIFY_ACCESS_PERMISSIONS)"
    )]
    Fanotify {
        /// The call.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host's limit on fanotify groups is used up; it counts for root too.
    #[error(
        "all fanotify groups are used up, and each sandbox needs one; stop sandboxes, or raise the limit with `sysctl fs.fanotify.max_user_groups`"
    )]
    Groups {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A mount of the sandbox could not be marked.
    #[error("cannot watch execs on the sandbox's mount {}", path.display())]
    Mark {
        /// The mount point in the sandbox's view.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No thread or event queue could be had.
    #[error("cannot {what}")]
    Resource {
        /// What was wanted.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

struct Shared {
    epoll: OwnedFd,
    groups: Mutex<HashMap<u32, Arc<Group>>>,
    identities: Arc<dyn Identities>,
    running: AtomicU32,
}

/// The gate. While it lives its workers answer; when the process dies the kernel lets all execs go
/// on, and their files have no identity.
pub struct Gate {
    shared: Arc<Shared>,
}

impl Gate {
    /// Starts the workers, one for each of `keys`.
    ///
    /// # Errors
    /// [`GateError`].
    pub fn start(
        identities: Arc<dyn Identities>,
        keys: Vec<Box<dyn Keys>>,
    ) -> Result<Self, GateError> {
        // Tells at the start, not at the first sandbox, whether the kernel has what is needed.
        drop(Group::new().map_err(no_group)?);
        let epoll =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|errno| GateError::Resource {
                what: "make an event queue",
                source: errno.into(),
            })?;
        let shared = Arc::new(Shared {
            epoll,
            groups: Mutex::new(HashMap::new()),
            identities,
            running: AtomicU32::new(0),
        });
        for (index, keys) in keys.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("gate-{index}"))
                .stack_size(256 << 10)
                .spawn(move || work(&shared, keys))
                .map_err(|source| GateError::Resource {
                    what: "start a worker of the exec gate",
                    source,
                })?;
        }
        Ok(Self { shared })
    }

    /// Workers that are alive.
    #[must_use]
    pub fn running_workers(&self) -> u32 {
        self.shared.running.load(Ordering::Relaxed)
    }

    /// Watches the execs on `mounts` (absolute, in the sandbox's view), found from `root`, the
    /// sandbox's root directory. No exec may happen there before this returns.
    ///
    /// # Errors
    /// [`GateError`]; then nothing is watched.
    pub fn watch(
        &self,
        sandbox_id: u32,
        root: BorrowedFd<'_>,
        mounts: &[PathBuf],
        missing: Missing,
    ) -> Result<(), GateError> {
        let group = Group::new().map_err(no_group)?;
        for path in mounts {
            let marked =
                place_below(root, path).and_then(|place| group.mark_exec_of_mount(place.as_fd()));
            match (marked, missing) {
                (Ok(()), _) => {}
                (Err(error), Missing::Skip) => {
                    tracing::warn!(sandbox_id, path = %path.display(), %error, "programs on a mount get no identity");
                }
                (Err(source), Missing::Refuse) => {
                    let path = path.clone();
                    return Err(GateError::Mark { path, source });
                }
            }
        }
        let group = Arc::new(group);
        self.groups().insert(sandbox_id, Arc::clone(&group));
        let queued = epoll::add(
            &self.shared.epoll,
            group.as_fd(),
            epoll::EventData::new_u64(u64::from(sandbox_id)),
            epoll::EventFlags::IN | epoll::EventFlags::ONESHOT,
        );
        queued.map_err(|errno| {
            self.groups().remove(&sandbox_id);
            GateError::Resource {
                what: "watch a fanotify group",
                source: errno.into(),
            }
        })
    }

    /// Stops watching a sandbox that has no process left.
    pub fn unwatch(&self, sandbox_id: u32) {
        self.groups().remove(&sandbox_id);
    }

    fn groups(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Arc<Group>>> {
        self.shared
            .groups
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// EMFILE has a cause of its own, which the kernel's configuration does not mend.
fn no_group(source: io::Error) -> GateError {
    const EMFILE: i32 = 24;
    if source.raw_os_error() == Some(EMFILE) {
        return GateError::Groups { source };
    }
    GateError::Fanotify {
        what: "make a fanotify group",
        source,
    }
}

/// Opens `path` of the tree below `root` without leaving it: the sandbox may have moved folders and
/// put links in their place.
fn place_below(root: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let below = path.strip_prefix("/").unwrap_or(path);
    let below = if below.as_os_str().is_empty() {
        Path::new(".")
    } else {
        below
    };
    Ok(openat2(
        root,
        below,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
    )?)
}

/// One worker. A group is handed to one worker at a time, and after each batch goes to the end of
/// the queue, so a storm in one sandbox delays the others by one batch.
fn work(shared: &Shared, mut keys: Box<dyn Keys>) {
    shared.running.fetch_add(1, Ordering::Relaxed);
    let _running = OnDrop(&shared.running);
    loop {
        let mut ready = Vec::with_capacity(1);
        match epoll::wait(&shared.epoll, spare_capacity(&mut ready), None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => {
                tracing::error!(%error, "the exec gate cannot wait for events; a worker ends");
                return;
            }
        }
        for event in ready {
            let Ok(sandbox_id) = u32::try_from(event.data.u64()) else {
                continue;
            };
            let group = shared
                .groups
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&sandbox_id)
                .cloned();
            let Some(group) = group else { continue };
            serve(shared, keys.as_mut(), sandbox_id, &group);
            let again = epoll::modify(
                &shared.epoll,
                group.as_fd(),
                epoll::EventData::new_u64(u64::from(sandbox_id)),
                epoll::EventFlags::IN | epoll::EventFlags::ONESHOT,
            );
            if let Err(error) = again {
                tracing::error!(sandbox_id, %error, "the exec gate lost a sandbox; its new programs get no identity");
                shared
                    .groups
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&sandbox_id);
            }
        }
    }
}

struct OnDrop<'a>(&'a AtomicU32);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers one batch of a sandbox.
fn serve(shared: &Shared, keys: &mut dyn Keys, sandbox_id: u32, group: &Group) {
    let batch = match group.read() {
        Ok(batch) => batch,
        Err(error) => {
            tracing::error!(sandbox_id, %error, "the exec gate cannot read events");
            return;
        }
    };
    if batch.overflowed {
        tracing::error!(
            sandbox_id,
            "the queue of exec events overflowed; some programs have no identity"
        );
    }
    for event in batch.events {
        let (seen, event) = judge(shared, keys, sandbox_id, event);
        shared.identities.seen(seen);
        if let Err(error) = group.allow(event) {
            tracing::debug!(sandbox_id, %error, "an exec was gone before its answer");
        }
    }
}

/// Finds out what a waiting exec is about to run.
fn judge(
    shared: &Shared,
    keys: &mut dyn Keys,
    sandbox_id: u32,
    event: ExecEvent,
) -> (Seen, ExecEvent) {
    let ExecEvent { file, pid } = event;
    let file = File::from(file);
    let path = path_of(&file);
    let key = keys.key(file.as_fd()).ok();
    let outcome = match may_have_identity(&file) {
        Err(reason) => Outcome::NoIdentity(reason),
        Ok(()) => {
            let known = |key: &FileKey| shared.identities.known(key);
            match identify(
                &file,
                |file| keys.key(file.as_fd()),
                known,
                Instant::now() + DEADLINE,
            ) {
                Ok(identified) => Outcome::Identified(identified),
                Err(reason) => Outcome::NoIdentity(reason),
            }
        }
    };
    (
        Seen {
            sandbox_id,
            pid,
            path,
            key,
            outcome,
        },
        ExecEvent {
            file: file.into(),
            pid,
        },
    )
}

/// A file may carry an identity only if the sandbox cannot have a writer for it: a page dirtied
/// through a shared mapping before hashing can change after it with no new change time.
fn may_have_identity(file: &File) -> Result<(), Reason> {
    let mount = fstatvfs(file).map_err(|_unreadable| Reason::Unreadable)?;
    if !mount.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(Reason::WritableMount);
    }
    let stat = fstat(file).map_err(|_unreadable| Reason::Unreadable)?;
    if stat.st_nlink == 0 {
        return Err(Reason::Unlinked);
    }
    Ok(())
}

/// The path in the sandbox's view: the kernel walks up to the root of the mount tree that the file
/// was opened through.
fn path_of(file: &File) -> PathBuf {
    use std::os::{fd::AsRawFd as _, unix::ffi::OsStringExt as _};

    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    match readlinkat(rustix::fs::CWD, link, Vec::new()) {
        Ok(path) => PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes())),
        Err(_unreadable) => PathBuf::new(),
    }
}
