//! What clawd tells about itself.

use serde::{Deserialize, Serialize};

use crate::{name::SandboxName, promises::NamedPromises, sandbox::SandboxLimits};

/// Body of the answer to `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// clawd's version.
    pub version: String,
    /// Version of the layouts in the pinned maps.
    pub abi_version: u32,
    /// clawd's process id.
    pub pid: u32,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Seconds since then.
    pub uptime_s: u64,
    /// The running kernel's release.
    pub kernel: String,
    /// Where the programs, maps and links are pinned.
    pub bpffs: String,
    /// The cgroup that holds the sandboxes' cgroups.
    pub cgroup_parent: String,
    /// Where state is kept.
    pub state_dir: String,
    /// Every program that enforces, whether attached or not.
    pub hooks: Vec<HookStatus>,
    /// Who hashes executables.
    pub exec_gate: ExecGateStatus,
    /// Sandboxes that run.
    pub sandboxes: u32,
    /// What each of them may use up.
    pub limits: Vec<NamedLimits>,
    /// What each of them is promised, and what holds it here.
    pub promises: Vec<NamedPromises>,
    /// Totals over all sandboxes.
    pub events: EventTotals,
    /// The verdict on all of this.
    pub health: Health,
    /// A sentence for each thing that keeps `health` from [`Health::Healthy`].
    pub problems: Vec<String>,
}

/// The limits of one sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedLimits {
    /// The sandbox.
    pub sandbox: SandboxName,
    /// Its limits.
    #[serde(flatten)]
    pub limits: SandboxLimits,
}

/// One eBPF program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    /// Its name.
    pub name: String,
    /// Whether the kernel runs it now.
    pub attached: bool,
    /// The kernel's id of the program, 0 where there is none.
    pub program_id: u32,
    /// Instructions that the verifier walked, where the kernel tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u32>,
}

/// The exec gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecGateStatus {
    /// Its process id, 0 where it does not run.
    pub pid: u32,
    /// Threads that hash.
    pub workers: u32,
    /// Whether it answers; where not, programs run without identity and so without grants.
    pub running: bool,
    /// How often it ended and was started again since clawd began.
    pub restarts: u64,
    /// Identities in the table of files.
    pub files: u32,
    /// How many fit; a file beyond has no identity.
    pub files_max: u32,
    /// Lines of executables in their table.
    pub chains: u32,
    /// How many fit; a process on a line beyond has no grants.
    pub chains_max: u32,
}

/// Totals over all sandboxes since clawd's maps were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTotals {
    /// Attempts allowed.
    pub allowed: u64,
    /// Attempts denied.
    pub denied: u64,
    /// Events that found the ring buffer full.
    pub lost: u64,
}

/// How much of the promise holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All of it.
    Healthy,
    /// Everything is denied that should be, but something is missing: see [`Status::problems`].
    Degraded,
    /// Something that should be denied may not be.
    NotEnforcing,
}
