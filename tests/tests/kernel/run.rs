//! A command's life, from `clawctl run` to its exit code.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Child, Stdio},
};

use clawd_tests::Daemon;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::{closed, code, direct, eventually, processes, text};

fn daemon() -> Daemon {
    Daemon::start(None).expect("daemon")
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("signal");
}

/// Waits until a start is over: its command may say something before.
fn is_listed(daemon: &Daemon, name: &str) {
    eventually("it has started", || {
        daemon.ps().iter().any(|sandbox| sandbox["name"] == name)
    });
}

/// Starts `sh -c script` with pipes, and waits for its first line.
fn start(
    daemon: &Daemon,
    name: &str,
    script: &str,
) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = daemon.run_command(closed(), Some(name), &["sh", "-c", script]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    is_listed(daemon, name);
    (child, output)
}

#[test]
fn exit_codes_are_the_commands_own() {
    let daemon = daemon();
    let cases: [(&[&str], i32); 9] = [
        (&["true"], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "exit 255"], 255),
        (&["sh", "-c", "kill -TERM $$"], 128 + 15),
        (&["sh", "-c", "kill -KILL $$"], 128 + 9),
        (&["sh", "-c", "kill -SEGV $$"], 128 + 11),
        (&["/etc/passwd"], 126),
        (&["/usr/bin"], 126),
        (&["no-such-command"], 127),
    ];
    for (argv, want) in cases {
        let output = daemon.run(closed(), argv);
        assert_eq!(code(&output), want, "{argv:?}: {output:?}");
    }
    assert_eq!(
        code(&daemon.run(closed(), &["/usr/bin/no-such-command"])),
        127
    );
    assert!(daemon.ps().is_empty());
}

#[test]
fn run_without_a_daemon_is_a_failed_setup() {
    let mut daemon = daemon();
    daemon.terminate().unwrap();
    let output = daemon.run(closed(), &["true"]);
    assert_eq!(code(&output), 125, "{output:?}");
    assert!(text(&output.stderr).contains("control.sock"), "{output:?}");
}

#[test]
fn signals_to_clawctl_reach_the_command() {
    let daemon = daemon();
    for (sent, name) in [
        (Signal::TERM, "TERM"),
        (Signal::INT, "INT"),
        (Signal::HUP, "HUP"),
        (Signal::USR1, "USR1"),
    ] {
        let script =
            format!("trap 'echo got; exit 3' {name}; echo ready; while :; do sleep 0.05; done");
        let (mut child, mut output) = start(&daemon, "box", &script);
        signal(&child, sent);
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "got\n", "{name}");
        assert_eq!(child.wait().unwrap().code(), Some(3), "{name}");
        eventually("the sandbox is gone", || daemon.ps().is_empty());
    }
}

