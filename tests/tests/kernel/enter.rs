//! Further commands in a sandbox that runs: held as the first one is, and never longer than it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use clawd_common::syscall;
use clawd_tests::{Daemon, binaries};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{CURL_ENTRY, World, closed, code, direct, eventually, group, processes, text};

/// The user that sandboxes of root's run as.
const NOBODY: u32 = 65534;

/// A sandbox that waits for a line.
struct Waiting {
    child: Child,
    _output: BufReader<ChildStdout>,
}

fn waiting(daemon: &Daemon, policy: &str) -> Waiting {
    let mut command = daemon.run_command(policy, Some("box"), &["sh", "-c", "echo ready; read n"]);
    command.env("TERM", "dumb");
    let (child, output) = until_ready(&mut command);
    eventually("it is listed", || daemon.ps().len() == 1);
    Waiting {
        child,
        _output: output,
    }
}

impl Waiting {
    fn end(mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.child.kill().and_then(|()| self.child.wait()));
    }
}

fn until_ready(command: &mut Command) -> (Child, BufReader<ChildStdout>) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (child, output)
}

fn enter_command(daemon: &Daemon, argv: &[&str]) -> Command {
    let mut command = daemon.clawctl(["exec", "box", "--"]);
    command.args(argv).env("TERM", "dumb");
    command
}

fn enter(daemon: &Daemon, argv: &[&str]) -> Output {
    enter_command(daemon, argv).output().unwrap()
}

/// Enters with `sh -c script`, which says that it is ready, and waits until clawd says so too.
fn enter_ready(daemon: &Daemon, script: &str) -> (Child, BufReader<ChildStdout>) {
    let before = activities(daemon, "sandbox_entered").len();
    let ready = until_ready(&mut enter_command(daemon, &["sh", "-c", script]));
    eventually("its start is over", || {
        activities(daemon, "sandbox_entered").len() > before
    });
    ready
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("signal");
}

/// The host's pid of the sandbox's process with this command line.
fn pid_of(daemon: &Daemon, line: &str) -> u32 {
    let wanted = |pid: &u32| {
        let said = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        said.split(|byte| *byte == 0)
            .map(String::from_utf8_lossy)
            .collect::<Vec<_>>()
            .join(" ")
            .trim_end()
            == line
    };
    let mut found = None;
    eventually(line, || {
        found = processes(daemon, "box").into_iter().find(wanted);
        found.is_some()
    });
    found.unwrap()
}

fn activities(daemon: &Daemon, name: &str) -> Vec<Value> {
    let mut records = daemon.audit();
    records.retain(|record| record["activity"] == name);
    records
}

/// What pid 1 does for further commands it does under the same filter, where a refused call of its own
/// would wait for itself: none of it can be denied.
#[test]
fn exec_works_with_every_call_denied_that_may_be() {
    let daemon = Daemon::start(None).unwrap();
    let may_be = |name: &&str| {
        !syscall::ESSENTIAL.contains(name) && syscall::refused(name).is_none() && *name != "clone3"
    };
    let names: Vec<_> = syscall::names().filter(may_be).collect();
    let policy = format!(
        "{}process: {{ seccomp_deny: [{}] }}\n",
        closed(),
        names.join(", ")
    );
    let sandbox = waiting(&daemon, &policy);
    for (argv, want) in [(&["true"][..], 0), (&["sh", "-c", "exit 7"], 7)] {
        let output = enter(&daemon, argv);
        assert_eq!(code(&output), want, "{argv:?}: {output:?}");
    }
    let refused = enter(&daemon, &["sh", "-c", "mkdir /tmp/x || exit 5"]);
    assert_eq!(code(&refused), 5, "{refused:?}");
    sandbox.end();
}

