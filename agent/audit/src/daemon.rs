//! Records of what the daemon itself does.

use crate::{
    record::{Activity, AuditRecord, Outcome},
    time::Timestamp,
};

/// Bytes of a message that are kept; commands and errors can be longer than a line should be.
pub const MESSAGE_BYTES: usize = 4096;

/// What the daemon did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DaemonEvent<'a> {
    /// A sandbox runs.
    SandboxStarted {
        /// Its name.
        sandbox: &'a str,
        /// Its policy's generation.
        generation: u64,
        /// Its first process.
        pid: u32,
        /// The command, as it should be shown.
        command: &'a str,
    },
    /// A sandbox was not started.
    SandboxRefused {
        /// The name it would have had, where one was given.
        sandbox: Option<&'a str>,
        /// Why.
        message: &'a str,
    },
    /// A sandbox ended and nothing of it is left.
    SandboxStopped {
        /// Its name.
        sandbox: &'a str,
        /// How it ended.
        message: &'a str,
    },
    /// A policy is in force.
    PolicyPushed {
        /// The sandbox.
        sandbox: &'a str,
        /// The new generation.
        generation: u64,
        /// The policy's file.
        file: &'a str,
    },
    /// A policy was refused; the earlier one is in force.
    PolicyRefused {
        /// The sandbox.
        sandbox: &'a str,
        /// The generation still in force.
        generation: u64,
        /// Why.
        message: &'a str,
    },
    /// clawd began to enforce.
    Started {
        /// Its process id.
        pid: u32,
        /// Version and the like.
        message: &'a str,
    },
    /// clawd took over what an earlier one had left in force.
    TookOver {
        /// Its process id.
        pid: u32,
        /// What it found.
        message: &'a str,
    },
    /// clawd ends in order; what it attached stays in force.
    Stopped {
        /// Its process id.
        pid: u32,
        /// Why.
        message: &'a str,
    },
    /// Events found the ring buffer full.
    EventsLost {
        /// The sandbox, where only one lost any.
        sandbox: Option<&'a str>,
        /// How many since the last such record.
        count: u64,
    },
}

// === impl DaemonEvent ===

impl DaemonEvent<'_> {
    /// Makes the record; its `seq` is given by [`crate::AuditLog::append`].
    #[must_use]
    pub fn record(&self, time: Timestamp) -> AuditRecord {
        let mut record = AuditRecord::new(time, self.activity());
        record.action = self.outcome();
        match *self {
            Self::SandboxStarted {
                sandbox,
                generation,
                pid,
                command,
            } => {
                record.sandbox = Some(sandbox.to_owned());
                record.policy_generation = Some(generation);
                record.pid = Some(pid);
                record.message = Some(shorten(command));
            }
            Self::SandboxRefused { sandbox, message } => {
                record.sandbox = sandbox.map(str::to_owned);
                record.message = Some(shorten(message));
            }
            Self::SandboxStopped { sandbox, message } => {
                record.sandbox = Some(sandbox.to_owned());
                record.message = Some(shorten(message));
            }
            Self::PolicyPushed {
                sandbox,
                generation,
                file: message,
            }
            | Self::PolicyRefused {
                sandbox,
                generation,
                message,
            } => {
                record.sandbox = Some(sandbox.to_owned());
                record.policy_generation = Some(generation);
                record.message = Some(shorten(message));
            }
            Self::Started { pid, message }
            | Self::TookOver { pid, message }
            | Self::Stopped { pid, message } => {
                record.pid = Some(pid);
                record.message = Some(shorten(message));
            }
            Self::EventsLost { sandbox, count } => {
                record.sandbox = sandbox.map(str::to_owned);
                record.count = Some(count);
            }
        }
        record
    }

    fn activity(&self) -> Activity {
        match self {
            Self::SandboxStarted { .. } => Activity::SandboxStarted,
            Self::SandboxRefused { .. } => Activity::SandboxRefused,
            Self::SandboxStopped { .. } => Activity::SandboxStopped,
            Self::PolicyPushed { .. } => Activity::PolicyPushed,
            Self::PolicyRefused { .. } => Activity::PolicyRefused,
            Self::Started { .. } => Activity::DaemonStarted,
            Self::TookOver { .. } => Activity::DaemonTookOver,
            Self::Stopped { .. } => Activity::DaemonStopped,
            Self::EventsLost { .. } => Activity::EventsLost,
        }
    }

    fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::SandboxStarted { .. } | Self::PolicyPushed { .. } => Some(Outcome::Allowed),
            Self::SandboxRefused { .. } | Self::PolicyRefused { .. } => Some(Outcome::Denied),
            _ => None,
        }
    }
}

/// The first [`MESSAGE_BYTES`] of `text`, cut between characters and then marked.
fn shorten(text: &str) -> String {
    if text.len() <= MESSAGE_BYTES {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MESSAGE_BYTES);
    format!("{}...", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{DaemonEvent, MESSAGE_BYTES};
    use crate::{
        record::{Activity, Outcome},
        time::Timestamp,
    };

    #[test]
    fn daemon_refusal_is_a_denial_with_its_cause() {
        let record = DaemonEvent::SandboxRefused {
            sandbox: Some("a"),
            message: "no bpf",
        }
        .record(Timestamp::from_unix_ns(0));
        assert_eq!(record.activity, Activity::SandboxRefused);
        assert_eq!(record.action, Some(Outcome::Denied));
        assert_eq!(record.sandbox.as_deref(), Some("a"));
        assert_eq!(record.message.as_deref(), Some("no bpf"));
        assert_eq!(record.class.uid, 1007);
    }

    #[test]
    fn daemon_lost_events_carry_their_count_and_judge_nothing() {
        let lost = DaemonEvent::EventsLost {
            sandbox: None,
            count: 7,
        };
        let record = lost.record(Timestamp::from_unix_ns(0));
        assert_eq!((record.count, record.action), (Some(7), None));
    }

    #[test]
    fn daemon_message_too_long_is_cut_between_characters() {
        let message = format!("x{}", "é".repeat(MESSAGE_BYTES));
        let started = DaemonEvent::Started {
            pid: 1,
            message: &message,
        };
        let record = started.record(Timestamp::from_unix_ns(0));
        let kept = record.message.expect("a message");
        assert_eq!(kept.len(), MESSAGE_BYTES - 1 + "...".len());
        assert!(kept.ends_with("é..."));
    }
}
