//! Cases about system calls that are refused.

use std::fs;

use clawd_common::syscall;
use clawd_sandbox::Profile;

use crate::rig::{probe, run, shell, spec};

pub(crate) fn denied_calls() {
    let got = run(&probe(&["denied-calls"])).expect("starts");
    assert_eq!(got.out, "done\n", "{}", got.err);
    // Each was told of, in the order in which it was tried, by the one thread that tried.
    let denials = clawd_sandbox::denials(Profile::Default).into_iter();
    let tried: Vec<u32> = denials
        .filter(|denial| denial.always)
        .map(|denial| denial.number)
        .collect();
    let told: Vec<u32> = got.refusals.iter().map(|refusal| refusal.number).collect();
    assert_eq!(told, tried);
    for refusal in &got.refusals {
        assert!(refusal.is_call && refusal.lost == 0, "{refusal:?}");
        assert_eq!((refusal.tid, refusal.tgid), (2, 2), "{refusal:?}");
        assert!(
            refusal.start_ticks > 0 && refusal.boottime_ns > 0,
            "{refusal:?}"
        );
    }
    let got = shell("unshare -U true; echo $?; mount -t tmpfs x /tmp; echo $?");
    assert!(!got.out.lines().any(|line| line == "0"), "{}", got.out);
    assert!(got.err.contains("Operation not permitted"), "{}", got.err);
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn foreign_tables() {
    let x32_getpid = 0x4000_0000 + 39;
    let got = run(&probe(&["call", &x32_getpid.to_string()])).expect("starts");
    assert_eq!((got.status.as_str(), got.out.as_str()), ("signal 9\n", ""));
    let numbers: Vec<_> = got.refusals.iter().map(|refusal| refusal.number).collect();
    assert_eq!(numbers, [x32_getpid]);
    let got = run(&probe(&["int80"])).expect("starts");
    assert_eq!(got.out, "");
    let told: Vec<_> = got
        .refusals
        .iter()
        .map(|refusal| (refusal.arch, refusal.number))
        .collect();
    // Kernels without the 32-bit gate answer with a fault.
    match got.status.as_str() {
        "signal 9\n" => assert_eq!(told, [(0x4000_0003, 20)]),
        "signal 11\n" => assert_eq!(told, []),
        _ => panic!("{got:?}"),
    }
}
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn foreign_tables() {}

pub(crate) fn clone3() {
    for number in ["435", "470", "1000"] {
        let got = run(&probe(&["call", number])).expect("starts");
        assert_eq!(got.out, "errno 38\n", "{number}");
    }
    assert_eq!(run(&probe(&["thread"])).expect("starts").out, "42\n");
}

pub(crate) fn sockets() {
    let got = run(&probe(&["sockets"])).expect("starts");
    for line in got.out.lines() {
        let (name, told) = line.split_once(' ').expect("two words");
        let refused = told == "errno 1";
        // MPTCP may be missing from a kernel; it is not refused here.
        let allowed = ["unix", "tcp", "udp6", "route", "mptcp"].contains(&name);
        assert_eq!(refused, !allowed, "{line}");
    }
    assert_eq!(got.out.lines().count(), 16);
}

pub(crate) fn strict() {
    let mut strict = probe(&["sockets"]);
    strict.seccomp.profile = Profile::Strict;
    let got = run(&strict).expect("starts");
    assert!(
        got.out.contains("mptcp errno 1\n") && got.out.contains("tcp 0\n"),
        "{}",
        got.out
    );
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("release");
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next(), numbers.next());
    assert_eq!(
        got.layers.memory_deny_write_execute,
        version >= (Some(6), Some(3))
    );
}

pub(crate) fn executable_memory() {
    for (profile, want) in [
        (Profile::Default, "mmap 0\nmprotect 0\nmemfd_create 0\n"),
        (Profile::Jit, "mmap 0\nmprotect 0\nmemfd_create 0\n"),
        // On every kernel, whether or not it has PR_SET_MDWE.
        (
            Profile::Strict,
            "mmap errno 1\nmprotect errno 1\nmemfd_create errno 1\n",
        ),
    ] {
        let mut spec = probe(&["executable-memory"]);
        spec.seccomp.profile = profile;
        let got = run(&spec).expect("starts");
        assert_eq!(got.out, want, "{profile:?}");
    }
}

/// The essential calls are all that it takes to start a program, to end it, and to serve pid 1.
pub(crate) fn everything_denied() {
    let mut spec = spec(&["/bin/true"]);
    spec.seccomp.profile = Profile::Strict;
    let names = syscall::names().filter(|name| !syscall::ESSENTIAL.contains(name));
    spec.seccomp.deny = names.map(str::to_owned).collect();
    let got = run(&spec).expect("starts");
    assert_eq!((got.status.as_str(), got.code), ("exit 0\n", 0), "{got:?}");
    spec.argv = vec![
        "/bin/sh".into(),
        "-c".into(),
        "mkdir /tmp/x; cat /dev/null; exit 3".into(),
    ];
    let got = run(&spec).expect("starts");
    assert_eq!(got.status, "exit 3\n", "{got:?}");
    assert!(got.err.contains("Operation not permitted"), "{got:?}");
    assert!(!std::path::Path::new("/tmp/x").exists() && !got.refusals.is_empty());
}

pub(crate) fn exceptions() {
    let script = "setarch -R true; echo $?; mkdir /tmp/d; echo $?; test -d /tmp/d; echo $?";
    let mut spec = spec(&["sh", "-c", script]);
    let got = run(&spec).expect("starts");
    assert_eq!(got.out, "1\n0\n0\n", "{got:?}");
    spec.seccomp.allow = vec!["personality".into()];
    spec.seccomp.deny = vec!["mkdir".into(), "mkdirat".into()];
    let got = run(&spec).expect("starts");
    assert_eq!(got.out, "0\n1\n1\n", "{got:?}");
    assert_eq!(got.refusals.len(), 1, "{got:?}");
    spec.seccomp.allow = vec!["ptrace".into()];
    let error = run(&spec).expect_err("refused").to_string();
    assert!(error.contains("`ptrace` cannot be allowed"), "{error}");
}
