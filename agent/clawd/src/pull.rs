//! Handing out the policy that is in force for a sandbox.

use clawd_control::{ApiError, ExitCode, PolicyReport, SandboxName};
use clawd_sys::passing::Peer;

use crate::{plan::accounts::may_run_as, sandboxes::Shared};

/// The policy of a sandbox, for whoever may run as its user: `env` in it may hold secrets of that user's.
pub(crate) fn pull(
    shared: &Shared,
    name: &SandboxName,
    peer: Peer,
) -> Result<PolicyReport, ApiError> {
    let live = shared.find(name)?;
    let state = live.state();
    // A sandbox is not listed before its layers are known.
    let may = (state.layers.as_ref())
        .is_some_and(|layers| may_run_as(peer, (layers.uid, layers.gid), &layers.groups));
    if !may {
        return Err(ApiError::new(
            ExitCode::Usage,
            format!(
                "only root, or whoever has the rights of the sandbox (uid {}, and its groups), may read the policy of {name}; you are uid {}, gid {}",
                state.uid, peer.uid, peer.gid
            ),
        ));
    }
    Ok(PolicyReport {
        sandbox: state.name.clone(),
        generation: state.policy.generation,
        network: state.network,
        policy: state.policy.source.clone(),
    })
}
