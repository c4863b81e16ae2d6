//! The audit record: one struct for everything that is logged, with its form in JSON.

mod protocol;

use std::{fmt, net::IpAddr, str::FromStr};

use clawd_common::verdict::{Action, Reason};
pub use protocol::{Protocol, ProtocolError};
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// One line of the audit log.
///
/// The fields up to `protocol` are in every line, `null` where they do not apply; those after
/// `activity` only where they do. Unknown fields of later versions are passed over on reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// When it happened.
    pub time: Timestamp,
    /// Number of the record in its log, from 1 without gaps; a gap is a record that was lost.
    pub seq: u64,
    /// The OCSF class.
    pub class: Class,
    /// The sandbox's name; `#N` for the sandbox of id N whose name is not known any more.
    pub sandbox: Option<String>,
    /// Number of the policy in force within the sandbox, from 1.
    pub policy_generation: Option<u64>,
    /// Process id in clawd's pid namespace.
    pub pid: Option<u32>,
    /// Path of the executable: in the view of the sandbox that last executed the file, else of the
    /// one that first executed its content. Of a pin, the path that a policy lists.
    pub exe: Option<String>,
    /// SHA-256 of the executable's content, in hexadecimal; `null` where it was not hashed.
    pub sha256: Option<Digest>,
    /// The executables that led to this one, nearest first; each once, at its latest place. Empty
    /// where none is known, which is not to say that there was none.
    #[serde(default)]
    pub lineage: Vec<Ancestor>,
    /// What became of the attempt; `null` where nothing was attempted.
    pub action: Option<Outcome>,
    /// Why, as a name of the closed set in `clawd_common::verdict`.
    #[serde(with = "reason_name")]
    pub reason: Option<Reason>,
    /// The rule that decided; `#N` for entry N of a policy that is not known any more. In a denial
    /// with reason `binary_changed`, the rule that would have granted it to the pinned content.
    pub rule: Option<String>,
    /// The destination's name, where it was reached by name.
    pub dst_name: Option<String>,
    /// The destination's address in canonical form.
    pub dst_ip: Option<IpAddr>,
    /// The destination's port.
    pub dst_port: Option<u16>,
    /// The protocol.
    pub protocol: Option<Protocol>,
    /// What was done or attempted.
    pub activity: Activity,
    /// The content that was pinned for the executable's path where `sha256` is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_sha256: Option<Digest>,
    /// Thread id in clawd's pid namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// The earlier generation whose text came into force again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_to: Option<u64>,
    /// User id of who asked clawd for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_uid: Option<u32>,
    /// The sandbox's own port, of a packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port: Option<u16>,
    /// Address family of a socket, as `inet`, `inet6` or its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket_family: Option<String>,
    /// Type of a socket, as `stream`, `dgram`, `raw` or its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket_type: Option<String>,
    /// A system call, as in its manual page; `#N` where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscall: Option<String>,
    /// The table that a foreign call is of, as `i386` or `x32`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syscall_table: Option<String>,
    /// What a system call's arguments say of the attempt, as `flags=CLONE_NEWUSER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
    /// How many (events lost, execs unseen, limits hit, system calls refused).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// A sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A class of OCSF 1.3.0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Its name, as `Network Activity`.
    pub name: String,
    /// Its `class_uid`, as 4001.
    pub uid: u32,
}

/// One executable of a lineage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Its path, in the view of the sandbox that first executed its content; `null` where it is
    /// not known any more.
    pub exe: Option<String>,
    /// The SHA-256 of its content; `null` where it is not known any more.
    pub sha256: Option<Digest>,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It went on.
    Allowed,
    /// It was refused.
    Denied,
    /// It waited for an operator.
    Held,
    /// It went on, and would have been refused under enforcement.
    Audited,
}

/// A text that is no [`Outcome`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an outcome; expected allowed, denied, held or audited")]
pub struct OutcomeError;

