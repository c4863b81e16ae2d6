//! Starts a program in new namespaces and in a cgroup, from a process with many threads.
//!
//! Between `clone3` and `execveat` the child shares nothing with the other threads but a copy of
//! their memory, in which any lock may be held for ever. So it makes system calls alone: no
//! allocation, no libc wrapper that locks, no panic.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use libc::{c_int, c_long, c_uint};

use crate::keyring::leave_session_keyring;

/// Descriptor of the message channel in the started program.
pub const CHANNEL_FD: c_int = 3;
/// Descriptor of the status pipe in the started program.
pub const STATUS_FD: c_int = 4;
/// Descriptor of the write end of the pipe of refusals in the started program.
pub const REFUSALS_FD: c_int = 5;
/// Descriptor of its read end there: what is not read yet outlives a daemon with it.
pub const REFUSALS_READ_FD: c_int = 6;
/// Descriptor of the listening socket in the started program.
pub const LISTENER_FD: c_int = 7;
/// How many descriptors the started program gets.
const DESCRIPTORS: usize = 8;
/// Where the executable's descriptor is while it is executed; closed by the exec.
const EXE_FD: c_int = 8;
/// Above every descriptor that the child places, so that none is overwritten before it is moved.
const HIGH_FD: c_int = 16;
/// What a child that could not exec exits with; its parent sees the channel end.
const CHILD_FAILED: c_int = 125;

/// What to start, and where.
#[derive(Debug)]
pub struct CloneRequest<'a> {
    /// Directory of the cgroup (v2) that the child is born in.
    pub cgroup: BorrowedFd<'a>,
    /// The program.
    pub exe: BorrowedFd<'a>,
    /// Its arguments, the program's name first. The environment is empty.
    pub argv: &'a [&'a CStr],
    /// Descriptors 0, 1, 2, [`CHANNEL_FD`], [`STATUS_FD`], [`REFUSALS_FD`], [`REFUSALS_READ_FD`] and
    /// [`LISTENER_FD`] of the program; it gets no others.
    pub descriptors: [BorrowedFd<'a>; DESCRIPTORS],
    /// Whether it gets a network namespace of its own; pid, mount, ipc and uts it always gets.
    pub new_network: bool,
}

/// The started process.
#[derive(Debug)]
#[must_use]
pub struct Cloned {
    /// Its id in the caller's pid namespace.
    pub pid: u32,
    /// The process itself, immune to the reuse of ids.
    pub pidfd: OwnedFd,
}

/// Starts a program as pid 1 of new pid, mount, ipc and uts namespaces, with a new session keyring.
///
/// The cgroup namespace is left to the program: with `CLONE_INTO_CGROUP` the kernel would root it
/// at the caller's cgroup (`copy_cgroup_ns` looks at `current`, v6.12). The child dies with the
/// calling *thread* (`PR_SET_PDEATHSIG`) until it clears that.
///
/// A failure after the clone is not reported here: the child is gone, and so is its end of every
/// descriptor.
///
/// # Errors
/// Those of `clone3(2)`.
pub fn spawn_into(request: &CloneRequest<'_>) -> io::Result<Cloned> {
    let mut argv: Vec<*const libc::c_char> = request.argv.iter().map(|a| a.as_ptr()).collect();
    argv.push(std::ptr::null());
    let plan = ChildPlan {
        descriptors: request.descriptors.map(|fd| fd.as_raw_fd()),
        exe: request.exe.as_raw_fd(),
        argv: argv.as_ptr(),
    };
    let namespaces =
        libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    let network = if request.new_network {
        libc::CLONE_NEWNET
    } else {
        0
    };
    let mut pidfd: c_int = -1;
    let mut arguments = CloneArguments {
        flags: flag(namespaces | network | libc::CLONE_PIDFD)
            | CLONE_INTO_CGROUP
            | CLONE_CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd).addr() as u64,
        exit_signal: flag(libc::SIGCHLD),
        cgroup: u64::try_from(request.cgroup.as_raw_fd()).unwrap_or(u64::MAX),
        ..CloneArguments::default()
    };
    // SAFETY: the structure is valid for its size; flags hold neither CLONE_VM nor CLONE_THREAD nor
    // a stack, so the child runs on a copy of this one; the child makes only system calls.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of::<CloneArguments>(),
        )
    };
    if pid == 0 {
        child(&plan);
    }
    let pid = crate::check(pid)?;
    // SAFETY: CLONE_PIDFD stored a new descriptor there on success, which nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = u32::try_from(pid).map_err(io::Error::other)?;
    Ok(Cloned { pid, pidfd })
}

