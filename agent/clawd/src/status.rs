//! What the daemon tells of itself and its sandboxes: measured, not remembered.

use std::sync::Arc;

use clawd_common::ABI_VERSION;
use clawd_control::{
    EventTotals, ExecGateStatus, Health, HookStatus, LandlockStatus, Layers, NamedLimits,
    NamedPromises, SandboxCounters, SandboxInfo, Status,
};
use clawd_sandbox::{LandlockState, Profile};

use crate::{
    limits, promises,
    sandboxes::{Live, Shared},
};

/// The daemon.
pub(crate) fn status(shared: &Shared) -> Status {
    let found = shared.pins.hooks();
    let foreign = (found.iter()).filter(|hook| hook.program_id.is_some() && !hook.is_known);
    let foreign: Vec<String> = foreign
        .map(|hook| {
            let name = hook.name;
            format!("hook {name} has another program than clawd put there; start clawd again")
        })
        .collect();
    let hooks: Vec<HookStatus> = found
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
        .chain(foreign)
        .collect();
    let enforcing = problems.is_empty();
    let exec_gate = exec_gate(shared);
    let sandboxes = shared.list();
    problems.extend(gate_and_log_problems(shared, &exec_gate));
    problems.extend(sandboxes.iter().filter_map(|live| landlock_problem(live)));
    let limits: Vec<_> = (sandboxes.iter())
        .filter_map(|live| limits_of(live))
        .collect();
    problems
        .extend((limits.iter()).flat_map(|of| limits::problems(of.sandbox.as_str(), &of.limits)));
    let promises: Vec<_> = sandboxes
        .iter()
        .filter_map(|live| promises_of(live, enforcing))
        .collect();
    problems.extend(promises.iter().flat_map(unheld));
    problems.extend(sandboxes.iter().filter_map(|live| view_problem(live)));
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
        exec_gate,
        sandboxes: u32::try_from(sandboxes.len()).unwrap_or(u32::MAX),
        limits,
        promises,
        events,
        health: match (enforcing, problems.is_empty()) {
            (false, _) => Health::NotEnforcing,
            (true, false) => Health::Degraded,
            (true, true) => Health::Healthy,
        },
        problems,
    }
}

fn exec_gate(shared: &Shared) -> ExecGateStatus {
    let (pid, health) = shared.gate.health().unwrap_or_default();
    ExecGateStatus {
        pid,
        workers: health.workers,
        running: health.workers > 0,
        restarts: shared.gate.restarts(),
        files: health.files,
        files_max: health.files_max,
        chains: health.chains,
        chains_max: health.chains_max,
    }
}

fn gate_and_log_problems(shared: &Shared, gate: &ExecGateStatus) -> Vec<String> {
    let mut problems = Vec::new();
    if !gate.running {
        problems.push(
            "the exec gate does not answer: programs that start now have no identity; clawd starts \
             it again, its log says why it ends"
                .to_owned(),
        );
    }
    for (what, used, max) in [
        ("programs", gate.files, gate.files_max),
        ("lines of programs", gate.chains, gate.chains_max),
    ] {
        if used >= max && max > 0 {
            problems.push(format!(
                "the table of {what} is full ({max}): new ones have no identity; stop sandboxes"
            ));
        }
    }
    let write_errors = shared.audit.write_errors();
    if write_errors > 0 {
        problems.push(format!(
            "{write_errors} audit records could not be written to {}; free some space",
            shared.audit.path().display()
        ));
    }
    problems.extend(shared.audit.rotation_problem().map(|problem| {
        format!(
            "the audit log {} is full and goes on in the same file: clawd {problem}",
            shared.audit.path().display()
        )
    }));
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

/// A view that is not what it was built as.
///
/// Nobody inside can mount or unmount. But the kernel takes a mount away when what it lies on is removed
/// or replaced from outside, and so what was denied or read-only there may be open now.
fn view_problem(live: &Live) -> Option<String> {
    let state = live.state();
    let built = state.layers.as_ref()?.mounts;
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", state.init_pid)).ok()?;
    let now = u32::try_from(mounts.lines().count()).unwrap_or(u32::MAX);
    (now < built).then(|| {
        format!(
            "{}: {} of {built} mounts of its view are gone, because files that they lay on were replaced \
             outside; what was denied or read-only there may not be any more; stop it and run it again",
            state.name,
            built - now
        )
    })
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

/// What a sandbox is promised; `None` while it starts.
fn promises_of(live: &Live, hooks_attached: bool) -> Option<NamedPromises> {
    let state = live.state();
    let layers = state.layers.as_ref()?;
    let limits = limits::read(&live.cgroup, &layers.limits);
    Some(NamedPromises {
        sandbox: state.name.clone(),
        promises: promises::of(layers, &limits, hooks_attached),
    })
}

/// Sentences for what nothing holds, which a policy accepts with best_effort.
fn unheld(of: &NamedPromises) -> Vec<String> {
    let problems = of.promises.iter().filter_map(promises::problem);
    problems
        .map(|problem| format!("{}: {problem}", of.sandbox))
        .collect()
}

/// What a sandbox may use up; `None` while it starts.
fn limits_of(live: &Live) -> Option<NamedLimits> {
    let state = live.state();
    let of_processes = &state.layers.as_ref()?.limits;
    Some(NamedLimits {
        sandbox: state.name.clone(),
        limits: limits::read(&live.cgroup, of_processes),
    })
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
        limits: limits::read(&live.cgroup, &layers.limits),
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
            Profile::Jit => "jit".to_owned(),
        },
        seccomp_filters: layers.seccomp_filters,
        memory_deny_write_execute: layers.memory_deny_write_execute,
        namespaces: layers.namespaces.clone(),
        mounts: layers.mounts,
        uid: layers.uid,
        gid: layers.gid,
        groups: layers.groups.clone(),
        no_new_privs: layers.no_new_privs,
        capabilities_empty: layers.capabilities_empty,
        cgroup: live.cgroup.path().display().to_string(),
    }
}
