//! The audit record: one struct for everything that is logged, with its form in JSON.

use std::{fmt, net::IpAddr, str::FromStr};

use clawd_common::{
    decide::{PROTOCOL_TCP, PROTOCOL_UDP},
    verdict::{Action, Reason},
};
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
    /// Path of the executable, in the view of the sandbox that first executed it.
    pub exe: Option<String>,
    /// SHA-256 of the executable's content, in hexadecimal.
    pub sha256: Option<Digest>,
    /// The executables that led to this one, nearest first.
    #[serde(default)]
    pub lineage: Vec<Ancestor>,
    /// What became of the attempt; `null` where nothing was attempted.
    pub action: Option<Outcome>,
    /// Why, as a name of the closed set in `clawd_common::verdict`.
    #[serde(with = "reason_name")]
    pub reason: Option<Reason>,
    /// The rule that decided; `#N` for entry N of a policy that is not known any more.
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
    /// Thread id in clawd's pid namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// Address family of a socket, as `inet`, `inet6` or its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket_family: Option<String>,
    /// Type of a socket, as `stream`, `dgram`, `raw` or its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket_type: Option<String>,
    /// How many (events lost).
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
    /// Its path.
    pub exe: Option<String>,
    /// The SHA-256 of its content.
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
    /// `execve(2)`.
    Exec,
    /// A sandbox was started.
    SandboxStarted,
    /// A sandbox could not be started; nothing of it is left.
    SandboxRefused,
    /// A sandbox ended.
    SandboxStopped,
    /// A policy came into force.
    PolicyPushed,
    /// A policy was not put in force; the earlier one still is.
    PolicyRefused,
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

/// An IP protocol number (262 is MPTCP); 0 in `socket(2)` is the type's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Protocol(pub u16);

/// A text that is no [`Protocol`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a protocol; expected `tcp`, `udp`, another known name or a number")]
pub struct ProtocolError;

// === impl Activity ===

impl Activity {
    /// The OCSF class of its records.
    #[must_use]
    pub fn class(self) -> Class {
        let (name, uid) = match self {
            Self::Connect | Self::Sendmsg | Self::Socket => ("Network Activity", 4001),
            Self::Exec | Self::SandboxStarted | Self::SandboxRefused | Self::SandboxStopped => {
                ("Process Activity", 1007)
            }
            Self::PolicyPushed | Self::PolicyRefused => ("Entity Management", 3004),
            Self::DaemonStarted | Self::DaemonTookOver | Self::DaemonStopped => {
                ("Application Lifecycle", 6002)
            }
            Self::EventsLost | Self::Unknown => ("Base Event", 0),
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
            tid: None,
            socket_family: None,
            socket_type: None,
            count: None,
            message: None,
        }
    }
}

// === impl Outcome ===

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

// === impl Protocol ===

/// Names as in `/etc/protocols`, of what a sandbox's program may try.
const PROTOCOLS: &[(u16, &str)] = &[
    (0, "default"),
    (1, "icmp"),
    (PROTOCOL_TCP, "tcp"),
    (PROTOCOL_UDP, "udp"),
    (33, "dccp"),
    (58, "ipv6-icmp"),
    (132, "sctp"),
    (136, "udplite"),
    (255, "raw"),
    (262, "mptcp"),
];

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match PROTOCOLS.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Protocol {
    type Err = ProtocolError;

    fn from_str(text: &str) -> Result<Self, ProtocolError> {
        if let Some((number, _)) = PROTOCOLS.iter().find(|(_, name)| *name == text) {
            return Ok(Self(*number));
        }
        text.parse().ok().map(Self).ok_or(ProtocolError)
    }
}

impl TryFrom<String> for Protocol {
    type Error = ProtocolError;

    fn try_from(text: String) -> Result<Self, ProtocolError> {
        text.parse()
    }
}

impl From<Protocol> for String {
    fn from(protocol: Protocol) -> Self {
        protocol.to_string()
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
