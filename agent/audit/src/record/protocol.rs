//! IP protocols by name.

use std::{fmt, str::FromStr};

use clawd_common::decide::{PROTOCOL_TCP, PROTOCOL_UDP};
use serde::{Deserialize, Serialize};

/// An IP protocol number (262 is MPTCP); 0 in `socket(2)` is the type's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Protocol(pub u16);

/// A text that is no [`Protocol`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a protocol; expected `tcp`, `udp`, another known name or a number")]
pub struct ProtocolError;

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
