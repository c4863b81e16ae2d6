//! Messages between daemon and init: a length of four bytes, least significant first, and JSON.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use clawd_sys::passing::recv_with_sender;

use crate::{
    error::Failed,
    spec::{EnterSpec, Layers, SpawnSpec},
};

/// Longest message: arguments and environment of a command are at most 2 MiB on Linux by default.
const MESSAGE_BYTES_MAX: u32 = 8 << 20;

/// Most descriptors that come to a keeper: three streams and the status pipe.
pub(crate) const DESCRIPTORS_MAX: usize = 4;

/// Daemon to init.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToInit {
    /// First message: what to build.
    Spec {
        /// The sandbox.
        spec: Box<SpawnSpec>,
        /// The session keyring of clawd, which must not be the sandbox's; `None` where there are no keys.
        keyring: Option<i32>,
    },
    /// Second message: the view is marked, go on.
    Go,
}

/// Daemon to the keeper of a further command.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToKeeper {
    /// First message, after the descriptors: what to execute.
    Enter(Box<EnterSpec>),
    /// Second message, to the command: its process is the one that was meant, go on.
    Go,
    /// From the exec on: this signal is for the command.
    Signal(i32),
}

/// Init, or the keeper of a further command, to daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromInit {
    /// The view stands; nothing of the command has run.
    ViewReady {
        /// Mount points of the mounts that programs can be executed from.
        exec_mounts: Vec<PathBuf>,
    },
    /// All layers are in force; the exec is next.
    InForce(Layers),
    /// A further command was executed; an init says so by closing the channel.
    Executed,
    /// It ends here.
    Failed(Failed),
}

/// Why a message could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other end is closed.
    #[error("the other side is gone")]
    Closed,
    /// Too slow.
    #[error("nothing came in time")]
    Deadline,
    /// Longer than any message may be.
    #[error("a message of {0} bytes is too long (limit {MESSAGE_BYTES_MAX})")]
    TooLong(usize),
    /// Not of this protocol, or out of turn.
    #[error("a message is not understood: {0}")]
    Malformed(String),
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[source] io::Error),
}

/// Sends one message.
pub(crate) fn send<T: Serialize>(
    mut stream: &UnixStream,
    message: &T,
    deadline: Instant,
) -> Result<(), ChannelError> {
    let bytes = encode(message)?;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        stream
            .set_write_timeout(Some(time_left(deadline)?))
            .map_err(ChannelError::Io)?;
        match stream.write(rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) => retry_or_fail(error)?,
        }
    }
    Ok(())
}

/// One message as it travels.
pub(crate) fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ChannelError> {
    let body = serde_json::to_vec(message).map_err(|e| ChannelError::Malformed(e.to_string()))?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|length| *length <= MESSAGE_BYTES_MAX)
        .ok_or(ChannelError::TooLong(body.len()))?;
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Receives one message.
pub(crate) fn receive<T: DeserializeOwned>(
    stream: &UnixStream,
    deadline: Instant,
) -> Result<T, ChannelError> {
    receive_from(stream, deadline).map(|(message, _sender)| message)
}

/// Receives one message with the process that sent it, where the kernel was asked to tell.
pub(crate) fn receive_from<T: DeserializeOwned>(
    stream: &UnixStream,
    deadline: Instant,
) -> Result<(T, Option<u32>), ChannelError> {
    let mut head = [0; 4];
    let sender = fill(stream, &mut head, deadline)?;
    let length = u32::from_le_bytes(head);
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MESSAGE_BYTES_MAX {
        return Err(ChannelError::TooLong(size));
    }
    let mut body = vec![0; size];
    fill(stream, &mut body, deadline)?;
    let message =
        serde_json::from_slice(&body).map_err(|e| ChannelError::Malformed(e.to_string()))?;
    Ok((message, sender))
}

/// Returns who sent the last of the bytes.
fn fill(
    stream: &UnixStream,
    bytes: &mut [u8],
    deadline: Instant,
) -> Result<Option<u32>, ChannelError> {
    let (mut done, mut sender) = (0, None);
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        stream
            .set_read_timeout(Some(time_left(deadline)?))
            .map_err(ChannelError::Io)?;
        match recv_with_sender(stream, rest) {
            Ok((0, _)) => return Err(ChannelError::Closed),
            Ok((count, from)) => {
                done += count;
                sender = from;
            }
            Err(error) => retry_or_fail(error)?,
        }
    }
    Ok(sender)
}

/// What is left; the socket takes no time-out of zero.
fn time_left(deadline: Instant) -> Result<Duration, ChannelError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ChannelError::Deadline);
    }
    Ok(left.max(Duration::from_millis(1)))
}

fn retry_or_fail(error: io::Error) -> Result<(), ChannelError> {
    match error.kind() {
        // The loop's next look at the clock decides.
        io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Ok(()),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Err(ChannelError::Closed),
        _ => Err(ChannelError::Io(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        os::unix::net::UnixStream,
        time::{Duration, Instant},
    };

    use super::{ChannelError, ToInit, receive, send};

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(200)
    }

    #[test]
    fn message_arrives_and_the_end_is_told_from_silence() {
        let (here, there) = UnixStream::pair().expect("pair");
        send(&here, &ToInit::Go, soon()).expect("send");
        assert!(matches!(receive(&there, soon()), Ok(ToInit::Go)));
        assert!(matches!(
            receive::<ToInit>(&there, soon()),
            Err(ChannelError::Deadline)
        ));
        drop(here);
        assert!(matches!(
            receive::<ToInit>(&there, soon()),
            Err(ChannelError::Closed)
        ));
    }

    #[test]
    fn message_too_long_cut_or_foreign_is_refused() {
        let (mut here, there) = UnixStream::pair().expect("pair");
        here.write_all(&u32::MAX.to_le_bytes()).expect("write");
        assert!(matches!(
            receive::<ToInit>(&there, soon()),
            Err(ChannelError::TooLong(_))
        ));
        let (mut here, there) = UnixStream::pair().expect("pair");
        here.write_all(&[4, 0, 0, 0, b'n', b'u', b'l', b'l'])
            .expect("write");
        assert!(matches!(
            receive::<ToInit>(&there, soon()),
            Err(ChannelError::Malformed(_))
        ));
        here.write_all(&[4, 0, 0, 0, b'n']).expect("write");
        drop(here);
        assert!(matches!(
            receive::<ToInit>(&there, soon()),
            Err(ChannelError::Closed)
        ));
    }
}
