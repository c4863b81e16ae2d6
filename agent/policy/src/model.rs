//! A checked policy: every value is valid, every default filled in, nothing compiled yet.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use clawd_common::decide::{PROTOCOL_TCP, PROTOCOL_UDP};
use serde::{Deserialize, Serialize};

use crate::prefix::Prefix;

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
}

/// As whom a sandbox runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// User name or decimal id, never `root` or 0; `None` leaves the choice to the daemon.
    pub run_as_user: Option<String>,
    /// Group name or decimal id, likewise.
    pub run_as_group: Option<String>,
    /// Which system calls are allowed.
    pub seccomp: SeccompProfile,
}

/// A set of allowed system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompProfile {
    /// Less than usual programs need.
    Strict,
    /// What usual programs need.
    #[default]
    Default,
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

/// One entry of `network_policies`: any of its binaries may reach any of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleGroup {
    /// The entry's key.
    pub name: String,
    /// Its `name`, for people.
    pub title: Option<String>,
    /// Where to.
    pub endpoints: Vec<Endpoint>,
    /// Who; nobody if empty.
    pub binaries: Vec<BinaryMatcher>,
}

/// A set of destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The addresses.
    pub prefix: Prefix,
    /// The protocol.
    pub protocol: Protocol,
    /// The ports, ascending, each once, none 0.
    pub ports: Vec<u16>,
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

/// Which executables a `binaries` entry means.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BinaryMatcher {
    /// The content of the file at this absolute, normal path.
    Path(PathBuf),
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
    /// Which executables.
    pub matcher: BinaryMatcher,
}

// === impl Policy ===

impl Policy {
    /// Every `binaries` entry, in the order of its bit: groups by name, then as written.
    #[must_use]
    pub fn grants(&self) -> Vec<GrantEntry> {
        let entries = |group: &RuleGroup| {
            let name = group.name.clone();
            let matchers = group.binaries.clone().into_iter().enumerate();
            matchers.map(move |(index_in_group, matcher)| GrantEntry {
                group: name.clone(),
                index_in_group,
                matcher,
            })
        };
        self.rules.iter().flat_map(entries).collect()
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
