//! The daemon from start to end.

use std::{fs, fs::File, os::unix::fs::DirBuilderExt as _, path::Path, sync::Arc};

use anyhow::Context as _;
use clawd_audit::DaemonEvent;
use clawd_kernel::{Epoch, FileKeyReader, Kernel, Pins, Reports};
use rustix::{
    fs::{FlockOperation, flock},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use tokio::{signal::unix::SignalKind, sync::mpsc};

use crate::{
    adopt::adopt,
    audit::Audit,
    bpffs,
    cgroup::Parent,
    config::Config,
    ends::Ends,
    enforcement::{self, Origin},
    entrances::Entrances,
    events::{self, Rings},
    gate::{DAEMON_SLOT, Gate},
    hearing::Hearing,
    history::History,
    ids::Ids,
    refusals,
    registry::Registry,
    sandboxes::{Parts, Shared},
    server,
    state::StateDir,
};

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(config: Config) -> anyhow::Result<()> {
    enforcement::require_root()?;
    crate::log_to_stderr();
    raise_limit_of_files();
    let lock = lock_state(&config)?;
    let parent = Parent::provide(config.cgroup_parent.as_deref())?;
    let pins = Pins::new(&config.bpffs);
    let result = serve(config, parent, pins);
    drop(lock);
    result
}

/// Every sandbox takes some descriptors, and more while it starts: the soft limit of 1024 that shells hand
/// down is for programs that use `select(2)`. The hard one stays as it is, for sandboxes too.
fn raise_limit_of_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::warn!(%error, "the limit of open files stays as it is: fewer sandboxes can start");
    }
}

/// Makes the state directory and takes it for this daemon alone.
fn lock_state(config: &Config) -> anyhow::Result<File> {
    let dir = &config.state_dir;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make {}", dir.display()))?;
    let path = dir.join("lock");
    let lock = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).with_context(|| {
        format!(
            "another clawd uses {}; stop it or give another --state-dir",
            dir.display()
        )
    })?;
    Ok(lock)
}

