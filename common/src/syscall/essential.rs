//! System calls that no policy can deny.

/// What programs cannot start, run or end without, and what clawd's own first process of a sandbox
/// does under the sandbox's filters: start the command, answer refused calls, let further commands in,
/// reap.
pub const ESSENTIAL: &[&str] = &[
    "accept4",
    "access",
    "arch_prctl",
    "brk",
    "chdir",
    "clock_gettime",
    "clock_nanosleep",
    "clone",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "execve",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fcntl",
    "fork",
    "fstat",
    "futex",
    "getcwd",
    "getdents64",
    "getpid",
    "getppid",
    "getrandom",
    "getrlimit",
    "getsockopt",
    "gettid",
    "ioctl",
    "kill",
    "lseek",
    "lstat",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "newfstatat",
    "open",
    "openat",
    "pipe2",
    "poll",
    "ppoll",
    "prctl",
    "pread64",
    "prlimit64",
    "read",
    "readlink",
    "readlinkat",
    "readv",
    "recvfrom",
    "recvmsg",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "sched_yield",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "set_tid_address",
    "setsid",
    "setsockopt",
    "sigaltstack",
    "signalfd4",
    "stat",
    "statx",
    "tgkill",
    "umask",
    "uname",
    "vfork",
    "wait4",
    "waitid",
    "write",
    "writev",
];

#[cfg(test)]
mod tests {
    use super::ESSENTIAL;
    use crate::syscall::{Arch, number};

    #[test]
    fn essential_calls_exist() {
        for name in ESSENTIAL {
            let exists = Arch::ALL.iter().any(|arch| number(*arch, name).is_some());
            assert!(exists, "{name}");
        }
    }
}
