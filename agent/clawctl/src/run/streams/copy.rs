//! Copying between a socket that others may use too and a pipe of our own that does not block.

use std::{
    io::{PipeReader, PipeWriter},
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, ioctl_fionread, read, write},
    net::{RecvFlags, SendFlags, recv, send},
};

const BUFFER_BYTES: usize = 64 * 1024;

/// From a socket to the command's standard input, until there is no more, nobody reads it, or the
/// command has ended. Then the pipe is closed.
pub(super) fn in_from(socket: &OwnedFd, pipe: &PipeWriter, ended: &PipeReader) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let Some([is_readable, is_unread, is_over]) = wait([
            PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN),
            // Tells when nobody has its other end.
            PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::empty()),
            PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN),
        ]) else {
            return;
        };
        if is_unread || is_over {
            return;
        }
        if !is_readable {
            continue;
        }
        // Whether it blocks is for all who have the socket, so it is told with each call.
        let count = match recv(socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
            Ok((0, _)) => return,
            Ok((count, _)) => count,
            Err(Errno::AGAIN | Errno::INTR) => continue,
            Err(_) => return,
        };
        if !feed(pipe, buffer.get(..count).unwrap_or_default(), ended) {
            return;
        }
    }
}

/// Whether all was written.
fn feed(pipe: &PipeWriter, mut bytes: &[u8], ended: &PipeReader) -> bool {
    while !bytes.is_empty() {
        match write(pipe, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let ready = wait([
                    PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::OUT),
                    PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN),
                ]);
                if !matches!(ready, Some([_, false])) {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}

/// From the command's output to a socket, until nobody has the pipe open for writing, nobody hears
/// the socket, or all is copied that was in the pipe when the command had ended. Then the pipe is
/// closed, and who still writes is told.
pub(super) fn out_to(socket: &OwnedFd, pipe: &PipeReader, ended: &PipeReader) {
    let mut buffer = vec![0; BUFFER_BYTES];
    // Bytes to go, once the command has ended.
    let mut left = None;
    loop {
        let size = left.map_or(buffer.len(), |left: usize| left.min(buffer.len()));
        if size == 0 {
            return;
        }
        match read(pipe, buffer.get_mut(..size).unwrap_or_default()) {
            Ok(0) => return,
            Ok(count) => {
                if !say(socket, buffer.get(..count).unwrap_or_default()) {
                    return;
                }
                left = left.map(|left| left.saturating_sub(count));
                continue;
            }
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) if left.is_none() => {}
            Err(_) => return,
        }
        let ready = wait([
            PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN),
            // Tells when nobody hears it.
            PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::empty()),
            PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN),
        ]);
        match ready {
            Some([_, false, true]) => {
                // Who stays behind may go on writing for ever.
                let count = ioctl_fionread(pipe).unwrap_or(0);
                left = Some(usize::try_from(count).unwrap_or(usize::MAX));
            }
            Some([_, false, false]) => {}
            _ => return,
        }
    }
}

/// Whether all was written.
fn say(socket: &OwnedFd, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let writable = PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::OUT);
                if wait([writable]).is_none() {
                    return false;
                }
            }
            Err(_) => return false,
        }
    }
    true
}

/// Waits until one of these has something to tell; which.
fn wait<const COUNT: usize>(mut polled: [PollFd<'_>; COUNT]) -> Option<[bool; COUNT]> {
    loop {
        match poll(&mut polled, None) {
            Ok(_) => return Some(polled.each_ref().map(|fd| !fd.revents().is_empty())),
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}
