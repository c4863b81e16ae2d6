//! An exec gate that ends while sandboxes go on.

mod crowd;
mod files;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use clawd_tests::{Address, PYTHON, sha256_of_file};
use serde_json::{Value, json};

use crate::{
    programs::{
        Beside, CURL, ENDPOINT, copy, denied, fetch, fetch_is_denied, last_exec, path_entry,
        records, sha256_entry, talking_place, trees,
    },
    support::{CURL_ENTRY, PYTHON_ENTRY, World, direct_with, eventually, group, tcp},
};

/// A folder of programs that only the host may write.
fn folder(world: &World) -> PathBuf {
    world.daemon.scratch().folder("programs", 0o755).unwrap()
}

/// Executes from `folders`, may write to the talking place, and reaches A with these binaries.
fn policy(world: &World, folders: &[&Path], binaries: &[String]) -> String {
    let writable = format!("[{}]", talking_place(world).display());
    let groups = group("g", ENDPOINT, &binaries.join(", "));
    direct_with(&trees(folders), &writable, &groups)
}

fn connect() -> Value {
    tcp(Address::A, 7000)
}

/// Waits until the gate was started again `restarts` times, and answers.
fn gate_came(world: &World, restarts: u64) -> u32 {
    eventually("the gate is started again", || {
        world.daemon.gate_restarts() >= restarts && world.daemon.gate_pid().is_some()
    });
    let told = records(world, None, "gate_restarted");
    assert_eq!(u64::try_from(told.len()).unwrap(), restarts, "{told:?}");
    world.daemon.gate_pid().unwrap()
}

/// The `process_identified` record of `program`, which comes.
#[track_caller]
fn identified_again(world: &World, program: &Path) -> Value {
    let exe = program.display().to_string();
    let find = || {
        let mut records = records(world, Some("box"), "process_identified");
        records.retain(|record| record["exe"] == exe);
        records.pop()
    };
    eventually("the program is identified again", || find().is_some());
    let record = find().unwrap();
    assert_eq!(
        record["sha256"],
        sha256_of_file(program).unwrap(),
        "{record}"
    );
    record
}

#[test]
fn gate_that_is_killed_again_and_again_holds_up_no_exec_and_takes_no_grant() {
    const KILLS: u64 = 4;
    let world = World::start();
    let folder = folder(&world);
    for number in 0..200_u32 {
        copy(
            "/usr/bin/true",
            &folder.join(format!("new{number}")),
            &number.to_le_bytes(),
        );
    }
    let entries = [CURL_ENTRY, PYTHON_ENTRY].map(str::to_owned);
    let policy = policy(&world, &[&folder], &entries);
    let mut prober = world.prober("box", &policy);
    let mut other = world.prober("other", &policy);
    assert_eq!(fetch(&mut prober, CURL), 0);
    let until = talking_place(&world).join("end");
    // Programs that were identified before, and new ones, each of which the gate should hash.
    let script = r#"i=0; n=0
        while [ ! -e "$1" ]; do
            curl -sS http://192.0.2.10/small || echo failed
            "$2/new$((i % 200))" || echo "failed $i"
            i=$((i + 1))
        done; echo "$i""#;
    let ask = json!({ "do": "run", "argv": ["sh", "-c", script, "sh", until, folder] });
    let looping = json!({ "do": "loop", "until": until, "ask": connect() });
    let (ran, looped) = thread::scope(|scope| {
        let ran = scope.spawn(|| prober.ask(&ask));
        let looped = scope.spawn(|| other.ask(&looping));
        for kill in 1..=KILLS {
            thread::sleep(Duration::from_millis(300));
            let before = world.daemon.kill_gate().unwrap();
            assert_ne!(gate_came(&world, kill), before);
        }
        thread::sleep(Duration::from_millis(300));
        fs::write(&until, "").unwrap();
        (ran.join().unwrap(), looped.join().unwrap())
    });
    let out = ran["ok"]["out"].as_str().unwrap_or_else(|| panic!("{ran}"));
    let rounds: usize = out.lines().last().unwrap().parse().unwrap();
    assert!(rounds > 10, "{ran}");
    assert_eq!(out.matches("small file\n").count(), rounds, "{ran}");
    assert!(!out.contains("failed"), "{ran}");
    assert_eq!(looped["ok"]["outcomes"], json!(["ok"]), "{looped}");
    assert_eq!(world.denials("box", 0), Vec::<Value>::new());
    assert_eq!(world.denials("other", 0), Vec::<Value>::new());
    // The last gate identifies what is new to it.
    let new = copy(CURL, &folder.join("after"), b"after");
    fetch(&mut prober, &new);
    let exec = last_exec(&world, "box", &new);
    assert_eq!(exec["reason"], "identified", "{exec}");
}

