//! What a descriptor is, and which of them stay open.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
};

use libc::c_uint;
use rustix::{
    fs::{FileType, OFlags},
    net::AddressFamily,
};

/// Lets every descriptor from `first` on be closed by the next exec.
///
/// # Errors
/// Those of `close_range(2)`; Linux 5.11 has all that is needed.
pub fn close_from_on_exec(first: u32) -> io::Result<()> {
    close_range(first, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: u32, flags: c_uint) -> io::Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC, the only flag used, no descriptor changes its meaning.
    let returned = unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, flags) };
    crate::check(returned).map(drop)
}

/// Takes over a descriptor that this process was started with.
///
/// # Errors
/// `EBADF` if there is none of that number; `EINVAL` for 0, 1 and 2, which std uses.
///
/// May be called once a number, before anything else opens descriptors: the program's `main` does.
pub fn inherited(number: i32) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: F_GETFD takes integers alone.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    crate::check(flags.into())?;
    // SAFETY: it is open, and by the protocol of the caller nothing in this process owns it yet.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// Why a descriptor must not become a sandbox's standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// A directory or a bare path: everything beneath it could be opened from it.
    Directory,
    /// A block device.
    BlockDevice,
    /// A socket other than a unix one: it was made outside the sandbox, so no hook judges it.
    Socket,
}

/// Whether a sandbox may have this descriptor as a standard stream; `None` if it may.
///
/// # Errors
/// Those of `fstat(2)`, `fcntl(2)` and `getsockopt(2)`.
pub fn unfit_as_stream(fd: BorrowedFd<'_>) -> io::Result<Option<Unfit>> {
    if rustix::fs::fcntl_getfl(fd)?.contains(OFlags::PATH) {
        return Ok(Some(Unfit::Directory));
    }
    Ok(
        match FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) {
            FileType::Directory => Some(Unfit::Directory),
            FileType::BlockDevice => Some(Unfit::BlockDevice),
            FileType::Socket => {
                let unix = rustix::net::sockopt::socket_domain(fd)? == AddressFamily::UNIX;
                (!unix).then_some(Unfit::Socket)
            }
            _ => None,
        },
    )
}

/// Points descriptors 0, 1 and 2 of this process at `/dev/null` of its root.
///
/// # Errors
/// Those of `open(2)` and `dup2(2)`.
pub fn streams_to_null() -> io::Result<()> {
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(null.as_fd())?;
    rustix::stdio::dup2_stdout(null.as_fd())?;
    rustix::stdio::dup2_stderr(null.as_fd())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::{Unfit, inherited, unfit_as_stream};

    #[test]
    fn unfit_as_stream_refuses_what_leads_out_of_the_sandbox() {
        let dir = std::fs::File::open("/").expect("open");
        assert_eq!(
            unfit_as_stream(dir.as_fd()).expect("stat"),
            Some(Unfit::Directory)
        );
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
        assert_eq!(
            unfit_as_stream(socket.as_fd()).expect("stat"),
            Some(Unfit::Socket)
        );
        let (unix, _other) = std::os::unix::net::UnixStream::pair().expect("pair");
        assert_eq!(unfit_as_stream(unix.as_fd()).expect("stat"), None);
        let null = std::fs::File::open("/dev/null").expect("open");
        assert_eq!(unfit_as_stream(null.as_fd()).expect("stat"), None);
    }

    #[test]
    fn inherited_refuses_streams_and_closed_numbers() {
        assert!(inherited(2).is_err());
        assert!(inherited(1_000_000).is_err());
    }
}
