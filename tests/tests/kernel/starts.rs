//! Starts that are killed half-way: nothing of them is left.

use std::{
    fs,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use aya::{
    Pod,
    maps::{HashMap, Map, MapData},
};
use clawd_common::{
    decide::{MaskKey, MaskValue, RuleKey, RuleValue},
    record::{ProcessValue, SandboxValue},
};
use clawd_tests::{Api, Begun, Daemon};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{PYTHON_ENTRY, code, direct, eventually, group, processes};

/// Moments of a start at which something is killed, in parts of the time that a whole one takes; the
/// last are beyond it, because no start takes as long as another.
const MOMENTS: [f64; 12] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.95, 1.2, 1.6];

/// A policy with rules, so that a start writes tables too.
fn policy() -> String {
    direct(&group(
        "g",
        "{ host: 192.0.2.10, port: 7000 }",
        PYTHON_ENTRY,
    ))
}

fn begin(daemon: &Daemon) -> Child {
    daemon
        .run_command(&policy(), Some("box"), &["sleep", "1000"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("clawctl")
}

/// How long it takes until the command runs.
fn whole(daemon: &Daemon) -> Duration {
    let begin_at = Instant::now();
    let mut clawctl = begin(daemon);
    eventually("it runs", || !daemon.ps().is_empty());
    let whole = begin_at.elapsed();
    clawctl.kill().unwrap();
    clawctl.wait().unwrap();
    clean(daemon);
    whole
}

/// Entries of a table, of a key's and a value's size.
pub(crate) fn entries<K: Pod, V: Pod>(daemon: &Daemon, name: &str) -> usize {
    let path = daemon.paths().bpffs.join(format!("map_{name}"));
    // As the daemon sees it: in a mount namespace of its own it may have mounted bpffs there alone.
    let process = daemon
        .pid()
        .map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let path = format!("/proc/{process}/root{}", path.display());
    let data = MapData::from_pin(path).expect("a table");
    let table: HashMap<_, K, V> = Map::from_map_data(data)
        .and_then(HashMap::try_from)
        .expect("a hash table");
    table.keys().filter(Result::is_ok).count()
}

/// What there is of sandboxes: cgroups, state files, policies, table entries, mounts of the host.
fn left(daemon: &Daemon) -> Vec<String> {
    let names = |path: &std::path::Path, only_folders: bool| -> Vec<String> {
        let found = fs::read_dir(path).expect("a folder").flatten();
        found
            .filter(|entry| !only_folders || entry.path().is_dir())
            .map(|entry| entry.path().display().to_string())
            .collect()
    };
    let mut left = names(&daemon.paths().cgroup_parent, true);
    left.extend(names(&daemon.paths().state_dir.join("sandboxes"), false));
    left.extend(names(&daemon.paths().state_dir.join("history"), false));
    let tables = [
        ("RULE", entries::<RuleKey, RuleValue>(daemon, "RULE")),
        ("MASK", entries::<MaskKey, MaskValue>(daemon, "MASK")),
        ("PROCESS", entries::<u32, ProcessValue>(daemon, "PROCESS")),
    ];
    let filled = tables.iter().filter(|(_, count)| *count > 0);
    left.extend(filled.map(|(name, count)| format!("{count} in {name}")));
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    let ours = daemon.scratch().name();
    left.extend(
        mounts
            .lines()
            .filter(|line| line.contains(ours))
            .map(str::to_owned),
    );
    left
}

/// Waits until nothing is left; `box` must not be among the sandboxes.
#[track_caller]
pub(crate) fn clean(daemon: &Daemon) {
    let deadline = Instant::now() + crate::support::DEADLINE;
    loop {
        let (left, ps) = (left(daemon), daemon.ps());
        if left.is_empty() && ps.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{left:?} {ps:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sandboxes in the kernel's table. Ended ones stay there for some minutes, for packets that are still on
/// their way, or until the next daemon starts.
pub(crate) fn remembered(daemon: &Daemon) -> usize {
    entries::<u64, SandboxValue>(daemon, "SANDBOX")
}

/// The next daemon finds nothing and remembers nothing.
#[track_caller]
fn next_is_clean(daemon: &mut Daemon) {
    daemon.restart().unwrap();
    clean(daemon);
    assert_eq!(remembered(daemon), 0);
}

#[test]
fn start_of_which_clawctl_is_killed_leaves_nothing() {
    let mut daemon = Daemon::start(None).unwrap();
    let whole = whole(&daemon);
    for part in MOMENTS {
        let mut clawctl = begin(&daemon);
        thread::sleep(whole.mul_f64(part));
        clawctl.kill().unwrap();
        clawctl.wait().unwrap();
        clean(&daemon);
    }
    next_is_clean(&mut daemon);
}

#[test]
fn start_of_which_the_first_process_is_killed_fails_and_leaves_nothing() {
    let mut daemon = Daemon::start(None).unwrap();
    let whole = whole(&daemon);
    let mut failed = 0;
    for part in MOMENTS {
        let clawctl = begin(&daemon);
        let mut first = None;
        eventually("its first process is there", || {
            first = processes(&daemon, "box").into_iter().min();
            first.is_some()
        });
        thread::sleep(whole.mul_f64(part / 2.0));
        let pid = first.and_then(|pid| Pid::from_raw(pid.cast_signed()));
        kill_process(pid.expect("a pid"), Signal::KILL).expect("kill");
        let output = clawctl.wait_with_output().unwrap();
        // The start failed, or the command was killed with it.
        assert!([125, 137].contains(&code(&output)), "{output:?}");
        failed += i32::from(code(&output) == 125);
        clean(&daemon);
    }
    assert!(failed > 0, "no start was met before its command ran");
    next_is_clean(&mut daemon);
}

#[test]
fn start_of_which_clawd_is_killed_is_taken_over_whole_or_leaves_nothing() {
    let mut daemon = Daemon::start(None).unwrap();
    let whole = whole(&daemon);
    let (mut lived, mut left_nothing) = (0, 0);
    for part in MOMENTS {
        let mut clawctl = begin(&daemon);
        thread::sleep(whole.mul_f64(part));
        // Later than the last moment: it runs for sure.
        if part == MOMENTS[MOMENTS.len() - 1] {
            eventually("it runs", || !daemon.ps().is_empty());
        }
        daemon.restart().unwrap();
        if daemon.ps().is_empty() {
            left_nothing += 1;
            let told = remembered(&daemon);
            // A clawctl that had not been heard yet may ask this one.
            assert!(told <= 1, "{told} sandboxes are remembered");
            // A clawctl that had not been heard yet asks the next daemon: it is killed first.
            clawctl.kill().unwrap();
            clawctl.wait().unwrap();
        } else {
            lived += 1;
            assert!(processes(&daemon, "box").len() >= 2);
            let stopped = daemon.clawctl(["stop", "--all"]).output().unwrap();
            assert_eq!(code(&stopped), 0, "{stopped:?}");
            clawctl.wait().unwrap();
        }
        clean(&daemon);
    }
    next_is_clean(&mut daemon);
    assert!(
        lived > 0 && left_nothing > 0,
        "{lived} lived, {left_nothing} did not"
    );
}

/// Mounts a `/dev` without `tty`, then goes on as clawd.
const WITHOUT_TTY: &str = "mount -t tmpfs none /dev
mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/zero c 1 5; mknod -m 666 /dev/full c 1 7
mknod -m 666 /dev/random c 1 8; mknod -m 666 /dev/urandom c 1 9
exec \"$@\"";

#[test]
fn start_of_which_a_layer_cannot_be_applied_names_it_and_leaves_nothing() {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let without = |capability: &str| format!("--bounding-set=-{capability}");
    let (setpcap, setuid) = (without("setpcap"), without("setuid"));
    let in_mounts = ["unshare", "--mount", "sh", "-c", WITHOUT_TTY, "sh"];
    let cases: [(&[&str], &str, &str); 3] = [
        (
            &["setpriv", &setpcap, "--"],
            "privileges: could not drop",
            "CAP_SETPCAP",
        ),
        (
            &["setpriv", &setuid, "--"],
            "privileges: could not become",
            "CAP_SETUID",
        ),
        (
            &in_mounts,
            "mount view: could not bind `/dev/tty`",
            "nodes of /dev",
        ),
    ];
    for (launcher, layer, remedy) in cases {
        let mut daemon = Daemon::prepare_by(launcher).unwrap();
        daemon.launch().unwrap();
        let output = daemon.run(&policy(), &["true"]);
        let said = crate::support::text(&output.stderr);
        assert_eq!(code(&output), 125, "{output:?}");
        for want in [layer, remedy, kernel.trim_end()] {
            assert!(said.contains(want), "{want:?} is not in {said:?}");
        }
        clean(&daemon);
    }
}

#[test]
fn stop_all_ends_every_start_that_has_its_name() {
    const STARTS: usize = 200;
    let daemon = Daemon::start(None).unwrap();
    let policy = policy();
    let begin = |number: usize| -> Begun {
        let api = Api::connect(&daemon.paths().socket).unwrap();
        let name = format!("box-{number}");
        api.begin_run(&name, &policy, &["sleep", "1000"]).unwrap()
    };
    // One waits for a caller who never says more.
    let silent = begin(STARTS);
    // Those at the front run by then, some are on their way, the rest wait for them.
    let begun: Vec<Begun> = (0..STARTS).map(begin).collect();
    for start in &begun {
        start.hand_over().unwrap();
    }
    eventually("some run", || !daemon.ps().is_empty());
    let mut api = Api::connect(&daemon.paths().socket).unwrap();
    let request = serde_json::json!({ "timeout_s": 0 });
    let (status, report) = api
        .ask("POST", "/v1/sandboxes/stop-all", Some(&request))
        .unwrap();
    // At once, not after a while.
    let (ps, cgroups) = (daemon.ps(), left(&daemon));
    assert_eq!((status, &report["failed"]), (200, &serde_json::json!([])));
    assert_eq!((ps.len(), cgroups), (0, Vec::new()));
    let (mut ran, mut given_up) = (0, 0);
    for start in begun {
        let said = start.outcome().unwrap().expect("an answer");
        if said["event"] == "started" {
            ran += 1;
        } else {
            given_up += 1;
            assert_eq!(said["exit_code"], 125, "{said}");
            let message = said["message"].as_str().unwrap_or_default();
            assert!(message.contains("stopped before"), "{said}");
        }
    }
    assert_eq!(silent.outcome().unwrap(), None);
    assert_eq!(report["stopped"].as_array().map(Vec::len), Some(ran));
    assert!(ran > 0 && given_up > 0, "{ran} ran, {given_up} did not");
    // A name is free again, and a later start is nobody's to stop.
    begin(0).hand_over().unwrap();
    eventually("a later one runs", || daemon.ps().len() == 1);
}
