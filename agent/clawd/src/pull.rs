//! Handing out the policies of a sandbox.

use clawd_control::{ApiError, ExitCode, PolicyReport, SandboxName};
use clawd_sys::passing::Peer;

use crate::{generations, plan::accounts::may_run_as, sandboxes::Shared, state::SandboxState};

/// The policy of a sandbox that is in force, or that of a generation.
pub(crate) fn pull(
    shared: &Shared,
    name: &SandboxName,
    generation: Option<u64>,
    peer: Peer,
) -> Result<PolicyReport, ApiError> {
    let live = shared.find(name)?;
    let state = live.state().clone();
    may_read(&state, peer)?;
    let in_force = state.policy.generation;
    let (generation, policy) = match generation {
        Some(generation) if generation != in_force => (
            generation,
            generations::find(shared, &live, generation)?.source,
        ),
        _ => (in_force, state.policy.source),
    };
    Ok(PolicyReport {
        sandbox: state.name,
        generation,
        network: state.network,
        policy,
    })
}

/// Refuses whoever may not run as the sandbox's user: `env` in a policy may hold secrets of that user's.
pub(crate) fn may_read(state: &SandboxState, peer: Peer) -> Result<(), ApiError> {
    // A sandbox is not listed before its layers are known.
    let may = (state.layers.as_ref())
        .is_some_and(|layers| may_run_as(peer, (layers.uid, layers.gid), &layers.groups));
    if may {
        return Ok(());
    }
    Err(ApiError::new(
        ExitCode::Usage,
        format!(
            "only root, or whoever has the rights of the sandbox (uid {}, and its groups), may read the policy of {}; you are uid {}, gid {}",
            state.uid, state.name, peer.uid, peer.gid
        ),
    ))
}
