//! A checked policy: every value is valid, every default filled in, nothing compiled yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
};

use clawd_common::decide::{GRANT_BITS, PROTOCOL_TCP, PROTOCOL_UDP};
use serde::{Deserialize, Serialize};

#[cfg(doc)]
use crate::limits;
use crate::{host::HostPattern, pattern::PathPattern, ports::PortSet, prefix::Prefix};

/// A checked policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What the sandbox sees of the file tree.
    pub filesystem: Filesystem,
    /// As whom and with which system calls it runs.
    pub process: Process,
    /// How it is connected.
    pub network: NetworkMode,
    /// What happens where Landlock cannot do all that is asked.
    pub landlock: Compatibility,
    /// Environment variables by name; neither names nor values hold a NUL.
    pub env: BTreeMap<String, String>,
    /// Names of variables that a request may set although they change which code programs run.
    pub env_allow: BTreeSet<String>,
    /// Who may reach which ports of the sandbox: each endpoint's addresses are the other side's, its
    /// ports the sandbox's own.
    pub ingress: Vec<Endpoint>,
    /// The entries of `network_policies`, sorted by name.
    pub rules: Vec<RuleGroup>,
}

/// Trees of the file system. Absolute, normal paths; none is in two lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filesystem {
    /// Whether the working directory is writable.
    pub include_workdir: bool,
    /// May be read.
    pub read_only: Vec<PathBuf>,
    /// May be read and executed.
    pub read_execute: Vec<PathBuf>,
    /// May be read and written, not executed.
    pub read_write: Vec<PathBuf>,
    /// May be read, written and executed: the only trees where what is written can run.
    pub read_write_execute: Vec<PathBuf>,
    /// The directory of the host below which the lists are looked up; `None` for the host's root.
    pub rootfs: Option<PathBuf>,
    /// Are not there for the sandbox, whatever else is listed, granted implicitly, or the workspace.
    pub deny: Vec<PathBuf>,
}

/// As whom a sandbox runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// User name or decimal id, never `root` or 0; `None` leaves the choice to the daemon.
    pub run_as_user: Option<String>,
    /// Group name or decimal id, likewise.
    pub run_as_group: Option<String>,
    /// Further groups that it has the rights of, by name or decimal id, never `root` or 0.
    pub supplementary_groups: Vec<String>,
    /// Which system calls are allowed.
    pub seccomp: SeccompProfile,
    /// Names of system calls that the profile refuses and this policy does not.
    pub seccomp_allow: Vec<String>,
    /// Names of system calls that this policy refuses besides.
    pub seccomp_deny: Vec<String>,
    /// What it may use up.
    pub limits: ResourceLimits,
}

/// How much a sandbox may use up. `None`: the policy says nothing, and the daemon's default holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceLimits {
    /// Processes and threads of the whole sandbox, within [`limits::PIDS_MAX`].
    pub pids_max: Option<u32>,
    /// Bytes of memory and swap of the whole sandbox, within [`limits::MEMORY_MAX_BYTES`].
    pub memory_max_bytes: Option<u64>,
    /// CPU time of the whole sandbox in hundredths of one CPU, within [`limits::CPU_MAX_PERCENT`].
    pub cpu_max_percent: Option<u32>,
    /// Descriptors that each process may have open, within [`limits::NOFILE_MAX`].
    pub nofile_max: Option<u32>,
    /// Bytes of the largest file that a process may write, within [`limits::FSIZE_MAX_BYTES`].
    pub fsize_max_bytes: Option<u64>,
}

/// A set of allowed system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompProfile {
    /// Less than usual programs need: no MPTCP, no memory that is written and then executed, no files
    /// without a name.
    Strict,
    /// What usual programs need.
    #[default]
    Default,
    /// As the default, with a promise that code can be made at run time.
    Jit,
}

/// How a sandbox is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// A network namespace with loopback alone.
    #[default]
    None,
    /// The host's network, each destination judged by the rules.
    Direct,
}

/// What happens where Landlock cannot do all that is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compatibility {
    /// The sandbox does not start.
    #[default]
    HardRequirement,
    /// The sandbox starts with what there is.
    BestEffort,
}

