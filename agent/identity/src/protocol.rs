//! What daemon and gate say to each other: a length of four bytes, least significant first, and JSON.

use std::{
    io::{self, Read, Write},
    path::PathBuf,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    entries::Entry,
    pins::{Pin, hexadecimal},
};

/// Longest message: 256 entries with paths of 4,096 bytes, written as JSON, fit several times.
const MESSAGE_BYTES_MAX: u32 = 16 << 20;

/// Daemon to gate.
#[derive(Debug, Serialize, Deserialize)]
pub struct ToGate {
    /// Comes back with the reply.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// What a daemon asks of the gate.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Watch the execs of a sandbox that has not executed its command: [`Reply::Loaded`].
    Watch(Watch),
    /// Watch sandboxes that run, and identify what they run: [`Reply::Restored`].
    Restore(Vec<Watch>),
    /// Write what a policy grants, before a sandbox is switched to it: [`Reply::Loaded`].
    Load {
        /// The sandbox.
        sandbox_id: u32,
        /// The policy.
        policy: Policy,
    },
    /// Forget a policy that no sandbox is under: [`Reply::Done`].
    Retire {
        /// The policy.
        policy_id: u32,
    },
    /// Forget a sandbox that has no process left: [`Reply::Done`].
    Unwatch {
        /// The sandbox.
        sandbox_id: u32,
    },
    /// Every pin: [`Reply::Pins`].
    Pins,
    /// Forget pins: [`Reply::Pins`], those that there were.
    Forget(Vec<PathBuf>),
    /// [`Reply::Health`].
    Health,
}

/// A sandbox, its view built.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Watch {
    /// Its number.
    pub sandbox_id: u32,
    /// Its name.
    pub name: String,
    /// Its first process, in the gate's pid namespace.
    pub init_pid: u32,
    /// Mount points, in its view, that programs can be executed from.
    pub exec_mounts: Vec<PathBuf>,
    /// The policy that it is or will be under.
    pub policy: Policy,
}

/// The part of a policy that the gate must know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// Its number.
    pub policy_id: u32,
    /// Every `binaries` entry, by its bit.
    pub entries: Vec<Entry>,
}

/// Gate to daemon.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromGate {
    /// What came of a request.
    Reply {
        /// [`ToGate::id`].
        id: u64,
        /// The answer.
        reply: Reply,
    },
    /// Something that nobody asked for.
    Notice(Notice),
}

/// What came of a request.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// It is done.
    Done,
    /// The policy's grants are in the kernel.
    Loaded {
        /// What an operator should know of its entries.
        warnings: Vec<String>,
    },
    /// By sandbox, in the order of the request: what kept it from being watched.
    Restored(Vec<Option<String>>),
    /// Pins.
    Pins(Vec<Pin>),
    /// How it is.
    Health(Health),
    /// It could not be done, and nothing of it was.
    Failed {
        /// Why, in a sentence that says what to do.
        message: String,
    },
}

/// How the gate is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Workers that look at programs which are not known.
    pub workers: u32,
    /// Threads that execs need, and that ended.
    pub ended: u32,
    /// How long the slowest of those has been at one step, in milliseconds; 0 where all wait.
    pub stalled_ms: u64,
    /// Contents in the kernel's table.
    pub files: u32,
    /// Contents that it holds.
    pub files_max: u32,
    /// Lines of executables in the kernel's table.
    pub chains: u32,
    /// Lines that it holds.
    pub chains_max: u32,
    /// Notices that the daemon was too slow to read.
    pub notices_lost: u64,
}

/// Something that the audit log should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// A listed path was used for the first time.
    Pinned {
        /// Whose use it was.
        sandbox_id: u32,
        /// The path; what is no UTF-8 in it is replaced.
        path: String,
        /// Its content.
        #[serde(with = "hexadecimal")]
        sha256: [u8; 32],
    },
    /// A listed path holds another content than was pinned; it is granted nothing.
    Changed {
        /// Who used it.
        sandbox_id: u32,
        /// The entry that names it.
        rule: String,
        /// The path; what is no UTF-8 in it is replaced.
        path: String,
        /// What was pinned.
        #[serde(with = "hexadecimal")]
        pinned: [u8; 32],
        /// What is there.
        #[serde(with = "hexadecimal")]
        found: [u8; 32],
    },
    /// A process was identified while it ran.
    Identified {
        /// Its sandbox.
        sandbox_id: u32,
        /// Its thread group id.
        tgid: u32,
        /// What it executes.
        path: String,
        /// Its content.
        #[serde(with = "hexadecimal")]
        sha256: [u8; 32],
    },
    /// Execs went on, or were denied, without having been seen.
    Unseen {
        /// The sandbox, where it can be told.
        sandbox_id: Option<u32>,
        /// How many, at least.
        count: u64,
    },
    /// A writer appeared between hash and exec; the process lost its grants.
    LeaseBroken {
        /// Its thread group id.
        tgid: u32,
    },
}

/// Why no message could be sent or received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The other end is closed.
    #[error("the other side is gone")]
    Closed,
    /// Longer than any message may be.
    #[error("a message of {0} bytes is too long (limit {MESSAGE_BYTES_MAX})")]
    TooLong(usize),
    /// Not of this protocol.
    #[error("a message is not understood")]
    Malformed(#[source] serde_json::Error),
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[source] io::Error),
}

/// Writes one message.
///
/// # Errors
/// [`FrameError`].
pub fn send(to: &mut impl Write, message: &impl Serialize) -> Result<(), FrameError> {
    let body = serde_json::to_vec(message).map_err(FrameError::Malformed)?;
    let len = u32::try_from(body.len())
        .ok()
        .filter(|len| *len <= MESSAGE_BYTES_MAX)
        .ok_or(FrameError::TooLong(body.len()))?;
    let mut bytes = len.to_le_bytes().to_vec();
    bytes.extend(body);
    to.write_all(&bytes).map_err(closed_or_failed)
}

/// Reads one message; waits for it.
///
/// # Errors
/// [`FrameError`]; [`FrameError::Closed`] at the end.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read) -> Result<T, FrameError> {
    let mut len = [0; 4];
    from.read_exact(&mut len).map_err(closed_or_failed)?;
    let len = u32::from_le_bytes(len);
    if len > MESSAGE_BYTES_MAX {
        return Err(FrameError::TooLong(
            usize::try_from(len).unwrap_or(usize::MAX),
        ));
    }
    let mut body = Vec::new();
    let read = from
        .by_ref()
        .take(u64::from(len))
        .read_to_end(&mut body)
        .map_err(closed_or_failed)?;
    if u32::try_from(read) != Ok(len) {
        return Err(FrameError::Closed);
    }
    serde_json::from_slice(&body).map_err(FrameError::Malformed)
}

fn closed_or_failed(error: io::Error) -> FrameError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset => FrameError::Closed,
        _ => FrameError::Io(error),
    }
}

#[cfg(test)]
mod tests;
