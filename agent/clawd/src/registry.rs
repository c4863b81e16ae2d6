//! Who may go where: policies and sandboxes, and the kernel's tables that hold them.
//!
//! The one lock of the daemon's decisions; nothing under it blocks but writes to the kernel's maps.

mod names;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    fs::File,
    os::fd::AsFd as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use clawd_common::{
    ended::{EndedKey, EndedValue},
    record::{Counters, FileKey, ProcessValue, SandboxValue},
};
use clawd_kernel::{FileKeyReader, Kernel, OpenFlow, Reports, TableError};
use clawd_policy::{MapImage, Policy};

use crate::{
    flows,
    ids::{IdError, Ids},
    state::SandboxState,
};

/// Policies and sandboxes that are gone whose names are kept for events that are still to be read.
const RETIRED_MAX: usize = 1024;

/// How long the packets of an ended sandbox are still known as its: what its programs had written
/// before they ended is on its way.
const LINGER: Duration = Duration::from_secs(300);

/// Ended sandboxes that are remembered for that; the map of sandboxes holds four times as many.
const LINGER_MAX: usize = 1024;

/// Why a table or a number could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Id(#[from] IdError),
    #[error(transparent)]
    Compile(#[from] clawd_policy::CompileError),
}

struct LivePolicy {
    generation: u64,
    /// Names of its rules, by the number that events have.
    labels: BTreeMap<u32, String>,
    /// What is in the tables; `None` for a policy of a daemon before.
    image: Option<MapImage>,
}

struct Inner {
    kernel: Kernel,
    ids: Ids,
    policies: HashMap<u32, LivePolicy>,
    sandboxes: HashMap<u32, String>,
    /// Gone, but named in events that may still be read: oldest first.
    retired_policies: VecDeque<(u32, LivePolicy)>,
    retired_sandboxes: VecDeque<u32>,
    /// Cgroups of ended sandboxes, oldest first.
    lingering: VecDeque<(Instant, u64)>,
}

/// The registry.
pub(crate) struct Registry {
    inner: Mutex<Inner>,
    reports: Reports,
    /// clawd's own file, which is the first thing every sandbox executes.
    own_program: Option<(FileKey, String)>,
}