#[test]
fn exec_exit_codes_are_the_commands_own() {
    let daemon = Daemon::start(None).unwrap();
    let sandbox = waiting(&daemon, closed());
    let cases: [(&[&str], i32); 7] = [
        (&["true"], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -TERM $$"], 128 + 15),
        (&["sh", "-c", "kill -KILL $$"], 128 + 9),
        (&["/etc/passwd"], 126),
        (&["no-such-command"], 127),
        (&["/usr/bin/no-such-command"], 127),
    ];
    for (argv, want) in cases {
        let output = enter(&daemon, argv);
        assert_eq!(code(&output), want, "{argv:?}: {output:?}");
    }
    let nowhere = daemon.clawctl(["exec", "other", "--", "true"]).output();
    let nowhere = nowhere.unwrap();
    assert_eq!(code(&nowhere), 125, "{nowhere:?}");
    assert!(text(&nowhere.stderr).contains("other"), "{nowhere:?}");
    // What has ended left nothing: pid 1 and the sandbox's own command.
    eventually("keepers are gone", || processes(&daemon, "box").len() == 2);
    sandbox.end();
    eventually("the sandbox is gone", || daemon.ps().is_empty());
}

#[test]
fn exec_streams_and_environment_are_the_callers_and_the_sandboxs() {
    let daemon = Daemon::start(None).unwrap();
    let policy = format!("{}env: {{ A: policy, B: policy }}\n", closed());
    let _sandbox = waiting(&daemon, &policy);
    let mut command = daemon.clawctl(["exec", "--env", "B=caller", "--env", "C=caller", "box"]);
    let script = "cat; echo told >&2; env | grep '^[ABCHPT]' | sort; pwd";
    let mut child = command
        .args(["--", "sh", "-c", script])
        .env("TERM", "dumb")
        .env("D", "not handed on")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        text(&output.stdout),
        "typed\nA=policy\nB=caller\nC=caller\nHOME=/home/sandbox\n\
         PATH=/usr/local/bin:/usr/bin:/bin\nPWD=/home/sandbox\nTERM=dumb\n/home/sandbox\n"
    );
    assert_eq!(text(&output.stderr), "told\n");
    let refused = daemon.clawctl(["exec", "--env", "LD_PRELOAD=/x", "box", "--", "true"]);
    assert_eq!(code(&{ refused }.output().unwrap()), 2);
    let directory = enter_command(&daemon, &["true"])
        .stdin(fs::File::open("/").unwrap())
        .output()
        .unwrap();
    assert_eq!(code(&directory), 125, "{directory:?}");
    assert!(
        text(&directory.stderr).contains("directory"),
        "{directory:?}"
    );
}

/// What the kernel holds against a process, as the host sees it.
fn confinement(pid: u32) -> Vec<String> {
    const FIELDS: [&str; 14] = [
        "Umask",
        "Uid",
        "Gid",
        "Groups",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
        "Speculation_Store_Bypass",
        "Cpus_allowed",
    ];
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut held: Vec<String> = status
        .lines()
        .filter(|line| FIELDS.contains(&line.split(':').next().unwrap_or_default()))
        .map(str::to_owned)
        .collect();
    assert_eq!(held.len(), FIELDS.len(), "{status}");
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        let inode = fs::metadata(format!("/proc/{pid}/ns/{name}"))
            .unwrap()
            .ino();
        held.push(format!("{name} {inode}"));
    }
    for file in ["cgroup", "limits", "oom_score_adj"] {
        held.push(fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap());
    }
    held.push(format!("{:?}", fs::read_link(format!("/proc/{pid}/root"))));
    held
}

#[test]
fn exec_is_held_by_every_layer_that_holds_the_first_command() {
    let mut daemon = Daemon::start(None).unwrap();
    let _sandbox = waiting(&daemon, closed());
    let first = confinement(pid_of(&daemon, "sh -c echo ready; read n"));
    for round in ["of the daemon that started it", "of the next one"] {
        let (mut child, _output) = enter_ready(&daemon, "echo ready; exec sleep 1000");
        assert_eq!(confinement(pid_of(&daemon, "sleep 1000")), first, "{round}");
        // Nothing of the caller's or of clawd's is open in it.
        let fds = fs::read_dir(format!("/proc/{}/fd", pid_of(&daemon, "sleep 1000")));
        assert_eq!(fds.unwrap().count(), 3, "{round}");
        child.kill().unwrap();
        child.wait().unwrap();
        eventually("it has ended", || processes(&daemon, "box").len() == 2);
        daemon.restart().unwrap();
    }
}

