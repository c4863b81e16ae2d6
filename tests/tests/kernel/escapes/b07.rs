//! B7: exec by a thread, forks, orphans, reused process ids: the right identity each time.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use clawd_tests::{Address, PYTHON};
use serde_json::{Value, json};

use super::{Allowed, NOT_CONNECTED, Ran, SMALL, Seen, Who};
use crate::support::{CURL_ENTRY, PYTHON_ENTRY, World};

const SCRIPT: &str = include_str!("../../../escapes/b07_who_asks.py");
const PID_REUSE: &str = include_str!("../../../escapes/b07_pid_reuse.py");
const CURL: &str = "/usr/bin/curl";
const BASH: &str = "/usr/bin/bash";
const DASH: &str = "/usr/bin/dash";
/// The test's own pid namespace gives the number after this one next.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
/// How often a number is tried to be had again: others of this machine take numbers too.
const TRIES: usize = 200;

/// Python itself, which nothing led to.
fn python_alone() -> Who<'static> {
    Who {
        lineage: &[],
        ..Who::by_python(PYTHON)
    }
}

fn policy(entry: &str) -> String {
    let binaries = [entry];
    let allowed = Allowed {
        binaries: &binaries,
        ..Allowed::default()
    };
    allowed.policy()
}

/// Curl, told to print what came of it as a step.
fn curl() -> Value {
    let told = r#"{"step":"curl","exit":%{exitcode}}\n"#;
    json!([CURL, "-sS", "-o", "/dev/null", "-w", told, SMALL])
}

fn ask(how: &str, run: &Value) -> Value {
    json!({ "do": how, "addr": Address::A, "port": 7000, "run": run })
}

fn run(world: &World, name: &str, entry: &str, how: &str) -> Ran {
    Ran::script(world, name, &policy(entry), SCRIPT, &ask(how, &curl()))
}

/// The host's process id that Python had from its exec on.
fn python_pid(ran: &Ran) -> &Value {
    &ran.executed("identified", &python_alone())["pid"]
}

#[test]
fn exec_by_a_thread_is_the_new_programs() {
    let world = World::start();
    let by_python = Who::by_python(CURL);
    let ran = run(&world, "listed", CURL_ENTRY, "thread_exec");
    assert_eq!(ran.step("thread")["first"], false, "{:?}", ran.steps);
    assert_eq!(ran.step("curl")["exit"], 0, "{:?}", ran.steps);
    ran.reached(&world, 80, 1);
    ran.undisputed();
    let exec = ran.executed("identified", &by_python);
    assert_eq!(exec["pid"], *python_pid(&ran), "{exec}");
    assert_eq!(exec["tid"], exec["pid"], "{exec}");

    let ran = run(&world, "unlisted", PYTHON_ENTRY, "thread_exec");
    assert_eq!(ran.step("thread")["first"], false, "{:?}", ran.steps);
    assert_eq!(ran.step("curl")["exit"], NOT_CONNECTED, "{:?}", ran.steps);
    ran.reached_nobody();
    ran.executed("identified", &by_python);
    let denial = ran.denied("binary_not_listed", &by_python, 80);
    assert_eq!(denial["pid"], *python_pid(&ran), "{denial}");

    let connects = format!(
        "if echo > /dev/tcp/{}/7000; then echo '{{\"step\":\"shell\",\"exit\":0}}'; fi",
        Address::A
    );
    let shell = json!([BASH, "-c", connects]);
    let asked = ask("thread_exec", &shell);
    let ran = Ran::script(&world, "shell", &policy(PYTHON_ENTRY), SCRIPT, &asked);
    assert_eq!(ran.steps.len(), 1, "{:?}", ran.steps);
    ran.reached_nobody();
    ran.denied("binary_not_listed", &Who::by_python(BASH), 7000);
    let listed = format!("{{ path: {BASH} }}");
    let ran = Ran::script(&world, "listed-shell", &policy(&listed), SCRIPT, &asked);
    assert_eq!(ran.step("shell")["exit"], 0, "{:?}", ran.output);
    ran.reached(&world, 7000, 1);
    ran.undisputed();
}

#[test]
fn fork_keeps_the_identity() {
    let world = World::start();
    let ran = run(&world, "listed", PYTHON_ENTRY, "fork");
    assert_eq!(ran.step("child")["got"], "ping", "{:?}", ran.steps);
    ran.reached(&world, 7000, 1);
    ran.undisputed();

    let ran = run(&world, "unlisted", CURL_ENTRY, "fork");
    assert_eq!(ran.step("child")["errno"], 1, "{:?}", ran.steps);
    ran.reached_nobody();
    let denial = ran.denied("binary_not_listed", &python_alone(), 7000);
    assert_ne!(denial["pid"], *python_pid(&ran), "{denial}");
}

#[test]
fn vfork_keeps_parent_and_child_apart() {
    let world = World::start();
    let by_python = Who::by_python(CURL);
    let ran = run(&world, "child-listed", CURL_ENTRY, "spawn");
    assert_eq!(ran.step("curl")["exit"], 0, "{:?}", ran.steps);
    assert_eq!(ran.step("parent")["errno"], 1, "{:?}", ran.steps);
    ran.reached(&world, 80, 1);
    ran.executed("identified", &by_python);
    let denial = ran.denied("binary_not_listed", &python_alone(), 7000);
    assert_eq!(denial["pid"], *python_pid(&ran), "{denial}");

    let ran = run(&world, "parent-listed", PYTHON_ENTRY, "spawn");
    assert_eq!(ran.step("curl")["exit"], NOT_CONNECTED, "{:?}", ran.steps);
    assert_eq!(ran.step("parent")["got"], "ping", "{:?}", ran.steps);
    ran.reached(&world, 7000, 1);
    let denial = ran.denied("binary_not_listed", &by_python, 80);
    assert_ne!(denial["pid"], *python_pid(&ran), "{denial}");
}

