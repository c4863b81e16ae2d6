//! The compiled filters, run as the kernel runs them.

use std::collections::BTreeSet;

use libc::{
    AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET,
    SOCK_STREAM,
};
use seccompiler::sock_filter;

use super::{compile, deny, guard::AUDIT_ARCH};
use crate::spec::Profile;

pub(super) const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
pub(super) const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

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

/// Whether the deny list of a profile refuses a call.
fn denied(profile: Profile, number: i64, arguments: &[u64]) -> bool {
    let mut six = [0; 6];
    six[..arguments.len()].copy_from_slice(arguments);
    let filters = compile(profile).expect("compiles");
    let number = u32::try_from(number).expect("a number");
    match run(&filters.0[0], AUDIT_ARCH, number, six) {
        ALLOW => false,
        answer => {
            assert_eq!(answer, errno(libc::EPERM));
            true
        }
    }
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
        let got = denied(Profile::Default, libc::SYS_socket, &arguments);
        assert_eq!(got, refused, "{family} {kind} {protocol}");
    }
    let mptcp = [int(AF_INET), int(SOCK_STREAM), 262];
    assert!(denied(Profile::Strict, libc::SYS_socket, &mptcp));
    assert!(denied(
        Profile::Default,
        libc::SYS_socketpair,
        &[int(AF_INET)]
    ));
    assert!(!denied(
        Profile::Default,
        libc::SYS_socketpair,
        &[int(AF_UNIX)]
    ));
}

#[test]
fn int_arguments_are_judged_whatever_the_upper_half_holds() {
    const HIGH: u64 = 0xdead_beef << 32;
    for (number, arguments) in [
        (libc::SYS_socket, [HIGH | 38, HIGH | 5, HIGH]),
        (libc::SYS_ioctl, [0, HIGH | 0x5412, 0]),
        (libc::SYS_ioctl, [0, HIGH | 0x541c, 0]),
        (libc::SYS_prctl, [HIGH | 35, 0, 0]),
        (libc::SYS_clone, [HIGH | 0x1000_0000 | 17, 0, 0]),
        (libc::SYS_personality, [HIGH | 0x4_0000, 0, 0]),
    ] {
        assert!(denied(Profile::Default, number, &arguments), "{number}");
    }
    assert!(!denied(
        Profile::Default,
        libc::SYS_socket,
        &[HIGH | 1, HIGH | 1, HIGH]
    ));
}

#[test]
fn clone_of_any_namespace_is_refused_and_threads_are_not() {
    // CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
    for bit in [17, 25, 26, 27, 28, 29, 30] {
        assert!(
            denied(Profile::Default, libc::SYS_clone, &[1 << bit | 17]),
            "{bit}"
        );
    }
    assert!(!denied(Profile::Default, libc::SYS_clone, &[0x003d_0f00]));
    assert!(!denied(Profile::Default, libc::SYS_clone, &[0x0120_0011]));
    for personality in [0, 0xffff_ffff] {
        assert!(!denied(
            Profile::Default,
            libc::SYS_personality,
            &[personality]
        ));
    }
}

#[test]
fn ordinary_calls_are_allowed_by_all_filters() {
    let filters = compile(Profile::Strict).expect("compiles");
    for number in [
        libc::SYS_read,
        libc::SYS_execve,
        libc::SYS_connect,
        libc::SYS_seccomp,
        libc::SYS_futex,
    ] {
        let number = u32::try_from(number).expect("a number");
        for filter in &filters.0 {
            assert_eq!(run(filter, AUDIT_ARCH, number, [0; 6]), ALLOW);
        }
    }
    let clone3 = u32::try_from(libc::SYS_clone3).expect("a number");
    assert_eq!(
        run(&filters.0[1], AUDIT_ARCH, clone3, [0; 6]),
        errno(libc::ENOSYS)
    );
}

#[test]
fn profiles_compile_and_fit_the_kernel() {
    for profile in [Profile::Default, Profile::Strict] {
        let filters = compile(profile).expect("compiles");
        assert_eq!(filters.count(), 3);
        assert!(filters.0.iter().all(|program| program.len() < 4096));
    }
}

#[test]
fn deny_list_names_each_call_once_and_refuses_it() {
    for profile in [Profile::Default, Profile::Strict] {
        let list = deny::list(profile);
        let numbers: BTreeSet<_> = list.iter().map(|deny| deny.number).collect();
        let names: BTreeSet<_> = list.iter().map(|deny| deny.name).collect();
        assert_eq!((numbers.len(), names.len()), (list.len(), list.len()));
        assert!(list.iter().all(|deny| !deny.why.is_empty()));
        for deny in list {
            assert!(deny.when.iter().all(|all| !all.is_empty()), "{}", deny.name);
            assert!(
                !deny.when.is_empty() || denied(profile, deny.number, &[]),
                "{}",
                deny.name
            );
        }
    }
}
