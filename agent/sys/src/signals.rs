//! Signal masks, and waiting for signals.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
};

use libc::c_int;

/// Blocks these signals in this thread, so that [`Pending`] can take them.
///
/// # Errors
/// `EINVAL` for a number that is no signal.
pub fn block(signals: &[c_int]) -> io::Result<()> {
    let set = set_of(signals)?;
    // SAFETY: both pointers are valid or null as the call permits.
    let returned =
        unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    crate::check(returned.into()).map(drop)
}

/// Takes blocked signals as a descriptor, which is readable while one of them is pending.
#[derive(Debug)]
pub struct Pending(OwnedFd);

impl Pending {
    /// Of these signals, which [`block`] has blocked.
    ///
    /// # Errors
    /// Those of `signalfd(2)`; `EINVAL` for a number that is no signal.
    pub fn of(signals: &[c_int]) -> io::Result<Self> {
        let set = set_of(signals)?;
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        crate::check(fd.into())?;
        // SAFETY: the call has just made it, and nothing else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Takes one; `None` if none is pending.
    ///
    /// # Errors
    /// Those of `read(2)`.
    pub fn take(&self) -> io::Result<Option<c_int>> {
        let mut bytes = [0; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.0, &mut bytes) {
            Ok(_whole) => {
                let [a, b, c, d, ..] = bytes;
                Ok(c_int::try_from(u32::from_ne_bytes([a, b, c, d])).ok())
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Pending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Gives every signal its default action and blocks none, as a new program expects.
///
/// An exec keeps ignored signals ignored, and Rust's runtime ignores SIGPIPE.
///
/// # Errors
/// Those of `sigprocmask(2)`.
pub fn reset() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is no pointer to code of ours. KILL, STOP and those that libc keeps to
        // itself are refused, and have their default action already.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let set = set_of(&[])?;
    // SAFETY: both pointers are valid or null as the call permits.
    let returned =
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
    crate::check(returned.into()).map(drop)
}

/// Sends a signal, by number, to one process.
///
/// # Errors
/// Those of `kill(2)`; `EINVAL` for an id that is not of one process.
pub fn send(pid: rustix::process::Pid, signal: c_int) -> io::Result<()> {
    // SAFETY: takes integers alone; `Pid` is positive, so no group is meant.
    let returned = unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) };
    crate::check(returned.into()).map(drop)
}

fn set_of(signals: &[c_int]) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the pointer is valid for writes of a set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: `sigemptyset` has initialised the set; a number that is no signal is refused.
        let returned = unsafe { libc::sigaddset(set.as_mut_ptr(), *signal) };
        crate::check(returned.into())?;
    }
    // SAFETY: `sigemptyset` cannot fail on a valid pointer and initialises every byte.
    Ok(unsafe { set.assume_init() })
}

#[cfg(test)]
mod tests {
    #[test]
    fn set_of_a_number_that_is_no_signal_is_refused() {
        assert!(super::set_of(&[libc::SIGTERM, 4_000]).is_err());
    }
}
