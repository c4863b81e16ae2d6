//! The policies that a sandbox has had, and the way back to one of them.

use std::{
    collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, process::Output, thread,
    time::Duration,
};

use clawd_tests::{Address, Api, Daemon, Random};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{allowing, generation, push};
use crate::support::{Denial, World, code, tcp, text};

/// What `limits::GENERATIONS` of the control API says.
const KEPT: u64 = 32;

fn policy(daemon: &Daemon, arguments: &[&str]) -> Output {
    let words = ["policy"].iter().chain(arguments);
    daemon.clawctl(words).output().unwrap()
}

fn history(daemon: &Daemon) -> Vec<Value> {
    let printed = daemon.json(&["policy", "history", "box"]);
    assert_eq!(printed[0]["sandbox"], "box");
    printed[0]["generations"].as_array().unwrap().clone()
}

fn sha256(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The numbers of what is kept.
fn numbers(history: &[Value]) -> Vec<u64> {
    let numbers = history.iter().map(|of| of["generation"].as_u64().unwrap());
    numbers.collect()
}

#[test]
fn rollback_puts_the_earlier_text_in_force_again() {
    let world = World::start();
    // With what text files may have and programs like to lose.
    let first = format!("# \u{e9}\r\n{}\n\n", allowing(Address::A));
    let second = allowing(Address::B);
    let mut prober = world.prober("box", &first);
    assert_eq!(code(&push(&world, "box", &second)), 0);
    let back = policy(&world.daemon, &["rollback", "box"]);
    assert_eq!(code(&back), 0, "{back:?}");
    let said = text(&back.stdout);
    let want = "generation 3 is in force for box, with the text of 1 (";
    assert!(said.starts_with(want), "{said}");
    world.allows(&mut prober, &tcp(Address::A, 7000));
    let want = Denial::tcp("address_not_listed", Address::B, 7000);
    world.refuses(&mut prober, "box", &tcp(Address::B, 7000), &want);

    let history = history(&world.daemon);
    assert_eq!(numbers(&history), [1, 2, 3]);
    for (of, text) in history.iter().zip([&first, &second, &first]) {
        assert_eq!(of["sha256"], sha256(text), "{of}");
        assert_eq!(of["text_bytes"], text.len(), "{of}");
        assert_eq!(of["caller_uid"], rustix::process::getuid().as_raw(), "{of}");
        assert_eq!(of["in_force"], of["generation"] == 3, "{of}");
        assert!(of["pushed_at"].as_str().unwrap().ends_with('Z'), "{of}");
        let number = of["generation"].to_string();
        let pulled = policy(&world.daemon, &["pull", "box", "--generation", &number]);
        assert_eq!(String::from_utf8(pulled.stdout).unwrap(), **text);
    }
    assert_eq!(history[0]["file"], history[2]["file"]);
    assert_eq!(history[2]["rolled_back_to"], 1);
    assert_eq!(history[1].get("rolled_back_to"), None);
    let pulled = policy(&world.daemon, &["pull", "box"]);
    assert_eq!(text(&pulled.stdout), first);
    let json = &world.daemon.json(&["policy", "pull", "box"])[0];
    assert_eq!(
        (&json["generation"], &json["policy"]["text"]),
        (&json!(3), &json!(first))
    );
    let shown = policy(&world.daemon, &["history", "box"]);
    assert!(
        text(&shown.stdout).contains("in force, back to 1"),
        "{shown:?}"
    );

    let audit = world.daemon.audit();
    let told: Vec<_> = (audit.iter())
        .filter(|record| record["activity"] == "policy_rolled_back")
        .collect();
    let [told] = told.as_slice() else {
        panic!("one rollback: {told:?}");
    };
    assert_eq!(told["policy_generation"], 3);
    assert_eq!(told["rolled_back_to"], 1);
    assert_eq!(told["caller_uid"], rustix::process::getuid().as_raw());
    assert_eq!(told["sandbox"], "box");
    // A second one takes back the first.
    assert_eq!(code(&policy(&world.daemon, &["rollback", "box"])), 0);
    world.allows(&mut prober, &tcp(Address::B, 7000));
    assert_eq!(generation(&world), 4);
}

#[test]
fn rollback_to_what_is_not_kept_switches_nothing() {
    let world = World::start();
    let mut prober = world.prober("box", &allowing(Address::A));
    let refused = |arguments: &[&str], want: &str| {
        let output = policy(&world.daemon, arguments);
        let said = text(&output.stderr);
        assert_eq!(code(&output), 1, "{output:?}");
        assert!(said.contains(want), "{said}");
    };
    refused(&["rollback", "box"], "there is none before it");
    assert_eq!(code(&push(&world, "box", &allowing(Address::B))), 0);
    for (to, want) in [
        ("2", "generation 2 of box is in force already"),
        ("0", "generation 0 of box is not kept"),
        ("3", "generation 3 of box is not kept"),
        ("18446744073709551615", "is not kept"),
    ] {
        refused(&["rollback", "box", "--to", to], want);
    }
    refused(
        &["rollback", "box", "--to", "1", "--if-generation", "1"],
        "box is at generation 2, not at 1",
    );
    refused(&["rollback", "nobody"], "no sandbox is called nobody");
    refused(&["pull", "nobody"], "no sandbox is called nobody");
    refused(&["history", "nobody"], "no sandbox is called nobody");
    refused(
        &["pull", "box", "--generation", "3"],
        "generation 3 of box is not kept",
    );
    assert_eq!(generation(&world), 2);
    world.allows(&mut prober, &tcp(Address::B, 7000));
    assert_eq!(prober.ask(&tcp(Address::A, 7000))["name"], "EPERM");
    let audit = world.daemon.audit();
    let told = |activity: &str| {
        let records = audit.iter().filter(|record| record["activity"] == activity);
        records.count()
    };
    assert_eq!(told("policy_rolled_back"), 0);
    assert_eq!(told("policy_refused"), 6);
    let line = ["rollback", "box", "--to", "1", "--if-generation", "2"];
    assert_eq!(code(&policy(&world.daemon, &line)), 0);
    world.allows(&mut prober, &tcp(Address::A, 7000));
}

#[test]
fn refused_push_is_no_part_of_the_history() {
    let world = World::start();
    let _prober = world.prober("box", &allowing(Address::A));
    let other_network = allowing(Address::B).replace("mode: direct", "mode: none");
    for wrong in ["version: [2\n", &other_network] {
        assert_ne!(code(&push(&world, "box", wrong)), 0);
    }
    assert_eq!(numbers(&history(&world.daemon)), [1]);
    assert_eq!(code(&push(&world, "box", &allowing(Address::B))), 0);
    let history = history(&world.daemon);
    assert_eq!(numbers(&history), [1, 2]);
    assert_eq!(history[1]["sha256"], sha256(&allowing(Address::B)));
}

#[test]
fn history_is_bounded_roots_alone_and_ends_with_its_sandbox() {
    let world = World::start();
    let mut prober = world.prober("box", &allowing(Address::A));
    let mut api = Api::connect(&world.daemon.paths().socket).unwrap();
    for _ in 0..KEPT + 3 {
        api.push("box", &allowing(Address::B)).unwrap();
    }
    let last = KEPT + 4;
    let kept = history(&world.daemon);
    let want: Vec<_> = (last - KEPT + 1..=last).collect();
    assert_eq!(numbers(&kept), want);
    let gone = policy(&world.daemon, &["rollback", "box", "--to", "1"]);
    assert_eq!(code(&gone), 1, "{gone:?}");
    world.allows(&mut prober, &tcp(Address::B, 7000));

    let folder = world.daemon.paths().state_dir.join("history");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(folder.join("box")), 0o700);
    let files: Vec<_> = fs::read_dir(folder.join("box"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(files.len(), want.len(), "{files:?}");
    for file in &files {
        assert_eq!(mode(file.clone()), 0o600, "{file:?}");
    }
    let stopped = world.daemon.clawctl(["stop", "box"]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    assert!(!folder.join("box").exists());
    // One of the same name has a history of its own.
    let _prober = world.prober("box", &allowing(Address::A));
    assert_eq!(numbers(&history(&world.daemon)), [1]);
}

#[test]
fn next_daemon_knows_the_history_and_goes_back_in_it() {
    let mut world = World::start();
    let mut prober = world.prober("box", &allowing(Address::A));
    assert_eq!(code(&push(&world, "box", &allowing(Address::B))), 0);
    let before = history(&world.daemon);
    // What a daemon leaves that was killed in a push, and of a sandbox that is gone.
    let folder = world.daemon.paths().state_dir.join("history");
    world.daemon.kill9().unwrap();
    fs::copy(folder.join("box/2.json"), folder.join("box/3.json")).unwrap();
    fs::write(folder.join("box/4.new"), "{").unwrap();
    fs::create_dir(folder.join("gone")).unwrap();
    fs::write(folder.join("gone/1.json"), "{}").unwrap();
    world.daemon.launch().unwrap();
    assert_eq!(history(&world.daemon), before);
    let left = fs::read_dir(folder.join("box")).unwrap().count();
    assert_eq!(left, 2);
    assert!(!folder.join("gone").exists());
    let back = policy(&world.daemon, &["rollback", "box", "--to", "1"]);
    assert_eq!(code(&back), 0, "{back:?}");
    world.allows(&mut prober, &tcp(Address::A, 7000));
    assert_eq!(prober.ask(&tcp(Address::B, 7000))["name"], "EPERM");

    // Of a daemon that kept no history.
    world.daemon.kill9().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    world.daemon.launch().unwrap();
    let after = history(&world.daemon);
    assert_eq!(numbers(&after), [3]);
    assert_eq!(after[0]["sha256"], sha256(&allowing(Address::A)));
    assert_eq!(after[0]["pushed_at"], Value::Null);
    assert_eq!(after[0]["caller_uid"], Value::Null);
    let shown = policy(&world.daemon, &["history", "box"]);
    assert_eq!(code(&shown), 0, "{shown:?}");
}

/// Pushes one policy after the other, each with a text of its own, until clawd is gone; returns what it
/// confirmed, by generation.
fn push_until_killed(daemon: &Daemon, round: usize) -> BTreeMap<u64, String> {
    let mut confirmed = BTreeMap::new();
    let Ok(mut api) = Api::connect(&daemon.paths().socket) else {
        return confirmed;
    };
    for number in 0.. {
        let text = format!("{}# {round}.{number}\n", allowing(Address::A));
        let Ok(report) = api.push("box", &text) else {
            break;
        };
        confirmed.insert(report["generation"].as_u64().unwrap(), text);
    }
    confirmed
}

#[test]
fn daemon_killed_while_it_pushes_loses_nothing_that_it_confirmed() {
    const ROUNDS: usize = 5;
    let mut random = Random::seeded();
    let mut world = World::start();
    let mut prober = world.prober("box", &allowing(Address::A));
    for round in 0..ROUNDS {
        let process = world.daemon.pid().expect("clawd runs");
        let process = i32::try_from(process).unwrap();
        let process = rustix::process::Pid::from_raw(process).unwrap();
        let delay = Duration::from_millis(20).mul_f64(1.0 + 10.0 * random.fraction());
        let confirmed = thread::scope(|scope| {
            let pushing = scope.spawn(|| push_until_killed(&world.daemon, round));
            thread::sleep(delay);
            rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
            pushing.join().unwrap()
        });
        world.daemon.kill9().unwrap();
        world.daemon.launch().unwrap();
        let kept = history(&world.daemon);
        let numbers = numbers(&kept);
        let in_force = generation(&world).as_u64().unwrap();
        // Without a gap up to the one in force, which is at most one ahead of what was confirmed.
        let first = numbers[0];
        assert_eq!(numbers, (first..=in_force).collect::<Vec<_>>());
        if let Some((last, _)) = confirmed.last_key_value() {
            assert!([*last, last + 1].contains(&in_force), "{last}, {in_force}");
        }
        for (number, text) in confirmed.range(first..) {
            let of = &kept[usize::try_from(number - first).unwrap()];
            assert_eq!(of["sha256"], sha256(text), "{of}");
        }
        let last = kept.last().unwrap();
        assert_eq!(last["in_force"], true, "{last}");
        let pulled = policy(&world.daemon, &["pull", "box"]);
        assert_eq!(last["sha256"], sha256(&text(&pulled.stdout)), "{last}");
        world.allows(&mut prober, &tcp(Address::A, 7000));
    }
}
