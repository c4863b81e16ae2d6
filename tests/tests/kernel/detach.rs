//! Sandboxes that go on without a `clawctl`, and stops that ask first.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use clawd_tests::{Daemon, Terminal};

use crate::support::{closed, code, eventually, processes, text};

/// `clawctl run --detach` of `sh -c script`, as `name`.
fn detached(daemon: &Daemon, name: &str, script: &str) -> Command {
    let mut command = daemon.clawctl(["run", "-d", "--name", name, "--policy"]);
    command
        .arg(daemon.policy_file(closed()))
        .args(["--", "sh", "-c", script]);
    command
}

#[test]
fn detached_sandbox_outlives_its_clawctl_and_its_daemon() {
    let mut daemon = Daemon::start(None).unwrap();
    let begun = Instant::now();
    // Its own pipes are no streams of the sandbox's: they end with clawctl.
    let output = detached(&daemon, "box", "ls -l /proc/self/fd; exec sleep 1000")
        .stdin(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!((text(&output.stdout).as_str(), code(&output)), ("box\n", 0));
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert_eq!(daemon.ps()[0]["name"], "box");
    daemon.restart().unwrap();
    assert_eq!(daemon.ps()[0]["adopted"], true);
    let entered = daemon.clawctl(["exec", "box", "--", "cat", "/proc/2/cmdline"]);
    let entered = { entered }.output().unwrap();
    assert_eq!(text(&entered.stdout), "sleep\u{0}1000\u{0}");
    eventually("the sandbox's own are left", || {
        processes(&daemon, "box").len() == 2
    });
    for pid in processes(&daemon, "box") {
        for number in 0..3 {
            let stream = fs::read_link(format!("/proc/{pid}/fd/{number}")).unwrap();
            // Pid 1 has the host's, which is below no root of its own.
            assert!(stream.ends_with("null"), "{pid} {number} {stream:?}");
        }
    }
    let report = daemon.json(&["stop", "box"]);
    assert_eq!(report[0]["killed"], 2, "{report:?}");
    assert!(daemon.ps().is_empty());
    assert!(!daemon.paths().cgroup_parent.join("box").exists());
}

#[test]
fn detached_sandbox_that_ends_is_cleared_away() {
    let daemon = Daemon::start(None).unwrap();
    let mut command = daemon.clawctl(["--json", "run", "-d", "--policy"]);
    command
        .arg(daemon.policy_file(closed()))
        .args(["--", "true"]);
    let output = command.output().unwrap();
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["sandbox"], "sandbox-1");
    assert!(printed["pid"].as_u64() > Some(1), "{printed}");
    eventually("it is gone", || daemon.ps().is_empty());
    let missing = daemon.clawctl(["run", "-d", "--policy"]);
    let output = { missing }
        .arg(daemon.policy_file(closed()))
        .args(["--", "no-such-command"])
        .output()
        .unwrap();
    assert_eq!(code(&output), 127, "{output:?}");
}

#[test]
fn detached_sandbox_reads_and_writes_the_callers_files_and_no_terminal() {
    let daemon = Daemon::start(None).unwrap();
    let input = daemon.scratch().write("input", "typed\n").unwrap();
    let output = daemon.scratch().path("output");
    let mut command = detached(&daemon, "box", "cat; echo told >&2; exec sleep 1000");
    command
        .stdin(fs::File::open(input).unwrap())
        .stdout(fs::File::create(&output).unwrap())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    assert!(child.wait().unwrap().success());
    let mut rest = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut rest)
        .unwrap();
    assert_eq!(rest, "");
    eventually("both have written", || {
        let written = fs::read_to_string(&output).unwrap();
        written.contains("typed\n") && written.contains("box\n")
    });
    let mut at = Terminal::start(detached(&daemon, "other", "exec sleep 1000")).unwrap();
    assert!(at.wait().success());
    assert!(at.wait_for("", "other\r\n").starts_with("other"));
    let hosts = fs::metadata("/dev/null").unwrap();
    for pid in processes(&daemon, "other") {
        let stream = fs::metadata(format!("/proc/{pid}/fd/0")).unwrap();
        assert_eq!(stream.rdev(), hosts.rdev(), "{pid}");
    }
    let both = daemon.clawctl(["run", "-d", "-t", "--", "true"]).output();
    assert_eq!(code(&both.unwrap()), 2);
}

