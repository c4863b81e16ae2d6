//! System calls that sandboxes are refused, and why.

/// What a call would be good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// As in its manual page.
    pub name: &'static str,
    /// What it would be good for.
    pub why: &'static str,
    /// Whether a policy may allow it: the boundary does not rest on its refusal.
    pub policy_may_allow: bool,
}

const OTHER_PROCESS: &str = "reads or changes another process, which may have grants of its own";
const KERNEL_CODE: &str = "loads code or rules into the kernel";
const UNSEEN_CALLS: &str = "makes system calls that no filter sees";
const SHARED_KEYS: &str = "reaches keys of the user outside the sandbox";
const MOUNTS: &str = "changes the mount view";
const NAMESPACES: &str = "leaves or makes namespaces";
const HOST: &str = "changes the whole host";
const PORTS: &str = "reaches hardware ports";
const HANDLES: &str = "opens files by number, past the mount view";
const WATCHES: &str = "watches or holds file accesses of others";
const KERNEL_BUGS: &str = "is old or rare, and often at the root of kernel exploits";

const fn never(name: &'static str, why: &'static str) -> Refused {
    Refused {
        name,
        why,
        policy_may_allow: false,
    }
}

const fn hardening(name: &'static str, why: &'static str) -> Refused {
    Refused {
        name,
        why,
        policy_may_allow: true,
    }
}

/// Refused whatever the arguments. Not every architecture has all of them.
pub const REFUSED: &[Refused] = &[
    never("ptrace", OTHER_PROCESS),
    never("process_vm_readv", OTHER_PROCESS),
    never("process_vm_writev", OTHER_PROCESS),
    never("process_madvise", OTHER_PROCESS),
    never("pidfd_getfd", "takes descriptors of another process"),
    hardening(
        "kcmp",
        "tells how the kernel's memory is laid out, by comparing processes",
    ),
    hardening(
        "move_pages",
        "moves memory of another process, and was at the root of kernel exploits",
    ),
    hardening(
        "migrate_pages",
        "moves memory of another process, and was at the root of kernel exploits",
    ),
    never("bpf", KERNEL_CODE),
    hardening("perf_event_open", KERNEL_BUGS),
    hardening("userfaultfd", "stops the kernel in the middle of a copy"),
    hardening("memfd_secret", "hides memory from the operator"),
    never("io_uring_setup", UNSEEN_CALLS),
    never("io_uring_enter", UNSEEN_CALLS),
    never("io_uring_register", UNSEEN_CALLS),
    never("keyctl", SHARED_KEYS),
    never("add_key", SHARED_KEYS),
    never("request_key", SHARED_KEYS),
    never("mount", MOUNTS),
    never("umount2", MOUNTS),
    never("open_tree", MOUNTS),
    never("open_tree_attr", MOUNTS),
    never("move_mount", MOUNTS),
    never("fsopen", MOUNTS),
    never("fsconfig", MOUNTS),
    never("fsmount", MOUNTS),
    never("fspick", MOUNTS),
    never("mount_setattr", MOUNTS),
    never("pivot_root", MOUNTS),
    never("chroot", MOUNTS),
    never("unshare", NAMESPACES),
    never("setns", NAMESPACES),
    never("init_module", KERNEL_CODE),
    never("finit_module", KERNEL_CODE),
    never("delete_module", KERNEL_CODE),
    never("kexec_load", KERNEL_CODE),
    never("kexec_file_load", KERNEL_CODE),
    never("reboot", HOST),
    never("swapon", HOST),
    never("swapoff", HOST),
    never("settimeofday", HOST),
    never("clock_settime", HOST),
    never("adjtimex", HOST),
    never("clock_adjtime", HOST),
    never("sethostname", HOST),
    never("setdomainname", HOST),
    never("quotactl", HOST),
    never("quotactl_fd", HOST),
    never("syslog", "reads the kernel's log, addresses included"),
    never("acct", HOST),
    never("vhangup", HOST),
    never("nfsservctl", KERNEL_BUGS),
    never("lookup_dcookie", HANDLES),
    never("open_by_handle_at", HANDLES),
    hardening(
        "name_to_handle_at",
        "tells the numbers by which files are opened past the mount view",
    ),
    never("fanotify_init", WATCHES),
    never("fanotify_mark", WATCHES),
    never("iopl", PORTS),
    never("ioperm", PORTS),
    hardening("modify_ldt", KERNEL_BUGS),
    never("uselib", KERNEL_BUGS),
    never("_sysctl", KERNEL_BUGS),
    hardening("sysfs", KERNEL_BUGS),
    hardening("ustat", KERNEL_BUGS),
];

const EXECUTABLE_MEMORY: &str = "makes memory executable that was, or can be, written";

/// Refused in some of their uses, which their arguments tell.
pub const JUDGED: &[Refused] = &[
    never("clone", "makes namespaces"),
    hardening(
        "personality",
        "turns address randomisation and other protections off",
    ),
    never(
        "prctl",
        "forges which executable the process runs (PR_SET_MM_EXE_FILE)",
    ),
    never(
        "prlimit64",
        "takes descriptors or memory from the process that tells of refused calls",
    ),
    never(
        "ioctl",
        "types into the terminal of whoever started the sandbox, or has the kernel load a line discipline for it",
    ),
    never("socket", "reaches what no hook judges"),
    never("socketpair", "reaches protocols that no hook judges"),
    never(
        "seccomp",
        "answers another program's calls, and so gets what that one was granted",
    ),
    never(
        "setsockopt",
        "sends packets by way of another host than the one that was judged",
    ),
];

/// What profile `strict` refuses besides, in some of their uses or in all.
pub const STRICT: &[Refused] = &[
    never("mmap", EXECUTABLE_MEMORY),
    never("mprotect", EXECUTABLE_MEMORY),
    never("pkey_mprotect", EXECUTABLE_MEMORY),
    never("shmat", EXECUTABLE_MEMORY),
    never(
        "memfd_create",
        "makes files without a name, which can be written and then executed",
    ),
];

/// What a call that sandboxes are refused would be good for, by its name.
#[must_use]
pub fn refused(name: &str) -> Option<&'static Refused> {
    let mut all = REFUSED.iter().chain(JUDGED).chain(STRICT);
    all.find(|refused| refused.name == name)
}

#[cfg(test)]
mod tests {
    use super::{JUDGED, REFUSED, STRICT};
    use crate::syscall::{Arch, number};

    #[test]
    fn list_names_each_call_once_and_one_that_exists() {
        let all: Vec<_> = REFUSED.iter().chain(JUDGED).chain(STRICT).collect();
        for (at, refused) in all.iter().enumerate() {
            let exists = Arch::ALL
                .iter()
                .any(|arch| number(*arch, refused.name).is_some());
            assert!(exists, "{}", refused.name);
            assert!(!refused.why.is_empty());
            let earlier = &all[..at];
            assert!(
                earlier.iter().all(|other| other.name != refused.name),
                "{}",
                refused.name
            );
        }
    }
}
