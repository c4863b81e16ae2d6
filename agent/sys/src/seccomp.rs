//! seccomp filters with a listener, and the listener's half of the conversation.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd, OwnedFd},
};

use libc::{c_int, c_ulong};

/// A call that its filter handed over. Its thread waits, and can be ended only by a fatal signal,
/// until the call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Names it towards the kernel; never used again.
    pub id: u64,
    /// The thread, in the caller's pid namespace; 0 where it is not visible there.
    pub tid: u32,
    /// The number of the call.
    pub number: u32,
    /// `AUDIT_ARCH_*` of the table that the number is of.
    pub arch: u32,
    /// The registers, as they were.
    pub arguments: [u64; 6],
}

/// Puts a filter in force for this thread and all that it starts, and returns the listener to which
/// it hands over the calls that it answers with `SECCOMP_RET_USER_NOTIF`. Once every copy of the
/// listener is closed the kernel answers those with `ENOSYS`.
///
/// # Errors
/// `EBUSY` if a filter of this thread's has a listener already; else those of `seccomp(2)`.
pub fn install_with_listener(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len())
            .map_err(|_long| io::Error::from_raw_os_error(libc::EINVAL))?,
        filter: program.as_ptr().cast_mut(),
    };
    let flags: c_ulong =
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    // SAFETY: the program is valid for its length, and the kernel only reads it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    };
    let fd = c_int::try_from(crate::check(fd)?).map_err(io::Error::other)?;
    // SAFETY: the call has just made it, close-on-exec, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes the next call; to be asked when the listener is readable. `None` where whoever made it is
/// gone.
///
/// # Errors
/// Those of `ioctl(2)`.
pub fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Notification>> {
    // SAFETY: integers alone, for which zeros are values; the kernel demands them.
    let mut notif: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is valid for writes of the structure whose size the request names.
    let returned = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            &raw mut notif,
        )
    };
    match crate::check(returned.into()) {
        Ok(_) => Ok(Some(Notification {
            id: notif.id,
            tid: notif.pid,
            number: notif.data.nr.cast_unsigned(),
            arch: notif.data.arch,
            arguments: notif.data.args,
        })),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a call still waits for its answer: what was read of its thread meanwhile was read of that
/// thread, and not of another with its number.
#[must_use]
pub fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the pointer is valid for reads of the number whose size the request names.
    let returned = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_ID_VALID,
            &raw const id,
        )
    };
    returned == 0
}

/// Answers a call with an error, so that it is not made. Whoever is gone needs no answer.
///
/// # Errors
/// Those of `ioctl(2)`.
pub fn refuse(listener: BorrowedFd<'_>, id: u64, errno: c_int) -> io::Result<()> {
    let answer = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: -errno.abs(),
        flags: 0,
    };
    // SAFETY: the pointer is valid for reads of the structure whose size the request names.
    let returned = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw const answer,
        )
    };
    match crate::check(returned.into()) {
        Err(error) if !is_gone(&error) => Err(error),
        _ => Ok(()),
    }
}

/// `ENOENT`, and an interruption, after which the listener is readable again.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR))
}
