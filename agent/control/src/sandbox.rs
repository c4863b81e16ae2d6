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
    /// What it may use up.
    pub limits: SandboxLimits,
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
    /// Further groups.
    #[serde(default)]
    pub groups: Vec<u32>,
    /// Whether `execve` can never gain privileges.
    pub no_new_privs: bool,
    /// Whether every capability set was found empty.
    pub capabilities_empty: bool,
    /// The sandbox's cgroup.
    pub cgroup: String,
}

/// What a sandbox may use up, and uses now, as its cgroups say; `None` for no limit, or nothing that
/// tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxLimits {
    /// Processes and threads that it may have.
    pub pids_max: Option<u64>,
    /// Processes and threads that it has.
    pub pids: Option<u64>,
    /// Forks that were refused for it.
    pub pids_refused: u64,
    /// Memory and swap that it may have.
    pub memory_max_bytes: Option<u64>,
    /// Memory that it has, with what the kernel caches for it.
    pub memory_bytes: Option<u64>,
    /// Processes of it that were killed for it.
    pub memory_killed: u64,
    /// CPU time that it may have, in hundredths of one CPU.
    pub cpu_max_percent: Option<u64>,
    /// Descriptors that each of its processes may have open, as read back at its start.
    pub nofile_max: Option<u64>,
    /// Largest file that one may write, as read back at its start.
    pub fsize_max_bytes: Option<u64>,
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

/// Body of `POST /v1/sandboxes/{name}/stop` and of `POST /v1/sandboxes/stop-all`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopRequest {
    /// Seconds that the sandbox's command has to end by itself after SIGTERM, at most
    /// [`crate::limits::STOP_TIMEOUT_S`]; 0 kills at once, without the signal.
    #[serde(default)]
    pub timeout_s: u32,
}

/// Body of the answer to `POST /v1/sandboxes/{name}/stop`: nothing of the sandbox is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct StopReport {
    /// The sandbox.
    pub sandbox: SandboxName,
    /// Processes that were killed: 0 where the command ended by itself.
    pub killed: u32,
    /// Microseconds from the request until the last process was gone.
    pub elapsed_us: u64,
}

/// Body of the answer to `GET /v1/sandboxes/{name}/wait`: nothing of the sandbox is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct WaitReport {
    /// The sandbox.
    pub sandbox: SandboxName,
    /// The command's exit code, or 128 + the signal that ended it; `null` where nobody saw it, as of
    /// a sandbox that was killed, or was attached, after its clawd had ended.
    pub exit_code: Option<u8>,
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
