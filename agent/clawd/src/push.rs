//! Putting another policy in force for a sandbox that runs.

use std::{
    sync::{Arc, PoisonError},
    time::Instant,
};

use clawd_audit::DaemonEvent;
use clawd_common::record::SandboxValue;
use clawd_control::{
    ApiError, ExitCode, NetworkMode, PolicySource, PushReport, PushRequest, RollbackRequest,
    SandboxName,
};
use clawd_policy::Policy;
use clawd_sys::passing::Peer;

use crate::{
    flows, generations,
    history::Kept,
    launch::FIRST_GENERATION,
    plan::read_policy,
    sandboxes::{Live, Shared},
    state::{PolicyState, SandboxState, gate_policy},
};

/// What is to come into force, and under which condition.
struct Change {
    what: What,
    /// The generation that must be in force.
    if_generation: Option<u64>,
    /// Who asks for it.
    caller_uid: u32,
}

enum What {
    /// This text.
    Text(PolicySource),
    /// That of an earlier generation, or of the one before.
    Earlier(Option<u64>),
}

/// Pushes a policy. Blocks; on an error the policy before stays in force.
pub(crate) fn push(
    shared: &Arc<Shared>,
    name: &SandboxName,
    request: PushRequest,
    peer: Peer,
) -> Result<PushReport, ApiError> {
    let change = Change {
        what: What::Text(request.policy),
        if_generation: request.if_generation,
        caller_uid: peer.uid,
    };
    put_in_force(shared, name, change)
}

/// Pushes the text of an earlier generation again. Blocks; as [`push`].
pub(crate) fn rollback(
    shared: &Arc<Shared>,
    name: &SandboxName,
    request: &RollbackRequest,
    peer: Peer,
) -> Result<PushReport, ApiError> {
    let change = Change {
        what: What::Earlier(request.to),
        if_generation: request.if_generation,
        caller_uid: peer.uid,
    };
    put_in_force(shared, name, change)
}

fn put_in_force(
    shared: &Arc<Shared>,
    name: &SandboxName,
    change: Change,
) -> Result<PushReport, ApiError> {
    let live = shared.find(name)?;
    let ended = live.pushing.lock().unwrap_or_else(PoisonError::into_inner);
    if *ended {
        return Err(ApiError::new(
            ExitCode::Failed,
            format!("{name} has ended; `clawctl ps` lists the sandboxes that run"),
        ));
    }
    let caller_uid = change.caller_uid;
    let result = try_push(shared, &live, change);
    let (generation, file) = {
        let state = live.state();
        (state.policy.generation, state.policy.source.file.clone())
    };
    let (sandbox, file) = (name.as_str(), file.as_str());
    shared.audit.daemon(&match &result {
        Ok(report) => match report.rolled_back_to {
            None => DaemonEvent::PolicyPushed {
                sandbox,
                generation,
                caller_uid,
                file,
            },
            Some(rolled_back_to) => DaemonEvent::PolicyRolledBack {
                sandbox,
                generation,
                rolled_back_to,
                caller_uid,
                file,
            },
        },
        Err(error) => DaemonEvent::PolicyRefused {
            sandbox,
            generation,
            caller_uid,
            message: &error.error.message,
        },
    });
    drop(ended);
    result
}

fn try_push(shared: &Arc<Shared>, live: &Live, change: Change) -> Result<PushReport, ApiError> {
    let begun = Instant::now();
    let before = live.state().clone();
    is_at(&before, change.if_generation)?;
    let (source, rolled_back_to) = source_of(shared, live, change.what)?;
    let parsed = clawd_policy::parse(&source.file, &source.text)
        .map_err(|errors| ApiError::new(ExitCode::Usage, errors.to_string()))?;
    only_rules_differ(&read_policy(&before.policy.source)?, &parsed.policy)?;

    let generation = before.policy.generation + 1;
    let policy_id = shared
        .registry
        .write_policy(&parsed.policy, generation)
        .map_err(|error| failed(error.to_string()))?;
    let mut after = before.clone();
    after.policy = PolicyState {
        policy_id,
        generation,
        source,
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
    let kept = Kept::now(&after.policy, change.caller_uid, rolled_back_to);
    switch(shared, live, (&before, &after), &kept).map_err(failed)?;
    *live.state() = after;
    let elapsed = begun.elapsed();
    let sandbox = before.name.clone();
    if let Err(error) = shared.history.trim(sandbox.as_str(), generation) {
        tracing::warn!(%sandbox, %error, "more policies than are kept stay in the state directory");
    }
    retire(shared, live, before, policy_id);
    Ok(PushReport {
        sandbox,
        generation,
        policy_id,
        rolled_back_to,
        elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        warnings,
    })
}

/// Ends what a replaced policy allowed and the one in force does not, and removes its rules.
///
/// The packet hooks drop what is forbidden from the switch on; that programs are told, and the old rules
/// go when no program reads them any more, the caller need not wait for.
fn retire(shared: &Arc<Shared>, live: &Live, before: SandboxState, policy_id: u32) {
    let (shared, cgroup_id) = (Arc::clone(shared), live.cgroup.id);
    drop(tokio::task::spawn_blocking(move || {
        if before.network == NetworkMode::Direct {
            flows::cut(&shared, cgroup_id, &value_of(&before, policy_id));
        }
        shared.registry.drop_policy(before.policy.policy_id);
        shared.gate.retire(before.policy.policy_id);
    }));
}

fn failed(error: String) -> ApiError {
    ApiError::new(
        ExitCode::Failed,
        format!("{error}; the policy before stays in force"),
    )
}

/// The text that is to come into force, and which earlier generation it is of.
fn source_of(
    shared: &Shared,
    live: &Live,
    what: What,
) -> Result<(PolicySource, Option<u64>), ApiError> {
    let to = match what {
        What::Text(source) => return Ok((source, None)),
        What::Earlier(to) => to,
    };
    let (name, in_force) = {
        let state = live.state();
        (state.name.clone(), state.policy.generation)
    };
    let refused = |why: String| Err(ApiError::new(ExitCode::Failed, why));
    let to = match to {
        None if in_force <= FIRST_GENERATION => {
            return refused(format!(
                "generation {in_force} of {name} is its first; there is none before it"
            ));
        }
        None => in_force - 1,
        Some(to) if to == in_force => {
            return refused(format!("generation {to} of {name} is in force already"));
        }
        Some(to) => to,
    };
    let kept = generations::find(shared, live, to)?;
    Ok((kept.source, Some(to)))
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
    kept: &Kept,
) -> Result<(), String> {
    let policy_id = after.policy.policy_id;
    let name = before.name.as_str();
    // The files first: a daemon that dies in between takes over with rules that are both in the tables.
    let switched = shared
        .history
        .keep(name, kept)
        .and_then(|()| shared.states.write(after))
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
        if let Err(error) = shared.history.drop_one(name, kept.generation) {
            tracing::warn!(%error, "a policy that did not come into force stays in the state directory");
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
