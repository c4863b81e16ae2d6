//! Putting another policy in force for a sandbox that runs.

use std::{
    sync::{Arc, PoisonError},
    time::Instant,
};

use clawd_audit::DaemonEvent;
use clawd_common::record::SandboxValue;
use clawd_control::{ApiError, ExitCode, PushReport, PushRequest, SandboxName};
use clawd_policy::Policy;

use crate::{
    plan::read_policy,
    sandboxes::{Live, Shared},
    state::PolicyState,
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
    let parsed = clawd_policy::parse(&request.policy.file, &request.policy.text)
        .map_err(|errors| ApiError::new(ExitCode::Usage, errors.to_string()))?;
    let before = live.state().clone();
    only_rules_differ(&read_policy(&before.policy.source)?, &parsed.policy)?;

    let failed = |error: String| {
        ApiError::new(
            ExitCode::Failed,
            format!("{error}; the policy before stays in force"),
        )
    };
    let grants = shared.registry.resolve(&parsed.policy);
    let generation = before.policy.generation + 1;
    let policy_id = shared
        .registry
        .write_policy(&parsed.policy, &grants, generation)
        .map_err(|error| failed(error.to_string()))?;
    let mut after = before.clone();
    after.policy = PolicyState {
        policy_id,
        generation,
        source: request.policy,
        grants,
    };
    // The file first: a daemon that dies in between takes over with rules that are both in the tables.
    let switched = shared
        .states
        .write(&after)
        .map_err(|error| error.to_string())
        .and_then(|()| {
            let SandboxValue { reserved, .. } = SandboxValue::ZERO;
            let value = SandboxValue {
                sandbox_id: before.sandbox_id,
                policy_id,
                flags: before.flags,
                reserved,
            };
            shared
                .registry
                .switch(live.cgroup.id, value)
                .map_err(|error| error.to_string())
        });
    if let Err(error) = switched {
        shared.registry.forget_policy(policy_id);
        if let Err(error) = shared.states.write(&before) {
            tracing::error!(%error, "a sandbox's state file names a policy that is not in force");
        }
        return Err(failed(error));
    }
    *live.state() = after;
    let elapsed = begun.elapsed();
    let registry = Arc::clone(&shared.registry);
    // Waits until no program reads the old rules; the caller need not.
    drop(tokio::task::spawn_blocking(move || {
        registry.drop_policy(before.policy.policy_id)
    }));
    Ok(PushReport {
        sandbox: before.name,
        generation,
        policy_id,
        elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        warnings: parsed.warnings.iter().map(ToString::to_string).collect(),
    })
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
