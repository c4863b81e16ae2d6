//! What clawd tells about its sandboxes.

use serde::{Deserialize, Serialize};

use crate::{name::SandboxName, run::NetworkMode};

/// One sandbox that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxInfo {
    /// Its name.
    pub name: SandboxName,
    /// Its number in the kernel's tables, from 1.
    pub sandbox_id: u32,
    /// Its first process, in clawd's pid namespace.
    pub pid: u32,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// User id that it runs as.
    pub user: u32,
    /// Its network.
    pub network: NetworkMode,
    /// The policy's file, as typed.
    pub policy_file: String,
    /// Number of the policy within the sandbox, from 1; each push adds one.
    pub policy_generation: u64,
    /// Under which the kernel holds the rules in force.
    pub policy_id: u32,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// What confines it.
    pub layers: Layers,
    /// Totals since its start.
    pub counters: SandboxCounters,
    /// Whether an earlier clawd started it.
    pub adopted: bool,
}

/// The confinement that is really in force, as read back when the sandbox was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    /// Landlock ABI that is in force, 0 for none.
    pub landlock_abi: u32,
    /// How much of what was asked of Landlock it enforces.
    pub landlock: LandlockStatus,
    /// seccomp profile.
    pub seccomp_profile: String,
    /// seccomp filters that are stacked.
    pub seccomp_filters: u32,
    /// Whether memory can never be made executable after it was writable (`PR_SET_MDWE`).
    pub memory_deny_write_execute: bool,
    /// Namespaces that are the sandbox's own.
    pub namespaces: Vec<String>,
    /// Mounts in its view.
    pub mounts: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Whether `execve` can never gain privileges.
    pub no_new_privs: bool,
    /// Whether every capability set was found empty.
    pub capabilities_empty: bool,
    /// The sandbox's cgroup.
    pub cgroup: String,
}

/// How much of the file rules Landlock enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LandlockStatus {
    /// Everything that was asked for.
    FullyEnforced,
    /// Less than was asked for; the policy allows that (`best_effort`).
    PartiallyEnforced,
    /// Nothing; the policy allows that (`best_effort`).
    NotEnforced,
}

/// Totals of one sandbox, exact whatever became of the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxCounters {
    /// Attempts allowed.
    pub allowed: u64,
    /// Attempts denied.
    pub denied: u64,
    /// Events that found the ring buffer full: judged and counted, but not in the audit log.
    pub events_lost: u64,
}

/// Body of the answer to `POST /v1/sandboxes/{name}/stop`: nothing of the sandbox is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct StopReport {
    /// The sandbox.
    pub sandbox: SandboxName,
    /// Processes that were killed.
    pub killed: u32,
    /// Microseconds from the request until the last process was gone.
    pub elapsed_us: u64,
}

/// Body of the answer to `POST /v1/sandboxes/stop-all`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct StopAllReport {
    /// Those that are gone.
    pub stopped: Vec<StopReport>,
    /// Those that are not.
    pub failed: Vec<StopFailure>,
}

/// A sandbox that could not be stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopFailure {
    /// The sandbox.
    pub sandbox: SandboxName,
    /// Why.
    pub message: String,
}
