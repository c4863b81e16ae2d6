//! Descriptors and credentials over a unix socket.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Most descriptors that one message may carry here.
pub const DESCRIPTORS_MAX: usize = 8;

/// Who is at the other end of a unix socket: as it was when it connected, told by the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Process id in the caller's pid namespace.
    pub pid: u32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// Asks the kernel who is at the other end.
///
/// # Errors
/// Those of `getsockopt(2)`.
pub fn peer(socket: impl AsFd) -> io::Result<Peer> {
    let peer = rustix::net::sockopt::socket_peercred(socket)?;
    Ok(Peer {
        pid: peer.pid.as_raw_nonzero().get().unsigned_abs(),
        uid: peer.uid.as_raw(),
        gid: peer.gid.as_raw(),
    })
}

/// The effective user id of who is at the other end, as it was when it connected; for callers in a
/// pid namespace in which that process has no id.
///
/// # Errors
/// Those of `getsockopt(2)`.
pub fn peer_uid(socket: impl AsFd) -> io::Result<u32> {
    /// `struct ucred`.
    const PEER_BYTES: libc::socklen_t = 12;
    const _: () = assert!(size_of::<libc::ucred>() == PEER_BYTES as usize);
    let mut peer = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut len = PEER_BYTES;
    // SAFETY: `peer` is valid for writes of `len` bytes, and any bytes are a `ucred`.
    let returned = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut len,
        )
    };
    crate::check(returned.into())?;
    Ok(peer.uid)
}

/// Sends bytes with descriptors; returns how many bytes went (the descriptors go with the first).
///
/// # Errors
/// `EINVAL` for no bytes or more than [`DESCRIPTORS_MAX`] descriptors, else those of `sendmsg(2)`.
pub fn send_with_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    if bytes.is_empty() || fds.len() > DESCRIPTORS_MAX {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let sent = rustix::net::sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(sent)
}

/// Receives bytes and the descriptors that came with them, all of them close-on-exec. 0 bytes: the
/// other end is closed.
///
/// # Errors
/// `EBADMSG` where descriptors were lost on the way or more than `max` came; those that did come
/// are closed. Else those of `recvmsg(2)`.
pub fn recv_with_fds(
    socket: impl AsFd,
    bytes: &mut [u8],
    max: usize,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if got.flags.contains(ReturnFlags::CTRUNC) || fds.len() > max {
        return Err(io::Error::from_raw_os_error(libc::EBADMSG));
    }
    Ok((got.bytes, fds))
}

/// Has the kernel tell, with each message that comes, which process sent it.
///
/// # Errors
/// Those of `setsockopt(2)`.
pub fn tell_senders(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_socket_passcred(socket, true)?)
}

/// Receives bytes, and the process that sent them as the kernel knows it: its id in the caller's
/// pid namespace. `None` for what was sent before [`tell_senders`]. No descriptors are taken.
///
/// # Errors
/// Those of `recvmsg(2)`.
pub fn recv_with_sender(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Option<u32>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let sender = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid),
        _ => None,
    });
    let pid = sender.map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    Ok((got.bytes, pid))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::{fd::AsFd, unix::net::UnixStream},
    };

    use super::{peer, peer_uid, recv_with_fds, recv_with_sender, send_with_fds, tell_senders};

    #[test]
    fn descriptors_arrive_open_and_close_on_exec() {
        let (here, there) = UnixStream::pair().expect("pair");
        let (mut reader, writer) = std::io::pipe().expect("pipe");
        assert_eq!(
            send_with_fds(&here, b"x", &[writer.as_fd()]).expect("send"),
            1
        );
        drop(writer);
        let mut bytes = [0; 8];
        let (count, mut fds) = recv_with_fds(&there, &mut bytes, 1).expect("receive");
        assert_eq!((count, fds.len()), (1, 1));
        let fd = fds.pop().expect("one");
        let flags = rustix::io::fcntl_getfd(&fd).expect("flags");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        std::fs::File::from(fd)
            .write_all(b"through")
            .expect("write");
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "through");
    }

    #[test]
    fn more_descriptors_than_asked_for_are_refused() {
        let (here, there) = UnixStream::pair().expect("pair");
        let fd = here.as_fd();
        assert!(send_with_fds(&here, b"x", &[fd, fd]).is_ok());
        assert!(recv_with_fds(&there, &mut [0; 8], 1).is_err());
        assert!(send_with_fds(&here, b"", &[fd]).is_err());
        assert!(send_with_fds(&here, b"x", &[fd; 9]).is_err());
    }

    #[test]
    fn sender_is_told_for_what_is_sent_after_it_was_asked_for() {
        let (here, there) = UnixStream::pair().expect("pair");
        let mut bytes = [0; 8];
        tell_senders(&there).expect("asked");
        assert!(send_with_fds(&here, b"x", &[]).is_ok());
        let got = recv_with_sender(&there, &mut bytes).expect("receive");
        assert_eq!(got, (1, Some(std::process::id())));
        drop(here);
        let end = recv_with_sender(&there, &mut bytes).expect("receive");
        assert_eq!(end.0, 0);
    }

    #[test]
    fn peer_is_this_process() {
        let (here, _there) = UnixStream::pair().expect("pair");
        assert_eq!(peer(&here).expect("peer").pid, std::process::id());
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(peer_uid(&here).expect("peer"), uid);
    }
}
