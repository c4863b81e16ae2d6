//! From a plan to a sandbox that runs. Whatever fails, nothing half-built stays.

use std::{os::fd::AsFd as _, sync::Arc};

use clawd_audit::DaemonEvent;
use clawd_common::record::{SANDBOX_OWN_LOOPBACK, SandboxValue};
use clawd_sandbox::{Descriptors, Running, StartError};

use crate::{
    cgroup::{Cgroup, CgroupError},
    gate::GateError,
    history::Kept,
    limits::{self, LimitError},
    plan::Plan,
    registry::RegistryError,
    sandboxes::{Live, Shared},
    starts::Reserved,
    state::{PolicyState, SandboxState},
};

/// Why a sandbox was not started. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Limits(#[from] LimitError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("stopped before its command was executed")]
    Cancelled,
    #[error(transparent)]
    Gate(#[from] GateError),
    #[error("cannot {what}")]
    Io {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
}

impl LaunchError {
    /// The exit code that `clawctl run` ends with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Start(error) => error.exit_code(),
            _ => crate::EXIT_SETUP,
        }
    }
}

/// What exists of a sandbox so far; dropping it unfinished removes all of it.
struct Building<'a> {
    shared: &'a Shared,
    name: &'a str,
    cgroup: Option<Cgroup>,
    sandbox_id: Option<u32>,
    policy_id: Option<u32>,
    /// Set once the command was executed: from then on nobody else reaps it.
    init_pid: Option<u32>,
    finished: bool,
}

/// The policy that a sandbox starts under is its first.
pub(crate) const FIRST_GENERATION: u64 = 1;

impl Drop for Building<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let cgroup_id = self.cgroup.as_ref().map_or(0, |cgroup| cgroup.id);
        match self.cgroup.as_ref().map_or(Ok(()), Cgroup::destroy) {
            Ok(()) => {
                if let Some(sandbox_id) = self.sandbox_id {
                    self.shared.gate.unwatch(sandbox_id);
                }
            }
            Err(error) => {
                tracing::error!(sandbox = self.name, %error, "the cgroup of a sandbox that did not start stays");
            }
        }
        if let Some(init_pid) = self.init_pid {
            // How it ended is of no use.
            let _unused = crate::sandboxes::reap(init_pid);
        }
        if let Some(sandbox_id) = self.sandbox_id {
            self.shared.registry.forget_sandbox(cgroup_id, sandbox_id);
        }
        if let Some(policy_id) = self.policy_id {
            self.shared.registry.forget_policy(policy_id);
        }
        if let Err(error) = self.shared.states.remove(self.name) {
            tracing::error!(sandbox = self.name, %error, "the state of a sandbox that did not start stays");
        }
        if let Err(error) = self.shared.history.forget(self.name) {
            tracing::error!(sandbox = self.name, %error, "the policy of a sandbox that did not start stays");
        }
        if let Err(error) = self.shared.ends.take(self.name) {
            tracing::error!(sandbox = self.name, %error, "the end of a sandbox that did not start stays");
        }
        if let Err(error) = self.shared.entrances.remove(self.name) {
            tracing::error!(sandbox = self.name, %error, "the entrance of a sandbox that did not start stays");
        }
    }
}

/// A sandbox whose command was executed.
pub(crate) struct Launched {
    pub(crate) live: Arc<Live>,
    /// What the caller should know of the policy as it meets the sandbox's files.
    pub(crate) warnings: Vec<String>,
}

/// Starts `plan` under the reserved name. Blocks for some milliseconds; called in a thread that may.
pub(crate) fn launch(
    shared: &Shared,
    reserved: &Reserved,
    plan: Plan,
    descriptors: Descriptors,
) -> Result<Launched, LaunchError> {
    let name = reserved.name.as_str();
    let result = try_launch(shared, reserved, plan, descriptors);
    match &result {
        Ok(launched) => {
            let state = launched.live.state();
            shared.audit.daemon(&DaemonEvent::SandboxStarted {
                sandbox: name,
                generation: state.policy.generation,
                pid: state.init_pid,
                command: &state.command.join(" "),
            });
        }
        Err(error) => {
            shared.audit.daemon(&DaemonEvent::SandboxRefused {
                sandbox: Some(name),
                message: &crate::explain(error),
            });
        }
    }
    result
}

