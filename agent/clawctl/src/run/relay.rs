//! Bytes between this terminal and the command's.
//!
//! Two threads, because either direction may have to wait for the other: a program that does not
//! read while it prints must not stop what it prints. Both wait for what can be read or written, and
//! for the end, so they can always be ended.

use std::{
    io::{self, PipeReader, PipeWriter, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    io::{Errno, read, retry_on_intr, write},
};
use tokio::sync::oneshot;

use super::terminal::{Raw, resize};
use crate::failure::Failure;

/// How long the command's terminal must be silent after the command's end. What a program has
/// printed is there at once; one that stays behind may hold the terminal open for ever.
const SILENCE: Duration = Duration::from_millis(100);
const BUFFER_BYTES: usize = 16 * 1024;

/// This terminal and the command's, joined.
pub(super) struct Relay {
    command: Arc<OwnedFd>,
    output: JoinHandle<()>,
    input: Option<JoinHandle<()>>,
    /// Closed to end both.
    going_on: PipeWriter,
    /// Last: the terminal is put back once nothing reads from it.
    raw: Raw,
}

// === impl Relay ===

impl Relay {
    /// Joins them, with this terminal in raw mode; `hung_up` is told when this one is gone.
    pub(super) fn start(command: OwnedFd, hung_up: oneshot::Sender<()>) -> Result<Self, Failure> {
        let raw = Raw::enter()?;
        let (command, ended, going_on) = prepare(command)?;
        // Its size may have changed since it was asked for.
        resize(&*command).map_err(|error| cannot(error.into()))?;
        let output = output(&command, &ended)?;
        let input = {
            let command = Arc::clone(&command);
            spawn(move || {
                if type_in(&command, &ended).is_hung_up() {
                    // Nobody waits for it where the command has ended.
                    let _ended = hung_up.send(());
                }
            })?
        };
        Ok(Self {
            command,
            output,
            input: Some(input),
            going_on,
            raw,
        })
    }

    /// Only shows what a command has printed that has ended already: as it is, so in raw mode.
    pub(super) fn show(command: OwnedFd) -> Result<Self, Failure> {
        let raw = Raw::enter()?;
        let (command, ended, going_on) = prepare(command)?;
        let output = output(&command, &ended)?;
        Ok(Self {
            command,
            output,
            input: None,
            going_on,
            raw,
        })
    }

    /// Makes the command's terminal as large as this one is now.
    pub(super) fn resize(&self) {
        // A terminal that is gone has no size.
        let _gone = resize(&*self.command);
    }

    /// Shows what is left, and puts this terminal back.
    pub(super) fn finish(self) {
        let Self {
            output,
            input,
            going_on,
            raw,
            ..
        } = self;
        drop(going_on);
        // A thread that panicked has said so; the terminal is put back all the same.
        drop(output.join());
        if let Some(input) = input {
            drop(input.join());
        }
        drop(raw);
    }
}

fn prepare(command: OwnedFd) -> Result<(Arc<OwnedFd>, Arc<PipeReader>, PipeWriter), Failure> {
    // Nobody else has this side of it.
    let flags = fcntl_getfl(&command).map_err(|error| cannot(error.into()))?;
    fcntl_setfl(&command, flags | OFlags::NONBLOCK).map_err(|error| cannot(error.into()))?;
    let (ended, going_on) = io::pipe().map_err(cannot)?;
    Ok((Arc::new(command), Arc::new(ended), going_on))
}

fn output(command: &Arc<OwnedFd>, ended: &Arc<PipeReader>) -> Result<JoinHandle<()>, Failure> {
    let (command, ended) = (Arc::clone(command), Arc::clone(ended));
    spawn(move || show(&command, &ended))
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Failure> {
    thread::Builder::new().spawn(work).map_err(cannot)
}

fn cannot(error: io::Error) -> Failure {
    Failure::setup(format!("cannot use the command's terminal: {error}"))
}

/// From the command's terminal to standard output, until nobody has it open, or until it is silent
/// after the end.
fn show(command: &OwnedFd, ended: &PipeReader) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut patience = None;
    loop {
        let wait_for_end = patience.is_none().then_some(ended);
        match wait(command.as_fd(), PollFlags::IN, wait_for_end, patience) {
            Ok(Ready::Ended) => patience = Some(SILENCE),
            Ok(Ready::Silent) | Err(_) => return,
            Ok(Ready::Now) => match read(command, buffer.as_mut_slice()) {
                Ok(0) => return,
                Ok(count) => print(buffer.get(..count).unwrap_or_default()),
                Err(Errno::AGAIN | Errno::INTR) => {}
                // EIO: no program has it open any more, and all was read.
                Err(_) => return,
            },
        }
    }
}

fn print(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    // Whoever does not read any more must not keep the command from printing.
    drop(stdout.write_all(bytes).and_then(|()| stdout.flush()));
}

/// Why typing ended.
enum Typed {
    HungUp,
    Ended,
}

impl Typed {
    const fn is_hung_up(&self) -> bool {
        matches!(self, Self::HungUp)
    }
}

/// From standard input to the command's terminal. In raw mode there is no end of a file but a
/// terminal that is gone.
fn type_in(command: &OwnedFd, ended: &PipeReader) -> Typed {
    let stdin = io::stdin();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match wait(stdin.as_fd(), PollFlags::IN, Some(ended), None) {
            Ok(Ready::Now) => {}
            Ok(Ready::Ended | Ready::Silent) => return Typed::Ended,
            Err(_) => return Typed::HungUp,
        }
        let count = match retry_on_intr(|| read(&stdin, buffer.as_mut_slice())) {
            Ok(0) => return Typed::HungUp,
            Ok(count) => count,
            Err(Errno::AGAIN) => continue,
            Err(_) => return Typed::HungUp,
        };
        if !write_all(command, buffer.get(..count).unwrap_or_default(), ended) {
            return Typed::Ended;
        }
    }
}

/// Whether all was written.
fn write_all(command: &OwnedFd, mut bytes: &[u8], ended: &PipeReader) -> bool {
    while !bytes.is_empty() {
        match write(command, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let ready = wait(command.as_fd(), PollFlags::OUT, Some(ended), None);
                if !matches!(ready, Ok(Ready::Now)) {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}

/// What a wait ended with.
enum Ready {
    Now,
    Ended,
    Silent,
}

/// Waits until `fd` has something to do, the end has come, or `patience` is over.
fn wait(
    fd: BorrowedFd<'_>,
    flags: PollFlags,
    ended: Option<&PipeReader>,
    patience: Option<Duration>,
) -> rustix::io::Result<Ready> {
    let patience = patience.and_then(|patience| Timespec::try_from(patience).ok());
    let mut polled = vec![PollFd::from_borrowed_fd(fd, flags)];
    polled.extend(ended.map(|ended| PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN)));
    loop {
        match poll(&mut polled, patience.as_ref()) {
            Ok(0) => return Ok(Ready::Silent),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
            Ok(_) => {
                let is_ready = |number: usize| {
                    let polled = polled.get(number);
                    polled.is_some_and(|polled| !polled.revents().is_empty())
                };
                return Ok(if is_ready(1) {
                    Ready::Ended
                } else {
                    Ready::Now
                });
            }
        }
    }
}
