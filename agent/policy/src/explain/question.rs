//! What is asked of a policy: who wants to reach what.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use clawd_common::addr::Addr;

use crate::{
    escape::quoted,
    model::{Binary, BinaryMatcher, Protocol},
};

/// An attempt to reach a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The program that asks.
    pub who: Who,
    /// The destination: an IPv4 or IPv6 address, the latter without brackets, or a name.
    pub host: String,
    /// The destination's port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// A program with what led to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Who {
    /// The path of the executable, as a policy would name it.
    pub binary: PathBuf,
    /// The SHA-256 of its content. Without it no entry with a `sha256` means the program.
    pub sha256: Option<[u8; 32]>,
    /// The executables that led to it, in any order.
    pub ancestors: Vec<PathBuf>,
}

/// Why a question cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// The path of an executable does not begin at the root.
    #[error("{} is not the path of a program; write it from `/` on", quoted(.text))]
    Program {
        /// As given.
        text: String,
    },
    /// The host is neither an address nor a name.
    #[error(
        "{} is neither an address nor a name; write four decimal numbers (192.0.2.1), IPv6 \
         (2001:db8::1), or letters, digits, `-` and `_` between dots",
        quoted(.text)
    )]
    Host {
        /// As given.
        text: String,
    },
}

/// What a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// An address. An interface behind `%` is all that a link-local one needs to name a host.
    Address { addr: Addr, scope_id: u32 },
    /// A name.
    Name,
}

/// How an entry means a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Means {
    /// It is the program.
    pub(super) own: bool,
    /// One of its ancestors is, and the entry is for descendants.
    pub(super) lineage: bool,
}

// === impl Who ===

impl Who {
    pub(super) fn check(&self) -> Result<(), QuestionError> {
        let all = std::iter::once(&self.binary).chain(&self.ancestors);
        for path in all {
            if !path.is_absolute() {
                let text = path.to_string_lossy().into_owned();
                return Err(QuestionError::Program { text });
            }
        }
        Ok(())
    }
}

// === impl Target ===

impl Target {
    pub(super) fn read(text: &str) -> Result<Self, QuestionError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::address(ip, 0));
        }
        if let Some((address, interface)) = text.split_once('%')
            && let Ok(ip @ IpAddr::V6(_)) = address.parse::<IpAddr>()
            && !interface.is_empty()
        {
            return Ok(Self::address(ip, 1));
        }
        // Programs take `127.1` and `010.0.0.1` for addresses, each in its own way.
        let is_numeric = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if is_numeric || !text.chars().all(fits) {
            let text = text.to_owned();
            return Err(QuestionError::Host { text });
        }
        Ok(Self::Name)
    }

    fn address(ip: IpAddr, scope_id: u32) -> Self {
        let addr = match ip {
            IpAddr::V4(ip) => Addr::v4(ip.octets()),
            IpAddr::V6(ip) => Addr::v6(ip.octets()),
        };
        Self::Address { addr, scope_id }
    }
}

/// How an entry means a program, by paths alone but for the hash that the question gives.
pub(super) fn means(binary: &Binary, who: &Who) -> Means {
    let by_path = |path: &Path| match &binary.matcher {
        BinaryMatcher::Path(own) => own == path,
        BinaryMatcher::Pattern(pattern) => pattern.matches(path),
        BinaryMatcher::Sha256(_) => false,
    };
    let by_content = match (&binary.matcher, who.sha256) {
        (BinaryMatcher::Sha256(own), Some(sha256)) => *own == sha256,
        _ => false,
    };
    Means {
        own: by_content || by_path(&who.binary),
        lineage: binary.descendants && who.ancestors.iter().any(|path| by_path(path)),
    }
}