fn try_launch(
    shared: &Shared,
    reserved: &Reserved,
    plan: Plan,
    descriptors: Descriptors,
) -> Result<Launched, LaunchError> {
    let name = reserved.name.as_str();
    let mut building = Building {
        shared,
        name,
        cgroup: None,
        sandbox_id: None,
        policy_id: None,
        init_pid: None,
        finished: false,
    };
    // It may have waited for others.
    if reserved.is_cancelled() {
        return Err(LaunchError::Cancelled);
    }
    let prepared = prepare(&mut building, &plan)?;
    let launched = start(&mut building, reserved, prepared, plan, descriptors)?;
    building.finished = true;
    Ok(launched)
}

/// What the kernel knows of a sandbox before its first process exists.
struct Prepared {
    cgroup: Cgroup,
    value: SandboxValue,
}

/// Writes the policy and makes the cgroup that is under it: from its first process on, the hooks
/// know whose it is.
fn prepare(building: &mut Building<'_>, plan: &Plan) -> Result<Prepared, LaunchError> {
    let shared = building.shared;
    let sandbox_id = shared.registry.new_sandbox(building.name)?;
    building.sandbox_id = Some(sandbox_id);
    let policy_id = shared
        .registry
        .write_policy(&plan.policy, FIRST_GENERATION)?;
    building.policy_id = Some(policy_id);
    let cgroup = shared.parent.create_child(building.name)?;
    building.cgroup = Some(cgroup.clone());
    limits::apply(&cgroup, &plan.policy.process.limits)?;
    let flags = if plan.spec.own_network {
        SANDBOX_OWN_LOOPBACK
    } else {
        0
    };
    let value = SandboxValue {
        sandbox_id,
        policy_id,
        flags,
        ..SandboxValue::ZERO
    };
    shared.registry.switch(cgroup.id, value)?;
    Ok(Prepared { cgroup, value })
}

/// Starts the first process, has the exec gate watch its view, and lets the command be executed.
fn start(
    building: &mut Building<'_>,
    reserved: &Reserved,
    prepared: Prepared,
    mut plan: Plan,
    descriptors: Descriptors,
) -> Result<Launched, LaunchError> {
    let Prepared { cgroup, value } = prepared;
    let shared = building.shared;
    building.name.clone_into(&mut plan.spec.hostname);
    let entrance = shared.entrances.make(building.name);
    let entrance = entrance.map_err(|source| LaunchError::Io {
        what: "make the sandbox's entrance",
        source,
    })?;
    let view = clawd_sandbox::spawn(
        &plan.spec,
        &cgroup.open()?,
        shared.executable.as_fd(),
        entrance.as_fd(),
        descriptors,
    )?;
    // The sandbox's first process has it now, and nobody else.
    drop(entrance);
    let mut state = SandboxState {
        name: reserved.name.clone(),
        sandbox_id: value.sandbox_id,
        cgroup_id: cgroup.id,
        flags: value.flags,
        init_pid: view.init_pid(),
        command: plan.spec.argv,
        uid: plan.spec.uid,
        network: plan.network,
        started_at: crate::audit::now().to_string(),
        exec_mounts: view.exec_mounts().to_vec(),
        refusals_fd: clawd_sandbox::REFUSALS_READ_FD,
        layers: None,
        policy: PolicyState {
            policy_id: value.policy_id,
            generation: FIRST_GENERATION,
            source: plan.source,
        },
    };
    // Before anything is executed there.
    let warnings = shared.gate.watch(state.watch(&plan.policy))?;
    let unwritten = |source| LaunchError::Io {
        what: "write the sandbox's state",
        source,
    };
    let first = Kept::now(&state.policy, plan.caller_uid, None);
    (shared.history.begin(building.name, &first)).map_err(unwritten)?;
    shared.states.write(&state).map_err(unwritten)?;
    if reserved.is_cancelled() {
        return Err(LaunchError::Cancelled);
    }
    let Running {
        init_pid,
        pidfd,
        layers,
        refusals,
    } = view.go()?;
    // The command runs now; what fails from here on ends it again, by the guard.
    building.init_pid = Some(init_pid);
    state.layers = Some(layers);
    shared.states.write(&state).map_err(unwritten)?;
    Ok(Launched {
        live: Arc::new(Live::new(cgroup, false, state, (pidfd, refusals))),
        warnings,
    })
}
