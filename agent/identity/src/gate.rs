//! The gate: what its threads share, and what a daemon may ask of it.

use std::{
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Instant,
};

use clawd_common::record::FileKey;
use rustix::process::{Resource, getrlimit};

use crate::{
    book::{Book, Capacity},
    groups::{GROUPS_MAX, Groups, Seat},
    judge::Scripts,
    lease::Leases,
    pins::Pins,
    protocol::{FromGate, Health, Notice},
    queue::Queue,
    reader::read_events,
    sandbox::{Sandbox, WatchError},
    tables::{Keys, Locate, Tables},
    text_busy::running_files_refuse_writers,
    watchdog::{Ending, Progress},
    watched::Watched,
    worker::work,
};

/// Threads that look at programs which are not known.
pub const WORKERS: usize = 2;

/// Interpreters that wait to be looked at.
const SUSPECTS: usize = 256;

/// Least time that the kernel must leave a lease whose holder is told to give it up, in seconds: an
/// exec is over sooner.
const LEASE_BREAK_S: u32 = 4;

/// What all threads of the gate share.
pub(crate) struct Shared {
    pub(crate) started: Instant,
    pub(crate) watched: Watched,
    pub(crate) queue: Queue,
    scripts: Mutex<Scripts>,
    groups: Groups,
    /// For the threads that read groups, one each, by the group's number.
    locates: Mutex<Vec<Option<Box<dyn Locate>>>>,
    /// Execs that went on without having been looked at, and nobody knows whose, since that was told
    /// last.
    pub(crate) unseen: AtomicU64,
    book: Mutex<Book>,
    pub(crate) leases: Leases,
    /// Whether this kernel refuses writers of a file that is being executed.
    pub(crate) running_files_refuse_writers: bool,
    /// For files of policies; the workers have readers of their own.
    keys: Mutex<Box<dyn Keys>>,
    notices: SyncSender<FromGate>,
    notices_lost: AtomicU64,
    suspects: SyncSender<(Arc<Sandbox>, PathBuf)>,
    /// Of the workers.
    progress: Vec<Progress>,
    workers_ended: AtomicU32,
    readers_ended: AtomicU32,
    capacity: Capacity,
}

/// What the gate is made of.
pub struct Parts {
    /// The kernel's tables.
    pub tables: Box<dyn Tables>,
    /// How much they hold.
    pub capacity: Capacity,
    /// For the workers, [`WORKERS`] of them.
    pub worker_keys: Vec<Box<dyn Keys>>,
    /// For the threads that read events, [`GROUPS_MAX`] of them.
    pub locates: Vec<Box<dyn Locate>>,
    /// For everything else.
    pub keys: Box<dyn Keys>,
    /// The file that keeps the pins.
    pub pins_file: PathBuf,
}

