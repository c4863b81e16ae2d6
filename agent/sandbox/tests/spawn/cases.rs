//! The cases.

use std::{fs, os::fd::AsFd, os::unix::fs::PermissionsExt};

use clawd_sandbox::{Compatibility, HOME, LandlockState, Layer, Profile, StartError, spawn};

use crate::{
    life,
    rig::{Cgroup, USER, init_exe, pipes, probe, run, run_with, shell, spec},
};

pub(crate) const ALL: &[super::Case] = &[
    (
        "sandbox_dies_with_the_daemon_before_go_and_outlives_it_after",
        life::daemon_death,
    ),
    ("program_that_is_no_init_is_an_error", life::no_init),
    ("stream_ends_when_the_command_closes_it", life::stream_end),
    ("true_exits_zero_with_all_layers_in_force", all_layers),
    ("exit_codes_and_signals_reach_the_caller", exit_codes),
    (
        "commands_that_cannot_be_executed_are_126_and_127",
        not_executable,
    ),
    ("streams_are_the_callers_pipes", streams),
    ("environment_is_the_given_one", environment),
    ("privileges_are_gone", privileges),
    ("only_listed_trees_are_seen", view),
    ("writable_is_not_executable", writable_is_not_executable),
    ("inner_tree_has_its_own_access", nested),
    ("devices_are_few_and_work", devices),
    ("processes_of_the_host_are_invisible", processes),
    ("namespaces_are_its_own", namespaces),
    ("denied_calls_get_eperm", denied_calls),
    ("foreign_system_call_tables_kill", foreign_tables),
    ("clone3_and_unknown_calls_are_not_there", clone3),
    ("sockets_other_than_tcp_udp_unix_are_refused", sockets),
    ("no_descriptor_is_inherited", descriptors),
    (
        "abstract_sockets_of_the_host_are_out_of_reach",
        abstract_sockets,
    ),
    ("signals_are_forwarded", life::signals),
    ("orphans_die_with_the_command", life::orphans),
    ("strict_profile_refuses_more", strict),
    ("wrong_requests_are_refused_by_name", wrong_requests),
    ("dropped_view_leaves_nothing", life::dropped),
    ("streams_that_lead_out_are_refused", bad_streams),
];

fn all_layers() {
    let got = run(&spec(&["/bin/true"])).expect("starts");
    assert_eq!((got.status.as_str(), got.code), ("exit 0\n", 0));
    let layers = got.layers;
    assert_eq!(layers.landlock, LandlockState::FullyEnforced);
    assert!(layers.landlock_abi >= 1 && layers.seccomp_filters == 3 && layers.mounts > 10);
    assert_eq!(
        layers.namespaces,
        ["pid", "mnt", "ipc", "uts", "cgroup", "net"]
    );
    assert_eq!((layers.uid, layers.gid), (USER, USER));
}

fn exit_codes() {
    let got = shell("exit 7");
    assert_eq!((got.status.as_str(), got.code), ("exit 7\n", 7));
    let got = shell("kill -9 $$");
    assert_eq!((got.status.as_str(), got.code), ("signal 9\n", 137));
    let got = shell("kill -PIPE $$; echo alive");
    assert_eq!((got.status.as_str(), got.out.as_str()), ("signal 13\n", ""));
}

fn not_executable() {
    let code = |argv: &[&str]| run(&spec(argv)).expect_err("refused").exit_code();
    assert_eq!(code(&["no-such-command"]), 127);
    assert_eq!(code(&["/no/such/command"]), 127);
    assert_eq!(code(&["/usr"]), 126);
    assert_eq!(code(&["/etc/passwd"]), 126);
}

fn streams() {
    let got = run_with(&spec(&["sh", "-c", "cat; echo err >&2"]), "through\n").expect("starts");
    assert_eq!((got.out.as_str(), got.err.as_str()), ("through\n", "err\n"));
}

fn environment() {
    let mut spec = spec(&["/usr/bin/env"]);
    spec.env.push(("A".into(), "b c".into()));
    let got = run(&spec).expect("starts");
    assert_eq!(got.out, format!("PATH=/usr/bin:/bin\nHOME={HOME}\nA=b c\n"));
}

fn privileges() {
    let got = shell(
        "id -u; id -g; id -G; grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status; ulimit -c; ulimit -Hn; umask",
    );
    let lines: Vec<&str> = got.out.lines().map(str::trim_end).collect();
    assert_eq!(lines[..3], ["64123"; 3]);
    assert_eq!(lines[3], "Groups:");
    assert!(
        lines[4..9]
            .iter()
            .all(|line| line.starts_with("Cap") && line.ends_with("0000000000000000"))
    );
    assert_eq!(
        lines[9..12],
        ["NoNewPrivs:\t1", "Seccomp:\t2", "0"],
        "{}",
        got.out
    );
    // Less where whoever runs this test has less.
    assert!(
        lines[12]
            .parse::<u32>()
            .is_ok_and(|files| (1..=65_536).contains(&files)),
        "{}",
        got.out
    );
    assert_eq!(lines[13], "0022");
}

