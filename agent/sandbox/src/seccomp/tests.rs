//! The compiled filter of both architectures, run as the kernel runs them.

use std::collections::BTreeSet;

use clawd_common::syscall::{self, Arch, NEWEST_JUDGED};
use libc::{
    AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET,
    SOCK_STREAM,
};
use seccompiler::sock_filter;

use super::{
    compile_deny, compile_for,
    deny::{self, Condition, Deny, Test},
    program,
};
use crate::spec::{Profile, Syscalls};

pub(super) const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
pub(super) const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;
const PROFILES: [Profile; 3] = [Profile::Default, Profile::Strict, Profile::Jit];

fn of(profile: Profile) -> Syscalls {
    Syscalls {
        profile,
        ..Syscalls::default()
    }
}

pub(super) fn errno(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number.unsigned_abs()
}

/// What a program returns for one call.
pub(super) fn run(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = vec![number, arch, 0, 0];
    for argument in arguments {
        data.push(u32::try_from(argument & 0xffff_ffff).expect("masked"));
        data.push(u32::try_from(argument >> 32).expect("shifted"));
    }
    let (mut at, mut word) = (0, 0);
    loop {
        let step = &program[at];
        let operand = usize::try_from(step.k).expect("64 bits");
        let branch = |hit: bool| usize::from(if hit { step.jt } else { step.jf });
        at += 1;
        match step.code {
            0x20 => word = data[operand / 4],
            0x54 => word &= step.k,
            0x05 => at += operand,
            0x15 => at += branch(word == step.k),
            0x25 => at += branch(word > step.k),
            0x35 => at += branch(word >= step.k),
            0x45 => at += branch(word & step.k != 0),
            0x06 => return step.k,
            other => panic!("opcode {other:#x}"),
        }
    }
}

/// What the filter of a profile answers.
fn answer(profile: Profile, arch: Arch, number: u32, arguments: &[u64]) -> u32 {
    let mut six = [0; 6];
    six[..arguments.len()].copy_from_slice(arguments);
    let filter = compile_for(&of(profile), arch).expect("compiles");
    run(&filter.0, arch.audit(), number, six)
}

/// Whether a profile refuses a call, which must be the same on both architectures.
fn denied(profile: Profile, name: &str, arguments: &[u64]) -> bool {
    let verdicts = Arch::ALL.map(|arch| {
        let number = syscall::number(arch, name).expect(name);
        match answer(profile, arch, number, arguments) {
            ALLOW => false,
            NOTIFY => true,
            other => panic!("{name}: {other:x?}"),
        }
    });
    assert_eq!(verdicts[0], verdicts[1], "{name}");
    verdicts[0]
}

/// Whether a rule's conditions hold, by their meaning.
fn holds(all: &[Condition], arguments: &[u64; 6]) -> bool {
    all.iter().all(|condition| {
        let argument = arguments[usize::from(condition.argument)];
        let word = u32::try_from(argument & 0xffff_ffff).expect("masked");
        match condition.test {
            Test::Is => word == condition.value,
            Test::IsNot => word != condition.value,
            Test::MaskedIs(mask) => word & mask == condition.value & mask,
        }
    })
}

/// Arguments on both sides of every condition of a call.
fn grid(deny: &Deny) -> Vec<[u64; 6]> {
    let mut grid = vec![[0_u64; 6]];
    for argument in 0..6_u8 {
        let conditions = deny.when.iter().flatten();
        let values: BTreeSet<u64> = conditions
            .filter(|condition| condition.argument == argument)
            .flat_map(|condition| [condition.value, condition.value ^ 1, 3 << 20])
            .map(u64::from)
            .chain([0])
            .collect();
        let with = |mut row: [u64; 6], value| {
            row[usize::from(argument)] = value;
            row
        };
        grid = grid
            .iter()
            .flat_map(|row| values.iter().map(move |value| with(*row, *value)))
            .collect();
    }
    grid
}

fn int(value: i32) -> u64 {
    value.cast_unsigned().into()
}

