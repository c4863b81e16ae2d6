//! Hears of limits that sandboxes meet, and writes it to the audit log.
//!
//! The kernel tells of changes in the unified hierarchy, so that sandboxes that meet no limit cost
//! nothing. Hierarchies of version 1 are looked at in turn.

use std::{
    collections::{HashMap, VecDeque},
    fs, io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use clawd_audit::DaemonEvent;
use clawd_common::verdict::Reason;
use rustix::{
    fs::{XattrFlags, getxattr, inotify, setxattr},
    io::Errno,
};

use super::controllers::Controller;
use crate::{audit::Audit, cgroup::Cgroup, sandboxes::Live};

/// Sandboxes of version 1 hierarchies that are looked at each time: 2 ms of one CPU.
const LOOKS: usize = 256;
/// On a sandbox's cgroup: what of it is in the audit log, so that the next clawd goes on from there.
const TOLD: &str = "trusted.clawd.told";
/// Room for some changes; the rest comes with the next read.
const EVENT_BYTES: usize = 4096;

/// What a sandbox has met so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hits {
    /// Forks that were refused.
    pub(crate) pids: u64,
    /// Processes that were killed for memory.
    pub(crate) memory: u64,
}

/// Who is to be looked at.
pub(crate) struct Watch {
    inner: Mutex<Inner>,
}

struct Inner {
    changes: Option<OwnedFd>,
    by_descriptor: HashMap<i32, Weak<Live>>,
    /// Not looked at yet: they may have met a limit before anybody could hear.
    new: Vec<Weak<Live>>,
    /// In turn.
    polled: VecDeque<Weak<Live>>,
}

// === impl Watch ===

impl Watch {
    pub(crate) fn new() -> Self {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let changes = inotify::init(flags)
            .inspect_err(|error| {
                tracing::warn!(%error, "the kernel cannot tell of limits; they are looked at in turn");
            })
            .ok();
        Self {
            inner: Mutex::new(Inner {
                changes,
                by_descriptor: HashMap::new(),
                new: Vec::new(),
                polled: VecDeque::new(),
            }),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at a sandbox from now on, until it is gone.
    pub(crate) fn add(&self, live: &Arc<Live>) {
        let mut inner = self.inner();
        inner.new.push(Arc::downgrade(live));
        let files = events_files(&live.cgroup);
        for (controller, file) in &files {
            let is_told = live.cgroup.controllers().is_unified(*controller);
            if !is_told || !inner.hear_of(file, live) {
                inner.polled.push_back(Arc::downgrade(live));
                return;
            }
        }
    }

    /// The sandboxes that may have met a limit since the last time.
    fn due(&self) -> Vec<Arc<Live>> {
        let mut inner = self.inner();
        let mut due = inner.changed();
        let new = std::mem::take(&mut inner.new);
        due.extend(new.iter().filter_map(Weak::upgrade));
        for _ in 0..inner.polled.len().min(LOOKS) {
            let Some(next) = inner.polled.pop_front() else {
                break;
            };
            if let Some(live) = next.upgrade() {
                due.push(live);
                inner.polled.push_back(next);
            }
        }
        due
    }

    /// Looks at whom it may concern, and tells the audit log what is new.
    pub(crate) fn look(&self, audit: &Audit) {
        for live in self.due() {
            tell(audit, &live);
        }
    }
}

// === impl Inner ===

impl Inner {
    /// Whether the kernel will tell of changes of a file.
    fn hear_of(&mut self, file: &Path, live: &Arc<Live>) -> bool {
        let Some(changes) = &self.changes else {
            return false;
        };
        match inotify::add_watch(changes, file, inotify::WatchFlags::MODIFY) {
            Ok(descriptor) => {
                self.by_descriptor.insert(descriptor, Arc::downgrade(live));
                true
            }
            // The limit is not held, so there is nothing to hear.
            Err(Errno::NOENT) => true,
            Err(error) => {
                tracing::warn!(%error, "the kernel does not tell of a limit; it is looked at in turn");
                false
            }
        }
    }

    fn changed(&mut self) -> Vec<Arc<Live>> {
        let mut due: Vec<Arc<Live>> = Vec::new();
        let Some(changes) = &self.changes else {
            return due;
        };
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = inotify::Reader::new(changes, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return due,
                Err(error) => {
                    tracing::error!(%error, "what the kernel tells of limits cannot be read");
                    return due;
                }
            };
            let gone = event.events().contains(inotify::ReadFlags::IGNORED);
            let live = if gone {
                self.by_descriptor.remove(&event.wd())
            } else {
                self.by_descriptor.get(&event.wd()).cloned()
            };
            if let Some(live) = live.and_then(|live| live.upgrade())
                && !due.iter().any(|other| Arc::ptr_eq(other, &live))
            {
                due.push(live);
            }
        }
    }
}

/// The files that tell of limits that were met.
fn events_files(cgroup: &Cgroup) -> Vec<(Controller, PathBuf)> {
    [Controller::Pids, Controller::Memory]
        .into_iter()
        .filter_map(|controller| {
            let name = match (controller, cgroup.controllers().is_unified(controller)) {
                (Controller::Memory, true) => "memory.events",
                (Controller::Memory, false) => "memory.oom_control",
                _ => "pids.events",
            };
            Some((controller, cgroup.dir_of(controller)?.join(name)))
        })
        .collect()
}

/// What a sandbox has met since its start.
pub(crate) fn hits(cgroup: &Cgroup) -> Hits {
    let mut hits = Hits::default();
    for (controller, file) in events_files(cgroup) {
        let text = fs::read_to_string(file).unwrap_or_default();
        match controller {
            Controller::Pids => hits.pids = count(&text, "max"),
            _ => hits.memory = count(&text, "oom_kill"),
        }
    }
    hits
}

/// The number behind a name in a file of names and numbers.
fn count(text: &str, name: &str) -> u64 {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.trim().parse().ok())
        .unwrap_or(0)
}

