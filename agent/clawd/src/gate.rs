//! The exec gate as the daemon has it: a process that it starts, asks, watches over and starts again.

mod connection;
pub(crate) mod process;
mod starved;
mod wanted;

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clawd_identity::{
    Pin,
    protocol::{Health, Notice, Policy, Reply, Request, Watch},
};

use self::{connection::Connection, starved::Starved, wanted::Wanted};
use crate::config::Config;

/// The daemon's own slot for file keys; the gate has those before it.
pub(crate) const DAEMON_SLOT: u32 = 63;

/// How often the gate is asked how it is.
const HEALTH_EVERY: Duration = Duration::from_millis(500);
/// How long it may not answer, or not finish one step, before it is killed: execs wait meanwhile.
const STALLED: Duration = Duration::from_secs(2);
/// Longest that a request may take: a policy may name files that must be read first.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);
/// Longest to wait for a gate that is being started again.
const UP_DEADLINE: Duration = Duration::from_secs(10);
/// Between starts of a gate that dies at once.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// Why the gate did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum GateError {
    #[error(
        "the exec gate is not running; clawd starts it again, `clawctl status` shows whether it does"
    )]
    Down,
    #[error("the exec gate does not answer")]
    Silent,
    #[error("the exec gate answered something else")]
    Confused,
    #[error("{0}")]
    Refused(String),
}

/// Hears of what nobody asked for.
pub(crate) trait Hears: Send + Sync {
    /// Of a notice of the gate's.
    fn notice(&self, notice: Notice);
    /// That a gate is gone, whatever comes after it.
    fn gone(&self);
    /// That the gate was started again, and why.
    fn restarted(&self, why: &str);
}

/// The exec gate.
pub(crate) struct Gate {
    config: Config,
    connection: Mutex<Option<Arc<Connection>>>,
    /// Told when `connection` changes.
    changed: Condvar,
    wanted: Mutex<Wanted>,
    restarts: AtomicU64,
    hears: Arc<dyn Hears>,
}

impl Gate {
    /// Starts the gate and a thread that watches over it; returns when it answers.
    pub(crate) fn start(config: &Config, hears: Arc<dyn Hears>) -> anyhow::Result<Arc<Self>> {
        let gate = Arc::new(Self {
            config: config.clone(),
            connection: Mutex::new(None),
            changed: Condvar::new(),
            wanted: Mutex::new(Wanted::default()),
            restarts: AtomicU64::new(0),
            hears,
        });
        let (first, started) = std::sync::mpsc::channel();
        let watched = Arc::clone(&gate);
        // The gate dies with the thread that started it, so that thread is one that stays.
        thread::Builder::new()
            .name("gate-watchdog".to_owned())
            .spawn(move || watched.watch_over(&first))
            .context("cannot start a thread")?;
        started.recv().context("the exec gate's thread ended")??;
        Ok(gate)
    }

    fn connection(&self) -> MutexGuard<'_, Option<Arc<Connection>>> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a gate, has it take up what is wanted, watches over it; again and again.
    fn watch_over(&self, first: &std::sync::mpsc::Sender<anyhow::Result<()>>) {
        let mut told = Some(first);
        let mut why = None;
        loop {
            match self.spawn() {
                Ok((mut child, connection)) => {
                    if let Some(first) = told.take()
                        && first.send(Ok(())).is_err()
                    {
                        tracing::debug!("nobody waits for the exec gate any more");
                    }
                    if let Some(why) = why.take() {
                        self.restarts.fetch_add(1, Ordering::Relaxed);
                        self.hears.restarted(why);
                    }
                    why = Some(self.until_it_fails(&connection));
                    *self.connection() = None;
                    end(&mut child);
                }
                Err(error) => {
                    tracing::error!(error = %format!("{error:#}"), "the exec gate cannot be started");
                    if let Some(first) = told.take() {
                        if first.send(Err(error)).is_err() {
                            tracing::debug!("nobody waits for the exec gate any more");
                        }
                        return;
                    }
                }
            }
            thread::sleep(RESTART_PAUSE);
        }
    }

