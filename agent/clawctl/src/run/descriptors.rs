//! Handing the command's streams and the status pipe to clawd.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use clawd_control::run::{DESCRIPTORS, DESCRIPTORS_BYTE, TERMINAL_DESCRIPTORS};
use rustix::{
    fs::{FileType, fstat},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    pipe::{PipeFlags, pipe_with},
};
use tokio::{
    io::Interest,
    net::{UnixStream, unix::pipe},
};

use super::streams::Streams;
use crate::failure::Failure;

/// Makes the pipe through which the command's exit status comes back.
pub(super) fn status_pipe() -> Result<(pipe::Receiver, OwnedFd), Failure> {
    let made = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from);
    let (read, write) = made.map_err(|error| cannot("make a pipe", &error))?;
    let read = pipe::Receiver::from_owned_fd(read);
    Ok((
        read.map_err(|error| cannot("read from a pipe", &error))?,
        write,
    ))
}

/// Sends the command's standard streams, and the pipe's write end, which is closed here.
pub(super) async fn send(
    stream: &UnixStream,
    streams: &Streams,
    status_write: OwnedFd,
) -> Result<(), Failure> {
    let [stdin, stdout, stderr] = streams.descriptors();
    let descriptors: [_; DESCRIPTORS] = [stdin, stdout, stderr, status_write.as_fd()];
    send_all(stream, &descriptors).await
}

/// Sends the standard streams that are files, `/dev/null` for the others, and the pipe's write end,
/// which is closed here. A terminal or a pipe would keep whoever has its other end from its end.
pub(super) async fn send_detached(
    stream: &UnixStream,
    status_write: OwnedFd,
) -> Result<(), Failure> {
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| cannot("open /dev/null", &error))?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let [stdin, stdout, stderr] = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]
        .map(|fd| if is_file(fd) { fd } else { null.as_fd() });
    let descriptors: [_; DESCRIPTORS] = [stdin, stdout, stderr, status_write.as_fd()];
    send_all(stream, &descriptors).await
}

fn is_file(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file())
}

/// Sends where the other side of the command's terminal is to come, and the pipe's write end; both
/// are closed here.
pub(super) async fn send_with_terminal(
    stream: &UnixStream,
    socket: OwnedFd,
    status_write: OwnedFd,
) -> Result<(), Failure> {
    let descriptors: [_; TERMINAL_DESCRIPTORS] = [socket.as_fd(), status_write.as_fd()];
    send_all(stream, &descriptors).await
}

async fn send_all(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> Result<(), Failure> {
    stream
        .async_io(Interest::WRITABLE, || send_now(stream, descriptors))
        .await
        .map_err(|error| cannot("hand the descriptors to clawd", &error))
}

fn send_now(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let byte = [DESCRIPTORS_BYTE];
    let sent = sendmsg(
        stream,
        &[IoSlice::new(&byte)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    if sent != byte.len() {
        return Err(io::Error::from(io::ErrorKind::WriteZero));
    }
    Ok(())
}

fn cannot(what: &str, error: &io::Error) -> Failure {
    Failure::setup(format!("cannot {what}: {error}"))
}
