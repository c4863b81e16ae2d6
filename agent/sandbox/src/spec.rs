//! What a sandbox is made of, and what was found in force.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// `argv[1]` on which a program's `main` must call [`crate::init::main`].
pub const INIT_ARGUMENT: &str = "sandbox-init";

/// The writable, private directory that the environment's `HOME` is to name.
pub const HOME: &str = "/home/sandbox";

/// How long either side waits for the other's next step. Starting takes milliseconds; an exec may
/// be held for 5 s by the exec gate.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Whether a start may go on where the kernel cannot hold the whole promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compatibility {
    /// No: the start is refused, naming what is missing.
    #[default]
    HardRequirement,
    /// Yes, and [`Layers`] says what is missing.
    BestEffort,
}

/// A named set of system call rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// What ordinary programs, package managers and language runtimes live with.
    #[default]
    Default,
    /// Also refuses MPTCP, and memory that becomes executable after it was written (no JIT).
    Strict,
}

/// The trees of the host that the sandbox sees: absolute paths of files or directories.
///
/// Where trees lie inside one another, the inner one's access holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewSpec {
    /// Readable; nothing in it can be executed.
    pub read_only: Vec<PathBuf>,
    /// Readable and executable.
    pub read_execute: Vec<PathBuf>,
    /// Readable and writable; nothing in it can be executed.
    pub read_write: Vec<PathBuf>,
    /// The working tree, readable and writable.
    pub workspace: Option<PathBuf>,
}

/// One sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnSpec {
    /// Its host name.
    pub hostname: String,
    /// What it sees of the file system.
    pub view: ViewSpec,
    /// Whether it gets a network namespace of its own, with nothing but `lo`.
    pub own_network: bool,
    /// User id, not 0.
    pub uid: u32,
    /// Group id, not 0.
    pub gid: u32,
    /// The command; a name without `/` is looked up in the `PATH` of `env`, inside the view.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory, inside the view.
    pub cwd: PathBuf,
    /// What to do where Landlock is missing or too old.
    pub landlock: Compatibility,
    /// Which system calls are refused.
    pub seccomp: Profile,
}

/// How much of Landlock is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LandlockState {
    /// All that this kernel can do, and all that was promised.
    FullyEnforced,
    /// Less than was promised.
    PartiallyEnforced,
    /// Nothing: the kernel has no Landlock.
    NotEnforced,
}

/// What is in force, as found by looking, not by having asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct Layers {
    /// Landlock ABI used, 0 for none.
    pub landlock_abi: u32,
    /// How much of it is in force.
    pub landlock: LandlockState,
    /// Stacked seccomp filters.
    pub seccomp_filters: u32,
    /// Their profile.
    pub seccomp_profile: Profile,
    /// Whether memory that was writable can never become executable.
    pub memory_deny_write_execute: bool,
    /// Names of the namespaces that differ from the daemon's, as in `/proc/<pid>/ns`.
    pub namespaces: Vec<String>,
    /// User id in all four of real, effective, saved and file system id.
    pub uid: u32,
    /// Group id, likewise.
    pub gid: u32,
    /// Whether an exec can give no privilege any more.
    pub no_new_privs: bool,
    /// Whether all five capability sets are empty.
    pub capabilities_empty: bool,
    /// Mounts in the view.
    pub mounts: u32,
}
