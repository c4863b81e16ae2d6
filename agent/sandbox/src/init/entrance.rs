//! Where further commands come into a sandbox that runs.
//!
//! The daemon connects to a socket that it made before the sandbox started, in a folder of its own;
//! pid 1 listens, and forks for each connection. So a further command is born inside every layer that
//! holds pid 1, the same Landlock domain included: nothing is applied a second time, and nothing could
//! be applied differently. The socket outlives a daemon, so the next one finds it.

use std::{
    io,
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
};

use clawd_sys::{
    descriptors::close_all_but,
    passing::peer_uid,
    process::{Fork, fork_single_threaded},
    rustix::event::{PollFd, PollFlags},
};

use super::{keeper, leave, reaper::Duty, report};
use crate::{
    error::{Failed, InLayer, Layer},
    spec::Layers,
};

/// What a further command has from the first.
pub(super) struct Base {
    /// Its environment.
    pub(super) env: Vec<(String, String)>,
    /// Where it started.
    pub(super) cwd: PathBuf,
    /// What was found in force.
    pub(super) expected: Layers,
}

/// The socket, and what is done for who comes.
pub(super) struct Entrance {
    listener: UnixListener,
    base: Base,
}

// === impl Entrance ===

impl Entrance {
    pub(super) fn new(listener: UnixListener, base: Base) -> Result<Self, Failed> {
        listener
            .set_nonblocking(true)
            .in_layer(Layer::Channel, "open the entrance")?;
        Ok(Self { listener, base })
    }

    fn serve(&self, channel: UnixStream) {
        match fork_single_threaded() {
            // The channel is the keeper's.
            Ok(Fork::Parent(_)) => {}
            Ok(Fork::Child) => {
                // All else is pid 1's alone: the listener of the filters, its own pipes.
                close_all_but(&[channel.as_fd()]);
                leave(keeper::keep(channel, &self.base))
            }
            Err(error) => {
                let message = format!(
                    "could not fork: {error}; the sandbox may have as many processes as its policy allows"
                );
                report(&channel, Failed::new(Layer::Process, message));
            }
        }
    }
}

impl Duty for Entrance {
    fn polled(&self) -> Vec<PollFd<'_>> {
        vec![PollFd::from_borrowed_fd(
            self.listener.as_fd(),
            PollFlags::IN,
        )]
    }

    fn attend(&mut self, _found: &[PollFlags]) -> io::Result<bool> {
        if let Ok((channel, _address)) = self.listener.accept()
            && is_root(&channel).unwrap_or(false)
            && channel.set_nonblocking(false).is_ok()
        {
            self.serve(channel);
        }
        Ok(true)
    }
}

/// Nobody else can reach the socket; were that not so, nobody else would be served.
fn is_root(channel: &UnixStream) -> io::Result<bool> {
    Ok(peer_uid(channel)? == 0)
}
