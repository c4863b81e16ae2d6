//! A further command in a sandbox that runs: who may, and that it is held as the first one is.

use std::{fs, io, os::unix::fs::MetadataExt as _};

use clawd_audit::DaemonEvent;
use clawd_control::{ApiError, ExecRequest, ExitCode};
use clawd_sandbox::{Descriptors, EnterSpec, Entered, Entering, Layers, StartError};
use clawd_sys::passing::Peer;

use crate::{
    cgroup::CgroupError,
    plan,
    sandboxes::{Live, Shared},
};

/// As in `/proc/<pid>/ns`.
const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

/// Why a further command was not started. Nothing of it is left; the sandbox goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnterError {
    #[error("the sandbox's first process cannot be reached")]
    Unreachable(#[source] io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error("process {pid} cannot be looked at")]
    Look {
        pid: u32,
        #[source]
        source: io::Error,
    },
    #[error("its process is in another {0} namespace than the sandbox")]
    Namespace(&'static str),
    #[error("its process is not in the sandbox's cgroup")]
    Outside,
    #[error("its process is held by {found:?}, the sandbox by {wanted:?}")]
    Layers {
        wanted: Box<Layers>,
        found: Box<Layers>,
    },
}

impl EnterError {
    /// The exit code that `clawctl exec` ends with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Start(error) => error.exit_code(),
            _ => crate::EXIT_SETUP,
        }
    }
}

/// A further command that runs.
pub(crate) struct Command {
    pub(crate) entered: Entered,
    /// In the daemon's pid namespace.
    pub(crate) pid: u32,
}

/// Checks a request of `peer`'s; a refusal for want of rights is written down.
pub(crate) fn check(
    shared: &Shared,
    live: &Live,
    request: &ExecRequest,
    peer: Peer,
) -> Result<EnterSpec, ApiError> {
    let source = live.state().policy.source.clone();
    let policy = plan::read_policy(&source)?;
    request
        .check(&policy.env_allow)
        .map_err(|error| ApiError::new(ExitCode::Usage, error.to_string()))?;
    may_enter(live, peer).inspect_err(|error| {
        refused(shared, live, peer, &error.error.message);
    })?;
    Ok(EnterSpec {
        argv: request.command.clone(),
        env: request.env.clone(),
        terminal: request.terminal.map(plan::terminal),
    })
}

/// Whoever may start a sandbox as this one's user may enter it: to be in it is to be that user.
fn may_enter(live: &Live, peer: Peer) -> Result<(), ApiError> {
    let state = live.state();
    // A sandbox is not listed before its layers are known.
    let may = state.layers.as_ref().is_some_and(|layers| {
        plan::accounts::may_run_as(peer, (layers.uid, layers.gid), &layers.groups)
    });
    if may {
        return Ok(());
    }
    Err(ApiError::new(
        ExitCode::Usage,
        format!(
            "only root, or whoever has the rights of the sandbox (uid {}, and its groups), may enter {}; you are uid {}, gid {}",
            state.uid, state.name, peer.uid, peer.gid
        ),
    ))
}

fn refused(shared: &Shared, live: &Live, peer: Peer, message: &str) {
    let name = live.state().name.clone();
    shared.audit.daemon(&DaemonEvent::EntryRefused {
        sandbox: name.as_str(),
        caller_uid: peer.uid,
        message,
    });
}

/// Starts the command. Blocks for some milliseconds; called in a thread that may.
pub(crate) fn enter(
    shared: &Shared,
    live: &Live,
    spec: &EnterSpec,
    descriptors: Descriptors,
    peer: Peer,
) -> Result<Command, EnterError> {
    let result = try_enter(shared, live, spec, descriptors);
    match &result {
        Ok(command) => {
            let (name, generation) = {
                let state = live.state();
                (state.name.clone(), state.policy.generation)
            };
            shared.audit.daemon(&DaemonEvent::SandboxEntered {
                sandbox: name.as_str(),
                generation,
                pid: command.pid,
                caller_uid: peer.uid,
                command: &spec.argv.join(" "),
            });
        }
        Err(error) => refused(shared, live, peer, &crate::explain(error)),
    }
    result
}

fn try_enter(
    shared: &Shared,
    live: &Live,
    spec: &EnterSpec,
    descriptors: Descriptors,
) -> Result<Command, EnterError> {
    let name = live.state().name.clone();
    let channel = shared
        .entrances
        .connect(name.as_str())
        .map_err(EnterError::Unreachable)?;
    let entering = clawd_sandbox::enter(channel, spec, descriptors)?;
    verify(live, &entering)?;
    let pid = entering.pid();
    let entered = entering.go()?;
    Ok(Command { entered, pid })
}

/// Looks, from outside, whether the process is where the sandbox's first one is, and compares what
/// it found in force with what was found when the sandbox started.
fn verify(live: &Live, entering: &Entering) -> Result<(), EnterError> {
    let (init_pid, wanted) = {
        let state = live.state();
        (state.init_pid, state.layers.clone())
    };
    let pid = entering.pid();
    for name in NAMESPACES {
        if namespace(pid, name)? != namespace(init_pid, name)? {
            return Err(EnterError::Namespace(name));
        }
    }
    if !live.cgroup.processes()?.contains(&pid) {
        return Err(EnterError::Outside);
    }
    let found = entering.layers().clone();
    match wanted {
        Some(wanted) if is_same(&wanted, &found) => Ok(()),
        Some(wanted) => Err(EnterError::Layers {
            wanted: Box::new(wanted),
            found: Box::new(found),
        }),
        // A sandbox is not listed before it has started.
        None => Err(EnterError::Outside),
    }
}

/// Namespaces were compared one by one.
fn is_same(wanted: &Layers, found: &Layers) -> bool {
    let found = Layers {
        namespaces: wanted.namespaces.clone(),
        ..found.clone()
    };
    *wanted == found
}

fn namespace(pid: u32, name: &str) -> Result<u64, EnterError> {
    fs::metadata(format!("/proc/{pid}/ns/{name}"))
        .map(|metadata| metadata.ino())
        .map_err(|source| EnterError::Look { pid, source })
}
