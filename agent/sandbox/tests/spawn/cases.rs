//! The cases.

use std::{fs, path::Path};

use clawd_sandbox::{Compatibility, HOME, LandlockState, Layer, StartError, Streams};

use crate::{
    kept, life,
    mounts::{self, directory},
    own,
    rig::{Cgroup, USER, pipes, probe, run, run_with, shell, spec, start_view},
    syscalls, who,
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
    ("privileges_are_gone", who::privileges),
    ("groups_are_the_given_ones_and_no_others", who::groups),
    ("session_keyring_is_its_own", who::session_keyring),
    ("limits_of_processes_hold_and_cannot_be_raised", who::limits),
    ("only_listed_trees_are_seen", view),
    ("writable_is_not_executable", writable_is_not_executable),
    (
        "written_program_runs_in_read_write_execute_and_not_in_read_write",
        mounts::written_program,
    ),
    (
        "read_write_execute_maps_libraries_and_runs_scripts_without_suid",
        mounts::written_library,
    ),
    (
        "read_write_execute_nests_like_the_other_trees",
        mounts::nested,
    ),
    (
        "denied_paths_show_nothing_and_keep_their_names",
        kept::denied,
    ),
    ("deny_wins_over_every_other_grant", kept::denied_implicit),
    (
        "denied_path_that_is_not_there_stops_the_start_or_is_taken",
        kept::denied_missing,
    ),
    (
        "read_only_file_in_a_writable_folder_keeps_content_and_name",
        kept::read_only_file,
    ),
    ("no_mount_of_a_view_propagates", mounts::private),
    ("inner_tree_has_its_own_access", nested),
    ("devices_are_few_and_work", devices),
    (
        "etc_tells_of_the_sandbox_alone_and_proc_of_no_host",
        own::etc_and_proc,
    ),
    ("etc_of_the_hosts_network_is_a_copy", own::etc_of_direct),
    ("processes_of_the_host_are_invisible", processes),
    ("namespaces_are_its_own", namespaces),
    ("denied_calls_get_eperm", syscalls::denied_calls),
    ("foreign_system_call_tables_kill", syscalls::foreign_tables),
    ("clone3_and_unknown_calls_are_not_there", syscalls::clone3),
    (
        "sockets_other_than_tcp_udp_unix_are_refused",
        syscalls::sockets,
    ),
    ("no_descriptor_is_inherited", descriptors),
    (
        "abstract_sockets_of_the_host_are_out_of_reach",
        abstract_sockets,
    ),
    ("signals_are_forwarded", life::signals),
    ("orphans_die_with_the_command", life::orphans),
    ("strict_profile_refuses_more", syscalls::strict),
    (
        "jit_and_default_execute_what_was_written_and_strict_does_not",
        syscalls::executable_memory,
    ),
    (
        "sandbox_lives_with_everything_denied_that_may_be",
        syscalls::everything_denied,
    ),
    (
        "policy_allows_and_denies_calls_by_name",
        syscalls::exceptions,
    ),
    ("wrong_requests_are_refused_by_name", wrong_requests),
    ("dropped_view_leaves_nothing", life::dropped),
    ("streams_that_lead_out_are_refused", bad_streams),
];

fn all_layers() {
    let got = run(&spec(&["/bin/true"])).expect("starts");
    assert_eq!((got.status.as_str(), got.code), ("exit 0\n", 0));
    let layers = got.layers;
    assert_eq!(layers.landlock, LandlockState::FullyEnforced);
    assert!(layers.landlock_abi >= 1 && layers.seccomp_filters == 1 && layers.mounts > 10);
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

fn view() {
    let got = shell(
        "ls -A / /home /run 2>/dev/null | tr '\\n' ' '; cat /etc/shadow; ls /root; ls /sys; ls /etc/ssh; \
         touch /usr/x; touch /x; touch /etc/passwd; mkdir /dev/x; head -c1 /etc/passwd; touch /tmp/a ~/b /dev/shm/c && echo w",
    );
    // This program is shown too, wherever it was built.
    let own = std::env::current_exe().expect("a program");
    let hidden = ["root", "sys", "var", "boot", "mnt"];
    for hidden in hidden
        .into_iter()
        .filter(|name| !own.starts_with(Path::new("/").join(name)))
    {
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

fn writable_is_not_executable() {
    let dir = directory(&[]);
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
    let dir = directory(&["inner"]);
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
        "ls /dev | tr '\\n' ' '; echo x > /dev/null && head -c4 /dev/urandom | wc -c; exec 3<>/dev/ptmx; ls /dev/pts | tr '\\n' ' '; stat -c %F /dev/pts/0; ls -l /dev/fd/ >/dev/null && echo fd; : 2>/dev/stderr",
    );
    assert_eq!(
        got.out,
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero 4\n0 ptmx character special file\nfd\n",
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
    let Streams::Given([stdin, ..]) = &mut theirs.streams else {
        panic!("pipes")
    };
    *stdin = fs::File::open("/").expect("open").into();
    let error = start_view(&spec(&["/bin/true"]), &cgroup.open(), theirs).expect_err("refused");
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
