//! The deny list, as data: what is refused, under which arguments, and why.

use libc::{
    AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET,
    CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS, IPPROTO_MPTCP, IPPROTO_TCP,
    IPPROTO_UDP, PR_SET_MM, SOCK_DCCP, SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET, TIOCLINUX, TIOCSTI,
};

use crate::spec::Profile;

/// One refused system call.
#[derive(Clone, Debug)]
pub(super) struct Deny {
    /// As in its manual page.
    pub(super) name: &'static str,
    /// Of this architecture.
    pub(super) number: i64,
    /// Refused if any of these holds in all its conditions; without any, always.
    pub(super) when: Vec<Vec<Condition>>,
    /// What it would be good for.
    pub(super) why: &'static str,
}

/// A test of one argument of type `int`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condition {
    /// Position, from 0.
    pub(super) argument: u8,
    /// How it is compared.
    pub(super) test: Test,
    /// With what.
    pub(super) value: u32,
}

/// A comparison.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    /// Equal.
    Is,
    /// Not equal.
    IsNot,
    /// Equal in these bits.
    MaskedIs(u32),
}

/// Not in every libc: the same number on all architectures.
const OPEN_TREE_ATTR: i64 = 467;

const OTHER_PROCESS: &str = "reads or changes another process, which may have grants of its own";
const KERNEL_CODE: &str = "loads code or rules into the kernel";
const UNSEEN_CALLS: &str = "makes system calls that no filter sees";
const SHARED_KEYS: &str = "reaches keys of the user outside the sandbox";
const MOUNTS: &str = "changes the mount view";
const NAMESPACES: &str = "leaves or makes namespaces";
const HOST: &str = "changes the whole host";
const HANDLES: &str = "opens files by number, past the mount view";
const WATCHES: &str = "watches or holds file accesses of others";
const KERNEL_BUGS: &str = "is old or rare, and often at the root of kernel exploits";

/// The list of a profile.
pub(super) fn list(profile: Profile) -> Vec<Deny> {
    let mut list: Vec<Deny> = ALWAYS
        .iter()
        .chain(ALWAYS_HERE)
        .map(|(name, number, why)| Deny {
            name,
            number: *number,
            when: Vec::new(),
            why,
        })
        .collect();
    list.extend(by_argument(profile));
    list
}

