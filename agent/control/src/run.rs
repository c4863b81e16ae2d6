//! Starting a sandbox: the request, with the messages on the connection that it becomes.
//!
//! 1. clawctl sends `POST /v1/sandboxes` with `Connection: Upgrade`, `Upgrade: clawd-run/1` and a
//!    [`RunRequest`]. An answer other than 101 is an [`crate::ApiError`]; nothing was started.
//! 2. After 101 the connection is theirs. clawctl sends one message: the byte
//!    [`DESCRIPTORS_BYTE`] with [`DESCRIPTORS`] descriptors (`SCM_RIGHTS`): standard input, output
//!    and error of the command (files, pipes or character devices: whatever else could lead out of the
//!    sandbox is refused), then the write end of the status pipe. Where the request asks for a
//!    `terminal` it sends [`TERMINAL_DESCRIPTORS`]: a unix socket, then the pipe; the other side of
//!    the terminal that is made in the sandbox comes through the socket, with one byte.
//! 3. Then JSON, one object a line, in both directions: [`RunEvent`] and [`ClientMessage`].
//!    When clawctl hangs up, the sandbox ends, unless the request says `detach`.
//! 4. The command's [`crate::ExitStatus`] comes through the status pipe, which the sandbox's own
//!    first process holds (a detached one writes it to a file of clawd's): it arrives although clawd is gone. End of file without a line means
//!    that the sandbox was killed as a whole.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    environment::{self, VariableError},
    limits,
    name::SandboxName,
    policy::PolicySource,
};

/// Value of the `Upgrade` header.
pub const UPGRADE_PROTOCOL: &str = "clawd-run/1";
/// The byte that carries the descriptors.
pub const DESCRIPTORS_BYTE: u8 = b'F';
/// How many descriptors come with it.
pub const DESCRIPTORS: usize = 4;

/// How many descriptors come with it where the command gets a terminal.
pub const TERMINAL_DESCRIPTORS: usize = 2;

/// Signals that clawctl forwards and clawd accepts: HUP, INT, QUIT, USR1, USR2, TERM (numbers
/// that x86_64 and aarch64 share).
pub const FORWARDED_SIGNALS: [i32; 6] = [1, 2, 3, 10, 12, 15];

/// Body of `POST /v1/sandboxes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// The sandbox's name; clawd makes one up where it is not given.
    #[serde(default)]
    pub name: Option<SandboxName>,
    /// The policy.
    pub policy: PolicySource,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Variables to add to the environment that clawd builds.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Absolute path of the directory to start in, where the sandbox's view has it.
    pub cwd: String,
    /// Absolute path of the directory that the sandbox may work in.
    #[serde(default)]
    pub workspace: Option<String>,
    /// In place of the policy's `network.mode`.
    #[serde(default)]
    pub network: Option<NetworkMode>,
    /// In place of the policy's `process.run_as_user`: a name or a number.
    #[serde(default)]
    pub user: Option<String>,
    /// The command gets a terminal of its own, of this size.
    #[serde(default)]
    pub terminal: Option<TerminalSize>,
    /// The sandbox goes on when the connection ends.
    #[serde(default)]
    pub detach: bool,
}

/// How large a terminal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

/// A sandbox's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// The host's network, judged at every connect.
    Direct,
    /// A network namespace with nothing to reach.
    None,
}

/// From clawd, after the descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RunEvent {
    /// The command runs.
    Started {
        /// Its sandbox.
        sandbox: SandboxName,
        /// Its process id in clawd's pid namespace.
        pid: u32,
        /// What the caller should know of the policy as it meets the sandbox's files.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    /// The command does not run and nothing of the sandbox is left.
    Failed {
        /// What clawctl exits with: 125, 126 or 127.
        exit_code: u8,
        /// Why.
        message: String,
    },
}

/// From clawctl, after the descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientMessage {
    /// Send this signal (one of [`FORWARDED_SIGNALS`]) to the command.
    Signal {
        /// Its number.
        signal: i32,
    },
}