    /// Starts the process and asks it how it is.
    fn spawn(&self) -> anyhow::Result<(Child, Arc<Connection>)> {
        let (ours, theirs) = UnixStream::pair().context("cannot make a socket pair")?;
        let mut child = Command::new("/proc/self/exe")
            .arg(crate::config::GATE_ARGUMENT)
            .arg("--bpffs")
            .arg(&self.config.bpffs)
            .arg("--state-dir")
            .arg(&self.config.state_dir)
            .arg("--parent")
            .arg(std::process::id().to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start `clawd gate`")?;
        let ready = Connection::new(child.id(), ours, Arc::clone(&self.hears))
            .context("cannot talk to `clawd gate`")
            .and_then(|connection| {
                let answer = connection.ask(Request::Health, UP_DEADLINE);
                answer.context("`clawd gate` did not start; its own message is above")?;
                Ok(connection)
            });
        match ready {
            Ok(connection) => Ok((child, connection)),
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    /// Returns what is wrong with it, as soon as something is.
    fn until_it_fails(&self, connection: &Arc<Connection>) -> &'static str {
        let taken = self.wanted().all();
        if !taken.0.is_empty()
            && let Err(error) = take_up(connection, taken.clone())
        {
            tracing::error!(%error, "a new exec gate does not take up the sandboxes");
            return "it did not take up the sandboxes that live";
        }
        {
            // What went in the meantime goes here too; while this lock is held nothing else does.
            let wanted = self.wanted();
            for request in wanted.gone_since(&taken) {
                if let Err(error) = connection.ask(request, REQUEST_DEADLINE) {
                    tracing::error!(%error, "a new exec gate keeps what is gone");
                    return "it did not give up what is gone";
                }
            }
            *self.connection() = Some(Arc::clone(connection));
        }
        self.changed.notify_all();
        let mut starved = Starved::new(connection.pid());
        loop {
            thread::sleep(HEALTH_EVERY);
            let wrong = match connection.ask(Request::Health, STALLED) {
                Ok(Reply::Health(health)) if health.ended > 0 => return "a worker ended",
                Ok(Reply::Health(health)) if Duration::from_millis(health.stalled_ms) > STALLED => {
                    "a worker did not come on for two seconds"
                }
                Ok(Reply::Health(_)) => {
                    starved = Starved::new(connection.pid());
                    continue;
                }
                Err(GateError::Down) => return "it ended",
                Ok(_) | Err(_) => "it did not answer for two seconds",
            };
            if !starved.explains() {
                return wrong;
            }
            tracing::warn!("the exec gate is slow because it gets no processor: {wrong}");
        }
    }

    /// Asks; waits for a gate that is being started again.
    fn ask(&self, request: Request) -> Result<Reply, GateError> {
        let connection = {
            let guard = self.connection();
            let is_down = |connection: &mut Option<_>| connection.is_none();
            let (guard, _) = self
                .changed
                .wait_timeout_while(guard, UP_DEADLINE, is_down)
                .unwrap_or_else(PoisonError::into_inner);
            guard.clone().ok_or(GateError::Down)?
        };
        connection.ask(request, REQUEST_DEADLINE)
    }

    /// Watches a sandbox that has not executed its command; returns what an operator should know of
    /// its policy.
    pub(crate) fn watch(&self, watch: Watch) -> Result<Vec<String>, GateError> {
        let reply = self.ask(Request::Watch(watch.clone()))?;
        let warnings = warnings(reply)?;
        self.wanted().insert(watch);
        Ok(warnings)
    }

    /// Watches sandboxes that a daemon before started.
    pub(crate) fn restore(&self, watches: Vec<Watch>) -> Result<(), GateError> {
        for watch in &watches {
            self.wanted().insert(watch.clone());
        }
        let names: Vec<String> = watches.iter().map(|watch| watch.name.clone()).collect();
        restored(self.ask(Request::Restore(watches))?, &names)
    }

    /// Writes what a policy grants, before the sandbox is switched to it.
    pub(crate) fn load(&self, sandbox_id: u32, policy: Policy) -> Result<Vec<String>, GateError> {
        let request = Request::Load {
            sandbox_id,
            policy: policy.clone(),
        };
        let warnings = warnings(self.ask(request)?)?;
        self.wanted().add_policy(sandbox_id, policy);
        Ok(warnings)
    }

    /// Forgets a policy that no sandbox is under any more.
    pub(crate) fn retire(&self, policy_id: u32) {
        self.wanted().remove_policy(policy_id);
        self.tell(Request::Retire { policy_id });
    }

    /// Stops watching a sandbox that has no process left.
    pub(crate) fn unwatch(&self, sandbox_id: u32) {
        self.wanted().remove(sandbox_id);
        self.tell(Request::Unwatch { sandbox_id });
    }

    /// What a new gate would not know of either.
    fn tell(&self, request: Request) {
        let connection = self.connection().clone();
        if let Some(connection) = connection
            && let Err(error) = connection.ask(request, REQUEST_DEADLINE)
        {
            tracing::warn!(%error, "the exec gate keeps what it need not");
        }
    }

    /// Every pin.
    pub(crate) fn pins(&self) -> Result<Vec<Pin>, GateError> {
        pins(self.ask(Request::Pins)?)
    }

    /// Forgets pins; returns those that there were.
    pub(crate) fn forget_pins(
        &self,
        paths: Vec<std::path::PathBuf>,
    ) -> Result<Vec<Pin>, GateError> {
        pins(self.ask(Request::Forget(paths))?)
    }

    /// How it is, with its process id; `None` where it does not answer.
    pub(crate) fn health(&self) -> Option<(u32, Health)> {
        let connection = self.connection().clone()?;
        match connection.ask(Request::Health, STALLED) {
            Ok(Reply::Health(health)) => Some((connection.pid(), health)),
            _ => None,
        }
    }

    /// How often it was started again.
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }
}

/// Has a new gate take up what an earlier one did.
fn take_up(
    connection: &Connection,
    (watches, further): (Vec<Watch>, Vec<(u32, Policy)>),
) -> Result<(), GateError> {
    let names: Vec<String> = watches.iter().map(|watch| watch.name.clone()).collect();
    restored(
        connection.ask(Request::Restore(watches), REQUEST_DEADLINE)?,
        &names,
    )?;
    for (sandbox_id, policy) in further {
        let request = Request::Load { sandbox_id, policy };
        warnings(connection.ask(request, REQUEST_DEADLINE)?)?;
    }
    Ok(())
}

/// A sandbox that cannot be watched again keeps what it has; its new programs get no identity.
fn restored(reply: Reply, names: &[String]) -> Result<(), GateError> {
    let Reply::Restored(results) = reply else {
        return Err(GateError::Confused);
    };
    for (name, result) in names.iter().zip(results) {
        if let Some(message) = result {
            tracing::error!(
                sandbox = name,
                message,
                "new programs of a sandbox get no identity"
            );
        }
    }
    Ok(())
}

fn warnings(reply: Reply) -> Result<Vec<String>, GateError> {
    match reply {
        Reply::Loaded { warnings } => Ok(warnings),
        Reply::Failed { message } => Err(GateError::Refused(message)),
        _ => Err(GateError::Confused),
    }
}

fn pins(reply: Reply) -> Result<Vec<Pin>, GateError> {
    match reply {
        Reply::Pins(pins) => Ok(pins),
        Reply::Failed { message } => Err(GateError::Refused(message)),
        _ => Err(GateError::Confused),
    }
}

/// Ends a gate for good, so that no exec waits for it.
fn end(child: &mut Child) {
    let begun = Instant::now();
    if let Err(error) = child.kill() {
        tracing::warn!(%error, "the exec gate cannot be killed");
    }
    if let Err(error) = child.wait() {
        tracing::warn!(%error, "the exec gate cannot be waited for");
    }
    tracing::info!(pid = child.id(), elapsed = ?begun.elapsed(), "the exec gate has ended");
}

/// Standard errors of sockets are told in one way.
fn down(error: &io::Error) -> GateError {
    tracing::debug!(%error, "the exec gate's socket failed");
    GateError::Down
}
