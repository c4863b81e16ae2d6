//! System calls that a sandbox is refused: each is told, whatever happens to the daemon.

use clawd_tests::{PYTHON, Prober, sha256_of_file};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{World, closed, eventually, processes};

/// A socket of the kernel's cryptography.
fn alg() -> Value {
    json!({ "do": "make_socket", "family": 38, "kind": "dgram", "protocol": 0 })
}

/// The records of refused calls after record `seq`.
fn refused(world: &World, seq: u64) -> Vec<Value> {
    let denials = world.denials("box", seq).into_iter();
    denials
        .filter(|record| record["activity"] == "syscall")
        .collect()
}

/// How many times a call was refused, by records and counts together.
fn total(records: &[Value]) -> u64 {
    let count = |record: &Value| record["count"].as_u64().unwrap_or(1);
    records.iter().map(count).sum()
}

fn is_refused(prober: &mut Prober) {
    let answer = prober.ask(&alg());
    assert_eq!(answer["errno"], 1, "{answer}");
}

#[test]
fn refused_call_is_told_with_its_process_and_what_was_tried() {
    let world = World::start();
    let mut prober = world.prober("box", closed());
    is_refused(&mut prober);
    let records = refused(&world, 0);
    let [record] = records.as_slice() else {
        panic!("one record: {records:?}")
    };
    let python = std::fs::canonicalize(PYTHON).unwrap();
    for (field, want) in [
        ("syscall", json!("socket")),
        ("socket_family", json!("alg")),
        ("socket_type", json!("dgram")),
        ("arguments", json!("protocol=0")),
        ("reason", json!("syscall_denied")),
        ("exe", json!(python.display().to_string())),
        ("sha256", json!(sha256_of_file(&python).unwrap())),
        ("policy_generation", json!(1)),
        ("rule", Value::Null),
    ] {
        assert_eq!(record[field], want, "{field}: {record}");
    }
    assert_eq!(record["class"]["uid"], 1003, "{record}");
    let pids = world.pids("box", PYTHON);
    assert!(pids.iter().any(|pid| record["pid"] == *pid), "{record}");
    assert_eq!(record["tid"], record["pid"], "{record}");
}

/// Makes a refused call and is gone, or becomes another program: both before anybody has looked.
const AND_IS_GONE: &str = "
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.unshare(0x10000000)
if sys.argv[1] == 'exec':
    os.execv('/bin/sleep', ['sleep', '1'])
os._exit(0)
";

#[test]
fn refused_call_of_a_program_that_is_gone_is_told_with_its_process() {
    let mut world = World::start();
    let mut prober = world.prober("box", closed());
    let python = std::fs::canonicalize(PYTHON).unwrap();
    let mut ask = |how: &str| {
        let argv = [PYTHON, "-I", "-c", AND_IS_GONE, how];
        prober.ask(&json!({ "do": "run", "argv": argv }))
    };
    assert_eq!(ask("exit")["ok"]["code"], 0);
    let records = refused(&world, 0);
    let [record] = records.as_slice() else {
        panic!("one record: {records:?}")
    };
    assert_eq!(record["exe"], python.display().to_string(), "{record}");
    assert_eq!(record["sha256"], sha256_of_file(&python).unwrap());
    assert!(record["pid"].as_u64() > Some(1), "{record}");
    assert_eq!(record["arguments"], "flags=CLONE_NEWUSER", "{record}");

    // While nobody reads, it becomes another program: whose call it was is not known any more, and
    // nobody else's name is told.
    world.daemon.kill9().unwrap();
    assert_eq!(ask("exec")["ok"]["code"], 0);
    world.daemon.launch().unwrap();
    let records = refused(&world, record["seq"].as_u64().unwrap());
    let [record] = records.as_slice() else {
        panic!("one record: {records:?}")
    };
    assert_eq!(
        (&record["exe"], &record["sha256"]),
        (&Value::Null, &Value::Null)
    );
    assert!(record["pid"].as_u64() > Some(1), "{record}");
}

#[test]
fn refused_calls_wait_for_the_next_daemon() {
    let mut world = World::start();
    let mut prober = world.prober("box", closed());
    world.daemon.kill9().unwrap();
    for _ in 0..5 {
        is_refused(&mut prober);
    }
    world.daemon.launch().unwrap();
    assert_eq!(total(&refused(&world, 0)), 5);
    // And it goes on reading.
    let seen = world.daemon.audit().len();
    is_refused(&mut prober);
    eventually("the sixth", || total(&refused(&world, 0)) == 6);
    assert!(world.daemon.audit().len() > seen);
    assert!(prober.end().unwrap().success());
}

#[test]
fn policy_allows_and_denies_calls_by_name() {
    let world = World::start();
    let policy = format!(
        "{}process: {{ seccomp_allow: [personality], seccomp_deny: [mkdir, mkdirat] }}\n",
        closed()
    );
    let mut prober = world.prober("box", &policy);
    let script = "setarch -R true; echo $?; mkdir /tmp/d; echo $?; test -d /tmp/d; echo $?";
    let answer = prober.ask(&json!({ "do": "run", "argv": ["/bin/sh", "-c", script] }));
    assert_eq!(answer["ok"]["out"], "0\n1\n1\n", "{answer}");
    let records = refused(&world, 0);
    let [record] = records.as_slice() else {
        panic!("one record: {records:?}")
    };
    let call = record["syscall"].as_str();
    assert!(matches!(call, Some("mkdir" | "mkdirat")), "{record}");
    assert_eq!(record["reason"], "syscall_denied", "{record}");
}

