//! A further command in a sandbox that runs.
//!
//! `POST /v1/sandboxes/{name}/exec` with an [`ExecRequest`]; the connection then goes on as a run's
//! does ([`crate::run`]), with the same descriptors, events and messages. The sandbox outlives it:
//! when the read end of the status pipe is closed, the command's session ends, and nothing else.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::run::{RequestError, TerminalSize, check_command, check_variables};

/// Body of `POST /v1/sandboxes/{name}/exec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecRequest {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Variables to add to the environment of the sandbox's first command, or to replace there.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// The command gets a terminal of its own, of this size.
    #[serde(default)]
    pub terminal: Option<TerminalSize>,
}

// === impl ExecRequest ===

impl ExecRequest {
    /// Checks everything that can be told without looking at the machine. `env_allow` is the sandbox's
    /// policy's.
    ///
    /// # Errors
    /// [`RequestError`]: the first fault found.
    pub fn check(&self, env_allow: &BTreeSet<String>) -> Result<(), RequestError> {
        check_command(&self.command)?;
        check_variables(&self.env, env_allow)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ExecRequest;
    use crate::run::RequestError;

    #[test]
    fn exec_request_is_held_to_the_limits_of_a_run() {
        let request = |command: &[&str], env: &[(&str, &str)]| ExecRequest {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            env: env
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            terminal: None,
        };
        let none = BTreeSet::new();
        assert_eq!(request(&["sh"], &[("A", "1")]).check(&none), Ok(()));
        assert_eq!(request(&[], &[]).check(&none), Err(RequestError::NoCommand));
        assert!(request(&["a\0"], &[]).check(&none).is_err());
        assert!(
            request(&["sh"], &[("LD_PRELOAD", "x")])
                .check(&none)
                .is_err()
        );
        let leave = BTreeSet::from(["LD_PRELOAD".to_owned()]);
        assert_eq!(
            request(&["sh"], &[("LD_PRELOAD", "x")]).check(&leave),
            Ok(())
        );
        assert!(
            request(&["sh"], &[("A", ""), ("A", "")])
                .check(&none)
                .is_err()
        );
    }
}