/// What was done or attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// `connect(2)`.
    Connect,
    /// A datagram with its own destination.
    Sendmsg,
    /// `socket(2)`.
    Socket,
    /// A packet out of the sandbox.
    Send,
    /// A packet into the sandbox; `dst_ip` and `dst_port` are the other side's.
    Receive,
    /// An open flow was ended, because the policy in force forbids it.
    Cut,
    /// `execve(2)`.
    Exec,
    /// A system call that the sandbox's profile refuses. With `count`: so many of it besides those
    /// that have records.
    Syscall,
    /// A sandbox was started.
    SandboxStarted,
    /// A sandbox could not be started; nothing of it is left.
    SandboxRefused,
    /// A sandbox ended.
    SandboxStopped,
    /// A sandbox met a limit of what it may use up: `reason` says which, `count` how often.
    LimitHit,
    /// A further command was started in a sandbox that runs.
    SandboxEntered,
    /// A further command was not started, or its caller may not enter; the sandbox goes on.
    EntryRefused,
    /// A policy came into force.
    PolicyPushed,
    /// The text of an earlier policy came into force again.
    PolicyRolledBack,
    /// A policy was not put in force; the earlier one still is.
    PolicyRefused,
    /// A path that a policy lists was first used: from now on its content stands for it.
    BinaryPinned,
    /// A path that a policy lists holds another content than was pinned for it.
    BinaryChanged,
    /// An operator had a pin forgotten: the path's next use pins anew.
    PinForgotten,
    /// A program that already ran was identified, after a time without exec gate.
    ProcessIdentified,
    /// The exec gate ended and was started again.
    GateRestarted,
    /// Execs that the exec gate did not see: their programs run without identity.
    ExecsUnseen,
    /// clawd began to enforce.
    DaemonStarted,
    /// clawd took over what an earlier clawd had left in force.
    DaemonTookOver,
    /// clawd ended in order.
    DaemonStopped,
    /// Events did not fit the ring buffer: judged and counted, but without records.
    EventsLost,
    /// Of another version than this program.
    #[serde(other)]
    Unknown,
}

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

/// A text that is no [`Digest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256; expected 64 lower-case hexadecimal digits")]
pub struct DigestError;

// === impl Activity ===

impl Activity {
    /// The OCSF class of its records.
    #[must_use]
    pub fn class(self) -> Class {
        let (name, uid) = match self {
            Self::Connect
            | Self::Sendmsg
            | Self::Socket
            | Self::Send
            | Self::Receive
            | Self::Cut => ("Network Activity", 4001),
            Self::Syscall => ("Kernel Activity", 1003),
            Self::Exec
            | Self::SandboxStarted
            | Self::SandboxRefused
            | Self::SandboxStopped
            | Self::LimitHit
            | Self::SandboxEntered
            | Self::EntryRefused
            | Self::ProcessIdentified => ("Process Activity", 1007),
            Self::PolicyPushed
            | Self::PolicyRolledBack
            | Self::PolicyRefused
            | Self::BinaryPinned
            | Self::BinaryChanged
            | Self::PinForgotten => ("Entity Management", 3004),
            Self::DaemonStarted
            | Self::DaemonTookOver
            | Self::DaemonStopped
            | Self::GateRestarted => ("Application Lifecycle", 6002),
            Self::EventsLost | Self::ExecsUnseen | Self::Unknown => ("Base Event", 0),
        };
        let name = name.to_owned();
        Class { name, uid }
    }
}

// === impl AuditRecord ===

impl AuditRecord {
    /// A record in which nothing but the time and the activity is known; `seq` is given by
    /// [`crate::AuditLog::append`].
    #[must_use]
    pub fn new(time: Timestamp, activity: Activity) -> Self {
        Self {
            time,
            seq: 0,
            class: activity.class(),
            sandbox: None,
            policy_generation: None,
            pid: None,
            exe: None,
            sha256: None,
            lineage: Vec::new(),
            action: None,
            reason: None,
            rule: None,
            dst_name: None,
            dst_ip: None,
            dst_port: None,
            protocol: None,
            activity,
            pinned_sha256: None,
            tid: None,
            rolled_back_to: None,
            caller_uid: None,
            local_port: None,
            socket_family: None,
            socket_type: None,
            syscall: None,
            syscall_table: None,
            arguments: None,
            count: None,
            message: None,
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Held => "held",
            Self::Audited => "audited",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Outcome {
    type Err = OutcomeError;

    fn from_str(text: &str) -> Result<Self, OutcomeError> {
        let all = [Self::Allowed, Self::Denied, Self::Held, Self::Audited];
        let named = all.into_iter().find(|outcome| outcome.name() == text);
        named.ok_or(OutcomeError)
    }
}

impl From<Action> for Outcome {
    fn from(action: Action) -> Self {
        match action {
            Action::Allowed => Self::Allowed,
            Action::Denied => Self::Denied,
        }
    }
}

// === impl Digest ===

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(DigestError),
        };
        let mut digest = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != digest.len() || !rest.is_empty() {
            return Err(DigestError);
        }
        for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Ok(Self(digest))
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// A [`Reason`] by its name; a name of a later version reads as [`Reason::Unknown`].
mod reason_name {
    use clawd_common::verdict::Reason;
    use serde::{Deserialize, Deserializer, Serializer};

    // Serde hands over a reference to the field, whatever its type.
    pub(super) fn serialize<S: Serializer>(
        reason: &Option<Reason>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match reason {
            Some(reason) => serializer.serialize_str(reason.name()),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Reason>, D::Error> {
        let name = Option::<String>::deserialize(deserializer)?;
        Ok(name.map(|name| {
            let known = Reason::ALL.iter().find(|reason| reason.name() == name);
            known.copied().unwrap_or(Reason::Unknown)
        }))
    }
}

#[cfg(test)]
pub(crate) mod tests;