impl Registry {
    pub(crate) fn new(
        kernel: Kernel,
        reports: Reports,
        mut ids: Ids,
        (keys, own): (&mut FileKeyReader, &File),
    ) -> Self {
        // A state directory may be lost while pins live; a number given twice would put a sandbox
        // under another one's rules.
        ids.pass(kernel.greatest_ids());
        let inner = Inner {
            kernel,
            ids,
            policies: HashMap::new(),
            sandboxes: HashMap::new(),
            retired_policies: VecDeque::new(),
            retired_sandboxes: VecDeque::new(),
            lingering: VecDeque::new(),
        };
        let own_path = std::env::current_exe().unwrap_or_default();
        let own_program = keys
            .read(own.as_fd())
            .ok()
            .map(|key| (key, own_path.to_string_lossy().into_owned()));
        Self {
            inner: Mutex::new(inner),
            reports,
            own_program,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh number for a sandbox, with its totals at zero.
    pub(crate) fn new_sandbox(&self, name: &str) -> Result<u32, RegistryError> {
        let mut inner = self.inner();
        inner.forget_lingering();
        let sandbox_id = inner.ids.sandbox()?;
        inner.kernel.start_counters(sandbox_id)?;
        inner.sandboxes.insert(sandbox_id, name.to_owned());
        Ok(sandbox_id)
    }

    /// Remembers a sandbox of a daemon before, with its policy.
    pub(crate) fn adopt(&self, state: &SandboxState, policy: &Policy) {
        let mut inner = self.inner();
        let live = LivePolicy {
            generation: state.policy.generation,
            labels: policy.rule_names(),
            image: None,
        };
        inner
            .sandboxes
            .insert(state.sandbox_id, state.name.to_string());
        inner.policies.insert(state.policy.policy_id, live);
    }

    /// Writes a policy's rules under a fresh id; they decide nothing until a sandbox is switched to
    /// it, which the exec gate's grants must come before.
    pub(crate) fn write_policy(
        &self,
        policy: &Policy,
        generation: u64,
    ) -> Result<u32, RegistryError> {
        let mut inner = self.inner();
        let policy_id = inner.ids.policy()?;
        let image: MapImage = clawd_policy::compile(policy, policy_id)?;
        inner.kernel.write_policy(&image)?;
        let live = LivePolicy {
            generation,
            labels: policy.rule_names(),
            image: Some(image),
        };
        inner.policies.insert(policy_id, live);
        Ok(policy_id)
    }

    /// Puts a sandbox under a policy that was written.
    pub(crate) fn switch(&self, cgroup_id: u64, value: SandboxValue) -> Result<(), RegistryError> {
        Ok(self.inner().kernel.set_sandbox(cgroup_id, value)?)
    }

    /// Whether the policy in force forbids an open flow of the sandbox with that cgroup, and is the one
    /// that `sandbox` names.
    pub(crate) fn forbids(&self, cgroup_id: u64, sandbox: &SandboxValue, flow: &OpenFlow) -> bool {
        let inner = self.inner();
        // Another push may have come since: what it allows, though this one did not, is none of ours.
        let in_force = inner.kernel.sandbox(cgroup_id);
        if in_force.map(|value| value.policy_id) != Some(sandbox.policy_id) {
            return false;
        }
        let live = inner.policies.get(&sandbox.policy_id);
        let Some(image) = live.and_then(|policy| policy.image.as_ref()) else {
            // Replaced already: whoever did that looks at the flows too.
            return false;
        };
        let chain = flow.record.map_or(0, |record| record.chain);
        let mask = inner.kernel.mask(sandbox.policy_id, chain);
        let masks = BTreeMap::from([(chain, mask)]);
        flows::is_forbidden(image.lookup(&masks), sandbox, flow)
    }

    /// Removes a policy that no sandbox is under any more. Blocks until no program still reads it.
    pub(crate) fn drop_policy(&self, policy_id: u32) {
        // Without the wait entries stay until the next start: nothing refers to them.
        match clawd_sys::rcu::wait_for_grace_period() {
            Ok(()) => self.forget_policy(policy_id),
            Err(error) => {
                tracing::warn!(%error, policy_id, "the rules of a replaced policy stay in the tables")
            }
        }
    }

    /// Removes a policy that no program can be reading.
    pub(crate) fn forget_policy(&self, policy_id: u32) {
        let mut inner = self.inner();
        let Some(policy) = inner.policies.remove(&policy_id) else {
            return;
        };
        if let Err(error) = inner.remove_from_tables(&policy) {
            tracing::warn!(%error, policy_id, "the rules of a policy stay in the tables");
        }
        let policy = LivePolicy {
            image: None,
            ..policy
        };
        inner.retired_policies.push_back((policy_id, policy));
        if inner.retired_policies.len() > RETIRED_MAX {
            inner.retired_policies.pop_front();
        }
    }

    /// Forgets a sandbox that has no process left. Its flows go on by what was decided for them, for
    /// as long as [`LINGER`] says.
    pub(crate) fn forget_sandbox(&self, cgroup_id: u64, sandbox_id: u32) {
        let mut inner = self.inner();
        if let Err(error) = inner.kernel.remove_counters(sandbox_id) {
            tracing::warn!(%error, sandbox_id, "the totals of a sandbox stay in the tables");
        }
        inner.lingering.push_back((Instant::now(), cgroup_id));
        inner.forget_lingering();
        inner.retired_sandboxes.push_back(sandbox_id);
        if inner.retired_sandboxes.len() > RETIRED_MAX
            && let Some(oldest) = inner.retired_sandboxes.pop_front()
        {
            inner.sandboxes.remove(&oldest);
        }
    }

    /// Drops what the kernel has of sandboxes and policies that no daemon knows.
    pub(crate) fn collect(&self, live_cgroups: &HashSet<u64>) {
        let mut inner = self.inner();
        for (cgroup_id, value) in inner.kernel.sandboxes() {
            if !live_cgroups.contains(&cgroup_id)
                && let Err(error) = inner
                    .kernel
                    .remove_sandbox(cgroup_id)
                    .and_then(|()| inner.kernel.remove_counters(value.sandbox_id))
            {
                tracing::warn!(%error, cgroup_id, "a dead sandbox stays in the tables");
            }
        }
        let live: HashSet<u32> = inner.policies.keys().copied().collect();
        if let Err(error) = inner.kernel.retain_policies(&live) {
            tracing::warn!(%error, "rules of dead policies stay in the tables");
        }
    }

    /// What a process executes, by its thread group id on the host.
    pub(crate) fn process(&self, tgid: u32) -> Option<ProcessValue> {
        self.reports.process(tgid)
    }

    /// What a process was that has ended lately, by its number in its own sandbox.
    pub(crate) fn ended(&self, key: EndedKey) -> Option<EndedValue> {
        self.reports.ended(key)
    }

    /// The totals of a sandbox.
    pub(crate) fn counters(&self, sandbox_id: u32) -> Counters {
        self.inner().kernel.counters(sandbox_id)
    }
}

impl Inner {
    fn forget_lingering(&mut self) {
        let now = Instant::now();
        while let Some((ended, cgroup_id)) = self.lingering.front().copied()
            && (now.duration_since(ended) > LINGER || self.lingering.len() > LINGER_MAX)
        {
            if let Err(error) = self.kernel.remove_sandbox(cgroup_id) {
                tracing::warn!(%error, cgroup_id, "an ended sandbox stays in the tables");
            }
            self.lingering.pop_front();
        }
    }
}
