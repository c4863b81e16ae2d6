//! Putting another policy in force for a sandbox that runs.

use std::{
    sync::{Arc, PoisonError},
    time::Instant,
};

use clawd_audit::DaemonEvent;
use clawd_common::record::SandboxValue;
use clawd_control::{ApiError, ExitCode, NetworkMode, PushReport, PushRequest, SandboxName};
use clawd_policy::Policy;

use crate::{
    flows,
    plan::read_policy,
    sandboxes::{Live, Shared},
    state::{PolicyState, SandboxState, gate_policy},
};

/// Pushes a policy. Blocks; on an error the policy before stays in force.
pub(crate) fn push(
    shared: &Arc<Shared>,
    name: &SandboxName,
    request: PushRequest,
) -> Result<PushReport, ApiError> {
    let live = shared.find(name)?;
    let ended = live.pushing.lock().unwrap_or_else(PoisonError::into_inner);
    if *ended {
        return Err(ApiError::new(
            ExitCode::Failed,
            format!("{name} has ended; `clawctl ps` lists the sandboxes that run"),
        ));
    }
    let file = request.policy.file.clone();
    let result = try_push(shared, &live, request);
    let generation = live.state().policy.generation;
    let sandbox = name.as_str();
    match &result {
        Ok(_) => shared.audit.daemon(&DaemonEvent::PolicyPushed {
            sandbox,
            generation,
            file: &file,
        }),
        Err(error) => {
            let message = &error.error.message;
            shared.audit.daemon(&DaemonEvent::PolicyRefused {
                sandbox,
                generation,
                message,
            });
        }
    }
    drop(ended);
    result
}

fn try_push(
    shared: &Arc<Shared>,
    live: &Live,
    request: PushRequest,
) -> Result<PushReport, ApiError> {
    let begun = Instant::now();
    let before = live.state().clone();
    is_at(&before, request.if_generation)?;
    let parsed = clawd_policy::parse(&request.policy.file, &request.policy.text)
        .map_err(|errors| ApiError::new(ExitCode::Usage, errors.to_string()))?;
    only_rules_differ(&read_policy(&before.policy.source)?, &parsed.policy)?;

    let failed = |error: String| {
        ApiError::new(
            ExitCode::Failed,
            format!("{error}; the policy before stays in force"),
        )
    };
    let generation = before.policy.generation + 1;
    let policy_id = shared
        .registry
        .write_policy(&parsed.policy, generation)
        .map_err(|error| failed(error.to_string()))?;
    let mut after = before.clone();
    after.policy = PolicyState {
        policy_id,
        generation,
        source: request.policy,
    };
    // Every running program has its grants under the new rules before these are in force.
    let gate_policy = gate_policy(policy_id, &parsed.policy);
    let loaded = shared.gate.load(before.sandbox_id, gate_policy);
    let mut warnings: Vec<String> = parsed.warnings.iter().map(ToString::to_string).collect();
    match loaded {
        Ok(further) => warnings.extend(further),
        Err(error) => {
            shared.registry.forget_policy(policy_id);
            return Err(failed(error.to_string()));
        }
    }
    if let Err(error) = switch(shared, live, (&before, &after)) {
        return Err(failed(error));
    }
    *live.state() = after;
    let elapsed = begun.elapsed();
    let (shared, cgroup_id) = (Arc::clone(shared), live.cgroup.id);
    let sandbox = before.name.clone();
    // The packet hooks drop what is forbidden from now on; that programs are told, and the old rules go
    // when no program reads them any more, the caller need not wait for.
    drop(tokio::task::spawn_blocking(move || {
        if before.network == NetworkMode::Direct {
            flows::cut(&shared, cgroup_id, &value_of(&before, policy_id));
        }
        shared.registry.drop_policy(before.policy.policy_id);
        shared.gate.retire(before.policy.policy_id);
    }));
    Ok(PushReport {
        sandbox,
        generation,
        policy_id,
        elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        warnings,
    })
}

/// Refuses a change that was made for another generation than the one in force. The caller holds the
/// lock on pushes, so that no other one comes between this and the switch.
fn is_at(state: &SandboxState, wanted: Option<u64>) -> Result<(), ApiError> {
    let (name, generation) = (&state.name, state.policy.generation);
    match wanted {
        Some(wanted) if wanted != generation => Err(ApiError::new(
            ExitCode::Failed,
            format!(
                "{name} is at generation {generation}, not at {wanted}, so nothing was switched; look \
                 at what is in force, and then name generation {generation}"
            ),
        )),
        _ => Ok(()),
    }
}

/// What the hooks know of a sandbox under a policy.
fn value_of(state: &SandboxState, policy_id: u32) -> SandboxValue {
    SandboxValue {
        sandbox_id: state.sandbox_id,
        policy_id,
        flags: state.flags,
        ..SandboxValue::ZERO
    }
}

/// Puts the new policy in force; takes everything of it back where that fails.
fn switch(
    shared: &Shared,
    live: &Live,
    (before, after): (&SandboxState, &SandboxState),
) -> Result<(), String> {
    let policy_id = after.policy.policy_id;
    // The file first: a daemon that dies in between takes over with rules that are both in the tables.
    let switched = shared
        .states
        .write(after)
        .map_err(|error| error.to_string())
        .and_then(|()| {
            shared
                .registry
                .switch(live.cgroup.id, value_of(before, policy_id))
                .map_err(|error| error.to_string())
        });
    if switched.is_err() {
        shared.gate.retire(policy_id);
        shared.registry.forget_policy(policy_id);
        if let Err(error) = shared.states.write(before) {
            tracing::error!(%error, "a sandbox's state file names a policy that is not in force");
        }
    }
    switched
}

/// Files, user and network mode are fixed when a sandbox starts. To accept a change of them and not
/// enforce it would make the policy say what is not so.
fn only_rules_differ(before: &Policy, after: &Policy) -> Result<(), ApiError> {
    let fixed = [
        ("filesystem_policy", before.filesystem == after.filesystem),
        ("process", before.process == after.process),
        ("network", before.network == after.network),
        ("landlock", before.landlock == after.landlock),
        ("env", before.env == after.env),
        ("env_allow", before.env_allow == after.env_allow),
    ];
    let changed: Vec<_> = fixed
        .iter()
        .filter(|(_, same)| !same)
        .map(|(key, _)| format!("`{key}`"))
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(
        ExitCode::Usage,
        format!(
            "{} cannot change while the sandbox runs, only `network_policies` can; stop it and run it again",
            changed.join(", ")
        ),
    ))
}
