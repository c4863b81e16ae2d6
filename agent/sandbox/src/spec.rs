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
/// How long the daemon may take between the view and the command: programs that the policy lists are
/// hashed for the first time.
pub(crate) const GO_DEADLINE: Duration = Duration::from_secs(90);

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
    /// Also refuses MPTCP, memory that becomes executable after it was written (no JIT), and files
    /// without a name.
    Strict,
    /// As the default; and for good what compilers at run time need, whatever the default will refuse:
    /// memory that is written and executed, and files without a name.
    Jit,
}

/// Which system calls a sandbox is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syscalls {
    /// The rules to begin with.
    pub profile: Profile,
    /// Names of calls that are not refused after all; each must be one that a policy may allow.
    pub allow: Vec<String>,
    /// Names of calls that are refused besides; none may be essential.
    pub deny: Vec<String>,
}

/// The trees of the host that the sandbox sees: absolute paths of files or directories.
///
/// Where trees lie inside one another, the inner one's access holds. All but the workspace are looked
/// up below [`ViewSpec::rootfs`], links included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewSpec {
    /// Readable; nothing in it can be executed.
    pub read_only: Vec<PathBuf>,
    /// Readable and executable.
    pub read_execute: Vec<PathBuf>,
    /// Readable and writable; nothing in it can be executed.
    pub read_write: Vec<PathBuf>,
    /// Readable, writable and executable: what the sandbox writes here, it can run. Nowhere else is
    /// that so. Like every tree, one on a host's `noexec` or read-only mount stays so.
    pub read_write_execute: Vec<PathBuf>,
    /// The working tree, readable and writable.
    pub workspace: Option<PathBuf>,
    /// The directory that stands for the host's root; `None` for the root itself.
    pub rootfs: Option<PathBuf>,
    /// What is not there, whatever else is said: an empty file or directory that nobody can open, or
    /// no such name.
    pub deny: Vec<PathBuf>,
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
    /// The user's name in the sandbox's `/etc/passwd`; another one is taken if it cannot be written
    /// there.
    pub user_name: String,
    /// The group's name, likewise.
    pub group_name: String,
    /// Further groups, none of them 0.
    pub groups: Vec<Group>,
    /// The command; a name without `/` is looked up in the `PATH` of `env`, inside the view.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory, inside the view.
    pub cwd: PathBuf,
    /// What to do where Landlock is missing or too old.
    pub landlock: Compatibility,
    /// Which system calls are refused.
    pub seccomp: Syscalls,
    /// What each of its processes may use up.
    pub limits: ProcessLimits,
    /// The size of the command's terminal, where it gets one of its own.
    pub terminal: Option<TerminalSize>,
}

/// A group of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its number.
    pub gid: u32,
    /// Its name in the sandbox's `/etc/group`; none is written if it cannot be written there.
    pub name: String,
}

/// Limits of each process (`setrlimit(2)`), handed down to what it starts. None can be raised inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessLimits {
    /// Descriptors that may be open at once; `None` for 65,536, or fewer where clawd itself may not
    /// have more.
    pub nofile_max: Option<u64>,
    /// Bytes of the largest file that may be written; `None` for no limit.
    pub fsize_max_bytes: Option<u64>,
}

/// A further command for a sandbox that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnterSpec {
    /// The command; a name without `/` is looked up in the `PATH` of its environment, in the view.
    pub argv: Vec<String>,
    /// Variables to add to those of the sandbox's first command, or to put in their place.
    pub env: Vec<(String, String)>,
    /// The size of the command's terminal, where it gets one of its own.
    pub terminal: Option<TerminalSize>,
}

/// How large a terminal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
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
    /// Further groups, ascending.
    pub groups: Vec<u32>,
    /// Whether an exec can give no privilege any more.
    pub no_new_privs: bool,
    /// Whether all five capability sets are empty.
    pub capabilities_empty: bool,
    /// Mounts in the view.
    pub mounts: u32,
    /// Limits of each process, with core dumps off.
    pub limits: ProcessLimits,
}
