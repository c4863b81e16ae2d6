//! Forks a process that has one thread, and waits for children.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions};

/// Which side of a fork this is.
#[derive(Clone, Copy, Debug)]
pub enum Fork {
    /// The child.
    Child,
    /// The parent, with the child's id in its own pid namespace.
    Parent(Pid),
}

/// Forks.
///
/// # Errors
/// `EBUSY` if this process has more than one thread: the child could then meet a lock that nobody
/// will release. Else those of `fork(2)`.
pub fn fork_single_threaded() -> io::Result<Fork> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: this is the only thread (checked above, and no other can start one), so the child is
    // an ordinary copy of it.
    let pid = unsafe { libc::fork() };
    crate::check(pid.into())?;
    Ok(Pid::from_raw(pid).map_or(Fork::Child, Fork::Parent))
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this code.
    Exited(i32),
    /// A signal killed it.
    Signalled(i32),
}

/// Reaps one ended child, if there is one.
///
/// # Errors
/// `ECHILD` if there are no children at all.
pub fn reap_any() -> io::Result<Option<(Pid, End)>> {
    loop {
        let Some((pid, status)) = rustix::process::wait(WaitOptions::NOHANG)? else {
            return Ok(None);
        };
        if let Some(code) = status.exit_status() {
            return Ok(Some((pid, End::Exited(code))));
        }
        if let Some(signal) = status.terminating_signal() {
            return Ok(Some((pid, End::Signalled(signal))));
        }
    }
}

/// Kills the process behind a pidfd and takes it out of the process table.
///
/// # Errors
/// Those of `pidfd_send_signal(2)` (but not `ESRCH`) and `waitid(2)`.
pub fn kill_and_reap(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    match rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Gives this process a cgroup namespace rooted at the cgroup that it is in.
///
/// # Errors
/// Those of `unshare(2)`.
pub fn unshare_cgroup_namespace() -> io::Result<()> {
    // SAFETY: CLONE_NEWCGROUP unshares neither memory nor descriptors.
    let returned = unsafe { libc::unshare(libc::CLONE_NEWCGROUP) };
    crate::check(returned.into()).map(drop)
}