#[test]
fn program_that_no_gate_saw_is_refused_first_and_identified_from_its_own_inode() {
    let world = World::start();
    let folder = folder(&world);
    let agent = copy(PYTHON, &folder.join("agent"), b"agent");
    let bystander = copy(PYTHON, &folder.join("bystander"), b"bystander");
    let entries = [path_entry(&agent), CURL_ENTRY.to_owned()];
    let mut prober = world.prober("box", &policy(&world, &[&folder], &entries));
    assert_eq!(fetch(&mut prober, CURL), 0);

    let until = talking_place(&world).join("end");
    let stopped = world.daemon.without_gate().unwrap();
    let mut agent_runs = Beside::start(&world, &mut prober, &agent);
    let mut bystander_runs = Beside::start(&world, &mut prober, &bystander);
    assert_eq!(agent_runs.ask(&connect())["name"], "EPERM");
    assert_eq!(bystander_runs.ask(&connect())["name"], "EPERM");
    // A child of its own is there before anybody knows who it is.
    let looping = json!({ "do": "loop", "until": until, "ask": connect() });
    agent_runs.tell(&json!({ "do": "fork", "ask": looping }));
    thread::sleep(Duration::from_millis(100));
    assert_eq!(world.internet.contacts_at(Address::A, 7000), []);
    drop(stopped);
    gate_came(&world, 1);

    let record = identified_again(&world, &agent);
    assert_eq!(record["class"]["uid"], 1007, "{record}");
    assert!(
        world
            .pids("box", agent.to_str().unwrap())
            .iter()
            .any(|pid| record["pid"] == *pid)
    );
    for denial in world.denials("box", 0) {
        assert_eq!(denial["reason"], "no_identity", "{denial}");
    }
    let exec = last_exec(&world, "box", &agent);
    assert_eq!(exec["reason"], "no_identity_not_hashed", "{exec}");
    eventually("the child connects", || {
        !world.internet.contacts_at(Address::A, 7000).is_empty()
    });
    fs::write(&until, "").unwrap();
    let child = agent_runs.hear();
    assert_eq!(
        child["ok"]["ok"]["outcomes"],
        json!(["EPERM", "ok"]),
        "{child}"
    );
    assert_eq!(agent_runs.ask(&connect())["ok"], "ping");
    let forked = agent_runs.ask(&json!({ "do": "fork", "ask": connect() }));
    assert_eq!(forked["ok"]["ok"], "ping", "{forked}");
    // Its line goes on from there.
    let argv = json!([CURL, "-sS", "http://192.0.2.10/small"]);
    let ran = agent_runs.ask(&json!({ "do": "run", "argv": argv }));
    assert_eq!(ran["ok"]["out"], "small file\n", "{ran}");
    let exec = last_exec(&world, "box", Path::new(CURL));
    assert_eq!(
        exec["lineage"][0]["sha256"],
        sha256_of_file(&agent).unwrap(),
        "{exec}"
    );
    // To be known is not to be listed.
    let ask = || bystander_runs.ask(&connect());
    let (answer, denial) = denied(&world, "box", "binary_not_listed", ask);
    assert_eq!(answer["name"], "EPERM");
    assert_eq!(
        denial["sha256"],
        sha256_of_file(&bystander).unwrap(),
        "{denial}"
    );
}

