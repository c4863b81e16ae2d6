//! This terminal, and the other side of the command's.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
};

use clawd_control::TerminalSize;
use rustix::{
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
    termios::{
        OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
    },
};
use tokio::{io::Interest, net::UnixStream};

use crate::failure::Failure;

/// Where the other side of the command's terminal comes in.
pub(super) struct Awaited(UnixStream);

/// This terminal, put into raw mode: what is typed goes on as it is. Dropping it puts it back.
pub(super) struct Raw(Termios);

/// The size of the terminal that is standard input.
///
/// # Errors
/// Wrong usage where it is none.
pub(super) fn size() -> Result<TerminalSize, Failure> {
    let stdin = io::stdin();
    if !isatty(&stdin) {
        return Err(Failure::usage(
            "`-t` needs a terminal as standard input; leave it away to use files and pipes",
        ));
    }
    let size = tcgetwinsize(&stdin).map_err(|error| cannot("ask for its size", error))?;
    Ok(TerminalSize {
        rows: size.ws_row,
        columns: size.ws_col,
    })
}

/// Makes the command's terminal as large as this one. The kernel tells its programs.
pub(super) fn resize(command: impl AsFd) -> rustix::io::Result<()> {
    let size: Winsize = tcgetwinsize(io::stdin())?;
    tcsetwinsize(command, size)
}

fn cannot(what: &str, error: impl Into<io::Error>) -> Failure {
    let error: io::Error = error.into();
    Failure::setup(format!("cannot use this terminal: cannot {what}: {error}"))
}

// === impl Raw ===

impl Raw {
    /// Changes standard input, which is a terminal.
    pub(super) fn enter() -> Result<Self, Failure> {
        let before = tcgetattr(io::stdin()).map_err(|error| cannot("ask for its modes", error))?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)
            .map_err(|error| cannot("set its modes", error))?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone has no modes.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

// === impl Awaited ===

impl Awaited {
    /// A socket to wait at, and the one that clawd gets.
    pub(super) fn pair() -> Result<(Self, OwnedFd), Failure> {
        let made = StdUnixStream::pair().and_then(|(ours, theirs)| {
            ours.set_nonblocking(true)?;
            Ok((UnixStream::from_std(ours)?, theirs))
        });
        let (ours, theirs) = made.map_err(|error| cannot("make a socket pair", error))?;
        Ok((Self(ours), theirs.into()))
    }

    /// The other side of the command's terminal; `None` where there will be none.
    pub(super) async fn receive(&self) -> Option<OwnedFd> {
        let received = self.0.async_io(Interest::READABLE, || receive_now(&self.0));
        received.await.ok().flatten()
    }
}

fn receive_now(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    recvmsg(
        socket,
        &mut buffers,
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let received = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(received.filter(|fd| isatty(fd)))
}