#[test]
fn streams_carry_every_byte() {
    let daemon = daemon();
    let sent: Vec<u8> = (0..3_000_000_u32)
        .map(|number| number.to_le_bytes()[usize::try_from(number % 4).unwrap()])
        .collect();
    let mut command = daemon.run_command(closed(), None, &["sh", "-c", "cat; echo told >&2"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let copy = sent.clone();
    let writing = std::thread::spawn(move || input.write_all(&copy).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(
        output.stdout == sent,
        "{} of {} bytes",
        output.stdout.len(),
        sent.len()
    );
    assert_eq!(text(&output.stderr), "told\n");
}

#[test]
fn killed_clawctl_ends_its_sandbox() {
    let daemon = daemon();
    let (mut child, _output) = start(&daemon, "box", "echo ready; sleep 1000 & sleep 1000");
    assert!(!processes(&daemon, "box").is_empty());
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    eventually("the sandbox is gone", || daemon.ps().is_empty());
    assert!(!daemon.paths().cgroup_parent.join("box").exists());
}

#[test]
fn stop_ends_every_process() {
    const FORKS: &str = "import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)
time.sleep(1)
os.execvp('sh', ['sh', '-c', \"trap '' TERM INT HUP; (sleep 1000 &); echo ready; while :; do sleep 1; done\"])";
    let daemon = daemon();
    let mut command = daemon.run_command(
        closed(),
        Some("box"),
        &["/usr/bin/python3", "-I", "-c", FORKS],
    );
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let pids = processes(&daemon, "box");
    assert!(pids.len() >= 6, "{pids:?}");
    let report = daemon.json(&["stop", "box"]);
    assert_eq!(report[0]["sandbox"], "box", "{report:?}");
    assert!(report[0]["killed"].as_u64() >= Some(6), "{report:?}");
    for pid in pids {
        assert!(
            !Path::new(&format!("/proc/{pid}/exe")).exists(),
            "{pid} lives"
        );
    }
    assert_eq!(child.wait().unwrap().code(), Some(137));
    assert!(daemon.ps().is_empty());
    assert!(!daemon.paths().cgroup_parent.join("box").exists());
    assert!(
        daemon
            .audit()
            .iter()
            .any(|record| record["activity"] == "sandbox_stopped")
    );
    let again = daemon.clawctl(["stop", "box"]).output().unwrap();
    assert_eq!(code(&again), 1, "{again:?}");
}

#[test]
fn thirty_sandboxes_run_at_once() {
    let daemon = daemon();
    let running: Vec<_> = (0..30)
        .map(|number| {
            start(
                &daemon,
                &format!("box{number}"),
                "echo ready; read n; exit $n",
            )
        })
        .collect();
    assert_eq!(daemon.ps().len(), 30);
    for (number, (mut child, _output)) in running.into_iter().enumerate() {
        writeln!(child.stdin.take().unwrap(), "{number}").unwrap();
        assert_eq!(child.wait().unwrap().code(), i32::try_from(number).ok());
    }
    eventually("all are gone", || daemon.ps().is_empty());
}

#[test]
fn exit_code_arrives_though_clawd_was_killed() {
    let mut daemon = daemon();
    let (mut child, _output) = start(&daemon, "box", "echo ready; read n; exit $n");
    daemon.kill9().unwrap();
    writeln!(child.stdin.take().unwrap(), "7").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn name_in_use_is_refused() {
    let daemon = daemon();
    let (_child, _output) = start(&daemon, "box", "echo ready; read n");
    let output = daemon
        .run_command(closed(), Some("box"), &["true"])
        .output()
        .unwrap();
    assert_eq!(code(&output), 125, "{output:?}");
    assert!(text(&output.stderr).contains("box"), "{output:?}");
    assert_eq!(daemon.ps().len(), 1);
    let output = daemon
        .run_command(closed(), Some("../box"), &["true"])
        .output()
        .unwrap();
    assert_eq!(code(&output), 2, "{output:?}");
}

#[test]
fn status_says_that_everything_is_in_force() {
    let daemon = daemon();
    let status = daemon.json(&["status"]);
    assert_eq!(status[0]["health"], "healthy", "{status:?}");
    assert_eq!(status[0]["problems"], json!([]));
    let hooks = status[0]["hooks"].as_array().unwrap();
    assert_eq!(hooks.len(), 10, "{hooks:?}");
    assert!(
        hooks.iter().all(|hook| hook["attached"] == true),
        "{hooks:?}"
    );
}

#[test]
fn status_shows_a_sandbox_whose_landlock_is_not_whole_as_degraded() {
    let daemon = daemon();
    let script = "echo ready; read line";
    let mut command = daemon.run_command(&direct(""), Some("box"), &["sh", "-c", script]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    is_listed(&daemon, "box");
    let whole = daemon.ps()[0]["layers"]["landlock"] == "fully_enforced";
    let abi = daemon.ps()[0]["layers"]["landlock_abi"].as_u64().unwrap();
    // The host's abstract sockets are scoped from ABI 6 on (Linux 6.12).
    assert_eq!(whole, abi >= 6, "ABI {abi}");
    let status = daemon.clawctl(["status"]).output().unwrap();
    assert_eq!(code(&status), i32::from(!whole), "{status:?}");
    assert_eq!(text(&status.stdout).contains("best_effort"), !whole);
    drop(child.stdin.take());
    child.wait().unwrap();
}