/// Writes to the audit log what a sandbox has met and nobody has told yet.
pub(crate) fn tell(audit: &Audit, live: &Live) {
    let _one_at_a_time = live.telling.lock().unwrap_or_else(PoisonError::into_inner);
    let hits = hits(&live.cgroup);
    if hits == Hits::default() {
        return;
    }
    let path = live.cgroup.path();
    let before = told(path);
    let name = live.state().name.clone();
    for (reason, now, before) in [
        (Reason::PidsLimit, hits.pids, before.pids),
        (Reason::MemoryLimit, hits.memory, before.memory),
    ] {
        if now > before {
            audit.daemon(&DaemonEvent::LimitHit {
                sandbox: name.as_str(),
                reason,
                count: now - before,
            });
        }
    }
    if hits != before
        && let Err(error) = remember(path, hits)
    {
        tracing::warn!(sandbox = %name, %error, "limits that were met may be told twice");
    }
}

fn told(cgroup: &Path) -> Hits {
    let mut value = [0_u8; 64];
    let length = getxattr(cgroup, TOLD, &mut value).unwrap_or(0);
    let text = String::from_utf8_lossy(value.get(..length).unwrap_or_default()).into_owned();
    Hits {
        pids: count(&text, "pids"),
        memory: count(&text, "memory"),
    }
}

fn remember(cgroup: &Path, hits: Hits) -> io::Result<()> {
    let text = format!("pids {}\nmemory {}\n", hits.pids, hits.memory);
    Ok(setxattr(
        cgroup,
        TOLD,
        text.as_bytes(),
        XattrFlags::empty(),
    )?)
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn count_is_of_the_whole_name() {
        let text = "low 0\nmax 7\noom 1\noom_kill 2\noom_group_kill 9\n";
        assert_eq!((count(text, "max"), count(text, "oom_kill")), (7, 2));
        assert_eq!((count(text, "oom_"), count("", "max")), (0, 0));
        assert_eq!(count("max x\n", "max"), 0);
    }
}
