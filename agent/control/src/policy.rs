//! A policy as it travels, with the push of one to a running sandbox.

use serde::{Deserialize, Serialize};

use crate::{name::SandboxName, run::NetworkMode};

/// A policy file's text with the name it goes by in messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySource {
    /// The path as the operator typed it: for messages only, clawd never opens it.
    pub file: String,
    /// The YAML text, at most [`crate::limits::POLICY_BYTES`].
    pub text: String,
}

/// Body of `POST /v1/sandboxes/{name}/policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushRequest {
    /// The policy to put in force.
    pub policy: PolicySource,
    /// The generation that must be in force: if another one is, nothing is switched. `None` for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_generation: Option<u64>,
}

/// The policy in force for a sandbox: the answer to `GET /v1/sandboxes/{name}/policy`.
///
/// Its text may hold secrets (`env`): only root, and whoever may run as the sandbox's user, gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// The sandbox.
    pub sandbox: SandboxName,
    /// Number of the policy within the sandbox, from 1.
    pub generation: u64,
    /// How the sandbox is connected, which its start may have narrowed.
    pub network: NetworkMode,
    /// As it was given.
    pub policy: PolicySource,
}

/// The policy is in force: every attempt from now on is judged by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct PushReport {
    /// The sandbox.
    pub sandbox: SandboxName,
    /// Number of the policy within the sandbox, from 1.
    pub generation: u64,
    /// Under which the kernel holds its rules.
    pub policy_id: u32,
    /// Microseconds from the parsed request to the switch.
    pub elapsed_us: u64,
    /// What is allowed but looks unintended, each with its position in the file.
    pub warnings: Vec<String>,
}
