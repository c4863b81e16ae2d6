//! What the daemon tells of itself and its sandboxes: measured, not remembered.

use std::sync::Arc;

use clawd_common::ABI_VERSION;
use clawd_control::{
    EventTotals, ExecGateStatus, Health, HookStatus, LandlockStatus, Layers, SandboxCounters,
    SandboxInfo, Status,
};
use clawd_identity::WORKERS;
use clawd_sandbox::{LandlockState, Profile};

use crate::sandboxes::{Live, Shared};

/// The daemon.
pub(crate) fn status(shared: &Shared) -> Status {
    let hooks: Vec<HookStatus> = shared
        .pins
        .hooks()
        .into_iter()
        .map(|hook| HookStatus {
            name: hook.name.to_owned(),
            attached: hook.program_id.is_some(),
            program_id: hook.program_id.unwrap_or(0),
            instructions: hook.instructions,
        })
        .collect();
    let mut problems: Vec<String> = hooks
        .iter()
        .filter(|hook| !hook.attached)
        .map(|hook| format!("hook {} is not attached", hook.name))
        .collect();
    let enforcing = problems.is_empty();
    let running = shared.gate.running_workers();
    let sandboxes = shared.list();
    problems.extend(gate_and_log_problems(shared, running));
    problems.extend(sandboxes.iter().filter_map(|live| landlock_problem(live)));
    let events = totals(shared, &sandboxes, &mut problems);
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        abi_version: ABI_VERSION,
        pid: std::process::id(),
        started_at: shared.started_at.clone(),
        uptime_s: shared.started.elapsed().as_secs(),
        kernel: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        bpffs: shared.pins.dir().display().to_string(),
        cgroup_parent: shared.parent.path().display().to_string(),
        state_dir: shared.config.state_dir.display().to_string(),
        hooks,
        exec_gate: ExecGateStatus {
            workers: running,
            running: running > 0,
        },
        sandboxes: u32::try_from(sandboxes.len()).unwrap_or(u32::MAX),
        events,
        health: match (enforcing, problems.is_empty()) {
            (false, _) => Health::NotEnforcing,
            (true, false) => Health::Degraded,
            (true, true) => Health::Healthy,
        },
        problems,
    }
}

fn gate_and_log_problems(shared: &Shared, running: u32) -> Vec<String> {
    let mut problems = Vec::new();
    if running < WORKERS {
        problems.push(format!(
            "the exec gate has {running} of {WORKERS} workers; restart clawd"
        ));
    }
    let write_errors = shared.audit.write_errors();
    if write_errors > 0 {
        problems.push(format!(
            "{write_errors} audit records could not be written to {}; free some space",
            shared.audit.path().display()
        ));
    }
    problems
}

/// A promise that a policy gave up for its kernel's sake.
fn landlock_problem(live: &Live) -> Option<String> {
    let state = live.state();
    let layers = state.layers.as_ref()?;
    let much = match layers.landlock {
        LandlockState::FullyEnforced => return None,
        LandlockState::PartiallyEnforced => "partially",
        LandlockState::NotEnforced => "not",
    };
    Some(format!(
        "{}: Landlock is {much} enforced (ABI {}), as its policy accepts with best_effort; use a newer \
         kernel or network mode none",
        state.name, layers.landlock_abi
    ))
}

/// The totals of all sandboxes that live.
fn totals(shared: &Shared, sandboxes: &[Arc<Live>], problems: &mut Vec<String>) -> EventTotals {
    let mut events = EventTotals::default();
    for live in sandboxes {
        let counters = shared.registry.counters(live.state().sandbox_id);
        events.allowed += counters.allowed;
        events.denied += counters.denied;
        events.lost += counters.events_lost;
        if counters.processes_unrecorded > 0 {
            problems.push(format!(
                "{} processes of {} found the process table full and have no grants",
                counters.processes_unrecorded,
                live.state().name
            ));
        }
    }
    events
}

/// One sandbox; `None` where its layers are not known, which is so only while it starts.
pub(crate) fn info(shared: &Shared, live: &Live) -> Option<SandboxInfo> {
    let state = live.state().clone();
    let layers = state.layers.as_ref()?;
    let counters = shared.registry.counters(state.sandbox_id);
    Some(SandboxInfo {
        name: state.name,
        sandbox_id: state.sandbox_id,
        pid: state.init_pid,
        command: state.command,
        user: state.uid,
        network: state.network,
        policy_file: state.policy.source.file,
        policy_generation: state.policy.generation,
        policy_id: state.policy.policy_id,
        started_at: state.started_at,
        layers: layers_of(layers, live),
        counters: SandboxCounters {
            allowed: counters.allowed,
            denied: counters.denied,
            events_lost: counters.events_lost,
        },
        adopted: live.adopted,
    })
}

fn layers_of(layers: &clawd_sandbox::Layers, live: &Live) -> Layers {
    Layers {
        landlock_abi: layers.landlock_abi,
        landlock: match layers.landlock {
            LandlockState::FullyEnforced => LandlockStatus::FullyEnforced,
            LandlockState::PartiallyEnforced => LandlockStatus::PartiallyEnforced,
            LandlockState::NotEnforced => LandlockStatus::NotEnforced,
        },
        seccomp_profile: match layers.seccomp_profile {
            Profile::Default => "default".to_owned(),
            Profile::Strict => "strict".to_owned(),
        },
        seccomp_filters: layers.seccomp_filters,
        memory_deny_write_execute: layers.memory_deny_write_execute,
        namespaces: layers.namespaces.clone(),
        mounts: layers.mounts,
        uid: layers.uid,
        gid: layers.gid,
        no_new_privs: layers.no_new_privs,
        capabilities_empty: layers.capabilities_empty,
        cgroup: live.cgroup.path().display().to_string(),
    }
}