fn view() {
    let got = shell(
        "ls -A / /home /run 2>/dev/null | tr '\\n' ' '; cat /etc/shadow; ls /root; ls /sys; ls /etc/ssh; \
         touch /usr/x; touch /x; touch /etc/passwd; mkdir /dev/x; head -c1 /etc/passwd; touch /tmp/a ~/b /dev/shm/c && echo w",
    );
    for hidden in ["root", "sys", "var", "boot", "mnt"] {
        assert!(
            !got.out.split_whitespace().any(|name| name == hidden),
            "{}",
            got.out
        );
    }
    assert!(got.out.trim_end().ends_with('w'), "{}", got.out);
    for missing in ["/etc/shadow", "/root", "/sys", "/etc/ssh"] {
        let line = got
            .err
            .lines()
            .find(|line| line.contains(missing))
            .expect(missing);
        assert!(line.contains("No such file"), "{line}");
    }
    assert_eq!(
        got.err.matches("Permission denied").count() + got.err.matches("Read-only").count(),
        4,
        "{}",
        got.err
    );
    // Not even the owner of the files could: the mounts are read-only.
    let mut spec = spec(&[
        "sh",
        "-c",
        "grep -c ' /usr ro,nosuid,nodev' /proc/self/mountinfo",
    ]);
    spec.view.read_only.push("/etc".into());
    assert_eq!(run(&spec).expect("starts").out, "1\n");
}

/// A directory that the sandbox's user owns.
fn workspace() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("mode");
    std::os::unix::fs::chown(dir.path(), Some(USER), Some(USER)).expect("owner");
    dir
}

fn writable_is_not_executable() {
    let dir = workspace();
    let script = "for d in /tmp ~ /dev/shm .; do cp /bin/true $d/t && chmod +x $d/t && { $d/t; echo $?; }; done; echo new > kept; \
        cp /usr/lib/*/libm.so.6 l.so; LD_PRELOAD=./l.so cat /dev/null";
    let mut spec = spec(&["sh", "-c", script]);
    spec.view.workspace = Some(dir.path().into());
    spec.cwd = dir.path().into();
    let got = run(&spec).expect("starts");
    assert_eq!(got.out, "126\n126\n126\n126\n", "{}", got.err);
    assert!(got.err.contains("failed to map segment"), "{}", got.err);
    // Landlock alone does not judge this: a library is mapped, not executed.
    let got = shell(
        "cp /usr/lib/*/libm.so.6 /tmp/l.so; LD_PRELOAD=/tmp/l.so cat /dev/null; cd ~; cp /tmp/l.so .; LD_PRELOAD=./l.so cat /dev/null",
    );
    assert_eq!(
        got.err.matches("failed to map segment").count(),
        2,
        "{}",
        got.err
    );
    assert_eq!(
        fs::read_to_string(dir.path().join("kept")).expect("written"),
        "new\n"
    );
}

fn nested() {
    let dir = workspace();
    fs::create_dir(dir.path().join("inner")).expect("inner");
    std::os::unix::fs::chown(dir.path().join("inner"), Some(USER), Some(USER)).expect("owner");
    let mut spec = spec(&["sh", "-c", "echo a > outer; echo b > inner/x"]);
    spec.view.read_write.push(dir.path().into());
    spec.view.read_only.push(dir.path().join("inner"));
    spec.cwd = dir.path().into();
    let got = run(&spec).expect("starts");
    assert!(got.err.contains("Read-only file system"), "{}", got.err);
    assert!(dir.path().join("outer").exists() && !dir.path().join("inner/x").exists());
}

fn devices() {
    let got = shell(
        "ls /dev | tr '\\n' ' '; echo x > /dev/null && head -c4 /dev/urandom | wc -c; ls /dev/pts; ls -l /dev/fd/ >/dev/null && echo fd; : 2>/dev/stderr",
    );
    assert_eq!(
        got.out,
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero 4\nptmx\nfd\n",
        "{}",
        got.err
    );
}

fn processes() {
    let got = shell(
        "ls /proc | grep -c '^[0-9]'; cat /proc/1/environ; cat /proc/1/comm; cat /proc/self/cgroup | tail -1",
    );
    // pid 1, the shell, ls, grep.
    let count: u32 = got
        .out
        .lines()
        .next()
        .expect("a line")
        .parse()
        .expect("a number");
    assert!((2..=4).contains(&count), "{}", got.out);
    assert!(
        got.err.contains("/proc/1/environ"),
        "pid 1 shows its environment"
    );
    assert!(got.out.contains("clawd-init"), "{}", got.out);
    assert!(got.out.trim_end().ends_with("::/"), "{}", got.out);
}