#[test]
fn stop_with_a_time_to_end_asks_first_and_kills_then() {
    let daemon = Daemon::start(None).unwrap();
    let marks = daemon.scratch().path("marks");
    let out = || fs::File::create(&marks).unwrap();
    let script = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let ready = |want: &str| {
        eventually(want, || fs::read_to_string(&marks).unwrap().contains(want));
    };
    // One that ends when it is asked, with an `exec` in it that does not.
    detached(&daemon, "box", script)
        .stdout(out())
        .output()
        .unwrap();
    ready("ready");
    let stubborn = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let mut entered = daemon
        .clawctl(["exec", "box", "--", "sh", "-c", stubborn])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 6];
    let output = entered.stdout.as_mut().unwrap();
    output.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"ready\n");
    let is_entered = |record: &serde_json::Value| record["activity"] == "sandbox_entered";
    eventually("its start is over", || {
        daemon.audit().iter().any(is_entered)
    });
    let report = daemon.json(&["stop", "--timeout", "60", "box"]);
    assert_eq!(report[0]["killed"], 0, "{report:?}");
    assert!(fs::read_to_string(&marks).unwrap().contains("asked"));
    assert_eq!(entered.wait().unwrap().code(), Some(137));
    assert!(!daemon.paths().cgroup_parent.join("box").exists());
    // Without the time nobody is asked.
    detached(&daemon, "box", script)
        .stdout(out())
        .output()
        .unwrap();
    ready("ready");
    daemon.json(&["stop", "box"]);
    assert!(!fs::read_to_string(&marks).unwrap().contains("asked"));
    // Those that do not end are killed after their time, all at once.
    for name in ["a", "b", "c"] {
        detached(&daemon, name, stubborn)
            .stdout(out())
            .output()
            .unwrap();
        ready("ready");
    }
    let begun = Instant::now();
    let report = daemon.json(&["stop", "--all", "--timeout", "2"]);
    assert!(begun.elapsed() >= Duration::from_secs(2));
    let stopped = report[0]["stopped"].as_array().unwrap();
    assert_eq!(stopped.len(), 3, "{report:?}");
    for stopped in stopped {
        assert!(stopped["killed"].as_u64() >= Some(2), "{report:?}");
        assert!(
            stopped["elapsed_us"].as_u64() >= Some(2_000_000),
            "{report:?}"
        );
    }
    assert!(daemon.ps().is_empty());
}

#[test]
fn wait_ends_with_the_commands_code_over_restarts_and_kills() {
    let mut daemon = Daemon::start(None).unwrap();
    let wait = |daemon: &Daemon, name: &str| daemon.clawctl(["wait", name]).spawn().unwrap();
    // It ends once the waiter waits; whoever tells it to may end with it.
    let end = |daemon: &Daemon| {
        std::thread::sleep(Duration::from_secs(2));
        let touch = ["exec", "box", "--", "touch", "/tmp/end"];
        daemon.clawctl(touch).output().unwrap()
    };
    let cases = [
        ("exit 7", 7, false),
        ("kill -TERM $$", 143, false),
        // By the next daemon, of which it is no child.
        ("exit 9", 9, true),
    ];
    for (last, want, with_next) in cases {
        let script = format!("while [ ! -e /tmp/end ]; do sleep 0.05; done; {last}");
        assert_eq!(
            code(&detached(&daemon, "box", &script).output().unwrap()),
            0
        );
        if with_next {
            daemon.restart().unwrap();
        }
        let mut waiting = wait(&daemon, "box");
        end(&daemon);
        assert_eq!(waiting.wait().unwrap().code(), Some(want), "{last}");
        assert!(daemon.ps().is_empty());
    }
    // Of one that is killed, and of none.
    assert_eq!(
        code(&detached(&daemon, "box", "sleep 1000").output().unwrap()),
        0
    );
    let mut waiting = wait(&daemon, "box");
    std::thread::sleep(Duration::from_secs(2));
    daemon.json(&["stop", "box"]);
    assert_eq!(waiting.wait().unwrap().code(), Some(137));
    assert_eq!(wait(&daemon, "box").wait().unwrap().code(), Some(125));
    let left = fs::read_dir(daemon.paths().state_dir.join("ends")).unwrap();
    assert_eq!(left.count(), 0);
}
