//! Signal masks, and waiting for signals.

use std::{io, mem::MaybeUninit};

use libc::c_int;

/// Blocks these signals in this thread, so that [`wait_for`] can take them.
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

/// Waits until one of these blocked signals is pending, and returns its number.
///
/// # Errors
/// Those of `sigwaitinfo(2)`; an interruption is waited out.
pub fn wait_for(signals: &[c_int]) -> io::Result<c_int> {
    let set = set_of(signals)?;
    loop {
        // SAFETY: the set is initialised; no details are asked for.
        let returned = unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) };
        if returned > 0 {
            return Ok(returned);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
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
