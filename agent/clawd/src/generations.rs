//! The policies that a sandbox has had, as the control API shows them.

use clawd_audit::Digest;
use clawd_control::{ApiError, ExitCode, GenerationInfo, SandboxName};
use clawd_sys::passing::Peer;
use sha2::{Digest as _, Sha256};

use crate::{
    history::Kept,
    pull::may_read,
    sandboxes::{Live, Shared},
};

/// Every policy of a sandbox that is kept, oldest first; for whoever may have their texts, of which a hash
/// tells something too.
pub(crate) fn history(
    shared: &Shared,
    name: &SandboxName,
    peer: Peer,
) -> Result<Vec<GenerationInfo>, ApiError> {
    let live = shared.find(name)?;
    may_read(&live.state(), peer)?;
    let in_force = live.state().policy.generation;
    let all = shared.history.all(name.as_str(), in_force);
    let all = all.map_err(|error| unreadable(name, &error))?;
    Ok(all.iter().map(|kept| info(kept, in_force)).collect())
}

/// What is kept of a generation, which is none above the one in force.
pub(crate) fn find(shared: &Shared, live: &Live, generation: u64) -> Result<Kept, ApiError> {
    let (name, in_force) = {
        let state = live.state();
        (state.name.clone(), state.policy.generation)
    };
    let kept = if generation <= in_force {
        let kept = shared.history.one(name.as_str(), generation);
        kept.map_err(|error| unreadable(&name, &error))?
    } else {
        None
    };
    kept.ok_or_else(|| {
        ApiError::new(
            ExitCode::Failed,
            format!(
                "generation {generation} of {name} is not kept; `clawctl policy history {name}` lists \
                 those that are"
            ),
        )
    })
}

fn info(kept: &Kept, in_force: u64) -> GenerationInfo {
    let text = kept.source.text.as_bytes();
    GenerationInfo {
        generation: kept.generation,
        in_force: kept.generation == in_force,
        pushed_at: kept.pushed_at.clone(),
        caller_uid: kept.caller_uid,
        rolled_back_to: kept.rolled_back_to,
        file: kept.source.file.clone(),
        sha256: Digest(Sha256::digest(text).into()).to_string(),
        text_bytes: u64::try_from(text.len()).unwrap_or(u64::MAX),
    }
}

fn unreadable(name: &SandboxName, error: &std::io::Error) -> ApiError {
    ApiError::new(
        ExitCode::Failed,
        format!("cannot read the policies of {name}: {error}"),
    )
}
