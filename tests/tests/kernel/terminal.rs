//! `-t`: a terminal of the sandbox's own, and an operator's that is never given away.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::Stdio,
};

use clawd_tests::{Daemon, Terminal};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{closed, code, direct_with, eventually, processes, text};

/// `clawctl run -t` of a shell that can be talked to, as `box`.
fn shell(daemon: &Daemon) -> Terminal {
    let terminal = run(daemon, &["bash", "--norc", "--noediting", "-i"]);
    terminal.wait_for("", "$ ");
    terminal
}

fn run(daemon: &Daemon, argv: &[&str]) -> Terminal {
    let mut command = daemon.clawctl(["run", "-t", "--name", "box", "--env", "PS1=$ ", "--policy"]);
    command
        .arg(daemon.policy_file(closed()))
        .arg("--")
        .args(argv)
        .env("TERM", "dumb");
    Terminal::start(command).unwrap()
}

/// `clawctl exec -t` in `box`.
fn enter(daemon: &Daemon, argv: &[&str]) -> Terminal {
    let mut command = daemon.clawctl(["exec", "-it", "--env", "PS1=> ", "box", "--"]);
    command.args(argv).env("TERM", "dumb");
    Terminal::start(command).unwrap()
}

fn signal(terminal: &Terminal, signal: Signal) {
    kill_process(Pid::from_child(&terminal.child), signal).expect("signal");
}

fn is_gone(daemon: &Daemon) {
    eventually("the sandbox is gone", || daemon.ps().is_empty());
}

#[test]
fn terminal_is_one_of_the_sandboxs_own_and_follows_the_operators_size() {
    let daemon = Daemon::start(None).unwrap();
    let mut terminal = shell(&daemon);
    assert!(terminal.is_raw());
    terminal.ask("tty\r", "/dev/pts/0");
    terminal.ask("ls /dev/pts\r", "0  ptmx");
    terminal.ask("stty size\r", "50 132");
    terminal.ask("test -t 0 && test -t 2 && echo a''b </dev/tty\r", "ab");
    terminal.ask("trap 'echo si''zed' WINCH; echo s''et\r", "set");
    let before = terminal.seen();
    terminal.resize(40, 100);
    // The kernel tells who is in the foreground there; here nobody is.
    signal(&terminal, Signal::WINCH);
    // The shell looks at its traps between two lines.
    eventually("it is told", || {
        terminal.ask("echo c''d\r", "cd");
        terminal.seen()[before.len()..].contains("sized")
    });
    terminal.ask("stty size\r", "40 100");
    let mut other = enter(&daemon, &["sh", "-c", "tty; stty size; exit 4"]);
    other.wait_for("", "50 132");
    assert!(other.seen().contains("/dev/pts/1"), "{}", other.seen());
    assert_eq!(other.wait().code(), Some(4));
    assert!(!other.is_raw());
    terminal.type_in("exit 7\r");
    assert_eq!(terminal.wait().code(), Some(7));
    assert!(!terminal.is_raw());
    is_gone(&daemon);
}

/// A job that says when it is in the foreground.
const JOB: &str = "sh -c 'echo re\"\"ady; exec cat'\r";

#[test]
fn terminal_controls_jobs_in_run_and_exec() {
    let daemon = Daemon::start(None).unwrap();
    let mut first = shell(&daemon);
    let mut second = enter(&daemon, &["bash", "--norc", "--noediting", "-i"]);
    second.wait_for("", "> ");
    for terminal in [&first, &second] {
        assert!(
            !terminal.seen().contains("no job control"),
            "{}",
            terminal.seen()
        );
        terminal.ask(JOB, "ready");
        terminal.ask("\u{1a}", "Stopped");
        // The shell writes the end of the line by itself.
        terminal.ask("fg\r", "exec cat'\r\n");
        terminal.ask("back\r", "back\r\nback");
        // The end of the file, then the prompt.
        let shown = terminal.ask("\u{4}", " ");
        assert!(!shown.contains("exit"), "{shown}");
        terminal.ask(JOB, "ready");
        terminal.ask("\u{3}", "^C");
        terminal.ask("echo $?-''\r", "130-");
        terminal.ask(JOB, "ready");
        terminal.ask("\u{1c}", "Quit");
        terminal.ask("echo $?-''\r", "131-");
    }
    second.type_in("exit 3\r");
    assert_eq!(second.wait().code(), Some(3));
    // An end of the file is the shell's own end.
    first.type_in("(exit 9)\r\u{4}");
    assert_eq!(first.wait().code(), Some(9));
    is_gone(&daemon);
}

