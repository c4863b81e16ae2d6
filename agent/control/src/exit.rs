//! Exit codes of clawctl, with the one line in which a command's exit status travels.

use std::{fmt, str::FromStr};

/// Exit codes that are clawctl's own; any other is the command's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// Done.
    Ok,
    /// The request failed. For `status`: enforced, but degraded.
    Failed,
    /// Wrong usage or policy. For `status`: not enforcing, or clawd cannot be reached.
    Usage,
    /// clawd or the sandbox could not be set up.
    Setup,
    /// The command was found but cannot be executed.
    NotExecutable,
    /// The command was not found.
    NotFound,
    /// The sandbox was killed as a whole (128 + SIGKILL).
    Killed,
}

impl ExitCode {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Setup => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::Killed => 137,
        }
    }
}

/// How a sandbox's command ended: the single line on the status pipe, `exit N` or `signal N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Exited(u8),
    /// This signal (1 to 64) ended it.
    Signaled(u8),
}

/// The status pipe carried something else than a status line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an exit status; expected `exit 0..255` or `signal 1..64`")]
pub struct ExitStatusError;

/// Bytes of the longest status line, its newline among them (`exit 255`).
pub const STATUS_LINE_BYTES: usize = 10;

// === impl ExitStatus ===

impl ExitStatus {
    /// What clawctl exits with: the command's code, or 128 + the signal.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128_u8.saturating_add(signal),
        }
    }

    /// The line to write into the status pipe, newline included.
    #[must_use]
    pub fn to_line(self) -> String {
        format!("{self}\n")
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit {code}"),
            Self::Signaled(signal) => write!(f, "signal {signal}"),
        }
    }
}

impl FromStr for ExitStatus {
    type Err = ExitStatusError;

    /// Reads the line without its newline.
    fn from_str(line: &str) -> Result<Self, ExitStatusError> {
        let number = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            plain.then(|| text.parse::<u8>().ok()).flatten()
        };
        if let Some(code) = line.strip_prefix("exit ").and_then(number) {
            return Ok(Self::Exited(code));
        }
        match line.strip_prefix("signal ").and_then(number) {
            Some(signal @ 1..=64) => Ok(Self::Signaled(signal)),
            _ => Err(ExitStatusError),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ExitStatus, STATUS_LINE_BYTES};

    proptest! {
        #[test]
        fn exit_status_round_trips(code in any::<u8>(), signal in 1..=64_u8) {
            for status in [ExitStatus::Exited(code), ExitStatus::Signaled(signal)] {
                let line = status.to_line();
                prop_assert!(line.len() <= STATUS_LINE_BYTES);
                prop_assert_eq!(line.trim_end_matches('\n').parse(), Ok(status));
            }
        }

        #[test]
        fn exit_status_of_any_text_does_not_panic(text in ".{0,12}") {
            if let Ok(status) = text.parse::<ExitStatus>() {
                prop_assert_eq!(status.exit_code() == 0, status == ExitStatus::Exited(0));
            }
        }
    }

    #[test]
    fn exit_status_other_text_is_refused() {
        for text in [
            "",
            "exit",
            "exit ",
            "exit 256",
            "exit -1",
            "exit +1",
            "signal 0",
            "signal 65",
        ] {
            assert!(text.parse::<ExitStatus>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn exit_code_of_a_signal_is_128_and_the_signal() {
        assert_eq!(ExitStatus::Signaled(15).exit_code(), 143);
        assert_eq!(ExitStatus::Exited(7).exit_code(), 7);
    }
}
