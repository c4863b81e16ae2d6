//! S8: who uses up processes, memory, disk or descriptors meets a limit, and nobody else does.

use std::{
    process::Output,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use clawd_tests::{Daemon, PYTHON};
use serde_json::{Value, json};

use crate::support::{closed, code, eventually, text};

const SCRIPT: &str = include_str!("../../../escapes/s08_use_up.py");
/// What another sandbox does meanwhile: processes, memory, files, descriptors.
const ORDINARY: &str = "import os, subprocess
held = bytearray(b'x' * (32 << 20))
assert subprocess.run(['/usr/bin/true']).returncode == 0
with open('/tmp/file', 'wb') as file:
    file.write(held)
for _ in range(500):
    os.dup(1)
print('done')";

fn limited(limits: &str) -> String {
    format!("{}process: {{ {limits} }}\n", closed())
}

/// Runs the script in sandbox `bomb` while other sandboxes start, work and end; returns what it told.
#[track_caller]
fn beside_others(daemon: &Daemon, policy: &str, ask: &Value) -> Value {
    let ask = ask.to_string();
    let mut bomb = daemon.run_command(policy, Some("bomb"), &[PYTHON, "-I", "-c", SCRIPT, &ask]);
    let over = AtomicBool::new(false);
    let (output, others) = thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut others: Vec<Output> = Vec::new();
            while others.is_empty() || !over.load(Ordering::SeqCst) {
                others.push(daemon.run(closed(), &[PYTHON, "-I", "-c", ORDINARY]));
            }
            others
        });
        let output = bomb.output().expect("clawctl");
        over.store(true, Ordering::SeqCst);
        (output, others.join().expect("others"))
    });
    for other in others {
        assert_eq!(text(&other.stdout), "done\n", "{other:?}");
        assert_eq!(code(&other), 0, "{other:?}");
    }
    assert_eq!(code(&output), 0, "{output:?}");
    eventually("nothing is left", || daemon.ps().is_empty());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("one step: {output:?}"))
}

/// The sandbox's records of this limit; their counts added up.
fn hits(daemon: &Daemon, sandbox: &str, reason: &str) -> u64 {
    let is_hit = |record: &&Value| {
        record["activity"] == "limit_hit"
            && record["reason"] == reason
            && record["sandbox"] == sandbox
    };
    let records = daemon.audit();
    let hits = records.iter().filter(is_hit);
    hits.inspect(|record| assert_eq!(record["action"], "denied", "{record}"))
        .map(|record| record["count"].as_u64().expect("a count"))
        .sum()
}

#[test]
fn fork_bomb_ends_at_the_limit_and_nobody_else_does() {
    let daemon = Daemon::start(None).unwrap();
    let ask = json!({ "do": "fork", "seconds": 2 });
    let told = beside_others(&daemon, &limited("pids_max: 64"), &ask);
    assert_eq!(told["refused"], "EAGAIN", "{told}");
    assert!(hits(&daemon, "bomb", "pids_limit") > 0);
    assert_eq!(hits(&daemon, "bomb", "memory_limit"), 0);
}

#[test]
fn memory_bomb_is_killed_and_its_sandbox_goes_on() {
    let daemon = Daemon::start(None).unwrap();
    let ask = json!({ "do": "memory", "mebibytes": 512 });
    let told = beside_others(&daemon, &limited("memory_max: 96MiB"), &ask);
    assert_eq!(told["signal"], 9, "{told}");
    assert_eq!(hits(&daemon, "bomb", "memory_limit"), 1);
    assert_eq!(hits(&daemon, "bomb", "pids_limit"), 0);
}

#[test]
fn limits_that_were_met_are_told_while_the_sandbox_lives_and_once() {
    let mut daemon = Daemon::start(None).unwrap();
    let script = "import json, os, sys
while sys.stdin.readline():
    try:
        os.fork() or os.abort()
    except OSError as error:
        print(error.errno, flush=True)";
    let mut command = daemon.run_command(
        &limited("pids_max: 4"),
        Some("box"),
        &[PYTHON, "-I", "-c", &format!("import threading, time\nfor _ in range(2):\n    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n{script}")],
    );
    let mut child = command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut refused = || {
        use std::io::{BufRead as _, Write as _};
        writeln!(input).unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "11\n");
    };
    refused();
    eventually("it is told", || hits(&daemon, "box", "pids_limit") == 1);
    let limits = daemon.status()["limits"][0].clone();
    assert_eq!(limits["pids_refused"], 1, "{limits}");
    daemon.kill9().unwrap();
    refused();
    refused();
    daemon.launch().unwrap();
    eventually("the next daemon goes on", || {
        hits(&daemon, "box", "pids_limit") == 3
    });
    drop(input);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    eventually("it is gone", || daemon.ps().is_empty());
    assert_eq!(hits(&daemon, "box", "pids_limit"), 3);
}

#[test]
fn disk_is_full_at_the_size_of_the_view_and_at_the_limit_of_memory_and_of_files() {
    let daemon = Daemon::start(None).unwrap();
    let fill = |policy: &str, path: &str, mebibytes: u64| {
        let ask = json!({ "do": "fill", "path": path, "mebibytes": mebibytes });
        beside_others(&daemon, policy, &ask)
    };
    let told = fill(&limited("memory_max: 1GiB"), "/dev/shm", 300);
    assert_eq!(
        (&told["mebibytes"], &told["refused"]),
        (&json!(256), &json!("ENOSPC"))
    );
    for path in ["/tmp", "/home/sandbox"] {
        let told = fill(&limited("fsize_max: 3MiB"), path, 10);
        assert_eq!(
            (&told["mebibytes"], &told["refused"]),
            (&json!(3), &json!("EFBIG"))
        );
    }
}

#[test]
fn descriptors_end_at_the_limit_which_nobody_can_raise() {
    let daemon = Daemon::start(None).unwrap();
    let ask = json!({ "do": "descriptors", "wanted": 70_000 });
    for (policy, most) in [
        // The default is less where clawd itself may not have more.
        (closed(), 65_536),
        (limited("nofile_max: 300").as_str(), 300),
    ] {
        let told = beside_others(&daemon, policy, &ask);
        let hard = told["hard"].as_u64().unwrap();
        assert!(hard <= most && (hard == most || most == 65_536), "{told}");
        assert_eq!(told["refused"], "EMFILE", "{told}");
        assert_eq!(told["raised"], "ValueError", "{told}");
        assert!(told["count"].as_u64() <= Some(hard), "{told}");
    }
}