#[test]
fn killed_daemon_takes_its_gate_along_and_the_next_one_identifies_what_came_between() {
    let mut world = World::start();
    let folder = folder(&world);
    let agent = copy(PYTHON, &folder.join("agent"), b"agent");
    let mut prober = world.prober("box", &policy(&world, &[&folder], &[path_entry(&agent)]));
    let gate = world.daemon.gate_pid().unwrap();
    world.daemon.kill9().unwrap();
    eventually("the gate ends with clawd", || {
        let status = fs::read_to_string(format!("/proc/{gate}/status")).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    });
    let mut running = Beside::start(&world, &mut prober, &agent);
    assert_eq!(running.ask(&connect())["name"], "EPERM");
    assert_eq!(world.internet.contacts(), []);

    world.daemon.launch().unwrap();
    identified_again(&world, &agent);
    let denials = world.denials("box", 0);
    assert_eq!(denials.len(), 1, "{denials:?}");
    assert_eq!(denials[0]["reason"], "no_identity", "{denials:?}");
    assert_eq!(running.ask(&connect())["ok"], "ping");
    let took_over = records(&world, None, "daemon_took_over");
    assert_eq!(took_over.len(), 1, "{took_over:?}");
    assert_eq!(records(&world, None, "gate_restarted"), Vec::<Value>::new());
}

#[test]
fn program_whose_file_was_replaced_is_not_taken_for_the_new_one() {
    let world = World::start();
    let folder = folder(&world);
    let agent = copy(PYTHON, &folder.join("agent"), b"old");
    let new = copy(PYTHON, &folder.join("made"), b"new");
    // What is at the path now is granted something, by its content; what ran is not.
    let listed = sha256_of_file(&new).unwrap();
    let witness = copy(PYTHON, &folder.join("witness"), b"witness");
    let entries = [sha256_entry(&listed), path_entry(&witness)];
    let mut prober = world.prober("box", &policy(&world, &[&folder], &entries));

    let stopped = world.daemon.without_gate().unwrap();
    let mut old = Beside::start(&world, &mut prober, &agent);
    let mut other = Beside::start(&world, &mut prober, &witness);
    fs::rename(&new, &agent).unwrap();
    drop(stopped);
    gate_came(&world, 1);
    identified_again(&world, &witness);
    assert_eq!(other.ask(&connect())["ok"], "ping");

    let (answer, denial) = denied(&world, "box", "no_identity", || old.ask(&connect()));
    assert_eq!(answer["name"], "EPERM", "{answer}");
    assert_ne!(denial["sha256"], listed, "{denial}");
    let identified = records(&world, Some("box"), "process_identified");
    assert!(
        identified.iter().all(|record| record["sha256"] != listed),
        "{identified:?}"
    );
}

#[test]
fn tree_that_another_sandbox_may_write_is_executed_under_leases_and_pins_nothing() {
    let world = World::start();
    let folder = folder(&world);
    let tool = |name: &str| copy(CURL, &folder.join(name), name.as_bytes());
    let [first, second, third, listed] = ["tool-1", "tool-2", "tool-3", "listed"].map(tool);
    let entries = [
        path_entry(folder.join("tool-*")),
        sha256_entry(&sha256_of_file(&listed).unwrap()),
    ];
    let mut prober = world.prober("box", &policy(&world, &[&folder], &entries));
    assert_eq!(fetch(&mut prober, &first), 0);
    let pinned = || -> Vec<Value> {
        let pins = world.daemon.pins().into_iter();
        pins.map(|pin| pin["path"].clone()).collect()
    };
    assert_eq!(pinned(), [json!(first)]);

    let writable = format!("[{}]", folder.display());
    let writer = world.prober("writer", &direct_with("[/usr]", &writable, ""));
    // Known by its pin, by its content, and not at all.
    assert_eq!(fetch(&mut prober, &first), 0);
    assert_eq!(fetch(&mut prober, &listed), 0);
    let denial = fetch_is_denied(&world, ("box", &mut prober), &second, "binary_not_listed");
    assert_eq!(
        denial["sha256"],
        sha256_of_file(&second).unwrap(),
        "{denial}"
    );
    for program in [&first, &second, &listed] {
        let exec = last_exec(&world, "box", program);
        assert_eq!(exec["reason"], "identified", "{exec}");
    }
    assert_eq!(pinned(), [json!(first)]);

    // When nobody can write there any more, the next use pins.
    let stopped = world.daemon.clawctl(["stop", "writer"]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    drop(writer);
    assert_eq!(fetch(&mut prober, &third), 0);
    assert_eq!(pinned(), [json!(first), json!(third)]);
}