/// Refused whatever the arguments, on every architecture.
const ALWAYS: &[(&str, i64, &str)] = &[
    ("ptrace", libc::SYS_ptrace, OTHER_PROCESS),
    (
        "process_vm_readv",
        libc::SYS_process_vm_readv,
        OTHER_PROCESS,
    ),
    (
        "process_vm_writev",
        libc::SYS_process_vm_writev,
        OTHER_PROCESS,
    ),
    ("process_madvise", libc::SYS_process_madvise, OTHER_PROCESS),
    (
        "pidfd_getfd",
        libc::SYS_pidfd_getfd,
        "takes descriptors of another process",
    ),
    ("kcmp", libc::SYS_kcmp, OTHER_PROCESS),
    ("move_pages", libc::SYS_move_pages, OTHER_PROCESS),
    ("migrate_pages", libc::SYS_migrate_pages, OTHER_PROCESS),
    ("bpf", libc::SYS_bpf, KERNEL_CODE),
    ("perf_event_open", libc::SYS_perf_event_open, KERNEL_BUGS),
    (
        "userfaultfd",
        libc::SYS_userfaultfd,
        "stops the kernel in the middle of a copy",
    ),
    (
        "memfd_secret",
        libc::SYS_memfd_secret,
        "hides memory from the operator",
    ),
    ("io_uring_setup", libc::SYS_io_uring_setup, UNSEEN_CALLS),
    ("io_uring_enter", libc::SYS_io_uring_enter, UNSEEN_CALLS),
    (
        "io_uring_register",
        libc::SYS_io_uring_register,
        UNSEEN_CALLS,
    ),
    ("keyctl", libc::SYS_keyctl, SHARED_KEYS),
    ("add_key", libc::SYS_add_key, SHARED_KEYS),
    ("request_key", libc::SYS_request_key, SHARED_KEYS),
    ("mount", libc::SYS_mount, MOUNTS),
    ("umount2", libc::SYS_umount2, MOUNTS),
    ("open_tree", libc::SYS_open_tree, MOUNTS),
    ("open_tree_attr", OPEN_TREE_ATTR, MOUNTS),
    ("move_mount", libc::SYS_move_mount, MOUNTS),
    ("fsopen", libc::SYS_fsopen, MOUNTS),
    ("fsconfig", libc::SYS_fsconfig, MOUNTS),
    ("fsmount", libc::SYS_fsmount, MOUNTS),
    ("fspick", libc::SYS_fspick, MOUNTS),
    ("mount_setattr", libc::SYS_mount_setattr, MOUNTS),
    ("pivot_root", libc::SYS_pivot_root, MOUNTS),
    ("chroot", libc::SYS_chroot, MOUNTS),
    ("unshare", libc::SYS_unshare, NAMESPACES),
    ("setns", libc::SYS_setns, NAMESPACES),
    ("init_module", libc::SYS_init_module, KERNEL_CODE),
    ("finit_module", libc::SYS_finit_module, KERNEL_CODE),
    ("delete_module", libc::SYS_delete_module, KERNEL_CODE),
    ("kexec_load", libc::SYS_kexec_load, KERNEL_CODE),
    ("reboot", libc::SYS_reboot, HOST),
    ("swapon", libc::SYS_swapon, HOST),
    ("swapoff", libc::SYS_swapoff, HOST),
    ("settimeofday", libc::SYS_settimeofday, HOST),
    ("clock_settime", libc::SYS_clock_settime, HOST),
    ("adjtimex", libc::SYS_adjtimex, HOST),
    ("clock_adjtime", libc::SYS_clock_adjtime, HOST),
    ("sethostname", libc::SYS_sethostname, HOST),
    ("setdomainname", libc::SYS_setdomainname, HOST),
    ("quotactl", libc::SYS_quotactl, HOST),
    ("quotactl_fd", libc::SYS_quotactl_fd, HOST),
    (
        "syslog",
        libc::SYS_syslog,
        "reads the kernel's log, addresses included",
    ),
    ("acct", libc::SYS_acct, HOST),
    ("vhangup", libc::SYS_vhangup, HOST),
    ("nfsservctl", libc::SYS_nfsservctl, KERNEL_BUGS),
    ("lookup_dcookie", libc::SYS_lookup_dcookie, HANDLES),
    ("open_by_handle_at", libc::SYS_open_by_handle_at, HANDLES),
    ("name_to_handle_at", libc::SYS_name_to_handle_at, HANDLES),
    ("fanotify_init", libc::SYS_fanotify_init, WATCHES),
    ("fanotify_mark", libc::SYS_fanotify_mark, WATCHES),
];

/// Refused whatever the arguments, and not on every architecture.
#[cfg(target_arch = "x86_64")]
const ALWAYS_HERE: &[(&str, i64, &str)] = &[
    ("kexec_file_load", libc::SYS_kexec_file_load, KERNEL_CODE),
    ("iopl", libc::SYS_iopl, "reaches hardware ports"),
    ("ioperm", libc::SYS_ioperm, "reaches hardware ports"),
    ("modify_ldt", libc::SYS_modify_ldt, KERNEL_BUGS),
    ("uselib", libc::SYS_uselib, KERNEL_BUGS),
    ("_sysctl", libc::SYS__sysctl, KERNEL_BUGS),
    ("sysfs", libc::SYS_sysfs, KERNEL_BUGS),
    ("ustat", libc::SYS_ustat, KERNEL_BUGS),
];
/// Refused whatever the arguments, and not on every architecture.
#[cfg(target_arch = "aarch64")]
const ALWAYS_HERE: &[(&str, i64, &str)] =
    &[("kexec_file_load", libc::SYS_kexec_file_load, KERNEL_CODE)];

fn by_argument(profile: Profile) -> [Deny; 8] {
    /// `PER_LINUX`, and the value that asks without changing.
    const PERSONALITIES: [u32; 2] = [0, u32::MAX];
    let personality = PERSONALITIES.map(|value| is_not(0, value)).to_vec();
    [
        Deny {
            name: "clone",
            number: libc::SYS_clone,
            when: [
                CLONE_NEWNS,
                CLONE_NEWCGROUP,
                CLONE_NEWUTS,
                CLONE_NEWIPC,
                CLONE_NEWUSER,
                CLONE_NEWPID,
                CLONE_NEWNET,
            ]
            .map(|flag| vec![has(0, word(flag), word(flag))])
            .to_vec(),
            why: NAMESPACES,
        },
        Deny {
            name: "personality",
            number: libc::SYS_personality,
            when: vec![personality],
            why: "turns address randomisation and other protections off",
        },
        Deny {
            name: "prctl",
            number: libc::SYS_prctl,
            when: vec![vec![is(0, word(PR_SET_MM))]],
            why: "forges which executable the process runs (PR_SET_MM_EXE_FILE)",
        },
        Deny {
            name: "ioctl",
            number: libc::SYS_ioctl,
            when: [TIOCSTI, TIOCLINUX]
                .map(|request| vec![is(1, low(request))])
                .to_vec(),
            why: "types into the terminal of whoever started the sandbox",
        },
        Deny {
            name: "socket",
            number: libc::SYS_socket,
            when: sockets(profile),
            why: "reaches what no hook judges",
        },
        Deny {
            name: "socketpair",
            number: libc::SYS_socketpair,
            when: vec![vec![is_not(0, word(AF_UNIX))]],
            why: "reaches protocols that no hook judges",
        },
        Deny {
            name: "seccomp",
            number: libc::SYS_seccomp,
            // `SECCOMP_SET_MODE_FILTER` with `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
            when: vec![vec![is(0, 1), has(1, 8, 8)]],
            why: "answers another program's calls, and so gets what that one was granted",
        },
        Deny {
            name: "setsockopt",
            number: libc::SYS_setsockopt,
            when: routes(),
            why: "sends packets by way of another host than the one that was judged",
        },
    ]
}

