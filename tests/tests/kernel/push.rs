//! Another policy for a sandbox that runs.

mod differences;
mod generations;
mod history;
mod soak;

use std::{fs, process::Output, thread, time::Duration};

use clawd_tests::Address;
use serde_json::{Value, json};

use crate::support::{Denial, PYTHON_ENTRY, World, code, direct, direct_with, group, tcp, text};

fn allowing(address: &str) -> String {
    direct(&group(
        "g",
        &format!("{{ host: {address}, port: 7000 }}"),
        PYTHON_ENTRY,
    ))
}

fn push(world: &World, sandbox: &str, policy: &str) -> Output {
    let file = world.daemon.policy_file(policy);
    let file = file.to_str().unwrap();
    world
        .daemon
        .clawctl(["policy", "push", "--sandbox", sandbox, file])
        .output()
        .unwrap()
}

fn generation(world: &World) -> Value {
    world.daemon.ps()[0]["policy_generation"].clone()
}

/// What a loop met, but for a flow that was open when a push forbade it: one `ECONNABORTED` between what
/// the policy before allowed and what the next one denies. And under which policies there was one.
fn without_cuts(looped: &Value) -> (Vec<&str>, Vec<usize>) {
    let outcomes = looped["outcomes"].as_array().unwrap();
    let met: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.as_str().unwrap())
        .collect();
    let (mut left, mut generations) = (Vec::new(), Vec::new());
    for (at, outcome) in met.iter().enumerate() {
        let is_cut = *outcome == "ECONNABORTED"
            && looped["times"][at] == 1
            && at.checked_sub(1).map(|before| met[before]) == Some("ok")
            && met.get(at + 1) == Some(&"EPERM");
        if is_cut {
            generations.push(left.len() + 1);
        } else {
            left.push(*outcome);
        }
    }
    (left, generations)
}

#[test]
fn pushed_policy_changes_the_verdict_of_a_looping_program() {
    let world = World::start();
    let signals = world.daemon.scratch().folder("signals", 0o755).unwrap();
    let trees = format!("[/usr, {}]", signals.display());
    let policy = |address: &str| {
        direct_with(
            &trees,
            "[]",
            &group(
                "g",
                &format!("{{ host: {address}, port: 7000 }}"),
                PYTHON_ENTRY,
            ),
        )
    };
    let mut prober = world.prober("box", &policy(Address::A));
    let until = signals.join("end");
    let ask = json!({ "do": "loop", "until": until, "ask": tcp(Address::A, 7000) });
    // The prober comes back too: without it the sandbox ends.
    let looping = thread::spawn(move || (prober.ask(&ask), prober));
    let mut codes = Vec::new();
    for address in [Address::B, Address::A, Address::B] {
        thread::sleep(Duration::from_millis(300));
        codes.push(code(&push(&world, "box", &policy(address))));
    }
    thread::sleep(Duration::from_millis(300));
    fs::write(&until, "").unwrap();
    let (answer, _prober) = looping.join().unwrap();
    assert_eq!(codes, [0, 0, 0]);
    assert_eq!(generation(&world), 4);
    let audit = world.daemon.audit();
    let (outcomes, aborted) = without_cuts(&answer["ok"]);
    assert_eq!(outcomes, ["ok", "EPERM", "ok", "EPERM"], "{answer}");
    let cuts = audit.iter().filter(|record| record["activity"] == "cut");
    let cut_under: Vec<_> = cuts.map(|record| &record["policy_generation"]).collect();
    for generation in aborted {
        assert!(
            cut_under.contains(&&json!(generation)),
            "{answer}: {cut_under:?}"
        );
    }
    let pushed: Vec<_> = audit
        .iter()
        .filter(|record| record["activity"] == "policy_pushed")
        .map(|record| &record["policy_generation"])
        .collect();
    assert_eq!(pushed, [&json!(2), &json!(3), &json!(4)]);
    // Each verdict names the policy that it was made under.
    for record in audit
        .iter()
        .filter(|record| record["activity"] == "connect")
    {
        let allows = record["policy_generation"]
            .as_u64()
            .is_some_and(|generation| generation % 2 == 1);
        assert_eq!(record["action"] == "allowed", allows, "{record}");
    }
}

