//! What a descriptor is, and which of them stay open.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd, OwnedFd},
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

/// Closes every descriptor above 2 but these. For a forked half that will never return to the code
/// that owns the others, nor use them.
pub fn close_all_but(kept: &[BorrowedFd<'_>]) {
    let mut kept: Vec<u32> = kept
        .iter()
        .filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok())
        .collect();
    kept.sort_unstable();
    let mut first: c_uint = 3;
    for fd in kept {
        if fd > first {
            close_between(first, fd - 1);
        }
        first = first.max(fd.saturating_add(1));
    }
    close_between(first, c_uint::MAX);
}

fn close_between(first: c_uint, last: c_uint) {
    // SAFETY: takes integers alone; that nobody uses what is closed is the caller's promise. It can
    // only fail for a range that is none, or an unknown flag.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) };
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
    /// A socket: it was made outside the sandbox, so no hook judges it; and through a unix one more
    /// descriptors could come.
    Socket,
    /// What has no type of file: an epoll, a map, a ring of `io_uring`, another process.
    Handle,
}

/// Whether a sandbox may have this descriptor as a standard stream; `None` if it may: a file, a pipe, a
/// character device.
///
/// # Errors
/// Those of `fstat(2)` and `fcntl(2)`.
pub fn unfit_as_stream(fd: BorrowedFd<'_>) -> io::Result<Option<Unfit>> {
    if rustix::fs::fcntl_getfl(fd)?.contains(OFlags::PATH) {
        return Ok(Some(Unfit::Directory));
    }
    Ok(
        match FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode) {
            FileType::Directory => Some(Unfit::Directory),
            FileType::BlockDevice => Some(Unfit::BlockDevice),
            FileType::Socket => Some(Unfit::Socket),
            FileType::RegularFile | FileType::Fifo | FileType::CharacterDevice => None,
            _ => Some(Unfit::Handle),
        },
    )
}

/// Whether a descriptor is a unix socket.
///
/// # Errors
/// Those of `fstat(2)` and `getsockopt(2)`.
pub fn is_unix_socket(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode);
    Ok(kind == FileType::Socket && rustix::net::sockopt::socket_domain(fd)? == AddressFamily::UNIX)
}

/// Points descriptors 0, 1 and 2 of this process at `null`.
///
/// # Errors
/// Those of `dup2(2)`.
pub fn point_streams_at(null: BorrowedFd<'_>) -> io::Result<()> {
    rustix::stdio::dup2_stdin(null)?;
    rustix::stdio::dup2_stdout(null)?;
    rustix::stdio::dup2_stderr(null)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::{Unfit, inherited, is_unix_socket, unfit_as_stream};

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
        assert_eq!(
            unfit_as_stream(unix.as_fd()).expect("stat"),
            Some(Unfit::Socket)
        );
        let handle = rustix::process::pidfd_open(
            rustix::process::getpid(),
            rustix::process::PidfdFlags::empty(),
        )
        .expect("a handle of this process");
        assert_eq!(
            unfit_as_stream(handle.as_fd()).expect("stat"),
            Some(Unfit::Handle)
        );
        let (pipe, _end) = std::io::pipe().expect("pipe");
        assert_eq!(unfit_as_stream(pipe.as_fd()).expect("stat"), None);
        assert!(is_unix_socket(unix.as_fd()).expect("stat"));
        assert!(!is_unix_socket(socket.as_fd()).expect("stat"));
        let null = std::fs::File::open("/dev/null").expect("open");
        assert_eq!(unfit_as_stream(null.as_fd()).expect("stat"), None);
        assert!(!is_unix_socket(null.as_fd()).expect("stat"));
    }

    #[test]
    fn inherited_refuses_streams_and_closed_numbers() {
        assert!(inherited(2).is_err());
        assert!(inherited(1_000_000).is_err());
    }
}