/// `struct clone_args` up to `cgroup` (version 2, 88 bytes).
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}
const _: () = assert!(size_of::<CloneArguments>() == 88);

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A flag word of the C interface as `clone3` takes it; all used here are positive.
const fn flag(word: c_int) -> u64 {
    word.unsigned_abs() as u64
}

/// All that the child needs, made before the clone.
struct ChildPlan {
    descriptors: [c_int; DESCRIPTORS],
    exe: c_int,
    argv: *const *const libc::c_char,
}

/// The child's whole life before its exec.
fn child(plan: &ChildPlan) -> ! {
    prepare_and_exec(plan);
    loop {
        // SAFETY: takes an integer, does not return.
        unsafe { libc::syscall(libc::SYS_exit_group, CHILD_FAILED) };
    }
}

/// Returns only where a step failed.
fn prepare_and_exec(plan: &ChildPlan) {
    // SAFETY: takes integers alone.
    let death = unsafe {
        libc::syscall(
            libc::SYS_prctl,
            libc::PR_SET_PDEATHSIG,
            libc::SIGKILL,
            0,
            0,
            0,
        )
    };
    // Before the exec: the file that it opens keeps the credentials.
    if death == -1 || !unblock_signals() || !leave_session_keyring() {
        return;
    }
    let Some(exe) = duplicate_high(plan.exe) else {
        return;
    };
    let mut high = [-1; DESCRIPTORS];
    for (to, from) in high.iter_mut().zip(plan.descriptors) {
        match duplicate_high(from) {
            Some(fd) => *to = fd,
            None => return,
        }
    }
    for (target, from) in (0..).zip(high) {
        if !place(from, target, 0) {
            return;
        }
    }
    if !place(exe, EXE_FD, libc::O_CLOEXEC) {
        return;
    }
    // SAFETY: closes descriptors of this process, which has no owner of them left that will run.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, EXE_FD + 1, c_uint::MAX, 0) };
    if closed == -1 {
        return;
    }
    let no_environment: [*const libc::c_char; 1] = [std::ptr::null()];
    // SAFETY: the path is an empty C string, `argv` was built null-terminated from live C strings,
    // the environment is null-terminated; on success this image is gone.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            EXE_FD,
            c"".as_ptr(),
            plan.argv,
            no_environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
}

/// The mask is inherited from whichever thread called; a blocked SIGTERM would outlive the exec.
fn unblock_signals() -> bool {
    let none: u64 = 0;
    // SAFETY: the new set is 8 bytes, the kernel's size of a signal set; no old set is asked for.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            std::ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
    returned == 0
}

fn duplicate_high(fd: c_int) -> Option<c_int> {
    // SAFETY: takes integers alone.
    let new = unsafe {
        libc::syscall(
            libc::SYS_fcntl,
            fd,
            libc::F_DUPFD_CLOEXEC,
            c_long::from(HIGH_FD),
        )
    };
    c_int::try_from(new).ok().filter(|new| *new >= HIGH_FD)
}

fn place(from: c_int, to: c_int, flags: c_int) -> bool {
    // SAFETY: takes integers alone; what was open at `to` is the parent's affair, in the parent.
    let returned = unsafe { libc::syscall(libc::SYS_dup3, from, to, flags) };
    returned == c_long::from(to)
}
