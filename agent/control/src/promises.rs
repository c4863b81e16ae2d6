//! What a sandbox is promised, and what holds it on the running kernel.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::SandboxName;

/// What a sandbox is kept from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// Files that are not listed, and writing to those that are read-only.
    Files,
    /// Cutting off files that it may not write.
    Truncate,
    /// Commands to devices (`ioctl`).
    DeviceCommands,
    /// Renaming and linking files from one tree into another.
    MovesAcrossTrees,
    /// Executing what it wrote, where that is not listed.
    WriteThenExecute,
    /// Memory that becomes executable after it was written; promised by the seccomp profile `strict`.
    ExecutableMemory,
    /// Destinations that are not listed, with the ports.
    Destinations,
    /// The host's network itself; promised by mode `none`.
    Network,
    /// Abstract unix sockets of others.
    AbstractSockets,
    /// Signals to others' processes.
    Signals,
    /// Seeing others' processes.
    Processes,
    /// Changing or seeing others' mounts.
    Mounts,
    /// Shared memory, semaphores and message queues of others.
    Ipc,
    /// The host's name.
    HostName,
    /// Others' cgroups.
    Cgroups,
    /// Gaining privileges by an exec.
    NewPrivileges,
    /// Capabilities.
    Capabilities,
    /// System calls that the profile refuses.
    SystemCalls,
    /// More processes than its limit.
    ProcessLimit,
    /// More memory than its limit.
    MemoryLimit,
}

/// One promise to one sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromiseStatus {
    /// Which.
    pub promise: Promise,
    /// Every mechanism that holds it, each of them alone. Empty where nothing does: the policy accepts
    /// that, and clawd's health is degraded.
    pub held_by: Vec<String>,
}

/// The promises to one sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedPromises {
    /// The sandbox.
    pub sandbox: SandboxName,
    /// Each promise once.
    pub promises: Vec<PromiseStatus>,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "files",
            Self::Truncate => "truncating files",
            Self::DeviceCommands => "commands to devices",
            Self::MovesAcrossTrees => "moves across trees",
            Self::WriteThenExecute => "write, then execute",
            Self::ExecutableMemory => "executable memory",
            Self::Destinations => "destinations",
            Self::Network => "network",
            Self::AbstractSockets => "abstract unix sockets",
            Self::Signals => "signals",
            Self::Processes => "processes",
            Self::Mounts => "mounts",
            Self::Ipc => "ipc",
            Self::HostName => "host name",
            Self::Cgroups => "cgroups",
            Self::NewPrivileges => "new privileges",
            Self::Capabilities => "capabilities",
            Self::SystemCalls => "system calls",
            Self::ProcessLimit => "limit of processes",
            Self::MemoryLimit => "limit of memory",
        })
    }
}