/// One entry of `network_policies`: any of its binaries may, or may not, reach any of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleGroup {
    /// The entry's key.
    pub name: String,
    /// The line of the file that the entry begins at, from 1; 0 of one that is in no file.
    pub line: u32,
    /// Its `name`, for people.
    pub title: Option<String>,
    /// Whether it allows or denies.
    pub action: RuleAction,
    /// Where to.
    pub endpoints: Vec<Endpoint>,
    /// Where to, by name. Nothing enforces these: no policy that [`crate::parse`] returns has any.
    pub names: Vec<NamedEndpoint>,
    /// Who; if empty, nobody where it allows, and everybody where it denies.
    pub binaries: Vec<Binary>,
}

/// What an entry of `network_policies` does with what it lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuleAction {
    /// Allows it.
    #[default]
    Allow,
    /// Denies it, whatever else allows it.
    Deny,
}

/// A set of destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The addresses.
    pub prefix: Prefix,
    /// The protocol.
    pub protocol: Protocol,
    /// The ports.
    pub ports: PortSet,
}

/// A set of destinations that names stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedEndpoint {
    /// The names.
    pub host: HostPattern,
    /// The protocol.
    pub protocol: Protocol,
    /// The ports.
    pub ports: PortSet,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP, and MPTCP, which falls back to it.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// A `binaries` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    /// Which executables.
    pub matcher: BinaryMatcher,
    /// Whether a process is meant, too, if an ancestor of it runs or ran such an executable.
    pub descendants: bool,
}

/// Which executables a `binaries` entry means.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BinaryMatcher {
    /// The content of the file at this absolute, normal path.
    Path(PathBuf),
    /// The content of any file whose path matches.
    Pattern(PathPattern),
    /// The content with this SHA-256, wherever it is.
    Sha256([u8; 32]),
}

/// A `binaries` entry; its position in [`Policy::grants`] is its bit in a
/// [`clawd_common::decide::GrantMask`].
///
/// Displays as its full name in audit records: `network_policies.<group>.binaries[<index>]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantEntry {
    /// [`RuleGroup::name`].
    pub group: String,
    /// Position in [`RuleGroup::binaries`], from 0.
    pub index_in_group: usize,
    /// [`Binary::matcher`].
    pub matcher: BinaryMatcher,
    /// [`Binary::descendants`].
    pub descendants: bool,
    /// Whether the group denies: what cannot be told of a program then counts against it.
    pub denies: bool,
}

// === impl Policy ===

impl Policy {
    /// Every `binaries` entry, in the order of its bit: groups by name, then as written.
    #[must_use]
    pub fn grants(&self) -> Vec<GrantEntry> {
        let entries = |group: &RuleGroup| {
            let name = group.name.clone();
            let denies = group.action == RuleAction::Deny;
            let binaries = group.binaries.clone().into_iter().enumerate();
            binaries.map(move |(index_in_group, binary)| GrantEntry {
                group: name.clone(),
                index_in_group,
                matcher: binary.matcher,
                descendants: binary.descendants,
                denies,
            })
        };
        self.rules.iter().flat_map(entries).collect()
    }

    /// The names of what decides, by [`clawd_common::verdict::Verdict::grant_index`]: every `binaries`
    /// entry as in [`Policy::grants`], and every group that denies everybody.
    #[must_use]
    pub fn rule_names(&self) -> BTreeMap<u32, String> {
        let entries = self.grants().into_iter().enumerate();
        let entries = entries.map(|(bit, entry)| (bit, entry.to_string()));
        let groups = self.rules.iter().enumerate();
        let groups = groups
            .filter(|(_, group)| group.denies_everybody())
            .map(|(at, group)| (GRANT_BITS + at, format!("network_policies.{}", group.name)));
        entries
            .chain(groups)
            .filter_map(|(index, name)| Some((u32::try_from(index).ok()?, name)))
            .collect()
    }
}

// === impl RuleGroup ===

impl RuleGroup {
    /// Whether it denies whatever program asks.
    #[must_use]
    pub fn denies_everybody(&self) -> bool {
        self.action == RuleAction::Deny && self.binaries.is_empty()
    }
}

// === impl Protocol ===

impl Protocol {
    /// The IP protocol number, as in a rule's key.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Tcp => PROTOCOL_TCP,
            Self::Udp => PROTOCOL_UDP,
        }
    }

    /// As a policy writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

// === impl GrantEntry ===

impl fmt::Display for GrantEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            group,
            index_in_group,
            ..
        } = self;
        write!(f, "network_policies.{group}.binaries[{index_in_group}]")
    }
}
