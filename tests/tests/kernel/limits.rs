//! What a sandbox may use up: in force, shown, kept over restarts, and refused where it cannot be.

use std::{fs, path::Path};

use clawd_tests::{Daemon, Prober, cgroup1_mounts};
use serde_json::{Value, json};

use crate::support::{closed, code, eventually, processes, text};

/// A policy in mode none, with these limits in YAML's flow style.
fn limited(limits: &str) -> String {
    format!("{}process: {{ {limits} }}\n", closed())
}

fn limits(daemon: &Daemon, sandbox: &str) -> Value {
    let status = daemon.status();
    let all = status["limits"].as_array().expect("limits").clone();
    let found = all.into_iter().find(|of| of["sandbox"] == sandbox);
    found.unwrap_or_else(|| panic!("no limits of {sandbox}: {status}"))
}

/// The directories that a sandbox has in hierarchies of version 1.
fn legacy(daemon: &Daemon, sandbox: &str) -> Vec<String> {
    let dirs = daemon.paths().legacy_parents.iter();
    dirs.map(|parent| parent.join(sandbox))
        .filter(|dir| dir.exists())
        .map(|dir| dir.display().to_string())
        .collect()
}

fn memory_of_host() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let words: Vec<_> = text.split_whitespace().collect();
    words[1].parse::<u64>().unwrap() << 10
}

#[test]
fn limits_of_the_policy_are_in_force_and_shown() {
    let daemon = Daemon::start(None).unwrap();
    let policy =
        limited("pids_max: 50, memory_max: 96MiB, cpu_max: 1.5, nofile_max: 200, fsize_max: 1MiB");
    let mut prober = Prober::start(&daemon, "box", &policy).unwrap();
    let of = limits(&daemon, "box");
    assert_eq!(of["pids_max"], 50, "{of}");
    assert_eq!(of["memory_max_bytes"], 96 << 20, "{of}");
    assert_eq!(of["cpu_max_percent"], 150, "{of}");
    assert_eq!(of["nofile_max"], 200, "{of}");
    assert_eq!(of["fsize_max_bytes"], 1 << 20, "{of}");
    assert!((1..50).contains(&of["pids"].as_u64().unwrap()), "{of}");
    // clawd's first process, and the interpreter.
    assert!(
        (1 << 20..96 << 20).contains(&of["memory_bytes"].as_u64().unwrap()),
        "{of}"
    );
    let ps = daemon.ps();
    assert_eq!(ps[0]["limits"]["pids_max"], 50, "{ps:?}");
    let shown = text(&daemon.clawctl(["status"]).output().unwrap().stdout);
    assert!(shown.contains("box: processes 50 ("), "{shown}");
    // What the limits are about is where they are: every process of the sandbox.
    let answer =
        prober.ask(&json!({ "do": "run", "argv": ["sh", "-c", "ulimit -Hn; ulimit -Hf"] }));
    assert_eq!(answer["ok"]["out"], "200\n2048\n", "{answer}");
    for dir in legacy(&daemon, "box") {
        let members = fs::read_to_string(Path::new(&dir).join("cgroup.procs")).unwrap();
        let members: Vec<u32> = members.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(members, processes(&daemon, "box"), "{dir}");
    }
    assert!(prober.end().unwrap().success());
    eventually("it is gone", || daemon.ps().is_empty());
    assert_eq!(legacy(&daemon, "box"), [""; 0]);
}

#[test]
fn limits_that_no_policy_names_have_defaults() {
    let daemon = Daemon::start(None).unwrap();
    let _prober = Prober::start(&daemon, "box", closed()).unwrap();
    let of = limits(&daemon, "box");
    assert_eq!(of["pids_max"], 4096, "{of}");
    let memory = of["memory_max_bytes"].as_u64().unwrap();
    let half = memory_of_host() / 2;
    assert!(memory.abs_diff(half) < 1 << 20, "{memory} of {half}");
    assert_eq!(of["cpu_max_percent"], Value::Null, "{of}");
    // Fewer where clawd itself may not have more.
    let files = of["nofile_max"].as_u64().unwrap();
    assert!((64..=65_536).contains(&files), "{of}");
    assert_eq!(of["fsize_max_bytes"], Value::Null, "{of}");
    assert_eq!(daemon.status()["health"], "healthy");
}