/// Socket options that put a route into packets: source routes, routing headers, and the headers
/// that may hold one.
fn routes() -> Vec<Vec<Condition>> {
    const LEVEL: u8 = 1;
    const NAME: u8 = 2;
    const IP_OPTIONS: i32 = 4;
    /// include/uapi/linux/in6.h, v6.12.
    const IPV6_2292PKTOPTIONS: i32 = 6;
    const IPV6_HEADERS: [i32; 8] = [
        3, // IPV6_2292HOPOPTS
        4, // IPV6_2292DSTOPTS
        5, // IPV6_2292RTHDR
        IPV6_2292PKTOPTIONS,
        libc::IPV6_HOPOPTS,
        libc::IPV6_RTHDRDSTOPTS,
        libc::IPV6_RTHDR,
        libc::IPV6_DSTOPTS,
    ];
    let level = |level: i32, name: i32| vec![is(LEVEL, word(level)), is(NAME, word(name))];
    let mut rules = vec![level(libc::IPPROTO_IP, IP_OPTIONS)];
    rules.extend(IPV6_HEADERS.map(|name| level(libc::IPPROTO_IPV6, name)));
    rules
}

/// Unix, TCP, UDP and route netlink are left; a rule of "is not" conditions is an allow list.
fn sockets(profile: Profile) -> Vec<Vec<Condition>> {
    const DOMAIN: u8 = 0;
    const TYPE: u8 = 1;
    const PROTOCOL: u8 = 2;
    /// The rest of the argument is flags.
    const TYPE_MASK: u32 = 0xf;
    /// `SOCK_PACKET`: whole frames, through any internet family.
    const SOCK_PACKET: i32 = 10;
    /// `NETLINK_ROUTE`.
    const ROUTE: u32 = 0;

    let families = [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK];
    let mut rules = vec![
        families.map(|family| is_not(DOMAIN, word(family))).to_vec(),
        vec![is(DOMAIN, word(AF_NETLINK)), is_not(PROTOCOL, ROUTE)],
        vec![has(TYPE, TYPE_MASK, word(SOCK_PACKET))],
    ];
    let mut protocols = vec![0, IPPROTO_TCP, IPPROTO_UDP];
    if profile == Profile::Default {
        protocols.push(IPPROTO_MPTCP);
    }
    for family in [AF_INET, AF_INET6] {
        let family = is(DOMAIN, word(family));
        let others = protocols
            .iter()
            .map(|protocol| is_not(PROTOCOL, word(*protocol)));
        rules.push([family].into_iter().chain(others).collect());
        for kind in [SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET, SOCK_DCCP] {
            rules.push(vec![family, has(TYPE, TYPE_MASK, word(kind))]);
        }
    }
    rules
}

const fn is(argument: u8, value: u32) -> Condition {
    Condition {
        argument,
        test: Test::Is,
        value,
    }
}

const fn is_not(argument: u8, value: u32) -> Condition {
    Condition {
        argument,
        test: Test::IsNot,
        value,
    }
}

const fn has(argument: u8, mask: u32, value: u32) -> Condition {
    Condition {
        argument,
        test: Test::MaskedIs(mask),
        value,
    }
}

/// An `int` as the register's lower half holds it.
const fn word(value: i32) -> u32 {
    value.cast_unsigned()
}

/// The lower half of an ioctl's number, which is all that the kernel looks at.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the upper half is what must go"
)]
const fn low(request: libc::Ioctl) -> u32 {
    request as u32
}