fn namespaces() {
    let got = shell(
        "cat /proc/sys/kernel/hostname; cat /proc/net/dev | tail -n +3 | cut -d: -f1; cat /proc/self/net/fib_trie | grep -c 127.0.0.1",
    );
    let lines: Vec<&str> = got.out.lines().map(str::trim).collect();
    assert_eq!(lines[0], "box");
    assert!(
        lines.contains(&"lo") && !lines.contains(&"eth0"),
        "{}",
        got.out
    );
    assert_ne!(lines.last(), Some(&"0"), "lo is down");
    let mut direct = spec(&["/bin/true"]);
    direct.own_network = false;
    direct.landlock = Compatibility::BestEffort;
    let got = run(&direct).expect("starts");
    assert!(!got.layers.namespaces.contains(&"net".to_owned()));
}

fn denied_calls() {
    let got = run(&probe(&["denied-calls"])).expect("starts");
    assert_eq!(got.out, "done\n", "{}", got.err);
    let got = shell("unshare -U true; echo $?; mount -t tmpfs x /tmp; echo $?");
    assert!(!got.out.lines().any(|line| line == "0"), "{}", got.out);
    assert!(got.err.contains("Operation not permitted"), "{}", got.err);
}

#[cfg(target_arch = "x86_64")]
fn foreign_tables() {
    let x32_getpid = (0x4000_0000 + 39).to_string();
    let got = run(&probe(&["call", &x32_getpid])).expect("starts");
    assert_eq!((got.status.as_str(), got.out.as_str()), ("signal 31\n", ""));
    let got = run(&probe(&["int80"])).expect("starts");
    assert!(
        ["signal 31\n", "signal 11\n"].contains(&got.status.as_str()),
        "{got:?}"
    );
}
#[cfg(not(target_arch = "x86_64"))]
fn foreign_tables() {}

fn clone3() {
    for number in ["435", "470", "1000"] {
        let got = run(&probe(&["call", number])).expect("starts");
        assert_eq!(got.out, "errno 38\n", "{number}");
    }
    assert_eq!(run(&probe(&["thread"])).expect("starts").out, "42\n");
}

fn sockets() {
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

fn descriptors() {
    let _open = fs::File::open("/").expect("something open here");
    let got = run(&probe(&["descriptors"])).expect("starts");
    assert_eq!(got.out, "0 1 2 3\n", "3 is the directory that is read");
}

fn abstract_sockets() {
    let name = format!("clawd-sandbox-test-{}", std::process::id());
    let address =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
            &name,
        )
        .expect("address");
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).expect("bind");
    let mut direct = probe(&["abstract", &name]);
    assert_eq!(run(&direct).expect("starts").out, "errno 111\n");
    direct.own_network = false;
    match run(&direct) {
        Ok(got) => assert_eq!(got.out, "errno 1\n"),
        Err(error) => assert!(error.to_string().contains("best_effort"), "{error}"),
    }
}

fn strict() {
    let mut strict = probe(&["sockets"]);
    strict.seccomp = Profile::Strict;
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

fn wrong_requests() {
    let refused = |change: fn(&mut clawd_sandbox::SpawnSpec)| {
        let mut spec = spec(&["/bin/true"]);
        change(&mut spec);
        let error = run(&spec).expect_err("refused");
        assert_eq!(error.exit_code(), 125, "{error}");
        error
    };
    let error = refused(|spec| spec.view.read_execute.push("/no/such/tree".into()));
    assert!(matches!(&error, StartError::Layer(failed) if failed.layer == Layer::MountView));
    assert!(error.to_string().contains("/no/such/tree"), "{error}");
    let error = refused(|spec| spec.cwd = "/root".into());
    assert!(matches!(&error, StartError::Layer(failed) if failed.layer == Layer::WorkingDirectory));
    assert!(error.to_string().contains("/root"), "{error}");
    refused(|spec| spec.uid = 0);
    refused(|spec| spec.gid = 0);
    refused(|spec| spec.argv.clear());
    refused(|spec| spec.cwd = "tmp".into());
    refused(|spec| spec.argv.push("a\0b".into()));
    refused(|spec| spec.hostname = "x".repeat(65));
    refused(|spec| spec.view.read_only.push("/".into()));
}

fn bad_streams() {
    let cgroup = Cgroup::new();
    let (mut theirs, _ours) = pipes();
    theirs.stdin = fs::File::open("/").expect("open").into();
    let error = spawn(
        &spec(&["/bin/true"]),
        cgroup.open().as_fd(),
        init_exe().as_fd(),
        theirs,
    )
    .expect_err("refused");
    assert!(
        matches!(
            error,
            StartError::Stream {
                stream: "stdin",
                ..
            }
        ),
        "{error}"
    );
}