fn serve(config: Config, parent: Parent, pins: Pins) -> anyhow::Result<()> {
    let origin = match provide(&pins, &parent, &config) {
        Ok(origin) => origin,
        Err(error) => {
            // Only what is empty goes: where sandboxes live nothing is.
            parent.remove_if_empty();
            bpffs::release();
            return Err(error);
        }
    };
    clawd_sys::memory::keep_one_arena();
    clawd_sys::memory::release_free();
    let (made, parent_path) = (pins.clone(), parent.path().to_path_buf());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .build()
        .context("cannot start the runtime")?;
    let served = runtime.block_on(async {
        let (shared, rings, asked) = assemble(config, parent, pins)?;
        let listener = server::listen(&shared.config.socket)?;
        let live = adopt(&shared)?;
        announce(&shared, origin, live);
        let events = tokio::spawn(events::run(Arc::clone(&shared), rings, asked));
        let server = tokio::spawn(server::serve(Arc::clone(&shared), listener));
        let signal = until_told().await?;
        server.abort();
        shared.stop_launching().await;
        events::flush(&shared).await;
        events.abort();
        end(&shared, signal);
        Ok(())
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    if served.is_err() && origin == Origin::Installed {
        leave_nothing(&made, &parent_path);
    }
    served
}

/// Takes back what a start made that failed afterwards; no sandbox lives by it.
fn leave_nothing(pins: &Pins, parent: &Path) {
    if let Err(error) = pins.remove() {
        tracing::error!(%error, "pins of a failed start remain; the next start takes them over");
    }
    if let Err(error) = fs::remove_dir(parent) {
        tracing::debug!(%error, "the parent cgroup stays");
    }
    bpffs::release();
}

fn provide(pins: &Pins, parent: &Parent, config: &Config) -> anyhow::Result<Origin> {
    // Until something is pinned there.
    let _mounted = bpffs::provide(pins.dir())?;
    enforcement::provide(pins, parent, config)
}

/// Opens everything that the parts share.
fn assemble(
    config: Config,
    parent: Parent,
    pins: Pins,
) -> anyhow::Result<(
    Arc<Shared>,
    Rings,
    mpsc::Receiver<tokio::sync::oneshot::Sender<()>>,
)> {
    let audit = Audit::open(&config)?;
    let ids = Ids::open(&config.state_dir)?;
    let states = StateDir::open(&config.state_dir).context("cannot open the sandboxes' states")?;
    let history = History::open(&config.state_dir).context("cannot open the policies' history")?;
    let entrances =
        Entrances::open(&config.state_dir).context("cannot open the sandboxes' entrances")?;
    let ends = Ends::open(&config.state_dir).context("cannot open the sandboxes' ends")?;
    let executable = File::open("/proc/self/exe").context("cannot open clawd's own program")?;
    let registry = Arc::new(Registry::new(
        Kernel::open(&pins)?,
        Reports::open(&pins)?,
        ids,
        (&mut FileKeyReader::open(&pins, DAEMON_SLOT)?, &executable),
    ));
    let audit = Arc::new(audit);
    let mut epoch = Epoch::open(&pins)?;
    // A gate that died with its daemon left what it held for execs.
    epoch.raise()?;
    let hearing = Hearing::new(Arc::clone(&audit), Arc::clone(&registry), epoch);
    let gate = Gate::start(&config, Arc::new(hearing))?;
    let rings = Rings::open(&pins)?;
    let (flush, asked) = mpsc::channel(64);
    let parts = Parts {
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
    };
    Ok((Arc::new(Shared::new(parts)), rings, asked))
}

fn announce(shared: &Shared, origin: Origin, live: usize) {
    let pid = std::process::id();
    match origin {
        Origin::Installed => {
            shared.audit.daemon(&DaemonEvent::Started {
                pid,
                message: "every hook is attached",
            });
        }
        Origin::TakenOver | Origin::Replaced => {
            let message = match origin {
                Origin::Replaced => {
                    format!("replaced another build's programs and took over {live} sandboxes")
                }
                _ => format!("took over the hooks and {live} sandboxes"),
            };
            shared.audit.daemon(&DaemonEvent::TookOver {
                pid,
                message: &message,
            });
        }
    }
    tracing::info!(socket = %shared.config.socket.display(), ?origin, sandboxes = live, "clawd is ready");
}

async fn until_told() -> anyhow::Result<&'static str> {
    let mut terminate =
        tokio::signal::unix::signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt =
        tokio::signal::unix::signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// Leaves enforcement in place while sandboxes live, and nothing at all where none does.
fn end(shared: &Shared, signal: &'static str) {
    let live = shared.names_in_use();
    for live in shared.list() {
        refusals::tell_all_counts(shared, &live);
    }
    events::floods::tell_counts(shared, u64::MAX);
    let message = format!("{signal}; {live} sandboxes go on, with everything enforced");
    let message = if live == 0 {
        format!("{signal}; no sandbox lives, nothing is left behind")
    } else {
        message
    };
    shared.audit.daemon(&DaemonEvent::Stopped {
        pid: std::process::id(),
        message: &message,
    });
    if let Err(error) = shared.audit.sync() {
        tracing::error!(%error, "the audit log cannot be forced to the disk");
    }
    if let Err(error) = fs::remove_file(&shared.config.socket) {
        tracing::warn!(%error, "the control socket stays");
    }
    // Cgroups without a sandbox of this daemon's are not known to be dead, nor is what cannot be read.
    let children = shared.parent.children();
    if live > 0 || children.map_or(true, |children| !children.is_empty()) {
        return;
    }
    if let Err(error) = shared.pins.remove() {
        tracing::error!(%error, "pins stay");
    }
    shared.parent.remove_if_empty();
    bpffs::release();
}