#[test]
fn push_is_in_force_when_it_returns() {
    let world = World::start();
    let mut prober = world.prober("box", &allowing(Address::A));
    for _ in 0..3 {
        assert_eq!(code(&push(&world, "box", &allowing(Address::B))), 0);
        let want = Denial::tcp("address_not_listed", Address::A, 7000);
        world.refuses(&mut prober, "box", &tcp(Address::A, 7000), &want);
        world.allows(&mut prober, &tcp(Address::B, 7000));
        assert_eq!(code(&push(&world, "box", &allowing(Address::A))), 0);
        world.allows(&mut prober, &tcp(Address::A, 7000));
        let want = Denial::tcp("address_not_listed", Address::B, 7000);
        world.refuses(&mut prober, "box", &tcp(Address::B, 7000), &want);
    }
    assert_eq!(generation(&world), 7);
}

#[test]
fn refused_push_keeps_the_policy_before() {
    let world = World::start();
    let mut prober = world.prober("box", &allowing(Address::A));
    let group = group("g", "{ host: 192.0.2.11, port: 7000 }", PYTHON_ENTRY);
    let other_files = direct_with("[/usr]", "[/tmp]", &group);
    let other_files = other_files.replace("read_write: [/tmp]", "read_write: [/var/tmp]");
    let cases = [
        ("no YAML", "version: [2\n".to_owned(), 2, ""),
        (
            "unknown key",
            allowing(Address::B).replace("binaries", "binary"),
            2,
            "binary",
        ),
        ("other files", other_files, -1, "filesystem_policy"),
        (
            "other network",
            allowing(Address::B).replace("mode: direct", "mode: none"),
            -1,
            "network",
        ),
    ];
    for (name, policy, want_code, want_text) in cases {
        let output = push(&world, "box", &policy);
        let said = text(&output.stderr);
        assert!(
            if want_code < 0 {
                code(&output) > 0
            } else {
                code(&output) == want_code
            },
            "{name}: {output:?}"
        );
        assert!(said.contains(want_text), "{name}: {said}");
        assert_eq!(generation(&world), 1, "{name}");
        world.allows(&mut prober, &tcp(Address::A, 7000));
        assert_eq!(
            prober.ask(&tcp(Address::B, 7000))["name"],
            "EPERM",
            "{name}"
        );
    }
    let unknown = push(&world, "nobody", &allowing(Address::A));
    assert_eq!(code(&unknown), 1, "{unknown:?}");
}

#[test]
fn pushes_at_the_same_time_all_count() {
    const PUSHES: u64 = 50;
    let world = World::start();
    let mut prober = world.prober("box", &allowing(Address::A));
    thread::scope(|scope| {
        let pushing: Vec<_> = (0..5)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..PUSHES / 5 {
                        let output = push(&world, "box", &allowing(Address::A));
                        assert_eq!(code(&output), 0, "{output:?}");
                    }
                })
            })
            .collect();
        while pushing.iter().any(|pushing| !pushing.is_finished()) {
            assert_eq!(prober.ask(&tcp(Address::A, 7000))["ok"], "ping");
            assert_eq!(prober.ask(&tcp(Address::B, 7000))["name"], "EPERM");
        }
    });
    assert_eq!(generation(&world), PUSHES + 1);
    let audit = world.daemon.audit();
    let mut pushed: Vec<_> = audit
        .iter()
        .filter(|record| record["activity"] == "policy_pushed")
        .filter_map(|record| record["policy_generation"].as_u64())
        .collect();
    pushed.sort_unstable();
    assert_eq!(pushed, (2..=PUSHES + 1).collect::<Vec<_>>());
}
