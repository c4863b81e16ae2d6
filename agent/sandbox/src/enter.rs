//! The daemon's half of a further command: ask the sandbox's pid 1 for it, look at its process, let it
//! go on.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    time::Instant,
};

use clawd_sys::{
    passing::{send_with_fds, tell_senders},
    rustix::net::{SendFlags, send},
};

use crate::{
    channel::{self, ChannelError, FromInit, ToKeeper},
    error::StartError,
    parent::{Descriptors, NO_COMMAND, explain, out_of_turn, receive, silent, system},
    spec::{DEADLINE, EnterSpec, Layers},
};

/// The byte that carries the descriptors.
const CARRIER: &[u8] = b"F";

/// A further command whose process is confined and waits. Dropping it ends it.
#[derive(Debug)]
#[must_use]
pub struct Entering {
    channel: UnixStream,
    pid: u32,
    layers: Layers,
}

/// A further command that runs. Dropping this does not end it.
#[derive(Debug)]
#[must_use]
pub struct Entered {
    channel: UnixStream,
}

/// Has the pid 1 that listens at the other end of `channel` start a further command's process, with
/// every layer that holds the sandbox. Blocks for milliseconds, at most [`DEADLINE`].
///
/// # Errors
/// Any of [`StartError`]; nothing is left running.
pub fn enter(
    channel: UnixStream,
    spec: &EnterSpec,
    fds: Descriptors,
) -> Result<Entering, StartError> {
    let deadline = Instant::now() + DEADLINE;
    if spec.argv.first().is_none_or(String::is_empty) {
        return Err(StartError::Request(NO_COMMAND.to_owned()));
    }
    fds.check(spec.terminal)?;
    tell_senders(&channel).map_err(system("ask who answers"))?;
    let mut all = fds.streams.all();
    all.push(fds.status.as_fd());
    send_with_fds(&channel, CARRIER, &all).map_err(system("hand the descriptors over"))?;
    drop(all);
    // Closed here, so that the command's end is the end of the pipes.
    drop(fds);
    channel::send(&channel, &ToKeeper::Enter(Box::new(spec.clone())), deadline)
        .or_else(|error| explain(&channel, error, deadline, "reading its specification"))?;
    let step = "verifying its confinement";
    match channel::receive_from(&channel, deadline).map_err(silent(step))? {
        (FromInit::InForce(layers), Some(pid)) => Ok(Entering {
            channel,
            pid,
            layers,
        }),
        (FromInit::Failed(failed), _) => Err(failed.into()),
        _ => Err(out_of_turn(step)),
    }
}

// === impl Entering ===

impl Entering {
    /// The process that is to execute the command, as the kernel named it, in the caller's pid
    /// namespace.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it found in force for itself. Its namespaces are for the caller to look at.
    pub fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Lets it execute the command. Blocks until that is done, at most [`DEADLINE`]; whoever answers
    /// the exec gate must not be the caller.
    ///
    /// # Errors
    /// Any of [`StartError`]; nothing is left running.
    pub fn go(self) -> Result<Entered, StartError> {
        let deadline = Instant::now() + DEADLINE;
        let Self { channel, .. } = self;
        channel::send(&channel, &ToKeeper::Go, deadline)
            .or_else(|error| explain(&channel, error, deadline, "going on"))?;
        let step = "executing the command";
        match receive(&channel, deadline, step)? {
            FromInit::Executed => Ok(Entered { channel }),
            FromInit::Failed(failed) => Err(failed.into()),
            FromInit::InForce(_) | FromInit::ViewReady { .. } => Err(out_of_turn(step)),
        }
    }
}

// === impl Entered ===

impl Entered {
    /// Sends the command a signal. One that finds no room is lost, as one that nobody takes is.
    ///
    /// # Errors
    /// The command has ended.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let bytes = channel::encode(&ToKeeper::Signal(signal)).map_err(|error| match error {
            ChannelError::Io(source) => source,
            other => io::Error::other(other),
        })?;
        send(
            &self.channel,
            &bytes,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }
}

impl AsFd for Entered {
    /// Readable once the command has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
