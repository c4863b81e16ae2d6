//! Handing the terminal and the status pipe to clawd.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use clawd_control::run::{DESCRIPTORS, DESCRIPTORS_BYTE};
use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
    pipe::{PipeFlags, pipe_with},
};
use tokio::{
    io::Interest,
    net::{UnixStream, unix::pipe},
};

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

/// Sends standard input, output and error, and the pipe's write end, which is closed here.
pub(super) async fn send(stream: &UnixStream, status_write: OwnedFd) -> Result<(), Failure> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let descriptors = [
        stdin.as_fd(),
        stdout.as_fd(),
        stderr.as_fd(),
        status_write.as_fd(),
    ];
    stream
        .async_io(Interest::WRITABLE, || send_now(stream, &descriptors))
        .await
        .map_err(|error| cannot("hand the descriptors to clawd", &error))
}

fn send_now(stream: &UnixStream, descriptors: &[BorrowedFd<'_>; DESCRIPTORS]) -> io::Result<()> {
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