#[test]
fn socket_only_of_judged_kinds() {
    for (family, kind, protocol, refused) in [
        (AF_UNIX, SOCK_STREAM, 0, false),
        (AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, false),
        (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, false),
        (AF_INET6, SOCK_DGRAM, 17, false),
        (AF_INET, SOCK_STREAM, 262, false),
        (AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0, false),
        (AF_NETLINK, SOCK_RAW, 9, true),
        (AF_INET, SOCK_RAW, 0, true),
        (AF_INET, SOCK_RAW | SOCK_CLOEXEC, 6, true),
        (AF_INET6, SOCK_RAW, 17, true),
        (AF_INET, SOCK_SEQPACKET, 0, true),
        (AF_INET, SOCK_DGRAM, 1, true),
        (AF_INET6, SOCK_DGRAM, 58, true),
        (AF_INET, SOCK_STREAM, 132, true),
        (AF_INET, 10, 0x0003, true),
        (AF_UNIX, 10, 0, true),
        (17, SOCK_RAW, 0, true),
        (38, SOCK_SEQPACKET, 0, true),
        (40, SOCK_STREAM, 0, true),
        (-1, SOCK_STREAM, 0, true),
    ] {
        let arguments = [int(family), int(kind), int(protocol)];
        let got = denied(Profile::Default, "socket", &arguments);
        assert_eq!(got, refused, "{family} {kind} {protocol}");
    }
    let mptcp = [int(AF_INET), int(SOCK_STREAM), 262];
    assert!(denied(Profile::Strict, "socket", &mptcp));
    assert!(denied(Profile::Default, "socketpair", &[int(AF_INET)]));
    assert!(!denied(Profile::Default, "socketpair", &[int(AF_UNIX)]));
}

#[test]
fn socket_options_that_may_hold_a_route_are_refused_and_others_are_not() {
    let (socket, ip, tcp, ipv6) = (1, 0, 6, 41);
    for (level, option, refused) in [
        (ip, 4, true),    // IP_OPTIONS
        (ipv6, 3, true),  // IPV6_2292HOPOPTS
        (ipv6, 4, true),  // IPV6_2292DSTOPTS
        (ipv6, 5, true),  // IPV6_2292RTHDR
        (ipv6, 6, true),  // IPV6_2292PKTOPTIONS
        (ipv6, 32, true), // IPV6_FLOWLABEL_MGR
        (ipv6, libc::IPV6_HOPOPTS, true),
        (ipv6, libc::IPV6_RTHDRDSTOPTS, true),
        (ipv6, libc::IPV6_RTHDR, true),
        (ipv6, libc::IPV6_DSTOPTS, true),
        (socket, libc::SO_ATTACH_REUSEPORT_CBPF, true),
        (socket, libc::SO_ATTACH_REUSEPORT_EBPF, true),
        // The same numbers at other levels, and what servers and clients set.
        (tcp, 5, false), // TCP_KEEPINTVL
        (ip, libc::IP_TOS, false),
        (ip, 32, false), // IP_MULTICAST_IF
        (ipv6, libc::IPV6_V6ONLY, false),
        (ipv6, libc::IPV6_TCLASS, false),
        (ipv6, 33, false), // IPV6_FLOWINFO_SEND
        (socket, libc::SO_REUSEPORT, false),
        (socket, libc::SO_KEEPALIVE, false),
    ] {
        let arguments = [3, int(level), int(option)];
        let got = denied(Profile::Default, "setsockopt", &arguments);
        assert_eq!(got, refused, "{level} {option}");
    }
}