/// A [`RunRequest`] that no clawd accepts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nothing to run.
    #[error("no command; expected `-- COMMAND [ARGUMENT]...`")]
    NoCommand,
    /// A zero byte, which ends an argument or a path.
    #[error("{what} contains a zero byte")]
    Zero {
        /// The field.
        what: &'static str,
    },
    /// A limit of [`limits`].
    #[error("{what} is too large: {got}, limit {limit}")]
    TooLarge {
        /// The field and its unit.
        what: &'static str,
        /// Its size.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// A path that depends on a directory.
    #[error("{what} is {got:?}; expected an absolute path")]
    NotAbsolute {
        /// The field.
        what: &'static str,
        /// The path.
        got: String,
    },
    /// A variable.
    #[error(transparent)]
    Variable(#[from] VariableError),
    /// The same variable twice.
    #[error("variable {0} is given twice")]
    VariableTwice(String),
    /// A terminal that nobody would sit at.
    #[error(
        "a detached sandbox has no terminal; start it without one, and enter it with `exec -t`"
    )]
    DetachedTerminal,
    /// No user's name.
    #[error("user {0:?} is no user name or number")]
    User(String),
}

// === impl NetworkMode ===

impl NetworkMode {
    /// The name in policies, flags and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::None => "none",
        }
    }
}

// === impl RunRequest ===

impl RunRequest {
    /// Checks everything that can be told without looking at the machine. `env_allow` is the policy's.
    ///
    /// # Errors
    /// [`RequestError`]: the first fault found.
    pub fn check(&self, env_allow: &BTreeSet<String>) -> Result<(), RequestError> {
        check_command(&self.command)?;
        check_variables(&self.env, env_allow)?;
        size(
            "policy text (bytes)",
            self.policy.text.len(),
            limits::POLICY_BYTES,
        )?;
        size(
            "policy file name (bytes)",
            self.policy.file.len(),
            limits::PATH_BYTES,
        )?;
        absolute("working directory", &self.cwd)?;
        if self.detach && self.terminal.is_some() {
            return Err(RequestError::DetachedTerminal);
        }
        if let Some(workspace) = &self.workspace {
            absolute("workspace", workspace)?;
        }
        match &self.user {
            Some(user) if !is_user(user) => Err(RequestError::User(user.clone())),
            _ => Ok(()),
        }
    }
}

/// Checks a command's words.
pub(crate) fn check_command(command: &[String]) -> Result<(), RequestError> {
    if command.first().is_none_or(String::is_empty) {
        return Err(RequestError::NoCommand);
    }
    if command.iter().any(|word| word.contains('\0')) {
        return Err(RequestError::Zero {
            what: "the command",
        });
    }
    let bytes = command.iter().map(String::len).sum();
    size("command (words)", command.len(), limits::COMMAND_WORDS)?;
    size("command (bytes)", bytes, limits::COMMAND_BYTES)
}

/// Checks the variables that a request adds; `env_allow` is the policy's.
pub(crate) fn check_variables(
    env: &[(String, String)],
    env_allow: &BTreeSet<String>,
) -> Result<(), RequestError> {
    let bytes = env.iter().map(|(name, value)| name.len() + value.len());
    size("environment (variables)", env.len(), limits::VARIABLES)?;
    size("environment (bytes)", bytes.sum(), limits::VARIABLE_BYTES)?;
    let mut seen = std::collections::HashSet::new();
    for (name, value) in env {
        environment::check_variable(name, value, env_allow)?;
        if !seen.insert(name) {
            return Err(RequestError::VariableTwice(name.clone()));
        }
    }
    Ok(())
}

fn size(what: &'static str, got: usize, limit: usize) -> Result<(), RequestError> {
    if got > limit {
        return Err(RequestError::TooLarge { what, got, limit });
    }
    Ok(())
}

fn absolute(what: &'static str, path: &str) -> Result<(), RequestError> {
    size(what, path.len(), limits::PATH_BYTES)?;
    if path.contains('\0') {
        return Err(RequestError::Zero { what });
    }
    if !path.starts_with('/') {
        let got = path.to_owned();
        return Err(RequestError::NotAbsolute { what, got });
    }
    Ok(())
}

/// The characters that useradd(8) allows, and upper case; a number is one of these too.
fn is_user(user: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    !user.is_empty()
        && user.len() <= limits::USER_BYTES
        && !user.starts_with('-')
        && user.bytes().all(plain)
}

#[cfg(test)]
mod tests;
