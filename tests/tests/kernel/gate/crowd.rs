//! Many sandboxes at once: they share the gate's fanotify groups, and nothing else.

use std::{fs, path::Path, thread};

use clawd_tests::Prober;
use serde_json::json;

use super::{folder, gate_came, policy};
use crate::{
    programs::{CURL, copy, fetch, last_exec, talking_place},
    support::{CURL_ENTRY, PYTHON_ENTRY, World, direct_with, eventually},
};

/// Groups that a gate makes at most (`GROUPS_MAX` of the exec gate).
const GROUPS: usize = 16;
/// The first sandbox and the last share a group.
const SANDBOXES: usize = GROUPS + 1;

fn name(number: usize) -> String {
    format!("box-{number}")
}

/// As many sandboxes as make two of them share a group.
fn crowd(world: &World, folder: &Path) -> Vec<Prober> {
    let entries = [CURL_ENTRY, PYTHON_ENTRY].map(str::to_owned);
    let policy = policy(world, &[folder], &entries);
    let numbers = 1..=SANDBOXES;
    numbers
        .map(|number| world.prober(&name(number), &policy))
        .collect()
}

/// The fanotify groups of a process.
fn groups(pid: u32) -> usize {
    let infos = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let texts = infos.flatten().map(|info| fs::read_to_string(info.path()));
    texts
        .filter(|text| {
            text.as_ref()
                .is_ok_and(|text| text.lines().any(|line| line.starts_with("fanotify flags:")))
        })
        .count()
}

#[test]
fn more_sandboxes_than_groups_have_their_identities_before_and_after_a_gate_ends() {
    let world = World::start();
    let gate = world.daemon.gate_pid().unwrap();
    assert_eq!(groups(gate), 1);
    let mut probers = crowd(&world, &folder(&world));
    assert_eq!(groups(gate), GROUPS);
    for prober in &mut probers {
        assert_eq!(fetch(prober, CURL), 0);
    }
    // Who leaves takes along nothing of those that it shared a group with.
    let stopped = world.daemon.clawctl(["stop", &name(1)]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    drop(probers.remove(0));
    let last = probers.last_mut().unwrap();
    assert_eq!(fetch(last, CURL), 0);

    world.daemon.kill_gate().unwrap();
    let gate = gate_came(&world, 1);
    for (prober, number) in probers.iter_mut().zip(2..) {
        assert_eq!(fetch(prober, CURL), 0, "{}", name(number));
        let exec = last_exec(&world, &name(number), Path::new(CURL));
        assert_eq!(exec["reason"], "identified", "{exec}");
    }
    assert_eq!(groups(gate), GROUPS);
    let unseen = crate::programs::records(&world, None, "execs_unseen");
    assert!(unseen.is_empty(), "{unseen:?}");
}

/// Execs of the storm that wait at one time.
const WAITING: usize = 24;
/// What each of them has hashed, in bytes.
const HASHED_BYTES: usize = 8 << 20;
/// Known programs that are executed meanwhile.
const KNOWN: usize = 15;

#[test]
fn storm_of_programs_that_must_be_hashed_does_not_delay_a_known_one_of_its_group() {
    let world = World::start();
    let folder = folder(&world);
    let mut probers = crowd(&world, &folder);
    let heavy = copy(
        "/usr/bin/true",
        &folder.join("heavy"),
        &vec![0; HASHED_BYTES],
    );
    // What a sandbox may write is hashed for each exec.
    let writable = format!("[{}]", folder.display());
    let _writer = world.prober("writer", &direct_with("[/usr]", &writable, ""));
    let mut other = probers.pop().unwrap();
    let mut storm = probers.remove(0);
    let known = json!({ "do": "run", "argv": ["/usr/bin/true"] });
    assert_eq!(other.ask(&known)["ok"]["code"], 0);

    let place = talking_place(&world);
    let (until, log) = (place.join("end"), place.join("log"));
    let script = r#"i=0
        while [ $i -lt "$4" ]; do
            ( while [ ! -e "$1" ]; do "$2" && printf x >> "$3"; done ) &
            i=$((i + 1))
        done; wait"#;
    let count = WAITING.to_string();
    let argv = json!(["sh", "-c", script, "sh", until, heavy, log, count]);
    let done = || fs::metadata(&log).map_or(0, |log| log.len());
    let mut passed = Vec::new();
    thread::scope(|scope| {
        let raging = scope.spawn(|| storm.ask(&json!({ "do": "run", "argv": argv })));
        eventually("the storm rages", || done() > 2 * WAITING as u64);
        for _ in 0..KNOWN {
            let before = done();
            assert_eq!(other.ask(&known)["ok"]["code"], 0);
            passed.push(done() - before);
        }
        fs::write(&until, "").unwrap();
        let answer = raging.join().unwrap();
        assert_eq!(answer["ok"]["code"], 0, "{answer}");
    });
    let exec = last_exec(&world, &name(1), &heavy);
    assert_eq!(exec["reason"], "identified", "{exec}");
    // One that waits behind the others sees as many pass as wait.
    passed.sort_unstable();
    assert!(passed[KNOWN / 2] < WAITING as u64 / 2, "{passed:?}");
}