#[test]
fn int_arguments_are_judged_whatever_the_upper_half_holds() {
    const HIGH: u64 = 0xdead_beef << 32;
    for (number, arguments) in [
        ("socket", [HIGH | 38, HIGH | 5, HIGH]),
        ("ioctl", [0, HIGH | 0x5412, 0]),
        ("ioctl", [0, HIGH | 0x541c, 0]),
        ("ioctl", [0, HIGH | 0x5423, 0]),
        ("prctl", [HIGH | 35, 0, 0]),
        ("prlimit64", [HIGH | 1, 7, 0]),
        ("clone", [HIGH | 0x1000_0000 | 17, 0, 0]),
        ("personality", [HIGH | 0x4_0000, 0, 0]),
    ] {
        assert!(denied(Profile::Default, number, &arguments), "{number}");
    }
    assert!(!denied(
        Profile::Default,
        "socket",
        &[HIGH | 1, HIGH | 1, HIGH]
    ));
}

#[test]
fn clone_of_any_namespace_is_refused_and_threads_are_not() {
    // CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
    for bit in [17, 25, 26, 27, 28, 29, 30] {
        assert!(denied(Profile::Default, "clone", &[1 << bit | 17]), "{bit}");
    }
    assert!(!denied(Profile::Default, "clone", &[0x003d_0f00]));
    assert!(!denied(Profile::Default, "clone", &[0x0120_0011]));
    for personality in [0, 0xffff_ffff] {
        assert!(!denied(Profile::Default, "personality", &[personality]));
    }
}

#[test]
fn ordinary_calls_are_allowed_and_clone3_is_not_there() {
    for name in ["read", "execve", "connect", "seccomp", "futex", "getppid"] {
        assert!(!denied(Profile::Strict, name, &[]), "{name}");
    }
    for arch in Arch::ALL {
        let clone3 = answer(Profile::Default, arch, 435, &[]);
        assert_eq!(clone3, errno(libc::ENOSYS));
    }
}

#[test]
fn profiles_compile_and_fit_the_kernel() {
    for profile in PROFILES {
        for arch in Arch::ALL {
            let filter = compile_for(&of(profile), arch).expect("compiles");
            assert!(filter.0.len() < 4096, "{}", filter.0.len());
        }
    }
}

#[test]
fn deny_list_names_each_call_once_and_says_why() {
    for profile in PROFILES {
        for arch in Arch::ALL {
            let list = deny::list(&of(profile), arch);
            let numbers: BTreeSet<_> = list.iter().map(|deny| deny.number).collect();
            let names: BTreeSet<_> = list.iter().map(|deny| deny.name).collect();
            assert_eq!((numbers.len(), names.len()), (list.len(), list.len()));
            for deny in list {
                assert!(!deny.why.is_empty());
                assert!(deny.when.iter().all(|all| !all.is_empty()), "{}", deny.name);
            }
        }
    }
}

#[test]
fn filters_refuse_what_the_list_means_for_every_number_and_argument() {
    for profile in PROFILES {
        for arch in Arch::ALL {
            let list = deny::list(&of(profile), arch);
            let filter = compile_for(&of(profile), arch).expect("compiles");
            for number in 0..=NEWEST_JUDGED + 8 {
                let deny = list.iter().find(|deny| deny.number == number);
                let rows = deny.map_or_else(|| vec![[0; 6]], grid);
                for row in rows {
                    let refused = deny.is_some_and(|deny| {
                        deny.when.is_empty() || deny.when.iter().any(|all| holds(all, &row))
                    });
                    let want = match (number, refused) {
                        (435 | 470.., _) => errno(libc::ENOSYS),
                        (_, true) => NOTIFY,
                        (_, false) => ALLOW,
                    };
                    // The kernel takes an `int` from the lower half of a register.
                    for high in [0, 0xdead_beef << 32] {
                        let row = row.map(|argument| argument | high);
                        let got = run(&filter.0, arch.audit(), number, row);
                        assert_eq!(got, want, "{arch:?} {number} {row:x?}");
                    }
                }
            }
        }
    }
}

