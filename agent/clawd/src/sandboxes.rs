//! The sandboxes that live, and what the daemon's parts share.

use std::{
    collections::HashMap,
    fs::File,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use clawd_audit::DaemonEvent;
use clawd_control::{ApiError, ExitCode, ExitStatus, SandboxName};
use clawd_kernel::Pins;
use tokio::io::unix::AsyncFd;

use crate::{
    audit::Audit,
    cgroup::{Cgroup, Parent},
    config::Config,
    ends::Ends,
    entrances::Entrances,
    events::floods::Floods,
    flows::dropped::Dropped,
    gate::Gate,
    history::History,
    limits::watch::{self, Watch},
    refusals::{self, Refusals},
    registry::Registry,
    starts::{Reserved, Starts},
    state::{SandboxState, StateDir},
};

/// How long the daemon's end waits for starts that are under way; more than a start may take.
const LAUNCH_DEADLINE: Duration = Duration::from_secs(25);

/// A sandbox that runs.
pub(crate) struct Live {
    pub(crate) cgroup: Cgroup,
    /// Whether a daemon before this one started it.
    pub(crate) adopted: bool,
    state: Mutex<SandboxState>,
    /// One teller of limits that were met at a time.
    pub(crate) telling: Mutex<()>,
    /// One push at a time, and none once the sandbox has ended: true then.
    pub(crate) pushing: Mutex<bool>,
    /// Its pid 1.
    pub(crate) pidfd: OwnedFd,
    /// The system calls that it was refused.
    pub(crate) refusals: Refusals,
    /// How its command ended, where that is known.
    exit_code: Mutex<Option<u8>>,
    /// True once nothing of it is left.
    cleared: tokio::sync::watch::Sender<bool>,
}

impl Live {
    pub(crate) fn new(
        cgroup: Cgroup,
        adopted: bool,
        state: SandboxState,
        (pidfd, refusals): (OwnedFd, OwnedFd),
    ) -> Self {
        Self {
            refusals: Refusals::new(refusals),
            cgroup,
            adopted,
            state: Mutex::new(state),
            telling: Mutex::new(()),
            pushing: Mutex::new(false),
            pidfd,
            exit_code: Mutex::new(None),
            cleared: tokio::sync::watch::Sender::new(false),
        }
    }

    /// Waits until nothing of it is left.
    pub(crate) async fn cleared(&self) {
        if self
            .cleared
            .subscribe()
            .wait_for(|cleared| *cleared)
            .await
            .is_err()
        {
            tracing::debug!("a sandbox was dropped before it was cleared away");
        }
    }

    /// How its command ended, once it is cleared away and where that is known.
    pub(crate) fn exit_code(&self) -> MutexGuard<'_, Option<u8>> {
        (self.exit_code.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, SandboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What every part of the daemon works on.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) parent: Parent,
    pub(crate) pins: Pins,
    pub(crate) registry: Arc<Registry>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) states: StateDir,
    pub(crate) history: History,
    pub(crate) limits: Watch,
    pub(crate) floods: Floods,
    pub(crate) dropped: Dropped,
    pub(crate) entrances: Entrances,
    pub(crate) ends: Ends,
    /// This daemon's own program, which is also the first process of every sandbox.
    pub(crate) executable: File,
    pub(crate) started: Instant,
    pub(crate) started_at: String,
    pub(crate) flush: tokio::sync::mpsc::Sender<tokio::sync::oneshot::Sender<()>>,
    live: Mutex<HashMap<SandboxName, Arc<Live>>>,
    /// Names in use, of sandboxes that are being started too.
    pub(crate) starts: Arc<Starts>,
    /// Set when the daemon is about to end: no sandbox is started any more.
    stopping: AtomicBool,
}