/// Tries what only Landlock, only seccomp, and only the view refuse.
const PROBE: &str = "
import ctypes, fcntl, os, termios
libc = ctypes.CDLL(None, use_errno=True)
def tried(what, call):
    try:
        call()
        print(what, 'done')
    except OSError as error:
        print(what, error.errno)
def unshare():
    if libc.unshare(0x20000) != 0:
        raise OSError(ctypes.get_errno(), '')
tried('ioctl', lambda: fcntl.ioctl(open('/dev/null'), termios.TCGETS, bytes(64)))
tried('unshare', unshare)
tried('sti', lambda: fcntl.ioctl(0, termios.TIOCSTI, b'x'))
tried('shadow', lambda: open('/etc/shadow'))
tried('first', lambda: os.kill(2, 0))
tried('host', lambda: os.kill(int(os.environ['OUTSIDE']), 0))
";

#[test]
fn exec_cannot_do_what_the_first_command_cannot() {
    let daemon = Daemon::start(None).unwrap();
    let _sandbox = waiting(&daemon, closed());
    let outside = format!("OUTSIDE={}", std::process::id());
    let argv = ["/usr/bin/python3", "-I", "-c", PROBE];
    let output = daemon
        .clawctl(["exec", "--env", &outside, "box", "--"])
        .args(argv)
        .output()
        .unwrap();
    // EACCES of Landlock, which judges devices from ABI 5 on (else ENOTTY); EPERM of seccomp; ENOENT of
    // the view. Its siblings are in reach, as they are in one Landlock domain, and nobody else is.
    let abi = daemon.ps()[0]["layers"]["landlock_abi"].as_u64();
    let ioctl = if abi >= Some(5) { 13 } else { 25 };
    assert_eq!(
        text(&output.stdout),
        format!("ioctl {ioctl}\nunshare 1\nsti 1\nshadow 2\nfirst done\nhost 3\n"),
        "{output:?}"
    );
}

#[test]
fn exec_of_another_user_is_refused_and_written_down() {
    let daemon = Daemon::start(None).unwrap();
    let _sandbox = waiting(&daemon, closed());
    // As for a member of the group that may use the socket.
    fs::set_permissions(&daemon.paths().socket, fs::Permissions::from_mode(0o666)).unwrap();
    let clawctl = daemon.scratch().path("clawctl");
    fs::copy(binaries::find("clawctl").unwrap(), &clawctl).unwrap();
    let enter_as = |uid: u32, gid: u32| {
        Command::new(&clawctl)
            .arg("--socket")
            .arg(&daemon.paths().socket)
            .args(["exec", "box", "--", "true"])
            .uid(uid)
            .gid(gid)
            .current_dir("/")
            .output()
            .unwrap()
    };
    for (uid, gid) in [(4711, 4711), (4711, NOBODY), (NOBODY, 4711)] {
        let output = enter_as(uid, gid);
        assert_eq!(code(&output), 2, "{output:?}");
        assert!(text(&output.stderr).contains("only root"), "{output:?}");
        let refusals = activities(&daemon, "entry_refused");
        let last = refusals.last().unwrap();
        assert_eq!(last["caller_uid"], uid, "{last}");
        assert_eq!(
            (&last["sandbox"], &last["action"]),
            (&json!("box"), &json!("denied"))
        );
    }
    assert!(activities(&daemon, "sandbox_entered").is_empty());
    assert_eq!(code(&enter_as(NOBODY, NOBODY)), 0);
    assert_eq!(code(&enter(&daemon, &["true"])), 0);
    let entered = activities(&daemon, "sandbox_entered");
    let callers: Vec<_> = entered.iter().map(|record| &record["caller_uid"]).collect();
    assert_eq!(callers, [NOBODY, 0], "{entered:?}");
    assert_eq!(entered[1]["message"], "true");
    assert!(entered[1]["pid"].as_u64() > Some(1), "{entered:?}");
    // The entrance itself is root's alone.
    let state = &daemon.paths().state_dir;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state.join("entrances")), 0o700);
}