#[test]
fn orphan_keeps_identity_and_lineage() {
    let world = World::start();
    let python = Who {
        lineage: &[DASH],
        ..python_alone()
    };
    let curl_of_both = Who {
        lineage: &[PYTHON, DASH],
        ..Who::by_python(CURL)
    };
    let asked = ask("orphan", &curl()).to_string();
    let shell = r#""$0" "$@"; exit $?"#;
    let argv = [DASH, "-c", shell, PYTHON, "-I", "-c", SCRIPT, &asked];
    let orphan = |name: &str, entry: &str| {
        let ran = Ran::command(&world, name, &policy(entry), &argv);
        assert_eq!(ran.step("orphan")["parent"], 1, "{:?}", ran.steps);
        ran.executed("identified", &python);
        ran.executed("identified", &curl_of_both);
        ran
    };

    let ran = orphan("python-listed", PYTHON_ENTRY);
    assert_eq!(ran.step("alone")["got"], "ping", "{:?}", ran.steps);
    assert_eq!(ran.step("curl")["exit"], NOT_CONNECTED, "{:?}", ran.steps);
    ran.reached(&world, 7000, 1);
    ran.denied("binary_not_listed", &curl_of_both, 80);

    let ran = orphan("curl-listed", CURL_ENTRY);
    assert_eq!(ran.step("alone")["errno"], 1, "{:?}", ran.steps);
    assert_eq!(ran.step("curl")["exit"], 0, "{:?}", ran.steps);
    ran.reached(&world, 80, 1);
    ran.denied("binary_not_listed", &python, 7000);
}

/// A live sandbox that has children come and go.
struct Children {
    clawctl: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Children {
    fn start(world: &World, name: &str, policy: &str) -> Self {
        let argv = [PYTHON, "-I", "-c", PID_REUSE];
        let mut command = world.daemon.run_command(policy, Some(name), &argv);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut clawctl = command.spawn().unwrap();
        let input = clawctl.stdin.take();
        let output = BufReader::new(clawctl.stdout.take().unwrap());
        let mut started = Self {
            clawctl,
            input,
            output,
        };
        assert_eq!(started.line(), "ready");
        started
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn ask(&mut self, what: &Value) -> Value {
        writeln!(self.input.as_mut().unwrap(), "{what}").unwrap();
        self.line()
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.input = None;
        drop(self.clawctl.wait());
    }
}

/// Python once more, with a content of its own.
fn tool(world: &World) -> PathBuf {
    let path = world.daemon.scratch().folder("programs", 0o755).unwrap();
    let path = path.join("tool");
    fs::copy(PYTHON, &path).unwrap();
    let mut file = File::options().append(true).open(&path).unwrap();
    file.write_all(b"x").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Has the child that comes next get the number of the one that is killed; tells whether it did.
fn replace(world: &World, children: &mut Children, from: &str, (next, to): (&Value, &str)) -> bool {
    let latest = |program: &str| world.pids("box", program).into_iter().max().unwrap();
    let number = latest(from);
    children.ask(&json!({ "do": "kill" }));
    // Not to be read from the sandbox: its own numbers are others.
    fs::write(LAST_PID, (number - 1).to_string()).unwrap();
    children.ask(next);
    world.pids("box", to).contains(&number)
}

#[test]
fn reused_pid_is_another_process() {
    let world = World::start();
    let tool = tool(&world);
    let entry = format!("{{ path: {} }}", tool.display());
    let allowed = Allowed {
        read_execute: &[tool.parent().unwrap()],
        binaries: &[&entry],
        ..Allowed::default()
    };
    let mut children = Children::start(&world, "box", &allowed.policy());
    let own = world.pids("box", PYTHON);
    let shown = tool.to_str().unwrap();
    let start = json!({ "do": "start", "as": shown });
    let fork = json!({ "do": "fork" });
    let kill = json!({ "do": "kill" });
    let connect = json!({ "do": "connect", "addr": Address::A, "port": 7000 });

    // The number of a listed process, for one that is not.
    let reused = (0..TRIES).any(|_| {
        children.ask(&start);
        assert_eq!(children.ask(&connect)["got"], "ping");
        let reused = replace(&world, &mut children, shown, (&fork, PYTHON));
        if !reused {
            children.ask(&kill);
        }
        reused
    });
    assert!(reused, "no number was had again");
    let forked: Vec<_> = world.pids("box", PYTHON);
    let forked = forked.iter().find(|pid| !own.contains(pid)).unwrap();
    let before = Seen::now(&world);
    let answer = children.ask(&connect);
    assert_eq!(answer["errno"], 1, "{answer}");
    assert_eq!(Seen::now(&world), before, "the internet saw it");
    let denials = world.denials("box", 0);
    let [denial] = denials.as_slice() else {
        panic!("one denial: {denials:?}")
    };
    assert_eq!(denial["reason"], "binary_not_listed", "{denial}");
    assert_eq!(denial["pid"], *forked, "{denial}");
    python_alone().is_told_by(denial);

    // And the other way round.
    let reused = (0..TRIES).any(|_| {
        let reused = replace(&world, &mut children, PYTHON, (&start, shown));
        if !reused {
            children.ask(&kill);
            children.ask(&fork);
        }
        reused
    });
    assert!(reused, "no number was had again");
    let answer = children.ask(&connect);
    assert_eq!(answer["got"], "ping", "{answer}");
    assert_eq!(world.denials("box", 0).len(), 1);
    children.ask(&kill);
}