/// The parts that [`Shared::new`] puts together.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) parent: Parent,
    pub(crate) pins: Pins,
    pub(crate) registry: Arc<Registry>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) states: StateDir,
    pub(crate) history: History,
    pub(crate) entrances: Entrances,
    pub(crate) ends: Ends,
    pub(crate) executable: File,
    pub(crate) flush: tokio::sync::mpsc::Sender<tokio::sync::oneshot::Sender<()>>,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            config,
            parent,
            pins,
            registry,
            gate,
            audit,
            states,
            history,
            entrances,
            ends,
            executable,
            flush,
        } = parts;
        Self {
            config,
            parent,
            pins,
            registry,
            gate,
            audit,
            states,
            history,
            limits: Watch::new(),
            floods: Floods::new(),
            dropped: Dropped::default(),
            entrances,
            ends,
            executable,
            started: Instant::now(),
            started_at: crate::audit::now().to_string(),
            flush,
            live: Mutex::new(HashMap::new()),
            starts: Arc::default(),
            stopping: AtomicBool::new(false),
        }
    }

    fn live_map(&self) -> MutexGuard<'_, HashMap<SandboxName, Arc<Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every sandbox, by name.
    pub(crate) fn list(&self) -> Vec<Arc<Live>> {
        let mut list: Vec<_> = self
            .live_map()
            .iter()
            .map(|(name, live)| (name.clone(), Arc::clone(live)))
            .collect();
        list.sort_by(|(a, _), (b, _)| a.cmp(b));
        list.into_iter().map(|(_, live)| live).collect()
    }

    /// The sandbox of that name.
    pub(crate) fn find(&self, name: &SandboxName) -> Result<Arc<Live>, ApiError> {
        self.live_map().get(name).cloned().ok_or_else(|| {
            ApiError::new(
                ExitCode::Failed,
                format!("no sandbox is called {name}; `clawctl ps` lists them"),
            )
        })
    }

    /// Sandboxes that live, are being started or are being cleared away.
    pub(crate) fn names_in_use(&self) -> usize {
        self.starts.len()
    }

    /// Refuses new sandboxes, and waits for those that are being started or cleared away: what the
    /// daemon leaves behind must be known when it ends.
    pub(crate) async fn stop_launching(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + LAUNCH_DEADLINE;
        while self.names_in_use() != self.live_map().len() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Takes a name for a sandbox that is about to be started.
    pub(crate) fn reserve(&self, name: SandboxName) -> Result<Reserved, ApiError> {
        let is_open = || !self.stopping.load(Ordering::SeqCst);
        match self.starts.take(name.clone(), is_open) {
            Some(reserved) => Ok(reserved),
            None if !is_open() => Err(ApiError::new(
                ExitCode::Setup,
                "clawd is stopping and starts no sandbox any more",
            )),
            None => Err(ApiError::new(
                ExitCode::Setup,
                format!(
                    "a sandbox is called {name} already; stop it with `clawctl stop {name}` or take another name"
                ),
            )),
        }
    }

    /// Enters a sandbox that runs, and sees to it that it is cleared away when it ends.
    pub(crate) fn enter(self: &Arc<Self>, reserved: Reserved, live: Arc<Live>) {
        self.live_map()
            .insert(reserved.name.clone(), Arc::clone(&live));
        reserved.is_live(Arc::clone(&live));
        self.limits.add(&live);
        tokio::spawn(refusals::follow(Arc::clone(self), Arc::clone(&live)));
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            #[expect(
                deprecated,
                reason = "the call that replaces it is unsafe; an OwnedFd keeps its descriptor"
            )]
            let waiting = live.pidfd.try_clone().and_then(AsyncFd::new);
            let ended = match waiting {
                // A pidfd is readable once its process has ended, and only then.
                Ok(pidfd) => pidfd.readable().await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = ended {
                tracing::error!(sandbox = %reserved.name, %error, "cannot wait for a sandbox; it is ended");
            }
            let cleared = tokio::task::spawn_blocking(move || shared.clear(reserved, &live)).await;
            if let Err(error) = cleared {
                tracing::error!(%error, "clearing a sandbox away failed");
            }
        });
    }

    /// Ends what is left of a sandbox whose first process has ended, and forgets it.
    fn clear(&self, reserved: Reserved, live: &Live) {
        // A push that is under way ends first; it must not write again what is removed here.
        *live.pushing.lock().unwrap_or_else(PoisonError::into_inner) = true;
        let (sandbox_id, policy_id, init_pid) = {
            let state = live.state();
            (state.sandbox_id, state.policy.policy_id, state.init_pid)
        };
        // The last chance: the counts go with the cgroup.
        watch::tell(&self.audit, live);
        match live.cgroup.destroy() {
            Ok(()) => self.gate.unwatch(sandbox_id),
            // What it can write stays known as such.
            Err(error) => {
                tracing::error!(sandbox = %reserved.name, %error, "a sandbox's cgroup stays");
            }
        }
        let reaped = if live.adopted { None } else { reap(init_pid) };
        let told = self.ends.take(reserved.name.as_str());
        if let Err(error) = &told {
            tracing::error!(sandbox = %reserved.name, %error, "cannot tell how a sandbox ended");
        }
        *live.exit_code() = told.unwrap_or(None).map(ExitStatus::exit_code).or(reaped);
        // Nobody is left who could be refused more.
        while refusals::drain(self, live) == refusals::Pipe::More {}
        refusals::tell_all_counts(self, live);
        let counters = self.registry.counters(sandbox_id);
        self.registry.forget_sandbox(live.cgroup.id, sandbox_id);
        self.registry.forget_policy(policy_id);
        let name = reserved.name.as_str();
        if let Err(error) = self.states.remove(name) {
            tracing::error!(sandbox = name, %error, "a sandbox's state file stays");
        }
        if let Err(error) = self.history.forget(name) {
            tracing::error!(sandbox = name, %error, "a sandbox's earlier policies stay");
        }
        if let Err(error) = self.entrances.remove(name) {
            tracing::error!(sandbox = name, %error, "a sandbox's entrance stays");
        }
        let message = format!(
            "{} attempts allowed, {} denied",
            counters.allowed, counters.denied
        );
        self.audit.daemon(&DaemonEvent::SandboxStopped {
            sandbox: name,
            message: &message,
        });
        self.live_map().remove(&reserved.name);
        // The name is free before anybody hears of the end.
        drop(reserved);
        live.cleared.send_replace(true);
    }
}

/// Takes the exit status of a child that has ended, so that it does not stay a zombie; returns it as a
/// shell tells it.
pub(crate) fn reap(pid: u32) -> Option<u8> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    // Never waits: whoever is not dead yet is not reaped.
    match rustix::process::waitpid(pid, rustix::process::WaitOptions::NOHANG) {
        Ok(reaped) => {
            let (_, status) = reaped?;
            let code = status.exit_status().or_else(|| {
                let signal = status.terminating_signal()?;
                signal.checked_add(128)
            })?;
            u8::try_from(code).ok()
        }
        Err(error) => {
            tracing::warn!(%error, "the first process of a sandbox could not be reaped");
            None
        }
    }
}