#[test]
fn exec_is_judged_by_its_own_program_and_line() {
    const URL: &str = "http://192.0.2.10/small";
    let world = World::start();
    let policy = direct(&group("g", "{ host: 192.0.2.10, port: 80 }", CURL_ENTRY));
    let mut sandbox = world.daemon.run_command(
        &policy,
        Some("box"),
        &[
            "/usr/bin/python3",
            "-c",
            "print('ready', flush=True); input()",
        ],
    );
    let (mut child, _output) = until_ready(&mut sandbox);
    eventually("it is listed", || world.daemon.ps().len() == 1);
    let allowed = enter(&world.daemon, &["curl", "-sS", URL]);
    assert_eq!(text(&allowed.stdout), "small file\n", "{allowed:?}");
    let seen = world.internet.contacts().len();
    assert!(seen > 0);
    let script = "import socket; socket.create_connection(('192.0.2.10', 80))";
    let denied = enter(
        &world.daemon,
        &["sh", "-c", &format!("python3 -c \"{script}\"; true")],
    );
    assert!(
        text(&denied.stderr).contains("PermissionError"),
        "{denied:?}"
    );
    assert_eq!(world.internet.contacts().len(), seen);
    let denials = world.denials("box", 0);
    let [denial] = denials.as_slice() else {
        panic!("one denial: {denials:?}")
    };
    // Its line starts with the command: the sandbox's first one is no ancestor.
    let lineage = denial["lineage"].as_array().unwrap();
    assert_eq!(lineage.len(), 1, "{denial}");
    let shell = Path::new("/usr/bin/sh").canonicalize().unwrap();
    assert_eq!(lineage[0]["exe"], shell.display().to_string());
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn exec_gets_the_signals_of_its_clawctl() {
    let daemon = Daemon::start(None).unwrap();
    let _sandbox = waiting(&daemon, closed());
    for (sent, name) in [
        (Signal::TERM, "TERM"),
        (Signal::INT, "INT"),
        (Signal::HUP, "HUP"),
        (Signal::USR2, "USR2"),
    ] {
        let script =
            format!("trap 'echo got; exit 3' {name}; echo ready; while :; do sleep 0.05; done");
        let (mut child, mut output) = enter_ready(&daemon, &script);
        signal(&child, sent);
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "got\n", "{name}");
        assert_eq!(child.wait().unwrap().code(), Some(3), "{name}");
    }
    assert_eq!(daemon.ps().len(), 1);
}

#[test]
fn exec_ends_with_its_clawctl_and_the_sandbox_goes_on() {
    let mut daemon = Daemon::start(None).unwrap();
    let _sandbox = waiting(&daemon, closed());
    // With a daemon and without one; and what it started ends with it.
    for with_daemon in [true, false] {
        let script = "trap '' TERM HUP; (sleep 1000; true) & echo ready; sleep 1000; true";
        let (mut child, _output) = enter_ready(&daemon, script);
        eventually("all of it runs", || processes(&daemon, "box").len() >= 6);
        if !with_daemon {
            daemon.kill9().unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        eventually("only the sandbox's own are left", || {
            processes(&daemon, "box").len() == 2
        });
    }
    daemon.launch().unwrap();
    assert_eq!(daemon.ps().len(), 1);
}

#[test]
fn exec_goes_on_without_its_daemon_and_enters_by_the_next_one() {
    let mut daemon = Daemon::start(None).unwrap();
    let sandbox = waiting(&daemon, closed());
    let (mut child, mut output) = enter_ready(&daemon, "echo ready; read n; echo $n; exit 5");
    daemon.kill9().unwrap();
    // Still held: a new program, without anybody to ask.
    writeln!(child.stdin.take().unwrap(), "typed").unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "typed\n");
    assert_eq!(child.wait().unwrap().code(), Some(5));
    daemon.launch().unwrap();
    assert_eq!(daemon.ps()[0]["adopted"], true);
    let output = enter(&daemon, &["sh", "-c", "echo again; exit 6"]);
    assert_eq!(
        (text(&output.stdout).as_str(), code(&output)),
        ("again\n", 6)
    );
    sandbox.end();
    eventually("the sandbox is gone", || daemon.ps().is_empty());
    let entrances = daemon.paths().state_dir.join("entrances");
    assert_eq!(fs::read_dir(entrances).unwrap().count(), 0);
}