#[test]
fn limits_outlive_the_daemon_and_go_with_the_sandbox() {
    let mut daemon = Daemon::start(None).unwrap();
    let policy = limited("pids_max: 60, memory_max: 128MiB");
    let mut stays = Prober::start(&daemon, "stays", &policy).unwrap();
    let mut ends = Prober::start(&daemon, "ends", &policy).unwrap();
    let version_1 = !legacy(&daemon, "ends").is_empty();
    daemon.kill9().unwrap();
    assert!(ends.end().unwrap().success());
    eventually("its processes are gone", || {
        processes(&daemon, "ends").is_empty()
    });
    assert_eq!(!legacy(&daemon, "ends").is_empty(), version_1);
    daemon.launch().unwrap();
    eventually("what is left of it is gone", || {
        legacy(&daemon, "ends").is_empty()
    });
    let of = limits(&daemon, "stays");
    assert_eq!(of["pids_max"], 60, "{of}");
    assert_eq!(of["memory_max_bytes"], 128 << 20, "{of}");
    assert!(stays.end().unwrap().success());
    eventually("it is gone", || daemon.ps().is_empty());
    assert_eq!(legacy(&daemon, "stays"), [""; 0]);
}

#[test]
fn daemons_side_by_side_have_limits_of_their_own() {
    let daemons = [Daemon::start(None).unwrap(), Daemon::start(None).unwrap()];
    let start = |daemon, pids| Prober::start(daemon, "box", &limited(pids)).unwrap();
    let mut first = start(&daemons[0], "pids_max: 70, cpu_max: 1");
    let _second = start(&daemons[1], "pids_max: 80");
    assert!(first.end().unwrap().success());
    let [mut ended, other] = daemons;
    ended.finish().unwrap();
    let of = limits(&other, "box");
    assert_eq!(of["pids_max"], 80, "{of}");
    // The end of the first takes nothing from the second.
    let _third = Prober::start(&other, "third", &limited("pids_max: 90, cpu_max: 2")).unwrap();
    let of = limits(&other, "third");
    assert_eq!(
        (&of["pids_max"], &of["cpu_max_percent"]),
        (&json!(90), &json!(200))
    );
}

#[test]
fn limit_that_cannot_be_held_stops_the_start_and_a_default_shows_as_degraded() {
    let (mut daemon, _busy) = Daemon::prepare_without_controllers().unwrap();
    daemon.launch().unwrap();
    let output = daemon.run(&limited("memory_max: 64MiB"), &["true"]);
    assert_eq!(code(&output), 125, "{output:?}");
    let told = text(&output.stderr);
    for word in ["limits", "memory_max", "memory controller"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    // Where version 2 has the controller the parent may not hand it out; else it is mounted nowhere.
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let remedy = match controllers.contains("memory") {
        true => "--cgroup-parent",
        false => "mount",
    };
    assert!(told.contains(remedy), "{remedy}: {told}");
    assert!(daemon.ps().is_empty());
    let refused = |record: &Value| record["activity"] == "sandbox_refused";
    assert!(daemon.audit().iter().any(refused));
    let mut prober = Prober::start(&daemon, "box", closed()).unwrap();
    let status = daemon.status();
    assert_eq!(status["health"], "degraded", "{status}");
    let problems = status["problems"].to_string();
    assert!(problems.contains("box: no limit of memory"), "{problems}");
    assert_eq!(limits(&daemon, "box")["memory_max_bytes"], Value::Null);
    assert!(prober.end().unwrap().success());
    daemon.finish().unwrap();
}

#[test]
fn no_process_can_move_itself_out_of_its_cgroups() {
    const LOOK: &str = "import os
print(open('/proc/self/mountinfo').read().count(' - cgroup'), os.path.exists('/sys'))
print(set(line.split(':')[2] for line in open('/proc/self/cgroup').read().split()))
for path in ['/sys/fs/cgroup/cgroup.procs', '/proc/1/root/sys/fs/cgroup/cgroup.procs']:
    try:
        open(path, 'w').write('0')
        print('open')
    except OSError as error:
        print(error.errno)
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for kind in [b'cgroup', b'cgroup2']:
    print(libc.mount(b'x', b'/tmp', kind, 0, None), ctypes.get_errno())
";
    let daemon = Daemon::start(None).unwrap();
    let output = daemon.run(closed(), &["/usr/bin/python3", "-I", "-c", LOOK]);
    let lines = text(&output.stdout);
    let lines: Vec<_> = lines.lines().collect();
    // The namespace shows its own root alone. Pid 1 cannot be looked into at all.
    let want = ["0 False", "{'/'}", "2", "13", "-1 1", "-1 1"];
    assert_eq!(lines, want, "{output:?}");
    assert!(!cgroup1_mounts().unwrap().contains(&"/".into()));
}
