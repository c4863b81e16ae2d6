//! Standard streams that are sockets: the command gets pipes in their place, and bytes are copied.
//!
//! A socket that was made outside is none of the sandbox's: no hook judges what is sent on it, and
//! through a unix one more of them could come. clawd takes none in. Whoever has a command's input or
//! output on a socket (Node's child processes, inetd) still gets every byte and every end of file.

mod copy;

use std::{
    io::{self, PipeReader, PipeWriter},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
    thread,
};

use rustix::{
    fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat},
    net::{SocketType, sockopt},
    stdio::{stderr, stdin, stdout},
};
use tokio::sync::mpsc;

use super::signals::{Came, Signals};
use crate::failure::Failure;

/// The command's standard streams: this process's own, with a pipe in the place of each socket.
pub(super) struct Streams {
    /// The pipes that the command gets, until it has them.
    pipes: [Option<Arc<OwnedFd>>; 3],
    input: Option<Input>,
    outputs: Vec<Output>,
    ended: Arc<PipeReader>,
    /// Closed to end the copying.
    going_on: Option<PipeWriter>,
    /// Every output that is being copied has a sender.
    done: mpsc::Receiver<()>,
    copying: mpsc::Sender<()>,
}

/// From a socket to the command.
struct Input {
    socket: OwnedFd,
    pipe: PipeWriter,
}

/// From the command to a socket.
struct Output {
    pipe: PipeReader,
    socket: OwnedFd,
}

// === impl Streams ===

impl Streams {
    /// Looks at standard input, output and error. Nothing is copied before [`Streams::begin`].
    pub(super) fn prepare() -> Result<Self, Failure> {
        let (ended, going_on) = io::pipe().map_err(cannot)?;
        let (copying, done) = mpsc::channel(1);
        let mut streams = Self {
            pipes: [const { None }; 3],
            input: None,
            outputs: Vec::new(),
            ended: Arc::new(ended),
            going_on: Some(going_on),
            done,
            copying,
        };
        streams.look().map_err(cannot)?;
        Ok(streams)
    }

    fn look(&mut self) -> io::Result<()> {
        if let Some(socket) = stream_socket(stdin())? {
            let (read, pipe) = io::pipe()?;
            set_nonblocking(&pipe)?;
            self.pipes[0] = Some(Arc::new(read.into()));
            self.input = Some(Input { socket, pipe });
        }
        if let Some(socket) = stream_socket(stdout())? {
            self.pipes[1] = Some(self.output(socket)?);
        }
        if let Some(socket) = stream_socket(stderr())? {
            // One pipe for one socket, so that what is printed stays in order.
            self.pipes[2] = match &self.pipes[1] {
                Some(pipe) if is_same(stdout(), stderr())? => Some(Arc::clone(pipe)),
                _ => Some(self.output(socket)?),
            };
        }
        Ok(())
    }

    fn output(&mut self, socket: OwnedFd) -> io::Result<Arc<OwnedFd>> {
        let (pipe, write) = io::pipe()?;
        set_nonblocking(&pipe)?;
        self.outputs.push(Output { pipe, socket });
        Ok(Arc::new(write.into()))
    }

    /// What the command is to get as its input, output and error.
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        let [input, output, error] = self.pipes.each_ref().map(|pipe| pipe.as_deref());
        [
            input.map_or(stdin(), |pipe| pipe.as_fd()),
            output.map_or(stdout(), |pipe| pipe.as_fd()),
            error.map_or(stderr(), |pipe| pipe.as_fd()),
        ]
    }

    /// The command has them: its ends are closed here, so that its end of file is one.
    pub(super) fn are_handed_over(&mut self) {
        self.pipes = [const { None }; 3];
    }

    /// Copies from now on: the command runs, so what is read is not lost. Does nothing the second time.
    pub(super) fn begin(&mut self) -> Result<(), Failure> {
        if let Some(Input { socket, pipe }) = self.input.take() {
            let ended = Arc::clone(&self.ended);
            spawn(move || copy::in_from(&socket, &pipe, &ended))?;
        }
        for Output { pipe, socket } in self.outputs.drain(..) {
            let (ended, copying) = (Arc::clone(&self.ended), self.copying.clone());
            spawn(move || {
                copy::out_to(&socket, &pipe, &ended);
                drop(copying);
            })?;
        }
        Ok(())
    }

    /// The command has ended: waits until all that it printed is written, or a signal comes.
    pub(super) async fn finish(mut self, signals: &mut Signals) -> Result<(), Failure> {
        self.begin()?;
        drop(self.going_on.take());
        let Self {
            mut done, copying, ..
        } = self;
        drop(copying);
        loop {
            tokio::select! {
                // None: the last sender is gone.
                _ = done.recv() => return Ok(()),
                came = signals.next() => if let Came::Forwarded(_) = came {
                    return Ok(());
                },
            }
        }
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    thread::Builder::new().spawn(work).map(drop).map_err(cannot)
}

fn cannot(error: io::Error) -> Failure {
    Failure::setup(format!("cannot copy the standard streams: {error}"))
}

/// A descriptor of its own for a connected stream socket; others are for clawd to refuse.
fn stream_socket(fd: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    if !FileType::from_raw_mode(fstat(fd)?.st_mode).is_socket() {
        return Ok(None);
    }
    let is_stream = sockopt::socket_type(fd)? == SocketType::STREAM;
    if !is_stream || sockopt::socket_acceptconn(fd)? {
        return Ok(None);
    }
    fd.try_clone_to_owned().map(Some)
}

fn is_same(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> io::Result<bool> {
    let (a, b) = (fstat(a)?, fstat(b)?);
    Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// Of an end that nobody else has.
fn set_nonblocking(pipe: impl std::os::fd::AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&pipe)?;
    Ok(fcntl_setfl(&pipe, flags | OFlags::NONBLOCK)?)
}
