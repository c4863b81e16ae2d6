//! Names in use, and what has become of the start that each was taken for.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use clawd_control::SandboxName;
use tokio::sync::watch;

use crate::sandboxes::Live;

/// How far a start is.
enum Phase {
    /// Under way.
    Starting,
    /// Under way, and to be given up.
    Cancelled,
    /// The sandbox runs.
    Live(Arc<Live>),
    /// It did not come to be, or nothing of it is left.
    Gone,
}

/// A start, for those who wait for what becomes of it.
pub(crate) struct Start(watch::Sender<Phase>);

impl Start {
    /// Waits for the sandbox; `None` where there is none.
    pub(crate) async fn live(&self) -> Option<Arc<Live>> {
        let mut phases = self.0.subscribe();
        let known = |phase: &Phase| matches!(phase, Phase::Live(_) | Phase::Gone);
        match phases.wait_for(known).await.as_deref() {
            Ok(Phase::Live(live)) => Some(Arc::clone(live)),
            _ => None,
        }
    }
}

/// The names, and their starts.
#[derive(Default)]
pub(crate) struct Starts(Mutex<HashMap<SandboxName, Arc<Start>>>);

impl Starts {
    fn names(&self) -> MutexGuard<'_, HashMap<SandboxName, Arc<Start>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sandboxes that live, are being started or are being cleared away.
    pub(crate) fn len(&self) -> usize {
        self.names().len()
    }

    /// Takes a name for as long as what is returned lives; `None` where it is taken, or `open` says
    /// that no start is begun any more, which is looked at under the lock.
    pub(crate) fn take(
        self: &Arc<Self>,
        name: SandboxName,
        open: impl FnOnce() -> bool,
    ) -> Option<Reserved> {
        let mut names = self.names();
        if !open() {
            return None;
        }
        match names.entry(name.clone()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(free) => {
                let start = Arc::new(Start(watch::Sender::new(Phase::Starting)));
                free.insert(Arc::clone(&start));
                drop(names);
                Some(Reserved {
                    starts: Arc::clone(self),
                    start,
                    name,
                })
            }
        }
    }

    /// Every sandbox that has a name. Those that are being started are given up where they are not
    /// beyond that; whichever starts all the same shows in [`Start::live`].
    pub(crate) fn cancel_all(&self) -> Vec<(SandboxName, Arc<Start>)> {
        let names = self.names();
        let mut all: Vec<_> = (names.iter())
            .map(|(name, start)| (name.clone(), Arc::clone(start)))
            .collect();
        drop(names);
        for (_, start) in &all {
            start.0.send_if_modified(|phase| {
                let is_starting = matches!(phase, Phase::Starting);
                if is_starting {
                    *phase = Phase::Cancelled;
                }
                is_starting
            });
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }
}

/// A name that nobody else can take while this lives.
pub(crate) struct Reserved {
    starts: Arc<Starts>,
    start: Arc<Start>,
    pub(crate) name: SandboxName,
}

impl Reserved {
    /// The sandbox runs.
    pub(crate) fn is_live(&self, live: Arc<Live>) {
        self.start.0.send_replace(Phase::Live(live));
    }

    /// Whether the start is to be given up.
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(*self.start.0.borrow(), Phase::Cancelled)
    }

    /// Waits until the start is to be given up.
    pub(crate) async fn cancelled(&self) {
        let mut phases = self.start.0.subscribe();
        let cancelled = |phase: &Phase| matches!(phase, Phase::Cancelled);
        if phases.wait_for(cancelled).await.is_err() {
            // `self` holds the sender.
            std::future::pending().await
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.starts.names().remove(&self.name);
        self.start.0.send_replace(Phase::Gone);
    }
}