#[test]
fn terminal_shows_every_byte_of_a_command_that_ends() {
    let daemon = Daemon::start(None).unwrap();
    let mut quick = run(&daemon, &["echo", "so quick"]);
    assert_eq!(quick.wait().code(), Some(0));
    assert_eq!(quick.wait_for("", "so quick\r\n"), "so quick\r\n");
    let mut long = run(&daemon, &["sh", "-c", "seq 1 30000; exit 5"]);
    assert_eq!(long.wait().code(), Some(5));
    let shown = long.wait_for("", "30000\r\n");
    assert_eq!(shown.lines().count(), 30_000);
    let mut missing = run(&daemon, &["no-such-command"]);
    assert_eq!(missing.wait().code(), Some(127));
    assert!(!missing.is_raw());
    is_gone(&daemon);
}

#[test]
fn terminal_is_put_back_on_every_way_out() {
    let daemon = Daemon::start(None).unwrap();
    let mut terminal = run(&daemon, &["sleep", "1000"]);
    eventually("it is joined", || terminal.is_raw());
    signal(&terminal, Signal::TERM);
    assert_eq!(terminal.wait().code(), Some(128 + 15));
    assert!(!terminal.is_raw());
    is_gone(&daemon);

    let mut terminal = run(&daemon, &["sleep", "1000"]);
    eventually("it is joined", || terminal.is_raw());
    let mut other = enter(&daemon, &["sleep", "1000"]);
    eventually("it is joined", || other.is_raw());
    assert!(
        daemon
            .clawctl(["stop", "box"])
            .output()
            .unwrap()
            .status
            .success()
    );
    for terminal in [&mut terminal, &mut other] {
        assert_eq!(terminal.wait().code(), Some(137));
        assert!(!terminal.is_raw());
    }
}

#[test]
fn terminal_that_is_hung_up_ends_the_command_and_an_execs_sandbox_goes_on() {
    let daemon = Daemon::start(None).unwrap();
    let mut first = run(&daemon, &["sleep", "1000"]);
    eventually("it is joined", || first.is_raw());
    let mut second = enter(&daemon, &["sh", "-c", "trap '' HUP; sleep 1000; true"]);
    eventually("it is joined", || second.is_raw());
    eventually("all of it runs", || processes(&daemon, "box").len() >= 5);
    second.hang_up();
    assert_eq!(second.wait().code(), Some(129));
    eventually("the sandbox's own are left", || {
        processes(&daemon, "box").len() == 2
    });
    first.hang_up();
    assert_eq!(first.wait().code(), Some(129));
    is_gone(&daemon);
}

#[test]
fn terminal_goes_on_without_its_daemon() {
    let mut daemon = Daemon::start(None).unwrap();
    let mut terminal = shell(&daemon);
    let mut other = enter(&daemon, &["bash", "--norc", "--noediting", "-i"]);
    other.wait_for("", "> ");
    daemon.kill9().unwrap();
    for terminal in [&terminal, &other] {
        terminal.ask("echo a''b; unshare -m true\r", "not permitted");
        terminal.resize(30, 90);
        signal(terminal, Signal::WINCH);
        eventually("it has the other size", || {
            terminal
                .ask("stty size; echo a''b\r", "ab\r\n")
                .contains("30 90")
        });
    }
    other.type_in("exit 3\r");
    assert_eq!(other.wait().code(), Some(3));
    terminal.type_in("exit 4\r");
    assert_eq!(terminal.wait().code(), Some(4));
    daemon.launch().unwrap();
    is_gone(&daemon);
}

#[test]
fn terminal_is_asked_for_at_a_terminal_only() {
    let daemon = Daemon::start(None).unwrap();
    let policy = daemon.policy_file(closed());
    let mut run = daemon.clawctl(["run", "-t", "--policy"]);
    run.arg(policy).args(["--", "true"]);
    let mut exec = daemon.clawctl(["exec", "-t", "box", "--", "true"]);
    for command in [&mut run, &mut exec] {
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(code(&output), 2, "{output:?}");
        assert!(
            text(&output.stderr).contains("needs a terminal"),
            "{output:?}"
        );
    }
    assert!(daemon.ps().is_empty());
}