/// Why the gate cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No thread or look at the host could be had.
    #[error("cannot {what}")]
    Resource {
        /// What was wanted.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The pins cannot be read.
    #[error(transparent)]
    Pins(#[from] crate::pins::PinError),
    /// The kernel has no exec permission events.
    #[error(transparent)]
    Watch(#[from] WatchError),
}

impl Shared {
    pub(crate) fn start(
        parts: Parts,
        notices: SyncSender<FromGate>,
    ) -> Result<Arc<Self>, StartError> {
        let resource = |what| move |source| StartError::Resource { what, source };
        let refuse = running_files_refuse_writers()
            .map_err(resource("find out whether running files can be written"))?
            && leases_last();
        if !refuse {
            tracing::warn!(
                "this kernel lets running programs be written, or takes leases away within {LEASE_BREAK_S} s \
                 (`sysctl fs.lease-break-time`); only files on read-only mounts get an identity"
            );
        }
        let pins = Pins::open(parts.pins_file)?;
        let (suspects, suspected) = sync_channel::<(Arc<Sandbox>, PathBuf)>(SUSPECTS);
        let shared = Arc::new(Self {
            started: Instant::now(),
            watched: Watched::default(),
            queue: Queue::new(room()),
            scripts: Mutex::default(),
            groups: Groups::new(GROUPS_MAX),
            locates: Mutex::new(parts.locates.into_iter().map(Some).collect()),
            unseen: AtomicU64::new(0),
            book: Mutex::new(Book::new(parts.tables, parts.capacity, pins)),
            leases: Leases::default(),
            running_files_refuse_writers: refuse,
            keys: Mutex::new(parts.keys),
            notices,
            notices_lost: AtomicU64::new(0),
            suspects,
            progress: (0..WORKERS).map(|_| Progress::default()).collect(),
            workers_ended: AtomicU32::new(0),
            readers_ended: AtomicU32::new(0),
            capacity: parts.capacity,
        });
        for (index, keys) in parts.worker_keys.into_iter().enumerate() {
            let worker = Arc::clone(&shared);
            thread::Builder::new()
                .name(format!("gate-{index}"))
                .stack_size(512 << 10)
                .spawn(move || worker.run_worker(index, keys))
                .map_err(resource("start a worker of the exec gate"))?;
        }
        let learner = Arc::clone(&shared);
        thread::Builder::new()
            .name("gate-loaders".to_owned())
            .spawn(move || {
                for (sandbox, path) in suspected {
                    learner.learn_loader(&sandbox, &path);
                }
            })
            .map_err(resource("start a thread"))?;
        // Tells at the start, not at the first sandbox, whether the kernel has what is needed.
        drop(shared.seat()?);
        Ok(shared)
    }

    fn run_worker(self: &Arc<Self>, index: usize, keys: Box<dyn Keys>) {
        let _ending = Ending(&self.workers_ended);
        if let Some(progress) = self.progress.get(index) {
            work(self, progress, keys);
        }
    }

    /// A place in a group for one more sandbox.
    pub(crate) fn seat(self: &Arc<Self>) -> Result<Seat, WatchError> {
        self.groups.seat(|number, reading| {
            let mut locates = self.locates.lock().unwrap_or_else(PoisonError::into_inner);
            let locate = locates.get_mut(number).and_then(Option::take);
            let mut locate = locate.ok_or(std::io::ErrorKind::NotFound)?;
            let (shared, reading) = (Arc::clone(self), Arc::clone(reading));
            thread::Builder::new()
                .name(format!("gate-events-{number}"))
                .stack_size(256 << 10)
                .spawn(move || {
                    let _ending = Ending(&shared.readers_ended);
                    read_events(&shared, &reading, locate.as_mut());
                })
                .map(drop)
        })
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn scripts(&self) -> MutexGuard<'_, Scripts> {
        self.scripts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn book_lock(&self) -> &Mutex<Book> {
        &self.book
    }

    /// Tells the daemon. Never waits for it: an exec waits for the caller.
    pub(crate) fn notify(&self, notices: Vec<Notice>) {
        for notice in notices {
            if self.notices.try_send(FromGate::Notice(notice)).is_err() {
                self.notices_lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Has an interpreter looked at by somebody for whom no exec waits.
    pub(crate) fn suspect_loader(&self, sandbox: &Arc<Sandbox>, path: &Path) {
        let suspect = (Arc::clone(sandbox), path.to_path_buf());
        if self.suspects.try_send(suspect).is_err() {
            tracing::debug!(path = %path.display(), "too many interpreters to look at");
        }
    }

    /// How the gate is.
    pub(crate) fn health(&self) -> Health {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (files, chains) = self.book().sizes();
        let busy = |progress: &Progress| progress.busy_for(self.started);
        let workers = self.progress.iter().map(busy).max().unwrap_or_default();
        let stalled = workers.max(self.groups.busy_for(self.started)).as_millis();
        let ended = self.workers_ended.load(Ordering::Relaxed);
        Health {
            workers: count(WORKERS).saturating_sub(ended),
            ended: ended.saturating_add(self.readers_ended.load(Ordering::Relaxed)),
            stalled_ms: u64::try_from(stalled).unwrap_or(u64::MAX),
            files: count(files),
            files_max: count(self.capacity.files),
            chains: count(chains),
            chains_max: count(self.capacity.chains),
            notices_lost: self.notices_lost.load(Ordering::Relaxed),
        }
    }

    /// A reader of keys that other threads use too.
    pub(crate) fn shared_keys(&self) -> SharedKeys<'_> {
        SharedKeys(&self.keys)
    }

    /// Gives back leases that are over by the clock, forces pins to the disk, and tells what went on
    /// unseen.
    pub(crate) fn tick(&self) {
        self.tell_unseen();
        let broken = self.leases.expire(&self.book);
        let broken = broken.into_iter().map(|tgid| Notice::LeaseBroken { tgid });
        self.notify(broken.collect());
        let unsynced = self.book().pins().take_unsynced();
        if let Some(path) = unsynced
            && let Err(error) = crate::pins::sync(&path)
        {
            tracing::error!(path = %path.display(), %error, "pins may not survive a power cut");
        }
    }
}

/// Execs that may wait: each is a descriptor. Sandboxes have some each, and so has each lease; where
/// none is left the kernel would deny execs.
fn room() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 4).unwrap_or(usize::MAX)
}

/// Whether a lease that somebody wants to break outlasts the exec that it is for.
fn leases_last() -> bool {
    let text = std::fs::read_to_string("/proc/sys/fs/lease-break-time").unwrap_or_default();
    let seconds: Option<u32> = text.trim().parse().ok();
    seconds.is_some_and(|seconds| seconds >= LEASE_BREAK_S)
}

/// One reader of keys for many threads, each call by itself.
pub(crate) struct SharedKeys<'a>(&'a Mutex<Box<dyn Keys>>);

impl Keys for SharedKeys<'_> {
    fn key(&mut self, file: BorrowedFd<'_>) -> std::io::Result<FileKey> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.key(file)
    }
}
