//! Taking over the sandboxes of a daemon before, and clearing away what it left half-built.

use std::{collections::HashSet, sync::Arc};

use anyhow::Context as _;

use clawd_identity::protocol::Watch;

use crate::{
    cgroup::Cgroup,
    plan::read_policy,
    sandboxes::{Live, Shared},
    state::SandboxState,
};

/// Takes over every sandbox with a complete state file and a live first process; ends and removes
/// everything else below the parent cgroup. Returns how many sandboxes live.
pub(crate) fn adopt(shared: &Arc<Shared>) -> anyhow::Result<usize> {
    let (states, broken) = shared
        .states
        .read_all()
        .context("cannot read the sandboxes' states")?;
    for path in broken {
        tracing::warn!(path = %path.display(), "not a sandbox's state; its sandbox is ended");
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove it");
        }
    }
    let (mut live_cgroups, mut names) = (HashSet::new(), HashSet::new());
    let mut watches = Vec::new();
    for state in states {
        let name = state.name.clone();
        match adopt_one(shared, state) {
            Ok((cgroup_id, watch)) => {
                live_cgroups.insert(cgroup_id);
                names.insert(name.to_string());
                watches.push(watch);
            }
            Err(error) => {
                tracing::info!(sandbox = %name, reason = %format!("{error:#}"), "a sandbox is not taken over");
                if let Err(error) = shared.states.remove(name.as_str()) {
                    tracing::warn!(sandbox = %name, %error, "its state file stays");
                }
            }
        }
    }
    if let Err(error) = shared.history.retain(&names) {
        tracing::warn!(%error, "earlier policies of sandboxes that are gone stay");
    }
    if let Err(error) = shared.entrances.retain(&names) {
        tracing::warn!(%error, "entrances of sandboxes that are gone stay");
    }
    if let Err(error) = shared.ends.retain(&names) {
        tracing::warn!(%error, "ends of sandboxes that are gone stay");
    }
    for name in shared.parent.children()? {
        let cgroup = shared.parent.child(&name)?;
        if !live_cgroups.contains(&cgroup.id) {
            // What cannot be ended stays judged: its cgroup is under the hooks.
            if let Err(error) = cgroup.destroy() {
                tracing::error!(cgroup = name, %error, "what a daemon before left cannot be cleared away");
                live_cgroups.insert(cgroup.id);
            }
        }
    }
    shared.parent.sweep_legacy();
    shared.registry.collect(&live_cgroups);
    // All at once: what one of them can write has no identity in any other. Where that fails, the
    // sandboxes keep what they have, and the gate is started again until it succeeds.
    if !watches.is_empty()
        && let Err(error) = shared.gate.restore(watches)
    {
        tracing::error!(%error, "the exec gate does not take up the sandboxes; their new programs get no identity");
    }
    Ok(live_cgroups.len())
}

/// Takes over one sandbox; returns its cgroup's id, and what the exec gate must know of it.
fn adopt_one(shared: &Arc<Shared>, state: SandboxState) -> anyhow::Result<(u64, Watch)> {
    let cgroup: Cgroup = shared.parent.child(state.name.as_str())?;
    anyhow::ensure!(cgroup.id == state.cgroup_id, "its cgroup is another one");
    anyhow::ensure!(state.layers.is_some(), "it was not fully started");
    // A reused pid is not in that cgroup: nothing but the sandbox's processes can be.
    let pid = i32::try_from(state.init_pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .context("no pid")?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .context("it has ended")?;
    anyhow::ensure!(
        cgroup.processes()?.contains(&state.init_pid),
        "its first process has ended"
    );
    // What it was refused meanwhile is still in the pipe.
    let refusals = rustix::process::pidfd_getfd(
        &pidfd,
        state.refusals_fd,
        rustix::process::PidfdGetfdFlags::empty(),
    )
    .context("its pipe of refusals is gone")?;
    let policy = read_policy(&state.policy.source).map_err(|error| {
        anyhow::anyhow!("its policy is not understood: {}", error.error.message)
    })?;
    let watch = state.watch(&policy);
    let reserved = shared
        .reserve(state.name.clone())
        .map_err(|error| anyhow::anyhow!(error.error.message))?;
    shared.registry.adopt(&state, &policy);
    // The file may be one push ahead of the switch; the file is what the operator was told or not yet told.
    shared.registry.switch(
        cgroup.id,
        clawd_common::record::SandboxValue {
            sandbox_id: state.sandbox_id,
            policy_id: state.policy.policy_id,
            flags: state.flags,
            ..clawd_common::record::SandboxValue::ZERO
        },
    )?;
    // Without it there is less to go back to; what is in force does not depend on it.
    if let Err(error) = shared.history.settle(state.name.as_str(), &state.policy) {
        tracing::warn!(sandbox = %state.name, %error, "a sandbox's earlier policies cannot be put in order");
    }
    let cgroup_id = cgroup.id;
    shared.enter(
        reserved,
        Arc::new(Live::new(cgroup, true, state, (pidfd, refusals))),
    );
    Ok((cgroup_id, watch))
}
