//! B1: a process that says it executes another file is judged by what it was seen to execute.

use std::process::Output;

use clawd_tests::{Address, Namespace, PYTHON};
use serde_json::{Value, json};

use super::{Allowed, Ran, Seen, Who};
use crate::support::{CURL_ENTRY, PYTHON_ENTRY, World, eventually, processes, text};

const FORGE: &str = include_str!("../../../escapes/b01_forge.py");
const JOIN: &str = include_str!("../../../escapes/b01_join.py");
const CURL: &str = "/usr/bin/curl";
const EPERM: i64 = 1;
/// Every step of `prctl` in `b01_forge.py`.
const PRCTLS: [&str; 6] = ["size", "same", "map", "exe_file", "high", "unshare"];
/// The system call of each.
const CALLS: [&str; 6] = ["prctl", "prctl", "prctl", "prctl", "prctl", "unshare"];

fn policy(binaries: &[&str]) -> String {
    let allowed = Allowed {
        binaries,
        ..Allowed::default()
    };
    allowed.policy()
}

fn ask(how: &str, nobody: bool) -> Value {
    json!({ "do": how, "exe": CURL, "addr": Address::A, "port": 7000, "nobody": nobody })
}

fn python_alone() -> Who<'static> {
    Who {
        lineage: &[],
        ..Who::by_python(PYTHON)
    }
}

#[test]
fn prctl_that_forges_the_executable_is_refused() {
    let world = World::start();
    let asked = ask("prctl", false);
    let ran = Ran::script(&world, "unlisted", &policy(&[CURL_ENTRY]), FORGE, &asked);
    for name in PRCTLS {
        assert_eq!(ran.step(name)["errno"], EPERM, "{:?}", ran.steps);
    }
    assert_eq!(ran.step("connect")["errno"], EPERM, "{:?}", ran.steps);
    ran.reached_nobody();
    ran.refused(&CALLS);
    ran.denied_besides_calls("binary_not_listed", &python_alone(), 7000);

    let listed = policy(&[PYTHON_ENTRY]);
    let ran = Ran::script(&world, "listed", &listed, FORGE, &asked);
    for name in PRCTLS {
        assert_eq!(ran.step(name)["errno"], EPERM, "{:?}", ran.steps);
    }
    assert_eq!(ran.step("connect")["errno"], 0, "{:?}", ran.steps);
    ran.reached(&world, 7000, 1);
    ran.refused(&CALLS);
    ran.undisputed_besides_calls();
}

/// Has a process without seccomp filter, in the live sandbox `box`, do what [`FORGE`] can.
fn join(world: &World, asked: &Value) -> Vec<Value> {
    let parent = &world.daemon.paths().cgroup_parent;
    let join = json!({
        "pid": world.pids("box", PYTHON).first(),
        "procs": parent.join("box/cgroup.procs"),
        "run": [PYTHON, "-I", "-c", FORGE, asked.to_string()],
    });
    let mut command = Namespace::command(PYTHON);
    command.args(["-I", "-c", JOIN, &join.to_string()]);
    let output: Output = world.daemon.place().output(command).unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = text(&output.stdout);
    let parse = |line| serde_json::from_str(line).unwrap();
    lines.lines().map(parse).collect()
}

#[track_caller]
fn step<'a>(steps: &'a [Value], name: &str) -> &'a Value {
    let mut found = steps.iter().filter(|step| step["step"] == name);
    found
        .next()
        .unwrap_or_else(|| panic!("no {name}: {steps:?}"))
}

#[test]
fn forged_executable_is_seen_where_seccomp_is_not() {
    let world = World::start();
    let listed = policy(&[PYTHON_ENTRY, CURL_ENTRY]);
    let _box = world.prober("box", &listed);
    let python = std::fs::canonicalize(PYTHON).unwrap();

    // That the sandbox gets EPERM for all of these is seccomp's doing.
    let steps = join(&world, &ask("prctl", true));
    for name in ["size", "same", "high", "unshare"] {
        assert_eq!(step(&steps, name)["errno"], 0, "{steps:?}");
    }
    assert_eq!(step(&steps, "connect")["errno"], 0, "{steps:?}");
    let contacts = || world.internet.contacts_at(Address::A, 7000).len();
    eventually("the server saw it", || contacts() == 1);

    // Without its text a process connects as before, if it says what it is.
    for nobody in [false, true] {
        let before = contacts();
        let steps = join(&world, &ask("plain", nobody));
        assert_eq!(step(&steps, "shown")["exe"], python.display().to_string());
        assert_eq!(step(&steps, "connect")["errno"], 0, "{steps:?}");
        eventually("the server saw it", || contacts() == before + 1);
    }
    assert_eq!(world.denials("box", 0), Vec::<Value>::new());

    is_seen(&world, &ask("forge_map", true));
    is_seen(&world, &ask("forge_map", false));
    if has_sys_resource() {
        is_seen(&world, &ask("forge", false));
    } else {
        let steps = join(&world, &ask("forge", false));
        assert_eq!(step(&steps, "prctl")["errno"], EPERM, "{steps:?}");
        assert_eq!(step(&steps, "shown")["exe"], python.display().to_string());
    }
    assert_eq!(processes(&world.daemon, "box").len(), 2);
}

/// The process forges its executable, and connects to nobody.
#[track_caller]
fn is_seen(world: &World, asked: &Value) {
    let (before, denied_before) = (Seen::now(world), world.denials("box", 0).len());
    let steps = join(world, asked);
    assert_eq!(step(&steps, "prctl")["errno"], 0, "{steps:?}");
    assert_eq!(step(&steps, "shown")["exe"], CURL, "{steps:?}");
    assert_eq!(step(&steps, "connect")["errno"], EPERM, "{steps:?}");
    assert_eq!(Seen::now(world), before, "the internet saw it");
    let denials = world.denials("box", 0);
    let [denial] = &denials[denied_before..] else {
        panic!("one denial: {denials:?}")
    };
    assert_eq!(denial["reason"], "exe_file_differs", "{denial}");
    assert_eq!(denial["dst_ip"], Address::A, "{denial}");
    assert_eq!(denial["dst_port"], 7000, "{denial}");
    python_alone().is_told_by(denial);
}

/// Whether this process, and so what it starts, has CAP_SYS_RESOURCE.
fn has_sys_resource() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = status.lines();
    let set = lines
        .find_map(|line| line.strip_prefix("CapEff:\t"))
        .unwrap();
    u64::from_str_radix(set, 16).unwrap() >> CAP_SYS_RESOURCE & 1 == 1
}