/// Nobody is left to answer then; the kernel would say that there is no such call.
#[test]
fn sandbox_ends_with_the_process_that_answers_its_calls() {
    let world = World::start();
    let mut prober = world.prober("box", closed());
    is_refused(&mut prober);
    let answers = world.pids("box", "/").into_iter().min().expect("pid 1");
    let pid = i32::try_from(answers).ok().and_then(Pid::from_raw);
    assert_eq!(world.daemon.ps()[0]["pid"], answers);
    kill_process(pid.expect("a pid"), Signal::KILL).unwrap();
    eventually("nothing of it runs", || {
        processes(&world.daemon, "box").is_empty()
    });
    eventually("it is told", || {
        let stopped = |record: &Value| record["activity"] == "sandbox_stopped";
        world.daemon.audit().iter().any(stopped)
    });
    // What it was refused before is told all the same.
    assert_eq!(total(&refused(&world, 0)), 1);
}

/// Takes from pid 1 what it has not, makes a refused call, and takes from itself what it may.
const STARVE: &str = "
import ctypes, resource
libc = ctypes.CDLL(None, use_errno=True)
for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_CPU):
    try:
        resource.prlimit(1, kind, (0, 0))
        print('taken')
    except PermissionError:
        print('refused')
libc.unshare(0x10000000)
resource.prlimit(0, resource.RLIMIT_NOFILE, (64, 64))
print(resource.getrlimit(resource.RLIMIT_NOFILE))
";

#[test]
fn limits_of_the_process_that_answers_calls_cannot_be_lowered() {
    let world = World::start();
    let mut prober = world.prober("box", closed());
    let answer = prober.ask(&json!({ "do": "run", "argv": [PYTHON, "-I", "-c", STARVE] }));
    let want = "refused\nrefused\nrefused\n(64, 64)\n";
    assert_eq!(answer["ok"]["out"], want, "{answer}");
    let records = refused(&world, 0);
    let calls: Vec<_> = records.iter().map(|record| &record["syscall"]).collect();
    assert_eq!(calls, ["prlimit64", "prlimit64", "prlimit64", "unshare"]);
    assert_eq!(records[0]["arguments"], "pid=1 resource=7");
    for record in &records {
        assert!(
            record["pid"].is_u64() && record["exe"].is_string(),
            "{record}"
        );
    }
    assert!(prober.end().unwrap().success());
}

/// Makes a refused call so many times in a row, as fast as it can; prints how many were not EPERM.
const FLOOD: &str = "
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
wrong = 0
for _ in range(int(sys.argv[1])):
    ctypes.set_errno(0)
    if libc.unshare(0x10000000) != -1 or ctypes.get_errno() != 1:
        wrong += 1
print(wrong)
";

fn flood(prober: &mut Prober, count: u32) {
    let argv = [PYTHON, "-I", "-c", FLOOD, &count.to_string()];
    let answer = prober.ask(&json!({ "do": "run", "argv": argv }));
    assert_eq!(answer["ok"]["out"], "0\n", "{answer}");
}

#[test]
fn flood_of_refused_calls_is_counted_exactly_and_does_not_fill_the_log() {
    const FLOOD: u32 = 20_000;
    let world = World::start();
    let mut prober = world.prober("box", closed());
    let begun = std::time::Instant::now();
    flood(&mut prober, FLOOD);
    let seconds = begun.elapsed().as_secs() + 2;
    eventually("every call is told", || {
        let lost = lost(&world);
        total(&refused(&world, 0)) + lost == u64::from(FLOOD)
    });
    let records = refused(&world, 0);
    let most = usize::try_from(seconds * 11).unwrap() + 11;
    assert!(records.len() <= most, "{} in {seconds} s", records.len());
    assert!(records.iter().any(|record| record["count"].is_u64()));
}

/// Refusals whose records found the pipe full.
fn lost(world: &World) -> u64 {
    let records = world.daemon.audit().into_iter();
    let lost = records.filter(|record| record["activity"] == "events_lost");
    lost.map(|record| record["count"].as_u64().unwrap()).sum()
}

#[test]
fn refusals_that_overflow_without_a_daemon_are_counted_exactly() {
    const FLOOD: u32 = 5_000;
    let mut world = World::start();
    let mut prober = world.prober("box", closed());
    world.daemon.kill9().unwrap();
    // More than the pipe holds, and none of it waits for a reader.
    flood(&mut prober, FLOOD);
    world.daemon.launch().unwrap();
    eventually("every call is told or counted as lost", || {
        total(&refused(&world, 0)) + lost(&world) == u64::from(FLOOD)
    });
    assert!(lost(&world) > 0);
}
