//! Records of what the daemon itself does.

use clawd_common::verdict::Reason;

use crate::{
    record::{Activity, AuditRecord, Digest, Outcome},
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
    /// A sandbox met a limit of what it may use up.
    LimitHit {
        /// Its name.
        sandbox: &'a str,
        /// Which limit.
        reason: Reason,
        /// Refused forks, or killed processes, since the last such record.
        count: u64,
    },
    /// A further command runs in a sandbox.
    SandboxEntered {
        /// Its name.
        sandbox: &'a str,
        /// Its policy's generation.
        generation: u64,
        /// The command's process.
        pid: u32,
        /// Who asked for it.
        caller_uid: u32,
        /// The command, as it should be shown.
        command: &'a str,
    },
    /// A further command was not started.
    EntryRefused {
        /// The sandbox.
        sandbox: &'a str,
        /// Who asked for it.
        caller_uid: u32,
        /// Why.
        message: &'a str,
    },
    /// A policy is in force.
    PolicyPushed {
        /// The sandbox.
        sandbox: &'a str,
        /// The new generation.
        generation: u64,
        /// Who asked for it.
        caller_uid: u32,
        /// The policy's file.
        file: &'a str,
    },
    /// The text of an earlier policy is in force again.
    PolicyRolledBack {
        /// The sandbox.
        sandbox: &'a str,
        /// The new generation.
        generation: u64,
        /// The earlier one.
        rolled_back_to: u64,
        /// Who asked for it.
        caller_uid: u32,
        /// The policy's file.
        file: &'a str,
    },
    /// A policy was refused; the earlier one is in force.
    PolicyRefused {
        /// The sandbox.
        sandbox: &'a str,
        /// The generation still in force.
        generation: u64,
        /// Who asked for it.
        caller_uid: u32,
        /// Why.
        message: &'a str,
    },
    /// A path that a policy lists was first used: its content is pinned for it.
    BinaryPinned {
        /// The sandbox that used it.
        sandbox: &'a str,
        /// The path as policies list it.
        path: &'a str,
        /// The content.
        sha256: Digest,
    },
    /// A path that a policy lists holds another content than was pinned; it is granted nothing.
    BinaryChanged {
        /// The sandbox that executed it.
        sandbox: &'a str,
        /// The path as policies list it.
        path: &'a str,
        /// The content that was pinned.
        pinned: Digest,
        /// The content that is there.
        found: Digest,
        /// The rule that lists the path.
        rule: &'a str,
    },
    /// An operator had a pin forgotten.
    PinForgotten {
        /// The path as policies list it.
        path: &'a str,
        /// The content that was pinned.
        sha256: Digest,
    },
    /// A program that already ran was identified, because there was no exec gate at its exec.
    ProcessIdentified {
        /// Its sandbox.
        sandbox: &'a str,
        /// The process.
        pid: u32,
        /// Its executable.
        path: &'a str,
        /// The executable's content.
        sha256: Digest,
    },
    /// The exec gate ended and was started again.
    GateRestarted {
        /// How it ended.
        message: &'a str,
    },
    /// The exec gate's queue was full, or events could not be opened: these programs run without
    /// identity.
    ExecsUnseen {
        /// The sandbox, where only one is known to be concerned.
        sandbox: Option<&'a str>,
        /// How many since the last such record.
        count: u64,
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
            Self::LimitHit {
                sandbox,
                reason,
                count,
            } => {
                record.sandbox = Some(sandbox.to_owned());
                record.reason = Some(reason);
                record.count = Some(count);
            }
            Self::SandboxEntered { .. } | Self::EntryRefused { .. } => {
                self.name_caller(&mut record);
            }
            Self::PolicyPushed { .. }
            | Self::PolicyRolledBack { .. }
            | Self::PolicyRefused { .. } => self.name_policy(&mut record),
            Self::Started { pid, message }
            | Self::TookOver { pid, message }
            | Self::Stopped { pid, message } => {
                record.pid = Some(pid);
                record.message = Some(shorten(message));
            }
            Self::EventsLost { sandbox, count } | Self::ExecsUnseen { sandbox, count } => {
                record.sandbox = sandbox.map(str::to_owned);
                record.count = Some(count);
            }
            Self::GateRestarted { message } => record.message = Some(shorten(message)),
            Self::BinaryPinned { .. }
            | Self::BinaryChanged { .. }
            | Self::PinForgotten { .. }
            | Self::ProcessIdentified { .. } => self.name_file(&mut record),
        }
        record
    }

    /// Fills in who asked to enter which sandbox.
    fn name_caller(&self, record: &mut AuditRecord) {
        let (sandbox, caller_uid, message) = match *self {
            Self::SandboxEntered {
                sandbox,
                generation,
                pid,
                caller_uid,
                command,
            } => {
                record.policy_generation = Some(generation);
                record.pid = Some(pid);
                (sandbox, caller_uid, command)
            }
            Self::EntryRefused {
                sandbox,
                caller_uid,
                message,
            } => (sandbox, caller_uid, message),
            _ => return,
        };
        record.sandbox = Some(sandbox.to_owned());
        record.caller_uid = Some(caller_uid);
        record.message = Some(shorten(message));
    }

    /// Fills in which policy of which sandbox it is about.
    fn name_policy(&self, record: &mut AuditRecord) {
        let (sandbox, generation, caller_uid, message) = match *self {
            Self::PolicyPushed {
                sandbox,
                generation,
                caller_uid,
                file: message,
            }
            | Self::PolicyRefused {
                sandbox,
                generation,
                caller_uid,
                message,
            } => (sandbox, generation, caller_uid, message),
            Self::PolicyRolledBack {
                sandbox,
                generation,
                rolled_back_to,
                caller_uid,
                file,
            } => {
                record.rolled_back_to = Some(rolled_back_to);
                (sandbox, generation, caller_uid, file)
            }
            _ => return,
        };
        record.sandbox = Some(sandbox.to_owned());
        record.policy_generation = Some(generation);
        record.caller_uid = Some(caller_uid);
        record.message = Some(shorten(message));
    }

    /// Fills in which file it is about, as records of execs do.
    fn name_file(&self, record: &mut AuditRecord) {
        let (sandbox, path, sha256) = match *self {
            Self::BinaryPinned {
                sandbox,
                path,
                sha256,
            } => (Some(sandbox), path, sha256),
            Self::BinaryChanged {
                sandbox,
                path,
                pinned,
                found,
                rule,
            } => {
                record.pinned_sha256 = Some(pinned);
                record.rule = Some(rule.to_owned());
                (Some(sandbox), path, found)
            }
            Self::PinForgotten { path, sha256 } => (None, path, sha256),
            Self::ProcessIdentified {
                sandbox,
                pid,
                path,
                sha256,
            } => {
                record.pid = Some(pid);
                (Some(sandbox), path, sha256)
            }
            _ => return,
        };
        record.sandbox = sandbox.map(str::to_owned);
        record.exe = Some(shorten(path));
        record.sha256 = Some(sha256);
    }

    fn activity(&self) -> Activity {
        match self {
            Self::SandboxStarted { .. } => Activity::SandboxStarted,
            Self::SandboxRefused { .. } => Activity::SandboxRefused,
            Self::SandboxStopped { .. } => Activity::SandboxStopped,
            Self::LimitHit { .. } => Activity::LimitHit,
            Self::SandboxEntered { .. } => Activity::SandboxEntered,
            Self::EntryRefused { .. } => Activity::EntryRefused,
            Self::PolicyPushed { .. } => Activity::PolicyPushed,
            Self::PolicyRolledBack { .. } => Activity::PolicyRolledBack,
            Self::PolicyRefused { .. } => Activity::PolicyRefused,
            Self::BinaryPinned { .. } => Activity::BinaryPinned,
            Self::BinaryChanged { .. } => Activity::BinaryChanged,
            Self::PinForgotten { .. } => Activity::PinForgotten,
            Self::ProcessIdentified { .. } => Activity::ProcessIdentified,
            Self::GateRestarted { .. } => Activity::GateRestarted,
            Self::ExecsUnseen { .. } => Activity::ExecsUnseen,
            Self::Started { .. } => Activity::DaemonStarted,
            Self::TookOver { .. } => Activity::DaemonTookOver,
            Self::Stopped { .. } => Activity::DaemonStopped,
            Self::EventsLost { .. } => Activity::EventsLost,
        }
    }

    fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::SandboxStarted { .. }
            | Self::SandboxEntered { .. }
            | Self::PolicyPushed { .. }
            | Self::PolicyRolledBack { .. } => Some(Outcome::Allowed),
            Self::SandboxRefused { .. }
            | Self::EntryRefused { .. }
            | Self::PolicyRefused { .. }
            | Self::LimitHit { .. } => Some(Outcome::Denied),
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
mod tests;