/// What types into a terminal as if it were the keyboard.
const TYPES: &str = "
import fcntl, termios, sys
for request, text in (termios.TIOCSTI, b'x'), (0x541C, b'\\x02'):
    try:
        fcntl.ioctl(0, request, text)
        print('done')
    except OSError as error:
        print('errno', error.errno)
print('en' + 'd')
";

#[test]
fn s10_operators_terminal_is_not_in_the_sandbox_and_nobody_types_for_the_operator() {
    let daemon = Daemon::start(None).unwrap();
    let terminal = shell(&daemon);
    // No process of the sandbox has a terminal that is not in its own devpts.
    let hosts = fs::metadata("/dev/pts").unwrap().dev();
    for pid in processes(&daemon, "box") {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
            let Ok(open) = fs::metadata(entry.path()) else {
                continue;
            };
            assert_ne!(open.dev(), hosts, "{pid} {:?}", fs::read_link(entry.path()));
        }
    }
    // In a terminal of its own, and with the operator's as its streams.
    let inside = enter(&daemon, &["/usr/bin/python3", "-I", "-c", TYPES]);
    let mut command = daemon.clawctl(["exec", "box", "--"]);
    command.args(["/usr/bin/python3", "-I", "-c", TYPES]);
    let given = Terminal::start(command).unwrap();
    for mut at in [inside, given] {
        let seen = at.wait_for("", "end");
        assert!(at.wait().success());
        assert_eq!(seen.matches("errno 1\r\n").count(), 2, "{seen}");
        // Nothing was typed, at either end: it would be shown.
        assert!(!at.seen().contains('x'), "{}", at.seen());
    }
    terminal.ask("echo a''b\r", "ab");
    // Each attempt is told: which call, and whose.
    let told = |record: &Value| record["activity"] == "syscall" && record["syscall"] == "ioctl";
    let audit = daemon.audit();
    let told: Vec<_> = audit.iter().filter(|record| told(record)).collect();
    assert_eq!(told.len(), 4, "{told:?}");
    for record in told {
        assert_eq!(record["sandbox"], "box", "{record}");
        assert_eq!(record["reason"], "syscall_denied", "{record}");
        let exe = record["exe"].as_str().unwrap_or_default();
        assert!(exe.starts_with("/usr/bin/python3"), "{record}");
    }
}

#[test]
fn s10_escape_sequences_in_names_are_shown_escaped() {
    let daemon = Daemon::start(None).unwrap();
    let folder = daemon.scratch().folder("programs", 0o755).unwrap();
    let program = folder.join("e\u{1b}[31mvil");
    fs::copy("/usr/bin/sleep", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let policy = direct_with(&format!("[/usr, {}]", folder.display()), "[]", "");
    let argv = [program.to_str().unwrap(), "1000"];
    let mut child = daemon
        .run_command(&policy, Some("box"), &argv)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    eventually("it is listed", || daemon.ps().len() == 1);
    let command = ["exec", "box", "--", "sh", "-c", ": \u{1b}[2J\u{202e}"];
    assert!(daemon.clawctl(command).output().unwrap().status.success());
    let missing = ["exec", "box", "--", "no\u{1b}[2Jsuch"];
    let asked: [&[&str]; 7] = [
        &["ps"],
        &["--json", "ps"],
        &["logs"],
        &["--json", "logs"],
        &["status"],
        &missing,
        &["stop", "x\u{1b}[2J"],
    ];
    let mut shown = String::new();
    for arguments in asked {
        let output = daemon.clawctl(arguments).output().unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        for steers in ['\u{1b}', '\u{202e}'] {
            assert!(
                !out.contains(steers) && !err.contains(steers),
                "{arguments:?}"
            );
        }
        shown.push_str(&(out + &err));
    }
    // They were shown, though: the program, what it was called with, and what was not found.
    for escaped in [
        "e\\u{1b}[31mvil",
        ": \\u{1b}[2J\\u{202e}",
        "no\\u{1b}[2Jsuch",
    ] {
        assert!(shown.contains(escaped), "{escaped} is not in {shown}");
    }
    daemon.json(&["stop", "box"]);
    child.wait().unwrap();
}