#[test]
fn exec_ends_with_its_sandbox() {
    let daemon = Daemon::start(None).unwrap();
    let sandbox = waiting(&daemon, closed());
    let (mut child, _output) = enter_ready(&daemon, "echo ready; sleep 1000; true");
    let (mut other, _other_output) = enter_ready(&daemon, "echo ready; setsid sleep 1000; true");
    sandbox.end();
    assert_eq!(child.wait().unwrap().code(), Some(137));
    assert_eq!(other.wait().unwrap().code(), Some(137));
    eventually("the sandbox is gone", || daemon.ps().is_empty());
    assert!(!daemon.paths().cgroup_parent.join("box").exists());

    let sandbox = waiting(&daemon, closed());
    let (mut child, _output) = enter_ready(&daemon, "trap '' TERM; echo ready; sleep 1000; true");
    let report = daemon.json(&["stop", "box"]);
    assert!(report[0]["killed"].as_u64() >= Some(5), "{report:?}");
    assert_eq!(child.wait().unwrap().code(), Some(137));
    assert!(!daemon.paths().cgroup_parent.join("box").exists());
    drop(sandbox);
}

#[test]
fn exec_that_races_a_stop_leaves_no_process() {
    let daemon = Daemon::start(None).unwrap();
    for round in 0..12_u64 {
        let sandbox = waiting(&daemon, closed());
        let entering: Vec<Child> = (0..4)
            .map(|_| {
                let mut command = enter_command(&daemon, &["setsid", "sleep", "1000"]);
                let quiet = command.stdin(Stdio::null()).stderr(Stdio::null());
                quiet.stdout(Stdio::null()).spawn().unwrap()
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(round * 4));
        let stopped = daemon.clawctl(["stop", "box"]).output().unwrap();
        assert!(stopped.status.success(), "{stopped:?}");
        // The cgroup could be removed, so nobody is in it; and whoever enters later is told.
        assert!(!daemon.paths().cgroup_parent.join("box").exists());
        for mut child in entering {
            // 0: `setsid` forks, and is done before its sandbox is.
            let status = child.wait().unwrap();
            assert!(matches!(status.code(), Some(0 | 125 | 137)), "{status}");
        }
        drop(sandbox);
    }
    assert!(daemon.ps().is_empty());
}

#[test]
fn exec_whose_keeper_is_killed_from_inside_ends_and_the_sandbox_goes_on() {
    let daemon = Daemon::start(None).unwrap();
    let _sandbox = waiting(&daemon, closed());
    let (mut child, _output) = enter_ready(&daemon, "echo ready; exec sleep 1000");
    // Whoever is the parent of `sleep 1000`, seen from another command of the sandbox's.
    let script = "for p in /proc/[0-9]*; do \
        [ \"$(cat $p/comm)\" = sleep ] && kill -9 $(sed -n 's/^PPid:\\t//p' $p/status); done; true";
    let output = enter(&daemon, &["sh", "-c", script]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(child.wait().unwrap().code(), Some(137));
    eventually("only the sandbox's own are left", || {
        processes(&daemon, "box").len() == 2
    });
    assert_eq!(daemon.ps().len(), 1);
}
