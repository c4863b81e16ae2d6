//! The deny list, as data: what is refused, under which arguments, and why.

use std::collections::BTreeMap;

use libc::{
    AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET,
    CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS, IPPROTO_MPTCP, IPPROTO_TCP,
    IPPROTO_UDP, PR_SET_MM, PROT_EXEC, PROT_WRITE, SHM_EXEC, SOCK_DCCP, SOCK_RAW, SOCK_RDM,
    SOCK_SEQPACKET, TIOCLINUX, TIOCSETD, TIOCSTI,
};

use clawd_common::syscall::{self, Arch};

use crate::spec::{Profile, Syscalls};

/// One refused system call.
#[derive(Clone, Debug)]
pub(super) struct Deny {
    /// As in its manual page.
    pub(super) name: &'static str,
    /// Of the architecture that the list is for.
    pub(super) number: u32,
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

/// The calls that are refused under these rules on an architecture. Names that it does not have are
/// not refused there: no number leads to them.
pub(super) fn list(rules: &Syscalls, arch: Arch) -> Vec<Deny> {
    let mut all: BTreeMap<&str, (Vec<Vec<Condition>>, &'static str)> = BTreeMap::new();
    for refused in syscall::REFUSED {
        all.insert(refused.name, (Vec::new(), refused.why));
    }
    for (name, when) in by_argument(rules.profile) {
        let why = syscall::refused(name).map_or("", |refused| refused.why);
        all.insert(name, (when, why));
    }
    for name in &rules.allow {
        all.remove(name.as_str());
    }
    for name in &rules.deny {
        all.insert(name, (Vec::new(), "the policy denies it"));
    }
    let known = |(name, (when, why)): (&str, _)| {
        let number = syscall::number(arch, name)?;
        Some(Deny {
            // As the table has it, whoever wrote it.
            name: syscall::name(arch, number)?,
            number,
            when,
            why,
        })
    };
    all.into_iter().filter_map(known).collect()
}

/// Refused calls that their arguments tell from others; without conditions, all of them.
type Judged = (&'static str, Vec<Vec<Condition>>);

fn by_argument(profile: Profile) -> Vec<Judged> {
    /// `PER_LINUX`, and the value that asks without changing.
    const PERSONALITIES: [u32; 2] = [0, u32::MAX];
    const NAMESPACES: [i32; 7] = [
        CLONE_NEWNS,
        CLONE_NEWCGROUP,
        CLONE_NEWUTS,
        CLONE_NEWIPC,
        CLONE_NEWUSER,
        CLONE_NEWPID,
        CLONE_NEWNET,
    ];
    let one = |condition| vec![vec![condition]];
    let mut judged = vec![
        (
            "clone",
            NAMESPACES
                .map(|flag| vec![has(0, word(flag), word(flag))])
                .to_vec(),
        ),
        (
            "personality",
            vec![PERSONALITIES.map(|value| is_not(0, value)).to_vec()],
        ),
        ("prctl", one(is(0, word(PR_SET_MM)))),
        // Pid 1, which is of the same user. Programs ask for their own by 0.
        ("prlimit64", one(is(0, 1))),
        (
            "ioctl",
            [TIOCSTI, TIOCLINUX, TIOCSETD]
                .map(|request| vec![is(1, low(request))])
                .to_vec(),
        ),
        ("socket", sockets(profile)),
        ("socketpair", one(is_not(0, word(AF_UNIX)))),
        // `SECCOMP_SET_MODE_FILTER` with `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
        ("seccomp", vec![vec![is(0, 1), has(1, 8, 8)]]),
        ("setsockopt", socket_options()),
    ];
    if profile == Profile::Strict {
        judged.extend(executable_memory());
    }
    judged
}

/// Ways to execute what was written, which `PR_SET_MDWE` refuses too, where the kernel has it (6.3);
/// and files without a name, which are another way.
fn executable_memory() -> [Judged; 5] {
    const PROTECTION: u8 = 2;
    let executable = word(PROT_EXEC);
    let both = word(PROT_WRITE | PROT_EXEC);
    [
        ("mmap", vec![vec![has(PROTECTION, both, both)]]),
        (
            "mprotect",
            vec![vec![has(PROTECTION, executable, executable)]],
        ),
        (
            "pkey_mprotect",
            vec![vec![has(PROTECTION, executable, executable)]],
        ),
        ("shmat", vec![vec![has(2, word(SHM_EXEC), word(SHM_EXEC))]]),
        ("memfd_create", Vec::new()),
    ]
}

/// Socket options that put a route into packets: source routes, routing headers, the headers that may
/// hold one, and flow labels, which come with a set of such headers (`fl_create` in
/// net/ipv6/ip6_flowlabel.c, v6.12) that a later call names by twenty bits. And those by which a program chooses who of several at one port gets a packet:
/// one of them may be a service of the host, and the packet hooks do not see the choice.
fn socket_options() -> Vec<Vec<Condition>> {
    const LEVEL: u8 = 1;
    const NAME: u8 = 2;
    const IP_OPTIONS: i32 = 4;
    /// include/uapi/linux/in6.h, v6.12.
    const IPV6_2292PKTOPTIONS: i32 = 6;
    const IPV6_HEADERS: [i32; 9] = [
        3, // IPV6_2292HOPOPTS
        4, // IPV6_2292DSTOPTS
        5, // IPV6_2292RTHDR
        IPV6_2292PKTOPTIONS,
        32, // IPV6_FLOWLABEL_MGR
        libc::IPV6_HOPOPTS,
        libc::IPV6_RTHDRDSTOPTS,
        libc::IPV6_RTHDR,
        libc::IPV6_DSTOPTS,
    ];
    let level = |level: i32, name: i32| vec![is(LEVEL, word(level)), is(NAME, word(name))];
    let mut rules = vec![level(libc::IPPROTO_IP, IP_OPTIONS)];
    rules.extend(IPV6_HEADERS.map(|name| level(libc::IPPROTO_IPV6, name)));
    let choices = [
        libc::SO_ATTACH_REUSEPORT_CBPF,
        libc::SO_ATTACH_REUSEPORT_EBPF,
    ];
    rules.extend(choices.map(|name| level(libc::SOL_SOCKET, name)));
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
    if profile != Profile::Strict {
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