/// Each call, and each way in which a call is refused, decides something that no other does.
#[test]
fn no_rule_is_redundant() {
    for profile in PROFILES {
        let arch = Arch::X86_64;
        let list = deny::list(&of(profile), arch);
        for (at, deny) in list.iter().enumerate() {
            let refuses = |list: &[Deny], row: [u64; 6]| {
                let marked = compile_deny(list, arch).expect("compiles");
                let program = program::complete(arch, marked).expect("marked");
                run(&program, arch.audit(), deny.number, row) == NOTIFY
            };
            if deny.when.is_empty() {
                let mut without = list.clone();
                without.remove(at);
                assert!(refuses(&list, [0; 6]) && !refuses(&without, [0; 6]));
                continue;
            }
            for rule in 0..deny.when.len() {
                let only = |row: &&[u64; 6]| {
                    let rules = deny.when.iter().enumerate();
                    let holding = rules.filter(|(_, all)| holds(all, row));
                    holding.map(|(rule, _)| rule).collect::<Vec<_>>() == [rule]
                };
                let rows = grid(deny);
                let row = rows.iter().find(only);
                let row = row.unwrap_or_else(|| panic!("{} {:?}", deny.name, deny.when[rule]));
                let mut without = list.clone();
                without[at].when.remove(rule);
                if without[at].when.is_empty() {
                    without.remove(at);
                }
                assert!(refuses(&list, *row) && !refuses(&without, *row));
            }
        }
    }
}

fn with(allow: &[&str], deny: &[&str]) -> Syscalls {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Syscalls {
        profile: Profile::Default,
        allow: list(allow),
        deny: list(deny),
    }
}

#[test]
fn allowed_names_are_let_through_and_denied_names_refused() {
    let rules = with(
        &["personality", "userfaultfd"],
        &["listen", "mkdirat", "socket"],
    );
    for arch in Arch::ALL {
        let filter = compile_for(&rules, arch).expect("compiles");
        for (name, arguments, want) in [
            ("personality", [0x4_0000; 6], ALLOW),
            ("userfaultfd", [0; 6], ALLOW),
            ("perf_event_open", [0; 6], NOTIFY),
            ("listen", [0; 6], NOTIFY),
            ("mkdirat", [0; 6], NOTIFY),
            // A rule by arguments gives way to the whole call.
            ("socket", [1; 6], NOTIFY),
            ("bind", [0; 6], ALLOW),
        ] {
            let number = syscall::number(arch, name).expect(name);
            let got = run(&filter.0, arch.audit(), number, arguments);
            assert_eq!(got, want, "{name}");
        }
    }
}

#[test]
fn names_that_the_boundary_rests_on_are_refused_even_unchecked() {
    for name in [
        "ptrace",
        "bpf",
        "io_uring_setup",
        "clone",
        "socket",
        "mmap",
        "clone3",
    ] {
        assert!(
            compile_for(&with(&[name], &[]), Arch::X86_64).is_err(),
            "{name}"
        );
    }
    for name in ["read", "exit_group", "no_such_call"] {
        assert!(
            compile_for(&with(&[], &[name]), Arch::X86_64).is_err(),
            "{name}"
        );
    }
}

#[test]
fn strict_refuses_what_executes_what_was_written_and_jit_does_not() {
    let (read, write, execute) = (1, 2, 4);
    for (name, arguments) in [
        ("mmap", [0, 4096, write | execute]),
        ("mmap", [0, 4096, read | write | execute]),
        ("mprotect", [0, 4096, read | execute]),
        ("pkey_mprotect", [0, 4096, execute]),
        ("shmat", [0, 0, 0o100_000]),
        ("memfd_create", [0, 0, 0]),
    ] {
        assert!(denied(Profile::Strict, name, &arguments), "{name}");
        for profile in [Profile::Default, Profile::Jit] {
            assert!(!denied(profile, name, &arguments), "{name}");
        }
    }
    // As a loader maps a library.
    for (name, arguments) in [
        ("mmap", [0, 4096, read | execute]),
        ("mmap", [0, 4096, read | write]),
        ("mprotect", [0, 4096, read]),
        ("shmat", [0, 0, 0]),
    ] {
        assert!(!denied(Profile::Strict, name, &arguments), "{name}");
    }
}
